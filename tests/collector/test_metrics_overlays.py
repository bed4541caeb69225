"""The overlays of the metrics branch: users, remote write, OTLP push, logs.

Each runs in a real Collector of its own, against a stand-in that takes HTTP and keeps what came; a
real Prometheus takes the remote write in `test_metrics_promql.py`. Bench: `metrics_bench.py`.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelbridge import semconv
from tests.collector.metrics_bench import (
    CALLS,
    COST,
    DURATION,
    TOKENS,
    make_call,
    make_counter,
    make_span,
    new_trace_id,
    otlp_values,
    running,
    usage,
)

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]


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
    trace_id = new_trace_id()

    def record(body: str, name: str = "", **attributes: Any) -> LogRecord:
        return LogRecord(
            time_unix_nano=time.time_ns(),
            body=AnyValue(string_value=body),
            event_name=name,
            trace_id=trace_id,
            span_id=bytes(range(8)),
            attributes=otlp_values(attributes),
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
                resource=Resource(attributes=otlp_values(resource)),
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
