"""Message lists of every common shape as semantic-convention messages."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from otelbridge.genai.messages import (
    MAX_BLOB_CHARS,
    input_messages,
    output_messages,
    system_instructions,
    tool_definitions,
)


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("hi", [{"role": "user", "parts": [text("hi")]}]),
        (["a", "b"], [{"role": "user", "parts": [text(item)]} for item in "ab"]),
        ({"role": "user", "content": "hi"}, [{"role": "user", "parts": [text("hi")]}]),
        (
            [{"role": "user", "content": "hi", "name": "ann"}],
            [{"role": "user", "parts": [text("hi")], "name": "ann"}],
        ),
        ([{"role": "assistant", "content": None}], [{"role": "assistant", "parts": []}]),
        (
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            [{"role": "user", "parts": [text("a"), text("b")]}],
        ),
        (
            [{"role": "model", "parts": [{"text": "gemini"}]}],
            [{"role": "assistant", "parts": [text("gemini")]}],
        ),
        (
            [{"role": "developer", "content": "obey"}],
            [{"role": "developer", "parts": [text("obey")]}],
        ),
    ],
)
def test_plain_shapes(given: Any, expected: Any) -> None:
    """Text, one message, lists, names, empty content."""
    assert input_messages(given) == expected


def test_messages_with_parts_stay_as_they_are() -> None:
    """Semconv messages in, the same out; unknown part types and keys too."""
    given = [
        {"role": "system", "parts": [text("x")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}},
                {"type": "reasoning", "content": "hm"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AA=="},
                {"type": "file", "modality": "document", "file_id": "f1"},
                {"type": "of_tomorrow", "x": 1},
            ],
            "finish_reason": "stop",
        },
    ]
    assert input_messages(given) == given
    assert output_messages(given) == given


def test_an_openai_conversation_with_tools() -> None:
    """Tool calls become parts with parsed arguments, tool messages become responses."""
    given = [
        {"role": "system", "content": "be kind"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "function", "name": "old", "content": "43"},
        {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
        {"role": "assistant", "content": "", "refusal": "I cannot"},
        {"role": "assistant", "reasoning_content": "hm", "content": "yes"},
    ]
    before = copy.deepcopy(given)
    assert input_messages(given) == [
        {"role": "system", "parts": [text("be kind")]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "name": "f", "id": "c1", "arguments": {"a": 1}},
                {"type": "tool_call", "name": "g", "id": "c2", "arguments": "{broken"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "old", "response": "43"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "name": "old", "arguments": {}}]},
        {"role": "assistant", "parts": [{"type": "refusal", "content": "I cannot"}]},
        {
            "role": "assistant",
            "parts": [{"type": "reasoning", "content": "hm"}, text("yes")],
        },
    ]
    assert given == before


def _parts(*blocks: dict[str, Any]) -> Any:
    return input_messages([{"role": "user", "content": list(blocks)}])[0]["parts"]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
        ),
        (
            {"type": "input_image", "image_url": "https://x/y.png"},
            {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        ),
        (
            {"type": "input_image", "file_id": "f1"},
            {"type": "file", "modality": "image", "file_id": "f1"},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "AAAA"},
        ),
        (
            {"type": "file", "file": {"file_id": "f1"}},
            {"type": "file", "modality": "document", "file_id": "f1"},
        ),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/gif", "data": "AAAA"},
            },
            {"type": "blob", "modality": "image", "mime_type": "image/gif", "content": "AAAA"},
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        ),
        (
            {"type": "document", "source": {"type": "text", "data": "words"}},
            {"type": "text", "content": "words"},
        ),
        (
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "reasoning", "content": "hm"},
        ),
        ({"type": "redacted_thinking", "data": "zzz"}, {"type": "redacted_thinking"}),
        (
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_call", "name": "f", "id": "t1", "arguments": {"a": 1}},
        ),
        (
            {"type": "tool_result", "tool_use_id": "t1", "content": "42", "is_error": True},
            {"type": "tool_call_response", "id": "t1", "is_error": True, "response": "42"},
        ),
        (
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
            {
                "type": "server_tool_call",
                "id": "s1",
                "name": "web_search",
                "server_tool_call": {"type": "web_search", "arguments": {"query": "x"}},
            },
        ),
        (
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
            {
                "type": "server_tool_call_response",
                "id": "s1",
                "server_tool_call_response": {"type": "web_search", "content": []},
            },
        ),
        ({"type": "brand_new", "x": 1}, {"type": "brand_new", "x": 1}),
    ],
)
def test_content_blocks_of_openai_and_anthropic(block: Any, expected: Any) -> None:
    """Each block has its part; an unknown one keeps its type."""
    assert _parts(block) == [expected]


def test_a_huge_picture_does_not_take_the_conversation_with_it() -> None:
    """Base64 beyond the limit is left out and its size named."""
    data = "A" * (MAX_BLOB_CHARS + 1)
    [part] = _parts({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    assert part["content"] == ""
    assert part["omitted_chars"] == len(data)


def test_an_openai_responses_conversation() -> None:
    """Items that are no messages get the role that they stand for."""
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
    ]
    assert input_messages(given) == [
        {"role": "user", "parts": [text("hi")]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "name": "f", "id": "c1", "arguments": {"a": 1}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}]},
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("be kind", [text("be kind")]),
        ([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}], [text("a")]),
        ({"role": "system", "parts": [text("a")]}, [text("a")]),
    ],
)
def test_system_instructions_are_parts(given: Any, expected: Any) -> None:
    """Text or blocks, as the APIs take them."""
    assert system_instructions(given) == expected


def test_tool_definitions_of_three_shapes_are_the_same() -> None:
    """OpenAI's nested and flat forms, Anthropic's form."""
    parameters = {"type": "object"}
    expected = {"type": "function", "name": "f", "description": "d", "parameters": parameters}
    function = {"name": "f", "description": "d", "parameters": parameters}
    given = [
        {"type": "function", "function": function},
        {"type": "function", **function},
        {"name": "f", "description": "d", "input_schema": parameters},
    ]
    assert tool_definitions(given) == [expected] * 3
    assert tool_definitions(None) == []
    assert tool_definitions([{"type": "web_search"}]) == [
        {"type": "web_search", "name": "web_search"}
    ]


def test_an_answer_of_several_choices_is_several_messages() -> None:
    """Text is one assistant message, a list of messages stays a list."""
    assert output_messages("hi") == [{"role": "assistant", "parts": [text("hi")]}]
    two = [{"role": "assistant", "content": item} for item in "ab"]
    assert output_messages(two) == [{"role": "assistant", "parts": [text(item)]} for item in "ab"]


@pytest.mark.parametrize("kind", [[], {}, 3, None])
def test_a_message_whose_type_is_no_text_keeps_its_content(kind: object) -> None:
    """An odd `type` beside a role costs nothing."""
    (message,) = input_messages([{"role": "user", "type": kind, "content": "hi"}])
    assert message["parts"] == [{"type": "text", "content": "hi"}]
