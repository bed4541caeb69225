"""Traces: the calls themselves, each with its page in Langfuse, and one trace in full.

Everything here is TraceQL over Tempo. A search gives the newest traces up to its limit, in no
order of cost or duration; so the tables of slow and expensive calls take a least value on top of
the dashboard and sort what they get.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    COMMON_VARIABLES,
    TRACE_ID,
    WHERE_CALL,
    Dashboard,
    Panel,
    Row,
    TraceById,
    TraceMetrics,
    Variable,
    calls_with,
    span_table,
)

_COST: Final = "span.gen_ai.usage.cost"
_INPUT: Final = "span.gen_ai.usage.input_tokens"
_OUTPUT: Final = "span.gen_ai.usage.output_tokens"
_MODEL: Final = "span.gen_ai.request.model"
_USER: Final = "resource.langfuse.user.id"
_SERVICE: Final = "resource.service.name"
_VERSION: Final = "span.gen_ai.prompt.version"
_BY_PROMPT: Final = f"by (span.gen_ai.prompt.name, {_VERSION})"
_WHAT: Final = (_SERVICE, _MODEL, _USER, _INPUT, _OUTPUT, _COST, "status")

_PRICED: Final = ("otelbridge", "litellm")
_WITH_TYPE: Final = ("otelbridge", "otel", "openllmetry", "litellm")
_PROMPTS: Final = ("otelbridge",)
_PROMPT_NEEDS: Final = (
    "spans with gen_ai.prompt.name and .version: `genai.chat(…, prompt_name=…, prompt_version=…)`"
)

_LEAST_DURATION: Final = Variable(
    "minDuration", "Slow from", "Least duration of the table of slow calls: 500ms, 3s, 1m.",
    default="0s",
)  # fmt: skip
_LEAST_COST: Final = Variable(
    "minCost", "Expensive from", "Least cost in US dollars of the table of expensive calls.",
    default="0",
)  # fmt: skip

_TOP = (
    span_table(
        "traces-calls", "Calls of models",
        "The newest model calls. `Open` leads to the observation in Langfuse, `Trace` to the view"
        " below.",
        f"{{ {WHERE_CALL} }}", _WHAT, empty="No model call in this time range.",
    ),
    Panel(
        key="traces-view", title="Trace ${traceId}", kind="traces",
        description="The trace whose id stands on top of the dashboard; a click on `Trace` in a"
        " table puts one there. Its spans' attribute otelbridge.langfuse.url is their page in"
        " Langfuse.",
        queries=(TraceById(),), width=16, height=18,
    ),
    span_table(
        "traces-view-links", "This trace in Langfuse",
        "Spans of the chosen trace that Langfuse has, with their pages there: the trace view"
        " itself takes no links.",
        '{ trace:id = "${traceId:raw}" && span.otelbridge.langfuse.url != nil }',
        ("span.gen_ai.operation.name",),
        empty="No trace is chosen, or Langfuse has none of its spans, or the Collector does not"
        " know Langfuse's address (LANGFUSE_PUBLIC_URL, LANGFUSE_PROJECT_ID).",
        width=8, height=18,
    ),
)  # fmt: skip

_PICKED = Row("Slow, expensive and failed calls", (
    span_table(
        "traces-slow", "Slowest calls",
        "The newest calls that took at least `Slow from`, the slowest first. With many calls set"
        " it higher, so that the table holds all of them.",
        f"{{ {WHERE_CALL} && duration >= ${{minDuration:raw}} }}", _WHAT,
        limit=200, sort="Duration", empty="No call took that long in this time range.",
    ),
    span_table(
        "traces-expensive", "Most expensive calls",
        "The newest calls that cost at least `Expensive from`, the most expensive first. With many"
        " calls set it higher.",
        # Multiplied: Tempo compares a plain attribute only with values of the literal's own type.
        f"{{ {WHERE_CALL} && {_COST} != nil && {_COST} * 1 >= ${{minCost:raw}} }}", _WHAT,
        emitters=_PRICED, limit=200, sort="Cost",
        empty="No call cost that much in this time range.",
    ),
    span_table(
        "traces-failed", "Failed calls",
        "The newest calls with the status error, their error.type and message.",
        f"{{ {WHERE_CALL} && status = error }}",
        (_SERVICE, _MODEL, _USER, "span.error.type", "statusMessage", "status"),
        empty="No failed call in this time range.",
    ),
))  # fmt: skip

_METRICS = Row("From spans: rate, latency, errors, tokens, cost", (
    Panel(
        key="traces-rate", title="Requests by model", kind="timeseries", unit="reqps",
        description="Calls of models per second, of the spans that Tempo has (after sampling).",
        queries=(TraceMetrics(f"{{ {WHERE_CALL} }} | rate() by ({_MODEL}) | topk(10)"),), min=0,
    ),
    Panel(
        key="traces-latency", title="P95 latency by model", kind="timeseries", unit="s",
        description="95th percentile of the duration; Tempo estimates it from powers of two.",
        queries=(
            TraceMetrics(f"{{ {WHERE_CALL} }} | quantile_over_time(duration, 0.95) by ({_MODEL})"
                         " | topk(10)"),
        ),
        min=0,
    ),
    Panel(
        key="traces-errors", title="Failed calls by type", kind="timeseries", unit="short",
        description="Calls with the status error in each step by error.type.",
        queries=(
            TraceMetrics(f"{{ {WHERE_CALL} && status = error }}"
                         " | count_over_time() by (span.error.type) | topk(10)"),
        ),
        empty="No failed call in this time range.", min=0,
    ),
    Panel(
        key="traces-input-tokens", title="Input tokens by model", kind="timeseries", unit="short",
        description="Input tokens in each step, cached ones included.",
        queries=(
            TraceMetrics(f"{calls_with(_INPUT)} | sum_over_time({_INPUT}) by ({_MODEL})"
                         " | topk(10)"),
        ),
        stack=True, min=0,
    ),
    Panel(
        key="traces-output-tokens", title="Output tokens by model", kind="timeseries",
        unit="short", description="Output tokens in each step, reasoning included.",
        queries=(
            TraceMetrics(f"{calls_with(_OUTPUT)} | sum_over_time({_OUTPUT}) by ({_MODEL})"
                         " | topk(10)"),
        ),
        stack=True, min=0,
    ),
    Panel(
        key="traces-cost", title="Cost by model", kind="timeseries", unit="currencyUSD",
        description="US dollars in each step.",
        queries=(
            TraceMetrics(f"{calls_with(_COST)} | sum_over_time({_COST}) by ({_MODEL}) | topk(10)"),
        ),
        emitters=_PRICED, stack=True, min=0,
    ),
))  # fmt: skip

_CHANGE = Row("Before and after a change: models and prompt versions", (
    Panel(
        key="traces-model-latency", title="Average latency by model", kind="timeseries", unit="s",
        description="Average duration by model: where one model takes over from another, compare"
        " the lines left and right of it.",
        queries=(
            TraceMetrics(f"{{ {WHERE_CALL} }} | avg_over_time(duration) by ({_MODEL})"
                         " | topk(10)"),
        ),
        width=12, min=0,
    ),
    Panel(
        key="traces-model-cost", title="Average cost by model", kind="timeseries",
        unit="currencyUSD", description="Average cost of a call that has one, by model.",
        queries=(
            TraceMetrics(f"{calls_with(_COST)} | avg_over_time({_COST}) by ({_MODEL}) | topk(10)"),
        ),
        emitters=_PRICED, width=12, min=0,
    ),
    Panel(
        key="traces-prompt-latency", title="Average latency by prompt version", kind="timeseries",
        unit="s", description="Average duration of calls by prompt and its version.",
        queries=(
            TraceMetrics(f"{calls_with(_VERSION)} | avg_over_time(duration) {_BY_PROMPT}"
                         " | topk(10)"),
        ),
        emitters=_PROMPTS, needs=_PROMPT_NEEDS, min=0,
    ),
    Panel(
        key="traces-prompt-cost", title="Average cost by prompt version", kind="timeseries",
        unit="currencyUSD", description="Average cost of calls by prompt and its version.",
        queries=(
            TraceMetrics(f"{calls_with(_VERSION, _COST)} | avg_over_time({_COST}) {_BY_PROMPT}"
                         " | topk(10)"),
        ),
        emitters=_PROMPTS, needs=_PROMPT_NEEDS, min=0,
    ),
    Panel(
        key="traces-prompt-requests", title="Requests by prompt version", kind="timeseries",
        unit="reqps", description="Calls per second by prompt and its version.",
        queries=(TraceMetrics(f"{calls_with(_VERSION)} | rate() {_BY_PROMPT} | topk(10)"),),
        emitters=_PROMPTS, needs=_PROMPT_NEEDS, min=0,
    ),
))  # fmt: skip

DASHBOARD = Dashboard(
    uid="otelbridge-traces",
    title="Traces",
    description="Model calls one by one, with their pages in Langfuse, and one trace in full.",
    top=_TOP,
    rows=(_PICKED, _METRICS, _CHANGE),
    variables=(*COMMON_VARIABLES, TRACE_ID, _LEAST_DURATION, _LEAST_COST),
)
