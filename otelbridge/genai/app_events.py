"""What the application has to say beside its calls: events, figures of its own, one call each.

An event is an observation of type `event` in Langfuse (a span without duration) and, in Tempo, that
span and a span event on the span that was current. Figures go to the service's MeterProvider as
well; without one they do nothing there. Names and categories are those that teams use already
(`performance_metric`, `error_analysis`, `query_quality`; docs/events.md). Never raises.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from typing import Any, Final, Literal

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otelbridge import _guard, request_ids, semconv
from otelbridge._guard import guard
from otelbridge._version import __version__
from otelbridge.context import flatten_metadata
from otelbridge.genai._span import Call, error_type
from otelbridge.genai._values import (
    attribute_value,
    content_text,
    optional_text,
    text_of,
    to_float,
)

MetricKind = Literal["counter", "histogram", "gauge"]
#: Instruments; docs/events.md.
DURATION: Final = "otelbridge.app.duration"
ERRORS: Final = "otelbridge.app.errors"
QUALITY: Final = "otelbridge.app.query_quality"
_SCOPE: Final = "otelbridge.app"
_NAME: Final = "otelbridge.app.name"
_CATEGORY: Final = "otelbridge.app.category"
_LEVELS: Final = ("DEBUG", "DEFAULT", "WARNING", "ERROR")
_OTHER: Final = "other"
#: Values that a label of ours may have in this process.
_MAX_LABELS: Final = 100
_MAX_INSTRUMENTS: Final = 1_000
#: Shares from 0 to 1; seconds up to a few minutes.
_QUALITY_BOUNDS: Final = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
_SECONDS_BOUNDS: Final = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0]
_BAD_IN_NAME: Final = re.compile(r"[^-_./a-zA-Z0-9]")
_lock: Final = _guard.fork_safe_lock()
_instruments: dict[tuple[str, str, str], Any] = {}
_labels: dict[str, set[str]] = {}


def event(
    name: str,
    *,
    input: object = None,
    output: object = None,
    level: str = "DEFAULT",
    status_message: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> None:
    """Say that something happened in this request: `event("query_completed", output=rows)`.

    Args:
        name: Of a kind of events: `query_completed`, `streaming_step`.
        input, output: Content: for Langfuse alone, and only while content is captured.
        level: `DEBUG`, `DEFAULT`, `WARNING` or `ERROR`; another word counts as `DEFAULT`.
        metadata: In both stores; nested mappings become dotted keys, numbers stay numbers.
        request_id: Outside of a request: the request of this process that it belongs to. Without a
            trace it makes a small one of its own.
    """
    with guard("event"):
        facts = _facts(metadata)
        shown = text_of(level).upper()
        shown = shown if shown in _LEVELS else "DEFAULT"
        current = trace.get_current_span()
        if current.is_recording():
            current.add_event(text_of(name), {"level": shown, **facts})
        token = _attach(request_id) if not current.get_span_context().is_valid else None
        try:
            _observation(name, input, output, shown, status_message, facts)
        finally:
            if token is not None:
                otel_context.detach(token)


def performance(
    name: str,
    seconds: float,
    *,
    slow_seconds: float = 5.0,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """How long a step of the application took: event `performance_metric`, histogram in seconds.

    Args:
        name: Of the step; the metric knows the first hundred, the rest is `other`.
        slow_seconds: From here on the category is `slow`, below it `fast`.
    """
    took = to_float(seconds)
    if took is None or took < 0:
        _guard.count("performance: no duration")
        return
    category = "slow" if took >= slow_seconds else "fast"
    facts = {"name": text_of(name), "execution_time_ms": took * 1000, "category": category}
    event("performance_metric", metadata=_joined(facts, metadata))
    with guard("performance metric"):
        labels = {_NAME: _label(_NAME, text_of(name)), _CATEGORY: category}
        _instrument("histogram", DURATION, "s", _SECONDS_BOUNDS).record(took, labels)


def error_analysis(
    error: BaseException | str,
    *,
    message: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """An error that the application handled: event `error_analysis` of level ERROR, a counter.

    Args:
        error: An exception, or the name of a kind of error with `message`.
    """
    with guard("error_analysis"):
        facts: dict[str, Any] = {"error_type": text_of(error), "error_message": message}
        if isinstance(error, BaseException):
            stack = "".join(traceback.format_exception(error))
            facts = {
                "error_type": error_type(error),
                "error_message": text_of(error) if message is None else message,
                "stack_trace": text_of(stack),
            }
        event(
            "error_analysis",
            level="ERROR",
            status_message=f"{facts['error_type']}: {facts['error_message'] or ''}",
            metadata=_joined(facts, metadata),
        )
        kind = _label(semconv.ERROR_TYPE, facts["error_type"])
        _instrument("counter", ERRORS, "{error}").add(1, {semconv.ERROR_TYPE: kind})


def query_quality(
    score: float, *, query: object = None, metadata: Mapping[str, Any] | None = None
) -> None:
    """How good a generated query was, from 0 to 1: event `query_quality`, histogram.

    The category is `high` above 0.8, `medium` above 0.5, else `low`. It is no score in Langfuse;
    `otelbridge.score` makes one.

    Args:
        query: Content, as the input of `event`.
    """
    value = to_float(score)
    if value is None or not 0 <= value <= 1:
        _guard.count("query_quality: not from 0 to 1")
        return
    category = "high" if value > 0.8 else "medium" if value > 0.5 else "low"
    facts = {"score": value, "category": category}
    event("query_quality", input=query, metadata=_joined(facts, metadata))
    with guard("query quality metric"):
        _instrument("histogram", QUALITY, "1", _QUALITY_BOUNDS).record(value, {_CATEGORY: category})


def metric(
    name: str,
    value: float = 1,
    *,
    kind: MetricKind = "counter",
    unit: str = "1",
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """A figure of the business: `metric("orders.value", 39.90, kind="histogram", unit="USD")`.

    Goes to the service's MeterProvider, and onto the current span as metadata `metric.<name>`, in
    both stores.

    Args:
        value: Added (`counter`, 0 or more), recorded (`histogram`) or set (`gauge`).
        attributes: Labels: few values each, no ids.
    """
    with guard("metric"):
        number = to_float(value)
        if kind not in ("counter", "histogram", "gauge"):
            _guard.count("metric: kind is none of counter, histogram and gauge")
            return
        if number is None or (kind == "counter" and number < 0):
            _guard.count("metric: no number, or below 0 for a counter")
            return
        clean = _BAD_IN_NAME.sub("_", text_of(name))[:200]
        labels = {text_of(key): attribute_value(item) for key, item in (attributes or {}).items()}
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute(
                f"{semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX}metric.{clean}", number
            )
        instrument = _instrument(kind, clean, text_of(unit))
        write = {"counter": "add", "histogram": "record", "gauge": "set"}[kind]
        getattr(instrument, write)(number, labels)


def _observation(
    name: object,
    given: object,
    output: object,
    level: str,
    status_message: str | None,
    facts: Mapping[str, Any],
) -> None:
    prefix = semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX
    identity = {
        semconv.LANGFUSE_OBSERVATION_LEVEL: level,
        semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE: optional_text(status_message),
        **{prefix + key: value for key, value in facts.items()},
    }
    contents = (
        (semconv.LANGFUSE_OBSERVATION_INPUT, given),
        (semconv.LANGFUSE_OBSERVATION_OUTPUT, output),
    )

    def content() -> dict[str, Any]:
        return {key: content_text(value) for key, value in contents if value is not None}

    call = Call(name, observation_type="event", identity=lambda: identity, content=content)
    with call:
        pass


def _attach(request_id: str | None) -> Any:
    """Make the request's trace current; a token, None where the request is not known here."""
    seen = request_ids.trace_of(request_id) if request_id else None
    if seen is None:
        return None
    parent = SpanContext(
        int(seen.trace_id, 16), int(seen.span_id, 16), False, TraceFlags(TraceFlags.SAMPLED)
    )
    return otel_context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))


def _facts(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata as attributes: nested keys dotted, numbers and booleans as they are."""
    if not metadata:
        return {}
    found: dict[str, Any] = dict(flatten_metadata(metadata))
    for key, value in metadata.items():
        if isinstance(value, bool | int | float) and text_of(key) in found:
            found[text_of(key)] = attribute_value(value)
    return {text_of(key): attribute_value(value) for key, value in found.items()}


def _joined(facts: Mapping[str, Any], more: object) -> dict[str, Any]:
    """Facts of ours and of the caller, whose names win; what is no mapping is left out."""
    with guard("metadata"):
        return {**facts, **(more if isinstance(more, Mapping) else {})}
    return dict(facts)


def _label(key: str, value: str) -> str:
    with _lock:
        known = _labels.setdefault(key, set())
        if value not in known and len(known) >= _MAX_LABELS:
            return _OTHER
        known.add(value)
    return value[:200]


def _instrument(kind: str, name: str, unit: str, bounds: list[float] | None = None) -> Any:
    """The instrument of the API: works with a MeterProvider that is set later."""
    key = (kind, name, unit)
    with _lock:
        if key not in _instruments:
            if len(_instruments) >= _MAX_INSTRUMENTS:
                raise ValueError("more names of metrics than an application has")
            meter = metrics.get_meter(_SCOPE, __version__)
            if kind == "histogram":
                _instruments[key] = meter.create_histogram(
                    name, unit, explicit_bucket_boundaries_advisory=bounds
                )
            elif kind == "gauge":
                _instruments[key] = meter.create_gauge(name, unit)
            else:
                _instruments[key] = meter.create_counter(name, unit)
        return _instruments[key]
