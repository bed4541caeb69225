"""What a full queue drops leaves the LLM view consistent: marks never point at a span shed early.

Random request trees over services (`benchmarks/bench_trees.py`) with the real marks, each service
with a queue of its own that is too small for the burst.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from benchmarks import bench_trees as trees
from otelbridge import policy, semconv
from otelbridge.exporters.span_queue import INNER, OUTER, VIEW, SpanQueue, rank


class World(trees.World):
    """Services that can be told apart by their spans' resource."""

    def _tracer(self, service: int, name: str) -> trace.Tracer:
        tracer = super()._tracer(service, name)
        tracer.resource = Resource({semconv.SERVICE_NAME: f"svc-{service}"})
        return tracer


def in_view(span: ReadableSpan) -> bool:
    return policy.in_llm_view(span.attributes or {})


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return trace.format_span_id(span.context.span_id)


@pytest.fixture(scope="module")
def burst() -> list[ReadableSpan]:
    """Spans of 300 requests at once, in one order in which they may end."""
    trees.install()
    rng = random.Random(8)
    world, requests = World(), []
    for _ in range(300):
        world.exporter.clear()
        world.request(trees.random_plan(rng, services=3))
        requests.append(iter(world.exporter.get_finished_spans()))
    return list(_interleaved(requests, rng))


def _interleaved(
    requests: list[Iterator[ReadableSpan]], rng: random.Random
) -> Iterator[ReadableSpan]:
    running: list[Iterator[ReadableSpan]] = []
    while requests or running:
        while requests and len(running) < 20:
            running.append(requests.pop())
        one = rng.choice(running)
        span = next(one, None)
        if span is None:
            running.remove(one)
        else:
            yield span


def shed(spans: list[ReadableSpan], share: float) -> dict[str, list[ReadableSpan]]:
    """What the queue of each service still has after all its spans, of which it holds a share."""
    by_service = defaultdict(list)
    for span in spans:
        by_service[str(span.resource.attributes[semconv.SERVICE_NAME])].append(span)
    left = {}
    for service, mine in by_service.items():
        queue = SpanQueue(int(len(mine) * share), 1 << 40)
        for span in mine:
            queue.put(span)
        left[service] = queue.take(len(mine), 1 << 50)
        assert queue.dropped["queue_full"] == len(mine) - len(left[service]) > 0
    return left


@pytest.mark.parametrize("share", [0.9, 0.4])
def test_a_view_that_fits_is_kept_whole(burst, share):
    """No span of the view is dropped, so none is an orphan, and the order is that of the trees."""
    kept = [span for spans in shed(burst, share).values() for span in spans]
    wanted = {id_of(span) for span in burst if in_view(span)}
    assert len(wanted) < 0.4 * len(burst)  # the rest is what can go
    assert {id_of(span) for span in kept if in_view(span)} == wanted
    named = {policy.view_parent(span.attributes or {}, "?") for span in kept if in_view(span)}
    assert named - {""} <= wanted


@pytest.mark.parametrize("share", [0.2, 0.1, 0.03])
def test_a_view_that_does_not_fit_loses_steps_outside_first_and_parents_last(burst, share):
    """Where a service dropped spans of the view it kept no others, and no child of one dropped."""
    everything = {id_of(span): span for span in burst}
    lost_some = 0
    for service, spans in shed(burst, share).items():
        kept = {id_of(span) for span in spans}
        lost = {
            span_id
            for span_id, span in everything.items()
            if span_id not in kept
            and in_view(span)
            and span.resource.attributes[semconv.SERVICE_NAME] == service
        }
        lost_some += bool(lost)
        if lost:
            assert all(in_view(span) for span in spans)
        named = {policy.view_parent(span.attributes or {}, "?") for span in spans if in_view(span)}
        assert not named & lost
    assert lost_some


def test_every_span_that_marks_of_the_view_name_ranks_as_the_view(burst):
    """Entry spans that were named in advance and then kept among them."""
    by_id = {id_of(span): span for span in burst}
    named = {policy.view_parent(span.attributes or {}, "?") for span in burst if in_view(span)}
    ranks = {rank(by_id[span_id]) for span_id in named - {""}}
    assert ranks == {VIEW}
    entries = [span for span in burst if span.parent is None or span.parent.is_remote]
    assert {rank(span) for span in entries} == {VIEW, OUTER}
    assert {rank(span) for span in burst} == {INNER, OUTER, VIEW}


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_spans_outside_the_view_keep_entries_and_calls_longest(burst, share):
    """Inner steps go first: as long as one is left, every entry and client span is."""
    for service, spans in shed(burst, share).items():
        mine = [s for s in burst if s.resource.attributes[semconv.SERVICE_NAME] == service]
        if any(rank(span) == INNER for span in spans):
            outer = {id_of(span) for span in mine if rank(span) == OUTER}
            assert outer <= {id_of(span) for span in spans}
