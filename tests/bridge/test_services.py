"""The LLM view across real HTTP services: streams, time-outs, resets, background work, hops."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import httpx
import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import sampling

from otelbridge import request_context, view
from tests.bridge.conftest import Bridge

LlmCall = Callable[..., Any]


def visit(url: str, headers: dict[str, str] | None = None) -> str:
    """Ask from outside: with a client that nobody instruments."""
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        # Unread bytes would reset the connection, and werkzeug's development server then does not
        # close the body; the traceback that caplog keeps holds it, and with it the span, open.
        error.read()
        raise


def test_a_request_through_three_services_is_one_trace_with_an_unbroken_view(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """Entry spans of services with LLM work below are kept and chained; HTTP spans are not."""
    bridge.start()
    llm, rag, gateway = (bridge.app(name) for name in ("llm", "rag", "gateway"))

    @llm.get("/llm")
    def _llm() -> str:
        with llm_call():
            return "answer"

    llm_url = bridge.serve(llm)

    @rag.get("/rag")
    def _rag() -> str:
        return httpx.get(f"{llm_url}/llm").text

    rag_url = bridge.serve(rag)

    @gateway.get("/ask")
    def _ask() -> str:
        return httpx.get(f"{rag_url}/rag").text

    assert visit(f"{bridge.serve(gateway)}/ask") == "answer"
    assert bridge.view() == {
        "GET /ask": "",
        "GET /rag": "GET /ask",
        "GET /llm": "GET /rag",
        "chat": "GET /llm",
    }
    assert view.open_calls() == 0


def test_a_request_without_llm_work_is_absent_from_the_view(bridge: Bridge) -> None:
    """A plain page that calls another plain service keeps no span."""
    bridge.start()
    back, front = bridge.app("back"), bridge.app("front")
    back.add_url_rule("/data", view_func=lambda: "data", endpoint="data")
    back_url = bridge.serve(back)

    @front.get("/page")
    def _page() -> str:
        return httpx.get(f"{back_url}/data").text

    visit(f"{bridge.serve(front)}/page")
    assert len(bridge.spans()) >= 3
    assert bridge.view() == {}


def test_a_streamed_answer_through_two_services_stays_in_one_tree(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """LLM work inside streaming bodies is below the server spans, which end with their bodies."""
    bridge.start()
    llm, gateway = bridge.app("llm"), bridge.app("gateway")

    @llm.get("/stream")
    def _stream() -> flask.Response:
        def body() -> Iterator[str]:
            yield "data: 0\n\n"
            with llm_call():
                yield "data: 1\n\n"

        return flask.Response(body(), mimetype="text/event-stream")

    llm_url = bridge.serve(llm)

    @gateway.get("/ask")
    def _ask() -> flask.Response:
        def body() -> Iterator[str]:
            with httpx.stream("GET", f"{llm_url}/stream") as response:
                yield from response.iter_text()

        return flask.Response(body(), mimetype="text/event-stream")

    text = visit(f"{bridge.serve(gateway)}/ask")
    assert "data: 1" in text
    assert bridge.view() == {"GET /ask": "", "GET /stream": "GET /ask", "chat": "GET /stream"}
    server, chat = bridge.one("GET /stream"), bridge.one("chat")
    assert server.end_time >= chat.end_time


def test_a_streamed_body_keeps_its_context_without_stream_with_context(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """Spans of a generator body are children of the server span, also with stream_with_context."""
    bridge.start()
    app = bridge.app("app")

    def body() -> Iterator[str]:
        with llm_call():
            yield "x"

    app.add_url_rule("/bare", "bare", lambda: flask.Response(body()))
    app.add_url_rule("/held", "held", lambda: flask.Response(flask.stream_with_context(body())))
    base = bridge.serve(app)
    for path in ("/bare", "/held"):
        bridge.exporter.clear()
        assert visit(base + path) == "x"
        chat, server = bridge.one("chat"), bridge.one(f"GET {path}")
        assert chat.parent is not None
        assert chat.parent.span_id == server.context.span_id
        assert server.end_time >= chat.end_time


def test_a_streamed_body_keeps_what_it_attached_between_its_steps(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """A request context and a span opened in a body still hold after its first yield."""
    bridge.start()
    app = bridge.app("app")

    @app.get("/stream")
    def _stream() -> flask.Response:
        def body() -> Iterator[str]:
            with request_context(user_id="u-1"), llm_call("agent"):
                yield "a"
                with llm_call():
                    yield "b"
            with llm_call("after"):
                yield "c"

        return flask.Response(body())

    assert visit(f"{bridge.serve(app)}/stream") == "abc"
    chat, after = bridge.one("chat"), bridge.one("after")
    assert chat.parent.span_id == bridge.one("agent").context.span_id
    assert chat.attributes["user.id"] == "u-1"
    assert after.parent.span_id == bridge.one("GET /stream").context.span_id
    assert "user.id" not in after.attributes


def test_a_body_that_the_client_abandons_still_ends_its_spans(
    bridge: Bridge, llm_call: LlmCall, eventually: Callable[..., Any]
) -> None:
    """A client that goes away mid-stream leaves no open span and no open call."""
    bridge.start()
    app = bridge.app("app")

    @app.get("/stream")
    def _stream() -> flask.Response:
        def body() -> Iterator[str]:
            with llm_call():
                for _ in range(100_000):
                    yield "x" * 1000

        return flask.Response(body())

    with urllib.request.urlopen(f"{bridge.serve(app)}/stream", timeout=10) as response:
        response.read(1)
    eventually(lambda: bridge.spans("GET /stream") and bridge.spans("chat"))
    assert bridge.view() == {"GET /stream": "", "chat": "GET /stream"}


def test_a_callee_that_times_out_leaves_no_orphan_and_no_lost_entry(
    bridge: Bridge, llm_call: LlmCall, eventually: Callable[..., Any]
) -> None:
    """The caller gives up first; the callee's later LLM work still finds its parent."""
    bridge.start()
    slow, caller = bridge.app("slow"), bridge.app("caller")
    release = threading.Event()

    @slow.get("/slow")
    def _slow() -> str:
        release.wait(10)
        with llm_call():
            return "late"

    slow_url = bridge.serve(slow)

    @caller.get("/call")
    def _call() -> str:
        try:
            httpx.get(f"{slow_url}/slow", timeout=0.1)
        except httpx.ReadTimeout:
            return "gave up"
        return "?"

    assert visit(f"{bridge.serve(caller)}/call") == "gave up"
    release.set()
    eventually(lambda: bridge.spans("GET /slow"))
    assert bridge.view() == {"GET /call": "", "GET /slow": "GET /call", "chat": "GET /slow"}
    assert view.open_calls() == 0


def test_a_callee_that_resets_the_connection_counts_as_llm_work(bridge: Bridge) -> None:
    """A request that was sent and never answered keeps the caller's entry span."""
    bridge.start()
    listener = socket.create_server(("127.0.0.1", 0))

    def reset_once() -> None:
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()

    threading.Thread(target=reset_once, daemon=True).start()
    caller = bridge.app("caller")

    @caller.get("/call")
    def _call() -> str:
        try:
            httpx.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        except httpx.HTTPError:
            return "reset"
        return "?"

    assert visit(f"{bridge.serve(caller)}/call") == "reset"
    listener.close()
    assert bridge.view() == {"GET /call": ""}


def test_a_refused_connection_is_no_llm_work(bridge: Bridge) -> None:
    """Nothing left the process, so nobody can use the name: the caller stays out of the view."""
    bridge.start()
    caller = bridge.app("caller")

    @caller.get("/call")
    def _call() -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
        except httpx.ConnectError:
            return "refused"
        return "?"

    assert visit(f"{bridge.serve(caller)}/call") == "refused"
    assert bridge.spans("GET /call")
    assert bridge.view() == {}


@pytest.mark.parametrize("status", [500, 404])
def test_an_answer_without_a_report_counts_by_its_status(bridge: Bridge, status: int) -> None:
    """A 5xx says nothing of what runs behind it and counts as yes; a 404 is a plain no."""
    bridge.start()

    def plain(environ: Any, start_response: Any) -> list[bytes]:
        start_response(f"{status} X", [("Content-Length", "0")])
        return [b""]

    url = bridge.serve(plain)
    caller = bridge.app("caller")

    @caller.get("/call")
    def _call() -> str:
        return str(httpx.get(url).status_code)

    assert visit(f"{bridge.serve(caller)}/call") == str(status)
    assert bridge.view() == ({"GET /call": ""} if status == 500 else {})


def test_background_llm_work_after_a_202_is_a_root_of_its_own(
    bridge: Bridge, llm_call: LlmCall, eventually: Callable[..., Any]
) -> None:
    """The answer said no and the entry span is gone, so the late LLM span names neither."""
    bridge.start()
    worker, caller = bridge.app("worker"), bridge.app("caller")
    answered = threading.Event()
    pool = ThreadPoolExecutor(1)

    @worker.post("/job")
    def _job() -> tuple[str, int]:
        def work() -> None:
            answered.wait(10)
            with llm_call("late chat"):
                pass

        pool.submit(work)
        return "accepted", 202

    worker_url = bridge.serve(worker)

    @caller.get("/call")
    def _call() -> str:
        return str(httpx.post(f"{worker_url}/job").status_code)

    assert visit(f"{bridge.serve(caller)}/call") == "202"
    eventually(lambda: bridge.spans("POST /job") and bridge.spans("GET /call"))
    answered.set()
    eventually(lambda: bridge.spans("late chat"))
    pool.shutdown()
    assert bridge.view() == {"late chat": ""}
    late, job = bridge.one("late chat"), bridge.one("POST /job")
    assert late.context.trace_id == job.context.trace_id


def test_a_background_task_that_overlaps_the_answer_keeps_the_entry_as_a_root(
    bridge: Bridge, llm_call: LlmCall, eventually: Callable[..., Any]
) -> None:
    """LLM work between the answer "no" and the end of the server span re-roots the entry."""
    bridge.start()
    worker, caller = bridge.app("worker"), bridge.app("caller")
    headers_sent, done = threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(1)

    @worker.get("/job")
    def _job() -> flask.Response:
        def work() -> None:
            headers_sent.wait(10)
            with llm_call("side chat"):
                pass
            done.set()

        pool.submit(work)

        def body() -> Iterator[bytes]:
            headers_sent.set()  # the first step of the body: the headers are out
            done.wait(10)
            yield b"ok"

        # A Content-Length says that the body is known, so the answer is "no", not "maybe".
        return flask.Response(body(), headers={"Content-Length": "2"})

    worker_url = bridge.serve(worker)

    @caller.get("/call")
    def _call() -> str:
        return httpx.get(f"{worker_url}/job").text

    assert visit(f"{bridge.serve(caller)}/call") == "ok"
    eventually(lambda: bridge.spans("GET /job") and bridge.spans("GET /call"))
    pool.shutdown()
    assert bridge.view() == {"GET /job": "", "side chat": "GET /job"}


def test_a_plain_otel_hop_in_between_breaks_nothing(bridge: Bridge, llm_call: LlmCall) -> None:
    """Behind a hop that only forwards tracestate, the receiver's entry span is a root."""
    bridge.start()
    llm, caller = bridge.app("llm"), bridge.app("caller")

    @llm.get("/llm")
    def _llm() -> str:
        with llm_call():
            return "answer"

    llm_url = bridge.serve(llm)

    def hop(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # What a service with another vendor's OTel SDK sends on: its own span id, same tracestate.
        version, trace_id, _, flags = environ["HTTP_TRACEPARENT"].split("-")
        with socket.create_connection(("127.0.0.1", int(llm_url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(
                f"GET /llm HTTP/1.0\r\nHost: 127.0.0.1\r\n"
                f"traceparent: {version}-{trace_id}-{'ab' * 8}-{flags}\r\n"
                f"tracestate: {environ.get('HTTP_TRACESTATE', '')}\r\n\r\n".encode()
            )
            while connection.recv(65536):
                pass
        start_response("200 OK", [("Content-Length", "3")])
        return [b"hop"]

    hop_url = bridge.serve(hop)

    @caller.get("/provisional")
    def _provisional() -> str:
        return httpx.get(hop_url).text

    @caller.get("/firm")
    def _firm() -> str:
        with llm_call("outer chat"):
            return httpx.get(hop_url).text

    base = bridge.serve(caller)
    assert visit(f"{base}/provisional") == "hop"
    assert bridge.view() == {"GET /llm": "", "chat": "GET /llm"}
    bridge.exporter.clear()
    assert visit(f"{base}/firm") == "hop"
    assert bridge.view() == {
        "GET /firm": "",
        "outer chat": "GET /firm",
        "GET /llm": "outer chat",
        "chat": "GET /llm",
    }


def test_an_unsampled_parent_is_never_named(bridge: Bridge, llm_call: LlmCall) -> None:
    """A callee that samples what its caller did not is a root of its own view."""
    bridge.start(
        sampler=sampling.ParentBased(
            sampling.ALWAYS_ON, remote_parent_not_sampled=sampling.ALWAYS_ON
        )
    )
    llm = bridge.app("llm")

    @llm.get("/llm")
    def _llm() -> str:
        with llm_call():
            return "answer"

    headers = {
        "traceparent": f"00-{'12' * 16}-{'34' * 8}-00",
        "tracestate": f"otelbridge={'56' * 8}-{'78' * 8}-p",
    }
    visit(f"{bridge.serve(llm)}/llm", headers)
    assert bridge.view() == {"GET /llm": "", "chat": "GET /llm"}
    assert trace.format_trace_id(bridge.one("chat").context.trace_id) == "12" * 16


def test_an_unsampled_local_span_names_nobody(bridge: Bridge) -> None:
    """The request of a span that is not exported carries no provisional member."""
    bridge.start(sampler=sampling.ALWAYS_OFF)
    with trace.get_tracer("t").start_as_current_span("root"):
        headers = httpx.Headers({"host": "svc"})
        propagate.inject(headers)
    assert int(headers["traceparent"][-2:], 16) & 1 == 0  # bit 0: sampled (W3C level 2 uses bit 1)
    assert "tracestate" not in headers


def test_a_queue_message_names_nobody_in_advance(bridge: Bridge, llm_call: LlmCall) -> None:
    """Where no report can come back, the consumer's entry span is a root of the view."""
    from otelbridge import extract, inject

    bridge.start()
    tracer = trace.get_tracer("plain")
    message: dict[str, str] = {}
    with tracer.start_as_current_span("produce"):
        inject(message, form="queue")
    assert "tracestate" not in message
    with tracer.start_as_current_span("consume", context=extract(message)), llm_call():
        pass
    assert bridge.view() == {"consume": "", "chat": "consume"}
    assert bridge.one("consume").context.trace_id == bridge.one("produce").context.trace_id


def test_a_queue_message_sent_from_llm_work_is_a_child_of_it(
    bridge: Bridge, llm_call: LlmCall
) -> None:
    """A firm name needs no report: the consumer hangs below the agent that sent the message."""
    from otelbridge import extract, inject

    bridge.start()
    message: list[tuple[str, bytes]] = []
    with llm_call("agent"):
        inject(message, form="queue")
    tracer = trace.get_tracer("plain")
    with tracer.start_as_current_span("consume", context=extract(message)), llm_call():
        pass
    assert bridge.view() == {"agent": "", "consume": "agent", "chat": "consume"}


def test_a_span_that_turns_gen_ai_late_has_a_parent_in_the_view(bridge: Bridge) -> None:
    """Attributes set after the start still put the span, and its entry span, into the view."""
    bridge.start()
    tracer = trace.get_tracer("plain")
    entry = tracer.start_as_current_span("entry")
    with entry, tracer.start_as_current_span("late") as span:
        span.set_attribute("gen_ai.request.model", "m")
    assert bridge.view() == {"entry": "", "late": "entry"}


def test_a_late_gen_ai_span_after_its_entry_is_a_root(bridge: Bridge) -> None:
    """The entry span had ended outside of the view, so the late span must not name it."""
    bridge.start()
    tracer = trace.get_tracer("plain")
    entry = tracer.start_span("entry")
    late = tracer.start_span("late", context=trace.set_span_in_context(entry))
    entry.end()
    late.set_attribute("gen_ai.request.model", "m")
    late.end()
    assert bridge.view() == {"late": ""}


def test_concurrent_requests_do_not_mix(bridge: Bridge, llm_call: LlmCall) -> None:
    """Fifty parallel requests, half with LLM work: each has its own trace and its own answer."""
    bridge.start()
    llm, gateway = bridge.app("llm"), bridge.app("gateway")

    @llm.get("/<int:number>")
    def _llm(number: int) -> str:
        if number % 2:
            with llm_call(f"chat {number}"):
                pass
        return str(number)

    llm_url = bridge.serve(llm)

    @gateway.get("/ask/<int:number>")
    def _ask(number: int) -> str:
        with trace.get_tracer("plain").start_as_current_span(f"work {number}"):
            return httpx.get(f"{llm_url}/{number}").text

    base = bridge.serve(gateway)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: visit(f"{base}/ask/{n}"), range(50)))
    assert texts == [str(n) for n in range(50)]
    chats = [s for s in bridge.spans() if s.name.startswith("chat")]
    assert len(chats) == 25
    assert len({s.context.trace_id for s in chats}) == 25
    assert not [parent for parent in bridge.view().values() if parent.startswith("orphan")]
    assert view.open_calls() == 0
