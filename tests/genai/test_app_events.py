"""Events and figures of the application: in both stores, on the same resource, never in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.util._once import Once

import otelbridge
from benchmarks._hostile_values import BadString
from otelbridge import request_ids, semconv
from otelbridge.genai import _config, app_events

METADATA = semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX


class Figures:
    """What the service's MeterProvider collected."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == name
            for point in found.data.data_points
        ]


@pytest.fixture
def figures() -> Iterator[Figures]:
    """A MeterProvider that is set after the instruments may have been made."""
    app_events._instruments.clear()
    app_events._labels.clear()
    made = Figures()
    provider = MeterProvider([made.reader], shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    yield made
    provider.shutdown()
    metrics_internal._METER_PROVIDER = None
    metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    app_events._instruments.clear()


def test_an_event_is_an_observation_and_a_span_event(spans: Any) -> None:
    """Below the current span for Langfuse; on the current span for Tempo, without content."""
    with trace.get_tracer("web").start_as_current_span("request") as current:
        otelbridge.event(
            "query_completed",
            input="how many orders?",
            output={"rows": 3},
            level="warning",
            status_message="slow",
            metadata={"rows": 3, "cached": False, "sql": {"dialect": "pg"}},
        )
    found = spans.named("query_completed")
    assert found.parent.span_id == current.get_span_context().span_id
    attributes = dict(found.attributes)
    assert attributes[semconv.LANGFUSE_OBSERVATION_TYPE] == "event"
    assert attributes[semconv.LANGFUSE_OBSERVATION_LEVEL] == "WARNING"
    assert attributes[semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE] == "slow"
    assert attributes[semconv.LANGFUSE_OBSERVATION_INPUT] == "how many orders?"
    assert json.loads(attributes[semconv.LANGFUSE_OBSERVATION_OUTPUT]) == {"rows": 3}
    facts = {"rows": 3, "cached": False, "sql.dialect": "pg"}
    assert {key: attributes[METADATA + key] for key in facts} == facts
    (on_span,) = spans.named("request").events
    assert (on_span.name, dict(on_span.attributes)) == (
        "query_completed",
        {"level": "WARNING", **facts},
    )


def test_no_content_without_capture(spans: Any) -> None:
    """Input and output stay in the process, metadata does not."""
    _config.set_config(_config.GenAiConfig(capture_content=False))
    otelbridge.event("e", input="secret", output="secret", metadata={"n": 1})
    assert "secret" not in str(spans.attributes)
    assert spans.attributes[METADATA + "n"] == 1


def test_an_event_outside_of_a_trace_finds_its_request(spans: Any) -> None:
    """By the request id of this process; an unknown one makes a small trace."""
    request_ids.remember("r-1", "1" * 32, "2" * 16)
    otelbridge.event("user_feedback", request_id="r-1")
    otelbridge.event("user_feedback", request_id="r-unknown")
    known, alone = spans.all
    assert known.context.trace_id == int("1" * 32, 16)
    assert known.parent.span_id == int("2" * 16, 16)
    assert alone.parent is None
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize(
    ("seconds", "category"), [(4.999, "fast"), (5.0, "slow"), (0, "fast"), (60, "slow")]
)
def test_performance(spans: Any, figures: Figures, seconds: float, category: str) -> None:
    """Event with milliseconds and category, histogram in seconds."""
    otelbridge.performance("sql", seconds, metadata={"rows": 3})
    facts = {key.removeprefix(METADATA): value for key, value in spans.attributes.items()}
    assert spans.one.name == "performance_metric"
    assert facts["execution_time_ms"] == seconds * 1000
    assert (facts["category"], facts["name"], facts["rows"]) == (category, "sql", 3)
    (point,) = figures.points(app_events.DURATION)
    assert (point.sum, point.count) == (seconds, 1)
    assert dict(point.attributes) == {
        "otelbridge.app.name": "sql",
        "otelbridge.app.category": category,
    }


def test_error_analysis(spans: Any, figures: Figures) -> None:
    """Type, message and stack of an exception; a counter by type; level ERROR."""

    def fail() -> None:
        raise LookupError("no table")

    with pytest.raises(LookupError) as caught:
        fail()
    otelbridge.error_analysis(caught.value, metadata={"sql": "select"})
    otelbridge.error_analysis("Timeout", message="vector search")
    first, second = spans.all
    facts = dict(first.attributes)
    assert facts[semconv.LANGFUSE_OBSERVATION_LEVEL] == "ERROR"
    assert facts[METADATA + "error_type"] == "LookupError"
    assert facts[METADATA + "error_message"] == "no table"
    assert "in fail" in facts[METADATA + "stack_trace"]
    assert second.attributes[METADATA + "error_type"] == "Timeout"
    counted = {dict(p.attributes)["error.type"]: p.value for p in figures.points(app_events.ERRORS)}
    assert counted == {"LookupError": 1, "Timeout": 1}


@pytest.mark.parametrize(
    ("score", "category"), [(0.81, "high"), (0.8, "medium"), (0.5, "low"), (0, "low"), (1, "high")]
)
def test_query_quality(spans: Any, figures: Figures, score: float, category: str) -> None:
    """High above 0.8, medium above 0.5, else low."""
    otelbridge.query_quality(score, query="select 1")
    assert spans.attributes[METADATA + "category"] == category
    assert spans.attributes[semconv.LANGFUSE_OBSERVATION_INPUT] == "select 1"
    (point,) = figures.points(app_events.QUALITY)
    assert dict(point.attributes) == {"otelbridge.app.category": category}


def test_figures_of_the_business(spans: Any, figures: Figures) -> None:
    """Counter, histogram and gauge reach the MeterProvider and the current span."""
    with trace.get_tracer("web").start_as_current_span("request"):
        otelbridge.metric("shop.orders", attributes={"shop": "kr"})
        otelbridge.metric("shop.orders", 2, attributes={"shop": "kr"})
        otelbridge.metric("shop.value", 39.9, kind="histogram", unit="USD")
        otelbridge.metric("shop.stock", 7, kind="gauge")
    assert [(p.value, dict(p.attributes)) for p in figures.points("shop.orders")] == [
        (3, {"shop": "kr"})
    ]
    assert figures.points("shop.value")[0].sum == 39.9
    assert figures.points("shop.stock")[0].value == 7
    assert spans.attributes[METADATA + "metric.shop.value"] == 39.9


def test_labels_of_ours_are_bounded(spans: Any, figures: Figures) -> None:
    """The hundred-and-first name is `other`."""
    for number in range(150):
        otelbridge.performance(f"step-{number}", 0.1)
    points = figures.points(app_events.DURATION)
    assert len(points) == 101
    assert max(point.count for point in points) == 50


def test_without_a_meter_provider_events_go_on(spans: Any) -> None:
    """The API's instruments do nothing."""
    app_events._instruments.clear()
    otelbridge.performance("sql", 1)
    otelbridge.metric("shop.orders")
    assert spans.one.name == "performance_metric"


def test_off_is_a_no_op() -> None:
    """Without any provider nothing happens and nothing is raised."""
    otelbridge.event("e", input="x")
    otelbridge.error_analysis(ValueError("x"))


def test_values_of_any_kind_harm_nobody(spans: Any, swallow_errors: None) -> None:
    """Names, figures and metadata that cannot be looked at cost only themselves."""
    bad = BadString("x")
    otelbridge.event(bad, input=object(), level=bad, metadata={"k": bad, "n": float("nan"), 3: []})
    otelbridge.performance("x", "fast")  # type: ignore[arg-type]
    otelbridge.performance("x", -1, metadata=7)  # type: ignore[arg-type]
    otelbridge.performance("x", 1, metadata=7)  # type: ignore[arg-type]
    otelbridge.query_quality(7)
    otelbridge.error_analysis(bad)
    otelbridge.metric("", "many", kind="counter")  # type: ignore[arg-type]
    otelbridge.metric("x", 1, kind="dial")  # type: ignore[arg-type]
    otelbridge.event("last")
    assert spans.all[-1].name == "last"
