"""The two content policies in the service, for `direct` export: what the Collector does otherwise.

`TempoBranch` sends every span without message content, `LangfuseBranch` sends the LLM view with
its parents rewritten. Both wrap any span exporter and apply the tables of `otelbridge.policy`, the
same that `collector/config.yaml` is generated from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

from otelbridge import policy, semconv
from otelbridge.processors.pipeline import with_attributes, without_content


class _Branch(SpanExporter):
    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def _select(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        raise NotImplementedError

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Apply the branch's rule and send what is left."""
        selected = self._select(spans)
        return self._exporter.export(selected) if selected else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


class TempoBranch(_Branch):
    """Every span, without message content; the resource says that the rule was applied."""

    def __init__(self, exporter: SpanExporter) -> None:
        super().__init__(exporter)
        self._seen: tuple[Resource, Resource] | None = None

    def _select(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        return [self._tempo_span(span) for span in spans]

    def _tempo_span(self, span: ReadableSpan) -> ReadableSpan:
        return without_content(span, resource=self._marked(span.resource))

    def _marked(self, resource: Resource) -> Resource:
        # By identity: a process has one resource, and hashing one writes it as JSON each time.
        if self._seen is None or self._seen[0] is not resource:
            attributes = {**resource.attributes, semconv.BRANCH: "tempo"}
            self._seen = (resource, Resource(attributes, resource.schema_url))
        return self._seen[1]


class LangfuseBranch(_Branch):
    """The LLM view only: parents from the marks, nothing that misleads Langfuse."""

    def _select(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        return list(_langfuse_spans(spans))


def _langfuse_spans(spans: Iterable[ReadableSpan]) -> Iterable[ReadableSpan]:
    for span in spans:
        attributes = span.attributes or {}
        if not policy.in_llm_view(attributes):
            continue
        true_parent = trace.format_span_id(span.parent.span_id) if span.parent else ""
        parent = policy.view_parent(attributes, true_parent)
        yield with_attributes(
            span, policy.langfuse_attributes(attributes), parent=_parent_context(span, parent)
        )


def _parent_context(span: ReadableSpan, parent: str) -> SpanContext | None:
    own = span.context
    if not parent or own is None:
        return None
    return SpanContext(own.trace_id, int(parent, 16), False, own.trace_flags)
