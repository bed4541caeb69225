"""What the Collector's benchmarks and fault tests share: load, counting sinks, process figures.

The load is made beforehand (protobuf bytes of whole requests) and the sinks only look at trace and
span ids, so that most of the machine is left to the Collector. The sinks are no Tempo and no
Langfuse: they take OTLP as those do, and answer what they are told to. No test framework in here.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import semconv

TRACES_PATH = "/api/public/otel/v1/traces"
EXPORT_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_START_NS = 1_760_000_000_000_000_000
_PROMPT_BYTES = 2_048


# -- reading ids only ------------------------------------------------------------------------------
def _slim_request_class() -> Any:
    """A message class that reads an export request down to trace and span ids, and skips the rest.

    Field numbers: opentelemetry/proto/trace/v1/trace.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="otelbridge_slim.proto", package="slim", syntax="proto3"
    )
    kind = descriptor_pb2.FieldDescriptorProto
    shapes: dict[str, list[tuple[str, int, str]]] = {
        "Span": [("trace_id", 1, ""), ("span_id", 2, "")],
        "Scope": [("spans", 2, "Span")],
        "Resource": [("scopes", 2, "Scope")],
        "Request": [("resources", 1, "Resource")],
    }
    for name, fields in shapes.items():
        message = file.message_type.add(name=name)
        for field_name, number, of in fields:
            message.field.add(
                name=field_name,
                number=number,
                type=kind.TYPE_MESSAGE if of else kind.TYPE_BYTES,
                type_name=f".slim.{of}" if of else None,
                label=kind.LABEL_REPEATED if of else kind.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("slim.Request"))


_SlimRequest = _slim_request_class()


def span_ids(body: bytes) -> list[bytes]:
    """Trace id and span id, joined, of every span in an export request."""
    return [
        span.trace_id + span.span_id
        for resource in _SlimRequest.FromString(body).resources
        for scope in resource.scopes
        for span in scope.spans
    ]


# -- load ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Load:
    """Whole export requests as protobuf bytes, and what should come out of each branch."""

    requests: Sequence[bytes]
    spans: int
    llm_spans: int


def _attribute(key: str, value: str | int | float | bool) -> KeyValue:
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))


_SYLLABLES = "ba con de er fi gra ho in ka lo mer no or per re sta ti ul ver wa"


def _vocabulary(chooser: random.Random, size: int = 4_000) -> list[str]:
    """Made-up words; drawn with Zipf's weights they compress about as prose does (gzip: 2.5 x)."""
    return [
        "".join(chooser.choices(_SYLLABLES.split(), k=chooser.choice((1, 2, 2, 3))))
        for _ in range(size)
    ]


class LoadMaker:
    """Makes traces over three services: 15 spans of which 5 are LLM spans, or 6 plain spans.

    LLM spans carry otelbridge's marks and prompts of 2 KB; the others what HTTP and database
    instrumentations set. `plain` of the traces have no LLM work. Seeded, so that runs compare.
    """

    services = ("gateway", "agent", "search")

    def __init__(
        self, *, seed: int = 1, plain: float = 0.4, prompt_bytes: int = _PROMPT_BYTES
    ) -> None:
        self._chooser = random.Random(seed)
        self._plain = plain
        self._prompt_bytes = prompt_bytes
        self._words = _vocabulary(self._chooser)
        self._weights = list(
            itertools.accumulate(1 / rank for rank in range(1, len(self._words) + 1))
        )

    def _prompt(self, size_bytes: int) -> str:
        words = self._chooser.choices(self._words, cum_weights=self._weights, k=size_bytes // 5)
        text = " ".join(words)[: size_bytes - 60]
        return '[{"role":"user","parts":[{"type":"text","content":"' + text + '"}]}]'

    def load(self, spans: int, *, spans_per_request: int = 228) -> Load:
        """At least `spans` spans, in requests of one service each, of about that many spans."""
        requests: list[bytes] = []
        waiting: dict[str, list[Span]] = {name: [] for name in self.services}
        total = llm = 0
        while total < spans:
            for service, span, kept in self._trace():
                waiting[service].append(span)
                total += 1
                llm += kept
                if len(waiting[service]) >= spans_per_request:
                    requests.append(self._request(service, waiting[service]))
                    waiting[service] = []
        requests += [self._request(name, left) for name, left in waiting.items() if left]
        return Load(tuple(requests), total, llm)

    def _request(self, service: str, spans: list[Span]) -> bytes:
        request = ExportTraceServiceRequest()
        batch = request.resource_spans.add()
        batch.resource.attributes.extend(
            _attribute(key, value)
            for key, value in {
                "service.name": service,
                "service.version": "1.4.2",
                "deployment.environment.name": "production",
                "host.name": "node-7",
                "telemetry.sdk.language": "python",
                "telemetry.distro.name": "otelbridge",
            }.items()
        )
        scope = batch.scope_spans.add()
        scope.scope.name = "bench"
        scope.spans.extend(spans)
        return request.SerializeToString()

    def _id(self, size_bytes: int) -> bytes:
        return self._chooser.randbytes(size_bytes)

    def _trace(self) -> Iterator[tuple[str, Span, bool]]:
        trace_id = self._id(16)
        llm = self._chooser.random() >= self._plain
        user = {"user.id": f"user-{self._chooser.randrange(500)}", "session.id": self._id(4).hex()}
        start_ns = _START_NS + self._chooser.randrange(10**9)
        parent = b""
        view_parent = ""
        for service in self.services if llm else self.services[:2]:
            marks: dict[str, Any] = {semconv.LLM_PARENT: view_parent}
            if llm:
                marks[semconv.LLM_KEEP] = service == "gateway"
            entry = self._span(trace_id, parent, "POST /ask", start_ns, 2)
            self._add(entry, {**user, **marks, **_HTTP_SERVER})
            yield service, entry, llm and service == "gateway"
            if service == "gateway":
                view_parent = entry.span_id.hex() if llm else ""
            parent = entry.span_id
            for index in range(2):
                child = self._span(trace_id, parent, ("SELECT orders", "GET")[index], start_ns, 3)
                self._add(child, {**user, semconv.LLM_PARENT: view_parent})
                self._add(child, (_DATABASE, _HTTP_CLIENT)[index])
                yield service, child, False
            # Four LLM spans and the gateway's entry make five kept spans in a trace of fifteen.
            for index in range(2 if llm else 0):
                span = self._span(trace_id, entry.span_id, "chat gpt-4o", start_ns, 3)
                if service == "gateway":
                    self._add(span, {**user, semconv.LLM_PARENT: view_parent, **_HTTP_CLIENT})
                else:
                    self._add(span, {**user, **self._llm(view_parent, index)})
                yield service, span, service != "gateway"

    def _llm(self, view_parent: str, index: int) -> dict[str, Any]:
        return {
            semconv.LLM_KEEP: True,
            semconv.LLM_PARENT: view_parent,
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": ("openai", "anthropic")[index],
            "gen_ai.system": ("openai", "anthropic")[index],
            "gen_ai.request.model": ("gpt-4o", "claude-sonnet-4-5")[index],
            "gen_ai.response.model": ("gpt-4o-2024-08-06", "claude-sonnet-4-5")[index],
            "gen_ai.usage.input_tokens": 1203,
            "gen_ai.usage.output_tokens": 164,
            "gen_ai.usage.cost": 0.0046475,
            "gen_ai.request.temperature": 0.7,
            "gen_ai.input.messages": self._prompt(self._prompt_bytes),
            "gen_ai.output.messages": self._prompt(self._prompt_bytes // 4),
        }

    def llm_span(self) -> Span:
        """A model call that is a trace of its own."""
        span = self._span(self._id(16), b"", "chat gpt-4o", _START_NS, 3)
        self._add(span, self._llm("", 0))
        return span

    def _span(self, trace_id: bytes, parent: bytes, name: str, start_ns: int, kind: int) -> Span:
        return Span(
            trace_id=trace_id,
            span_id=self._id(8),
            parent_span_id=parent,
            name=name,
            kind=Span.SpanKind.ValueType(kind),
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + self._chooser.randrange(10**6, 10**9),
        )

    @staticmethod
    def _add(span: Span, attributes: dict[str, Any]) -> None:
        span.attributes.extend(_attribute(key, value) for key, value in attributes.items())


_HTTP_SERVER = {
    "http.request.method": "POST",
    "url.scheme": "http",
    "url.path": "/ask",
    "http.route": "/ask",
    "http.response.status_code": 200,
    "server.address": "gateway",
    "server.port": 8000,
    "user_agent.original": "python-httpx/0.28.1",
}
_HTTP_CLIENT = {
    "http.request.method": "GET",
    "url.full": "http://search.svc.cluster.local:8000/documents?limit=10&page=2",
    "http.response.status_code": 200,
    "server.address": "search.svc.cluster.local",
    "server.port": 8000,
}
_DATABASE = {
    "db.system.name": "postgresql",
    "db.namespace": "shop",
    "db.query.text": "SELECT id, state, total FROM orders WHERE customer_id = $1 LIMIT 20",
    "db.operation.name": "SELECT",
    "server.address": "postgres.svc.cluster.local",
    "server.port": 5432,
}


class _Renumbered(Sequence[bytes]):
    """One request many times, each time with other span ids, made when it is asked for."""

    _SPAN_ID = b"\xf5span-id"  # no text holds 0xF5

    def __init__(self, count: int, body: bytes, spans: int) -> None:
        self._count = count
        self._pieces = body.split(self._SPAN_ID)
        self._spans = spans
        assert len(self._pieces) == spans + 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if index >= self._count:
            raise IndexError(index)
        parts = [self._pieces[0]]
        for number, piece in enumerate(self._pieces[1:], start=index * self._spans + 1):
            parts += [number.to_bytes(8, "big"), piece]
        return b"".join(parts)

    @classmethod
    def of(cls, spans: list[Span], requests: int) -> _Renumbered:
        for span in spans:
            span.span_id = cls._SPAN_ID
        request = ExportTraceServiceRequest()
        batch = request.resource_spans.add()
        batch.resource.attributes.append(_attribute("service.name", "agent"))
        batch.scope_spans.add().spans.extend(spans)
        return cls(requests, request.SerializeToString(), len(spans))


def burst_load(spans: int, span_bytes: int, *, spans_per_request: int = 50) -> Load:
    """At least `spans` LLM spans of about that size, in requests of `spans_per_request`."""
    maker = LoadMaker(seed=5, prompt_bytes=span_bytes * 4 // 5)  # the answer is a quarter of it
    made = [maker.llm_span() for _ in range(spans_per_request)]
    requests = _Renumbered.of(made, -(-spans // spans_per_request))
    return Load(requests, len(requests) * spans_per_request, len(requests) * spans_per_request)


# -- sending ---------------------------------------------------------------------------------------
class RawHttpSender:
    """One kept-alive connection that posts protobuf bodies to an OTLP/HTTP receiver.

    A bare socket: a client library would cost as much as the Collector. Refusals (429, 502, 503,
    504) and network errors are tried again like an SDK does, after `pause_seconds`.
    """

    def __init__(
        self, port: int, *, pause_seconds: float = 0.05, timeout_seconds: float = 30.0
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._pause_seconds = pause_seconds
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self.resent = 0

    def once(self, body: bytes) -> int:
        """Status of one try; 0 when the connection failed."""
        head = (
            "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf"
            f"\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._timeout_seconds)
            self._socket.sendall(head + body)
            return self._status(self._socket)
        except OSError:
            self.close()
            return 0

    def send(self, body: bytes, *, give_up: threading.Event | None = None) -> bool:
        """Send until it is acknowledged; False when told to give up or when it is refused."""
        while give_up is None or not give_up.is_set():
            status = self.once(body)
            if status == 200:
                return True
            if status not in {0, 429, 502, 503, 504}:
                return False
            self.resent += 1
            time.sleep(self._pause_seconds)
        return False

    def _status(self, connection: socket.socket) -> int:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionResetError("closed before the answer")
            data += chunk
        head, _, rest = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            elif name.lower() == b"connection" and value.strip().lower() == b"close":
                self.close()
        while len(rest) < length and self._socket is not None:
            rest += connection.recv(65536)
        return int(head[9:12])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


# -- sinks -----------------------------------------------------------------------------------------
@dataclass
class Arrivals:
    """Ids that a sink took, with the time of the first arrival (monotonic seconds) and a count."""

    first: dict[bytes, float] = field(default_factory=dict)
    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, ids: Iterable[bytes]) -> None:
        now = time.monotonic()
        with self.lock:
            for item in ids:
                self.first.setdefault(item, now)
                self.total += 1

    @property
    def unique(self) -> int:
        return len(self.first)

    @property
    def duplicates(self) -> int:
        return self.total - len(self.first)


class GrpcSink:
    """Takes OTLP/gRPC on a loopback port as Tempo's distributor does, and keeps the ids only."""

    def __init__(self, port: int = 0) -> None:
        self.arrivals = Arrivals()
        self._server = grpc.server(
            ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        handler = grpc.unary_unary_rpc_method_handler(self._export)
        service, _, method = EXPORT_METHOD[1:].partition("/")
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"127.0.0.1:{self.port}"
        self._server.start()

    def _export(self, body: bytes, _context: Any) -> bytes:
        self.arrivals.add(span_ids(body))
        return b""

    def close(self) -> None:
        self._server.stop(None).wait()


class HttpSink:
    """Takes OTLP/HTTP on a loopback port as Langfuse does; `answer` may be set at any moment.

    `answer` is a status, or "black hole" (the request is read and never answered). `refuse` closes
    the port, `accept` opens it again. Statuses given are counted in `answers`.
    """

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self.answer: int | str = 200
        self.retry_after_seconds: int | None = None
        self.answers: dict[int, int] = {}
        self.port = 0
        self._open = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.accept()
        self.url = f"http://127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Open the port (again)."""
        if self._server is not None:
            return
        self._open.set()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gzipped = self.headers.get("Content-Encoding") == "gzip"
                sink._take(self, gzip.decompress(body) if gzipped else body)

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False  # a black hole would never end
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(
            target=functools.partial(self._server.serve_forever, poll_interval=0.02), daemon=True
        ).start()

    def refuse(self) -> None:
        """Close the port and every connection, so that the next try is refused."""
        if self._server is not None:
            self._open.clear()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        while self.answer == "black hole" and self._open.is_set():
            time.sleep(0.05)  # the client's timeout ends this
        if not self._open.is_set() or isinstance(self.answer, str):
            handler.close_connection = True
            handler.connection.close()
            return
        status = self.answer if handler.path == TRACES_PATH else 404
        if status == 200:
            self.arrivals.add(span_ids(body))
        self.answers[status] = self.answers.get(status, 0) + 1
        text = b"{}"
        handler.send_response(status)
        if self.retry_after_seconds is not None and status != 200:
            handler.send_header("Retry-After", str(self.retry_after_seconds))
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def close(self) -> None:
        self.answer = 503
        self.refuse()


# -- processes -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time and memory of a process, from /proc (Linux)."""

    cpu_seconds: float
    rss_bytes: int
    peak_rss_bytes: int


def usage(pid: int) -> Usage:
    """Figures of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    )
    ticks = int(fields[11]) + int(fields[12])
    return Usage(
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        peak_rss_bytes=int(status["VmHWM"].split()[0]) * 1024,
    )


def free_ports(count: int) -> list[int]:
    """Ports that were free on loopback a moment ago."""
    held = [socket.socket() for _ in range(count)]
    try:
        for item in held:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in held]
    finally:
        for item in held:
            item.close()
