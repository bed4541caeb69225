"""One stack for all recipes: provider stand-in, real Collector, `otelbridge local`, scores.

A recipe runs as a process with exactly the environment made here. Spans go through the Collector
into `otelbridge local`; scores go to the stand-in of Langfuse's API, which knows their rules.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from otelbridge.collector import CollectorProcess
from otelbridge.demo.processes import ProcessGroup, free_ports
from otelbridge.demo.views import View, ViewSpan, langfuse_trace, tempo_trace
from otelbridge.local.server import LocalServer
from tests.collector.conftest import collector_binary
from tests.langfuse.stand_in import StandIn

__all__ = ["collector_binary"]
ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "examples" / "recipes"
PAGES = ROOT / "docs" / "recipes"
_READY_SECONDS = 60.0
_WITHIN_SECONDS = 30.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Recipes:
    """The running stack, and how to run a recipe in it and to read what it left."""

    local: LocalServer
    scores: StandIn
    client: httpx.Client
    processes: ProcessGroup
    environment: dict[str, str]
    work: Path

    def env(self, name: str, **more: str) -> dict[str, str]:
        """The environment of one recipe; budgets and spool are its own."""
        own = {
            "OTELBRIDGE_SPOOL_DIR": str(self.work / name / "spool"),
            "OTELBRIDGE_BUDGETS_DIR": str(self.work / name / "budgets"),
        }
        return self.environment | own | more

    def run(self, name: str, lines: Iterable[dict[str, Any]], **env: str) -> tuple[list[Any], str]:
        """Run a recipe that reads JSON lines; its output lines and its error output."""
        done = subprocess.run(
            [sys.executable, f"{name}.py"],
            cwd=RECIPES,
            env=self.env(name, **env),
            input="\n".join(map(json.dumps, lines)),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def serve(self, name: str, **env: str) -> str:
        """Start a recipe that is a server; its base URL."""
        (port,) = free_ports(1)
        command = [sys.executable, f"{name}.py"]
        child = self.processes.start(name, command, self.env(name, PORT=str(port), **env), RECIPES)
        self.processes.wait_listening(child, "127.0.0.1", port, _READY_SECONDS)
        return f"http://127.0.0.1:{port}"

    def post(self, url: str, body: Any, **headers: str) -> httpx.Response:
        """A JSON request to a recipe."""
        return self.client.post(url, json=body, headers=headers)

    def trace(self, trace_id: str, done: Callable[[View, View], Any]) -> tuple[View, View]:
        """A trace in Tempo's and Langfuse's view, once `done` says so of both, without orphans."""
        keys = (self.local.project.public_key, self.local.project.secret_key)
        deadline = time.monotonic() + _WITHIN_SECONDS
        while True:
            tempo = tempo_trace(self.client, self.local.tempo_url, trace_id)
            langfuse = langfuse_trace(self.client, self.local.langfuse_url, trace_id, keys)
            whole = tempo.spans and not tempo.orphans and not langfuse.orphans
            if whole and done(tempo, langfuse):
                return tempo, langfuse
            if time.monotonic() > deadline:
                pytest.fail(f"not whole:\n{shown(tempo)}\n--\n{shown(langfuse, tempo)}")
            time.sleep(0.05)

    def as_documented(self, page: str, trace_id: str, name: str = "") -> tuple[View, View]:
        """Both views of a trace, once their trees are those that a page of docs/recipes shows."""
        expected = documented(page, name)
        return self.trace(
            trace_id, lambda tempo, langfuse: (shown(tempo), shown(langfuse, tempo)) == expected
        )

    def found(self, query: str) -> set[str]:
        """Trace ids that a TraceQL query finds now."""
        asked = {"q": query, "limit": 50, "start": int(time.time()) - 600,
                 "end": int(time.time()) + 5}  # fmt: skip
        reply = self.client.get(f"{self.local.tempo_url}/api/search", params=asked)
        assert reply.status_code == 200, f"{query}: {reply.text}"
        return {one["traceID"].zfill(32) for one in reply.json().get("traces") or ()}

    def score(self, trace_id: str, name: str) -> dict[str, Any]:
        """The body of a score, once Langfuse's API has it."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        while True:
            for body in list(self.scores.scores.values()):
                if (body.get("traceId"), body["name"]) == (trace_id, name):
                    return body
            if time.monotonic() > deadline:
                pytest.fail(f"no score {name} of {trace_id}: {self.scores.scores}")
            time.sleep(0.05)


def shown(view: View, times: View | None = None) -> str:
    """Names as an indented tree, in order of their start.

    Args:
        times: The view whose start times count: Langfuse's are in milliseconds.
    """
    clock = (times or view).spans
    lines: list[str] = []

    def start_ns(span: ViewSpan) -> int:
        return clock.get(span.span_id, span).start_ns

    def add(span: ViewSpan, depth: int) -> None:
        lines.append("  " * depth + span.name)
        children = [one for one in view.spans.values() if one.parent == span.span_id]
        for child in sorted(children, key=start_ns):
            add(child, depth + 1)

    for root in sorted(view.roots, key=start_ns):
        add(root, 0)
    return "\n".join(lines)


def documented(page: str, name: str = "") -> tuple[str, str]:
    """The two trees that a page shows: `<!-- tree: tempo name -->` before a block of text."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    found = []
    for view in ("tempo", "langfuse"):
        label = f"{view} {name}".strip()
        match = re.search(rf"<!-- tree: {label} -->\n```text\n(.*?)\n```", text, re.DOTALL)
        assert match, f"{page}.md shows no tree {label!r}"
        found.append(match[1])
    return found[0], found[1]


def queries(page: str) -> list[str]:
    """The TraceQL queries of a page."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```traceql\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def one(view: View, name: str) -> ViewSpan:
    """The span of this name, of which there is one."""
    (span,) = [span for span in view.spans.values() if span.name == name]
    return span


@pytest.fixture(scope="session")
def recipes(collector_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipes]:
    """Everything that the recipes talk to, started once."""
    work = tmp_path_factory.mktemp("recipes")
    keep = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    keep["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), keep.get("PYTHONPATH"))))
    with ExitStack() as stack:
        scores = stack.enter_context(StandIn("v4"))
        local = stack.enter_context(LocalServer(preview_raw=False))
        processes = stack.enter_context(ProcessGroup(work))
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "flask", "--app", "provider", "run", "--port", str(port)]
        provider = processes.start("provider", command, keep, RECIPES)
        collector = stack.enter_context(
            CollectorProcess(
                collector_binary,
                tempo_endpoint=local.otlp_grpc_endpoint,
                langfuse_url=local.langfuse_url,
                langfuse_public_key=local.project.public_key,
                langfuse_secret_key=local.project.secret_key,
                work_dir=work / "collector",
                environment={"OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "50ms"},
            )
        )
        client = stack.enter_context(httpx.Client(timeout=60, trust_env=False))
        processes.wait_listening(provider, "127.0.0.1", port, _READY_SECONDS)
        environment = {
            **keep,
            **scores.environment,
            "LANGFUSE_TRACING_ENVIRONMENT": "recipes",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http_url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds
            "OTELBRIDGE_BUDGETS_RECONCILE": "0",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1",
            "OPENAI_API_KEY": "not-a-key",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
            "ANTHROPIC_API_KEY": "not-a-key",
            "OLLAMA_HOST": f"http://127.0.0.1:{port}",
        }
        yield Recipes(local, scores, client, processes, environment, work)
