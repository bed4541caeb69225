"""The cost of a span of any emitter, from its attributes: pure, attributes in, changes out.

Reads the current gen_ai names, which `dialects` finds in any emitter's; writes the cost in the
names that Tempo queries and Langfuse read. Spans that repeat the usage of others get none, and
neither do those that `processors.one_price` has marked as counted elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from otelbridge import dialects, policy, semconv
from otelbridge.cost.names import vendor
from otelbridge.cost.pricelist import Terms
from otelbridge.cost.pricing import PricedCall, cost_of
from otelbridge.cost.usage import Cost, Usage
from otelbridge.langfuse_policy import MAX_COST_USD, UNCOUNTED_OPERATIONS

#: Token counts to the keys that hold them, the first that is a whole number counts.
_COUNTS: Final[dict[str, tuple[str, ...]]] = {
    "input_tokens": (semconv.GEN_AI_USAGE_INPUT_TOKENS,),
    "output_tokens": (semconv.GEN_AI_USAGE_OUTPUT_TOKENS,),
    "cached_tokens": (semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,),
    "cache_write_tokens": (
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
    ),
    "reasoning_tokens": (semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,),
    "cache_write_1h_tokens": (semconv.CACHE_WRITE_1H_TOKENS,),
    "audio_input_tokens": (
        semconv.GEN_AI_USAGE_AUDIO_INPUT_TOKENS,
        "llm.token_count.prompt_details.audio",
        semconv.GEN_AI_USAGE_PREFIX + "details.input_audio_tokens",
    ),
    "audio_output_tokens": (
        semconv.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS,
        "llm.token_count.completion_details.audio",
        semconv.GEN_AI_USAGE_PREFIX + "details.output_audio_tokens",
    ),
}


def cost_changes(attributes: Mapping[str, Any], start_time_ns: int | None = None) -> dict[str, Any]:
    """Attributes to add to a span, empty for one without a cost of its own.

    Args:
        attributes: As the emitter set them.
        start_time_ns: When the call was made, for prices that change.
    """
    if not policy.is_gen_ai(attributes) or semconv.COST_COUNTED_BY in attributes:
        return {}
    if semconv.COST_SOURCE in attributes:  # by a helper, or in a service before
        return {}
    seen = dialects.normalise(attributes, policy.GEN_AI_KEYS)
    if seen.get(semconv.GEN_AI_OPERATION_NAME) in UNCOUNTED_OPERATIONS:
        return {}
    usage = read_usage(seen)
    stated = seen.get(semconv.GEN_AI_USAGE_COST)
    if not (isinstance(stated, float) and 0.0 <= stated <= MAX_COST_USD):
        stated = None
    cached = attributes.get(semconv.CACHED) is True
    if not usage.is_known and stated is None and not cached:
        return {}
    found = cost_of(
        PricedCall(
            provider=provider_of(seen),
            models=models_of(seen),
            usage=replace(usage, cost_usd=stated),
            terms=_terms(seen, start_time_ns),
            cached=cached,
            stated_by="emitter",
        )
    )
    if found is None:
        return {}
    changes = cost_attributes(found)
    changes |= _inclusive(seen, usage)
    return changes


def cost_attributes(cost: Cost) -> dict[str, Any]:
    """A cost as span attributes: for TraceQL, for Langfuse, and who says so."""
    found: dict[str, Any] = {
        semconv.GEN_AI_USAGE_COST: float(cost.total_usd),
        semconv.LANGFUSE_OBSERVATION_COST_DETAILS: json.dumps(
            cost.details(), separators=(",", ":")
        ),
        semconv.COST_SOURCE: cost.source,
    }
    if cost.date:
        found[semconv.COST_DATE] = cost.date
    return found


def usage_attributes(usage: Usage) -> dict[str, int | None]:
    """Token counts as span attributes; None where a count is not known."""
    return {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: usage.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: usage.output_tokens,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cached_tokens,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: usage.cache_write_tokens,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: usage.cache_write_tokens,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning_tokens,
        semconv.CACHE_WRITE_1H_TOKENS: usage.cache_write_1h_tokens or None,
        semconv.GEN_AI_USAGE_AUDIO_INPUT_TOKENS: usage.audio_input_tokens or None,
        semconv.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: usage.audio_output_tokens or None,
    }


def models_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The model as the answer names it, then as the request does."""
    names = (
        _text(attributes, semconv.GEN_AI_RESPONSE_MODEL),
        _text(attributes, semconv.GEN_AI_REQUEST_MODEL),
    )
    return tuple(dict.fromkeys(name for name in names if name))


def provider_of(attributes: Mapping[str, Any]) -> str:
    """The provider; some frameworks name none, or themselves."""
    return vendor(_text(attributes, semconv.GEN_AI_PROVIDER_NAME), models_of(attributes))


def read_usage(attributes: Mapping[str, Any]) -> Usage:
    """Token counts under current names, with totals that contain their parts.

    Input that is given without its cached part is known by the sum of all tokens, where that is
    given too, and by being smaller than its parts.
    """
    counts = {name: _count(attributes, keys) for name, keys in _COUNTS.items()}
    usage = Usage(**counts)
    total = _count(attributes, (semconv.GEN_AI_USAGE_TOTAL_TOKENS, "llm.token_count.total"))
    parts = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    given = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    if parts and usage.input_tokens is not None and total == given + parts:
        usage = replace(usage, input_tokens=usage.input_tokens + parts)
    return usage.normalised()


def _inclusive(seen: Mapping[str, Any], usage: Usage) -> dict[str, Any]:
    """The input count of the conventions, where the emitter gave it without the cached part."""
    key = semconv.GEN_AI_USAGE_INPUT_TOKENS
    if usage.input_tokens is None or seen.get(key) == usage.input_tokens:
        return {}
    return {key: usage.input_tokens}


def _terms(seen: Mapping[str, Any], start_time_ns: int | None) -> Terms:
    tier = _text(seen, semconv.OPENAI_RESPONSE_SERVICE_TIER) or _text(
        seen, semconv.OPENAI_REQUEST_SERVICE_TIER
    )
    return Terms(
        at_ns=start_time_ns,
        service_tier=tier,
        batch=seen.get(semconv.COST_PROCESSING) == "batch",
        server_address=_text(seen, semconv.SERVER_ADDRESS),
    )


def _count(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = dialects.to_integer(attributes.get(key))
        if value is not None and value >= 0:
            return value
    return None


def _text(attributes: Mapping[str, Any], key: str) -> str:
    value = attributes.get(key)
    return value if isinstance(value, str) else ""
