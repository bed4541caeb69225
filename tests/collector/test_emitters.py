"""Ten thousand spans of real emitters through the real Collector: both branches, every dialect.

The corpus and how it was recorded: `emitters/README.md`. Each copy has ids of its own, so that a
received span is traced back to the recorded one; what is right for it stands in
`emitters/expected.py`.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otelbridge import langfuse_policy, policy
from otelbridge import semconv as s
from tests.collector.emitters import corpus
from tests.collector.emitters.expected import ABSENT, ANY_SECONDS, ROWS

ROOT = Path(__file__).resolve().parents[2]
SPANS_SENT = 10_000
TRACE_ID_DIGITS = 32
BRANCHES = ("tempo", "langfuse")


CASES = [
    pytest.param(emitter, *row, id=f"{emitter}-{row[0]}-{row[1]}-{number}")
    for emitter, rows in ROWS.items()
    for number, row in enumerate(rows)
]


@dataclass
class Recorded:
    """One span of the corpus."""

    emitter: str
    scope: str
    span: dict[str, Any]
    attributes: dict[str, Any]

    def holds(self, canary: str) -> bool:
        return canary in json.dumps(self.span, ensure_ascii=False)


@dataclass
class Replay:
    """What was sent and what came: received spans by the recorded span id, for each branch."""

    recorded: dict[str, Recorded]
    sent: dict[str, str] = field(default_factory=dict)  # id of a copy → recorded id
    traces: set[bytes] = field(default_factory=set)  # trace ids of the copies
    elsewhere: dict[str, str] = field(default_factory=dict)  # parents that were never exported
    received: dict[str, dict[str, list[Any]]] = field(default_factory=dict)

    def of(self, branch: str, emitter: str) -> Iterator[tuple[Recorded, Any]]:
        for recorded_id, items in self.received[branch].items():
            if self.recorded[recorded_id].emitter == emitter:
                for item in items:
                    yield self.recorded[recorded_id], item

    def row(self, emitter: str, name: str, index: int) -> str:
        """The recorded id of the nth span of a name, by start time."""
        named = [
            (int(item.span["startTimeUnixNano"]), recorded_id)
            for recorded_id, item in self.recorded.items()
            if item.emitter == emitter and item.span["name"] == name
        ]
        return sorted(named)[index][1]


def plain(value: dict[str, Any]) -> Any:
    """The Python value of an OTLP/JSON value."""
    if not value:
        return None
    kind, content = next(iter(value.items()))
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [plain(item) for item in content.get("values", ())]
    return content


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recorded]:
    """Every recorded span by its id."""
    return {
        span["spanId"]: Recorded(
            emitter, scope, span, {k: plain(v) for k, v in corpus.pairs(span).items()}
        )
        for emitter in corpus.EMITTERS
        for scope, span in corpus.spans(emitter)
    }


@pytest.fixture(scope="module")
def replay(bench: Any, recorded: dict[str, Recorded]) -> Iterator[Replay]:
    """The corpus, copied to ten thousand spans and sent through the Collector."""
    made = Replay(recorded)
    stores = {"tempo": bench.tempo.store, "langfuse": bench.langfuse.store}
    before = {branch: len(store.bodies) for branch, store in stores.items()}
    while len(made.sent) < SPANS_SENT:
        for emitter in corpus.EMITTERS:  # mixed: one export request of each emitter in turn
            texts, names = corpus.fresh(corpus.lines(emitter))
            for text in texts:
                status = bench.post(text.encode(), {"Content-Type": "application/json"})
                assert status == 200
            for new, old in names.items():
                if len(new) == TRACE_ID_DIGITS:
                    made.traces.add(bytes.fromhex(new))
                else:
                    (made.sent if old in recorded else made.elsewhere)[new] = old

    def ours(branch: str) -> list[Any]:
        with stores[branch].lock:
            return [item for item in stores[branch].spans if item.span.trace_id in made.traces]

    bench.wait(lambda: len(ours("tempo")) >= len(made.sent), "the corpus at Tempo", 60)
    bench.settle()
    for branch in BRANCHES:
        found: dict[str, list[Any]] = defaultdict(list)
        for item in ours(branch):
            found[made.sent[item.id]].append(item)
        made.received[branch] = dict(found)
    yield made
    for branch, store in stores.items():  # other tests search the shared stores
        with store.lock:
            store.spans[:] = [item for item in store.spans if item.span.trace_id not in made.traces]
            del store.bodies[before[branch] :]


def masking_is_configured() -> bool:
    """Whether the rendered configuration replaces secrets by the markers of the policy."""
    return "[masked:api-key]" in (ROOT / "collector" / "config.yaml").read_text(encoding="utf-8")


def places(item: Any, canary: str) -> set[str]:
    """Where a received span holds a canary."""
    span = item.span
    found = {key for key, value in item.attributes.items() if canary in str(value)}
    found |= {f"resource {key}" for key, value in item.resource.items() if canary in str(value)}
    if canary in span.name:
        found.add("name")
    if canary in span.status.message:
        found.add("status message")
    for kind, holders in (("event", span.events), ("link", span.links)):
        found |= {f"{kind} {getattr(h, 'name', '')}" for h in holders if canary in str(h)}
    if not found and canary.encode() in span.SerializeToString():
        found.add("elsewhere")
    return found


# -- the corpus itself -----------------------------------------------------------------------------
def test_canaries_of_the_corpus_are_those_of_the_scenarios():
    """The two spellings of each canary agree, and each was recorded for every emitter with it."""
    tree = ast.parse((corpus.HERE / "scenarios.py").read_text(encoding="utf-8"))
    spelled = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for name in ("PHRASE", "ORDER", "API_KEY", "EMAIL", "PASSWORD"):
        assert spelled[name] == getattr(corpus, name)
    for emitter in corpus.EMITTERS:
        text = "\n".join(corpus.lines(emitter))
        assert all(canary in text for canary in (corpus.PHRASE, corpus.ORDER, *corpus.SECRETS))


def test_table_of_keys_is_that_of_the_recordings():
    """`KEYS.md` is what the corpus and the policy make of it."""
    text = (corpus.HERE / "KEYS.md").read_text(encoding="utf-8")
    assert text == corpus.render_keys(), "run `python -m tests.collector.emitters.corpus`"


@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_policy_knows_every_content_key_of_the_emitter(emitter: str):
    """No attribute with prompt text, documents or tool data is missing in the content pattern."""
    assert corpus.unmatched(emitter) == []


@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_every_emitter_has_rows_and_a_small_recording(emitter: str):
    """A new recording needs expected attributes; a recording stays below 200 kB."""
    assert ROWS[emitter]
    assert (corpus.HERE / f"{emitter}.jsonl").stat().st_size < 200_000


# -- through the Collector -------------------------------------------------------------------------
@pytest.mark.collector
def test_tempo_has_every_span_once_with_its_true_parent(replay: Replay):
    """Ten thousand mixed spans: none lost, none doubled, parents and traces as recorded."""
    received = [item for items in replay.received["tempo"].values() for item in items]
    assert len(received) == len(replay.sent) >= SPANS_SENT
    assert {item.id for item in received} == set(replay.sent)
    known = {"": "", **replay.sent, **replay.elsewhere}
    for recorded_id, items in replay.received["tempo"].items():
        parent = replay.recorded[recorded_id].span.get("parentSpanId", "")
        assert {known[item.parent] for item in items} == {parent}


@pytest.mark.collector
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_langfuse_has_the_llm_view_in_the_same_traces(replay: Replay, emitter: str):
    """Each gen_ai span is in both sinks under one trace id; other spans are at Tempo only."""
    kept = {item.id: item for _, item in replay.of("langfuse", emitter)}
    at_tempo = {item.id: item for _, item in replay.of("tempo", emitter)}
    assert all(at_tempo[id_].span.trace_id == item.span.trace_id for id_, item in kept.items())
    expected = set()
    for id_ in at_tempo:
        source = replay.recorded[replay.sent[id_]]
        if policy.in_llm_view(source.attributes) or source.scope == "langfuse-sdk":
            expected.add(id_)
    assert len(kept) == len(expected) > 0
    assert set(kept) == expected
    assert emitter == "langfuse" or expected != set(at_tempo)  # it sends its own scope only


@pytest.mark.collector
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize(("emitter", "name", "index", "expected"), CASES)
def test_attributes_are_normalised(
    replay: Replay, branch: str, emitter: str, name: str, index: int, expected: dict[str, Any]
):
    """Every copy of the span has the current gen_ai names with right values and number types."""
    items = replay.received[branch].get(replay.row(emitter, name, index), [])
    assert items, "no copy of the span arrived"
    wrong: dict[str, set[str]] = defaultdict(set)
    for item in items:
        for key, value in expected.items():
            actual = item.attributes.get(key, ABSENT)
            if value is ANY_SECONDS:
                right = isinstance(actual, float) and 0 < actual < 60
            else:
                right = type(actual) is type(value) and actual == value
            if not right:
                wrong[key].add(f"{actual!r}, not {value!r}")
    assert not wrong, "; ".join(f"{key}: {sorted(said)}" for key, said in wrong.items())


@pytest.mark.collector
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_no_prompt_text_and_no_tool_data_reaches_tempo(replay: Replay, emitter: str):
    """Attributes, events, links, names, status and resources hold none of the content canaries."""
    found: dict[str, set[str]] = defaultdict(set)
    marked = set()
    for recorded_span, item in replay.of("tempo", emitter):
        for canary in (corpus.PHRASE, corpus.ORDER):
            for place in places(item, canary):
                found[canary].add(f"{recorded_span.span['name']}: {place}")
            if recorded_span.holds(canary):
                marked.add(item.attributes.get(s.CONTENT_REMOVED))
    assert not found, "; ".join(f"{canary}: {sorted(where)}" for canary, where in found.items())
    assert marked == {True}, "a span that lost content says so"


@pytest.mark.collector
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_langfuse_keeps_prompts_and_tool_data(replay: Replay, emitter: str):
    """Every span of the LLM view that was recorded with content still has it."""
    spans = list(replay.of("langfuse", emitter))
    lost = {
        recorded_span.span["name"]
        for recorded_span, item in spans
        for canary in (corpus.PHRASE, corpus.ORDER)
        if recorded_span.holds(canary) and not places(item, canary)
    }
    assert spans, "no span of the emitter arrived"
    assert lost == set()


@pytest.mark.collector
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_langfuse_is_told_each_token_once(replay: Replay, emitter: str):
    """Usage stands spelled out on the calls of models; agents, workflows and tools have none."""
    for recorded_span, item in replay.of("langfuse", emitter):
        attributes, name = item.attributes, recorded_span.span["name"]
        details = attributes.get(s.LANGFUSE_OBSERVATION_USAGE_DETAILS)
        used = {key for key in attributes if key.startswith(s.GEN_AI_USAGE_PREFIX)}
        if attributes.get(s.GEN_AI_OPERATION_NAME) in langfuse_policy.UNCOUNTED_OPERATIONS:
            assert not used, name
            assert details is None, name
        elif s.GEN_AI_USAGE_INPUT_TOKENS in used:
            buckets = json.loads(details)
            tokens = attributes[s.GEN_AI_USAGE_INPUT_TOKENS]
            tokens += attributes.get(s.GEN_AI_USAGE_OUTPUT_TOKENS, 0)
            total = "total_tokens" if "total_tokens" in buckets else "total"
            flat = {k: v for k, v in buckets.items() if isinstance(v, int) and k != total}
            assert buckets.get(total, tokens) == sum(flat.values()) == tokens, name


@pytest.mark.collector
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("emitter", corpus.EMITTERS)
def test_secrets_are_masked(replay: Replay, branch: str, emitter: str):
    """API key, e-mail address and URL password are masked wherever they stood."""
    if not masking_is_configured():
        pytest.skip("collector/config.yaml holds no masking statement")
    found = {
        f"{recorded_span.span['name']}: {place}"
        for recorded_span, item in replay.of(branch, emitter)
        for secret in corpus.SECRETS
        for place in places(item, secret)
    }
    assert not found, "; ".join(sorted(found))
