"""Every attribute key that otelbridge writes or reads, once, with its source.

Sources: `[SCG]` the gen_ai semantic conventions (open-telemetry/semantic-conventions-genai, text
of 2026-11), `[core]` semantic conventions 1.44, `[lf]` Langfuse's OTLP mapping (v3.225 and
v4.16), `[ob]` otelbridge's own. "Read by Langfuse" means that Langfuse's ingestion maps the key to
a field of its own. No other module spells a key; this one imports nothing.
"""

from __future__ import annotations

from typing import Final

# -- resource [core] ------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
HOST_NAME: Final = "host.name"
SERVICE_VERSION: Final = "service.version"
DEPLOYMENT_ENVIRONMENT_NAME: Final = "deployment.environment.name"
PROCESS_COMMAND_LINE: Final = "process.command_line"  # holds secrets: removed
PROCESS_COMMAND_ARGS: Final = "process.command_args"  # likewise
TELEMETRY_DISTRO_NAME: Final = "telemetry.distro.name"
TELEMETRY_DISTRO_VERSION: Final = "telemetry.distro.version"

# -- general span attributes [core] ---------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
USER_ID: Final = "user.id"  # also read by Langfuse
SESSION_ID: Final = "session.id"  # also read by Langfuse
URL_FULL: Final = "url.full"
URL_QUERY: Final = "url.query"
HTTP_URL: Final = "http.url"  # before semconv 1.23
HTTP_TARGET: Final = "http.target"  # before semconv 1.23
EXCEPTION_EVENT: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# -- gen_ai identity and request [SCG] ------------------------------------------------------------
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_SYSTEM: Final = "gen_ai.system"  # deprecated since core 1.37, kept with equal value
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"  # int since SCG
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"  # only when true
GEN_AI_REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
GEN_AI_REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
GEN_AI_RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"

# -- gen_ai response and usage [SCG] --------------------------------------------------------------
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # total, cached included
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"  # total, reasoning included
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: Final = (
    "gen_ai.usage.cache_creation.input_tokens"  # core 1.40-1.41; the one that Langfuse reads
)
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
GEN_AI_USAGE_TOTAL_TOKENS: Final = "gen_ai.usage.total_tokens"  # no semconv name; Langfuse reads it
GEN_AI_USAGE_COST: Final = "gen_ai.usage.cost"  # USD, double; no semconv name, read by Langfuse

# -- gen_ai content [SCG]: JSON text, one attribute each ------------------------------------------
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
GEN_AI_RETRIEVAL_QUERY_TEXT: Final = "gen_ai.retrieval.query.text"
GEN_AI_RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"

# -- gen_ai tools, agents, evaluation, prompts [SCG] ----------------------------------------------
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_AGENT_ID: Final = "gen_ai.agent.id"
GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
GEN_AI_WORKFLOW_NAME: Final = "gen_ai.workflow.name"
GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"  # double
GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
GEN_AI_EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"  # content
GEN_AI_EVALUATION_RESULT_EVENT: Final = "gen_ai.evaluation.result"
GEN_AI_PROMPT_NAME: Final = "gen_ai.prompt.name"  # shadows the input in Langfuse: Tempo only
GEN_AI_PROMPT_VERSION: Final = "gen_ai.prompt.version"  # likewise

# -- provider extras [SCG] ------------------------------------------------------------------------
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

# -- Langfuse [lf] --------------------------------------------------------------------------------
LANGFUSE_TRACE_NAME: Final = "langfuse.trace.name"
LANGFUSE_TRACE_TAGS: Final = "langfuse.trace.tags"
LANGFUSE_TRACE_METADATA_PREFIX: Final = "langfuse.trace.metadata."
LANGFUSE_ENVIRONMENT: Final = "langfuse.environment"
LANGFUSE_RELEASE: Final = "langfuse.release"
LANGFUSE_VERSION: Final = "langfuse.version"
LANGFUSE_OBSERVATION_TYPE: Final = "langfuse.observation.type"
#: Values of langfuse.observation.type that Langfuse takes; only lower case.
OBSERVATION_TYPES: Final = (
    "span",
    "generation",
    "event",
    "embedding",
    "agent",
    "tool",
    "chain",
    "retriever",
    "guardrail",
    "evaluator",
)
LANGFUSE_OBSERVATION_INPUT: Final = "langfuse.observation.input"
LANGFUSE_OBSERVATION_OUTPUT: Final = "langfuse.observation.output"
LANGFUSE_OBSERVATION_LEVEL: Final = "langfuse.observation.level"
LANGFUSE_OBSERVATION_STATUS_MESSAGE: Final = "langfuse.observation.status_message"
LANGFUSE_OBSERVATION_METADATA_PREFIX: Final = "langfuse.observation.metadata."
LANGFUSE_OBSERVATION_MODEL_NAME: Final = "langfuse.observation.model.name"
LANGFUSE_OBSERVATION_MODEL_PARAMETERS: Final = "langfuse.observation.model.parameters"
LANGFUSE_OBSERVATION_USAGE_DETAILS: Final = "langfuse.observation.usage_details"  # JSON, ints
LANGFUSE_OBSERVATION_COST_DETAILS: Final = "langfuse.observation.cost_details"  # JSON, USD
LANGFUSE_OBSERVATION_COMPLETION_START_TIME: Final = (
    "langfuse.observation.completion_start_time"  # ISO-8601 text with offset
)
LANGFUSE_OBSERVATION_PROMPT_NAME: Final = "langfuse.observation.prompt.name"
LANGFUSE_OBSERVATION_PROMPT_VERSION: Final = "langfuse.observation.prompt.version"  # int
LANGFUSE_PROMPT_NAME: Final = "langfuse.prompt.name"  # read when the longer name is absent
LANGFUSE_PROMPT_VERSION: Final = "langfuse.prompt.version"  # likewise, int

# -- otelbridge [ob] ------------------------------------------------------------------------------
LLM_KEEP: Final = "otelbridge.llm.keep"  # true: in the LLM view; false: never; absent: by predicate
LLM_PARENT: Final = "otelbridge.llm.parent"  # 16 hex digits of the parent in the view, or ""
LANGFUSE_URL: Final = "otelbridge.langfuse.url"  # on gen_ai spans in Tempo: their Langfuse page
GRAFANA_URL: Final = "langfuse.trace.metadata.grafana_url"  # in Langfuse: the trace in Grafana
CONTENT_REMOVED: Final = "otelbridge.content.removed"  # true on a span that lost its message text
TRUNCATED: Final = "otelbridge.truncated"  # what the service cut: `key=bytes before`, by spaces
OVERSIZE: Final = "otelbridge.oversize"  # within the Collector: a value may be too long for Tempo
BRANCH: Final = "otelbridge.branch"  # resource: "tempo" once the Tempo rule has been applied
CACHED: Final = "otelbridge.cached"  # true: answered from a cache, no model call
COST_SOURCE: Final = "otelbridge.cost.source"  # "caller", or the price list and its version
COST_DATE: Final = "otelbridge.cost.date"  # YYYY-MM-DD: the day that the prices were right
COST_PROCESSING: Final = "otelbridge.cost.processing"  # "batch": billed as a batch request
COST_COUNTED_BY: Final = "otelbridge.cost.counted_by"  # span id or "caller": cost stands there
UNCOUNTED_PREFIX: Final = "otelbridge.uncounted."  # usage and cost that another span counts
CACHE_WRITE_1H_TOKENS: Final = "otelbridge.usage.cache_write_1h_tokens"  # of cache_write tokens
STREAM_ENDING: Final = "otelbridge.stream.ending"  # complete | stopped | failed | cancelled
REQUEST_ID: Final = "otelbridge.request_id"  # X-Request-ID of the request
EXPERIMENT_ID: Final = "langfuse.experiment.id"  # of a run over a dataset; Langfuse v4 reads these
EXPERIMENT_NAME: Final = "langfuse.experiment.name"
EXPERIMENT_DESCRIPTION: Final = "langfuse.experiment.description"
EXPERIMENT_METADATA: Final = "langfuse.experiment.metadata"  # JSON
EXPERIMENT_DATASET_ID: Final = "langfuse.experiment.dataset.id"
EXPERIMENT_ITEM_ID: Final = "langfuse.experiment.item.id"
EXPERIMENT_ITEM_METADATA: Final = "langfuse.experiment.item.metadata"  # JSON
EXPERIMENT_ITEM_EXPECTED_OUTPUT: Final = "langfuse.experiment.item.expected_output"  # JSON
EXPERIMENT_ITEM_ROOT: Final = "langfuse.experiment.item.root_observation_id"
VARIANT: Final = "langfuse.trace.metadata.variant"  # of an experiment: metadata of the trace
SCORE_ID: Final = "otelbridge.score.id"  # on the span of a score: its id in Langfuse
SCORE_TRACE_ID: Final = "otelbridge.score.trace_id"  # the trace that was judged, also a link
BUDGET_NAME: Final = "otelbridge.budget.name"  # the budget that is nearest to its end
BUDGET_SPENT: Final = "otelbridge.budget.spent_usd"  # double, before the call
BUDGET_LIMIT: Final = "otelbridge.budget.limit_usd"  # double
BUDGET_EVENT: Final = "otelbridge.budget.cheaper_model"  # span event: which was taken for which
TRACESTATE_MEMBER: Final = "otelbridge"  # W3C tracestate key of the LLM view
REPORT_HEADER: Final = "X-Otelbridge-Llm"  # response header: yes | no | maybe

# -- prefixes and parts that a reader of spans needs ----------------------------------------------
GEN_AI_PREFIX: Final = "gen_ai."
GEN_AI_REQUEST_PREFIX: Final = "gen_ai.request."
GEN_AI_USAGE_PREFIX: Final = "gen_ai.usage."
GEN_AI_CHOICE_EVENT: Final = "gen_ai.choice"  # message events before SCG; Langfuse reads them
GEN_AI_MESSAGE_EVENT_SUFFIX: Final = ".message"  # gen_ai.<role>.message
GEN_AI_INFERENCE_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"  # [SCG]
LANGFUSE_PREFIX: Final = "langfuse."
LANGFUSE_USER_ID: Final = "langfuse.user.id"
LANGFUSE_SESSION_ID: Final = "langfuse.session.id"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment"  # before semconv 1.27
