"""gateway: the edge of the example. Knows who asks, names the trace, passes the question to rag.

Run: `opentelemetry-instrument flask --app gateway run --port 8000`. HTTP spans, propagation and
export come from the environment; what is written here is what only the application can know: the
user, the session, and the trace's input and output.

Environment: `RAG_URL`, `LLM_URL` (feedback), and `OTELBRIDGE_TRUST_INBOUND=false`, because callers
from outside must not choose trace ids.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from flask import Flask, Response, jsonify, request

import otelbridge

app = Flask(__name__)
rag = httpx.Client(base_url=os.environ.get("RAG_URL", "http://127.0.0.1:8001"), timeout=60)
llm = httpx.Client(base_url=os.environ.get("LLM_URL", "http://127.0.0.1:8002"), timeout=60)
background = ThreadPoolExecutor(max_workers=2)


def who(body: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `request_context`, from a request's JSON."""
    return {
        "user_id": body.get("user"),
        "session_id": body.get("session"),
        "tags": body.get("tags", []),
        "metadata": {"model": body.get("model", "gpt-4o"), **body.get("metadata", {})},
    }


@app.get("/")
def page() -> str:
    return "<h1>Ask me</h1><p>POST /ask with question, user, session, model.</p>"


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.post("/ask")
def ask() -> Response:
    body = request.get_json()
    with otelbridge.request_context(trace_name="ask", **who(body)):
        otelbridge.set_trace_io(input=body["question"])
        reply = rag.post("/answer", json=body).raise_for_status().json()
        otelbridge.set_trace_io(output=reply["answer"])
        return jsonify(reply)


@app.post("/ask/stream")
def ask_stream() -> Response:
    body = request.get_json()

    def events() -> Iterator[str]:
        with otelbridge.request_context(trace_name="ask/stream", **who(body)):
            otelbridge.set_trace_io(input=body["question"])
            said: list[str] = []
            try:
                with rag.stream("POST", "/answer/stream", json=body) as reply:
                    reply.raise_for_status()
                    for line in reply.iter_lines():
                        if line.startswith("data: "):
                            said.append(json.loads(line[6:]).get("text", ""))
                            yield f"{line}\n\n"
            finally:  # also when the caller hangs up: what was said until then
                otelbridge.set_trace_io(output="".join(said))

    return Response(events(), mimetype="text/event-stream")


@app.post("/feedback")
def feedback() -> tuple[Response, int]:
    """Answers 202 at once; the judgement is made in the background and joins the same trace."""
    body = request.get_json()
    with otelbridge.request_context(trace_name="feedback", **who(body)):
        otelbridge.set_trace_io(input=body["comment"], output="queued")
        background.submit(judge, body["comment"])
        return jsonify(status="queued"), 202


@otelbridge.observe(kind="evaluator")
def judge(comment: str) -> str:
    messages = [{"role": "user", "content": f"Is this feedback good or bad? {comment}"}]
    reply = llm.post("/chat", json={"model": "gpt-4o-mini", "messages": messages})
    return str(reply.raise_for_status().json()["content"])


@app.errorhandler(httpx.HTTPError)
def upstream_failed(error: httpx.HTTPError) -> tuple[Response, int]:
    status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 502
    return jsonify(error=str(error)), status


@app.after_request
def show_trace_id(response: Response) -> Response:
    response.headers["X-Trace-Id"] = otelbridge.current_trace_id() or ""
    return response
