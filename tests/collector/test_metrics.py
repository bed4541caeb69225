"""The metrics branch of the real Collector, read back from its Prometheus exposition.

Each test sends under service names of its own, so that one Collector serves most of them. The
overlays (users, remote write, OTLP metrics, logs) run in Collectors of their own, against a
stand-in that takes HTTP. PromQL is asked of a real Prometheus where its binary is installed.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource as SdkResource

from otelbridge import masks, policy, semconv
from otelbridge.collector import CollectorProcess

pytestmark = pytest.mark.collector

COLLECTOR = Path(__file__).resolve().parents[2] / "collector"
OVERLAYS = COLLECTOR / "overlays"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
FLUSH = "200ms"
_SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*?)\})? (?P<value>\S+)(?P<rest>.*)$"
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ids = itertools.count(1)

TOKENS = "otelbridge_gen_ai_tokens_total"
PARTS = "otelbridge_gen_ai_tokens_of_which_total"
COST = "otelbridge_gen_ai_cost_usd_total"
CALLS = "traces_spanmetrics_calls_total"
LATENCY = "traces_spanmetrics_latency"
DURATION = "otelbridge_gen_ai_operation_duration_seconds"
FIRST_CHUNK = "otelbridge_gen_ai_time_to_first_chunk_seconds"
PER_CALL = "otelbridge_gen_ai_tokens_per_call"
EDGES = "traces_service_graph_request_total"


# -- making and sending ----------------------------------------------------------------------------
def _values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
    return [
        KeyValue(key=key, value=AnyValue(**{kinds[type(value)]: value}))
        for key, value in attributes.items()
    ]


def make_span(
    name: str = "work",
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: int = Span.SPAN_KIND_CLIENT,
    seconds: float = 0.1,
    trace_id: bytes | None = None,
    parent: bytes = b"",
    error: bool = False,
) -> Span:
    """A finished span of this length."""
    start_ns = time.time_ns() - 10_000_000_000
    return Span(
        trace_id=trace_id or random.randbytes(16),
        span_id=next(_ids).to_bytes(8, "big"),
        parent_span_id=parent,
        name=name,
        kind=kind,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + int(seconds * 1e9),
        attributes=_values(attributes or {}),
        status=Status(code=Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET),
    )


def make_call(model: str = "gpt-4o", operation: str = "chat", **attributes: Any) -> dict[str, Any]:
    """Attributes of a model call; keyword names are the last parts of usage keys."""
    return {
        semconv.GEN_AI_OPERATION_NAME: operation,
        semconv.GEN_AI_REQUEST_MODEL: model,
        semconv.GEN_AI_PROVIDER_NAME: "openai",
        **attributes,
    }


def usage(input_tokens: Any = None, output_tokens: Any = None, cost: Any = None) -> dict[str, Any]:
    """The usage attributes that are given."""
    given = {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: output_tokens,
        semconv.GEN_AI_USAGE_COST: cost,
    }
    return {key: value for key, value in given.items() if value is not None}


class Metrics:
    """A running Collector with the metrics branch: sends to it and scrapes it."""

    def __init__(self, collector: CollectorProcess, address: str) -> None:
        self.collector = collector
        self.address = address

    def post(self, path: str, message: Any) -> int:
        """Send one OTLP/HTTP request; the status. The text INVALID leaves as invalid UTF-8."""
        host = self.collector.otlp_http_url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            body = message.SerializeToString().replace(b"INVALID", b"ab\xff\xfe\xc3cd")
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def send(self, *spans: Span, service: str = "", **resource: str) -> None:
        """Send spans of one service in one acknowledged request."""
        described = {"service.name": service} if service else {}
        described |= {key.replace("__", "."): value for key, value in resource.items()}
        request = ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(
                    resource=Resource(attributes=_values(described)),
                    scope_spans=[ScopeSpans(spans=spans)],
                )
            ]
        )
        assert self.post("/v1/traces", request) == 200

    def send_metrics(self, *metrics: Metric, scope: str = "app", **resource: str) -> int:
        """Send metrics of one resource; the status of the answer."""
        described = {key.replace("__", "."): value for key, value in resource.items()}
        request = ExportMetricsServiceRequest(
            resource_metrics=[
                ResourceMetrics(
                    resource=Resource(attributes=_values(described)),
                    scope_metrics=[
                        ScopeMetrics(scope=InstrumentationScope(name=scope), metrics=metrics)
                    ],
                )
            ]
        )
        return self.post("/v1/metrics", request)

    def scrape(self, accept: str = "text/plain") -> str:
        """The exposition, as Prometheus would get it."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", "/metrics", headers={"Accept": accept})
            answer = connection.getresponse()
            body = answer.read().decode("utf-8")
            assert answer.status == 200, body
            return body
        finally:
            connection.close()

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of this name whose labels include these."""
        found = []
        for line in self.scrape().splitlines():
            if not line.startswith((name + "{", name + " ")):
                continue
            matched = _SAMPLE.match(line)
            assert matched, line
            have = dict(_LABEL.findall(matched["labels"] or ""))
            if all(have.get(key, "") == value for key, value in labels.items()):
                found.append((have, float(matched["value"])))
        return found

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of this name whose labels include these."""
        return sum(value for _, value in self.samples(name, **labels))

    def wait(self, predicate: Callable[[], Any], timeout_seconds: float = 10.0) -> None:
        """Return once the predicate is true; fail with the Collector's log at the deadline."""
        deadline = time.monotonic() + timeout_seconds
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"not true in time; log:\n{self.collector.log_tail(6)}")
            time.sleep(0.05)

    def settle(self, service: str, spans: int) -> None:
        """Wait until this many spans of a service were counted and the flush after that is out."""
        self.wait(lambda: self.total(CALLS, service_name=service) >= spans)
        done = f"settled-{next(_ids)}"
        self.send(make_span("settled", make_call(**usage(1))), service=done)
        self.wait(lambda: self.total(TOKENS, service_name=done) == 1)
        assert self.total(CALLS, service_name=service) == spans

    def own(self, name: str) -> float:
        """A counter of the Collector itself."""
        address, _, path = self.collector.metrics_url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/" + path)
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith(name))


# -- starting --------------------------------------------------------------------------------------
def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Maps merge key by key, lists are replaced: as the Collector does with several --config."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _written(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def running(binary: Path, overlays: tuple[str, ...] = (), **environment: str) -> Iterator[Metrics]:
    """The Collector without Langfuse, with these overlays and variables."""
    address = _free_address()
    config = yaml.safe_load((COLLECTOR / "config.no-langfuse.yaml").read_text("utf-8"))
    for name in overlays:
        config = _merge(config, yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text("utf-8")))
    with (
        tempfile.TemporaryDirectory() as folder,
        CollectorProcess(
            binary,
            tempo_endpoint=_free_address(),  # nothing listens: metrics do not depend on it
            config=_written(Path(folder) / "config.yaml", config),
            environment={
                "OTELBRIDGE_COLLECTOR_PROMETHEUS_ENDPOINT": address,
                "OTELBRIDGE_COLLECTOR_METRICS_FLUSH": FLUSH,
                **environment,
            },
        ) as collector,
    ):
        yield Metrics(collector, address)


@pytest.fixture(scope="module")
def metrics(collector_binary: Path) -> Iterator[Metrics]:
    """One Collector for all tests that need no setting of their own."""
    with running(
        collector_binary, OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES="llm-gw|other"
    ) as m:
        yield m


# -- tokens and cost -------------------------------------------------------------------------------
def test_tokens_and_cost_by_model_are_exact_over_services_batches_and_parallel_senders(metrics):
    """Sums over 4 services, 3 models and 200 requests from 8 threads equal what was sent."""
    rng = random.Random(7)
    services = ["exact-a", "exact-b", "exact-c", "exact-d"]
    models = ["gpt-4o", "claude-sonnet-4", "text-embedding-3-small"]
    expected: Counter[tuple[str, str, str]] = Counter()
    costs: dict[tuple[str, str], float] = defaultdict(float)
    counts: Counter[tuple[str, str]] = Counter()
    batches = []
    for _ in range(200):
        service, spans = rng.choice(services), []
        for _ in range(rng.randint(1, 20)):
            model, tokens_in, tokens_out = (
                rng.choice(models),
                rng.randint(0, 9000),
                rng.randint(0, 900),
            )
            cost = rng.randint(0, 1000) / 1024  # sums of these are exact in binary
            spans.append(make_span("call", make_call(model, **usage(tokens_in, tokens_out, cost))))
            expected[service, model, "input"] += tokens_in
            expected[service, model, "output"] += tokens_out
            costs[service, model] += cost
            counts[service, model] += 1
        batches.append((service, spans))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda batch: metrics.send(*batch[1], service=batch[0]), batches))
    for service in services:
        metrics.settle(service, sum(n for (s, _), n in counts.items() if s == service))
    for (service, model, kind), tokens in expected.items():
        labels = {"service_name": service, "gen_ai_request_model": model}
        assert metrics.total(TOKENS, gen_ai_token_type=kind, **labels) == tokens
        assert metrics.total(f"{PER_CALL}_sum", gen_ai_token_type=kind, **labels) == tokens
        assert metrics.total(COST, **labels) == costs[service, model]
        assert metrics.total(f"{DURATION}_count", **labels) == counts[service, model]
        assert metrics.total(f"{LATENCY}_count", **labels) == counts[service, model]
        assert metrics.total(CALLS, **labels) == counts[service, model]


def test_only_calls_of_models_count_for_tokens_and_cost(metrics):
    """Agents, workflows, tools and fetched answers repeat calls, a cache spends nothing."""
    spent = usage(100, 10, 0.5)
    wrappers = [
        "invoke_agent",
        "create_agent",
        "invoke_workflow",
        "plan",
        "execute_tool",
        "fetch_response",
    ]
    spans = [make_span(op, make_call("m", op, **spent)) for op in wrappers]
    spans.append(make_span("cached", make_call("m", **spent) | {semconv.CACHED: True}))
    counted = ["chat", "text_completion", "generate_content", "embeddings", "something_new"]
    spans += [make_span(op, make_call("m", op, **spent)) for op in counted]
    metrics.send(*spans, service="wrap")
    metrics.settle("wrap", len(spans))
    assert metrics.total(TOKENS, service_name="wrap", gen_ai_token_type="input") == 100 * len(
        counted
    )
    assert metrics.total(TOKENS, service_name="wrap", gen_ai_token_type="output") == 10 * len(
        counted
    )
    assert metrics.total(COST, service_name="wrap") == 0.5 * len(counted)
    assert metrics.total(f"{DURATION}_count", service_name="wrap") == len(spans)
    assert metrics.total(CALLS, service_name="wrap") == len(spans)


def test_spans_of_a_service_named_as_gateway_count_in_red_only(metrics):
    """What a gateway repeats of its clients' calls is left out of tokens and cost by its name."""
    for service in ("llm-gw", "llm-gw-client"):
        metrics.send(make_span("chat", make_call(**usage(100, 10, 0.25))), service=service)
        metrics.settle(service, 1)
    assert metrics.total(COST, service_name="llm-gw-client") == 0.25
    assert metrics.total(TOKENS, service_name="llm-gw-client") == 110
    assert metrics.samples(TOKENS, service_name="llm-gw") == []
    assert metrics.samples(COST, service_name="llm-gw") == []
    assert metrics.total(f"{DURATION}_count", service_name="llm-gw") == 1


def test_spans_outside_the_llm_view_count_all_the_same(metrics):
    """Metrics are taken before the filter of the LLM view: keep=false changes nothing."""
    call = make_call(**usage(5, 6, 0.125)) | {semconv.LLM_KEEP: False}
    metrics.send(
        make_span("chat", call), make_span("GET /", {semconv.LLM_KEEP: False}), service="unkept"
    )
    metrics.settle("unkept", 2)
    assert metrics.total(TOKENS, service_name="unkept") == 11
    assert metrics.total(COST, service_name="unkept") == 0.125


def test_cached_and_reasoning_tokens_stand_apart_from_the_totals(metrics):
    """Parts have a metric of their own, so that no sum counts them twice; both names of a write."""
    parts = {
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 40,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: 30,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 7,
    }
    older = {semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 3}
    metrics.send(
        make_span("a", make_call(**usage(100, 10)) | parts),
        make_span("b", make_call(**usage(10, 1)) | older),
        service="parts",
    )
    metrics.settle("parts", 2)
    assert metrics.total(TOKENS, service_name="parts") == 121
    found = {at["gen_ai_token_type"]: v for at, v in metrics.samples(PARTS, service_name="parts")}
    assert found == {"cache_read": 40, "cache_write": 33, "reasoning": 7}


@pytest.mark.parametrize(
    ("value", "counted"),
    [("12", 12), (12.0, 12), ("many", None), (-5, None), (2**62, None), ("", None)],
)
def test_numbers_of_a_wrong_type_count_or_are_left_out_and_spoil_nothing(metrics, value, counted):
    """A number as text counts; what is none, negative or absurd is left out of that metric only."""
    service = f"odd-{value}"
    metrics.send(
        make_span("a", make_call(**usage(value, 1, 0.5))),
        make_span("b", make_call(**usage(100, 1, 0.5))),
        service=service,
    )
    metrics.settle(service, 2)
    found = metrics.total(TOKENS, service_name=service, gen_ai_token_type="input")
    assert found == 100 + (counted or 0)
    assert metrics.total(TOKENS, service_name=service, gen_ai_token_type="output") == 2
    assert metrics.total(COST, service_name=service) == 1.0


@pytest.mark.parametrize(
    ("value", "counted"),
    [("0.25", 0.25), (1, 1.0), (float("nan"), 0), (float("inf"), 0), (-0.5, 0), ("free", 0)],
)
def test_cost_of_a_wrong_type_counts_or_is_left_out(metrics, value, counted):
    """An integer or a number as text is a cost; NaN, infinity and less than zero are not."""
    service = f"cost-{value}"
    metrics.send(
        make_span("a", make_call(**usage(1, 1, value))),
        make_span("b", make_call(**usage(1, 1, 0.5))),
        service=service,
    )
    metrics.settle(service, 2)
    assert metrics.total(COST, service_name=service) == 0.5 + counted


def test_no_attribute_of_an_odd_type_refuses_a_request(metrics):
    """Each key that the branch reads, alone, with a value of each type, and odd times."""
    keys = [
        semconv.GEN_AI_USAGE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
        semconv.GEN_AI_USAGE_COST,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        semconv.GEN_AI_OPERATION_NAME,
        semconv.GEN_AI_PROVIDER_NAME,
        semconv.GEN_AI_REQUEST_MODEL,
        semconv.ERROR_TYPE,
        semconv.LANGFUSE_ENVIRONMENT,
        semconv.CACHED,
        semconv.USER_ID,
    ]
    values = ["given", "", "7", "-1", 7, -7, 2**63 - 1, 0.5, -0.5, 1e300, True, "x" * 1000]
    spans = [make_span("odd", make_call() | {key: value}) for key in keys for value in values]
    spans += [make_span("odd", {key: value}) for key in keys for value in values]
    for start, end in ((0, 0), (5, 0), (0, 2**63 - 1), (2**64 - 1, 0), (0, 2**64 - 1)):
        spans.append(make_span("odd", make_call()))
        spans[-1].start_time_unix_nano, spans[-1].end_time_unix_nano = start, end
    metrics.send(*spans, service="odd")
    metrics.settle("odd", len(spans))


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
        trace_id = random.randbytes(16)
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


# -- metrics of the services -----------------------------------------------------------------------
def make_counter(
    name: str, value: float, *, delta: bool = False, unit: str = "1", **labels: str
) -> Metric:
    """A monotonic sum with one point."""
    temporality = (
        AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
        if delta
        else AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    point = NumberDataPoint(
        as_double=value, time_unix_nano=time.time_ns(), attributes=_values(labels)
    )
    return Metric(
        name=name,
        unit=unit,
        sum=Sum(data_points=[point], aggregation_temporality=temporality, is_monotonic=True),
    )


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


# -- PromQL ----------------------------------------------------------------------------------------
@contextmanager
def prometheus(
    folder: Path, target: str
) -> Iterator[Callable[[str], dict[tuple[str, ...], float]]]:
    """A real Prometheus on loopback that scrapes the target each second; gives `query(promql)`."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus binary: `apt-get install prometheus` (Debian) provides one")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": "otelbridge",
                "honor_labels": True,
                "static_configs": [{"targets": [target]}],
            }
        ],
    }
    address = _free_address()
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(
        [
            binary,
            f"--config.file={_written(folder / 'prometheus.yaml', config)}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )

    def query(promql: str) -> dict[tuple[str, ...], float]:
        connection = http.client.HTTPConnection(address, timeout=5)
        try:
            path = "/api/v1/query?" + urllib.parse.urlencode({"query": promql})
            connection.request("GET", path)
            answer = json.loads(connection.getresponse().read())
        except (OSError, json.JSONDecodeError):
            return {}  # not up yet
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return {
            tuple(sorted(result["metric"].values())): float(result["value"][1])
            for result in answer["data"]["result"]
        }

    try:
        yield query
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def documented_queries() -> list[str]:
    """The PromQL of docs/metrics.md, one query a line."""
    text = (COLLECTOR.parent / "docs" / "metrics.md").read_text("utf-8")
    blocks = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    lines = [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_a_demo_services_counter_and_the_documented_queries_are_answered_by_prometheus(
    metrics, tmp_path
):
    """A counter of the SDK, and each PromQL of the docs, asked of a real Prometheus."""
    with prometheus(tmp_path, metrics.address) as query:
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{metrics.collector.otlp_http_url}/v1/metrics")
        )
        resource = SdkResource({"service.name": "demo-shop", "service.instance.id": "one"})
        provider = MeterProvider([reader], resource=resource)
        orders = provider.get_meter("demo").create_counter("demo.orders", unit="{order}")
        orders.add(3, {"kind": "web"})
        orders.add(4, {"kind": "app"})
        provider.force_flush()
        promql = "sum by (kind) (demo_orders_total{service_name='demo-shop'})"
        metrics.wait(lambda: query(promql) == {("web",): 3, ("app",): 4}, 30)
        provider.shutdown()

        queries = documented_queries()
        assert len(queries) >= 8
        pending = set(queries)

        def all_answered() -> bool:
            trace_id = random.randbytes(16)
            client = make_span("GET", trace_id=trace_id)
            server = make_span(
                "GET /ask", kind=Span.SPAN_KIND_SERVER, trace_id=trace_id, parent=client.span_id
            )
            metrics.send(client, make_span("wait", error=True), service="demo-gateway")
            parts = {
                semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 40,
                semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 0.25,
                semconv.USER_ID: "alice",
            }
            call = make_call(**usage(100, 20, 0.25)) | parts
            failed = make_call(**{semconv.ERROR_TYPE: "timeout"})
            metrics.send(
                server,
                make_span("chat", call),
                make_span("chat", failed, error=True),
                service="demo-shop",
            )
            pending.difference_update([q for q in pending if any(query(q).values())])
            return not pending

        deadline = time.monotonic() + 40
        while not all_answered():
            assert time.monotonic() < deadline, f"no answer to {sorted(pending)}"
            time.sleep(0.5)


# -- overlays --------------------------------------------------------------------------------------
class HttpSink:
    """Takes any POST on loopback, answers 200 and keeps path, headers and unpacked body."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {key.lower(): value for key, value in self.headers.items()}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.requests.append((self.path, headers, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def unsnap(packed: bytes) -> bytes:
    """A snappy block, unpacked (format_description.txt of google/snappy)."""
    position = next(index for index, byte in enumerate(packed) if byte < 128) + 1  # the length
    out = bytearray()
    while position < len(packed):
        tag, position = packed[position], position + 1
        kind, size = tag & 3, (tag >> 2) + 1
        if kind == 0:  # a literal; sizes above 60 are in the next 1 to 4 bytes
            if size > 60:
                width = size - 60
                size = int.from_bytes(packed[position : position + width], "little") + 1
                position += width
            out += packed[position : position + size]
            position += size
            continue
        width = (1, 2, 4)[kind - 1]
        offset = int.from_bytes(packed[position : position + width], "little")
        position += width
        if kind == 1:
            size, offset = ((tag >> 2) & 7) + 4, offset | (tag >> 5) << 8
        for _ in range(size):
            out.append(out[-offset])
    return bytes(out)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """A stand-in for Loki or a metrics store."""
    made = HttpSink()
    yield made
    made.close()


def test_users_have_series_of_their_own_up_to_the_cap_and_totals_stay_whole(collector_binary):
    """10,000 users: known ones are exact, series end at the cap, the rest is left out."""
    tokens, calls = "otelbridge_gen_ai_user_tokens_total", "otelbridge_gen_ai_user_calls_total"
    cost = "otelbridge_gen_ai_user_cost_usd_total"
    with running(
        collector_binary, ("user-metrics",), OTELBRIDGE_COLLECTOR_METRICS_USER_SERIES="300"
    ) as metrics:
        alice = make_call(**usage(10, 5, 0.5)) | {semconv.USER_ID: "alice"}
        agent = make_call("m", "invoke_agent", **usage(10, 5, 0.5)) | {semconv.USER_ID: "alice"}
        metrics.send(make_span("chat", alice), make_span("agent", agent), service="u")
        metrics.wait(lambda: metrics.samples(cost, user_id="alice"))
        for start in range(0, 10_000, 1000):
            spans = [
                make_span("chat", make_call(**usage(1, 1, 0.25)) | {semconv.USER_ID: f"user-{n}"})
                for n in range(start, start + 1000)
            ]
            metrics.send(*spans, service="u")
        metrics.send(make_span("chat", alice), service="u")
        metrics.wait(lambda: metrics.total(TOKENS, service_name="u") == 20_030)
        metrics.wait(lambda: metrics.total(tokens, user_id="alice") == 30)
        assert metrics.total(calls, user_id="alice") == 2
        assert metrics.total(cost, user_id="alice") == 1.0
        assert sum(len(metrics.samples(name)) for name in (tokens, calls, cost)) <= 300
        assert metrics.own("otelcol_deltatocumulative_datapoints") > 0
        assert metrics.total(COST, service_name="u") == 2501.0


def test_without_the_overlay_no_label_holds_a_user(metrics):
    """User ids reach Prometheus by choice only."""
    call = make_call(**usage(1, 1, 0.5)) | {
        semconv.USER_ID: "u-secret",
        semconv.SESSION_ID: "s-secret",
    }
    metrics.send(make_span("chat", call), service="private")
    metrics.settle("private", 1)
    assert "secret" not in metrics.scrape()


def test_remote_write_pushes_the_same_metrics(collector_binary, sink):
    """The overlay posts snappy-packed remote write; the exposition stays."""
    with running(
        collector_binary,
        ("remote-write",),
        OTELBRIDGE_COLLECTOR_REMOTE_WRITE_URL=f"{sink.url}/api/v1/write",
        OTELBRIDGE_COLLECTOR_REMOTE_WRITE_AUTHORIZATION="Bearer made-up",
    ) as metrics:
        metrics.send(make_span("chat", make_call(**usage(7))), service="pushed")
        metrics.settle("pushed", 1)
        names = {CALLS.encode(), TOKENS.encode(), f"{DURATION}_bucket".encode()}
        metrics.wait(
            lambda: all(any(n in unsnap(b) for _, _, b in list(sink.requests)) for n in names)
        )
    path, headers, _ = sink.requests[0]
    assert path == "/api/v1/write"
    assert headers["content-encoding"] == "snappy"
    assert headers["authorization"] == "Bearer made-up"


def test_otlp_push_carries_the_derived_metrics_and_the_services_own(collector_binary, sink):
    """The overlay posts OTLP: cumulative, with exact values and the Collector's name."""
    with running(
        collector_binary,
        ("otlp-metrics",),
        OTELBRIDGE_COLLECTOR_OTLP_METRICS_URL=f"{sink.url}/otlp/v1/metrics",
        OTELBRIDGE_COLLECTOR_INSTANCE="c-1",
    ) as metrics:
        metrics.send(make_span("chat", make_call(**usage(7, 2, 0.5))), service="pushed")
        metrics.send_metrics(make_counter("own.counter", 3), service__name="pushed")

        def values() -> dict[tuple[str, str | None], float]:
            found = {}
            for _, _, body in list(sink.requests):
                for batch in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    resource = {a.key: a.value.string_value for a in batch.resource.attributes}
                    for metric in batch.scope_metrics[0].metrics:
                        for point in metric.sum.data_points:
                            assert metric.sum.aggregation_temporality == 2  # cumulative
                            found[metric.name, resource.get("service.instance.id")] = (
                                point.as_double or point.as_int
                            )
            return found

        expected = {
            ("otelbridge.gen_ai.cost.usd", "c-1"): 0.5,
            ("traces.spanmetrics.calls", "c-1"): 1,
            ("own.counter", None): 3,
        }
        metrics.wait(lambda: expected.items() <= values().items())
    assert {path for path, _, _ in sink.requests} == {"/otlp/v1/metrics"}


def test_logs_reach_loki_without_message_events_content_keys_and_secrets(collector_binary, sink):
    """Log lines and their trace ids arrive; gen_ai message events, content and secrets do not."""
    trace_id = random.randbytes(16)

    def record(body: str, name: str = "", **attributes: Any) -> LogRecord:
        return LogRecord(
            time_unix_nano=time.time_ns(),
            body=AnyValue(string_value=body),
            event_name=name,
            trace_id=trace_id,
            span_id=bytes(range(8)),
            attributes=_values(attributes),
        )

    secret = "sk-proj-" + "a" * 24
    records = [
        record(f"order placed with {secret} INVALID", key=secret, count=3),
        record("canary prompt", "gen_ai.client.inference.operation.details"),
        record("canary prompt", **{"event.name": "gen_ai.user.message"}),
        record("evaluated", "gen_ai.evaluation.result", **{"gen_ai.input.messages": "canary"}),
    ]
    resource = {"service.name": "logged", "process.command_line": "serve --canary"}
    request = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(
                resource=Resource(attributes=_values(resource)),
                scope_logs=[ScopeLogs(log_records=records)],
            )
        ]
    )
    with running(
        collector_binary, ("logs",), OTELBRIDGE_COLLECTOR_LOKI_URL=f"{sink.url}/otlp"
    ) as metrics:
        assert metrics.post("/v1/logs", request) == 200
        metrics.wait(lambda: sink.requests)
    ((path, headers, body),) = sink.requests
    assert path == "/otlp/v1/logs"
    assert headers["x-scope-orgid"] == "otelbridge"
    (resource_logs,) = ExportLogsServiceRequest.FromString(body).resource_logs
    arrived = resource_logs.scope_logs[0].log_records
    assert [item.body.string_value for item in arrived] == [
        "order placed with [masked:api-key] ab\ufffd\ufffd\ufffdcd",
        "evaluated",
    ]
    assert {item.trace_id for item in arrived} == {trace_id}
    assert b"canary" not in body
    assert secret.encode() not in body


def test_logs_overlay_holds_the_rules_of_the_policy():
    """The hand-written overlay uses the content patterns and every mask of otelbridge.policy."""

    def ottl(pattern: str) -> str:
        escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.replace("$", "$$") + '"'

    text = (OVERLAYS / "logs.yaml").read_text("utf-8")
    patterns = [policy.CONTENT_KEY_PATTERN, policy.CONTENT_EVENT_PATTERN]
    patterns.append(masks.CREDENTIAL_HEADER_PATTERN)
    patterns += [pattern for pattern, _ in masks.MASK_PATTERNS]
    assert [pattern for pattern in patterns if ottl(pattern) not in text] == []


@pytest.mark.parametrize("overlay", [*sorted(p.stem for p in OVERLAYS.glob("*.yaml"))])
@pytest.mark.parametrize("config", ["config.yaml", "config.no-langfuse.yaml"])
def test_each_overlay_is_valid_over_each_configuration(collector_binary, config, overlay):
    """`validate` with defaults only, as a user would first run it."""
    files = [COLLECTOR / config, OVERLAYS / f"{overlay}.yaml"]
    arguments = [part for path in files for part in ("--config", str(path))]
    done = subprocess.run(
        [str(collector_binary), "validate", *arguments], capture_output=True, env={}, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_odd_spans_make_the_branch_log_no_errors(metrics):
    """No statement or connector of this branch failed on what the tests above sent."""
    log = metrics.collector.log_path.read_text("utf-8")
    bad = [line for line in log.splitlines() if "\terror\t" in line or "\twarn\t" in line]
    ours = ("transform/metrics", "derived", "service_metrics", "signaltometrics", "spanmetrics")
    assert [line for line in bad if any(name in line for name in ours)] == []
