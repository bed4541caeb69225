"""What `update(...)` of any older API writes on a span: one table of fields for all of them.

Names of the Langfuse SDK v2 become attributes of the gen_ai conventions where there is one, and
Langfuse's own beside. Unknown fields, and values that no attribute can hold, cost only themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from otelbridge import _guard, semconv
from otelbridge.context import flatten_metadata
from otelbridge.cost.spans import cost_attributes, usage_attributes
from otelbridge.cost.usage import Cost, Usage
from otelbridge.genai._config import get_config
from otelbridge.genai._values import (
    content_text,
    optional_text,
    text_of,
    to_count,
    to_float,
    to_json,
)

ERROR: Final = "ERROR"
#: `error.type` of a failure without a class (OTel semantic conventions).
_OTHER: Final = "_OTHER"
_LEVELS: Final = ("DEBUG", "DEFAULT", "WARNING", ERROR)
#: Spellings of token counts in `usage` and `usage_details`, first found counts.
_INPUT: Final = ("input", "input_tokens", "prompt_tokens", "promptTokens", "inputTokens")
_OUTPUT: Final = (
    "output", "output_tokens", "completion_tokens", "completionTokens", "outputTokens",
)  # fmt: skip
_CACHED: Final = ("cache_read_input_tokens", "input_cached_tokens", "cached_tokens")
_CACHE_WRITE: Final = ("cache_creation_input_tokens", "cache_write_input_tokens")
_REASONING: Final = ("output_reasoning_tokens", "reasoning_tokens")


def write(span: Span, fields: Mapping[str, Any]) -> None:
    """Write the fields of one `update(...)`; None counts as not given."""
    if not span.is_recording():
        return
    given = {key: value for key, value in fields.items() if value is not None}
    for key, value in given.items():
        writer = _WRITERS.get(key)
        if writer is not None:
            with _guard.guard(f"compat: {key}"):
                writer(span, value)
    with _guard.guard("compat: level"):
        _write_level(span, given)


def _write_level(span: Span, given: Mapping[str, Any]) -> None:
    """Level, status and error, which say the same thing in three of the APIs."""
    error, level = given.get("error"), text_of(given.get("level", "")).upper()
    failed = error is not None or text_of(given.get("status", "")).lower() == "error"
    if failed and level not in _LEVELS:
        level = ERROR
    message = optional_text(given.get("status_message"))
    if error is not None and message is None:
        message = f"{type(error).__name__}: {error}" if _is_error(error) else text_of(error)
    if level in _LEVELS:
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_LEVEL, level)
    if message is not None:
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE, message)
    if level == ERROR:
        span.set_status(Status(StatusCode.ERROR, message))
        span.set_attribute(
            semconv.ERROR_TYPE, type(error).__qualname__ if _is_error(error) else _OTHER
        )
    if _is_error(error):
        span.record_exception(error)  # type: ignore[arg-type]  # narrowed by `_is_error`


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def _write_content(key: str) -> Callable[[Span, Any], None]:
    def write_text(span: Span, value: Any) -> None:
        if get_config().capture_content:
            span.set_attribute(key, content_text(value))

    return write_text


def _write_metadata(span: Span, value: Any) -> None:
    given = value if isinstance(value, Mapping) else {"value": value}
    for name, text in flatten_metadata(given).items():
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX + name, text)


def _write_model(span: Span, value: Any) -> None:
    span.set_attribute(semconv.GEN_AI_REQUEST_MODEL, text_of(value))


def _write_parameters(span: Span, value: Any) -> None:
    if isinstance(value, Mapping):
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_MODEL_PARAMETERS, to_json(value))


def _write_usage(span: Span, value: Any) -> None:
    counts = _mapping(value)
    usage = Usage(
        input_tokens=_count(counts, _INPUT),
        output_tokens=_count(counts, _OUTPUT),
        cached_tokens=_count(counts, _CACHED),
        cache_write_tokens=_count(counts, _CACHE_WRITE),
        reasoning_tokens=_count(counts, _REASONING),
    ).normalised()
    span.set_attributes({k: v for k, v in usage_attributes(usage).items() if v is not None})
    if any(key in counts for key in ("total_cost", "input_cost", "output_cost")):
        _write_cost(
            span, {name: counts.get(f"{name}_cost") for name in ("input", "output", "total")}
        )


def _write_cost(span: Span, value: Any) -> None:
    prices = {key: to_float(price) for key, price in _mapping(value).items()}
    known = {key: price for key, price in prices.items() if price is not None and price >= 0}
    total = known.pop("total", None)
    if total is None and known:
        total = sum(known.values())
    if total is not None:
        cost = Cost(total, "caller", known.get("input"), known.get("output"))
        span.set_attributes(cost_attributes(cost))


def _write_prompt(span: Span, value: Any) -> None:
    name = optional_text(getattr(value, "name", None))
    version = to_count(getattr(value, "version", None))
    if name is None or not version:  # a fallback has version 0 and is in no registry
        return
    span.set_attributes(
        {
            semconv.LANGFUSE_OBSERVATION_PROMPT_NAME: name,
            semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION: version,
            semconv.GEN_AI_PROMPT_NAME: name,
            semconv.GEN_AI_PROMPT_VERSION: str(version),
        }
    )


def _write_first_token(span: Span, value: Any) -> None:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME, moment)


def _write_name(span: Span, value: Any) -> None:
    span.update_name(text_of(value))


def _write_version(span: Span, value: Any) -> None:
    span.set_attribute(semconv.LANGFUSE_VERSION, text_of(value))


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping as it is, a model of pydantic or a plain object by its members."""
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None) or getattr(value, "dict", None)
    found = dump() if callable(dump) else getattr(value, "__dict__", {})
    return found if isinstance(found, Mapping) else {}


def _count(counts: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    return next((n for key in keys if (n := to_count(counts.get(key))) is not None), None)


_WRITERS: Final[dict[str, Callable[[Span, Any], None]]] = {
    "name": _write_name,
    "input": _write_content(semconv.LANGFUSE_OBSERVATION_INPUT),
    "output": _write_content(semconv.LANGFUSE_OBSERVATION_OUTPUT),
    "metadata": _write_metadata,
    "model": _write_model,
    "model_parameters": _write_parameters,
    "usage": _write_usage,
    "usage_details": _write_usage,
    "cost_details": _write_cost,
    "prompt": _write_prompt,
    "completion_start_time": _write_first_token,
    "version": _write_version,
}
