"""Starts servers as processes, asks them from several threads, and compares what came out.

`Server` is one server with its log, `Load` are clients that keep the spans of every answer that
came in whole, `Outcome` says which of those the far end lacks or has twice.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from tests.exporters.fault_server import Receiver, until

ROOT = Path(__file__).parents[3]
APPS = "tests.exporters.servers"
GUNICORN = [
    *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
    *("--bind", "127.0.0.1:0", "--graceful-timeout", "20"),
]
UVICORN = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "0"]
UVICORN += ["--timeout-worker-healthcheck", "60"]  # else it kills workers that start slowly
#: As gunicorn, uvicorn and uWSGI say it.
_BOUND = re.compile(r"(?:Listening at: http://|running on http://|TCP address )127\.0\.0\.1:(\d+)")


def environment(endpoint: str, spool: Path, **variables: str) -> dict[str, str]:
    """What a process of a service is given: the endpoint, a spool, and the checkout's modules."""
    path = os.environ.get("PYTHONPATH")
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])]),
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_SERVICE_NAME": "served",
        "OTELBRIDGE_SPOOL_DIR": str(spool),
        "no_proxy": "127.0.0.1",
        **variables,
    }


class Server:
    """One server process on a free port; a context manager that leaves no process behind.

    Args:
        command: What to start; it says in its log which port of 127.0.0.1 it has got.
        log: Its output.
    """

    def __init__(self, command: Sequence[str], variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=variables, cwd=ROOT, stdout=out, stderr=out, start_new_session=True
            )
        if not until(lambda: self._port() or self.process.poll() is not None, 30) or not (
            port := self._port()
        ):
            self.kill()
            raise AssertionError(f"{command[0]} did not start:\n{self.output()}")
        self.port = port

    def _port(self) -> int:
        found = _BOUND.search(self.output())
        return int(found[1]) if found else 0

    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send its master process a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = 30) -> int:
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} s:\n{self.output()}") from None

    def kill(self) -> None:
        """End all of its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Load:
    """Clients that ask one request after the other until they are told to stop."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self._port = port
        self._stop = threading.Event()
        #: Span ids of the answers that came in whole.
        self.finished: list[str] = []
        #: How many answers came from each process.
        self.answers: Counter[int] = Counter()
        self.requests = 0
        self._last: deque[int] = deque(maxlen=60)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                body = response.read().decode()
                assert response.status == 200, body
            except (OSError, http.client.HTTPException):
                self._stop.wait(0.02)  # the server starts or ends
                continue
            finally:
                connection.close()
            pid, *span_ids = body.split()
            with self._lock:
                self.requests += 1
                self.answers[int(pid)] += 1
                self._last.append(int(pid))
                self.finished.extend(span_ids)

    def until(self, requests: int, seconds: float = 30) -> None:
        """Wait until so many more requests have been answered."""
        goal = self.requests + requests
        assert until(lambda: self.requests >= goal, seconds), f"{self.requests} of {goal} answers"

    def until_all_answer(self, processes: int, seconds: float = 30) -> None:
        """Wait until each of so many processes has answered just now.

        A gunicorn worker misses a SIGTERM that comes before it has set its handlers.
        """

        def all_do() -> bool:
            with self._lock:
                return len(set(self._last)) >= processes

        assert until(all_do, seconds), f"of {processes} processes {set(self._last)} answer"

    def stop(self) -> None:
        """End all clients."""
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


class Outcome:
    """What the far end has of the spans that answers named."""

    def __init__(self, finished: Sequence[str], receiver: Receiver) -> None:
        arrived = Counter(receiver.span_ids)
        self.finished = len(finished)
        self.missing = [span_id for span_id in finished if span_id not in arrived]
        self.twice = [span_id for span_id, times in arrived.items() if times > 1]
        self.import_pids = {
            int(name.removeprefix("import "))
            for name in receiver.names
            if name.startswith("import ")
        }

    def assert_once_each(self) -> None:
        """Fail unless every span of a finished request is there, and no span twice."""
        assert self.finished
        assert not self.missing, f"{len(self.missing)} of {self.finished} spans are missing"
        assert not self.twice, f"{len(self.twice)} spans arrived twice"
