"""One priced span for a model call that several emitters record, whoever they are.

The spans are recorded ones of real emitters (`tests/collector/emitters`), replayed through the
tracer as their packages do it: what says who is called at the start, the rest at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flask import Response
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelbridge import dialects, genai, policy
from otelbridge import semconv as s
from otelbridge.cost import pricing
from otelbridge.exporters.branches import Branch, langfuse_branch
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.processors.pricing import priced
from otelbridge.propagation import BridgePropagator, extract, inject
from otelbridge.trust import TrustedHosts
from tests.bridge.conftest import Bridge
from tests.collector.conftest import from_attributes
from tests.collector.emitters import corpus

#: 64 input and 52 output tokens of gpt-4o, by 2.50 and 10 USD per million.
ONE_CALL_USD = 0.00068
#: Emitter, span name of its first whole chat call, by role: frameworks stand around clients.
FRAMEWORKS = {
    "langchain": "ChatOpenAI",
    "pydantic_ai": "chat gpt-4o",
    "strands": "chat",
    "litellm": "litellm_request",
    "langfuse": "OpenAI-generation",
}
CLIENTS = {
    "genai_openai": "chat gpt-4o",
    "openinference": "ChatCompletion",
    "openllmetry": "openai.chat",
    "openllmetry_old": "openai.chat",
    "logfire": "Chat Completion with {request_data[model]!r}",
}
AT_START = (
    "model",
    "operation",
    "span.kind",
    "request.type",
    "system",
    "provider",
    "observation.t",
)


class Process:
    """The spans of one process after the price step, and as Langfuse gets them."""

    def __init__(self) -> None:
        self.tempo, self.langfuse = InMemorySpanExporter(), InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        ways_out = SynchronousMultiSpanProcessor()
        for exporter in (self.tempo, langfuse_branch(self.langfuse)):
            ways_out.add_span_processor(SimpleSpanProcessor(Branch(priced, exporter)))
        self.provider.add_span_processor(
            BridgeSpanProcessor(
                context=ContextAttributes(environment=None, release=None),
                marks=ViewMarks(mode="services", enabled=True),
                next_processor=ways_out,
            )
        )
        trace.set_tracer_provider(self.provider)

    def costs(self) -> list[float]:
        """Of the spans that have one, above zero."""
        found = (dict(span.attributes or {}) for span in self.tempo.get_finished_spans())
        return [a[s.GEN_AI_USAGE_COST] for a in found if a.get(s.GEN_AI_USAGE_COST)]

    def observed(self) -> list[tuple[str, float]]:
        """Type and cost of each observation with a model, as Langfuse computes it."""
        found = []
        for span in self.langfuse.get_finished_spans():
            a = dict(span.attributes or {})
            if s.GEN_AI_REQUEST_MODEL not in a:
                continue
            details = json.loads(str(a[s.LANGFUSE_OBSERVATION_COST_DETAILS]))
            usage = json.loads(str(a.get(s.LANGFUSE_OBSERVATION_USAGE_DETAILS, "{}")))
            kind = str(a.get(s.LANGFUSE_OBSERVATION_TYPE, "generation"))
            tokens = usage.get("total", usage.get("total_tokens", 0))
            assert (details["total"] > 0) == (tokens > 0)
            found.append((kind, details["total"]))
        return found


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """Flask services and httpx between them."""
    found = Bridge()
    found.start(trusted=("127.0.0.1",))
    yield found
    found.stop()


@pytest.fixture
def process() -> Iterator[Process]:
    """A provider with our processor; the price list is loaded."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(
        BridgePropagator(
            TraceContextTextMapPropagator(), trusted=TrustedHosts(("*",)), trust_inbound=True
        )
    )
    yield Process()
    propagate.set_global_textmap(before)


def recorded(emitter: str, name: str) -> tuple[str, dict[str, Any]]:
    """Scope and attributes of the emitter's first chat call."""
    for line in corpus.lines(emitter):
        for batch in corpus.parse(line).resource_spans:
            for scope in batch.scope_spans:
                for span in scope.spans:
                    found = from_attributes(span.attributes)
                    seen = dialects.normalise(found, policy.GEN_AI_KEYS)
                    if span.name == name and seen.get(s.GEN_AI_USAGE_INPUT_TOKENS) == 64:
                        return scope.scope.name, found
    raise AssertionError(f"no such span of {emitter}")


@contextlib.contextmanager
def replay(emitter: str, name: str, *, usage: bool = True) -> Iterator[Any]:
    """The recorded span around the block."""
    scope, attributes = recorded(emitter, name)
    first = {key: v for key, v in attributes.items() if any(part in key for part in AT_START)}
    tracer = trace.get_tracer(scope)
    with tracer.start_as_current_span(name, attributes=first) as span:
        yield span
        for key, value in attributes.items():
            # All answers of the stand-in for the provider are one answer here.
            told = "chatcmpl-one" if str(value).startswith("chatcmpl-") else value
            if usage or not any(part in key for part in ("usage", "token_count", "cost")):
                span.set_attribute(key, told)


@contextlib.contextmanager
def helper(**usage: Any) -> Iterator[Any]:
    """Our own helper around the block."""
    with genai.chat("gpt-4o", provider="openai") as call:
        yield call
        if usage:
            call.set_usage(**usage)


@contextlib.contextmanager
def service(carrier: dict[str, str]) -> Iterator[None]:
    """Another service's entry span, which it gets from the headers."""
    tracer = trace.get_tracer("opentelemetry.instrumentation.flask")
    with tracer.start_as_current_span("POST /v1/chat", context=extract(carrier)):
        yield


def http_headers() -> dict[str, str]:
    """What an HTTP client below the current span sends."""
    tracer = trace.get_tracer("opentelemetry.instrumentation.httpx")
    carrier: dict[str, str] = {}
    with tracer.start_as_current_span("POST"):
        inject(carrier)
    return carrier


@pytest.mark.parametrize("emitter", [*FRAMEWORKS, *CLIENTS])
def test_a_call_of_any_emitter_is_priced(process: Process, emitter: str) -> None:
    """Also of those that send no cost, alone in their process."""
    with replay(emitter, {**FRAMEWORKS, **CLIENTS}[emitter]):
        pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    assert [kind for kind, _ in process.observed()] == ["generation"]


@pytest.mark.parametrize(
    ("outer", "inner"), list(itertools.product([*FRAMEWORKS, "otelbridge"], CLIENTS))
)
def test_a_framework_around_a_client_is_one_generation(
    process: Process, outer: str, inner: str
) -> None:
    """The outer one carries cost and usage, the inner one neither, and says who does."""
    around = (
        helper(input_tokens=64, output_tokens=52)
        if outer == "otelbridge"
        else replay(outer, FRAMEWORKS[outer])
    )
    with around, replay(inner, CLIENTS[inner]):
        pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    assert sorted(process.observed()) == [
        ("generation", pytest.approx(ONE_CALL_USD)),
        ("span", 0),
    ]
    first, last = process.tempo.get_finished_spans()
    assert last.context is not None
    counted_by = (first.attributes or {})[s.COST_COUNTED_BY]
    assert counted_by == trace.format_span_id(last.context.span_id)
    assert s.COST_COUNTED_BY not in (last.attributes or {})


@pytest.mark.parametrize("inner", CLIENTS)
def test_a_helper_without_usage_takes_over_that_of_the_client(process: Process, inner: str) -> None:
    """`with chat(…)` around an instrumented client needs no set_usage."""
    with helper(), replay(inner, CLIENTS[inner]):
        pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    attributes = dict(process.tempo.get_finished_spans()[-1].attributes or {})
    assert attributes[s.GEN_AI_USAGE_INPUT_TOKENS] == 64
    assert attributes[s.GEN_AI_USAGE_OUTPUT_TOKENS] == 52


@pytest.mark.parametrize("told", ["helper", "framework", "client", "all", "inner two"])
def test_three_levels_are_one_generation(process: Process, told: str) -> None:
    """Helper, framework and client, whichever of them know the token counts."""
    usage = {"input_tokens": 64, "output_tokens": 52} if told in ("helper", "all") else {}
    framework = replay("langchain", "ChatOpenAI", usage=told in ("framework", "all", "inner two"))
    client = replay("genai_openai", "chat gpt-4o", usage=told in ("client", "all", "inner two"))
    with helper(**usage), framework, client:
        pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    assert sorted(kind for kind, _ in process.observed()) == ["generation", "span", "span"]


@pytest.mark.parametrize("gateway", ["litellm", "genai_openai", "openllmetry", "otelbridge"])
@pytest.mark.parametrize("framework", ["", "langchain", "pydantic_ai"])
def test_client_framework_and_gateway_are_one_generation(
    process: Process, gateway: str, framework: str
) -> None:
    """Two services: the first one's outermost call counts."""
    around = replay(framework, FRAMEWORKS[framework]) if framework else contextlib.nullcontext()
    with around, replay("genai_openai", "chat gpt-4o"):
        headers = http_headers()
        with service(headers):
            below = (
                helper(input_tokens=64, output_tokens=52)
                if gateway == "otelbridge"
                else replay(gateway, {**FRAMEWORKS, **CLIENTS}[gateway])
            )
            with below:
                pass
    assert headers["tracestate"].endswith("-f-c")
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    assert sum(kind == "generation" for kind, _ in process.observed()) == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_gateway_over_http_leaves_the_count_to_its_caller(bridge: Bridge, streamed: bool) -> None:
    """Real requests; a stream has sent its headers before anything is known."""
    gateway = bridge.app("gateway")

    @gateway.post("/v1/chat")
    def chat() -> Any:
        def chunks() -> Iterator[str]:
            with replay("litellm", "litellm_request"):
                yield "data: 1\n\n"
                yield "data: 2\n\n"

        return Response(chunks()) if streamed else "".join(chunks())

    url = bridge.serve(gateway)
    with helper(input_tokens=64, output_tokens=52), httpx.Client() as client:
        assert "data: 2" in client.post(f"{url}/v1/chat").text
    client_span = dict(bridge.one("chat gpt-4o").attributes or {})
    gateway_span = dict(bridge.one("litellm_request").attributes or {})
    assert client_span[s.GEN_AI_USAGE_COST] == pytest.approx(ONE_CALL_USD)
    assert gateway_span[s.COST_COUNTED_BY] == "caller"
    assert s.GEN_AI_USAGE_COST not in gateway_span
    assert s.GEN_AI_USAGE_INPUT_TOKENS not in gateway_span


def test_a_gateway_that_embeds_for_its_cache_is_billed_for_that(process: Process) -> None:
    """A chat of the caller counts chats; an embedding is another call."""
    with helper(input_tokens=64, output_tokens=52):
        headers = http_headers()
        with service(headers), genai.embeddings("text-embedding-3-small", provider="openai") as e:
            e.set_usage(input_tokens=1_000_000)
    assert sorted(process.costs()) == [pytest.approx(ONE_CALL_USD), pytest.approx(0.02)]
    with genai.embeddings("text-embedding-3-small", provider="openai"):
        assert http_headers()["tracestate"].endswith("-f-e")


def test_a_service_without_calls_of_its_own_passes_the_word_on(bridge: Bridge) -> None:
    """Client, plain proxy, gateway, by real requests."""
    proxy, gateway = bridge.app("proxy"), bridge.app("gateway")

    @gateway.post("/v1/chat")
    def chat() -> str:
        with replay("openllmetry", "openai.chat"):
            return "done"

    @proxy.post("/v1/chat")
    def forward() -> str:
        with httpx.Client() as client:
            return client.post(f"{url}/v1/chat").text

    url = bridge.serve(gateway)
    entrance = bridge.serve(proxy)
    with helper(input_tokens=64, output_tokens=52), httpx.Client() as client:
        assert client.post(f"{entrance}/v1/chat").text == "done"
    assert (bridge.one("openai.chat").attributes or {})[s.COST_COUNTED_BY] == "caller"
    assert s.COST_COUNTED_BY not in (bridge.one("chat gpt-4o").attributes or {})


def test_a_model_that_only_the_gateway_knows_is_priced_there(process: Process) -> None:
    """The client's alias has no price, so the client does not claim the call."""
    with genai.chat("team-smart", provider="openai") as call:
        headers = http_headers()
        with service(headers), replay("genai_openai", "chat gpt-4o"):
            pass
        call.set_usage(input_tokens=64, output_tokens=52)
    assert not headers["tracestate"].endswith("-c")
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]


def test_a_service_that_does_not_price_leaves_it_to_the_gateway(process: Process) -> None:
    """OTELBRIDGE_PRICES=false in the client."""
    pricing.set_prices(enabled=False)
    try:
        with replay("genai_openai", "chat gpt-4o"):
            headers = http_headers()
    finally:
        pricing.set_prices()
    assert not headers["tracestate"].endswith("-c")


def test_an_outer_call_without_a_price_leaves_it_to_the_client(process: Process) -> None:
    """A helper with the name of a house gateway around an instrumented client."""
    with genai.chat("gpt-4o", provider="house-gateway") as call:
        with replay("genai_openai", "chat gpt-4o"):
            pass
        call.set_usage(input_tokens=64, output_tokens=52)
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]
    outer = dict(process.tempo.get_finished_spans()[-1].attributes or {})
    assert s.COST_COUNTED_BY in outer
    assert outer[s.UNCOUNTED_PREFIX + s.GEN_AI_USAGE_INPUT_TOKENS] == 64


def test_work_of_a_tool_or_agent_behind_a_call_is_its_own(process: Process) -> None:
    """A tool that asks a model again, here and in another service, is billed again."""
    with helper(input_tokens=64, output_tokens=52):
        with genai.execute_tool("ask"):
            with replay("genai_openai", "chat gpt-4o"):
                pass
            headers = http_headers()
        with service(headers), replay("openllmetry", "openai.chat"):
            pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)] * 3


def test_a_helper_within_a_helper_is_another_call(process: Process) -> None:
    """One emitter does not record a call twice."""
    with helper(input_tokens=64, output_tokens=52), helper(input_tokens=64, output_tokens=52):
        pass
    assert process.costs() == [pytest.approx(ONE_CALL_USD)] * 2


def test_a_client_belongs_to_the_nearest_of_two_helpers(process: Process) -> None:
    """Two calls, three spans."""
    with helper(input_tokens=64, output_tokens=52), helper(input_tokens=64, output_tokens=52) as c:
        with replay("genai_openai", "chat gpt-4o"):
            pass
        span_id = c.span_id
    assert process.costs() == [pytest.approx(ONE_CALL_USD)] * 2
    client = dict(process.tempo.get_finished_spans()[0].attributes or {})
    assert client[s.COST_COUNTED_BY] == span_id


def test_calls_after_each_other_and_other_models_are_calls_of_their_own(process: Process) -> None:
    """Neither time nor nesting alone makes a duplicate."""
    for _ in range(2):
        with replay("genai_openai", "chat gpt-4o"):
            pass
    with genai.chat("gpt-4o-mini", provider="openai") as call:
        with replay("genai_openai", "chat gpt-4o"):
            pass
        call.set_usage(input_tokens=1_000_000)
    assert sorted(process.costs()) == [*[pytest.approx(ONE_CALL_USD)] * 3, pytest.approx(0.15)]


def test_several_attempts_of_one_call_are_summed(process: Process) -> None:
    """A helper around two calls costs what both cost, though its usage is that of the last."""
    with helper(input_tokens=64, output_tokens=52):
        for _ in range(2):
            with replay("genai_openai", "chat gpt-4o"):
                pass
    assert process.costs() == [pytest.approx(2 * ONE_CALL_USD)]


def test_the_callers_cost_stands_against_what_is_below(process: Process) -> None:
    """set_usage(cost_usd=…) is not replaced by an inner span's figures."""
    with helper(cost_usd=0.5), replay("genai_openai", "chat gpt-4o"):
        pass
    assert process.costs() == [0.5]


def test_an_inner_span_that_ends_after_the_outer_one_is_not_counted_again(
    process: Process,
) -> None:
    """A stream may end its span later than the block around it."""
    tracer = trace.get_tracer("opentelemetry.instrumentation.genai.openai")
    with helper(input_tokens=64, output_tokens=52):
        scope_attributes = recorded("genai_openai", "chat gpt-4o")[1]
        late = tracer.start_span("chat gpt-4o", attributes=scope_attributes)
    late.end()
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]


def test_an_outer_span_that_turns_out_to_be_the_call_late_is_not_counted_again(
    process: Process,
) -> None:
    """LiteLLM writes its attributes onto the span of the web framework, at the end."""
    attributes = recorded("litellm", "litellm_request")[1]
    with trace.get_tracer("shop.web").start_as_current_span("POST /ask") as span:
        with replay("genai_openai", "chat gpt-4o"):
            pass
        for key, value in attributes.items():
            span.set_attribute(key, value)
    assert process.costs() == [pytest.approx(ONE_CALL_USD)]


def test_a_call_answered_from_the_cache_costs_what_the_cache_costs(process: Process) -> None:
    """Nothing unless it is said; the calls around it neither."""
    with genai.chat("gpt-4o", provider="openai", cached=True) as call:
        call.set_usage(input_tokens=64, output_tokens=52)
    with genai.chat("gpt-4o", provider="openai", cached=True) as call:
        call.set_usage(input_tokens=64, output_tokens=52, cost_usd=0.00025)
    assert process.costs() == [0.00025]
    plain = dict(process.tempo.get_finished_spans()[0].attributes or {})
    assert plain[s.GEN_AI_USAGE_COST] == 0.0
    assert plain[s.COST_SOURCE] == "cache"
