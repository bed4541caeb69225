"""`X-Langfuse-Trace-Id` and `X-Langfuse-Parent-Observation-Id`, in and out, between services.

A new service is a Flask app with otelbridge that calls with httpx. An old one knows the two headers
only: it reads them, makes ids of its own where they are missing, and sends them on.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import flask
import httpx
import pytest
from flask import request
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from werkzeug.serving import make_server

import otelbridge
from otelbridge import provider as assembly
from otelbridge.compat.langfuse_v2 import observe
from otelbridge.legacy_headers import PARENT_HEADER, TRACE_HEADER, span_id_of, trace_id_of
from tests.compat.conftest import Spans, attribute, id_of, parent_of, trace_of

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass
class Step:
    """What an old service noted of one request."""

    trace: str
    observation: str
    parent: str


@dataclass
class Services:
    """Services of both kinds on loopback ports."""

    exporter: InMemorySpanExporter
    steps: dict[str, Step] = field(default_factory=dict)
    servers: list[Any] = field(default_factory=list)

    @property
    def spans(self) -> Spans:
        return Spans(self.exporter)

    def new(self, name: str, behind: str | None = None) -> str:
        """A Flask app with otelbridge that does LLM work and asks the service behind it."""
        app = flask.Flask(name)

        @app.get("/")
        def serve() -> dict[str, Any]:
            return {"seen": dict(request.headers), "below": work()}

        @observe(name=f"{name} work")
        def work() -> Any:
            return httpx.get(behind).json() if behind is not None else None

        server = make_server("127.0.0.1", 0, app, threaded=True)
        server.daemon_threads = True
        return self._serve(server, server.server_port)

    def old(self, name: str, behind: str | None = None, make_id: Any = secrets.token_hex) -> str:
        """A service that knows the two headers only; `make_id(bytes)` makes its ids."""
        services = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                step = Step(
                    self.headers.get(TRACE_HEADER) or make_id(16),
                    make_id(8),
                    self.headers.get(PARENT_HEADER) or "",
                )
                services.steps[name] = step
                if behind is not None:
                    headers = {TRACE_HEADER: step.trace, PARENT_HEADER: step.observation}
                    urllib.request.urlopen(urllib.request.Request(behind, headers=headers)).read()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        return self._serve(server, server.server_port)

    def _serve(self, server: Any, port: int) -> str:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.servers.append(server)
        return f"http://127.0.0.1:{port}/"


@pytest.fixture
def services(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """otelbridge as `configure()` sets it up; the marker's parameter is the header switch."""
    switch, _, place = getattr(request, "param", "in").partition(" ")
    monkeypatch.setenv("OTELBRIDGE_LEGACY_LANGFUSE_HEADERS", switch)
    monkeypatch.setenv("OTELBRIDGE_TRUST_INBOUND", "false" if place == "edge" else "true")
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(assembly, "_export_path", lambda *_: SimpleSpanProcessor(exporter))
    otelbridge.configure()
    found = Services(exporter)
    yield found
    for server in found.servers:
        server.shutdown()
        server.server_close()


def ask(url: str, headers: dict[str, str] | None = None) -> None:
    """A client that is nobody's service."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
        answer.read()


ORDERS = [
    kinds for kinds in itertools.product(("old", "new"), repeat=3) if len(set(kinds)) == 2
]  # fmt: skip


@pytest.mark.parametrize("kinds", ORDERS, ids="-".join)
@pytest.mark.parametrize("services", ["both"], indirect=True)
def test_old_and_new_services_mixed_are_one_trace(
    services: Services, kinds: tuple[str, str, str], eventually: Any
) -> None:
    """A -> B -> C in all six orders: one trace id, each step below the one that called it."""
    url: str | None = None
    for name, kind in zip("CBA", reversed(kinds), strict=True):
        url = getattr(services, kind)(name, url)
    assert url is not None
    ask(url)
    expected = kinds.count("new")
    eventually(
        lambda: [s.name for s in services.spans.all()].count("GET /") == expected
    )  # a server span ends after its last byte

    found: dict[str, tuple[str, str, str]] = {}
    for name, kind in zip("ABC", kinds, strict=True):
        if kind == "old":
            step = services.steps[name]
            found[name] = (step.trace, step.parent, step.observation)
        else:
            work = services.spans.one(f"{name} work")
            entry = next(s for s in services.spans.all() if id_of(s) == parent_of(work))
            # In Langfuse the entry is below the caller, and the work below the entry.
            assert attribute(entry, "otelbridge.llm.keep") is True
            assert attribute(work, "otelbridge.llm.parent") == id_of(entry)
            found[name] = (
                trace_of(work), attribute(entry, "otelbridge.llm.parent"), id_of(work),
            )  # fmt: skip
    assert len({trace for trace, _, _ in found.values()}) == 1
    assert found["A"][1] == ""
    for caller, callee in (("A", "B"), ("B", "C")):
        assert found[callee][1] == found[caller][2], (caller, callee)


@pytest.mark.parametrize("services", ["both"], indirect=True)
def test_an_old_service_with_uuids_keeps_the_trace(services: Services) -> None:
    """Ids of the SDK v2: the trace goes on through us to the next old one, the parent does not."""
    last = services.old("C")
    ask(services.old("A", services.new("B", last), make_id=lambda _: str(uuid.uuid4())))
    work = services.spans.one("B work")
    assert trace_of(work) == trace_id_of(services.steps["A"].trace)
    assert services.steps["C"].trace == trace_of(work)
    assert services.steps["C"].parent == id_of(work)


def test_the_headers_are_read_by_default_and_not_sent(services: Services) -> None:
    """`in`: the trace of an old caller goes on; what we call gets W3C headers only."""
    seen: dict[str, str] = {}
    app = flask.Flask("behind")

    @app.get("/")
    def serve() -> str:
        seen.update(request.headers)
        return "{}"

    server = make_server("127.0.0.1", 0, app, threaded=True)
    behind = services._serve(server, server.server_port)
    ask(services.new("front", behind), {TRACE_HEADER: TRACE, PARENT_HEADER: PARENT})
    assert trace_of(services.spans.one("front work")) == TRACE
    assert TRACE_HEADER not in seen
    assert PARENT_HEADER not in seen
    assert TRACE in seen["Traceparent"]


@pytest.mark.parametrize("services", ["off"], indirect=True)
def test_off_ignores_them(services: Services) -> None:
    """`off`: a request with the two headers starts a trace of its own."""
    ask(services.new("front"), {TRACE_HEADER: TRACE, PARENT_HEADER: PARENT})
    assert trace_of(services.spans.one("front work")) != TRACE


@pytest.mark.parametrize("parent", ["", PARENT])
def test_fastapi_reads_them_too(services: Services, parent: str) -> None:
    """The same headers at an ASGI application."""
    import fastapi
    from fastapi.testclient import TestClient

    app = fastapi.FastAPI()

    @app.get("/")
    async def serve() -> None:
        observe(lambda: None, name="work")()

    TestClient(app).get("/", headers={TRACE_HEADER: TRACE, PARENT_HEADER: parent})
    entry = services.spans.one("GET /")
    assert trace_of(services.spans.one("work")) == trace_of(entry) == TRACE
    assert parent_of(entry) == parent


def test_a_valid_traceparent_wins(services: Services) -> None:
    """Both kinds of headers in one request: W3C's count."""
    w3c = f"00-{'a' * 32}-{'b' * 16}-01"
    ask(services.new("front"), {TRACE_HEADER: TRACE, PARENT_HEADER: PARENT, "traceparent": w3c})
    assert trace_of(services.spans.one("front work")) == "a" * 32


def test_an_invalid_traceparent_does_not(services: Services) -> None:
    """A malformed traceparent leaves the older headers in force."""
    headers = {TRACE_HEADER: TRACE, PARENT_HEADER: PARENT, "traceparent": "00-xyz-01"}
    ask(services.new("front"), headers)
    assert trace_of(services.spans.one("front work")) == TRACE


@pytest.mark.parametrize("parent", ["", "c5b7a1c2-0000-4000-8000-000000000001", "0" * 16])
def test_a_uuid_is_read_and_a_foreign_parent_dropped(services: Services, parent: str) -> None:
    """A dashed UUID is 32 hex digits; without a usable parent the entry span is the first one."""
    dashed = "0af76519-16cd-43dd-8448-eb211c80319c"
    ask(services.new("front"), {TRACE_HEADER: dashed, PARENT_HEADER: parent})
    work = services.spans.one("front work")
    assert trace_of(work) == TRACE


@pytest.mark.parametrize("garbage", ["", "0" * 32, "zz", TRACE[:-1], f"{TRACE}, {TRACE}"])
def test_malformed_ids_are_ignored(services: Services, garbage: str) -> None:
    """A trace of its own, and the request is served."""
    ask(services.new("front"), {TRACE_HEADER: garbage, PARENT_HEADER: PARENT})
    assert trace_of(services.spans.one("front work")) not in (TRACE, garbage)


@pytest.mark.parametrize("services", ["both edge"], indirect=True)
def test_an_edge_does_not_believe_them(services: Services) -> None:
    """With OTELBRIDGE_TRUST_INBOUND=false the headers of strangers start no trace."""
    ask(services.new("front"), {TRACE_HEADER: TRACE, PARENT_HEADER: PARENT})
    assert trace_of(services.spans.one("front work")) != TRACE
    extracted = otelbridge.extract({TRACE_HEADER: TRACE, PARENT_HEADER: PARENT})
    assert not trace.get_current_span(extracted).get_span_context().is_valid


@pytest.mark.parametrize("services", ["both"], indirect=True)
def test_untrusted_hosts_get_neither(services: Services) -> None:
    """Headers put on by hand are taken off with the W3C ones."""
    propagator: Any = propagate.get_global_textmap()
    carrier = {TRACE_HEADER.lower(): TRACE, PARENT_HEADER.lower(): PARENT, "traceparent": "x"}
    propagator.withhold(carrier, "api.example.com")
    assert carrier == {}


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (TRACE, TRACE),
        (f" {TRACE.upper()} ", TRACE),
        ("0af76519-16cd-43dd-8448-eb211c80319c", TRACE),
        ("0af7-651916cd43dd8448eb211c80319c", None),
        (TRACE.encode(), None),
        (None, None),
    ],
)
def test_trace_ids(value: object, digits: str | None) -> None:
    """32 hex digits in any case, or a UUID."""
    assert trace_id_of(value) == digits


def test_observation_ids() -> None:
    """16 hex digits that are not all zero."""
    assert span_id_of(PARENT.upper()) == PARENT
    assert [span_id_of(v) for v in ("0" * 16, PARENT + "0", "", None, 5)] == [None] * 5
