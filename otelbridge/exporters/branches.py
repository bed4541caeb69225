"""The two content policies in the service, for `direct` export: what the Collector does otherwise.

`tempo_branch` sends every span without message content, `langfuse_branch` sends the LLM view with
its parents rewritten. Both wrap any span exporter and apply the tables of `otelbridge.policy`, the
same that `collector/config.yaml` is generated from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext

from otelbridge import langfuse_policy, policy, semconv
from otelbridge.processors.pipeline import with_attributes, without_content

Rule = Callable[[Sequence[ReadableSpan]], Iterable[ReadableSpan]]


class Branch(SpanExporter):
    """An exporter that sends what a rule makes of the spans.

    Args:
        rule: Spans in, the spans to send out; pure.
        exporter: Where they go.
    """

    def __init__(self, rule: Rule, exporter: SpanExporter) -> None:
        self._rule = rule
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Apply the rule and send what is left."""
        selected = list(self._rule(spans))
        return self._exporter.export(selected) if selected else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


def tempo_branch(exporter: SpanExporter) -> Branch:
    """Every span, without message content; the resource says that the rule was applied."""
    return Branch(_TempoRule(), exporter)


def langfuse_branch(exporter: SpanExporter) -> Branch:
    """The LLM view only: parents from the marks, nothing that misleads Langfuse."""
    return Branch(_langfuse_spans, exporter)


class _TempoRule:
    def __init__(self) -> None:
        self._seen: tuple[Resource, Resource] | None = None

    def __call__(self, spans: Sequence[ReadableSpan]) -> Iterable[ReadableSpan]:
        return (without_content(span, resource=self._marked(span.resource)) for span in spans)

    def _marked(self, resource: Resource) -> Resource:
        # By identity: a process has one resource, and hashing one writes it as JSON each time.
        if self._seen is None or self._seen[0] is not resource:
            attributes = {**resource.attributes, semconv.BRANCH: "tempo"}
            self._seen = (resource, Resource(attributes, resource.schema_url))
        return self._seen[1]


def _langfuse_spans(spans: Sequence[ReadableSpan]) -> Iterable[ReadableSpan]:
    for span in spans:
        attributes = span.attributes or {}
        if not policy.in_llm_view(attributes):
            continue
        true_parent = trace.format_span_id(span.parent.span_id) if span.parent else ""
        parent = policy.view_parent(attributes, true_parent)
        yield with_attributes(
            span,
            langfuse_policy.langfuse_attributes(attributes),
            parent=_parent_context(span, parent),
        )


def _parent_context(span: ReadableSpan, parent: str) -> SpanContext | None:
    own = span.context
    if not parent or own is None:
        return None
    return SpanContext(own.trace_id, int(parent, 16), False, own.trace_flags)
