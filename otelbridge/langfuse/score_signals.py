"""A score as telemetry: an event on the open span, a short span of its own, two metrics.

The event is semconv's `gen_ai.evaluation.result`. The span is a trace of its own with a link to the
judged one, so that feedback of tomorrow does not make yesterday's trace a day long; it is no gen_ai
span, so only Tempo gets it. Metrics are bounded: each label has a number of values, the rest is
`other`. Langfuse's copy of the score is `score_delivery`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, TraceFlags

from otelbridge import _guard, request_ids, semconv
from otelbridge._version import __version__
from otelbridge.langfuse.score_body import Score

SCOPE: Final = "otelbridge.score"
#: Metric names; docs/metrics.md.
VALUES: Final = "otelbridge.score.value"
COUNTS: Final = "otelbridge.scores"
OTHER: Final = "other"
_VARIANT_LABEL: Final = "otelbridge.variant"
_SCORE_REQUEST_ID: Final = "otelbridge.score.request_id"
_SCORE_SESSION_ID: Final = "otelbridge.score.session_id"
#: Of scores from 0 to 1, from 1 to 5 and in percent.
_BOUNDS: Final = (
    0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 3, 4, 5, 10, 25, 50, 75, 90, 100,
)  # fmt: skip
#: Values that a label may have in this process.
_LIMITS: Final = {
    semconv.GEN_AI_EVALUATION_NAME: 100,
    semconv.GEN_AI_EVALUATION_SCORE_LABEL: 100,
    semconv.GEN_AI_PROMPT_NAME: 100,
    semconv.GEN_AI_PROMPT_VERSION: 100,
    _VARIANT_LABEL: 50,
}
_MAX_LABEL_CHARACTERS: Final = 100
_lock: Final = _guard.fork_safe_lock()
_known: dict[str, set[str]] = {}
_instruments: dict[str, Any] = {}


def evaluation_attributes(score: Score, *, content: bool) -> dict[str, Any]:
    """The `gen_ai.evaluation.*` attributes of a score; the reason where content is recorded."""
    found: dict[str, Any] = {
        semconv.GEN_AI_EVALUATION_NAME: score.name,
        semconv.GEN_AI_EVALUATION_SCORE_VALUE: score.number,
        semconv.GEN_AI_EVALUATION_SCORE_LABEL: score.label,
        semconv.GEN_AI_EVALUATION_EXPLANATION: (score.comment or None) if content else None,
    }
    return {key: value for key, value in found.items() if value is not None}


@_guard.guarded("score event", False)
def add_event(span: Span, score: Score, *, content: bool) -> bool:
    """The event on the judged span; False when that has ended."""
    if not span.is_recording():
        return False
    span.add_event(
        semconv.GEN_AI_EVALUATION_RESULT_EVENT, evaluation_attributes(score, content=content)
    )
    return True


@_guard.guarded("score span", None)
def make_span(
    score: Score,
    request: Mapping[str, Any],
    *,
    content: bool,
    event: bool,
    langfuse_url: str | None = None,
    judged_span_id: str = "",
) -> None:
    """The span of a score, `score <name>`, from the moment that it was given.

    Args:
        request: Attributes of the judged request that are known: user, session, variant.
        event: Also with the event, for a score that came after its span's end.
        langfuse_url: Page of the judged trace.
        judged_span_id: A span of the judged trace, for the link of a score of the whole trace.
    """
    target = score.target
    attributes: dict[str, Any] = {
        **request,
        **score.facts,
        **evaluation_attributes(score, content=content),
        semconv.SCORE_ID: score.id,
        semconv.SCORE_TRACE_ID: target.trace_id,
        _SCORE_REQUEST_ID: target.request_id,
        _SCORE_SESSION_ID: target.session_id,
        semconv.LANGFUSE_URL: langfuse_url,
    }
    attributes = {key: value for key, value in attributes.items() if value not in (None, "")}
    tracer = trace.get_tracer(SCOPE, __version__)
    name = f"score {_bounded(semconv.GEN_AI_EVALUATION_NAME, score.name)}"
    span = tracer.start_span(
        name,
        context=Context(),  # a root: neither the request's trace nor its LLM view
        links=_links(score, judged_span_id),
        attributes=attributes,
        start_time=score.time_ns,
    )
    if event:
        add_event(span, score, content=content)
    span.end(score.time_ns + 1_000_000)  # a moment: spans of no length are hard to see


def _links(score: Score, judged_span_id: str) -> list[Link]:
    target = score.target
    if not target.trace_id:
        return []
    # A link may lack the span (OpenTelemetry specification, "Link"): the whole trace is meant.
    known = target.span_id or request_ids.span_of(target.trace_id) or judged_span_id
    context = SpanContext(
        int(target.trace_id, 16), int(known or "0", 16), is_remote=True, trace_flags=TraceFlags(1)
    )
    return [Link(context, {semconv.GEN_AI_EVALUATION_NAME: score.name})]


@_guard.guarded("score metrics", None)
def count(score: Score) -> None:
    """Add a score to `otelbridge.scores`, and its number to `otelbridge.score.value`."""
    labels = {
        semconv.GEN_AI_EVALUATION_NAME: score.name,
        semconv.GEN_AI_PROMPT_NAME: score.facts.get(semconv.GEN_AI_PROMPT_NAME),
        semconv.GEN_AI_PROMPT_VERSION: score.facts.get(semconv.GEN_AI_PROMPT_VERSION),
        _VARIANT_LABEL: score.facts.get(semconv.VARIANT),
    }
    known = {key: _bounded(key, value) for key, value in labels.items() if value is not None}
    instruments = _made()
    if (number := score.number) is not None:
        instruments[VALUES].record(number, known)
    if score.label is not None:
        key = semconv.GEN_AI_EVALUATION_SCORE_LABEL
        known = {**known, key: _bounded(key, score.label)}
    instruments[COUNTS].add(1, known)


def _bounded(key: str, value: object) -> str:
    text = str(value)[:_MAX_LABEL_CHARACTERS]
    with _lock:
        known = _known.setdefault(key, set())
        if text not in known:
            if len(known) >= _LIMITS[key]:
                return OTHER
            known.add(text)
    return text


def _made() -> dict[str, Any]:
    with _lock:
        if not _instruments:
            # Of the API: with no MeterProvider they do nothing, with a later one they count then.
            meter = metrics.get_meter("otelbridge", __version__)
            _instruments[COUNTS] = meter.create_counter(COUNTS, "{score}", "Scores that were given")
            _instruments[VALUES] = meter.create_histogram(
                VALUES, "1", "Scores that are numbers",
                explicit_bucket_boundaries_advisory=_BOUNDS,
            )  # fmt: skip
        return _instruments
