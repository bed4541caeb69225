"""Head sampling over services: a trace is whole or absent, in Tempo and in the LLM view.

Random request trees (`benchmarks/bench_trees.py`) over the real WSGI wrapper, propagator and span
processors; each service has a provider with the sampler that its environment asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

import otelbridge
from benchmarks import bench_trees as trees
from otelbridge import policy, semconv
from otelbridge.exporters.branches import LangfuseRule, TempoRule
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.span_rules import NO_PAGES

COUNT = 250
SERVICES = 3
#: W3C Trace Context level 2: the trace id's right half is random.
RANDOM_FLAG = 0x02


class World(trees.World):
    """Services with samplers and Langfuse shares of their own."""

    def __init__(self, samplers: Mapping[int, sampling.Sampler | None], rate: float = 1.0) -> None:
        super().__init__()
        self._samplers, self._rate = samplers, rate

    def _tracer(self, service: int, name: str) -> trace.Tracer:
        if service not in self._providers:
            # None: as OTEL_TRACES_SAMPLER says, which the SDK reads.
            made = TracerProvider(self._samplers.get(service), shutdown_on_exit=False)
            made.add_span_processor(
                BridgeSpanProcessor(
                    context=ContextAttributes(environment=None, release=None),
                    marks=ViewMarks(mode="services", enabled=True, sample_rate=self._rate),
                    next_processor=SimpleSpanProcessor(self.exporter),
                )
            )
            self._providers[service] = made
        return super()._tracer(service, name)


@pytest.fixture(autouse=True)
def same_ids() -> Iterator[None]:
    """The SDK draws its ids from the global dice."""
    state = random.getstate()
    random.seed(20261121)
    yield
    random.setstate(state)


def spans_of(plan: trees.Plan) -> int:
    """How many spans a plan makes below its caller: a call is two."""
    return (2 if plan.kind == "call" else 1) + sum(map(spans_of, plan.children))


def run(world: World, count: int = COUNT) -> list[tuple[int, list[ReadableSpan]]]:
    """For each request the number of its spans without sampling, and those that were exported."""
    trees.install()
    rng, runs = random.Random(3), []
    for _ in range(count):
        world.exporter.clear()
        plan = trees.random_plan(rng, services=SERVICES)
        world.request(plan)
        exported = list(world.exporter.get_finished_spans())
        runs.append((spans_of(plan) - 1, exported))  # nobody calls the first
    return runs


def assert_sound(spans: list[ReadableSpan]) -> None:
    found = trees.examine(spans)
    assert (found.orphans, found.wrong_order, found.wrong_keep) == ([], [], [])


def in_both_stores(spans: list[ReadableSpan]) -> tuple[int, int]:
    """How many spans Tempo and Langfuse get of these."""
    tempo, langfuse = TempoRule(NO_PAGES), LangfuseRule(NO_PAGES)
    return (
        sum(tempo(span) is not None for span in spans),
        sum(langfuse(span) is not None for span in spans),
    )


def test_the_first_service_decides_for_all(monkeypatch):
    """parentbased_traceidratio: whole or absent in both stores, whatever the others' ratios are."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.4")
    others = {
        1: sampling.ParentBasedTraceIdRatio(0.01),
        2: sampling.ParentBasedTraceIdRatio(0.9),
    }
    everything = run(World({0: sampling.ALWAYS_ON, 1: None, 2: None}))
    assert all(expected == len(spans) for expected, spans in everything)
    random.seed(20261121)
    runs = run(World({0: None, **others}))
    kept = 0
    for (expected, spans), (_, all_spans) in zip(runs, everything, strict=True):
        assert len(spans) in (0, expected)
        assert_sound(spans)
        if spans:
            kept += 1
            assert in_both_stores(spans) == in_both_stores(all_spans)
    assert 0.25 < kept / COUNT < 0.55


@pytest.mark.parametrize(("ratio", "rate"), [(0.6, 0.3), (0.3, 0.6)])
def test_the_share_of_langfuse_is_of_all_traces_and_inside_of_the_sampled(ratio, rate):
    """Both go by the same half of the trace id: the smaller share is a part of the larger one."""
    sampler = sampling.ParentBasedTraceIdRatio(ratio)
    runs = run(World(dict.fromkeys(range(SERVICES), sampler), rate))
    views, wanted = 0, 0
    for expected, spans in runs:
        assert len(spans) in (0, expected)
        llm = [span for span in spans if policy.is_gen_ai(span.attributes or {})]
        in_view = [span for span in spans if policy.in_llm_view(span.attributes or {})]
        assert not in_view or set(llm) <= set(in_view)  # the view is whole, too
        if llm:
            wanted += 1
            views += bool(in_view)
            half = spans[0].context.trace_id & sampling.TraceIdRatioBased.TRACE_ID_LIMIT
            assert bool(in_view) == (half < min(ratio, rate) * (1 << 64))
        if in_view:
            assert_sound(spans)
    assert views == wanted if ratio < rate else 0 < views < wanted


def test_services_that_decide_for_themselves_keep_pieces_without_orphans_in_the_view():
    """traceidratio ignores the caller: traces break, yet no mark names a span that is not there."""
    ratios = {0: 0.5, 1: 0.3, 2: 0.8}
    runs = run(World({s: sampling.TraceIdRatioBased(ratio) for s, ratio in ratios.items()}))
    assert any(0 < len(spans) < expected for expected, spans in runs)
    for _, spans in runs:
        assert trees.examine(spans).orphans == []


class RecordOnly(sampling.Sampler):
    """Spans that record and are not sampled."""

    def should_sample(self, parent_context: Any, *arguments: Any, **more: Any) -> Any:
        return sampling.SamplingResult(sampling.Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


def test_a_service_that_records_without_sampling_is_never_named():
    """Its spans are not exported, and the services around it name each other."""
    runs = run(World({1: RecordOnly()}), 100)
    assert sum(len(spans) for _, spans in runs) > 100
    assert any(len(spans) < expected for expected, spans in runs)
    for _, spans in runs:
        assert trees.examine(spans).orphans == []


# -- W3C level 2 and consistent probability --------------------------------------------------------
def test_the_random_flag_and_foreign_tracestate_reach_the_next_service():
    """`ot=` (consistent probability sampling) and the flag pass beside the view's own member."""
    trees.install()
    own = World({})._tracer(0, "otelbridge.genai")
    state = TraceState([("ot", "th:8;rv:ffffffffffffff"), ("vendor", "x")])
    caller = SpanContext(7, 8, True, TraceFlags(1 | RANDOM_FLAG), state)
    context = trace.set_span_in_context(trace.NonRecordingSpan(caller))
    headers: dict[str, str] = {"host": "svc-1"}
    with own.start_as_current_span("chat", context):
        propagate.inject(headers)
    assert headers["traceparent"].endswith("-03")
    members = dict(item.split("=", 1) for item in headers["tracestate"].split(","))
    assert members.pop(semconv.TRACESTATE_MEMBER).endswith("-f")
    assert members == {"ot": "th:8;rv:ffffffffffffff", "vendor": "x"}


def test_the_root_says_that_its_id_is_random():
    """The SDK's generator draws all of it, which a sampler downstream may rely on."""
    span = World({})._tracer(0, "t").start_span("root")
    assert span.get_span_context().trace_flags & RANDOM_FLAG
    span.end()


def test_the_consistent_samplers_of_the_sdk_keep_whole_traces_as_well():
    """Still private there, and not finished in 1.45: children lose threshold and attributes."""
    consistent = pytest.importorskip("opentelemetry.sdk.trace._sampling_experimental")
    first = consistent.composable_parent_threshold(consistent.composable_traceid_ratio_based(0.25))
    always = consistent.composable_parent_threshold(consistent.composable_always_on())
    make = consistent.composite_sampler
    kept = 0
    for expected, spans in run(World({0: make(first), 1: make(always), 2: make(always)})):
        assert len(spans) in (0, expected)
        assert trees.examine(spans).orphans == []
        kept += bool(spans)
        assert {s.context.trace_state.get("ot") for s in spans if s.parent is None} <= {"th:c"}
    assert 0.12 < kept / COUNT < 0.4


# -- configure() -----------------------------------------------------------------------------------
def test_configure_takes_the_sampler_of_the_environment(monkeypatch):
    """The provider that it makes samples by ratio at the root and by the caller below."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    provider = otelbridge.configure(instrument=False, traces_exporter="none")
    assert provider is not None
    assert "root:TraceIdRatioBased{0.0}" in provider.sampler.get_description()
    with otelbridge.chat("m", provider="p"):
        assert not trace.get_current_span().get_span_context().trace_flags.sampled
        headers: dict[str, str] = {}
        otelbridge.inject(headers)
    assert headers["traceparent"].endswith(("-00", "-02"))
    assert semconv.TRACESTATE_MEMBER not in headers.get("tracestate", "")
