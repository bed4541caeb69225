"""OTLP spans as Langfuse shows them: the mapping of Langfuse v4's ingestion, in first form.

Neighbours: `langfuse_preview` answers with these, `preview_page` draws them. Covered are the keys
that otelbridge and plain gen_ai semantic-convention spans use; other dialects (OpenInference,
OpenLLMetry, Vercel AI) appear as spans with their attributes in the metadata. Nothing is priced
here: cost is what the span carries. Source of the rules: Langfuse v4.16.0's OTLP mapping.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from otelbridge import policy, semconv
from otelbridge.local.records import SpanRecord
from otelbridge.local.values import attributes_of

_TYPE_BY_OPERATION: Final = {
    **dict.fromkeys(
        ("chat", "completion", "text_completion", "generate_content", "generate"), "generation"
    ),
    "embeddings": "embedding",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "execute_tool": "tool",
}
#: Usage names: suffix after `gen_ai.usage.` to Langfuse's bucket; another suffix is its own bucket.
_BUCKETS: Final = {
    **dict.fromkeys(("prompt_tokens", "input_tokens", "prompt"), "input"),
    **dict.fromkeys(("completion_tokens", "output_tokens", "completion"), "output"),
    **dict.fromkeys(("total_tokens", "total"), "total"),
    **dict.fromkeys(
        ("cache_read.input_tokens", "cache_read_input_tokens", "cache_read_tokens"),
        "input_cached_tokens",
    ),
    **dict.fromkeys(
        ("cache_creation.input_tokens", "cache_creation_input_tokens", "cache_write_tokens"),
        "input_cache_creation",
    ),
    "reasoning.output_tokens": "output_reasoning_tokens",
}
_LEVELS: Final = frozenset({"DEBUG", "DEFAULT", "WARNING", "ERROR"})
_STATUS_ERROR: Final = 2  # opentelemetry.proto.trace.v1.Status.STATUS_CODE_ERROR
_ENVIRONMENT_MAX: Final = 40


def observation(record: SpanRecord, project_id: str) -> dict[str, Any]:
    """One span as an observation of Langfuse's v2 API: real field names, every field group."""
    span = record.span
    attributes = attributes_of(span.attributes)
    resource = attributes_of(record.resource.attributes)
    content_in, content_out = _input_output(record, attributes)
    aggregate = attributes.get(semconv.GEN_AI_OPERATION_NAME) == "invoke_agent"
    usage = {} if aggregate else _usage(attributes)
    cost = {} if aggregate else _cost(attributes)
    start_ns = span.start_time_unix_nano
    end_ns = span.end_time_unix_nano or start_ns
    first_token = attributes.get(semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME)
    return {
        "id": span.span_id.hex(),
        "traceId": span.trace_id.hex(),
        "projectId": project_id,
        "parentObservationId": span.parent_span_id.hex() or None,
        "isRootObservation": not span.parent_span_id,
        "type": _type(attributes),
        "name": _text(attributes.get(semconv.GEN_AI_TOOL_NAME)) or span.name,
        "startTime": _iso(start_ns),
        "endTime": _iso(end_ns),
        "latency": max(0, end_ns // 1_000_000 - start_ns // 1_000_000) / 1000,
        "completionStartTime": first_token if isinstance(first_token, str) else None,
        "level": _level(attributes, span.status.code),
        "statusMessage": _first(attributes, semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE)
        or span.status.message
        or None,
        "version": _first(attributes, semconv.LANGFUSE_VERSION)
        or _text(resource.get(semconv.SERVICE_VERSION)),
        "release": _first(attributes, semconv.LANGFUSE_RELEASE)
        or _text(resource.get(semconv.LANGFUSE_RELEASE)),
        "environment": _environment(attributes, resource),
        "userId": _first(attributes, semconv.LANGFUSE_USER_ID, semconv.USER_ID),
        "sessionId": _first(
            attributes,
            semconv.LANGFUSE_SESSION_ID,
            semconv.SESSION_ID,
            semconv.GEN_AI_CONVERSATION_ID,
        ),
        "traceName": _first(attributes, semconv.LANGFUSE_TRACE_NAME),
        "tags": _tags(attributes.get(semconv.LANGFUSE_TRACE_TAGS)),
        "model": None if aggregate else _model(attributes),
        "modelParameters": _model_parameters(attributes),
        "usageDetails": usage,
        "costDetails": cost,
        "totalCost": cost.get("total"),
        "promptName": _first(attributes, semconv.LANGFUSE_OBSERVATION_PROMPT_NAME),
        "promptVersion": attributes.get(semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION),
        "input": content_in,
        "output": content_out,
        "metadata": _metadata(record, attributes, resource),
    }


def _type(attributes: Mapping[str, Any]) -> str:
    explicit = attributes.get(semconv.LANGFUSE_OBSERVATION_TYPE)
    if explicit in semconv.OBSERVATION_TYPES:
        return str(explicit).upper()
    operation = _text(attributes.get(semconv.GEN_AI_OPERATION_NAME)) or ""
    by_operation = _TYPE_BY_OPERATION.get(operation)
    if by_operation:
        return by_operation.upper()
    if semconv.GEN_AI_TOOL_NAME in attributes or semconv.GEN_AI_TOOL_CALL_ID in attributes:
        return "TOOL"
    return "GENERATION" if _model(attributes) else "SPAN"


def _model(attributes: Mapping[str, Any]) -> str | None:
    return _first(
        attributes,
        semconv.LANGFUSE_OBSERVATION_MODEL_NAME,
        semconv.GEN_AI_RESPONSE_MODEL,
        semconv.GEN_AI_REQUEST_MODEL,
    )


def _model_parameters(attributes: Mapping[str, Any]) -> dict[str, Any]:
    explicit = _json_object(attributes.get(semconv.LANGFUSE_OBSERVATION_MODEL_PARAMETERS))
    if explicit is not None:
        return explicit
    prefix = semconv.GEN_AI_REQUEST_PREFIX
    return {
        key.removeprefix(prefix): json.dumps(value) if isinstance(value, list) else value
        for key, value in attributes.items()
        if key.startswith(prefix) and key != semconv.GEN_AI_REQUEST_MODEL
    }


def _usage(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Token counts by bucket; semconv totals lose what is counted in a bucket of its own."""
    explicit = _json_object(attributes.get(semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS))
    if explicit is not None:
        usage = {key: value for key, value in explicit.items() if _is_count(value)}
    else:
        usage = {}
        prefix = semconv.GEN_AI_USAGE_PREFIX
        for key, value in attributes.items():
            if key.startswith(prefix) and key != semconv.GEN_AI_USAGE_COST and _is_count(value):
                suffix = key.removeprefix(prefix)
                usage[_BUCKETS.get(suffix, suffix)] = value
        cached = usage.get("input_cached_tokens", 0) + usage.get("input_cache_creation", 0)
        if "input" in usage:
            usage["input"] = max(0, usage["input"] - cached)
        if "output" in usage:
            usage["output"] = max(0, usage["output"] - usage.get("output_reasoning_tokens", 0))
    if usage and "total" not in usage:
        usage["total"] = sum(usage.values())
    return usage


def _cost(attributes: Mapping[str, Any]) -> dict[str, float]:
    explicit = _json_object(attributes.get(semconv.LANGFUSE_OBSERVATION_COST_DETAILS))
    if explicit is not None:
        cost = {key: float(value) for key, value in explicit.items() if _is_number(value)}
        if cost and "total" not in cost:
            cost["total"] = sum(cost.values())
        return cost
    value: Any = attributes.get(semconv.GEN_AI_USAGE_COST)
    return {"total": float(value)} if _is_number(value) else {}


def _input_output(
    record: SpanRecord, attributes: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """Input and output as raw text; the first source that has either wins for both."""
    pair = (
        attributes.get(semconv.LANGFUSE_OBSERVATION_INPUT),
        attributes.get(semconv.LANGFUSE_OBSERVATION_OUTPUT),
    )
    if pair != (None, None):
        return _raw(pair[0]), _raw(pair[1])
    messages: list[dict[str, Any]] = []
    choices: list[dict[str, Any]] = []
    for event in record.span.events:
        fields = attributes_of(event.attributes)
        if event.name == semconv.GEN_AI_INFERENCE_DETAILS_EVENT:
            return _messages(fields)
        if event.name == semconv.GEN_AI_CHOICE_EVENT:
            choices.append(fields)
        elif event.name.startswith(semconv.GEN_AI_PREFIX) and event.name.endswith(
            semconv.GEN_AI_MESSAGE_EVENT_SUFFIX
        ):
            role = event.name.removeprefix(semconv.GEN_AI_PREFIX).removesuffix(
                semconv.GEN_AI_MESSAGE_EVENT_SUFFIX
            )
            messages.append({"role": role, **fields})
    if messages or choices:
        return _raw(messages or None), _raw(choices[0] if len(choices) == 1 else choices or None)
    pair = _messages(attributes)
    if pair != (None, None):
        return pair
    return (
        _raw(attributes.get(semconv.GEN_AI_TOOL_CALL_ARGUMENTS)),
        _raw(attributes.get(semconv.GEN_AI_TOOL_CALL_RESULT)),
    )


def _messages(fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Input messages, led by the system instructions when they have no system message."""
    asked = fields.get(semconv.GEN_AI_INPUT_MESSAGES)
    system = _parsed(fields.get(semconv.GEN_AI_SYSTEM_INSTRUCTIONS))
    messages = _parsed(asked)
    if (
        system is not None
        and isinstance(messages, list)
        and not any(isinstance(item, dict) and item.get("role") == "system" for item in messages)
    ):
        asked = [{"role": "system", "content": system}, *messages]
    return _raw(asked), _raw(fields.get(semconv.GEN_AI_OUTPUT_MESSAGES))


def _metadata(
    record: SpanRecord, attributes: Mapping[str, Any], resource: Mapping[str, Any]
) -> dict[str, Any]:
    named: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for key, value in attributes.items():
        for prefix in (
            semconv.LANGFUSE_TRACE_METADATA_PREFIX,
            semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX,
        ):
            if key.startswith(prefix):
                named[key.removeprefix(prefix)] = _raw(value)
                break
        else:
            if not key.startswith(semconv.LANGFUSE_PREFIX) and not policy.is_content_key(key):
                rest[key] = _raw(value) or ""
    scope = {"name": record.scope.name, "version": record.scope.version}
    return {
        **named,
        "attributes": rest,
        "resourceAttributes": {key: _raw(value) for key, value in resource.items()},
        "scope": {**scope, "attributes": attributes_of(record.scope.attributes)},
    }


def _level(attributes: Mapping[str, Any], status_code: int) -> str:
    level = (_first(attributes, semconv.LANGFUSE_OBSERVATION_LEVEL) or "").upper()
    if level in _LEVELS:
        return level
    return "ERROR" if status_code == _STATUS_ERROR else "DEFAULT"


def _environment(attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> str:
    for key in (
        semconv.LANGFUSE_ENVIRONMENT,
        semconv.DEPLOYMENT_ENVIRONMENT_NAME,
        semconv.DEPLOYMENT_ENVIRONMENT,
    ):
        value = _text(attributes.get(key)) or _text(resource.get(key))
        if value:
            name = value.lower().removeprefix("langfuse")[:_ENVIRONMENT_MAX]
            return name if re.fullmatch(r"[a-z0-9_-]+", name) else "default"
    return "default"


def _tags(value: Any) -> list[str]:
    parsed = _parsed(value)
    if isinstance(parsed, list):
        return [str(item) for item in parsed]
    if isinstance(value, str) and value:
        return [part.strip() for part in value.split(",") if part.strip()]
    return []


def _first(attributes: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        text = _text(attributes.get(key))
        if text:
            return text
    return None


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) and value != "" else None


def _raw(value: Any) -> str | None:
    """A value as Langfuse stores it: text as it is, everything else as JSON text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=repr)


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _json_object(value: Any) -> dict[str, Any] | None:
    parsed = _parsed(value)
    return parsed if isinstance(parsed, dict) else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _iso(nanoseconds: int) -> str:
    """Milliseconds, as Langfuse cuts times: `2026-11-21T10:54:02.123Z`."""
    # Hostile times beyond year 9999 are shown as that year's end instead of failing the answer.
    seconds, rest = divmod(min(nanoseconds, 253_402_300_799_999_000_000), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1_000_000:03d}Z"
