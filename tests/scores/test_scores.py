"""`otelbridge.score`: to Langfuse by its rules, to Tempo as event and span, as metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.util._once import Once

import otelbridge
from grafana.dashboards_src.quality import RATINGS
from otelbridge import request_ids
from otelbridge.langfuse import score_signals, scores
from otelbridge.settings import Settings
from otelbridge.testing.traces import Traces
from tests.langfuse.stand_in import StandIn
from tests.scores.conftest import use

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PATH = "/api/public/scores"


def sent(stand_in: StandIn) -> list[dict[str, Any]]:
    """What Langfuse has, after everything was sent."""
    assert scores.flush_scores(20), scores.score_stats()
    return list(stand_in.scores.values())


def test_each_kind_of_value_and_target_arrives(stand_in: StandIn, settings: Settings) -> None:
    """Numeric, boolean, categorical text; trace, span, session and run: Langfuse takes all."""
    made = [
        otelbridge.score("quality", 0.9, trace_id=TRACE, comment="fine"),
        otelbridge.score("ok", True, trace_id=TRACE, span_id=SPAN),
        otelbridge.score("tone", "friendly", session_id="s-1", metadata={"by": "judge"}),
        otelbridge.score("note", "long text", trace_id=TRACE, data_type="text"),
        otelbridge.score("run", 3, dataset_run_id="run-1", config_id="c-1"),
    ]
    found = {one["id"]: one for one in sent(stand_in)}
    assert list(found) == made
    assert [found[one]["dataType"] for one in made] == [
        "NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "NUMERIC",
    ]  # fmt: skip
    assert found[made[1]]["observationId"] == SPAN
    assert {one["environment"] for one in found.values()} == {"test"}
    assert {one.status for one in stand_in.requests(PATH)} == {200}
    assert scores.score_stats()["delivered"] == 5


@pytest.mark.parametrize("generation", ["v3", "v4"])
def test_both_generations_take_and_show_a_score(
    generation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written on both; read with the official client on v4, by the older route on v3."""
    from otelbridge.langfuse.client import LangfuseApi

    with StandIn(generation) as stand_in:
        settings = use(stand_in, monkeypatch)
        otelbridge.score("quality", 0.9, trace_id=TRACE)
        assert scores.flush_scores(20)
        with LangfuseApi(settings.langfuse) as api:
            if generation == "v3":
                answer = api.request("GET", "/api/public/v2/scores", query={"name": "quality"})
                values = [row["value"] for row in answer["data"]]
            else:
                answer = api.call("GET", lambda client: client.scores.get_many(name="quality"))
                values = [row.value for row in answer.data]
        scores.stop(1)
    assert values == [0.9]


def test_a_repeat_overwrites(stand_in: StandIn, settings: Settings) -> None:
    """The same target and name have one id, so the last value stands."""
    ids = {otelbridge.score("user_rating", value, trace_id=TRACE) for value in (1, 5)}
    assert [one["value"] for one in sent(stand_in)] == [5.0]
    assert {one["id"] for one in stand_in.scores.values()} == ids
    bodies = [one.body for one in stand_in.requests(PATH)]
    assert [body["value"] for body in bodies] == [1.0, 5.0]
    assert len({body["timestamp"] for body in bodies}) == 1  # Langfuse replaces by id and time


def test_a_call_inside_a_request_has_event_span_and_score(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """The event is on the open span once; the score's span links to it and carries the request."""
    with (
        otelbridge.request_context(user_id="u-1", metadata={"variant": "b"}),
        otelbridge.chat("gpt-4o", provider="openai", prompt_name="p", prompt_version=3) as call,
    ):
        otelbridge.score("quality", 0.25, span=call.span, comment="too short")
    judged = traces.assert_one('{ name = "chat gpt-4o" }')
    events = [event for event in judged.events if event.name == "gen_ai.evaluation.result"]
    assert [event.attributes["gen_ai.evaluation.score.value"] for event in events] == [0.25]
    own = traces.assert_one(
        '{ name = "score quality" && span.gen_ai.evaluation.score.value < 0.5'
        ' && span.langfuse.trace.metadata.variant = "b" && span.gen_ai.prompt.version = "3" }'
    )
    assert own.trace_id != judged.trace_id
    assert own.attributes["otelbridge.score.trace_id"] == judged.trace_id
    assert not [event for event in own.events if event.name == "gen_ai.evaluation.result"]
    traces.assert_one(f'{{ name = "score quality" && link:traceID = "{judged.trace_id}" }}')
    assert [one["observationId"] for one in sent(stand_in)] == [judged.span_id]


def test_late_feedback_is_found_by_the_queries_of_the_dashboard(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """After its trace has ended a rating brings event, prompt and variant of that trace."""
    with (
        otelbridge.request_context(user_id="u-7", metadata={"variant": "a"}),
        otelbridge.chat("gpt-4o", provider="openai", prompt_name="p", prompt_version=7) as call,
    ):
        pass
    trace_id = trace.format_trace_id(call.span.get_span_context().trace_id)
    otelbridge.score_user_rating(4.5, trace_id=trace_id, comment="nice")
    traces.assert_one(
        f"{{ span.gen_ai.evaluation.name =~ `{RATINGS}`"
        " && span.gen_ai.evaluation.score.value != nil"
        ' && span.gen_ai.prompt.name = "p" && span.gen_ai.prompt.version = "7"'
        ' && span.langfuse.trace.metadata.variant = "a" }'
    )
    traces.assert_one(
        '{ event.gen_ai.evaluation.name = "user_rating" && resource.langfuse.user.id = "u-7" }',
        view="tempo",
    )


def test_the_span_of_a_score_is_for_tempo_only(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """It is not in the LLM view, whose store has the score itself; its reason is content there."""
    with otelbridge.request_context(trace_name="named", user_id="u"):
        otelbridge.score("quality", 1, trace_id=TRACE, comment="the reason")
    traces.assert_one('{ name = "score quality" }')
    traces.assert_none('{ name = "score quality" }', view="langfuse")
    traces.assert_none("{ span.gen_ai.evaluation.explanation != nil }", view="tempo")


def test_the_current_trace_is_the_default_target(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """Inside a span no target is needed; outside of any it is refused, not raised."""
    with otelbridge.span("work"):
        trace_id = otelbridge.current_trace_id()
        assert otelbridge.score("inside", 1)
    assert otelbridge.score("outside", 1) == ""
    assert [one["traceId"] for one in sent(stand_in)] == [trace_id]
    assert scores.score_stats()["refused"] == 1


def test_several_targets_are_a_mistake_of_the_program(settings: Settings) -> None:
    """Two targets, a bad name and an unknown type raise ValueError."""
    with pytest.raises(ValueError, match="one of"):
        otelbridge.score("q", 1, trace_id=TRACE, session_id="s")
    with pytest.raises(ValueError, match="name"):
        otelbridge.score("", 1, trace_id=TRACE)
    with pytest.raises(ValueError, match="data_type"):
        otelbridge.score("q", 1, trace_id=TRACE, data_type="float")


@pytest.mark.parametrize("value", [float("nan"), None, object(), [], ""])
def test_a_value_that_is_no_score_is_counted(
    value: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It gives empty text and one log line however often it comes."""
    with caplog.at_level(logging.WARNING):
        assert [otelbridge.score("q", value, trace_id=TRACE) for _ in range(3)] == [""] * 3
    assert scores.score_stats()["refused"] == 3
    assert caplog.text.count("score not given") == 1


def test_secrets_do_not_leave_in_a_comment(stand_in: StandIn, settings: Settings) -> None:
    """Comment, metadata and free text pass the masking that spans pass."""
    otelbridge.score(
        "note", "write to kim@example.com", trace_id=TRACE, data_type="TEXT",
        comment="key sk-ant-api03-" + "a1B2" * 20, metadata={"mail": "lee@example.com"},
    )  # fmt: skip
    body = str(sent(stand_in)[0])
    assert "masked" in body
    assert not [secret for secret in ("kim@", "lee@", "a1B2a1B2") if secret in body]


def test_text_that_no_encoding_holds_does_not_lose_a_score(
    stand_in: StandIn, settings: Settings
) -> None:
    """Half a surrogate pair, as models cut them, becomes a question mark everywhere."""
    half = "\ud83d"
    otelbridge.score(
        f"n{half}", f"v{half}", trace_id=TRACE, comment=half, source=half,
        metadata={half: [half, {half: half}]},
    )  # fmt: skip
    otelbridge.score("q", 1, session_id=f"s{half}")
    found = {one["name"]: one for one in sent(stand_in)}
    assert found["n?"]["value"] == "v?"
    assert found["q"]["sessionId"] == "s?"


def test_without_keys_there_is_one_warning_and_the_span(
    traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that exports to a Collector needs no keys: Tempo and the metrics have the score."""
    scores.use(Settings.from_env({}))
    with caplog.at_level(logging.WARNING):
        assert all(otelbridge.score("quality", n, trace_id=TRACE) for n in range(3))
    assert caplog.text.count("scores reach no Langfuse") == 1
    assert "LANGFUSE_PUBLIC_KEY" in caplog.text
    traces.assert_count('{ name = "score quality" }', 3)
    assert scores.score_stats()["off"] == 3


def test_an_unsampled_trace_gets_a_metric_only(stand_in: StandIn, settings: Settings) -> None:
    """A trace that no store has is not scored there."""
    context = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), False, trace.TraceFlags(0))
    assert otelbridge.score("q", 1, span=trace.NonRecordingSpan(context))
    assert sent(stand_in) == []
    assert scores.score_stats()["unsampled"] == 1


def test_the_sample_rate_of_langfuse_holds_for_scores(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces outside LANGFUSE_SAMPLE_RATE, by their id, get no score there."""
    use(stand_in, monkeypatch, LANGFUSE_SAMPLE_RATE="0.5")
    low, high = f"{'0' * 31}1", "f" * 32
    for trace_id in (low, high):
        otelbridge.score("q", 1, trace_id=trace_id)
    assert [one["traceId"] for one in sent(stand_in)] == [low]


def test_a_uuid_is_a_trace_id_and_other_text_a_request(
    stand_in: StandIn, settings: Settings
) -> None:
    """Older callers pass dashed ids, and request ids where a trace id is asked for."""
    request_ids.remember("req-7", TRACE, SPAN)
    otelbridge.score("a", 1, trace_id="0AF76519-16cd-43dd-8448-eb211c80319c")
    otelbridge.score("b", 1, trace_id="req-7")
    assert [one["traceId"] for one in sent(stand_in)] == [TRACE, TRACE]


def test_helpers_have_the_names_and_values_of_dashboards(
    stand_in: StandIn, settings: Settings
) -> None:
    """Rating, thumbs, quality, API call and SQL: names, ranges and types."""
    target = {"trace_id": TRACE}
    otelbridge.score_user_rating(9, **target)
    otelbridge.score_thumbs(False, **target)
    otelbridge.score_quality(-1, **target)
    otelbridge.score_api_call(**target)
    otelbridge.score_api_call(TimeoutError("late"), **target)
    otelbridge.score_sql_execution(True, **target)
    assert otelbridge.score_quality(float("nan"), **target) == ""
    found = {one["name"]: one for one in sent(stand_in)}
    assert {name: one["value"] for name, one in found.items()} == {
        "user_rating": 5.0, "user_feedback": 0, "quality_score": 0.0, "api_success": 1.0,
        "api_error": 0.0, "sql_execution_success": 1,
    }  # fmt: skip
    assert found["user_feedback"]["dataType"] == "BOOLEAN"
    assert found["api_error"]["comment"] == "TimeoutError: late"


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """A global MeterProvider that keeps its figures."""
    found = InMemoryMetricReader()
    provider = MeterProvider([found])
    before = metrics_internal._METER_PROVIDER
    metrics_internal._METER_PROVIDER = None
    metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    metrics.set_meter_provider(provider)
    score_signals._instruments.clear()
    yield found
    provider.shutdown()
    metrics_internal._METER_PROVIDER = before
    score_signals._instruments.clear()


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    assert data is not None
    found = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
    assert found
    return found


def test_metrics_carry_name_value_prompt_and_variant(
    settings: Settings, reader: InMemoryMetricReader
) -> None:
    """One histogram of the numbers, one counter of all, with what was judged."""
    facts = {"prompt_name": "p", "prompt_version": 2, "variant": "b"}
    for value in (1, 5, "good"):
        otelbridge.score("user_rating", value, trace_id=TRACE, metadata=facts)
    (values,) = points(reader, score_signals.VALUES)
    assert (values.count, values.sum) == (2, 6)
    assert dict(values.attributes) == {
        "gen_ai.evaluation.name": "user_rating", "gen_ai.prompt.name": "p",
        "gen_ai.prompt.version": "2", "otelbridge.variant": "b",
    }  # fmt: skip
    assert sum(point.value for point in points(reader, score_signals.COUNTS)) == 3


def test_labels_are_bounded(settings: Settings, reader: InMemoryMetricReader) -> None:
    """However many names there are, the metric has a hundred and `other`."""
    for number in range(150):
        otelbridge.score(f"name-{number}", 1.0, trace_id=TRACE)
    names = {
        point.attributes["gen_ai.evaluation.name"] for point in points(reader, "otelbridge.scores")
    }
    assert len(names) == 101
    assert score_signals.OTHER in names


def test_the_caller_never_waits(
    stand_in: StandIn, settings: Settings, eventually: Callable[..., Any]
) -> None:
    """With a Langfuse that hangs, twenty scores are given at once and delivered later."""
    stand_in.fail(503, PATH, times=1, seconds=1.0)
    started = time.monotonic()
    for number in range(20):
        otelbridge.score("q", number, trace_id=f"{number + 1:032x}")
    assert time.monotonic() - started < 0.9  # 45 ms each, of which a machine at rest needs 0.1
    eventually(lambda: len(stand_in.scores) == 20, 30)


def test_secrets_of_the_service_are_not_in_the_log(
    stand_in: StandIn, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused key is told once, without the key."""
    stand_in.fail(401, PATH, times=50)
    with caplog.at_level(logging.INFO):
        otelbridge.score("q", 1, trace_id=TRACE)
        scores.flush_scores(5)
    assert "refuses scores (HTTP 401)" in caplog.text
    assert stand_in.secret_key not in caplog.text
