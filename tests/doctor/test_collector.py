"""What the doctor reads out of a Collector: its metrics, its configuration file, clocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from otelbridge.collector import project_root
from otelbridge.doctor import clock
from otelbridge.doctor.clock import skew_seconds
from otelbridge.doctor.collector_checks import Places, check_collector, places, report_collector
from otelbridge.doctor.collector_config import check_file
from otelbridge.doctor.collector_series import CollectorState, parse_pipelines, parse_state
from otelbridge.doctor.findings import Context, Finding
from tests.doctor.stand_ins import Reply, StandIn

_SCOPE = 'otel_scope_name="x",otel_scope_version=""'


def metrics(**changes: float) -> str:
    """The own metrics of a healthy Collector of ours, with some values changed."""
    values = {
        "langfuse_size": 0, "langfuse_capacity": 1000, "langfuse_sent": 90, "langfuse_failed": 0,
        "langfuse_enqueue": 0, "accepted": 100, "refused": 0, **changes,
    }  # fmt: skip
    lines = [
        "# HELP target_info Target metadata",
        'target_info{service_name="otelbridge-collector",service_version="0.145.0"} 1',
        f'otelcol_receiver_accepted_spans_total{{{_SCOPE},transport="http"}} {values["accepted"]}',
        f'otelcol_receiver_refused_spans_total{{{_SCOPE},transport="http"}} {values["refused"]}',
        *(
            f'otelcol_processor_incoming_items_total{{{_SCOPE},processor="{name}"}} 100'
            for name in ("transform/tempo", "filter/llm_view", "transform/llm_view")
        ),
        'otelcol_exporter_queue_capacity{data_type="traces",exporter="otlp_grpc/tempo"} 1000',
    ]
    for series, name in (
        ("queue_size", "size"), ("queue_capacity", "capacity"), ("sent_spans_total", "sent"),
        ("send_failed_spans_total", "failed"), ("enqueue_failed_spans_total", "enqueue"),
    ):  # fmt: skip
        value = values[f"langfuse_{name}"]
        labels = f'data_type="traces",exporter="otlp_http/langfuse",{_SCOPE}'
        lines.append(f"otelcol_exporter_{series}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


def state(text: str) -> CollectorState:
    found = parse_state(text)
    assert found is not None
    return found


def context_of(text: str, directory: Path, **changes: str) -> tuple[Context, StandIn]:
    """A context whose Collector is a stand-in with these metrics."""

    def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        return 200, {"Content-Type": "text/plain"}, text.encode() if "metrics" in path else b"{}"

    server = StandIn(answer)
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
        "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT": f"0.0.0.0:{server.port}",
        "OTELBRIDGE_COLLECTOR_METRICS_PORT": str(server.port),
        "LANGFUSE_PUBLIC_KEY": "pk-lf-made-up",
        "LANGFUSE_SECRET_KEY": "sk-lf-made-up",
        **changes,
    }
    return Context.of(environment, directory), server


def look(text: str, directory: Path, **changes: str) -> list[Finding]:
    context, server = context_of(text, directory, **changes)
    try:
        return [*check_collector(context), *report_collector(context)]
    finally:
        server.close()


def test_metrics_become_numbers_of_each_exporter() -> None:
    """Counters are read by exporter, receivers are added up, the service is the Collector's own."""
    found = state(metrics(langfuse_failed=3, refused=2))
    langfuse = found.exporters["otlp_http/langfuse"]
    assert (langfuse.sent, langfuse.send_failed, langfuse.queue_capacity) == (90, 3, 1000)
    assert (found.accepted, found.refused, found.service) == (100, 2, "otelbridge-collector")
    assert found.processors == {"transform/tempo", "filter/llm_view", "transform/llm_view"}


def test_names_without_total_are_read_as_well() -> None:
    """Collectors before 0.120 or so write counters without `_total`."""
    old = state(metrics(langfuse_failed=3).replace("_total", ""))
    assert old.exporters["otlp_http/langfuse"].send_failed == 3


@pytest.mark.parametrize("text", ["", "<html>", "go_goroutines 7\n", "otel 1 2 {"])
def test_other_pages_are_no_collector(text: str) -> None:
    """A page without otelcol series is not taken for a Collector's."""
    assert parse_state(text) is None


@pytest.mark.parametrize(
    ("changes", "code", "level"),
    [
        ({"langfuse_size": 800}, "collector-queue-full", "warning"),
        ({"langfuse_enqueue": 1}, "collector-enqueue-failed", "warning"),
        ({"langfuse_failed": 10}, "collector-send-failed", "warning"),
        ({"langfuse_failed": 10, "langfuse_sent": 0}, "collector-send-failed", "warning"),
        ({"refused": 50}, "collector-refused", "warning"),
        ({"refused": 0.5}, "collector-refused", "note"),
    ],
)
def test_counters_have_their_findings(
    changes: dict[str, float], code: str, level: str, tmp_path: Path
) -> None:
    """Queues, failures and refusals beyond their limits are named, with their level."""
    found = [(one.code, one.level) for one in look(metrics(**changes), tmp_path)]
    assert found == [(code, level)]


@pytest.mark.parametrize("changes", [{}, {"langfuse_size": 799}, {"langfuse_failed": 0.9}])
def test_ordinary_counters_are_good(changes: dict[str, float], tmp_path: Path) -> None:
    """A queue below 0.8 and failures up to 1 % are no finding."""
    assert [one.code for one in look(metrics(**changes), tmp_path)] == ["collector-ok"]


def test_other_configuration_is_named(tmp_path: Path) -> None:
    """A Collector with other exporters and processors is not ours, and has no Langfuse branch."""
    text = metrics().replace("otlp_http/langfuse", "otlp/jaeger").replace("/llm_view", "")
    text = text.replace("otlp_grpc/tempo", "debug").replace("otelbridge-collector", "otelcol")
    codes = {one.code for one in look(text, tmp_path)}
    assert codes == {"collector-not-ours", "collector-no-tempo", "collector-no-langfuse"}


def test_branch_without_its_processors_is_named(tmp_path: Path) -> None:
    """Our exporters without our processors are named once spans have passed, not before."""
    changed = metrics().replace("filter/llm_view", "batch").replace("transform/llm_view", "batch")
    (found,) = look(changed, tmp_path)
    assert found.code == "collector-branch-changed"
    assert "Langfuse lacks filter/llm_view, transform/llm_view" in found.what
    unused = changed.replace("exporter_sent_spans", "exporter_other_spans")
    assert [one.code for one in look(unused, tmp_path)] == ["collector-ok"]


def test_pages_tell_the_pipelines() -> None:
    """The links of /debug/pipelinez name pipeline and component."""
    page = (
        '<a href="?zpipelinename=traces%2flangfuse&zcomponentname=filter%2fllm_view'
        '&zcomponentkind=processor">filter/llm_view</a> <a href="?zpipelinename=traces%2flangfuse'
        '&amp;zcomponentname=forward%2fspans%20%28connector%29&zcomponentkind=receiver">'
    )
    assert parse_pipelines(page) == {
        "traces/langfuse": {"filter/llm_view", "forward/spans (connector)"}
    }
    assert parse_pipelines("<html>") == {}


def test_direct_export_beside_a_langfuse_branch_is_two_routes(tmp_path: Path) -> None:
    """Direct export to a Collector that also sends to Langfuse is named, and told to the canary."""
    context, server = context_of(metrics(), tmp_path, OTELBRIDGE_EXPORT="direct")
    assert list(check_collector(context)) == []
    found = [one.code for one in report_collector(context)]
    server.close()
    assert found == ["duplicate-langfuse-route"]
    assert "twice" in context.facts["langfuse_route"]


def test_another_collectors_metrics_are_a_note(tmp_path: Path) -> None:
    """When the canary did not pass the Collector that is seen, its counters prove nothing here."""
    context, server = context_of(metrics(langfuse_enqueue=5), tmp_path)
    assert list(check_collector(context)) == []
    server.close()
    context.facts["collector_proven"] = False
    (note,) = report_collector(context)
    assert (note.code, note.level) == ("collector-other", "note")
    assert "collector-enqueue-failed" in note.evidence
    context.facts["collector_proven"] = None
    assert [one.code for one in report_collector(context)] == ["collector-enqueue-failed"]


def test_places_follow_the_collectors_variables(tmp_path: Path) -> None:
    """Unset and wildcard addresses mean the host of the endpoint, ports as usual."""
    plain = Context.of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}, tmp_path)
    assert places(plain) == Places("http://otel:13133/", "http://otel:8888/metrics")
    given = Context.of(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318",
            "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT": "0.0.0.0:99",
            "OTELBRIDGE_COLLECTOR_METRICS_HOST": "metrics.internal",
        },
        tmp_path,
    )
    assert places(given) == Places("http://[::1]:99/", "http://metrics.internal:8888/metrics")


# -- configuration files ---------------------------------------------------------------------------
def codes_of(config: Any, directory: Path, **environment: str) -> list[str]:
    path = directory / "collector.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config), "utf-8")
    return [one.code for one in check_file(path, environment)]


def other_config(exporter: dict[str, Any], name: str = "otlp_http/langfuse") -> dict[str, Any]:
    """A configuration that is right but for its exporter to Langfuse."""
    processors = {
        "filter/llm": {"traces": {"span": ['attributes["gen_ai.operation.name"] == nil']}},
        "transform/llm": {
            "trace_statements": [
                'set(span.parent_span_id.string, span.attributes["otelbridge.llm.parent"])'
            ]
        },
    }
    pipeline = {"receivers": ["otlp"], "processors": list(processors), "exporters": [name]}
    return {
        "processors": processors,
        "exporters": {name: exporter},
        "service": {"pipelines": {"traces": pipeline}},
    }


_RIGHT = {
    "endpoint": "https://cloud.langfuse.com/api/public/otel",
    "headers": {"Authorization": "Basic cGs6c2s="},
}


def test_own_configuration_is_good(tmp_path: Path) -> None:
    """The project's configuration has nothing wrong, and an empty login when the keys are unset."""
    root = project_root()
    assert root is not None
    path = root / "collector" / "config.yaml"
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x"}
    assert [one.code for one in check_file(path, keys)] == ["collector-config-ok"]
    assert [one.code for one in check_file(path, {})] == ["collector-langfuse-no-auth"]
    tempo_only = root / "collector" / "config.no-langfuse.yaml"
    assert [one.code for one in check_file(tempo_only, keys)] == ["collector-no-langfuse"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"endpoint": "https://cloud.langfuse.com"}, "collector-langfuse-path"),
        (
            {"endpoint": "https://cloud.langfuse.com/api/public/otel/v1/traces"},
            "collector-langfuse-path",
        ),
        ({"compression": "zstd"}, "collector-langfuse-compression"),
        ({"headers": {}}, "collector-langfuse-no-auth"),
        ({"headers": {"Authorization": "Basic ${env:NOWHERE}"}}, "collector-langfuse-no-auth"),
    ],
)
def test_exporter_to_langfuse_is_read(changes: dict[str, Any], code: str, tmp_path: Path) -> None:
    """Path, compression and login of the exporter are judged one by one."""
    assert codes_of(other_config({**_RIGHT, **changes}), tmp_path) == [code]


def test_right_exporters_are_good(tmp_path: Path) -> None:
    """The base address, the full one, and one made of variables are all right."""
    assert codes_of(other_config(_RIGHT), tmp_path) == ["collector-config-ok"]
    full = {**_RIGHT, "traces_endpoint": f"{_RIGHT['endpoint']}/v1/traces"}
    assert codes_of(other_config(full), tmp_path) == ["collector-config-ok"]
    filled = {
        "endpoint": "${env:LANGFUSE_HOST:-${env:OTHER:-https://x.example}}/api/public/otel",
        "headers": {"Authorization": "Basic ${AUTH}"},
    }
    assert codes_of(other_config(filled), tmp_path, AUTH="cGs6c2s=") == ["collector-config-ok"]


def test_grpc_exporter_is_named(tmp_path: Path) -> None:
    """`otlp/langfuse` is a gRPC exporter, which Langfuse does not answer."""
    config = other_config(_RIGHT, "otlp/langfuse")
    assert codes_of(config, tmp_path) == ["collector-langfuse-grpc"]


def test_branches_without_their_processors_are_named(tmp_path: Path) -> None:
    """No filter, a filter without new parents, and prompts towards Tempo have their own codes."""
    config = other_config(_RIGHT)
    pipeline = config["service"]["pipelines"]["traces"]
    pipeline["processors"] = ["filter/llm"]
    assert codes_of(config, tmp_path) == ["collector-orphans"]
    pipeline["processors"] = []
    assert codes_of(config, tmp_path) == ["collector-unfiltered"]
    config["exporters"]["otlp_grpc/tempo"] = {"endpoint": "tempo:4317"}
    pipeline["exporters"] = ["otlp_grpc/tempo", "otlp_http/langfuse"]
    assert codes_of(config, tmp_path) == ["collector-unfiltered", "collector-content-to-tempo"]


@pytest.mark.parametrize("text", ["", "a: [", "exporters: 1", "- 1", "service: {pipelines: {}}"])
def test_other_files_are_no_configuration(text: str, tmp_path: Path) -> None:
    """Whatever is no Collector configuration is one finding and no exception."""
    assert codes_of(text, tmp_path) == ["collector-config-bad"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is one finding."""
    found = list(check_file(tmp_path / "nowhere.yaml", {}))
    assert [one.code for one in found] == ["collector-config-bad"]


# -- clocks ----------------------------------------------------------------------------------------
def test_skew_is_the_difference_to_the_middle_of_the_second() -> None:
    """`Date` has whole seconds; names are compared without case; nonsense is no time."""
    at = 1_795_282_418.0  # 2026-11-21 17:33:38 UTC
    header = {"Date": "Sat, 21 Nov 2026 17:33:48 GMT"}
    assert skew_seconds(header, at) == pytest.approx(10.5)
    assert skew_seconds({"date": header["Date"]}, at + 20) == pytest.approx(-9.5)
    assert skew_seconds({}, at) is None
    assert skew_seconds({"Date": "tomorrow"}, at) is None


@pytest.mark.parametrize(
    ("ahead_seconds", "code", "level"),
    [(0, "clock-ok", "ok"), (-20, "clock-skew", "warning"), (90, "clock-skew", "error")],
)
def test_clock_levels(ahead_seconds: float, code: str, level: str, tmp_path: Path) -> None:
    """Above 5 s a warning, above 60 s an error, in either direction."""
    import time

    context, server = context_of("", tmp_path, LANGFUSE_ENABLED="false")
    context.now_seconds = lambda: time.time() - ahead_seconds
    found = list(clock.check_clocks(context))
    server.close()
    assert {(one.code, one.level) for one in found} == {(code, level)}
