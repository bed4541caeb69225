"""Span records: what passes from the receivers to the store, and the rules between the two sides.

A record is one OTLP span with references to its resource and scope. Raw spans get the rules of
the Collector's two branches (`otelbridge.policy`); spans whose resource says that they passed the
Tempo branch are kept as they are. No I/O; protobuf messages in, records out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge import langfuse_policy, policy, semconv

#: Value of the resource attribute `otelbridge.branch` once the Tempo rule has been applied.
TEMPO_BRANCH: Final = "tempo"
#: Resource attributes that the Collector removes on its way in, for both sides.
_SCRUBBED: Final = frozenset({semconv.PROCESS_COMMAND_LINE, semconv.PROCESS_COMMAND_ARGS})


@dataclass(frozen=True, slots=True)
class SpanRecord:
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


def any_value(value: AnyValue) -> Any:
    """An OTLP value as Python: str, bool, int, float, bytes, list, dict, or None when unset."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [any_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: any_value(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """OTLP attributes as a mapping of Python values."""
    return {pair.key: any_value(pair.value) for pair in pairs}


def service_name(resource: Resource) -> str:
    """The service.name of a resource, or empty text."""
    for pair in resource.attributes:
        if pair.key == semconv.SERVICE_NAME:
            return str(any_value(pair.value))
    return ""


def records(request: ExportTraceServiceRequest) -> Iterator[SpanRecord]:
    """Every span of a request, unchanged, with its resource and scope."""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield SpanRecord(
                    span=span,
                    resource=resource_spans.resource,
                    resource_schema_url=resource_spans.schema_url,
                    scope=scope_spans.scope,
                    scope_schema_url=scope_spans.schema_url,
                )


def from_otlp_port(request: ExportTraceServiceRequest, *, preview_raw: bool = True) -> Batch:
    """The batch for a request on the OTLP ports.

    Args:
        request: Decoded request with checked ids; raw resources in it lose their command lines.
        preview_raw: Whether raw spans also feed the Langfuse preview, by the rule of its branch.
    """
    tempo: list[SpanRecord] = []
    langfuse: list[SpanRecord] = []
    for group in request.resource_spans:
        if not _passed_tempo_branch(group.resource):
            _keep(group.resource, lambda key: key not in _SCRUBBED)
    for record in records(request):
        if _passed_tempo_branch(record.resource):
            tempo.append(record)
            continue
        if preview_raw:
            kept = _langfuse_rule(record)
            if kept is not None:
                langfuse.append(kept)
        tempo.append(_tempo_rule(record))
    return Batch(tuple(tempo), tuple(langfuse))


def from_langfuse_intake(request: ExportTraceServiceRequest) -> Batch:
    """The batch for a request at the Langfuse preview: stored as it is, on that side only."""
    return Batch((), tuple(records(request)))


def _passed_tempo_branch(resource: Resource) -> bool:
    return any(
        pair.key == semconv.BRANCH and pair.value.string_value == TEMPO_BRANCH
        for pair in resource.attributes
    )


def _replaced(record: SpanRecord, span: Span) -> SpanRecord:
    return SpanRecord(
        span, record.resource, record.resource_schema_url, record.scope, record.scope_schema_url
    )


def _tempo_rule(record: SpanRecord) -> SpanRecord:
    """The record without message content; the span is copied only when something is removed."""
    span = record.span
    content_events = [event for event in span.events if policy.is_content_event(event.name)]
    holders = [span.attributes, *(event.attributes for event in span.events)]
    holders += [link.attributes for link in span.links]
    if not content_events and not any(
        policy.is_content_key(pair.key) for holder in holders for pair in holder
    ):
        return record
    cleaned = Span()
    cleaned.CopyFrom(span)
    kept_events = [event for event in cleaned.events if not policy.is_content_event(event.name)]
    del cleaned.events[:]
    cleaned.events.extend(kept_events)
    _keep(cleaned, lambda key: not policy.is_content_key(key))
    for part in (*cleaned.events, *cleaned.links):
        _keep(part, lambda key: not policy.is_content_key(key))
    mark = cleaned.attributes.add()
    mark.key = semconv.CONTENT_REMOVED
    mark.value.bool_value = True
    return _replaced(record, cleaned)


def _langfuse_rule(record: SpanRecord) -> SpanRecord | None:
    """The record as the Langfuse branch sends it, or None when it is outside the LLM view."""
    attributes = attributes_of(record.span.attributes)
    if not policy.in_llm_view(attributes):
        return None
    viewed = Span()
    viewed.CopyFrom(record.span)
    parent = policy.view_parent(attributes, record.span.parent_span_id.hex())
    viewed.parent_span_id = _span_id(parent, record.span.parent_span_id)
    wanted = langfuse_policy.langfuse_attributes(attributes)
    _keep(viewed, wanted.__contains__)
    return _replaced(record, viewed)


def _span_id(hex_digits: str, otherwise: bytes) -> bytes:
    """The id named by a mark; a mark that is no span id leaves the true parent."""
    try:
        value = bytes.fromhex(hex_digits)
    except ValueError:
        return otherwise
    return value if len(value) in (0, 8) else otherwise


def _keep(holder: Any, wanted: Any) -> None:
    """Reduce the repeated `attributes` of a span, event or link to the wanted keys."""
    kept = [pair for pair in holder.attributes if wanted(pair.key)]
    if len(kept) != len(holder.attributes):
        copies = [KeyValue.FromString(pair.SerializeToString()) for pair in kept]
        del holder.attributes[:]
        holder.attributes.extend(copies)
