"""R14: memory, files and spool of a service that runs for long, through outages.

20 spans a second. Every minute the endpoint fails for a third of it, each time in another way.
Each second the service's memory (RSS), open files, threads and the bytes of its spool are looked
at from outside; the slope is that of the least squares line over the second half, when the
program has warmed up. In the end every span must have arrived, once.

    python -m benchmarks.soak                       # 10 minutes
    python -m benchmarks.soak --seconds 86400       # 24 hours
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._far_end import FarEnd
from benchmarks._run import Program, compared, made_ids, until

BAR_MIB_PER_HOUR = 1.0
CYCLE_SECONDS = 60.0
OUTAGES = ("refused", "503", "silent", "429", "black_hole", "500")
#: The kernel hands out memory in steps: over less time a slope says nothing about leaks.
SLOPE_FROM_SECONDS = 3600.0


@dataclass(frozen=True)
class Look:
    """The service at one moment."""

    seconds: float
    rss_bytes: int
    files: int
    threads: int
    spool_bytes: int


@dataclass(frozen=True)
class Result:
    """What a soak came to.

    `rss_grown_mib` is since the middle; `_first` is the highest number in the first half, `_last`
    the number in the end, when nothing fails and nothing waits.
    """

    seconds: float
    outages: int
    made: int
    lost: int
    duplicates: int
    rss_mib: float
    rss_mib_per_hour: float
    rss_grown_mib: float
    files_first: int
    files_last: int
    threads_first: int
    threads_last: int
    spool_highest_bytes: int
    spool_last_bytes: int

    @property
    def is_good(self) -> bool:
        """Nothing lost and nothing grown; the slope counts where the time is long enough."""
        steady = self.seconds < SLOPE_FROM_SECONDS or self.rss_mib_per_hour <= BAR_MIB_PER_HOUR
        grown = self.files_last > self.files_first or self.threads_last > self.threads_first
        return steady and not grown and not self.lost + self.duplicates


def run(
    seconds: float,
    *,
    rate: float = 20.0,
    cycle_seconds: float = CYCLE_SECONDS,
    environment: dict[str, str] | None = None,
) -> Result:
    """One service for so long."""
    looks: list[Look] = []
    with (
        FarEnd() as far_end,
        tempfile.TemporaryDirectory() as name,
        Program(
            Path(name), far_end.endpoint, "--rate", str(rate), "--end", "hold",
            environment=environment,
        ) as program,
    ):  # fmt: skip
        begun = program.hear("started")["started"]
        outages, failing = 0, False
        while (now := time.monotonic() - begun) < seconds:
            # The middle third fails, so the service starts and ends with a good endpoint.
            should_fail = 1 / 3 <= now / cycle_seconds % 1 < 2 / 3
            if should_fail != failing:
                far_end.set(OUTAGES[outages % len(OUTAGES)] if should_fail else "ok")
                outages, failing = outages + should_fail, should_fail
            looks.append(look(program.process.pid, now, Path(name) / "spool"))
            time.sleep(min(1.0, cycle_seconds / 12))
        far_end.set("ok")
        program.stop_making()
        made = program.hear("ready")["made"]
        until(lambda: far_end.count() >= made, 60)
        until(lambda: not look(program.process.pid, 0, Path(name) / "spool").spool_bytes, 10)
        last = look(program.process.pid, time.monotonic() - begun, Path(name) / "spool")
        program.end()
        outcome = compared(made_ids(Path(name)), far_end.seen())
    first_half, second_half = looks[: len(looks) // 2], looks[len(looks) // 2 :]
    return Result(
        seconds=seconds,
        outages=outages,
        made=outcome.made,
        lost=outcome.lost,
        duplicates=outcome.duplicates,
        rss_mib=round(last.rss_bytes / 2**20, 1),
        rss_mib_per_hour=round(slope(second_half) * 3600 / 2**20, 2),
        rss_grown_mib=round((last.rss_bytes - second_half[0].rss_bytes) / 2**20, 2),
        files_first=max(one.files for one in first_half),
        files_last=last.files,
        threads_first=max(one.threads for one in first_half),
        threads_last=last.threads,
        spool_highest_bytes=max(one.spool_bytes for one in looks),
        spool_last_bytes=last.spool_bytes,
    )


def look(process: int, seconds: float, spool: Path) -> Look:
    """The process from outside (Linux)."""
    proc = Path(f"/proc/{process}")
    pages = int((proc / "statm").read_text(encoding="ascii").split()[1])
    return Look(
        seconds,
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir(proc / "fd")),
        len(os.listdir(proc / "task")),
        sum(_size(file) for file in spool.rglob("*.spool*")),
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # sent meanwhile
        return 0


def slope(looks: Sequence[Look]) -> float:
    """Bytes a second of the least squares line through the memory; 0 for one look."""
    count = len(looks)
    mean_x = sum(one.seconds for one in looks) / count
    mean_y = sum(one.rss_bytes for one in looks) / count
    over = sum((one.seconds - mean_x) * (one.rss_bytes - mean_y) for one in looks)
    under = sum((one.seconds - mean_x) ** 2 for one in looks)
    return over / under if under else 0.0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--cycle", type=float, default=CYCLE_SECONDS)
    options = parser.parse_args()
    result = run(options.seconds, rate=options.rate, cycle_seconds=options.cycle)
    trend = f"{result.rss_grown_mib:+g} MiB in the second half"
    if options.seconds >= SLOPE_FROM_SECONDS:
        trend = f"{result.rss_mib_per_hour:+g} MiB/h"
    rows = [
        _results.Row(
            f"soak of {options.seconds:g} s at {options.rate:g} spans/s, {result.outages} outages",
            f"{result.lost} of {result.made} lost; memory {result.rss_mib:g} MiB, "
            f"{trend}; files {result.files_first} → "
            f"{result.files_last}; spool at most {result.spool_highest_bytes / 1024:.0f} KiB, "
            f"{result.spool_last_bytes} bytes in the end",
            f"0 lost, ≤ {BAR_MIB_PER_HOUR:g} MiB/h from 1 hour on, no more files",
        )
    ]
    figures: dict[str, Any] = {"results": [{**asdict(result), "good": result.is_good}]}
    _results.save("soak", figures, rows)
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
