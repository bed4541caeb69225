"""`X-Langfuse-Trace-Id`, `X-Langfuse-Parent-Observation-Id`: the trace of services without W3C's.

`propagation` reads them where no valid traceparent came, and writes them when told to. Ids become
those of OpenTelemetry: a UUID loses its dashes, an observation id that is not 16 hex digits is
dropped and the trace kept. `ContinuingIds` gives the first span of such a request its trace id,
which OpenTelemetry can only take from a parent.
"""

from __future__ import annotations

import re
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

from otelbridge import semconv, view

TRACE_HEADER: Final = "X-Langfuse-Trace-Id"
PARENT_HEADER: Final = "X-Langfuse-Parent-Observation-Id"
#: Lower case, as carriers without a case of their own are asked.
NAMES: Final = (TRACE_HEADER.lower(), PARENT_HEADER.lower())

#: Context key of a trace id (int) that goes on without a parent.
_TRACE_KEY: Final = "otelbridge.legacy_trace_id"
_TRACE_ID: Final = re.compile(
    r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")


def trace_id_of(value: object) -> str | None:
    """A trace id as 32 lower-case hex digits; None for anything but those or a UUID."""
    text = value.strip().lower() if isinstance(value, str) else ""
    digits = text.replace("-", "") if _TRACE_ID.fullmatch(text) else ""
    return digits if digits.strip("0") else None


def span_id_of(value: object) -> str | None:
    """An observation id as 16 lower-case hex digits; None for anything else."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _SPAN_ID.fullmatch(text) and text.strip("0") else None


def continued(trace_id: object, parent_id: object, context: Context) -> Context:
    """A context in which the next span is of this trace, below this observation if it has one.

    Args:
        trace_id, parent_id: As sent; a trace id that is none leaves the context as it is.
    """
    trace_digits, parent = trace_id_of(trace_id), span_id_of(parent_id)
    if trace_digits is None:
        return context
    if parent is None:
        # The context's own span, if any, would be taken for the parent.
        bare = trace.set_span_in_context(trace.INVALID_SPAN, context)
        return otel_context.set_value(_TRACE_KEY, int(trace_digits, 16), bare)
    # Langfuse has the observation from the service that named it: a parent in the view.
    member = (semconv.TRACESTATE_MEMBER, str(view.Member(parent, parent, firm=True)))
    remote = SpanContext(
        int(trace_digits, 16),
        int(parent, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState([member]),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), context)


def read(carrier: Any, context: Context, getter: Getter[Any]) -> Context:
    """The context that the two headers of a request speak of; the given one without them."""
    found = [getter.get(carrier, name) or [] for name in NAMES]
    # A header that came twice names nothing.
    trace_id, parent_id = (values[0] if len(values) == 1 else None for values in found)
    return continued(trace_id, parent_id, context)


def write(carrier: Any, context: Context, setter: Setter[Any]) -> None:
    """Put the current trace, and who in Langfuse is the parent of what comes, into a carrier."""
    span = trace.get_current_span(context)
    own = span.get_span_context()
    if not own.is_valid:
        return
    setter.set(carrier, TRACE_HEADER, trace.format_trace_id(own.trace_id))
    member = view.parse_member(own.trace_state.get(semconv.TRACESTATE_MEMBER))
    node = view.node_by_id(own.span_id)
    name = node.name_below() if node is not None else None
    parent = member.view_parent if member is not None else name.span_id if name else None
    if parent is not None:
        setter.set(carrier, PARENT_HEADER, parent)


class ContinuingIds(IdGenerator):
    """The ids of another generator, but for the first span of a request that names its trace.

    Args:
        inner: Makes all other ids.
    """

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner

    def generate_span_id(self) -> int:
        """A new span id."""
        return self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        """The trace that the current context goes on with, else a new one."""
        given = otel_context.get_value(_TRACE_KEY)
        return given if isinstance(given, int) else self._inner.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Whether W3C's random flag may be set; ids of others promise nothing."""
        inner = getattr(self._inner, "is_trace_id_random", None)
        random = bool(inner()) if callable(inner) else False
        return random and otel_context.get_value(_TRACE_KEY) is None
