"""Span records: what passes from the receivers to the store, and the rules between the two sides.

A record is one OTLP span with references to its resource and scope. Raw spans get the rules of
the Collector's entry and of its two branches (`rules`); spans whose resource says that they passed
the Tempo branch are kept as they are. No I/O; protobuf messages in, records out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import semconv
from otelbridge.local import rules
from otelbridge.local.values import any_value
from otelbridge.span_rules import NO_PAGES, TEMPO_BRANCH, Pages


class SpanRecord(NamedTuple):
    """One span with the resource and scope that it arrived under (shared between records)."""

    span: Span
    resource: Resource
    resource_schema_url: str
    scope: InstrumentationScope
    scope_schema_url: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request adds to each side; written in one transaction."""

    tempo: tuple[SpanRecord, ...]
    langfuse: tuple[SpanRecord, ...]


#: Takes a batch; the future is done once it is committed. `Store.write` is the one; it raises
#: `IngestError` 429 when too much is waiting and `StoreError` when nothing was stored.
BatchWriter: TypeAlias = Callable[[Batch], "Future[None]"]


def service_name(resource: Resource) -> str:
    """The service.name of a resource, or empty text."""
    for pair in resource.attributes:
        if pair.key == semconv.SERVICE_NAME:
            return str(any_value(pair.value))
    return ""


def records(request: ExportTraceServiceRequest) -> Iterator[SpanRecord]:
    """Every span of a request, unchanged, with its resource and scope."""
    for resource_spans in request.resource_spans:
        resource, resource_url = resource_spans.resource, resource_spans.schema_url
        for scope_spans in resource_spans.scope_spans:
            scope, scope_url = scope_spans.scope, scope_spans.schema_url
            for span in scope_spans.spans:
                yield SpanRecord(span, resource, resource_url, scope, scope_url)


def from_otlp_port(
    request: ExportTraceServiceRequest, *, preview_raw: bool = True, pages: Pages = NO_PAGES
) -> Batch:
    """The batch for a request on the OTLP ports.

    Args:
        request: Decoded request with checked ids.
        preview_raw: Whether raw spans also feed the Langfuse preview, by the rule of its branch.
        pages: Where the two stores' pages are, for the links between them.
    """
    batch = _RawBatch(pages, preview_raw=preview_raw)
    for record in records(request):
        batch.add(record)
    return Batch(tuple(batch.tempo), tuple(batch.langfuse))


def from_langfuse_intake(request: ExportTraceServiceRequest) -> Batch:
    """The batch for a request at the Langfuse preview: stored as it is, on that side only."""
    return Batch((), tuple(records(request)))


class _RawBatch:
    """Sorts the spans of a request to the two sides; a resource is made once for its spans."""

    def __init__(self, pages: Pages, *, preview_raw: bool) -> None:
        self.tempo: list[SpanRecord] = []
        self.langfuse: list[SpanRecord] = []
        self._pages = pages
        self._preview_raw = preview_raw
        self._source: Resource | None = None
        self._passed = False
        self._for_tempo: dict[str, Resource] = {}
        self._for_langfuse = Resource()

    def add(self, record: SpanRecord) -> None:
        """Apply the rules to a span, unless it passed the Tempo branch before."""
        if record.resource is not self._source:
            self._source = record.resource
            self._passed = _passed_tempo_branch(record.resource)
            self._for_tempo = {}
            if not self._passed:
                self._for_langfuse = rules.resource_for_langfuse(record.resource)
        if self._passed:
            self.tempo.append(record)
            return
        entered = rules.EnteredSpan(record.span, self._pages)
        seen = entered.for_langfuse() if self._preview_raw else None
        if seen is not None:
            self.langfuse.append(record._replace(span=seen, resource=self._for_langfuse))
        span, owners = entered.for_tempo()
        key = repr(owners)  # tells 1 from "1"
        resource = self._for_tempo.get(key)
        if resource is None:
            resource = rules.resource_for_tempo(record.resource, owners)
            self._for_tempo[key] = resource
        self.tempo.append(record._replace(span=span, resource=resource))


def _passed_tempo_branch(resource: Resource) -> bool:
    return any(
        pair.key == semconv.BRANCH and pair.value.string_value == TEMPO_BRANCH
        for pair in resource.attributes
    )
