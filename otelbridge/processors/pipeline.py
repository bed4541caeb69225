"""The span processor of otelbridge: stamps a starting span, settles an ended one, hands it on.

One processor instead of several, so that a span pays for one attribute write at its start and at
most one copy at its end. `provider` puts the export path behind it. Never raises into the host.
"""

from __future__ import annotations

import copy
from collections.abc import ItemsView, Iterator, Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, StatusCode
from opentelemetry.util.types import AttributeValue

from otelbridge import _guard, policy, semconv
from otelbridge.processors.context import (
    ContextAttributes,
    both_provider_names,
    clean_urls,
    entry_attributes,
)
from otelbridge.processors.llm_view import ViewMarks


class ExportPath(SpanProcessor):
    """A span processor that exports and can be told how long its end may take."""

    def end(self, timeout_seconds: float | None = None) -> bool:
        """Deliver what waits, for so long or for as long as set up; whether nothing was lost."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """End within the time that was set up."""
        self.end()


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
        self._legacy = legacy_gen_ai_system
        self._capture_content = capture_content
        self._next = next_processor
        self._is_shut_down = False

    @_guard.guarded("span start", None)
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp the span; see `ContextAttributes.at_start` and `ViewMarks.at_start`."""
        if self._is_shut_down:  # another one of ours may follow on the same provider
            return
        context = otel_context.get_current() if parent_context is None else parent_context
        # A copy: every look-up in the SDK's own mapping costs a microsecond.
        present: dict[str, Any] = dict(span.attributes or {})
        marks, node = self._marks.at_start(span, context, present)
        gen_ai = policy.is_gen_ai(present)
        attributes = self._context.at_start(present, context, gen_ai=gen_ai)
        if node.is_entry:
            attributes.update(entry_attributes(context))
        attributes.update(marks)
        span.set_attributes(attributes)

    def on_end(self, span: ReadableSpan) -> None:
        """Settle the span and hand it on."""
        if self._is_shut_down:
            return
        settled = self._settle(span)
        if self._next is not None:
            # What could not be looked through leaves with nothing that could be a secret.
            self._next.on_end(_bare(span) if settled is None else settled)

    @_guard.guarded("span end", None)
    def _settle(self, span: ReadableSpan) -> ReadableSpan | None:
        """The span as it is to leave; None, by the guard, when that failed."""
        present: dict[str, Any] = dict(span.attributes or {})
        changes = self._marks.at_end(span, present)
        if self._legacy:
            changes.update(both_provider_names(present))
        changes.update(clean_urls(present))
        if span.status.status_code is StatusCode.ERROR and semconv.ERROR_TYPE not in present:
            changes.update(_error_type(span))
        if not self._capture_content and _has_content(span):
            return without_content(with_attributes(span, {**present, **changes}))
        return with_attributes(span, {**present, **changes}) if changes else span

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

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Ask the export path to deliver what it holds."""
        return self._next.force_flush(timeout_millis) if self._next is not None else True


def _bare(span: ReadableSpan) -> ReadableSpan:
    """Name, ids and times alone, kept out of the LLM view."""
    return with_attributes(span, {semconv.LLM_KEEP: False}, events=(), links=())


def _error_type(span: ReadableSpan) -> dict[str, AttributeValue]:
    """`error.type` from the last exception event, for libraries that only record the event."""
    for event in reversed(span.events):
        kind = (event.attributes or {}).get(semconv.EXCEPTION_TYPE)
        if event.name == semconv.EXCEPTION_EVENT and isinstance(kind, str):
            return {semconv.ERROR_TYPE: kind}
    return {}


def with_attributes(
    span: ReadableSpan, attributes: Mapping[str, AttributeValue], **fields: Any
) -> ReadableSpan:
    """A copy of an ended span with other attributes; `fields` replaces further constructor fields.

    An ended span takes no attributes and its attribute mapping is shared with other processors, so
    every later change is made on a copy. The values must be of OTLP's types already.
    """
    values: dict[str, Any] = {
        "name": span.name,
        "context": span.context,
        "parent": span.parent,
        "resource": span.resource,
        "attributes": _SettledAttributes(dict(attributes), span.dropped_attributes),
        "events": span.events,
        "links": span.links,
        "kind": span.kind,
        "status": span.status,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "instrumentation_scope": span.instrumentation_scope,
    }
    return ReadableSpan(**(values | fields))


class _SettledAttributes(BoundedAttributes):
    """Attributes that the SDK has checked before, which its own type would do once more (15 us)."""

    def __init__(self, values: dict[str, Any], dropped: int) -> None:
        super().__init__(immutable=True)
        self._values = values
        self.dropped = dropped

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def __deepcopy__(self, memo: dict[int, Any]) -> _SettledAttributes:
        return _SettledAttributes(copy.deepcopy(self._values, memo), self.dropped)

    def items(self) -> ItemsView[str, Any]:
        """As of a dictionary: exporters read all of them."""
        return self._values.items()

    def copy(self) -> dict[str, Any]:
        """A dictionary that the caller may change."""
        return dict(self._values)


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
