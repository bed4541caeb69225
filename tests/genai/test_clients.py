"""The real OpenAI and Anthropic clients behind the helpers, their HTTP answered in the process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from opentelemetry.trace import StatusCode

from otelbridge import genai, semconv

pytestmark = pytest.mark.usefixtures("no_complaints")


def _sse(events: list[dict[str, Any]], *, named: bool = False, done: bool = False) -> bytes:
    lines = []
    for event in events:
        if named:
            lines.append(f"event: {event['type']}\n")
        lines.append(f"data: {json.dumps(event)}\n\n")
    if done:
        lines.append("data: [DONE]\n\n")
    return "".join(lines).encode()


def _chunk(**more: Any) -> dict[str, Any]:
    frame = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return {**frame, "choices": [], **more}


CHAT_STREAM = _sse(
    [
        _chunk(choices=[{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]),
        _chunk(choices=[{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]),
        _chunk(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
    ],
    done=True,
)
ANTHROPIC_STREAM = _sse(
    [
        {
            "type": "message_start",
            "message": {
                "id": "m-1",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-5-5",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 9, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ],
    named=True,
)


def _transport(body: bytes, status: int = 200) -> httpx2.MockTransport:
    kind = "text/event-stream" if status == 200 else "application/json"
    return httpx2.MockTransport(
        lambda request: httpx2.Response(status, headers={"content-type": kind}, content=body)
    )


def _openai(body: bytes, status: int = 200) -> openai.OpenAI:
    client = httpx2.Client(transport=_transport(body, status))
    return openai.OpenAI(
        api_key="none", base_url="http://127.0.0.1/v1", http_client=client, max_retries=0
    )


def _ask(client: Any) -> Any:
    return client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
    )


def _expect_hello(spans: Any) -> None:
    found = spans.attributes
    assert json.loads(found[semconv.GEN_AI_OUTPUT_MESSAGES]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello"}]}
    ]
    assert found[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop",)
    assert found[semconv.GEN_AI_USAGE_INPUT_TOKENS] == 9
    assert found[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    assert found[semconv.STREAM_ENDING] == "complete"
    assert spans.one.status.status_code is StatusCode.UNSET


def test_an_openai_stream(spans: Any) -> None:
    """Text, reason and usage; `response` of the client's stream stays reachable."""
    with genai.chat("gpt-4o", provider="openai") as call:
        stream = call.stream(_ask(_openai(CHAT_STREAM)))
        assert stream.response.status_code == 200
        assert len(list(stream)) == 3
    _expect_hello(spans)


def test_an_openai_stream_that_is_left_early_is_closed_by_its_block(spans: Any) -> None:
    """The connection is given back, the span is no error."""
    with (
        genai.chat("gpt-4o", provider="openai") as call,
        call.stream(_ask(_openai(CHAT_STREAM))) as stream,
    ):
        next(stream)
    assert stream.response.is_closed
    assert spans.attributes[semconv.STREAM_ENDING] == "stopped"


def test_an_async_openai_stream_with_and_without_await(spans: Any) -> None:
    """The client's coroutine may be handed over as it is."""

    async def main(awaited: bool) -> int:
        client = openai.AsyncOpenAI(
            api_key="none",
            base_url="http://127.0.0.1/v1",
            http_client=httpx2.AsyncClient(transport=_transport(CHAT_STREAM)),
        )
        async with genai.chat("gpt-4o", provider="openai") as call:
            source = await _ask(client) if awaited else _ask(client)
            return len([chunk async for chunk in call.stream(source)])

    for awaited in (True, False):
        spans.exporter.clear()
        assert asyncio.run(main(awaited)) == 3
        _expect_hello(spans)


def test_an_openai_error_keeps_its_code(spans: Any) -> None:
    """The provider's code is the `error.type`; the client's exception passes."""
    body = {"error": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"}}
    client = _openai(json.dumps(body).encode(), 429)
    with (
        pytest.raises(openai.RateLimitError),
        genai.chat("gpt-4o", provider="openai") as call,
    ):
        call.stream(_ask(client))
    assert spans.attributes[semconv.ERROR_TYPE] == "rate_limit_exceeded"
    event = spans.one.events[0]
    assert event.attributes["exception.type"] == "openai.RateLimitError"


def _anthropic(body: bytes) -> anthropic.Anthropic:
    client = httpx2.Client(transport=_transport(body))
    return anthropic.Anthropic(
        api_key="none",
        base_url="http://127.0.0.1",
        http_client=client,
        max_retries=0,
        open_telemetry={"traces": False},  # the client's own span would be a second generation
    )


REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


def test_an_anthropic_event_stream(spans: Any) -> None:
    """`create(stream=True)`; the reason is in the common vocabulary."""
    with genai.chat("claude-sonnet-5-5", provider="anthropic") as call:
        list(call.stream(_anthropic(ANTHROPIC_STREAM).messages.create(**REQUEST, stream=True)))
    _expect_hello(spans)


def test_an_anthropic_stream_manager(spans: Any) -> None:
    """`messages.stream()` is a context manager; its extra events do not double the text."""
    with (
        genai.chat("claude-sonnet-5-5", provider="anthropic") as call,
        call.stream(_anthropic(ANTHROPIC_STREAM).messages.stream(**REQUEST)) as stream,
    ):
        for _ in stream:
            pass
        assert stream.get_final_message().content[0].text == "Hello"
    _expect_hello(spans)
