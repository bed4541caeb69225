"""The three queries of the guide, asked of what the real Collector sent to Tempo.

Spans of seven dialects and of none, of several users in one batch, with near misses of every kind.
Each row says by itself which queries are to return it; the answer must be exactly those spans. The
recorded spans of real emitters are asked the same, against their expected attributes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otelbridge import semconv as s
from tests.collector.conftest import Bench, Received, to_attributes
from tests.collector.emitters.expected import ROWS
from tests.collector.mixing import Mix, spans_of
from tests.collector.traceql_by_hand import QUERIES, SLOW_MODEL, SYSTEM, USER, matches

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]

SEED = 20261121
COPIES = 40  # of each row, spread over requests that hold every kind
SECOND_NS = 1_000_000_000
START_NS = 1_760_000_000 * SECOND_NS
EVERY = (SYSTEM, SLOW_MODEL, USER)


@dataclass(frozen=True)
class Row:
    """A span to send, and the queries that are to return it."""

    returned_by: tuple[str, ...]
    attributes: dict[str, Any]
    seconds: float = 1.0
    resource: dict[str, Any] = field(default_factory=dict)


CHAT = {s.GEN_AI_OPERATION_NAME: "chat"}
OPENAI = {**CHAT, s.GEN_AI_PROVIDER_NAME: "openai", s.GEN_AI_REQUEST_MODEL: "gpt-4o"}
WHO = {s.USER_ID: "user-123"}
#: The same call, slow and of the user, as each dialect writes it.
DIALECTS = {
    "otelbridge": {**OPENAI, s.LLM_KEEP: True, s.LLM_PARENT: "", **WHO},
    "current names": {**OPENAI, **WHO},
    "older names": {**CHAT, s.GEN_AI_SYSTEM: "openai", s.GEN_AI_REQUEST_MODEL: "gpt-4o", **WHO},
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.system": "openai",
        "llm.model_name": "gpt-4o",
        **WHO,
    },
    "OpenLLMetry": {
        "llm.request.type": "chat",
        s.GEN_AI_SYSTEM: "OpenAI",
        s.GEN_AI_REQUEST_MODEL: "gpt-4o",
        "traceloop.association.properties.user_id": "user-123",
    },
    "Vercel AI SDK": {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.provider": "openai.chat",
        "ai.model.id": "gpt-4o",
        "ai.telemetry.metadata.userId": "user-123",
    },
    "LiteLLM": {
        "gen_ai.cost.total_cost": 0.1,
        "llm.request.type": "acompletion",
        s.GEN_AI_SYSTEM: "openai",
        s.GEN_AI_REQUEST_MODEL: "gpt-4o",
        "metadata.user_api_key_end_user_id": "user-123",
    },
}
ROWS_SENT: list[Row] = [
    *(Row(EVERY, attributes, 3.5) for attributes in DIALECTS.values()),
    *(Row((SYSTEM, USER), attributes, 0.5) for attributes in DIALECTS.values()),
    # the Langfuse SDK: a model, no provider
    Row(
        (SLOW_MODEL, USER),
        {
            s.LANGFUSE_OBSERVATION_TYPE: "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.user.id": "user-123",
        },
        4.0,
    ),
    # durations around three seconds
    Row((SYSTEM,), OPENAI, 3.0),
    Row((SYSTEM, SLOW_MODEL), OPENAI, 3.000000001),
    Row((SYSTEM, SLOW_MODEL), OPENAI, 86_400.0),
    Row((SYSTEM,), OPENAI, 2.999999999),
    # other models, models elsewhere
    Row((SYSTEM,), {**OPENAI, s.GEN_AI_REQUEST_MODEL: "gpt-4o-mini"}, 9.0),
    Row((SYSTEM,), {**OPENAI, s.GEN_AI_REQUEST_MODEL: "GPT-4o"}, 9.0),
    Row((SYSTEM,), {**CHAT, s.GEN_AI_SYSTEM: "openai", s.GEN_AI_RESPONSE_MODEL: "gpt-4o"}, 9.0),
    Row((SYSTEM, SLOW_MODEL), {**OPENAI, s.GEN_AI_REQUEST_MODEL: ["gpt-4o"]}, 9.0),
    Row((), {}, 9.0, {s.GEN_AI_REQUEST_MODEL: "gpt-4o", s.GEN_AI_SYSTEM: "openai"}),
    # other providers
    Row((SLOW_MODEL,), {**OPENAI, s.GEN_AI_PROVIDER_NAME: "azure.ai.openai"}, 9.0),
    Row((), {**CHAT, s.GEN_AI_SYSTEM: "anthropic", s.GEN_AI_REQUEST_MODEL: "claude"}, 9.0),
    Row((), {**CHAT, s.GEN_AI_PROVIDER_NAME: "openai-compatible"}, 9.0),
    Row((), CHAT, 9.0),
    # other users, and the user elsewhere
    Row((USER,), {"http.request.method": "GET", **WHO}),  # no LLM span: the user's all the same
    Row((), {s.USER_ID: "user-1234"}),
    Row((), {s.USER_ID: "User-123"}),
    Row((), {s.USER_ID: "user-124"}),
    Row((), {s.USER_ID: 123}),
    Row((), {"enduser.id": "user-123", "note": "user-123"}),
    Row((), {s.LANGFUSE_SESSION_ID: "user-123", s.SESSION_ID: "user-123"}),
    Row((), {s.USER_ID: ""}),
    # a service that says on its resource whose it is
    Row((USER,), {}, resource={s.LANGFUSE_USER_ID: "user-123"}),
    Row((), {}, resource={s.USER_ID: "user-123"}),  # not the name that is asked for
    Row((), {s.USER_ID: "user-9"}, resource={s.LANGFUSE_USER_ID: "user-123"}),  # its own wins
]


@dataclass
class Run:
    """What Tempo took, and for each query the spans that it is to return."""

    received: list[Received]
    expected: dict[str, set[tuple[str, str]]]
    rows: dict[tuple[str, str], Row]


def make_span(row: Row, rng: random.Random) -> Span:
    return Span(
        trace_id=rng.randbytes(16),
        span_id=rng.randbytes(8),
        name="call",
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + round(row.seconds * SECOND_NS),
        attributes=to_attributes(row.attributes),
    )


@pytest.fixture(scope="module")
def run(module_bench: Bench) -> Run:
    """Every row forty times, in batches that hold rows of many kinds and users."""
    rng = random.Random(SEED)
    pairs = [(row, make_span(row, rng)) for row in ROWS_SENT for _ in range(COPIES)]
    rng.shuffle(pairs)
    made = Run([], {query: set() for query in QUERIES}, {})
    batches: dict[tuple[int, tuple[Any, ...]], ResourceSpans] = {}
    for number, (row, span) in enumerate(pairs):
        key = (span.trace_id.hex(), span.span_id.hex())
        made.rows[key] = row
        for query in row.returned_by:
            made.expected[query].add(key)
        resource = {s.SERVICE_NAME: "shop", **row.resource}
        batch = batches.setdefault(
            (number % 5, tuple(resource.items())),  # five requests; one batch holds many users
            ResourceSpans(
                resource=Resource(attributes=to_attributes(resource)), scope_spans=[ScopeSpans()]
            ),
        )
        batch.scope_spans[0].spans.append(span)
    for request in range(5):
        chosen = [batch for (number, _), batch in batches.items() if number == request]
        message = ExportTraceServiceRequest(resource_spans=chosen)
        assert module_bench.post(message.SerializeToString()) == 200
    store = module_bench.tempo.store

    def arrived() -> list[Received]:
        with store.lock:
            return [i for i in store.spans if (i.span.trace_id.hex(), i.id) in made.rows]

    module_bench.wait(lambda: len(arrived()) >= len(pairs), "the rows at Tempo", 30)
    made.received = arrived()
    assert len(made.received) == len(pairs)
    return made


@pytest.mark.parametrize("query", QUERIES)
def test_query_returns_exactly_the_right_spans(run: Run, query: str):
    """Nothing missing, nothing more, among spans of every dialect and of many users."""
    found = matches(query, run.received)
    expected = run.expected[query]
    assert COPIES < len(expected) < len(run.received) - COPIES
    for what, wrong in (("missing", expected - found), ("too many", found - expected)):
        rows = {str(run.rows[key].attributes) for key in wrong}
        assert rows == set(), f"{query}: {what}"


def test_one_batch_of_many_users_becomes_a_resource_for_each(run: Run):
    """Spans came with one resource for all users; each user's own resource names him alone."""
    users = {item.resource.get(s.LANGFUSE_USER_ID) for item in run.received}
    assert {"user-123", "user-1234", "User-123", "user-124", "user-9"} <= users
    mixed = [
        item.attributes
        for item in run.received
        if isinstance(item.attributes.get(s.USER_ID), str)
        and item.attributes[s.USER_ID]
        and item.attributes[s.USER_ID] != item.resource.get(s.LANGFUSE_USER_ID)
    ]
    assert mixed == []


def test_recorded_emitters_are_found_by_provider_and_model(module_bench: Bench):
    """Spans recorded of real emitters: each row of the expected table is found, or is not."""
    mix = Mix(400, SEED + 1)  # other ids than the rows
    for request in mix.requests():
        assert module_bench.post(request.SerializeToString()) == 200
    store = module_bench.tempo.store

    def ours() -> list[Received]:
        with store.lock:
            return [item for item in store.spans if item.id in mix.origin]

    module_bench.wait(lambda: len(ours()) >= len(mix.origin), "the corpus at Tempo", 30)
    received = ours()
    found = {key for _, key in matches(SYSTEM, received)}
    users = {key for _, key in matches(USER, received)}
    slow = {key for _, key in matches(SLOW_MODEL, received)}
    sent = [span for batch in mix.batches for span in spans_of(batch)]
    long = {
        span.span_id.hex()
        for span in sent
        if span.end_time_unix_nano - span.start_time_unix_nano > 3 * SECOND_NS
    }
    wrong, checked = [], set()
    for key, origin in mix.origin.items():
        for name, number, expected in ROWS[origin.emitter]:
            if (name, number) != (origin.name, origin.number):
                continue
            if s.GEN_AI_SYSTEM in expected:
                checked.add(origin.emitter)
                if (key in found) != (expected[s.GEN_AI_SYSTEM] == "openai"):
                    wrong.append((origin.emitter, name, "provider"))
            if s.GEN_AI_REQUEST_MODEL in expected:
                is_slow = expected[s.GEN_AI_REQUEST_MODEL] == "gpt-4o" and key in long
                if (key in slow) != is_slow:
                    wrong.append((origin.emitter, name, "model and duration"))
            if expected.get(s.USER_ID) == "user-123" and key not in users:
                wrong.append((origin.emitter, name, "user"))
    assert wrong == []
    assert len(checked) >= 10
    assert users
    assert found - users
