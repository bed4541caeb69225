"""Values, errors and callables that hate telemetry, by name, and what Hypothesis makes of them.

`hostile` gives them to the public API. Each is made afresh by a factory, because test tools look at
what they pass around and these objects do not like being looked at.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NoReturn

from hypothesis import strategies as st


class BadText:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Recursive:
    """Showing it never ends."""

    def __repr__(self) -> str:
        return f"{self!r}"


class WrongTypes:
    """Every special method answers something of the wrong type."""

    def __str__(self) -> str:
        return _wrong(5)

    __repr__ = __str__

    def __len__(self) -> int:
        return _wrong(-1)

    def __iter__(self) -> Any:
        return 7

    def __bool__(self) -> bool:
        return _wrong("no")

    def __hash__(self) -> int:
        return _wrong("hash")

    def __eq__(self, other: object) -> Any:
        return self


def _wrong(value: Any) -> Any:
    return value


class BadClass:
    """A proxy outside its context: even `isinstance` raises."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]  # that is what such proxies do
        raise RuntimeError("working outside of request context")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    __hash__ = None  # type: ignore[assignment]  # not hashable either


class BadAttributes:
    """Every attribute raises something that is no AttributeError."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConnectionError(name)


class BadAccess:
    """Even the attributes that exist cannot be read."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise MemoryError(name)


class BadMapping(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> NoReturn:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class BadDict(dict[str, Any]):
    """A dictionary with broken methods."""

    def items(self) -> Any:
        raise ValueError("not today")

    def __iter__(self) -> Iterator[str]:
        raise ValueError("not today")

    def get(self, *_: Any) -> Any:
        raise ValueError("not today")

    def __len__(self) -> int:
        raise ValueError("not today")


class BadList(list[Any]):
    """A list that cannot be iterated."""

    def __iter__(self) -> Iterator[Any]:
        raise ValueError("not today")

    def __len__(self) -> int:
        raise ValueError("not today")


class BadString(str):
    """Text that refuses everything text can do."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("no")

    __str__ = __repr__ = __len__ = __iter__ = __bool__ = __eq__ = __format__ = _refuse
    encode = strip = startswith = lower = isascii = isdigit = split = __contains__ = _refuse

    def __hash__(self) -> int:
        raise RuntimeError("no")


class LyingString(str):
    """Text whose methods answer something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def strip(self, *_: Any) -> Any:
        return 5

    def encode(self, *_: Any, **__: Any) -> Any:
        return None

    def __len__(self) -> int:
        return 10**9


class BadNumber(int):
    """An integer that refuses to be a number."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise ArithmeticError("no")

    __float__ = __int__ = __index__ = __eq__ = __lt__ = __le__ = __ge__ = __gt__ = _refuse
    __bool__ = __str__ = __repr__ = __add__ = __radd__ = _refuse
    __hash__ = int.__hash__


class BadFloat(float):
    """The same for floats."""

    __float__ = __int__ = __eq__ = __lt__ = __le__ = __ge__ = __gt__ = BadNumber._refuse  # type: ignore[assignment]  # any object will do
    __bool__ = __str__ = __repr__ = is_integer = BadNumber._refuse  # type: ignore[assignment]
    __hash__ = float.__hash__


class BadAwaitable:
    """Looks like a coroutine and a stream at once."""

    def __await__(self) -> NoReturn:
        raise RuntimeError("no")

    def __aiter__(self) -> NoReturn:
        raise RuntimeError("no")

    def __iter__(self) -> NoReturn:
        raise RuntimeError("no")


class Colour(Enum):
    RED = BadText()


@dataclasses.dataclass
class Node:
    """Points at itself."""

    next: Any = None


class Model:
    """As a pydantic model, by shape, that cannot be written."""

    def model_dump(self, **_: Any) -> NoReturn:
        raise RuntimeError("no serializer")

    def tolist(self) -> NoReturn:
        raise RuntimeError("no list")


def _cyclic() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


def _cyclic_mapping() -> dict[str, Any]:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    return deep


def _node() -> Node:
    node = Node()
    node.next = node
    return node


def _failing() -> Iterator[Any]:
    yield "a piece"
    raise OSError("the line is dead")


#: Name to what makes the value.
HOSTILE: Final[dict[str, Callable[[], Any]]] = {
    "bad text": BadText,
    "recursive": Recursive,
    "wrong types": WrongTypes,
    "bad class": BadClass,
    "bad attributes": BadAttributes,
    "bad access": BadAccess,
    "bad mapping": BadMapping,
    "bad dict": lambda: BadDict(a=1),
    "bad list": lambda: BadList([1]),
    "bad string": lambda: BadString("secret"),
    "lying string": lambda: LyingString("text"),
    "bad number": lambda: BadNumber(5),
    "bad float": lambda: BadFloat(0.5),
    "bad awaitable": BadAwaitable,
    "bad error": lambda: BadError("text"),
    "bad enumeration": lambda: Colour.RED,
    "bad model": Model,
    "cycle": _cyclic,
    "cyclic mapping": _cyclic_mapping,
    "deep": _deep,
    "dataclass cycle": _node,
    "failing generator": _failing,
    "lock": threading.Lock,
    "decimal": lambda: Decimal("NaN"),
    "huge": lambda: 10**5000,
    "beyond 64 bits": lambda: -(2**63) - 1,
    "nan": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "negative": lambda: -5,
    "number text": lambda: "12 tokens",
    "surrogate": lambda: "\ud800 alone",
    "zero byte": lambda: "a\x00b",
    "bytes": lambda: b"\xff\xfe",
    "memory": lambda: memoryview(b"abc"),
    "mixed": lambda: [1, "a", None, 2.5, b"x", [True]],
    "mixed texts": lambda: ["a", BadText(), BadString("b")],
    "keys": lambda: {1: "a", None: "b", (1, 2): "c", BadText(): "d", "\udfff": "e"},
    "bad members": lambda: {"role": BadText(), "content": BadClass(), "type": BadString("x")},
    "chat": lambda: {
        "choices": [None, 5, {"message": BadText(), "finish_reason": BadNumber(7)}],
        "usage": {"prompt_tokens": BadNumber(1), "completion_tokens": -3, "cost": BadFloat(1)},
    },
    "chunk": lambda: {
        "choices": [{"index": -1, "delta": {"content": "\ud800", "tool_calls": [None, 7]}}]
    },
    "anthropic": lambda: {
        "type": "message",
        "role": "assistant",
        "content": 5,
        "usage": {"input_tokens": 10**30, "cache_read_input_tokens": BadNumber(1)},
    },
    "class": lambda: object,
    "function": lambda: len,
}


class BadError(Exception):
    """An exception that cannot be shown and whose members cannot be read."""

    body: Any = BadClass()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def code(self) -> NoReturn:
        raise RuntimeError("no code")


def _chained() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _noted() -> BaseException:
    error = ValueError("with notes")
    error.__notes__ = 5  # type: ignore[assignment]  # whatever a library leaves there
    return error


class _Unraisable(BaseException):
    """Neither an Exception nor known to anybody."""


#: Name to what makes an error that the host raises on purpose, or None.
FAULTS: Final[dict[str, Callable[[], BaseException | None]]] = {
    "none": lambda: None,
    "plain": lambda: ValueError("plain"),
    "bad": BadError,
    "surrogate": lambda: ValueError("\ud800"),
    "hostile arguments": lambda: ValueError(BadText(), BadClass()),
    "chained in a circle": _chained,
    "notes": _noted,
    "recursion": RecursionError,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), BadError()]),
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "own base": _Unraisable,
}


class BadSignature:
    """A callable that can only be called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    @property
    def __name__(self) -> str:
        raise RuntimeError("no name")

    @property
    def __signature__(self) -> Any:
        raise RuntimeError("no signature")

    @property
    def __doc__(self) -> str:  # type: ignore[override]  # a property instead of a text
        raise RuntimeError("no words")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)


class OddSignature(BadSignature):
    """The same with members of wrong types."""

    __name__ = 5  # type: ignore[assignment]  # wrong on purpose
    __doc__ = BadText()  # type: ignore[assignment]
    __signature__ = BadText()  # type: ignore[assignment]


#: Name to what makes the callable that is given to `observe` from the host's function.
CALLABLES: Final[dict[str, Callable[[Callable[..., Any]], Any]]] = {
    "function": lambda function: function,
    "partial": functools.partial,
    "bad signature": BadSignature,
    "odd signature": OddSignature,
    "bound": lambda function: BadSignature(function).__call__,
}


@dataclasses.dataclass(frozen=True)
class StandIn:
    """Stands for a hostile value until the case runs."""

    name: str


def real(value: Any) -> Any:
    """A drawn value with the stand-ins replaced."""
    if isinstance(value, StandIn):
        return HOSTILE[value.name]()
    if isinstance(value, list):
        return [real(item) for item in value]
    if isinstance(value, dict):
        return {key: real(item) for key, item in value.items()}
    return value


_KEYS: Final = (
    "role", "content", "type", "parts", "text", "tool_calls", "function", "choices", "usage",
    "delta", "message", "index", "input_tokens", "prompt_tokens", "source", "image_url", "id",
)  # fmt: skip
_STAND_INS: Final = st.sampled_from(sorted(HOSTILE)).map(StandIn)
#: Values of every kind: plain ones, hostile ones, and both inside lists and mappings.
VALUES: Final = _STAND_INS | st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=8)
    | st.text(st.characters(), max_size=12)
    | st.text(st.characters(categories=["Cs"]), max_size=2)
    | _STAND_INS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
