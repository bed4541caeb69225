"""What the Langfuse branch changes on a span of the LLM view: tables and `langfuse_attributes`.

Langfuse reads some attributes before the gen_ai names, refuses an observation for one value of
the wrong type, and does not map every operation: the rules here put that right. Which spans are in
the view is said in `policy`. `collector/layers/langfuse.yaml` is generated from here; `direct`
export and `otelbridge local` call it. Values in, values out: no I/O, no OpenTelemetry import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from otelbridge import dialects, semconv

#: Attributes that mislead Langfuse, and otelbridge's own marks: removed on the Langfuse branch. Any
#: key that starts with `gen_ai.prompt` hides the real input there; `cache_write` would be counted
#: beside `cache_creation`, which is the name that Langfuse reads and has the same value.
MISLEADING_KEY_PATTERN: Final = (
    r"^(otelbridge\.(llm\.(keep|parent)|oversize)|gen_ai\.prompt\.(name|version|variables?(\..*)?)"
    r"|gen_ai\.usage\.cache_write\.input_tokens)$"
)
_misleading_key = re.compile(MISLEADING_KEY_PATTERN)

#: Attributes that some emitters use for content and others for anything. Langfuse reads them before
#: the gen_ai messages, and takes a span with `model` for a generation: on a span of otelbridge, or
#: one that has messages under a current name, they become observation metadata.
SHADOWING_KEYS: Final = ("model", "prompt", "events", "input", "output")
_NATIVE_CONTENT_KEYS: Final = (
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.LANGFUSE_OBSERVATION_INPUT,
    semconv.LANGFUSE_OBSERVATION_OUTPUT,
)
SHADOWED_BY_KEYS: Final = (semconv.LLM_KEEP, *_NATIVE_CONTENT_KEYS)

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
    ("fetch_response", "span"),
)
_observation_types = dict(OBSERVATION_TYPES)
#: `langfuse.observation.level` in upper case, and the level that Langfuse v3 and v4 both accept.
LEVELS: Final[tuple[tuple[str, str], ...]] = (
    *((level, level) for level in ("DEBUG", "DEFAULT", "WARNING", "ERROR")),
    *(("INFO", "DEFAULT"), ("WARN", "WARNING"), ("FATAL", "ERROR"), ("CRITICAL", "ERROR")),
)
_levels = dict(LEVELS)


def langfuse_attributes(
    attributes: Mapping[str, Any], start_time_ns: int | None = None
) -> dict[str, Any]:
    """Span attributes as the Langfuse branch sends them.

    No marks and nothing that misleads it, types that its schema accepts, an observation type for
    operations that it does not map, and (with `start_time_ns`) the time of the first token.
    """
    sent = dict(attributes)
    if any(key in sent for key in SHADOWED_BY_KEYS):
        for key in SHADOWING_KEYS:
            if key in sent:
                value = sent.pop(key)
                sent.setdefault(semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX + key, value)
    sent = {key: value for key, value in sent.items() if not _misleading_key.match(key)}
    _settle_langfuse_types(sent)
    first_chunk = sent.get(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    started = semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME
    if start_time_ns is not None and started not in sent and isinstance(first_chunk, float):
        sent[started] = _iso_time(start_time_ns, first_chunk)
    return sent


def _settle_langfuse_types(sent: dict[str, Any]) -> None:
    """Values whose type would make Langfuse refuse the observation, put right or removed."""
    version = semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION
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


def _iso_time(start_time_ns: int, after_seconds: float) -> str:
    whole_us = start_time_ns // 1000 + int(after_seconds * 1_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=whole_us)
    fraction = f"{moment.microsecond // 1000:03d}".rstrip("0")  # as the Collector writes it
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}Z" if fraction else "Z")
