"""What a provider's answer says about a call: id, model, finish reasons, messages, usage.

Reads OpenAI chat completions, Responses and embeddings, and Anthropic messages, as objects or as
dictionaries, by shape: neither package is imported, and compatible APIs work as well. Field names
are those of the two public HTTP APIs. Streams are put together in `_events`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from otelbridge.cost.usage import Usage
from otelbridge.genai._values import optional_text, to_count, to_float, to_plain
from otelbridge.genai.messages import Message, output_messages

#: One vocabulary of finish reasons (OpenAI's, which the semantic conventions start from), so that
#: one query covers all providers. Source: `stop_reason` of the Anthropic Messages API.
FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "max_output_tokens": "length",
}


_UNKNOWN: Final = Usage()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was read from an answer; None and empty are unknown."""

    id: str | None = None
    model: str | None = None
    finish_reasons: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    usage: Usage = _UNKNOWN
    dimensions: int | None = None  # length of an embedding vector
    service_tier: str | None = None  # that the call was billed at (OpenAI)


def field(source: object, name: str) -> Any:
    """A member of a dictionary or an attribute of an object; None when there is none."""
    try:
        return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
    except Exception:  # noqa: BLE001 - a member of a class that is not ours may raise anything
        return None


def items(source: object, name: str) -> Sequence[Any]:
    """A member that should be a list; empty when it is none."""
    value = field(source, name)
    return value if issubclass(type(value), list | tuple) else ()


def read_answer(response: object, *, content: bool = True) -> Answer | None:
    """Read a whole answer.

    Args:
        response: An answer object or the dictionary of its JSON.
        content: False leaves the messages out.
    Returns:
        None when the shape is not known.
    """
    if items(response, "choices") or field(response, "object") == "chat.completion":
        return _chat_completion(response, content)
    if field(response, "object") == "response" or items(response, "output"):
        return _openai_response(response, content)
    if field(response, "type") == "message" and field(response, "role") == "assistant":
        return _anthropic_message(response, content)
    data = items(response, "data")
    if data and field(data[0], "embedding") is not None:
        return _embeddings(response, data)
    return None


def _chat_completion(response: object, content: bool) -> Answer:
    choices = items(response, "choices")
    messages: list[Message] = []
    for choice in choices if content else ():
        message = field(choice, "message")
        text = field(choice, "text")
        if message is not None:
            messages.extend(output_messages(_message_fields(message)))
        elif text is not None:  # the older completions API
            messages.extend(output_messages(text))
    reasons = (finish_reason(field(choice, "finish_reason")) for choice in choices)
    return Answer(
        id=optional_text(field(response, "id")),
        model=optional_text(field(response, "model")),
        finish_reasons=tuple(reason for reason in reasons if reason),
        messages=tuple(messages),
        usage=read_usage(field(response, "usage")),
        service_tier=optional_text(field(response, "service_tier")),
    )


def _message_fields(message: object) -> Any:
    """A chat message of any class as a dictionary."""
    plain = to_plain(message)
    if isinstance(plain, dict):
        return plain
    names = ("role", "content", "refusal", "reasoning_content", "tool_calls", "function_call")
    return {name: field(message, name) for name in names if field(message, name) is not None}


def _openai_response(response: object, content: bool) -> Answer:
    output = items(response, "output")
    parts = [
        part
        for message in (output_messages(list(output)) if content else ())
        for part in message.get("parts", ())
    ]
    reasons = response_finish_reason(response)
    return Answer(
        id=optional_text(field(response, "id")),
        model=optional_text(field(response, "model")),
        finish_reasons=(reasons,) if reasons else (),
        messages=({"role": "assistant", "parts": parts},) if parts else (),
        usage=read_usage(field(response, "usage")),
        service_tier=optional_text(field(response, "service_tier")),
    )


def response_finish_reason(response: object) -> str | None:
    """The finish reason of an OpenAI Responses answer, which has a status instead of one."""
    status = field(response, "status")
    if status == "incomplete":
        return finish_reason(field(field(response, "incomplete_details"), "reason"))
    if status in ("failed", "cancelled"):
        return "error"
    if status != "completed":
        return None
    calls = any(field(item, "type") == "function_call" for item in items(response, "output"))
    return "tool_calls" if calls else "stop"


def _anthropic_message(response: object, content: bool) -> Answer:
    reason = finish_reason(field(response, "stop_reason"))
    blocks = list(items(response, "content"))
    message = {"role": "assistant", "content": blocks}
    return Answer(
        id=optional_text(field(response, "id")),
        model=optional_text(field(response, "model")),
        finish_reasons=(reason,) if reason else (),
        messages=tuple(output_messages(message)) if content and blocks else (),
        usage=read_usage(field(response, "usage")),
    )


def _embeddings(response: object, data: Sequence[Any]) -> Answer:
    vector = field(data[0], "embedding")
    return Answer(
        model=optional_text(field(response, "model")),
        usage=read_usage(field(response, "usage")),
        dimensions=len(vector) if issubclass(type(vector), list | tuple) else None,
    )


def finish_reason(reason: object) -> str | None:
    """A provider's reason in the common vocabulary; unknown ones as they are."""
    text = optional_text(reason)
    return FINISH_REASONS.get(text, text) if text else None


def read_usage(usage: object) -> Usage:
    """Token counts of either API.

    OpenAI: `prompt_tokens` or `input_tokens` contain the cached ones. Anthropic: they do not, so
    `cache_read_input_tokens` and `cache_creation_input_tokens` are added.
    """
    if usage is None:
        return Usage()
    details_in = field(usage, "prompt_tokens_details") or field(usage, "input_tokens_details")
    details_out = field(usage, "completion_tokens_details") or field(usage, "output_tokens_details")
    total_in = _first(usage, "prompt_tokens", "input_tokens")
    cached = _first(details_in, "cached_tokens")
    written = _first(details_in, "cache_write_tokens")
    cache_read = _first(usage, "cache_read_input_tokens")
    cache_creation = _first(usage, "cache_creation_input_tokens")
    if cache_read is not None or cache_creation is not None:  # Anthropic
        cached = cache_read if cache_read is not None else cached
        written = cache_creation if cache_creation is not None else written
        if total_in is not None and field(usage, "prompt_tokens") is None:
            total_in += (cached or 0) + (written or 0)
    elif cached is None:
        cached = _first(usage, "prompt_cache_hit_tokens")  # DeepSeek
    return Usage(
        input_tokens=total_in,
        output_tokens=_first(usage, "completion_tokens", "output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=_first(details_out, "reasoning_tokens", "thinking_tokens"),
        cost_usd=to_float(field(usage, "cost")),  # OpenRouter, LiteLLM proxy: USD
        cache_write_1h_tokens=_first(field(usage, "cache_creation"), "ephemeral_1h_input_tokens"),
        audio_input_tokens=_first(details_in, "audio_tokens"),
        audio_output_tokens=_first(details_out, "audio_tokens"),
    )


def _first(source: object, *names: str) -> int | None:
    for name in names:
        count = to_count(field(source, name))
        if count is not None:
            return count
    return None
