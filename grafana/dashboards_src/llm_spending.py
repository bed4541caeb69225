"""Rows of the LLM overview about tokens and money, by model, team, database and cache.

Teams, databases and answers from a cache are no labels of the Collector's metrics: those panels ask
Tempo (TraceQL metrics).
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    BY_MODEL,
    WHERE_CALL,
    Panel,
    Prom,
    Row,
    TraceMetrics,
    calls_with,
)
from grafana.dashboards_src.llm_queries import (
    BUDGET,
    BUDGET_OF_ALL,
    CACHE_AWARE,
    COST,
    DIMENSIONS,
    FORECAST,
    OF_WHICH,
    PER_CALL,
    PRICED,
    TOKENS,
    quantile,
    rate,
    total,
)

_COST_ATTRIBUTE: Final = "span.gen_ai.usage.cost"
_OUTPUT: Final = "span.gen_ai.usage.output_tokens"


# -- tokens ----------------------------------------------------------------------------------------
TOKENS_ROW = Row("Tokens", (
    Panel(
        key="llm-tokens", title="Tokens in and out", kind="timeseries", unit="short",
        description="Tokens per minute. Input contains the cached tokens, output the reasoning.",
        queries=(
            Prom(f"{rate(TOKENS, BY_MODEL, 'gen_ai_token_type')} * 60", "{{gen_ai_token_type}}"),
        ),
        stack=True, min=0,
    ),
    Panel(
        key="llm-tokens-of-which", title="Cached and reasoning tokens", kind="timeseries",
        unit="short",
        description="Tokens per minute that were read from the provider's cache, written to it, or"
        " spent on reasoning: parts of the tokens in and out.",
        queries=(
            Prom(f"{rate(OF_WHICH, BY_MODEL, 'gen_ai_token_type')} * 60",
                 "{{gen_ai_token_type}}"),
        ),
        emitters=CACHE_AWARE, min=0,
    ),
    Panel(
        key="llm-cached-share", title="Share of cached input", kind="timeseries",
        unit="percentunit",
        description="Input tokens that came from the provider's cache, of all input tokens.",
        queries=(
            Prom(rate(OF_WHICH, f'{BY_MODEL}, gen_ai_token_type="cache_read"')
                 + " / " + rate(TOKENS, f'{BY_MODEL}, gen_ai_token_type="input"'), "cached"),
        ),
        emitters=CACHE_AWARE, min=0, max=1,
    ),
    *(
        Panel(
            key=f"llm-tokens-by-{key}", title=f"Tokens by {word}", kind="bargauge", unit="short",
            description=f"Input and output tokens over the time range by {word}.",
            queries=(
                Prom(f"topk(10, {total(TOKENS, BY_MODEL, label)})", f"{{{{{label}}}}}",
                     instant=True),
            ),
        )
        for key, label, word in DIMENSIONS
    ),
    Panel(
        key="llm-tokens-per-request", title="Tokens per request", kind="timeseries", unit="short",
        description="Average tokens of a call: input, output.",
        queries=(
            Prom(f"{rate(PER_CALL + '_sum', BY_MODEL, 'gen_ai_token_type')}"
                 f" / {rate(PER_CALL + '_count', BY_MODEL, 'gen_ai_token_type')}",
                 "{{gen_ai_token_type}}"),
        ),
        width=12, min=0,
    ),
    Panel(
        key="llm-tokens-per-request-p95", title="Tokens per request, P95", kind="timeseries",
        unit="short", description="95 of 100 calls have no more tokens than this.",
        queries=(
            Prom(quantile("0.95", PER_CALL, BY_MODEL, "le, gen_ai_token_type"),
                 "{{gen_ai_token_type}}"),
        ),
        width=12, min=0,
    ),
))  # fmt: skip


# -- cost ------------------------------------------------------------------------------------------
COST_ROW = Row("Cost", (
    *(
        Panel(
            key=f"llm-cost-by-{key}", title=f"Cost by {word}",
            kind="piechart" if key == "provider" else "bargauge", unit="currencyUSD",
            description=f"US dollars over the time range by {word}.",
            queries=(
                Prom(f"topk(10, {total(COST, BY_MODEL, label)})", f"{{{{{label}}}}}",
                     instant=True),
            ),
            emitters=PRICED,
        )
        for key, label, word in DIMENSIONS
    ),
    Panel(
        key="llm-cost-per-hour", title="Cost per hour by model", kind="timeseries",
        unit="currencyUSD", description="US dollars per hour by model.",
        queries=(
            Prom(f"{rate(COST, BY_MODEL, 'gen_ai_request_model')} * 3600",
                 "{{gen_ai_request_model}}"),
        ),
        emitters=PRICED, stack=True, min=0,
    ),
    Panel(
        key="llm-cost-per-request", title="Average cost per request", kind="bargauge",
        unit="currencyUSD",
        description="US dollars of a call by model, of the calls that have a cost. From spans in"
        " Tempo.",
        queries=(
            TraceMetrics(f"{calls_with(_COST_ATTRIBUTE)} | avg_over_time({_COST_ATTRIBUTE})"
                         " by (span.gen_ai.request.model) | topk(10)", instant=True),
        ),
        emitters=PRICED,
    ),
    Panel(
        key="llm-budget-share", title="Forecast, share of the budget", kind="stat",
        unit="percentunit",
        description="What a day costs at the pace of the last 3 hours, as a share of the budget.",
        queries=(
            Prom(f"{FORECAST} / {BUDGET_OF_ALL}", instant=True),
        ),
        emitters=PRICED, needs=BUDGET, thresholds=((0.8, "orange"), (1, "red")), min=0,
    ),
    Panel(
        key="llm-cost-trend", title="Cost of 24 hours, last week", kind="timeseries",
        unit="currencyUSD",
        description="US dollars of the 24 hours before each point, over a week: the daily look at"
        " the trend.",
        queries=(
            Prom(f"sum by (gen_ai_request_model) (increase({COST}{{{BY_MODEL}}}[1d]))",
                 "{{gen_ai_request_model}}"),
        ),
        emitters=PRICED, time_from="7d", stack=True, width=24, min=0,
    ),
))  # fmt: skip


# -- what is no label: Tempo -----------------------------------------------------------------------
def _by_metadata(key: str, name: str, word: str) -> tuple[Panel, ...]:
    """Requests, tokens, cost and latency by a value of the trace metadata."""
    attribute = f"span.langfuse.trace.metadata.{name}"
    needs = (
        f"the trace metadata `{name}`, which the service gives with"
        f" `otelbridge.request_context(metadata={{'{name}': …}})`"
    )

    def panel(what: str, title: str, unit: str, queries: tuple[TraceMetrics, ...]) -> Panel:
        return Panel(
            key=f"llm-{key}-{what}", title=f"{title} by {word}", kind="bargauge", unit=unit,
            description=f"{title} of model calls over the time range by {word}: attribute"
            f" langfuse.trace.metadata.{name} of spans in Tempo.",
            queries=queries, emitters=("otelbridge",), needs=needs, width=6,
        )  # fmt: skip

    def ask(function: str, *needed: str) -> TraceMetrics:
        found = calls_with(attribute, *needed)
        return TraceMetrics(f"{found} | {function} by ({attribute}) | topk(10)", instant=True)

    return (
        panel("cost", "Cost", "currencyUSD",
              (ask(f"sum_over_time({_COST_ATTRIBUTE})", _COST_ATTRIBUTE),)),
        panel("tokens", "Output tokens", "short",
              (ask(f"sum_over_time({_OUTPUT})", _OUTPUT),)),
        panel("requests", "Requests", "short", (ask("count_over_time()"),)),
        panel("latency", "Average latency", "s", (ask("avg_over_time(duration)"),)),
    )  # fmt: skip


METADATA_ROW = Row("By team and by database", (
    *_by_metadata("team", "team", "team"),
    *_by_metadata("database", "database", "database"),
))  # fmt: skip

_READ = "span.gen_ai.usage.cache_read.input_tokens"


def _with_and_without(function: str, *needed: str) -> tuple[TraceMetrics, TraceMetrics]:
    """Calls that read something from the provider's cache, and calls that say that they did not."""
    found = " && ".join((WHERE_CALL, *(f"{name} != nil" for name in needed)))
    return (
        TraceMetrics(f"{{ {found} && {_READ} > 0 }} | {function}", "with cached input"),
        TraceMetrics(f"{{ {found} && {_READ} = 0 }} | {function}", "without"),
    )


CACHE_ROW = Row("Cached against uncached", (
    Panel(
        key="llm-cached-latency", title="Latency: answers from a cache", kind="timeseries",
        unit="s",
        description="Average duration of calls that the service answered from its own cache"
        " (otelbridge.cached = true) and of the others (nil). From spans in Tempo.",
        queries=(
            TraceMetrics(f"{{ {WHERE_CALL} }} | avg_over_time(duration)"
                         " by (span.otelbridge.cached)"),
        ),
        needs="for the line `true`: a service that says so, `genai.chat(…, cached=True)`",
        min=0,
    ),
    Panel(
        key="llm-cached-requests", title="Requests: answers from a cache", kind="timeseries",
        unit="reqps",
        description="Calls answered from the service's own cache (true) and by a model (nil).",
        queries=(TraceMetrics(f"{{ {WHERE_CALL} }} | rate() by (span.otelbridge.cached)"),),
        needs="for the line `true`: a service that says so, `genai.chat(…, cached=True)`",
        min=0,
    ),
    Panel(
        key="llm-cached-cost", title="Cost: answers from a cache", kind="timeseries",
        unit="currencyUSD",
        description="Average cost of calls that have one, from the service's own cache (true) and"
        " by a model (nil). A cached answer has a cost only where the service gives one.",
        queries=(
            TraceMetrics(f"{calls_with(_COST_ATTRIBUTE)} | avg_over_time({_COST_ATTRIBUTE})"
                         " by (span.otelbridge.cached)"),
        ),
        emitters=PRICED, min=0,
    ),
    Panel(
        key="llm-prompt-cache-latency", title="Latency: provider's prompt cache",
        kind="timeseries", unit="s",
        description="Average duration of calls with cached input tokens and of those that say that"
        " they had none. Calls that do not say are in neither.",
        queries=_with_and_without("avg_over_time(duration)"), emitters=CACHE_AWARE, width=12,
        min=0,
    ),
    Panel(
        key="llm-prompt-cache-cost", title="Cost: provider's prompt cache", kind="timeseries",
        unit="currencyUSD",
        description="Average cost of calls with cached input tokens and of those without.",
        queries=_with_and_without(f"avg_over_time({_COST_ATTRIBUTE})", _COST_ATTRIBUTE),
        emitters=("otelbridge",), width=12, min=0,
    ),
))  # fmt: skip
