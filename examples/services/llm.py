"""llm: one place that talks to the model provider, with a small answer cache and streaming.

Run: `opentelemetry-instrument flask --app llm run --port 8002`. `chat(...)` opens the gen_ai span;
`record(response)` and `stream(chunks)` read model, tokens, finish reasons and messages from what
the openai package returns, so nothing is counted by hand.

Environment: `OPENAI_BASE_URL` and `OPENAI_API_KEY`, read by the openai package itself. The provider
is an untrusted host: no trace context is sent there.
"""

import json
from collections.abc import Iterator
from typing import Any

import openai
from flask import Flask, Response, jsonify, request

import otelbridge

app = Flask(__name__)
client = openai.OpenAI(max_retries=0)  # a retry would hide a second provider call in one span
answers: dict[str, Any] = {}


def parameters(body: dict[str, Any]) -> dict[str, Any]:
    """What the helper and the openai package both take: one dictionary, so that they agree."""
    names = ("model", "messages", "temperature", "tools")
    return {"temperature": 0.2} | {name: body[name] for name in names if body.get(name)}


def provider(model: str) -> str:
    return "anthropic" if model.startswith("claude") else "openai"


@app.post("/chat")
def chat() -> Response:
    asked = parameters(request.get_json())
    key = json.dumps(asked, sort_keys=True)
    hit = answers.get(key)
    cached = hit is not None
    with otelbridge.chat(**asked, provider=provider(asked["model"]), cached=cached) as call:
        response = hit if hit is not None else client.chat.completions.create(**asked)
        call.record(response)
    if len(answers) < 1000:
        answers[key] = response
    message = response.choices[0].message
    tool_calls = [item.to_dict() for item in message.tool_calls or []]
    return jsonify(content=message.content, tool_calls=tool_calls, cached=cached)


@app.post("/chat/stream")
def chat_stream() -> Response:
    asked = parameters(request.get_json())

    def events() -> Iterator[str]:
        try:
            with otelbridge.chat(**asked, provider=provider(asked["model"]), stream=True) as call:
                chunks = client.chat.completions.create(
                    **asked, stream=True, stream_options={"include_usage": True}
                )
                for chunk in call.stream(chunks):
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield f"data: {json.dumps({'text': chunk.choices[0].delta.content})}\n\n"
            yield f"data: {json.dumps({'done': True})}\n\n"
        except openai.APIError as error:  # the status line has left: say it in the stream
            yield f"data: {json.dumps({'error': str(error)})}\n\n"

    return Response(events(), mimetype="text/event-stream")


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.errorhandler(openai.APIError)
def provider_failed(error: openai.APIError) -> tuple[Response, int]:
    return jsonify(error=str(error)), getattr(error, "status_code", 502)
