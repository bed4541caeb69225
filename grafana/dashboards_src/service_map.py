"""The dashboard *Service map*: who calls whom, how fast, and which providers the models are at.

Edges are the Collector's `traces_service_graph_*`, named as Tempo's metrics generator names them,
so that Grafana's node graph finds them. A model call is an edge of type `database` to its provider,
so providers are nodes; so are databases. The series have no environment: the variable Service
chooses edges that begin or end at a service. An edge needs both its spans in one Collector.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    BY_SERVICE,
    ENVIRONMENT,
    SERVICE,
    Column,
    Dashboard,
    Link,
    Panel,
    Prom,
    Row,
    ServiceMap,
    matching,
)

#: With the two variables that this dashboard has; the others' links would keep five.
_TO_TRACES: Final = Link(
    "Traces of these services",
    "/d/otelbridge-traces?${__url_time_range}&${environment:queryparam}&${service:queryparam}",
)
_TOTAL = "traces_service_graph_request_total"
_FAILED = "traces_service_graph_request_failed_total"
_BUCKET = "traces_service_graph_request_{side}_seconds_bucket"
_SPANS = "traces_spanmetrics_calls_total"
_LATENCY = "traces_spanmetrics_latency_bucket"
_EDGE = "{{client}} → {{server}}"
_ERRORS = 'status_code="STATUS_CODE_ERROR"'
#: What a service is asked: spans that begin its work.
_ASKED = f'span_kind=~"SPAN_KIND_SERVER|SPAN_KIND_CONSUMER", {BY_SERVICE}'
#: Emitters whose model calls are spans of kind client, which the Collector makes an edge of.
CLIENTS: Final = ("otelbridge", "otel", "openllmetry")
_MODELS = f'connection_type="database", {matching("client", "service")}'


def _edges(metric: str, window: str, by: str = "client, server") -> str:
    """Rate of the edges that begin or end at a chosen service."""
    begins = f"rate({metric}{{{matching('client', 'service')}}}[{window}])"
    ends = f"rate({metric}{{{matching('server', 'service')}}}[{window}])"
    return f"sum by ({by}) ({begins} or {ends})"


def _share(failed: str, every: str) -> str:
    """Failed of all, zero where nothing failed yet, nothing where nothing was asked."""
    return f"({failed} or 0 * {every}) / ({every} > 0)"


def _models(metric: str, window: str) -> str:
    return f"sum by (client, server) (rate({metric}{{{_MODELS}}}[{window}]))"


def _service(metric: str, more: str = "", window: str = "$__rate_interval") -> str:
    matchers = ", ".join(filter(None, (more, _ASKED)))
    return f"sum by (service_name) (rate({metric}{{{matchers}}}[{window}]))"


_SPAN_RATE = f"sum by (service_name, span_name) (rate({_SPANS}{{{BY_SERVICE}}}[$__range]))"
_FAILED_SPAN_RATE = (
    f"sum by (service_name, span_name) (rate({_SPANS}{{{_ERRORS}, {BY_SERVICE}}}[$__range]))"
)
#: The rows of Operations; all its queries keep to them, or a row would lack cells.
_OPERATIONS = f"topk(50, {_SPAN_RATE} > 0)"


def _of_operations(expr: str) -> str:
    return f"{expr} and on (service_name, span_name) {_OPERATIONS}"


_SERVER = _BUCKET.format(side="server")
_CLIENT = _BUCKET.format(side="client")


def _p95(window: str) -> str:
    return f"histogram_quantile(0.95, {_edges(_SERVER, window, 'le, client, server')})"


_TOP = (
    Panel(
        "services-map", "Service map",
        "Services, the providers of their models and their databases, with requests per second,"
        " mean duration and the share of errors on the rings. It shows all services: the node graph"
        " asks Prometheus by itself and knows no variables. Model calls whose span is not of kind"
        " client (OpenInference, LiteLLM) draw no edge to their provider.",
        "nodeGraph", (ServiceMap(),), links=(_TO_TRACES,), width=24, height=16,
    ),
    Panel(
        "services-edge-rate", "Requests by edge",
        "Requests per second from one service to another or to a provider.",
        "timeseries", (Prom(_edges(_TOTAL, "$__rate_interval"), _EDGE),),
        unit="reqps", links=(_TO_TRACES,),
    ),
    Panel(
        "services-edge-errors", "Errors by edge", "Share of the requests of an edge that failed.",
        "timeseries",
        (Prom(
            _share(_edges(_FAILED, "$__rate_interval"), _edges(_TOTAL, "$__rate_interval")), _EDGE
        ),),
        unit="percentunit", thresholds=((0.05, "red"),), min=0, max=1,
    ),
    Panel(
        "services-edge-latency", "Latency by edge, P95",
        "P95 of the server's span; of a model call, of the call itself.",
        "timeseries",
        (Prom(
            _p95("$__rate_interval"), _EDGE,
        ),),
        unit="s", thresholds=((10, "orange"), (30, "red")),
    ),
    Panel(
        "services-edges", "Edges",
        "Every edge of the chosen time: requests per second, share of errors, P95.",
        "table",
        (
            Prom(_edges(_TOTAL, "$__range"), instant=True, format="table"),
            Prom(
                _share(_edges(_FAILED, "$__range"), _edges(_TOTAL, "$__range")),
                instant=True, format="table",
            ),
            Prom(
                _p95("$__range"),
                instant=True, format="table",
            ),
        ),
        columns=(
            Column("client", "From", width=220),
            Column("server", "To", width=220),
            Column("Value #A", "Requests per second", "reqps"),
            Column("Value #B", "Errors", "percentunit"),
            Column("Value #C", "P95", "s"),
        ),
        links=(_TO_TRACES,), width=24, height=10,
    ),
)  # fmt: skip

_PROVIDERS = Row(
    "Providers and databases",
    (
        Panel(
            "services-provider-rate", "Calls by provider",
            "Requests per second from a service to a provider of models, or to a database; of"
            " model calls those whose span is of kind client.",
            "timeseries", (Prom(_models(_TOTAL, "$__rate_interval"), _EDGE),),
            unit="reqps", emitters=CLIENTS,
        ),
        Panel(
            "services-provider-errors", "Errors by provider",
            "Share of the requests to a provider or database that failed.",
            "timeseries",
            (Prom(
                _share(_models(_FAILED, "$__rate_interval"), _models(_TOTAL, "$__rate_interval")),
                _EDGE,
            ),),
            unit="percentunit", emitters=CLIENTS, thresholds=((0.05, "red"),), min=0, max=1,
        ),
        Panel(
            "services-provider-latency", "Latency by provider, P95",
            "P95 as the calling service saw it.",
            "timeseries",
            (Prom(
                "histogram_quantile(0.95, sum by (le, client, server)"
                f" (rate({_CLIENT}{{{_MODELS}}}[$__rate_interval])))",
                _EDGE,
            ),),
            unit="s", emitters=CLIENTS, thresholds=((10, "orange"), (30, "red")),
        ),
    ),
)  # fmt: skip

_RED = Row(
    "Services",
    (
        Panel(
            "services-rate", "Requests by service",
            "Server and consumer spans per second: what a service was asked.",
            "timeseries", (Prom(_service(_SPANS), "{{service_name}}", exemplars=True),),
            unit="reqps",
        ),
        Panel(
            "services-errors", "Errors by service", "Share of a service's requests that failed.",
            "timeseries",
            (Prom(_share(_service(_SPANS, _ERRORS), _service(_SPANS)), "{{service_name}}"),),
            unit="percentunit", thresholds=((0.05, "red"),), links=(_TO_TRACES,), min=0, max=1,
        ),
        Panel(
            "services-latency", "Latency by service, P95", "P95 of a service's requests.",
            "timeseries",
            (Prom(
                "histogram_quantile(0.95, sum by (le, service_name)"
                f" (rate({_LATENCY}{{{_ASKED}}}[$__rate_interval])))",
                "{{service_name}}", exemplars=True,
            ),),
            unit="s", thresholds=((10, "orange"), (30, "red")),
        ),
        Panel(
            "services-operations", "Operations",
            "The 50 most frequent span names of the chosen services, of all kinds: spans per"
            " second, share of errors, P95. Names beyond the Collector's cap of series are one row"
            " without a name.",
            "table",
            tuple(
                Prom(expr, instant=True, format="table")
                for expr in (
                    _OPERATIONS,
                    _of_operations(_share(_FAILED_SPAN_RATE, _SPAN_RATE)),
                    _of_operations(
                        "histogram_quantile(0.95, sum by (le, service_name, span_name)"
                        f" (rate({_LATENCY}{{{BY_SERVICE}}}[$__range])))"
                    ),
                )
            ),
            columns=(
                Column("service_name", "Service", width=180),
                Column("span_name", "Span", width=300),
                Column("Value #A", "Spans per second", "ops"),
                Column("Value #B", "Errors", "percentunit"),
                Column("Value #C", "P95", "s"),
            ),
            width=24, height=12, sort="Spans per second",
        ),
    ),
)  # fmt: skip

DASHBOARD: Final = Dashboard(
    "otelbridge-services",
    "Service map",
    "Who calls whom: services, model providers and databases, with rate, errors and latency.",
    _TOP,
    (_PROVIDERS, _RED),
    variables=(ENVIRONMENT, SERVICE),
)
