"""Two hundred secrets planted in a running service: none leaves the process, none is on its disk.

The service of `canary_app` is a process of its own; what it sends is read as raw bytes at the far
end, what it keeps for later as the bytes of its files and as the requests in them.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import otelbridge
from otelbridge.masking import Masking, Pattern
from tests.masking.making import Maker

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
APP = Path(__file__).with_name("canary_app.py")
COUNT = 200


class FarEnd:
    """An OTLP receiver that keeps what comes over the wire, and answers as told."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        self.raw: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                zipped = self.headers.get("content-encoding") == "gzip"
                outer.raw += [str(self.headers).encode(), raw]
                if outer.status == 200:
                    outer.bodies.append(gzip.decompress(raw) if zipped else raw)
                self.send_response(outer.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    end = FarEnd()
    yield end
    end.close()


def planted(seed: str) -> list[str]:
    """Secrets of one line of every kind; a password stands behind its name."""
    make = Maker(seed)
    makers = (
        *(make.email, make.phone, make.card, make.iban, make.korean_number, make.ssn),
        *(make.api_key, make.jwt, lambda: f"password={make.text('abcdefgh', 9)}7!", make.api_key),
    )
    return [makers[number % len(makers)]() for number in range(COUNT)]


def run_app(far_end: FarEnd, tmp_path: Path, secrets: list[str], **given: str) -> str:
    path = tmp_path / "canaries.json"
    path.write_text(json.dumps(secrets), encoding="utf-8")
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {
        **keep,
        "PYTHONPATH": str(ROOT),
        "OTEL_SERVICE_NAME": "canaries",
        "OTEL_RESOURCE_ATTRIBUTES": "team.mail=team.lead%40example.com",
        "OTEL_EXPORTER_OTLP_ENDPOINT": far_end.url,
        "OTELBRIDGE_SPOOL_DIR": str(tmp_path / "spool"),
        **given,
    }
    done = subprocess.run(
        [sys.executable, str(APP), str(path)],
        capture_output=True, text=True, timeout=50, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def leaked(blobs: list[bytes], secrets: list[str]) -> list[str]:
    """Secrets that can be read in bytes, percent-encoded too, whole or in a long part."""
    joined = b"\n".join(blobs)
    joined += unquote_to_bytes(joined)
    found = []
    for secret in [*secrets, "team.lead@example.com"]:
        vital = secret.removeprefix("password=")
        parts = {vital}
        if len(vital) >= 24:
            parts |= {vital[12:], vital[:-12]}
        if any(part.encode() in joined for part in parts):
            found.append(secret)
    return found


def spans_in(bodies: list[bytes]) -> list[str]:
    messages = [ExportTraceServiceRequest.FromString(body) for body in bodies]
    return [
        span.name
        for message in messages
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize("exporter", ["bridge", "stock"])
def test_no_canary_leaves_the_process(far_end: FarEnd, tmp_path: Path, exporter: str):
    """200 planted, 0 in the bytes at the far end; the spans themselves all arrive."""
    secrets = planted(exporter)
    assert "flushed" in run_app(far_end, tmp_path, secrets, OTELBRIDGE_EXPORTER=exporter)
    assert leaked([*far_end.raw, *far_end.bodies], secrets) == []
    names = spans_in(far_end.bodies)
    assert {"chat gpt-4o", "execute_tool lookup", "GET /fail", "POST /ask/<path:rest>"} <= set(
        names
    )
    assert sum(name.startswith("SET ") for name in names) >= COUNT // 20
    # Nothing was thrown away instead of masked.
    assert b"".join(far_end.bodies).count(b"[masked") >= COUNT


def test_the_test_would_notice(far_end: FarEnd, tmp_path: Path):
    """With masking off most of them are there: what is planted does reach the export path."""
    secrets = planted("off")
    run_app(far_end, tmp_path, secrets, OTELBRIDGE_MASKING="false")
    assert len(leaked(far_end.bodies, secrets)) > COUNT * 0.9


def test_no_canary_is_on_disk(far_end: FarEnd, tmp_path: Path):
    """The endpoint is down: what waits in the spool is masked, in the files and in the requests."""
    far_end.status = 503
    secrets = planted("disk")
    run_app(far_end, tmp_path, secrets)
    files = [path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    copy = tmp_path / "copy"
    keep = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "otelbridge", "spool", "export", str(copy), "--dir"]
    subprocess.run(
        [*command, str(tmp_path / "spool")], check=True, capture_output=True, timeout=30, env=keep
    )
    bodies = [path.read_bytes() for path in copy.iterdir()]
    assert len(spans_in(bodies)) > 50
    assert leaked([*files, *bodies, *far_end.raw], secrets) == []


def test_rules_in_code_reach_the_export_path(far_end: FarEnd, tmp_path: Path):
    """`configure(masking=Masking(...))`: own patterns, an allowed text, an attribute left out."""
    rules = Masking(
        patterns=[Pattern("employee", r"EMP-\d{6}")],
        allow=["*@example.org"],
        keys={"app.note": "drop"},
    )
    given = {"otlp_endpoint": far_end.url, "spool_directory": str(tmp_path), "instrument": False}
    provider = otelbridge.configure(masking=rules, **given)
    assert provider is not None
    attributes = {"app.note": "a note", "who": "EMP-123456 a@example.org b@example.com"}
    provider.get_tracer("tests").start_span("work", attributes=attributes).end()
    assert otelbridge.flush()
    assert otelbridge.shutdown()
    sent = b"".join(far_end.bodies)
    assert b"[masked:employee] a@example.org [masked:email]" in sent
    assert b"app.note" not in sent


def test_a_mistake_in_the_rules_stops_configure(monkeypatch: pytest.MonkeyPatch):
    """Before anything is installed: an application does not start with half of its masking."""
    monkeypatch.setenv("OTELBRIDGE_MASKING", "emails")
    with pytest.raises(otelbridge.ConfigError, match="OTELBRIDGE_MASKING"):
        otelbridge.configure(instrument=False)
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
