"""The canary: how it is made and sent, read back from both generations of API, and compared."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from otelbridge import view
from otelbridge.doctor import canary_read
from otelbridge.doctor.canary import check_canary
from otelbridge.doctor.canary_read import ReadBack, StoredSpan, read_until
from otelbridge.doctor.canary_send import CALL, ROOT, STEP, SentCanary, cannot_send, send
from otelbridge.doctor.findings import Context, Finding
from otelbridge.local.server import LocalServer
from otelbridge.settings import Settings
from tests.doctor.servers import PUBLIC_KEY, SECRET_KEY, World
from tests.doctor.stand_ins import StandIn, forwarded, langfuse_v3


@pytest.fixture(scope="module")
def store() -> Iterator[LocalServer]:
    """`otelbridge local`, whose OTLP ports feed the preview as well."""
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def separate() -> Iterator[LocalServer]:
    """`otelbridge local` whose preview has only what its own intake took."""
    with LocalServer(preview_raw=False) as server:
        yield server


def variables(server: LocalServer, **changes: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp_http_url,
        "OTELBRIDGE_TEMPO_URL": server.tempo_url,
        "LANGFUSE_HOST": server.langfuse_url,
        "LANGFUSE_PUBLIC_KEY": PUBLIC_KEY,
        "LANGFUSE_SECRET_KEY": SECRET_KEY,
        "LANGFUSE_PROJECT_ID": "local",
        "OTELBRIDGE_COLLECTOR_METRICS_PORT": "1",
        **changes,
    }


def found(environment: dict[str, str], directory: Path, **facts: object) -> list[Finding]:
    context = Context.of(environment, directory, readback_seconds=1.0)
    context.facts |= facts
    return list(check_canary(context))


def codes(findings: list[Finding]) -> list[str]:
    return [one.code for one in findings]


# -- the whole way ---------------------------------------------------------------------------------
def test_canary_through_one_stream_is_read_back(store: LocalServer, tmp_path: Path) -> None:
    """Sent to one endpoint, it is in both stores, and the links of the trace are shown."""
    (good,) = found(variables(store), tmp_path)
    assert good.code == "canary-good"
    assert "3 spans, 2 in the LLM view" in good.evidence
    assert f"{store.langfuse_url}/project/local/traces/" in good.evidence


def test_canary_of_direct_export_is_read_back(separate: LocalServer, tmp_path: Path) -> None:
    """With direct export two exporters deliver it, each its own branch."""
    assert codes(found(variables(separate, OTELBRIDGE_EXPORT="direct"), tmp_path)) == [
        "canary-good"
    ]


def test_canary_of_a_sampled_langfuse_arrives(store: LocalServer, tmp_path: Path) -> None:
    """The trace id is one that the sample rate lets through, however small the rate is."""
    environment = variables(store, LANGFUSE_SAMPLE_RATE="0.000001")
    assert codes(found(environment, tmp_path)) == ["canary-good"]


@pytest.mark.parametrize("mode", ["services", "llm", "all"])
def test_every_view_is_compared_with_itself(mode: str, store: LocalServer, tmp_path: Path) -> None:
    """What Langfuse must have follows OTELBRIDGE_LLM_VIEW."""
    assert codes(found(variables(store, OTELBRIDGE_LLM_VIEW=mode), tmp_path)) == ["canary-good"]


def test_only_tempo_is_read_without_keys(store: LocalServer, tmp_path: Path) -> None:
    """Without Langfuse's keys the canary still proves the way to Tempo; a note says so."""
    environment = variables(store, LANGFUSE_PUBLIC_KEY="", LANGFUSE_SECRET_KEY="")
    assert codes(found(environment, tmp_path)) == ["canary-not-read", "canary-good"]


def test_only_langfuse_is_read_without_tempo(store: LocalServer, tmp_path: Path) -> None:
    """When no Tempo answered the network checks, Langfuse alone is read."""
    environment = variables(store, OTELBRIDGE_TEMPO_URL="http://127.0.0.1:1")
    facts = {"otlp_ok": True, "langfuse_ok": True}
    assert codes(found(environment, tmp_path, **facts)) == ["canary-not-read", "canary-good"]


def test_older_read_api_is_found(store: LocalServer, tmp_path: Path) -> None:
    """A Langfuse that answers 404 for v2 observations is read by its traces."""
    server = StandIn(langfuse_v3(store.langfuse_url))
    (good,) = found(variables(store, LANGFUSE_HOST=server.url), tmp_path)
    server.close()
    assert good.code == "canary-good"


def test_canary_that_never_comes_is_named(
    store: LocalServer, separate: LocalServer, tmp_path: Path
) -> None:
    """Accepted and not in the stores that are looked at: one finding for each of them."""
    environment = variables(separate, OTEL_EXPORTER_OTLP_ENDPOINT=store.otlp_http_url)
    findings = found(environment, tmp_path)
    assert codes(findings) == ["canary-not-in-tempo", "canary-not-in-langfuse"]
    assert "404" in findings[0].evidence


def test_canary_that_cannot_be_delivered_is_named(store: LocalServer, tmp_path: Path) -> None:
    """A refused connection is what the exporter said, without any secret."""
    environment = variables(
        store,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://user:hunter2secret@127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TIMEOUT="2",
    )
    (one,) = found(environment, tmp_path)
    assert one.code == "canary-not-sent"
    assert "refused" in one.evidence
    assert "hunter2secret" not in str(one)


def test_one_target_of_two_that_fails_is_named(separate: LocalServer, tmp_path: Path) -> None:
    """With direct export, keys that Langfuse refuses are one finding; Tempo is still compared."""
    environment = variables(
        separate, OTELBRIDGE_EXPORT="direct", LANGFUSE_SECRET_KEY="sk-lf-of-another-project"
    )
    (one,) = found(environment, tmp_path)
    assert one.code == "canary-not-sent"
    assert "langfuse" in one.what
    assert "401" in one.evidence
    facts = {"otlp_ok": True, "langfuse_ok": False, "tempo_url": separate.tempo_url}
    known = found(environment, tmp_path, **facts)
    assert codes(known) == ["canary-not-read", "canary-good"]


def test_bundle_of_the_environment_is_named(
    store: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE wins in the stock exporter, which is said, and not in our own."""
    import certifi

    with ExitStack() as stack:
        world = World(tmp_path, None, stack)
        world.serve_behind_tls(store.otlp_http_url)
        tls = world.places("tls")
        environment = variables(
            store,
            OTEL_EXPORTER_OTLP_ENDPOINT=tls["url"],
            OTEL_EXPORTER_OTLP_CERTIFICATE=tls["certificate"],
            OTEL_EXPORTER_OTLP_TIMEOUT="2",
        )
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        assert codes(found(environment, tmp_path)) == ["canary-good"]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
        environment["REQUESTS_CA_BUNDLE"] = certifi.where()
        assert codes(found(environment, tmp_path)) == ["canary-good"]
        environment["OTELBRIDGE_EXPORTER"] = "stock"
        assert codes(found(environment, tmp_path)) == ["ca-bundle-wins"]


@pytest.mark.parametrize(
    "changes",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_CONFIG_FILE": "otel.yaml"},
    ],
)
def test_settings_that_send_nothing_skip_the_canary(
    changes: dict[str, str], store: LocalServer, tmp_path: Path
) -> None:
    """Where this process sends nothing by its settings, a canary would prove another thing."""
    environment = variables(store, **changes)
    assert cannot_send(Settings.from_env(environment))
    assert codes(found(environment, tmp_path)) == ["canary-skipped"]


def test_broken_endpoint_skips_the_canary(store: LocalServer, tmp_path: Path) -> None:
    """What the network checks have named is not named again."""
    assert codes(found(variables(store), tmp_path, otlp_ok=False)) == ["canary-skipped"]


def test_process_is_left_as_it_was(store: LocalServer, tmp_path: Path) -> None:
    """No provider, propagator, context, log handler, node of the view or thread stays behind."""
    gc.collect()  # spans that other tests left in cycles
    before, nodes = set(threading.enumerate()), set(view._nodes)
    textmap = propagate.get_global_textmap()
    logger = logging.getLogger("opentelemetry.exporter")
    state = (list(logger.handlers), logger.propagate, logger.level)
    assert codes(found(variables(store), tmp_path)) == ["canary-good"]
    assert trace._TRACER_PROVIDER is None
    assert propagate.get_global_textmap() is textmap
    assert otel_context.get_current() == {}
    assert (list(logger.handlers), logger.propagate, logger.level) == state
    gc.collect()
    assert set(view._nodes) <= nodes
    left = {thread for thread in set(threading.enumerate()) - before if "canary" in thread.name}
    assert left == set()


# -- making ----------------------------------------------------------------------------------------
def made(store: LocalServer, **changes: str) -> SentCanary:
    return send(Settings.from_env(variables(store, **changes)))


def test_canary_is_a_small_request(store: LocalServer) -> None:
    """A root, plain work below it, a model call below that; the view leaves the work out."""
    sent = made(store)
    root, step, call = sent.spans
    assert (root.name, step.name, call.name) == (ROOT, STEP, CALL)
    assert (root.parent_id, step.parent_id, call.parent_id) == ("", root.span_id, step.span_id)
    assert (root.view_parent, step.view_parent, call.view_parent) == ("", None, root.span_id)
    assert [item.accepted for item in sent.deliveries] == [True]
    assert len(sent.trace_id) == 32
    assert not sent.trace_id.startswith("0")


def test_markers_and_ids_are_new_each_time(store: LocalServer) -> None:
    """Two canaries have nothing in common that a search could mistake."""
    first, second = made(store), made(store)
    assert first.marker != second.marker
    assert first.trace_id != second.trace_id


def test_switched_off_langfuse_is_to_have_nothing(store: LocalServer) -> None:
    """LANGFUSE_ENABLED=false and a rate of 0 leave no span in the view."""
    assert made(store, LANGFUSE_ENABLED="false").in_view == ()
    assert made(store, LANGFUSE_SAMPLE_RATE="0").in_view == ()


# -- reading ---------------------------------------------------------------------------------------
def back(*spans: StoredSpan, body: bytes = b"", problem: str = "") -> ReadBack:
    return ReadBack(spans, body, "/api", problem, 0.0)


def span(span_id: str, parent_id: str = "", name: str = "x") -> StoredSpan:
    return StoredSpan(span_id, parent_id, name)


def answers(*each: ReadBack) -> Callable[[], ReadBack]:
    """Gives these one after the other, the last one again and again."""
    left = list(each)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_reading_waits_for_all_spans_and_for_second_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asks until every span is there, and once more for what comes after."""
    monkeypatch.setattr(canary_read, "_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(canary_read, "SETTLE_SECONDS", 0.001)
    copies = back(span("a"), span("b"), span("b"))
    ask = answers(back(problem="no"), back(span("a")), back(span("a"), span("b")), copies)
    found_back = read_until(ask, ["a", "b"], 5.0)
    assert found_back.spans == copies.spans
    assert found_back.problem == ""


def test_reading_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not come by then is told with the last answer's reason."""
    monkeypatch.setattr(canary_read, "_INTERVAL_SECONDS", 0.001)
    nothing = read_until(answers(back(problem="status 503")), ["a"], 0.02)
    assert nothing.problem == "status 503"
    assert nothing.waited_seconds >= 0.02
    part = read_until(answers(back(span("a"))), ["a", "b"], 0.02)
    assert part.problem == "1 of 2 spans are not there"


def test_reading_stops_when_nothing_can_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A final refusal that the Collector counted ends the waiting."""
    monkeypatch.setattr(canary_read, "_INTERVAL_SECONDS", 0.001)
    given_up = read_until(answers(back(problem="no")), ["a"], 60.0, lambda: True)
    assert given_up.waited_seconds < 5


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": 1}', b'{"data": [{}]}', b"\xff"])
def test_other_answers_are_no_langfuse(body: bytes, store: LocalServer, tmp_path: Path) -> None:
    """Whatever else answers 200 is told, and raises nothing."""
    server = StandIn(lambda *_: (200, {}, body))
    findings = found(variables(store, LANGFUSE_HOST=server.url), tmp_path)
    server.close()
    assert codes(findings) == ["canary-not-in-langfuse"]
    assert "not Langfuse's" in findings[0].evidence


def test_other_answers_are_no_tempo(store: LocalServer, tmp_path: Path) -> None:
    """A page at Tempo's address is told, and raises nothing."""
    server = StandIn(lambda *_: (200, {}, b"<!doctype html>"))
    findings = found(variables(store, OTELBRIDGE_TEMPO_URL=server.url), tmp_path)
    server.close()
    assert codes(findings) == ["canary-not-in-tempo"]
    assert "not a trace" in findings[0].evidence


def test_a_slow_store_is_waited_for(separate: LocalServer, tmp_path: Path) -> None:
    """A store that shows the trace only at the third question is not a fault."""
    pass_on, asked = forwarded(separate.tempo_url), []

    def late(method: str, path: str, headers: dict[str, str], body: bytes) -> object:
        asked.append(path)
        return (404, {}, b"trace not found") if len(asked) < 3 else pass_on(
            method, path, headers, body
        )  # fmt: skip

    server = StandIn(late)  # type: ignore[arg-type]  # a Reply in both cases
    environment = variables(separate, OTELBRIDGE_TEMPO_URL=server.url, OTELBRIDGE_EXPORT="direct")
    findings = found(environment, tmp_path)
    server.close()
    assert codes(findings) == ["canary-good"]
    assert len(asked) >= 3
