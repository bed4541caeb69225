"""The dashboard *Quality*: whether answers are good, and with which prompt and variant.

Scores are the `gen_ai.evaluation.*` attributes of spans: of the span that `otelbridge.score` makes,
and of the helper `evaluate`. They are doubles; a score may also be a label without a number.
Prompts are known by `gen_ai.prompt.name` and `.version`, variants by the trace's metadata
`variant`, both from otelbridge only. Limits: TraceQL metrics look back 24 hours.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    BY_MODEL,
    BY_SERVICE,
    CALLS,
    WHERE_CALL,
    WHERE_SERVICE,
    WHERE_USER,
    Column,
    Dashboard,
    Panel,
    Prom,
    Row,
    TraceMetrics,
    span_table,
    to_dashboard,
)
from grafana.dashboards_src.quality_versions import OURS, PROMPTS, SCORED, VARIANT, VARIANTS

#: Finish reasons of an answer that is not whole, as OpenAI, Anthropic and Google write them.
CUT_SHORT: Final = (
    "length|max_tokens|MAX_TOKENS|model_context_window_exceeded|content_filter|content-filter"
    "|refusal|SAFETY|RECITATION"
)
#: A number below this is listed as a low score, of scores between 0 and 1.
LOW_SCORE: Final = 0.5
#: Names of scores that users give.
RATINGS: Final = "user[-_](rating|feedback|satisfaction)|thumbs?[-_]?(up|down)?"

_CALLS: Final = to_dashboard("otelbridge-traces", "These calls")
_WHERE = f"{WHERE_SERVICE} && {WHERE_USER}"
_JUDGED = f"span.gen_ai.evaluation.name != nil && {_WHERE}"
_RATED = f"span.gen_ai.evaluation.name =~ `{RATINGS}` && {SCORED}"

_SPANS = "traces_spanmetrics_calls_total"
#: Both leave the exposition 15 minutes after their last call, so their quotient is one of equals.
_ENDED = "otelbridge_gen_ai_operation_duration_seconds_count"
_PER_CALL = "otelbridge_gen_ai_tokens_per_call_count"
#: Operations whose answers state input tokens.
_COUNTING = f'gen_ai_operation_name=~"chat|text_completion|generate_content|embeddings", {BY_MODEL}'
_FAILED = f'{_SPANS}{{status_code="STATUS_CODE_ERROR", {CALLS}}}'
_ANSWERED = f'{_SPANS}{{status_code!="STATUS_CODE_ERROR", {CALLS}}}'

_SCORE_COLUMNS = (
    Column("gen_ai.evaluation.name", "Score", width=160),
    Column("gen_ai.evaluation.score.value", "Value", "none", 90),
    Column("gen_ai.evaluation.score.label", "Label", width=110),
    Column("langfuse.trace.metadata.variant", "Variant", width=90),
)
_NEED_EVALUATIONS = "scores: otelbridge.score(name, value), or otelbridge.evaluate(name)"
_NEED_RATINGS = "scores of users: otelbridge.score_user_rating(4.5), POST /feedback"


def _missing_usage(window: str) -> str:
    """Share of answered calls without input tokens; series of a metric may be absent altogether."""
    answered = (
        f'sum by (gen_ai_request_model) (rate({_ENDED}{{error_type="", {_COUNTING}}}[{window}]))'
    )
    counted = (
        "sum by (gen_ai_request_model)"
        f' (rate({_PER_CALL}{{gen_ai_token_type="input", {_COUNTING}}}[{window}]))'
    )
    return f"clamp_min(1 - ({counted} or 0 * {answered}) / ({answered} > 0), 0)"


_TOP = (
    Panel(
        "quality-evaluations", "Evaluations",
        "Spans of operation evaluate in the chosen time: judgements on answers.",
        "stat",
        (Prom(
            f'sum(increase({_SPANS}{{gen_ai_operation_name="evaluate", {BY_SERVICE}}}[$__range]))',
            "evaluations", instant=True,
        ),),
        unit="short", emitters=OURS, needs=_NEED_EVALUATIONS, width=6, height=4, decimals=0,
    ),
    Panel(
        "quality-failed-share", "Failed calls", "Share of model calls that ended with an error.",
        "stat",
        (Prom(
            f"(sum(increase({_FAILED}[$__range])) or vector(0))"
            f" / (sum(increase({_SPANS}{{{CALLS}}}[$__range])) > 0)",
            "failed", instant=True,
        ),),
        unit="percentunit", thresholds=((0.02, "orange"), (0.05, "red")), links=(_CALLS,),
        empty="No model call in this time range", width=6, height=4, min=0, max=1, decimals=1,
    ),
    Panel(
        "quality-missing-usage-share", "Answers without token counts",
        "The worst model's share of answers without usage: their tokens and cost are unknown.",
        "stat", (Prom(f"max({_missing_usage('$__range')})", "without usage", instant=True),),
        unit="percentunit", thresholds=((0.05, "orange"), (0.2, "red")), links=(_CALLS,),
        empty="No answered call in this time range", width=6, height=4, min=0, max=1, decimals=1,
    ),
    Panel(
        "quality-rating-mean", "Users' rating",
        "Mean of the scores that users gave in the chosen time.",
        "stat",
        (TraceMetrics(
            f"{{ {_RATED} }} | avg_over_time(span.gen_ai.evaluation.score.value)", instant=True
        ),),
        unit="none", emitters=OURS, needs=_NEED_RATINGS, width=6, height=4, decimals=2,
    ),
    Panel(
        "quality-scores-by-name", "Scores by name", "Mean of the numeric scores by their name.",
        "timeseries",
        (TraceMetrics(
            f"{{ {SCORED} }} | avg_over_time(span.gen_ai.evaluation.score.value)"
            " by (span.gen_ai.evaluation.name)"
        ),),
        unit="none", emitters=OURS, needs=_NEED_EVALUATIONS,
    ),
    Panel(
        "quality-scores-worst", "Worst score by name", "The least value of each score.",
        "timeseries",
        (TraceMetrics(
            f"{{ {SCORED} }} | min_over_time(span.gen_ai.evaluation.score.value)"
            " by (span.gen_ai.evaluation.name)"
        ),),
        unit="none", emitters=OURS, needs=_NEED_EVALUATIONS,
    ),
    Panel(
        "quality-labels", "Scores by label",
        "How many scores had which label; nil are scores that are only a number.",
        "timeseries",
        (TraceMetrics(
            f"{{ {_JUDGED} }} | count_over_time()"
            " by (span.gen_ai.evaluation.name, span.gen_ai.evaluation.score.label)"
        ),),
        unit="short", emitters=OURS, needs=_NEED_EVALUATIONS, stack=True,
    ),
    Panel(
        "quality-finish-reasons", "Finish reasons",
        "Why answers ended, as providers write it. Rising `length` or `max_tokens`: answers are"
        " cut;"
        " `content_filter` or `refusal`: the model would not answer.",
        "timeseries",
        (TraceMetrics(
            f"{{ span.gen_ai.response.finish_reasons != nil && {WHERE_CALL} }}"
            " | count_over_time() by (span.gen_ai.response.finish_reasons)"
        ),),
        unit="short", stack=True,
    ),
    Panel(
        "quality-failed-by-model", "Failed calls by model",
        "Share of model calls that ended with an error.",
        "timeseries",
        (Prom(
            f"(sum by (gen_ai_request_model) (rate({_FAILED}[$__rate_interval]))"
            f" or 0 * sum by (gen_ai_request_model) (rate({_ANSWERED}[$__rate_interval])))"
            f" / (sum by (gen_ai_request_model) (rate({_SPANS}{{{CALLS}}}[$__rate_interval])) > 0)",
            "{{gen_ai_request_model}}",
        ),),
        unit="percentunit", thresholds=((0.05, "red"),), links=(_CALLS,), min=0, max=1,
    ),
    Panel(
        "quality-missing-usage", "Answers without token counts",
        "Share of answers of chat, completions and embeddings without usage, by model: streams"
        " that were not asked for it, providers that send none. Answers from a cache and of"
        " services named as gateways are among them, as their usage is not counted, and failed"
        " calls without an error.type (OpenInference).",
        "timeseries", (Prom(_missing_usage("$__rate_interval"), "{{gen_ai_request_model}}"),),
        unit="percentunit", thresholds=((0.2, "red"),), min=0, max=1,
    ),
    span_table(
        "quality-scores-low", f"Scores below {LOW_SCORE}",
        f"Scores with a number below {LOW_SCORE}, newest first, with their pages in Langfuse.",
        f"{{ span.gen_ai.evaluation.score.value < {LOW_SCORE} && {_WHERE} }}",
        ("span.gen_ai.evaluation.name", "span.gen_ai.evaluation.score.value",
         "span.gen_ai.evaluation.score.label", "resource.service.name",
         "resource.langfuse.user.id"),
        emitters=OURS, needs=_NEED_EVALUATIONS, empty=f"No score below {LOW_SCORE}",
        extra_columns=_SCORE_COLUMNS,
    ),
)  # fmt: skip

_REFUSED = Row(
    "Refusals and errors",
    (
        Panel(
            "quality-cut-short", "Answers cut or refused",
            "Answers per second that ended by a limit of tokens, a filter or a refusal, by the"
            " provider's word for it.",
            "timeseries",
            (TraceMetrics(
                f"{{ span.gen_ai.response.finish_reasons =~ `{CUT_SHORT}` && {WHERE_CALL} }}"
                " | rate() by (span.gen_ai.response.finish_reasons)"
            ),),
            unit="ops", needs="an answer that was cut or refused",
            empty="No answer was cut or refused",
        ),
        Panel(
            "quality-errors-by-type", "Errors by type",
            "Failed model calls per second by error.type. OpenInference has no error.type: its"
            " errors"
            " are in Failed calls by model.",
            "timeseries",
            (Prom(
                f'sum by (error_type) (rate({_SPANS}{{error_type!="", {CALLS}}}'
                "[$__rate_interval]))",
                "{{error_type}}",
            ),),
            unit="ops", emitters=("otelbridge", "otel", "openllmetry", "litellm"), stack=True,
            empty="No call failed with an error.type",
        ),
        Panel(
            "quality-errors-by-provider", "Errors by provider",
            "Failed model calls per second by provider.",
            "timeseries",
            (Prom(
                f"sum by (gen_ai_provider_name) (rate({_FAILED}[$__rate_interval]))",
                "{{gen_ai_provider_name}}",
            ),),
            unit="ops", empty="No call failed",
        ),
        span_table(
            "quality-cut-short-table", "Answers cut or refused",
            "The calls whose answers ended by a limit, a filter or a refusal, newest first.",
            f"{{ span.gen_ai.response.finish_reasons =~ `{CUT_SHORT}` && {WHERE_CALL} }}",
            ("span.gen_ai.response.finish_reasons", "span.gen_ai.request.model",
             "span.gen_ai.usage.output_tokens", "resource.service.name",
             "resource.langfuse.user.id"),
            needs="an answer that was cut or refused", empty="No answer was cut or refused",
            extra_columns=(
                Column("gen_ai.response.finish_reasons", "Finish reason", width=150),
            ),
        ),
    ),
)  # fmt: skip

_FEEDBACK = Row(
    "Users' scores",
    (
        Panel(
            "quality-ratings", "Ratings over time", "Mean of the scores that users gave, by name.",
            "timeseries",
            (TraceMetrics(
                f"{{ {_RATED} }} | avg_over_time(span.gen_ai.evaluation.score.value)"
                " by (span.gen_ai.evaluation.name)"
            ),),
            unit="none", emitters=OURS, needs=_NEED_RATINGS, width=12,
        ),
        Panel(
            "quality-rating-by-user", "Least content users",
            "The users with the lowest mean rating in the chosen time.",
            "bargauge",
            (TraceMetrics(
                f"{{ {_RATED} && resource.langfuse.user.id != nil }}"
                " | avg_over_time(span.gen_ai.evaluation.score.value)"
                " by (resource.langfuse.user.id) | bottomk(10)",
                instant=True,
            ),),
            unit="none", emitters=OURS, needs=_NEED_RATINGS, width=12, min=0,
        ),
        span_table(
            "quality-ratings-table", "Latest ratings", "Scores that users gave, newest first.",
            f"{{ {_RATED} }}",
            ("span.gen_ai.evaluation.name", "span.gen_ai.evaluation.score.value",
             VARIANT, "resource.service.name", "resource.langfuse.user.id"),
            emitters=OURS, needs=_NEED_RATINGS, extra_columns=_SCORE_COLUMNS,
        ),
    ),
)  # fmt: skip

DASHBOARD: Final = Dashboard(
    "otelbridge-quality",
    "Quality",
    "Scores, finish reasons, errors and missing figures, by prompt version and by variant.",
    _TOP,
    (_REFUSED, PROMPTS, VARIANTS, _FEEDBACK),
)
