"""One stand-in for three model providers: the APIs of OpenAI, Anthropic and Ollama.

Run: `flask --app provider run --port 9100`. OpenAI's part is `../services/upstream.py`, whose
answers and commands (`[[status=429]]`, `[[latency=1]]`) hold here too; added are Anthropic's
`POST /v1/messages`, Ollama's `POST /api/chat`, and 404 for an embedding model that is not known.
An answer begins with the first line of the prompt's `Context:`, which is how a recipe gets SQL.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from flask import Response, jsonify, request

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "services"))

from upstream import COMMAND, MODELS, answer, app, tokens


def asked(messages: list[dict[str, Any]]) -> tuple[int, dict[str, float]]:
    """Tokens of the input, and the commands in the last message."""
    commands = COMMAND.findall(str(messages[-1]["content"]))
    wish = {name: float(value) for name, value in commands}
    time.sleep(min(wish.get("latency", 0.0), 60))
    return sum(tokens(str(one["content"])) + 3 for one in messages), wish


@app.before_request
def unknown_embedder() -> Response | None:
    if request.path != "/v1/embeddings" or request.get_json()["model"] in MODELS:
        return None
    error = {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}
    return Response(json.dumps({"error": error}), 404, mimetype="application/json")


@app.post("/v1/messages")
def claude() -> tuple[Response, int]:
    body = request.get_json()
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    messages = [*system, *body["messages"]]
    given, wish = asked(messages)
    if status := int(wish.get("status", 0)):
        kind = "overloaded_error" if status == 529 else "api_error"
        return jsonify(type="error", error={"type": kind, "message": "asked to fail"}), status
    text = answer(messages)
    usage = {"input_tokens": given, "output_tokens": tokens(text)}
    return jsonify(
        id=f"msg_{given}{tokens(text)}", type="message", role="assistant", model=body["model"],
        content=[{"type": "text", "text": text}], stop_reason="end_turn", stop_sequence=None,
        usage=usage,
    ), 200  # fmt: skip


@app.post("/api/chat")
def ollama() -> tuple[Response, int]:
    body = request.get_json()
    given, wish = asked(body["messages"])
    if status := int(wish.get("status", 0)):
        return jsonify(error="asked to fail"), status
    text = re.sub(r" \(answer \w+\)$", "", answer(body["messages"]))
    return jsonify(
        model=body["model"], created_at="2026-01-01T00:00:00Z", done=True, done_reason="stop",
        message={"role": "assistant", "content": text},
        prompt_eval_count=given, eval_count=tokens(text), total_duration=1_000_000,
    ), 200  # fmt: skip
