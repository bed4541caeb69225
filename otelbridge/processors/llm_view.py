"""Stamps the marks of the LLM view: `otelbridge.llm.keep` and `otelbridge.llm.parent`.

Turns a starting span into a `view.Node`, settles the marks of an ending one. The rules are design
section 3.3 and 6; the state they need is in `otelbridge.view`, the tracestate member is written
and read by `propagation`. What is decided late (an entry span kept after its start, a span that
turned gen_ai) is corrected at the end, on a copy, because an ended span takes no attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.trace import SpanContext
from opentelemetry.util.types import AttributeValue

from otelbridge import policy, semconv, view
from otelbridge.context import KEEP_ENTRY_KEY
from otelbridge.propagation import CHANNEL_KEY, UNTRUSTED_REMOTE_KEY

_INPUT_KEYS: Final = (
    semconv.LANGFUSE_OBSERVATION_INPUT,
    semconv.GEN_AI_INPUT_MESSAGES,
    semconv.GEN_AI_TOOL_CALL_ARGUMENTS,
)
_OUTPUT_KEYS: Final = (
    semconv.LANGFUSE_OBSERVATION_OUTPUT,
    semconv.GEN_AI_OUTPUT_MESSAGES,
    semconv.GEN_AI_TOOL_CALL_RESULT,
)
_TRACE_ID_MASK: Final = (1 << 64) - 1


class ViewMarks:
    """Decides which spans of this service are in the LLM view and who their parent there is.

    Args:
        mode: `services`, `llm` or `all` (`OTELBRIDGE_LLM_VIEW`).
        enabled: False marks every span `keep=false` (`LANGFUSE_ENABLED=false`).
        sample_rate: Ratio of traces in the view, by trace id as OTel's TraceIdRatioBased does, so
            that services with the same rate agree (`LANGFUSE_SAMPLE_RATE`).
        capture_content: Whether the root of the view may get input and output.
    """

    def __init__(
        self, *, mode: str, enabled: bool, sample_rate: float = 1.0, capture_content: bool = True
    ) -> None:
        self._mode = mode
        self._enabled = enabled
        self._bound = round(sample_rate * (1 << 64))
        self._capture_content = capture_content

    def at_start(
        self, span: Span, context: Context, present: Mapping[str, Any]
    ) -> tuple[dict[str, AttributeValue], view.Node]:
        """The marks of a starting span, and its node (attached to the span)."""
        own_context = span.get_span_context()
        assert own_context is not None  # a span of the SDK always has one
        own = (
            self._enabled
            and own_context.trace_flags.sampled
            and own_context.trace_id & _TRACE_ID_MASK < self._bound
        )
        scope = span.instrumentation_scope
        in_view = own and (
            self._mode == "all"
            or (scope is not None and policy.is_llm_scope(scope.name))
            or policy.is_gen_ai(present)
        )
        parent = span.parent
        above = None if parent is None or parent.is_remote else view.node_by_id(parent.span_id)
        if above is None:
            node = self._start_entry(span, own_context, parent, context, own, in_view)
        else:
            node = _start_child(own_context, above, own, in_view)
        view.attach(span, own_context.span_id, node)
        return _marks(node), node

    def _start_entry(
        self,
        span: Span,
        own_context: SpanContext,
        parent: SpanContext | None,
        context: Context,
        own: bool,
        in_view: bool,
    ) -> view.Node:
        channel = otel_context.get_value(CHANNEL_KEY, context)
        if not isinstance(channel, view.ReportChannel) or channel.entry is not None:
            channel = None
        span_id = trace.format_span_id(own_context.span_id)
        entry = view.Entry(
            span,
            span_id,
            can_be_kept=own and (self._mode != "llm" or parent is None),
            upstream=_upstream(parent, channel),
        )
        if channel is not None:
            channel.adopt(entry, span)
        if own and (in_view or otel_context.get_value(KEEP_ENTRY_KEY, context)):
            entry.claim()
        remote = otel_context.get_value(UNTRUSTED_REMOTE_KEY, context)
        if parent is None and isinstance(remote, SpanContext):
            span.add_link(remote)
        named = entry.own_parent()
        return view.Node(span_id, entry, ancestor=None, named=named, kept=in_view, own=own)

    def at_end(
        self, span: ReadableSpan, present: Mapping[str, Any]
    ) -> dict[str, AttributeValue]:
        """The marks and texts of an ended span that differ from `present`, what it carries."""
        own_context = span.context
        if own_context is None:
            return {}
        view.calls_abandoned(own_context.span_id)
        node = view.node_by_id(own_context.span_id)
        if node is None:
            return {}
        # A span with more attributes than its limit has lost the oldest, our marks first.
        changes = {} if semconv.LLM_PARENT in present else _marks(node)
        if node.own and (node.kept or policy.is_gen_ai(present)):
            if not node.kept:  # it turned gen_ai after its start
                _settle_late(node, present, changes)
            if self._capture_content:
                _note_texts(node.entry, span, present)
        if node.is_entry:
            self._settle_entry(node.entry, present, changes)
        return changes

    def _settle_entry(
        self, entry: view.Entry, present: Mapping[str, Any], changes: dict[str, AttributeValue]
    ) -> None:
        if not entry.end():
            return
        parent = entry.own_parent()
        if present.get(semconv.LLM_KEEP) is not True:
            changes[semconv.LLM_KEEP] = True
        if present.get(semconv.LLM_PARENT) != parent:
            changes[semconv.LLM_PARENT] = parent
        if parent or not self._capture_content:
            return
        texts = (
            (semconv.LANGFUSE_OBSERVATION_INPUT, entry.first_input),
            (semconv.LANGFUSE_OBSERVATION_OUTPUT, entry.last_output),
        )
        for key, text in texts:
            if text is not None and key not in present:
                changes[key] = text[1]


def _upstream(parent: SpanContext | None, channel: view.ReportChannel | None) -> view.Name | None:
    """The caller's name for us to use: firm always, provisional only when we can answer."""
    if parent is None or not parent.is_remote:
        return None
    member = view.parse_member(parent.trace_state.get(semconv.TRACESTATE_MEMBER))
    if member is None:
        return None
    if member.firm:
        return view.Name(member.view_parent, True)
    # A foreign hop in between has its own span id in traceparent and cannot carry our answer.
    if channel is None or member.sender != trace.format_span_id(parent.span_id):
        return None
    return view.Name(member.view_parent, False)


def _start_child(
    own_context: SpanContext, above: view.Node, own: bool, in_view: bool
) -> view.Node:
    ancestor = trace_ancestor(above)
    claimed = above.entry.claim() if in_view else None
    name = view.Name(ancestor, True) if ancestor is not None else claimed
    if name is None and not in_view:
        name = above.entry.name()
    span_id = trace.format_span_id(own_context.span_id)
    named = name.span_id if name is not None else ""
    return view.Node(span_id, above.entry, ancestor=ancestor, named=named, kept=in_view, own=own)


def _marks(node: view.Node) -> dict[str, AttributeValue]:
    marks: dict[str, AttributeValue] = {semconv.LLM_PARENT: node.named}
    if not node.own:
        marks[semconv.LLM_KEEP] = False
    elif node.kept or (node.is_entry and node.entry.kept):
        marks[semconv.LLM_KEEP] = True
    return marks


def trace_ancestor(above: view.Node) -> str | None:
    """The nearest local ancestor that is in the view by itself, seen from a child of `above`."""
    return above.span_id if above.kept else above.ancestor


def _settle_late(
    node: view.Node, present: Mapping[str, Any], changes: dict[str, AttributeValue]
) -> None:
    claimed = node.entry.claim()
    if node.is_entry:
        return  # settled with the entry
    name = node.ancestor or (claimed.span_id if claimed is not None else "")
    if present.get(semconv.LLM_PARENT) != name:
        changes[semconv.LLM_PARENT] = name


def _note_texts(entry: view.Entry, span: ReadableSpan, present: Mapping[str, Any]) -> None:
    """Offer a view span's input and output to the root of the view."""
    given = _first_text(present, _INPUT_KEYS)
    if given is not None:
        entry.note_input(span.start_time or 0, given)
    produced = _first_text(present, _OUTPUT_KEYS)
    if produced is not None:
        entry.note_output(span.end_time or 0, produced)


def _first_text(present: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = present.get(key)
        if isinstance(value, str) and value:
            return value
    return None
