"""The Langfuse preview: what it refuses, how it maps spans, and the page."""

from __future__ import annotations

import gzip
import json
import os
import re

import pytest
from langfuse.api.client import LangfuseAPI

from otelbridge.local.langfuse_preview import Project
from otelbridge.local.nodes import observation_node

INTAKE = "/api/public/otel/v1/traces"
PROTOBUF = "application/x-protobuf"


def one_span(**fields) -> bytes:
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n"} | fields
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


REFUSED = {
    "no keys": ({"auth": None}, 401),
    "wrong secret": ({"auth": ("pk-lf-tests", "sk-lf-wrong")}, 401),
    "wrong public key": ({"auth": ("pk-lf-wrong", "sk-lf-tests")}, 401),
    "basic that is no base64": ({"auth": None, "authorization": "Basic §"}, 401),
    "bearer secret": ({"auth": None, "authorization": "Bearer sk-lf-tests"}, 401),
    "bearer public key": ({"auth": None, "authorization": "Bearer pk-lf-tests"}, 403),
    "content type": ({"content-type": "text/plain"}, 400),
    "application/protobuf": ({"content-type": "application/protobuf"}, 400),
    "no content type": ({"content-type": None}, 400),
    "bad gzip": ({"content": b"xx", "content-encoding": "gzip"}, 400),
    "deflate is not undone": ({"content": b"x\x9c\x03\x00", "content-encoding": "deflate"}, 400),
    "bad protobuf": ({"content": b"\xff\xff", "content-type": PROTOBUF}, 400),
    "bad JSON": ({"content": b"{"}, 400),
    "no trace id": ({"content": one_span(traceId="")}, 400),
    "short trace id": ({"content": one_span(traceId="abcd")}, 400),
    "no span id": ({"content": one_span(spanId=None)}, 400),
    "odd span id": ({"content": one_span(spanId="abc")}, 400),
    "attributes no list": ({"content": one_span(attributes={"a": 1})}, 400),
    "events no list": ({"content": one_span(events={})}, 400),
    "spans no list": ({"content": b'{"resourceSpans":[{"scopeSpans":[{"spans":{}}]}]}'}, 400),
    "scopeSpans no list": ({"content": b'{"resourceSpans":[{"scopeSpans":{}}]}'}, 400),
    "ingestion version 5": ({"x-langfuse-ingestion-version": "5"}, 400),
    "ingestion version text": ({"x-langfuse-ingestion-version": "four"}, 400),
    "OTLP logs": ({"content": b'{"resourceLogs":[]', "content-type": "application/json"}, 400),
}


@pytest.mark.parametrize(("change", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_the_intake_refuses_what_langfuse_refuses(local, http, keys, change, status):
    """Same status as Langfuse, with a JSON body that says why."""
    change = dict(change)
    content = change.pop("content", one_span())
    auth = change.pop("auth", keys)
    headers = {"content-type": "application/json"} | change
    headers = {key: value for key, value in headers.items() if value is not None}
    reply = http.post(
        f"{local.langfuse_url}{INTAKE}",
        content=content,
        headers={key: value.encode() for key, value in headers.items()},
        auth=auth,
    )
    assert reply.status_code == status, reply.text
    assert reply.json()["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_intake_takes_post_only(local, http, keys, method):
    """Another method is 405."""
    assert http.request(method, f"{local.langfuse_url}{INTAKE}", auth=keys).status_code == 405


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {"content-type": PROTOBUF}),
        (b'{"resourceSpans":[]}', {"content-type": "application/json; charset=utf-8"}),
        (one_span(), {"content-type": "application/json", "x-langfuse-ingestion-version": "4"}),
        (gzip.compress(one_span()), {"content-type": "x, application/json",
                                     "content-encoding": "gzip"}),
    ],
)  # fmt: skip
def test_the_intake_answers_200_with_json(local, http, keys, content, headers):
    """Good requests, empty ones among them, get JSON whatever their encoding."""
    url = f"{local.langfuse_url}{INTAKE}"
    reply = http.post(url, content=content, headers=headers, auth=keys)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"


def test_one_bad_span_refuses_the_whole_batch(talk, samples):
    """Nothing of a refused batch is stored."""
    good = samples.span()
    assert talk.to_preview(samples.request(good, samples.span(span_id=b"1"))).status_code == 400
    assert talk.observations(good.trace_id) == []


def test_health_and_projects(local, http, keys):
    """Health needs no keys; projects names the configured project and needs them."""
    health = http.get(f"{local.langfuse_url}/api/public/health")
    assert health.json()["status"] == "OK"
    url = f"{local.langfuse_url}/api/public/projects"
    assert http.get(url, auth=keys).json()["data"][0]["id"] == "proj"
    assert http.get(url).status_code == 401


GENERATION = {
    "langfuse.observation.type": "generation",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.stop_sequences": ["a", "b"],
    "gen_ai.input.messages": '[{"role":"user","parts":[]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[]}]',
    "gen_ai.system_instructions": '[{"type":"text","content":"be kind"}]',
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.output_tokens": 30,
    "gen_ai.usage.reasoning.output_tokens": 10,
    "gen_ai.usage.cost": 0.25,
    "langfuse.observation.completion_start_time": "2026-01-01T00:00:00.500Z",
    "langfuse.trace.name": "ask",
    "langfuse.trace.tags": ["beta", "eu"],
    "langfuse.trace.metadata.team": "sales",
    "langfuse.environment": "Prod",
    "langfuse.release": "r1",
    "user.id": "u-1",
    "session.id": "s-1",
    "custom": 5,
}


def observed(talk, samples, attributes, **fields):
    """The one observation of a span with these attributes."""
    span = samples.span("span name", attributes, **fields)
    assert talk.to_preview(samples.request(span)).status_code == 200
    (found,) = talk.observations(span.trace_id)
    return found


def test_a_generation_is_mapped_as_langfuse_maps_it(talk, samples):
    """Model, messages, usage buckets, cost, time to first token and trace fields."""
    found = observed(talk, samples, GENERATION)
    expected = {
        "type": "GENERATION",
        "name": "span name",
        "model": "gpt-4o-2024-08-06",
        "modelParameters": {"temperature": 0.5, "stop_sequences": '["a", "b"]'},
        "usageDetails": {
            "input": 60,
            "input_cached_tokens": 40,
            "output": 20,
            "output_reasoning_tokens": 10,
            "total": 130,
        },
        "costDetails": {"total": 0.25},
        "totalCost": 0.25,
        "completionStartTime": "2026-01-01T00:00:00.500Z",
        "startTime": "2023-11-14T22:13:20.000Z",
        "endTime": "2023-11-14T22:13:20.250Z",
        "latency": 0.25,
        "level": "DEFAULT",
        "statusMessage": None,
        "userId": "u-1",
        "sessionId": "s-1",
        "tags": ["beta", "eu"],
        "traceName": "ask",
        "environment": "prod",
        "release": "r1",
        "output": GENERATION["gen_ai.output.messages"],
    }
    assert {key: found[key] for key in expected} == expected
    system, user = json.loads(found["input"])
    assert (system["role"], user["role"]) == ("system", "user")
    assert found["metadata"]["team"] == "sales"
    assert found["metadata"]["attributes"]["custom"] == "5"
    assert found["metadata"]["resourceAttributes"]["service.name"] == "svc"
    node = observation_node(found)
    assert (node.input_tokens, node.output_tokens, node.service) == (100, 30, "svc")


def test_langfuses_own_client_reads_the_answers(local, http, talk, samples, keys):
    """The published client finds every field under the name and shape it expects."""
    trace_id = observed(talk, samples, GENERATION)["traceId"]
    client = LangfuseAPI(
        base_url=local.langfuse_url, username=keys[0], password=keys[1], httpx_client=http
    )
    answer = client.observations.get_many(
        trace_id=trace_id, fields="core,basic,time,io,metadata,model,usage,trace_context"
    )
    (read,) = answer.data
    assert (read.trace_name, read.model, read.total_cost) == ("ask", "gpt-4o-2024-08-06", 0.25)
    assert read.usage_details is not None
    assert read.usage_details["total"] == 130
    assert read.completion_start_time is not None
    assert read.tags == ["beta", "eu"]
    assert [project.id for project in client.projects.get().data] == ["proj"]


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({}, "SPAN"),
        ({"langfuse.observation.type": "retriever", "gen_ai.request.model": "m"}, "RETRIEVER"),
        ({"langfuse.observation.type": "GENERATION"}, "SPAN"),
        ({"gen_ai.operation.name": "chat"}, "GENERATION"),
        ({"gen_ai.operation.name": "embeddings"}, "EMBEDDING"),
        ({"gen_ai.operation.name": "invoke_agent"}, "AGENT"),
        ({"gen_ai.operation.name": "execute_tool"}, "TOOL"),
        ({"gen_ai.operation.name": "retrieval"}, "SPAN"),
        ({"gen_ai.operation.name": "chat", "gen_ai.tool.name": "t"}, "GENERATION"),
        ({"gen_ai.tool.call.id": "c"}, "TOOL"),
        ({"gen_ai.request.model": "m"}, "GENERATION"),
    ],
)
def test_observation_types(talk, samples, attributes, kind):
    """The first mapper that yields a type decides."""
    assert observed(talk, samples, attributes)["type"] == kind


def test_explicit_details_win_over_semconv_ones(talk, samples):
    """langfuse.observation.* is taken as it is."""
    found = observed(
        talk,
        samples,
        {
            **GENERATION,
            "langfuse.observation.input": "plain question",
            "langfuse.observation.usage_details": '{"input": 1, "output": 2, "bad": "x"}',
            "langfuse.observation.cost_details": '{"input": 0.1, "output": 0.2, "total": 0.5}',
            "langfuse.observation.model.name": "mine",
            "langfuse.observation.model.parameters": '{"a": 1}',
            "langfuse.observation.level": "WARNING",
            "langfuse.observation.status_message": "careful",
        },
    )
    assert (found["input"], found["output"]) == ("plain question", None)
    assert found["usageDetails"] == {"input": 1, "output": 2, "total": 3}
    assert (found["totalCost"], found["model"]) == (0.5, "mine")
    assert found["modelParameters"] == {"a": 1}
    assert (found["level"], found["statusMessage"]) == ("WARNING", "careful")


def test_an_agent_carries_no_usage_of_its_own(talk, samples):
    """Model, usage and cost of invoke_agent would count its generations twice."""
    found = observed(talk, samples, {**GENERATION, "gen_ai.operation.name": "invoke_agent"})
    assert (found["model"], found["usageDetails"], found["totalCost"]) == (None, {}, None)


def test_tools_show_arguments_and_result(talk, samples):
    """Tool name, arguments and result become name, input and output."""
    found = observed(
        talk,
        samples,
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.call.arguments": '{"id": 1}',
            "gen_ai.tool.call.result": "found",
        },
    )
    assert (found["name"], found["input"], found["output"]) == ("lookup", '{"id": 1}', "found")


def test_message_events_are_read(talk, samples):
    """gen_ai.<role>.message and gen_ai.choice events beat message attributes."""
    span = samples.span("chat", {"gen_ai.operation.name": "chat", "gen_ai.input.messages": "[]"})
    span.events.add(name="gen_ai.user.message", attributes=samples.pairs({"content": "hi"}))
    span.events.add(name="gen_ai.choice", attributes=samples.pairs({"index": 0, "message": "yo"}))
    talk.to_preview(samples.request(span))
    (found,) = talk.observations(span.trace_id)
    assert json.loads(found["input"]) == [{"role": "user", "content": "hi"}]
    assert json.loads(found["output"]) == {"index": 0, "message": "yo"}


def test_status_error_becomes_level_error(talk, samples):
    """A failed span has level ERROR and its message."""
    span = samples.span()
    span.status.code, span.status.message = 2, "boom"
    talk.to_preview(samples.request(span))
    (found,) = talk.observations(span.trace_id)
    assert (found["level"], found["statusMessage"]) == ("ERROR", "boom")


def test_observations_are_paged_newest_first(local, http, talk, samples, keys):
    """limit and cursor walk through a trace; fields default to core and basic."""
    trace_id = os.urandom(16)
    spans = [samples.span(str(n), trace_id=trace_id, start_time_unix_nano=n) for n in range(5)]
    talk.to_preview(samples.request(*spans))
    url = f"{local.langfuse_url}/api/public/v2/observations"
    names, cursor = [], None
    while True:
        params = {"traceId": trace_id.hex(), "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = http.get(url, params=params, auth=keys).json()
        names += [item["name"] for item in page["data"]]
        assert "input" not in page["data"][0]
        cursor = page["meta"].get("cursor")
        if cursor is None:
            break
    assert names == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    "params",
    [{}, {"traceId": "ab", "limit": "x"}, {"traceId": "ab", "limit": "1001"},
     {"traceId": "ab", "fields": "core,unknown"}, {"traceId": "ab", "cursor": "-1"}],
)  # fmt: skip
def test_observations_refuse_bad_parameters(local, http, keys, params):
    """A parameter that cannot be used is 400."""
    url = f"{local.langfuse_url}/api/public/v2/observations"
    assert http.get(url, params=params, auth=keys).status_code == 400
    assert http.get(url, params=params).status_code == 401


def test_the_page_shows_the_tree_and_the_selected_observation(local, http, talk, samples):
    """Names, services and tokens of all, input and output of the selected one, all escaped."""
    trace_id = os.urandom(16)
    root = samples.span("<script>alert(1)</script>", trace_id=trace_id)
    chat = samples.span(
        "chat", {**GENERATION, "gen_ai.output.messages": "<img src=x onerror=alert(1)>"},
        trace_id=trace_id, parent_span_id=root.span_id,
    )  # fmt: skip
    talk.to_preview(samples.request(root, chat, service='"><b>web'))
    page = f"{local.langfuse_url}/project/proj/traces/{trace_id.hex()}"
    plain = http.get(page)
    assert plain.status_code == 200
    assert "default-src 'none'" in plain.headers["content-security-policy"]
    assert "onerror" not in plain.text
    selected = http.get(page, params={"observation": chat.span_id.hex()}).text
    assert "&lt;img src=x onerror=alert(1)&gt;" in selected
    assert "100 / 30" in selected
    for text in (plain.text, selected):
        assert not re.search(r"<script|<img|<b>web", text)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert f"?observation={chat.span_id.hex()}" in text


def test_the_page_for_an_unknown_trace_or_project_is_404(local, http):
    """Both name what was asked for, escaped."""
    for path in ("proj/traces/" + os.urandom(16).hex(), "other/traces/ab", "proj/traces/%3Cb%3E"):
        reply = http.get(f"{local.langfuse_url}/project/{path}")
        assert reply.status_code == 404
        assert "<b>" not in reply.text


def test_the_secret_key_is_in_no_repr():
    """A logged Project does not show its secret."""
    assert "sk-secret" not in repr(Project("p", "pk", "sk-secret"))
