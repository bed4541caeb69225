"""Runs the program under test (`_app`) in children, and compares what it made with what arrived.

Used by the delivery scripts. A `Program` is one child: what it says comes as JSON lines, closing
its input ends it. `lost` and friends compare ids, so a span that came twice is no gain.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._far_end import FarEnd, Seen
from benchmarks._results import ROOT


@dataclass(frozen=True)
class Outcome:
    """What became of the spans of one or more programs; counts of spans."""

    made: int
    arrived: int
    lost: int
    duplicates: int
    lost_by_kind: dict[str, int]


class Program:
    """One child that runs `benchmarks._app`.

    Args:
        folder: Of its files: spool, ids, log. Programs that share it share the spool.
        endpoint: Full URL for traces.
        arguments: Of `_app`, besides `--ids`.
        environment: Further variables.
        module: Another module than `_app` that takes the same environment.
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        module: str = "benchmarks._app",
    ) -> None:
        self.ids = folder / f"ids-{time.monotonic_ns()}"
        self.log = self.ids.with_name(self.ids.name.replace("ids", "log"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "--ids", str(self.ids), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(folder, endpoint) | (environment or {}),
                cwd=ROOT,
            )
        self.ended = 0.0
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        self.process.wait()
        self.ended = time.monotonic()

    def hear(self, key: str) -> dict[str, Any]:
        """The next thing it says that has this key; RuntimeError when it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if key in said:
                return dict(said)
        raise RuntimeError(f"it ended: {self.log.read_text(encoding='utf-8')[-2000:]}")

    def ask(self, key: str = "counts") -> dict[str, Any]:
        """What its exporter counts, of a program that holds."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"?\n")
        self.process.stdin.flush()
        return self.hear(key)

    def terminate(self) -> float:
        """Send SIGTERM; gives the time.monotonic() of it."""
        now = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return now

    def stop_making(self) -> None:
        """Let a program hold that makes spans without end."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def close_input(self) -> None:
        """Let a program end that makes spans or holds."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self, seconds: float = 60.0) -> float:
        """Wait for its end, and kill it after so long; gives the time.monotonic() of the end."""
        self.close_input()
        self._waiter.join(seconds)
        if self._waiter.is_alive():
            self.process.kill()
            self._waiter.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.ended

    def log_lines(self, part: str) -> int:
        """How many lines of its log hold this."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(part)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()


def _environment(folder: Path, endpoint: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL", "LANGFUSE_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "bench",
        "OTELBRIDGE_SPOOL_DIR": str(folder / "spool"),
        "OTELBRIDGE_LOG_FORMAT": "text",
        "PYTHONPATH": str(ROOT),
    }


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Whether the condition came true in time; looked at ten times a second."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def made_ids(folder: Path) -> dict[str, str]:
    """Kinds by id of every span that the programs of a folder made."""
    texts = [path.read_text(encoding="ascii") for path in folder.glob("ids-*")]
    lines = (line.partition(" ") for text in texts for line in text.splitlines())
    return {span_id: kind for span_id, space, kind in lines if space}


def compared(made: dict[str, str], seen: Seen) -> Outcome:
    """Made against arrived."""
    lost = [kind for span_id, kind in made.items() if span_id not in seen.ids]
    return Outcome(
        made=len(made),
        arrived=len(made) - len(lost),
        lost=len(lost),
        duplicates=seen.duplicates,
        lost_by_kind=dict(Counter(lost)),
    )


def delivered_by_next_start(
    folder: Path, far_end: FarEnd, endpoint: str, *arguments: str, seconds: float = 30.0
) -> Outcome:
    """Start the service once more and compare when all is there, or after so long."""
    made = made_ids(folder)
    with Program(folder, endpoint, "--end", "hold", *arguments) as program:
        program.hear("ready")
        until(lambda: far_end.count() >= len(made), seconds)
        program.end()
    return compared(made, far_end.seen())


def drops(counts: dict[str, Any]) -> dict[str, int]:
    """Dropped spans by reason, of what `_app` says that the exporter and its spool count."""
    every: Counter[str] = Counter()
    for source in (counts, counts.get("spool", {})):
        for name, count in source.items():
            if name.startswith("dropped_"):
                every[name.removeprefix("dropped_")] += int(count)
    return dict(every)
