"""Streams passed through item by item: measured, read, and always ended exactly once.

A stream gives the application the same items, exceptions and members as the one it wraps. Its
endings: `complete`; `stopped` by the consumer (break, close, dropped, never read: no error, level
WARNING in Langfuse); `failed` upstream (status ERROR, finish reason `error`); `cancelled` (status
ERROR, `asyncio.exceptions.CancelledError`). While an item is fetched the span of the call is
current; between items nothing stays attached.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from opentelemetry.trace import Span

from otelbridge.genai._scope import Scope

T = TypeVar("T")


class StreamOwner(Protocol):
    """What a stream needs of the call that it belongs to."""

    span: Span

    def _stream_chunk(self, chunk: object) -> None: ...

    def _stream_ended(self, error: BaseException | None, complete: bool) -> None: ...


class _Stream:
    """What sync and async streams share: the source, its members, and ending once."""

    def __init__(self, call: StreamOwner, source: Any) -> None:
        self._call = call
        self._source = source
        self._manager: Any = None
        self._iterator: Any = None
        self._open = True

    def _end(self, error: BaseException | None = None, *, complete: bool = False) -> None:
        if self._open:
            self._open = False
            if isinstance(error, GeneratorExit):  # the consumer's doing
                error = None
            self._call._stream_ended(error, complete)

    def _current(self) -> Scope:
        return Scope(self._call.span)

    def _closer(self, *names: str) -> Any:
        """The first of these methods that the source, or the iterator made of it, has."""
        for owner in (self._source, self._iterator):
            for name in names:
                method = getattr(owner, name, None)
                if callable(method):
                    return method
        return None

    def __getattr__(self, name: str) -> Any:
        """Members of the wrapped stream (`response`, `get_final_message`, …)."""
        if name.startswith("__") or "_source" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._source, name)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be going down
            self._end()


class SyncStream(_Stream, Generic[T]):
    """An iterator over a stream; also a context manager when the stream is one."""

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            with self._current():
                if self._iterator is None:
                    self._iterator = iter(self._source)
                chunk: T = next(self._iterator)
        except StopIteration:
            self._end(complete=True)
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._call._stream_chunk(chunk)
        return chunk

    def close(self) -> None:
        """Close the wrapped stream; ends the measurement."""
        try:
            close = self._closer("close")
            if close is not None:
                with self._current():
                    close()
        except BaseException as error:
            self._end(error)
            raise
        self._end()

    def __enter__(self) -> Self:
        if hasattr(type(self._source), "__enter__"):
            try:
                with self._current():
                    self._manager, entered = self._source, self._source.__enter__()
            except BaseException as error:
                self._end(error)
                raise
            self._source = entered
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._manager is None:
            try:
                self.close()
            finally:
                self._end(exc)
            return None
        swallowed: bool | None = None
        try:
            swallowed = self._manager.__exit__(exc_type, exc, traceback)
        finally:
            self._end(exc)
        return swallowed


class AsyncStream(_Stream, Generic[T]):
    """An async iterator over a stream, or over what an awaitable gives."""

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            with self._current():
                await self._resolve()
                if self._iterator is None:
                    self._iterator = aiter(self._source)
                chunk: T = await anext(self._iterator)
        except StopAsyncIteration:
            self._end(complete=True)
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._call._stream_chunk(chunk)
        return chunk

    async def _resolve(self) -> None:
        """An async client gives a coroutine that gives the stream."""
        if inspect.isawaitable(self._source) and not hasattr(type(self._source), "__aiter__"):
            self._source = await self._source

    async def aclose(self) -> None:
        """Close the wrapped stream; ends the measurement."""
        try:
            close = self._closer("aclose", "close")
            if close is not None:
                with self._current():
                    result = close()
                    if inspect.isawaitable(result):
                        await result
        except BaseException as error:
            self._end(error)
            raise
        self._end()

    async def close(self) -> None:
        """The name that the OpenAI and Anthropic clients use for `aclose`."""
        await self.aclose()

    async def __aenter__(self) -> Self:
        try:
            with self._current():
                await self._resolve()
                if hasattr(type(self._source), "__aenter__"):
                    self._manager, entered = self._source, await self._source.__aenter__()
                    self._source = entered
        except BaseException as error:
            self._end(error)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        swallowed: bool | None = None
        try:
            if self._manager is None:
                await self.aclose()
            else:
                swallowed = await self._manager.__aexit__(exc_type, exc, traceback)
        finally:
            self._end(exc)
        return swallowed


class DualStream(SyncStream[T], AsyncStream[T]):
    """A stream that can be read either way, as LiteLLM's."""

    # `close` is the sync one; a sync name cannot also be awaited.
    close = SyncStream.close  # type: ignore[assignment]  # two kinds of stream, one name


def open_stream(call: StreamOwner, source: Any) -> SyncStream[Any] | AsyncStream[Any]:
    """Wrap a stream in the class of its kind; what is neither fails as it would unwrapped."""
    kind = type(source)
    awaitable = False
    with contextlib.suppress(Exception):  # a proxy without its context: fails when it is read
        awaitable = inspect.isawaitable(source)
    is_async = hasattr(kind, "__aiter__") or hasattr(kind, "__aenter__") or awaitable
    is_sync = hasattr(kind, "__iter__") or hasattr(kind, "__enter__")
    if is_async and is_sync:
        return DualStream(call, source)
    return AsyncStream(call, source) if is_async else SyncStream(call, source)
