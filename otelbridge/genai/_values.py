"""Any Python value as something a span can carry: plain JSON, text, a number, an attribute.

Every value of the application passes here before it enters a span, so this is where hostile ones
are repaired: cycles, bytes, NaN, integers beyond 64 bits, lone surrogates, keys that are no text,
objects that raise when looked at. The functions never raise on such a value and never consume an
iterator. Lengths are not cut here; masking and limits are steps of the export path.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeGuard, TypeVar
from uuid import UUID

R = TypeVar("R")

#: An OTLP attribute value (without bytes, which Langfuse cannot read).
AttributeValue = str | bool | int | float | Sequence[str]

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
#: Made once: `json.dumps` with options makes an encoder for every text.
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_MAX_DEPTH: Final = 32  # deeper nesting is a marker; as in opentelemetry-util-genai
_MAX_NODES: Final = 20_000  # bounds the work on structures that share parts many times over
_TOO_DEEP: Final = "[too deep]"
_CYCLE: Final = "[cycle]"
_TRUNCATED: Final = "[truncated]"
_AS_TEXT: Final = (Decimal, UUID, PurePath)


def text_of(value: object) -> str:
    """Any value as text that UTF-8 can encode; an object that cannot be shown gives `<Type>`."""
    try:
        return _text(value)
    except Exception:  # noqa: BLE001 - the application's __str__, __repr__ or __class__ may raise anything
        return f"<{type(value).__name__}>"


def _text(value: object) -> str:
    if isinstance(value, str):
        return _encodable(str.__str__(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return _int_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes_text(value)
    if isinstance(value, Mapping | list | tuple | Set) or dataclasses.is_dataclass(value):
        return to_json(value)  # str() has no bound on structures that share parts
    return _encodable(str.__str__(str(value)))


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text, decided without asking the value (`__class__` may raise)."""
    return issubclass(type(value), str)


def is_true(value: object) -> bool:
    """The truth of a switch that the application gives; False for a value that cannot tell."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - __bool__ and __len__ may raise anything
        return False


def optional_text(value: object) -> str | None:
    """Text, or None for None and for empty text."""
    return None if value is None else (text_of(value) or None)


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates; true pairs are joined, the rest is replaced
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _int_text(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # beyond sys.get_int_max_str_digits()
        return hex(value)


def _bytes_text(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii")


class _Plain:
    """One conversion: holds the containers being walked (cycles) and the work done so far."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.nodes = 0

    def convert(self, value: object, depth: int = 0) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES:
            return _TRUNCATED
        kind = type(value)
        if kind is str:  # the common types first, by identity
            return _encodable(value)  # type: ignore[arg-type]  # its type was just compared
        if value is None or kind is bool:
            return value
        try:
            if kind is dict or kind is list:
                return self._container(value, depth)
            return self._scalar_or_container(value, depth)
        except Exception:  # noqa: BLE001 - even its class may raise: a proxy without its context
            return f"<{type(value).__name__}>"

    def _scalar_or_container(self, value: object, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.convert(value.value, depth + 1) if depth < _MAX_DEPTH else _TOO_DEEP
        if isinstance(value, str):
            return text_of(value)
        if isinstance(value, int):
            number = int.__index__(value)
            return number if _INT64_MIN <= number <= _INT64_MAX else _int_text(number)
        if isinstance(value, float):
            number_ = float.__float__(value)
            return number_ if math.isfinite(number_) else float.__repr__(number_)
        if isinstance(value, bytes | bytearray | memoryview):
            return _bytes_text(value)
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, _AS_TEXT):
            return text_of(value)
        return self._container(value, depth)

    def _container(self, value: object, depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            return _TOO_DEEP
        if id(value) in self.open:
            return _CYCLE
        self.open.add(id(value))
        try:
            return self._members(value, depth + 1)
        finally:
            self.open.discard(id(value))

    def _members(self, value: object, depth: int) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value.items(), depth)
        if isinstance(value, list | tuple | Set) or type(value).__name__ == "deque":
            items = value if isinstance(value, Iterable) else ()
            return [self.convert(item, depth) for item in items]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = ((f.name, getattr(value, f.name, None)) for f in dataclasses.fields(value))
            return self._mapping(fields, depth)
        if isinstance(value, types.SimpleNamespace):
            return self._mapping(vars(value).items(), depth)
        dump = getattr(type(value), "model_dump", None)  # pydantic 2, by shape
        if callable(dump):
            return self.convert(_dumped(value), depth)
        tolist = getattr(type(value), "tolist", None)  # numpy arrays and scalars, by shape
        if callable(tolist):
            return self.convert(tolist(value), depth)
        return text_of(value)

    def _mapping(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in items:
            if self.nodes > _MAX_NODES:
                result[_TRUNCATED] = True
                break
            result[_key_text(key)] = self.convert(item, depth)
        return result


def _dumped(model: Any) -> Any:
    """A pydantic model as a dictionary; unset fields of API responses are left out."""
    try:
        return model.model_dump(exclude_none=True, warnings=False)
    except Exception:  # noqa: BLE001 - a serializer that fails, or another signature: its fields will do
        return dict(vars(model))


def _key_text(key: object) -> str:
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    return text_of(key)


def to_plain(value: object) -> Any:
    """A value as dictionaries, lists, text, booleans and finite 64-bit numbers.

    Dataclasses, pydantic models and enumerations become their content; bytes become their UTF-8
    text, else base64; cycles, nesting beyond 32 levels and the part beyond 20,000 nodes become
    markers in square brackets; everything else becomes its text.
    """
    return _Plain().convert(value)


def dumps(plain: Any) -> str:
    """JSON text of a value that `to_plain` has made."""
    return _encode(plain)


def to_json(value: object) -> str:
    """JSON text of any value, valid and encodable whatever the value is."""
    return dumps(to_plain(value))


def content_text(value: object) -> str:
    """Content for one attribute: text as it is, anything else as JSON text."""
    return text_of(value) if is_text(value) else to_json(value)


def _or_none(convert: Callable[[Any], R]) -> Callable[[object], R | None]:
    """A conversion that answers None for an object that raises when it is looked at."""

    @functools.wraps(convert)
    def call(value: object) -> R | None:
        try:
            return convert(value)
        except Exception:  # noqa: BLE001 - __class__, __float__, __iter__, … may raise anything
            return None

    return call


@_or_none
def to_int(value: object) -> int | None:
    """A whole number of 64 bits, or None when the value is none (booleans are not numbers)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        if not math.isfinite(value) or not float.is_integer(value):
            return None
        value = int(float.__float__(value))
    elif isinstance(value, int):
        value = int.__index__(value)
    else:
        return None
    return value if _INT64_MIN <= value <= _INT64_MAX else None


def to_count(value: object) -> int | None:
    """A number of tokens or items: a whole number that is not negative, else None."""
    number = to_int(value)
    return number if number is not None and number >= 0 else None


@_or_none
def to_float(value: object) -> float | None:
    """A finite number as a double, or None (booleans are not numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


@_or_none
def text_list(value: object) -> list[str] | None:
    """A list of texts from one text or several; None when there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        return [text_of(value)]
    if isinstance(value, list | tuple | Set):
        items = [text_of(item) for item in value if item is not None]
        return items or None
    return [text_of(value)]


def attribute_value(value: object) -> AttributeValue:
    """Any value as a span attribute: numbers, booleans, text and lists of text keep their type.

    Everything else becomes JSON text; integers beyond 64 bits, NaN and infinities become text.
    """
    plain = to_plain(value)
    if isinstance(plain, list) and all(isinstance(item, str) for item in plain):
        return plain
    return plain if isinstance(plain, str | int | float) else dumps(plain)
