"""configure, flush and shutdown: once, on top of what is there, and never longer than allowed."""

from __future__ import annotations

import base64
import gzip
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelbridge import provider, semconv
from otelbridge.distro import OtelbridgeConfigurator, OtelbridgeDistro
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.propagation import CHANNEL_KEY
from otelbridge.settings import Settings
from otelbridge.view import ReportChannel

GEN_AI = {semconv.GEN_AI_OPERATION_NAME: "chat"}


@pytest.fixture(autouse=True)
def fresh_configure(
    clean_environment: None, fresh_opentelemetry: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """`configure` has not been called, and what it starts ends with the test."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "svc")
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    provider.shutdown(0.0)
    yield
    provider.shutdown(0.2)
    for thread in threading.enumerate():  # exports under way must not log into other tests
        if thread.name in ("otelbridge-flush", "otelbridge-shutdown"):
            thread.join(5)


class Backend:
    """An OTLP/HTTP backend on loopback that keeps what it was sent, by path."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                headers = {key.lower(): value for key, value in self.headers.items()}
                backend.requests.append((self.path, headers, message))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def spans(self, path: str = "/v1/traces") -> dict[str, Any]:
        """Span name -> span, of all requests to a path."""
        return {
            span.name: span
            for found, _, message in self.requests
            if found == path
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that answers 200."""
    found = Backend()
    yield found
    found.close()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def configure(**overrides: Any) -> TracerProvider:
    """`provider.configure` without the instrumentations."""
    found = provider.configure(instrument=False, **overrides)
    assert found is not None
    return found


def test_twenty_threads_get_one_provider(backend: Backend) -> None:
    """configure() is idempotent and thread-safe: one provider with one processor."""
    barrier = threading.Barrier(20)

    def call(_: int) -> Any:
        barrier.wait(10)
        return provider.configure(instrument=False)

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(call, range(20)))
    assert {id(one) for one in found} == {id(trace.get_tracer_provider())}
    assert len(found[0]._active_span_processor._span_processors) == 1


def test_further_arguments_are_named_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """A second call with other arguments says that it changes nothing."""
    first = configure(traces_exporter="none")
    assert provider.configure(instrument=False, service_name="other") is first
    assert "configure() was called before" in caplog.text
    settings = provider.active_settings()
    assert settings is not None
    assert settings.service_name == "svc"


def test_an_sdk_provider_of_the_application_is_completed(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays in place, gets our processor, and its other exporters are named."""
    theirs = TracerProvider(shutdown_on_exit=False)
    other = InMemorySpanExporter()
    theirs.add_span_processor(SimpleSpanProcessor(other))
    theirs.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    trace.set_tracer_provider(theirs)
    assert configure(otlp_endpoint=backend.url) is theirs
    assert "also exports through InMemorySpanExporter, InMemorySpanExporter" in caplog.text
    with trace.get_tracer("t").start_as_current_span("span", attributes=GEN_AI):
        pass
    assert provider.flush(5)
    assert backend.spans()["span"]
    provider.shutdown(2)
    with trace.get_tracer("t").start_as_current_span("after"):
        pass
    assert [span.name for span in other.get_finished_spans()] == ["span", "after"]


class Foreign(trace.TracerProvider):
    """Another library's provider."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """A tracer that does nothing."""
        return trace.NoOpTracer()


def test_a_foreign_provider_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """One warning says what to do; propagation is on all the same."""
    foreign = Foreign()
    trace.set_tracer_provider(foreign)
    assert provider.configure(instrument=False) is None
    assert trace.get_tracer_provider() is foreign
    assert "Foreign, not the OpenTelemetry SDK's" in caplog.text
    assert provider.flush()


def test_disabled_means_no_provider_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED=true: no-op spans, flush and shutdown answer at once."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert provider.configure(instrument=False) is None
    with trace.get_tracer("t").start_as_current_span("span") as span:
        assert not span.is_recording()
    assert provider.flush()
    assert provider.shutdown()


def test_no_exporter_still_gives_recording_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_EXPORTER=none: trace ids for logs and headers, nothing sent."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    configure()
    with trace.get_tracer("t").start_as_current_span("span") as span:
        assert span.is_recording()
        assert semconv.LLM_PARENT in span.attributes  # type: ignore[attr-defined]  # an SDK span
    assert provider.flush()


@pytest.mark.parametrize(
    ("text", "fields", "warned"),
    [
        ("none", set(), False),
        ("tracecontext", {"traceparent", "tracestate"}, False),
        ("tracecontext,nonsense", {"traceparent", "tracestate"}, True),
        ("b3,baggage", {"baggage"}, True),
        ("", {"traceparent", "tracestate", "baggage"}, False),
    ],
)
def test_propagators_by_name(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    fields: set[str],
    warned: bool,
) -> None:
    """Unknown or not installed ones are left out with a warning; `none` propagates nothing."""
    monkeypatch.setenv("OTEL_PROPAGATORS", text)
    configure(traces_exporter="none")
    assert propagate.get_global_textmap().fields == fields
    assert any("OTEL_PROPAGATORS" in message for message in caplog.messages) is warned
    headers = {"host": "svc"}
    with trace.get_tracer("t").start_as_current_span("span"):
        propagate.inject(headers)
    assert ("traceparent" in headers) is ("traceparent" in fields)


def test_one_stream_for_the_collector(backend: Backend) -> None:
    """Resource, marks and content as they are: the Collector's branches do the rest."""
    configure(otlp_endpoint=backend.url)
    start = trace.get_tracer("t").start_as_current_span
    attributes = {**GEN_AI, semconv.GEN_AI_INPUT_MESSAGES: "[]"}
    with start("entry"), start("chat", attributes=attributes):
        pass
    assert provider.flush(5)
    (path, headers, message), *more = backend.requests
    assert more == []
    assert path == "/v1/traces"
    assert headers["content-encoding"] == "gzip"
    resource = {a.key: a.value.string_value for a in message.resource_spans[0].resource.attributes}
    assert resource["service.name"] == "svc"
    assert resource["telemetry.distro.name"] == "otelbridge"
    keys = {a.key for a in backend.spans()["chat"].attributes}
    assert {semconv.GEN_AI_INPUT_MESSAGES, semconv.LLM_KEEP, semconv.LLM_PARENT} <= keys


def test_direct_export_sends_two_streams(backend: Backend) -> None:
    """Every span without content to the endpoint, the LLM view with content to Langfuse."""
    configure(
        export="direct", otlp_endpoint=f"{backend.url}/tempo", otlp_headers={"x-scope": "a"},
        langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-2", langfuse_host=backend.url,
    )  # fmt: skip
    tracer = trace.get_tracer("t")
    attributes = {**GEN_AI, semconv.GEN_AI_INPUT_MESSAGES: "[]"}
    start = tracer.start_as_current_span
    with start("entry"), start("http"), start("chat", attributes=attributes):
        pass
    with start("plain request"):
        pass
    assert provider.flush(5)
    tempo = backend.spans("/tempo/v1/traces")
    langfuse = backend.spans("/api/public/otel/v1/traces")
    assert set(tempo) == {"entry", "http", "chat", "plain request"}
    assert set(langfuse) == {"entry", "chat"}
    assert semconv.GEN_AI_INPUT_MESSAGES not in {a.key for a in tempo["chat"].attributes}
    assert semconv.GEN_AI_INPUT_MESSAGES in {a.key for a in langfuse["chat"].attributes}
    assert langfuse["chat"].parent_span_id == langfuse["entry"].span_id
    assert langfuse["entry"].parent_span_id == b""
    assert tempo["chat"].parent_span_id == tempo["http"].span_id
    assert not [a for a in langfuse["chat"].attributes if a.key.startswith("otelbridge.")]
    headers = {path: found for path, found, _ in backend.requests}
    pair = base64.b64encode(b"pk-lf-1:sk-lf-2").decode()
    there = headers["/api/public/otel/v1/traces"]
    assert there["authorization"] == f"Basic {pair}"
    assert there["x-langfuse-ingestion-version"] == "4"
    assert "x-scope" not in there
    assert headers["/tempo/v1/traces"]["x-scope"] == "a"
    assert "authorization" not in headers["/tempo/v1/traces"]


def test_direct_export_links_the_stores_to_each_other(backend: Backend) -> None:
    """The addresses of the settings reach the two branches."""
    configure(
        export="direct", otlp_endpoint=f"{backend.url}/tempo",
        langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-2", langfuse_host=backend.url,
        langfuse_public_url="https://lf.example", langfuse_project_id="p-7",
        grafana_url="https://grafana.example",
    )  # fmt: skip
    with trace.get_tracer("t").start_as_current_span("chat", attributes=GEN_AI):
        pass
    assert provider.flush(5)
    for path, key, start in (
        ("/tempo/v1/traces", semconv.LANGFUSE_URL, "https://lf.example/project/p-7/traces/"),
        ("/api/public/otel/v1/traces", semconv.GRAFANA_URL, "https://grafana.example/explore?"),
    ):
        found = {a.key: a.value.string_value for a in backend.spans(path)["chat"].attributes}
        assert found[key].startswith(start)


def test_direct_export_without_keys_sends_one_stream(backend: Backend) -> None:
    """The Langfuse stream is off, the other one goes on."""
    configure(export="direct", otlp_endpoint=backend.url)
    with trace.get_tracer("t").start_as_current_span("chat", attributes=GEN_AI):
        pass
    assert provider.flush(5)
    assert {path for path, _, _ in backend.requests} == {"/v1/traces"}


def test_the_stock_grpc_exporter_delivers() -> None:
    """OTELBRIDGE_EXPORTER=stock with protocol grpc reaches a gRPC TraceService with headers."""
    import grpc
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

    seen: list[tuple[dict[str, Any], Any]] = []

    class Service(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
            seen.append((dict(context.invocation_metadata()), request))
            return trace_service_pb2.ExportTraceServiceResponse()

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        configure(
            exporter="stock", otlp_protocol="grpc", otlp_endpoint=f"http://127.0.0.1:{port}",
            otlp_headers={"x-scope": "a"},
        )  # fmt: skip
        with trace.get_tracer("t").start_as_current_span("span"):
            pass
        assert provider.flush(5)
        provider.shutdown(5)
        server.stop(0).wait(5)
    (metadata, request), *_ = seen
    assert metadata["x-scope"] == "a"
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "span"


def test_a_span_takes_256_attributes(backend: Backend) -> None:
    """The default limit is twice the SDK's, and the marks are not lost over it."""
    configure(otlp_endpoint=backend.url)
    with trace.get_tracer("t").start_as_current_span("span") as span:
        for number in range(300):
            span.set_attribute(f"k{number}", number)
        assert len(span.attributes) == 256  # type: ignore[attr-defined]  # an SDK span
    assert provider.flush(5)
    assert semconv.LLM_PARENT in {a.key for a in backend.spans()["span"].attributes}


@pytest.mark.parametrize("export", ["collector", "direct"])
@pytest.mark.parametrize("action", [provider.flush, provider.shutdown])
def test_a_dead_endpoint_holds_nobody(
    black_hole: str, export: str, action: Callable[[float], bool]
) -> None:
    """flush and shutdown end within their time-out, and say that without a spool spans are lost."""
    configure(
        export=export, otlp_endpoint=black_hole, otlp_timeout_seconds=1,
        langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-2", langfuse_host=black_hole,
        spool_max_bytes=0,
    )  # fmt: skip
    for _ in range(100):
        trace.get_tracer("t").start_span("span", attributes=GEN_AI).end()
    started = time.monotonic()
    assert action(0.3) is False
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("dead", ["otlp", "langfuse"])
def test_a_dead_stream_does_not_hold_the_other(
    backend: Backend, black_hole: str, dead: str
) -> None:
    """Direct export: at the end the healthy stream is delivered, the other one is in the spool."""
    configure(
        export="direct", otlp_timeout_seconds=1,
        otlp_endpoint=black_hole if dead == "otlp" else backend.url,
        langfuse_host=black_hole if dead == "langfuse" else backend.url,
        langfuse_public_key="pk-lf-1", langfuse_secret_key="sk-lf-2",
    )  # fmt: skip
    with trace.get_tracer("t").start_as_current_span("chat", attributes=GEN_AI):
        pass
    assert provider.shutdown(0.7) is True
    assert len(list(Path(os.environ["OTELBRIDGE_SPOOL_DIR"]).glob("*/*.spool1"))) == 1
    healthy = "/api/public/otel/v1/traces" if dead == "otlp" else "/v1/traces"
    assert set(backend.spans(healthy)) == {"chat"}


def test_configure_after_shutdown_starts_again(backend: Backend) -> None:
    """The first processor is out of the way: marks, entries and reports are the second's."""
    first = configure(otlp_endpoint=backend.url)
    with trace.get_tracer("t").start_as_current_span("first"):
        pass
    assert provider.shutdown(5)
    assert provider.active_settings() is None
    with trace.get_tracer("t").start_as_current_span("between") as between:
        assert semconv.LLM_PARENT not in between.attributes  # type: ignore[attr-defined]
    assert configure(otlp_endpoint=backend.url) is first

    from opentelemetry import context as otel_context
    from opentelemetry.propagate import extract

    sender = "00f067aa0ba902b7"
    caller = extract(
        {
            "traceparent": f"00-4bf92f3577b34da6a3ce929d0e0e4736-{sender}-01",
            "tracestate": f"otelbridge={'ab' * 8}-{sender}-p",
        }
    )
    channel = ReportChannel()
    context = otel_context.set_value(CHANNEL_KEY, channel, caller)
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("second", context=context):
        with tracer.start_as_current_span("chat", attributes=GEN_AI):
            pass
        assert channel.answer(body_complete=True) == "yes"
    assert provider.flush(5)
    assert set(backend.spans()) == {"first", "second", "chat"}


def test_reconfiguring_names_no_exporter_of_our_own(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Our own earlier processor is nobody's other exporter."""
    configure(otlp_endpoint=backend.url)
    provider.shutdown(5)
    caplog.clear()
    configure(otlp_endpoint=backend.url)
    assert "also exports through" not in caplog.text


def test_a_failed_configure_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad setting raises for the caller by hand, and leaves nothing half built."""
    from otelbridge.errors import ConfigError

    monkeypatch.setenv("OTELBRIDGE_LLM_VIEW", "nonsense")
    with pytest.raises(ConfigError, match="OTELBRIDGE_LLM_VIEW"):
        provider.configure(instrument=False)
    assert provider.active_settings() is None
    monkeypatch.setenv("OTELBRIDGE_LLM_VIEW", "services")
    assert provider.configure(instrument=False) is trace.get_tracer_provider()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTELBRIDGE_LLM_VIEW", "nonsense"),
        ("OTELBRIDGE_EXPORT", "nonsense"),
        ("LANGFUSE_SAMPLE_RATE", "seven"),
        ("LANGFUSE_PUBLIC_KEY", "sk-lf-swapped"),
        ("OTEL_TRACES_SAMPLER", "nonsense"),
        ("OTEL_TRACES_SAMPLER_ARG", "nonsense"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "=,=,a"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-5"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "nonsense"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=,%zz=%zz"),
        ("OTEL_PROPAGATORS", ",,,"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_the_configurator_never_raises(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, swallow_errors: None
) -> None:
    """Zero-code: whatever the environment says, the program runs, with spans or without."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(provider, "instrument_libraries", lambda **_: None)
    OtelbridgeDistro().configure()
    OtelbridgeConfigurator().configure()
    with trace.get_tracer("t").start_as_current_span("span"):
        pass
    provider.shutdown(0.2)


def test_a_forked_child_delivers_its_spans(backend: Backend) -> None:
    """os.fork after configure(): the child's spans arrive, the parent goes on."""
    configure(otlp_endpoint=backend.url)
    with trace.get_tracer("t").start_as_current_span("before"):
        pass
    assert provider.flush(5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with trace.get_tracer("t").start_as_current_span("child", attributes=GEN_AI):
                pass
            code = 0 if provider.flush(5) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with trace.get_tracer("t").start_as_current_span("parent"):
        pass
    assert provider.flush(5)
    assert {"before", "child", "parent"} <= set(backend.spans())


def test_a_fork_while_every_lock_is_held_does_not_hang(backend: Backend) -> None:
    """Locks that another thread held at the fork are free in the child."""
    from otelbridge import _guard, propagation, view

    configure(otlp_endpoint=backend.url)
    locks = (view._calls_lock, _guard._lock, propagation._withheld_lock, provider._state.lock)
    for lock in locks:
        lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            try:
                _guard.count("in the child")
                view.open_calls()
                with trace.get_tracer("t").start_as_current_span("child"):
                    propagate.inject({"host": "example.com"})
                provider.configure(instrument=False)
            finally:
                os._exit(0)
    finally:
        for lock in locks:
            lock.release()
    deadline = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)


PROGRAM = """
import otelbridge
from opentelemetry import trace
otelbridge.configure(instrument=False)
for number in range(50):
    trace.get_tracer("t").start_span(f"span {number}").end()
"""


def test_spans_are_delivered_when_the_program_ends(backend: Backend) -> None:
    """Without flush or shutdown, the end of the interpreter delivers what is queued."""
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": backend.url,
        "OTEL_SERVICE_NAME": "p",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, timeout=30, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert len(backend.spans()) == 50


NO_THREADS = """
import atexit, threading
def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")
atexit.register(lambda: setattr(threading.Thread, "start", refuse))
"""


@pytest.mark.parametrize("dead", [False, True])
def test_a_python_that_starts_no_thread_at_its_end_delivers(
    backend: Backend, black_hole: str, dead: bool
) -> None:
    """Python 3.12 and later refuse new threads in atexit: spans arrive, a dead end is bounded."""
    environment = {
        **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": black_hole if dead else backend.url,
        "OTEL_SERVICE_NAME": "p", "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    }  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + NO_THREADS], env=environment, timeout=30,
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert time.monotonic() - started < 6
    assert "RuntimeError" not in done.stderr
    assert len(backend.spans()) == (0 if dead else 50)


def test_a_dead_endpoint_holds_the_end_of_a_program_for_its_time(black_hole: str) -> None:
    """Exit with a black hole behind takes the exit time-out, not the exporter's."""
    environment = {
        **os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": black_hole, "OTEL_SERVICE_NAME": "p",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    }  # fmt: skip
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, timeout=30, check=True,
        capture_output=True,
    )  # fmt: skip
    assert time.monotonic() - started < 6


def test_our_processor_survives_a_hostile_span(swallow_errors: None) -> None:
    """An error in our processor costs our marks, not the span and not the program."""
    from otelbridge.processors.context import ContextAttributes

    exporter = InMemorySpanExporter()

    class Broken:
        def at_start(self, *args: Any) -> Any:
            raise RuntimeError("broken")

        def at_end(self, *args: Any) -> Any:
            raise RuntimeError("broken")

    sdk = TracerProvider(shutdown_on_exit=False)
    sdk.add_span_processor(
        BridgeSpanProcessor(
            context=ContextAttributes(environment=None, release=None),
            marks=Broken(),  # type: ignore[arg-type]  # that is the test
            next_processor=SimpleSpanProcessor(exporter),
        )
    )
    with sdk.get_tracer("t").start_as_current_span("span"):
        pass
    assert [span.name for span in exporter.get_finished_spans()] == ["span"]


def test_settings_are_taken_as_given(caplog: pytest.LogCaptureFixture) -> None:
    """A Settings object wins over the environment; one start-up line says what is on."""
    caplog.set_level(logging.INFO, logger="otelbridge")
    settings = Settings.from_env({"OTEL_SERVICE_NAME": "given"}, otlp_endpoint="http://127.0.0.1:1")
    found = provider.configure(settings, instrument=False)
    assert found is not None
    assert found.resource.attributes["service.name"] == "given"
    assert len([m for m in caplog.messages if "service=given" in m]) == 1


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1.0, 1e300])
def test_any_number_of_seconds_is_taken(backend: Backend, seconds: float) -> None:
    """No infinity and no clock's limit reaches the application from `flush` or `shutdown`."""
    configure(otlp_endpoint=backend.url)
    assert provider.flush(seconds) in (True, False)
    assert provider.shutdown(seconds) in (True, False)
