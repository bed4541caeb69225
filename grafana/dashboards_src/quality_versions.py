"""Rows of *Quality* that compare: prompts before and after a version, variants of an experiment.

Prompts are known by `gen_ai.prompt.name` and `.version`, variants by the trace's metadata
`variant`; only otelbridge writes them. Used by `quality.py`.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    WHERE_CALL,
    WHERE_SERVICE,
    WHERE_USER,
    Panel,
    Row,
    TraceMetrics,
)

OURS: Final = ("otelbridge",)
VARIANT: Final = "span.langfuse.trace.metadata.variant"
#: Spans with a numeric score, under the dashboard's variables.
SCORED: Final = f"span.gen_ai.evaluation.score.value != nil && {WHERE_SERVICE} && {WHERE_USER}"

_PROMPTED = f"span.gen_ai.prompt.name != nil && {WHERE_CALL}"
_BY_PROMPT = "by (span.gen_ai.prompt.name, span.gen_ai.prompt.version)"
_BY_VARIANT = f"by ({VARIANT})"
_COSTED = "span.gen_ai.usage.cost != nil"
_NEED_PROMPTS = "calls with prompt_name and prompt_version"
_NEED_VARIANTS = (
    "a variant: otelbridge.variant(…) in the request, or request_context(metadata={'variant': …})"
)

PROMPTS: Final = Row(
    "Prompts: before and after a version",
    (
        Panel(
            "quality-prompt-calls", "Calls by prompt version",
            "Calls per second: when a new version took over.",
            "timeseries", (TraceMetrics(f"{{ {_PROMPTED} }} | rate() {_BY_PROMPT}"),),
            unit="ops", emitters=OURS, needs=_NEED_PROMPTS,
        ),
        Panel(
            "quality-prompt-latency", "Latency by prompt version, P95",
            "P95 of the calls' durations; Tempo counts in powers of two, so compare versions rather"
            " than read the figure.",
            "timeseries",
            (TraceMetrics(f"{{ {_PROMPTED} }} | quantile_over_time(duration, 0.95) {_BY_PROMPT}"),),
            unit="s", emitters=OURS, needs=_NEED_PROMPTS,
        ),
        Panel(
            "quality-prompt-cost", "Cost of a call by prompt version",
            "Mean cost of a call in USD.",
            "timeseries",
            (TraceMetrics(
                f"{{ {_COSTED} && {_PROMPTED} }}"
                f" | avg_over_time(span.gen_ai.usage.cost) {_BY_PROMPT}"
            ),),
            unit="currencyUSD", emitters=OURS, needs=_NEED_PROMPTS, decimals=5,
        ),
        Panel(
            "quality-prompt-tokens", "Output tokens by prompt version",
            "Mean length of an answer in tokens.",
            "timeseries",
            (TraceMetrics(
                f"{{ span.gen_ai.usage.output_tokens != nil && {_PROMPTED} }}"
                f" | avg_over_time(span.gen_ai.usage.output_tokens) {_BY_PROMPT}"
            ),),
            unit="short", emitters=OURS, needs=_NEED_PROMPTS,
        ),
        Panel(
            "quality-prompt-errors", "Failed calls by prompt version",
            "Calls that ended with an error, per second.",
            "timeseries",
            (TraceMetrics(f"{{ status = error && {_PROMPTED} }} | rate() {_BY_PROMPT}"),),
            unit="ops", emitters=OURS, needs=_NEED_PROMPTS, empty="No call with a prompt failed",
        ),
        Panel(
            "quality-prompt-scores", "Scores by prompt version",
            "Mean of the scores whose span names the prompt that was judged.",
            "timeseries",
            (TraceMetrics(
                f"{{ span.gen_ai.prompt.name != nil && {SCORED} }}"
                " | avg_over_time(span.gen_ai.evaluation.score.value)"
                " by (span.gen_ai.evaluation.name, span.gen_ai.prompt.name,"
                " span.gen_ai.prompt.version)"
            ),),
            unit="none", emitters=OURS,
            needs="otelbridge.score on calls with prompt_name and prompt_version",
        ),
    ),
)  # fmt: skip

VARIANTS: Final = Row(
    "Variants",
    (
        Panel(
            "quality-variant-calls", "Calls by variant", "Model calls per second by variant.",
            "timeseries",
            (TraceMetrics(f"{{ {VARIANT} != nil && {WHERE_CALL} }} | rate() {_BY_VARIANT}"),),
            unit="ops", emitters=OURS, needs=_NEED_VARIANTS,
        ),
        Panel(
            "quality-variant-latency", "Latency by variant, P95",
            "P95 of the calls' durations, exact within a factor of two.",
            "timeseries",
            (TraceMetrics(
                f"{{ {VARIANT} != nil && {WHERE_CALL} }}"
                f" | quantile_over_time(duration, 0.95) {_BY_VARIANT}"
            ),),
            unit="s", emitters=OURS, needs=_NEED_VARIANTS,
        ),
        Panel(
            "quality-variant-cost", "Cost of a call by variant", "Mean cost of a call in USD.",
            "timeseries",
            (TraceMetrics(
                f"{{ {VARIANT} != nil && {_COSTED} && {WHERE_CALL} }}"
                f" | avg_over_time(span.gen_ai.usage.cost) {_BY_VARIANT}"
            ),),
            unit="currencyUSD", emitters=OURS, needs=_NEED_VARIANTS, decimals=5,
        ),
        Panel(
            "quality-variant-scores", "Scores by variant",
            "Mean of each score by variant; whether a difference is more than chance it does not"
            " say.",
            "bargauge",
            (TraceMetrics(
                f"{{ {VARIANT} != nil && {SCORED} }}"
                " | avg_over_time(span.gen_ai.evaluation.score.value)"
                f" by (span.gen_ai.evaluation.name, {VARIANT})",
                instant=True,
            ),),
            unit="none", emitters=OURS, needs=_NEED_VARIANTS, width=12,
        ),
        Panel(
            "quality-variant-errors", "Failed calls by variant",
            "Calls that ended with an error, per second.",
            "timeseries",
            (TraceMetrics(
                f"{{ status = error && {VARIANT} != nil && {WHERE_CALL} }} | rate() {_BY_VARIANT}"
            ),),
            unit="ops", emitters=OURS, needs=_NEED_VARIANTS, width=12,
            empty="No call of a variant failed",
        ),
    ),
)  # fmt: skip
