"""What LangChain says of a model call, as `genai` takes it: model, provider, messages, answer.

Reads members and dictionaries, no class of LangChain's, so that its versions do not matter here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
#: `ls_provider` and class names to `gen_ai.provider.name`, where they differ.
_PROVIDERS: Final = {
    "azure": "azure.ai.openai", "azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock",
    "amazon_bedrock": "aws.bedrock", "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai", "mistralai": "mistral_ai", "xai": "x_ai",
}  # fmt: skip
_PARAMETERS: Final = {
    "temperature": ("temperature", "ls_temperature"),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "max_tokens": ("max_tokens", "max_completion_tokens", "ls_max_tokens", "num_predict"),
    "stop": ("stop", "ls_stop"),
    "seed": ("seed",),
}


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a model answered; `usage` are arguments of `set_usage`."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int | None] = field(default_factory=dict)
    id: str | None = None
    model: str | None = None
    finish_reasons: list[str] | None = None


def model_of(serialized: Any, given: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """The model asked for, by whichever name the integration has for it."""
    known = _mapping(_mapping(serialized).get("kwargs"))
    for place in (given, metadata, known):
        for key in ("model", "model_name", "ls_model_name", "model_id", "deployment_name"):
            if isinstance(place.get(key), str) and place[key]:
                return str(place[key])
    return str(_mapping(serialized).get("name") or given.get("_type") or "unknown")


def provider_of(serialized: Any, given: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """`gen_ai.provider.name`: as LangSmith's metadata say, else from the kind of the model."""
    found = metadata.get("ls_provider")
    if not isinstance(found, str) or not found:
        found = str(given.get("_type") or _mapping(serialized).get("name") or "langchain")
        found = found.removesuffix("-chat").removesuffix("-llm").removeprefix("Chat").lower()
    return _PROVIDERS.get(found, found)


def parameters_of(given: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `chat` for what was asked of the model."""
    found: dict[str, Any] = {}
    for name, keys in _PARAMETERS.items():
        value = next(
            (v for key in keys if (v := given.get(key, metadata.get(key))) is not None), None
        )
        if value is not None:
            found[name] = value
    if given.get("stream") or given.get("streaming"):
        found["stream"] = True
    return found


def messages_of(batches: list[list[Any]]) -> list[dict[str, Any]]:
    """Messages of LangChain in OpenAI's shape; a batch of several prompts follows one another."""
    return [_message(one) for batch in batches for one in batch]


def answer_of(result: Any) -> ChatAnswer:
    """The answer in an `LLMResult`."""
    generations = [one for batch in getattr(result, "generations", ()) for one in batch]
    told = _mapping(getattr(result, "llm_output", None))
    messages, reasons = [], []
    usage: Mapping[str, Any] = {}
    response: Mapping[str, Any] = {}
    for one in generations:
        message = getattr(one, "message", None)
        info = _mapping(getattr(one, "generation_info", None))
        if message is None:
            messages.append({"role": "assistant", "content": getattr(one, "text", "")})
        else:
            messages.append(_message(message))
            usage = usage or _mapping(getattr(message, "usage_metadata", None))
            response = response or _mapping(getattr(message, "response_metadata", None))
        reason = info.get("finish_reason") or response.get("finish_reason")
        reason = reason or response.get("stop_reason") or response.get("done_reason")
        if isinstance(reason, str):
            reasons.append(reason)
    older = _mapping(told.get("token_usage") or told.get("usage") or response.get("token_usage"))
    first_id = (
        getattr(getattr(generations[0], "message", None), "id", None) if generations else None
    )
    model = response.get("model_name") or response.get("model") or told.get("model_name")
    return ChatAnswer(
        messages=messages,
        usage=_usage(usage or older),
        id=str(response.get("id") or first_id or "") or None,
        model=model if isinstance(model, str) else None,
        finish_reasons=reasons or None,
    )


def _usage(counts: Mapping[str, Any]) -> dict[str, int | None]:
    """LangChain's own names, else those of the provider."""
    into, out = _mapping(counts.get("input_token_details")), counts.get("output_token_details")
    found = {
        "input_tokens": counts.get("input_tokens", counts.get("prompt_tokens")),
        "output_tokens": counts.get("output_tokens", counts.get("completion_tokens")),
        "cached_tokens": into.get("cache_read"),
        "cache_write_tokens": into.get("cache_creation"),
        "reasoning_tokens": _mapping(out).get("reasoning"),
        "audio_input_tokens": into.get("audio"),
        "audio_output_tokens": _mapping(out).get("audio"),
    }
    return {key: value for key, value in found.items() if isinstance(value, int)}


def _message(message: Any) -> dict[str, Any]:
    kind = str(getattr(message, "type", "") or "user")
    found: dict[str, Any] = {
        "role": getattr(message, "role", None) or _ROLES.get(kind, kind),
        "content": getattr(message, "content", ""),
    }
    calls = getattr(message, "tool_calls", None)
    if calls:
        found["tool_calls"] = [
            {
                "id": call.get("id"),
                "type": "function",
                "function": {"name": call.get("name"), "arguments": call.get("args")},
            }
            for call in calls
            if isinstance(call, Mapping)
        ]
    if getattr(message, "tool_call_id", None):
        found["tool_call_id"] = message.tool_call_id
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
