"""A recording provider for the tests of the gen_ai helpers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Recorded:
    """The spans that have ended since the test began."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def one(self) -> ReadableSpan:
        spans = self.all
        assert len(spans) == 1, [span.name for span in spans]
        return spans[0]

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.one.attributes or {})

    def named(self, name: str) -> ReadableSpan:
        found = [span for span in self.all if span.name == name]
        assert len(found) == 1, [span.name for span in self.all]
        return found[0]


@pytest.fixture
def spans() -> Recorded:
    """A global provider that keeps every ended span in memory."""
    recorded = Recorded()
    trace.set_tracer_provider(recorded.provider)
    return recorded


@pytest.fixture
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The test fails when anything at all was logged at WARNING or above."""
    with caplog.at_level(logging.WARNING):
        yield caplog
    assert [record.getMessage() for record in caplog.records] == []
