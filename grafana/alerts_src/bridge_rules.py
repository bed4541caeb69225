"""Alerts on the bridge itself: each branch, its queue, what was lost or refused, the Collector.

The Collector's own metrics (port 8888) of the pinned build do not say why a batch was refused. What
they do tell apart: a refusal without another try (400, 401, 403, 404, 413, 500) counts in
`send_failed`; what is retried (429, 502, 503, 504, no answer) stays in the queue, counted nowhere.
A counter is not exposed before its first event.
"""

from __future__ import annotations

from typing import Final

from grafana.alerts_src.rule import UPTIME, Group, Look, Rule, Severity, grown

#: Names of the scrape jobs in grafana/prometheus/prometheus.yaml.
JOBS: Final = ("otelbridge", "otelbridge-collector")
QUEUE_SHARE: Final = 0.8
_HEALTH = "otelbridge-health"
_BY = "exporter, instance"
_SENT = "otelcol_exporter_sent_spans_total"
_REFUSED = "otelcol_exporter_send_failed_spans_total"
_QUEUE = "otelcol_exporter_queue_size"
_NOT_ENQUEUED = "otelcol_exporter_enqueue_failed_spans_total"
_NOT_TAKEN = "otelcol_receiver_refused_spans_total"
_INVALID = 'otelcol_processor_filter_spans_filtered_total{filter="filter/invalid_ids"}'
_CAPPED = 'otelcol_deltatocumulative_datapoints_total{error="limit"}'
_OVERFLOW = 'traces_spanmetrics_calls_total{otel_metric_overflow="true"}'

_LOG = Look(
    "The status is in the Collector's log: `Dropping data` names one that is final, `Exporting"
    " failed. Will retry` one that is not"
)
_STATUS = Look(
    "Langfuse's answers by status, at the Collector's metrics level detailed (dashboard Bridge"
    " health)"
)
_QUEUES = Look(
    "The queues", "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity", "promql"
)


def _refused(key: str, exporter: str, to: str, do: tuple[str, ...]) -> Rule:
    """A branch whose backend refuses more than it takes."""
    matched = f'{{exporter=~"{exporter}.*"}}'
    answers = (_STATUS,) if to == "Langfuse" else ()
    return Rule(
        key=key,
        title=f"{to} refuses spans for good",
        value=(
            f"{grown(_REFUSED + matched, 10, _BY)}\n>\n{grown(_SENT + matched, 10, _BY)}\n"
            f"and on ({_BY}) sum by ({_BY}) (changes({_REFUSED}{matched}[10m])) > 1"
        ),
        threshold=0,
        wait="2m",
        severity="critical",
        reading="count",
        summary=f"{to} refused {{value}} spans in 10 minutes; they are lost",
        description=(
            f"{{exporter}} of the Collector {{instance}} got refusals that it does not retry for"
            f" {{value}} spans in 10 minutes, more than were taken. They will not reach {to}."
        ),
        panel=(_HEALTH, "branch-failing"),
        meaning=(
            f"In the last 10 minutes more spans were refused by {to} for good than were taken,"
            " and the count of refusals rose at least twice. The exporter drops them; nothing will"
            " send them again. (A single refused batch, between good ones or when nothing else was"
            " sent, is the alert otelbridge-spans-dropped.)"
        ),
        look=(
            _LOG,
            *answers,
            Look("Refused", f"sum by ({_BY}) (rate({_REFUSED}[5m]))", "promql"),
            Look("Taken", f"sum by ({_BY}) (rate({_SENT}[5m]))", "promql"),
        ),
        do=do,
    )


def _retrying(key: str, exporter: str, to: str, severity: Severity) -> Rule:
    """A branch that has spans, delivers none and is refused none: it tries again."""
    matched = f'{{exporter=~"{exporter}.*"}}'
    answers = (_STATUS,) if to == "Langfuse" else ()
    return Rule(
        key=key,
        title=f"{to} cannot be reached, spans wait",
        value=(
            f"min by ({_BY}) (min_over_time({_QUEUE}{matched}[5m]))\n"
            f"unless sum by ({_BY}) (increase({_SENT}{matched}[5m])) > 0\n"
            f"unless sum by ({_BY}) (increase({_REFUSED}{matched}[5m])) > 0"
        ),
        threshold=0,
        wait="5m",
        severity=severity,
        reading="count",
        summary=f"{{value}} spans or more wait for {to}, none is delivered",
        description=(
            "{exporter} of the Collector {instance} has had at least {value} spans in its"
            " queue for 5 minutes and delivered none. Nothing is lost as long as the queue has"
            " room."
        ),
        panel=(_HEALTH, "branch-retrying"),
        meaning=(
            f"For 10 minutes (5 of the window, 5 of waiting) spans have lain in the queue to {to}"
            " while none was delivered and none refused for good: the backend does not answer, or"
            " answers 429, 502, 503 or 504. The queue is on disk and survives a restart of the"
            " Collector. While some batches do get through, the alert is otelbridge-queue-filling."
        ),
        look=(_LOG, *answers, _QUEUES),
        do=(
            f"Is {to} up, and reachable from the Collector's host?",
            "429: its rate limit; the queue empties by itself when it allows.",
            "How long the room lasts: free places over the rate of spans (docs/collector.md);"
            " OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS and _TEMPO_QUEUE_SPANS make it larger.",
            *(
                (
                    "After 24 hours (OTELBRIDGE_COLLECTOR_LANGFUSE_RETRY_MAX_ELAPSED) batches are"
                    " given up.",
                )
                if to == "Langfuse"
                else ()
            ),
        ),
    )


LANGFUSE_REFUSED = _refused(
    "langfuse-refused",
    "otlp_http/langfuse",
    "Langfuse",
    (
        "401, 403: `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY` of the Collector; are they of"
        " this Langfuse?",
        "404: `LANGFUSE_HOST`; a proxy in front that strips `/api/public/otel`.",
        "413: lower OTELBRIDGE_COLLECTOR_LANGFUSE_BATCH_SPANS or raise the proxy's limit.",
        "500: use the overlay langfuse-proxy, which makes it a 503 that is retried.",
        "The spans are still in Tempo, without message text.",
    ),
)
TEMPO_REFUSED = _refused(
    "tempo-refused",
    "otlp_grpc/tempo",
    "Tempo",
    (
        "`Unauthenticated`, `PermissionDenied`: a proxy in front of Tempo asks for credentials.",
        "`InvalidArgument`, `ResourceExhausted` without a retry hint: Tempo's limits (trace size,"
        " rate, message size).",
        "`Unimplemented`: OTELBRIDGE_TEMPO_OTLP_ENDPOINT is no OTLP/gRPC port.",
    ),
)
LANGFUSE_RETRYING = _retrying("langfuse-retrying", "otlp_http/langfuse", "Langfuse", "warning")
TEMPO_RETRYING = _retrying("tempo-retrying", "otlp_grpc/tempo", "Tempo", "critical")

QUEUE_FILLING = Rule(
    key="queue-filling",
    title="A branch's queue is more than 80 % full",
    value=f"max by ({_BY}) ({_QUEUE} / otelcol_exporter_queue_capacity)",
    threshold=QUEUE_SHARE,
    wait="5m",
    severity="critical",
    reading="share",
    summary="The queue of {exporter} is {value} full",
    description=(
        "The queue of {exporter} of the Collector {instance} is {value} full. When it is full the"
        " receivers refuse spans for both branches, and services keep them and send again."
    ),
    panel=(_HEALTH, "queue-fill"),
    meaning=(
        "Spans have come faster than the backend takes them, or it takes none, until less than a"
        " fifth of the queue is free, for 5 minutes. Once full, the Collector refuses whole"
        " requests, so the other branch waits too."
    ),
    look=(
        _QUEUES,
        Look("In and out", f"rate({_SENT}[5m])", "promql"),
        _LOG,
    ),
    do=(
        "The backend is away: see otelbridge-langfuse-retrying, otelbridge-tempo-retrying.",
        "It is too slow: raise its limits, or thin out by the overlay sampling.",
        "Win time: a larger queue (needs a restart and room on disk).",
    ),
)

_DROP_DO = (
    "Find the status in the log; 413 and 400 of single batches point at one oversized or odd span.",
    "Every batch is refused: otelbridge-langfuse-refused or otelbridge-tempo-refused says more.",
)
SPANS_DROPPED = Rule(
    key="spans-dropped",
    title="The Collector gave up spans",
    value=grown(_REFUSED, 10, _BY),
    threshold=0,
    wait="0s",
    severity="warning",
    reading="count",
    summary="{exporter} lost {value} spans in 10 minutes",
    description=(
        "{exporter} of the Collector {instance} dropped {value} spans in 10 minutes: refused for"
        " good, or given up after the longest time of retries."
    ),
    panel=(_HEALTH, "spans-dropped"),
    meaning=(
        "At least one batch was dropped in the last 10 minutes: the backend refused it for good, or"
        " its retries ended (24 hours for Langfuse, never for Tempo). The other branch has them."
    ),
    look=(_LOG, Look("By exporter", f"rate({_REFUSED}[10m])", "promql")),
    do=_DROP_DO,
)
QUEUE_FULL = Rule(
    key="queue-full",
    title="A branch's queue takes no more spans",
    value=grown(_NOT_ENQUEUED, 10, _BY),
    threshold=0,
    wait="0s",
    severity="critical",
    reading="count",
    summary="The queue of {exporter} turned {value} spans away",
    description=(
        "{exporter} of the Collector {instance} found no room in its queue for {value} spans in 10"
        " minutes. By default the receivers refuse such requests and services send them again."
    ),
    panel=(_HEALTH, "queue-fill"),
    meaning=(
        "The queue was full in the last 10 minutes. With the default policy nothing acknowledged is"
        " lost: services get 503 and send again, the other branch gets duplicates. With a batch"
        " stage last in the branch (docs/collector-operations.md, A full queue) these spans are"
        " lost."
    ),
    look=(_QUEUES, Look("Turned away", f"rate({_NOT_ENQUEUED}[5m])", "promql"), _LOG),
    do=(
        "Bring the backend back; the queue empties by itself.",
        "Services without a spool of their own lose spans meanwhile: restart none of them.",
    ),
)
REFUSED = Rule(
    key="spans-refused",
    title="The Collector refuses spans from services",
    value=grown(_NOT_TAKEN, 2, "receiver, transport, instance"),
    threshold=0,
    wait="5m",
    severity="warning",
    reading="count",
    summary="The Collector {instance} refused {value} spans in 2 minutes",
    description=(
        "The receiver {receiver} ({transport}) of the Collector {instance} refused {value} spans"
        " in 2 minutes: its memory limit, or a full queue. Services send them again."
    ),
    panel=(_HEALTH, "health-refused"),
    meaning=(
        "Services got 503 or UNAVAILABLE again and again: some request in each 2 minutes, for 5"
        " minutes. A queue is full, or the memory limiter (OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB)"
        " is at work. A few refusals at once, which services send again, do not alert."
    ),
    look=(
        _QUEUES,
        Look("Memory", "otelcol_process_memory_rss_bytes", "promql"),
    ),
    do=(
        "A full queue: see otelbridge-queue-full.",
        "Memory: raise the limit and that of the container, or add a Collector"
        " (docs/collector-operations.md, Several Collectors).",
    ),
)
INVALID = Rule(
    key="spans-invalid",
    title="Spans without ids are thrown away",
    value=grown(_INVALID, 30, "instance"),
    threshold=0,
    wait="0s",
    severity="info",
    reading="count",
    summary="{value} spans without a valid id in 30 minutes",
    description=(
        "The Collector {instance} threw {value} spans away in 30 minutes because their trace id or"
        " span id is empty or zero."
    ),
    panel=(_HEALTH, "health-filtered"),
    meaning="A service makes spans that no backend would take; the Collector filters them out.",
    look=(
        Look("When it began", f"rate({_INVALID}[5m])", "promql"),
        Look(
            "Whose they are is in no metric: the overlay debug before the filter shows it, on a"
            " Collector of its own"
        ),
    ),
    do=("Look at hand-made exporters and id generators among the newest releases.",),
)
_GONE = " or\n".join(
    (
        f'1 - min by (job, instance) (up{{job=~"{"|".join(JOBS)}"}})',
        f"absent({UPTIME})",
        f"0 * count({UPTIME})",  # so that the answer is never empty: empty alerts
    )
)
COLLECTOR_GONE = Rule(
    key="collector-gone",
    title="The Collector does not answer",
    value=_GONE,
    threshold=0,
    wait="3m",
    severity="critical",
    reading="count",
    no_data="Alerting",
    on_error="Alerting",
    summary="No metrics from the Collector {instance}",
    description=(
        "Prometheus gets no metrics from the Collector {instance} (job {job}; without names: from"
        " none at all). Services keep their spans meanwhile as far as their spool goes."
    ),
    panel=(_HEALTH, "collector-up"),
    meaning=(
        "A scrape of the Collector has failed for 3 minutes, or there are no metrics of any. All"
        " other alerts are blind meanwhile. Jobs are named as in"
        " grafana/prometheus/prometheus.yaml; under other names only the second half of the"
        " rule works."
    ),
    look=(
        Look("Targets", f'up{{job=~"{"|".join(JOBS)}"}}', "promql"),
        Look("On its host", "curl -fsS http://127.0.0.1:13133/", "sh"),
    ),
    do=(
        "It runs, the health check answers: the way from Prometheus (ports 8888 and 8889, which"
        " listen on loopback unless told otherwise).",
        "It ends at each start: its log; start it by `collector/run.sh`, which sets damaged queue"
        " files aside.",
        "Killed for memory: docs/collector-operations.md, User and limits.",
    ),
)
SERIES_CAP = Rule(
    key="series-cap",
    title="A cap on metric series is reached",
    value=(
        f"{grown(_CAPPED, 15, 'instance')}\n"
        "or\n"
        f"sum by (service_name) (increase({_OVERFLOW}[15m]))"
    ),
    threshold=0,
    wait="5m",
    severity="warning",
    reading="count",
    summary="Metrics of new models, users or operations are not kept apart",
    description=(
        "{value} data points in 15 minutes were beyond a cap of series (Collector {instance},"
        " service {service_name}): new label sets are left out or counted together."
    ),
    panel=(_HEALTH, "health-series-left-out"),
    meaning=(
        "Beyond OTELBRIDGE_COLLECTOR_METRICS_MAX_SERIES and _USER_SERIES new label sets are left"
        " out of `otelbridge_*`; beyond _SERVICE_SERIES a service's spans count in one series with"
        ' `otel_metric_overflow="true"`. Cost and error alerts may miss what is left out.'
        " Traces are not affected."
    ),
    look=(
        Look(
            "Who has the most series",
            "topk(10, count by (service_name) (traces_spanmetrics_calls_total))",
            "promql",
        ),
        Look(
            "Ids in span names?",
            "topk(10, count by (service_name, span_name) (traces_spanmetrics_calls_total))",
            "promql",
        ),
    ),
    do=(
        "Ids in span names: name the operation instead, put the id into an attribute.",
        "Rightly many: raise the cap (docs/metrics.md, How long, how many) and Prometheus' memory.",
    ),
)

GROUP = Group(
    "otelbridge-bridge",
    "1m",
    (
        COLLECTOR_GONE,
        LANGFUSE_REFUSED,
        LANGFUSE_RETRYING,
        TEMPO_REFUSED,
        TEMPO_RETRYING,
        QUEUE_FILLING,
        QUEUE_FULL,
        SPANS_DROPPED,
        REFUSED,
        INVALID,
        SERIES_CAP,
    ),
)
