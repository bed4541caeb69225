"""Current gen_ai names beside those of any emitter, one provider name, fixed number types.

`normalise` applies `dialect_table` and what a table of names cannot say; direct export and
`otelbridge local` call it, and `collector/render.py` writes the same as OTTL. Values in, values
out: no I/O, no OpenTelemetry import.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from otelbridge import semconv as s
from otelbridge.dialect_table import DIALECTS, Dialect, Rule

__all__ = [
    "DIALECTS",
    "DOUBLE_KEYS",
    "INTEGER_KEYS",
    "LANGFUSE_COST",
    "LANGFUSE_USAGE",
    "OPERATIONS",
    "PROVIDERS",
    "REASONS_TEXT",
    "Dialect",
    "Rule",
    "normalise",
    "provider_name",
    "to_double",
    "to_integer",
]

#: `gen_ai.system` in any emitter's spelling, lower-cased, and the provider that is meant by it
#: (values of the gen_ai semantic conventions). Vercel appends the API (`openai.chat`).
PROVIDERS: Final[tuple[tuple[str, str], ...]] = (
    (r"^openai(\..*)?$", "openai"),
    (r"^anthropic(\..*)?$", "anthropic"),
    (
        r"^(az\.ai\.openai|azure([._-]?openai)?([./](chat|completion|responses|embeddings))?)$",
        "azure.ai.openai",
    ),
    (r"^(az\.ai\.inference|azure_ai)$", "azure.ai.inference"),
    (r"^(google[._-]?)?vertex([._-]?ai)?([./].*)?$", "gcp.vertex_ai"),
    (r"^(gemini|google([._-]?gen(erative)?[._-]?ai)?(\..*)?)$", "gcp.gemini"),
    (r"^(aws|bedrock|amazon[._-]bedrock|aws[._-]bedrock)(\..*)?$", "aws.bedrock"),
    (r"^(xai|x\.ai)(\..*)?$", "x_ai"),
    (r"^mistral[._-]?(ai)?(\..*)?$", "mistral_ai"),
    (r"^(ibm\.)?watsonx(\.ai)?$", "ibm.watsonx.ai"),
    (r"^moonshot([._-]?ai)?(\..*)?$", "moonshot_ai"),
    (r"^cohere(\..*)?$", "cohere"),
    (r"^groq(\..*)?$", "groq"),
    (r"^deepseek(\..*)?$", "deepseek"),
    (r"^perplexity(\..*)?$", "perplexity"),
)
_providers = tuple((re.compile(pattern), name) for pattern, name in PROVIDERS)

#: Values of `gen_ai.operation.name` that some emitters write in place of the convention's.
OPERATIONS: Final[tuple[tuple[str, str], ...]] = (
    ("embedding", "embeddings"),
    ("aembedding", "embeddings"),
    ("acompletion", "chat"),
    ("responses", "chat"),
    ("aresponses", "chat"),
    ("anthropic_messages", "chat"),
    ("atext_completion", "text_completion"),
    ("arerank", "rerank"),
    ("aimage_generation", "image_generation"),
    ("atranscription", "transcription"),
    ("aspeech", "speech"),
    ("amoderation", "moderation"),
)
_operations = dict(OPERATIONS)

#: Usage and cost that the Langfuse SDK writes as JSON (`langfuse.observation.usage_details` and
#: `.cost_details`): target, members of which the first that is a number counts, and members that
#: are added to it. Buckets of Langfuse and of Anthropic are disjoint, the conventions' totals are
#: not; OpenAI's `prompt_tokens` contain their parts, which stand one level down.
LANGFUSE_USAGE: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        s.GEN_AI_USAGE_INPUT_TOKENS,
        ("prompt_tokens", "input_tokens", "input"),
        (
            "input_cached_tokens",
            "input_cache_creation",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ),
    ),
    (
        s.GEN_AI_USAGE_OUTPUT_TOKENS,
        ("completion_tokens", "output_tokens", "output"),
        ("output_reasoning_tokens",),
    ),
    (
        s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        (
            "prompt_tokens_details.cached_tokens",
            "input_tokens_details.cached_tokens",
            "input_cached_tokens",
            "cache_read_input_tokens",
        ),
        (),
    ),
    (
        s.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        ("input_cache_creation", "cache_creation_input_tokens"),
        (),
    ),
    (
        s.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
        (
            "completion_tokens_details.reasoning_tokens",
            "output_tokens_details.reasoning_tokens",
            "output_reasoning_tokens",
        ),
        (),
    ),
)
LANGFUSE_COST: Final = (s.GEN_AI_USAGE_COST, ("total", "input"), ("output",))

#: Number types that TraceQL literals rely on; text that holds a number is turned too.
INTEGER_KEYS: Final[tuple[str, ...]] = (
    s.GEN_AI_USAGE_INPUT_TOKENS,
    s.GEN_AI_USAGE_OUTPUT_TOKENS,
    s.GEN_AI_USAGE_TOTAL_TOKENS,
    s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    s.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
    s.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
    s.GEN_AI_REQUEST_MAX_TOKENS,
    s.GEN_AI_REQUEST_TOP_K,
    s.GEN_AI_REQUEST_SEED,
    s.GEN_AI_REQUEST_CHOICE_COUNT,
)
DOUBLE_KEYS: Final[tuple[str, ...]] = (
    s.GEN_AI_USAGE_COST,
    s.GEN_AI_REQUEST_TEMPERATURE,
    s.GEN_AI_REQUEST_TOP_P,
    s.GEN_AI_REQUEST_FREQUENCY_PENALTY,
    s.GEN_AI_REQUEST_PRESENCE_PENALTY,
    s.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    s.GEN_AI_EVALUATION_SCORE_VALUE,
)
#: Finish reasons as JSON text; TraceQL finds an element of a list only.
REASONS_TEXT: Final = r'^\["[^"\\]*"(, ?"[^"\\]*")*\]$'
_reasons = re.compile(REASONS_TEXT)
_integer = re.compile(r"^[+-]?[0-9]{1,18}$")
_number = re.compile(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$")


def normalise(attributes: Mapping[str, Any], gen_ai_keys: tuple[str, ...]) -> dict[str, Any]:
    """Span attributes with the current gen_ai names beside those of the emitter.

    Args:
        attributes: Attributes as the emitter sent them.
        gen_ai_keys: `policy.GEN_AI_KEYS`: provider and number types are settled on gen_ai spans.
    """
    settled = dict(attributes)
    for dialect in DIALECTS:
        if any(key in settled for key in dialect.when):
            for rule in dialect.rules:
                _apply(rule, settled)
    _read_langfuse_details(settled)
    if any(key in settled for key in gen_ai_keys):
        operation = settled.get(s.GEN_AI_OPERATION_NAME)
        if isinstance(operation, str) and operation in _operations:
            settled[s.GEN_AI_OPERATION_NAME] = _operations[operation]
        _settle_provider(settled)
        reasons = settled.get(s.GEN_AI_RESPONSE_FINISH_REASONS)
        if isinstance(reasons, str) and reasons:
            settled[s.GEN_AI_RESPONSE_FINISH_REASONS] = _reason_list(reasons)
        _mirror(
            settled,
            s.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
            s.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        )
        for key in (*INTEGER_KEYS, s.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS):
            if key in settled:
                settled[key] = _or_same(to_integer(settled[key]), settled[key])
        for key in DOUBLE_KEYS:
            if key in settled:
                settled[key] = _or_same(to_double(settled[key]), settled[key])
    return settled


def provider_name(system: str) -> str:
    """The provider that a value of `gen_ai.system` means."""
    system = system.lower()
    for pattern, name in _providers:
        if pattern.match(system):
            return name
    return system


def to_integer(value: Any) -> int | None:
    """A number, or text that holds an integer, as an integer; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if abs(value) < 2**63 else None
    return int(value) if isinstance(value, str) and _integer.fullmatch(value) else None


def to_double(value: Any) -> float | None:
    """A number, or text that holds one, as a double; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    number = float(value) if isinstance(value, str) and _number.fullmatch(value) else None
    return number if number is not None and math.isfinite(number) else None


def _or_same(converted: Any, value: Any) -> Any:
    return value if converted is None else converted


def _apply(rule: Rule, attributes: dict[str, Any]) -> None:
    value = attributes.get(rule.source)
    if value is None or value == "" or rule.target in attributes:
        return
    if rule.only is not None and attributes.get(rule.only[0]) != rule.only[1]:
        return
    if rule.values:
        value = dict(rule.values).get(value) if isinstance(value, str) else None
    elif rule.conversion == "int":
        value = to_integer(value)
    elif rule.conversion == "double":
        value = to_double(value)
    elif rule.conversion == "seconds":
        milliseconds = to_double(value)
        value = None if milliseconds is None else milliseconds / 1000.0
    elif rule.conversion == "list":
        value = [value]
    if value is not None:
        attributes[rule.target] = value


def _read_langfuse_details(attributes: dict[str, Any]) -> None:
    """Token counts and cost that are only there as Langfuse's JSON."""
    if s.LANGFUSE_OBSERVATION_TYPE not in attributes:
        return
    if s.GEN_AI_USAGE_INPUT_TOKENS not in attributes:
        usage = _json_object(attributes.get(s.LANGFUSE_OBSERVATION_USAGE_DETAILS))
        for target, members, added in LANGFUSE_USAGE:
            tokens = _sum_of(usage, members, added)
            if tokens is not None:
                attributes.setdefault(target, int(tokens))
    if s.GEN_AI_USAGE_COST not in attributes:
        target, members, added = LANGFUSE_COST
        cost = _json_object(attributes.get(s.LANGFUSE_OBSERVATION_COST_DETAILS))
        usd = _sum_of(cost, members, () if _number_at(cost, members[0]) is not None else added)
        if usd is not None:
            attributes[target] = usd


def _json_object(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number_at(found: Mapping[str, Any], path: str) -> float | None:
    value: Any = found
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) < 2**63 else None


def _sum_of(
    found: Mapping[str, Any], members: tuple[str, ...], added: tuple[str, ...]
) -> float | None:
    """The first of the members that is a number, with every one of `added` that is one."""
    for path in members:
        first = _number_at(found, path)
        if first is not None:
            return first + sum(_number_at(found, other) or 0.0 for other in added)
    return None


def _reason_list(text: str) -> list[str] | str:
    """The finish reasons that LiteLLM and Logfire write as JSON text, or one as a list of one."""
    if text.startswith("["):
        return json.loads(text) if _reasons.fullmatch(text) else text
    return [text]


def _settle_provider(attributes: dict[str, Any]) -> None:
    """Both names of the provider, with equal value; the current name decides."""
    for key in (s.GEN_AI_PROVIDER_NAME, s.GEN_AI_SYSTEM):
        if attributes.get(key) == "":
            del attributes[key]
    system = attributes.get(s.GEN_AI_SYSTEM)
    if s.GEN_AI_PROVIDER_NAME not in attributes and isinstance(system, str):
        attributes[s.GEN_AI_PROVIDER_NAME] = provider_name(system)
    if s.GEN_AI_PROVIDER_NAME in attributes:
        attributes[s.GEN_AI_SYSTEM] = attributes[s.GEN_AI_PROVIDER_NAME]


def _mirror(attributes: dict[str, Any], one: str, other: str) -> None:
    if one in attributes:
        attributes.setdefault(other, attributes[one])
    elif other in attributes:
        attributes[one] = attributes[other]
