"""Values that hate telemetry: every helper survives them and what it writes can be sent."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import BaseModel

from otelbridge import genai, semconv
from otelbridge.genai._values import (
    attribute_value,
    text_list,
    text_of,
    to_count,
    to_float,
    to_int,
    to_json,
    to_plain,
)


class BadText:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


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


class BadMapping(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> NoReturn:
        raise OSError("gone")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class BadList(list[Any]):
    """A list that cannot be iterated."""

    def __iter__(self) -> Iterator[Any]:
        raise ValueError("not today")


class BadAttributes:
    """Every attribute raises something that is no AttributeError."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConnectionError(name)


class BadNumber(int):
    """An integer that refuses to be a number."""

    def __float__(self) -> float:
        raise ArithmeticError

    def __int__(self) -> int:
        raise ArithmeticError


class BadError(Exception):
    """An exception that cannot be shown."""

    body: Any = BadClass()

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Colour(Enum):
    RED = BadText()


@dataclasses.dataclass
class Node:
    """Points at itself."""

    next: Any = None


class Model(BaseModel):
    """A pydantic model with a field that JSON does not know."""

    model_config = {"arbitrary_types_allowed": True}
    data: bytes
    other: Any = None


def _cyclic() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    return deep


def _shared() -> list[Any]:
    """2**40 leaves for a walker that does not count."""
    level: list[Any] = ["x"]
    for _ in range(40):
        level = [level, level]
    return level


def _node() -> Node:
    node = Node()
    node.next = node
    return node


#: Made afresh by name: test tools look at their parameters, and these do not like being looked at.
HOSTILE: dict[str, Callable[[], Any]] = {
    "bad text": BadText,
    "bad class": BadClass,
    "bad mapping": BadMapping,
    "bad list": lambda: BadList([1]),
    "bad attributes": BadAttributes,
    "bad number": lambda: BadNumber(5),
    "bad error": BadError,
    "bad enumeration": lambda: Colour.RED,
    "cycle": _cyclic,
    "deep": _deep,
    "shared": _shared,
    "dataclass cycle": _node,
    "pydantic": lambda: Model(data=b"\xff\x00", other=BadText()),
    "lock": threading.Lock,
    "decimal": lambda: Decimal("NaN"),
    "huge": lambda: 10**5000,
    "beyond 64 bits": lambda: -(2**63) - 1,
    "nan": lambda: float("nan"),
    "infinite": lambda: float("-inf"),
    "surrogate": lambda: "\ud800 alone",
    "pair": lambda: "\ud83d\ude00 a pair",
    "bytes": lambda: b"\xff\xfe",
    "memory": lambda: memoryview(b"abc"),
    "keys": lambda: {1: "a", None: "b", (1, 2): "c", BadText(): "d", "\udfff": "e"},
    "message": lambda: {
        "role": BadText(),
        "content": [{"type": "image_url", "image_url": BadText()}],
    },
    "text block": lambda: [{"role": "user", "content": [{"type": "text", "text": 10**400}]}],
    "anthropic": lambda: {
        "type": "message",
        "role": "assistant",
        "content": 5,
        "usage": {"input_tokens": 10**30},
    },
    "chat": lambda: {
        "choices": [None, 5, {"message": BadText(), "finish_reason": 7}],
        "usage": "none",
    },
    "chunk": lambda: {
        "choices": [{"index": -1, "delta": {"content": "\ud800", "tool_calls": [None, 7]}}]
    },
    "responses": lambda: {
        "type": "response.completed",
        "response": {"object": "response", "output": [BadText()]},
    },
    "delta": lambda: {"type": "content_block_delta", "index": 10**30, "delta": {"text": "x"}},
    "class": lambda: object,
    "function": lambda: len,
    "range": lambda: range(3),
}


@dataclasses.dataclass(frozen=True)
class Hostile:
    """Stands for one of them until the test runs."""

    name: str


def _real(value: Any) -> Any:
    """A drawn value with the stand-ins replaced."""
    if isinstance(value, Hostile):
        return HOSTILE[value.name]()
    if isinstance(value, list):
        return [_real(item) for item in value]
    if isinstance(value, dict):
        return {key: _real(item) for key, item in value.items()}
    return value


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=8)
    | st.text(st.characters(), max_size=12)
    | st.text(st.characters(categories=["Cs"]), max_size=2)
    | st.sampled_from(sorted(set(HOSTILE) - {"shared"})).map(Hostile),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "parts",
                    "text",
                    "tool_calls",
                    "function",
                    "choices",
                    "usage",
                    "delta",
                    "message",
                    "index",
                    "input_tokens",
                    "source",
                    "image_url",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _exercise(value: Any) -> None:
    """Give one value to every parameter and every method of every helper."""
    with genai.chat(
        value,
        provider=value,
        messages=value,
        system=value,
        operation=value,
        temperature=value,
        top_p=value,
        top_k=value,
        max_tokens=value,
        frequency_penalty=value,
        presence_penalty=value,
        stop=value,
        seed=value,
        n=value,
        stream=value,
        tools=value,
        output_type=value,
        reasoning_level=value,
        conversation_id=value,
        prompt_name=value,
        prompt_version=value,
        attributes={"x": value},
    ) as call:
        call.set_messages(value)
        call.set_output(value)
        call.set_usage(
            input_tokens=value,
            output_tokens=value,
            cached_tokens=value,
            cache_write_tokens=value,
            reasoning_tokens=value,
            cost_usd=value,
        )
        call.set_response(id=value, model=value, finish_reasons=value)
        call.record(value)
        call.record_event(value)
        assert len(list(call.stream(iter([value, value])))) == 2
        call.set_attribute(value, value)
        call.record_exception(BadError())
    with genai.embeddings(
        value, provider=value, input=value, dimensions=value, encoding_formats=value
    ) as vectors:
        vectors.record(value)
    with genai.execute_tool(
        value, arguments=value, call_id=value, description=value, type=value
    ) as tool:
        tool.set_result(value)
    with genai.retrieval(value, query=value, top_k=value, provider=value) as found:
        found.set_documents(value)
    with genai.invoke_agent(value, input=value, id=value, model=value) as agent:
        agent.set_output(value)
    with genai.evaluate(value, input=value) as judged:
        judged.set_score(value, label=value, explanation=value)
    with genai.span(value, kind=value, input=value) as step:
        step.set_output(value)

    @genai.observe(kind="retriever")
    def observed(given: Any, *more: Any, **named: Any) -> Any:
        return given

    assert observed(value, value, named=value) is value


JSON_KEYS = {
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
    semconv.GEN_AI_TOOL_DEFINITIONS,
    semconv.GEN_AI_RETRIEVAL_DOCUMENTS,
    semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS,
    semconv.LANGFUSE_OBSERVATION_COST_DETAILS,
}
DOUBLES = {
    semconv.GEN_AI_REQUEST_TEMPERATURE,
    semconv.GEN_AI_REQUEST_TOP_P,
    semconv.GEN_AI_USAGE_COST,
    semconv.GEN_AI_EVALUATION_SCORE_VALUE,
}


def _no_constants(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def _check_encodable(ended: list[Any]) -> None:
    """Encode as OTLP, decode, and look at every attribute."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(encode_spans(ended).SerializeToString())
    [resource] = request.resource_spans
    decoded = [span for scope in resource.scope_spans for span in scope.spans]
    assert len(decoded) == len(ended)
    for span in decoded:
        for attribute in span.attributes:
            kind = attribute.value.WhichOneof("value")
            assert kind in {
                "string_value",
                "int_value",
                "double_value",
                "bool_value",
                "array_value",
            }
            if attribute.key in JSON_KEYS:
                json.loads(attribute.value.string_value, parse_constant=_no_constants)
            if attribute.key in DOUBLES:
                assert kind == "double_value"


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(JSON_LIKE)
def test_any_value_anywhere_is_survived_and_can_be_sent(spans: Any, value: Any) -> None:
    """Nothing raises (the guard raises again here), everything encodes, types hold."""
    spans.exporter.clear()
    _exercise(_real(value))
    assert len(spans.all) == 8
    _check_encodable(spans.all)


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_each_hostile_value_is_survived_and_can_be_sent(spans: Any, name: str) -> None:
    """The listed ones, one by one."""
    _exercise(HOSTILE[name]())
    assert len(spans.all) == 8
    _check_encodable(spans.all)


@given(JSON_LIKE)
@settings(max_examples=200, deadline=None)
def test_json_text_is_always_valid_and_encodable(value: Any) -> None:
    """Strict JSON, UTF-8, integers within 64 bits."""
    value = _real(value)
    text = to_json(value)
    text.encode("utf-8")

    def check_int(digits: str) -> int:
        number = int(digits)
        assert -(2**63) <= number < 2**63
        return number

    json.loads(text, parse_constant=_no_constants, parse_int=check_int)
    text_of(value).encode("utf-8")
    assert isinstance(attribute_value(value), str | bool | int | float | list)
    for convert, kinds in ((to_int, int), (to_count, int), (to_float, float), (text_list, list)):
        result = convert(value)
        assert result is None or type(result) is kinds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", None: "b", False: "c"}, {"1": "a", "null": "b", "false": "c"}),
        ((1, 2), [1, 2]),
        (b"text", "text"),
        (b"\xff", "/w=="),
        (2**63, "9223372036854775808"),
        (float("nan"), "nan"),
        (Node(next=1), {"next": 1}),
        (Model(data=b"x"), {"data": "x"}),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud800", "\ufffd"),
        (Decimal("1.5"), "1.5"),
    ],
)
def test_repairs_are_what_the_documentation_says(value: Any, expected: Any) -> None:
    """One example of each repair."""
    assert to_plain(value) == expected


def test_a_cycle_is_cut_where_it_closes() -> None:
    """The repeated container is a marker; a container used twice side by side is not."""
    assert to_plain(_cyclic()) == [1, {"again": "[cycle]"}]
    twice = [1]
    assert to_plain([twice, twice]) == [[1], [1]]


def test_an_iterator_is_never_consumed(spans: Any) -> None:
    """A generator given as an argument or result is still full afterwards."""
    source = (number for number in range(3))

    @genai.observe
    def passes(items: Iterator[int]) -> Iterator[int]:
        return items

    assert list(passes(source)) == [0, 1, 2]
    with genai.chat("m", provider="p", messages=(part for part in ["a"])):
        pass


def test_a_stream_that_cannot_be_looked_at_fails_as_it_would_alone(spans: Any) -> None:
    """Wrapping it raises nothing; reading it raises what Python raises."""
    with genai.chat("m", provider="p") as call:
        stream = call.stream(BadClass())
        with pytest.raises(TypeError, match="not iterable"):
            next(stream)
    assert spans.attributes[semconv.ERROR_TYPE] == "TypeError"


def test_an_exception_that_cannot_be_shown_is_recorded(spans: Any) -> None:
    """Type and stack trace at least, and the very object reaches the caller."""
    error = BadError()
    with pytest.raises(BadError) as caught, genai.chat("m", provider="p"):
        _raise(error)
    assert caught.value is error
    assert spans.attributes[semconv.ERROR_TYPE] == f"{__name__}.BadError"
    assert spans.one.events[0].attributes["exception.message"] == "<BadError>"
    _check_encodable(spans.all)


def test_a_provider_that_fails_does_not_reach_the_application(
    spans: Any, swallow_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the telemetry below us are swallowed and counted, sync and async."""
    from otelbridge import _guard
    from otelbridge.genai import _span

    def broken() -> NoReturn:
        raise RuntimeError("provider is broken")

    monkeypatch.setattr(_span, "_tracer", broken)
    before = _guard.failures().get("starting a span: RuntimeError", 0)

    async def main() -> list[int]:
        async with genai.chat("m", provider="p") as call:
            call.set_output("x")
            return list(call.stream([1, 2]))

    assert asyncio.run(main()) == [1, 2]
    assert _guard.failures()["starting a span: RuntimeError"] == before + 1
