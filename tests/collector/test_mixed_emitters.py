"""Ten thousand mixed spans of every recorded emitter through the Collector, with planted canaries.

Requests hold spans of several services, a trace comes in pieces, by gRPC and HTTP, plain and
gzipped. Asked are: the same traces in both sinks, every normalised attribute, no prompt text and
no secret in the raw bytes that Tempo took, no secret of a masked kind in those that Langfuse took.
The last test lists what no rule of the Collector reaches. Canaries: `planting.py`; copies and
their ids: `mixing.py`; what is right for each recorded span: `emitters/expected.py`.
"""

from __future__ import annotations

import gzip
import itertools
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge import semconv as s
from tests.collector import planting
from tests.collector.conftest import Bench, Received, http_get
from tests.collector.emitters import corpus
from tests.collector.emitters.expected import ABSENT, ANY_SECONDS, ROWS
from tests.collector.mixing import Mix, spans_of

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]

SPANS = 10_000
SEED = 20261121
COPIES_PLANTED = 3  # spans that carry each canary
BRANCHES = ("tempo", "langfuse")
CASES = [
    pytest.param(emitter, *row, id=f"{emitter}-{row[0]}-{row[1]}-{number}")
    for emitter, rows in ROWS.items()
    for number, row in enumerate(rows)
]


@dataclass
class Run:
    """What was sent and what came."""

    bench: Bench
    mix: Mix
    canaries: list[planting.Canary]
    carriers: dict[str, list[str]] = field(default_factory=dict)  # canary → span ids
    received: dict[str, dict[str, Received]] = field(default_factory=dict)  # branch → by span id
    bodies: dict[str, list[bytes]] = field(default_factory=dict)  # branch → requests, unpacked

    def expected_at(self, branch: str) -> set[str]:
        """Span ids that this branch delivers."""
        if branch == "tempo":
            return set(self.mix.origin)
        return {key for key, origin in self.mix.origin.items() if origin.in_view}


def plant(mix: Mix, canaries: list[planting.Canary]) -> dict[str, list[str]]:
    """Put each canary into some of the spans that have its position; canary → their ids."""
    by_key: dict[tuple[str, str], list[Any]] = defaultdict(list)
    gen_ai = []
    for batch in mix.batches:
        for span in spans_of(batch):
            origin = mix.origin[span.span_id.hex()]
            for position in origin.positions:
                by_key[origin.emitter, position].append(span)
            if origin.in_view:
                gen_ai.append(span)
    carriers = {}
    for canary in canaries:
        holders = by_key[canary.emitter, canary.key] if canary.emitter else gen_ai
        chosen = mix.rng.sample(holders, COPIES_PLANTED)
        for span in chosen:
            canary.plant(span)
        carriers[canary.word] = [span.span_id.hex() for span in chosen]
    return carriers


def senders(bench: Bench) -> list[Callable[[ExportTraceServiceRequest], None]]:
    """Four ways in: HTTP and gRPC, plain and gzipped; each fails when it is not acknowledged."""
    channel = grpc.insecure_channel(bench.collector.otlp_grpc_endpoint)
    stub = trace_service_pb2_grpc.TraceServiceStub(channel)

    def post(request: ExportTraceServiceRequest) -> None:
        assert bench.post(request.SerializeToString()) == 200

    def post_gzip(request: ExportTraceServiceRequest) -> None:
        body = gzip.compress(request.SerializeToString(), 1)
        assert bench.post(body, {"Content-Encoding": "gzip"}) == 200

    def call(request: ExportTraceServiceRequest) -> None:
        stub.Export(request, timeout=20)

    def call_gzip(request: ExportTraceServiceRequest) -> None:
        stub.Export(request, timeout=20, compression=grpc.Compression.Gzip)

    return [post, post_gzip, call, call_gzip]


@pytest.fixture(scope="module")
def run(module_bench: Bench) -> Run:
    """The mixed corpus, planted and sent; ends when both sinks have what they are to get."""
    mix = Mix(SPANS, SEED)
    made = Run(module_bench, mix, planting.canaries(SEED))
    made.carriers = plant(mix, made.canaries)
    stores = {"tempo": module_bench.tempo.store, "langfuse": module_bench.langfuse.store}
    before = {branch: len(store.bodies) for branch, store in stores.items()}
    ways = itertools.cycle(senders(module_bench))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda send, request: send(request), ways, mix.requests()))
    for branch, store in stores.items():
        count = len(made.expected_at(branch))
        module_bench.wait(lambda s=store, n=count: len(s.spans) >= n, f"all spans at {branch}", 60)
    module_bench.settle()
    for branch, store in stores.items():
        with store.lock:
            made.bodies[branch] = store.bodies[before[branch] :]
            items = [item for item in store.spans if item.id in mix.origin]
        made.received[branch] = {item.id: item for item in items}
        assert len(items) == len(made.received[branch]), f"{branch} got a span twice"
    return made


def test_the_mix_is_what_it_is_said_to_be(run: Run):
    """10,000 spans, over six emitters, requests of several services, over 200 canaries planted."""
    assert len(run.mix.origin) >= SPANS
    assert len({origin.emitter for origin in run.mix.origin.values()}) >= 6
    requests = list(Mix(600, SEED).requests())
    emitters = [{str(batch.resource) for batch in r.resource_spans} for r in requests]
    assert sum(len(names) > 1 for names in emitters) > len(requests) / 2
    assert len(run.canaries) >= 200
    assert sum(canary.content for canary in run.canaries) >= 100
    assert sum(not canary.content for canary in run.canaries) >= 80
    for canary in run.canaries:
        assert len(run.carriers[canary.word]) == COPIES_PLANTED, canary.what


@pytest.mark.parametrize("branch", BRANCHES)
def test_each_sink_has_its_spans_once_with_true_parents_in_the_same_traces(run: Run, branch: str):
    """Tempo has every span, Langfuse the gen_ai ones: ids, trace ids and parents as sent."""
    received = run.received[branch]
    assert set(received) == run.expected_at(branch)
    wrong = [
        key
        for key, item in received.items()
        if item.span.trace_id.hex() != run.mix.traces[key] or item.parent != run.mix.parents[key]
    ]
    assert wrong == []


def test_both_sinks_have_the_same_trace_ids(run: Run):
    """Langfuse has each trace with a gen_ai span, under Tempo's id; the others it does not have."""
    traces = {b: {i.span.trace_id.hex() for i in run.received[b].values()} for b in BRANCHES}
    with_llm = {run.mix.traces[key] for key, origin in run.mix.origin.items() if origin.in_view}
    assert traces["tempo"] == set(run.mix.traces.values())
    assert traces["langfuse"] == with_llm
    assert with_llm < traces["tempo"]


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(("emitter", "name", "number", "expected"), CASES)
def test_every_copy_has_its_normalised_attributes(
    run: Run, branch: str, emitter: str, name: str, number: int, expected: dict[str, Any]
):
    """The table of expected attributes, values and number types, for all copies of a span."""
    copies = [
        run.received[branch][key]
        for key, origin in run.mix.origin.items()
        if (origin.emitter, origin.name, origin.number) == (emitter, name, number)
        and key in run.received[branch]
    ]
    assert len(copies) == run.mix.rounds > 1
    wrong = set()
    for item in copies:
        for key, value in expected.items():
            actual = item.attributes.get(key, ABSENT)
            if value is ANY_SECONDS:
                right = isinstance(actual, float) and 0 < actual < 60
            else:
                right = type(actual) is type(value) and actual == value
            if not right:
                wrong.add(f"{key}: {actual!r}, not {value!r}")
    assert wrong == set()


def where(run: Run, branch: str, found: set[str]) -> list[str]:
    """For a message: what each canary was and where it stands now."""
    said = []
    for canary in run.canaries:
        if any(canary.word.startswith(part) for part in found):
            for key in run.carriers[canary.word]:
                item = run.received[branch].get(key)
                if item and canary.word.encode() in item.span.SerializeToString():
                    said.append(f"{canary.what} in {item.span.name}")
    return sorted(set(said)) or sorted(found)


def test_no_byte_of_a_canary_is_on_the_tempo_side(run: Run):
    """Raw bytes of all requests: no planted canary, whole or cut, and none of the recorded ones."""
    bodies = run.bodies["tempo"]
    assert sum(map(len, bodies)) > 1_000_000
    found = set().union(*(planting.leaks(body) for body in bodies))
    assert found == set(), where(run, "tempo", found)
    recorded = [corpus.PHRASE, corpus.ORDER, *corpus.SECRETS]
    assert [word for word in recorded if any(word.encode() in body for body in bodies)] == []


def test_spans_that_lost_content_say_so_on_the_tempo_side(run: Run):
    """The marker stands on each carrier of a content canary."""
    unmarked = [
        canary.what
        for canary in run.canaries
        for key in run.carriers[canary.word]
        if canary.content
        and run.received["tempo"][key].attributes.get(s.CONTENT_REMOVED) is not True
    ]
    assert unmarked == []


def test_langfuse_has_the_content_and_no_secret_of_a_masked_kind(run: Run):
    """Content canaries are in the spans they were planted in; secrets are in no byte."""
    bodies = run.bodies["langfuse"]
    expected = run.expected_at("langfuse")
    content = {
        canary.word
        for canary in run.canaries
        if canary.langfuse_has_it and not expected.isdisjoint(run.carriers[canary.word])
    }
    found = set().union(*(planting.leaks(body) for body in bodies))
    assert found <= content, where(run, "langfuse", found - content)
    assert [secret for secret in corpus.SECRETS if any(secret.encode() in b for b in bodies)] == []
    missing = [
        canary.what
        for canary in run.canaries
        for key in run.carriers[canary.word]
        if canary.word in content and key in expected
        if canary.word.encode() not in run.received["langfuse"][key].span.SerializeToString()
    ]
    assert missing == []
    assert found == content
    assert len(content) >= 100


def test_no_canary_is_in_the_collectors_metrics_or_log(run: Run):
    """Span names become labels and errors become log lines: no canary goes that way."""
    for url in (run.bench.collector.prometheus_url, run.bench.collector.metrics_url):
        exposed = http_get(url)
        assert b"_total" in exposed
        assert planting.leaks(exposed) == set()
    assert planting.leaks(run.bench.collector.log_path.read_bytes()) == set()


#: Where no rule reaches. OTTL has no path to span links, and no statement that walks through lists
#: and maps; attribute keys, scopes, resources and the trace state are the service's own to keep
#: clean. Content keys are removed whole, so no list or map under one is in this table.
UNREACHED = {
    *("link attribute", "link content attribute"),
    *("list element", "map value", "list of an event"),
    *("attribute key", "scope name", "scope attribute", "trace state"),
}


def test_places_that_no_rule_reaches_are_the_ones_named_here(module_bench: Bench):
    """Each place that may hold a canary, alone: what passes to Tempo is exactly this list."""
    bench, supply = module_bench, iter(planting.words(100, SEED + 1))
    sent: list[tuple[str, str, bytes]] = []

    def make(place: str, plant: Callable[[ExportTraceServiceRequest, str, str], None]) -> None:
        word = next(supply)
        trace_id = bench.new_trace()
        request = bench.request([bench.span(trace_id, {s.GEN_AI_OPERATION_NAME: "chat"})])
        plant(request, word, f"key sk-proj-{word}")
        assert bench.post(request.SerializeToString()) == 200
        sent.append((place, word, trace_id))

    def span_of(request: ExportTraceServiceRequest) -> Any:
        return request.resource_spans[0].scope_spans[0].spans[0]

    def link(request: Any, key: str, text: str) -> None:
        added = span_of(request).links.add(trace_id=bench.new_trace(), span_id=b"12345678")
        planting.set_attribute(added, key, text)

    def event(request: Any, value: Any) -> None:
        planting.set_attribute(span_of(request).events.add(name="e"), "note", value)

    def scope(request: Any) -> Any:
        return request.resource_spans[0].scope_spans[0].scope

    def resource(request: Any) -> Any:
        return request.resource_spans[0].resource

    attribute = planting.set_attribute
    make("span attribute", lambda r, _, text: attribute(span_of(r), "note", text))
    make("span name", lambda r, _, text: setattr(span_of(r), "name", text))
    make("status message", lambda r, _, text: setattr(span_of(r).status, "message", text))
    make("event attribute", lambda r, _, text: event(r, text))
    make("event name", lambda r, _, text: span_of(r).events.add(name=text))
    make("content attribute", lambda r, w, _: attribute(span_of(r), s.GEN_AI_INPUT_MESSAGES, w))
    make("command line", lambda r, _, text: attribute(resource(r), "process.command_line", text))
    make("link attribute", lambda r, _, text: link(r, "note", text))
    make("link content attribute", lambda r, w, _: link(r, s.GEN_AI_INPUT_MESSAGES, w))
    make("list element", lambda r, _, text: attribute(span_of(r), "note", [text]))
    make("map value", lambda r, _, text: attribute(span_of(r), "note", planting.as_map(text)))
    make("list of an event", lambda r, _, text: event(r, [text]))
    make("attribute key", lambda r, _, text: attribute(span_of(r), text, "x"))
    make("resource attribute", lambda r, _, text: attribute(resource(r), "note", text))
    make("scope name", lambda r, _, text: setattr(scope(r), "name", text))
    make("scope attribute", lambda r, _, text: attribute(scope(r), "note", text))
    make("trace state", lambda r, _, text: setattr(span_of(r), "trace_state", f"a={text}"))
    for _, _, trace_id in sent:
        bench.at_tempo(trace_id, 1)
    found = set().union(*(planting.leaks(body) for body in bench.tempo.store.bodies))
    passed = {place for place, word, _ in sent if word in found}
    assert passed == UNREACHED
