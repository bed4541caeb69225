"""Tokens and cost in the metrics branch of the real Collector: exact, and counted once.

Read back from its Prometheus exposition. Bench: `metrics_bench.py`; durations, caps and the service
graph: `test_metrics_spans.py`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from otelbridge import semconv
from tests.collector.emitters.expected import ASKED, STREAMED, TOOL_ANSWERED, TOOL_ASKED
from tests.collector.metrics_bench import (
    CALLS,
    COST,
    DURATION,
    LATENCY,
    PARTS,
    PER_CALL,
    TOKENS,
    make_call,
    make_span,
    usage,
)
from tests.collector.mixing import Mix, spans_of

pytestmark = [pytest.mark.collector, pytest.mark.timeout(180)]

#: Input and output tokens of each call that reached the stand-in upstream while an emitter was
#: recorded (emitters/emit.py); an agent's or a workflow's span that repeats them adds nothing.
EMBEDDED = (8, 0)
STEPS = (ASKED, STREAMED, TOOL_ASKED, TOOL_ANSWERED, EMBEDDED)
UPSTREAM_CALLS: dict[str, tuple[tuple[int, int], ...]] = {
    "anthropic": ((79, 9), (42, 9), (47, 9), (167, 9)),
    "genai-openai": STEPS,
    "langchain": (ASKED, TOOL_ASKED, TOOL_ANSWERED),  # no usage of its stream and its embedding
    "langfuse": (*STEPS, TOOL_ASKED, TOOL_ANSWERED, (11, 7)),
    "litellm": (*STEPS, ASKED),
    "logfire": STEPS,
    "openinference": (*STEPS, TOOL_ASKED, TOOL_ANSWERED),
    "openllmetry": (*STEPS, TOOL_ASKED, TOOL_ANSWERED),
    "openllmetry-old": (ASKED, TOOL_ASKED, TOOL_ANSWERED, EMBEDDED),  # no counts for streams
    "otelbridge": (ASKED, STREAMED, TOOL_ASKED, EMBEDDED),
    "pydantic-ai": (*STEPS, TOOL_ASKED),
    "strands": (ASKED, TOOL_ASKED, TOOL_ANSWERED, TOOL_ASKED, (76, 62)),
    "vercel": (*STEPS, STREAMED, TOOL_ASKED),
}


# -- tokens and cost -------------------------------------------------------------------------------
def test_tokens_and_cost_by_model_are_exact_over_services_batches_and_parallel_senders(metrics):
    """Sums over 4 services, 3 models and 200 requests from 8 threads equal what was sent."""
    rng = random.Random(7)
    services = ["exact-a", "exact-b", "exact-c", "exact-d"]
    models = ["gpt-4o", "claude-sonnet-4", "text-embedding-3-small"]
    expected: Counter[tuple[str, str, str]] = Counter()
    costs: dict[tuple[str, str], float] = defaultdict(float)
    counts: Counter[tuple[str, str]] = Counter()
    batches = []
    for _ in range(200):
        service, spans = rng.choice(services), []
        for _ in range(rng.randint(1, 20)):
            model, tokens_in, tokens_out = (
                rng.choice(models),
                rng.randint(0, 9000),
                rng.randint(0, 900),
            )
            cost = rng.randint(0, 1000) / 1024  # sums of these are exact in binary
            spans.append(make_span("call", make_call(model, **usage(tokens_in, tokens_out, cost))))
            expected[service, model, "input"] += tokens_in
            expected[service, model, "output"] += tokens_out
            costs[service, model] += cost
            counts[service, model] += 1
        batches.append((service, spans))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda batch: metrics.send(*batch[1], service=batch[0]), batches))
    sent = {service: sum(n for (s, _), n in counts.items() if s == service) for service in services}
    metrics.settle("nobody", 0, **sent)
    for (service, model, kind), tokens in expected.items():
        labels = {"service_name": service, "gen_ai_request_model": model}
        assert metrics.total(TOKENS, gen_ai_token_type=kind, **labels) == tokens
        assert metrics.total(f"{PER_CALL}_sum", gen_ai_token_type=kind, **labels) == tokens
        assert metrics.total(COST, **labels) == costs[service, model]
        assert metrics.total(f"{DURATION}_count", **labels) == counts[service, model]
        assert metrics.total(f"{LATENCY}_count", **labels) == counts[service, model]
        assert metrics.total(CALLS, **labels) == counts[service, model]


def test_only_calls_of_models_count_for_tokens_and_cost(metrics):
    """Agents, workflows, tools and fetched answers repeat calls, a cache spends nothing."""
    spent = usage(100, 10, 0.5)
    wrappers = [
        "invoke_agent",
        "create_agent",
        "invoke_workflow",
        "plan",
        "execute_tool",
        "fetch_response",
    ]
    spans = [make_span(op, make_call("m", op, **spent)) for op in wrappers]
    spans.append(make_span("cached", make_call("m", **spent) | {semconv.CACHED: True}))
    counted = ["chat", "text_completion", "generate_content", "embeddings", "something_new"]
    spans += [make_span(op, make_call("m", op, **spent)) for op in counted]
    metrics.send(*spans, service="wrap")
    metrics.settle("wrap", len(spans))
    assert metrics.total(TOKENS, service_name="wrap", gen_ai_token_type="input") == 100 * len(
        counted
    )
    assert metrics.total(TOKENS, service_name="wrap", gen_ai_token_type="output") == 10 * len(
        counted
    )
    assert metrics.total(COST, service_name="wrap") == 0.5 * len(counted)
    assert metrics.total(f"{DURATION}_count", service_name="wrap") == len(spans)
    assert metrics.total(CALLS, service_name="wrap") == len(spans)


def test_recorded_emitters_count_each_call_of_a_model_once(metrics):
    """Every dialect: totals are those of the calls, also where agents and wrappers repeat them."""
    mix = Mix(1, seed=7)  # one copy of each recording
    for request in mix.requests():
        assert metrics.post("/v1/traces", request) == 200
    counts: Counter[str] = Counter()
    for batch in mix.batches:
        (service,) = [
            a.value.string_value for a in batch.resource.attributes if a.key == semconv.SERVICE_NAME
        ]
        counts[service] += len(list(spans_of(batch)))
    assert counts.keys() == {f"shop-{emitter}" for emitter in UPSTREAM_CALLS}
    metrics.settle("nobody", 0, **counts)
    for service in counts:
        calls = UPSTREAM_CALLS[service.removeprefix("shop-")]
        for index, kind in enumerate(("input", "output")):
            counted = metrics.total(TOKENS, service_name=service, gen_ai_token_type=kind)
            assert counted == sum(call[index] for call in calls), (service, kind)


def test_spans_of_a_service_named_as_gateway_count_in_red_only(metrics):
    """What a gateway repeats of its clients' calls is left out of tokens and cost by its name."""
    for service in ("llm-gw", "llm-gw-client"):
        metrics.send(make_span("chat", make_call(**usage(100, 10, 0.25))), service=service)
        metrics.settle(service, 1)
    assert metrics.total(COST, service_name="llm-gw-client") == 0.25
    assert metrics.total(TOKENS, service_name="llm-gw-client") == 110
    assert metrics.samples(TOKENS, service_name="llm-gw") == []
    assert metrics.samples(COST, service_name="llm-gw") == []
    assert metrics.total(f"{DURATION}_count", service_name="llm-gw") == 1


def test_spans_outside_the_llm_view_count_all_the_same(metrics):
    """Metrics are taken before the filter of the LLM view: keep=false changes nothing."""
    call = make_call(**usage(5, 6, 0.125)) | {semconv.LLM_KEEP: False}
    metrics.send(
        make_span("chat", call), make_span("GET /", {semconv.LLM_KEEP: False}), service="unkept"
    )
    metrics.settle("unkept", 2)
    assert metrics.total(TOKENS, service_name="unkept") == 11
    assert metrics.total(COST, service_name="unkept") == 0.125


def test_cached_and_reasoning_tokens_stand_apart_from_the_totals(metrics):
    """Parts have a metric of their own, so that no sum counts them twice; both names of a write."""
    parts = {
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 40,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: 30,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 7,
    }
    older = {semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: 3}
    metrics.send(
        make_span("a", make_call(**usage(100, 10)) | parts),
        make_span("b", make_call(**usage(10, 1)) | older),
        service="parts",
    )
    metrics.settle("parts", 2)
    assert metrics.total(TOKENS, service_name="parts") == 121
    found = {at["gen_ai_token_type"]: v for at, v in metrics.samples(PARTS, service_name="parts")}
    assert found == {"cache_read": 40, "cache_write": 33, "reasoning": 7}


@pytest.mark.parametrize(
    ("value", "counted"),
    [("12", 12), (12.0, 12), ("many", None), (-5, None), (2**62, None), ("", None)],
)
def test_numbers_of_a_wrong_type_count_or_are_left_out_and_spoil_nothing(metrics, value, counted):
    """A number as text counts; what is none, negative or absurd is left out of that metric only."""
    service = f"odd-{value}"
    metrics.send(
        make_span("a", make_call(**usage(value, 1, 0.5))),
        make_span("b", make_call(**usage(100, 1, 0.5))),
        service=service,
    )
    metrics.settle(service, 2)
    found = metrics.total(TOKENS, service_name=service, gen_ai_token_type="input")
    assert found == 100 + (counted or 0)
    assert metrics.total(TOKENS, service_name=service, gen_ai_token_type="output") == 2
    assert metrics.total(COST, service_name=service) == 1.0


@pytest.mark.parametrize(
    ("value", "counted"),
    [("0.25", 0.25), (1, 1.0), (float("nan"), 0), (float("inf"), 0), (-0.5, 0), ("free", 0)],
)
def test_cost_of_a_wrong_type_counts_or_is_left_out(metrics, value, counted):
    """An integer or a number as text is a cost; NaN, infinity and less than zero are not."""
    service = f"cost-{value}"
    metrics.send(
        make_span("a", make_call(**usage(1, 1, value))),
        make_span("b", make_call(**usage(1, 1, 0.5))),
        service=service,
    )
    metrics.settle(service, 2)
    assert metrics.total(COST, service_name=service) == 0.5 + counted


def test_no_attribute_of_an_odd_type_refuses_a_request(metrics):
    """Each key that the branch reads, alone, with a value of each type, and odd times."""
    keys = [
        semconv.GEN_AI_USAGE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS,
        semconv.GEN_AI_USAGE_COST,
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
        semconv.GEN_AI_OPERATION_NAME,
        semconv.GEN_AI_PROVIDER_NAME,
        semconv.GEN_AI_REQUEST_MODEL,
        semconv.ERROR_TYPE,
        semconv.LANGFUSE_ENVIRONMENT,
        semconv.CACHED,
        semconv.USER_ID,
    ]
    values = ["given", "", "7", "-1", 7, -7, 2**63 - 1, 0.5, -0.5, 1e300, True, "x" * 1000]
    spans = [make_span("odd", make_call() | {key: value}) for key in keys for value in values]
    spans += [make_span("odd", {key: value}) for key in keys for value in values]
    for start, end in ((0, 0), (5, 0), (0, 2**63 - 1), (2**64 - 1, 0), (0, 2**64 - 1)):
        spans.append(make_span("odd", make_call()))
        spans[-1].start_time_unix_nano, spans[-1].end_time_unix_nano = start, end
    metrics.send(*spans, service="odd")
    metrics.settle("odd", len(spans))


def test_these_spans_made_the_branch_log_no_errors(metrics):
    """No statement or connector of this branch failed on what the tests above sent."""
    assert metrics.problems() == []
