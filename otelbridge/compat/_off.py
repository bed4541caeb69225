"""`NO_OP`: what the older APIs give while tracing is off or has failed to start.

One object, false in a condition, that takes every call, attribute, `with` and `async with`, so that
`if t:` and a bare `t.update(...)` both work.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Self


class NoOp:
    """Accepts everything, does nothing, is false; its ids are empty text."""

    id = trace_id = observation_id = session_id = user_id = name = ""

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Self:
        if name.startswith("__"):  # what copy, pickle and hasattr ask for is not there
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self:
            yield item

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "<otelbridge: tracing is off>"


NO_OP: Final = NoOp()
