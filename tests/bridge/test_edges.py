"""Odd requests, odd responses, odd clients: nothing raises, leaks or loses its place."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import httpx
import httpx2
import pytest
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode
from werkzeug.exceptions import Unauthorized
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import EnvironBuilder, run_wsgi_app

from otelbridge import inject, policy, request_context, semconv, view
from otelbridge.integrations import wsgi
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from tests.bridge.conftest import Bridge

LlmCall = Callable[..., Any]
REPORT = semconv.REPORT_HEADER
SENDER = "00f067aa0ba902b7"
#: The caller's entry span, which these tests do not export.
CALLER = "53995c3f42cd8ad8"
#: What a caller sends that named its entry span in advance and waits for the report.
ASKING = {
    "traceparent": f"00-4bf92f3577b34da6a3ce929d0e0e4736-{SENDER}-01",
    "tracestate": f"otelbridge={CALLER}-{SENDER}-p",
}


class Answer:
    """A response as a WSGI server sees it, its body read and closed unless told otherwise."""

    def __init__(
        self, app: Any, path: str, *, method: str = "GET", read: int = -1, close: bool = True
    ) -> None:
        environ = EnvironBuilder(path, method=method, headers=ASKING).get_environ()
        self.status, self.headers = "", {}
        self.written: list[bytes] = []
        before = otel_context.get_current()
        body = app(environ, self._start)
        try:
            self.body = b"".join(part for n, part in enumerate(body) if n != read)
        finally:
            if close and hasattr(body, "close"):
                body.close()
        assert otel_context.get_current() == before, "context left in the worker thread"

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers = status, {k.lower(): v for k, v in headers}
        return self.written.append

    @property
    def report(self) -> str | None:
        """What the caller is told."""
        return self.headers.get(REPORT.lower())


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No OpenTelemetry complaint, above all no "Failed to detach context", and no leftovers."""
    assert otel_context.get_current() == Context()
    yield
    left = otel_context.get_current()
    otel_context.attach(Context())
    assert left == Context()
    complaints = [
        r.getMessage()
        for r in caplog.get_records("call")
        if r.name.startswith(("opentelemetry", "otelbridge"))
        and r.levelno >= logging.WARNING
        and r.name != "opentelemetry.attributes"  # says when a span is full
    ]
    assert complaints == []
    assert view.open_calls() == 0


def exceptions_of(span: Any) -> list[Any]:
    """The exception events of a span."""
    return [event for event in span.events if event.name == "exception"]


@pytest.fixture
def app(bridge: Bridge) -> flask.Flask:
    """An instrumented app with nothing on it."""
    bridge.start()
    return bridge.app("app")


# --- Flask ----------------------------------------------------------------------------------------


def test_a_path_without_route_is_one_span_and_no_llm_work(bridge: Bridge, app: Any) -> None:
    """404: the server span ends, the caller hears "no"."""
    answer = Answer(app, "/nowhere")
    assert (answer.status[:3], answer.report) == ("404", "no")
    assert len(bridge.spans()) == 1
    assert bridge.spans()[0].status.status_code is not StatusCode.ERROR
    assert bridge.view() == {}


def test_before_request_functions_may_answer(bridge: Bridge, app: Any, llm_call: LlmCall) -> None:
    """An early return and an abort are answers like any other, LLM work in them included."""

    @app.before_request
    def _early() -> Any:
        if flask.request.path == "/early":
            with llm_call():
                return "early"
        if flask.request.path == "/denied":
            raise Unauthorized
        return None

    for path in ("/early", "/denied"):
        app.add_url_rule(path, path, lambda: "late")
    assert Answer(app, "/early").report == "yes"
    denied = Answer(app, "/denied")
    assert (denied.status[:3], denied.report) == ("401", "no")
    assert bridge.view() == {"GET /early": f"orphan of {CALLER}", "chat": "GET /early"}
    assert len(bridge.spans("GET /denied")) == 1


def test_an_unhandled_exception_is_recorded_once(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """500: status ERROR, error.type, one exception event with its stack, and the report."""

    @app.get("/fail")
    def _fail() -> str:
        with llm_call():
            pass
        raise LookupError("gone")

    answer = Answer(app, "/fail")
    assert (answer.status[:3], answer.report) == ("500", "yes")
    span = bridge.one("GET /fail")
    (event,) = exceptions_of(span)
    assert "LookupError: gone" in event.attributes["exception.stacktrace"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"]


@pytest.mark.parametrize("outside", [False, True], ids=["teardown", "middleware"])
def test_an_exception_that_leaves_the_app_is_recorded_once(
    bridge: Bridge, app: Any, outside: bool
) -> None:
    """PROPAGATE_EXCEPTIONS and broken middleware: the server answers, the span has one event."""
    if outside:
        inner = app.wsgi_app

        def broken(environ: Any, start_response: Any) -> Any:
            inner(environ, start_response)
            raise LookupError("gone")

        app.wsgi_app = broken
        app.add_url_rule("/fail", "fail", lambda: "x")
    else:
        app.config["PROPAGATE_EXCEPTIONS"] = True

        @app.get("/fail")
        def _fail() -> str:
            raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        Answer(app, "/fail")
    span = bridge.one("GET /fail")
    assert len(exceptions_of(span)) == 1
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "LookupError"


def test_a_handled_exception_is_the_handlers_answer(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """An error handler's 4xx is no error of the service; LLM work in the handler counts."""

    @app.errorhandler(LookupError)
    def _handle(error: LookupError) -> Any:
        with llm_call("apology"):
            return "sorry", 409

    @app.get("/fail")
    def _fail() -> str:
        raise LookupError("gone")

    answer = Answer(app, "/fail")
    assert (answer.status[:3], answer.report) == ("409", "yes")
    span = bridge.one("GET /fail")
    assert exceptions_of(span) == []
    assert span.status.status_code is not StatusCode.ERROR


@pytest.mark.parametrize("held", [False, True], ids=["bare", "stream_with_context"])
def test_an_exception_in_a_stream_is_recorded_once(
    bridge: Bridge, app: Any, llm_call: LlmCall, held: bool
) -> None:
    """The headers are out: the server span still gets status, type and one event."""

    def body() -> Iterator[str]:
        yield "a"
        with llm_call():
            pass
        raise LookupError("gone")

    @app.get("/stream")
    def _stream() -> flask.Response:
        return flask.Response(flask.stream_with_context(body()) if held else body())

    with pytest.raises(LookupError, match="gone"):
        Answer(app, "/stream")
    span = bridge.one("GET /stream")
    assert len(exceptions_of(span)) == 1
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "LookupError"
    assert bridge.one("chat").parent.span_id == span.context.span_id


@pytest.mark.parametrize(
    ("path", "method", "report"),
    [
        ("/stream", "HEAD", "no"),
        ("/none", "GET", "no"),
        ("/same", "GET", "no"),
        ("/moved", "GET", "no"),
        ("/file", "GET", "no"),
        ("/stream", "GET", "maybe"),
        ("/stream", "OPTIONS", "no"),
    ],
)
def test_answers_without_llm_work(
    bridge: Bridge, app: Any, path: str, method: str, report: str, tmp_path: Any
) -> None:
    """HEAD, 204, 304, redirects and files are known to hold no more work; a stream is not."""
    text = tmp_path / "page.txt"
    text.write_text("file")

    def generator() -> Iterator[str]:
        yield "x"

    app.add_url_rule("/stream", "stream", lambda: flask.Response(generator()))
    app.add_url_rule("/none", "none", lambda: ("", 204))
    app.add_url_rule("/same", "same", lambda: ("", 304))
    app.add_url_rule("/moved", "moved", lambda: flask.redirect("/none"))
    app.add_url_rule("/file", "file", lambda: flask.send_file(text))
    answer = Answer(app, path, method=method)
    assert answer.report == report
    if path == "/file":
        assert answer.body == b"file"
    assert len(bridge.spans()) == 1


def test_a_file_handed_to_the_server_keeps_its_type(
    bridge: Bridge, app: Any, tmp_path: Any
) -> None:
    """A server that sends files by itself sees its own wrapper, and the span has ended."""

    class Wrapper:
        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            yield self.file.read()

        def close(self) -> None:
            self.file.close()

    (tmp_path / "f").write_text("file")
    app.add_url_rule("/file", "file", lambda: flask.send_file(tmp_path / "f"))
    environ = EnvironBuilder("/file").get_environ() | {"wsgi.file_wrapper": Wrapper}
    body = app(environ, lambda *_: None)
    assert isinstance(body, Wrapper)
    assert len(bridge.spans("GET /file")) == 1
    body.close()


def test_apps_below_a_dispatcher_have_one_server_span_each_request(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """Mounted beside each other, or inside of a Flask app's wsgi_app."""
    inner = bridge.app("inner")

    @inner.get("/chat")
    def _chat() -> str:
        with llm_call():
            return "inner"

    app.add_url_rule("/page", "page", lambda: "outer")
    beside = DispatcherMiddleware(app, {"/api": inner})
    assert Answer(beside, "/api/chat").report == "yes"
    assert Answer(beside, "/page").report == "no"
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/api": inner})
    nested = Answer(app, "/api/chat")
    assert (nested.body, nested.report) == (b"inner", "yes")
    assert len(bridge.spans("GET /chat")) == 2
    chats = {s.parent.span_id for s in bridge.spans("chat")}
    assert chats == {s.context.span_id for s in bridge.spans("GET /chat")}


def test_an_app_of_an_early_import_is_instrumented_once_under_load(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """`from flask import Flask` before configure(), first requests from eight threads at once."""
    early = flask.Flask  # what `from flask import Flask` had bound
    bridge.start()
    app = early("early")

    @app.get("/chat")
    def _chat() -> str:
        with llm_call():
            return "x"

    barrier = threading.Barrier(8)

    def first(_: int) -> str | None:
        barrier.wait(10)
        return Answer(app, "/chat").report

    with ThreadPoolExecutor(8) as pool:
        reports = list(pool.map(first, range(8)))
    assert reports == ["yes"] * 8
    assert len(bridge.spans("GET /chat")) == 8


def test_the_flask_test_client_works(bridge: Bridge, app: Any, llm_call: LlmCall) -> None:
    """With the client's own response open, closed, or its context kept by `with client`."""

    @app.get("/chat")
    def _chat() -> str:
        with llm_call():
            return "x"

    with app.test_client() as client:
        response = client.get("/chat", headers=ASKING)
        assert response.headers[REPORT] == "yes"
        assert flask.request.path == "/chat"
        response.close()
    app.test_client().get("/chat").close()
    assert len(bridge.spans("GET /chat")) == 2


def test_a_response_that_nobody_closes_ends_when_it_is_dropped(bridge: Bridge, app: Any) -> None:
    """A server that breaks PEP 3333 keeps no span open for longer than the body object."""
    app.add_url_rule("/page", "page", lambda: "x")
    Answer(app, "/page", close=False)
    gc.collect()
    assert len(bridge.spans("GET /page")) == 1


def test_a_request_context_of_a_test_makes_no_span(bridge: Bridge, app: Any) -> None:
    """`test_request_context` runs no request: no span, no error."""
    with app.test_request_context("/page"):
        assert flask.request.path == "/page"
    assert bridge.spans() == []


def test_async_views_keep_their_context(bridge: Bridge, app: Any, llm_call: LlmCall) -> None:
    """LLM work in a coroutine view is below the server span."""
    if importlib.util.find_spec("asgiref") is None:
        pytest.skip("flask[async] is not installed")

    @app.get("/chat")
    async def _chat() -> str:
        await asyncio.sleep(0)
        with llm_call():
            return "x"

    assert Answer(app, "/chat").report == "yes"
    assert bridge.one("chat").parent.span_id == bridge.one("GET /chat").context.span_id


def test_a_copied_request_context_does_not_end_the_request(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """`copy_current_request_context` in a thread tears down its own copy only."""

    @app.get("/chat")
    def _chat() -> str:
        @flask.copy_current_request_context
        def work() -> None:
            with llm_call(flask.request.path):
                pass

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with llm_call("after"):
            return "x"

    assert Answer(app, "/chat").report == "yes"
    server = bridge.one("GET /chat").context.span_id
    assert {bridge.one(name).parent.span_id for name in ("/chat", "after")} == {server}


def test_an_exception_in_close_reaches_the_server_and_the_span(bridge: Bridge, app: Any) -> None:
    """The body's close fails: the span ends all the same, with the error."""

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"

        def close(self) -> None:
            raise OSError("disk")

    app.add_url_rule("/page", "page", lambda: flask.Response(Body()))
    with pytest.raises(OSError, match="disk"):
        Answer(app, "/page")
    span = bridge.one("GET /page")
    assert span.status.status_code is StatusCode.ERROR


def test_a_generator_closed_early_sees_its_context(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """LLM work in the `finally` of an abandoned stream is below the server span."""

    @app.get("/stream")
    def _stream() -> flask.Response:
        def body() -> Iterator[str]:
            try:
                yield "a"
                yield "b"
            finally:
                with llm_call("cleanup"):
                    pass

        return flask.Response(body())

    environ = EnvironBuilder("/stream").get_environ()
    body: Any = app(environ, lambda *_: None)
    next(body)
    body.close()
    span = bridge.one("GET /stream")
    assert bridge.one("cleanup").parent.span_id == span.context.span_id
    assert exceptions_of(span) == []
    assert span.status.status_code is not StatusCode.ERROR


def test_flask_called_with_keywords_works(bridge: Bridge, app: Any) -> None:
    """`app(environ=…, start_response=…)` is what `Flask.__call__` allows."""
    app.add_url_rule("/page", "page", lambda: "x")
    environ = EnvironBuilder("/page").get_environ()
    body = app(environ=environ, start_response=lambda *_: None)
    assert b"".join(body) == b"x"
    body.close()
    assert len(bridge.spans("GET /page")) == 1


# --- WSGI without Flask ---------------------------------------------------------------------------


def traced(inner: Any) -> Any:
    """A WSGI app that starts its server span when it is called, as instrumentations do."""

    def app(environ: Any, start_response: Any) -> Any:
        context = propagate.extract(
            {k[5:].lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
        )
        tracer = trace.get_tracer("plain")
        with tracer.start_as_current_span("server", context=context, kind=SpanKind.SERVER):
            return inner(environ, start_response)

    return lambda environ, start_response: wsgi.serve(app, environ, start_response)


def test_an_app_that_uses_write_is_reported(bridge: Bridge, llm_call: LlmCall) -> None:
    """The imperative `write` of PEP 3333 passes through."""
    bridge.start()

    def app(environ: Any, start_response: Any) -> Any:
        with llm_call():
            pass
        start_response("200 OK", [])(b"written")
        return []

    answer = Answer(traced(app), "/")
    assert (answer.written, answer.report) == ([b"written"], "yes")
    assert bridge.one("chat").parent.span_id == bridge.one("server").context.span_id


def test_a_generator_app_is_reported(bridge: Bridge, llm_call: LlmCall) -> None:
    """An app that starts its span, its work and its response in the first step of its body."""
    bridge.start()

    def app(environ: Any, start_response: Any) -> Any:
        tracer = trace.get_tracer("plain")
        context = propagate.extract(
            {"traceparent": environ["HTTP_TRACEPARENT"], "tracestate": environ["HTTP_TRACESTATE"]}
        )
        with tracer.start_as_current_span("server", context=context, kind=SpanKind.SERVER):
            with llm_call():
                pass
            start_response("200 OK", [])
            yield b"a"
            with llm_call("second"):
                yield b"b"

    answer = Answer(lambda e, s: wsgi.serve(app, e, s), "/")
    assert (answer.body, answer.report) == (b"ab", "yes")
    server = bridge.one("server")
    assert server.attributes[semconv.LLM_PARENT] == CALLER
    assert bridge.one("second").parent.span_id == server.context.span_id
    assert server.end_time >= bridge.one("second").end_time


def test_an_error_answer_replaces_the_headers(bridge: Bridge) -> None:
    """start_response called again with exc_info, by keyword too, as lenient servers allow."""
    bridge.start()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("500 Oops", [("Content-Length", "1")], exc_info=(None, None, None))
        return [b"x"]

    answer = Answer(traced(app), "/")
    assert answer.status == "500 Oops"
    assert answer.report in ("no", "maybe")


def test_only_the_server_span_is_held(bridge: Bridge) -> None:
    """A span of the application that happens to be first ends when its block ends."""
    bridge.start()
    seen: list[bool] = []

    def app(environ: Any, start_response: Any) -> Any:
        with trace.get_tracer("plain").start_as_current_span("work") as span:
            pass
        seen.append(span.is_recording())
        start_response("200 OK", [])
        return [b"x"]

    Answer(lambda e, s: wsgi.serve(app, e, s), "/")
    assert seen == [False]
    assert len(bridge.spans("work")) == 1


# --- HTTP clients ---------------------------------------------------------------------------------


def test_parallel_async_requests_are_all_settled(bridge: Bridge, llm_call: LlmCall) -> None:
    """asyncio.gather over one client: every report finds its own call."""
    bridge.start()
    back = bridge.app("back")

    @back.get("/<int:number>")
    def _back(number: int) -> str:
        if number == 7:
            with llm_call():
                pass
        return str(number)

    base = bridge.serve(back)

    async def ask(numbers: range) -> None:
        async with httpx.AsyncClient(base_url=base) as client:
            with trace.get_tracer("plain").start_as_current_span(f"entry {numbers[0]}"):
                await asyncio.gather(*(client.get(f"/{n}") for n in numbers))

    asyncio.run(ask(range(7)))
    assert bridge.view() == {}
    asyncio.run(ask(range(7, 14)))
    found = bridge.view()
    assert found == {"entry 7": "", "GET /<int:number>": "entry 7", "chat": "GET /<int:number>"}


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_cancelled_async_request_counts_as_llm_work(bridge: Bridge, library: Any) -> None:
    """It was sent and nobody will tell: the entry span is kept and no call stays open."""
    bridge.start()
    listener = socket.create_server(("127.0.0.1", 0))

    async def main() -> None:
        async with library.AsyncClient() as client:
            with trace.get_tracer("plain").start_as_current_span("entry"):
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                task = asyncio.create_task(client.get(url))
                connection, _ = await asyncio.to_thread(listener.accept)
                await asyncio.to_thread(connection.recv, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                connection.close()

    asyncio.run(main())
    listener.close()
    assert bridge.view() == {"entry": ""}


def test_redirects_settle_every_hop(bridge: Bridge, llm_call: LlmCall) -> None:
    """A redirect's own answer and the one behind it: the entry is kept by the second."""
    bridge.start()
    back = bridge.app("back")
    back.add_url_rule("/old", "old", lambda: flask.redirect("/plain"))
    back.add_url_rule("/plain", "plain", lambda: "plain")

    @back.get("/chat")
    def _chat() -> str:
        with llm_call():
            return "x"

    back.add_url_rule("/to-chat", "to-chat", lambda: flask.redirect("/chat"))
    base = bridge.serve(back)
    with httpx.Client(base_url=base, follow_redirects=True) as client:
        with trace.get_tracer("plain").start_as_current_span("plain entry"):
            assert client.get("/old").text == "plain"
        assert view.open_calls() == 0
        with trace.get_tracer("plain").start_as_current_span("llm entry"):
            assert client.get("/to-chat").text == "x"
    assert bridge.view() == {"llm entry": "", "GET /chat": "llm entry", "chat": "GET /chat"}


def test_an_application_that_instrumented_httpx_before_is_served_as_well(
    bridge: Bridge, llm_call: LlmCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our wrapper outside or inside of the stock one: the report is read, nothing stays open."""
    monkeypatch.delattr(httpx.HTTPTransport, "_otelbridge_patched", raising=False)
    for cls, method in (
        (httpx.HTTPTransport, "handle_request"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
    ):
        plain = cls.__dict__[method]
        while hasattr(plain, "__wrapped__"):
            plain = plain.__wrapped__
        monkeypatch.setattr(cls, method, plain)
    HTTPXClientInstrumentor().instrument()
    bridge.start()
    back = bridge.app("back")
    back.add_url_rule("/plain", "plain", lambda: "plain")

    @back.get("/chat")
    def _chat() -> str:
        with llm_call():
            return "x"

    base = bridge.serve(back)
    for path, name in (("/plain", "plain entry"), ("/chat", "llm entry")):
        with trace.get_tracer("plain").start_as_current_span(name):
            httpx.get(base + path)
        assert view.open_calls() == 0
    broken = trace.get_tracer("plain").start_as_current_span("broken")
    with broken, pytest.raises(httpx.ConnectError):
        httpx.get("http://127.0.0.1:1/")
    assert view.open_calls() == 0
    assert bridge.view() == {"llm entry": "", "GET /chat": "llm entry", "chat": "GET /chat"}
    HTTPXClientInstrumentor().uninstrument()


def test_clients_with_hooks_mounts_and_transports(bridge: Bridge, llm_call: LlmCall) -> None:
    """Event hooks that raise, mounted and custom transports, retries: every call is settled."""
    bridge.start()
    back = bridge.app("back")
    back.add_url_rule("/plain", "plain", lambda: "plain")
    base = bridge.serve(back)

    class Custom(httpx.BaseTransport):
        def __init__(self) -> None:
            self._inner = httpx.HTTPTransport(retries=2)

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return self._inner.handle_request(request)

    def refuse(response: httpx.Response) -> None:
        raise httpx.HTTPError("hook")

    start = trace.get_tracer("plain").start_as_current_span
    for client in (
        httpx.Client(transport=Custom()),
        httpx.Client(mounts={"http://": httpx.HTTPTransport()}),
        httpx.Client(proxy=base),
    ):
        with client, start("entry"):
            assert client.get(f"{base}/plain").status_code == 200
        assert view.open_calls() == 0
    client = httpx.Client(event_hooks={"response": [refuse]})
    with client, start("entry"), pytest.raises(httpx.HTTPError, match="hook"):
        client.get(f"{base}/plain")
    assert view.open_calls() == 0
    assert bridge.view() == {}
    assert len(bridge.spans("GET /plain")) == 4


def test_headers_injected_by_hand_leave_no_open_call(bridge: Bridge) -> None:
    """`inject(httpx.Headers())` names nobody in advance: its report could never be told apart."""
    bridge.start()
    back = bridge.app("back")
    back.add_url_rule("/plain", "plain", lambda: "plain")
    base = bridge.serve(back)
    with trace.get_tracer("plain").start_as_current_span("entry"):
        headers = httpx.Headers()
        inject(headers)
        assert "traceparent" in headers
        assert "tracestate" not in headers
        httpx.get(f"{base}/plain", headers=headers)
    assert view.open_calls() == 0
    assert bridge.view() == {}


def test_a_mock_transport_leaves_no_open_call(bridge: Bridge) -> None:
    """A client whose own instance is instrumented and that reaches no HTTP transport of httpx."""
    bridge.start()
    client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    HTTPXClientInstrumentor.instrument_client(client)
    with trace.get_tracer("plain").start_as_current_span("entry"):
        assert client.get("http://svc/").status_code == 200
    assert view.open_calls() == 0


# --- Spans of any shape ---------------------------------------------------------------------------


class Plain:
    """A provider with our processor and nothing else."""

    def __init__(self, **marks: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(
            shutdown_on_exit=False, span_limits=SpanLimits(max_span_attributes=16)
        )
        self.provider.add_span_processor(
            BridgeSpanProcessor(
                context=ContextAttributes(environment="test", release=None),
                marks=ViewMarks(**({"mode": "services", "enabled": True} | marks)),
                next_processor=SimpleSpanProcessor(self.exporter),
            )
        )
        self.tracer = self.provider.get_tracer("plain")

    def attributes(self, name: str) -> dict[str, Any]:
        """The attributes of the one span of that name."""
        (span,) = (s for s in self.exporter.get_finished_spans() if s.name == name)
        return dict(span.attributes or {})


GEN_AI = {semconv.GEN_AI_OPERATION_NAME: "chat"}


@pytest.mark.parametrize("enabled", [True, False])
def test_marks_survive_a_span_with_too_many_attributes(enabled: bool) -> None:
    """The oldest attributes are evicted over the limit; the marks are put back at the end."""
    plain = Plain(enabled=enabled)
    start = plain.tracer.start_as_current_span
    with start("entry") as entry:
        with start("between"), start("chat", attributes=GEN_AI) as span:
            for number in range(40):
                span.set_attribute(f"k{number}", number)
            span.set_attribute(semconv.GEN_AI_OPERATION_NAME, "chat")
        for number in range(40):
            entry.set_attribute(f"k{number}", number)
    chat, top = plain.attributes("chat"), plain.attributes("entry")
    assert policy.in_llm_view(chat) is enabled
    assert policy.in_llm_view(top) is enabled
    if enabled:
        assert policy.view_parent(chat, "?") == trace.format_span_id(entry.context.span_id)
        assert policy.view_parent(top, "?") == ""


def test_spans_ended_twice_are_exported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The second end is the SDK's to complain about."""
    plain = Plain()
    span = plain.tracer.start_span("once")
    span.end()
    span.end()
    assert len(plain.exporter.get_finished_spans()) == 1
    caplog.clear()


def test_ten_thousand_spans_leave_nothing_behind() -> None:
    """Ended or abandoned, in deep and flat trees: no node and no call outlives its spans."""
    plain = Plain()
    gc.collect()
    before = len(view._nodes)
    for number in range(2500):
        with plain.tracer.start_as_current_span("entry"):
            with plain.tracer.start_as_current_span("chat", attributes=GEN_AI):
                propagate.inject({"host": "svc"})
            plain.tracer.start_span("never ended")
            plain.tracer.start_span("own root", context=Context()).end()
        if number % 500 == 0:
            plain.exporter.clear()
    plain.exporter.clear()
    gc.collect()
    assert len(view._nodes) <= before
    assert view.open_calls() == 0


def test_parents_of_any_kind_give_a_place_in_the_view() -> None:
    """Non-recording local parents, unknown ids, links and an empty context: no orphan."""
    plain = Plain()
    unknown = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with plain.tracer.start_as_current_span("entry") as entry:
        bare = NonRecordingSpan(entry.get_span_context())
        contexts = {
            "unknown": trace.set_span_in_context(NonRecordingSpan(unknown), Context()),
            "known": trace.set_span_in_context(bare, Context()),
            "invalid": trace.set_span_in_context(trace.INVALID_SPAN, Context()),
            "empty": Context(),
        }
        for name, context in contexts.items():
            links = [trace.Link(unknown)]
            plain.tracer.start_span(name, context, attributes=GEN_AI, links=links).end()
    parents = {name: policy.view_parent(plain.attributes(name), "?") for name in contexts}
    own = trace.format_span_id(entry.get_span_context().span_id)
    assert parents == {"unknown": "", "known": own, "invalid": "", "empty": ""}


def test_late_children_of_a_freed_parent_are_roots() -> None:
    """Only the ids of the parent are left: the child claims nobody's place."""
    plain = Plain()
    entry = plain.tracer.start_span("entry")
    ids = entry.get_span_context()
    entry.end()
    del entry
    plain.exporter.clear()
    gc.collect()
    context = trace.set_span_in_context(NonRecordingSpan(ids), Context())
    plain.tracer.start_span("late", context, attributes=GEN_AI).end()
    assert policy.view_parent(plain.attributes("late"), "?") == ""


@pytest.mark.parametrize("seed", range(3))
def test_races_between_claim_end_and_answer_break_no_promise(seed: int) -> None:
    """Who was given the entry's name finds it kept; a "no" is never followed by using the caller.

    Many entries, each hit by four threads at random moments.
    """
    rng = random.Random(seed)
    caller = view.Name("c" * 16, False)

    class Span:
        def is_recording(self) -> bool:
            return True

        def set_attribute(self, key: str, value: Any) -> None:
            pass

    for _ in range(400):
        span = Span()
        entry = view.Entry(span, "e" * 16, can_be_kept=True, upstream=caller)
        barrier = threading.Barrier(4)
        named: list[view.Name | None] = []
        results: dict[str, Any] = {}
        pauses = [rng.random() * 1e-4 for _ in range(4)]

        def act(number: int, action: Callable[[], None]) -> None:
            barrier.wait(10)  # noqa: B023  # joined before the next round
            until = time.perf_counter() + pauses[number]  # noqa: B023
            while time.perf_counter() < until:
                pass
            action()

        actions = [
            lambda: named.append(entry.claim()),  # noqa: B023
            lambda: named.append(entry.claim()),  # noqa: B023
            lambda: results.update(kept=entry.end()),  # noqa: B023
            lambda: results.update(answer=entry.answer_caller(True)),  # noqa: B023
        ]
        threads = [
            threading.Thread(target=act, args=(n, action)) for n, action in enumerate(actions)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        names = {name.span_id for name in named if name is not None}
        if "e" * 16 in names:
            assert results["kept"] is True
        if results["answer"] == "no":
            # Claims before the answer would have made it "yes": nobody may name the caller.
            assert "c" * 16 not in names
            assert not results["kept"] or entry.own_parent() == ""


def test_concurrent_requests_leave_clean_worker_threads(
    bridge: Bridge, app: Any, llm_call: LlmCall
) -> None:
    """Streams, errors and request contexts through the same few threads do not mix."""

    @app.get("/<kind>/<int:number>")
    def _work(kind: str, number: int) -> Any:
        def body() -> Iterator[str]:
            with request_context(user_id=f"u-{number}"), llm_call(f"chat {number}"):
                yield "a"
                yield "b"

        if kind == "error":
            raise LookupError(kind)
        return flask.Response(body()) if kind == "stream" else "".join(body())

    kinds = ("plain", "stream", "error")

    def visit(number: int) -> None:
        Answer(app, f"/{kinds[number % 3]}/{number}")
        assert otel_context.get_current() == Context()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(90)))
    chats = [s for s in bridge.spans() if s.name.startswith("chat ")]
    assert len(chats) == 60
    assert all(s.attributes["user.id"] == f"u-{s.name[5:]}" for s in chats)


def test_a_wsgi_server_of_werkzeug_tests_is_served(bridge: Bridge, app: Any) -> None:
    """`werkzeug.test.run_wsgi_app` closes what it was given."""
    app.add_url_rule("/page", "page", lambda: "x")
    rows, status, _ = run_wsgi_app(app, EnvironBuilder("/page").get_environ(), buffered=True)
    assert (list(rows), status) == ([b"x"], "200 OK")
    assert len(bridge.spans("GET /page")) == 1
