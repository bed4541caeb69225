"""LLM overview: what is called, how fast, how often it fails, what it costs.

Mostly from the Collector's metrics, which count every span before sampling.
"""

from __future__ import annotations

from grafana.dashboards_src.kit import BY_MODEL, CALLS, Dashboard, Panel, Prom, Row
from grafana.dashboards_src.llm_queries import (
    BUDGET,
    BUDGET_OF_ALL,
    COST,
    DIMENSIONS,
    DURATION,
    FAILED,
    FIRST_CHUNK,
    FORECAST,
    LATENCY,
    PRICED,
    SPANS,
    STREAMING,
    TO_TRACES,
    TOKENS,
    quantile,
    rate,
    total,
)
from grafana.dashboards_src.llm_spending import CACHE_ROW, COST_ROW, METADATA_ROW, TOKENS_ROW

# -- on top ----------------------------------------------------------------------------------------
_TOP = (
    Panel(
        key="llm-requests", title="Requests per minute", kind="stat", unit="reqpm",
        description="Calls of models per minute, averaged over the time range. Agents, workflows"
        " and tools are not counted, the calls below them are.",
        queries=(Prom(f"{total(SPANS, CALLS)} / $__range_s * 60", instant=True),),
        links=(TO_TRACES,), width=4, height=4,
    ),
    Panel(
        key="llm-error-rate", title="Error rate", kind="stat", unit="percentunit",
        description="Share of model calls whose span has the status error, over the time range."
        " Red from 5 %, as the alert.",
        queries=(
            Prom(f"({total(SPANS, FAILED)} or vector(0)) / ({total(SPANS, CALLS)} > 0)",
                 instant=True),
        ),
        empty="No model call in this time range.",
        thresholds=((0.02, "orange"), (0.05, "red")), links=(TO_TRACES,), width=4, height=4,
        min=0, max=1, decimals=2,
    ),
    Panel(
        key="llm-p95", title="P95 latency", kind="stat", unit="s",
        description="95 of 100 model calls took no longer than this, over the time range. Red"
        " from 30 seconds, as the alert.",
        queries=(
            Prom(f"histogram_quantile(0.95, {total(DURATION + '_bucket', CALLS, 'le')})",
                 instant=True),
        ),
        thresholds=((10, "orange"), (30, "red")), links=(TO_TRACES,), width=4, height=4,
    ),
    Panel(
        key="llm-ttft", title="Time to first token, P95", kind="stat", unit="s",
        description="From the start of a streamed call to its first chunk"
        " (gen_ai.response.time_to_first_chunk), over the time range. Red from 5 seconds, as the"
        " alert.",
        queries=(
            Prom(f"histogram_quantile(0.95, {total(FIRST_CHUNK + '_bucket', CALLS, 'le')})",
                 instant=True),
        ),
        emitters=STREAMING, empty="No streamed call in this time range.",
        thresholds=((2, "orange"), (5, "red")), width=4, height=4,
    ),
    Panel(
        key="llm-tokens-total", title="Tokens", kind="stat", unit="short",
        description="Input and output tokens over the time range. Cached and reasoning tokens are"
        " parts of them.",
        queries=(Prom(total(TOKENS, BY_MODEL), instant=True),), width=4, height=4,
    ),
    Panel(
        key="llm-cost-total", title="Cost", kind="stat", unit="currencyUSD",
        description="US dollars over the time range, from the cost that is on the spans.",
        queries=(Prom(total(COST, BY_MODEL), instant=True),),
        emitters=PRICED, empty="No span with a cost in this time range.", width=4, height=4,
    ),
    Panel(
        key="llm-latency", title="Latency of model calls", kind="timeseries", unit="s",
        description="Average and percentiles of the duration of model calls. A point's exemplars"
        " lead to a trace and to its page in Langfuse.",
        queries=(
            Prom(f"{rate(LATENCY + '_sum', CALLS)} / {rate(LATENCY + '_count', CALLS)}",
                 "average"),
            *(Prom(quantile(f"0.{q}", LATENCY, CALLS), f"P{q}", exemplars=q == "95")
              for q in ("50", "90", "95", "99")),
        ),
        width=12, min=0,
    ),
    Panel(
        key="llm-cost-forecast", title="The day's cost against the budget", kind="timeseries",
        unit="currencyUSD",
        description="What was spent in the last 24 hours, what a day costs at the pace of the last"
        " 3 hours, and the budget. All services and models: the budget is for all of them.",
        queries=(
            Prom(f"sum(increase({COST}[1d]))", "spent in 24 h"),
            Prom(FORECAST, "forecast"),
            Prom(BUDGET_OF_ALL, "budget"),
        ),
        emitters=PRICED, needs=f"for the budget's line: {BUDGET}", dashed="/^budget$/",
        width=12, min=0,
    ),
)  # fmt: skip


# -- requests and errors ---------------------------------------------------------------------------
_REQUESTS = Row("Requests and errors", (
    *(
        Panel(
            key=f"llm-requests-by-{key}", title=f"Requests per minute by {word}",
            kind="timeseries", unit="reqpm", description=f"Calls of models by {word}.",
            queries=(
                Prom(f"{rate(SPANS, CALLS, label)} * 60", f"{{{{{label}}}}}"),
            ),
            links=(TO_TRACES,), stack=True, min=0,
        )
        for key, label, word in DIMENSIONS
    ),
    Panel(
        key="llm-error-rate-over-time", title="Error rate by model", kind="timeseries",
        unit="percentunit",
        description="Share of failed model calls. Dashed: 5 %, where the alert begins.",
        queries=(
            Prom(f"({rate(SPANS, FAILED, 'gen_ai_request_model')}"
                 f" or {rate(SPANS, CALLS, 'gen_ai_request_model')} * 0)"
                 f" / {rate(SPANS, CALLS, 'gen_ai_request_model')}",
                 "{{gen_ai_request_model}}", exemplars=True),
        ),
        thresholds=((0.05, "red"),), min=0, max=1,
    ),
    Panel(
        key="llm-errors-by-type", title="Errors by type", kind="bargauge", unit="short",
        description="Failed model calls over the time range by error.type; those of emitters that"
        " do not write it stand under `not given`.",
        queries=(
            Prom(f"topk(10, sum by (error_type) (label_replace(increase({SPANS}{{{FAILED}}}"
                 '[$__range]), "error_type", "not given", "error_type", "")))',
                 "{{error_type}}", instant=True),
        ),
        empty="No failed call in this time range.",
    ),
    Panel(
        key="llm-requests-by-operation", title="Operations", kind="piechart", unit="short",
        description="Spans of LLM work over the time range by operation, agents and tools too.",
        queries=(
            Prom(total(SPANS, f'gen_ai_operation_name=~".+", {BY_MODEL}', "gen_ai_operation_name"),
                 "{{gen_ai_operation_name}}", instant=True),
        ),
    ),
))  # fmt: skip


# -- latency ---------------------------------------------------------------------------------------
_LATENCY = Row("Latency", (
    *(
        Panel(
            key=f"llm-p95-by-{key}", title=f"P95 latency by {word}", kind="timeseries", unit="s",
            description=f"95th percentile of the duration of model calls by {word}.",
            queries=(
                Prom(quantile("0.95", LATENCY, CALLS, f"le, {label}"), f"{{{{{label}}}}}",
                     exemplars=True),
            ),
            links=(TO_TRACES,), min=0,
        )
        for key, label, word in DIMENSIONS
    ),
    Panel(
        key="llm-latency-heatmap", title="Durations", kind="heatmap", unit="s",
        description="How many model calls took how long, per window: each column shows the minute"
        " or more before it. With shorter steps the windows overlap and a call is in several.",
        queries=(
            Prom(f"sum by (le) (increase({LATENCY}_bucket{{{CALLS}}}[$__rate_interval]))",
                 "{{le}}", exemplars=True, format="heatmap"),
        ),
    ),
    Panel(
        key="llm-ttft-percentiles", title="Time to first token", kind="timeseries", unit="s",
        description="Percentiles of the time to the first chunk of streamed calls.",
        queries=tuple(
            Prom(quantile(f"0.{q}", FIRST_CHUNK, CALLS), f"P{q}")
            for q in ("50", "90", "95", "99")
        ),
        emitters=STREAMING, empty="No streamed call in this time range.", min=0,
    ),
    Panel(
        key="llm-ttft-by-model", title="P95 time to first token by model", kind="timeseries",
        unit="s", description="95th percentile of the time to the first chunk by model.",
        queries=(
            Prom(quantile("0.95", FIRST_CHUNK, CALLS, "le, gen_ai_request_model"),
                 "{{gen_ai_request_model}}"),
        ),
        emitters=STREAMING, empty="No streamed call in this time range.", min=0,
    ),
))  # fmt: skip


DASHBOARD = Dashboard(
    uid="otelbridge-llm",
    title="LLM overview",
    description="Calls of language models: traffic, errors, latency, tokens, cost.",
    top=_TOP,
    rows=(_REQUESTS, _LATENCY, TOKENS_ROW, COST_ROW, METADATA_ROW, CACHE_ROW),
)
