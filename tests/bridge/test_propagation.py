"""What leaves the process and what is believed: trusted hosts, edges, headers by hand."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import httpx
import httpx2
import openai
import pytest
from opentelemetry import baggage, propagate, trace

import otelbridge
from otelbridge import propagation
from otelbridge.context import request_context
from tests.bridge.conftest import Bridge
from tests.bridge.test_services import visit

CONTEXT_HEADERS = ("traceparent", "tracestate", "baggage")
LlmCall = Callable[..., Any]


class Listener:
    """A stand-in for somebody else's HTTP service: records the headers of every request."""

    def __init__(self, host: str) -> None:
        self.requests: list[dict[str, list[str]]] = []
        listener = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                headers: dict[str, list[str]] = {}
                for name, value in self.headers.items():
                    headers.setdefault(name.lower(), []).append(value)
                listener.requests.append(headers)
                location = self.path.partition("?to=")[2]
                self.send_response(302 if location else 200)
                if location:
                    self.send_header("Location", location)
                body = json.dumps({"object": "list", "data": []}).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.url = f"http://{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def context_headers(self) -> list[dict[str, list[str]]]:
        """The context headers of each request."""
        return [{k: v for k, v in r.items() if k in CONTEXT_HEADERS} for r in self.requests]


@pytest.fixture
def outside() -> Iterator[Listener]:
    """A listener on 127.0.0.2, which the tests below take out of the trusted hosts."""
    listener = Listener("127.0.0.2")
    yield listener
    listener.close()


@pytest.fixture
def inside() -> Iterator[Listener]:
    """A listener on a trusted address."""
    listener = Listener("127.0.0.1")
    yield listener
    listener.close()


def _httpx_sync(url: str) -> None:
    httpx.get(url)


def _httpx_async(url: str) -> None:
    async def call() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(call())


def _httpx2_sync(url: str) -> None:
    httpx2.get(url)


def _httpx2_async(url: str) -> None:
    async def call() -> None:
        async with httpx2.AsyncClient() as client:
            await client.get(url)

    asyncio.run(call())


def _openai(url: str) -> None:
    openai.OpenAI(base_url=url, api_key="test", max_retries=0).models.list()


def _openai_async(url: str) -> None:
    async def call() -> None:
        client = openai.AsyncOpenAI(base_url=url, api_key="test", max_retries=0)
        await client.models.list()
        await client.close()

    asyncio.run(call())


CLIENTS = [_httpx_sync, _httpx_async, _httpx2_sync, _httpx2_async, _openai, _openai_async]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: c.__name__.strip("_"))
def test_an_untrusted_host_gets_no_context_and_a_trusted_one_gets_all_three(
    bridge: Bridge,
    inside: Listener,
    outside: Listener,
    llm_call: LlmCall,
    client: Callable[[str], None],
) -> None:
    """traceparent, tracestate and baggage go to trusted hosts only; the client span is kept."""
    bridge.start(trusted=("!127.0.0.2",))
    with request_context(user_id="u-1"), llm_call():
        client(outside.url)
        client(inside.url)
    assert outside.context_headers() == [{}]
    (headers,) = inside.context_headers()
    assert set(headers) == set(CONTEXT_HEADERS)
    assert headers["baggage"] == ["user.id=u-1"]
    assert [span.name for span in bridge.spans()].count("GET") == 2


def test_headers_put_on_by_hand_are_taken_off_at_an_untrusted_host(
    bridge: Bridge, outside: Listener
) -> None:
    """A traceparent that the application wrote itself does not reach an untrusted host."""
    bridge.start(trusted=("!127.0.0.2",))
    with trace.get_tracer("t").start_as_current_span("work"):
        headers: dict[str, str] = {"x-own": "1"}
        otelbridge.inject(headers)
        assert "traceparent" in headers
        httpx.get(outside.url, headers=headers)
    (seen,) = outside.requests
    assert seen["x-own"] == ["1"]
    assert outside.context_headers() == [{}]


def test_a_forged_host_header_does_not_make_a_host_trusted(
    bridge: Bridge, outside: Listener
) -> None:
    """The URL decides, not the Host header."""
    bridge.start(trusted=("!127.0.0.2",))
    with trace.get_tracer("t").start_as_current_span("work"):
        httpx.get(outside.url, headers={"host": "localhost"})
    assert outside.context_headers() == [{}]


def test_a_redirect_to_an_untrusted_host_loses_the_headers(
    bridge: Bridge, inside: Listener, outside: Listener
) -> None:
    """Each hop is decided by itself."""
    bridge.start(trusted=("!127.0.0.2",))
    with trace.get_tracer("t").start_as_current_span("work"):
        httpx.get(f"{inside.url}/?to={outside.url}/", follow_redirects=True)
    assert "traceparent" in inside.context_headers()[0]
    assert outside.context_headers() == [{}]


def test_manual_and_automatic_injection_give_exactly_one_traceparent(
    bridge: Bridge, inside: Listener
) -> None:
    """The instrumentation replaces what `inject` wrote, with the client span as the parent."""
    bridge.start()
    with trace.get_tracer("t").start_as_current_span("work"):
        headers: dict[str, str] = {}
        otelbridge.inject(headers)
        httpx.get(inside.url, headers=headers)
    (seen,) = inside.context_headers()
    client_span = bridge.one("GET")
    assert len(seen["traceparent"]) == 1
    assert trace.format_span_id(client_span.context.span_id) in seen["traceparent"][0]


def test_inject_and_extract_by_hand_join_a_trace(bridge: Bridge) -> None:
    """`inject(headers)` and `extract(request.headers)` work as in the OpenTelemetry guides."""
    bridge.start()
    app = flask.Flask("plain")  # replaced class or not: extract is called by hand
    seen: list[int] = []

    def handler() -> str:
        context = otelbridge.extract(flask.request.headers)
        seen.append(trace.get_current_span(context).get_span_context().trace_id)
        return "ok"

    app.add_url_rule("/", view_func=handler)
    with trace.get_tracer("t").start_as_current_span("work") as span:
        headers: dict[str, str] = {}
        otelbridge.inject(headers)
    visit(bridge.serve(app), headers)
    assert seen == [span.get_span_context().trace_id]


def test_a_withheld_host_is_logged_once(
    bridge: Bridge, outside: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """One line per host names the variable; the header's value is in no log line."""
    bridge.start(trusted=("!127.0.0.2",))
    propagation._withheld.clear()
    with caplog.at_level(logging.INFO), request_context(user_id="canary-user"):
        for _ in range(3):
            httpx.get(outside.url)
    lines = [r.getMessage() for r in caplog.records if "OTELBRIDGE_TRUSTED_HOSTS" in r.getMessage()]
    assert len(lines) == 1
    assert "127.0.0.2" in lines[0]
    assert "canary-user" not in caplog.text


def test_a_carrier_without_a_host_gets_nothing(bridge: Bridge) -> None:
    """An instrumentation whose carrier names no host may talk to anybody."""
    bridge.start()
    carrier: dict[str, str] = {}
    with trace.get_tracer("t").start_as_current_span("work"):
        propagate.inject(carrier)
    assert carrier == {}


def test_an_edge_starts_a_new_trace_linked_to_the_caller(bridge: Bridge) -> None:
    """With OTELBRIDGE_TRUST_INBOUND=false the caller chooses neither trace id nor baggage."""
    bridge.start(trust_inbound=False)
    app = bridge.app("edge")
    seen: list[dict[str, Any]] = []

    @app.get("/")
    def _root() -> str:
        seen.append(dict(baggage.get_all()))
        return "ok"

    visit(
        bridge.serve(app),
        {
            "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
            "tracestate": f"otelbridge={'cd' * 8}-{'cd' * 8}-p",
            "baggage": "user.id=planted",
        },
    )
    server = bridge.one("GET /")
    assert trace.format_trace_id(server.context.trace_id) != "ab" * 16
    assert server.parent is None
    (link,) = server.links
    assert trace.format_trace_id(link.context.trace_id) == "ab" * 16
    assert trace.format_span_id(link.context.span_id) == "cd" * 8
    assert [set(members) for members in seen] == [{"langfuse.trace.metadata.request_id"}]
    assert "user.id" not in (server.attributes or {})


def test_an_edge_is_not_silenced_by_an_unsampled_caller(bridge: Bridge) -> None:
    """A `-00` from outside does not switch tracing off behind an edge."""
    bridge.start(trust_inbound=False)
    app = bridge.app("edge")
    app.add_url_rule("/", view_func=lambda: "ok")
    visit(bridge.serve(app), {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-00"})
    assert bridge.one("GET /")


# W3C Trace Context level 1, section 3.2 and the tests of its repository: which headers are valid.
@pytest.mark.parametrize(
    ("traceparent", "valid"),
    [
        ("00-12345678901234567890123456789012-1234567890123456-01", True),
        ("00-12345678901234567890123456789012-1234567890123456-00", True),
        ("00-12345678901234567890123456789012-1234567890123456-03", True),
        ("cc-12345678901234567890123456789012-1234567890123456-01", True),
        ("cc-12345678901234567890123456789012-1234567890123456-01-what-the-future", True),
        ("cc-12345678901234567890123456789012-1234567890123456-01.what", False),
        ("00-12345678901234567890123456789012-1234567890123456-01-extra", False),
        ("ff-12345678901234567890123456789012-1234567890123456-01", False),
        ("00-00000000000000000000000000000000-1234567890123456-01", False),
        ("00-12345678901234567890123456789012-0000000000000000-01", False),
        ("00-1234567890123456789012345678901Z-1234567890123456-01", False),
        ("00-123456789012345678901234567890ab-1234567890123456-0x", False),
        ("00-1234567890123456789012345678901-1234567890123456-01", False),
        ("0-12345678901234567890123456789012-1234567890123456-01", False),
        ("00_12345678901234567890123456789012_1234567890123456_01", False),
        ("", False),
        ("\x00", False),
        (
            "00-12345678901234567890123456789012-1234567890123456-01,"
            "00-12345678901234567890123456789012-1234567890123456-01",
            False,
        ),
    ],
)
def test_traceparent_vectors(bridge: Bridge, traceparent: str, valid: bool) -> None:
    """A malformed traceparent is ignored, a well-formed one continues the trace."""
    bridge.start()
    context = otelbridge.extract({"traceparent": traceparent})
    assert trace.get_current_span(context).get_span_context().is_valid is valid


def test_a_repeated_traceparent_is_ignored(bridge: Bridge) -> None:
    """Two traceparent headers are malformed, whichever comes first."""
    bridge.start()
    pairs = [("traceparent", f"00-{c * 32}-{c * 16}-01") for c in "12"]
    assert not trace.get_current_span(otelbridge.extract(pairs)).get_span_context().is_valid


@pytest.mark.parametrize(
    ("tracestate", "kept"),
    [
        ("foo=1", {"foo": "1"}),
        ("foo=1,bar=2", {"foo": "1", "bar": "2"}),
        (" foo=1 ,\tbar=2", {"foo": "1", "bar": "2"}),
        ("foo@=1,bar=2", {}),
        ("foo=1,foo=1", {}),
        ("foo =1", {}),
        (",".join(f"k{i}=1" for i in range(33)), {}),
    ],
)
def test_tracestate_vectors(bridge: Bridge, tracestate: str, kept: dict[str, str]) -> None:
    """Bad tracestate never costs the trace; good tracestate is passed on unchanged."""
    bridge.start()
    headers = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": tracestate}
    context = otelbridge.extract(headers)
    span_context = trace.get_current_span(context).get_span_context()
    assert span_context.is_valid
    if kept:
        assert dict(span_context.trace_state) == kept


def test_foreign_tracestate_is_kept_beside_our_member(bridge: Bridge, llm_call: LlmCall) -> None:
    """Our member goes first, others keep their order, 32 members are not exceeded."""
    bridge.start()
    others = ",".join(f"k{i}=v{i}" for i in range(32))
    parent = otelbridge.extract(
        {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "tracestate": others}
    )
    with trace.get_tracer("t").start_as_current_span("server", context=parent), llm_call():
        headers: dict[str, str] = {}
        otelbridge.inject(headers)
    members = headers["tracestate"].split(",")
    assert members[0].startswith("otelbridge=")
    assert members[0].endswith("-f")
    assert members[1:] == [f"k{i}=v{i}" for i in range(31)]


@pytest.mark.parametrize(
    "member",
    ["", "x", "f", f"{'1' * 16}-{'2' * 16}", f"{'1' * 16}-{'2' * 16}-x", f"{'G' * 16}-{'2' * 16}-f",
     f"{'0' * 16}-{'2' * 16}-f", f"{'1' * 15}-{'2' * 16}-f", f"{'1' * 16}-{'2' * 16}-f-f"],
)  # fmt: skip
def test_a_garbage_member_is_ignored(bridge: Bridge, llm_call: LlmCall, member: str) -> None:
    """A caller cannot make us name a parent with a malformed member."""
    bridge.start()
    headers = {
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "tracestate": f"otelbridge={member}",
    }
    context = otelbridge.extract(headers)
    with trace.get_tracer("t").start_as_current_span("server", context=context), llm_call():
        pass
    assert bridge.view() == {"server": "", "chat": "server"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("user.id=u", {"user.id": "u"}),
        ("user.id=u;prop=1, session.id = s ", {"user.id": "u", "session.id": "s"}),
        ("broken,user.id=u", {"user.id": "u"}),
        ("=,==,user.id=u", {"user.id": "u"}),
        ("user.id=caf%C3%A9", {"user.id": "café"}),
        ("user.id=" + "x" * 9000, {}),
        ("\x00\x01", {}),
    ],
)
def test_baggage_vectors(
    bridge: Bridge, caplog: pytest.LogCaptureFixture, header: str, expected: dict[str, str]
) -> None:
    """Malformed members are dropped, the others stay, and no log line shows a value."""
    bridge.start()
    context = otelbridge.extract({"baggage": header})
    assert {key: str(value) for key, value in baggage.get_all(context).items()} == expected
    assert caplog.text == ""


def test_context_travels_in_the_environment_of_a_child_process(bridge: Bridge) -> None:
    """`form="environment"` writes and reads upper-case variable names."""
    bridge.start()
    environment: dict[str, str] = {"PATH": "/bin"}
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("parent") as span, request_context(user_id="u"):
        otelbridge.inject(environment, form="environment")
    assert {"TRACEPARENT", "BAGGAGE", "PATH"} <= set(environment)
    context = otelbridge.extract(environment, form="environment")
    assert trace.get_current_span(context).get_span_context().trace_id == (
        span.get_span_context().trace_id
    )
    assert baggage.get_baggage("user.id", context) == "u"


@pytest.mark.parametrize("carrier", [None, 3, "text", [1, 2], [("a",)], {"traceparent": object()}])
def test_extract_survives_any_carrier(bridge: Bridge, swallow_errors: None, carrier: Any) -> None:
    """A carrier that is none gives the current context back."""
    bridge.start()
    assert not trace.get_current_span(otelbridge.extract(carrier)).get_span_context().is_valid


def test_query_secrets_do_not_stay_in_span_attributes(bridge: Bridge, inside: Listener) -> None:
    """Client and server spans keep the URL without the values of secret-named parameters."""
    bridge.start()
    app = bridge.app("app")
    app.add_url_rule("/search", view_func=lambda: "ok")
    base = bridge.serve(app)
    httpx.get(f"{base}/search?q=cats&api_key=canary-1&access_token=canary-2&key=canary-3")
    spans = bridge.spans()
    assert len(spans) == 2
    for span in spans:
        text = json.dumps({key: str(value) for key, value in (span.attributes or {}).items()})
        assert "canary" not in text
        assert "q=cats" in text
