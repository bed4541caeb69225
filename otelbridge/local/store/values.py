"""Serialised attributes to typed values, each decoded once.

`rows` asks for the values of a span by the bytes of its attributes. Most attributes of a service
repeat from span to span (operation, model, region), so a memo by their bytes costs a third of
reading them through protobuf messages. Wire facts: opentelemetry.proto.common.v1.KeyValue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, KeyValue

from otelbridge.local.store.columns import HOT_RESOURCE, HOT_SPAN, Hot

_LETTERS: Final = {"string_value": "s", "int_value": "i", "double_value": "d", "bool_value": "b"}
#: Tag of the field `attributes` (9, length-delimited) of a span.
_ATTRIBUTES_TAG: Final = 0x4A
#: Bounds the memo; it starts anew when full.
_MEMO_ENTRIES: Final = 20_000
#: Longer attributes are not kept in the memo: content, seldom equal.
_MEMO_BYTES: Final = 128


#: A decoded attribute: its key; its hot column or None, else its letter ("" when not queryable);
#: the value. A bare tuple: the garbage collector passes over those that hold no containers.
Value: TypeAlias = tuple[str, str | None, str, Any]


#: Scope as TraceQL names it, key and type letter of an attribute.
AttributeKey: TypeAlias = tuple[str, str, str]


class KeysFound:
    """Every attribute key with its types: those that the store has noted, and the new ones."""

    def __init__(self, noted: Iterable[AttributeKey] = ()) -> None:
        self.noted = frozenset(noted)
        self.new: set[AttributeKey] = set()

    def add(self, key: AttributeKey) -> None:
        """Note a key if it is new."""
        if key not in self.noted:
            self.new.add(key)

    def committed(self) -> None:
        """The new ones have been stored."""
        if self.new:
            self.noted |= self.new
            self.new = set()


class Decoder:
    """Decodes the attributes of one scope, and notes each key that is new with its type."""

    def __init__(self, scope: str, hot: Sequence[Hot], found: KeysFound) -> None:
        self._scope = scope
        self._found = found
        self._hot = {(one.key, one.type): one.column for one in hot}
        self._memo: dict[bytes, Value] = {}

    def values(self, attributes: Iterable[bytes]) -> Iterable[Value]:
        """The values of serialised KeyValues; of equal keys the last counts."""
        memo, decode = self._memo.get, self._decode
        return {(one := memo(data) or decode(data))[0]: one for data in attributes}.values()

    def _decode(self, data: bytes) -> Value:
        pair = KeyValue.FromString(data)
        key, value = pair.key, pair.value
        kind = value.WhichOneof("value")
        letter, item = "", None
        if kind in _LETTERS:
            letter, item = _LETTERS[kind], getattr(value, kind)
        elif kind == "array_value":
            letter, item = _array(value.array_value)
        if letter:
            self._found.add((self._scope, key, letter))
        found = (key, self._hot.get((key, letter)), letter, item)
        if len(data) <= _MEMO_BYTES:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            self._memo[data] = found
        return found


Decoders: TypeAlias = Mapping[str, Decoder]


def decoders(found: KeysFound) -> Decoders:
    """A decoder for each scope, by TraceQL's name of it."""
    hot = {"span": HOT_SPAN, "resource": HOT_RESOURCE}
    scopes = ("span", "resource", "instrumentation", "event", "link")
    return {scope: Decoder(scope, hot.get(scope, ()), found) for scope in scopes}


def _array(value: ArrayValue) -> tuple[str, Any]:
    """Letter and items of an array: those of its element when it has one, "" when not queryable."""
    items = value.values
    kinds = {item.WhichOneof("value") for item in items}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind not in _LETTERS:
        return "", None
    found = [getattr(item, kind) for item in items]
    letter = _LETTERS[kind]
    return (letter, found[0]) if len(found) == 1 else (letter * 2, found)


def serialised(attributes: Iterable[KeyValue]) -> list[bytes]:
    """Attributes as their bytes."""
    return [pair.SerializeToString() for pair in attributes]


def split(tail: bytes) -> list[bytes]:
    """The attributes at the begin of a serialised span that was cut before them."""
    found = []
    at, end = 0, len(tail)
    while at < end and tail[at] == _ATTRIBUTES_TAG:
        size = tail[at + 1]
        at += 2
        if size >= 0x80:
            size, at = _varint(tail, at - 1)
        found.append(tail[at : at + size])
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A base-128 number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
