"""The decorator on every kind of function: what it records, and that the function stays itself."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from otelbridge import semconv
from otelbridge.genai import observe

pytestmark = pytest.mark.usefixtures("no_complaints")
INPUT = semconv.LANGFUSE_OBSERVATION_INPUT
OUTPUT = semconv.LANGFUSE_OBSERVATION_OUTPUT


@observe
def bare(a: int, *rest: int, b: str = "x", **more: Any) -> dict[str, int]:
    """A docstring."""
    return {"sum": a + sum(rest)}


@observe()
async def awaited(order_id: str) -> str:
    await asyncio.sleep(0)
    return order_id.upper()


class Shop:
    @observe(kind="tool")
    def lookup(self, order_id: str) -> dict[str, str]:
        return {"order": order_id}

    @observe
    @classmethod
    def build(cls, size: int) -> int:
        return size

    @staticmethod
    @observe
    def static(size: int) -> int:
        return size


def test_a_function_keeps_its_signature_and_records_arguments_by_name(spans: Any) -> None:
    """Name, docstring and signature stay; `**more` stands beside the others."""
    assert bare(1, 2, 3, b="y", c=True) == {"sum": 6}
    assert bare.__name__ == "bare"
    assert bare.__doc__ == "A docstring."
    assert list(inspect.signature(bare).parameters) == ["a", "rest", "b", "more"]
    assert spans.one.name == "bare"
    assert json.loads(spans.attributes[INPUT]) == {"a": 1, "rest": [2, 3], "b": "y", "c": True}
    assert spans.attributes[OUTPUT] == '{"sum":6}'
    assert spans.attributes[semconv.LANGFUSE_OBSERVATION_TYPE] == "span"


def test_a_coroutine_function_stays_one(spans: Any) -> None:
    """The span covers the awaiting, not the making of the coroutine."""
    assert inspect.iscoroutinefunction(awaited)
    coroutine = awaited("a")
    assert spans.all == []
    assert asyncio.run(coroutine) == "A"
    assert spans.attributes[INPUT] == '{"order_id":"a"}'
    assert spans.attributes[OUTPUT] == "A"


def test_methods_leave_self_and_cls_out(spans: Any) -> None:
    """Instance, class and static methods, and a tool's own attributes."""
    assert Shop().lookup("o-1") == {"order": "o-1"}
    assert Shop.build(2) == 2
    assert Shop.static(3) == 3
    tool = dict(spans.named("execute_tool lookup").attributes)
    assert tool == {
        "langfuse.observation.type": "tool",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "lookup",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.arguments": '{"order_id":"o-1"}',
        "gen_ai.tool.call.result": '{"order":"o-1"}',
    }
    assert spans.named("build").attributes[INPUT] == '{"size":2}'
    assert spans.named("static").attributes[INPUT] == '{"size":3}'


@pytest.mark.parametrize(
    ("kind", "name", "operation"),
    [
        ("span", "step", None),
        ("chain", "step", None),
        ("guardrail", "step", None),
        ("tool", "execute_tool step", "execute_tool"),
        ("retriever", "retrieval step", "retrieval"),
        ("agent", "invoke_agent step", "invoke_agent"),
        ("generation", "step", "chat"),
        ("embedding", "step", "embeddings"),
        ("evaluator", "evaluate step", None),
    ],
)
def test_every_kind_has_its_observation_type_and_operation(
    spans: Any, kind: str, name: str, operation: str | None
) -> None:
    """`langfuse.observation.type` is the kind; the operation is there where one exists."""

    @observe(kind=kind, name="step")
    def function(text: str) -> list[str]:
        return [text]

    assert function("x") == ["x"]
    assert spans.one.name == name
    assert spans.attributes[semconv.LANGFUSE_OBSERVATION_TYPE] == kind
    assert spans.attributes.get(semconv.GEN_AI_OPERATION_NAME) == operation


def test_capture_can_be_switched_off_per_function(spans: Any) -> None:
    """Neither the argument nor the result appears."""

    @observe(capture_input=False, capture_output=False)
    def quiet(password: str) -> str:
        return password

    assert quiet("hunter2") == "hunter2"
    assert "hunter2" not in spans.one.to_json()


def test_an_exception_passes_unchanged(spans: Any) -> None:
    """The caller sees the very object; the span is an error."""
    error = ValueError("no")

    @observe
    def fails() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        fails()
    assert caught.value is error
    assert spans.one.status.status_code is StatusCode.ERROR


def test_a_call_with_wrong_arguments_fails_as_without_the_decorator(spans: Any) -> None:
    """The TypeError is the function's own."""
    with pytest.raises(TypeError, match=r"bare\(\) missing 1 required positional argument"):
        bare()  # type: ignore[call-arg]  # that is the point
    assert spans.one.status.status_code is StatusCode.ERROR


@observe
def conversation(start: int) -> Generator[int, int, str]:
    total = start
    while True:
        try:
            received = yield total
        except ValueError:
            total = -1
            continue
        if received is None:
            return f"done {total}"
        total += received


def test_a_generator_keeps_send_throw_and_its_return_value(spans: Any) -> None:
    """The whole generator protocol passes through."""
    assert inspect.isgeneratorfunction(conversation)
    body = conversation(1)
    assert spans.all == []
    assert next(body) == 1
    assert body.send(2) == 3
    assert body.throw(ValueError()) == -1
    with pytest.raises(StopIteration) as stop:
        next(body)
    assert stop.value.value == "done -1"
    assert spans.attributes[OUTPUT] == "[1,3,-1]"
    assert spans.attributes[semconv.STREAM_ENDING] == "complete"


def test_yield_from_an_observed_generator_gives_its_return_value(spans: Any) -> None:
    """Delegation works as without the decorator; without items the return value is the output."""

    @observe
    def inner() -> Iterator[int]:
        return 42
        yield

    def outer() -> Iterator[int]:
        assert (yield from inner()) == 42

    assert list(outer()) == []
    assert spans.attributes[OUTPUT] == "42"


def test_a_generator_that_is_closed_runs_its_clean_up_and_is_no_error(spans: Any) -> None:
    """Close and drop reach the body's `finally`; the partial text is the output."""
    cleaned = []

    @observe
    def words() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            cleaned.append(trace.get_current_span())

    body = words()
    next(body)
    body.close()
    dropped = words()
    next(dropped)
    del dropped
    gc.collect()
    assert len(cleaned) == 2
    assert all(span.get_span_context().is_valid for span in cleaned)
    assert [span.status.status_code for span in spans.all] == [StatusCode.UNSET] * 2
    assert spans.all[0].attributes[OUTPUT] == "a"
    assert spans.all[0].attributes[semconv.STREAM_ENDING] == "stopped"


def test_a_generator_that_fails_keeps_what_it_gave(spans: Any) -> None:
    """The exception passes; the items before it are the output."""

    @observe
    def words() -> Iterator[str]:
        yield "a"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(words())
    assert spans.one.status.status_code is StatusCode.ERROR
    assert spans.attributes[OUTPUT] == "a"


def test_a_generator_is_current_in_its_body_only(spans: Any) -> None:
    """The consumer's spans between two items are not its children."""
    tracer = trace.get_tracer("test")

    @observe
    def words() -> Iterator[str]:
        for word in ("a", "b"):
            with tracer.start_as_current_span(f"inside {word}"):
                pass
            yield word

    for word in words():
        with tracer.start_as_current_span(f"outside {word}"):
            pass
    parent = spans.named("words").context.span_id
    for word in ("a", "b"):
        assert spans.named(f"inside {word}").parent.span_id == parent
        assert spans.named(f"outside {word}").parent is None


@observe(kind="generation")
async def tokens(prompt: str) -> AsyncIterator[str]:
    for token in (prompt, "!"):
        await asyncio.sleep(0)
        yield token


def test_an_async_generator_joins_its_text_and_has_a_first_chunk(spans: Any) -> None:
    """A streaming generation: text joined, time to first chunk set."""
    assert inspect.isasyncgenfunction(tokens)

    async def main() -> list[str]:
        return [token async for token in tokens("hi")]

    assert asyncio.run(main()) == ["hi", "!"]
    assert spans.attributes[OUTPUT] == "hi!"


def test_an_async_generator_keeps_asend_and_athrow(spans: Any) -> None:
    """The async protocol passes through, and closing in the middle is no error."""

    @observe
    async def echo() -> Any:
        received = "start"
        while True:
            try:
                received = yield received
            except ValueError:
                received = "thrown"

    async def main() -> None:
        body = echo()
        assert await anext(body) == "start"
        assert await body.asend("x") == "x"
        assert await body.athrow(ValueError()) == "thrown"
        await body.aclose()

    asyncio.run(main())
    assert spans.one.status.status_code is StatusCode.UNSET
    assert spans.attributes[semconv.STREAM_ENDING] == "stopped"


def test_a_cancelled_coroutine_is_an_error_of_that_type(spans: Any) -> None:
    """Cancellation passes through and is named."""

    @observe
    async def forever() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spans.attributes[semconv.ERROR_TYPE] == "asyncio.exceptions.CancelledError"


def test_long_generators_are_cut_in_the_record_only(spans: Any) -> None:
    """All items reach the consumer; the first 1,000 and a count are kept."""

    @observe
    def many() -> Iterator[int]:
        yield from range(1_500)

    assert len(list(many())) == 1_500
    output = json.loads(spans.attributes[OUTPUT])
    assert len(output) == 1_001
    assert output[-1] == "[500 more items]"


def test_the_input_is_what_it_was_before_the_call(spans: Any) -> None:
    """A function that changes its argument does not change the record."""

    @observe
    def empties(items: list[int]) -> None:
        items.clear()

    empties([1, 2])
    assert spans.attributes[INPUT] == '{"items":[1,2]}'
