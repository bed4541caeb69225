"""What a full queue keeps, where its spans are large and of all kinds."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otelbridge.exporters.span_queue import SpanQueue

PARENT = SpanContext(1, 5, False, TraceFlags(1))
KINDS: dict[str, dict[str, Any]] = {
    "outer": {"kind": SpanKind.SERVER},
    "inner": {"parent": PARENT},
    "step": {"parent": PARENT},
    "llm": {"parent": PARENT},
}


def make(name: str, size: int) -> ReadableSpan:
    kind = name.partition("-")[0]
    attributes = {"text": "x" * size} | ({"gen_ai.operation.name": "chat"} if kind == "llm" else {})
    return ReadableSpan(name=name, context=PARENT, attributes=attributes, **KINDS[kind])


def left(queue: SpanQueue) -> list[str]:
    return [span.name for span in queue.take(10**6, 10**12)]


def test_large_spans_of_all_kinds_shed_in_order_and_fill_the_room() -> None:
    """Of 20 kB spans far beyond the bound, the newest of the LLM view stay, and use the room."""
    queue = SpanQueue(20_480, 4_000_000)
    for number in range(500):
        for kind in KINDS:
            queue.put(make(f"{kind}-{number}", 20_000))
    assert queue.dropped["queue_full"] == 2000 - queue.spans
    kept = left(queue)
    assert kept == [f"llm-{number}" for number in range(500 - len(kept), 500)]
    assert 150 <= len(kept) <= 200  # at most 4 MB of 20 kB


def test_what_is_taken_and_dropped_adds_up() -> None:
    """With a taker in between, each span is taken once or counted, most LLM spans are taken."""
    queue = SpanQueue(20_480, 4_000_000)
    taken: list[str] = []
    for number in range(500):
        for kind in KINDS:
            queue.put(make(f"{kind}-{number}", 20_000))
        if number % 50 == 49:
            taken += [span.name for span in queue.take(60, 10**9)]
    everything = taken + left(queue)
    assert sum(name.startswith("llm") for name in everything) >= 500 - 200
    assert len(everything) == len(set(everything)) == queue.created - queue.dropped["queue_full"]
    assert queue.bytes == queue.spans == 0


def test_a_span_beyond_all_room_costs_no_other() -> None:
    """Once it is weighed, a span larger than the bound is dropped and nothing else is."""
    queue = SpanQueue(100, 1_000_000)
    for number in range(30):
        queue.put(make(f"llm-{number}", 10_000))
    queue.put(make("llm-giant", 2_000_000))
    assert left(queue) == [f"llm-{number}" for number in range(30)]
    assert queue.dropped["queue_full"] == 1


def test_the_oldest_goes_first_after_the_queue_was_nearly_empty() -> None:
    """Spans that came while there was room are older than those that came since."""
    queue = SpanQueue(100, 10**9)
    for number in range(130):
        queue.put(make(f"llm-{number}", 10))
    assert next(span.name for span in queue.take(90, 10**9)) == "llm-30"
    for number in range(130, 300):
        queue.put(make(f"llm-{number}", 10))
    assert left(queue) == [f"llm-{number}" for number in range(200, 300)]


def test_threads_that_put_at_once_lose_nothing() -> None:
    """Four threads and a taker: each span is taken once, and the sums are right at the end."""
    queue = SpanQueue(20_480, 10**12)
    names = [[f"inner-{thread}-{number}" for number in range(1500)] for thread in range(4)]
    go = threading.Barrier(5)

    def put(mine: list[str]) -> None:
        go.wait(10)
        for name in mine:
            queue.put(make(name, 10))

    threads = [threading.Thread(target=put, args=(mine,)) for mine in names]
    for thread in threads:
        thread.start()
    go.wait(10)
    taken: list[str] = []
    while any(thread.is_alive() for thread in threads):
        taken += [span.name for span in queue.take(64, 10**12)]
        threads[0].join(0.001)  # the interpreter is theirs meanwhile
    for thread in threads:
        thread.join(10)
    taken += left(queue)
    assert sorted(taken) == sorted(name for mine in names for name in mine)
    assert (queue.created, queue.spans, queue.bytes) == (6000, 0, 0)
    for thread_number in range(4):  # each thread's own spans in their order
        mine = [name for name in taken if name.startswith(f"inner-{thread_number}-")]
        assert mine == names[thread_number]
