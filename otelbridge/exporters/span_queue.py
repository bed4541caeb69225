"""Ended spans on their way to the worker, bounded by number and by bytes.

`put` is all that a span costs in the calling thread: a lock and an append; from 64 waiting spans on
every eighth is weighed, for eight, and from a quarter of the room on, by number or bytes, each is
weighed and ranked. What is full drops the least of what it has: inner steps outside the LLM view
first, then other spans outside it, spans of the view last; the oldest of each first.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otelbridge import _guard, policy

#: So many waiting spans are not weighed.
UNWEIGHED_SPANS: Final = 64
#: Weighing a span takes ten times as long as queueing it: one stands for so many (a power of two).
_WEIGHED_FOR: Final = 8
#: What a span weighs beside the text of its attributes; from measuring the SDK's objects.
_SPAN_BYTES: Final = 2048
_VALUE_BYTES: Final = 80
INNER, OUTER, VIEW, UNRANKED = range(4)


class SpanQueue:
    """A queue of ended spans for one taker.

    Args:
        max_spans: Spans that wait at most.
        max_bytes: What they may weigh, by estimate; the first 64 are not counted until it is full.
    """

    def __init__(self, max_spans: int, max_bytes: int) -> None:
        self._max_spans, self._max_bytes = max_spans, max_bytes
        self._rank_from_spans, self._rank_from_bytes = max_spans // 4, max_bytes // 4
        self._lock = _guard.fork_safe_lock()
        self.dropped: Counter[str] = Counter()
        self._empty()

    def _empty(self) -> None:
        #: All that were ever put.
        self.created = 0
        self._lanes: tuple[deque[tuple[ReadableSpan, int]], ...] = tuple(deque() for _ in range(4))
        self.spans = 0
        self.bytes = 0

    def clear(self) -> None:
        """Forget all, in a forked child: the spans are the parent's."""
        self.dropped.clear()
        self._empty()

    @property
    def fill(self) -> float:
        """How full it is, from 0 to 1, by the tighter of the two bounds."""
        return max(self.spans / self._max_spans, self.bytes / self._max_bytes)

    def put(self, span: ReadableSpan) -> int:
        """Add a span; never waits for the taker. Gives how many spans wait now."""
        waiting = self.spans
        size = 0
        if (
            waiting >= self._rank_from_spans
            or self.bytes > self._rank_from_bytes
            or waiting > len(self._lanes[UNRANKED])  # so those without a rank are the oldest
        ):
            lane, size = rank(span), weight(span)
        else:
            lane = UNRANKED
            if waiting >= UNWEIGHED_SPANS and not waiting % _WEIGHED_FOR:
                size = weight(span) * _WEIGHED_FOR
        with self._lock:
            self.created += 1
            if size > self._max_bytes and lane != UNRANKED:  # no room could be made for it
                self.dropped["queue_full"] += 1
                return self.spans
            self._lanes[lane].append((span, size))
            self.spans += 1
            self.bytes += size
            if self.spans > self._max_spans or self.bytes > self._max_bytes:
                self._shed()
            return self.spans

    def _shed(self) -> None:
        unranked = self._lanes[UNRANKED]
        while unranked:  # once for each time the worker falls behind
            span, counted = unranked.pop()
            size = weight(span)
            self.bytes += size - counted
            self._lanes[rank(span)].appendleft((span, size))
        for lane in self._lanes:
            while lane and (self.spans > self._max_spans or self.bytes > self._max_bytes):
                _, size = lane.popleft()
                self.spans -= 1
                self.bytes -= size
                self.dropped["queue_full"] += 1

    def take(self, max_spans: int, max_bytes: int) -> list[ReadableSpan]:
        """The next spans, those of the LLM view first; at least one if any waits.

        `max_bytes` bounds what has been weighed.
        """
        taken: list[ReadableSpan] = []
        total = 0
        with self._lock:
            for lane in reversed(self._lanes):
                while lane and len(taken) < max_spans and total < max_bytes:
                    span, size = lane.popleft()
                    taken.append(span)
                    total += size
            self.spans -= len(taken)
            self.bytes -= total
        return taken


def rank(span: ReadableSpan) -> int:
    """How much a span matters when not all can be kept: INNER, OUTER or VIEW.

    INNER is a step inside a service (kind INTERNAL, below a local span, no error) that is not in
    the LLM view: without it every trace keeps its services, its errors and its LLM spans.
    """
    attributes: Any = span.attributes or {}
    # An ended span's mark is final: an entry span that spans below name is marked by then.
    if policy.in_llm_view(attributes):
        return VIEW
    parent = span.parent
    if (
        parent is None
        or parent.is_remote
        or span.kind is not SpanKind.INTERNAL
        or span.status.status_code is StatusCode.ERROR
    ):
        return OUTER
    return INNER


def weight(span: ReadableSpan) -> int:
    """About how many bytes a waiting span holds: its text, and a constant for the rest."""
    attributes = span.attributes or {}
    size = _SPAN_BYTES + _VALUE_BYTES * len(attributes)
    for _, value in attributes.items():  # noqa: PERF102 - values() of these mappings is slow
        if type(value) is str:
            size += len(value)
        elif type(value) is tuple:
            size += sum([len(item) if type(item) is str else 8 for item in value])
    for event in span.events:
        for _, value in (event.attributes or {}).items():  # noqa: PERF102 - the same
            size += len(value) if type(value) is str else 8
    return size
