"""The shopping assistant, end to end."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from otelbridge.demo.views import View
from tests.recipes.conftest import RECIPES, Recipes, one, queries

pytestmark = [pytest.mark.e2e, pytest.mark.collector]
PAGE = "shopping-assistant"
AGENTS = ("intent", "profile", "sentiment", "recommendation", "response")
QUESTION = "I want to buy a lamp and I am happy."


@pytest.fixture(scope="module")
def url(recipes: Recipes) -> str:
    """The running recipe, with a price of its own for the local model."""
    return recipes.serve("shopping_assistant", OTELBRIDGE_PRICES_FILE=str(RECIPES / "prices.toml"))


def agent_of(view: View, name: str) -> set[str]:
    """Names of the spans directly below an agent."""
    parent = one(view, f"invoke_agent {name}").span_id
    return {span.name for span in view.spans.values() if span.parent == parent}


def test_five_agents_are_one_trace(recipes: Recipes, url: str) -> None:
    """Each agent has its model call below it, in both stores; intent and mood reach the spans."""
    answer = recipes.post(f"{url}/assist", {"message": QUESTION, "user": "u-1", "session": "s-1"})
    assert answer.status_code == 200
    assert (answer.json()["intent"], answer.json()["mood"]) == ("buy", "happy")
    assert "Luma" in answer.json()["answer"]
    trace_id = answer.headers["x-trace-id"]
    tempo, langfuse = recipes.as_documented(PAGE, trace_id)
    for name in AGENTS:
        assert agent_of(tempo, name) == agent_of(langfuse, name) == {"chat llama3.2"}
    calls = [span for span in langfuse.spans.values() if span.name == "chat llama3.2"]
    for call in calls:
        usage = call.attributes["usageDetails"]
        cost = (usage["input"] * 0.02 + usage["output"] * 0.06) / 1e6
        assert call.attributes["totalCost"] == pytest.approx(cost)
    assert {call.attributes["metadata"]["agent"] for call in calls} == set(AGENTS)
    prices = [
        span.attributes["otelbridge.cost.source"]
        for span in tempo.spans.values()
        if span.name == "chat llama3.2"
    ]
    assert prices == ["custom"] * 5
    workflow = one(tempo, "invoke_agent response").attributes
    assert workflow["langfuse.trace.metadata.workflow.intent"] == "buy"
    assert workflow["session.id"] == "s-1"
    assert recipes.score(trace_id, "api_success")["value"] == 1.0
    for query in queries(PAGE)[:2]:
        assert trace_id in recipes.found(query), query


def test_feedback_by_request_id(recipes: Recipes, url: str) -> None:
    """`POST /feedback` with the X-Request-ID of an answer scores its trace; other names are 400."""
    answer = recipes.post(f"{url}/assist", {"message": "A chair?"}, **{"X-Request-ID": "order-17"})
    assert answer.headers["x-request-id"] == "order-17"
    rating = {"request_id": "order-17", "name": "user_rating", "value": 4.5}
    assert recipes.post(f"{url}/feedback", rating).status_code == 202
    assert recipes.score(answer.headers["x-trace-id"], "user_rating")["value"] == 4.5
    assert recipes.post(f"{url}/feedback", rating | {"name": "made up"}).status_code == 400


def test_requests_at_the_same_time_do_not_mix(recipes: Recipes, url: str) -> None:
    """Eight at once: each trace has its own user and session on every span."""

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
            bodies = [
                {"message": QUESTION, "user": f"user-{n}", "session": f"session-{n}"}
                for n in range(8)
            ]
            return await asyncio.gather(
                *(client.post(f"{url}/assist", json=body) for body in bodies)
            )

    for number, answer in enumerate(asyncio.run(ask_all())):
        _, langfuse = recipes.trace(
            answer.headers["x-trace-id"], lambda _, langfuse: len(langfuse.spans) >= 12
        )
        who = {(s.attributes["userId"], s.attributes["sessionId"]) for s in langfuse.spans.values()}
        assert who == {(f"user-{number}", f"session-{number}")}


def test_failing_model_is_503_and_scored(recipes: Recipes, url: str) -> None:
    """Ollama answers 500: the page gets 503, the trace an error and the score `api_error`."""
    answer = recipes.post(f"{url}/assist", {"message": "[[status=500]] A lamp?"})
    assert answer.status_code == 503
    trace_id = answer.headers["x-trace-id"]
    assert recipes.score(trace_id, "api_error")["value"] == 0.0
    tempo, _ = recipes.trace(trace_id, lambda _, langfuse: len(langfuse.spans) >= 3)
    assert one(tempo, "invoke_agent intent").status == "STATUS_CODE_ERROR"
    assert trace_id in recipes.found(queries(PAGE)[2])
