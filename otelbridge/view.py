"""The LLM view inside one process: which spans are in it, and who names whom as parent.

Every recording span has a `Node`; the spans of one request in this process share an `Entry` (the
span whose parent is another process or nothing). An entry span is named in advance: LLM work
below it makes it kept, so descendants may point at it before it is. `propagation` reads nodes to
write the tracestate member, `processors.llm_view` makes them and stamps the marks, the HTTP
integrations carry reports. Plain Python objects, no SDK import; design section 3.3 and 6.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from opentelemetry.util.types import AttributeValue

from otelbridge import _guard, semconv

Answer = Literal["yes", "no", "maybe"]
NODE_ATTRIBUTE: Final = "_otelbridge_node"
_MEMBER: Final = re.compile(r"^([0-9a-f]{16})-([0-9a-f]{16})-([fp])(?:-([ce]))?$")
_ZERO: Final = "0" * 16


class LiveSpan(Protocol):
    """The part of the SDK's span that marks are written to."""

    def is_recording(self) -> bool:
        """Whether it has not ended."""

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Write one attribute."""


class OpenCall(Protocol):
    """The part of a call's state that headers are written from."""

    def counts_for_callee(self, node: Node) -> str:
        """What an open model call at this node counts for a callee: `c`, `e` or empty text."""


class Name(NamedTuple):
    """A parent in the view: its span id (16 hex digits), and whether it is already kept."""

    span_id: str
    firm: bool


@dataclass(frozen=True, slots=True)
class Member:
    """The `otelbridge` member of W3C tracestate: `<view parent>-<sender span id>-<f|p>`.

    With `-c` or `-e` at its end an open model call of the caller (a chat, an embedding) counts
    usage and cost of this request.
    """

    view_parent: str
    sender: str
    firm: bool
    counted: str = ""
    """`c`, `e` or empty text."""

    def __str__(self) -> str:
        kind = "f" if self.firm else "p"
        counted = f"-{self.counted}" if self.counted else ""
        return f"{self.view_parent}-{self.sender}-{kind}{counted}"


def parse_member(value: str | None) -> Member | None:
    """The member as sent, or None for anything that is not exactly of its form."""
    found = _MEMBER.match(value) if value else None
    if found is None or found[1] == _ZERO or found[2] == _ZERO:
        return None
    return Member(found[1], found[2], found[3] == "f", found[4] or "")


class ReportChannel:
    """Carries one request's answer back to its caller; made by a server integration.

    An integration that can put a header on the response places a channel in the context that the
    server span starts under; the entry then may use a provisional name from the caller.
    """

    __slots__ = ("_on_span", "entry", "span")

    def __init__(self, on_span: Callable[[Any], None] | None = None) -> None:
        self.entry: Entry | None = None
        self.span: Any = None
        self._on_span = on_span

    def adopt(self, entry: Entry, span: Any) -> None:
        """Called once by the span processor with the request's entry span."""
        self.entry = entry
        self.span = span
        if self._on_span is not None:
            self._on_span(span)

    def answer(self, *, body_complete: bool) -> Answer | None:
        """The report for the response header; None when the caller did not ask.

        Args:
            body_complete: False while the body may still be produced (a stream).
        """
        return self.entry.answer_caller(body_complete) if self.entry is not None else None


class Entry:
    """The first span of a request in this process, and what is known of LLM work below it."""

    __slots__ = (
        "__weakref__", "_answer", "_ended", "_kept", "_lock", "_pending", "_span", "_upstream",
        "_work", "can_be_kept", "counted_by_caller", "first_input", "last_output", "span_id",
        "updates",
    )  # fmt: skip

    def __init__(
        self, span: LiveSpan, span_id: str, *, can_be_kept: bool, upstream: Name | None
    ) -> None:
        self.span_id = span_id
        self.can_be_kept = can_be_kept
        self.counted_by_caller = ""
        """What an open model call of the caller counts (`Member.counted`)."""
        self.updates: dict[str, tuple[object, str]] = {}
        """What `context.update_request` said: baggage member to (value before, value)."""
        self._upstream = upstream
        self._span = weakref.ref(span)
        self._lock = threading.Lock()
        self._work = self._kept = self._ended = False
        self._answer: Answer | None = None
        self._pending = 0
        self.first_input: tuple[int, str] | None = None
        self.last_output: tuple[int, str] | None = None

    @property
    def live_span(self) -> LiveSpan | None:
        """The entry span while it records, else None."""
        span = self._span()
        return span if span is not None and not self._ended and span.is_recording() else None

    @property
    def kept(self) -> bool:
        """Whether the entry span is in the view."""
        return self._kept

    def name(self) -> Name | None:
        """Who a descendant without a kept local ancestor may name as parent now."""
        with self._lock:
            return self._name()

    def _name(self) -> Name | None:
        if self.can_be_kept and (self._kept or not self._ended):
            return Name(self.span_id, self._kept)
        upstream = self._upstream
        if upstream is None or upstream.firm:
            return upstream
        # The caller waits for our word. Told "no", it may not be named any more; told nothing
        # (no response was made) it counts that as yes.
        if self._answer == "no":
            return None
        return Name(upstream.span_id, self._answer is not None)

    @property
    def sure_name(self) -> str:
        """Its own span id (16 hex digits) if that may be named for certain, else empty text."""
        # Without the lock: `end` settles `_kept` before `_ended`, and after that nobody does.
        return self.span_id if self.can_be_kept and (not self._ended or self._kept) else ""

    def claim(self) -> Name | None:
        """Note LLM work below: keeps the entry span, or makes the caller hear of it.

        Returns:
            The parent that a span in the view may name, as `name`.
        """
        if self._kept:  # for good, and the work is noted
            return Name(self.span_id, True)
        newly_kept = False
        with self._lock:
            if not self._work:
                self._work = True
                if self.can_be_kept and not self._ended:
                    self._kept = newly_kept = True
            name = self._name()
        if newly_kept:
            self._mark_kept()
        return name

    def _mark_kept(self) -> None:
        span = self.live_span
        if span is None:
            return
        span.set_attribute(semconv.LLM_KEEP, True)
        if self._answer == "no":
            span.set_attribute(semconv.LLM_PARENT, self.own_parent())

    def own_parent(self) -> str:
        """The entry span's own parent in the view: 16 hex digits or empty text."""
        upstream = self._upstream
        if upstream is None or (not upstream.firm and self._answer == "no"):
            return ""
        return upstream.span_id

    def answer_caller(self, body_complete: bool) -> Answer | None:
        """Decide the report to the caller, once; None when the caller named nothing in advance."""
        with self._lock:
            if self._upstream is None or self._upstream.firm:
                return None
            if self._answer is None:
                if self._work:
                    self._answer = "yes"
                else:
                    self._answer = "no" if body_complete and not self._pending else "maybe"
            return self._answer

    def call_started(self) -> None:
        """A callee was given this entry's (or its caller's) name in advance."""
        with self._lock:
            self._pending += 1

    def call_answered(self, answer: Answer) -> None:
        """The callee reported; `maybe` counts as yes."""
        if answer != "no":
            self.claim()
        with self._lock:
            self._pending -= 1

    def end(self) -> bool:
        """The entry span has ended; says whether it is in the view, for good."""
        with self._lock:
            if self._pending and not self._work:
                # Somebody may still be using our name and we shall not hear of it in time.
                self._work = True
                self._kept = self.can_be_kept
            self._ended = True
            return self._kept

    def note_input(self, start_ns: int, text: str) -> None:
        """Offer the input of an LLM span; the earliest becomes the root's."""
        if self.first_input is None or start_ns < self.first_input[0]:
            self.first_input = (start_ns, text)

    def note_output(self, end_ns: int, text: str) -> None:
        """Offer the output of an LLM span; the latest becomes the root's."""
        if self.last_output is None or end_ns >= self.last_output[0]:
            self.last_output = (end_ns, text)


# Nodes by span id for as long as their span or a child is alive: finds the node of an ended span's
# read-only copy and of a local parent that is given as a bare span context. A dying node leaves by
# itself: a WeakValueDictionary costs every span a microsecond more.
_nodes: dict[int, weakref.ref[Node]] = {}


class Node:
    """A recording span's place in the view."""

    __slots__ = (
        "__weakref__", "_hex", "above", "ancestor", "call", "entry", "id", "is_entry", "kept",
        "live", "named", "own",
    )  # fmt: skip

    # By position: keywords cost every span of the host a fifth of a microsecond.
    def __init__(
        self,
        span: Any,
        id: int,
        entry: Entry,
        above: Node | None,
        ancestor: str | None,
        named: str,
        kept: bool,
        own: bool,
    ) -> None:
        self.id = id
        self._hex = ""
        self.live = weakref.ref(span)
        """The span for as long as somebody holds it."""
        self.entry = entry
        self.above = above
        """Of the local parent; None for the entry."""
        self.named = named
        """The parent that its marks named at its start: 16 hex digits or empty text."""
        self.ancestor = ancestor
        """Nearest local ancestor that was in the view when this span started (16 hex digits)."""
        self.kept = kept
        self.own = own
        """False where this service's spans never enter the view: they do not count as LLM work."""
        self.is_entry = above is None
        self.call: OpenCall | None = None
        """What `processors.one_price` keeps of the span."""

    def __del__(self, nodes: dict[int, weakref.ref[Node]] = _nodes) -> None:
        known = nodes.pop(self.id, None)
        if known is not None and known() not in (None, self):  # another processor's
            nodes[self.id] = known

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        if not self._hex:  # most spans are nobody's parent in the view
            self._hex = f"{self.id:016x}"
        return self._hex

    def counts_below(self) -> str:
        """What a model call that is open here counts for a callee (`Member.counted`)."""
        if self.call is None:
            return self.entry.counted_by_caller
        return self.call.counts_for_callee(self)

    def name_below(self) -> Name | None:
        """Who a child of this span may name as parent."""
        if self.kept:
            return Name(self.span_id, True)
        if self.ancestor is not None:
            return Name(self.ancestor, True)
        return self.entry.name()


_calls: dict[int, list[tuple[Entry, bool]]] = {}
_calls_lock = _guard.fork_safe_lock()


def attach(span: Any, node: Node) -> None:
    """Tie a node to its span, for as long as that lives."""
    setattr(span, NODE_ATTRIBUTE, node)
    _nodes[node.id] = weakref.ref(node)


def node_of(span: Any) -> Node | None:
    """The node of a local span, None for a remote or non-recording one."""
    node = getattr(span, NODE_ATTRIBUTE, None)
    if node is not None or span is None:
        return node if isinstance(node, Node) else None
    context = span.get_span_context()
    return None if context.is_remote else node_by_id(context.span_id)


def node_by_id(span_id: int) -> Node | None:
    """The node of a span that is known by its id only."""
    known = _nodes.get(span_id)
    return known() if known is not None else None


def call_started(entry: Entry, sender: int, *, awaited: bool = False) -> None:
    """A request leaves with a provisional name; `sender` is the span id in its traceparent.

    Args:
        awaited: The HTTP integration answers for certain, even after the sending span has ended.
    """
    entry.call_started()
    with _calls_lock:
        _calls.setdefault(sender, []).append((entry, awaited))


def call_answered(sender: int, answer: Answer) -> None:
    """The response of that request says whether LLM work happened below it."""
    with _calls_lock:
        calls = _calls.get(sender)
        call = calls.pop() if calls else None
        if calls is not None and not calls:
            del _calls[sender]
    if call is not None:
        call[0].call_answered(answer)


def calls_abandoned(sender: int) -> None:
    """The sending span has ended: what will not be answered any more counts as yes."""
    if sender not in _calls:  # the common case, without the lock
        return
    with _calls_lock:
        calls = _calls.pop(sender, [])
        awaited = [call for call in calls if call[1]]
        if awaited:
            _calls[sender] = awaited
    for entry, certain in calls:
        if not certain:
            entry.call_answered("maybe")


def open_calls() -> int:
    """Requests under way that wait for a report (for tests and self-inspection)."""
    with _calls_lock:
        return sum(len(calls) for calls in _calls.values())
