"""What counts as a gen_ai span and as message content, and who is in the LLM view.

The service (`direct` export), the Collector (`collector/config.yaml` is generated from here) and
`otelbridge local` all apply these rules, so that there is one definition of each; so do their
neighbours `dialects` (names), `masks` (secrets) and `langfuse_policy`. Patterns are written in the
common ground of Python's `re` and Go's RE2. Values in, values out: no I/O, no OpenTelemetry import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from otelbridge import semconv

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
#: anchored pattern over attribute keys. Removed on every span, not on gen_ai spans only: a step
#: between two calls (`input`, `question`, `http.request.body`) holds the same text, and a lost
#: value costs less than a prompt in Tempo. What stays: identity (`gen_ai.prompt.name`), numbers,
#: metadata that the application chose, statements of databases (`db.query.text`, which the
#: instrumentations write without literals), descriptions of tools and agents, and names, status
#: and exception texts, which are masked. Function arguments that are recorded under their own
#: names cannot be told from other attributes.
CONTENT_KEY_PATTERNS: Final[tuple[str, ...]] = (
    # gen_ai: the conventions of every age, OpenLLMetry, Sentry's and hand-written neighbours.
    r"gen_ai\.(input|output)",
    r"gen_ai\.(input|output)\.(messages|text|value|content)(\..*)?",
    r"gen_ai\.(system_)?instructions(\..*)?",
    r"gen_ai\.tool\.(definitions|json_schema|arguments|result|parameters|input|output|message)",
    r"gen_ai\.tool\.call\.(arguments|result)",
    r"gen_ai\.retrieval\.(query\.text|documents)",
    r"gen_ai\.memory\.(query\.text|records)",
    r"gen_ai\.evaluation\.explanation",
    r"gen_ai\.embeddings\.input",
    r"gen_ai\.prompt",
    r"gen_ai\.prompt\.([0-9]+|variable|variables|template|content|text)(\..*)?",
    r"gen_ai\.completion(\..*)?",
    r"gen_ai\.(event\.)?content(\..*)?",
    r"gen_ai\.(task|agent|workflow)\.(input|output|instructions)",
    r"gen_ai\.request\.(messages|instructions|available_tools|schema|structured_output_schema"
    r"|prompt)",
    r"gen_ai\.response\.(text|object|tool_calls|content|messages)",
    r"(gen_ai|llm)\.headers",
    # Langfuse's SDK.
    r"langfuse\.(observation|trace)\.(input|output)",
    r"langfuse\.(observation\.)?prompt\.variables?(\..*)?",
    r"langfuse\.experiment\.item\.(expected_output|metadata)",
    # OpenInference; older OpenLLMetry shares `llm.`.
    r"(input|output)\.(value|mime_type)",
    r"((input|output)\.)?(audio|image|video)\.(url|transcript)",
    r"(input|output)\.(documents|images|messages)(\..*)?",
    r"llm\.(input|output)_messages(\..*)?",
    r"llm\.(prompts|completions|choices)(\..*)?",
    r"llm\.(prompt|completion|input|output|messages|system_prompt|response)",
    r"llm\.prompt_template\.(template|variables)",
    r"llm\.(invocation_parameters|function_call)",
    r"llm\.tools(\..*)?",
    r"llm\.request\.functions(\..*)?",
    r"llm\.watsonx\.completions\.responses",
    r"(retrieval|reranker)\.(documents|input_documents|output_documents|query)(\..*)?",
    r"embedding\.(text|embeddings|vector)(\..*)?",
    r"(document|message)\.content(s)?(\..*)?",
    r"document\.metadata",
    r"message_content(\..*)?",
    r"message\.(tool_calls(\..*)?|function_call_arguments_json)",
    r"tool\.(parameters|json_schema|result|output|input|arguments)",
    r"tool_call\.function\.arguments",
    r"(prompt|completion)\.text",
    r"(annotation|annotations\.[0-9]+\.annotation)\.explanation",
    r"(evaluation|evaluations\.[0-9]+\.evaluation)\.explanation",
    # OpenLLMetry and its neighbours: entities, prompts, vector stores, MCP.
    r"(traceloop|agentops)\.entity\.(input|output)",
    r"traceloop\.prompt\.(template|template_variables)",
    r"mcp\.(request|response)\.(argument|arguments|params|value|result|body)",
    r"crewai\.(crew|agent|task)(\..*)?",
    r"crew_(agents|tasks|inputs)",
    r"db\.(query|search)\.(result\.(document|metadata|entity|vector)|embeddings\.vector)",
    r"db\.chroma\.(get|query|delete)\.where_document",
    r"db\.marqo\.search\.query",
    r"pinecone\.query\.queries",
    # Values that a statement was run with: rows of a chat history, texts of documents.
    r"db\.(query|operation)\.parameter(\..*)?",
    r"db\.statement\.parameters",
    # Vercel AI SDK.
    r"ai\.(prompt|(response|result)\.(text|object|toolCalls|reasoning|files|sources))(\..*)?",
    r"ai\.(toolCall\.(args|result)|values?|embeddings?|input|output)(\..*)?",
    r"ai\.(schema|response\.providerMetadata|request\.body)(\..*)?",
    # LiteLLM's raw request: llm.<provider>.<field of the provider's API>. For fields that numbers
    # of OpenInference share (llm.token_count.prompt, llm.cost.input) providers are listed.
    r"llm\.[A-Za-z0-9_-]+\.(messages|inputs|system|system_prompt|instructions|tools|functions|contents"
    r"|documents|choices|content|candidates|message|chat_history|generations|data"
    r"|stringified_raw_(request|response))",
    r"llm\.(openai|azure|azure_ai|anthropic|bedrock|sagemaker|vertex_ai|gemini|cohere|cohere_chat"
    r"|mistral|groq|huggingface|together_ai|ollama|ollama_chat|replicate|deepseek|xai|openrouter"
    r"|perplexity|fireworks_ai|databricks|watsonx|custom_openai|hosted_vllm|vllm|litellm_proxy"
    r"|nvidia_nim|cerebras|sambanova|deepinfra|text-completion-openai|None)"
    r"\.(prompt|input|query|output|response)",
    r"metadata\.(mcp_tool_call|vector_store_request|prompt_management)_metadata",
    r"metadata\.requester_custom_headers",
    r"guardrail_(request|response)",
    # pydantic-ai and Logfire; `request` and `response` are bodies of its MCP spans.
    r"(tool_arguments|tool_response|all_messages_events|final_result|model_request_parameters)",
    r"pydantic_ai\.(all_messages|variable_instructions)",
    r"pydantic_ai\.decision\.(questions|answers|state)",
    r"pydantic_ai\.(tool|output)\.(retry\.cause|deferral\.metadata)",
    r"(request_data|response_data|request|response|return)",
    # Haystack, MLflow, Google ADK, LiveKit, Genkit, Braintrust, Flue.
    r"haystack\.(component|pipeline|agent|tool)\.(input|output)(_data)?",
    r"mlflow\.(span|trace)(Inputs|Outputs)",
    r"mlflow\.chat\.(messages|tools)",
    r"gcp\.vertex\.agent\.(llm_request|llm_response|tool_call_args|tool_response|data)",
    r"lk\.pii(\..*)?",
    r"lk\.(chat_ctx|input_text|user_input|user_transcript|instructions|response\.text"
    r"|response\.function_calls|function_tool\.(arguments|output))",
    r"genkit:(input|output)",
    r"braintrust\.(input|output|input_json|output_json|expected)",
    r"flue\.(turn\.(input|output)|tool\.(arguments|result)|task\.(prompt|result)|workflow\.(payload"
    r"|result)|operation\.result)",
    # Bodies of requests and messages; sizes and headers stay.
    r"((http|rpc)\.)?(request|response)\.body(\.(content|text|value|json))?",
    r"messaging\.message\.(body|payload|content)",
    r"jsonrpc\.(request\.params|response\.result)",
    # What people write by hand.
    r"(prompt|completion|input|output|inputs|outputs|embeddings|messages|events|content|question"
    r"|answer|system_prompt|user_prompt|user_message|chat_history|documents|transcript|tool_calls)",
)
CONTENT_KEY_PATTERN: Final = "^(" + "|".join(CONTENT_KEY_PATTERNS) + ")$"
_content_key = re.compile(CONTENT_KEY_PATTERN)

#: Span events that carry message text; dropped whole on the Tempo branch.
CONTENT_EVENT_PATTERN: Final = (
    r"^(gen_ai\.((system|user|assistant|tool)\.message|choice|content\.(prompt|completion)(\.chunk)?"
    r"|client\.inference\.operation\.details)|llm\.content\.completion\.chunk)$"
)
_content_event = re.compile(CONTENT_EVENT_PATTERN)

_span_id = re.compile(r"^[0-9a-fA-F]{16}$")

#: The longest attribute value in bytes that Tempo keeps (`max_attribute_bytes`, default 2,048).
TEMPO_VALUE_BYTES: Final = 2048


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
    return _content_key.fullmatch(key) is not None


def is_content_event(name: str) -> bool:
    """Whether a span event of this name carries message text."""
    return _content_event.fullmatch(name) is not None


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


def tempo_attributes(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Span, event or link attributes as the Tempo branch sends them.

    Returns:
        The attributes without message content, and whether content was removed.
    """
    kept = {key: value for key, value in attributes.items() if not _content_key.fullmatch(key)}
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
