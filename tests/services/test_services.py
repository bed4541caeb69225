"""Each example service works alone and untraced: the helpers are no-ops of the same shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

ORDER = {"question": "Where is my order A-17?", "user": "alice", "session": "s-1"}


@pytest.fixture(scope="session")
def llm(run_service: Callable[..., httpx.Client], upstream: Any) -> httpx.Client:
    return run_service("llm", OPENAI_BASE_URL=f"{upstream.url}/v1", OPENAI_API_KEY="not-a-key")


@pytest.fixture(scope="session")
def rag(
    run_service: Callable[..., httpx.Client], upstream: Any, llm: httpx.Client
) -> httpx.Client:
    env = {"OPENAI_BASE_URL": f"{upstream.url}/v1", "OPENAI_API_KEY": "not-a-key"}
    return run_service("rag", LLM_URL=str(llm.base_url), **env)


@pytest.fixture(scope="session")
def gateway(
    run_service: Callable[..., httpx.Client], rag: httpx.Client, llm: httpx.Client
) -> httpx.Client:
    return run_service("gateway", RAG_URL=str(rag.base_url), LLM_URL=str(llm.base_url))


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}


def events(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    return (json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: "))


def test_llm_answers_and_remembers(llm: httpx.Client) -> None:
    """The same request is answered by the provider once, then from the cache."""
    first = llm.post("/chat", json=ask("what is a lamp")).json()
    second = llm.post("/chat", json=ask("what is a lamp")).json()
    assert first["content"].startswith("You asked: what is a lamp")
    assert (first["cached"], second["cached"]) == (False, True)
    assert second["content"] == first["content"]


def test_llm_streams_the_same_words(llm: httpx.Client) -> None:
    """The server-sent events join to the plain answer and end with `done`."""
    plain = llm.post("/chat", json=ask("stream me")).json()["content"]
    with llm.stream("POST", "/chat/stream", json=ask("stream me")) as reply:
        received = list(events(reply))
    assert "".join(event.get("text", "") for event in received) == plain
    assert received[-1] == {"done": True}


@pytest.mark.parametrize("status", [429, 500])
def test_llm_hands_the_providers_status_on(llm: httpx.Client, status: int) -> None:
    """A provider's error comes back with its status and message."""
    reply = llm.post("/chat", json=ask(f"no [[status={status}]]"))
    assert reply.status_code == status
    assert str(status) in reply.json()["error"]


def test_llm_says_in_the_stream_that_the_provider_broke_off(llm: httpx.Client) -> None:
    """After the headers have left, a provider's failure is an `error` event, not a cut body."""
    with llm.stream("POST", "/chat/stream", json=ask("go on [[break=3]]")) as reply:
        received = list(events(reply))
    assert "error" in received[-1]
    assert received[0]["text"]


def test_rag_finds_the_document_that_fits(rag: httpx.Client) -> None:
    """The answer is built on the document that shares the question's words."""
    reply = rag.post("/answer", json={"question": "Can goods be returned for a refund?"}).json()
    assert "Goods can be returned within 30 days" in reply["answer"]


def test_rag_agent_looks_the_order_up(rag: httpx.Client) -> None:
    """A question with an order number makes the agent run its tool and use the result."""
    assert "arrives on Thursday" in rag.post("/answer", json=ORDER).json()["answer"]


def test_gateway_goes_through_all_three(gateway: httpx.Client) -> None:
    """A question at the edge comes back answered; without tracing there is no trace id."""
    reply = gateway.post("/ask", json={**ORDER, "tags": ["vip"], "metadata": {"shop": "lamps"}})
    assert reply.status_code == 200
    assert "arrives on Thursday" in reply.json()["answer"]
    assert reply.headers["X-Trace-Id"] == ""


def test_gateway_streams_through_all_three(gateway: httpx.Client) -> None:
    """Server-sent events pass rag and gateway unchanged."""
    with gateway.stream("POST", "/ask/stream", json=ORDER) as reply:
        received = list(events(reply))
    assert "You asked: Where is my order A-17?" in "".join(e.get("text", "") for e in received)
    assert received[-1] == {"done": True}


def test_gateway_hands_errors_on(gateway: httpx.Client) -> None:
    """A provider's 429 reaches the caller of the edge as 429."""
    assert gateway.post("/ask", json={"question": "x [[status=429]]"}).status_code == 429


def test_gateway_judges_feedback_after_its_answer(
    gateway: httpx.Client, upstream: Any, eventually: Callable[..., Any]
) -> None:
    """`/feedback` answers 202 before the judgement, which takes as long as the provider does."""
    seen = len(upstream.module.seen)
    reply = gateway.post("/feedback", json={"comment": "good [[latency=0.5]]"})
    assert reply.status_code == 202
    assert reply.elapsed.total_seconds() < 0.5
    eventually(lambda: len(upstream.module.seen) > seen)


def test_plain_pages_need_nobody(gateway: httpx.Client) -> None:
    """The page and the health check answer by themselves."""
    assert gateway.get("/healthz").text == "ok"
    assert "POST /ask" in gateway.get("/").text
