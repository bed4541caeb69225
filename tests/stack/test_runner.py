"""The runner itself: case files with mistakes, paths, values, a request from inside, no engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from otelbridge.demo.processes import free_ports
from otelbridge.demo.views import View, ViewSpan
from tests.stack import backends, casefile, judging
from tests.stack.backends import Backend
from tests.stack.casefile import CaseError
from tests.stack.test_cases import run

PROFILE = {"COMPOSE_PROFILES": "langfuse"}


def a_case(**changes: Any) -> dict[str, Any]:
    """The content of a small case file."""
    ask = {"name": "ask", "to": "gateway", "path": "/ask"}
    return {"about": "x", "requests": [ask], "traces": {"ask": {"tempo": {"roots": 1}}}, **changes}


def a_view(*lines: str) -> View:
    """A view from lines `id parent service name`; `-` is no parent."""
    spans = {}
    for line in lines:
        span_id, parent, service, name = line.split(" ", 3)
        parent = parent.replace("-", "")
        spans[span_id] = ViewSpan(span_id, parent, name, service, {}, "", 0, 1)
    return View("0" * 32, spans, "")


def test_every_case_file_can_be_read() -> None:
    """All files of cases/ have a sentence and requests, and each is told apart by its name."""
    cases = [casefile.load(name) for name in casefile.names()]
    assert len(cases) >= 12
    assert all(case.about.endswith(".") for case in cases)
    assert len({case.about for case in cases}) == len(cases)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expects": {}}, "unknown ['expects']"),
        ({"traces": {"other": {}}}, "no request is called 'other'"),
        ({"traces": {"ask": {"tempo": {"root": 1}}}}, "unknown ['root']"),
        ({"traces": {"ask": {"langfuse": {"absent": True, "types": {}}}}}, "no other facts"),
        ({"traces": {"ask": {"langfuse": {"observations": [{"name": "x"}]}}}}, "['count'] missing"),
        ({"traces": {}}, "it expects nothing"),
        ({"traceql": [{"query": "{}"}]}, "['spans'] missing"),
        ({"promql": [{"query": "up"}]}, "needs one of above and grows_by"),
        ({"requests": [{"name": "a", "to": "web", "path": "/"}]}, "'web' is none of gateway"),
        ({"requests": [{"name": "a", "to": "llm", "path": "/", "time": 2}]}, "unknown ['time']"),
        (
            {"requests": [{"name": "a", "to": "llm", "path": "/", "trace": "new"}]},
            "'new' is neither",
        ),
    ],
)
def test_mistake_in_a_case_file_is_named(changes: dict[str, Any], message: str) -> None:
    """A key that means nothing, or one that is missing, is an error with its place."""
    assert casefile.read("good", a_case()).name == "good"
    with pytest.raises(CaseError) as raised:
        casefile.read("bad", a_case(**changes))
    assert message in str(raised.value)


def test_names_in_expectations_are_filled_in_everywhere() -> None:
    """`$name` is replaced in keys, values and lists; `$$` is a dollar sign; others are errors."""
    values = {"run": "r1", "canary": "amber"}
    given = {"a-$run": ["($canary)", 3, {"b": "$$run"}]}
    assert casefile.filled(given, values) == {"a-r1": ["(amber)", 3, {"b": "$run"}]}
    with pytest.raises(CaseError, match="nobody"):
        casefile.filled("$nobody", values)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("web: GET / > web: GET > rag: find", True),
        ("web: GET / >> rag: find", True),
        ("web: GET / > rag: find", False),
        ("rag: find >> web: GET /", False),
        ("web: GET / >> rag: find > rag: embed", True),
        ("web: GET / >> rag: find > llm: embed", False),
        ("rag: embed", True),
        ("rag: lost", False),
    ],
)
def test_paths_tell_children_from_descendants(path: str, there: bool) -> None:
    """`>` is a child and `>>` any descendant, each known by service and name."""
    view = a_view("1 - web GET /", "2 1 web GET", "3 2 rag find", "4 3 rag embed", "5 9 llm embed")
    assert judging.has_path(view, path) is there


def test_path_in_a_circle_ends() -> None:
    """Spans that are each other's parents do not keep the search from ending."""
    assert not judging.has_path(a_view("1 2 web a", "2 1 web b"), "web: c >> web: a")


@pytest.mark.parametrize(
    ("value", "wanted", "right"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (None, "a", False),
        (3, {"above": 2}, True),
        (2, {"above": 2}, False),
        (None, {"above": 0}, False),
        ("abc", {"contains": "b"}, True),
        (None, {"contains": "b"}, False),
        (["b", "a"], {"items": ["a", "b"]}, True),
        (["a"], {"items": ["a", "b"]}, False),
        (None, {"items": ["a"]}, False),
        (0.0, {"present": True}, True),
        ("", {"present": True}, False),
        ("", {"present": False}, True),
        ({"total": 3}, {"total": 3}, True),
        ({"total": 3}, {"total": 4}, False),
    ],
)
def test_values_are_compared(value: Any, wanted: Any, right: bool) -> None:
    """Equality, or one of the comparisons by name; something missing is never right by chance."""
    assert (judging.mismatch(value, wanted) == "") is right


class _Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.headers["X-Status"]))
        self.send_header("X-Trace-Id", self.headers["traceparent"])
        self.end_headers()
        self.wfile.write(self.path.encode() + b" " + body)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.mark.parametrize("status", [200, 503])
def test_request_from_inside_is_answered_as_over_the_network(status: int) -> None:
    """What is run in a container sends method, path, headers and JSON, and gives errors too."""
    server = HTTPServer(("127.0.0.1", 0), _Echo)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/chat"
        headers = {"X-Status": str(status), "traceparent": "00-1-2-01"}
        answer = backends.send_inside([sys.executable], "POST", url, headers, {"zoë": 1})
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert (answer.status, answer.headers["x-trace-id"]) == (status, "00-1-2-01")
    assert answer.text == '/chat {"zo\\u00eb": 1}'


def test_failure_of_the_command_inside_is_told() -> None:
    """A container that does not run is an error with what the command said."""
    with pytest.raises(backends.NotReadyError, match="Connection refused"):
        backends.send_inside([sys.executable], "GET", "http://127.0.0.1:1/", {}, None)


def fake_docker(folder: Path, script: str) -> str:
    """A PATH whose `docker` is this shell script."""
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 29.1.0", ""),
        ("echo 'Cannot connect to the daemon' >&2; exit 1", "Cannot connect to the daemon"),
        ("exit 0", "docker info failed"),
    ],
)
def test_engine_is_there_when_docker_info_answers(
    script: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an answer of `docker info` counts; else the reason is what docker said."""
    monkeypatch.setenv("PATH", fake_docker(tmp_path, script))
    said = backends.no_engine()
    assert (said == "") is (why == "")
    assert why in said


def test_engine_is_missing_without_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `docker` at all, that is the reason."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no `docker` command" in backends.no_engine()


def test_containers_that_are_not_up_are_named() -> None:
    """Every part that does not answer is in the message, with its address."""
    parts = ("TEMPO", "PROMETHEUS", "GRAFANA", "LANGFUSE", "DEMO")
    ports = {
        f"OTELBRIDGE_COMPOSE_{part}_PORT": str(port)
        for part, port in zip(parts, free_ports(len(parts)), strict=True)
    }
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1", **PROFILE}
    with pytest.raises(backends.NotReadyError) as raised:
        backends.compose({**ports, **keys}, within_seconds=0.1)
    for part in ("TEMPO", "PROMETHEUS", "GRAFANA", "LANGFUSE"):
        port = ports[f"OTELBRIDGE_COMPOSE_{part}_PORT"]
        assert f"{part.title()} (http://127.0.0.1:{port}/" in str(raised.value)
    assert "sk-lf-1" not in str(raised.value)


def test_containers_without_keys_are_explained() -> None:
    """A `.env` without Langfuse's keys names the missing one and the command that makes it."""
    with pytest.raises(
        backends.NotReadyError, match=r"no LANGFUSE_PUBLIC_KEY; run: otelbridge init"
    ):
        backends.compose(PROFILE, within_seconds=0.1)


def test_langfuse_elsewhere_is_explained() -> None:
    """Without Langfuse in containers nothing is asked of the one that the keys belong to."""
    with pytest.raises(backends.NotReadyError, match="COMPOSE_PROFILES=langfuse"):
        backends.compose({"COMPOSE_PROFILES": "gateway"}, within_seconds=0.1)


class _Health(BaseHTTPRequestHandler):
    """Answers 200: all that is asked of Grafana here."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


#: Stands for `docker compose ... exec -T <service> python -c <program>`, with the port mapped.
_EXEC = """
while [ "$1" != python ]; do service=$1; shift; done
shift
case $service in {ports} esac
sed "s/127.0.0.1:8000/127.0.0.1:$port/" | {python} "$@"
"""


@pytest.mark.collector
@pytest.mark.e2e
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["inbound_context_inside", "request_id"])
def test_case_holds_by_the_way_into_containers(
    name: str, native: Backend, client: httpx.Client, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The addresses and the commands for containers work, with the native stack behind them."""
    server = HTTPServer(("127.0.0.1", 0), _Health)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    urls = {
        "TEMPO": native.tempo_url, "PROMETHEUS": native.prometheus_url,
        "LANGFUSE": native.langfuse_url, "DEMO": native.services["gateway"],
        "GRAFANA": f"http://127.0.0.1:{server.server_port}",
    }  # fmt: skip
    environment = {f"OTELBRIDGE_COMPOSE_{k}_PORT": u.rsplit(":", 1)[1] for k, u in urls.items()}
    environment |= PROFILE | {
        "LANGFUSE_PUBLIC_KEY": native.keys[0], "LANGFUSE_SECRET_KEY": native.keys[1],
        "LANGFUSE_PUBLIC_URL": native.langfuse_url, "OTELBRIDGE_GRAFANA_URL": native.grafana_url,
    }  # fmt: skip
    inner = " ".join(
        f"{name}) port={native.services[name].rsplit(':', 1)[1]};;" for name in ("rag", "llm")
    )
    docker = fake_docker(tmp_path, _EXEC.format(ports=inner, python=sys.executable))
    monkeypatch.setenv("PATH", docker)
    try:
        made = backends.compose(environment, within_seconds=10)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
    assert set(made.services) == {"gateway"}
    run(replace(made, followed=native.followed), client, casefile.load(name))
