"""A service with secrets in every place that a span has text in; run as a process by the test.

Flask and httpx as they are instrumented, the helpers, and a span of a library that knows nothing of
otelbridge. Canaries are read from a file, so that no line of this source, which stack traces show,
has one. Its one argument is that file.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import otelbridge

canaries = iter(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
otelbridge.configure()

import flask  # noqa: E402 - instrumented on import, as in an application that calls configure first
import httpx  # noqa: E402
from opentelemetry import trace  # noqa: E402
from opentelemetry.trace import Link, SpanContext, Status, StatusCode  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

app = flask.Flask("canaries")
app.testing = False


@app.post("/ask/<path:rest>")
def ask(rest: str) -> str:
    body = flask.request.get_json()
    messages = [{"role": "user", "content": f"Question: {body['prompt']}\nThanks."}]
    with otelbridge.chat("gpt-4o", provider="openai", messages=messages) as call:
        call.set_output(f"I understand that it is {body['answer']}.")
    with otelbridge.execute_tool("lookup", arguments={"q": [body["tool"]], "n": 3}) as tool:
        tool.set_result({"rows": [body["row"]]})
    otelbridge.set_trace_io(input=body["input"], output={"text": body["output"]})
    return "done"


@app.get("/fail")
def fail() -> str:
    raise RuntimeError(f"cannot reach {flask.request.headers['x-canary-free']}")


def foreign(secret: list[str]) -> None:
    """A library's span: plain OpenTelemetry, its own keys."""
    tracer = trace.get_tracer("opentelemetry.instrumentation.redis")
    link = Link(SpanContext(1, 2, is_remote=True), {"why": secret[0]})
    with tracer.start_as_current_span(f"SET {secret[1]}", links=[link]) as span:
        span.set_attribute("db.statement", f"SET session '{secret[2]}'")
        span.set_attribute("list", ["a", secret[3]])
        span.add_event(f"retry for {secret[4]}", {"log.message": f"value {secret[5]} refused"})
        span.set_attribute("payload", json.dumps({"a": {"b": [f"x\n{secret[6]}"]}}))
        span.set_status(Status(StatusCode.ERROR, f"no answer for {secret[7]}"))
        with contextlib.suppress(ValueError):
            raise_and_record(span, secret[8])


def raise_and_record(span: trace.Span, secret: str) -> None:
    try:
        raise ValueError(f"bad value {secret} given")
    except ValueError as error:
        span.record_exception(error)
        raise


@otelbridge.observe
def step(question: str) -> str:
    return f"answer to {question}"


def take(count: int) -> list[str]:
    return [next(canaries) for _ in range(count)]


def one_round(client: httpx.Client) -> None:
    """Twenty canaries."""
    foreign(take(9))
    names = ("prompt", "answer", "tool", "row", "input", "output")
    body = dict(zip(names, take(6), strict=True))
    with otelbridge.request_context(user_id="u-1", metadata={"note": take(1)[0]}):
        client.post(f"/ask/{quote(take(1)[0], safe='')}", json=body)
    client.get("/fail", params={"q": take(1)[0]}, headers={"x-canary-free": take(1)[0]})
    step(question=take(1)[0])


def main() -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.port}"
    client = httpx.Client(base_url=base, timeout=20, trust_env=False)
    with client, contextlib.suppress(StopIteration):
        while True:
            one_round(client)
    server.shutdown()
    print("flushed" if otelbridge.flush(20) else "not flushed")  # noqa: T201 - for the test


main()
