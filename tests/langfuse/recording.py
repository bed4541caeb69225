"""Spans of this process in memory, with everything that otelbridge writes on them."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor


class Recording:
    """A global tracer provider; `spans` are those that have ended.

    Args:
        export: Gets the spans instead.
    """

    def __init__(self, export: SpanProcessor | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(
            BridgeSpanProcessor(
                context=ContextAttributes(environment=None, release=None),
                marks=ViewMarks(mode="services", enabled=True, capture_content=True),
                capture_content=True,
                next_processor=export or SimpleSpanProcessor(self._exporter),
            )
        )
        trace.set_tracer_provider(provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, [span.name for span in self.spans]
        return found[0]
