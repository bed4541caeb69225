"""R7: what a dead endpoint does to the latency of a 1 ms handler at 200 requests a second.

A Flask service in a process of its own, thrice: with an endpoint that accepts and never answers,
with one that drops SYN packets, and without any exporter (OTEL_TRACES_EXPORTER=none). Clients take
turns with them, a slice of time each, so that a slow moment of the machine meets all; latency is
what the client sees, over connections kept alive. Also counts the threads of each service.

    python -m benchmarks.handler_latency [--seconds 60] [--rate 200]
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._far_end import FarEnd
from benchmarks._run import Program

BAR_MS = 1.0
NONE = "no exporter"
MODES = ("silent", "black_hole")
CLIENTS = 4
#: Long enough that every service exports (each 5 s) in some of its slices.
SLICE_SECONDS = 1.0


@dataclass(frozen=True)
class Latency:
    """What clients of one service saw, in milliseconds, and its threads at both ends.

    `slice_p99_ms` is the median of each slice's p99: where other programs run, steadier than p99.
    """

    requests: int
    p50_ms: float
    p99_ms: float
    slice_p99_ms: float
    highest_ms: float
    threads_before: int
    threads_after: int


class _Service:
    """One service with its clients' connections."""

    def __init__(self, program: Program) -> None:
        self.program = program
        port = program.hear("port")["port"]
        self.connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(CLIENTS)
        ]
        self.slices: list[list[float]] = []
        self.threads_before = 0

    def load(self, seconds: float, rate: float) -> None:
        """A slice of requests at this rate, spread over the connections."""
        self.slices.append([])
        clients = [
            threading.Thread(target=self._client, args=(number, seconds, rate))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def _client(self, number: int, seconds: float, rate: float) -> None:
        connection = self.connections[number]
        begun = time.perf_counter() + number / rate
        for turn in range(int(seconds * rate / CLIENTS)):
            due = begun + turn * CLIENTS / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            connection.request("GET", f"/answers/{turn}")
            connection.getresponse().read()
            self.slices[-1].append(time.perf_counter() - sent)

    def threads(self) -> int:
        return int(self.program.ask("threads")["threads"])

    def result(self) -> Latency:
        ordered = sorted(second for one in self.slices for second in one)
        return Latency(
            len(ordered),
            round(_quantile(ordered, 50) * 1000, 2),
            round(_quantile(ordered, 99) * 1000, 2),
            round(statistics.median(_quantile(sorted(one), 99) for one in self.slices) * 1000, 2),
            round(ordered[-1] * 1000, 2),
            self.threads_before,
            self.threads(),
        )


def _quantile(ordered: list[float], percent: int) -> float:
    return ordered[len(ordered) * percent // 100]


def measure(
    seconds: float, rate: float, *, modes: tuple[str, ...] = MODES, arm: str = "otelbridge"
) -> dict[str, Latency]:
    """Latencies by endpoint; each service gets so many seconds of load."""
    with ExitStack() as stack:
        services = {}
        for mode in (NONE, *modes):
            far_end = stack.enter_context(FarEnd("ok" if mode == NONE else mode))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            program = Program(
                folder,
                far_end.endpoint,
                "--arm", arm,
                environment={"OTEL_TRACES_EXPORTER": "none"} if mode == NONE else None,
                module="benchmarks._web",
            )  # fmt: skip
            services[mode] = _Service(stack.enter_context(program))
        for service in services.values():  # first imports, first export
            service.load(1.0, rate)
            service.slices.clear()
            service.threads_before = service.threads()
        for _ in range(max(1, round(seconds / SLICE_SECONDS))):
            for service in services.values():
                service.load(min(seconds, SLICE_SECONDS), rate)
        results = {mode: service.result() for mode, service in services.items()}
        for service in services.values():
            for connection in service.connections:
                connection.close()
        return results


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load on each service")
    parser.add_argument("--rate", type=float, default=200.0)
    options = parser.parse_args()
    results = measure(options.seconds, options.rate)
    base = results[NONE]
    figures: dict[str, Any] = {"rate": options.rate, "seconds": options.seconds}
    figures["results"] = {mode: asdict(result) for mode, result in results.items()}
    rows, good = [], True
    for mode in MODES:
        result = results[mode]
        delta50, delta99 = result.p50_ms - base.p50_ms, result.p99_ms - base.p99_ms
        delta_slice = result.slice_p99_ms - base.slice_p99_ms
        grown = result.threads_after - result.threads_before
        good = good and delta99 <= BAR_MS and grown <= 0
        rows.append(
            _results.Row(
                f"1 ms handler at {options.rate:g} requests/s, endpoint {mode}, "
                "against no exporter",
                f"p50 {delta50:+.2f} ms, p99 {delta99:+.2f} ms ({base.p99_ms} → {result.p99_ms}), "
                f"median p99 of slices {delta_slice:+.2f} ms, {grown} more threads",
                f"p99 ≤ +{BAR_MS:g} ms, 0 threads",
            )
        )
    _results.save("handler_latency", figures, rows)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
