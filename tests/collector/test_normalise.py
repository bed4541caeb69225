"""Every dialect through the real Collector: what goes in, and what leaves on both branches.

The expectations are written out here, and each row of `otelbridge.dialects` is also compared with
`dialects.normalise`, which the direct export and `otelbridge local` use.
"""

from __future__ import annotations

import pytest

from otelbridge import dialects, langfuse_policy, policy, semconv, span_rules

pytestmark = pytest.mark.collector

OPENINFERENCE_LLM = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o",
    "llm.provider": "azure",
    "llm.system": "openai",
    "llm.token_count.prompt": 120,
    "llm.token_count.completion": 30,
    "llm.token_count.prompt_details.cache_read": 20,
    "llm.token_count.prompt_details.cache_write": 7,
    "llm.token_count.completion_details.reasoning": 5,
    "llm.cost.total": 0.25,
    "session.id": "s-1",
}
#: name of the case -> (attributes in, attributes that are there afterwards)
CASES = {
    "OpenInference: LLM": (
        OPENINFERENCE_LLM,
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.usage.input_tokens": 120,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.cache_read.input_tokens": 20,
            "gen_ai.usage.cache_creation.input_tokens": 7,
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.usage.cost": 0.25,
            "gen_ai.conversation.id": "s-1",
        },
    ),
    "OpenInference: embedding": (
        {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "e-3"},
        {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e-3"},
    ),
    "OpenInference: tool": (
        {"openinference.span.kind": "TOOL", "tool.name": "lookup", "tool_call.id": "c-1"},
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.call.id": "c-1",
        },
    ),
    "OpenInference: agent": (
        {"openinference.span.kind": "AGENT", "agent.name": "helper"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "helper"},
    ),
    "OpenInference: retriever": (
        {"openinference.span.kind": "RETRIEVER"},
        {"gen_ai.operation.name": "retrieval"},
    ),
    "OpenLLMetry, old: chat": (
        {
            "llm.request.type": "chat",
            "gen_ai.system": "OpenAI",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 11,
            "gen_ai.usage.completion_tokens": 22,
            "llm.usage.total_tokens": 33,
            "gen_ai.usage.cache_read_input_tokens": 4,
            "llm.top_k": 40,
            "traceloop.association.properties.user_id": "u-9",
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.system": "openai",
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 22,
            "gen_ai.usage.total_tokens": 33,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.request.top_k": 40,
            "user.id": "u-9",
        },
    ),
    "OpenLLMetry, new: chat": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.cache_creation.input_tokens": 3,
        },
        {
            "gen_ai.system": "anthropic",
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.cache_creation.input_tokens": 3,
        },
    ),
    "OpenLLMetry: completion": (
        {"llm.request.type": "completion"},
        {"gen_ai.operation.name": "text_completion"},
    ),
    "OpenLLMetry: tool": (
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "lookup"},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup"},
    ),
    "OpenLLMetry: workflow": (
        {"traceloop.span.kind": "workflow", "traceloop.workflow.name": "answer"},
        {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "answer"},
    ),
    "Vercel AI SDK: inner call": (
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.id": "gpt-4o",
            "ai.model.provider": "openai.chat",
            "ai.usage.promptTokens": 9,
            "ai.usage.completionTokens": 8,
            "ai.response.msToFirstChunk": 250.5,
            "ai.response.finishReason": "stop",
            "ai.response.id": "r-1",
            "ai.response.model": "gpt-4o-2024",
            "ai.settings.temperature": 1,
            "ai.settings.maxTokens": 100,
            "ai.telemetry.metadata.userId": "u-2",
            "ai.telemetry.metadata.sessionId": "s-2",
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.input_tokens": 9,
            "gen_ai.usage.output_tokens": 8,
            "gen_ai.response.time_to_first_chunk": 0.2505,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "r-1",
            "gen_ai.response.model": "gpt-4o-2024",
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.max_tokens": 100,
            "user.id": "u-2",
            "session.id": "s-2",
        },
    ),
    "Vercel AI SDK 5: outer span": (
        {"ai.operationId": "ai.generateText", "ai.usage.inputTokens": 5},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 5},
    ),
    "Vercel AI SDK: embedding": (
        {"ai.operationId": "ai.embed.doEmbed", "ai.usage.tokens": 5},
        {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 5},
    ),
    "Vercel AI SDK: tool": (
        {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "t", "ai.toolCall.id": "c"},
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "t",
            "gen_ai.tool.call.id": "c",
        },
    ),
    "LiteLLM": (
        {
            "llm.request.type": "acompletion",
            "gen_ai.system": "vertex_ai",
            "gen_ai.request.model": "gemini-2.5",
            "gen_ai.usage.prompt_tokens": 4,
            "gen_ai.usage.completion_tokens": 2,
            "gen_ai.cost.total_cost": 0.5,
            "metadata.user_api_key_hash": "h",
            "metadata.user_api_key_end_user_id": "u-3",
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "gcp.vertex_ai",
            "gen_ai.usage.input_tokens": 4,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.cost": 0.5,
            "user.id": "u-3",
        },
    ),
    "pydantic-ai": (
        {
            "logfire.msg": "agent run",
            "logfire.json_schema": "{}",
            "agent_name": "helper",
            "model_name": "gpt-4o",
            "operation.cost": 0.125,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.details.reasoning_tokens": 6,
        },
        {
            "gen_ai.agent.name": "helper",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.cost": 0.125,
            "gen_ai.usage.reasoning.output_tokens": 6,
        },
    ),
    "Langfuse SDK: usage as OpenAI writes it": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.observation.usage_details": '{"prompt_tokens": 64, "completion_tokens": 52, '
            '"total_tokens": 116, "prompt_tokens_details": {"cached_tokens": 9}, '
            '"completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": null}}',
            "langfuse.observation.cost_details": '{"total": 0.0001}',
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 64,
            "gen_ai.usage.output_tokens": 52,
            "gen_ai.usage.cache_read.input_tokens": 9,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "gen_ai.usage.cost": 0.0001,
        },
    ),
    "Langfuse SDK: disjoint buckets": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 5, "input_cached_tokens": 40, '
            '"input_cache_creation": 30, "output": 3, "output_reasoning_tokens": 4}',
            "langfuse.observation.cost_details": '{"input": 0.25, "output": 1}',
        },
        {
            "gen_ai.usage.input_tokens": 75,
            "gen_ai.usage.output_tokens": 7,
            "gen_ai.usage.cache_read.input_tokens": 40,
            "gen_ai.usage.cache_creation.input_tokens": 30,
            "gen_ai.usage.reasoning.output_tokens": 4,
            "gen_ai.usage.cost": 1.25,
        },
    ),
    "Langfuse SDK: usage as Anthropic writes it": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input_tokens": 10, "output_tokens": 9, '
            '"cache_read_input_tokens": 40, "cache_creation_input_tokens": 30}',
        },
        {"gen_ai.usage.input_tokens": 80, "gen_ai.usage.output_tokens": 9},
    ),
    "Langfuse SDK: what was set by name wins": (
        {
            "langfuse.observation.type": "generation",
            "gen_ai.usage.output_tokens": 1,
            "langfuse.observation.usage_details": '{"input": 5, "output": 3}',
            "gen_ai.usage.cost": 2.0,
            "langfuse.observation.cost_details": '{"total": 1}',
        },
        {
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 1,
            "gen_ai.usage.cost": 2.0,
        },
    ),
    **{
        f"Langfuse SDK: no usage in {text}": (
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.usage_details": text,
                "langfuse.observation.cost_details": text,
            },
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": None},
        )
        for text in ("", "{", "[1]", "7", '{"input": "5"}', '{"input": true}', '{"input": {}}')
    },
    **{
        f"finish reasons: {text}": (
            {"gen_ai.operation.name": "chat", "gen_ai.response.finish_reasons": text},
            {"gen_ai.response.finish_reasons": reasons},
        )
        for text, reasons in {
            '["stop"]': ["stop"],
            '["stop", "length"]': ["stop", "length"],
            "tool_calls": ["tool_calls"],
            "[stop]": "[stop]",
            "": "",
        }.items()
    },
    "LiteLLM: a call type that is no operation": (
        {
            "gen_ai.operation.name": "aresponses",
            "gen_ai.system": "",
            "hidden_params": "{}",
            "llm.user": "",
            "metadata.user_api_key_end_user_id": "",
        },
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": None,
            "gen_ai.provider.name": None,
            "user.id": None,
        },
    ),
    "an empty provider beside the old name": (
        {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "", "gen_ai.system": "OpenAI"},
        {"gen_ai.system": "openai", "gen_ai.provider.name": "openai"},
    ),
    "an empty provider alone": (
        {"gen_ai.operation.name": "chat", "gen_ai.provider.name": ""},
        {"gen_ai.system": None, "gen_ai.provider.name": None},
    ),
    "deprecated names": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "az.ai.openai",
            "gen_ai.usage.prompt_tokens": "12",
            "gen_ai.openai.request.seed": 7,
            "gen_ai.openai.request.response_format": "json_schema",
            "gen_ai.openai.response.system_fingerprint": "fp",
        },
        {
            "gen_ai.provider.name": "azure.ai.openai",
            "gen_ai.system": "azure.ai.openai",
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.request.seed": 7,
            "gen_ai.output.type": "json",
            "openai.response.system_fingerprint": "fp",
        },
    ),
    "number types": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": "1200",
            "gen_ai.usage.output_tokens": 17.0,
            "gen_ai.usage.cost": "0.0125",
            "gen_ai.request.temperature": 1,
            "gen_ai.request.top_p": "1e-1",
            "gen_ai.request.max_tokens": "many",
            "gen_ai.evaluation.score.value": 1,
        },
        {
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.output_tokens": 17,
            "gen_ai.usage.cost": 0.0125,
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.top_p": 0.1,
            "gen_ai.request.max_tokens": "many",
            "gen_ai.evaluation.score.value": 1.0,
        },
    ),
}


def both_branches(bench, attributes):
    """The span's attributes at the Tempo and at the Langfuse stand-in."""
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, {semconv.LLM_KEEP: True, **attributes}))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    bench.wait(lambda: bench.langfuse.store.of(trace_id), "the span at Langfuse")
    (langfuse,) = bench.langfuse.store.of(trace_id).values()
    return tempo, langfuse


def typed(attributes):
    """Values with their types: 1 and 1.0 are equal in Python and differ in TraceQL."""
    return {key: (type(value).__name__, value) for key, value in attributes.items()}


@pytest.mark.parametrize("name", CASES)
def test_dialect_leaves_with_current_names_on_both_branches(bench, name):
    """What is expected is there with its type, what was sent stays, nothing else is added."""
    sent, expected = CASES[name]
    tempo, langfuse = both_branches(bench, sent)
    entered = span_rules.entered({semconv.LLM_KEEP: True, **sent})
    uncounted = entered.get(semconv.GEN_AI_OPERATION_NAME) in langfuse_policy.UNCOUNTED_OPERATIONS
    for received in (tempo.attributes, langfuse.attributes):
        wanted = {
            key: value
            for key, value in expected.items()
            if received is tempo.attributes or not uncounted or "usage" not in key
        }
        assert typed({key: received.get(key) for key in wanted}) == typed(wanted)
    kept, removed = policy.tempo_attributes(entered)
    marker = {semconv.CONTENT_REMOVED: True} if removed else {}
    assert typed(tempo.attributes) == typed(kept | marker)
    start_ns = langfuse.span.start_time_unix_nano
    assert typed(langfuse.attributes) == typed(
        langfuse_policy.langfuse_attributes(entered, start_ns)
    )


@pytest.mark.parametrize("dialect", dialects.DIALECTS, ids=lambda dialect: dialect.name)
def test_every_row_of_the_table_is_the_same_in_the_collector_and_in_python(bench, dialect):
    """Row by row, with values of every type, and with the target already there."""
    trace_id, spans, sent = bench.new_trace(), [], {}
    values = ("7", "0.5", "text", "7\n", 7, 0.5, True, ["a", "b"], "")
    for rule in dialect.rules:
        for value in (*values, *(old for old, _ in rule.values)):
            for given in ({}, {rule.target: "given"}):
                attributes = {dialect.when[0]: "x", rule.source: value, **given}
                attributes |= dict([rule.only]) if rule.only else {}
                spans.append(bench.span(trace_id, attributes))
                sent[spans[-1].span_id.hex()] = attributes
    bench.send(*spans)
    received = bench.at_tempo(trace_id, len(spans))
    for span_id, attributes in sent.items():
        got = {
            **received[span_id].attributes,
            **{
                name.removeprefix("langfuse."): value
                for name, value in received[span_id].resource.items()
                if name in (semconv.LANGFUSE_USER_ID, semconv.LANGFUSE_SESSION_ID)
            },
        }
        expected = policy.tempo_attributes(span_rules.entered(attributes))[0]
        assert typed(got) == typed(expected), attributes


@pytest.mark.parametrize(
    ("system", "provider"),
    [
        ("OpenAI", "openai"),
        ("openai.responses", "openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("Azure", "azure.ai.openai"),
        ("azure-openai.chat", "azure.ai.openai"),
        ("az.ai.inference", "azure.ai.inference"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("VertexAI", "gcp.vertex_ai"),
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("gemini", "gcp.gemini"),
        ("google.generative-ai", "gcp.gemini"),
        ("Google", "gcp.gemini"),
        ("xai", "x_ai"),
        ("xai.chat", "x_ai"),
        ("AWS", "aws.bedrock"),
        ("amazon-bedrock", "aws.bedrock"),
        ("MistralAI", "mistral_ai"),
        ("mistral.chat", "mistral_ai"),
        ("Anthropic", "anthropic"),
        ("anthropic.messages", "anthropic"),
        ("cohere.chat", "cohere"),
        ("WatsonX", "ibm.watsonx.ai"),
        ("Ollama", "ollama"),
        ("my-own", "my-own"),
    ],
)
def test_provider_of_any_spelling_gets_the_conventions_name(bench, system, provider):
    """`gen_ai.system` of every emitter becomes one provider name, under both keys."""
    tempo, langfuse = both_branches(bench, {"gen_ai.request.model": "m", "gen_ai.system": system})
    for received in (tempo.attributes, langfuse.attributes):
        assert received[semconv.GEN_AI_PROVIDER_NAME] == provider
        assert received[semconv.GEN_AI_SYSTEM] == provider
    assert dialects.provider_name(system) == provider


def test_written_cache_tokens_stand_under_both_names_in_tempo_and_one_in_langfuse(bench):
    """Langfuse would count the name that it does not know beside the one that it knows."""
    one, other = (
        semconv.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS,
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
    )
    for given in (one, other):
        tempo, langfuse = both_branches(bench, {"gen_ai.operation.name": "chat", given: 3})
        assert (tempo.attributes[one], tempo.attributes[other]) == (3, 3)
        assert langfuse.attributes[other] == 3
        assert one not in langfuse.attributes


def test_empty_user_and_session_make_no_resource_of_their_own(bench):
    """LiteLLM writes empty text for what it does not know; that is no user `""` in Tempo."""
    trace_id = bench.new_trace()
    unknown = {semconv.USER_ID: "", semconv.SESSION_ID: ""}
    bench.send(bench.span(trace_id, {"gen_ai.operation.name": "chat", **unknown}))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    assert semconv.LANGFUSE_USER_ID not in tempo.resource
    assert semconv.LANGFUSE_SESSION_ID not in tempo.resource


def test_evaluation_score_of_an_event_is_a_double(bench):
    """An evaluator that sends 1 for 1.0 does not make the score invisible to TraceQL."""
    trace_id = bench.new_trace()
    event = (semconv.GEN_AI_EVALUATION_RESULT_EVENT, {"gen_ai.evaluation.score.value": 1})
    bench.send(bench.span(trace_id, {"gen_ai.operation.name": "chat"}, events=[event]))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    assert tempo.span.events[0].attributes[0].value.double_value == 1.0


def test_spans_of_no_dialect_are_left_alone(bench):
    """A plain span with keys that a dialect reads as sources keeps exactly what it had."""
    plain = {"session.id": "s", "tool.name": "hammer", "model_name": "T", "agent_name": "007"}
    plain |= {"gen_ai.system": "Capital", "llm.system": "x", "llm.provider": "y"}
    tempo, langfuse = both_branches(bench, plain)
    assert tempo.attributes == {**plain, semconv.LLM_KEEP: True}
    assert langfuse.attributes == plain


def test_every_dialect_key_of_the_gen_ai_predicate_belongs_to_a_dialect():
    """policy.GEN_AI_KEYS and the table name the same dialects, and a dialect's calls are seen."""
    native = {semconv.GEN_AI_OPERATION_NAME, semconv.GEN_AI_REQUEST_MODEL}
    native.add(semconv.GEN_AI_RESPONSE_MODEL)
    known = {key for dialect in dialects.DIALECTS for key in dialect.when}
    assert set(policy.GEN_AI_KEYS) - native <= known
    for sent, _ in CASES.values():
        assert policy.is_gen_ai(dialects.normalise(sent, policy.GEN_AI_KEYS)), sent
