"""What the client of v2 asks of Langfuse: scores, prompts, `auth_check`, `fetch_traces`, costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import otelbridge
from otelbridge import provider as assembly
from otelbridge.compat.langfuse_v2 import Langfuse, langfuse_context, observe
from otelbridge.compat.manager import LangfuseConfig, LangfuseManager
from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse import scores
from tests.langfuse.stand_in import StandIn

NOW = datetime.now(UTC)


@pytest.fixture(scope="module", params=["v4", "v3"])
def server(request: Any) -> Iterator[StandIn]:
    with StandIn(request.param) as running:
        yield running


@pytest.fixture
def langfuse(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, and otelbridge configured for it."""
    server.reset()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    otelbridge.configure(instrument=False)
    return server


def test_scores_in_use_arrive(langfuse: StandIn, eventually: Any) -> None:
    """Ratings, qualities, success and feedback, by the client and by the context."""
    client, asked = Langfuse(), {}

    @observe()
    def request() -> None:
        asked["trace"] = langfuse_context.get_current_trace_id()
        asked["span"] = langfuse_context.get_current_observation_id()
        langfuse_context.score_current_trace(name="quality_score", value=0.8)
        langfuse_context.score_current_observation(name="output_quality", value=0.7)

    request()
    client.score(trace_id=asked["trace"], name="user_rating", value=4.5, comment="good")
    client.score(trace_id=asked["trace"], name="sql_execution_success", value=1)
    client.score(trace_id=asked["trace"], name="user_feedback", value=0)
    assert scores.flush_scores(10)
    eventually(lambda: len(langfuse.scores) == 5)
    found = {body["name"]: body for body in langfuse.scores.values()}
    assert {body["traceId"] for body in found.values()} == {asked["trace"]}
    assert found["output_quality"]["observationId"] == asked["span"]
    assert (found["user_rating"]["value"], found["user_rating"]["comment"]) == (4.5, "good")


def test_prompts(langfuse: StandIn) -> None:
    """`create_prompt(name, prompt, config)`, `get_prompt(name).prompt`, `.format(input=…)`."""
    client = Langfuse()
    client.create_prompt(
        name="qa", prompt="Answer {{input}} as {style}", config={"t": 0}, is_active=True
    )
    prompt = client.get_prompt("qa")
    assert prompt.prompt == "Answer {{input}} as {style}"
    assert prompt.prompt.format(input="why", style="a poet") == "Answer why as a poet"
    assert prompt.compile(input="why") == "Answer why as {style}"
    assert (prompt.name, prompt.version, prompt.config) == ("qa", 1, {"t": 0})
    assert client.get_prompt("missing", fallback="use {{x}}").compile(x=1) == "use 1"
    with pytest.raises(OtelbridgeError):
        client.get_prompt("missing too")


def test_auth_check_answers_and_never_raises(
    langfuse: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True for good keys, False for a server that is down."""
    assert Langfuse().auth_check() is True
    assert langfuse_context.auth_check() is True
    langfuse.down()
    assert Langfuse().auth_check() is False


def test_auth_check_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, no check."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    otelbridge.configure(instrument=False)
    assert Langfuse().auth_check() is False


def fill(langfuse: StandIn) -> None:
    """Three traces of today and one of yesterday, as each generation stores them."""
    rows = [("a" * 32, "u-1", 0.5, 0), ("b" * 32, "u-2", 0.25, 0), ("c" * 32, "u-1", 9.0, 30)]
    for trace_id, user, cost, hours in rows:
        moment = (NOW - timedelta(hours=hours)).isoformat()
        for area in ("costs", "observations"):  # sums are made of the one, lists of the other
            langfuse.area(area, []).append(
                {
                    "startTime": moment, "totalCost": cost, "userId": user,
                    "sessionId": f"s-{user}", "traceId": trace_id, "traceName": "rag",
                    "metadata": {},
                }
            )  # fmt: skip


def test_fetch_traces_sums_to_the_cost_of_a_day(langfuse: StandIn) -> None:
    """A daily budget check as written: the sum of `cost` over the traces of a time."""
    fill(langfuse)
    client = Langfuse()
    begin = NOW - timedelta(hours=1)
    traces = client.fetch_traces(from_timestamp=begin, to_timestamp=NOW + timedelta(minutes=1))
    assert sum(trace.cost for trace in traces.data) == pytest.approx(0.75)
    assert {trace.id for trace in traces.data} == {"a" * 32, "b" * 32}
    assert traces.is_complete
    of_one = client.fetch_traces(from_timestamp=begin, user_id="u-2")
    assert [trace.total_cost for trace in of_one.data] == [0.25]


@pytest.mark.parametrize("server", ["v4"], indirect=True)
def test_fetch_traces_of_a_server_without_sums_by_trace(langfuse: StandIn) -> None:
    """Then the whole sum is one entry."""
    fill(langfuse)
    langfuse.area("metrics")["strict"] = True
    traces = Langfuse().fetch_traces(from_timestamp=NOW - timedelta(hours=1))
    assert sum(trace.cost for trace in traces.data) == pytest.approx(0.75)
    assert not traces.is_complete


def test_fetch_traces_never_raises(langfuse: StandIn) -> None:
    """Without an answer there are no traces, and that is said."""
    langfuse.fail(500, times=10)
    traces = Langfuse().fetch_traces()
    assert (traces.data, traces.is_complete) == ([], False)


def test_the_cost_of_a_session_is_answered(langfuse: StandIn) -> None:
    """`get_session_cost(session_id)`, by the client and by the manager."""
    fill(langfuse)
    assert Langfuse().get_session_cost("s-u-2") == pytest.approx(0.25)
    assert LangfuseManager().get_session_cost("s-u-2") == pytest.approx(0.25)


def test_keys_given_to_a_constructor_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a `configure()` before it, what the older code passes is what counts."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    Langfuse(
        public_key="pk-lf-9", secret_key="sk-lf-9", host="http://127.0.0.1:9", release="r-1",
        environment="staging", sample_rate=0.5, debug=True, flush_at=1, threads=2,
    )  # fmt: skip
    settings = assembly.active_settings()
    assert settings is not None
    found = settings.langfuse
    assert (found.public_key, found.secret_key) == ("pk-lf-9", "sk-lf-9")
    assert (found.host, found.release, found.environment) == (
        "http://127.0.0.1:9",
        "r-1",
        "staging",
    )
    assert (found.sample_rate, found.debug) == (0.5, True)
    otelbridge.shutdown(1.0)
    config = LangfuseConfig(host="http://127.0.0.1:8", public_key="pk-lf-8", secret_key="sk-lf-8")
    assert LangfuseManager(config).is_enabled()
    settings = assembly.active_settings()
    assert settings is not None
    assert (settings.langfuse.host, settings.langfuse.public_key) == (config.host, "pk-lf-8")
