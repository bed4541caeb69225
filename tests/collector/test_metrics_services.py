"""The services' own OTLP metrics in the exposition of the real Collector.

Their labels are bounded, they cannot write into the derived metrics, differences become totals.
Read back by PromQL: `test_metrics_promql.py`. Bench: `metrics_bench.py`.
"""

from __future__ import annotations

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, NumberDataPoint

from tests.collector.metrics_bench import (
    CALLS,
    TOKENS,
    make_call,
    make_counter,
    make_span,
    usage,
)

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]


def test_a_services_own_metrics_are_exposed_with_bounded_resource_labels(metrics):
    """Name, namespace, environment and instance become labels, the rest of the resource not."""
    resource = {
        "service__name": "shop",
        "service__namespace": "eu",
        "deployment__environment__name": "prod",
        "service__instance__id": "i-1",
        "process__pid": "77",
        "process__command_line": "serve --api-key=zzz",
    }
    assert metrics.send_metrics(make_counter("orders.placed", 5, kind="web"), **resource) == 200
    metrics.wait(lambda: metrics.samples("orders_placed_total"))
    ((labels, value),) = metrics.samples("orders_placed_total")
    assert value == 5
    labels = {key: value for key, value in labels.items() if not key.startswith("otel_scope")}
    assert labels == {
        "kind": "web",
        "service_name": "shop",
        "service_namespace": "eu",
        "deployment_environment_name": "prod",
        "job": "eu/shop",
        "instance": "i-1",
    }
    assert "zzz" not in metrics.scrape()


def test_replicas_without_an_instance_id_are_told_apart_by_host_and_process(metrics):
    """Two processes that report the same counter must not overwrite each other."""
    for pid in ("1", "2"):
        resource = {"service__name": "twins", "host__name": "h", "process__pid": pid}
        metrics.send_metrics(make_counter("twin.work", float(pid) * 10), **resource)
    metrics.wait(lambda: metrics.total("twin_work_total") == 30)
    found = {labels["instance"] for labels, _ in metrics.samples("twin_work_total")}
    assert found == {"h-1", "h-2"}


def test_deltas_of_a_service_become_totals(metrics):
    """A service that sends differences is exposed with their sum."""
    for _ in range(4):
        metrics.send_metrics(
            make_counter("delta.jobs", 2.5, delta=True),
            service__name="d",
            service__instance__id="1",
        )
    metrics.wait(lambda: metrics.total("delta_jobs_total") == 10)


def test_a_service_cannot_write_into_the_derived_metrics_or_break_the_exposition(metrics):
    """Names of this branch are refused; clashing types, labels and broken text stay harmless."""
    metrics.send(make_span("chat", make_call(**usage(7))), service="guarded")
    metrics.settle("guarded", 1)
    broken = make_counter("broken.text", 1, note="xxINVALIDxx")
    clash = Metric(
        name="clash", gauge=Gauge(data_points=[NumberDataPoint(as_int=1, time_unix_nano=1)])
    )
    names = ("otelbridge.gen_ai.tokens", "otelbridge_gen_ai_cost_usd", "traces.spanmetrics.calls")
    assert (
        metrics.send_metrics(
            *(make_counter(name, 1e6, service_name="guarded") for name in names),
            make_counter("clash_total", 1, unit=""),
            clash,
            broken,
            make_counter("twice", 1, **{"a.b": "1", "a_b": "2"}),
            make_counter("1 bad näme!", 1),
            make_counter("last.one", 1),
            service__name="guarded",
        )
        == 200
    )
    metrics.wait(lambda: metrics.samples("last_one_total"))
    assert metrics.total(TOKENS, service_name="guarded") == 7
    assert metrics.total(CALLS, service_name="guarded") == 1
    assert metrics.samples("broken_text_total")
    assert metrics.samples("twice_total") == []  # two keys of one label: that metric alone is lost
    assert len(metrics.samples("clash_total")) == 1


def test_two_scopes_of_a_service_may_use_one_name(metrics):
    """The scope is a label, so that equal names of two libraries do not collide."""
    for scope in ("lib-a", "lib-b"):
        metrics.send_metrics(make_counter("scoped", 3), scope=scope, service__name="scopes")
    metrics.wait(lambda: metrics.total("scoped_total") == 6)
