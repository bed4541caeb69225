"""What each branch of the real Collector sends, compared with the functions of `policy`."""

from __future__ import annotations

import itertools
import re

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from otelbridge import policy, semconv

pytestmark = pytest.mark.collector

#: Keys of every family of `policy.CONTENT_KEY_PATTERNS`; a new family needs a key here.
CONTENT_KEYS = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.documents",
    "gen_ai.memory.records",
    "gen_ai.evaluation.explanation",
    "gen_ai.prompt",
    "gen_ai.prompt.0.content",
    "gen_ai.prompt.variables.name",
    "gen_ai.completion.0.role",
    "gen_ai.completion",
    "gen_ai.event.content",
    "langfuse.observation.input",
    "langfuse.trace.output",
    "langfuse.observation.prompt.variables",
    "input.value",
    "output.mime_type",
    "llm.input_messages.0.message.content",
    "llm.prompts.0",
    "llm.prompt_template.variables",
    "llm.invocation_parameters",
    "llm.tools.0.tool.json_schema",
    "retrieval.documents.0.document.content",
    "embedding.text",
    "document.content",
    "tool.parameters",
    "tool_call.function.arguments",
    "tool_response",
    "traceloop.entity.input",
    "ai.prompt.messages",
    "ai.response.text",
    "ai.toolCall.args",
    "ai.values",
    "mlflow.spanInputs",
    "gcp.vertex.agent.llm_request",
    "lk.chat_ctx",
    "lk.function_tool.output",
    "all_messages_events",
    "final_result",
    "prompt",
    "output",
)
#: Close to a content key, and none.
KEPT_KEYS = (
    "gen_ai.prompt.name",
    "gen_ai.prompt.version",
    "gen_ai.usage.input_tokens",
    "gen_ai.tool.name",
    "gen_ai.evaluation.name",
    "langfuse.observation.type",
    "langfuse.trace.name",
    "ai.operationId",
    "inputs",
    "my.prompt",
    "user.id",
)
CONTENT_EVENTS = (
    "gen_ai.system.message",
    "gen_ai.user.message",
    "gen_ai.assistant.message",
    "gen_ai.tool.message",
    "gen_ai.choice",
    "gen_ai.content.prompt",
    "gen_ai.content.completion",
    "gen_ai.client.inference.operation.details",
)
LLM = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.GEN_AI_REQUEST_MODEL: "gpt-4o"}
CANARY = "canary-7c1f the text of a prompt"


def test_every_content_family_of_the_policy_has_an_example_here():
    """A family added to the policy table cannot go without a case in this file."""
    for pattern in policy.CONTENT_KEY_PATTERNS:
        assert any(re.fullmatch(pattern, key) for key in CONTENT_KEYS), pattern
    assert all(policy.is_content_event(name) for name in CONTENT_EVENTS)
    assert not any(policy.is_content_key(key) for key in KEPT_KEYS)


def test_all_spans_reach_tempo_and_llm_spans_reach_langfuse_with_the_same_ids(bench):
    """Fan-out is complete: Tempo has every span, Langfuse the LLM view, ids unchanged in both."""
    traces = {}
    for _ in range(20):
        trace_id = bench.new_trace()
        plain = [bench.span(trace_id, {"http.request.method": "GET"}) for _ in range(4)]
        llm = [bench.span(trace_id, LLM, parent=plain[0].span_id.hex()) for _ in range(3)]
        traces[trace_id] = ({s.span_id.hex() for s in plain}, {s.span_id.hex() for s in llm})
        bench.send(*plain, *llm)
    for trace_id, (plain_ids, llm_ids) in traces.items():
        assert bench.at_tempo(trace_id, 7).keys() == plain_ids | llm_ids
        assert bench.at_langfuse(trace_id, 3).keys() == llm_ids


def test_grpc_receiver_feeds_both_branches(bench):
    """Spans sent by OTLP/gRPC take the same way as those sent by OTLP/HTTP."""
    trace_id = bench.new_trace()
    with grpc.insecure_channel(bench.collector.otlp_grpc_endpoint) as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        stub.Export(bench.request([bench.span(trace_id, LLM)]), timeout=10)
    assert len(bench.at_tempo(trace_id, 1)) == len(bench.at_langfuse(trace_id, 1)) == 1


def test_llm_view_of_every_combination_of_marks_equals_the_policy(bench):
    """Keep mark, gen_ai key and parent mark, all combinations: as in_llm_view and view_parent."""
    keeps = (None, True, False, "true", "false", 1)
    keys = (None, *policy.GEN_AI_KEYS)
    marks = (None, "00f067aa0ba902b7", "00F067AA0BA902B8", "", "0" * 16)
    trace_id, true_parent = bench.new_trace(), "00000000000000aa"
    spans, sent = [], {}
    for keep, key, mark in itertools.product(keeps, keys, marks):
        attributes = {"order": len(spans)}
        attributes |= {} if keep is None else {semconv.LLM_KEEP: keep}
        attributes |= {} if key is None else {key: "x"}
        attributes |= {} if mark is None else {semconv.LLM_PARENT: mark}
        span = bench.span(trace_id, attributes, parent=true_parent)
        spans.append(span)
        sent[span.span_id.hex()] = attributes
    bench.send(*spans)

    expected = {
        span_id: (policy.view_parent(a, true_parent).lower(), policy.langfuse_attributes(a))
        for span_id, a in sent.items()
        if policy.in_llm_view(a)
    }
    received = bench.at_langfuse(trace_id, len(expected))
    assert {i: (span.parent, span.attributes) for i, span in received.items()} == expected
    at_tempo = bench.at_tempo(trace_id, len(sent))
    assert {span.parent for span in at_tempo.values()} == {true_parent}
    assert {i: span.attributes for i, span in at_tempo.items()} == sent  # the marks stay


def test_root_of_the_view_leaves_with_an_empty_parent_on_the_wire(bench):
    """An empty mark becomes a zero-length id: sixteen zeros would be a phantom parent."""
    trace_id = bench.new_trace()
    attributes = {semconv.LLM_KEEP: True, semconv.LLM_PARENT: ""}
    bench.send(bench.span(trace_id, attributes, parent="00000000000000aa"))
    (received,) = bench.at_langfuse(trace_id, 1).values()
    assert received.span.parent_span_id == b""


def test_malformed_parent_mark_leaves_the_true_parent(bench):
    """A mark that is no 16 hex digits is not believed, and goes like every mark."""
    trace_id = bench.new_trace()
    bad = ("xyz", "00f067aa0ba902b", "00f067aa0ba902b7ff", 7)
    spans = [
        bench.span(
            trace_id,
            {semconv.LLM_KEEP: True, semconv.LLM_PARENT: mark},
            parent="00000000000000aa",
        )
        for mark in bad
    ]
    bench.send(*spans)
    received = bench.at_langfuse(trace_id, len(bad)).values()
    assert [span.parent for span in received] == ["00000000000000aa"] * len(bad)
    assert all(span.attributes == {} for span in received)


@pytest.mark.parametrize("key", [*CONTENT_KEYS, *KEPT_KEYS])
def test_content_keys_leave_for_langfuse_only(bench, key):
    """A content key of each family is absent at Tempo and present at Langfuse; others stay."""
    trace_id = bench.new_trace()
    value = f"{CANARY} in {key}"
    attributes = {semconv.LLM_KEEP: True, "kept": 1, key: value}
    bench.send(bench.span(trace_id, attributes))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    kept, removed = policy.tempo_attributes(attributes)
    assert tempo.attributes == kept | ({semconv.CONTENT_REMOVED: True} if removed else {})
    assert removed == (key in CONTENT_KEYS)
    bench.wait(lambda: bench.langfuse.store.of(trace_id), "the span at Langfuse")
    (langfuse,) = bench.langfuse.store.of(trace_id).values()
    assert langfuse.attributes == policy.langfuse_attributes(attributes)
    if removed:
        assert not any(value.encode() in body for body in bench.tempo.store.bodies)


def test_content_in_events_is_removed_for_tempo_and_kept_for_langfuse(bench):
    """Message events go whole, content keys in other events go alone, and the span says so."""
    trace_id = bench.new_trace()
    message = [(name, {"content": CANARY, "role": "user"}) for name in CONTENT_EVENTS]
    exception = ("exception", {"exception.type": "ValueError", "exception.message": "no"})
    mixed = ("cache.lookup", {"hit": True, "gen_ai.prompt": CANARY})
    cases = {
        "messages": ([*message, exception], ([exception], True)),
        "mixed": ([mixed], ([("cache.lookup", {"hit": True})], True)),
        "exception": ([exception], ([exception], False)),
    }
    spans = [
        bench.span(trace_id, LLM, name=name, events=events) for name, (events, _) in cases.items()
    ]
    bench.send(*spans)

    def events_of(received):
        return [
            (event.name, {item.key: item.value for item in event.attributes})
            for event in received.span.events
        ]

    def as_sent(events):
        sent = bench.span(trace_id, events=events)
        return [(e.name, {item.key: item.value for item in e.attributes}) for e in sent.events]

    at_tempo = {r.span.name: r for r in bench.at_tempo(trace_id, 3).values()}
    at_langfuse = {r.span.name: r for r in bench.at_langfuse(trace_id, 3).values()}
    for name, (events, (expected, removed)) in cases.items():
        assert events_of(at_tempo[name]) == as_sent(expected), name
        assert (semconv.CONTENT_REMOVED in at_tempo[name].attributes) is removed, name
        assert events_of(at_langfuse[name]) == as_sent(events), name
        assert semconv.CONTENT_REMOVED not in at_langfuse[name].attributes, name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"gen_ai.system": "openai"}, ("openai", "openai")),
        ({"gen_ai.provider.name": "anthropic"}, ("anthropic", "anthropic")),
        ({"gen_ai.system": "az.ai", "gen_ai.provider.name": "azure"}, ("az.ai", "azure")),
        ({}, (None, None)),
    ],
)
def test_provider_stands_under_both_names_at_tempo(bench, given, expected):
    """A gen_ai span with one name of the provider gets the other; two given names stay."""
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM | given), bench.span(trace_id, given, name="plain"))
    by_name = {r.span.name: r.attributes for r in bench.at_tempo(trace_id, 2).values()}
    names = (semconv.GEN_AI_SYSTEM, semconv.GEN_AI_PROVIDER_NAME)
    assert tuple(by_name["work"].get(name) for name in names) == expected
    assert by_name["plain"] == given


def test_resource_says_the_branch_and_loses_the_command_line(bench):
    """Tempo's copy is marked as such; command lines, which hold secrets, reach neither store."""
    trace_id = bench.new_trace()
    resource = {"service.name": "made-up", "telemetry.distro.name": "otelbridge"}
    command = {
        "process.command_line": "serve --api-key=zzz",
        "process.command_args": ["serve", "--api-key=zzz"],
    }
    bench.send(bench.span(trace_id, LLM), resource=resource | command)
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert tempo.resource == resource | {semconv.BRANCH: "tempo"}
    assert langfuse.resource == resource


def test_langfuse_request_carries_what_langfuse_asks_for(bench):
    """Basic auth from the keys, gzip, protobuf and the ingestion version; path checked on entry."""
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM))
    bench.at_langfuse(trace_id, 1)
    for headers in bench.langfuse.store.headers:
        assert headers["authorization"].startswith("Basic ")
        assert headers["content-encoding"] == "gzip"
        assert headers["content-type"] == "application/x-protobuf"
        assert headers["x-langfuse-ingestion-version"] == "4"
    assert bench.langfuse.refused == 0


def test_spans_that_would_poison_a_batch_are_repaired_or_dropped(bench):
    """Invalid UTF-8 becomes U+FFFD, a span without ids is dropped; the rest of the batch lives."""
    trace_id = bench.new_trace()
    good = bench.span(trace_id, LLM | {"note": "grüße \ufffd €"}, name="good")
    bad = bench.span(
        trace_id,
        LLM | {"note": "xxINVALIDxx", "kINVALID": 1},
        name="name INVALID",
        events=[("event INVALID", {"e": "INVALID"})],
    )
    bad.status.message = "INVALID"
    no_span_id = bench.span(trace_id, LLM, name="no span id")
    no_span_id.span_id = b""
    no_trace_id = bench.span(b"", LLM, name="no trace id")
    body = bench.request([good, bad, no_span_id, no_trace_id]).SerializeToString()
    assert bench.post(body.replace(b"INVALID", b"ab\xff\xfe\xc3cd")) == 200

    for received in (bench.at_tempo(trace_id, 2), bench.at_langfuse(trace_id, 2)):
        spans = {r.span.name: r for r in received.values()}
        repaired = "ab\ufffd\ufffd\ufffdcd"
        assert spans.keys() == {"good", f"name {repaired}"}
        assert spans["good"].attributes["note"] == "grüße \ufffd €"
        broken = spans[f"name {repaired}"]
        assert broken.attributes["note"] == f"xx{repaired}xx"
        assert broken.attributes[f"k{repaired}"] == 1
        assert broken.span.status.message == repaired
        assert broken.span.events[0].name == f"event {repaired}"
        assert broken.span.events[0].attributes[0].value.string_value == repaired
    assert not any(r.span.trace_id in (b"", bytes(16)) for r in bench.tempo.store.spans)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff no protobuf", {}, 400),
        (b"{not json", {"Content-Type": "application/json"}, 400),
        (b"\x0a\x00", {"Content-Type": "text/plain"}, 415),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400),
        (bytes(17 * 1024 * 1024), {}, 400),
    ],
    ids=["protobuf", "json", "content type", "gzip", "over 16 MiB"],
)
def test_bad_request_is_refused_and_service_goes_on(bench, body, headers, status):
    """What cannot be read is answered with an error, and the next request is taken as ever."""
    assert bench.post(body, headers) == status
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM))
    assert len(bench.at_tempo(trace_id, 1)) == 1
