"""`opentelemetry-instrument flask run` with nothing but environment variables, real processes."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelbridge.demo.processes import ProcessGroup, free_ports
from otelbridge.local.server import LocalServer
from tests.bridge.test_services import visit

pytestmark = pytest.mark.e2e

# Neither file knows otelbridge: plain Flask, httpx and the OpenTelemetry API.
FRONT = """
import os
import flask, httpx

app = flask.Flask("front")

@app.get("/ask")
def ask():
    return httpx.get(os.environ["BACK_URL"] + "/answer").text

@app.get("/plain")
def plain():
    return httpx.get(os.environ["BACK_URL"] + "/data").text
"""
BACK = """
from flask import Flask
from opentelemetry import trace

app = Flask("back")
tracer = trace.get_tracer("my.app")

@app.get("/answer")
def answer():
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
                  "gen_ai.input.messages": '[{"role":"user"}]'}
    with tracer.start_as_current_span("chat m", attributes=attributes):
        return "42"

@app.get("/data")
def data():
    return "rows"
"""


class Services:
    """`front` and `back` as processes, exporting to a local store."""

    def __init__(self, group: ProcessGroup, store: LocalServer, folder: Path) -> None:
        self._group = group
        self._store = store
        self._folder = folder
        self.front_url = ""

    def start(self, **back_environment: str) -> None:
        """Start both; extra environment for `back`."""
        front_port, back_port = free_ports(2)
        self.front_url = f"http://127.0.0.1:{front_port}"
        self._run("back", BACK, back_port, back_environment)
        self._run("front", FRONT, front_port, {"BACK_URL": f"http://127.0.0.1:{back_port}"})

    def _run(self, name: str, source: str, port: int, extra: dict[str, str]) -> None:
        path = self._folder / f"{name}.py"
        path.write_text(source)
        bin_dir = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
            "OTEL_SERVICE_NAME": name,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._store.otlp_http_url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "PYTHONWARNINGS": "ignore",
            **extra,
        }
        arguments = ["flask", "--app", str(path), "run", "--port", str(port)]
        command = [str(bin_dir / "opentelemetry-instrument"), *arguments]
        child = self._group.start(name, command, environment)
        self._group.wait_listening(child, "127.0.0.1", port, deadline_seconds=30)

    def spans(self, trace_id: str, view: str) -> list[dict[str, Any]]:
        """Spans of one trace: `tempo` or `langfuse`."""
        if view == "langfuse":
            request = urllib.request.Request(
                f"{self._store.langfuse_url}/api/public/v2/observations?traceId={trace_id}",
                headers={"Authorization": "Basic cGstbGYtbG9jYWw6c2stbGYtbG9jYWw="},
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                found: list[dict[str, Any]] = json.load(response)["data"]
                return found
        answer = json.loads(visit(f"{self._store.tempo_url}/api/v2/traces/{trace_id}"))
        return [
            {**span, "service": _service(batch)}
            for batch in answer["trace"].get("resourceSpans", [])
            for scope in batch["scopeSpans"]
            for span in scope["spans"]
        ]


def _service(batch: dict[str, Any]) -> str:
    for attribute in batch["resource"]["attributes"]:
        if attribute["key"] == "service.name":
            return str(attribute["value"]["stringValue"])
    return "?"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Processes that end with the test."""
    with LocalServer() as store, ProcessGroup(tmp_path) as group:
        yield Services(group, store, tmp_path)


def ask(services: Services, path: str, number: int) -> str:
    """Send a request with a trace id of our own; returns that."""
    trace_id = f"{number:032x}"
    visit(services.front_url + path, {"traceparent": f"00-{trace_id}-{'ab' * 8}-01"})
    return trace_id


def test_environment_variables_alone_join_the_traces(
    services: Services, eventually: Callable[..., Any]
) -> None:
    """Two Flask services without any otelbridge import: one trace, LLM view in Langfuse."""
    services.start()
    trace_id = ask(services, "/ask", 0xA1)
    plain_id = ask(services, "/plain", 0xA2)
    spans = eventually(
        lambda: found if len(found := services.spans(trace_id, "tempo")) == 4 else None, 20
    )
    assert sorted((s["service"], s["name"]) for s in spans) == [
        ("back", "GET /answer"),
        ("back", "chat m"),
        ("front", "GET"),
        ("front", "GET /ask"),
    ]
    assert "gen_ai.input.messages" not in json.dumps(spans)
    eventually(lambda: len(services.spans(plain_id, "tempo")) == 3, 20)
    observations = {o["name"]: o for o in services.spans(trace_id, "langfuse")}
    assert set(observations) == {"GET /ask", "GET /answer", "chat m"}
    assert observations["chat m"]["parentObservationId"] == observations["GET /answer"]["id"]
    assert observations["GET /answer"]["parentObservationId"] == observations["GET /ask"]["id"]
    assert services.spans(plain_id, "langfuse") == []


def test_a_service_with_langfuse_off_is_in_tempo_only(
    services: Services, eventually: Callable[..., Any]
) -> None:
    """LANGFUSE_ENABLED=false: nothing of the service reaches Langfuse, Tempo has it all."""
    services.start(LANGFUSE_ENABLED="false")
    trace_id = ask(services, "/ask", 0xB1)
    eventually(lambda: len(services.spans(trace_id, "tempo")) == 4, 20)
    assert services.spans(trace_id, "langfuse") == []


def test_a_bad_setting_is_logged_and_the_service_runs(services: Services, tmp_path: Path) -> None:
    """A variable that cannot be used switches tracing off; requests are served all the same."""
    services.start(OTELBRIDGE_LLM_VIEW="everything")
    assert visit(f"{services.front_url}/ask") == "42"
    log = "".join(path.read_text() for path in tmp_path.glob("*back*.log"))
    assert "OTELBRIDGE_LLM_VIEW" in log
    assert "services" in log
