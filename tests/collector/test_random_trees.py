"""A thousand random request trees through the real Collector: the LLM view that comes out of it.

The trees of `benchmarks/bench_trees.py`: 2 to 5 services with the real propagator and span
processors, which set the marks. Their spans are sent as services send them, each service its own,
in pieces and out of order. What Langfuse took is held against the tree that Tempo took.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
from opentelemetry.sdk.resources import Resource

from benchmarks import bench_trees as trees
from otelbridge import policy, semconv
from tests.collector.conftest import Bench, Received

pytestmark = [pytest.mark.collector, pytest.mark.timeout(240)]

TREES = 1000
SEED = 20261121
PIECES_IN_A_REQUEST = 40


class World(trees.World):
    """Services whose spans name their service, as those of deployed ones do."""

    def _tracer(self, service: int, name: str) -> trace.Tracer:
        tracer = super()._tracer(service, name)
        described = {
            semconv.SERVICE_NAME: f"svc-{service}",
            semconv.TELEMETRY_DISTRO_NAME: "otelbridge",
        }
        tracer.resource = Resource(described)  # the provider's is that of the test
        return tracer


@dataclass
class Run:
    """What was made, and what the sinks took: spans by hex id."""

    findings: trees.Findings
    sent: dict[str, str] = field(default_factory=dict)  # span id → trace id
    tempo: dict[str, Received] = field(default_factory=dict)
    langfuse: dict[str, Received] = field(default_factory=dict)


def grow(rng: random.Random) -> Iterator[tuple[trees.Findings, list[ResourceSpans]]]:
    """Each tree's own findings and its spans, one batch for each service."""
    trees.install()
    worlds: dict[frozenset[int], World] = {}  # a provider is dear to make: trees share them
    for _ in range(TREES):
        services = rng.randint(2, 5)
        disabled = frozenset({rng.randrange(services)} if rng.random() < 0.2 else ())
        world = worlds.setdefault(disabled, World(disabled=disabled))
        world.exporter.clear()
        world.request(trees.random_plan(rng, services=services))
        spans = world.exporter.get_finished_spans()
        yield trees.examine(spans), list(encode_spans(spans).resource_spans)


@pytest.fixture(scope="module")
def run(module_bench: Bench) -> Run:
    """The trees, sent in any order; ends when both sinks have what they are to get."""
    state = random.getstate()
    random.seed(SEED)  # the SDK draws its ids from here
    rng = random.Random(SEED)
    made, batches = Run(trees.Findings()), []
    for findings, pieces in grow(rng):
        made.findings.spans += findings.spans
        made.findings.kept += findings.kept
        made.findings.wrong_keep += findings.wrong_keep
        batches += pieces
    random.setstate(state)
    for batch in batches:
        for span in batch.scope_spans:
            made.sent |= {s.span_id.hex(): s.trace_id.hex() for s in span.spans}
    rng.shuffle(batches)
    for start in range(0, len(batches), PIECES_IN_A_REQUEST):
        request = ExportTraceServiceRequest(
            resource_spans=batches[start : start + PIECES_IN_A_REQUEST]
        )
        assert module_bench.post(request.SerializeToString()) == 200
    tempo, langfuse = module_bench.tempo.store, module_bench.langfuse.store
    kept = made.findings.kept
    module_bench.wait(lambda: len(tempo.spans) >= len(made.sent), "the trees at Tempo", 40)
    module_bench.wait(lambda: len(langfuse.spans) >= kept, "the views at Langfuse", 40)
    module_bench.settle()
    for store, found in ((tempo, made.tempo), (langfuse, made.langfuse)):
        items = [item for item in store.spans if item.id in made.sent]
        found.update((item.id, item) for item in items)
        assert len(items) == len(found), "a span was delivered more than once"
    return made


def nearest_kept(run: Run, span_id: str) -> str:
    """The first ancestor at Tempo that Langfuse has; empty text when there is none."""
    parent = run.tempo[span_id].parent
    while parent and parent not in run.langfuse:
        parent = run.tempo[parent].parent
    return parent


def test_the_trees_are_many_and_mixed(run: Run):
    """A thousand traces over several services, some without any LLM work."""
    services: dict[str, set[str]] = defaultdict(set)
    for item in run.tempo.values():
        services[run.sent[item.id]].add(item.resource[semconv.SERVICE_NAME])
    assert len(services) == TREES
    assert sum(len(names) > 1 for names in services.values()) > TREES / 3
    assert run.findings.spans == len(run.sent) > 8 * TREES
    assert run.findings.wrong_keep == []


def test_tempo_has_every_span_of_every_tree(run: Run):
    """All spans, in their traces, with one root each and every other parent present."""
    assert {key: item.span.trace_id.hex() for key, item in run.tempo.items()} == run.sent
    roots = [run.sent[key] for key, item in run.tempo.items() if not item.parent]
    assert len(roots) == len(set(roots)) == TREES
    assert all(item.parent in run.tempo for item in run.tempo.values() if item.parent)


def test_langfuse_has_just_the_spans_of_the_view(run: Run):
    """Those that the marks at Tempo put into the view, under the same trace ids, and no mark."""
    view = {key for key, item in run.tempo.items() if policy.in_llm_view(item.attributes)}
    assert set(run.langfuse) == view
    assert len(view) == run.findings.kept > TREES
    assert all(item.span.trace_id.hex() == run.sent[key] for key, item in run.langfuse.items())
    marks = {semconv.LLM_KEEP, semconv.LLM_PARENT}
    assert [key for key, item in run.langfuse.items() if marks & item.attributes.keys()] == []


def test_no_span_at_langfuse_is_an_orphan_and_the_ancestor_order_is_kept(run: Run):
    """Each parent is at Langfuse, in the same trace, and is the nearest kept ancestor at Tempo."""
    orphans = [
        key
        for key, item in run.langfuse.items()
        if item.parent
        and (item.parent not in run.langfuse or run.sent[item.parent] != run.sent[key])
    ]
    assert orphans == []
    moved = [key for key, item in run.langfuse.items() if item.parent != nearest_kept(run, key)]
    assert moved == []
    skipped = [key for key, item in run.langfuse.items() if item.parent != run.tempo[key].parent]
    assert len(skipped) > TREES / 2  # else the trees would show nothing


def test_roots_of_the_view_have_an_empty_parent_not_zeros(run: Run):
    """Each trace of the view has a root; its parent id is empty on the wire."""
    roots = [item for item in run.langfuse.values() if item.parent.strip("0") == ""]
    assert {item.span.parent_span_id for item in roots} == {b""}
    assert {run.sent[item.id] for item in roots} == {run.sent[key] for key in run.langfuse}


def test_traces_without_llm_work_are_absent_from_langfuse(run: Run):
    """Traces without a gen_ai span of an enabled service are whole at Tempo and not at Langfuse."""
    with_work = {
        run.sent[key]
        for key, item in run.tempo.items()
        if policy.is_gen_ai(item.attributes) and item.attributes.get(semconv.LLM_KEEP) is not False
    }
    at_langfuse = {run.sent[key] for key in run.langfuse}
    assert at_langfuse == with_work
    assert TREES - len(with_work) > TREES / 10
