"""Dockerfile: held to its rules; what its images run, run natively as compose would."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from otelbridge.demo.processes import free_ports
from otelbridge.demo.views import langfuse_trace, tempo_trace
from otelbridge.local.server import LocalServer, Ports
from tests.deploy.tools import ROOT, hadolint

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SERVICES = ("upstream", "llm", "rag", "gateway")


def stage(name: str) -> str:
    """The lines of one stage of the Dockerfile."""
    return re.search(rf"(?ms)^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE)[1]


def health_command(name: str) -> list[str]:
    """The image's HEALTHCHECK, as a list."""
    return json.loads(re.search(r"HEALTHCHECK [^\n]*\n\s+CMD (\[[^\n]*\])\n", stage(name))[1])


# -- the file --------------------------------------------------------------------------------------
def test_hadolint_finds_nothing():
    """No finding of any level, without an exception."""
    told = subprocess.run(
        [hadolint(), "--no-fail", "--format", "json", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == []
    assert "hadolint" not in DOCKERFILE


def test_every_base_image_is_pinned():
    """Host, tag with a version or a release name, digest."""
    bases = re.findall(r"(?m)^FROM (\S+)", DOCKERFILE)
    assert len(bases) == 4
    for base in bases:
        assert re.fullmatch(r"docker\.io/library/\w+:[\w.-]+@sha256:[0-9a-f]{64}", base), base


@pytest.mark.parametrize("name", ["services", "collector"])
def test_images_run_as_a_plain_user(name):
    """A number, so that `runAsNonRoot` can see it; a health check and a signal that is heard."""
    lines = stage(name)
    assert re.findall(r"(?m)^USER (.*)", lines) == ["10001:10001"]
    assert lines.index("USER ") < lines.index("HEALTHCHECK ")
    assert "STOPSIGNAL " in lines


def test_health_checks_are_the_same_in_both_files(light):
    """compose repeats the image's HEALTHCHECK, because an image in OCI format has none."""
    for name in (*SERVICES, "collector"):
        kind, *said = light["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        image = "collector" if name == "collector" else "services"
        assert [part.replace("$$", "$") for part in said] == health_command(image)


def test_packages_are_locked():
    """Every package has a version and hashes; nothing is compiled or resolved in the build."""
    build = stage("wheels")
    for install in re.findall(r"install (.*?)(?: \\|$)", build, re.MULTILINE):
        assert "--require-hashes --only-binary :all:" in install or "--no-index" in install
    for lock in ("requirements.lock", "build.lock"):
        text = (ROOT / "deploy/image" / lock).read_text("utf-8")
        packages = re.findall(r"(?m)^([a-z0-9._-]+)(\[[^]]*\])?==\S+", text)
        assert packages
        assert text.count(" \\\n    --hash=sha256:") >= len(packages)
        assert "://" not in re.sub(r"(?m)^\s*#.*", "", text)


def test_image_has_the_versions_that_are_tested():
    """What is in both locks is the same release in both."""
    pin = re.compile(r"(?m)^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)")
    tested = dict(pin.findall((ROOT / "requirements.lock").read_text("utf-8")))
    image = dict(pin.findall((ROOT / "deploy/image/requirements.lock").read_text("utf-8")))
    differing = {name for name in image if name in tested and tested[name] != image[name]}
    assert differing == set()
    assert {"flask", "openai", "httpx", "opentelemetry-sdk"} <= set(image)
    assert not {"pytest", "mypy", "ruff"} & set(image)


def test_image_has_what_the_project_declares():
    """Each dependency of the package and of its extra `demo` is in the image's lock.

    All but DuckDB, a third of the image, which only `otelbridge local` needs.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["demo"], *extras["local"]]
    names = {re.match(r"[\w-]+", text)[0].lower() for text in wanted} - {
        "otelbridge",
        "duckdb",
        "nanoarrow",
    }
    lock = (ROOT / "deploy/image/requirements.lock").read_text("utf-8")
    assert {name for name in names if not re.search(rf"(?m)^{name}==", lock)} == set()


def test_build_context_holds_what_is_copied_and_no_secret():
    """.dockerignore lets in what the Dockerfile copies; never .env, .git, tests or caches."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = {
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE)
        for source in line.split()
    }
    for source in copied:
        assert (ROOT / source).exists(), source
        assert let_in(source, rules), source
    for name in (".env", ".git/config", "tests/conftest.py", ".cache/x", "otelbridge/__pycache__"):
        assert not let_in(name, rules), name


def let_in(path: str, rules: list[str]) -> bool:
    """Whether a path is in the build context: the last rule that meets it or a parent decides."""
    parts = path.split("/")
    parents = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    taken = True
    for rule in rules:
        anywhere, pattern = "**/" in rule, rule.removeprefix("!").removeprefix("**/")
        if any(fnmatch.fnmatch(name, pattern) for name in (parts if anywhere else parents)):
            taken = rule.startswith("!")
    return taken


def test_pin_writes_digests(tmp_path, monkeypatch):
    """`make pin` replaces the digest of every image in both files, and nothing else."""
    spec = importlib.util.spec_from_file_location("pin", ROOT / "deploy" / "pin.py")
    pin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pin)
    for name in pin.FILES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    new = "sha256:" + "ab" * 32
    monkeypatch.setattr(pin, "digest", lambda name: f"@{new}")
    monkeypatch.setattr(pin.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert pin.main(["--check"], tmp_path) == 1
    assert pin.main([], tmp_path) == 0
    for name in pin.FILES:
        before, after = (ROOT / name).read_text("utf-8"), (tmp_path / name).read_text("utf-8")
        assert after == re.sub(r"sha256:[0-9a-f]{64}", new, before)
        assert after.count(new) == before.count("@sha256:") > 0
    assert pin.main(["--check"], tmp_path) == 0
    monkeypatch.setattr(pin.shutil, "which", lambda name: None)
    assert pin.main([], tmp_path) == 2


# -- what it runs ----------------------------------------------------------------------------------
def adapted(text: str, ports: dict[str, int]) -> str:
    """Addresses of compose's network as this machine's: http://llm:8000 is 127.0.0.1:<port>."""
    for name, port in ports.items():
        text = re.sub(rf"\b{name}:\d+", f"127.0.0.1:{port}", text)
    return text.replace("$$", "$")


def base_environment() -> dict[str, str]:
    """What the image's own ENV gives, with this Python's programs in the place of /venv/bin."""
    given = re.search(r"(?m)^ENV PATH=\S+ HOME=\S+ (.*)$", stage("services"))[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    pairs = dict(pair.split("=") for pair in shlex.split(given))
    return {"PATH": path, "HOME": "/tmp", "PYTHONPATH": str(ROOT), **pairs}


def wait_healthy(command: list[str], env: dict[str, str], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 40
    while subprocess.run(command, env=env, capture_output=True, check=False).returncode:
        assert process.poll() is None, "ended before it was healthy"
        assert time.monotonic() < deadline, "did not become healthy"


@pytest.fixture
def children():
    """Processes that end with the test."""
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.mark.e2e
@pytest.mark.collector
@pytest.mark.timeout(180)
def test_stack_runs_natively(light, collector_binary, children, tmp_path):
    """compose's commands, environments, health checks: one question, one trace in both stores.

    The services hold their spans back, so those arrive only if the image's stop signal ends them in
    order. The Collector runs by collector/run.sh, with compose's further files.
    """
    services = light["services"]
    names = (*SERVICES, "http", "grpc", "health", "metrics", "prometheus")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with LocalServer(Ports(0, 0, 0, 0), preview_raw=False) as local:
        collector = start_collector(services["collector"], ports, local, collector_binary, tmp_path)
        children.append(collector)
        running = {}
        for name in SERVICES:
            running[name] = start_service(name, services[name], ports, tmp_path)
            children.append(running[name])
        question = {"question": "What does a bridge do?", "user": "u-1", "session": "s-1"}
        url = f"http://127.0.0.1:{ports['gateway']}"
        with httpx.Client(timeout=30) as client:
            answer = client.post(f"{url}/ask", json=question)
            assert answer.status_code == httpx.codes.OK
            trace_id = answer.headers["X-Trace-Id"]
            gateway_call(client, f"http://127.0.0.1:{ports['http']}", trace_id)
            for name in reversed(SERVICES):
                running[name].send_signal(signal.SIGINT)
                assert running[name].wait(10) in (0, 1, -signal.SIGINT, 130), name
            keys = (local.project.public_key, local.project.secret_key)
            deadline = time.monotonic() + 20
            while True:
                tempo = tempo_trace(client, local.tempo_url, trace_id)
                langfuse = langfuse_trace(client, local.langfuse_url, trace_id, keys)
                seen = {span.service for span in tempo.spans.values()}
                if seen == {"gateway", "rag", "llm", "litellm"} and len(langfuse.spans) > 3:
                    break
                assert time.monotonic() < deadline, (seen, langfuse.spans)
        ours = [span for span in tempo.spans.values() if span.service != "litellm"]
        assert [span.name for span in ours if not span.parent] == ["POST /ask"]
        assert {span.parent for span in ours} - {""} <= set(tempo.spans)
        assert SEEN_BY_GATEWAY in tempo.spans
        assert SEEN_BY_GATEWAY not in langfuse.spans, "the price of the call would count twice"
        assert langfuse.orphans == []
        assert not any("healthz" in span.name for span in tempo.spans.values())
        collector.send_signal(signal.SIGTERM)
        assert collector.wait(20) == 0


SEEN_BY_GATEWAY = "00000000000000a1"


def gateway_call(client: httpx.Client, url: str, trace_id: str) -> None:
    """A model call as LiteLLM reports it, sent to the Collector; without a parent, for brevity."""
    now = time.time_ns()
    span = {
        "traceId": trace_id, "spanId": SEEN_BY_GATEWAY, "name": "chat gpt-4o", "kind": 3,
        "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 1),
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
    }  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "litellm"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}
    client.post(f"{url}/v1/traces", json=body).raise_for_status()


def start_collector(service, ports, local, binary, folder) -> subprocess.Popen:
    """collector/run.sh with compose's environment, ports and stores of this test, healthy."""
    env = {key: adapted(value, {}) for key, value in service["environment"].items()} | {
        "PATH": os.environ["PATH"],
        "OTELBRIDGE_COLLECTOR_BINARY": str(binary),
        "OTELBRIDGE_COLLECTOR_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{ports['http']}",
        "OTELBRIDGE_COLLECTOR_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{ports['grpc']}",
        "OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT": f"127.0.0.1:{ports['health']}",
        "OTELBRIDGE_COLLECTOR_METRICS_HOST": "127.0.0.1",
        "OTELBRIDGE_COLLECTOR_METRICS_PORT": str(ports["metrics"]),
        "OTELBRIDGE_COLLECTOR_PROMETHEUS_ENDPOINT": f"127.0.0.1:{ports['prometheus']}",
        "OTELBRIDGE_COLLECTOR_QUEUE_DIR": str(folder / "queue"),
        "OTELBRIDGE_TEMPO_OTLP_ENDPOINT": local.otlp_grpc_endpoint,
        "LANGFUSE_HOST": local.langfuse_url,
        "LANGFUSE_PUBLIC_KEY": local.project.public_key,
        "LANGFUSE_SECRET_KEY": local.project.secret_key,
    }
    places = {v["target"]: v["source"] for v in service["volumes"] if v["type"] == "bind"}
    arguments = [
        next(part.replace(to, at) for to, at in places.items() if to in part)
        for part in service["command"]
    ]
    with (folder / "collector.log").open("wb") as log:
        process = subprocess.Popen(
            [str(ROOT / "collector/run.sh"), *arguments],
            env=env,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    check = [part.replace("13133", str(ports["health"])) for part in health_command("collector")]
    wait_healthy(check, env, process)
    return process


def start_service(name, service, ports, folder) -> subprocess.Popen:
    """One demo service by compose's command and environment, healthy by the image's own check."""
    names = {**{key: ports[key] for key in SERVICES}, "collector": ports["http"]}
    env = base_environment() | {
        key: adapted(value, names) for key, value in service["environment"].items()
    }
    env["OTEL_BSP_SCHEDULE_DELAY"] = "600000"  # ms: nothing leaves before the end
    if "HEALTH_URL" in env:
        env["HEALTH_URL"] = env["HEALTH_URL"].replace(":8000", f":{ports[name]}")
    command = [
        {"0.0.0.0": "127.0.0.1", "8000": str(ports[name])}.get(p, p) for p in service["command"]
    ]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=env, cwd=ROOT / "examples/services", stdout=log, stderr=log
        )
    check = [sys.executable, *health_command("services")[1:]]
    check[-1] = check[-1].replace(":8000", f":{ports[name]}")
    wait_healthy(check, env, process)
    return process
