"""The rules of the Collector's two branches for raw OTLP spans.

`otelbridge.span_rules` says what becomes of attributes; here it is applied to protobuf messages for
`records`. A message is copied only when something in it changes, and none is changed in place. The
rules do not see attributes without a value; of several attributes with one key the last one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import policy, span_rules
from otelbridge.local.values import attributes_of, rewritten
from otelbridge.span_rules import Pages, Place

Attributes: TypeAlias = Mapping[str, Any]
#: The name of an event (empty for a link) and its attributes in, attributes out.
_PartRule: TypeAlias = Callable[[str, Attributes], Attributes]


class EnteredSpan:
    """A raw span at the end of the entry pipeline, before the branches part."""

    def __init__(self, span: Span, pages: Pages) -> None:
        self._span = span
        self._pages = pages
        self._before = _Attributes(span)
        self._entered = span_rules.entered(self._before.values)
        self._place = Place(span.trace_id.hex(), span.span_id.hex(), span.start_time_unix_nano)

    def for_tempo(self) -> tuple[Span, Attributes]:
        """The span as the Tempo branch sends it, and the attributes that its resource gets."""
        span = self._span
        removed = [any(policy.is_content_event(event.name) for event in span.events)]

        def cleaned(name: str, attributes: Attributes) -> Attributes:
            kept, had_content = span_rules.tempo_event(span_rules.entered_event(name, attributes))
            removed.append(had_content)
            return kept

        parts = _Parts(span, cleaned, keep_event=lambda name: not policy.is_content_event(name))
        attributes, owners = span_rules.tempo_span(
            self._entered, content_elsewhere=any(removed), place=self._place, pages=self._pages
        )
        return self._sent(attributes, parts), owners

    def for_langfuse(self) -> Span | None:
        """The span as the Langfuse branch sends it, None when it is outside of the LLM view."""
        span = self._span
        seen = span_rules.langfuse_span(
            self._entered, span.parent_span_id.hex(), place=self._place, pages=self._pages
        )
        if seen is None:
            return None
        attributes, parent = seen
        sent = self._sent(attributes, _Parts(span, span_rules.entered_event))
        if parent != span.parent_span_id.hex():
            if sent is span:
                sent = Span()
                sent.CopyFrom(span)
            sent.parent_span_id = bytes.fromhex(parent)
        return sent

    def _sent(self, attributes: Attributes, parts: _Parts) -> Span:
        span = self._span
        name = span_rules.entered_text(span.name)
        message = span_rules.entered_text(span.status.message)
        same_attributes = self._before.same(attributes)
        if same_attributes and parts.same and (name, message) == (span.name, span.status.message):
            return span
        sent = Span()
        sent.CopyFrom(span)
        if not same_attributes:
            self._before.put(attributes, sent)
        if name != span.name:
            sent.name = name
        if message != span.status.message:
            sent.status.message = message
        if not parts.same:
            del sent.events[:], sent.links[:]
            sent.events.extend(parts.events)
            sent.links.extend(parts.links)
        return sent


class _Parts:
    """The events and links of a span after a rule; `same` when nothing changed."""

    def __init__(
        self, span: Span, rule: _PartRule, keep_event: Callable[[str], bool] | None = None
    ) -> None:
        self.events = [
            _event(event, rule) for event in span.events if not keep_event or keep_event(event.name)
        ]
        self.links = [_link(link, rule) for link in span.links]
        self.same = len(self.events) == len(span.events) and all(
            after is before
            for afters, befores in ((self.events, span.events), (self.links, span.links))
            for after, before in zip(afters, befores, strict=True)
        )


def resource_for_tempo(resource: Resource, owners: Attributes) -> Resource:
    """The resource of spans with these owners, as the Tempo branch sends it."""
    return _resource(resource, lambda values: span_rules.tempo_resource(values, owners))


def resource_for_langfuse(resource: Resource) -> Resource:
    """The resource of spans as the Langfuse branch sends it."""
    return _resource(resource, span_rules.entered_resource)


class _Attributes:
    """The attributes of a message as values, and whether they can stay as they are."""

    def __init__(self, holder: Any) -> None:
        self._pairs = holder.attributes
        found = attributes_of(self._pairs)
        self._doubled = len(found) != len(self._pairs)
        if None in found.values():  # no value is no attribute
            found = {key: value for key, value in found.items() if value is not None}
        self.values = found

    def same(self, after: Attributes) -> bool:
        """Whether nothing changes with these values."""
        return after is self.values and not self._doubled

    def put(self, after: Attributes, copy: Any) -> None:
        """Give a copy of the message these values."""
        del copy.attributes[:]
        copy.attributes.extend(rewritten(self._pairs, self.values, after))


def _resource(resource: Resource, rule: Callable[[Attributes], Attributes]) -> Resource:
    before = _Attributes(resource)
    after = rule(before.values)
    if before.same(after):
        return resource
    sent = Resource()
    sent.CopyFrom(resource)
    before.put(after, sent)
    return sent


def _event(event: Span.Event, rule: _PartRule) -> Span.Event:
    before = _Attributes(event)
    after = rule(event.name, before.values)
    name = span_rules.entered_text(event.name)
    if before.same(after) and name == event.name:
        return event
    sent = Span.Event()
    sent.CopyFrom(event)
    sent.name = name
    before.put(after, sent)
    return sent


def _link(link: Span.Link, rule: _PartRule) -> Span.Link:
    before = _Attributes(link)
    after = rule("", before.values)
    if before.same(after):
        return link
    sent = Span.Link()
    sent.CopyFrom(link)
    before.put(after, sent)
    return sent
