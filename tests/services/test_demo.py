"""`otelbridge demo` as a user runs it: separate processes, real HTTP, both ways of export."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from otelbridge.collector import find_collector
from otelbridge.demo import stack

pytestmark = pytest.mark.e2e
COMMAND = [sys.executable, "-m", "otelbridge", "demo"]


def run_demo(*arguments: str, temporary: Path) -> tuple[int, dict[str, Any], str]:
    """Exit status, the JSON answer and the progress of one run."""
    done = subprocess.run(
        [*COMMAND, "--json", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture(params=["collector", "direct"])
def mode(request: pytest.FixtureRequest) -> str:
    """Both ways of export; the one over the Collector only where it is built."""
    if request.param == "collector" and find_collector() is None:
        pytest.skip("the Collector is not built: `make collector`")
    return str(request.param)


@pytest.mark.timeout(150)
def test_demo_holds_its_own_checks(mode: str, tmp_path: Path) -> None:
    """Exit status 0, every check ok, a dozen requests, one trace in three services."""
    arguments = ("--no-collector",) if mode == "direct" else ()
    status, answer, progress = run_demo(*arguments, temporary=tmp_path)
    assert [check for check in answer["checks"] if not check["ok"]] == []
    assert (status, answer["ok"], answer["mode"]) == (0, True, mode)
    assert len(answer["requests"]) >= 12
    by_name = {request["name"]: request for request in answer["requests"]}
    shown = by_name["order with a tool"]
    assert shown["trace_id"] == answer["shown"]
    assert shown["tempo_spans"] > shown["langfuse_spans"] >= 8
    assert by_name["health check"]["langfuse_spans"] == 0
    assert len({request["trace_id"] for request in answer["requests"]}) == len(by_name)
    assert "sending requests" in progress
    assert list(tmp_path.glob("otelbridge-demo-*")) == [], "logs of a good run are removed"


@pytest.mark.timeout(150)
def test_kept_demo_ends_with_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    """`--keep` names its addresses and waits; Ctrl-C ends every child and exits 0."""
    with subprocess.Popen(
        [*COMMAND, "--keep", "--no-collector"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if "langfuse   http" in line:
                break
        text = "".join(printed)
        assert "running until Ctrl-C" in text, text
        ports = {int(port) for port in re.findall(r"  (?:gateway|rag|llm) +http://\S+:(\d+)", text)}
        assert len(ports) == 3
        assert all(listening(port) for port in ports)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    assert not any(listening(port) for port in ports)
    assert "Tempo view of" in text
    assert "Langfuse view of" in text


@pytest.mark.timeout(90)
def test_sigterm_while_starting_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM in the middle ends the services that were started, with the status of SIGTERM."""
    with subprocess.Popen(
        [*COMMAND, "--no-collector"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "as separate processes" in line:
                break
        children = wait_for_children(demo.pid)
        demo.terminate()
        rest = demo.stdout.read()
        assert demo.wait(30) == 128 + signal.SIGTERM
    assert "logs of the processes" in rest
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def listening(port: int) -> bool:
    """Whether a TCP connection to this loopback port is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def wait_for_children(pid: int) -> list[int]:
    """The four children of a demo, once they are there (from /proc)."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    if not listing.exists():
        pytest.skip("this system has no /proc/<pid>/task/<pid>/children")
    deadline = time.monotonic() + 20
    while True:
        children = [int(child) for child in listing.read_text().split()]
        if len(children) == 4:
            return children
        assert time.monotonic() < deadline, f"only {len(children)} children"
        time.sleep(0.02)


def test_missing_example_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a package that the examples import the message says what to install."""
    monkeypatch.setattr(stack, "_NEEDED", ("flask", "no_such_package"))
    with pytest.raises(stack.DependencyError, match="pip install no_such_package"):
        stack.check_packages()


def test_outside_a_checkout_the_way_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no example services are, the message says where they were sought and what to do."""
    monkeypatch.setattr(stack, "__file__", str(tmp_path / "site" / "otelbridge" / "demo" / "x.py"))
    with pytest.raises(stack.DemoError, match="from a checkout"):
        stack.services_dir()


def test_services_get_nothing_of_the_callers_telemetry_settings() -> None:
    """OTEL_*, LANGFUSE_* and OTELBRIDGE_* of the shell stay out, what the demo sets gets in."""
    addresses = stack.choose_addresses()
    shell = {"PATH": "/bin", "LANGFUSE_SECRET_KEY": "real", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    env = stack.service_environment("gateway", addresses, {"OTELBRIDGE_EXPORT": "direct"}, shell)
    assert "LANGFUSE_SECRET_KEY" not in env
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in env
    assert env["PATH"] == "/bin"
    assert env["OTELBRIDGE_EXPORT"] == "direct"
    assert env["OTELBRIDGE_TRUST_INBOUND"] == "false"
    assert "OTELBRIDGE_TRUST_INBOUND" not in stack.service_environment("rag", addresses, {}, shell)
