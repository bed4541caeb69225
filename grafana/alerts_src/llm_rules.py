"""Alerts on model calls: errors, latency, time to first token, and services that fell silent.

Thresholds are starting points for chat models, to be changed here. One model call is one span of an
operation in `MODEL_CALLS`; agents and tools around it would count it twice.
"""

from __future__ import annotations

from typing import Final

from grafana.alerts_src.rule import BY_CALL, UPTIME, Group, Look, Rule, grown, indented
from grafana.dashboards_src.kit import MODEL_CALLS

ERROR_SHARE: Final = 0.05
ERRORS_AT_LEAST: Final = 3
HOUR_ERROR_SHARE: Final = 0.5
HOUR_ERRORS_AT_LEAST: Final = 5
P95_SECONDS: Final = 30
FIRST_TOKEN_P95_SECONDS: Final = 5
CALLS_FOR_P95: Final = 20  # below that the 95th percentile is the slowest call
SPANS_IN_SIX_HOURS: Final = 120  # ten in each half hour: a silent one is no chance
HALF_HOURS_WITH_SPANS: Final = 4  # of the twelve; fewer is a job that has ended

_SPANS = "traces_spanmetrics_calls_total"
_OPERATION = f'gen_ai_operation_name=~"{MODEL_CALLS}"'
_CALLS = f"{_SPANS}{{{_OPERATION}}}"
_FAILED = f'{_SPANS}{{{_OPERATION}, status_code="STATUS_CODE_ERROR"}}'
# Not `otelbridge_*`, which goes after 15 idle minutes and comes back with its total: no increase.
_DURATION = "traces_spanmetrics_latency"
_FIRST_CHUNK = "otelbridge_gen_ai_time_to_first_chunk_seconds"


def _failed_share(minutes: int, at_least: int) -> str:
    """The share of a model's calls that failed, where so many did."""
    failed = grown(_FAILED, minutes, BY_CALL, _SPANS)
    calls = grown(_CALLS, minutes, BY_CALL, _SPANS)
    return f"(\n{indented(failed)} >= {at_least}\n) /\n{calls}"


def _p95(histogram: str) -> str:
    """The 95th percentile over ten minutes where there were calls enough."""
    series = f"{{{_OPERATION}}}[10m]"
    return (
        "histogram_quantile(0.95,\n"
        f"  sum by (le, {BY_CALL}) (rate({histogram}_bucket{series}))\n"
        f") and on ({BY_CALL})\n"
        f"  sum by ({BY_CALL}) (increase({histogram}_count{series})) >= {CALLS_FOR_P95}"
    )


_FAILED_CALLS = Look(
    "The failed calls, each with its Langfuse page",
    f'{{ span.gen_ai.operation.name =~ "{MODEL_CALLS}" && status = error }} | '
    "select(span.error.type, span.gen_ai.request.model, statusMessage, "
    "span.otelbridge.langfuse.url)",
    "traceql",
)


def _kinds(window: str) -> Look:
    return Look(
        "The kinds of error",
        f"sum by (service_name, gen_ai_request_model, error_type) (increase({_FAILED}[{window}]))",
        "promql",
    )


ERROR_RATE = Rule(
    key="error-rate",
    title="More than 5 % of a model's calls fail",
    value=_failed_share(5, ERRORS_AT_LEAST),
    threshold=ERROR_SHARE,
    wait="1m",
    severity="critical",
    reading="share",
    summary="{value} of {service_name}'s calls of {gen_ai_request_model} fail",
    description=(
        "Over the last 5 minutes {value} of the calls of {gen_ai_request_model} by {service_name}"
        " (environment {deployment_environment_name}) ended with an error."
    ),
    panel=("otelbridge-llm", "llm-error-rate"),
    meaning=(
        "Of a service's calls of one model more than 5 % ended with status error over 5 minutes,"
        " seen twice a minute apart. At least 3 calls must have failed: 1 of 2 does not page,"
        " 3 of 3 does. It clears when the last 5 minutes are at 5 % or below. Where calls are too"
        " few for three failures in 5 minutes, otelbridge-most-calls-fail watches."
    ),
    look=(_kinds("5m"), _FAILED_CALLS),
    do=(
        "`429`, quota: lower the load or raise the limit; look at the cost alerts.",
        "Time-outs and 5xx: the provider's status page; send the traffic to another model.",
        "`400`: a release or a prompt version; compare by `gen_ai.prompt.version`, roll back.",
        "401, 403: the provider's key.",
    ),
)

MOST_FAIL = Rule(
    key="most-calls-fail",
    title="More than half of a model's calls fail within an hour",
    value=_failed_share(60, HOUR_ERRORS_AT_LEAST),
    threshold=HOUR_ERROR_SHARE,
    wait="5m",
    severity="warning",
    reading="share",
    summary="{value} of {service_name}'s calls of {gen_ai_request_model} failed in an hour",
    description=(
        "Over the last hour {value} of the calls of {gen_ai_request_model} by {service_name}"
        " (environment {deployment_environment_name}) ended with an error."
    ),
    panel=("otelbridge-llm", "llm-error-rate"),
    meaning=(
        "Of a service's calls of one model more than half ended with status error over an hour, at"
        f" least {HOUR_ERRORS_AT_LEAST} of them, for 5 minutes. It is for services that call too"
        " seldom for otelbridge-error-rate; with more traffic both fire. It clears when the hour"
        " holds half or less, up to an hour after the last failure."
    ),
    look=(_kinds("1h"), _FAILED_CALLS),
    do=("As for otelbridge-error-rate: provider, key, quota, release.",),
)

LATENCY = Rule(
    key="latency-p95",
    title="P95 duration of model calls above 30 s",
    value=_p95(_DURATION),
    threshold=P95_SECONDS,
    wait="5m",
    severity="warning",
    reading="seconds",
    summary="P95 of {gen_ai_request_model} in {service_name} is {value}",
    description=(
        "Over the last 10 minutes one in twenty calls of {gen_ai_request_model} by {service_name}"
        " (environment {deployment_environment_name}) took longer than {value}."
    ),
    panel=("otelbridge-llm", "llm-p95"),
    meaning=(
        "The 95th percentile of a model's call durations in one service, over 10 minutes with at"
        f" least {CALLS_FOR_P95} calls, has been above 30 s for 5 minutes. It is read off histogram"
        " buckets (20, 40 s), so it is an estimate between them. Streams count to their end."
        " Services beyond the cap of span metrics (`otel_metric_overflow`) are not watched."
    ),
    look=(
        Look(
            "The slowest calls",
            f'{{ span.gen_ai.operation.name =~ "{MODEL_CALLS}" && duration > 30s }} | '
            "select(span.gen_ai.request.model, span.gen_ai.usage.output_tokens, "
            "span.otelbridge.langfuse.url)",
            "traceql",
        ),
        Look(
            "Longer answers, or slower ones?",
            "histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
            '(rate(otelbridge_gen_ai_tokens_per_call_bucket{gen_ai_token_type="output"}[10m])))',
            "promql",
        ),
    ),
    do=(
        "Longer answers: a prompt or a token limit has changed; look at the prompt in Langfuse.",
        "Slower ones: the provider's status; another region or model.",
        "A model that is slow by nature: raise `P95_SECONDS`.",
    ),
)

FIRST_TOKEN = Rule(
    key="time-to-first-token",
    title="P95 time to first token above 5 s",
    value=_p95(_FIRST_CHUNK),
    threshold=FIRST_TOKEN_P95_SECONDS,
    wait="5m",
    severity="warning",
    reading="seconds",
    summary="First token of {gen_ai_request_model} in {service_name}: P95 is {value}",
    description=(
        "Over the last 10 minutes one in twenty streamed calls of {gen_ai_request_model} by"
        " {service_name} (environment {deployment_environment_name}) waited longer than {value} for"
        " its first chunk."
    ),
    panel=("otelbridge-llm", "llm-ttft"),
    meaning=(
        "The 95th percentile of the time to the first chunk, over 10 minutes with at least"
        f" {CALLS_FOR_P95} streamed calls, has been above 5 s for 5 minutes. Calls that do not"
        " stream have no such time and do not count. Bursts with more than 15 idle minutes between"
        " them (OTELBRIDGE_COLLECTOR_METRICS_IDLE) are not seen: the series goes and comes back"
        " with its total, which is no increase."
    ),
    look=(
        Look(
            "The calls",
            "{ span.gen_ai.response.time_to_first_chunk > 5.0 } | "
            "select(span.gen_ai.request.model, span.gen_ai.usage.input_tokens, "
            "span.gen_ai.response.time_to_first_chunk, span.otelbridge.langfuse.url)",
            "traceql",
        ),
        Look(
            "Share of input out of the provider's cache",
            "sum by (gen_ai_request_model) (increase(otelbridge_gen_ai_tokens_of_which_total"
            '{gen_ai_token_type="cache_read"}[1h])) / sum by (gen_ai_request_model) '
            '(increase(otelbridge_gen_ai_tokens_total{gen_ai_token_type="input"}[1h]))',
            "promql",
        ),
    ),
    do=(
        "The share has fallen: the start of the prompt changes from call to call.",
        "Longer inputs: look at what retrieval adds.",
        "Neither: the provider queues; another region or model.",
    ),
)


_BY_SERVICE = "deployment_environment_name, service_name"


def _silent_then(ago: str) -> str:
    """Services that were silent at this time so long ago, after six hours with spans."""
    return (
        "(\n"
        f"  sum by ({_BY_SERVICE}) (increase({_SPANS}[6h:5m] offset {ago})) > 0\n"
        f"  unless\n  sum by ({_BY_SERVICE}) (increase({_SPANS}[30m:5m] offset {ago})) > 0\n"
        ")"
    )


# Subqueries at 5 minutes over long windows: a service may have 2,000 series.
_SILENT = (
    f"sum by ({_BY_SERVICE}) (increase({_SPANS}[6h:5m]))\n"
    f"unless\n{grown(_SPANS, 30, _BY_SERVICE)} > 0\n"
    f"unless {_silent_then('1d')}\n"
    f"unless {_silent_then('1w')}\n"
    f"and on ({_BY_SERVICE}) count_over_time(\n"
    f"  (sum by ({_BY_SERVICE}) (increase({_SPANS}[30m])) > 0)[6h:30m]\n"
    f") >= {HALF_HOURS_WITH_SPANS}\n"
    f"and on () (count({UPTIME}) and count({UPTIME} offset 30m))"
)

NO_DATA = Rule(
    key="service-silent",
    title="A service that sent spans has stopped",
    value=_SILENT,
    threshold=SPANS_IN_SIX_HOURS,
    wait="5m",
    severity="warning",
    reading="count",
    summary="No spans from {service_name} for 30 minutes",
    description=(
        "{service_name} (environment {deployment_environment_name}) sent {value} spans in the last"
        " 6 hours and none in the last 30 minutes. It was not silent at this time yesterday or a"
        " week ago, or was not known then."
    ),
    panel=("otelbridge-services", "services-rate"),
    meaning=(
        f"A service sent more than {SPANS_IN_SIX_HOURS} spans in the last 6 hours, in at least"
        f" {HALF_HOURS_WITH_SPANS} of their half hours, and none in the last 30 minutes, while the"
        " Collector is there and was then. A service that was silent at the same time yesterday or"
        " a week ago, after six hours with spans, is taken to keep office hours; one that stops"
        " earlier than it did then, in its first week also after a weekend, does alert. A job of"
        " two hours or more that ends looks like a service that stopped. After about 4 hours of"
        " silence the alert ends by itself: that is no sign of health. Services that send fewer"
        " spans are not watched."
    ),
    look=(
        Look(
            "When it stopped",
            "sum by (service_name) (rate(traces_spanmetrics_calls_total[5m]))",
            "promql",
        ),
        Look(
            "Its last spans (set the range to six hours)",
            '{ resource.service.name = "NAME" && nestedSetParent < 0 }',
            "traceql",
        ),
        Look("On its host", "otelbridge doctor", "sh"),
    ),
    do=(
        "No traffic: the way to it (gateway, queue) rather than the service.",
        "Traffic without spans: `OTEL_SDK_DISABLED`, the sampler, `OTEL_EXPORTER_OTLP_ENDPOINT`, a"
        " new release that does not start with `opentelemetry-instrument`.",
        "Several at once: the network between them and the Collector, its token or certificate.",
    ),
)

GROUP = Group("otelbridge-llm", "1m", (ERROR_RATE, MOST_FAIL, LATENCY, FIRST_TOKEN))
SILENCE_GROUP = Group("otelbridge-services", "5m", (NO_DATA,))
