"""Spans, events, links, resources and scopes as columns of their tables.

`writing` and `migrate` hand spans in; `arrow` appends the columns. Where a value goes: the hot
column of its key when it has that column's type, else the map of its type. Key-value lists, bytes,
empty and mixed arrays are in no column: only the serialised span has them. No DuckDB here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.local.store import packing
from otelbridge.local.store.arrow import MapColumn
from otelbridge.local.store.columns import (
    HOT_RESOURCE,
    HOT_SPAN,
    MAP_COLUMNS,
    RESOURCE_COPIES,
    Hot,
)
from otelbridge.local.store.numbering import Node
from otelbridge.local.store.packing import MAX_INT64
from otelbridge.local.store.values import (
    RESOURCE_ATTRIBUTES_TAG,
    Decoder,
    Decoders,
    serialised,
    split,
)

#: Events or links of one span that are queryable; the numbers of their rows have 16 bits.
MAX_PARTS: Final = 65_535
MAX_INT8: Final = 127


class Attributes:
    """Hot columns and typed maps of a run of rows."""

    def __init__(self, hot: Sequence[Hot], decoder: Decoder) -> None:
        self._decoder = decoder
        self._hot: dict[str, dict[int, Any]] = {one.column: {} for one in hot}
        self._maps = {kind: MapColumn(kind) for kind in MAP_COLUMNS}
        self._adders: dict[str, tuple[Any, Any]] = {}
        self._lengths: list[tuple[list[str], Any]] = []
        self._rows = 0

    def add(self, attributes: Iterable[bytes]) -> None:
        """The serialised attributes of the next row."""
        hot, adders, row = self._hot, self._adders, self._rows
        for key, column, letter, item in self._decoder.values(attributes):
            if column is not None:
                hot[column][row] = item
            elif letter:
                add_key, add_value = adders.get(letter) or self._begin(letter)
                add_key(key)
                add_value(item)
        for keys, add_end in self._lengths:
            add_end(len(keys))
        self._rows = row + 1

    def _begin(self, letter: str) -> tuple[Any, Any]:
        """The first value of a type: the rows before it have none."""
        column = self._maps[letter]
        column.ends = [0] * self._rows
        self._lengths.append((column.keys, column.ends.append))
        found = self._adders[letter] = (column.keys.append, column.values.append)
        return found

    def columns(self) -> dict[str, Sequence[Any] | MapColumn]:
        """The columns that hold anything, by name."""
        found: dict[str, Sequence[Any] | MapColumn] = {}
        rows = range(self._rows)
        for name, values in self._hot.items():
            if values:
                found[name] = list(map(values.get, rows))
        for kind, column in self._maps.items():
            if column.keys:
                found[MAP_COLUMNS[kind]] = column
        return found


class _Rows:
    """Plain columns as lists, filled a row at a time."""

    def __init__(self, names: Iterable[str], decoder: Decoder, hot: Sequence[Hot] = ()) -> None:
        self._names = tuple(names)
        self._rows: list[tuple[Any, ...]] = []
        self._attributes = Attributes(hot, decoder)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: tuple[Any, ...], attributes: Iterable[bytes]) -> None:
        self._rows.append(row)
        self._attributes.add(attributes)

    def columns(self) -> dict[str, Sequence[Any] | MapColumn]:
        plain = dict(zip(self._names, zip(*self._rows, strict=True), strict=True))
        return {**plain, **self._attributes.columns()}


#: Values of the columns `RESOURCE_COPIES`, in their order.
Copies: TypeAlias = tuple[str | None, ...]
_PLAIN: Final = (
    "trace_id", "span_id", "parent_span_id", "name", "kind", "start_ns", "duration_ns",
    "resource_id", "scope_id", "received_ns", "span_bytes", "span",
)  # fmt: skip
_OF_SPANS: Final = ("status", "status_message", "has_events", "has_links")
_KEY: Final = ("trace_id", "span_id")


def plain_row(
    span: Span, resource_id: int, scope_id: int, received_ns: int, service: str = ""
) -> tuple[tuple[Any, ...], Node, bytes | None]:
    """The row that both sides have; the span's skeleton; its bytes from the attributes on.

    The row is in the order of `schema.LANGFUSE_COLUMNS`; the last is None for a span that could
    not be cut. Times are cut to 63 bits; a span that ends before it starts has duration 0. A
    parent of zeros is none, as some senders write a root.
    """
    trace_id, id_bytes, parent_bytes = span.trace_id, span.span_id, span.parent_span_id
    name = span.name
    kind: int = span.kind
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    if start_ns > MAX_INT64 or end_ns > MAX_INT64:
        start_ns, end_ns = min(start_ns, MAX_INT64), min(end_ns, MAX_INT64)
    end_ns = max(start_ns, end_ns)
    if not 0 <= kind <= MAX_INT8:
        kind = 0
    span_id, parent = int.from_bytes(id_bytes, "big"), int.from_bytes(parent_bytes, "big") or None
    data = span.SerializeToString()
    state, tail = span.trace_state, None
    if parent and start_ns and end_ns and not state:
        tail = packed = packing.pack_usual(
            data, trace_id, id_bytes, parent_bytes, name, kind, start_ns, end_ns
        )
    if tail is None:
        ids = packing.ids_of(trace_id, id_bytes)
        head = packing.head_of(parent_bytes if parent else b"", name, kind, start_ns, end_ns)
        packed, tail = packing.pack(data, ids, state, head)
    row = (
        trace_id,
        span_id,
        parent,
        name,
        kind,
        start_ns,
        end_ns - start_ns,
        resource_id,
        scope_id,
        received_ns,
        len(data),
        packed,
    )
    # Of names and services only those of a root are asked for.
    named = ("", "") if parent else (name, service)
    node = (start_ns, -end_ns, span_id, parent, *named)
    return row, node, tail


class SpanRows:
    """Rows of `tempo_spans`, `span_events` and `span_links`."""

    def __init__(self, decoders: Decoders) -> None:
        self.spans = _Rows(
            (*_PLAIN, *_OF_SPANS, *RESOURCE_COPIES.values()),
            decoders["span"],
            HOT_SPAN,
        )
        self.events = _Rows((*_KEY, "event_no", "name", "since_start_ns"), decoders["event"])
        self.links = _Rows(
            (*_KEY, "link_no", "linked_trace_id", "linked_span_id"), decoders["link"]
        )

    def add(
        self, span: Span, resource_id: int, scope_id: int, received_ns: int, copies: Copies
    ) -> Node:
        """One span with its events and links; gives its skeleton.

        `copies` are those of its resource, as `resource_copies` gives them.
        """
        service = copies[0] or ""
        plain, node, tail = plain_row(span, resource_id, scope_id, received_ns, service)
        status, events, links = span.status, len(span.events) > 0, len(span.links) > 0
        code: int = status.code
        if not 0 <= code <= MAX_INT8:
            code = 0
        attributes = split(tail) if tail is not None else serialised(span.attributes)
        self.spans.add((*plain, code, status.message, events, links, *copies), attributes)
        if events:
            self._add_events(span, node[2])
        if links:
            self._add_links(span, node[2])
        return node

    def _add_events(self, span: Span, span_id: int) -> None:
        for number, event in enumerate(span.events[:MAX_PARTS]):
            since = event.time_unix_nano - span.start_time_unix_nano
            since = max(-MAX_INT64, min(since, MAX_INT64))
            self.events.add(
                (span.trace_id, span_id, number, event.name, since), serialised(event.attributes)
            )

    def _add_links(self, span: Span, span_id: int) -> None:
        for number, link in enumerate(span.links[:MAX_PARTS]):
            self.links.add(
                (span.trace_id, span_id, number, link.trace_id.hex(), link.span_id.hex()),
                serialised(link.attributes),
            )


class PlainRows:
    """Rows of `langfuse_spans`."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []

    def add(self, span: Span, resource_id: int, scope_id: int, received_ns: int) -> None:
        """One span."""
        self._rows.append(plain_row(span, resource_id, scope_id, received_ns)[0])

    def columns(self) -> dict[str, Sequence[Any] | MapColumn]:
        """Values by column."""
        return dict(zip(_PLAIN, zip(*self._rows, strict=True), strict=True))


def resource_copies(message: Resource, decoder: Decoder) -> Copies:
    """What every span of a resource repeats of it."""
    attributes = split(message.SerializeToString(), RESOURCE_ATTRIBUTES_TAG)
    found = {column: item for _, column, _, item in decoder.values(attributes)}
    found.setdefault(SERVICE_COLUMN, "")
    return tuple(map(found.get, RESOURCE_COPIES))


class ResourceRows:
    """Rows of `resources`; a missing service.name, or one that is no text, is ""."""

    def __init__(self, decoders: Decoders) -> None:
        self._rows = _Rows(("id", "schema_url", "proto"), decoders["resource"], HOT_RESOURCE)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, part_id: int, url: str, data: bytes) -> None:
        """One resource as its bytes."""
        self._rows.add((part_id, url, data), split(data, RESOURCE_ATTRIBUTES_TAG))

    def columns(self) -> dict[str, Sequence[Any] | MapColumn]:
        """Values by column."""
        found = self._rows.columns()
        names = found.get(SERVICE_COLUMN) or [None] * len(self._rows)
        assert not isinstance(names, MapColumn)
        found[SERVICE_COLUMN] = ["" if name is None else name for name in names]
        return found


SERVICE_COLUMN: Final = HOT_RESOURCE[0].column


class ScopeRows:
    """Rows of `scopes`."""

    def __init__(self, decoders: Decoders) -> None:
        names = ("id", "schema_url", "proto", "name", "version")
        self._rows = _Rows(names, decoders["instrumentation"])

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, part_id: int, url: str, data: bytes, message: InstrumentationScope) -> None:
        """One instrumentation scope."""
        row = (part_id, url, data, message.name, message.version)
        self._rows.add(row, serialised(message.attributes))

    def columns(self) -> dict[str, Sequence[Any] | MapColumn]:
        """Values by column."""
        return self._rows.columns()
