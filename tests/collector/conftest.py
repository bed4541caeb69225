"""The bench of the Collector tests: the real binary between two stand-ins for its backends.

`TempoStandIn` and `LangfuseStandIn` are no Tempo and no Langfuse: they take OTLP as those do
(gRPC; HTTP with Basic auth and gzip), answer what a test tells them to, and keep what came in.
"""

from __future__ import annotations

import base64
import functools
import gzip
import http.client
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otelbridge.collector import CollectorProcess, find_collector

PUBLIC_KEY = "pk-lf-made-up"
SECRET_KEY = "sk-lf-made-up"
_BINARY_VARIABLE = os.environ.get("OTELBRIDGE_COLLECTOR_BINARY")  # read before it is scrubbed
_START_NS = 1_760_000_000_000_000_000


def to_any_value(value: Any) -> AnyValue:
    """A Python value as an OTLP value."""
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        wrapped = AnyValue()
        wrapped.array_value.values.extend(to_any_value(item) for item in value)
        return wrapped
    return AnyValue(string_value=value)


def from_any_value(value: AnyValue) -> Any:
    """The Python value of an OTLP value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [from_any_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def to_attributes(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """A mapping as OTLP attributes."""
    return [KeyValue(key=key, value=to_any_value(value)) for key, value in attributes.items()]


def from_attributes(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """OTLP attributes as a mapping."""
    return {item.key: from_any_value(item.value) for item in attributes}


def http_get(url: str, accept: str = "text/plain") -> bytes:
    """The body of a page on loopback; fails unless the answer is 200."""
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", f"/{path}", headers={"Accept": accept})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body
    finally:
        connection.close()


@dataclass
class Received:
    """One span as a stand-in took it."""

    span: Span
    attributes: dict[str, Any]
    resource: dict[str, Any]

    @property
    def id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        """Hex digits; empty only when the id on the wire was empty."""
        return self.span.parent_span_id.hex()


@dataclass
class Store:
    """What a stand-in took: spans in order of arrival, and the requests' headers and bytes."""

    spans: list[Received] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        with self.lock:
            self.headers.append(headers)
            self.bodies.append(request.SerializeToString())
            for batch in request.resource_spans:
                resource = from_attributes(batch.resource.attributes)
                for scope in batch.scope_spans:
                    self.spans.extend(
                        Received(span, from_attributes(span.attributes), resource)
                        for span in scope.spans
                    )

    def of(self, trace_id: bytes) -> dict[str, Received]:
        """Spans of a trace by id; a span that came twice fails the test."""
        with self.lock:
            found = [item for item in self.spans if item.span.trace_id == trace_id]
        by_id = {item.id: item for item in found}
        assert len(by_id) == len(found), "a span was delivered more than once"
        return by_id


class TempoStandIn:
    """Takes OTLP/gRPC on a free loopback port, as Tempo's distributor does."""

    def __init__(self) -> None:
        self.store = Store()
        self._server = grpc.server(ThreadPoolExecutor(4))
        stand_in = self

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - name of the RPC
                metadata = {key: str(value) for key, value in context.invocation_metadata()}
                stand_in.store.add(request, metadata)
                return ExportTraceServiceResponse()

        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait()


class LangfuseStandIn:
    """Takes OTLP/HTTP on a free loopback port, as Langfuse's intake does; `status` may be set."""

    def __init__(self) -> None:
        self.store = Store()
        self.status = 200
        self.refused = 0
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = stand_in.take(self.path, dict(self.headers.items()), body)
                answer = b'{"queued":true}' if status == 200 else b'{"message":"refused"}'
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=functools.partial(self._server.serve_forever, poll_interval=0.02), daemon=True
        )
        self._thread.start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """The status of one request; what is taken is stored."""
        headers = {name.lower(): value for name, value in headers.items()}
        expected = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
        status = self.status
        if path != "/api/public/otel/v1/traces":
            status = 404
        elif headers.get("authorization") != f"Basic {expected}":
            status = 401
        if status == 200:
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            try:
                self.store.add(ExportTraceServiceRequest.FromString(body), headers)
            except DecodeError:
                status = 400
        if status != 200:
            self.refused += 1
        return status

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Bench:
    """The Collector between its stand-ins, and what a test needs to send and to wait."""

    def __init__(
        self, collector: CollectorProcess, tempo: TempoStandIn, langfuse: LangfuseStandIn
    ) -> None:
        self.collector = collector
        self.tempo = tempo
        self.langfuse = langfuse
        self._ids = itertools.count(1)

    # -- making spans ------------------------------------------------------------------------------
    def new_trace(self) -> bytes:
        return os.urandom(16)

    def span(
        self,
        trace_id: bytes,
        attributes: Mapping[str, Any] | None = None,
        *,
        parent: str = "",
        name: str = "work",
        events: Iterable[tuple[str, Mapping[str, Any]]] = (),
    ) -> Span:
        span = Span(
            trace_id=trace_id,
            span_id=(0x1000 + next(self._ids)).to_bytes(8, "big"),
            parent_span_id=bytes.fromhex(parent),
            name=name,
            start_time_unix_nano=_START_NS,
            end_time_unix_nano=_START_NS + 1_000_000,
            attributes=to_attributes(attributes or {}),
        )
        for event_name, event_attributes in events:
            span.events.add(
                name=event_name,
                time_unix_nano=_START_NS,
                attributes=to_attributes(event_attributes),
            )
        return span

    def request(
        self, spans: Iterable[Span], resource: Mapping[str, Any] | None = None
    ) -> ExportTraceServiceRequest:
        described = Resource(attributes=to_attributes(resource or {"service.name": "made-up"}))
        scope = ScopeSpans(spans=spans)
        return ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=described, scope_spans=[scope])]
        )

    # -- sending -----------------------------------------------------------------------------------
    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Send bytes to the OTLP/HTTP receiver; the status of its answer."""
        address = self.collector.otlp_http_url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            sent = {"Content-Type": "application/x-protobuf", **(headers or {})}
            connection.request("POST", "/v1/traces", body, sent)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def send(self, *spans: Span, resource: Mapping[str, Any] | None = None) -> None:
        """Send spans in one acknowledged request."""
        assert self.post(self.request(spans, resource).SerializeToString()) == 200

    # -- waiting -----------------------------------------------------------------------------------
    def wait(self, predicate: Callable[[], Any], what: str, timeout_seconds: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not predicate():
            if time.monotonic() > deadline:
                log = self.collector.log_tail(30)
                pytest.fail(f"{what}: not within {timeout_seconds:g} s. Collector log:\n{log}")
            time.sleep(0.01)

    def at_tempo(self, trace_id: bytes, count: int) -> dict[str, Received]:
        """The spans of a trace at the Tempo stand-in, once there are `count`."""
        store = self.tempo.store
        self.wait(lambda: len(store.of(trace_id)) >= count, f"{count} spans at Tempo")
        return store.of(trace_id)

    def at_langfuse(self, trace_id: bytes, count: int) -> dict[str, Received]:
        """The spans of a trace at the Langfuse stand-in, once there are `count` and all is sent.

        A later span follows them through the same queue, so that what should not come had its
        chance to.
        """
        store = self.langfuse.store
        self.wait(lambda: len(store.of(trace_id)) >= count, f"{count} spans at Langfuse")
        self.settle()
        return store.of(trace_id)

    def settle(self) -> None:
        """Wait until everything that was sent before has gone through the Langfuse branch."""
        last = self.new_trace()
        self.send(self.span(last, {"otelbridge.llm.keep": True}))
        self.wait(lambda: self.langfuse.store.of(last), "the closing span at Langfuse")


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    """The built Collector; without one the test is skipped."""
    binary = find_collector(binary=_BINARY_VARIABLE)
    if binary is None:
        pytest.skip("no Collector binary for this manifest: `make collector` builds it")
    return binary


def _start_bench(
    stack: ExitStack,
    binary: Path,
    *,
    keys: bool = True,
    environment: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Bench:
    tempo, langfuse = TempoStandIn(), LangfuseStandIn()
    stack.callback(tempo.close)
    stack.callback(langfuse.close)
    collector = CollectorProcess(
        binary,
        tempo_endpoint=tempo.endpoint,
        langfuse_url=langfuse.url,
        langfuse_public_key=PUBLIC_KEY if keys else None,
        langfuse_secret_key=SECRET_KEY if keys else None,
        environment={
            "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "20ms",
            "OTELBRIDGE_COLLECTOR_RETRY_MAX_INTERVAL": "1s",
            **(environment or {}),
        },
        **arguments,
    )
    stack.enter_context(collector)
    return Bench(collector, tempo, langfuse)


@pytest.fixture(scope="session")
def bench(collector_binary: Path) -> Iterator[Bench]:
    """One Collector with both branches, shared: tests tell their spans apart by trace id."""
    with ExitStack() as stack:
        yield _start_bench(stack, collector_binary)


@pytest.fixture(scope="module")
def module_bench(collector_binary: Path) -> Iterator[Bench]:
    """A Collector with both branches for one module, whose stores hold nothing else."""
    with ExitStack() as stack:
        yield _start_bench(stack, collector_binary)


@pytest.fixture(scope="session")
def metrics(collector_binary: Path) -> Iterator[Any]:
    """One Collector for all tests of metrics that need no setting of their own (metrics_bench)."""
    from tests.collector.metrics_bench import running  # it imports this module

    services = "llm-gw|other"
    with running(
        collector_binary, OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES=services
    ) as made:
        yield made


@pytest.fixture
def make_bench(collector_binary: Path) -> Iterator[Callable[..., Bench]]:
    """`make_bench(keys=True, environment={}, **arguments of CollectorProcess)`: one of its own."""
    with ExitStack() as stack:
        yield functools.partial(_start_bench, stack, collector_binary)


@pytest.fixture
def render_layers(tmp_path: Path) -> Callable[..., Path]:
    """`render_layers("base", "tempo", ...)`: one configuration file merged from these layers."""

    def merged(*names: str) -> Path:
        root = Path(__file__).resolve().parents[2] / "collector"
        result: dict[str, Any] = {}
        for name in names:
            text = (root / "layers" / f"{name}.yaml").read_text(encoding="utf-8")
            result = _merge(result, yaml.safe_load(text))
        path = tmp_path / "merged.yaml"
        path.write_text(yaml.safe_dump(result, allow_unicode=True), encoding="utf-8")
        return path

    return merged


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        both_maps = isinstance(known, dict) and isinstance(value, dict)
        merged[key] = _merge(known, value) if both_maps else value
    return merged
