"""The public helpers: each gives a `Call` to be used with `with` or `async with`.

Span names, kinds and attributes follow the gen_ai semantic conventions; the Langfuse attributes
beside them are those that its OTLP mapping reads. What identifies a call is given when the span
starts, so that samplers and processors see it; text is written after that, and only when the span
is recorded and content is captured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import SpanKind

from otelbridge import semconv
from otelbridge.genai._config import get_config
from otelbridge.genai._span import Call
from otelbridge.genai._values import (
    content_text,
    dumps,
    is_text,
    is_true,
    optional_text,
    text_list,
    text_of,
    to_float,
    to_int,
)
from otelbridge.genai.calls import AgentCall, EmbeddingsCall, ModelCall
from otelbridge.genai.messages import input_messages, system_instructions, tool_definitions
from otelbridge.genai.steps import EvaluationCall, RetrievalCall, ToolCall


def chat(
    model: str,
    *,
    provider: str,
    messages: object = None,
    system: object = None,
    operation: str = "chat",
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    max_tokens: int | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    stop: str | list[str] | None = None,
    seed: int | None = None,
    n: int | None = None,
    stream: bool | None = None,
    tools: object = None,
    output_type: str | None = None,
    reasoning_level: str | None = None,
    conversation_id: str | None = None,
    prompt: object = None,
    prompt_name: str | None = None,
    prompt_version: int | str | None = None,
    cached: bool = False,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> ModelCall:
    """A call of a language model (span `chat {model}`, kind CLIENT, a Langfuse generation).

    Args:
        model: The model asked for.
        provider: `gen_ai.provider.name`: `openai`, `anthropic`, `aws.bedrock`, `azure.ai.openai`,
            `gcp.vertex_ai`, `mistral_ai`, `x_ai`, … or a name of your own.
        messages: Text, or a list in OpenAI's, Anthropic's or semconv's shape.
        system: Instructions, if the API takes them apart from the messages.
        operation: `chat`, `text_completion` or `generate_content`.
        prompt: What `get_prompt` gave (or the Langfuse SDK's): the call is linked to its version, a
            fallback is not.
        prompt_name, prompt_version: The same by hand; the link needs both, and a whole number as
            version.
        cached: True when the answer comes from a cache of yours: the cost is 0 unless you set one.
        name: Span name, instead of `{operation} {model}`.
        attributes: More span attributes.
    """

    def identity() -> dict[str, Any]:
        return {
            **_model_identity(operation, provider, model),
            **_prompt_identity(*_prompt_of(prompt, prompt_name, prompt_version)),
            semconv.GEN_AI_REQUEST_TEMPERATURE: to_float(temperature),
            semconv.GEN_AI_REQUEST_TOP_P: to_float(top_p),
            semconv.GEN_AI_REQUEST_TOP_K: to_int(top_k),
            semconv.GEN_AI_REQUEST_MAX_TOKENS: to_int(max_tokens),
            semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: to_float(frequency_penalty),
            semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: to_float(presence_penalty),
            semconv.GEN_AI_REQUEST_STOP_SEQUENCES: text_list(stop),
            semconv.GEN_AI_REQUEST_SEED: to_int(seed),
            semconv.GEN_AI_REQUEST_CHOICE_COUNT: _unless_one(n),
            semconv.GEN_AI_REQUEST_STREAM: True if stream is True else None,
            semconv.GEN_AI_OUTPUT_TYPE: optional_text(output_type),
            semconv.GEN_AI_REQUEST_REASONING_LEVEL: optional_text(reasoning_level),
            semconv.GEN_AI_CONVERSATION_ID: optional_text(conversation_id),
        }

    def content() -> dict[str, Any]:
        return {
            semconv.GEN_AI_INPUT_MESSAGES: _json(input_messages(messages)),
            semconv.GEN_AI_SYSTEM_INSTRUCTIONS: _json(system_instructions(system)),
            semconv.GEN_AI_TOOL_DEFINITIONS: _json(tool_definitions(tools)),
        }

    return ModelCall(
        _name(operation, model) if name is None else name,
        cached=cached,
        observation_type="generation",
        identity=identity,
        span_kind=SpanKind.CLIENT,
        content=content,
        attributes=attributes,
    )


def embeddings(
    model: str,
    *,
    provider: str,
    input: object = None,
    dimensions: int | None = None,
    encoding_formats: str | list[str] | None = None,
    cached: bool = False,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> EmbeddingsCall:
    """A call of an embedding model (span `embeddings {model}`, kind CLIENT).

    Args:
        input: The text or texts to embed; the vectors are never recorded.
        dimensions: Length of the vectors.
        encoding_formats: `float`, `base64`, …
    """

    def identity() -> dict[str, Any]:
        return {
            **_model_identity("embeddings", provider, model),
            semconv.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: to_int(dimensions),
            semconv.GEN_AI_REQUEST_ENCODING_FORMATS: text_list(encoding_formats),
        }

    return EmbeddingsCall(
        _name("embeddings", model) if name is None else name,
        cached=cached,
        observation_type="embedding",
        identity=identity,
        span_kind=SpanKind.CLIENT,
        content=_content(semconv.LANGFUSE_OBSERVATION_INPUT, input),
        attributes=attributes,
    )


def execute_tool(
    name: str,
    *,
    arguments: object = None,
    call_id: str | None = None,
    description: str | None = None,
    type: str = "function",
    attributes: Mapping[str, Any] | None = None,
) -> ToolCall:
    """The execution of a tool (span `execute_tool {name}`, kind INTERNAL).

    Args:
        arguments: JSON text as the model gave it, or anything that becomes JSON.
        call_id: The id by which the model asked for it.
        type: `function`, `extension` or `datastore`.
    """

    def identity() -> dict[str, Any]:
        return {
            semconv.GEN_AI_OPERATION_NAME: "execute_tool",
            semconv.GEN_AI_TOOL_NAME: text_of(name),
            semconv.GEN_AI_TOOL_TYPE: optional_text(type),
            semconv.GEN_AI_TOOL_CALL_ID: optional_text(call_id),
            semconv.GEN_AI_TOOL_DESCRIPTION: optional_text(description),
        }

    return ToolCall(
        _name("execute_tool", name),
        observation_type="tool",
        identity=identity,
        content=_content(semconv.GEN_AI_TOOL_CALL_ARGUMENTS, arguments),
        attributes=attributes,
    )


def retrieval(
    data_source: str,
    *,
    query: object = None,
    top_k: int | None = None,
    provider: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> RetrievalCall:
    """A search in a data source (span `retrieval {data_source}`, kind CLIENT).

    Takes no model: Langfuse would count and price the documents as that model's output. Embedding
    the query is a call of its own (`embeddings`).
    """

    def identity() -> dict[str, Any]:
        return {
            semconv.GEN_AI_OPERATION_NAME: "retrieval",
            semconv.GEN_AI_DATA_SOURCE_ID: text_of(data_source),
            semconv.GEN_AI_RETRIEVAL_TOP_K: to_int(top_k),
            **_provider_identity(provider),
        }

    return RetrievalCall(
        _name("retrieval", data_source),
        observation_type="retriever",
        identity=identity,
        span_kind=SpanKind.CLIENT,
        content=_content(
            (semconv.GEN_AI_RETRIEVAL_QUERY_TEXT, semconv.LANGFUSE_OBSERVATION_INPUT), query
        ),
        attributes=attributes,
    )


def invoke_agent(
    name: str,
    *,
    provider: str | None = None,
    model: str | None = None,
    input: object = None,
    id: str | None = None,
    description: str | None = None,
    conversation_id: str | None = None,
    remote: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> AgentCall:
    """A run of an agent (span `invoke_agent {name}`).

    Args:
        input: Text, or messages in any shape that `chat` takes.
        remote: True when the agent runs elsewhere: span kind CLIENT instead of INTERNAL.
    """

    def identity() -> dict[str, Any]:
        return {
            semconv.GEN_AI_OPERATION_NAME: "invoke_agent",
            **_provider_identity(provider),
            semconv.GEN_AI_REQUEST_MODEL: optional_text(model),
            semconv.GEN_AI_AGENT_NAME: text_of(name),
            semconv.GEN_AI_AGENT_ID: optional_text(id),
            semconv.GEN_AI_AGENT_DESCRIPTION: optional_text(description),
            semconv.GEN_AI_CONVERSATION_ID: optional_text(conversation_id),
        }

    return AgentCall(
        _name("invoke_agent", name),
        observation_type="agent",
        identity=identity,
        span_kind=SpanKind.CLIENT if is_true(remote) else SpanKind.INTERNAL,
        content=lambda: {semconv.GEN_AI_INPUT_MESSAGES: _json(input_messages(input))},
        attributes=attributes,
    )


def evaluate(
    name: str, *, input: object = None, attributes: Mapping[str, Any] | None = None
) -> EvaluationCall:
    """A judgement on an answer (span `evaluate {name}`); give its result with `set_score`.

    The conventions know evaluation as an event only; it is added to this span. Langfuse makes no
    score of a span, nor of its events: scores go through its API.
    """
    return EvaluationCall(
        _name("evaluate", name),
        observation_type="evaluator",
        identity=lambda: {semconv.GEN_AI_EVALUATION_NAME: text_of(name)},
        content=_content(semconv.LANGFUSE_OBSERVATION_INPUT, input),
        attributes=attributes,
    )


def span(
    name: str,
    *,
    kind: str = "span",
    input: object = None,
    attributes: Mapping[str, Any] | None = None,
) -> Call:
    """Any other step of LLM work, as an observation of this type in Langfuse.

    Args:
        kind: One of `semconv.OBSERVATION_TYPES`; another word counts as `span`.
    """
    return Call(
        name,
        observation_type=_kind(kind),
        identity=dict,
        content=_content(semconv.LANGFUSE_OBSERVATION_INPUT, input),
        attributes=attributes,
    )


def _model_identity(operation: object, provider: object, model: object) -> dict[str, Any]:
    return {
        semconv.GEN_AI_OPERATION_NAME: text_of(operation),
        **_provider_identity(provider),
        semconv.GEN_AI_REQUEST_MODEL: optional_text(model),
    }


def _prompt_of(prompt: object, name: object, version: object) -> tuple[object, object]:
    """Name and version of a call's prompt; what was given by hand wins, a fallback has none."""
    if prompt is None or getattr(prompt, "is_fallback", False) is True:
        return name, version
    if name is None and version is None:
        return getattr(prompt, "name", None), getattr(prompt, "version", None)
    return name, version


def _prompt_identity(name: object, version: object) -> dict[str, Any]:
    """The prompt for Tempo, and for Langfuse when name and whole-number version are both known."""
    prompt, number = optional_text(name), _version(version)
    linked = prompt is not None and number is not None
    return {
        semconv.GEN_AI_PROMPT_NAME: prompt,
        semconv.GEN_AI_PROMPT_VERSION: optional_text(version),
        semconv.LANGFUSE_OBSERVATION_PROMPT_NAME: prompt if linked else None,
        semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION: number if linked else None,
    }


def _provider_identity(provider: object) -> dict[str, Any]:
    name = optional_text(provider)
    legacy = get_config().legacy_gen_ai_system
    return {
        semconv.GEN_AI_PROVIDER_NAME: name,
        semconv.GEN_AI_SYSTEM: name if legacy else None,
    }


def _name(operation: object, subject: object) -> str:
    """`{operation} {subject}`, or the operation alone."""
    return " ".join(filter(None, (text_of(operation), optional_text(subject))))


def _json(items: list[Any]) -> str | None:
    return dumps(items) if items else None


def _content(keys: str | tuple[str, ...], value: object) -> Any:
    """What writes a value under one or more content keys when the span has started."""
    if value is None:
        return None
    names = (keys,) if isinstance(keys, str) else keys

    def content() -> dict[str, Any]:
        text = content_text(value)
        return dict.fromkeys(names, text)

    return content


def _kind(kind: object) -> str:
    name = text_of(kind)
    return name if name in semconv.OBSERVATION_TYPES else "span"


def _unless_one(count: object) -> int | None:
    number = to_int(count)
    return None if number == 1 else number


def _version(version: object) -> int | None:
    """A prompt version as the whole number that Langfuse wants; "7" counts as 7."""
    if is_text(version):
        text = text_of(version)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return to_int(version)
