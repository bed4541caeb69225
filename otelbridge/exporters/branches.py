"""The two content policies in the service, for `direct` export: what the Collector does otherwise.

`TempoRule` makes every span one without message content, `LangfuseRule` the LLM view with its
parents rewritten; secrets are masked and names normalised in both. They apply
`otelbridge.span_rules` to the SDK's spans, in the own export path or in front of any exporter
(`tempo_branch`, `langfuse_branch`). A span that a rule fails on is left out and counted: it must
neither leave as it is nor cost its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.status import Status

from otelbridge import _guard, policy, span_rules
from otelbridge.processors.sdk_spans import with_attributes
from otelbridge.span_rules import NO_PAGES, Pages, Place

Rule = Callable[[ReadableSpan], ReadableSpan | None]
_Attributes = Mapping[str, Any]
#: The name of an event (empty for a link) and its attributes in, the attributes to send out.
PartRule = Callable[[str, _Attributes], _Attributes]
#: Resources with a user and session that are kept for their next span.
_RESOURCES: Final = 512


class Branch(SpanExporter):
    """An exporter that sends what a rule makes of the spans.

    Args:
        rule: A span in, the span to send out or None; pure.
        exporter: Where they go.
    """

    def __init__(self, rule: Rule, exporter: SpanExporter) -> None:
        self._rule = _guard.guarded("branch rule", None)(rule)
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Apply the rule and send what is left."""
        selected = [sent for span in spans if (sent := self._rule(span)) is not None]
        return self._exporter.export(selected) if selected else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


def tempo_branch(exporter: SpanExporter, pages: Pages = NO_PAGES) -> Branch:
    """An exporter behind `TempoRule`."""
    return Branch(TempoRule(pages), exporter)


def langfuse_branch(exporter: SpanExporter, pages: Pages = NO_PAGES) -> Branch:
    """An exporter behind `LangfuseRule`."""
    return Branch(LangfuseRule(pages), exporter)


class TempoRule:
    """Every span, without message content; its resource says so, and whose span it is."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._resources = _Resources(span_rules.tempo_resource)

    def __call__(self, span: ReadableSpan) -> ReadableSpan | None:
        """The span to send out, None to leave it out."""
        if span.context is None or not span.context.is_valid:
            return None
        events = [event for event in span.events if not policy.is_content_event(event.name)]
        removed = [len(events) != len(span.events)]

        def cleaned(name: str, attributes: _Attributes) -> _Attributes:
            kept, had_content = span_rules.tempo_event(span_rules.entered_event(name, attributes))
            removed.append(had_content)
            return kept

        sent_events = [_event(event, cleaned) for event in events]
        sent_links = [_link(link, cleaned) for link in span.links]
        kept, owners = span_rules.tempo_span(
            span_rules.entered(_plain(span.attributes)),
            content_elsewhere=any(removed),
            place=_place(span),
            pages=self._pages,
        )
        return with_attributes(
            span,
            kept,
            events=sent_events,
            links=sent_links,
            resource=self._resources.of(span.resource, owners),
            **_texts(span),
        )


class LangfuseRule:
    """The LLM view only: parents from the marks, nothing that misleads Langfuse."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._resources = _Resources(lambda attributes, _: span_rules.entered_resource(attributes))

    def __call__(self, span: ReadableSpan) -> ReadableSpan | None:
        """The span to send out, None to leave it out."""
        own = span.context
        attributes = _plain(span.attributes)
        if own is None or not own.is_valid or span_rules.surely_outside_the_view(attributes):
            return None
        true_parent = trace.format_span_id(span.parent.span_id) if span.parent else ""
        seen = span_rules.langfuse_span(
            span_rules.entered(attributes), true_parent, place=_place(span), pages=self._pages
        )
        if seen is None:
            return None
        sent, parent = seen
        return with_attributes(
            span,
            sent,
            parent=SpanContext(own.trace_id, int(parent, 16), False, own.trace_flags)
            if parent
            else None,
            events=[_event(event, span_rules.entered_event) for event in span.events],
            links=[_link(link, span_rules.entered_event) for link in span.links],
            resource=self._resources.of(span.resource, {}),
            **_texts(span),
        )


class _Resources:
    """The resource to send for the resource of a span and the owners of the span."""

    def __init__(self, rule: Callable[[_Attributes, _Attributes], _Attributes]) -> None:
        self._rule = rule
        self._source: Resource | None = None
        self._made: dict[str, Resource] = {}

    def of(self, resource: Resource, owners: _Attributes) -> Resource:
        # By identity: a process has one resource, and hashing one writes it as JSON each time.
        if self._source is not resource or len(self._made) > _RESOURCES:
            self._source, self._made = resource, {}
        key = repr(owners)  # tells 1 from "1"
        made = self._made.get(key)
        if made is None:
            made = Resource(dict(self._rule(resource.attributes, owners)), resource.schema_url)
            self._made[key] = made
        return made


def _plain(attributes: _Attributes | None) -> dict[str, Any]:
    # The SDK's own mapping takes a lock for each value; its copy is a plain dictionary.
    copy = getattr(attributes, "copy", None)
    plain: dict[str, Any] = dict(attributes or {}) if copy is None else copy()
    if None in plain.values():  # no value is no attribute
        plain = {key: value for key, value in plain.items() if value is not None}
    return plain


def _place(span: ReadableSpan) -> Place:
    own = span.context
    if own is None:
        raise ValueError("a span without ids")
    return Place(
        trace.format_trace_id(own.trace_id), trace.format_span_id(own.span_id), span.start_time or 0
    )


def _texts(span: ReadableSpan) -> dict[str, Any]:
    """Name and status with their secrets masked, where they hold any."""
    changed: dict[str, Any] = {}
    name = span_rules.entered_text(span.name)
    if name != span.name:
        changed["name"] = name
    message = span.status.description
    if message and (masked := span_rules.entered_text(message)) != message:
        changed["status"] = Status(span.status.status_code, masked)
    return changed


def _event(event: Event, rule: PartRule) -> Event:
    before = _plain(event.attributes)
    after = rule(event.name, before)
    name = span_rules.entered_text(event.name)
    if after is before and name == event.name:
        return event
    return Event(name, dict(after), event.timestamp)


def _link(link: Link, rule: PartRule) -> Link:
    before = _plain(link.attributes)
    after = rule("", before)
    return link if after is before else Link(link.context, dict(after))
