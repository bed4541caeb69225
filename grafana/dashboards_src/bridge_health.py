"""The dashboard *Bridge health*: whether what the Collector accepts arrives at its branches.

Sources: the Collector's own metrics (port 8888, level normal) and, for the caps of series, what it
makes of spans (port 8889). The pinned Collector does not count retries: spans that wait while none
leave are being retried, failed spans were given up. What it counts only at level `detailed` has a
row of its own. `branch` is what follows the slash in an exporter's name; `instance` is the scraped
address. What to do in each case: docs/collector-operations.md.
"""

from __future__ import annotations

from typing import Final

from grafana.alerts_src.rule import grown
from grafana.dashboards_src.kit import PROM, Dashboard, Link, Panel, Prom, Row, Variable, matching

INSTANCE: Final = Variable(
    "instance", "Collector", "These Collectors, by the address that Prometheus scrapes.", PROM,
    "label_values(otelcol_process_uptime_seconds_total, instance)",
)  # fmt: skip

_NOBODY: Final = ()  # fed by the Collector itself, not by anybody's spans
_ON = matching("instance", "instance")
_WINDOW = "$__rate_interval"
_SENT = "otelcol_exporter_sent_spans_total"
_SEND_FAILED = "otelcol_exporter_send_failed_spans_total"
_ENQUEUE_FAILED = "otelcol_exporter_enqueue_failed_spans_total"
_QUEUE = "otelcol_exporter_queue_size"
_ROOM = "otelcol_exporter_queue_capacity"
_SPANS = "traces_spanmetrics_calls_total"
_BY_BRANCH = "{{branch}} ({{instance}})"
_BY_INSTANCE = "{{instance}}"
#: A series for each Collector that is there.
_KNOWN = f"sum by (instance) (otelcol_process_uptime_seconds_total{{{_ON}}})"
_OPERATING = Link("Slow and failing services", "/d/otelbridge-services?${__url_time_range}")
_DETAILED = (
    "the Collector at metrics level detailed: a further argument"
    " `--config 'yaml:service::telemetry::metrics::level: detailed'`"
)


def _branch(expr: str) -> str:
    """The expression with the label `branch`: `tempo` of `otlp_grpc/tempo`."""
    return f'label_replace({expr}, "branch", "$1", "exporter", "(?:.*/)?(.+)")'


def _rate(
    metric: str, by: str = "instance, exporter", more: str = "", window: str = _WINDOW
) -> str:
    matchers = ", ".join(filter(None, (more, _ON)))
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[{window}]))"


def _now(metric: str) -> str:
    return f"sum by (instance, exporter) ({metric}{{{_ON}}})"


def _or_zero(metric: str, window: str = _WINDOW) -> str:
    """Rate by branch; zero for a counter that the Collector makes only when it first counts."""
    return f"({_rate(metric, window=window)} or 0 * {_now(_QUEUE)})"


def _grown(metric: str, by: str, more: str = "") -> str:
    """Growth in ten minutes, as the alerts have it: with what a new counter began with."""
    matchers = ", ".join(filter(None, (more, _ON)))
    return grown(f"{metric}{{{matchers}}}", 10, by)


def _in_ten_minutes(metric: str) -> str:
    return f"({_grown(metric, 'instance, exporter')} or 0 * {_now(_QUEUE)})"


def _made(metric: str) -> str:
    """Growth by instance of a counter that may not be there yet."""
    return f"({_grown(metric, 'instance')} or 0 * {_KNOWN})"


#: Spans that wait while none has left for this long: the backend is away and they are sent again.
RETRYING: Final = f"{_now(_QUEUE)} * ({_or_zero(_SENT, '2m')} == bool 0)"
#: Spans given up after a final answer, in ten minutes; counted as the alerts count them.
GIVEN_UP: Final = _in_ten_minutes(_SEND_FAILED)
#: 1 or 0 for each Collector seen in the last day, also when it is away now.
UP: Final = (
    f"max by (instance) (up{{{_ON}}})"
    " and on (instance) present_over_time(otelcol_process_uptime_seconds_total[1d])"
)

_TOP = (
    Panel(
        "collector-up", "Collectors up",
        "1 for a Collector whose metrics were scraped, 0 for one that was there in the last day and"
        " does not answer.",
        "stat", (Prom(UP, _BY_INSTANCE, instant=True),),
        unit="none", emitters=_NOBODY, thresholds=((0, "red"), (1, "green")), links=(_OPERATING,),
        needs="a scrape of the Collector's own metrics (port 8888)", width=6, height=5, decimals=0,
    ),
    Panel(
        "queue-fill", "Queue fill",
        "How full each branch's queue on disk is. Over 0.8 the backend is away or too slow; a full"
        " queue makes the Collector refuse spans, and Tempo waits too.",
        "bargauge",
        (Prom(_branch(f"{_now(_QUEUE)} / {_now(_ROOM)}"), _BY_BRANCH, instant=True),),
        unit="percentunit", emitters=_NOBODY, thresholds=((0.5, "orange"), (0.8, "red")),
        links=(_OPERATING,), width=6, height=5, min=0, max=1,
    ),
    Panel(
        "branch-failing", "Branch failing (given up)",
        "Spans that a backend refused for good in the last ten minutes: 400, 401, 403, 404, 413,"
        " and 500 without the proxy. They are lost; the Collector's log says the status"
        " (`Dropping data`).",
        "stat", (Prom(_branch(GIVEN_UP), _BY_BRANCH),),
        unit="short", emitters=_NOBODY, thresholds=((0.5, "red"),), links=(_OPERATING,),
        width=6, height=5, decimals=0,
    ),
    Panel(
        "branch-retrying", "Branch retrying (waiting)",
        "Spans that wait on disk while none has left for two minutes: the backend does not"
        " answer, or"
        " answers 429, 502, 503, 504. Nothing is lost; they are sent again. The Collector does not"
        " count its tries.",
        "stat", (Prom(_branch(RETRYING), _BY_BRANCH),),
        unit="short", emitters=_NOBODY, thresholds=((1, "orange"), (100_000, "red")),
        links=(_OPERATING,), width=6, height=5, decimals=0,
    ),
    Panel(
        "health-in-out", "Accepted and sent",
        "Spans per second in from services, and out by branch. Langfuse gets the LLM view only, so"
        " less than Tempo; sent spans flat while accepted ones grow: nothing leaves.",
        "timeseries",
        (
            Prom(
                _rate("otelcol_receiver_accepted_spans_total", "instance"),
                "accepted ({{instance}})",
            ),
            Prom(_branch(_rate(_SENT)), _BY_BRANCH),
        ),
        unit="ops", emitters=_NOBODY, width=12,
    ),
    Panel(
        "spans-dropped", "Spans lost",
        "Spans of the last ten minutes that a branch has given up: refused for good, or at the end"
        " of the longest time of retries. They will not arrive. What services were told to send"
        " again is below.",
        "timeseries", (Prom(_branch(GIVEN_UP), _BY_BRANCH),),
        unit="short", emitters=_NOBODY, thresholds=((0.5, "red"),), links=(_OPERATING,), width=12,
        min=0,
    ),
    Panel(
        "health-refused", "Refused at the door",
        "Spans of the last ten minutes that services were told to send again (memory limit or full"
        " queue), and spans that failed in the receiver.",
        "timeseries",
        (
            Prom(_made("otelcol_receiver_refused_spans_total"), "refused ({{instance}})"),
            Prom(_made("otelcol_receiver_failed_spans_total"), "failed ({{instance}})"),
        ),
        unit="short", emitters=_NOBODY, thresholds=((0.5, "orange"),), min=0,
    ),
    Panel(
        "health-queue", "Waiting on disk", "Spans in each branch's queue.",
        "timeseries", (Prom(_branch(_now(_QUEUE)), _BY_BRANCH),),
        unit="short", emitters=_NOBODY, min=0,
    ),
    Panel(
        "health-no-room", "No room in the queue",
        "Spans of the last ten minutes that a full queue did not take. By default the service is"
        " told and sends them again; of a branch that drops instead (a batch stage before its"
        " exporter) they are lost.",
        "timeseries", (Prom(_branch(_in_ten_minutes(_ENQUEUE_FAILED)), _BY_BRANCH),),
        unit="short", emitters=_NOBODY, thresholds=((0.5, "orange"),), links=(_OPERATING,), min=0,
    ),
    Panel(
        "health-lag", "Lag",
        "How long what waits would take at the rate at which spans left in the last five minutes;"
        " no"
        " line where none left. The age of the oldest span the Collector does not tell.",
        "timeseries",
        (Prom(
            _branch(f"{_now(_QUEUE)} / ({_rate(_SENT, window='5m')} > 0)"), _BY_BRANCH
        ),),
        unit="s", emitters=_NOBODY, thresholds=((60, "orange"), (600, "red")), min=0,
        empty="No span left in the last five minutes",
    ),
)  # fmt: skip

_METRICS = Row(
    "Metrics branch: series and their caps",
    (
        Panel(
            "health-points", "Metric points",
            "Points per second that went to Prometheus' endpoint, and those that failed.",
            "timeseries",
            (
                Prom(_branch(_rate("otelcol_exporter_sent_metric_points_total")), _BY_BRANCH),
                Prom(
                    _branch(_rate("otelcol_exporter_send_failed_metric_points_total")),
                    "failed: " + _BY_BRANCH,
                ),
            ),
            unit="ops", emitters=_NOBODY,
        ),
        Panel(
            "health-series-fill", "Series of derived metrics",
            "Series that the Collector adds up: otelbridge_*, the services' own deltas and, with"
            " the overlay user-metrics, those of users. Each kind has a cap of its own"
            " (OTELBRIDGE_COLLECTOR_METRICS_MAX_SERIES, 50,000 each; …_USER_SERIES), but the"
            " Collector tells their sum only; what a cap left out is beside this.",
            "timeseries",
            (Prom(
                f"sum by (instance) (otelcol_deltatocumulative_streams_tracked{{{_ON}}})",
                _BY_INSTANCE,
            ),),
            unit="short", emitters=_NOBODY, min=0,
        ),
        Panel(
            "health-series-left-out", "Points left out at the cap",
            "Points of the last ten minutes whose series the Collector did not take: tokens and"
            " cost miss them. Counted as the alert counts them.",
            "timeseries",
            (Prom(
                _grown("otelcol_deltatocumulative_datapoints_total", "instance, error", 'error!=""')
                + f' or label_replace(0 * {_KNOWN}, "error", "none", "", "")',
                "{{error}} ({{instance}})",
            ),),
            unit="short", emitters=_NOBODY, thresholds=((0.5, "red"),), min=0,
        ),
        Panel(
            "health-series-overflow", "Spans counted without labels",
            "Share of a service's spans that count in otel_metric_overflow, since it has more"
            " series"
            " than OTELBRIDGE_COLLECTOR_METRICS_SERVICE_SERIES. Sums stay whole, labels are gone.",
            "timeseries",
            (Prom(
                f'sum by (service_name) (rate({_SPANS}{{otel_metric_overflow="true"}}[{_WINDOW}]))'
                f" / sum by (service_name) (rate({_SPANS}[{_WINDOW}]))"
                f" or 0 * sum by (service_name) (rate({_SPANS}[{_WINDOW}]))",
                "{{service_name}}",
            ),),
            unit="percentunit", thresholds=((0.01, "orange"),), min=0, max=1,
        ),
        Panel(
            "health-series-by-service", "Series by service",
            "Series of traces_spanmetrics_calls_total of each service, against the cap of 2,000"
            " that each Collector has: of several the one with the most.",
            "bargauge",
            (Prom(
                f"topk(15, max by (service_name) (count by (service_name, instance) ({_SPANS})))",
                "{{service_name}}", instant=True,
            ),),
            unit="short", thresholds=((1_000, "orange"), (1_900, "red")), min=0,
        ),
    ),
)  # fmt: skip

_PROCESS = Row(
    "Process",
    (
        Panel(
            "health-memory", "Memory",
            "Resident memory and Go's heap. The memory limiter refuses spans above"
            " OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB (512 unless set).",
            "timeseries",
            (
                Prom(f"otelcol_process_memory_rss_bytes{{{_ON}}}", "resident ({{instance}})"),
                Prom(
                    f"otelcol_process_runtime_heap_alloc_bytes{{{_ON}}}", "heap ({{instance}})"
                ),
            ),
            unit="bytes", emitters=_NOBODY, min=0,
        ),
        Panel(
            "health-cpu", "CPU", "Cores in use.",
            "timeseries",
            (Prom(_rate("otelcol_process_cpu_seconds_total", "instance"), _BY_INSTANCE),),
            unit="none", emitters=_NOBODY, min=0,
        ),
        Panel(
            "health-uptime", "Uptime",
            "Since the Collector's last start; totals begin at zero there.",
            "timeseries", (Prom(f"otelcol_process_uptime_seconds_total{{{_ON}}}", _BY_INSTANCE),),
            unit="s", emitters=_NOBODY, min=0,
        ),
        Panel(
            "health-filtered", "Spans taken out on purpose",
            "Spans of the last ten minutes that a filter took out of its branch: `llm_view` what"
            " Langfuse need not have, `invalid_ids` spans without an id, which no backend takes.",
            "timeseries",
            (Prom(
                _grown("otelcol_processor_filter_spans_filtered_total", "instance, filter"),
                "{{filter}} ({{instance}})",
            ),),
            unit="short", emitters=_NOBODY, min=0,
        ),
        Panel(
            "health-processors", "Through the processors",
            "Spans per second into each processor. Where a pipeline thins out, something takes"
            " spans.",
            "timeseries",
            (Prom(
                _rate(
                    "otelcol_processor_incoming_items_total", "processor", 'otel_signal="traces"'
                ),
                "{{processor}}",
            ),),
            unit="ops", emitters=_NOBODY, min=0, width=16,
        ),
    ),
)  # fmt: skip

_REQUESTS = Row(
    "Requests to the backends (metrics level detailed)",
    (
        Panel(
            "health-langfuse-status", "Langfuse's answers",
            "Requests per second to HTTP backends by status: 4xx are final, 429 and 502 to 504"
            " are sent"
            " again, each try counted.",
            "timeseries",
            (Prom(
                _rate(
                    "http_client_request_duration_seconds_count",
                    "instance, server_address, http_response_status_code",
                ),
                "{{http_response_status_code}} {{server_address}} ({{instance}})",
            ),),
            unit="reqps", emitters=_NOBODY, needs=_DETAILED, stack=True,
        ),
        Panel(
            "health-langfuse-latency", "Langfuse's latency",
            "P95 of requests to HTTP backends.",
            "timeseries",
            (Prom(
                "histogram_quantile(0.95, "
                + _rate(
                    "http_client_request_duration_seconds_bucket", "le, instance, server_address"
                )
                + ")",
                "{{server_address}} ({{instance}})",
            ),),
            unit="s", emitters=_NOBODY, needs=_DETAILED, thresholds=((5, "orange"), (25, "red")),
        ),
        Panel(
            "health-tempo-latency", "Tempo's latency",
            "P95 of the calls over gRPC, by their status.",
            "timeseries",
            (Prom(
                "histogram_quantile(0.95, "
                + _rate(
                    "rpc_client_duration_milliseconds_bucket", "le, instance, rpc_grpc_status_code"
                )
                + ")",
                "status {{rpc_grpc_status_code}} ({{instance}})",
            ),),
            unit="ms", emitters=_NOBODY, needs=_DETAILED,
            thresholds=((5_000, "orange"), (25_000, "red")),
        ),
    ),
)  # fmt: skip

DASHBOARD: Final = Dashboard(
    "otelbridge-health",
    "Bridge health",
    "Whether what the Collector accepts arrives: each branch's queue, failures and lag, its series"
    " and its process.",
    _TOP,
    (_METRICS, _PROCESS, _REQUESTS),
    variables=(INSTANCE,),
)
