"""`configure`, `flush`, `shutdown`: one provider per process, whatever was there before."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry import propagate, trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import otelbridge
from otelbridge import provider
from otelbridge.settings import Settings


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Each test starts and ends without a configured provider."""
    provider.shutdown(0.1)
    provider._state.owns_provider = False
    yield
    provider.shutdown(0.1)


def configure(**settings: Any) -> TracerProvider | None:
    """`configure` without touching the libraries of the test process."""
    return otelbridge.configure(instrument=False, **settings)


def test_configure_is_idempotent_and_says_when_arguments_come_too_late(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second call returns the same provider and names what it ignored."""
    first = configure(traces_exporter="none")
    assert configure() is first
    assert "arguments of this call are ignored" not in caplog.text
    assert configure(service_name="other") is first
    assert "arguments of this call are ignored" in caplog.text


def test_configure_from_many_threads_builds_one_provider() -> None:
    """Twenty threads at once get one provider with one processor."""
    with futures.ThreadPoolExecutor(20) as pool:
        found = set(pool.map(lambda _: configure(traces_exporter="none"), range(20)))
    (only,) = found
    assert only is trace.get_tracer_provider()
    assert len(only._active_span_processor._span_processors) == 1


def test_an_existing_sdk_provider_is_completed_and_its_exporters_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The application's provider stays; the log names the exporter outside of the promise."""
    existing = TracerProvider(shutdown_on_exit=False)
    existing.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=io.StringIO())))
    trace.set_tracer_provider(existing)
    assert configure(traces_exporter="none") is existing
    assert "ConsoleSpanExporter" in caplog.text


def test_a_foreign_provider_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Another library's provider is not replaced, and the log says what to do."""

    class Foreign(trace.TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return trace.NoOpTracer()

    foreign = Foreign()
    trace.set_tracer_provider(foreign)
    assert configure() is None
    assert trace.get_tracer_provider() is foreign
    assert "Foreign" in caplog.text


def test_a_disabled_sdk_makes_no_provider_and_forwards_what_came_in() -> None:
    """OTEL_SDK_DISABLED: helpers are no-ops, an inbound traceparent goes on unchanged."""
    assert configure(sdk_disabled=True) is None
    inbound = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": "a=b"}
    outbound: dict[str, str] = {}
    with otelbridge.chat("m", provider="p") as call:
        call.set_output("x")
        otelbridge.inject(outbound, otelbridge.extract(inbound))
    assert outbound == inbound


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        ("none", set()),
        ("tracecontext", {"traceparent", "tracestate"}),
        ("tracecontext,no-such", {"traceparent", "tracestate"}),
        ("tracecontext,baggage", {"traceparent", "tracestate", "baggage"}),
    ],
)
def test_propagators_are_those_of_the_setting(names: str, fields: set[str]) -> None:
    """`none` propagates nothing, an unknown name is left out."""
    environment = {"OTEL_TRACES_EXPORTER": "none", "OTEL_PROPAGATORS": names}
    otelbridge.configure(Settings.from_env(environment), instrument=False)
    assert propagate.get_global_textmap().fields == fields


def test_the_start_up_line_says_what_is_on(caplog: pytest.LogCaptureFixture) -> None:
    """Service, endpoint, Langfuse and content policy in one line, no secret in it."""
    with caplog.at_level(logging.INFO, logger="otelbridge"):
        configure(
            service_name="shop", otlp_headers={"authorization": "canary"},
            langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-canary",
        )  # fmt: skip
    line = next(r.getMessage() for r in caplog.records if "service=shop" in r.getMessage())
    assert "LangFuse observability enabled" in line
    assert "http://localhost:4318/v1/traces" in line
    assert "message content=SPAN_ONLY" in line
    assert "canary" not in caplog.text


def test_attributes_beyond_128_are_kept() -> None:
    """The limit is 256, so that a span with many attributes keeps its gen_ai identity."""
    found = configure(traces_exporter="none")
    assert found is not None
    attributes: dict[str, Any] = {"gen_ai.operation.name": "chat"}
    attributes |= {f"k{number}": number for number in range(240)}
    span = found.get_tracer("t").start_span("s", attributes=attributes)
    assert span.attributes["gen_ai.operation.name"] == "chat"


class _HttpSink:
    """A stand-in for an OTLP/HTTP receiver: keeps paths, headers and spans."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], list[Any]]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import gzip

                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = service_pb2.ExportTraceServiceRequest.FromString(body)
                headers = {key.lower(): value for key, value in self.headers.items()}
                sink.requests.append((self.path, headers, list(request.resource_spans)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self, path: str) -> list[Any]:
        return [
            span
            for seen, _, batches in self.requests
            if seen == path
            for batch in batches
            for scope in batch.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def sink() -> Iterator[_HttpSink]:
    """A running receiver."""
    found = _HttpSink()
    yield found
    found.close()


def _request() -> None:
    with trace.get_tracer("t").start_as_current_span("POST /ask"):
        with trace.get_tracer("t").start_as_current_span("db"):
            pass
        with otelbridge.chat("gpt-4o", provider="openai", messages="canary prompt") as call:
            call.set_output("canary answer")


def test_direct_export_sends_both_streams(sink: _HttpSink) -> None:
    """The full stream without content to OTLP, the LLM view with content to Langfuse."""
    configure(
        export="direct", otlp_endpoint=sink.url, langfuse_host=sink.url,
        langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-1",
    )  # fmt: skip
    _request()
    assert provider.shutdown(10)
    tempo = {span.name: span for span in sink.spans("/v1/traces")}
    langfuse = {span.name: span for span in sink.spans("/api/public/otel/v1/traces")}
    assert set(tempo) == {"POST /ask", "db", "chat gpt-4o"}
    assert set(langfuse) == {"POST /ask", "chat gpt-4o"}
    assert "canary" not in "".join(map(str, tempo.values()))
    assert "canary prompt" in str(langfuse["chat gpt-4o"])
    assert "otelbridge.llm" not in "".join(map(str, langfuse.values()))
    assert langfuse["POST /ask"].parent_span_id == b""
    assert langfuse["chat gpt-4o"].parent_span_id == langfuse["POST /ask"].span_id
    headers = next(h for path, h, _ in sink.requests if path.startswith("/api"))
    assert headers["authorization"] == "Basic cGstbGYtMTpzay1sZi0x"
    assert headers["x-langfuse-ingestion-version"] == "4"
    assert headers["content-encoding"] == "gzip"


def test_the_stock_exporter_speaks_grpc() -> None:
    """OTELBRIDGE_EXPORTER=stock with protocol grpc delivers to a gRPC TraceService."""
    received: list[str] = []

    class Service(service_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
            for batch in request.resource_spans:
                received.extend(span.name for s in batch.scope_spans for span in s.spans)
            return service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_grpc.add_TraceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        configure(
            exporter="stock", otlp_protocol="grpc", otlp_endpoint=f"http://127.0.0.1:{port}"
        )
        _request()
        assert provider.shutdown(10)
    finally:
        server.stop(None)
    assert sorted(received) == ["POST /ask", "chat gpt-4o", "db"]


def test_flush_and_shutdown_keep_their_limit_with_a_dead_endpoint() -> None:
    """Half a second means half a second, though the exporter retries for a minute."""
    configure(otlp_endpoint="http://127.0.0.1:9")
    _request()
    for action in (provider.flush, provider.shutdown):
        begin = time.monotonic()
        action(0.5)
        assert time.monotonic() - begin < 1.5


def test_configure_after_shutdown_is_allowed() -> None:
    """A second start in one process raises nothing."""
    configure(traces_exporter="none")
    provider.shutdown(1)
    configure(traces_exporter="none", service_name="again")
    assert provider.active_settings().service_name == "again"


def _run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "import httpx2, httpx"),
        ("import httpx", "import httpx2"),
        ("import openai", "import httpx"),
    ],
)
def test_both_clients_are_instrumented_in_any_import_order(before: str, after: str) -> None:
    """httpx and httpx2 carry context whichever was imported before `configure()`."""
    program = (
        f"{before}\nimport otelbridge\notelbridge.configure(traces_exporter='none')\n{after}\n"
        "import httpx, httpx2\n"
        "from opentelemetry.instrumentation.httpx import *\n"
        "import opentelemetry.instrumentation.httpx as stock\n"
        "for module, kind in ((httpx, stock.HTTPXClientInstrumentor),"
        " (httpx2, stock.HTTPX2ClientInstrumentor)):\n"
        "    assert kind().is_instrumented_by_opentelemetry, module\n"
        "    assert module.HTTPTransport.__dict__.get('_otelbridge_patched'), module\n"
    )
    done = _run(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_spans_of_a_forked_child_are_delivered(sink: _HttpSink) -> None:
    """A provider made before the fork exports the child's spans from the child."""
    program = (
        "import os, otelbridge\n"
        "from opentelemetry import trace\n"
        f"otelbridge.configure(otlp_endpoint={sink.url!r}, instrument=False)\n"
        "pid = os.fork()\n"
        "trace.get_tracer('t').start_span('child' if pid == 0 else 'parent').end()\n"
        "otelbridge.shutdown(10)\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0\n"
        "os._exit(0)\n"
    )
    done = _run(program)
    assert done.returncode == 0, done.stderr
    assert sorted(span.name for span in sink.spans("/v1/traces")) == ["child", "parent"]
