"""What each branch of the real Collector sends, compared with the functions of `policy`."""

from __future__ import annotations

import itertools
import json
import re
import urllib.parse
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from otelbridge import langfuse_policy, masks, policy, semconv, span_rules
from otelbridge.cost.usage import Usage

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
    "llm.openai.messages",
    "llm.some_new_provider.messages",
    "llm.ollama.prompt",
    "llm.request.functions.0.parameters",
    "model_request_parameters",
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
    "gen_ai.input",
    "gen_ai.tool.input",
    "gen_ai.embeddings.input",
    "gen_ai.task.output",
    "gen_ai.request.structured_output_schema",
    "gen_ai.response.text",
    "llm.headers",
    "langfuse.experiment.item.expected_output",
    "input.audio.transcript",
    "output.images.0.image.url",
    "llm.choices.0.completion.text",
    "llm.system_prompt",
    "llm.watsonx.completions.responses",
    "document.metadata",
    "message_content.text",
    "message.tool_calls.0.tool_call.function.arguments",
    "completion.text",
    "annotations.0.annotation.explanation",
    "evaluation.explanation",
    "traceloop.prompt.template_variables",
    "mcp.response.value",
    "crewai.agent.backstory",
    "crew_inputs",
    "db.query.result.document",
    "db.chroma.query.where_document",
    "db.marqo.search.query",
    "pinecone.query.queries",
    "db.query.parameter.0",
    "db.statement.parameters",
    "ai.result.text",
    "ai.response.providerMetadata",
    "metadata.vector_store_request_metadata",
    "metadata.requester_custom_headers",
    "guardrail_response",
    "pydantic_ai.all_messages",
    "pydantic_ai.decision.answers",
    "pydantic_ai.tool.retry.cause",
    "request_data",
    "haystack.pipeline.input_data",
    "mlflow.chat.messages",
    "lk.pii.response.text",
    "genkit:input",
    "braintrust.output_json",
    "flue.task.prompt",
    "http.request.body",
    "messaging.message.body",
    "jsonrpc.request.params",
    "question",
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
    "llm.token_count.prompt",
    "llm.token_count.completion_details.audio",
    "llm.openai.model",
    "llm.cost.input",
    "inputs.count",
    "my.prompt",
    "gen_ai.output.type",
    "gen_ai.tool.description",
    "gen_ai.response.id",
    "gen_ai.request.model.version",
    "gen_ai.agent.description",
    "langfuse.observation.metadata.note",
    "langfuse.experiment.item.id",
    "ai.telemetry.metadata.userId",
    "ai.response.finishReason",
    "llm.request.type",
    "llm.response.finish_reason",
    "llm.prompt_template.version",
    "traceloop.prompt.key",
    "traceloop.entity.name",
    "document.id",
    "tool.name",
    "evaluation.score",
    "metadata.requester_metadata",
    "http.request.body.size",
    "http.request.header.content-type",
    "messaging.message.body.size",
    "db.query.text",
    "db.query.result.id",
    "mcp.method.name",
    "haystack.component.input_types",
    "lk.function_tool.name",
    "message",
    "query",
    "text",
    "data",
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
    "gen_ai.content.completion.chunk",
    "llm.content.completion.chunk",
)
COLLECTOR = Path(__file__).resolve().parents[2] / "collector"
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

    entered = {span_id: span_rules.entered(a) for span_id, a in sent.items()}
    expected = {
        span_id: (
            policy.view_parent(a, true_parent).lower(),
            langfuse_policy.langfuse_attributes(a),
        )
        for span_id, a in entered.items()
        if policy.in_llm_view(a)
    }
    received = bench.at_langfuse(trace_id, len(expected))
    assert {i: (span.parent, span.attributes) for i, span in received.items()} == expected
    at_tempo = bench.at_tempo(trace_id, len(sent))
    assert {span.parent for span in at_tempo.values()} == {true_parent}
    assert {i: span.attributes for i, span in at_tempo.items()} == entered  # the marks stay


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
    attributes = span_rules.entered(attributes)
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    kept, removed = policy.tempo_attributes(attributes)
    assert tempo.attributes == kept | ({semconv.CONTENT_REMOVED: True} if removed else {})
    # Attributes that hold headers have left at the entry, for both stores.
    at_entry = re.match(masks.CREDENTIAL_HEADER_PATTERN, key) is not None
    assert removed == (key in CONTENT_KEYS and not at_entry)
    bench.wait(lambda: bench.langfuse.store.of(trace_id), "the span at Langfuse")
    (langfuse,) = bench.langfuse.store.of(trace_id).values()
    assert langfuse.attributes == langfuse_policy.langfuse_attributes(attributes)
    if removed or at_entry:
        assert not any(value.encode() in body for body in bench.tempo.store.bodies)


def test_keys_close_to_content_keys_are_decided_as_the_policy_decides(bench):
    """The Collector's patterns are folded for Go's matcher; each key's neighbours tell a slip."""
    trace_id = bench.new_trace()
    known = (*CONTENT_KEYS, *KEPT_KEYS)
    changed = {
        c for key in known for c in (key[:-1], key + "s", key + ".0.x", "x" + key, key + "_")
    }
    keys = sorted({*known, *changed})
    parts = [keys[start : start + 100] for start in range(0, len(keys), 100)]
    bench.send(*(bench.span(trace_id, dict.fromkeys(part, 1)) for part in parts))
    received = bench.at_tempo(trace_id, len(parts)).values()
    kept = {key for span in received for key in span.attributes} - {semconv.CONTENT_REMOVED}
    assert kept & set(keys) == {key for key in keys if not policy.is_content_key(key)}


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
        ({"gen_ai.system": "az.ai", "gen_ai.provider.name": "azure"}, ("azure", "azure")),
        ({}, (None, None)),
    ],
)
def test_provider_stands_under_both_names_at_tempo(bench, given, expected):
    """A gen_ai span has both names of the provider with equal value; the current name decides."""
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


# -- users, links, types, long values --------------------------------------------------------------
def test_each_user_of_a_batch_is_a_resource_of_its_own_at_tempo(bench):
    """`resource.langfuse.user.id` and `.session.id` hold for exactly that user's spans."""
    trace_id = bench.new_trace()
    users = ["user-1", "user-2", "mail@example.com", None]
    spans, sent = [], {}
    for number in range(40):
        user, session = users[number % 4], f"session-{number % 3}" if number % 5 else None
        attributes = {"number": number}
        attributes |= {semconv.USER_ID: user} if user else {}
        attributes |= {semconv.SESSION_ID: session} if session else {}
        spans.append(bench.span(trace_id, attributes | (LLM if number % 2 else {})))
        sent[spans[-1].span_id.hex()] = (user, session)
    bench.send(*spans, resource={"service.name": "many-users"})
    received = bench.at_tempo(trace_id, 40)
    keys = (semconv.LANGFUSE_USER_ID, semconv.LANGFUSE_SESSION_ID)
    assert {i: tuple(r.resource.get(key) for key in keys) for i, r in received.items()} == sent
    assert {r.resource["service.name"] for r in received.values()} == {"many-users"}
    assert {i: r.attributes.get(semconv.USER_ID) for i, r in received.items()} == {
        i: user for i, (user, _) in sent.items()
    }


def test_stores_link_to_each_other_when_their_addresses_are_configured(make_bench):
    """gen_ai spans in Tempo carry their Langfuse page, observations their span in Grafana."""
    bench = make_bench(
        environment={
            "LANGFUSE_PROJECT_ID": "project-7",
            "LANGFUSE_PUBLIC_URL": "https://langfuse.example",
            "OTELBRIDGE_GRAFANA_URL": "https://grafana.example",
        }
    )
    trace_id = bench.new_trace()
    spans = {
        "llm": bench.span(trace_id, LLM, name="llm"),
        "dropped": bench.span(trace_id, LLM | {semconv.LLM_KEEP: False}, name="dropped"),
        "plain": bench.span(trace_id, {semconv.LLM_KEEP: True}, name="plain"),
    }
    bench.send(*spans.values())
    links = {
        r.span.name: r.attributes.get(semconv.LANGFUSE_URL)
        for r in bench.at_tempo(trace_id, 3).values()
    }
    own_id = spans["llm"].span_id.hex()
    assert links == {
        "llm": "https://langfuse.example/project/project-7/traces/"
        f"{trace_id.hex()}?observation={own_id}",
        "dropped": None,
        "plain": None,
    }
    back = {r.span.name: r.attributes for r in bench.at_langfuse(trace_id, 2).values()}
    assert back.keys() == {"llm", "plain"}
    url = urllib.parse.urlsplit(back["llm"][semconv.GRAFANA_URL])
    assert (url.scheme, url.netloc, url.path) == ("https", "grafana.example", "/explore")
    query = urllib.parse.parse_qs(url.query)
    assert (query["schemaVersion"], query["orgId"]) == (["1"], ["1"])
    (pane,) = json.loads(query["panes"][0]).values()
    assert pane["datasource"] == pane["queries"][0]["datasource"]["uid"] == "otelbridge-tempo"
    assert pane["queries"][0]["query"] == trace_id.hex()
    assert pane["panelsState"] == {"trace": {"spanId": own_id}}
    start_ms = spans["llm"].start_time_unix_nano // 1_000_000
    assert pane["range"] == {"from": str(start_ms - 900_000), "to": str(start_ms + 3_600_000)}


def test_no_link_is_made_up_when_no_address_is_configured(bench):
    """Without a project and a Grafana address neither store gets a link."""
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM))
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert semconv.LANGFUSE_URL not in tempo.attributes
    assert semconv.GRAFANA_URL not in langfuse.attributes


LONG = policy.TEMPO_VALUE_BYTES
LONG_VALUES = {
    "at the limit": "a" * LONG,
    "one over": "a" * (LONG + 1),
    "euro signs": "€" * LONG,
    "euro signs, other offset": "a" + "€" * LONG,
    "json at the limit": "{" + "1" * (LONG - 2) + "}",
    "json over": '{"a": "' + "b" * LONG + '"}',
    "list over": "[" + "{}," * LONG + "{}]",
    "bracket, no json": "[info] " + "c" * LONG,
    "cut at a bracket": "{" + "}" * LONG + "x",
    "short json": '{"a": [1]}',
}


def test_values_over_tempos_limit_are_cut_between_characters_and_json_goes_whole(bench):
    """As policy.bounded_attributes: valid UTF-8, at most the limit, and never half a JSON text."""
    trace_id = bench.new_trace()
    exception = {"exception.type": "E", "exception.stacktrace": "é" * LONG}
    resource = {"service.name": "made-up", "long": "€" * LONG}
    attributes = LLM | LONG_VALUES
    events = [("exception", exception)]
    bench.send(bench.span(trace_id, attributes, events=events), resource=resource)
    (tempo,) = bench.at_tempo(trace_id, 1).values()
    expected = policy.bounded_attributes(attributes)
    assert tempo.attributes == expected
    assert expected["json over"] == expected["list over"] == policy.oversize_marker(LONG)
    assert expected["json at the limit"] == LONG_VALUES["json at the limit"]
    assert all(len(str(value).encode()) <= LONG for value in tempo.attributes.values())
    (event,) = tempo.span.events
    stack = {item.key: item.value.string_value for item in event.attributes}
    assert stack == policy.bounded_attributes(exception)
    assert len(tempo.resource["long"].encode()) <= LONG
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert langfuse.attributes == langfuse_policy.langfuse_attributes(
        attributes, _start_ns(langfuse)
    )


def _start_ns(received):
    return received.span.start_time_unix_nano


_USAGE = semconv.GEN_AI_USAGE_PREFIX
#: Token counts of every shape: whole, with parts, without their parts, parts alone, no counts.
USAGE_CASES = [
    {_USAGE + "input_tokens": 64, _USAGE + "output_tokens": 52},
    {_USAGE + "input_tokens": "64"},
    {_USAGE + "output_tokens": 0},
    {
        _USAGE + "input_tokens": 100,
        _USAGE + "cache_read.input_tokens": 40,
        _USAGE + "cache_write.input_tokens": 10,
        _USAGE + "output_tokens": 30,
        _USAGE + "reasoning.output_tokens": 20,
        _USAGE + "total_tokens": 130,
    },
    {_USAGE + "input_tokens": 5, _USAGE + "cache_read.input_tokens": 100},
    {_USAGE + "output_tokens": 5, _USAGE + "reasoning.output_tokens": 100},
    {_USAGE + "cache_read.input_tokens": 7, _USAGE + "reasoning.output_tokens": 3},
    {_USAGE + "cache_read.input_tokens": 0},
    {_USAGE + "input_tokens": -1, _USAGE + "output_tokens": "many"},
    {_USAGE + "input_tokens": 1, semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS: '{"input": 9}'},
]


@pytest.mark.parametrize(
    "attributes",
    [
        {"langfuse.observation.prompt.version": "3", "langfuse.observation.prompt.name": "p"},
        {"langfuse.observation.prompt.version": "three"},
        {"langfuse.observation.prompt.version": 3.0},
        {"langfuse.observation.completion_start_time": 1_700_000_000_000},
        {"langfuse.observation.completion_start_time": "2026-01-01T00:00:00Z"},
        {"gen_ai.response.time_to_first_chunk": 0.4567},
        {"gen_ai.response.time_to_first_chunk": 0.0000004},
        {"langfuse.observation.level": "warn"},
        {"langfuse.observation.level": "Error"},
        {"langfuse.observation.level": "loud"},
        *({"gen_ai.operation.name": name} for name, _ in langfuse_policy.OBSERVATION_TYPES),
        {"gen_ai.operation.name": "retrieval", "langfuse.observation.type": "tool"},
        {"gen_ai.operation.name": "retrieval", "gen_ai.request.model": "m"},
        {"gen_ai.usage.cache_write.input_tokens": 5},
        *USAGE_CASES,
        *({"gen_ai.usage.cost": cost} for cost in (0.0, 2e-7, 1e-5, 0.00068, 2, 1e7, -1.0)),
        {"gen_ai.usage.cost": 0.5, "langfuse.observation.cost_details": '{"total":1}'},
        *(
            {"gen_ai.operation.name": name, "gen_ai.usage.input_tokens": 5, "llm.cost.total": 1.0}
            for name in (*langfuse_policy.UNCOUNTED_OPERATIONS, "retrieval", "planning")
        ),
        {"gen_ai.prompt.name": "p", "gen_ai.prompt.version": "3"},
        {"gen_ai.prompt.name": "p", "gen_ai.prompt.version": "v3"},
        {"gen_ai.prompt.name": "p", "gen_ai.prompt.version": 3, "langfuse.prompt.name": "q"},
        {"langfuse.prompt.name": "q", "langfuse.prompt.version": "4"},
        {"langfuse.prompt.name": "q", "langfuse.prompt.version": "latest"},
        {"gen_ai.prompt.id": "x", "gen_ai.completion.id": "y", "gen_ai.prompt.0.content": "kept"},
        {"gen_ai.input.messages": "[]", **dict.fromkeys(langfuse_policy.SHADOWING_KEYS, "x")},
        dict.fromkeys(langfuse_policy.SHADOWING_KEYS, "x"),
        {"openinference.span.kind": "CHAIN", "input.value": "q", "prompt": "x", "model": "m"},
        {"otelbridge.llm.keep": True, **dict.fromkeys(langfuse_policy.SHADOWING_KEYS, "x")},
    ],
    ids=str,
)
def test_langfuse_gets_types_it_accepts_and_the_real_content(bench, attributes):
    """Types, first-token time, observation type and shadowing attributes: as the policy says."""
    trace_id = bench.new_trace()
    attributes = LLM | attributes
    bench.send(bench.span(trace_id, attributes))
    (langfuse,) = bench.at_langfuse(trace_id, 1).values()
    entered = span_rules.entered(attributes)
    assert langfuse.attributes == langfuse_policy.langfuse_attributes(entered, _start_ns(langfuse))


def test_policy_puts_langfuse_types_right():
    """The expectations of the case above, spelled out where they matter."""
    start_ns = 1_760_000_000_123_456_789

    def sent(**attributes):
        names = {name.replace("__", "."): value for name, value in attributes.items()}
        return langfuse_policy.langfuse_attributes(names, start_ns)

    assert sent(langfuse__observation__prompt__version="3") == {
        semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION: 3
    }
    assert sent(langfuse__observation__prompt__version="three") == {}
    first = sent(gen_ai__response__time_to_first_chunk=0.5)
    assert first[semconv.LANGFUSE_OBSERVATION_COMPLETION_START_TIME] == ("2025-10-09T08:53:20.623Z")
    assert sent(gen_ai__operation__name="retrieval")["langfuse.observation.type"] == "retriever"
    assert sent(gen_ai__prompt__name="p", gen_ai__prompt__version="3") == {
        semconv.LANGFUSE_OBSERVATION_PROMPT_NAME: "p",
        semconv.LANGFUSE_OBSERVATION_PROMPT_VERSION: 3,
    }
    shadowing = {"model": "m", "otelbridge.llm.keep": True}
    assert langfuse_policy.langfuse_attributes(shadowing) == {
        "langfuse.observation.metadata.model": "m"
    }
    assert langfuse_policy.langfuse_attributes({"model": "m"}) == {"model": "m"}


@pytest.mark.parametrize(
    ("case", "buckets"),
    [
        (0, {"input": 64, "output": 52, "total": 116}),
        (2, {"output": 0, "total": 0}),
        (
            3,
            {
                "input": 50,
                "input_cached_tokens": 40,
                "input_cache_creation": 10,
                "output": 10,
                "output_reasoning_tokens": 20,
                "total": 130,
            },
        ),
        (4, {"input": 5, "input_cached_tokens": 100, "total": 105}),
        (
            6,
            {
                "input": 0,
                "input_cached_tokens": 7,
                "output": 0,
                "output_reasoning_tokens": 3,
                "total": 10,
            },
        ),
        (7, None),
        (9, {"input": 9}),
    ],
)
def test_usage_is_spelled_out_as_the_helpers_of_otelbridge_write_it(case, buckets):
    """Disjoint buckets, so that Langfuse counts and prices no token twice; as `Usage.buckets`."""
    attributes = span_rules.entered(LLM | USAGE_CASES[case])
    details = langfuse_policy.langfuse_attributes(attributes).get(
        semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS
    )
    assert (json.loads(details) if details else None) == buckets
    if semconv.LANGFUSE_OBSERVATION_USAGE_DETAILS not in USAGE_CASES[case]:
        own = Usage(
            attributes.get(semconv.GEN_AI_USAGE_INPUT_TOKENS),
            attributes.get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS),
            attributes.get(semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
            attributes.get(semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS),
            attributes.get(semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS),
        )
        assert own.buckets() == (buckets or {})


def test_usage_of_agents_workflows_and_tools_is_not_counted_beside_that_of_the_calls():
    """Their totals leave, also in other dialects; what was set for Langfuse by name stays."""
    totals = {
        semconv.GEN_AI_OPERATION_NAME: "invoke_workflow",
        semconv.GEN_AI_USAGE_INPUT_TOKENS: 5,
        semconv.GEN_AI_USAGE_COST: 0.5,
        "llm.token_count.prompt": 5,
    }
    sent = langfuse_policy.langfuse_attributes(totals)
    assert sent == {
        semconv.GEN_AI_OPERATION_NAME: "invoke_workflow",
        semconv.LANGFUSE_OBSERVATION_TYPE: "chain",
    }
    own = {semconv.LANGFUSE_OBSERVATION_COST_DETAILS: '{"total":0.1}'}
    assert langfuse_policy.langfuse_attributes(totals | own) == sent | own


def test_langfuse_and_the_metrics_leave_out_the_usage_of_the_same_operations():
    """The metrics layer names the operations that langfuse_policy.UNCOUNTED_OPERATIONS names."""
    layer = (COLLECTOR / "layers" / "metrics.yaml").read_text(encoding="utf-8")
    assert "|".join(langfuse_policy.UNCOUNTED_OPERATIONS) in layer


@pytest.mark.parametrize("drop", [False, True])
def test_spans_of_the_langfuse_sdk_are_dropped_only_when_told_to(make_bench, drop):
    """Kept by default; with the variable they are left to the SDK's own export, Tempo has them."""
    variable = {"OTELBRIDGE_COLLECTOR_LANGFUSE_DROP_SDK": "true"} if drop else {}
    bench = make_bench(environment=variable)
    trace_id = bench.new_trace()
    request = bench.request([bench.span(trace_id, LLM)])
    request.resource_spans[0].scope_spans[0].scope.name = "langfuse-sdk"
    assert bench.post(request.SerializeToString()) == 200
    assert len(bench.at_tempo(trace_id, 1)) == 1
    assert len(bench.at_langfuse(trace_id, 0 if drop else 1)) == (0 if drop else 1)
