"""A real Prometheus on loopback for the metrics tests, where Debian's binary is installed.

`Prometheus` scrapes the Collector each second, takes remote write, and answers PromQL. Without the
binary the test is skipped with the reason. Answers are read with a deadline: an empty answer may
only mean that the next scrape is still to come.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.collector.metrics_bench import written

_START_ATTEMPTS = 3  # a free port may be taken before Prometheus binds it


class Prometheus:
    """One server; `with Prometheus(folder, target=...)` returns when it is ready."""

    def __init__(self, folder: Path, *, target: str | None = None) -> None:
        """Keep what to run.

        Args:
            folder: For its data and its log.
            target: `host:port` to scrape; none when metrics are pushed.
        """
        self._folder = folder
        self._target = target
        self._binary = shutil.which("prometheus")
        if self._binary is None:
            pytest.skip("no prometheus binary: `apt-get install prometheus` (Debian) provides one")

    def __enter__(self) -> Self:
        for attempt in range(_START_ATTEMPTS):
            self._start(attempt)
            if self._ready():
                return self
            self.__exit__(None, None, None)
        pytest.fail(f"Prometheus did not start:\n{self._log_path.read_text('utf-8')[-2000:]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def remote_write_url(self) -> str:
        """Where remote write is taken."""
        return f"http://{self._address}/api/v1/write"

    def query(self, promql: str) -> dict[tuple[str, ...], float]:
        """Sorted label values → value of each series of an instant query."""
        answer = self._get("/api/v1/query", query=promql)
        return {
            tuple(sorted(result["metric"].values())): float(result["value"][1])
            for result in answer["result"]
        }

    def exemplars(self, promql: str) -> list[dict[str, Any]]:
        """The exemplars of the last minutes of all series of a selector."""
        now = time.time()
        found = self._get("/api/v1/query_exemplars", query=promql, start=now - 600, end=now + 60)
        return [exemplar for series in found for exemplar in series["exemplars"]]

    def wait(self, predicate: Callable[[], Any], what: str, timeout_seconds: float = 40.0) -> None:
        """Return once the predicate is true; fail at the deadline."""
        deadline = time.monotonic() + timeout_seconds
        while not predicate():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not in Prometheus within {timeout_seconds:g} s")
            time.sleep(0.1)

    # -- steps -------------------------------------------------------------------------------------
    def _start(self, attempt: int) -> None:
        targets = [{"targets": [self._target]}] if self._target else []
        job = {"job_name": "otelbridge", "honor_labels": True, "static_configs": targets}
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [job],
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._log_path = self._folder / f"prometheus-{attempt}.log"
        self._log = self._log_path.open("wb")
        assert self._binary is not None
        self._process = subprocess.Popen(
            [
                self._binary,
                f"--config.file={written(self._folder / 'prometheus.yaml', config)}",
                f"--storage.tsdb.path={self._folder / f'tsdb-{attempt}'}",
                f"--web.listen-address={self._address}",
                "--web.enable-remote-write-receiver",
                "--enable-feature=exemplar-storage",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _ready(self) -> bool:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = http.client.HTTPConnection(self._address, timeout=5)
            try:
                connection.request("GET", "/-/ready")
                if connection.getresponse().status == http.client.OK:
                    return True
            except OSError:
                pass  # not listening yet
            finally:
                connection.close()
            time.sleep(0.05)
        return False

    def _get(self, path: str, **parameters: Any) -> Any:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        try:
            connection.request("GET", f"{path}?{urllib.parse.urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]
