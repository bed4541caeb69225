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
from otelbridge.context import KEEP_ENTRY_KEY, late_updates
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
_SAMPLED: Final = 1


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
        self._is_all = mode == "all"
        self._enabled = enabled
        self._bound = round(sample_rate * (1 << 64))
        self._is_whole = self._bound > _TRACE_ID_MASK
        self._capture_content = capture_content

    def at_start(self, span: Span, context: Context, *, gen_ai: bool) -> view.Node:
        """The node of a starting span, attached to it; `marks_of` has its marks.

        Args:
            gen_ai: Whether it starts as a gen_ai span.
        """
        own_context = span.context
        own = (
            self._enabled
            and own_context.trace_flags & _SAMPLED != 0
            and (self._is_whole or own_context.trace_id & _TRACE_ID_MASK < self._bound)
        )
        in_view = own and (gen_ai or self._is_all or _is_llm_scope(span))
        parent = span.parent
        above = None if parent is None or parent.is_remote else view.node_by_id(parent.span_id)
        if above is None:
            node = self._start_entry(span, own_context, parent, context, own, in_view)
        else:
            entry = above.entry
            if in_view and not entry.kept:
                entry.claim()
            ancestor = above.span_id if above.kept else above.ancestor
            named = ancestor or entry.sure_name
            if not named and (name := entry.name()) is not None:
                named = name.span_id
            node = view.Node(span, own_context.span_id, entry, above, ancestor, named, in_view, own)
        view.attach(span, node)
        return node

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
        entry.counted_by_caller = _counted(parent)
        if channel is not None:
            channel.adopt(entry, span)
        if own and (in_view or otel_context.get_value(KEEP_ENTRY_KEY, context)):
            entry.claim()
        remote = otel_context.get_value(UNTRUSTED_REMOTE_KEY, context)
        if parent is None and isinstance(remote, SpanContext):
            span.add_link(remote)
        return view.Node(
            span, own_context.span_id, entry, None, None, entry.own_parent(), in_view, own
        )

    def at_end(
        self,
        span: ReadableSpan,
        node: view.Node | None,
        present: Mapping[str, Any],
        *,
        gen_ai: bool,
    ) -> dict[str, AttributeValue] | None:
        """The marks and texts of an ended span that differ from `present`, what it carries.

        Args:
            node: Of the span; None for one that started before this processor came.
            gen_ai: Whether it ended as a gen_ai span.
        """
        if node is None:
            if span.context is not None:
                view.calls_abandoned(span.context.span_id)
            return None
        view.calls_abandoned(node.id)
        entry = node.entry
        in_view = node.own and (node.kept or gen_ai)
        if in_view and self._capture_content:
            _note_texts(entry, span, present)
        has_marks = semconv.LLM_PARENT in present
        if has_marks and (node.kept or not in_view) and not node.is_entry and not entry.updates:
            return None  # as nearly every span
        # A span with more attributes than its limit has lost the oldest, our marks first.
        changes = {} if has_marks else marks_of(node)
        if in_view and not node.kept:  # it turned gen_ai after its start
            _settle_late(node, present, changes)
        if node.is_entry:
            self._settle_entry(entry, present, changes)
        if entry.updates:
            changes.update(late_updates(entry, present))
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


def _counted(parent: SpanContext | None) -> str:
    """What an open model call of the caller counts (`view.Member.counted`)."""
    if parent is None or not parent.is_remote:
        return ""
    member = view.parse_member(parent.trace_state.get(semconv.TRACESTATE_MEMBER))
    # Behind a foreign hop it is still the same request of the same model call.
    return member.counted if member is not None else ""


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


def _is_llm_scope(span: Span) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and policy.is_llm_scope(scope.name)


def marks_of(node: view.Node) -> dict[str, AttributeValue]:
    """`otelbridge.llm.parent` and, where it is decided, `otelbridge.llm.keep`."""
    marks: dict[str, AttributeValue] = {semconv.LLM_PARENT: node.named}
    if not node.own:
        marks[semconv.LLM_KEEP] = False
    elif node.kept or (node.is_entry and node.entry.kept):
        marks[semconv.LLM_KEEP] = True
    return marks


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
    if present.get(semconv.LANGFUSE_OBSERVATION_TYPE) == "event":
        return  # what the application noted beside its work is not the request's answer
    start_ns, end_ns = span.start_time or 0, span.end_time or 0
    first, last = entry.first_input, entry.last_output
    if first is None or start_ns < first[0]:
        given = _first_text(present, _INPUT_KEYS)
        if given is not None:
            entry.note_input(start_ns, given)
    if last is None or end_ns >= last[0]:
        produced = _first_text(present, _OUTPUT_KEYS)
        if produced is not None:
            entry.note_output(end_ns, produced)


def _first_text(present: Mapping[str, Any], keys: tuple[str, str, str]) -> str | None:
    first, second, third = keys
    found = present.get(first) or present.get(second) or present.get(third)
    if type(found) is str or found is None:
        return found or None
    for key in keys:
        value = present.get(key)
        if isinstance(value, str) and value:
            return value
    return None
