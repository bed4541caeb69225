"""The span processor of otelbridge: stamps a starting span, settles an ended one, hands it on.

One processor instead of several, so that a span pays for one attribute write at its start and at
most one copy at its end. `provider` puts the export path behind it. Never raises into the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, StatusCode, format_span_id, format_trace_id
from opentelemetry.util.types import AttributeValue

from otelbridge import _guard, budgets, policy, request_ids, semconv, view
from otelbridge.budgets import spending
from otelbridge.context import with_updates
from otelbridge.processors import one_price
from otelbridge.processors.context import (
    ContextAttributes,
    both_provider_names,
    clean_urls,
)
from otelbridge.processors.llm_view import ViewMarks, marks_of
from otelbridge.processors.sdk_spans import raw_attributes, stamp, with_attributes


class ExportPath(SpanProcessor):
    """A span processor that exports and can be told how long its end may take."""

    #: Whether `Settling` is a step of it, in its worker: it takes spans that are not settled.
    settles = False

    def end(self, timeout_seconds: float | None = None) -> bool:
        """Deliver what waits, for so long or for as long as set up; whether nothing was lost."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """End within the time that was set up."""
        self.end()


class Settling:
    """What an ended span gets that can wait: pure, a span in, the span to go on with out.

    The first step of an export path, in its worker; done at once in front of anything else. A span
    that cannot be looked through leaves with nothing that could be a secret.

    Args:
        legacy_gen_ai_system: Also write the deprecated `gen_ai.system`, and the other way round.
        capture_content: False takes message content off every span, whoever wrote it there.
    """

    def __init__(self, *, legacy_gen_ai_system: bool, capture_content: bool) -> None:
        self._legacy = legacy_gen_ai_system
        self._capture_content = capture_content

    def __call__(self, span: ReadableSpan) -> ReadableSpan:
        """The span as it is to leave."""
        try:
            return self._settled(span)
        except Exception as error:
            _guard.record_failure("span end", error)
            if _guard.reraise:
                raise
            return _bare(span)

    def _settled(self, span: ReadableSpan) -> ReadableSpan:
        present = raw_attributes(span)
        if policy.is_gen_ai(present):
            one_price.leaving(span)
        changes = both_provider_names(present) if self._legacy else {}
        changes.update(clean_urls(present))
        if span.status.status_code is StatusCode.ERROR and semconv.ERROR_TYPE not in present:
            changes.update(_error_type(span))
        settled = with_attributes(span, {**present, **changes}) if changes else span
        if not self._capture_content and _has_content(settled):
            return without_content(settled)
        return settled


class BridgeSpanProcessor(ExportPath):
    """Adds request context and view marks to every span, then passes it to the export path.

    Args:
        context: Request, environment and release attributes.
        marks: The LLM view.
        legacy_gen_ai_system: Also write the deprecated `gen_ai.system`, and the other way round.
        capture_content: False takes message content off every span, whoever wrote it there.
        next_processor: Gets the settled spans; None where another component exports.
    """

    def __init__(
        self,
        *,
        context: ContextAttributes,
        marks: ViewMarks,
        legacy_gen_ai_system: bool = True,
        capture_content: bool = True,
        next_processor: SpanProcessor | None = None,
    ) -> None:
        self._context = context
        self._marks = marks
        self._settling = Settling(
            legacy_gen_ai_system=legacy_gen_ai_system, capture_content=capture_content
        )
        self._next = next_processor
        self._is_shut_down = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp the span; see `ContextAttributes.at_start` and `ViewMarks.at_start`."""
        if self._is_shut_down:  # another one of ours may follow on the same provider
            return
        try:
            context = otel_context.get_current() if parent_context is None else parent_context
            present = raw_attributes(span)
            gen_ai = policy.is_gen_ai(present)
            node = self._marks.at_start(span, context, gen_ai=gen_ai)
            if node.entry.counted_by_caller:
                one_price.at_start(node)
            else:
                node.call = one_price.UNTOLD
            if node.entry.updates:
                context = with_updates(context, node.entry)
            marks = marks_of(node)
            attributes = self._context.at_start(present, context, gen_ai=gen_ai)
            if attributes:
                span.set_attributes({**attributes, **marks})
            else:
                stamp(span, marks)
            if node.is_entry and semconv.REQUEST_ID in attributes:
                _remember_request(span, attributes)
        except Exception as error:  # not `guarded`: every span would pay for its call
            _guard.record_failure("span start", error)
            if _guard.reraise:
                raise

    def on_end(self, span: ReadableSpan) -> None:
        """Settle the span and hand it on."""
        if self._is_shut_down:
            return
        following = self._next
        settled = span
        try:
            context = span.context
            node = view.node_by_id(context.span_id) if context is not None else None
            present = raw_attributes(span)
            gen_ai = policy.is_gen_ai(present)
            changes = self._marks.at_end(span, node, present, gen_ai=gen_ai)
            if gen_ai or semconv.VARIANT in present:
                settled = _judged(span, node, present, changes, gen_ai=gen_ai)
            elif changes:
                settled = with_attributes(span, {**present, **changes})
            if following is None:
                one_price.leaving(span)
            elif not getattr(following, "settles", False):
                settled = self._settling(settled)
        except Exception as error:  # not `guarded`, as above
            _guard.record_failure("span end", error)
            if _guard.reraise:
                raise
            settled = _bare(span)
        if following is not None:
            following.on_end(settled)

    def end(self, timeout_seconds: float | None = None) -> bool:
        """Shut the export path down; spans that start or end from now on are left alone.

        Args:
            timeout_seconds: For an `ExportPath`; None leaves it to that.
        Returns:
            Whether everything was delivered or is safe in the spool.
        """
        self._is_shut_down, was_shut_down = True, self._is_shut_down
        if self._next is None or was_shut_down:
            return True
        if isinstance(self._next, ExportPath):
            return self._next.end(timeout_seconds)
        self._next.shutdown()
        return True

    @property
    def is_shut_down(self) -> bool:
        """Whether spans pass it by."""
        return self._is_shut_down

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Ask the export path to deliver what it holds."""
        return self._next.force_flush(timeout_millis) if self._next is not None else True


def _judged(
    span: ReadableSpan,
    node: view.Node | None,
    present: Mapping[str, Any],
    changes: Mapping[str, AttributeValue] | None,
    *,
    gen_ai: bool,
) -> ReadableSpan:
    """An ended span with its changes, once prompt, price and budgets have taken note of it."""
    if not request_ids.JUDGED_KEYS.isdisjoint(present):
        request_ids.note_judged(_trace_id(span), present)
    figures = one_price.at_end(span, node, present) if gen_ai and node is not None else None
    is_booked = gen_ai and budgets.in_force()
    if not changes and not figures and not is_booked:
        return span
    one_price.leaving(span)
    settled = {**present, **(changes or {})}
    if figures:
        settled = {k: v for k, v in (settled | figures).items() if v is not None}
    if is_booked:
        settled.update(spending.at_end(settled, span.start_time) or {})
    return with_attributes(span, settled)


def _bare(span: ReadableSpan) -> ReadableSpan:
    """Name, ids and times alone, kept out of the LLM view."""
    return with_attributes(span, {semconv.LLM_KEEP: False}, events=(), links=())


def _remember_request(span: Span, attributes: Mapping[str, AttributeValue]) -> None:
    context = span.get_span_context()
    if context is not None:
        trace_id, span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
        request_ids.remember(str(attributes[semconv.REQUEST_ID]), trace_id, span_id)


def _trace_id(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id) if span.context is not None else ""


def _error_type(span: ReadableSpan) -> dict[str, AttributeValue]:
    """`error.type` from the last exception event, for libraries that only record the event."""
    for event in reversed(span.events):
        kind = (event.attributes or {}).get(semconv.EXCEPTION_TYPE)
        if event.name == semconv.EXCEPTION_EVENT and isinstance(kind, str):
            return {semconv.ERROR_TYPE: kind}
    return {}


def _has_content(span: ReadableSpan) -> bool:
    return any(policy.is_content_key(key) for key in span.attributes or {}) or bool(
        span.events or span.links
    )


def without_content(span: ReadableSpan, **fields: Any) -> ReadableSpan:
    """A copy without message content in attributes, events and links, marked if any was there.

    `fields` replaces further constructor fields of the copy.
    """
    attributes, removed = policy.tempo_attributes(span.attributes or {})
    events = [event for event in span.events if not policy.is_content_event(event.name)]
    cleaned_events = [_clean_event(event) for event in events]
    cleaned_links = [_clean_link(link) for link in span.links]
    removed = (
        removed
        or len(events) != len(span.events)
        or any(flag for _, flag in cleaned_events)
        or any(flag for _, flag in cleaned_links)
    )
    if removed:
        attributes[semconv.CONTENT_REMOVED] = True
    return with_attributes(
        span,
        attributes,
        events=[event for event, _ in cleaned_events],
        links=[link for link, _ in cleaned_links],
        **fields,
    )


def _clean_event(event: Event) -> tuple[Event, bool]:
    attributes, removed = policy.tempo_attributes(event.attributes or {})
    return (Event(event.name, attributes, event.timestamp) if removed else event), removed


def _clean_link(link: Link) -> tuple[Link, bool]:
    attributes, removed = policy.tempo_attributes(link.attributes or {})
    return (Link(link.context, attributes) if removed else link), removed
