"""The bench of the metrics tests: a Collector without Langfuse, sent to and scraped.

`Metrics` sends spans and OTLP metrics and reads the Prometheus exposition; `running` starts a
Collector with overlays. The fixture `metrics` (conftest.py) shares one Collector among the modules
`test_metrics_*.py`, which tell their series apart by service names. PromQL: `prometheus_bench.py`.
"""

from __future__ import annotations

import http.client
import itertools
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otelbridge import semconv
from otelbridge.collector import CollectorProcess
from tests.collector.conftest import http_get

COLLECTOR = Path(__file__).resolve().parents[2] / "collector"
OVERLAYS = COLLECTOR / "overlays"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
FLUSH = "200ms"
_SAMPLE = re.compile(
    r'^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>(?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (?P<value>\S+)'
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_rng = random.Random(20261121)
#: Nothing listens there (tcpmux): metrics do not depend on the branches.
NOWHERE = "127.0.0.1:1"
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
def new_trace_id() -> bytes:
    """Sixteen bytes; seeded, so that every run has the same."""
    return _rng.randbytes(16)


def otlp_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """A mapping as OTLP attributes."""
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
        trace_id=trace_id or new_trace_id(),
        span_id=next(_ids).to_bytes(8, "big"),
        parent_span_id=parent,
        name=name,
        kind=kind,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + int(seconds * 1e9),
        attributes=otlp_values(attributes or {}),
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


def _samples(text: str, name: str, labels: Mapping[str, str]) -> list[tuple[dict[str, str], float]]:
    found = []
    for line in text.splitlines():
        if not line.startswith((name + "{", name + " ")):
            continue
        matched = _SAMPLE.match(line)
        assert matched, line
        have = dict(_LABEL.findall(matched["labels"] or ""))
        if all(have.get(key, "") == value for key, value in labels.items()):
            found.append((have, float(matched["value"])))
    return found


class Metrics:
    """A running Collector with the metrics branch: sends to it and scrapes it."""

    def __init__(self, collector: CollectorProcess) -> None:
        self.collector = collector
        self.address = collector.prometheus_url.removeprefix("http://").removesuffix("/metrics")

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
                    resource=Resource(attributes=otlp_values(described)),
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
                    resource=Resource(attributes=otlp_values(described)),
                    scope_metrics=[
                        ScopeMetrics(scope=InstrumentationScope(name=scope), metrics=metrics)
                    ],
                )
            ]
        )
        return self.post("/v1/metrics", request)

    def scrape(self, accept: str = "text/plain") -> str:
        """The exposition, as Prometheus would get it."""
        return http_get(self.collector.prometheus_url, accept).decode("utf-8")

    def samples(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of this name whose labels include these."""
        return _samples(self.scrape(), name, labels)

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of this name whose labels include these."""
        return sum(value for _, value in self.samples(name, **labels))

    def wait(self, predicate: Callable[[], Any], timeout_seconds: float = 30.0) -> None:
        """Return once the predicate is true; fail with the Collector's log at the deadline."""
        deadline = time.monotonic() + timeout_seconds
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"not true in time; log:\n{self.collector.log_tail(6)}")
            time.sleep(0.05)

    def settle(self, service: str, spans: int, **others: int) -> None:
        """Wait until all that was sent is out; these services must have so many spans then.

        A later span goes the same ways: through signaltometrics at once, through spanmetrics with
        the next flush, which holds every service's series.
        """
        last = f"settled-{next(_ids)}"
        self.send(make_span("settled", make_call(**usage(1))), service=last)
        counts = {service: spans, **others}

        def out() -> bool:
            text = self.scrape()
            calls: Counter[str] = Counter()
            for labels, value in _samples(text, CALLS, {}):
                calls[labels["service_name"]] += int(value)
            # A counter is never undone: it cannot come to the right number from above.
            for name, count in counts.items():
                assert calls[name] <= count, name
            there = all(calls[name] == count for name, count in counts.items()) and calls[last] == 1
            return there and bool(_samples(text, TOKENS, {"service_name": last}))

        self.wait(out)

    def own(self, name: str) -> float:
        """A counter of the Collector itself, all its series added up."""
        lines = http_get(self.collector.metrics_url).decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def problems(self) -> list[str]:
        """Warnings and errors that this branch has logged."""
        log = self.collector.log_path.read_text("utf-8")
        bad = [line for line in log.splitlines() if "\terror\t" in line or "\twarn\t" in line]
        ours = ("transform/metrics", "derived", "service_metrics", "signaltometrics", "spanmetrics")
        return [line for line in bad if any(name in line for name in ours)]


# -- starting --------------------------------------------------------------------------------------
def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Maps merge key by key, lists are replaced: as the Collector does with several --config."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def written(path: Path, config: dict[str, Any]) -> Path:
    """The path, after the configuration was written there."""
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def running(binary: Path, overlays: tuple[str, ...] = (), **environment: str) -> Iterator[Metrics]:
    """The Collector without Langfuse, with these overlays and variables."""
    config = yaml.safe_load((COLLECTOR / "config.no-langfuse.yaml").read_text("utf-8"))
    for name in overlays:
        config = _merge(config, yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text("utf-8")))
    with (
        tempfile.TemporaryDirectory() as folder,
        CollectorProcess(
            binary,
            tempo_endpoint=NOWHERE,
            config=written(Path(folder) / "config.yaml", config),
            environment={"OTELBRIDGE_COLLECTOR_METRICS_FLUSH": FLUSH, **environment},
        ) as collector,
    ):
        yield Metrics(collector)


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
        as_double=value, time_unix_nano=time.time_ns(), attributes=otlp_values(labels)
    )
    return Metric(
        name=name,
        unit=unit,
        sum=Sum(data_points=[point], aggregation_temporality=temporality, is_monotonic=True),
    )
