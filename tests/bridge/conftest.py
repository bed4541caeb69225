"""Flask services on loopback ports and httpx between them, their spans in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from werkzeug.serving import make_server

from otelbridge import policy, provider, semconv
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.propagation import BridgePropagator
from otelbridge.trust import TrustedHosts

INSTRUMENTORS = (
    FlaskInstrumentor,
    HTTPXClientInstrumentor,
    HTTPX2ClientInstrumentor,
    ThreadingInstrumentor,
)


class OpenSpans(SpanProcessor):
    """Counts the spans that were started and have not ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        with self._changed:
            self._open += 1

    def on_end(self, span: ReadableSpan) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait(self, timeout_seconds: float) -> None:
        """Return when no span is open: a server span ends a moment after its last byte."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0, timeout_seconds)


class Bridge:
    """One process with a provider, instrumented libraries and any number of services."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.open_spans = OpenSpans()
        self._servers: list[Any] = []

    def start(
        self,
        *,
        trusted: tuple[str, ...] = (),
        trust_inbound: bool = True,
        enabled: bool = True,
        capture_content: bool = True,
        sampler: sampling.Sampler = sampling.ALWAYS_ON,
    ) -> None:
        """Set provider and propagator and instrument the libraries."""
        sdk = TracerProvider(shutdown_on_exit=False, sampler=sampler)
        sdk.add_span_processor(
            BridgeSpanProcessor(
                context=ContextAttributes(environment="test", release=None),
                marks=ViewMarks(mode="services", enabled=enabled, capture_content=capture_content),
                capture_content=capture_content,
                next_processor=SimpleSpanProcessor(self.exporter),
            )
        )
        sdk.add_span_processor(self.open_spans)
        trace.set_tracer_provider(sdk)
        inner = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
        propagate.set_global_textmap(
            BridgePropagator(inner, trusted=TrustedHosts(trusted), trust_inbound=trust_inbound)
        )
        provider.instrument_libraries(stock=True)

    def stop(self) -> None:
        """Stop the servers and take the instrumentation away."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for instrumentor in INSTRUMENTORS:
            if instrumentor().is_instrumented_by_opentelemetry:
                instrumentor().uninstrument()

    def app(self, name: str) -> Flask:
        """A Flask app, instrumented by the stock instrumentation."""
        import flask

        return flask.Flask(name)

    def serve(self, app: Any) -> str:
        """Serve a WSGI app on a free loopback port; the base URL."""
        server = make_server("127.0.0.1", 0, app, threaded=True)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Ended spans, all or those of one name."""
        self.open_spans.wait(timeout_seconds=10)
        spans = self.exporter.get_finished_spans()
        return [span for span in spans if name is None or span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        found = self.spans(name)
        assert len(found) == 1, [span.name for span in self.spans()]
        return found[0]

    def view(self) -> dict[str, str]:
        """The LLM view: span name -> name of the parent in the view ("" for a root)."""
        kept = [s for s in self.spans() if policy.in_llm_view(s.attributes or {})]
        names = {trace.format_span_id(s.context.span_id): s.name for s in kept}
        return {
            s.name: names.get(parent, f"orphan of {parent}") if parent else ""
            for s in kept
            for parent in [policy.view_parent(s.attributes or {}, "?")]
        }


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A bridge to `start` with the settings of the test; stopped afterwards."""
    found = Bridge()
    yield found
    found.stop()


@pytest.fixture
def llm_call() -> Callable[..., Any]:
    """A context manager that stands for LLM work: a span of the gen_ai helpers' scope."""

    def call(name: str = "chat") -> Any:
        tracer = trace.get_tracer("otelbridge.genai")
        attributes = {semconv.GEN_AI_OPERATION_NAME: "chat"}
        return tracer.start_as_current_span(name, attributes=attributes)

    return call
