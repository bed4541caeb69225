"""Every way a stream can end: one ended span, the right status, nothing left attached."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from otelbridge import semconv
from otelbridge.genai import chat

pytestmark = pytest.mark.usefixtures("no_complaints")


class Upstream(Exception):
    """A provider that breaks off."""


class Consumer(Exception):
    """An application that fails while it reads."""


def numbers(count: int = 3, fail_at: int | None = None) -> Iterator[str]:
    for number in range(count):
        if number == fail_at:
            raise Upstream("connection reset")
        yield str(number)


async def anumbers(count: int = 3, fail_at: int | None = None) -> AsyncIterator[str]:
    for number in range(count):
        if number == fail_at:
            raise Upstream("connection reset")
        await asyncio.sleep(0)
        yield str(number)


def call() -> Any:
    return chat("gpt-4o", provider="openai")


# -- sync endings ---------------------------------------------------------------------------------


def sync_complete() -> None:
    with call() as it:
        assert list(it.stream(numbers())) == ["0", "1", "2"]


def sync_break() -> None:
    with call() as it:
        for _ in it.stream(numbers()):
            break


def sync_close() -> None:
    with call() as it:
        stream = it.stream(numbers())
        next(stream)
        stream.close()


def sync_dropped() -> None:
    with call() as it:
        stream = it.stream(numbers())
        next(stream)
    del stream
    gc.collect()


def sync_cancelled() -> None:
    def view() -> Iterator[str]:
        with call() as it:
            yield from it.stream(numbers())

    body = view()
    next(body)
    body.close()  # as a WSGI server does when the client is gone


def sync_upstream_fails() -> None:
    with pytest.raises(Upstream, match="connection reset"), call() as it:
        list(it.stream(numbers(fail_at=1)))


def sync_consumer_fails() -> None:
    with pytest.raises(Consumer), call() as it:
        for _ in it.stream(numbers()):
            raise Consumer("disk full")


def sync_never_read() -> None:
    with call() as it:
        it.stream(numbers())


# -- async endings --------------------------------------------------------------------------------


async def async_complete() -> None:
    async with call() as it:
        assert [item async for item in it.stream(anumbers())] == ["0", "1", "2"]


async def async_break() -> None:
    async with call() as it:
        async for _ in it.stream(anumbers()):
            break


async def async_close() -> None:
    async with call() as it:
        stream = it.stream(anumbers())
        await anext(stream)
        await stream.close()


async def async_dropped() -> None:
    async with call() as it:
        stream = it.stream(anumbers())
        await anext(stream)
    del stream
    gc.collect()


async def async_cancelled() -> None:
    reading = asyncio.Event()

    async def forever() -> AsyncIterator[str]:
        yield "0"
        reading.set()
        await asyncio.Event().wait()

    async def read() -> None:
        async with call() as it:
            async for _ in it.stream(forever()):
                pass

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def async_upstream_fails() -> None:
    with pytest.raises(Upstream, match="connection reset"):
        async with call() as it:
            async for _ in it.stream(anumbers(fail_at=1)):
                pass


async def async_consumer_fails() -> None:
    with pytest.raises(Consumer):
        async with call() as it:
            async for _ in it.stream(anumbers()):
                raise Consumer("disk full")


async def async_never_read() -> None:
    async with call() as it:
        it.stream(anumbers())


#: scenario: status, error.type, ending, finish reasons
SYNC: list[tuple[Callable[[], Any], StatusCode, str | None, str, tuple[str, ...] | None]] = [
    (sync_complete, StatusCode.UNSET, None, "complete", None),
    (sync_break, StatusCode.UNSET, None, "stopped", None),
    (sync_close, StatusCode.UNSET, None, "stopped", None),
    (sync_dropped, StatusCode.UNSET, None, "stopped", None),
    (sync_cancelled, StatusCode.UNSET, None, "stopped", None),
    (sync_upstream_fails, StatusCode.ERROR, f"{__name__}.Upstream", "failed", ("error",)),
    (sync_consumer_fails, StatusCode.ERROR, f"{__name__}.Consumer", "stopped", None),
    (sync_never_read, StatusCode.UNSET, None, "stopped", None),
]
ASYNC: list[tuple[Callable[[], Any], StatusCode, str | None, str, tuple[str, ...] | None]] = [
    (async_complete, StatusCode.UNSET, None, "complete", None),
    (async_break, StatusCode.UNSET, None, "stopped", None),
    (async_close, StatusCode.UNSET, None, "stopped", None),
    (async_dropped, StatusCode.UNSET, None, "stopped", None),
    (
        async_cancelled,
        StatusCode.ERROR,
        "asyncio.exceptions.CancelledError",
        "cancelled",
        None,
    ),
    (async_upstream_fails, StatusCode.ERROR, f"{__name__}.Upstream", "failed", ("error",)),
    (async_consumer_fails, StatusCode.ERROR, f"{__name__}.Consumer", "stopped", None),
    (async_never_read, StatusCode.UNSET, None, "stopped", None),
]


@pytest.mark.parametrize("case", SYNC + ASYNC, ids=lambda case: case[0].__name__)
def test_every_ending_gives_one_ended_span_with_the_right_status(spans: Any, case: Any) -> None:
    """Eight endings, sync and async: one span, status, error.type, ending, exception event."""
    scenario, status, error_type, ending, reasons = case
    result = scenario()
    if asyncio.iscoroutine(result):
        asyncio.run(result)
    span = spans.one
    assert span.end_time is not None
    assert span.status.status_code is status
    attributes = spans.attributes
    assert attributes.get(semconv.ERROR_TYPE) == error_type
    assert attributes[semconv.STREAM_ENDING] == ending
    assert attributes.get(semconv.GEN_AI_RESPONSE_FINISH_REASONS) == reasons
    assert attributes[semconv.GEN_AI_REQUEST_STREAM] is True
    events = [event.name for event in span.events]
    assert events == (["exception"] if error_type else [])
    level = attributes.get(semconv.LANGFUSE_OBSERVATION_LEVEL)
    stopped_by_consumer = ending == "stopped" and error_type is None
    assert level == ("WARNING" if stopped_by_consumer else None)
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_stream_returned_from_the_block_ends_the_span_when_it_is_read(spans: Any) -> None:
    """The span outlives its block and ends with the stream, its context attached to nothing."""

    def answer() -> Iterator[str]:
        with call() as it:
            return it.stream(numbers())

    stream = answer()
    assert spans.all == []
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert list(stream) == ["0", "1", "2"]
    assert spans.one.status.status_code is StatusCode.UNSET
    assert spans.attributes[semconv.STREAM_ENDING] == "complete"
    assert '"content":"012"' in spans.attributes[semconv.GEN_AI_OUTPUT_MESSAGES]


@pytest.mark.parametrize("end", ["close", "drop", "fail"])
def test_a_returned_stream_ends_the_span_however_it_ends(spans: Any, end: str) -> None:
    """Closing, dropping and failing after the block each end the span once."""

    def answer() -> Any:
        with call() as it:
            return it.stream(numbers(fail_at=1 if end == "fail" else None))

    stream = answer()
    next(stream)
    if end == "close":
        stream.close()
    elif end == "fail":
        with pytest.raises(Upstream):
            next(stream)
    del stream
    gc.collect()
    expected = StatusCode.ERROR if end == "fail" else StatusCode.UNSET
    assert spans.one.status.status_code is expected


def test_a_returned_async_stream_ends_the_span_when_it_is_read(spans: Any) -> None:
    """The same for an async stream that is read in another task."""

    async def answer() -> Any:
        async with call() as it:
            return it.stream(anumbers())

    async def read(stream: Any) -> list[str]:
        return [item async for item in stream]

    async def main() -> None:
        stream = await answer()
        assert await asyncio.create_task(read(stream)) == ["0", "1", "2"]

    asyncio.run(main())
    assert spans.attributes[semconv.STREAM_ENDING] == "complete"


def test_a_failing_block_ends_the_span_though_its_stream_is_open(spans: Any) -> None:
    """An exception is not handed over: the span ends failed, the stream adds nothing."""
    kept = []
    with pytest.raises(Consumer), call() as it:
        kept.append(it.stream(numbers()))
        next(kept[0])
        raise Consumer
    assert spans.one.status.status_code is StatusCode.ERROR
    assert list(kept[0]) == ["1", "2"]
    assert len(spans.all) == 1


def test_a_second_stream_replaces_the_failure_of_the_first(spans: Any) -> None:
    """A retry within one call ends it as complete; the first failure stays as an event."""
    with call() as it:
        with pytest.raises(Upstream):
            list(it.stream(numbers(fail_at=1)))
        assert list(it.stream(numbers(2))) == ["0", "1"]
    assert spans.one.status.status_code is StatusCode.UNSET
    assert [event.name for event in spans.one.events] == ["exception"]
    assert '"content":"01"' in spans.attributes[semconv.GEN_AI_OUTPUT_MESSAGES]


@pytest.mark.parametrize("delay_seconds", [0.0, 0.15])
def test_time_to_first_chunk_is_true_within_20_ms_sync(spans: Any, delay_seconds: float) -> None:
    """A source that takes a known time to its first item."""
    at: list[float] = []

    def slow() -> Iterator[str]:
        time.sleep(delay_seconds)  # the delay that is measured
        at.append(time.perf_counter())
        yield "a"
        time.sleep(0.05)  # later items do not count
        yield "b"

    begin = time.perf_counter()
    with call() as it:
        list(it.stream(slow()))
    _assert_first_chunk(spans, at[0] - begin)


@pytest.mark.parametrize("delay_seconds", [0.0, 0.15])
def test_time_to_first_chunk_is_true_within_20_ms_async(spans: Any, delay_seconds: float) -> None:
    """The same for an async source."""
    at: list[float] = []

    async def slow() -> AsyncIterator[str]:
        await asyncio.sleep(delay_seconds)
        at.append(time.perf_counter())
        yield "a"
        await asyncio.sleep(0.05)
        yield "b"

    async def main() -> None:
        at.append(time.perf_counter())
        async with call() as it:
            async for _ in it.stream(slow()):
                pass

    asyncio.run(main())
    _assert_first_chunk(spans, at[1] - at[0])


def _assert_first_chunk(spans: Any, truth_seconds: float) -> None:
    """The attribute and Langfuse's timestamp against the time that the source itself took."""
    measured = spans.attributes[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    assert type(measured) is float
    assert abs(measured - truth_seconds) <= 0.02
    text = spans.attributes[semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME]
    at = datetime.fromisoformat(text)
    assert at.utcoffset() is not None
    since_start = at.timestamp() - spans.one.start_time / 1e9
    assert abs(since_start - truth_seconds) <= 0.02


def test_the_span_is_current_while_the_body_runs_and_while_items_are_fetched(spans: Any) -> None:
    """Spans made by the body and by the source are children, also after the block."""
    tracer = trace.get_tracer("test")

    def source() -> Iterator[str]:
        for name in ("first", "second"):
            with tracer.start_as_current_span(name):
                pass
            yield name

    with call() as it:
        with tracer.start_as_current_span("body"):
            pass
        stream = it.stream(source())
        next(stream)
    with tracer.start_as_current_span("after"):
        pass
    next(stream)
    stream.close()
    parent = it.span.get_span_context().span_id
    for name in ("body", "first", "second"):
        assert spans.named(name).parent.span_id == parent
    assert spans.named("after").parent is None


def test_a_generator_finalised_in_another_context_leaves_nothing_attached(spans: Any) -> None:
    """Steps in copied contexts and other threads, as servers do: no error log, one span."""

    def view() -> Iterator[str]:
        with call() as it:
            yield from it.stream(numbers())

    body = view()
    contextvars.copy_context().run(next, body)
    thread = threading.Thread(target=lambda: contextvars.copy_context().run(next, body))
    thread.start()
    thread.join()
    contextvars.copy_context().run(body.close)
    assert spans.attributes[semconv.STREAM_ENDING] == "stopped"
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_an_async_generator_dropped_in_the_middle_is_finalised_without_a_complaint(
    spans: Any,
) -> None:
    """The loop finalises it in a task of its own; the context of that task is not ours to reset."""

    async def view() -> AsyncIterator[str]:
        async with call() as it:
            async for item in it.stream(anumbers()):
                yield item

    async def main() -> None:
        body = view()
        await anext(body)
        del body
        gc.collect()
        while not spans.all:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 5))
    assert spans.one.status.status_code is StatusCode.UNSET


def test_blocks_left_out_of_order_never_make_an_ended_span_current(spans: Any) -> None:
    """Two interleaved generators in one thread: afterwards nothing is current."""

    def view(name: str) -> Iterator[str]:
        with chat(name, provider="openai"):
            yield name

    first, second = view("a"), view("b")
    next(first)
    next(second)
    first.close()
    second.close()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert len(spans.all) == 2


class ClientStream:
    """As the streams of the OpenAI and Anthropic clients: iterator, context manager, members."""

    response = "raw response"

    def __init__(self) -> None:
        self.closed = False
        self._items = iter(["a", "b"])

    def __iter__(self) -> ClientStream:
        return self

    def __next__(self) -> str:
        return next(self._items)

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


def test_a_client_stream_keeps_its_members_and_is_closed_by_its_block(spans: Any) -> None:
    """`with call.stream(...) as s` enters and leaves the wrapped stream; members stay reachable."""
    source = ClientStream()
    with call() as it:
        with it.stream(source) as stream:
            assert stream.response == "raw response"
            assert next(stream) == "a"
        assert source.closed
    assert spans.attributes[semconv.STREAM_ENDING] == "stopped"


def test_a_client_gone_while_a_stream_block_is_open_is_no_error(spans: Any) -> None:
    """A server closes the generator around both blocks: stopped, no exception event."""

    def view() -> Iterator[str]:
        with call() as it, it.stream(ClientStream()) as stream:
            yield next(stream)

    body = view()
    next(body)
    body.close()
    assert spans.one.status.status_code is StatusCode.UNSET
    assert spans.one.events == ()
    assert spans.attributes[semconv.STREAM_ENDING] == "stopped"


def test_a_coroutine_that_gives_a_stream_is_awaited(spans: Any) -> None:
    """`call.stream(async_client.create(...))` works with and without await."""

    async def create() -> AsyncIterator[str]:
        return anumbers()

    async def main() -> list[str]:
        async with call() as it:
            return [item async for item in it.stream(create())]

    assert asyncio.run(main()) == ["0", "1", "2"]
    assert spans.attributes[semconv.STREAM_ENDING] == "complete"


def test_a_stream_without_a_block_starts_and_ends_the_span(spans: Any) -> None:
    """`for chunk in chat(...).stream(source)` alone is one span."""
    assert list(call().stream(numbers())) == ["0", "1", "2"]
    assert spans.attributes[semconv.STREAM_ENDING] == "complete"


def test_what_is_no_stream_fails_as_it_would_alone(spans: Any) -> None:
    """The application sees its own TypeError, and the span says so."""
    with pytest.raises(TypeError, match="not iterable"), call() as it:
        list(it.stream(5))
    assert spans.attributes[semconv.ERROR_TYPE] == "TypeError"


def test_streams_work_without_a_provider() -> None:
    """No provider: the same objects, the same items, no trace id."""
    with call() as it:
        assert list(it.stream(numbers())) == ["0", "1", "2"]
        assert it.trace_id == ""
        assert it.span_id == ""
