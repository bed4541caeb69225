"""Ended spans on their way to the worker, bounded by number and by bytes.

`put` is all that a span costs in the calling thread: an append; from 64 waiting spans on every
eighth is weighed, for eight, and from a quarter of the room on, by number or bytes, each is weighed
and ranked. What is full drops the least of what it has: inner steps outside the LLM view first,
then other spans outside it, spans of the view last; the oldest of each first.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otelbridge import _guard, policy
from otelbridge.processors.sdk_spans import raw_attributes

#: So many waiting spans are not weighed.
UNWEIGHED_SPANS: Final = 64
#: Weighing a span takes ten times as long as queueing it: one stands for so many (a power of two).
WEIGHED_FOR: Final = 8
_NOT_WEIGHED: Final = WEIGHED_FOR - 1
#: What a span weighs beside the text of its attributes; from measuring the SDK's objects.
_SPAN_BYTES: Final = 2048
_VALUE_BYTES: Final = 80
INNER, OUTER, VIEW = range(3)

_Weighed = tuple[ReadableSpan, int]


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
        self._gone = 0
        self._lanes: tuple[deque[_Weighed], ...] = tuple(deque() for _ in (INNER, OUTER, VIEW))
        # Without a lock: a deque's own steps are whole. Those that were weighed with their weight.
        self._unranked: deque[ReadableSpan | _Weighed] = deque()
        self._ranked_spans = 0
        #: Whether spans are ranked as they come; those without a rank are the oldest then.
        self._ranks = self._rank_from_spans < UNWEIGHED_SPANS
        self.bytes = 0

    def clear(self) -> None:
        """Forget all, in a forked child: the spans are the parent's."""
        self.dropped.clear()
        self._empty()

    @property
    def spans(self) -> int:
        """How many wait."""
        return len(self._unranked) + self._ranked_spans

    @property
    def created(self) -> int:
        """All that were ever put."""
        return self._gone + self.spans

    @property
    def fill(self) -> float:
        """How full it is, from 0 to 1, by the tighter of the two bounds."""
        return max(self.spans / self._max_spans, self.bytes / self._max_bytes)

    def put(self, span: ReadableSpan) -> int:
        """Add a span; never waits for the taker. Gives about how many spans wait now."""
        if self._ranks:
            return self._put_ranked(span)
        unranked = self._unranked
        waiting = len(unranked)
        if waiting & _NOT_WEIGHED or waiting < UNWEIGHED_SPANS:
            unranked.append(span)
            return waiting + 1
        size = weight(span) * WEIGHED_FOR
        with self._lock:
            unranked.append((span, size))
            self.bytes += size
            self._ranks = waiting >= self._rank_from_spans or self.bytes > self._rank_from_bytes
            if self.bytes > self._max_bytes:
                self._shed()
            return self.spans

    def _put_ranked(self, span: ReadableSpan) -> int:
        lane, size = rank(span), weight(span)
        with self._lock:
            if size > self._max_bytes:  # no room could be made for it
                self._drop(0)
                return self.spans
            self._lanes[lane].append((span, size))
            self._ranked_spans += 1
            self.bytes += size
            if self.spans > self._max_spans or self.bytes > self._max_bytes:
                self._shed()
            return self.spans

    def _shed(self) -> None:
        unranked = self._unranked
        while unranked:  # once for each time the worker falls behind
            item = unranked.pop()
            span, counted = item if isinstance(item, tuple) else (item, 0)
            size = weight(span)
            self.bytes += size - counted
            self._ranked_spans += 1
            self._lanes[rank(span)].appendleft((span, size))
        self._ranks = True
        for lane in self._lanes:
            while lane and (self.spans > self._max_spans or self.bytes > self._max_bytes):
                _, size = lane.popleft()
                self._ranked_spans -= 1
                self._drop(size)

    def _drop(self, size: int) -> None:
        self.bytes -= size
        self._gone += 1
        self.dropped["queue_full"] += 1

    def take(self, max_spans: int, max_bytes: int) -> list[ReadableSpan]:
        """The next spans, those of the LLM view first; at least one if any waits.

        `max_bytes` bounds what has been weighed.
        """
        taken: list[ReadableSpan] = []
        total = 0
        with self._lock:
            unranked = self._unranked
            while unranked and len(taken) < max_spans and total < max_bytes:
                item = unranked.popleft()
                span, size = item if isinstance(item, tuple) else (item, 0)
                taken.append(span)
                total += size
            for lane in reversed(self._lanes):
                while lane and len(taken) < max_spans and total < max_bytes:
                    span, size = lane.popleft()
                    taken.append(span)
                    total += size
                    self._ranked_spans -= 1
            self.bytes -= total
            self._gone += len(taken)
            self._ranks = (
                self._ranked_spans > 0
                or self._rank_from_spans < UNWEIGHED_SPANS
                or len(unranked) >= self._rank_from_spans
                or self.bytes > self._rank_from_bytes
            )
        return taken


def rank(span: ReadableSpan) -> int:
    """How much a span matters when not all can be kept: INNER, OUTER or VIEW.

    INNER is a step inside a service (kind INTERNAL, below a local span, no error) that is not in
    the LLM view: without it every trace keeps its services, its errors and its LLM spans.
    """
    attributes = raw_attributes(span)
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
    attributes = raw_attributes(span)
    size = _SPAN_BYTES + _VALUE_BYTES * len(attributes)
    for value in attributes.values():
        if type(value) is str:
            size += len(value)
        elif type(value) is tuple:
            size += sum([len(item) if type(item) is str else 8 for item in value])
    for event in span.events:
        for _, value in (event.attributes or {}).items():  # noqa: PERF102 - the same
            size += len(value) if type(value) is str else 8
    return size
