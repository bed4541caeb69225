"""Servers restarted and ended again and again under load, and programs killed: what gets lost.

Rounds over gunicorn (sync with recycled workers, gthread, gevent; own import and --preload),
uvicorn and gunicorn's ASGI workers: SIGHUP where the server has it, SIGTERM, both under load; every
span of a finished request has to arrive, once. Then `kill -9` of a program with write-ahead, whose
next start delivers: how long before the kill the oldest lost span had ended. Exits 1 when a span of
a finished request is lost, one came twice, or a kill costs more than the last 200 ms.
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from benchmarks import _results
from tests.exporters.fault_server import Receiver, until
from tests.exporters.servers.harness import (
    APPS,
    GUNICORN,
    ROOT,
    UVICORN,
    Load,
    Outcome,
    Server,
    environment,
)

BAR_MILLISECONDS: Final = 200.0
_WSGI: Final = f"{APPS}.wsgi_app:application"
_ASGI: Final = f"{APPS}.asgi_app:application"
_RECYCLED: Final = ("--max-requests", "150", "--max-requests-jitter", "50")
#: Name to command, worker processes, whether SIGHUP starts new ones.
SETUPS: Final[dict[str, tuple[list[str], int, bool]]] = {
    "gunicorn sync": ([*GUNICORN, "-w", "4", *_RECYCLED, _WSGI], 4, True),
    "gunicorn sync --preload": ([*GUNICORN, "-w", "4", *_RECYCLED, "--preload", _WSGI], 4, True),
    "gunicorn gthread": ([*GUNICORN, "-w", "2", "--threads", "3", _WSGI], 2, True),
    "gunicorn gthread --preload": (
        [*GUNICORN, "-w", "2", "--threads", "3", "--preload", _WSGI], 2, True,
    ),
    "gunicorn gevent": ([*GUNICORN, "-w", "2", "-k", "gevent", _WSGI], 2, True),
    "gunicorn gevent --preload": (
        [*GUNICORN, "-w", "2", "-k", "gevent", "--preload", _WSGI], 2, True,
    ),
    "gunicorn asgi": ([*GUNICORN, "-w", "2", "-k", "asgi", _ASGI], 2, True),
    "uvicorn --workers 2": ([*UVICORN, "--workers", "2", _ASGI], 2, False),
}  # fmt: skip


def one_round(setup: str, requests: int, folder: Path) -> dict[str, Any]:
    """Start, load, restart where it can, end; what is missing or there twice."""
    command, processes, restarts = SETUPS[setup]
    receiver = Receiver()
    with Server(
        command, environment(receiver.endpoint, folder / "spool"), folder / "log"
    ) as server:
        load = Load(server.port)
        load.until_all_answer(processes)
        load.until(requests)
        if restarts:
            before = set(load.answers)
            server.signal(signal.SIGHUP)
            until(lambda: len(set(load.answers) - before) >= processes, 30)
            load.until_all_answer(processes)
            load.until(requests)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        server.ended()
        seconds = time.monotonic() - started
        load.stop()
    receiver.close()
    outcome = Outcome(load.finished, receiver)
    return {
        "setup": setup,
        "spans": outcome.finished,
        "missing": len(outcome.missing),
        "twice": len(outcome.twice),
        "processes": len(load.answers),
        "end_seconds": round(seconds, 2),
    }


def one_kill(far_end: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Kill a program in the middle of its work, start the next; what never came."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    if far_end != "silent":
        listening.close()
    receiver = Receiver(port=port) if far_end == "healthy" else None
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    variables = environment(endpoint, folder / "spool", OTELBRIDGE_SPOOL_MODE="write-ahead")
    output = folder / "ended"
    command = [sys.executable, "-m", f"{APPS}.programs"]
    with output.open("wb") as out:
        busy = subprocess.Popen([*command, "busy"], env=variables, cwd=ROOT, stdout=out)
    until(output.read_bytes, 30)
    time.sleep(seconds)
    busy.kill()
    killed_ns = time.monotonic_ns()
    busy.wait()
    lines = [line.split() for line in output.read_text().splitlines()]
    listening.close()
    receiver = receiver or Receiver(port=port)
    following = subprocess.Popen([*command, "stay"], env=variables, cwd=ROOT, stdin=subprocess.PIPE)
    # Settled: nothing new for a second.
    seen, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 1.0 or not seen:
        if len(receiver.span_ids) != seen:
            seen, quiet_since = len(receiver.span_ids), time.monotonic()
        time.sleep(0.02)
    following.communicate()
    receiver.close()
    arrived = set(receiver.span_ids)
    lost = [killed_ns - int(at_ns) for span_id, at_ns in lines if span_id not in arrived]
    return {
        "far_end": far_end,
        "spans": len(lines),
        "lost": len(lost),
        "lost_milliseconds": round(max(lost, default=0) / 1e6, 1),
        "twice": len(receiver.span_ids) - len(arrived),
    }


def _each(count: int, setups: Iterable[str], requests: int) -> list[dict[str, Any]]:
    found = []
    for setup in setups:
        for _ in range(count):
            with tempfile.TemporaryDirectory() as folder:
                found.append(one_round(setup, requests, Path(folder)))
            print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5, help="of each server")
    parser.add_argument("--requests", type=int, default=1000, help="before each signal")
    parser.add_argument(
        "--kills", type=int, default=10, help="for a healthy, a refusing and a silent far end"
    )
    parser.add_argument("--only", default="", help="part of a server's name")
    options = parser.parse_args()
    setups = [setup for setup in SETUPS if options.only in setup]
    rounds = _each(options.rounds, setups, options.requests)
    kills = []
    for far_end in ("healthy", "refused", "silent"):
        for number in range(options.kills):
            with tempfile.TemporaryDirectory() as folder:
                kills.append(one_kill(far_end, 1.0 + 0.037 * number, Path(folder)))
            print(kills[-1], file=sys.stderr, flush=True)
    spans = sum(each["spans"] for each in rounds)
    missing = sum(each["missing"] for each in rounds)
    twice = sum(each["twice"] for each in rounds)
    rows = []
    if rounds:
        rows.append(
            _results.Row(
                "Servers restarted and ended under load: spans of finished requests lost, twice",
                f"{missing}, {twice} of {spans:,}",
                "0, 0",
            )
        )
    worst = max((kill["lost_milliseconds"] for kill in kills), default=0.0)
    if kills:
        rows.append(
            _results.Row(
                f"{len(kills)} kills with write-ahead: lost were the last",
                f"{worst:g} ms at most",
                f"{BAR_MILLISECONDS:g} ms",
            )
        )
    _results.save("servers", {"rounds": rounds, "kills": kills}, rows)
    return int(missing > 0 or twice > 0 or worst > BAR_MILLISECONDS)


if __name__ == "__main__":
    sys.exit(main())
