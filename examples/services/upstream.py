"""A stand-in for a model provider: the OpenAI wire format, deterministic answers, faults on demand.

`POST /v1/chat/completions` (JSON and SSE), `POST /v1/embeddings`, `GET /v1/models`. The last user
message may hold commands: `[[latency=3.2]]` seconds before the first byte, `[[delay=0.1]]` seconds
between chunks, `[[status=429]]` an error answer, `[[break=2]]` the connection drops after two
chunks, `[[cached=64]]` and `[[reasoning=32]]` tokens in the usage. A tool is called when tools are
offered and the last message names an id such as `A-17`. `GET /_headers` shows the headers of each
request received, `DELETE /_headers` forgets them. It is never instrumented: it is someone else's.
"""

import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

app = Flask(__name__)
seen: deque[dict[str, Any]] = deque(maxlen=1000)
COMMAND = re.compile(r"\[\[(\w+)=([\d.]+)\]\]\s*")
ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_exceeded"}
MODELS = ("gpt-4o", "gpt-4o-mini", "o4-mini", "claude-sonnet-4-5", "text-embedding-3-small")


def tokens(text: str) -> int:
    """Roughly what a tokenizer would say: words and punctuation marks."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def answer(messages: list[dict[str, Any]]) -> str:
    """The same words for the same messages: what a tool said, then the first line of context."""
    said = [str(message.get("content") or "") for message in messages]
    tools = [str(m.get("content")) for m in messages if m.get("role") == "tool"]
    context = re.search(r"Context:\n- (.+)", "\n".join(said))
    question = COMMAND.sub("", next((m["content"] for m in reversed(messages)
                                     if m.get("role") == "user"), "")).strip()
    facts = [f"The tool reports {tools[-1]}." if tools else "", context[1] if context else ""]
    digest = hashlib.sha256(question.encode()).hexdigest()[:6]
    return " ".join([*filter(None, facts), f"You asked: {question} (answer {digest})"])


def tool_calls(body: dict[str, Any], prompt: str) -> list[dict[str, Any]]:
    """A call of the first tool offered, when the last message is a user's and names an id."""
    named = re.search(r"\b[A-Z]{1,3}-\d+\b", COMMAND.sub("", prompt))
    if not body.get("tools") or not named or body["messages"][-1].get("role") != "user":
        return []
    function = body["tools"][0]["function"]
    parameters = function.get("parameters", {})
    key = (parameters.get("required") or list(parameters.get("properties", {})) or ["id"])[0]
    call = {"name": function["name"], "arguments": json.dumps({key: named[0]})}
    return [{"id": f"call_{named[0]}", "type": "function", "function": call}]


@app.before_request
def remember() -> None:
    if not request.path.startswith("/_"):
        seen.append({"path": request.path, "headers": dict(request.headers)})


@app.post("/v1/chat/completions")
def chat() -> Response:
    body = request.get_json()
    prompt = next((str(m.get("content")) for m in reversed(body["messages"])
                   if m.get("role") == "user"), "")
    wish = {name: float(value) for name, value in COMMAND.findall(prompt)}
    time.sleep(min(wish.get("latency", 0.0), 60))
    if status := int(wish.get("status", 0)):
        kind = ERRORS.get(status, "server_error")
        error = {"message": f"The upstream was asked to answer {status}.", "type": kind,
                 "param": None, "code": kind}
        return Response(json.dumps({"error": error}), status, mimetype="application/json")
    calls = tool_calls(body, prompt)
    text = "" if calls else answer(body["messages"])
    spoken, reasoning = tokens(text or json.dumps(calls)), int(wish.get("reasoning", 0))
    asked = sum(tokens(str(m.get("content") or "")) + 3 for m in body["messages"])
    usage = {
        "prompt_tokens": asked, "completion_tokens": spoken + reasoning,
        "total_tokens": asked + spoken + reasoning,
        "prompt_tokens_details": {"cached_tokens": min(asked, int(wish.get("cached", 0)))},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]
    head = {"id": f"chatcmpl-{digest}", "created": int(time.time()), "model": body["model"]}
    reason = "tool_calls" if calls else "stop"
    if body.get("stream"):
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        events = stream(head, text, calls, reason, usage if with_usage else None, wish)
        return Response(events, mimetype="text/event-stream")
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": reason}
    reply = json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    return Response(broken(reply[:40]) if "break" in wish else reply, mimetype="application/json")


def broken(text: str) -> Iterator[str]:
    """A body whose end never comes: the connection closes without the last chunk."""
    yield text
    raise ConnectionResetError("asked to break off")


def stream(head: dict[str, Any], text: str, calls: list[dict[str, Any]], reason: str,
           usage: dict[str, Any] | None, wish: dict[str, float]) -> Iterator[str]:
    """SSE chunks as OpenAI sends them: role, words (or the tool call), reason, usage, [DONE]."""
    indexed = [{"index": i, **call} for i, call in enumerate(calls)]
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"tool_calls": [call]}, None) for call in indexed]
    deltas += [({"content": word}, None) for word in re.findall(r"\S+\s*", text)]
    deltas.append(({}, reason))
    for number, (delta, finish) in enumerate(deltas):
        if number and number == int(wish.get("break", 0)):
            raise ConnectionResetError("asked to break off")
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice], "usage": None}
        yield f"data: {json.dumps(chunk)}\n\n"
        time.sleep(min(wish.get("delay", 0.0), 5))
    if usage is not None:
        chunk = {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/v1/embeddings")
def embeddings() -> Response:
    """Bag-of-words vectors of 256 numbers: texts that share words are near each other."""
    body = request.get_json()
    texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
    data = []
    for index, text in enumerate(texts):
        vector = [0.0] * 256
        for word in re.findall(r"[a-z]{3,}", COMMAND.sub("", text).lower()):
            vector[hashlib.sha256(word.encode()).digest()[0]] += 1.0
        length = sum(x * x for x in vector) ** 0.5 or 1.0
        data.append({"object": "embedding", "index": index,
                     "embedding": [x / length for x in vector]})
    used = sum(tokens(text) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return jsonify(object="list", data=data, model=body["model"], usage=usage)


@app.get("/v1/models")
def models() -> Response:
    known = [{"id": m, "object": "model", "created": 0, "owned_by": "mock"} for m in MODELS]
    return jsonify(object="list", data=known)


@app.route("/_headers", methods=["GET", "DELETE"])
def headers() -> Response:
    if request.method == "DELETE":
        seen.clear()
    return jsonify(list(seen))
