"""Ended spans to OTLP protobuf bytes, each span once and without message objects.

The wire format is written directly: a span costs a few joins of bytes, and what repeats (resource,
scope, attribute keys, short values) is taken from caches. The answer means what the encoder of
`opentelemetry-exporter-otlp-proto-common` says, which the tests hold it to. Differences, where that
encoder gives up: text with lone surrogates is repaired, an integer beyond 64 bits becomes text, an
attribute of no OTLP type counts as dropped; and no span ends before it starts. One encoder belongs
to one thread.
Field numbers: opentelemetry-proto 1.x, `trace.proto`, `common.proto`, `resource.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext

#: SpanFlags: "is remote" is known, and is true. Source: `trace.proto`, enum SpanFlags.
_FLAGS_LOCAL: Final = struct.pack("<I", 0x100)
_FLAGS_REMOTE: Final = struct.pack("<I", 0x300)
_INT64: Final = range(-(1 << 63), 1 << 63)
_UINT64: Final = 0xFFFF_FFFF_FFFF_FFFF
_FIXED64: Final = struct.Struct("<Q").pack
_DOUBLE: Final = struct.Struct("<d").pack
#: Attributes whose bytes are kept: as many, and text up to this length.
_CACHED_PAIRS: Final = 4096
_CACHED_CHARS: Final = 64
#: Containers in containers that are followed; the SDK makes none, hostile code might.
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class EncodedSpan:
    """One span on the wire, and where it belongs.

    Attributes:
        data: The span as a member of ScopeSpans: tag, length, bytes.
        resource: Bytes of the resource and its schema URL, shared by all spans with that resource.
        scope: The same for the instrumentation scope.
    """

    data: bytes
    resource: tuple[bytes, bytes]
    scope: tuple[bytes, bytes]


def varint(number: int) -> bytes:
    """A number from 0 as base-128."""
    if number < 0x80:
        return _SMALL[number]
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL: Final = [bytes((number,)) for number in range(0x80)]
#: Lengths of nearly all attributes, names and spans.
_LENGTHS: Final = [varint(number) for number in range(0x4000)]


def _length(number: int) -> bytes:
    return _LENGTHS[number] if number < 0x4000 else varint(number)


def _text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _field(tag: bytes, data: bytes) -> bytes:
    """A member with a length in front, nothing for an empty one (proto3's default)."""
    return tag + _length(len(data)) + data if data else b""


class SpanEncoder:
    """Encodes spans; keeps the bytes of what repeats. Not for use by two threads at once."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._pairs: dict[tuple[str, str], bytes] = {}
        self._resources: dict[int, tuple[Resource, tuple[bytes, bytes]]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope | None, tuple[bytes, bytes]]] = {}

    def encode(self, span: ReadableSpan) -> EncodedSpan:
        """One ended span.

        Raises:
            ValueError: a span without ids.
        """
        context = span.context
        if context is None:
            raise ValueError("a span without ids")
        parent, status = span.parent, span.status
        start, end = span.start_time, span.end_time
        if start and end and end < start:  # the clock was set back meanwhile
            end = start
        attributes, unusable = self._attributes(span.attributes)
        dropped = span.dropped_attributes + unusable
        state = context.trace_state
        # fmt: off
        parts = [
            b"\x0a\x10", context.trace_id.to_bytes(16, "big"),
            b"\x12\x08", context.span_id.to_bytes(8, "big"),
            _field(b"\x1a", _text(",".join([f"{k}={v}" for k, v in state.items()])))
            if state else b"",
            b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
            _field(b"\x2a", _text(span.name)),
            b"\x30", _SMALL[span.kind.value + 1],
            _time(b"\x39", start), _time(b"\x41", end),
        ]
        # fmt: on
        if attributes:
            parts += (b"\x4a", b"\x4a".join(attributes))
        if dropped:
            parts += (b"\x50", varint(dropped))
        for event in span.events:
            parts.append(_field(b"\x5a", self._event(event)))
        if span.dropped_events:
            parts += (b"\x60", varint(span.dropped_events))
        for link in span.links:
            parts.append(_field(b"\x6a", self._link(link)))
        if span.dropped_links:
            parts += (b"\x70", varint(span.dropped_links))
        code = status.status_code.value
        message = _field(b"\x12", _text(status.description)) if status.description else b""
        told = message + b"\x18" + _SMALL[code] if code else message
        parts += (b"\x7a", _length(len(told)), told, b"\x85\x01", _flags(parent))
        body = b"".join(parts)
        return EncodedSpan(
            b"\x12" + _length(len(body)) + body,
            self._resource(span.resource),
            self._scope(span.instrumentation_scope),
        )

    def _attributes(self, attributes: Mapping[str, Any] | None) -> tuple[list[bytes], int]:
        """Each pair as length and KeyValue, and how many could not be encoded."""
        if not attributes:
            return [], 0
        encoded: list[bytes] = []
        add, pairs, keys = encoded.append, self._pairs, self._keys
        unusable = 0
        for key, value in attributes.items():
            short = type(value) is str and len(value) <= _CACHED_CHARS
            if short and (known := pairs.get((key, value))) is not None:
                add(known)
                continue
            try:
                data = _any_value(value)
                name = keys.get(key)
                if name is None:
                    name = self._key(key)
            except (TypeError, AttributeError, OverflowError, struct.error):
                unusable += 1
                continue
            size = len(data)
            pair = b"".join((name, b"\x12", _length(size), data))
            pair = _length(len(pair)) + pair
            if short:
                if len(pairs) >= _CACHED_PAIRS:
                    pairs.clear()  # ids fill it; what repeats is back at once
                pairs[key, value] = pair
            add(pair)
        return encoded, unusable

    def _key(self, key: str) -> bytes:
        if len(self._keys) >= _CACHED_PAIRS:
            self._keys.clear()
        name = self._keys[key] = _field(b"\x0a", _text(key))
        return name

    def _event(self, event: Event) -> bytes:
        attributes, unusable = self._attributes(event.attributes)
        return (
            _time(b"\x09", event.timestamp)
            + _field(b"\x12", _text(event.name))
            + _members(b"\x1a", attributes)
            + _count(b"\x20", event.dropped_attributes + unusable)
        )

    def _link(self, link: Link) -> bytes:
        attributes, unusable = self._attributes(link.attributes)
        context = link.context
        return (
            b"\x0a\x10"
            + context.trace_id.to_bytes(16, "big")
            + b"\x12\x08"
            + context.span_id.to_bytes(8, "big")
            + _members(b"\x22", attributes)
            + _count(b"\x28", link.dropped_attributes + unusable)
            + b"\x35"
            + _flags(context)
        )

    def _resource(self, resource: Resource) -> tuple[bytes, bytes]:
        # By identity, because hashing a resource writes it as JSON; held, so that the id stays its.
        known = self._resources.get(id(resource))
        if known is None:
            attributes, _ = self._attributes(resource.attributes)
            body = _members(b"\x0a", attributes)
            made = (
                b"\x0a" + _length(len(body)) + body,
                _field(b"\x1a", _text(resource.schema_url or "")),
            )
            if len(self._resources) >= _CACHED_PAIRS:
                self._resources.clear()
            known = self._resources[id(resource)] = (resource, made)
        return known[1]

    def _scope(self, scope: InstrumentationScope | None) -> tuple[bytes, bytes]:
        known = self._scopes.get(id(scope))
        if known is None:
            body, schema = b"", ""
            if scope is not None:
                attributes, _ = self._attributes(scope.attributes)
                body = (
                    _field(b"\x0a", _text(scope.name))
                    + _field(b"\x12", _text(scope.version or ""))
                    + _members(b"\x1a", attributes)
                )
                schema = scope.schema_url or ""
            made = (b"\x0a" + _length(len(body)) + body, _field(b"\x1a", _text(schema)))
            if len(self._scopes) >= _CACHED_PAIRS:
                self._scopes.clear()
            known = self._scopes[id(scope)] = (scope, made)
        return known[1]


def request(spans: Iterable[EncodedSpan]) -> bytes:
    """One ExportTraceServiceRequest, the spans grouped by resource and scope."""
    grouped: dict[tuple[bytes, bytes], dict[tuple[bytes, bytes], list[bytes]]] = {}
    for span in spans:
        grouped.setdefault(span.resource, {}).setdefault(span.scope, []).append(span.data)
    out = []
    for (resource, resource_schema), scopes in grouped.items():
        body = [resource]
        for (scope, scope_schema), members in scopes.items():
            members = [scope, *members, scope_schema]  # noqa: PLW2901 - the same, complete
            body += (b"\x12", varint(sum(map(len, members))), *members)
        body.append(resource_schema)
        out += [b"\x0a", varint(sum(map(len, body))), *body]
    return b"".join(out)


def _members(tag: bytes, members: Sequence[bytes]) -> bytes:
    """Repeated members that bring their own lengths."""
    return tag + tag.join(members) if members else b""


def _count(tag: bytes, number: int) -> bytes:
    return tag + varint(number) if number else b""


def _time(tag: bytes, nanoseconds: int | None) -> bytes:
    if not nanoseconds or not 0 < nanoseconds <= _UINT64:
        return b""
    return tag + _FIXED64(nanoseconds)


def _flags(context: SpanContext | None) -> bytes:
    return _FLAGS_REMOTE if context is not None and context.is_remote else _FLAGS_LOCAL


def _any_value(value: Any, depth: int = 0) -> bytes:
    """An AnyValue: the member of its oneof, written even where it is the type's default.

    Raises:
        TypeError: no type of OTLP, or containers deeper than 32.
    """
    kind = type(value)
    if kind is str:
        data = _text(value)
        return b"\x0a" + _length(len(data)) + data
    if kind is int:
        return _integer(value)
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is float:
        return b"\x21" + _DOUBLE(value)
    if value is None:
        return b""
    if depth > _MAX_DEPTH:
        raise TypeError("containers too deep")
    if isinstance(value, str):
        return _any_value(str.__str__(value))
    if isinstance(value, int):
        return _integer(int.__index__(value))  # not what a class of its own makes of it
    if isinstance(value, float):
        return b"\x21" + _DOUBLE(value)
    if isinstance(value, bytes):
        return b"\x3a" + _length(len(value)) + value
    if isinstance(value, Sequence):
        inner = [_any_value(item, depth + 1) for item in value]
        body = b"".join([b"\x0a" + _length(len(item)) + item for item in inner])
        return b"\x2a" + _length(len(body)) + body
    if isinstance(value, Mapping):
        body = b"".join([_pair(str(key), item, depth + 1) for key, item in value.items()])
        return b"\x32" + _length(len(body)) + body
    raise TypeError(kind.__qualname__)


def _pair(key: str, value: Any, depth: int) -> bytes:
    data = _any_value(value, depth)
    return _field(b"\x0a", _field(b"\x0a", _text(key)) + b"\x12" + _length(len(data)) + data)


def _integer(value: int) -> bytes:
    if value not in _INT64:
        try:
            return _any_value(str(value))
        except ValueError:  # beyond sys.get_int_max_str_digits()
            return _any_value(hex(value))
    return b"\x18" + varint(value if value >= 0 else value & _UINT64)
