"""The serialised span without what the columns of its row hold, and back.

A span's ids, parent, name, kind and times stand in columns; repeating them in the serialised form
would add some 50 bytes that hardly compress. `pack` cuts them off when `unpack` can put them back
exactly, else it keeps all. Field numbers: opentelemetry.proto.trace.v1.Span.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Final

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MAX_INT64: Final = 2**63 - 1
#: First byte of a whole span: field 1, the trace id. What `pack` cuts begins with a later field.
_WHOLE: Final = 0x0A
_TIMES: Final = struct.Struct("<cQcQ")
#: Fields 1, 2 and 4, then 5 and 6, then 7 and 8.
_USUAL: Final = b'\x0a\x10%b\x12\x08%b"\x08%b%b%b'


def part_id(message: Resource | InstrumentationScope, schema_url: str) -> tuple[int, bytes]:
    """The 64-bit content hash of a resource or scope with its schema URL, and its bytes."""
    data = message.SerializeToString()
    digest = hashlib.blake2b(data + b"\0" + schema_url.encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big"), data


def pack(data: bytes, ids: bytes, trace_state: str, head: bytes) -> tuple[bytes, bytes | None]:
    """What the `span` column holds of a serialised span, and all that follows `head` in it.

    The second is None when nothing was cut off.

    Args:
        data: The serialised span.
        ids: Of its row, from `ids_of`.
        trace_state: Stands between the two in `data`; has no column.
        head: Of its row, from `head_of`. Differs from `data` when a column cannot hold what the
            span has (it ends before it starts, say); then nothing is cut off.
    """
    state = b""
    if trace_state:
        text = trace_state.encode()
        state = b"\x1a" + _varint(len(text)) + text
    front = ids + state + head
    if data.startswith(front):
        tail = data[len(front) :]
        return state + tail, tail
    return (data if data.startswith(ids) else ids + data), None


def pack_usual(
    data: bytes,
    trace_id: bytes,
    span_id: bytes,
    parent: bytes,
    name: str,
    kind: int,
    start_ns: int,
    end_ns: int,
) -> bytes | None:
    """As `pack`, in one step, for a span with a parent, two times and no trace state.

    None when nothing can be cut off.
    """
    front = _USUAL % (
        trace_id,
        span_id,
        parent,
        _name_and_kind(name, kind),
        _TIMES.pack(b"9", start_ns, b"A", end_ns),
    )
    return data[len(front) :] if data.startswith(front) else None


def unpack(
    trace_id: bytes,
    span_id: int,
    parent_span_id: int | None,
    name: str,
    kind: int,
    start_ns: int,
    duration_ns: int,
    packed: bytes,
) -> Span:
    """The span of a row, equal to the one that was packed."""
    if packed and packed[0] == _WHOLE:
        return Span.FromString(packed)
    parent = parent_span_id.to_bytes(8, "big") if parent_span_id is not None else b""
    head = head_of(parent, name, kind, start_ns, start_ns + duration_ns)
    return Span.FromString(ids_of(trace_id, span_id.to_bytes(8, "big")) + head + packed)


def ids_of(trace_id: bytes, span_id: bytes) -> bytes:
    """Fields 1 and 2 of a span."""
    return b"\x0a\x10%b\x12\x08%b" % (trace_id, span_id)


def head_of(parent: bytes, name: str, kind: int, start_ns: int, end_ns: int) -> bytes:
    """Fields 4 to 8 of a span as protobuf writes them: a zero is left out."""
    above = b'"\x08' + parent if parent else b""
    if start_ns and end_ns:
        return above + _name_and_kind(name, kind) + _TIMES.pack(b"9", start_ns, b"A", end_ns)
    begin = b"9" + start_ns.to_bytes(8, "little") if start_ns else b""
    end = b"A" + end_ns.to_bytes(8, "little") if end_ns else b""
    return above + _name_and_kind(name, kind) + begin + end


@lru_cache(maxsize=4096)
def _name_and_kind(name: str, kind: int) -> bytes:
    text = name.encode()
    field = b"*" + _varint(len(text)) + text if text else b""
    return field + (b"0" + _varint(kind) if kind > 0 else b"")


def _varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
