"""Serialised attributes to typed values, each decoded once.

`rows` asks for the values of a span by the bytes of its attributes. Most attributes of a service
repeat from span to span (operation, model, region), so a memo by their bytes costs a third of
reading them through protobuf messages. Wire facts: opentelemetry.proto.common.v1.KeyValue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from opentelemetry.proto.common.v1.common_pb2 import ArrayValue, KeyValue

from otelbridge.local.store.columns import HOT_RESOURCE, HOT_SPAN, Hot

_LETTERS: Final = {"string_value": "s", "int_value": "i", "double_value": "d", "bool_value": "b"}
#: Tags of the fields `attributes` (9 of a span, 1 of a resource), length-delimited.
_SPAN_ATTRIBUTES_TAG: Final = 0x4A
RESOURCE_ATTRIBUTES_TAG: Final = 0x0A
#: Tags in a serialised attribute: its key, its value, and the text in that.
_KEY_TAG: Final = 0x0A
_VALUE_TAG: Final = 0x12
_TEXT_TAG: Final = 0x0A
_TWO_BYTE_LENGTH: Final = 0x80
#: Of an attribute whose key and text are empty but there: three tags and lengths.
_EMPTY_TEXT_BYTES: Final = 6
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
        found = [memo(data) or decode(data) for data in attributes]
        if len(set(map(_key_of, found))) == len(found):
            return found
        return {one[0]: one for one in found}.values()

    def _decode(self, data: bytes) -> Value:
        key, letter, item = _short_text(data) or _any(data)
        if letter:
            self._found.add((self._scope, key, letter))
        found = (key, self._hot.get((key, letter)), letter, item)
        if len(data) <= _MEMO_BYTES:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            self._memo[data] = found
        return found


_key_of = itemgetter(0)
Decoders: TypeAlias = Mapping[str, Decoder]


def decoders(found: KeysFound) -> Decoders:
    """A decoder for each scope, by TraceQL's name of it."""
    hot = {"span": HOT_SPAN, "resource": HOT_RESOURCE}
    scopes = ("span", "resource", "instrumentation", "event", "link")
    return {scope: Decoder(scope, hot.get(scope, ()), found) for scope in scopes}


def _short_text(data: bytes) -> tuple[str, str, str] | None:
    """Key, letter and value of most attributes: a text, no length above 127; None for others.

    Half of the time that protobuf's own messages take. `data` is what protobuf wrote: the key, then
    the value, whose only field is the text.
    """
    size = len(data)
    if not _EMPTY_TEXT_BYTES <= size < _TWO_BYTE_LENGTH or data[0] != _KEY_TAG:
        return None
    at = data[1] + 2
    if at + 3 >= size or data[at] != _VALUE_TAG:
        return None
    if data[at + 1] != size - at - 2 or data[at + 2] != _TEXT_TAG or data[at + 3] != size - at - 4:
        return None
    return data[2:at].decode(), "s", data[at + 4 :].decode()


def _any(data: bytes) -> tuple[str, str, Any]:
    """Key, letter and value of any attribute; the letter is empty when it is not queryable."""
    pair = KeyValue.FromString(data)
    value = pair.value
    kind = value.WhichOneof("value")
    if kind in _LETTERS:
        return pair.key, _LETTERS[kind], getattr(value, kind)
    if kind == "array_value":
        return (pair.key, *_array(value.array_value))
    return pair.key, "", None


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


def split(tail: bytes, tag: int = _SPAN_ATTRIBUTES_TAG) -> list[bytes]:
    """The attributes at the begin of a serialised resource, or of a span cut before them."""
    found = []
    at, end = 0, len(tail)
    while at < end and tail[at] == tag:
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
