"""The A2A server, end to end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.recipes.conftest import Recipes, one, queries

pytestmark = [pytest.mark.e2e, pytest.mark.collector]
PAGE = "a2a-streaming"


@pytest.fixture(scope="module")
def url(recipes: Recipes) -> str:
    """The running recipe."""
    return recipes.serve("a2a_streaming")


def message(method: str, text: str, message_id: str) -> dict[str, Any]:
    """A JSON-RPC request."""
    parts = [{"kind": "text", "text": text}]
    content = {"role": "user", "messageId": message_id, "kind": "message", "parts": parts}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": content}}


def events(text: str) -> list[dict[str, Any]]:
    """The JSON of each server-sent event."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_streamed_steps_are_one_trace(recipes: Recipes, url: str) -> None:
    """Three events, and the tree of the page in both stores with session, user and a price."""
    asked = message("message/stream", "How long does standard shipping take?", "m-1")
    answer = recipes.post(url, asked)
    steps = [event["result"]["step"] for event in events(answer.text)]
    assert steps == ["plan", "search", "answer"]
    assert "3 days" in events(answer.text)[-1]["result"]["text"]
    trace_id = answer.headers["x-trace-id"]
    tempo, langfuse = recipes.as_documented(PAGE, trace_id)
    for span in langfuse.spans.values():
        assert span.attributes["sessionId"] == "a2a_stream_session_m-1"
        assert span.attributes["userId"] == "a2a_stream_user"
        assert span.attributes["traceName"] == "a2a_streaming_processing"
    call = one(langfuse, "chat gpt-4o-mini").attributes
    assert call["type"] == "GENERATION"
    assert call["totalCost"] > 0
    assert one(tempo, "chat gpt-4o-mini").attributes["gen_ai.usage.cost"] == call["totalCost"]
    assert recipes.score(trace_id, "api_success")["value"] == 1.0
    for query in queries(PAGE)[:1]:
        assert trace_id in recipes.found(query), query


def test_failing_model_is_said_in_the_stream(recipes: Recipes, url: str) -> None:
    """The steps before it arrive, then an error; the trace has it, and the score `api_error`."""
    answer = recipes.post(url, message("message/stream", "[[status=429]] Hello?", "m-2"))
    got = events(answer.text)
    assert [event.get("result", {}).get("step") for event in got] == ["plan", "search", None]
    assert got[-1]["error"]["code"] == -32603
    trace_id = answer.headers["x-trace-id"]
    body = recipes.score(trace_id, "api_error")
    assert body["value"] == 0.0
    assert "RateLimitError" in body["comment"]
    _, langfuse = recipes.trace(
        trace_id, lambda _, langfuse: "error_analysis" in {s.name for s in langfuse.spans.values()}
    )
    assert one(langfuse, "chat gpt-4o-mini").status == "ERROR"
    assert trace_id in recipes.found(queries(PAGE)[1])


def test_message_send_has_its_own_session_and_user(recipes: Recipes, url: str) -> None:
    """`message/send`: one answer, session `a2a_session_<messageId>`, user `a2a_user`."""
    answer = recipes.post(url, message("message/send", "Are returns free?", "m-3"))
    assert "30 days" in answer.json()["result"]["parts"][0]["text"]
    _, langfuse = recipes.trace(
        answer.headers["x-trace-id"], lambda _, langfuse: len(langfuse.spans) >= 12
    )
    who = {(s.attributes["sessionId"], s.attributes["userId"]) for s in langfuse.spans.values()}
    assert who == {("a2a_session_m-3", "a2a_user")}


def test_failing_model_is_an_error_of_message_send(recipes: Recipes, url: str) -> None:
    """`message/send` with a model that fails: a JSON-RPC error and the score `api_error`."""
    answer = recipes.post(url, message("message/send", "[[status=500]] Hello?", "m-5"))
    assert answer.json()["error"]["code"] == -32603
    assert recipes.score(answer.headers["x-trace-id"], "api_error")["value"] == 0.0
    assert recipes.post(url, {"method": "message/none", "id": 2}).json()["error"]["code"] == -32601


def test_caller_that_hangs_up(recipes: Recipes, url: str) -> None:
    """The trace ends with what was sent until then; neither success nor error is scored."""
    asked = message("message/stream", "[[latency=8]] Still there?", "m-4")
    with recipes.client.stream("POST", url, json=asked) as answer:
        lines = answer.iter_lines()
        while '"step": "search"' not in next(lines):
            pass
    trace_id = answer.headers["x-trace-id"]
    _, langfuse = recipes.trace(
        trace_id, lambda _, langfuse: "POST /" in {s.name for s in langfuse.spans.values()}
    )
    assert "step:answer" in {span.name for span in langfuse.spans.values()}
    root = one(langfuse, "POST /").attributes
    assert json.loads(root["output"]) == {"streaming_messages_sent": 2}
    assert not [body for body in recipes.scores.scores.values() if body.get("traceId") == trace_id]
