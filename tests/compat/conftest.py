"""otelbridge switched on with its spans in memory, as an application with an older API has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelbridge
from otelbridge import provider as assembly
from otelbridge import request_ids
from otelbridge.compat import _state, manager
from otelbridge.compat.tracer import Tracer
from otelbridge.integrations import langfuse_v2 as imports

INSTRUMENTORS = (
    FlaskInstrumentor, HTTPXClientInstrumentor, HTTPX2ClientInstrumentor, ThreadingInstrumentor,
)  # fmt: skip


class Spans:
    """What ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        found = [span for span in self.all() if span.name == name]
        assert len(found) == 1, [span.name for span in self.all()]
        return found[0]

    def names(self) -> list[str]:
        return sorted(span.name for span in self.all())


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Each test starts as a process does."""
    _forget()
    yield
    otelbridge.shutdown(1.0)
    for instrumentor in INSTRUMENTORS:  # older code starts with `configure()` in full
        if instrumentor().is_instrumented_by_opentelemetry:
            instrumentor().uninstrument()
    _forget()


def _forget() -> None:
    _state._state.update(tried=False, failed=False)
    Tracer._client = None
    request_ids.forget()
    manager._of_task.set(None)
    imports.uninstall()


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Tracing on, nothing sent; the spans."""
    exporter = InMemorySpanExporter()
    # Behind our processor, where spans are as they leave.
    monkeypatch.setattr(assembly, "_export_path", lambda *_: SimpleSpanProcessor(exporter))
    otelbridge.configure(instrument=False)
    return Spans(exporter)


def attribute(span: ReadableSpan, key: str) -> Any:
    """An attribute by its name, without `langfuse.` if it is one of those."""
    attributes = dict(span.attributes or {})
    return attributes.get(key, attributes.get(f"langfuse.{key}"))


def output(span: ReadableSpan) -> Any:
    """The output of an observation, as what it was."""
    return json.loads(str(attribute(span, "observation.output")))


def parent_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.parent.span_id) if span.parent else ""


def id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(span.get_span_context().span_id)


def trace_of(span: ReadableSpan) -> str:
    return trace.format_trace_id(span.get_span_context().trace_id)
