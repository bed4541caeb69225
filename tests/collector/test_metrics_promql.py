"""What PromQL answers: a real Prometheus reads the metrics of the real Collector.

A counter of the example gateway, the queries of docs/metrics.md, exemplars, and remote write.
Skipped with the reason where no `prometheus` binary is installed. Bench: `metrics_bench.py`,
`prometheus_bench.py`.
"""

from __future__ import annotations

import http.client
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import semconv
from otelbridge.demo.processes import ProcessGroup, free_ports
from tests.collector.metrics_bench import (
    CALLS,
    COLLECTOR,
    COST,
    LATENCY,
    TOKENS,
    Metrics,
    make_call,
    make_span,
    new_trace_id,
    running,
    usage,
)
from tests.collector.prometheus_bench import Prometheus

pytestmark = [pytest.mark.collector, pytest.mark.timeout(150)]

EXAMPLES = COLLECTOR.parent / "examples" / "services"
#: The example gateway as a program of its own, with a counter that its author added.
SERVICE = """
import sys
from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from flask import request

reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=200)
metrics.set_meter_provider(MeterProvider([reader]))
sys.path.insert(0, sys.argv[1])
import gateway

questions = metrics.get_meter("shop").create_counter("shop.questions", unit="{question}")

@gateway.app.after_request
def count(response):
    questions.add(1, {"path": request.path, "status": response.status_code})
    return response

gateway.app.run(port=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def prometheus(metrics: Metrics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the shared Collector."""
    with Prometheus(tmp_path_factory.mktemp("prometheus"), target=metrics.address) as running_one:
        yield running_one


def visit(port: int, path: str) -> int:
    """The status of one GET request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_a_custom_counter_of_a_demo_service_is_read_back_and_survives_its_restart(
    metrics: Metrics, prometheus: Prometheus, tmp_path: Path
):
    """The example gateway counts its pages by the SDK; PromQL returns the sum, restart included."""
    promql = "sum by (path) (shop_questions_total{service_name='counting-gateway'})"
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": "counting-gateway",
        "OTEL_EXPORTER_OTLP_ENDPOINT": metrics.collector.otlp_http_url,
        "PYTHONPATH": str(COLLECTOR.parent),
    }

    def serve(name: str, instance: str, visits: int) -> ProcessGroup:
        folder = tmp_path / name
        folder.mkdir()
        group = ProcessGroup(folder)
        described = {"OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance}"}
        command = [sys.executable, "-c", SERVICE, str(EXAMPLES), str(port)]
        child = group.start("gateway", command, environment | described)
        group.wait_listening(child, "127.0.0.1", port, 40)
        assert [visit(port, "/healthz") for _ in range(visits)] == [200] * visits
        return group

    with serve("first", "one", 5):
        assert visit(port, "/nowhere") == 404
        expected = {("/healthz",): 5, ("/nowhere",): 1}
        prometheus.wait(lambda: prometheus.query(promql) == expected, "the counter")
    with serve("second", "two", 3):  # an instance of its own: its total begins at zero
        expected = {("/healthz",): 8, ("/nowhere",): 1}
        prometheus.wait(lambda: prometheus.query(promql) == expected, "the counter after a restart")
    by_status = "sum by (status) (shop_questions_total{service_name='counting-gateway'})"
    assert prometheus.query(by_status) == {("200",): 8, ("404",): 1}


def test_totals_over_a_restart_of_an_emitter_are_read_as_one_growing_series(
    metrics: Metrics, prometheus: Prometheus
):
    """Token totals of a service whose process was replaced go on; PromQL sees no reset."""
    selector = f"{TOKENS}{{service_name='reborn',gen_ai_token_type='input'}}"
    for instance, total in (("a", 10), ("b", 20), ("c", 30)):
        metrics.send(
            make_span("chat", make_call(**usage(10))),
            service="reborn",
            service__instance__id=instance,
        )
        prometheus.wait(
            lambda total=total: prometheus.query(f"sum({selector})") == {(): total}, "the total"
        )
    assert prometheus.query(f"count({selector})") == {(): 1}
    assert prometheus.query(f"sum(resets({selector}[5m]))") == {(): 0}


def documented_queries() -> list[str]:
    """The PromQL of docs/metrics.md, one query a line."""
    text = (COLLECTOR.parent / "docs" / "metrics.md").read_text("utf-8")
    blocks = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    lines = [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def exchange() -> tuple[list[Span], list[Span]]:
    """Spans of a client service and of the one that it calls, with a model call and a failure."""
    trace_id = new_trace_id()
    client = make_span("GET", trace_id=trace_id)
    kind = Span.SPAN_KIND_SERVER
    server = make_span("GET /ask", kind=kind, trace_id=trace_id, parent=client.span_id)
    parts: dict[str, Any] = {
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 40,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 0.25,
    }
    call = make_span("chat", make_call(**usage(100, 20, 0.25)) | parts)
    failed = make_span("chat", make_call(**{semconv.ERROR_TYPE: "timeout"}), error=True)
    return [client, make_span("wait", error=True)], [server, call, failed]


def test_the_documented_queries_are_answered(metrics: Metrics, prometheus: Prometheus):
    """Each PromQL of the docs is understood and has a value above zero while requests come."""
    queries = documented_queries()
    assert len(queries) >= 8
    pending = set(queries)

    def all_answered() -> bool:
        at_gateway, at_shop = exchange()
        metrics.send(*at_gateway, service="demo-gateway")
        metrics.send(*at_shop, service="demo-shop")
        pending.difference_update([q for q in pending if any(prometheus.query(q).values())])
        return not pending

    prometheus.wait(all_answered, "the documented queries", 90)


def test_exemplars_lead_from_a_metric_to_its_trace(metrics: Metrics, prometheus: Prometheus):
    """Prometheus stores exemplars of calls and latency; they name traces that were sent."""
    sent: set[str] = set()
    selectors = [f'{name}{{service_name="pointing"}}' for name in (CALLS, f"{LATENCY}_bucket")]

    def found() -> bool:
        span = make_span("chat", make_call())
        sent.add(span.trace_id.hex())
        metrics.send(span, service="pointing")
        return all(prometheus.exemplars(selector) for selector in selectors)

    prometheus.wait(found, "exemplars", 90)
    for selector in selectors:
        labels = [exemplar["labels"] for exemplar in prometheus.exemplars(selector)]
        assert {label["trace_id"] for label in labels} <= sent


def test_remote_write_reaches_a_real_prometheus(collector_binary: Path, tmp_path: Path):
    """Without any scrape: pushed totals are exact, and carry the Collector's name."""
    with (
        Prometheus(tmp_path) as prometheus,
        running(
            collector_binary,
            ("remote-write",),
            OTELBRIDGE_COLLECTOR_REMOTE_WRITE_URL=prometheus.remote_write_url,
            OTELBRIDGE_COLLECTOR_INSTANCE="pusher-1",
        ) as metrics,
    ):
        for sent in range(1, 4):  # one after the other: see the next test
            call = make_span("chat", make_call(**usage(7, 2, 0.25)))
            metrics.send(call, service="pushed")
            totals = {
                f"sum by (collector) ({TOKENS}{{service_name='pushed'}})": {
                    ("pusher-1",): 9 * sent
                },
                f"sum({COST}{{service_name='pushed'}})": {(): 0.25 * sent},
                f"sum({CALLS}{{service_name='pushed'}})": {(): sent},
            }
            for promql, expected in totals.items():
                prometheus.wait(lambda q=promql, e=expected: prometheus.query(q) == e, promql, 60)


def test_remote_write_is_exact_after_a_burst(collector_binary: Path, tmp_path: Path):
    """Pushed totals equal the exposition's once everything is sent, without another call."""
    with (
        Prometheus(tmp_path) as prometheus,
        running(
            collector_binary,
            ("remote-write",),
            OTELBRIDGE_COLLECTOR_REMOTE_WRITE_URL=prometheus.remote_write_url,
        ) as metrics,
    ):
        for _ in range(60):
            spans = [make_span("chat", make_call(**usage(7, 2, 0.25))) for _ in range(5)]
            metrics.send(*spans, service="burst")
        metrics.wait(lambda: metrics.total(TOKENS, service_name="burst") == 2700)
        promql = f"sum({TOKENS}{{service_name='burst'}})"
        prometheus.wait(lambda: prometheus.query(promql) == {(): 2700}, promql, 8)
