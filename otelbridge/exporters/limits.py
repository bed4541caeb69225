"""The most that one span may carry: a bound for each value, and one for all of them together.

`LimitedEncoder` does it in the worker of the export path, behind masking and the rules of the
branches: a secret of which the half is gone matches no pattern. What is cut says so in
`otelbridge.truncated`. How a value is cut: `cutting`. The marks of the LLM view are never cut, and
the resource is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link
from opentelemetry.trace.status import Status

from otelbridge import _guard, semconv
from otelbridge.exporters.cutting import Measure, cut, cut_plain, level_of, utf8_bytes
from otelbridge.exporters.encoding import EncodedSpan, SpanEncoder
from otelbridge.processors.sdk_spans import with_attributes

if TYPE_CHECKING:
    from otelbridge.settings import Settings

#: What a number counts, and an event or a link without its texts: no more than on the wire, so that
#: `Limits.harmless_bytes` is true.
_NUMBER_BYTES: Final = 4
_PART_BYTES: Final = 16
#: The note about what was cut, with its key.
_NOTE_BYTES: Final = 512
#: For the sake of the bound for a span no value is cut to less.
_LEAST_BYTES: Final = 256
_NEVER_CUT: Final = frozenset((semconv.LLM_KEEP, semconv.LLM_PARENT, semconv.TRUNCATED))


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; 0 and None mean that there is none.

    Attributes:
        value_bytes: One value of an attribute of a span, an event or a link, in bytes of UTF-8;
            also a name or a status message.
        span_bytes: All of them together, keys included.
        span_chars: One text of the span's attributes, in characters
            (`OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
        part_chars: The same in its events and links (`OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`).
    """

    value_bytes: int = 0
    span_bytes: int = 0
    span_chars: int | None = None
    part_chars: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those that the settings ask for."""
        return cls(
            value_bytes=settings.attribute_max_bytes,
            span_bytes=settings.span_max_bytes,
            span_chars=settings.span_attribute_length_limit,
            part_chars=settings.attribute_length_limit,
        )

    @property
    def harmless_bytes(self) -> int:
        """A span whose encoding is no longer than this has nothing to cut.

        Lets an encoder find out for the price of one comparison.
        """
        bounds = [bound for bound in (self.value_bytes, self.span_bytes) if bound]
        bounds += [chars for chars in (self.span_chars, self.part_chars) if chars is not None]
        return min(bounds, default=1 << 62)


def limited(span: ReadableSpan, limits: Limits) -> ReadableSpan:
    """The span itself if it is within the limits, else a copy that is.

    The copy has `otelbridge.truncated`: each key that was cut and its bytes before, as
    `key=bytes`, separated by spaces; keys of events behind the event's name and `/`. Limited once
    more, it stays as it is.
    """
    if _is_small(span, limits.harmless_bytes):
        return span
    work = _Work(span)
    work.cut_values(limits)
    if limits.span_bytes:
        room = limits.span_bytes
        if not work.cut_keys and work.size() <= room:
            return span
        work.cut_to(max(0, room - _NOTE_BYTES))
    return work.copy() if work.cut_keys else span


def _is_small(span: ReadableSpan, bound: int) -> bool:
    """Whether it is surely within the limits; sees most spans through without more objects."""
    if span.events or span.links:
        return False
    chars = len(span.name) + len(span.status.description or "")
    attributes: Any = span.attributes or {}
    for key, value in attributes.items():
        if type(value) is str:
            chars += len(key) + len(value)
        elif type(value) not in (int, float, bool):
            return False
    return chars * 4 <= bound  # UTF-8 has four bytes for a character at most


class LimitedEncoder(SpanEncoder):
    """Encodes spans within their limits; one comparison for a span that is small anyway.

    A span whose cutting fails leaves as it is: the failure is counted by the guard.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits, self._harmless_bytes = limits, limits.harmless_bytes

    def encode(self, span: ReadableSpan) -> EncodedSpan:
        """One ended span; raises as `SpanEncoder.encode` does."""
        encoded = super().encode(span)
        if len(encoded.data) <= self._harmless_bytes:
            return encoded
        with _guard.guard("span limits"):
            shorter = limited(span, self._limits)
            if shorter is not span:
                return super().encode(shorter)
        return encoded


class _Part:
    """Attributes of the span, of one of its events or links, and what stands before their keys."""

    __slots__ = ("attributes", "is_changed", "prefix")

    def __init__(self, attributes: Mapping[str, Any] | None, prefix: str = "") -> None:
        copy = getattr(attributes, "copy", None)  # the SDK's own mapping locks for each value
        self.attributes: dict[str, Any] = dict(attributes or {}) if copy is None else copy()
        self.prefix = prefix
        self.is_changed = False


class _Work:
    """One span on its way to its limits."""

    def __init__(self, span: ReadableSpan) -> None:
        self._span = span
        self._own = _Part(span.attributes)
        self._events = [(event, _Part(event.attributes, f"{event.name}/")) for event in span.events]
        self._links = [(link, _Part(link.attributes, "link/")) for link in span.links]
        self._name, self._message = span.name, span.status.description
        #: Key to bytes before.
        self.cut_keys: dict[str, int] = {}

    def _parts(self) -> Iterable[_Part]:
        yield self._own
        for _, part in (*self._events, *self._links):
            yield part

    def cut_values(self, limits: Limits) -> None:
        """Each value to the bounds for values."""
        for part in self._parts():
            chars = limits.span_chars if part is self._own else limits.part_chars
            if chars is not None:
                self._cut_part(part, chars, len)
            if limits.value_bytes:
                self._cut_part(part, limits.value_bytes, utf8_bytes)
        if limits.value_bytes:
            self._cut_texts(limits.value_bytes)

    def _cut_part(self, part: _Part, limit: int, measure: Measure) -> None:
        for key, value in part.attributes.items():
            if type(value) is str and len(value) * 4 <= limit:
                continue
            if not isinstance(value, str | bytes | Sequence | Mapping) or key in _NEVER_CUT:
                continue
            shorter = _shorter(value, limit, measure)
            if shorter is not value:
                self.cut_keys.setdefault(part.prefix + key, _size(value))
                part.attributes[key] = shorter
                part.is_changed = True

    def _cut_texts(self, limit: int) -> None:
        if utf8_bytes(self._name) > limit:
            self.cut_keys.setdefault("name", utf8_bytes(self._name))
            self._name = cut_plain(self._name, limit)
        if self._message and utf8_bytes(self._message) > limit:
            self.cut_keys.setdefault("status", utf8_bytes(self._message))
            self._message = cut_plain(self._message, limit)

    def size(self) -> int:
        """Bytes of all texts, and about those of the rest."""
        parts = sum([_part_size(part) for part in self._parts()])
        return parts + utf8_bytes(self._name) + utf8_bytes(self._message or "")

    def cut_to(self, room: int) -> None:
        """All together to the bound for the span: the longest values to one length."""
        excess = self.size() - room
        if excess <= 0:
            return
        sizes = [_size(value) for part in self._parts() for value in part.attributes.values()]
        level = max(level_of(sizes, excess), min(_LEAST_BYTES, room // 8))
        for part in self._parts():
            self._cut_part(part, level, utf8_bytes)
        self._cut_texts(level)
        self._leave_out(room)

    def _leave_out(self, room: int) -> None:
        """Where short values are not short enough: links, events, then the largest attributes."""
        excess = self.size() - room
        for name, parts in (("links", self._links), ("events", self._events)):
            while excess > 0 and parts:
                self.cut_keys[name] = self.cut_keys.get(name, 0) + 1
                excess -= _part_size(parts.pop()[1])
        own = self._own.attributes
        if excess > 0:
            for key in sorted(own, key=lambda key: -len(key) - _size(own[key])):
                if excess > 0 and key not in _NEVER_CUT:
                    excess -= utf8_bytes(key) + _size(own[key])
                    self.cut_keys.setdefault(key[:100], _size(own.pop(key)))

    def copy(self) -> ReadableSpan:
        """The span as it is now, with the note."""
        noted = dict(self._own.attributes)
        note = " ".join([f"{key}={size}" for key, size in self.cut_keys.items()])
        noted[semconv.TRUNCATED] = cut_plain(note, _NOTE_BYTES - 2 * len(semconv.TRUNCATED))
        status = self._span.status
        events = [
            Event(event.name, part.attributes, event.timestamp) if part.is_changed else event
            for event, part in self._events
        ]
        links = [
            Link(link.context, part.attributes) if part.is_changed else link
            for link, part in self._links
        ]
        changed: dict[str, Any] = {"name": self._name}
        if self._message != status.description:
            changed["status"] = Status(status.status_code, self._message)
        # The SDK's own lists know how many were dropped before: they stay where nothing changes.
        if len(events) != len(self._span.events) or any(p.is_changed for _, p in self._events):
            changed["events"] = events
        if len(links) != len(self._span.links) or any(p.is_changed for _, p in self._links):
            changed["links"] = links
        return with_attributes(self._span, noted, **changed)


def _part_size(part: _Part) -> int:
    size = _PART_BYTES + utf8_bytes(part.prefix)
    for key, value in part.attributes.items():
        size += utf8_bytes(key) + _size(value)
    return size


def _size(value: Any) -> int:
    """Bytes of a value; of what is no text about."""
    if type(value) is str:
        return utf8_bytes(value)
    if isinstance(value, str | bytes):
        return len(value) if isinstance(value, bytes) else utf8_bytes(str(value))
    if isinstance(value, Mapping):
        return sum([utf8_bytes(str(key)) + _size(item) for key, item in value.items()])
    if isinstance(value, Sequence):
        return sum([_size(item) for item in value])
    return _NUMBER_BYTES


def _shorter(value: Any, limit: int, measure: Measure) -> Any:
    """The value within the limit; the very same if it is."""
    if isinstance(value, str):
        return cut(value, limit, measure) if measure(value) > limit else value
    if measure is len:  # of characters: each text in it by itself, as the specification says
        if not isinstance(value, Sequence) or isinstance(value, bytes):
            return value
        texts = [cut(item, limit, len) if isinstance(item, str) else item for item in value]
        return value if all(map(_is, texts, value)) else tuple(texts)
    if _size(value) <= limit:
        return value
    if isinstance(value, bytes):
        return value[:limit]
    if isinstance(value, Mapping):
        return cut_plain("[removed: a mapping]", limit)
    return _fewer(value, limit)


def _is(one: Any, other: Any) -> bool:
    return one is other


def _fewer(values: Sequence[Any], limit: int) -> tuple[Any, ...]:
    """The first of them; a text that alone is too long is cut."""
    kept: list[Any] = []
    for value in values:
        size = _size(value)
        if size > limit:
            if isinstance(value, str):
                kept.append(cut_plain(value, limit))
            break
        kept.append(value)
        limit -= size
    return tuple(kept)
