"""What counts as a gen_ai span, as message content, and as a secret: tables and pure functions.

The service (`direct` export), the Collector (`collector/config.yaml` is generated from here) and
`otelbridge local` all apply these rules, so that there is one definition of each. Patterns are
written in the common ground of Python's `re` and Go's RE2. Values in, values out: no I/O, no
OpenTelemetry import. The Luhn check and entropy are no regular expressions and do not belong here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from otelbridge import dialects, semconv

#: A span with one of these attributes is a gen_ai span: the operation, a model, or the
#: distinguishing key of a dialect (OpenInference, OpenLLMetry/Traceloop, Vercel AI SDK).
GEN_AI_KEYS: Final[tuple[str, ...]] = (
    semconv.GEN_AI_OPERATION_NAME,
    semconv.GEN_AI_REQUEST_MODEL,
    semconv.GEN_AI_RESPONSE_MODEL,
    "openinference.span.kind",
    "llm.model_name",
    "llm.request.type",
    "traceloop.span.kind",
    "ai.operationId",
    semconv.LANGFUSE_OBSERVATION_TYPE,
)
_gen_ai_keys = frozenset(GEN_AI_KEYS)

#: Instrumentation scopes whose spans are LLM work from their first moment; prefixes, matched at a
#: "." or "-" boundary or as a whole.
LLM_SCOPES: Final[tuple[str, ...]] = (
    "otelbridge.genai",
    "opentelemetry.instrumentation.openai",
    "opentelemetry.instrumentation.openai_v2",
    "opentelemetry.instrumentation.openai_agents",
    "opentelemetry.instrumentation.anthropic",
    "opentelemetry.instrumentation.bedrock",
    "opentelemetry.instrumentation.cohere",
    "opentelemetry.instrumentation.crewai",
    "opentelemetry.instrumentation.google_generativeai",
    "opentelemetry.instrumentation.google_genai",
    "opentelemetry.instrumentation.groq",
    "opentelemetry.instrumentation.haystack",
    "opentelemetry.instrumentation.langchain",
    "opentelemetry.instrumentation.llamaindex",
    "opentelemetry.instrumentation.mistralai",
    "opentelemetry.instrumentation.ollama",
    "opentelemetry.instrumentation.genai",
    "opentelemetry.instrumentation.vertexai",
    "opentelemetry.util.genai",
    "openinference.instrumentation",
    "com.anthropic.sdk.python",
    "langfuse-sdk",
    "pydantic-ai",
    "litellm",
    "agent_framework",
    "haystack",
    "strands",
    "langsmith",
    "ai",
)

#: Message text, tool arguments and results, documents, prompts and variables in every dialect: one
#: anchored pattern over attribute keys. `gen_ai.prompt.name` and `.version` are identity and stay.
CONTENT_KEY_PATTERNS: Final[tuple[str, ...]] = (
    r"gen_ai\.(input|output)\.messages",
    r"gen_ai\.system_instructions",
    r"gen_ai\.tool\.definitions",
    r"gen_ai\.tool\.call\.(arguments|result)",
    r"gen_ai\.retrieval\.(query\.text|documents)",
    r"gen_ai\.memory\.(query\.text|records)",
    r"gen_ai\.evaluation\.explanation",
    r"gen_ai\.prompt",
    r"gen_ai\.prompt\.([0-9]+|variable|variables)(\..*)?",
    r"gen_ai\.completion(\..*)?",
    r"gen_ai\.(event\.)?content",
    r"langfuse\.(observation|trace)\.(input|output)",
    r"langfuse\.(observation\.)?prompt\.variables?(\..*)?",
    r"(input|output)\.(value|mime_type)",
    r"llm\.(input|output)_messages(\..*)?",
    r"llm\.(prompts|completions)(\..*)?",
    r"llm\.prompt_template\.(template|variables)",
    r"llm\.(invocation_parameters|function_call)",
    r"llm\.tools(\..*)?",
    r"llm\.request\.functions(\..*)?",
    # LiteLLM's raw request: llm.<provider>.<field of the provider's API>. Providers are listed,
    # because llm.token_count.prompt and llm.cost.input are numbers of OpenInference.
    r"llm\.(openai|azure|azure_ai|anthropic|bedrock|sagemaker|vertex_ai|gemini|cohere|cohere_chat"
    r"|mistral|groq|huggingface|together_ai|ollama|ollama_chat|replicate|deepseek|xai|openrouter"
    r"|perplexity|fireworks_ai|databricks|watsonx|custom_openai|hosted_vllm|vllm|litellm_proxy"
    r"|nvidia_nim|cerebras|sambanova|deepinfra|text-completion-openai|None)\.(messages|prompt|input"
    r"|inputs|system|tools|functions|contents|documents|query|choices|content|candidates|output"
    r"|message|response|stringified_raw_(request|response))",
    r"(retrieval|reranker)\.(documents|input_documents|output_documents|query)(\..*)?",
    r"embedding\.(text|embeddings)(\..*)?",
    r"(document|message)\.content(s)?(\..*)?",
    r"tool\.(parameters|json_schema)",
    r"tool_call\.function\.arguments",
    r"tool_(arguments|response)",
    r"traceloop\.entity\.(input|output)",
    r"ai\.(prompt|response\.(text|object|toolCalls|reasoning))(\..*)?",
    r"ai\.(toolCall\.(args|result)|values?|embeddings?|input|output)(\..*)?",
    r"mlflow\.span(Inputs|Outputs)",
    r"gcp\.vertex\.agent\.(llm_request|llm_response|tool_call_args|tool_response|data)",
    r"lk\.(chat_ctx|input_text|user_transcript|response\.text|function_tool\.(arguments|output))",
    r"(all_messages_events|pydantic_ai\.all_messages|final_result|request_data|response_data)",
    r"(prompt|completion|input|output|inputs|embeddings|messages|events)",
    r"model_request_parameters",
)
CONTENT_KEY_PATTERN: Final = "^(" + "|".join(CONTENT_KEY_PATTERNS) + ")$"
_content_key = re.compile(CONTENT_KEY_PATTERN)

#: Span events that carry message text; dropped whole on the Tempo branch.
CONTENT_EVENT_PATTERN: Final = (
    r"^gen_ai\.((system|user|assistant|tool)\.message|choice|content\.(prompt|completion)"
    r"|client\.inference\.operation\.details)$"
)
_content_event = re.compile(CONTENT_EVENT_PATTERN)

#: Attributes that mislead Langfuse, and otelbridge's own marks: removed on the Langfuse branch. Any
#: key that starts with `gen_ai.prompt` hides the real input there; `cache_write` would be counted
#: beside `cache_creation`, which is the name that Langfuse reads and has the same value.
MISLEADING_KEY_PATTERN: Final = (
    r"^(otelbridge\.(llm\.(keep|parent)|oversize)|gen_ai\.prompt\.(name|version|variables?(\..*)?)"
    r"|gen_ai\.usage\.cache_write\.input_tokens)$"
)
_misleading_key = re.compile(MISLEADING_KEY_PATTERN)
_span_id = re.compile(r"^[0-9a-fA-F]{16}$")

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

#: The longest attribute value in bytes that Tempo keeps (`max_attribute_bytes`, default 2,048).
TEMPO_VALUE_BYTES: Final = 2048

#: Secrets that a regular expression can decide, each with what replaces it (`$1` is the first
#: group). The order matters: longer forms first.
MASK_PATTERNS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?",
        "[masked:private-key]",
    ),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", "[masked:jwt]"),
    (
        r"\b(sk-ant-|sk-proj-|sk-lf-|sk-or-|sk-|gsk_|hf_|xai-|pplx-|AIza|AKIA|ASIA|ghp_|gho_|ghs_"
        r"|github_pat_|glpat-|xox[abprs]-|rk_live_|sk_live_)[A-Za-z0-9_\-]{12,}",
        "[masked:api-key]",
    ),
    (
        r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)\s+[A-Za-z0-9+/_\-.=]{12,}",
        "[masked:credential]",
    ),
    (r"(://[^/\s:@]*):[^/\s@]+@", "$1:[masked:password]@"),
    (
        r"(?i)([?&](?:api[_-]?key|key|access[_-]?token|refresh[_-]?token|id[_-]?token|token|auth"
        r"|authorization|secret|client[_-]?secret|password|passwd|pwd|sig|signature|code|session"
        r"|credential|x-amz-[a-z-]+|x-goog-[a-z-]+)=)[^&#\s\"']+",
        "$1[masked]",
    ),
    (r"\b[A-Za-z0-9._%+\-]+@[A-Za-z0-9.\-]+\.[A-Za-z]{2,}\b", "[masked:email]"),
)
_masks = tuple(
    # As RE2 reads them: \s, \b and (?i) know ASCII only.
    (re.compile(pattern, re.ASCII), replacement.replace("$1", r"\1"))
    for pattern, replacement in MASK_PATTERNS
)


#: One row for each of `MASK_PATTERNS`: pieces of text of which one must be there for the pattern to
#: match at all. The Collector looks for these in all values of a span at once before it runs the
#: pattern. `&`, `<` and `>` never stand here: the text it searches is JSON, which escapes them.
MASK_TRIGGERS: Final[tuple[tuple[str, ...], ...]] = (
    ("-----BEGIN ",),
    ("eyJ",),
    (
        *("sk-", "_live_", "gsk_", "hf_", "xai-", "pplx-", "AIza", "AKIA", "ASIA"),
        *("ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xox"),
    ),
    ("earer", "EARER", "asic", "ASIC"),
    ("@",),
    ("=",),
    ("@",),
)

#: Identifiers that a person chose to send; a user id that is a mail address stays one.
UNMASKED_KEYS: Final = (
    semconv.USER_ID,
    semconv.SESSION_ID,
    semconv.LANGFUSE_USER_ID,
    semconv.LANGFUSE_SESSION_ID,
    semconv.GEN_AI_CONVERSATION_ID,
)
#: Captured headers that are secrets as a whole; their values are lists, which no pattern reaches.
CREDENTIAL_HEADER_PATTERN: Final = (
    r"^(http|rpc)\.[a-z._]+\.(header|metadata)\.((proxy-)?authorization|(set-)?cookie|x-auth-token"
    r"|(x-)?(goog-)?api[-_]?key)$"
)
_credential_header = re.compile(CREDENTIAL_HEADER_PATTERN)

#: A query parameter of this name loses its value wherever a URL or a query string is recorded.
SECRET_PARAMETER: Final = re.compile(
    r"(?i)((?:^|[?&;])(?:[a-z0-9._\-]*(?:key|token|auth|secret|passw|pwd|sig|credential)[a-z0-9._\-]*"
    r"|code|session(?:_?id)?|sid|jwt|otp|pin)=)[^&;#\s]+"
)


def is_gen_ai(attributes: Mapping[str, Any]) -> bool:
    """Whether a span with these attributes is a gen_ai span: the one predicate of the project."""
    return not _gen_ai_keys.isdisjoint(attributes)


@lru_cache(maxsize=1024)  # asked for every span that starts
def is_llm_scope(scope_name: str) -> bool:
    """Whether an instrumentation scope is known to make LLM spans only."""
    for prefix in LLM_SCOPES:
        if scope_name.startswith(prefix):
            rest = scope_name[len(prefix) :]
            if not rest or rest[0] in ".-_":
                return True
    return False


def is_content_key(key: str) -> bool:
    """Whether an attribute of this key holds message text, tool data, documents or prompts."""
    return _content_key.match(key) is not None


def is_content_event(name: str) -> bool:
    """Whether a span event of this name carries message text."""
    return _content_event.match(name) is not None


def mask_text(text: str) -> str:
    """The text with every secret that a regular expression can decide replaced by a marker."""
    for pattern, replacement in _masks:
        text = pattern.sub(replacement, text)
    return text


def mask_query(text: str) -> str:
    """A URL or a query string whose secret-named parameters have lost their values."""
    return SECRET_PARAMETER.sub(r"\1[masked]", text)


def in_llm_view(attributes: Mapping[str, Any]) -> bool:
    """Whether the Langfuse branch keeps a span: marked true, or unmarked and a gen_ai span."""
    keep = attributes.get(semconv.LLM_KEEP)
    if keep is None:
        return is_gen_ai(attributes)
    return keep is True or keep == "true"


def view_parent(attributes: Mapping[str, Any], true_parent: str) -> str:
    """The parent of a span in the LLM view.

    Args:
        attributes: Span attributes, marks included.
        true_parent: 16 hex digits, or empty text for a root.
    Returns:
        16 hex digits, or empty text for a root of the view. A span without a well-formed mark (a
        service without otelbridge) keeps its true parent.
    """
    mark = attributes.get(semconv.LLM_PARENT)
    if not isinstance(mark, str):
        return true_parent
    if mark.strip("0") == "":
        return ""
    return mark.lower() if _span_id.match(mark) else true_parent


def entry_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Span attributes as the Collector's entry pipeline passes them to every branch.

    Current gen_ai names are added for every dialect, and text values are masked.
    """
    return mask_attributes(dialects.normalise(attributes, GEN_AI_KEYS))


def mask_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Span or event attributes with every text value masked; lists and numbers stay.

    Identifiers (`UNMASKED_KEYS`) stay as they are; headers that are secrets are removed.
    """
    return {
        key: mask_text(value) if isinstance(value, str) and key not in UNMASKED_KEYS else value
        for key, value in attributes.items()
        if not _credential_header.match(key)
    }


def tempo_attributes(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Span, event or link attributes as the Tempo branch sends them.

    Returns:
        The attributes without message content, and whether content was removed.
    """
    kept = {key: value for key, value in attributes.items() if not _content_key.match(key)}
    return kept, len(kept) != len(attributes)


def bounded_attributes(
    attributes: Mapping[str, Any], limit_bytes: int = TEMPO_VALUE_BYTES
) -> dict[str, Any]:
    """Attributes whose text values are no longer than Tempo keeps.

    JSON (text between brackets) is replaced whole by a marker, other text is cut between
    characters.
    """
    return {
        key: _bounded(value, limit_bytes) if isinstance(value, str) else value
        for key, value in attributes.items()
    }


def _bounded(text: str, limit_bytes: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return text
    if text[0] + text[-1] in ("{}", "[]"):
        return oversize_marker(limit_bytes)
    return encoded[:limit_bytes].decode("utf-8", "ignore").rstrip("\ufffd")


def oversize_marker(limit_bytes: int | str) -> str:
    """What stands in Tempo in place of a JSON value over the limit."""
    return f"[removed: JSON of more than {limit_bytes} bytes]"


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
