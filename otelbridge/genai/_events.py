"""Putting the events of a streamed answer together.

Reads OpenAI chat completion chunks and Responses events, Anthropic message events, plain text
pieces, and the dictionaries of each. Only what a span needs is kept: ids, reasons and usage always,
text and tool calls up to a limit and only while content is captured.
"""

from __future__ import annotations

from typing import Any, Final

from otelbridge.cost.usage import Usage
from otelbridge.genai._values import is_text, optional_text, text_of, to_count, to_plain
from otelbridge.genai.messages import Message, Part, output_messages
from otelbridge.genai.responses import (
    Answer,
    field,
    finish_reason,
    items,
    read_answer,
    read_usage,
)

#: Characters of text kept per stream; what comes after is counted, not kept.
MAX_STREAM_CHARS: Final = 1_000_000
_MAX_PIECES: Final = 1_024  # choices, blocks and tool calls kept per stream

_STREAM_TYPES: Final = (
    "message_start",
    "message_delta",
    "message_stop",
    "content_block_",
    "response.",
    "error",
    "ping",
    "chunk",
)


def is_stream_event(value: object) -> bool:
    """Whether this is one event of a stream rather than a whole answer."""
    if is_text(value) or field(value, "object") == "chat.completion.chunk":
        return True
    choices = items(value, "choices")
    if choices and field(choices[0], "delta") is not None:
        return True
    kind = field(value, "type")
    return is_text(kind) and kind.startswith(_STREAM_TYPES)


class _Piece:
    """One part of the answer while it grows: text, reasoning or a tool call."""

    __slots__ = ("arguments", "block", "call_id", "kind", "name", "text")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.text: list[str] = []
        self.arguments: list[str] = []
        self.name: str | None = None
        self.call_id: str | None = None
        self.block: Any = None

    def part(self) -> Any:
        """The finished part, in a shape that `messages` reads."""
        if self.kind == "tool_call":
            arguments: Any = "".join(self.arguments)
            if not arguments and isinstance(self.block, dict):
                arguments = self.block.get("input") or self.block.get("arguments") or {}
            function = {"name": self.name or "", "arguments": arguments}
            return {"id": self.call_id, "function": function}
        if self.kind == "block":
            return self.block
        return {"type": self.kind, "content": "".join(self.text)}


class Events:
    """The state of one streamed answer: `add` each event, then ask for the `answer`."""

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._id: str | None = None
        self._model: str | None = None
        self._reasons: dict[int, str] = {}
        self._usage = Usage()
        self._raw_usage: dict[str, Any] = {}
        self._pieces: dict[tuple[int, str, int], _Piece] = {}
        self._chars = 0
        self._whole: Answer | None = None
        self._service_tier: str | None = None

    def add(self, event: object) -> None:
        """Take one event; an unknown shape is passed over."""
        if is_text(event):
            self._text((0, "text", 0), "text", event)
            return
        kind = field(event, "type")
        if items(event, "choices") or field(event, "object") == "chat.completion.chunk":
            self._chat_chunk(event)
        elif kind == "chunk":  # openai's chat.completions.stream() wraps its chunks
            self.add_wrapped(event)
        elif is_text(kind) and kind.startswith("response."):
            self._openai_event(kind, event)
        elif is_text(kind):
            self._anthropic_event(kind, event)

    def add_wrapped(self, event: object) -> None:
        """Take the raw chunk inside a helper event of the `openai` package."""
        chunk = field(event, "chunk")
        if chunk is not None:
            self._chat_chunk(chunk)

    def answer(self) -> Answer:
        """What the events so far say together."""
        mine = Answer(
            id=self._id,
            model=self._model,
            finish_reasons=tuple(self._reasons[index] for index in sorted(self._reasons)),
            messages=tuple(self._messages()),
            usage=self._usage,
            service_tier=self._service_tier,
        )
        whole = self._whole
        if whole is None:
            return mine
        return Answer(
            id=whole.id or mine.id,
            model=whole.model or mine.model,
            finish_reasons=whole.finish_reasons or mine.finish_reasons,
            messages=whole.messages or mine.messages,
            usage=mine.usage.merged(whole.usage),
            service_tier=whole.service_tier or mine.service_tier,
        )

    def _chat_chunk(self, chunk: object) -> None:
        self._id = self._id or optional_text(field(chunk, "id"))
        self._model = self._model or optional_text(field(chunk, "model"))
        self._service_tier = optional_text(field(chunk, "service_tier")) or self._service_tier
        usage = field(chunk, "usage")
        if usage is not None:
            self._usage = self._usage.merged(read_usage(usage))
        for choice in items(chunk, "choices"):
            index = to_count(field(choice, "index")) or 0
            reason = finish_reason(field(choice, "finish_reason"))
            if reason:
                self._reasons[index] = reason
            delta = field(choice, "delta")
            self._text((index, "text", 0), "text", field(choice, "text"))
            if delta is None:
                continue
            reasoning = field(delta, "reasoning_content") or field(delta, "reasoning")
            self._text((index, "a", 0), "reasoning", reasoning)
            self._text((index, "text", 0), "text", field(delta, "content"))
            self._text((index, "text2", 0), "refusal", field(delta, "refusal"))
            for position, call in enumerate(items(delta, "tool_calls")):
                number = to_count(field(call, "index"))
                function = field(call, "function")
                key = (index, "tool", position if number is None else number)
                self._tool(
                    key,
                    field(call, "id"),
                    field(function, "name"),
                    field(function, "arguments"),
                )

    def _openai_event(self, kind: str, event: object) -> None:
        response = field(event, "response")
        if response is not None:
            self._id = self._id or optional_text(field(response, "id"))
            self._model = self._model or optional_text(field(response, "model"))
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self._whole = read_answer(response, content=self._content)
            return
        index = to_count(field(event, "output_index")) or 0
        delta = field(event, "delta")
        if kind == "response.output_text.delta":
            self._text((0, "item", index), "text", delta)
        elif kind == "response.refusal.delta":
            self._text((0, "item", index), "refusal", delta)
        elif kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
            self._text((0, "item", index), "reasoning", delta)
        elif kind == "response.output_item.added":
            item = field(event, "item")
            if field(item, "type") == "function_call":
                self._tool((0, "item", index), field(item, "call_id"), field(item, "name"), None)
        elif kind == "response.function_call_arguments.delta":
            self._tool((0, "item", index), None, None, delta)

    def _anthropic_event(self, kind: str, event: object) -> None:
        index = to_count(field(event, "index")) or 0
        if kind == "message_start":
            message = field(event, "message")
            self._id = optional_text(field(message, "id"))
            self._model = optional_text(field(message, "model"))
            self._anthropic_usage(field(message, "usage"))
        elif kind == "message_delta":
            reason = finish_reason(field(field(event, "delta"), "stop_reason"))
            if reason:
                self._reasons[0] = reason
            self._anthropic_usage(field(event, "usage"))
        elif kind == "content_block_start":
            self._anthropic_block((0, "item", index), field(event, "content_block"))
        elif kind == "content_block_delta":
            delta = field(event, "delta")
            key = (0, "item", index)
            self._text(key, "text", field(delta, "text"))
            self._text(key, "reasoning", field(delta, "thinking"))
            if field(delta, "type") == "input_json_delta":
                self._tool(key, None, None, field(delta, "partial_json"))

    def _anthropic_block(self, key: tuple[int, str, int], block: object) -> None:
        kind = field(block, "type")
        if kind == "text":
            self._text(key, "text", field(block, "text"))
        elif kind == "thinking":
            self._text(key, "reasoning", field(block, "thinking"))
        elif kind == "tool_use":
            self._tool(key, field(block, "id"), field(block, "name"), None)
            if self._content and key in self._pieces:
                self._pieces[key].block = to_plain(block)
        elif self._content and kind is not None:
            piece = self._piece(key, "block")
            if piece is not None:
                piece.block = to_plain(block)

    def _anthropic_usage(self, usage: object) -> None:
        """Counts are cumulative and spread over two events: the raw fields are merged first."""
        if usage is None:
            return
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "cache_creation",
            "output_tokens_details",
        ):
            value = field(usage, name)
            if value is not None:
                self._raw_usage[name] = value
        self._usage = self._usage.merged(read_usage(self._raw_usage))

    def _piece(self, key: tuple[int, str, int], kind: str) -> _Piece | None:
        piece = self._pieces.get(key)
        if piece is None:
            if len(self._pieces) >= _MAX_PIECES:
                return None
            piece = self._pieces[key] = _Piece(kind)
        return piece

    def _text(self, key: tuple[int, str, int], kind: str, text: object) -> None:
        if not self._content or not is_text(text):
            return
        text = text_of(text)
        if not text:
            return
        piece = self._piece(key, kind)
        if piece is not None:
            piece.text.append(self._within_limit(text))

    def _tool(
        self, key: tuple[int, str, int], call_id: object, name: object, arguments: object
    ) -> None:
        if not self._content:
            return
        piece = self._piece(key, "tool_call")
        if piece is None:
            return
        piece.call_id = piece.call_id or optional_text(call_id)
        piece.name = piece.name or optional_text(name)
        if is_text(arguments):
            piece.arguments.append(self._within_limit(text_of(arguments)))

    def _within_limit(self, text: str) -> str:
        room = MAX_STREAM_CHARS - self._chars
        self._chars += len(text)
        return text if len(text) <= room else text[: max(room, 0)]

    def _messages(self) -> list[Message]:
        choices: dict[int, list[Part]] = {}
        for (choice, _, _), piece in sorted(self._pieces.items(), key=lambda entry: entry[0]):
            part = piece.part()
            message: dict[str, Any] = {"role": "assistant", "content": [part]}
            if piece.kind == "tool_call":
                message = {"role": "assistant", "content": None, "tool_calls": [part]}
            parts = output_messages(message)[0]["parts"]
            choices.setdefault(choice, []).extend(parts)
        return [{"role": "assistant", "parts": parts} for _, parts in sorted(choices.items())]
