"""How the own export path behaves when its process ends: SIGTERM, exit, child processes, TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelbridge.exporters.answers import Verdict
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.otlp import bridge_processor
from otelbridge.settings import Settings
from tests.exporters.fault_server import Receiver, until

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, signal, sys, threading, time
from opentelemetry.sdk.trace import TracerProvider
from otelbridge.exporters.lifecycle import on_sigterm
from otelbridge.exporters.otlp import bridge_processor
from otelbridge.settings import Settings

def main(count, own_handler=False):
    if own_handler:
        signal.signal(signal.SIGTERM, lambda *_: (print("handled", flush=True), os._exit(7)))
    processor = bridge_processor(Settings.from_env())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    on_sigterm(lambda dies: processor.shutdown() if dies else processor.force_flush(1500))
    tracer = provider.get_tracer("t")
    for number in range(count):
        tracer.start_span(f"s{number}").end()
    return processor, tracer
"""


def program(tmp_path: Path, endpoint: str, body: str, **variables: str) -> subprocess.Popen[str]:
    """A Python program with the own export path; `ready` on its output says that spans ended."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + "\nif __name__ == '__main__':\n" + textwrap.indent(body, "    "))
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_SERVICE_NAME": "ends",
        "OTELBRIDGE_SPOOL_DIR": str(tmp_path / "spool"),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def started(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def ended(process: subprocess.Popen[str]) -> int:
    with process:
        return process.wait(20)


WAITS = "main({count}); print('ready', flush=True); signal.pause(); time.sleep(30)"


def test_sigterm_delivers_and_ends_as_before(receiver: Receiver, tmp_path: Path) -> None:
    """A process without a handler delivers its queue and dies of SIGTERM all the same."""
    process = program(tmp_path, receiver.endpoint, WAITS.format(count=300))
    started(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == -signal.SIGTERM
    assert sorted(receiver.names) == sorted(f"s{number}" for number in range(300))


def test_sigterm_with_a_silent_endpoint_is_bounded_and_spools(
    receiver: Receiver, tmp_path: Path
) -> None:
    """With an endpoint that never answers SIGTERM takes at most 2 s; the next start delivers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        process = program(tmp_path, endpoint, WAITS.format(count=2000))
        started(process)
        before = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert ended(process) == -signal.SIGTERM
        assert time.monotonic() - before <= 2.0
    # Spans belong to the service and its endpoint, so the receiver takes over the address.
    settings = Settings.from_env(
        {
            "OTEL_SERVICE_NAME": "ends",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "OTELBRIDGE_SPOOL_DIR": str(tmp_path / "spool"),
        }
    )
    processor = bridge_processor(settings)
    processor.sender._delivery.close()
    processor.sender._delivery = Delivery(receiver.endpoint)
    processor.sender.rest_until = 0.0
    assert until(lambda: len(receiver.names) >= 2000 or not processor.force_flush(500), 15)
    assert until(lambda: len(receiver.names) >= 2000, 15)
    processor.shutdown()
    assert sorted(receiver.names) == sorted(f"s{number}" for number in range(2000))


def test_sigterm_leaves_the_programs_handler_in_charge(receiver: Receiver, tmp_path: Path) -> None:
    """A handler that was there before still decides, after the spans are delivered."""
    body = "main(10, own_handler=True); print('ready', flush=True); time.sleep(30)"
    process = program(tmp_path, receiver.endpoint, body)
    started(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 7
    assert len(receiver.names) == 10


def test_a_multiprocessing_child_delivers(receiver: Receiver, tmp_path: Path) -> None:
    """Spans of a forked `multiprocessing` child, which ends without atexit, arrive once each."""
    body = """\
import multiprocessing
processor, tracer = main(5)
def work():
    for number in range(5):
        tracer.start_span(f"c{number}").end()
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
print("ready", flush=True)
processor.shutdown()
"""
    process = program(tmp_path, receiver.endpoint, body)
    started(process)
    assert ended(process) == 0
    wanted = [f"c{number}" for number in range(5)] + [f"s{number}" for number in range(5)]
    assert sorted(receiver.names) == wanted


def test_spans_that_end_in_atexit_are_delivered(receiver: Receiver, tmp_path: Path) -> None:
    """A first span that ends after threads can no longer be started is delivered by `shutdown`."""
    body = """\
import atexit
processor, tracer = main(0)
atexit.register(processor.shutdown)
atexit.register(lambda: tracer.start_span("last").end())
print("ready", flush=True)
"""
    process = program(tmp_path, receiver.endpoint, body)
    started(process)
    assert ended(process) == 0
    assert receiver.names == ["last"]


def test_write_ahead_survives_a_kill(receiver: Receiver, tmp_path: Path) -> None:
    """With write-ahead, spans that ended 0.4 s before SIGKILL are found and delivered."""
    body = """\
main(500)
time.sleep(0.4)
print("ready", flush=True)
signal.pause()
"""
    failing = Receiver(lambda _: (503, {}, b""))
    process = program(tmp_path, failing.endpoint, body, OTELBRIDGE_SPOOL_MODE="write-ahead")
    started(process)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    failing.behaviour = lambda _: (200, {}, b"")
    again = program(
        tmp_path, failing.endpoint, "main(0); print('ready', flush=True); signal.pause()"
    )
    started(again)
    delivered = until(lambda: len(failing.names) >= 500)
    again.terminate()
    ended(again)
    failing.close()
    assert delivered
    assert sorted(failing.names) == sorted(f"s{number}" for number in range(500))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    made, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=otelbridge test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


def test_the_given_certificate_decides_about_tls(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OTEL_EXPORTER_OTLP_CERTIFICATE wins over REQUESTS_CA_BUNDLE; without it nobody vouches."""
    made, key = certificate
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "no-such-file.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    receiver = Receiver(tls=context)
    try:
        known = Delivery(receiver.endpoint, certificate=str(made))
        for _ in range(2):
            answer = known.post(b"", encoding="", tick=lambda: None)
            assert answer.verdict is Verdict.DELIVERED
        known.close()
        assert receiver.connections == 1
        stranger = Delivery(receiver.endpoint).post(b"", encoding="", tick=lambda: None)
        assert stranger.verdict is Verdict.MISCONFIGURED
        assert "certificate" in stranger.reason
    finally:
        receiver.close()


def test_a_proxy_is_asked_for_the_whole_address(receiver: Receiver) -> None:
    """Plain HTTP through a proxy names the endpoint in the request, with its own Host."""
    delivery = Delivery(
        "http://collector.invalid:4318/v1/traces", proxy=f"http://u:p@127.0.0.1:{receiver.port}"
    )
    answer = delivery.post(b"", encoding="", tick=lambda: None)
    delivery.close()
    assert answer.verdict is Verdict.DELIVERED
    assert receiver.paths == ["http://collector.invalid:4318/v1/traces"]
    assert receiver.request_headers[0]["host"] == "collector.invalid:4318"
    assert receiver.request_headers[0]["proxy-authorization"] == "Basic dTpw"


def test_tls_goes_through_a_tunnel(certificate: tuple[Path, Path]) -> None:
    """HTTPS through a proxy asks it for a tunnel and checks the endpoint's certificate inside."""
    made, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    receiver = Receiver(tls=context)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    sink.sendall(data)

        def serve() -> None:
            inner, _ = proxy.accept()
            with inner, socket.create_connection(("127.0.0.1", receiver.port)) as outer:
                asked.append(inner.recv(4096).split(b"\r\n")[0])
                inner.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                threading.Thread(target=pump, args=(outer, inner), daemon=True).start()
                pump(inner, outer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        delivery = Delivery(
            receiver.endpoint,
            certificate=str(made),
            proxy=f"http://127.0.0.1:{proxy.getsockname()[1]}",
        )
        answer = delivery.post(b"", encoding="", tick=lambda: None)
        delivery.close()
        thread.join(5)
    receiver.close()
    assert answer.verdict is Verdict.DELIVERED
    assert asked == [f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1".encode()] or asked == [
        f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.0".encode()
    ]


def test_a_missing_certificate_is_a_configuration_error(tmp_path: Path) -> None:
    """A certificate file that is not there is named, not retried as an outage."""
    delivery = Delivery("https://127.0.0.1:9/", certificate=str(tmp_path / "gone.pem"))
    answer = delivery.post(b"", encoding="", tick=lambda: None)
    assert answer.verdict is Verdict.MISCONFIGURED
    assert "certificate" in answer.reason
