"""What a score is given to: the arguments of `score` as one target, with what is known of it here.

Reads the current span, the request context and `request_ids`; asks no store (`resolving` does).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span

from otelbridge import context, request_ids, semconv
from otelbridge.langfuse.score_body import Target, clean
from otelbridge.links import parse_span_id

_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Judged:
    """A target, with what this process knows of it.

    Attributes:
        open_span: The judged span, or one of its trace, while it is open.
        request: Attributes of the request: user, session.
    """

    target: Target
    open_span: Span | None
    request: Mapping[str, Any]
    sampled: bool = True


def judged_of(
    trace_id: str | None,
    span: Span | None,
    session_id: str | None,
    request_id: str | None,
    dataset_run_id: str | None,
    span_id: str | None,
) -> Judged | None:
    """What `score` is to judge, by its arguments of these names; None for nothing usable.

    At most one of the first five is given; without any it is the current trace.
    """
    if session_id is not None:
        known = {semconv.SESSION_ID: str(session_id)}
        return Judged(Target(session_id=str(session_id)), None, known) if session_id else None
    if dataset_run_id is not None:
        return Judged(Target(dataset_run_id=str(dataset_run_id)), None, {})
    if span is not None:
        return _of_span(getattr(span, "span", span), whole_trace=False)
    if request_id is not None:
        return _of_request(str(request_id).strip())
    if trace_id is not None:
        return _of_trace(str(trace_id).strip(), span_id)
    return _of_span(trace.get_current_span(), whole_trace=True)


def _of_span(span: Span, *, whole_trace: bool) -> Judged | None:
    found = span.get_span_context()
    if not found.is_valid:
        return None
    target = Target(
        trace.format_trace_id(found.trace_id),
        "" if whole_trace else trace.format_span_id(found.span_id),
    )
    current = trace.get_current_span().get_span_context()
    request = _request_attributes() if current.trace_id == found.trace_id else {}
    return Judged(target, span, request, sampled=found.trace_flags.sampled)


def _of_trace(text: str, span_id: str | None) -> Judged | None:
    if _UUID.fullmatch(text):
        digits = text.replace("-", "")
    elif _TRACE_ID.fullmatch(text):
        digits = text
    else:
        return _of_request(text)
    if not digits.strip("0"):
        return None
    digits = digits.lower()
    # A request id that was made here looks like a trace id.
    if request_ids.span_of(digits) is None and request_ids.trace_of(text) is not None:
        return _of_request(text)
    try:
        target = Target(digits, parse_span_id(span_id) if span_id else "")
    except ValueError:  # of a caller of the application, perhaps
        return None
    current = trace.get_current_span()
    found = current.get_span_context()
    if trace.format_trace_id(found.trace_id) != digits:
        return Judged(target, None, {})
    here = not target.span_id or trace.format_span_id(found.span_id) == target.span_id
    return Judged(
        target, current if here else None, _request_attributes(), found.trace_flags.sampled
    )


def _of_request(request_id: str) -> Judged | None:
    if not request_id:
        return None
    request_id = clean(request_id)[: request_ids.MAX_CHARACTERS]
    seen = request_ids.trace_of(request_id)
    target = Target(seen.trace_id if seen is not None else "", request_id=request_id)
    current = trace.get_current_span()
    if context.request_id() == request_id and current.get_span_context().is_valid:
        found = current.get_span_context()
        target = replace(target, trace_id=trace.format_trace_id(found.trace_id))
        return Judged(target, current, _request_attributes(), found.trace_flags.sampled)
    return Judged(target, None, {})


def _request_attributes() -> dict[str, Any]:
    """User, session, tags and metadata of the request that is being served."""
    return dict(context.context_attributes(None))
