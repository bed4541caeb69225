"""What the Langfuse branch changes on a span of the LLM view: tables and `langfuse_attributes`.

Langfuse reads some attributes before the gen_ai names, refuses an observation for one value of
the wrong type, and does not map every operation: the rules here put that right. Which spans are in
the view is said in `policy`. `collector/layers/langfuse.yaml` is generated from here; `direct`
export and `otelbridge local` call it. Values in, values out: no I/O, no OpenTelemetry import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from otelbridge import dialects, semconv

#: Attributes that mislead Langfuse, and otelbridge's own marks: removed on the Langfuse branch. Any
#: key that starts with `gen_ai.prompt` or `gen_ai.completion` is taken for the content and hides
#: the real one (`gen_ai.prompt.<n>.*` of the old conventions is the content); `cache_write` would
#: be counted beside `cache_creation`, which is the name that Langfuse reads and has the same value.
MISLEADING_KEY_PATTERN: Final = (
    r"^(otelbridge\.(llm\.(keep|parent)|oversize)|gen_ai\.(prompt|completion)[._][^0-9].*"
    r"|gen_ai\.usage\.cache_write\.input_tokens)$"
)
_misleading_key = re.compile(MISLEADING_KEY_PATTERN)

#: Attributes that some emitters use for content and others for anything. Langfuse reads them before
#: the gen_ai messages, and takes a span with `model` for a generation: on a span of otelbridge, of
#: a dialect that does not use them, or one that has messages under a current name, they become
#: observation metadata. Elsewhere they are the content that someone wrote by hand, and stay.
SHADOWING_KEYS: Final = ("model", "prompt", "events", "input", "output")
_NATIVE_CONTENT_KEYS: Final = (
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.LANGFUSE_OBSERVATION_INPUT,
    semconv.LANGFUSE_OBSERVATION_OUTPUT,
)
#: Dialects whose content stands under keys that Langfuse reads after the shadowing ones.
_DIALECT_KEYS: Final = ("openinference.span.kind", "traceloop.span.kind", "llm.request.type")
SHADOWED_BY_KEYS: Final = (semconv.LLM_KEEP, *_NATIVE_CONTENT_KEYS, *_DIALECT_KEYS)

#: `gen_ai.operation.name` and the observation type that Langfuse should show; the others
#: (chat, embeddings, execute_tool, invoke_agent, ...) Langfuse maps by itself.
OBSERVATION_TYPES: Final[tuple[tuple[str, str], ...]] = (
    ("retrieval", "retriever"),
    ("rerank", "retriever"),
    ("search_memory", "retriever"),
    ("invoke_workflow", "chain"),
    ("plan", "chain"),
    ("evaluate", "evaluator"),
    ("guardrail", "guardrail"),
    ("image_generation", "generation"),
    ("transcription", "generation"),
    ("speech", "generation"),
    ("moderation", "guardrail"),
    ("fetch_response", "span"),
)
_observation_types = dict(OBSERVATION_TYPES)
#: `langfuse.observation.level` in upper case, and the level that Langfuse v3 and v4 both accept.
LEVELS: Final[tuple[tuple[str, str], ...]] = (
    *((level, level) for level in ("DEBUG", "DEFAULT", "WARNING", "ERROR")),
    *(("INFO", "DEFAULT"), ("WARN", "WARNING"), ("FATAL", "ERROR"), ("CRITICAL", "ERROR")),
)
_levels = dict(LEVELS)

#: Spans of these operations repeat the usage of the calls below them, or have none of their own:
#: the metrics do not count theirs, and Langfuse, which discards only that of `invoke_agent`, does
#: not get it. What was set for Langfuse by name (`langfuse.observation.*_details`) stays.
UNCOUNTED_OPERATIONS: Final = (
    "invoke_agent",
    "create_agent",
    "invoke_workflow",
    "plan",
    "execute_tool",
    "fetch_response",
)
USAGE_KEY_PATTERN: Final = r"^(gen_ai\.usage\.|llm\.(token_count|cost)\.)"
_usage_key = re.compile(USAGE_KEY_PATTERN)
#: Costs above this many USD for one call are no costs.
MAX_COST_USD: Final = 1_000_000.0
#: The longest duration that the Collector can add to a time (Go's time.Duration, 292 years).
_MAX_SECONDS: Final = 9.2e9


def langfuse_attributes(
    attributes: Mapping[str, Any], start_time_ns: int | None = None
) -> dict[str, Any]:
    """Span attributes as the Langfuse branch sends them.

    No marks and nothing that misleads it, types that its schema accepts, an observation type for
    operations that it does not map, usage and cost spelled out, the link to a prompt, and (with
    `start_time_ns`) the time of the first token.
    """
    sent = dict(attributes)
    if any(key in sent for key in SHADOWED_BY_KEYS):
        for key in SHADOWING_KEYS:
            if key in sent:
                value = sent.pop(key)
                sent.setdefault(semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX + key, value)
    _link_prompt(sent)
    sent = {key: value for key, value in sent.items() if not _misleading_key.match(key)}
    _settle_langfuse_types(sent)
    if sent.get(semconv.GEN_AI_OPERATION_NAME) in UNCOUNTED_OPERATIONS:
        sent = {key: value for key, value in sent.items() if not _usage_key.match(key)}
    else:
        _spell_out_usage(sent)
    first_chunk = sent.get(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    started = semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME
    if (
        start_time_ns is not None
        and started not in sent
        and isinstance(first_chunk, float)
        and abs(first_chunk) < _MAX_SECONDS  # false for NaN and infinity too
    ):
        sent[started] = _iso_time(start_time_ns, first_chunk)
    return sent


def _settle_langfuse_types(sent: dict[str, Any]) -> None:
    """Values whose type would make Langfuse refuse the observation, put right or removed."""
    for version in (semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION, semconv.LANGFUSE_PROMPT_VERSION):
        if version in sent:
            number = dialects.to_integer(sent[version])
            if number is None:
                del sent[version]
            else:
                sent[version] = number
    started = semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME
    if started in sent and not isinstance(sent[started], str):
        del sent[started]
    level = semconv.LANGFUSE_OBSERVATION_LEVEL
    if level in sent:
        known = _levels.get(str(sent[level]).upper())
        if known is None:
            del sent[level]
        else:
            sent[level] = known
    operation = sent.get(semconv.GEN_AI_OPERATION_NAME)
    if semconv.LANGFUSE_OBSERVATION_TYPE not in sent and isinstance(operation, str):
        observation = _observation_types.get(operation)
        if observation is not None:
            sent[semconv.LANGFUSE_OBSERVATION_TYPE] = observation


def _link_prompt(sent: dict[str, Any]) -> None:
    """A prompt named by the conventions, with a number as version, as Langfuse's link to one.

    Langfuse ignores a link to a prompt that its project does not have.
    """
    name = sent.get(semconv.GEN_AI_PROMPT_NAME)
    version = dialects.to_integer(sent.get(semconv.GEN_AI_PROMPT_VERSION))
    given = (semconv.LANGFUSE_OBSERVATION_PROMPT_NAME, semconv.LANGFUSE_PROMPT_NAME)
    if isinstance(name, str) and version is not None and not any(key in sent for key in given):
        sent[semconv.LANGFUSE_OBSERVATION_PROMPT_NAME] = name
        sent[semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION] = version


def _spell_out_usage(sent: dict[str, Any]) -> None:
    """Usage and cost in the form that every version of Langfuse takes as it is."""
    usage = _usage_buckets(sent)
    if usage and semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS not in sent:
        sent[semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS] = _json_text(usage)
    cost, details = sent.get(semconv.GEN_AI_USAGE_COST), semconv.LANGFUSE_OBSERVATION_COST_DETAILS
    if details not in sent and isinstance(cost, float) and 0.0 <= cost <= MAX_COST_USD:
        sent[details] = _json_text({"total": cost})


def _usage_buckets(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Disjoint token counts by Langfuse's names, and their total; as `cost.Usage.buckets`.

    The counts of the conventions contain their parts; one that is smaller than its parts can only
    be meant without them. Empty when neither input nor output is known.
    """

    def count(key: str) -> int | None:
        value = attributes.get(key)
        counted = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return value if counted else None

    cached = count(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS) or 0
    written = count(semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS) or 0
    reasoning = count(semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS) or 0
    buckets = {}
    for name, key, parts in (
        ("input", semconv.GEN_AI_USAGE_INPUT_TOKENS, cached + written),
        ("output", semconv.GEN_AI_USAGE_OUTPUT_TOKENS, reasoning),
    ):
        tokens = count(key)
        if tokens is not None or parts:
            tokens = tokens or 0
            buckets[name] = tokens - parts if tokens >= parts else tokens
    parts_found = {
        "input_cached_tokens": cached,
        "input_cache_creation": written,
        "output_reasoning_tokens": reasoning,
    }
    buckets |= {name: tokens for name, tokens in parts_found.items() if tokens}
    return buckets | {"total": sum(buckets.values())} if buckets else {}


def _json_text(fields: Mapping[str, float]) -> str:
    """JSON as the Collector writes it: keys in order, no spaces, numbers without a needless dot."""
    parts = (f'"{name}":{_json_number(fields[name])}' for name in sorted(fields))
    return "{" + ",".join(parts) + "}"


def _json_number(value: float) -> str:
    text = json.dumps(value)
    if isinstance(value, int) or "e-" not in text:
        return text.removesuffix(".0")
    return text if value < 1e-6 else format(Decimal(text), "f")


def _iso_time(start_time_ns: int, after_seconds: float) -> str:
    whole_us = start_time_ns // 1000 + int(after_seconds * 1_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=whole_us)
    fraction = f"{moment.microsecond // 1000:03d}".rstrip("0")  # as the Collector writes it
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}Z" if fraction else "Z")
