"""`call.record` and `call.stream` on the answers of the real clients' types and their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic.types as anthropic_types
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from otelbridge import genai, semconv

Shape = Callable[[Any, dict[str, Any]], Any]


def as_object(kind: Any, data: dict[str, Any]) -> Any:
    """The data as the client's own type."""
    return TypeAdapter(kind).validate_python(data)


def as_dict(kind: Any, data: dict[str, Any]) -> Any:
    """The data as plain JSON."""
    return data


shapes = pytest.mark.parametrize("shape", [as_object, as_dict])

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": "Let me look.",
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "lookup", "arguments": '{"id": 7}'},
                    }
                ],
            },
        },
        {
            "index": 1,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "No.", "refusal": None},
        },
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 20},
    },
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1.0,
    "model": "gpt-5",
    "status": "completed",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "thinking"}],
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "lookup",
            "arguments": '{"id": 7}',
        },
    ],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 5},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 150,
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"id": 7}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 30,
        "output_tokens": 7,
    },
}


def _recorded(spans: Any, answer: Any) -> dict[str, Any]:
    with genai.chat("asked-for", provider="openai") as call:
        call.record(answer)
    found: dict[str, Any] = spans.attributes
    return found


def _output(found: dict[str, Any]) -> Any:
    return json.loads(found[semconv.GEN_AI_OUTPUT_MESSAGES])


def _tokens(found: dict[str, Any]) -> dict[str, int]:
    prefix = "gen_ai.usage."
    return {
        key.removeprefix(prefix): value
        for key, value in found.items()
        if key.startswith(prefix) and key.endswith("_tokens")
    }


@shapes
def test_an_openai_chat_completion(spans: Any, shape: Shape) -> None:
    """Id, model, one reason and message per choice, cached and reasoning tokens."""
    found = _recorded(spans, shape(ChatCompletion, CHAT))
    assert found[semconv.GEN_AI_RESPONSE_ID] == "chatcmpl-1"
    assert found[semconv.GEN_AI_RESPONSE_MODEL] == "gpt-4o-2024-08-06"
    assert found[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("tool_calls", "stop")
    assert _tokens(found) == {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read.input_tokens": 40,
        "reasoning.output_tokens": 20,
    }
    call = {"type": "tool_call", "name": "lookup", "id": "call_1", "arguments": {"id": 7}}
    assert _output(found) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Let me look."}, call]},
        {"role": "assistant", "parts": [{"type": "text", "content": "No."}]},
    ]


@shapes
def test_an_openai_responses_answer(spans: Any, shape: Shape) -> None:
    """The output items are one message; the status becomes a finish reason."""
    found = _recorded(spans, shape(Response, RESPONSE))
    assert found[semconv.GEN_AI_RESPONSE_ID] == "resp_1"
    assert found[semconv.GEN_AI_RESPONSE_MODEL] == "gpt-5"
    assert found[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("tool_calls",)
    assert _tokens(found) == {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read.input_tokens": 40,
        "cache_write.input_tokens": 5,
        "cache_creation.input_tokens": 5,
        "reasoning.output_tokens": 20,
    }
    assert _output(found) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "thinking"},
                {"type": "text", "content": "Hello"},
                {"type": "tool_call", "name": "lookup", "id": "call_1", "arguments": {"id": 7}},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        ("completed", None, "stop"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("failed", None, "error"),
    ],
)
def test_the_status_of_a_responses_answer_is_a_finish_reason(
    spans: Any, status: str, details: Any, expected: str
) -> None:
    """One vocabulary for both of OpenAI's APIs."""
    answer = {**RESPONSE, "status": status, "incomplete_details": details, "output": []}
    found = _recorded(spans, answer)
    assert found[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == (expected,)


@shapes
def test_an_anthropic_message(spans: Any, shape: Shape) -> None:
    """Input tokens are the total with the cache; reasons in the common vocabulary."""
    found = _recorded(spans, shape(anthropic_types.Message, MESSAGE))
    assert found[semconv.GEN_AI_RESPONSE_ID] == "msg_1"
    assert found[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("tool_calls",)
    assert _tokens(found) == {
        "input_tokens": 170,
        "output_tokens": 7,
        "cache_read.input_tokens": 40,
        "cache_write.input_tokens": 30,
        "cache_creation.input_tokens": 30,
    }
    details = json.loads(found[semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS])
    assert details == {
        "input": 100,
        "output": 7,
        "input_cached_tokens": 40,
        "input_cache_creation": 30,
        "total": 177,
    }
    assert _output(found) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "Hello"},
                {"type": "tool_call", "name": "lookup", "id": "toolu_1", "arguments": {"id": 7}},
            ],
        }
    ]


@shapes
def test_an_openai_embeddings_answer(spans: Any, shape: Shape) -> None:
    """Model, input tokens and the length of the vectors; no vector."""
    data = {
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5, 0.75]}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    with genai.embeddings("text-embedding-3-small", provider="openai", input="x") as call:
        call.record(shape(CreateEmbeddingResponse, data))
    assert spans.attributes[semconv.GEN_AI_EMBEDDINGS_DIMENSION_COUNT] == 3
    assert _tokens(spans.attributes) == {"input_tokens": 8}
    assert spans.attributes[semconv.GEN_AI_USAGE_COST] > 0
    assert "0.75" not in spans.one.to_json()


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Let me "}}]},
    {"choices": [{"index": 0, "delta": {"content": "look."}}]},
    {
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "lookup", "arguments": '{"id"'},
                        }
                    ]
                },
            }
        ]
    },
    {
        "choices": [
            {
                "index": 0,
                "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 7}"}}]},
            }
        ]
    },
    {"choices": [{"index": 1, "delta": {"content": "No."}, "finish_reason": "stop"}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": CHAT["usage"]},
]


@shapes
def test_openai_chat_chunks_add_up_to_the_completion(spans: Any, shape: Shape) -> None:
    """A stream and a whole answer give the same span, but for what streaming adds."""
    frame = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
    }
    chunks = [shape(ChatCompletionChunk, {**frame, **chunk}) for chunk in CHUNKS]
    with genai.chat("asked-for", provider="openai") as call:
        assert list(call.stream(chunks)) == chunks
    with genai.chat("asked-for", provider="openai") as call:
        call.record(shape(ChatCompletion, CHAT))
    streamed, whole = (dict(span.attributes) for span in spans.all)
    for key in (
        semconv.GEN_AI_REQUEST_STREAM,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME,
        semconv.STREAM_ENDING,
    ):
        del streamed[key]
    assert streamed == whole


ANTHROPIC_EVENTS: list[tuple[Any, dict[str, Any]]] = [
    (
        anthropic_types.RawMessageStartEvent,
        {
            "type": "message_start",
            "message": {
                **MESSAGE,
                "content": [],
                "stop_reason": None,
                "usage": {**MESSAGE["usage"], "output_tokens": 1},  # type: ignore[dict-item]
            },
        },
    ),
    (
        anthropic_types.RawContentBlockStartEvent,
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
    ),
    (
        anthropic_types.RawContentBlockDeltaEvent,
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "hm"},
        },
    ),
    (
        anthropic_types.RawContentBlockStartEvent,
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    ),
    (
        anthropic_types.RawContentBlockDeltaEvent,
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
    ),
    (
        anthropic_types.RawContentBlockDeltaEvent,
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
    ),
    (
        anthropic_types.RawContentBlockStartEvent,
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {}},
        },
    ),
    (
        anthropic_types.RawContentBlockDeltaEvent,
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"id": 7}'},
        },
    ),
    (anthropic_types.RawContentBlockStopEvent, {"type": "content_block_stop", "index": 2}),
    (
        anthropic_types.RawMessageDeltaEvent,
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
    ),
    (anthropic_types.RawMessageStopEvent, {"type": "message_stop"}),
]


@shapes
def test_anthropic_events_add_up_to_the_message(spans: Any, shape: Shape) -> None:
    """Usage is spread over two events and cumulative; the result equals the whole message's."""
    with genai.chat("asked-for", provider="anthropic") as call:
        for kind, data in ANTHROPIC_EVENTS:
            call.record_event(shape(kind, data))
    with genai.chat("asked-for", provider="anthropic") as call:
        call.record(shape(anthropic_types.Message, MESSAGE))
    streamed, whole = (dict(span.attributes) for span in spans.all)
    for key in (
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME,
    ):
        del streamed[key]
    assert streamed == whole


def _response_events(last: str) -> list[dict[str, Any]]:
    started = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "lookup",
        "arguments": "",
    }
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {
            "type": "response.reasoning_summary_text.delta",
            "item_id": "rs_1",
            "output_index": 0,
            "summary_index": 0,
            "delta": "thinking",
        },
        {
            "type": "response.output_text.delta",
            "item_id": "msg_1",
            "output_index": 1,
            "content_index": 0,
            "delta": "Hello",
            "logprobs": [],
        },
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {
            "type": "response.function_call_arguments.delta",
            "item_id": "fc_1",
            "output_index": 2,
            "delta": '{"id": 7}',
        },
    ]
    if last:
        events.append({"type": last, "response": RESPONSE})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


@shapes
@pytest.mark.parametrize("last", ["response.completed", ""], ids=["complete", "cut off"])
def test_openai_responses_events_give_the_answer_even_when_cut_off(
    spans: Any, shape: Shape, last: str
) -> None:
    """With the final event all is known; without it text, calls, id and model still are."""
    events = [shape(ResponseStreamEvent, event) for event in _response_events(last)]
    with genai.chat("asked-for", provider="openai") as call:
        list(call.stream(events))
    found = spans.attributes
    assert _output(found)[0]["parts"] == [
        {"type": "reasoning", "content": "thinking"},
        {"type": "text", "content": "Hello"},
        {"type": "tool_call", "name": "lookup", "id": "call_1", "arguments": {"id": 7}},
    ]
    assert found[semconv.GEN_AI_RESPONSE_ID] == "resp_1"
    assert found[semconv.GEN_AI_RESPONSE_MODEL] == "gpt-5"
    assert (semconv.GEN_AI_USAGE_INPUT_TOKENS in found) is bool(last)


def test_what_the_application_sets_wins_over_what_is_read(spans: Any) -> None:
    """Output, usage and response fields given by hand stay, in either order."""
    with genai.chat("m", provider="openai") as call:
        call.set_output("mine")
        call.set_usage(input_tokens=90)
        call.set_response(model="mine")
        call.record(CHAT)
    found = spans.attributes
    assert _output(found) == [{"role": "assistant", "parts": [{"type": "text", "content": "mine"}]}]
    assert found[semconv.GEN_AI_USAGE_INPUT_TOKENS] == 90
    assert found[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] == 50
    assert found[semconv.GEN_AI_RESPONSE_MODEL] == "mine"
    assert found[semconv.GEN_AI_RESPONSE_ID] == "chatcmpl-1"


def test_an_event_recorded_by_hand_inside_a_stream_counts_once(spans: Any) -> None:
    """`record(chunk)` within `for chunk in call.stream(...)` does not double the text."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in "ab"]
    with genai.chat("m", provider="openai") as call:
        for chunk in call.stream(chunks):
            call.record(chunk)
    assert _output(spans.attributes)[0]["parts"] == [{"type": "text", "content": "ab"}]


@pytest.mark.parametrize("answer", [None, 5, "text", [], {}, object(), {"choices": 5}])
def test_an_unknown_answer_is_passed_over(spans: Any, answer: Any) -> None:
    """Nothing is read, nothing is raised."""
    found = _recorded(spans, answer)
    assert not [key for key in found if key.startswith(("gen_ai.response", "gen_ai.usage"))]


def test_a_very_long_stream_keeps_the_first_million_characters(spans: Any) -> None:
    """Memory is bounded; the stream itself is untouched."""
    with genai.chat("m", provider="openai") as call:
        assert (
            sum(len(text) for text in call.stream("x" * 1_000 for _ in range(1_100))) == 1_100_000
        )
    assert len(_output(spans.attributes)[0]["parts"][0]["content"]) == 1_000_000
