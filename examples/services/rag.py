"""rag: finds documents, runs an agent with one tool, and lets the llm service speak.

Run: `opentelemetry-instrument flask --app rag run --port 8001`. The helpers mark what a generic
instrumentation cannot see: the embedding of the question, the retrieval, the agent and its tool.

Environment: `LLM_URL`, and `OPENAI_BASE_URL`, `OPENAI_API_KEY` for embeddings (read by the openai
package itself).
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
from flask import Flask, Response, jsonify, request
from openai import OpenAI

import otelbridge

app = Flask(__name__)
llm = httpx.Client(base_url=os.environ.get("LLM_URL", "http://127.0.0.1:8002"), timeout=60)
openai = OpenAI(max_retries=0)
EMBEDDER = "text-embedding-3-small"
DOCUMENTS = {
    "returns": "Goods can be returned within 30 days with the receipt, the refund takes 5 days.",
    "shipping": "An order leaves at once; standard shipping takes 3 days, express shipping one.",
    "warranty": "Every lamp has a warranty of two years that covers the driver and the cable.",
    "payment": "Invoices are payable within 14 days by card or bank transfer.",
}
ORDERS = {"A-17": "sent on Monday, arrives on Thursday", "A-18": "waiting for payment"}
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup_order",
        "description": "The state of an order.",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}},
                       "required": ["order_id"]},
    },
}


def embed(texts: list[str]) -> list[list[float]]:
    with otelbridge.embeddings(EMBEDDER, provider="openai", input=texts) as call:
        response = openai.embeddings.create(model=EMBEDDER, input=texts)
        call.record(response)
    return [item.embedding for item in response.data]


@cache
def index() -> dict[str, list[float]]:
    """The documents' vectors, made once by the first question."""
    return dict(zip(DOCUMENTS, embed(list(DOCUMENTS.values())), strict=True))


def find(question: str, top_k: int = 2) -> list[dict[str, Any]]:
    with otelbridge.retrieval("shop-handbook", query=question, top_k=top_k) as call:
        asked = embed([question])[0]
        found = sorted(
            ({"id": name, "score": sum(a * b for a, b in zip(asked, vector, strict=True))}
             for name, vector in index().items()),
            key=lambda hit: -hit["score"],
        )[:top_k]
        documents = [{**hit, "content": DOCUMENTS[hit["id"]]} for hit in found]
        call.set_documents(documents)
    return documents


def lookup_order(call: dict[str, Any]) -> dict[str, Any]:
    """Run the tool that the model asked for; the message that answers it."""
    arguments = json.loads(call["function"]["arguments"])
    with otelbridge.execute_tool("lookup_order", call_id=call["id"], arguments=arguments) as tool:
        result = ORDERS.get(arguments["order_id"], "unknown order")
        tool.set_result(result)
    return {"role": "tool", "tool_call_id": call["id"], "content": result}


def prompt(body: dict[str, Any]) -> list[dict[str, Any]]:
    facts = "\n".join(f"- {hit['content']}" for hit in find(body["question"]))
    system = f"You help customers of a lamp shop.\nContext:\n{facts}"
    return [{"role": "system", "content": system}, {"role": "user", "content": body["question"]}]


@app.post("/answer")
def answer() -> Response:
    body = request.get_json()
    model, messages = body.get("model", "gpt-4o"), prompt(body)
    with otelbridge.invoke_agent("support", model=model, input=messages) as agent:
        ask = {"model": model, "messages": messages, "tools": [TOOL]}
        reply = llm.post("/chat", json=ask).raise_for_status().json()
        if calls := reply.get("tool_calls"):
            messages += [{"role": "assistant", "content": None, "tool_calls": calls},
                         *map(lookup_order, calls)]
            reply = llm.post("/chat", json=ask).raise_for_status().json()
        agent.set_output(reply["content"])
    return jsonify(answer=reply["content"], model=model, cached=reply["cached"])


@app.post("/answer/stream")
def answer_stream() -> Response:
    body = request.get_json()

    def events() -> Iterator[str]:
        ask = {"model": body.get("model", "gpt-4o"), "messages": prompt(body)}
        with llm.stream("POST", "/chat/stream", json=ask) as reply:
            reply.raise_for_status()
            yield from (f"{line}\n\n" for line in reply.iter_lines() if line)

    return Response(events(), mimetype="text/event-stream")


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.errorhandler(httpx.HTTPError)
def llm_failed(error: httpx.HTTPError) -> tuple[Response, int]:
    status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 502
    return jsonify(error=str(error)), status
