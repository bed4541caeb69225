"""Messages of any common shape as semantic-convention messages: `[{role, parts: [...]}]`.

Reads OpenAI chat and Responses items, Anthropic content blocks, plain text, and messages that
already have `parts` (kept as they are). Pure functions: values in, new plain values out, nothing
is mutated, nothing raises on a shape it does not know (it is kept as a part of its own type).
Shapes: semantic conventions for generative AI, `gen-ai-input-messages.json` and its siblings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from otelbridge.genai._values import text_of, to_plain

Part = dict[str, Any]
Message = dict[str, Any]

#: Base64 content beyond this many characters is left out of a blob part (`omitted_chars` says how
#: many): one picture would otherwise push the whole conversation over the limits of every store.
MAX_BLOB_CHARS: Final = 65_536

_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text"})
_REASONING_TYPES: Final = frozenset({"thinking", "reasoning", "summary_text", "reasoning_text"})
#: Parts of the conventions that need no change when they come in.
_SEMCONV_TYPES: Final = frozenset(
    {
        "tool_call",
        "tool_call_response",
        "server_tool_call",
        "server_tool_call_response",
        "blob",
        "uri",
        "compaction",
    }
)
_ROLES: Final = {"model": "assistant", "function": "tool", "human": "user", "ai": "assistant"}
#: Items of the OpenAI Responses API that are messages by themselves, and their role.
_ITEM_ROLES: Final = {
    "function_call": "assistant",
    "custom_tool_call": "assistant",
    "function_call_output": "tool",
    "custom_tool_call_output": "tool",
    "reasoning": "assistant",
}


def input_messages(messages: object) -> list[Message]:
    """Messages sent to a model, in order.

    Args:
        messages: Text (one user message), one message, or a list of either.
    """
    return _messages(to_plain(messages), "user")


def output_messages(output: object) -> list[Message]:
    """Messages that a model answered, one per choice; text is one assistant message."""
    return _messages(to_plain(output), "assistant")


def system_instructions(system: object) -> list[Part]:
    """Instructions that an API takes apart from the messages, as parts."""
    plain = to_plain(system)
    if isinstance(plain, Mapping) and isinstance(plain.get("parts"), list):
        plain = plain["parts"]
    return parts_of(plain)


def tool_definitions(tools: object) -> list[dict[str, Any]]:
    """Tool definitions as `[{type, name, description?, parameters?}]`.

    Reads OpenAI's `{type, function: {...}}`, its flat form, and Anthropic's `{name, input_schema}`.
    """
    plain = to_plain(tools)
    items = plain if isinstance(plain, list) else [plain]
    return [_tool_definition(item) for item in items if item is not None]


def _tool_definition(item: Any) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        return {"type": "function", "name": text_of(item)}
    function = item.get("function")
    source = dict(function) if isinstance(function, Mapping) else dict(item)
    result: dict[str, Any] = {"type": item.get("type") or "function"}
    if item.get("type") in (None, "custom") and "input_schema" in source:
        result["type"] = "function"
    result["name"] = source.get("name") or result["type"]
    if source.get("description"):
        result["description"] = source["description"]
    parameters = source.get("parameters", source.get("input_schema"))
    if parameters is not None:
        result["parameters"] = parameters
    return result


def _messages(plain: Any, role: str) -> list[Message]:
    if plain is None:
        return []
    if not isinstance(plain, list):
        return [_message(plain, role)]
    if plain and all(_is_part(item) for item in plain):
        return [{"role": role, "parts": parts_of(plain)}]
    return [_message(item, role) for item in plain if item is not None]


def _is_part(item: Any) -> bool:
    """Whether a list item is content of one message rather than a message."""
    if not isinstance(item, Mapping) or "role" in item or "parts" in item:
        return False
    return isinstance(item.get("type"), str) and item["type"] not in {"message", *_ITEM_ROLES}


def _message(item: Any, default_role: str) -> Message:
    if not isinstance(item, Mapping):
        return {"role": default_role, "parts": parts_of(item)}
    role = text_of(item.get("role") or _ITEM_ROLES.get(text_of(item.get("type"))) or default_role)
    role = _ROLES.get(role, role)
    if isinstance(item.get("parts"), list):
        parts = [_gemini_or_same(part) for part in item["parts"]]
        return {**item, "role": role, "parts": parts}
    message: Message = {"role": role, "parts": _message_parts(item, role)}
    if isinstance(item.get("name"), str) and role != "tool" and "type" not in item:
        message["name"] = item["name"]
    return message


def _gemini_or_same(part: Any) -> Any:
    if isinstance(part, Mapping) and "type" in part:
        return part
    return _part(part)


def _message_parts(item: Mapping[str, Any], role: str) -> list[Part]:
    if text_of(item.get("type")) in _ITEM_ROLES or ("content" not in item and "role" not in item):
        return parts_of(item)
    if role == "tool":
        call_id = item.get("tool_call_id") or item.get("name")
        content = item.get("content")
        if not _holds_tool_result(content):
            return [_without_none({"type": "tool_call_response", "id": call_id}, response=content)]
    parts: list[Part] = []
    for key in ("reasoning_content", "reasoning"):  # DeepSeek, OpenRouter
        if isinstance(item.get(key), str) and item[key]:
            parts.append({"type": "reasoning", "content": item[key]})
            break
    parts.extend(parts_of(item.get("content")))
    if isinstance(item.get("refusal"), str) and item["refusal"]:
        parts.append({"type": "refusal", "content": item["refusal"]})
    calls = item.get("tool_calls")
    parts.extend(_openai_tool_call(call) for call in calls if call) if isinstance(
        calls, list
    ) else None
    if isinstance(item.get("function_call"), Mapping):
        parts.append(_openai_tool_call({"function": item["function_call"]}))
    audio = item.get("audio")
    if isinstance(audio, Mapping) and isinstance(audio.get("data"), str):
        parts.append(_blob("audio", None, audio["data"], transcript=audio.get("transcript")))
    return parts


def _holds_tool_result(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(part, Mapping) and part.get("type") in ("tool_result", "tool_call_response")
        for part in content
    )


def parts_of(content: Any) -> list[Part]:
    """Plain content (text, one part, a list of parts) as parts; empty content gives none."""
    if content is None or content == "":
        return []
    if isinstance(content, list):
        return [part for item in content if item is not None for part in parts_of(item)]
    return [_part(content)]


def _part(block: Any) -> Part:
    if not isinstance(block, Mapping):
        return {"type": "text", "content": text_of(block)}
    kind = block.get("type")
    if not isinstance(kind, str):
        if isinstance(block.get("text"), str):  # Gemini
            return {"type": "text", "content": block["text"]}
        return {**block, "type": "unknown"}
    if kind in _SEMCONV_TYPES:
        return dict(block)
    if kind in _TEXT_TYPES:
        return {"type": "text", "content": text_of(block.get("text", block.get("content", "")))}
    if kind in _REASONING_TYPES:
        return {"type": "reasoning", "content": _reasoning_text(block)}
    if kind == "redacted_thinking":
        return {"type": "redacted_thinking"}  # encrypted; of no use to a reader
    if kind == "refusal":
        return {"type": "refusal", "content": text_of(block.get("refusal", ""))}
    return _tool_part(kind, block) or _media_part(kind, block) or dict(block)


def _reasoning_text(block: Mapping[str, Any]) -> str:
    for key in ("thinking", "content", "text", "summary"):
        value = block.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value:
            texts = (item.get("text") for item in value if isinstance(item, Mapping))
            return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _tool_part(kind: str, block: Mapping[str, Any]) -> Part | None:
    if kind in ("function_call", "custom_tool_call"):
        return _tool_call(
            block.get("call_id") or block.get("id"),
            block.get("name"),
            block.get("arguments", block.get("input")),
        )
    if kind in ("function_call_output", "custom_tool_call_output"):
        part = {"type": "tool_call_response", "id": block.get("call_id")}
        return _without_none(part, response=block.get("output"))
    if kind == "tool_use":
        return _tool_call(block.get("id"), block.get("name"), block.get("input"))
    if kind in ("tool_result", "mcp_tool_result"):
        part = {"type": "tool_call_response", "id": block.get("tool_use_id")}
        if block.get("is_error"):
            part["is_error"] = True
        return _without_none(part, response=block.get("content"))
    if kind in ("server_tool_use", "mcp_tool_use"):
        call = {"type": block.get("name"), "arguments": block.get("input")}
        part = {"type": "server_tool_call", "id": block.get("id"), "name": block.get("name")}
        return {**_without_none(part), "server_tool_call": call}
    if kind.endswith("_tool_result"):
        part = {"type": "server_tool_call_response", "id": block.get("tool_use_id")}
        response = {"type": kind.removesuffix("_tool_result"), "content": block.get("content")}
        return {**_without_none(part), "server_tool_call_response": response}
    return None


def _media_part(kind: str, block: Mapping[str, Any]) -> Part | None:
    if kind in ("image_url", "input_image"):
        url = block.get("image_url")
        url = url.get("url") if isinstance(url, Mapping) else url
        return _from_url("image", url, block.get("file_id"))
    if kind == "input_audio":
        audio = block.get("input_audio")
        audio = audio if isinstance(audio, Mapping) else {}
        form = audio.get("format")
        mime = f"audio/{form}" if isinstance(form, str) else None
        return _blob("audio", mime, audio.get("data"))
    if kind in ("file", "input_file") and "modality" not in block:
        file = block.get("file")
        file = file if isinstance(file, Mapping) else block
        url = file.get("file_data") or file.get("file_url")
        return _from_url("document", url, file.get("file_id"))
    source = block.get("source")
    if kind in ("image", "document", "video", "audio") and isinstance(source, Mapping):
        if source.get("type") == "text":
            return {"type": "text", "content": text_of(source.get("data", ""))}
        if source.get("type") == "base64":
            return _blob(kind, source.get("media_type"), source.get("data"))
        return _from_url(kind, source.get("url"), source.get("file_id"))
    return None


def _from_url(modality: str, url: Any, file_id: Any) -> Part:
    if isinstance(url, str) and url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        return _blob(modality, head.split(";")[0] or None, data)
    if isinstance(url, str):
        return {"type": "uri", "modality": modality, "uri": url}
    return {"type": "file", "modality": modality, "file_id": text_of(file_id or "")}


def _blob(modality: str, mime_type: Any, data: Any, **extra: Any) -> Part:
    content = text_of(data if data is not None else "")
    part: Part = {"type": "blob", "modality": modality}
    if mime_type:
        part["mime_type"] = text_of(mime_type)
    part["content"] = content
    if len(content) > MAX_BLOB_CHARS:
        part["content"] = ""
        part["omitted_chars"] = len(content)
    return _without_none(part, **extra)


def _openai_tool_call(call: Any) -> Part:
    if not isinstance(call, Mapping):
        return {"type": "tool_call", "name": text_of(call)}
    function = call.get("function") or call.get("custom")
    function = function if isinstance(function, Mapping) else call
    arguments = function.get("arguments", function.get("input"))
    return _tool_call(call.get("id"), function.get("name"), arguments)


def _tool_call(call_id: Any, name: Any, arguments: Any) -> Part:
    part: Part = {"type": "tool_call", "name": text_of(name if name is not None else "")}
    return _without_none(part, id=call_id, arguments=_parsed(arguments))


def _parsed(arguments: Any) -> Any:
    """Arguments that came as JSON text as their value; other text as it is."""
    if not isinstance(arguments, str) or not arguments.lstrip().startswith(("{", "[")):
        return arguments
    try:
        return to_plain(json.loads(arguments))
    except (ValueError, RecursionError):
        return arguments


def _without_none(part: Part, **more: Any) -> Part:
    return {key: value for key, value in {**part, **more}.items() if value is not None}
