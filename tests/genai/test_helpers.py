"""The attribute set, name and kind of every helper's span, and what errors do to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.types import InputMessage, OutputMessage, TextPart

from otelbridge import genai, policy, semconv
from otelbridge.genai import _config
from otelbridge.genai import _values as values

SECRET = "the secret text"


def test_chat_carries_request_response_usage_and_the_langfuse_set(spans: Any) -> None:
    """Every parameter arrives under its name and with its type; integers given as doubles too."""
    with genai.chat(
        "gpt-4o",
        provider="openai",
        messages=[{"role": "user", "content": "hi"}],
        system="be kind",
        temperature=1,
        top_p=1,
        top_k=40.0,  # type: ignore[arg-type]  # a whole double is accepted
        max_tokens=100,
        frequency_penalty=0,
        presence_penalty=0,
        stop="END",
        seed=7,
        n=2,
        stream=True,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        output_type="json",
        reasoning_level="low",
        conversation_id="c-1",
        prompt_name="greeting",
        prompt_version=3,
        attributes={"team": "sales"},
    ) as call:
        call.set_response(id="r-1", model="gpt-4o-2024-08-06", finish_reasons=["stop", "length"])
        call.set_output("hello")
        call.set_usage(
            input_tokens=100,
            output_tokens=50,
            cached_tokens=40,
            cache_write_tokens=10,
            reasoning_tokens=20,
            cost_usd=2,
        )
    assert spans.one.name == "chat gpt-4o"
    assert spans.one.kind is SpanKind.CLIENT
    assert spans.one.instrumentation_scope.name == "otelbridge.genai"
    assert spans.one.status.status_code is StatusCode.UNSET
    found = spans.attributes
    for key in (
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.GEN_AI_TOOL_DEFINITIONS,
        semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS,
        semconv.LANGFUSE_OBSERVATION_COST_DETAILS,
    ):
        found[key] = json.loads(found[key])
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stream": True,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.conversation.id": "c-1",
        "gen_ai.prompt.name": "greeting",
        "gen_ai.prompt.version": "3",
        "gen_ai.input.messages": [
            {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
        ],
        "gen_ai.output.messages": [
            {"role": "assistant", "parts": [{"type": "text", "content": "hello"}]},
        ],
        "gen_ai.system_instructions": [{"type": "text", "content": "be kind"}],
        "gen_ai.tool.definitions": [{"type": "function", "name": "f", "parameters": {}}],
        "gen_ai.response.id": "r-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_write.input_tokens": 10,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "gen_ai.usage.cost": 2.0,
        "langfuse.observation.type": "generation",
        "langfuse.observation.prompt.name": "greeting",
        "langfuse.observation.prompt.version": 3,
        "langfuse.observation.usage_details": {
            "input": 50,
            "output": 30,
            "input_cached_tokens": 40,
            "input_cache_creation": 10,
            "output_reasoning_tokens": 20,
            "total": 150,
        },
        "langfuse.observation.cost_details": {"total": 2.0},
        "otelbridge.cost.source": "caller",
        "team": "sales",
    }
    doubles = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
    assert all(type(found[f"gen_ai.request.{name}"]) is float for name in doubles)
    assert type(found["gen_ai.usage.cost"]) is float
    assert type(found["gen_ai.request.top_k"]) is int


def test_identity_is_there_when_the_span_starts(spans: Any) -> None:
    """Samplers and processors see operation, provider and model before anything else happens."""
    seen: dict[str, Any] = {}

    class OnStart(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.update(span.attributes)

    spans.provider.add_span_processor(OnStart(InMemorySpanExporter()))
    with genai.chat("gpt-4o", provider="openai"):
        pass
    assert seen == {
        "langfuse.observation.type": "generation",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    assert policy.is_gen_ai(seen)


def test_the_chat_span_agrees_with_opentelemetry_util_genai(
    spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same name, kind, attributes and message JSON as the community's own implementation."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    oracle = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(oracle))
    handler = TelemetryHandler(tracer_provider=provider)
    with handler.inference(provider="openai", request_model="gpt-4o") as theirs:
        theirs.input_messages = [InputMessage(role="user", parts=[TextPart(content="hi")])]
        theirs.output_messages = [
            OutputMessage(role="assistant", parts=[TextPart(content="yo")], finish_reason="stop")
        ]
        theirs.system_instruction = [TextPart(content="be kind")]
        theirs.temperature, theirs.top_p, theirs.max_tokens = 0.5, 0.9, 10
        theirs.frequency_penalty, theirs.presence_penalty = 0.1, 0.2
        theirs.stop_sequences, theirs.seed = ["END"], 3
        theirs.response_id, theirs.response_model_name = "r", "gpt-4o-2024-08-06"
        theirs.finish_reasons = ["stop"]
        theirs.input_tokens, theirs.output_tokens = 10, 5
    with genai.chat(
        "gpt-4o",
        provider="openai",
        messages="hi",
        system="be kind",
        temperature=0.5,
        top_p=0.9,
        max_tokens=10,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        stop=["END"],
        seed=3,
    ) as ours:
        ours.set_output("yo")
        ours.set_response(id="r", model="gpt-4o-2024-08-06", finish_reasons=["stop"])
        ours.set_usage(input_tokens=10, output_tokens=5)
    expected = oracle.get_finished_spans()[0]
    assert (spans.one.name, spans.one.kind) == (expected.name, expected.kind)
    mine = spans.attributes
    theirs_all = dict(expected.attributes or {})
    for key in (
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
    ):
        # The newest text deprecates finish_reason inside a message; null members say nothing.
        assert _without_nulls(json.loads(str(theirs_all.pop(key)))) == json.loads(mine[key])
    assert {key: mine.get(key) for key in theirs_all} == theirs_all


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if item is not None}
        return {key: _without_nulls(kept[key]) for key in kept if key != "finish_reason"}
    return value


def test_embeddings_record_the_input_and_never_a_vector(spans: Any) -> None:
    """Type, operation, dimensions and usage; the output stays out."""
    with genai.embeddings(
        "text-embedding-3-small",
        provider="openai",
        input=["a", "b"],
        dimensions=256,
        encoding_formats="float",
    ) as call:
        call.set_usage(input_tokens=4, cost_usd=0.5)
        call.set_output([[0.1, 0.2]])
    assert spans.one.name == "embeddings text-embedding-3-small"
    assert spans.one.kind is SpanKind.CLIENT
    assert spans.attributes == {
        "langfuse.observation.type": "embedding",
        "langfuse.observation.input": '["a","b"]',
        "langfuse.observation.usage_details": '{"input":4,"total":4}',
        "langfuse.observation.cost_details": '{"total":0.5}',
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.request.encoding_formats": ("float",),
        "gen_ai.embeddings.dimension.count": 256,
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.cost": 0.5,
        "otelbridge.cost.source": "caller",
    }


def test_a_tool_carries_arguments_and_result_as_json_text(spans: Any) -> None:
    """Kind INTERNAL, JSON text that came from a model stays as it is."""
    with genai.execute_tool(
        "lookup", arguments='{"id": 7}', call_id="call_1", description="Finds an order"
    ) as tool:
        tool.set_result({"status": "paid"})
    assert spans.one.name == "execute_tool lookup"
    assert spans.one.kind is SpanKind.INTERNAL
    assert spans.attributes == {
        "langfuse.observation.type": "tool",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "lookup",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_1",
        "gen_ai.tool.description": "Finds an order",
        "gen_ai.tool.call.arguments": '{"id": 7}',
        "gen_ai.tool.call.result": '{"status":"paid"}',
    }


def test_retrieval_is_a_retriever_without_a_model(spans: Any) -> None:
    """Query and documents in both vocabularies; nothing that makes a generation of it."""
    with genai.retrieval("kb", query="refunds", top_k=3) as found:
        found.set_documents([{"id": "d1", "score": 0.5}, "plain text"])
    documents = '[{"id":"d1","score":0.5},{"content":"plain text"}]'
    assert spans.one.name == "retrieval kb"
    assert spans.one.kind is SpanKind.CLIENT
    assert spans.attributes == {
        "langfuse.observation.type": "retriever",
        "langfuse.observation.input": "refunds",
        "langfuse.observation.output": documents,
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "kb",
        "gen_ai.retrieval.top_k": 3,
        "gen_ai.retrieval.query.text": "refunds",
        "gen_ai.retrieval.documents": documents,
    }


def test_an_agent_carries_messages_and_usage_but_no_cost(spans: Any) -> None:
    """Its model calls carry the cost; on the agent as well it would count twice."""
    with genai.invoke_agent(
        "helper", provider="openai", model="gpt-4o", input="go", id="a1", conversation_id="c"
    ) as agent:
        agent.set_output("done")
        agent.set_usage(input_tokens=10, output_tokens=5, cost_usd=1.0)
    assert spans.one.name == "invoke_agent helper"
    assert spans.one.kind is SpanKind.INTERNAL
    assert spans.attributes == {
        "langfuse.observation.type": "agent",
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.agent.name": "helper",
        "gen_ai.agent.id": "a1",
        "gen_ai.conversation.id": "c",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"go"}]}]',
        "gen_ai.output.messages": (
            '[{"role":"assistant","parts":[{"type":"text","content":"done"}]}]'
        ),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
    }


def test_an_evaluation_carries_its_score_as_attributes_and_event(spans: Any) -> None:
    """The score is a double even when given as an integer."""
    with genai.evaluate("relevance", input="answer") as judged:
        judged.set_score(1, label="good", explanation="to the point")
    assert spans.one.name == "evaluate relevance"
    found = spans.attributes
    assert found["langfuse.observation.type"] == "evaluator"
    assert found["langfuse.observation.input"] == "answer"
    assert type(found["gen_ai.evaluation.score.value"]) is float
    assert found["gen_ai.evaluation.score.label"] == "good"
    event = spans.one.events[0]
    assert event.name == "gen_ai.evaluation.result"
    assert dict(event.attributes) == {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.score.label": "good",
        "gen_ai.evaluation.explanation": "to the point",
    }


@pytest.mark.parametrize(
    ("kind", "expected"), [("chain", "chain"), ("guardrail", "guardrail"), ("nonsense", "span")]
)
def test_a_span_of_any_kind_has_input_and_output(spans: Any, kind: str, expected: str) -> None:
    """The observation type is one that Langfuse knows."""
    with genai.span("step", kind=kind, input={"a": 1}) as step:
        step.set_output("text")
    assert spans.one.name == "step"
    assert spans.attributes == {
        "langfuse.observation.type": expected,
        "langfuse.observation.input": '{"a":1}',
        "langfuse.observation.output": "text",
    }


def test_a_prompt_version_that_is_no_number_makes_no_langfuse_link(spans: Any) -> None:
    """Langfuse rejects the whole observation over a textual version."""
    with genai.chat("m", provider="p", prompt_name="greeting", prompt_version="production"):
        pass
    assert spans.attributes["gen_ai.prompt.version"] == "production"
    assert not any(key.startswith("langfuse.observation.prompt") for key in spans.attributes)


def test_the_old_provider_attribute_can_be_switched_off(spans: Any) -> None:
    """`gen_ai.system` is written by default only."""
    _config.set_config(_config.GenAiConfig(legacy_gen_ai_system=False))
    with genai.chat("m", provider="openai"):
        pass
    assert "gen_ai.system" not in spans.attributes
    assert spans.attributes["gen_ai.provider.name"] == "openai"


class RateLimitError(Exception):
    """As the clients' API errors: a body and a code."""

    code = "rate_limit_exceeded"
    body: Any = None


class OverloadedError(Exception):
    """As Anthropic's: the code is in the body."""

    @property
    def body(self) -> Any:
        return {"type": "error", "error": {"type": "overloaded_error"}}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), "ValueError"),
        (RateLimitError("slow down"), "rate_limit_exceeded"),
        (OverloadedError("busy"), "overloaded_error"),
        (json.JSONDecodeError("bad", "x", 0), "json.decoder.JSONDecodeError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_exception_passes_unchanged_and_marks_the_span(
    spans: Any, error: BaseException, expected: str
) -> None:
    """Status ERROR, `error.type`, one exception event with the stack trace; the same object."""
    with pytest.raises(type(error)) as caught, genai.chat("m", provider="p"):
        raise error
    assert caught.value is error
    assert spans.one.status.status_code is StatusCode.ERROR
    assert spans.one.status.description == f"{type(error).__name__}: {error}"
    assert spans.attributes["error.type"] == expected
    [event] = spans.one.events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == str(error)
    assert "raise error" in event.attributes["exception.stacktrace"]


def test_an_exception_that_the_application_handles_can_be_recorded(spans: Any) -> None:
    """The call failed though the block is left normally; recorded twice, it is one event."""
    with genai.execute_tool("t") as tool:
        error = ValueError("no such order")
        tool.record_exception(error)
        tool.record_exception(error)
    assert spans.one.status.status_code is StatusCode.ERROR
    assert len(spans.one.events) == 1


def test_no_content_means_no_text_in_any_attribute_or_event(spans: Any) -> None:
    """Every helper and every setter with `capture_content` off; exception messages stay."""
    _config.set_config(_config.GenAiConfig(capture_content=False))
    answer = {
        "id": "r",
        "object": "chat.completion",
        "choices": [{"message": {"role": "assistant", "content": SECRET}}],
    }
    chunk = {"choices": [{"index": 0, "delta": {"content": SECRET}}]}
    extra = {"gen_ai.input.messages": SECRET, "input.value": SECRET, "team": "sales"}
    with genai.chat(
        "m",
        provider="p",
        messages=SECRET,
        system=SECRET,
        tools=[{"name": SECRET}],
        attributes=extra,
    ) as call:
        call.set_messages(SECRET)
        call.set_input(SECRET)
        call.set_output(SECRET)
        call.record(answer)
        call.record_event(chunk)
        list(call.stream([chunk, SECRET]))
        call.set_attribute("langfuse.observation.input", SECRET)
    with genai.embeddings("m", provider="p", input=SECRET):
        pass
    with genai.execute_tool("t", arguments=SECRET) as tool:
        tool.set_arguments(SECRET)
        tool.set_result(SECRET)
    with genai.retrieval("kb", query=SECRET) as found:
        found.set_input(SECRET)
        found.set_documents([SECRET])
    with genai.invoke_agent("a", input=SECRET) as agent:
        agent.set_output(SECRET)
    with genai.evaluate("e", input=SECRET) as judged:
        judged.set_score(0.5, explanation=SECRET)
    with genai.span("s", input=SECRET) as step:
        step.set_output(SECRET)

    @genai.observe
    def observed(text: str) -> str:
        return text

    observed(SECRET)
    assert len(spans.all) == 8
    for span in spans.all:
        assert SECRET not in span.to_json()
        assert not any(policy.is_content_key(key) for key in span.attributes)
    assert spans.named("chat m").attributes["team"] == "sales"
    assert spans.named("chat m").attributes["gen_ai.response.id"] == "r"


def test_nested_helpers_are_parent_and_child(spans: Any) -> None:
    """The span of a helper is current inside its block, sync and async."""

    async def main() -> None:
        async with genai.invoke_agent("a"):
            with genai.chat("m", provider="p") as call:
                assert trace.get_current_span() is call.span
                assert call.trace_id == f"{call.span.get_span_context().trace_id:032x}"
                assert call.span_id == f"{call.span.get_span_context().span_id:016x}"

    asyncio.run(main())
    parent = spans.named("invoke_agent a").context.span_id
    assert spans.named("chat m").parent.span_id == parent


def test_a_provider_set_later_is_used(spans: Any) -> None:
    """Helpers look the provider up at each call."""
    first = genai.chat("m", provider="p")
    with first:
        pass
    assert len(spans.all) == 1
    late = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(late))
    trace._TRACER_PROVIDER = provider
    with genai.chat("m", provider="p"):
        pass
    assert len(late.get_finished_spans()) == 1


def _everything() -> None:
    with genai.chat("m", provider="p", messages=[{"role": "user", "content": "x"}]) as call:
        call.set_usage(input_tokens=1)
        call.set_output("y")
        call.record({"object": "chat.completion", "choices": []})
        call.set_response(id="r")
        call.first_chunk()
        call.set_attribute("k", object())
        call.record_exception(ValueError())
        assert list(call.stream(iter([1]))) == [1]


@pytest.mark.parametrize("case", ["none", "sampled out"])
def test_an_unrecorded_span_costs_no_json(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a provider and when sampled out, nothing is converted."""
    if case == "sampled out":
        trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    worked: list[Any] = []
    monkeypatch.setattr(values._Plain, "convert", lambda self, value, depth=0: worked.append(value))
    _everything()
    assert worked == []


def test_the_sdk_switched_off_is_a_no_op_of_the_same_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`OTEL_SDK_DISABLED=true`: all methods are there and do nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _everything()
    assert exporter.get_finished_spans() == ()


def test_setters_after_the_end_change_nothing_and_log_nothing(
    spans: Any, no_complaints: pytest.LogCaptureFixture
) -> None:
    """Late telemetry is dropped in silence."""
    with genai.chat("m", provider="p") as call:
        pass
    before = spans.attributes
    call.set_output("late")
    call.set_usage(input_tokens=1)
    call.record({"choices": [{"message": {"content": "late"}}]})
    call.set_attribute("late", 1)
    call.record_exception(ValueError("late"))
    assert spans.attributes == before
