"""Starlette and FastAPI get what Flask gets: context, report, request id, streams, background."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fastapi
import httpx
import pytest
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import otelbridge
from otelbridge import request_context, semconv
from otelbridge.integrations.asgi import AsgiMiddleware
from tests.bridge.conftest import Bridge

LlmCall = Callable[..., Any]
REPORT = semconv.REPORT_HEADER
SENDER, CALLER, TRACE = "00f067aa0ba902b7", "53995c3f42cd8ad8", "4bf92f3577b34da6a3ce929d0e0e4736"
#: What a caller sends that named its entry span in advance and waits for the report.
ASKING = {
    "traceparent": f"00-{TRACE}-{SENDER}-01",
    "tracestate": f"otelbridge={CALLER}-{SENDER}-p",
}


def starlette_app(*routes: Any) -> Any:
    """A Starlette app with these (path, endpoint) pairs."""
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes])


def fastapi_app(*routes: Any) -> Any:
    """A FastAPI app with the same; its version here makes server spans by itself."""
    app = FastAPI()
    for path, endpoint in routes:
        app.add_route(path, endpoint)
    return app


def plain_app(*routes: Any) -> Any:
    """Any ASGI app: the middleware by hand around one that nobody instruments."""
    inner = starlette_app(*routes)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner.router(scope, receive, send)

    return AsgiMiddleware(app)


KINDS = [starlette_app, fastapi_app, plain_app]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI app with uvicorn on a free loopback port; the base URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


def server_span(bridge: Bridge) -> Any:
    """The one server span that was made, when all have ended."""
    bridge.open_spans.wait(5)
    (span,) = [one for one in bridge.spans() if one.kind is SpanKind.SERVER]
    return span


@pytest.mark.parametrize("make", KINDS)
def test_a_request_has_one_server_span_below_its_caller(bridge: Bridge, make: Any) -> None:
    """Trace id, parent, user and marks; one span for the request, none for each message."""
    bridge.start()

    async def ask(_: Request) -> PlainTextResponse:
        with trace.get_tracer("t").start_as_current_span("work"):
            return PlainTextResponse("ok")

    with TestClient(make(("/ask/{id}", ask))) as client:
        answer = client.get("/ask/7", headers={**ASKING, "baggage": "user.id=u-1"})
    assert answer.text == "ok"
    span = server_span(bridge)
    assert trace.format_trace_id(span.context.trace_id) == TRACE
    assert trace.format_span_id(span.parent.span_id) == SENDER
    work = bridge.one("work")
    assert span.attributes["user.id"] == work.attributes["user.id"] == "u-1"
    assert span.attributes[semconv.LLM_PARENT] == CALLER
    assert not [one for one in bridge.spans() if "http send" in one.name]
    if make is not plain_app:
        assert span.name == "GET /ask/{id}"


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("path", "report"), [("/llm", "yes"), ("/plain", "no"), ("/stream", "maybe")]
)
def test_the_caller_is_told_of_llm_work(
    bridge: Bridge, llm_call: LlmCall, make: Any, path: str, report: str
) -> None:
    """yes with LLM work, no without, maybe when the headers leave before it is known."""
    bridge.start()

    async def llm(_: Request) -> JSONResponse:
        with llm_call():
            return JSONResponse({})

    async def plain(_: Request) -> JSONResponse:
        return JSONResponse({})

    async def stream(_: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "a"
            with llm_call():
                yield "b"

        return StreamingResponse(body())

    client = TestClient(make(("/llm", llm), ("/plain", plain), ("/stream", stream)))
    assert client.get(path, headers=ASKING).headers[REPORT] == report
    assert REPORT not in client.get(path).headers
    bridge.open_spans.wait(5)
    kept = [one for one in bridge.spans() if one.kind is SpanKind.SERVER]
    assert [one.attributes.get(semconv.LLM_KEEP) for one in kept] == [report != "no" or None] * 2


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_streamed_body_stays_in_its_request(
    bridge: Bridge, llm_call: LlmCall, make: Any, asynchronous: bool
) -> None:
    """Spans of every step are below the server span, with the user that the body named."""
    bridge.start()

    def steps() -> Iterator[str]:
        with request_context(user_id="u-2"):
            for number in range(3):
                with llm_call(f"call {number}"):
                    yield f"{number};"

    async def async_steps() -> AsyncIterator[str]:
        for step in steps():
            yield step
            await asyncio.sleep(0)

    async def stream(_: Request) -> StreamingResponse:
        return StreamingResponse(async_steps() if asynchronous else steps())

    with served(make(("/stream", stream))) as url:
        assert httpx.get(f"{url}/stream").text == "0;1;2;"
    span = server_span(bridge)
    for number in range(3):
        call = bridge.one(f"call {number}")
        assert call.context.trace_id == span.context.trace_id
        assert call.attributes["user.id"] == "u-2"
        assert call.attributes[semconv.LLM_PARENT] == trace.format_span_id(span.context.span_id)


@pytest.mark.parametrize("make", KINDS)
def test_request_ids_are_read_or_made_carried_and_echoed(bridge: Bridge, make: Any) -> None:
    """One id on every span, in the metadata, in the baggage and on the response."""
    bridge.start()
    carried = []

    async def ask(_: Request) -> PlainTextResponse:
        carried.append(baggage.get_baggage("langfuse.trace.metadata.request_id"))
        with trace.get_tracer("t").start_as_current_span("work"):
            return PlainTextResponse("ok")

    client = TestClient(make(("/", ask)))
    given = client.get("/", headers={"X-Request-ID": "req-7"}).headers["x-request-id"]
    made = client.get("/").headers["x-request-id"]
    upstream = client.get(
        "/", headers={**ASKING, "baggage": "langfuse.trace.metadata.request_id=up-1"}
    ).headers["x-request-id"]
    assert (given, upstream, len(made)) == ("req-7", "up-1", 32)
    bridge.open_spans.wait(5)
    assert carried == ["req-7", made, "up-1"]
    work = [one.attributes for one in bridge.spans("work")]
    assert [one[semconv.REQUEST_ID] for one in work] == carried
    assert [one["langfuse.trace.metadata.request_id"] for one in work] == carried


@pytest.mark.parametrize("make", KINDS)
def test_an_error_of_the_application_is_on_the_span_and_goes_on(bridge: Bridge, make: Any) -> None:
    """Exception, error.type and status; the client sees what it saw without us."""
    bridge.start()

    async def fail(_: Request) -> PlainTextResponse:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        TestClient(make(("/", fail))).get("/")
    span = server_span(bridge)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "LookupError"
    assert [one.name for one in span.events] == ["exception"]


@pytest.mark.parametrize("make", KINDS)
def test_background_tasks_are_in_the_trace_and_keep_the_entry(
    bridge: Bridge, llm_call: LlmCall, make: Any
) -> None:
    """LLM work after the response hangs below the entry span, which ended with the response."""
    bridge.start()

    async def later() -> None:
        await asyncio.sleep(0.05)
        with llm_call("late"):
            pass

    async def ask(_: Request) -> PlainTextResponse:
        from starlette.background import BackgroundTask

        return PlainTextResponse("ok", background=BackgroundTask(later))

    TestClient(make(("/", ask))).get("/")
    span, late = server_span(bridge), bridge.one("late")
    assert late.attributes[semconv.LLM_PARENT] == trace.format_span_id(span.context.span_id)
    assert span.attributes[semconv.LLM_KEEP] is True
    if make is fastapi_app:
        assert span.end_time < late.end_time


def test_fastapis_own_endpoints_and_background_tasks(bridge: Bridge, llm_call: LlmCall) -> None:
    """Sync and async endpoints with dependencies and BackgroundTasks: one tree."""
    bridge.start()
    app = FastAPI()

    def late() -> None:
        with llm_call("late"):
            pass

    @app.get("/sync/{name}")
    def sync_endpoint(name: str, tasks: BackgroundTasks) -> dict[str, str]:
        tasks.add_task(late)
        with llm_call("sync"):
            return {"name": name}

    assert TestClient(app).get("/sync/x", headers=ASKING).json() == {"name": "x"}
    bridge.open_spans.wait(5)
    assert {one.context.trace_id for one in bridge.spans()} == {int(TRACE, 16)}
    entry = server_span(bridge)
    parents = [bridge.one(name).attributes[semconv.LLM_PARENT] for name in ("sync", "late")]
    assert parents == [trace.format_span_id(entry.context.span_id)] * 2


def test_two_hundred_requests_at_once_never_mix(bridge: Bridge, llm_call: LlmCall) -> None:
    """Each LLM span has its own request's user, session and trace, whoever was served meanwhile."""
    bridge.start()
    arrived = []
    everybody = asyncio.Event()

    async def ask(request: Request) -> StreamingResponse:
        who = request.query_params["who"]
        arrived.append(who)
        if len(arrived) == 200:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), 30)

        async def body() -> AsyncIterator[str]:
            with request_context(user_id=f"u-{who}", session_id=f"s-{who}"):
                for number in range(3):
                    await asyncio.sleep(0)
                    with llm_call(f"{who}.{number}"):
                        yield "x"

        return StreamingResponse(body())

    async def visit() -> None:
        transport = httpx.ASGITransport(starlette_app(("/", ask)))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            answers = await asyncio.gather(
                *(
                    client.get(
                        "/", params={"who": str(n)},
                        headers={"traceparent": f"00-{n + 1:032x}-{SENDER}-01"},
                    )
                    for n in range(200)
                )
            )  # fmt: skip
        assert [one.text for one in answers] == ["xxx"] * 200

    asyncio.run(visit())
    bridge.open_spans.wait(5)
    calls = [one for one in bridge.spans() if "." in one.name]
    assert len(calls) == 600
    for call in calls:
        who = call.name.partition(".")[0]
        assert call.attributes["user.id"] == f"u-{who}"
        assert call.attributes["session.id"] == f"s-{who}"
        assert call.context.trace_id == int(who) + 1


def test_a_generator_with_a_task_for_each_step_keeps_its_request(bridge: Bridge) -> None:
    """An observed async generator that is resumed in other tasks: trace, session and user stay."""
    bridge.start()

    @otelbridge.observe(name="agent")
    async def agent() -> AsyncIterator[str]:
        with request_context(session_id="s-9"):
            for number in range(3):
                with trace.get_tracer("t").start_as_current_span(f"step {number}"):
                    pass
                yield str(number)

    async def drive() -> list[str]:
        with request_context(user_id="u-9"):
            steps = agent()
            items = [await anext(steps)]
        # Where nobody is logged in: as a task group, a queue or `wait_for` does it.
        items += [await asyncio.create_task(_step(steps)) for _ in range(2)]
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(_step(steps))
        return items

    assert asyncio.run(drive()) == ["0", "1", "2"]
    whole = bridge.one("agent")
    for number in range(3):
        step = bridge.one(f"step {number}")
        assert step.parent.span_id == whole.context.span_id
        assert step.attributes["user.id"] == "u-9"
        assert step.attributes["session.id"] == "s-9"


async def _step(steps: AsyncIterator[str]) -> str:
    return await anext(steps)


def test_mounted_apps_and_middleware_make_one_span(bridge: Bridge) -> None:
    """A mounted app, a BaseHTTPMiddleware and the stock middleware: one server span each time."""
    bridge.start()

    async def ask(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def passing(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    inner = starlette_app(("/x/{id}", ask))
    outer = Starlette(
        routes=[Mount("/sub", inner)], middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)]
    )
    assert TestClient(outer).get("/sub/x/1").text == "ok"
    assert server_span(bridge).name == "GET /sub/x/{id}"
    bridge.exporter.clear()
    stock = Starlette(routes=[Route("/", ask)], middleware=[Middleware(OpenTelemetryMiddleware)])
    assert TestClient(stock).get("/", headers=ASKING).headers[REPORT] == "no"
    server_span(bridge)


def test_a_websocket_has_a_span_and_its_messages_pass(bridge: Bridge, llm_call: LlmCall) -> None:
    """Websockets: context and one server span; there is no header to report in."""
    bridge.start()

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        with llm_call("said"):
            await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", talk)])
    with TestClient(app).websocket_connect("/ws", headers=ASKING) as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    span, said = server_span(bridge), bridge.one("said")
    assert said.parent.span_id == span.context.span_id
    assert trace.format_trace_id(span.context.trace_id) == TRACE


def test_a_cancelled_request_is_no_error(bridge: Bridge) -> None:
    """A client that goes away ends the span without an exception on it."""
    bridge.start()

    async def run() -> None:
        waiting = asyncio.Event()

        async def ask(_: Request) -> PlainTextResponse:
            waiting.set()
            await asyncio.Event().wait()
            return PlainTextResponse("never")

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: Any) -> None:
            return None

        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "server": ("a", 80),
        }  # fmt: skip
        task = asyncio.create_task(starlette_app(("/", ask))(scope, receive, send))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    span = server_span(bridge)
    assert not [one for one in span.events if one.attributes.get("exception.type") == "LookupError"]
    assert semconv.ERROR_TYPE not in span.attributes


def test_fastapi_without_spans_of_its_own(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions make no spans: the ASGI middleware does, and the route is in the name."""
    bridge.start()
    app = FastAPI()
    monkeypatch.setattr(app._native_telemetry, "enabled", lambda: False)

    @app.get("/items/{id}")
    async def item(id: int) -> int:
        return id

    assert TestClient(app).get("/items/3", headers=ASKING).headers[REPORT] == "no"
    assert server_span(bridge).name == "GET /items/{id}"
    assert fastapi.__version__
