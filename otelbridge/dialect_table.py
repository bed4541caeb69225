"""Other emitters' attribute names and the current gen_ai names that they become: the table.

`dialects` applies it; `collector/render.py` writes the same rules as OTTL into
`collector/layers/normalise.yaml` and as a table into `docs/dialects.md`. Scalars only: message
content stays where it is, because Langfuse reads every dialect's content by itself and Tempo gets
none. A name that is already there wins; the old names stay. Data only; imports the keys alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from otelbridge import semconv as s

#: How a value is turned: as it is; to an integer or a double (text that holds a number too); from
#: milliseconds to seconds; to a list of one.
Conversion = Literal["same", "int", "double", "seconds", "list"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`target` gets the value of `source`, when `target` is absent and the value no empty text.

    With `values` only the listed values count and each becomes its partner; with `only` the rule
    holds for spans where that attribute has that value.
    """

    target: str
    source: str
    conversion: Conversion = "same"
    values: tuple[tuple[str, str], ...] = ()
    only: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One emitter's names: `when` lists keys of which one must be there for `rules` to be tried."""

    name: str
    emitters: str
    when: tuple[str, ...]
    rules: tuple[Rule, ...]


def _usage(prefix: str, **names: str) -> tuple[Rule, ...]:
    targets = {
        "input": s.GEN_AI_USAGE_INPUT_TOKENS,
        "output": s.GEN_AI_USAGE_OUTPUT_TOKENS,
        "cache_read": s.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        "cache_write": s.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        "reasoning": s.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
    }
    return tuple(Rule(targets[part], prefix + name, "int") for part, name in names.items())


def _operation(source: str, *values: tuple[str, str]) -> Rule:
    return Rule(s.GEN_AI_OPERATION_NAME, source, values=values)


_OPENINFERENCE = Dialect(
    "OpenInference",
    "openinference-instrumentation-*, Arize Phoenix",
    ("openinference.span.kind", "llm.model_name"),
    (
        _operation(
            "openinference.span.kind",
            ("LLM", "chat"),
            ("EMBEDDING", "embeddings"),
            ("AGENT", "invoke_agent"),
            ("TOOL", "execute_tool"),
            ("RETRIEVER", "retrieval"),
            ("RERANKER", "rerank"),
            ("CHAIN", "invoke_workflow"),
            ("EVALUATOR", "evaluate"),
            ("GUARDRAIL", "guardrail"),
        ),
        Rule(s.GEN_AI_REQUEST_MODEL, "llm.request.model_name"),
        Rule(s.GEN_AI_REQUEST_MODEL, "llm.model_name"),
        Rule(s.GEN_AI_REQUEST_MODEL, "embedding.model_name"),
        Rule(s.GEN_AI_REQUEST_MODEL, "reranker.model_name"),
        Rule(s.GEN_AI_RESPONSE_MODEL, "llm.response.model_name"),
        Rule(s.GEN_AI_RESPONSE_FINISH_REASONS, "llm.finish_reason", "list"),
        Rule(s.GEN_AI_SYSTEM, "llm.provider"),
        Rule(s.GEN_AI_SYSTEM, "llm.system"),
        *_usage(
            "llm.token_count.",
            input="prompt",
            output="completion",
            cache_read="prompt_details.cache_read",
            cache_write="prompt_details.cache_write",
            reasoning="completion_details.reasoning",
        ),
        Rule(s.GEN_AI_USAGE_COST, "llm.cost.total", "double"),
        Rule(s.GEN_AI_CONVERSATION_ID, s.SESSION_ID),
        Rule(s.GEN_AI_TOOL_NAME, "tool.name"),
        Rule(s.GEN_AI_TOOL_CALL_ID, "tool_call.id"),
        Rule(s.GEN_AI_AGENT_NAME, "agent.name"),
    ),
)

_VERCEL = Dialect(
    "Vercel AI SDK",
    "ai (JavaScript), versions 3 to 6",
    ("ai.operationId",),
    (
        # The outer spans repeat the totals of the calls below them, as an agent's span does.
        _operation(
            "ai.operationId",
            *((f"ai.{verb}", "invoke_agent") for verb in ("generateText", "streamText")),
            *((f"ai.{verb}", "invoke_agent") for verb in ("generateObject", "streamObject")),
            *((f"ai.{verb}.doGenerate", "chat") for verb in ("generateText", "generateObject")),
            *((f"ai.{verb}.doStream", "chat") for verb in ("streamText", "streamObject")),
            ("ai.embed.doEmbed", "embeddings"),
            ("ai.embedMany.doEmbed", "embeddings"),
            ("ai.toolCall", "execute_tool"),
        ),
        Rule(s.GEN_AI_REQUEST_MODEL, "ai.model.id"),
        Rule(s.GEN_AI_SYSTEM, "ai.model.provider"),
        Rule(s.GEN_AI_RESPONSE_MODEL, "ai.response.model"),
        Rule(s.GEN_AI_RESPONSE_ID, "ai.response.id"),
        Rule(s.GEN_AI_RESPONSE_FINISH_REASONS, "ai.response.finishReason", "list"),
        Rule(s.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, "ai.response.msToFirstChunk", "seconds"),
        *_usage("ai.usage.", input="inputTokens", output="outputTokens"),
        *_usage("ai.usage.", input="promptTokens", output="completionTokens"),
        *_usage("ai.usage.", cache_read="cachedInputTokens", reasoning="reasoningTokens"),
        *_usage(
            "ai.usage.",
            cache_read="inputTokenDetails.cacheReadTokens",
            cache_write="inputTokenDetails.cacheWriteTokens",
            reasoning="outputTokenDetails.reasoningTokens",
        ),
        Rule(
            s.GEN_AI_USAGE_INPUT_TOKENS,
            "ai.usage.tokens",
            "int",
            only=(s.GEN_AI_OPERATION_NAME, "embeddings"),
        ),
        Rule(s.GEN_AI_REQUEST_TEMPERATURE, "ai.settings.temperature", "double"),
        Rule(s.GEN_AI_REQUEST_TOP_P, "ai.settings.topP", "double"),
        Rule(s.GEN_AI_REQUEST_TOP_K, "ai.settings.topK", "int"),
        Rule(s.GEN_AI_REQUEST_FREQUENCY_PENALTY, "ai.settings.frequencyPenalty", "double"),
        Rule(s.GEN_AI_REQUEST_PRESENCE_PENALTY, "ai.settings.presencePenalty", "double"),
        Rule(s.GEN_AI_REQUEST_MAX_TOKENS, "ai.settings.maxOutputTokens", "int"),
        Rule(s.GEN_AI_REQUEST_MAX_TOKENS, "ai.settings.maxTokens", "int"),
        Rule(s.GEN_AI_TOOL_NAME, "ai.toolCall.name"),
        Rule(s.GEN_AI_TOOL_CALL_ID, "ai.toolCall.id"),
        Rule(s.USER_ID, "ai.telemetry.metadata.userId"),
        Rule(s.SESSION_ID, "ai.telemetry.metadata.sessionId"),
    ),
)

#: Before OpenLLMetry, whose `llm.request.type` it uses with values of its own.
_LITELLM = Dialect(
    "LiteLLM",
    "the `otel` callback of litellm and its proxy",
    ("gen_ai.cost.total_cost", "metadata.user_api_key_hash", "hidden_params"),
    (
        _operation(
            "llm.request.type",
            *((name, "chat") for name in ("completion", "acompletion", "responses", "aresponses")),
            *((name, "embeddings") for name in ("embedding", "aembedding")),
            *((name, "text_completion") for name in ("text_completion", "atext_completion")),
            *((name, "rerank") for name in ("rerank", "arerank")),
            *((name, "chat") for name in ("anthropic_messages", "aanthropic_messages")),
            *((name, "image_generation") for name in ("image_generation", "aimage_generation")),
            *((name, "transcription") for name in ("transcription", "atranscription")),
            *((name, "speech") for name in ("speech", "aspeech")),
            *((name, "moderation") for name in ("moderation", "amoderation")),
        ),
        Rule(s.GEN_AI_USAGE_COST, "gen_ai.cost.total_cost", "double"),
        Rule(s.USER_ID, "metadata.user_api_key_end_user_id"),
        Rule(s.USER_ID, "llm.user"),
    ),
)

_OPENLLMETRY = Dialect(
    "OpenLLMetry",
    "traceloop-sdk, opentelemetry-instrumentation-{openai,anthropic,langchain,…} 0.x",
    (
        "traceloop.span.kind",
        "llm.request.type",
        "traceloop.workflow.name",
        "traceloop.association.properties.user_id",
        "traceloop.association.properties.session_id",
    ),
    (
        _operation(
            "llm.request.type",
            ("chat", "chat"),
            ("completion", "text_completion"),
            ("embedding", "embeddings"),
            ("rerank", "rerank"),
        ),
        _operation(
            "traceloop.span.kind",
            ("workflow", "invoke_workflow"),
            ("agent", "invoke_agent"),
            ("tool", "execute_tool"),
        ),
        Rule(s.GEN_AI_WORKFLOW_NAME, "traceloop.workflow.name"),
        Rule(s.GEN_AI_AGENT_NAME, "traceloop.entity.name", only=("traceloop.span.kind", "agent")),
        Rule(s.GEN_AI_TOOL_NAME, "traceloop.entity.name", only=("traceloop.span.kind", "tool")),
        *_usage(
            "gen_ai.usage.",
            cache_read="cache_read_input_tokens",
            cache_write="cache_creation_input_tokens",
            reasoning="reasoning_tokens",
        ),
        Rule(s.GEN_AI_REQUEST_MODEL, "llm.request.model"),
        Rule(s.GEN_AI_RESPONSE_MODEL, "llm.response.model"),
        Rule(s.GEN_AI_REQUEST_MAX_TOKENS, "llm.request.max_tokens", "int"),
        Rule(s.GEN_AI_REQUEST_TEMPERATURE, "llm.request.temperature", "double"),
        Rule(s.GEN_AI_REQUEST_TOP_P, "llm.request.top_p", "double"),
        *_usage(
            "llm.usage.",
            input="prompt_tokens",
            output="completion_tokens",
            reasoning="reasoning_tokens",
        ),
        Rule(s.GEN_AI_USAGE_TOTAL_TOKENS, "llm.usage.total_tokens", "int"),
        *(
            Rule(s.GEN_AI_RESPONSE_FINISH_REASONS, prefix + name, "list")
            for prefix in ("gen_ai.response.", "llm.response.")
            for name in ("finish_reason", "stop_reason")
        ),
        Rule(s.GEN_AI_REQUEST_MAX_TOKENS, "gen_ai.request.max_completion_tokens", "int"),
        Rule(s.GEN_AI_REQUEST_CHOICE_COUNT, "gen_ai.request.n", "int"),
        Rule(s.GEN_AI_REQUEST_TOP_K, "llm.top_k", "int"),
        Rule(s.GEN_AI_REQUEST_FREQUENCY_PENALTY, "llm.frequency_penalty", "double"),
        Rule(s.GEN_AI_REQUEST_PRESENCE_PENALTY, "llm.presence_penalty", "double"),
        Rule(s.GEN_AI_REQUEST_STOP_SEQUENCES, "llm.chat.stop_sequences"),
        Rule(s.USER_ID, "traceloop.association.properties.user_id"),
        Rule(s.USER_ID, "gen_ai.user"),
        Rule(s.SESSION_ID, "traceloop.association.properties.session_id"),
    ),
)

_PYDANTIC_AI = Dialect(
    "pydantic-ai / Logfire",
    "pydantic-ai instrumentation, logfire",
    ("logfire.json_schema", "logfire.msg", "operation.cost"),
    (
        Rule(s.GEN_AI_AGENT_NAME, "agent_name"),
        Rule(s.GEN_AI_REQUEST_MODEL, "model_name"),
        Rule(s.GEN_AI_USAGE_COST, "operation.cost", "double"),
        Rule(
            s.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
            "gen_ai.client.operation.time_to_first_chunk",
            "double",
        ),
        *_usage(
            "gen_ai.usage.details.",
            cache_read="cache_read_tokens",
            cache_write="cache_write_tokens",
            reasoning="reasoning_tokens",
        ),
        _operation("logfire.msg_template", ("{agent_name} run", "invoke_agent")),
        _operation("logfire.msg_template", ("running tool: {gen_ai.tool.name}", "execute_tool")),
    ),
)

_LANGFUSE_SDK = Dialect(
    "Langfuse SDK",
    "langfuse (Python, JavaScript)",
    (s.LANGFUSE_OBSERVATION_TYPE,),
    (
        _operation(
            s.LANGFUSE_OBSERVATION_TYPE,
            ("generation", "chat"),
            ("embedding", "embeddings"),
            ("agent", "invoke_agent"),
            ("tool", "execute_tool"),
            ("retriever", "retrieval"),
            ("evaluator", "evaluate"),
            ("chain", "invoke_workflow"),
            ("guardrail", "guardrail"),
        ),
        Rule(s.GEN_AI_REQUEST_MODEL, s.LANGFUSE_OBSERVATION_MODEL_NAME),
    ),
)

_OLD_GEN_AI = Dialect(
    "deprecated gen_ai names",
    "semantic conventions before 1.37; Strands Agents",
    (
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.completion_tokens",
        "gen_ai.openai.request.seed",
        "gen_ai.openai.request.response_format",
        "gen_ai.openai.request.service_tier",
        "gen_ai.openai.response.service_tier",
        "gen_ai.openai.response.system_fingerprint",
    ),
    (
        *_usage(
            "gen_ai.usage.",
            input="prompt_tokens",
            output="completion_tokens",
            cache_read="cache_read_input_tokens",
            cache_write="cache_write_input_tokens",
        ),
        Rule(s.GEN_AI_REQUEST_SEED, "gen_ai.openai.request.seed", "int"),
        Rule(
            s.GEN_AI_OUTPUT_TYPE,
            "gen_ai.openai.request.response_format",
            values=(("json_object", "json"), ("json_schema", "json"), ("text", "text")),
        ),
        Rule(s.OPENAI_REQUEST_SERVICE_TIER, "gen_ai.openai.request.service_tier"),
        Rule(s.OPENAI_RESPONSE_SERVICE_TIER, "gen_ai.openai.response.service_tier"),
        Rule(s.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, "gen_ai.openai.response.system_fingerprint"),
    ),
)

#: In the order in which they are tried; a name written by an earlier one stays.
DIALECTS: Final = (
    _OPENINFERENCE,
    _VERCEL,
    _LITELLM,
    _OPENLLMETRY,
    _PYDANTIC_AI,
    _LANGFUSE_SDK,
    _OLD_GEN_AI,
)
