"""Programs with child processes, threads and tasks: what has ended arrives, once each.

Also what a program leaves that ends without notice: a child's `os._exit`, `kill -9`.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otelbridge.exporters.bodies import Request
from otelbridge.exporters.delivery import Delivery
from otelbridge.exporters.otlp import bridge_processor
from otelbridge.exporters.sender import Sender
from otelbridge.settings import Settings
from tests.exporters.fault_server import Receiver, until
from tests.exporters.servers.harness import APPS, ROOT, Outcome, environment


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    far_end = Receiver()
    yield far_end
    far_end.close()


def ended_spans(tmp_path: Path, receiver: Receiver, *way: str, **variables: str) -> list[str]:
    """Run a program to its end; the ids of the spans that it says have ended."""
    run = subprocess.run(
        [sys.executable, "-m", f"{APPS}.programs", *way],
        env=environment(receiver.endpoint, tmp_path / "spool", **variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == (3 if way[0] == "error" else 0), run.stderr
    return run.stdout.split()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("way", "spans"),
    [
        ("processes fork", 12),
        ("processes spawn", 12),
        ("processes forkserver", 12),
        ("pool fork", 21),
        ("pool spawn", 21),
        ("executor fork", 21),
        ("executor spawn", 21),
        ("fork flush", 9),
        ("fork return", 9),
        ("threads", 18),
        ("asyncio", 6),
        ("error", 3),
    ],
)
def test_spans_of_a_program_that_ended(
    receiver: Receiver, tmp_path: Path, way: str, spans: int
) -> None:
    """Every span that ended in a program, its children, threads and tasks is there, once."""
    ended = ended_spans(tmp_path, receiver, *way.split())
    assert len(ended) == spans
    Outcome(ended, receiver).assert_once_each()


@pytest.mark.e2e
def test_a_child_that_ends_by_os_exit_loses_its_last_spans(
    receiver: Receiver, tmp_path: Path
) -> None:
    """As documented: nothing of Python runs at `os._exit`; the parent's spans are all there."""
    ended = ended_spans(tmp_path, receiver, "fork", "at once")
    outcome = Outcome(ended, receiver)
    assert len(ended) == 9
    assert len(outcome.missing) == 3
    assert not outcome.twice


@pytest.mark.e2e
def test_write_ahead_keeps_the_spans_of_a_child_that_ends_by_os_exit(
    receiver: Receiver, tmp_path: Path
) -> None:
    """With write-ahead, what ended a while before `os._exit` is not lost."""
    ended = ended_spans(tmp_path, receiver, "fork", "wait", OTELBRIDGE_SPOOL_MODE="write-ahead")
    assert len(ended) == 9
    Outcome(ended, receiver).assert_once_each()


@pytest.mark.e2e
@pytest.mark.parametrize("far_end", ["healthy", "refused", "silent", "unanswered"])
def test_write_ahead_bounds_what_a_killed_program_loses(tmp_path: Path, far_end: str) -> None:
    """After `kill -9` the next start delivers all but what ended in the last moments.

    Stated are 200 ms (benchmarks/servers.py measures them); here 1 s, for slow machines.
    """
    listening = socket.create_server(
        ("127.0.0.1", 0), backlog=0 if far_end == "unanswered" else 128
    )
    port = listening.getsockname()[1]
    fillers = []
    if far_end == "unanswered":  # Linux lets connections to a full queue wait, as a black hole does
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
    elif far_end != "silent":
        listening.close()
    receiver = Receiver(port=port) if far_end == "healthy" else None
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    variables = environment(endpoint, tmp_path / "spool", OTELBRIDGE_SPOOL_MODE="write-ahead")
    output = tmp_path / "ended"
    command = [sys.executable, "-m", f"{APPS}.programs"]
    with output.open("wb") as out:
        busy = subprocess.Popen([*command, "busy"], env=variables, cwd=ROOT, stdout=out)
    assert until(output.read_bytes, 30)
    started_ns = time.monotonic_ns()
    assert until(lambda: time.monotonic_ns() - started_ns > 1_600_000_000)
    busy.kill()
    killed_ns = time.monotonic_ns()
    assert busy.wait(10) == -signal.SIGKILL
    ended = {
        span_id: int(at_ns) for span_id, at_ns in map(str.split, output.read_text().splitlines())
    }
    surely = [span_id for span_id, at_ns in ended.items() if killed_ns - at_ns > 1_000_000_000]
    for one in (listening, *fillers):
        one.close()
    if receiver is None:
        receiver = Receiver(port=port)
    following = subprocess.Popen([*command, "stay"], env=variables, cwd=ROOT, stdin=subprocess.PIPE)
    assert until(lambda: set(surely) <= set(receiver.span_ids), 20)
    following.communicate(timeout=20)
    receiver.close()
    assert len(surely) > 20
    if far_end != "healthy":  # there the request on its way when it was killed may come again
        assert len(receiver.span_ids) == len(set(receiver.span_ids))


def test_a_second_end_waits_for_the_first(tmp_path: Path) -> None:
    """SIGTERM during a delivery at exit: who asks again may kill the process after the answer."""
    answering = threading.Event()

    def slowly(_: list[str]) -> tuple[int, dict[str, str], bytes]:
        answering.set()
        time.sleep(0.3)
        return 200, {}, b""

    receiver = Receiver(slowly)
    processor = bridge_processor(
        Settings.from_env(
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint,
                "OTEL_SERVICE_NAME": "ends",
                "OTELBRIDGE_SPOOL_DIR": str(tmp_path),
            }
        )
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("t").start_span("last").end()
    first = threading.Thread(target=processor.end, args=(20.0,))
    first.start()
    assert answering.wait(10)
    assert processor.end(20.0)
    assert receiver.names == ["last"]
    first.join(10)
    receiver.close()


def test_what_a_worker_is_storing_is_not_stored_again_at_the_end() -> None:
    """The worker gives up on a request at the moment at which the end takes over: one copy."""
    storing, proceed = threading.Event(), threading.Event()
    stored: list[bytes] = []

    class SlowSpool:
        def put(self, payload: bytes, spans: int, *, gzipped: bool = False) -> bool:
            storing.set()
            proceed.wait(10)
            stored.append(payload)
            return True

        def close(self) -> None:
            """Nothing is open."""

    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        sender = Sender(
            Delivery(f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces"),
            spool=SlowSpool(),  # type: ignore[arg-type]  # as much of a spool as is used
            compression="none",
            timeout_seconds=5,
            pulse=lambda: None,
            name="nobody",
        )
        worker = threading.Thread(target=lambda: sender.submit(Request(b"body", 1)))
        worker.start()
        assert storing.wait(10)
        proceed.set()
        sender.spool_held()
        worker.join(10)
    assert stored == [b"body"]


@pytest.mark.e2e
def test_sigterm_while_the_end_delivers_loses_nothing(tmp_path: Path) -> None:
    """A second reason to end, in the middle of the delivery at exit, waits for that."""
    asked = threading.Event()

    def slow(_: list[str]) -> tuple[int, dict[str, str], bytes]:
        asked.set()
        released.wait(0.4)
        return 200, {}, b""

    released = threading.Event()  # never set: `wait` is the far end's time to answer
    far_end = Receiver(slow)
    try:
        program = subprocess.Popen(
            [sys.executable, "-m", f"{APPS}.programs", "many"],
            env=environment(far_end.endpoint, tmp_path / "spool"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        ended = program.stdout.readline().split()
        assert asked.wait(20)
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=20)
        assert len(ended) == 600
        kept = Settings.from_env(
            {
                "OTELBRIDGE_SPOOL_DIR": str(tmp_path / "spool"),
                "OTEL_SERVICE_NAME": "served",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": far_end.endpoint,
            }
        )
        rest = bridge_processor(kept)  # a next start of the service
        try:
            assert until(lambda: set(ended) <= set(far_end.span_ids), 20)
        finally:
            rest.shutdown()
    finally:
        far_end.close()
