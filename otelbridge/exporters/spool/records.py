"""The bytes of a segment: a magic line, then records with length and checksums.

A record is whole or it is not there. `scan` finds the whole ones in any bytes: it tolerates the
torn tail of a writer that died, and finds its way again behind damaged bytes. Pure: no files.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

#: First bytes of a segment; the digit is the version of the format, as in the file's suffix.
MAGIC: Final = b"OTBSPL1\n"
_MARKER: Final = b"\xf5\x0bOR"
#: Marker, payload bytes, spans, flags, state, CRC-32 of the payload, CRC-32 of this header.
_HEADER: Final = struct.Struct("<4sIIHHII")
HEADER_BYTES: Final = _HEADER.size
#: Where a record's state is, counted from its start. It changes in place, so no checksum has it.
STATE_OFFSET: Final = 14
#: Two bytes, so that no damage to one of them makes a record look settled.
SETTLED: Final = b"NS"
_SETTLED_NUMBER: Final = int.from_bytes(SETTLED, "little")
_GZIPPED: Final = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What was given to `Spool.put`.

    Attributes:
        payload: The body of one request.
        spans: Spans in it.
        gzipped: Whether the body is compressed.
    """

    payload: bytes
    spans: int
    gzipped: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a whole record is in its segment: `offset` is that of its header."""

    offset: int
    payload_bytes: int
    spans: int
    gzipped: bool
    settled: bool

    @property
    def payload_offset(self) -> int:
        """Where its payload begins."""
        return self.offset + HEADER_BYTES

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.payload_offset + self.payload_bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in a segment.

    Attributes:
        entries: The whole records, in order.
        torn: The last append was not finished; nothing else is missing.
        damaged_bytes: Bytes that belong to no whole record and to no torn tail.
    """

    entries: tuple[Entry, ...]
    torn: bool
    damaged_bytes: int

    @property
    def pending(self) -> tuple[Entry, ...]:
        """The records that are not settled."""
        return tuple(entry for entry in self.entries if not entry.settled)


def encode(payload: bytes, spans: int, *, gzipped: bool) -> bytes:
    """One record as it is appended."""
    flags = _GZIPPED if gzipped else 0
    head = _HEADER.pack(_MARKER, len(payload), spans, flags, 0, zlib.crc32(payload), 0)
    return head[:-4] + _header_checksum(head).to_bytes(4, "little") + payload


def _header_checksum(head: bytes) -> int:
    return zlib.crc32(head[16:20], zlib.crc32(head[:STATE_OFFSET]))


def header_at(data: bytes, offset: int) -> tuple[Entry, int] | None:
    """The header at an offset and the checksum of its payload; None if it is not a header."""
    if len(data) - offset < HEADER_BYTES or data[offset : offset + 4] != _MARKER:
        return None
    head = data[offset : offset + HEADER_BYTES]
    _, payload_bytes, spans, flags, state, payload_checksum, checksum = _HEADER.unpack(head)
    if _header_checksum(head) != checksum:
        return None
    entry = Entry(offset, payload_bytes, spans, bool(flags & _GZIPPED), state == _SETTLED_NUMBER)
    return entry, payload_checksum


def matches(payload: bytes, head: tuple[Entry, int]) -> bool:
    """Whether a payload is the one that its header was made for."""
    entry, checksum = head
    return len(payload) == entry.payload_bytes and zlib.crc32(payload) == checksum


def scan(data: bytes) -> Scan:
    """The whole records among the bytes of a segment; never fails, whatever the bytes are."""
    entries: list[Entry] = []
    view = memoryview(data)
    damaged, position = 0, len(MAGIC)
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data) or not any(data):
            return Scan((), bool(data), 0)
        damaged, position = min(len(MAGIC), len(data)), min(len(MAGIC), len(data))
    while position < len(data):
        found = header_at(data, position)
        if found is None:
            following = _next_header(data, position + 1)
            if following is None:
                torn = _is_torn(data, position)
                damaged += 0 if torn else len(data) - position
                return Scan(tuple(entries), torn, damaged)
            damaged += following - position
            position = following
            continue
        entry, checksum = found
        if entry.end > len(data):
            return Scan(tuple(entries), True, damaged)
        if zlib.crc32(view[entry.payload_offset : entry.end]) == checksum:
            entries.append(entry)
        else:
            damaged += entry.end - position
        position = entry.end
    return Scan(tuple(entries), False, damaged)


def _next_header(data: bytes, start: int) -> int | None:
    position = data.find(_MARKER, start)
    while position >= 0:
        if header_at(data, position) is not None:
            return position
        position = data.find(_MARKER, position + 1)
    return None


def _is_torn(data: bytes, position: int) -> bool:
    """Whether the rest is the beginning of a header, or zeros (a crash of the machine)."""
    rest = data[position:]
    if len(rest) < HEADER_BYTES and rest[:4] == _MARKER[: len(rest)]:
        return True
    return not rest.strip(b"\0")
