"""Rates, errors, durations, the service graph and the caps of the metrics branch.

Read back from the Prometheus exposition of the real Collector. Bench: `metrics_bench.py`.
"""

from __future__ import annotations

import re

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import semconv
from tests.collector.metrics_bench import (
    CALLS,
    COST,
    DURATION,
    EDGES,
    FIRST_CHUNK,
    LATENCY,
    OPEN_METRICS,
    PER_CALL,
    TOKENS,
    make_call,
    make_span,
    new_trace_id,
    running,
    usage,
)

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]


# -- rates, errors, durations ----------------------------------------------------------------------
def test_red_holds_every_span_whatever_it_lacks(metrics):
    """Spans without tokens, model, operation or attributes at all are counted, errors by type."""
    spans = [
        make_span("GET /", kind=Span.SPAN_KIND_SERVER),
        make_span("chat", make_call()),
        make_span("no operation", {semconv.GEN_AI_REQUEST_MODEL: "m-1"}),
        make_span("answering model only", {semconv.GEN_AI_RESPONSE_MODEL: "m-2"}),
        make_span("failed", make_call(**{semconv.ERROR_TYPE: "timeout"}), error=True),
        make_span(
            "older provider key",
            {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.GEN_AI_SYSTEM: "az"},
        ),
    ]
    metrics.send(*spans, service="red")
    metrics.settle("red", len(spans))
    names = {
        labels["span_name"]: labels for labels, _ in metrics.samples(CALLS, service_name="red")
    }
    assert names.keys() == {span.name for span in spans}
    assert names["GET /"]["span_kind"] == "SPAN_KIND_SERVER"
    assert names["failed"]["status_code"] == "STATUS_CODE_ERROR"
    assert names["failed"]["error_type"] == "timeout"
    assert names["answering model only"]["gen_ai_request_model"] == "m-2"
    assert names["older provider key"]["gen_ai_provider_name"] == "az"
    assert metrics.total(f"{DURATION}_count", service_name="red") == 5
    assert metrics.total(f"{DURATION}_count", service_name="red", error_type="timeout") == 1
    assert (
        metrics.total(f"{DURATION}_count", service_name="red", gen_ai_operation_name="unknown") == 2
    )


def test_spans_without_a_service_name_are_counted(metrics):
    """A resource without service.name, which the connector skips, counts as unknown_service."""
    before = metrics.total(CALLS, service_name="unknown_service")
    metrics.send(make_span("nameless"))
    metrics.wait(lambda: metrics.total(CALLS, service_name="unknown_service") == before + 1)


def test_durations_and_first_chunk_fall_into_their_buckets(metrics):
    """Bucket counts, sum and count of durations and of the time to the first chunk."""
    first = [0.005, 0.05, 0.3, 0.3, 2.0, 700.0]
    durations = [0.02, 0.07, 0.6, 0.6, 3.0, 800.0]
    metrics.send(
        *(
            make_span(
                "chat", make_call(**{semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: f}), seconds=d
            )
            for f, d in zip(first, durations, strict=True)
        ),
        service="times",
    )
    metrics.settle("times", len(first))

    def buckets(name: str) -> dict[float, float]:
        found = metrics.samples(f"{name}_bucket", service_name="times")
        return {float(labels["le"]): value for labels, value in found}

    for name, values in ((FIRST_CHUNK, first), (DURATION, durations), (LATENCY, durations)):
        found = buckets(name)
        assert len(found) == 17
        for bound, count in found.items():
            assert count == sum(value <= bound for value in values), (name, bound)
        assert metrics.total(f"{name}_sum", service_name="times") == pytest.approx(sum(values))
        assert metrics.total(f"{name}_count", service_name="times") == len(values)


def test_tokens_per_call_fall_into_buckets_of_powers_of_four(metrics):
    """The distribution of input tokens of single calls."""
    values = [1, 5, 1024, 1025, 5_000_000]
    metrics.send(*(make_span("c", make_call(**usage(v))) for v in values), service="sizes")
    metrics.settle("sizes", len(values))
    found = metrics.samples(f"{PER_CALL}_bucket", service_name="sizes", gen_ai_token_type="input")
    assert {float(labels["le"]): value for labels, value in found} == {
        **{4.0**power: sum(v <= 4**power for v in values) for power in range(12)},
        float("inf"): 5,
    }


@pytest.mark.parametrize(
    ("resource", "attribute", "expected"),
    [
        ({"deployment__environment__name": "prod"}, None, "prod"),
        ({"deployment__environment": "old"}, None, "old"),
        ({"deployment__environment__name": "prod"}, "staging", "staging"),
        ({}, "staging", "staging"),
        ({}, None, ""),
    ],
)
def test_environment_is_langfuses_else_the_resources(metrics, resource, attribute, expected):
    """langfuse.environment wins over the resource's; the same label on every metric."""
    service = f"env-{len(resource)}-{attribute}-{expected}"
    extra = {semconv.LANGFUSE_ENVIRONMENT: attribute} if attribute else {}
    metrics.send(make_span("c", make_call(**usage(1, 1, 1.0)) | extra), service=service, **resource)
    metrics.settle(service, 1)
    for name in (TOKENS, COST, CALLS, f"{LATENCY}_count", f"{DURATION}_count", f"{PER_CALL}_count"):
        found = metrics.samples(name, service_name=service)
        assert found
        assert {labels.get("deployment_environment_name", "") for labels, _ in found} == {expected}


def test_counters_go_on_over_restarts_and_replicas_of_a_service(metrics):
    """Instances of one service, with ids of their own, grow one series; namespaces stay apart."""
    for instance in range(3):
        metrics.send(
            make_span("chat", make_call(**usage(10, 1, 0.5))),
            service="replicas",
            service__namespace="shop",
            service__instance__id=f"i-{instance}",
            host__name=f"h-{instance}",
        )
    metrics.send(
        make_span("chat", make_call(**usage(1000))), service="replicas", service__namespace="b"
    )
    metrics.settle("replicas", 4)
    ((labels, value),) = metrics.samples(
        TOKENS, service_name="replicas", service_namespace="shop", gen_ai_token_type="input"
    )
    assert value == 30
    assert "instance" not in labels
    assert "job" not in labels
    assert metrics.total(CALLS, service_name="replicas", service_namespace="shop") == 3
    assert len(metrics.samples(CALLS, service_name="replicas", service_namespace="shop")) == 1


def test_long_names_are_cut_and_broken_text_does_not_break_the_exposition(metrics):
    """Labels are bounded, also where the cut goes through a character; the scrape stays whole."""
    name, model = "ü" * 400, "€" * 400
    broken = make_span("xxINVALIDxx", make_call("INVALID"))
    metrics.send(make_span(name, make_call(model, **usage(1))), broken, service="long")
    metrics.settle("long", 2)
    assert metrics.samples(
        CALLS, service_name="long", gen_ai_request_model="ab\ufffd\ufffd\ufffdcd"
    )
    ((labels, _),) = metrics.samples(f"{PER_CALL}_count", service_name="long")
    assert set(labels["gen_ai_request_model"]) == {"€"}
    ((labels, _),) = [s for s in metrics.samples(CALLS, service_name="long") if "ü" in str(s)]
    assert len(labels["span_name"].encode()) <= 200
    assert labels["span_name"] == "ü" * len(labels["span_name"])
    assert len(labels["gen_ai_request_model"].encode()) <= 200
    assert labels["gen_ai_request_model"] == "€" * len(labels["gen_ai_request_model"])


# -- exemplars, service graph, caps ----------------------------------------------------------------
def test_exemplars_carry_trace_and_span_ids_in_open_metrics(metrics):
    """With the OpenMetrics Accept header, calls and latency name a trace that was counted there."""
    seen: set[str] = set()

    def found() -> bool:
        span = make_span("exemplary", make_call())
        seen.add(span.trace_id.hex())
        metrics.send(span, service="exemplar")
        lines = [
            line
            for line in metrics.scrape(OPEN_METRICS).splitlines()
            if 'service_name="exemplar"' in line and "trace_id=" in line
        ]
        ids = {match for line in lines for match in re.findall(r'trace_id="([0-9a-f]{32})"', line)}
        assert ids <= seen
        kinds = {line.partition("{")[0] for line in lines}
        return {CALLS, f"{LATENCY}_bucket"} <= kinds

    metrics.wait(found)
    assert "trace_id=" not in metrics.scrape()


def test_service_graph_counts_each_edge_once_and_names_the_provider(metrics):
    """Client and server spans from separate requests pair up; failures are counted apart."""
    for index in range(5):
        trace_id = new_trace_id()
        client = make_span("GET", trace_id=trace_id)
        server = make_span(
            "GET /",
            kind=Span.SPAN_KIND_SERVER,
            trace_id=trace_id,
            parent=client.span_id,
            error=index == 0,
        )
        model_call = make_span("chat", make_call(), trace_id=trace_id, parent=server.span_id)
        metrics.send(client, service="edge-a")
        metrics.send(server, model_call, service="edge-b")
    metrics.wait(lambda: metrics.total(EDGES, client="edge-b", server="openai") == 5)
    metrics.wait(lambda: metrics.total(EDGES, client="edge-a", server="edge-b") == 5)
    failed = "traces_service_graph_request_failed_total"
    assert metrics.total(failed, client="edge-a", server="edge-b") == 1
    seconds = "traces_service_graph_request_server_seconds_count"
    assert metrics.total(seconds, client="edge-a", server="edge-b") == 5


def test_cap_of_series_holds_for_span_names_without_end(collector_binary):
    """10,000 span names give the cap's number of series and an overflow; no call goes uncounted."""
    with running(collector_binary, OTELBRIDGE_COLLECTOR_METRICS_SERVICE_SERIES="100") as metrics:
        for start in range(0, 10_000, 1000):
            spans = [make_span(f"GET /{n}") for n in range(start, start + 1000)]
            metrics.send(*spans, service="capped")
        metrics.wait(lambda: metrics.total(CALLS, service_name="capped") == 10_000)
        samples = metrics.samples(CALLS, service_name="capped")
        assert len(samples) == 101
        ((_, overflow),) = metrics.samples(
            CALLS, service_name="capped", otel_metric_overflow="true"
        )
        assert overflow == 9_900


def test_cap_of_token_series_holds_for_model_names_without_end(collector_binary):
    """Model names as free text: series up to the cap, what is beyond is counted as dropped."""
    with running(collector_binary, OTELBRIDGE_COLLECTOR_METRICS_MAX_SERIES="300") as metrics:
        for start in range(0, 3000, 500):
            spans = [
                make_span("chat", make_call(f"m-{n}", **usage(1)))
                for n in range(start, start + 500)
            ]
            metrics.send(*spans, service="models")
        metrics.wait(lambda: metrics.total(f"{LATENCY}_count", service_name="models") == 3000)
        metrics.wait(lambda: metrics.own("otelcol_deltatocumulative_datapoints") >= 9000)
        names = (TOKENS, f"{PER_CALL}_count", f"{DURATION}_count")
        assert 0 < sum(len(metrics.samples(name)) for name in names) <= 300


def test_these_spans_made_the_branch_log_no_errors(metrics):
    """No statement or connector of this branch failed on what the tests above sent."""
    assert metrics.problems() == []
