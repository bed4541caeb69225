"""Where the cases run: addresses of a stack and how to reach its services.

`native` starts the demo's processes, the real Collector with its shipped configuration,
`otelbridge local` in the places of Tempo and Langfuse, and Debian's Prometheus. `compose` uses the
containers of docker-compose.yml, which `make e2e` has started, at the addresses that they publish.
What the cases do with a backend is the same code: `drive`, `reading`, `judging`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from otelbridge.collector import CollectorProcess
from otelbridge.demo.stack import Stack
from tests.grafana.filling import ROOT, RULES, Scraper

#: Exemplars live for one flush, which has to be above the scrape interval of 1 s.
_FLUSH: Final = "1300ms"
#: No Grafana runs natively; the links that name it are compared as text.
_GRAFANA: Final = "http://grafana.example:3001"
_READY_SECONDS: Final = 240.0  # ClickHouse's and Langfuse's migrations at the first start
_ENGINE_SECONDS: Final = 20.0
#: Sends one request from inside a container and prints the answer: inner services publish no port.
_INSIDE: Final = """
import json, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
body = asked["body"].encode() if asked["body"] is not None else None
request = urllib.request.Request(asked["url"], body, asked["headers"], method=asked["method"])
try:
    reply = urllib.request.urlopen(request, timeout=60)
except urllib.error.HTTPError as error:
    reply = error
print(json.dumps([reply.status, dict(reply.headers), reply.read().decode()]))
"""


class NotReadyError(Exception):
    """The stack cannot be used; the message says which part and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class Backend:
    """One running stack.

    Attributes:
        services: Service → base URL, for those that can be reached from here.
        inside: Service → command that takes `_INSIDE`'s JSON and prints its answer, and the base
            URL that holds there; for services that publish no port.
        keys: Public and secret key of the Langfuse project.
        langfuse_public_url: What the links of Tempo's side begin with: the browser's address.
        grafana_url: What the links of the Langfuse side begin with.
        followed: Which kinds of links are also opened: `langfuse`, `grafana`.
        within_seconds: How long a fact may take to be readable.
    """

    tempo_url: str
    langfuse_url: str
    prometheus_url: str
    langfuse_public_url: str
    grafana_url: str
    keys: tuple[str, str]
    services: Mapping[str, str]
    inside: Mapping[str, tuple[Sequence[str], str]]
    followed: frozenset[str]
    within_seconds: float

    def send(
        self, client: httpx.Client, to: str, method: str, path: str, headers: Mapping[str, str],
        body: Any,
    ) -> Answer:  # fmt: skip
        """One request to a service, over the network or from inside its container."""
        if to in self.services:
            url = self.services[to] + path
            reply = client.request(method, url, headers=dict(headers), json=body)
            return Answer(reply.status_code, dict(reply.headers), reply.text)
        command, base = self.inside[to]
        return send_inside(command, method, base + path, headers, body)


def send_inside(
    command: Sequence[str], method: str, url: str, headers: Mapping[str, str], body: Any
) -> Answer:
    """The answer to a request that `command`, a Python, sends from where it runs."""
    text = None if body is None else json.dumps(body)
    headers = dict(headers) | ({} if text is None else {"Content-Type": "application/json"})
    asked = {"method": method, "url": url, "headers": headers, "body": text}
    done = subprocess.run(
        [*command, "-c", _INSIDE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode:
        raise NotReadyError(f"{' '.join(command)}: {done.stderr[-500:]}")
    status, got, reply = json.loads(done.stdout)
    return Answer(status, {name.lower(): value for name, value in got.items()}, reply)


# -- native ----------------------------------------------------------------------------------------
class _Native(Stack):
    """The demo's stack; its Collector also writes links and is quick with metrics."""

    collector: CollectorProcess

    def _start_export(self) -> dict[str, str]:
        project = self.local.project
        assert self._binary is not None
        self.collector = CollectorProcess(
            self._binary,
            tempo_endpoint=self.local.otlp_grpc_endpoint,
            langfuse_url=self.local.langfuse_url,
            langfuse_public_key=project.public_key,
            langfuse_secret_key=project.secret_key,
            work_dir=self._log_dir / "collector",
            environment={
                "OTELBRIDGE_COLLECTOR_METRICS_FLUSH": _FLUSH,
                "LANGFUSE_PROJECT_ID": project.project_id,
                "LANGFUSE_PUBLIC_URL": self.local.langfuse_url,
                "OTELBRIDGE_GRAFANA_URL": _GRAFANA,
            },
        )
        self._exit.enter_context(self.collector)
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.otlp_http_url}


@contextmanager
def native(folder: Path, binary: Path) -> Iterator[Backend]:
    """Everything as processes of this machine, on free loopback ports; ended when left."""
    with ExitStack() as stack:
        running = stack.enter_context(
            _Native(folder, os.environ, lambda _: None, collector_binary=str(binary))
        )
        (folder / "prometheus").mkdir()
        prometheus = stack.enter_context(Scraper(folder / "prometheus"))
        prometheus.reload(running.collector, sorted(RULES.glob("*.rules.yaml")))
        at = running.addresses
        project = running.local.project
        yield Backend(
            tempo_url=running.local.tempo_url,
            langfuse_url=running.local.langfuse_url,
            prometheus_url=prometheus.url,
            langfuse_public_url=running.local.langfuse_url,
            grafana_url=_GRAFANA,
            keys=(project.public_key, project.secret_key),
            services={"gateway": at.gateway, "rag": at.rag, "llm": at.llm},
            inside={},
            followed=frozenset({"langfuse"}),
            within_seconds=15.0,
        )


# -- compose ---------------------------------------------------------------------------------------
def no_engine() -> str:
    """Why there is no container engine; empty text when one answers."""
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=_ENGINE_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return "no `docker` command is installed"
    except subprocess.TimeoutExpired:
        return f"`docker info` did not answer within {_ENGINE_SECONDS:g} s"
    said = (done.stderr or done.stdout).strip().splitlines()
    if done.returncode or not done.stdout.strip():
        return f"no container engine answers: {said[-1] if said else 'docker info failed'}"
    return ""


def compose(environment: Mapping[str, str], within_seconds: float = _READY_SECONDS) -> Backend:
    """The containers that `docker compose up` has started, once all of them answer.

    Args:
        environment: The variables of `.env`, with Langfuse in containers too.
        within_seconds: How long they may take.
    Raises:
        NotReadyError: a part does not answer in time, Langfuse is elsewhere, or has no keys.
    """
    exec_in = ["docker", "compose", "--project-directory", str(ROOT), "exec", "-T"]
    if "langfuse" not in environment.get("COMPOSE_PROFILES", "").split(","):
        raise NotReadyError("the cases need Langfuse in containers: COMPOSE_PROFILES=langfuse")
    try:
        keys = (environment["LANGFUSE_PUBLIC_KEY"], environment["LANGFUSE_SECRET_KEY"])
    except KeyError as error:
        raise NotReadyError(f".env has no {error.args[0]}; run: otelbridge init") from None

    def published(part: str, port: int) -> str:
        return f"http://127.0.0.1:{environment.get(f'OTELBRIDGE_COMPOSE_{part}_PORT') or port}"

    backend = Backend(
        tempo_url=published("TEMPO", 3200),
        langfuse_url=published("LANGFUSE", 3000),
        prometheus_url=published("PROMETHEUS", 9090),
        langfuse_public_url=environment.get("LANGFUSE_PUBLIC_URL") or "http://localhost:3000",
        grafana_url=environment.get("OTELBRIDGE_GRAFANA_URL") or "http://localhost:3001",
        keys=keys,
        services={"gateway": published("DEMO", 8000)},
        inside={
            "rag": ([*exec_in, "rag", "python"], "http://127.0.0.1:8000"),
            "llm": ([*exec_in, "llm", "python"], "http://127.0.0.1:8000"),
        },
        followed=frozenset({"langfuse", "grafana"}),
        within_seconds=60.0,
    )
    pages = {
        "Tempo": f"{backend.tempo_url}/ready",
        "Prometheus": f"{backend.prometheus_url}/-/ready",
        "Grafana": f"{published('GRAFANA', 3001)}/api/health",
        "Langfuse": f"{backend.langfuse_url}/api/public/health",
        "the gateway": f"{backend.services['gateway']}/healthz",
    }
    wait_ready(pages, within_seconds)
    return backend


def wait_ready(pages: Mapping[str, str], within_seconds: float) -> None:
    """Return once every page answers 200.

    Raises:
        NotReadyError: names those that did not, and what they last said.
    """
    waiting = dict(pages)
    said: dict[str, str] = {}
    deadline = time.monotonic() + within_seconds
    with httpx.Client(timeout=5, trust_env=False) as client:
        while True:
            for name, url in list(waiting.items()):
                try:
                    status = client.get(url).status_code
                except httpx.HTTPError as error:
                    said[name] = repr(error)
                    continue
                said[name] = f"status {status}"
                if status == httpx.codes.OK:
                    del waiting[name]
            if not waiting:
                return
            if time.monotonic() > deadline:
                parts = "; ".join(f"{name} ({waiting[name]}): {said[name]}" for name in waiting)
                raise NotReadyError(f"not ready within {within_seconds:g} s: {parts}")
            time.sleep(0.2)
