"""The dashboard *Agents, tools and retrieval*: what agents do between a question and an answer.

Names of agents, tools and data sources are no labels of a metric (they are free text), so panels by
name ask Tempo; totals and latencies ask Prometheus. LiteLLM makes no spans of agents and tools.
A step of an agent is a model call or a tool call anywhere below its span.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    BY_SERVICE,
    COMMON_VARIABLES,
    MODEL_CALLS,
    WHERE_MODEL,
    WHERE_SERVICE,
    WHERE_USER,
    Column,
    Dashboard,
    Panel,
    Prom,
    Row,
    TraceMetrics,
    Variable,
    span_table,
    to_dashboard,
)

#: LiteLLM sees model calls only.
AGENTIC: Final = ("otelbridge", "otel", "openinference", "openllmetry")
#: OpenLLMetry has no span of a search either.
SEARCHERS: Final = ("otelbridge", "otel", "openinference")
#: An agent that answers a question with one tool takes three steps: asked, tool, answered.
STEPS: Final = Variable(
    "steps", "More steps than", "A number: traces with more steps of agents are in the table of"
    " long runs.", default="5",
)  # fmt: skip

_TRACES: Final = to_dashboard("otelbridge-traces", "Traces of these services")
_WHERE = f"{WHERE_SERVICE} && {WHERE_USER}"
_AGENT = f'{{ span.gen_ai.operation.name = "invoke_agent" && {_WHERE} }}'
_STEP_NAMES = f"{MODEL_CALLS}|execute_tool"
_STEP = f'{{ span.gen_ai.operation.name =~ "{_STEP_NAMES}" && {_WHERE} }}'
_TOOL = f'span.gen_ai.operation.name = "execute_tool" && {_WHERE}'
_RETRIEVAL = f'span.gen_ai.operation.name =~ "retrieval|rerank" && {_WHERE}'
_CALL = f'span.gen_ai.operation.name = "chat" && {WHERE_MODEL} && {WHERE_USER}'
_POST = f'{{ span.http.request.method = "POST" && {_WHERE} }}'
#: As the named query `retries` of docs/traceql.md: a failed call beside another one, or two HTTP
#: requests below one call.
_RETRIES = (
    f"({{ status = error && {_CALL} }} ~ {{ {_CALL} }}) || ({{ {_CALL} }} > ({_POST} ~ {_POST}))"
)

_BUCKET = "traces_spanmetrics_latency_bucket"  # it has exemplars
#: Stays in the exposition between rare calls, as otelbridge_* does not.
_SPANS = "traces_spanmetrics_calls_total"
_EXCEPTION = Column("exception.type", "Exception", width=200)


def _calls(operations: str, window: str = "$__range") -> str:
    matchers = f'gen_ai_operation_name=~"{operations}", {BY_SERVICE}'
    return f"sum(increase({_SPANS}{{{matchers}}}[{window}]))"


def _latency(quantile: float, operations: str, by: str = "gen_ai_operation_name") -> Prom:
    matchers = f'gen_ai_operation_name=~"{operations}", {BY_SERVICE}'
    rate = f"sum by (le, {by}) (rate({_BUCKET}{{{matchers}}}[$__rate_interval]))"
    return Prom(
        f"histogram_quantile({quantile}, {rate})",
        f"P{round(quantile * 100)} {{{{{by}}}}}",
        exemplars=quantile == 0.95,
    )


def _tool_errors(window: str) -> str:
    matchers = f'gen_ai_operation_name="execute_tool", {BY_SERVICE}'
    every = f"sum(rate({_SPANS}{{{matchers}}}[{window}]))"
    failed = f'sum(rate({_SPANS}{{status_code="STATUS_CODE_ERROR", {matchers}}}[{window}]))'
    return f"({failed} or 0 * {every}) / ({every} > 0)"


_TOP = (
    Panel(
        "agents-runs", "Agent runs",
        "Spans of operation invoke_agent in the chosen time, also of agents below agents.",
        "stat", (Prom(_calls("invoke_agent"), "runs", instant=True),),
        unit="short", emitters=AGENTIC, links=(_TRACES,), width=4, height=4, decimals=0,
    ),
    Panel(
        "agents-steps-per-run", "Steps per agent run",
        "Model calls and tool calls for each run of an agent. All calls of the chosen services are"
        " counted, also those outside of agents; for agents alone see Steps below agents.",
        "stat",
        (Prom(f'{_calls(_STEP_NAMES)} / ({_calls("invoke_agent")} > 0)', "steps", instant=True),),
        unit="short", emitters=AGENTIC, thresholds=((10, "orange"), (20, "red")),
        width=5, height=4, decimals=1,
    ),
    Panel(
        "agents-tool-calls", "Tool calls", "Spans of operation execute_tool in the chosen time.",
        "stat", (Prom(_calls("execute_tool"), "tool calls", instant=True),),
        unit="short", emitters=AGENTIC, width=5, height=4, decimals=0,
    ),
    Panel(
        "agents-tool-error-share", "Failed tool calls",
        "Share of tool calls whose span ended with an error.",
        "stat", (Prom(_tool_errors("$__range"), "failed", instant=True),),
        unit="percentunit", emitters=AGENTIC, thresholds=((0.05, "orange"), (0.2, "red")),
        empty="No tool was called",
        links=(_TRACES,), width=5, height=4, min=0, max=1, decimals=1,
    ),
    Panel(
        "agents-retrieval-count", "Retrievals",
        "Searches in data sources and rerankings in the chosen time.",
        "stat", (Prom(_calls("retrieval|rerank"), "retrievals", instant=True),),
        unit="short", emitters=SEARCHERS, width=5, height=4, decimals=0,
    ),
    Panel(
        "agents-runs-by-agent", "Agent runs by agent",
        "Runs per second by gen_ai.agent.name; nil are agents whose emitter gives them no name but"
        " that of the span (OpenInference).",
        "timeseries", (TraceMetrics(f"{_AGENT} | rate() by (span.gen_ai.agent.name)"),),
        unit="ops", emitters=AGENTIC,
    ),
    Panel(
        "agents-latency", "Agent latency", "How long a run of an agent takes: median and P95.",
        "timeseries", (_latency(0.5, "invoke_agent"), _latency(0.95, "invoke_agent")),
        unit="s", emitters=AGENTIC, thresholds=((30, "orange"), (60, "red")),
    ),
    Panel(
        "agents-steps", "Steps below agents",
        "Model calls and tool calls anywhere below an agent, by operation. Divide by the agent runs"
        " for steps per run.",
        "timeseries",
        (
            TraceMetrics(
                f"{_AGENT} >> {_STEP} | count_over_time() by (span.gen_ai.operation.name)"
            ),
        ),
        unit="short", emitters=AGENTIC, stack=True,
    ),
    span_table(
        "agents-long", "Traces with more than ${steps} steps below agents",
        "Steps of agents in traces with more of them than the variable on top says: loops that do"
        " not end, or several agents in one request. Every row is one step; of a trace there are"
        " 20 at most.",
        f"{_AGENT} >> {_STEP} | count() > ${{steps:raw}}",
        ("span.gen_ai.operation.name", "span.gen_ai.tool.name", "span.gen_ai.request.model",
         "status", "resource.service.name"),
        emitters=("otelbridge",), empty="No trace with so many steps",
    ),
)  # fmt: skip

_TOOLS = Row(
    "Tools",
    (
        Panel(
            "agents-tool-calls-by-tool", "Tool calls by tool",
            "Calls per second by gen_ai.tool.name; nil are tools whose emitter names only the"
            " span.",
            "timeseries", (TraceMetrics(f"{{ {_TOOL} }} | rate() by (span.gen_ai.tool.name)"),),
            unit="ops", emitters=AGENTIC,
        ),
        Panel(
            "agents-tool-errors-by-tool", "Failed tool calls by tool",
            "Tool calls that ended with an error, per second.",
            "timeseries",
            (TraceMetrics(f"{{ {_TOOL} && status = error }} | rate() by (span.gen_ai.tool.name)"),),
            unit="ops", emitters=AGENTIC, empty="No tool call failed",
        ),
        Panel(
            "agents-tool-latency", "Tool latency, P95",
            "P95 of the duration by tool. Tempo counts durations in powers of two, so the figure is"
            " exact within a factor of two; single calls are in the tables.",
            "timeseries",
            (TraceMetrics(
                f"{{ {_TOOL} }} | quantile_over_time(duration, 0.95) by (span.gen_ai.tool.name)"
            ),),
            unit="s", emitters=AGENTIC, thresholds=((5, "orange"), (20, "red")),
        ),
        Panel(
            "agents-tool-slowest", "Slowest tools",
            "The longest call of each tool in the chosen time.",
            "bargauge",
            (TraceMetrics(
                f"{{ {_TOOL} }} | max_over_time(duration) by (span.gen_ai.tool.name) | topk(10)",
                instant=True,
            ),),
            unit="s", emitters=AGENTIC, thresholds=((5, "orange"), (20, "red")), min=0,
        ),
        Panel(
            "agents-tool-latency-all", "Latency of all tools",
            "Median and P95 over all tools, from histograms with finer buckets than Tempo's; points"
            " are single calls and lead to their traces.",
            "timeseries", (_latency(0.5, "execute_tool"), _latency(0.95, "execute_tool")),
            unit="s", emitters=AGENTIC,
        ),
        Panel(
            "agents-tool-error-share-over-time", "Share of failed tool calls",
            "Tool calls that ended with an error, of all tool calls.",
            "timeseries", (Prom(_tool_errors("$__rate_interval"), "failed"),),
            unit="percentunit", emitters=AGENTIC, thresholds=((0.05, "orange"), (0.2, "red")),
            empty="No tool was called", min=0, max=1,
        ),
        span_table(
            "agents-tool-failed", "Failed tool calls",
            "Tool calls that ended with an error, newest first, with the error's type (of the span,"
            " or of its exception). Arguments and results are in Langfuse.",
            f"{{ {_TOOL} && status = error }}",
            ("span.gen_ai.tool.name", "span.error.type", "event.exception.type", "statusMessage",
             "resource.service.name", "resource.langfuse.user.id"),
            emitters=AGENTIC, empty="No tool call failed", extra_columns=(_EXCEPTION,),
        ),
        span_table(
            "agents-tool-slow", "Slowest tool calls",
            "The longest of the newest 200 tool calls.",
            f"{{ {_TOOL} }}",
            ("span.gen_ai.tool.name", "status", "resource.service.name",
             "resource.langfuse.user.id"),
            emitters=AGENTIC, limit=200, sort="Duration",
        ),
    ),
)  # fmt: skip

_RETRIEVALS = Row(
    "Retrieval and embeddings",
    (
        Panel(
            "agents-retrieval-latency", "Retrieval latency",
            "How long a search in a data source or a reranking takes: median and P95.",
            "timeseries", (_latency(0.5, "retrieval|rerank"), _latency(0.95, "retrieval|rerank")),
            unit="s", emitters=SEARCHERS, thresholds=((1, "orange"), (3, "red")),
        ),
        Panel(
            "agents-retrieval-by-source", "Retrievals by data source",
            "Searches per second by gen_ai.data_source.id; nil where the emitter names none.",
            "timeseries",
            (TraceMetrics(f"{{ {_RETRIEVAL} }} | rate() by (span.gen_ai.data_source.id)"),),
            unit="ops", emitters=SEARCHERS,
        ),
        Panel(
            "agents-retrieval-documents", "Documents asked for",
            "Mean of gen_ai.retrieval.top_k, the number of documents that a search may return. What"
            " was found is content: Langfuse has it, Tempo does not.",
            "timeseries",
            (TraceMetrics(
                f"{{ {_RETRIEVAL} && span.gen_ai.retrieval.top_k != nil }}"
                " | avg_over_time(span.gen_ai.retrieval.top_k) by (span.gen_ai.data_source.id)"
            ),),
            unit="short", emitters=("otelbridge",), needs="spans with gen_ai.retrieval.top_k",
        ),
        Panel(
            "agents-embeddings-rate", "Embedding calls by model",
            "Calls of embedding models per second.",
            "timeseries",
            (Prom(
                f'sum by (gen_ai_request_model) (rate({_SPANS}{{gen_ai_operation_name="embeddings",'
                f" {BY_SERVICE}}}[$__rate_interval]))",
                "{{gen_ai_request_model}}",
            ),),
            unit="ops",
        ),
        Panel(
            "agents-embeddings-latency", "Embedding latency, P95",
            "P95 of embedding calls by model.",
            "timeseries", (_latency(0.95, "embeddings", "gen_ai_request_model"),),
            unit="s", thresholds=((1, "orange"), (3, "red")),
        ),
        Panel(
            "agents-embeddings-tokens", "Embedded tokens",
            "Input tokens of embedding calls per second, by model.",
            "timeseries",
            (Prom(
                "sum by (gen_ai_request_model) (rate(otelbridge_gen_ai_tokens_total{"
                f'gen_ai_operation_name="embeddings", {BY_SERVICE}}}[$__rate_interval]))',
                "{{gen_ai_request_model}}",
            ),),
            unit="short",
        ),
        span_table(
            "agents-retrieval-slow", "Slowest retrievals",
            "The longest of the newest 200 searches and rerankings. Query text and documents are in"
            " Langfuse.",
            f"{{ {_RETRIEVAL} }}",
            ("span.gen_ai.operation.name", "span.gen_ai.data_source.id",
             "span.gen_ai.retrieval.top_k", "status", "resource.service.name"),
            emitters=SEARCHERS, limit=200, sort="Duration",
            extra_columns=(
                Column("gen_ai.data_source.id", "Data source", width=150),
                Column("gen_ai.retrieval.top_k", "Documents asked for", "short", 140),
            ),
        ),
    ),
)  # fmt: skip

_AGAIN = Row(
    "Retries",
    (
        Panel(
            "agents-retries-by-service", "Model calls made again",
            "Model calls beside a failed one below the same parent, and HTTP requests of one call"
            " that was sent more than once; spans per second. The named query `retries`.",
            "timeseries", (TraceMetrics(f"{_RETRIES} | rate() by (resource.service.name)"),),
            unit="ops", emitters=("otelbridge",), needs="a call that was made again",
            empty="No call was made again",
        ),
        Panel(
            "agents-retries-errors", "Why calls failed",
            "Failed model calls per second by error.type.",
            "timeseries",
            (Prom(
                f'sum by (error_type) (rate({_SPANS}{{gen_ai_operation_name=~"{MODEL_CALLS}",'
                f' error_type!="", {BY_SERVICE}}}[$__rate_interval]))',
                "{{error_type}}",
            ),),
            unit="ops", emitters=("otelbridge", "otel", "openllmetry", "litellm"),
            empty="No call failed with an error.type",
        ),
        span_table(
            "agents-retries-table", "Model calls made again",
            "The calls that came after a failed one, or the HTTP requests of one call. HTTP"
            " requests"
            " have no page in Langfuse.",
            f"{_RETRIES}",
            ("span.gen_ai.request.model", "status", "span.error.type", "resource.service.name"),
            emitters=("otelbridge",), needs="a call that was made again",
            empty="No call was made again",
        ),
    ),
)  # fmt: skip

DASHBOARD: Final = Dashboard(
    "otelbridge-agents",
    "Agents, tools and retrieval",
    "What agents do: runs and their steps, tools and their errors, retrieval, embeddings, retries.",
    _TOP,
    (_TOOLS, _RETRIEVALS, _AGAIN),
    variables=(*COMMON_VARIABLES, STEPS),
)
