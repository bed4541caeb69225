"""Fixtures: the mock provider in a thread, the example services as processes.

Services run plainly here (no instrumentation, `OTEL_SDK_DISABLED=true`); the end-to-end test in
`test_demo.py` runs them traced.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import openai
import pytest
from werkzeug.serving import make_server

from otelbridge.demo.processes import ProcessGroup, free_ports

SERVICES = Path(__file__).resolve().parents[2] / "examples" / "services"


@dataclass(frozen=True)
class Upstream:
    """The mock provider while it listens."""

    url: str
    module: ModuleType

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="not-a-key", max_retries=0)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    spec = importlib.util.spec_from_file_location("example_upstream", SERVICES / "upstream.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = make_server("127.0.0.1", 0, module.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Upstream(f"http://127.0.0.1:{server.port}", module)
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


@pytest.fixture(scope="session")
def run_service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., httpx.Client]]:
    """Start `flask --app <name> run` with `OTEL_SDK_DISABLED=true`; gives a client of it."""
    clients: list[httpx.Client] = []
    with ProcessGroup(tmp_path_factory.mktemp("logs")) as group:

        def start(name: str, **env: str) -> httpx.Client:
            (port,) = free_ports(1)
            keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
            command = [sys.executable, "-m", "flask", "--app", name, "run", "--port", str(port)]
            env = {**keep, "OTEL_SDK_DISABLED": "true", **env}
            child = group.start(name, command, env, SERVICES)
            group.wait_listening(child, "127.0.0.1", port, 30)
            clients.append(
                httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
            )
            return clients[-1]

        yield start
        for client in clients:
            client.close()
