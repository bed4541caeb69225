"""R5: a service whose spool cannot be used, while its endpoint is down for a while.

Cases: the spool directory cannot be made (a file is in its place); every file ends at 256 KiB, as
on a full disk (RLIMIT_FSIZE: the write fails half-way); and segments that were damaged on disk
between two starts. The service is to go on, to say it once, and to lose nothing that memory can
hold; of a damaged segment, only the damaged request (its file is set aside).

    python -m benchmarks.spool_faults
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._far_end import FarEnd
from benchmarks._run import Program, compared, drops, made_ids, until

FILE_LIMIT_BYTES = 256 * 1024
#: So that 500 spans are more than a file may hold.
TEXT_BYTES = 3000
RATE, SPANS = 200, 1000
#: The outage ends when the spool has failed, or after so long.
OUTAGE_SECONDS = 30.0
#: Spans in one request at most (OTEL_BSP_MAX_EXPORT_BATCH_SIZE's default).
BATCH_SPANS = 512
#: What the log says when the spool fails.
WARNINGS = ("cannot be used", "damaged", "set aside")


@dataclass(frozen=True)
class Result:
    """One case; counts of spans, and how many lines the log has about the spool.

    `may_be_lost` is what the damaged requests can have held.
    """

    case: str
    made: int
    lost: int
    may_be_lost: int
    counted_as_dropped: int
    duplicates: int
    warnings: int

    @property
    def is_good(self) -> bool:
        """No more is lost than was damaged, nothing comes twice, and it is said once."""
        return self.lost <= self.may_be_lost and not self.duplicates and self.warnings == 1


def blocked(folder: Path) -> list[str]:
    (folder / "spool").write_bytes(b"")
    return []


def full(_: Path) -> list[str]:
    return ["--file-limit", str(FILE_LIMIT_BYTES)]


def outage(case: str, prepare: Callable[[Path], list[str]]) -> Result:
    """A service through an outage that its spool cannot take, until after it has tried."""
    with FarEnd("refused") as far_end, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ("--rate", str(RATE), "--spans", str(SPANS), "--bytes", str(TEXT_BYTES))
        more = prepare(folder)
        with Program(folder, far_end.endpoint, *arguments, *more, "--end", "hold") as program:
            program.hear("started")
            until(lambda: _warnings(program), OUTAGE_SECONDS)
            far_end.set("ok")
            made = program.hear("ready")["made"]
            until(lambda: far_end.count() >= made, 30)
            dropped = sum(drops(program.ask()["counts"]).values())
            program.end()
            return _result(case, folder, far_end, 0, dropped, program)


def damaged() -> Result:
    """The middle of each segment is overwritten between two starts."""
    with FarEnd("refused") as far_end, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ("--spans", "2000", "--bytes", str(TEXT_BYTES), "--end", "normal")
        with Program(folder, far_end.endpoint, *arguments) as program:
            program.hear("end")
            program.end()
        segments = _pending(folder)
        for segment in segments:
            with segment.open("r+b") as file:
                file.seek(segment.stat().st_size // 2)
                file.write(b"\xff" * 64)
        far_end.set("ok")
        with Program(folder, far_end.endpoint, "--end", "hold") as program:
            program.hear("ready")
            made = len(made_ids(folder))
            lost = BATCH_SPANS * len(segments)
            until(lambda: far_end.count() >= made - lost and not _pending(folder), 15)
            dropped = sum(drops(program.ask()["counts"]).values())
            return _result("damaged", folder, far_end, lost, dropped, program)


def _pending(folder: Path) -> list[Path]:
    return [file for file in (folder / "spool").rglob("*.spool1") if file.stat().st_size]


def _result(
    case: str, folder: Path, far_end: FarEnd, may_be_lost: int, dropped: int, program: Program
) -> Result:
    outcome = compared(made_ids(folder), far_end.seen())
    warnings = _warnings(program)
    return Result(
        case, outcome.made, outcome.lost, may_be_lost, dropped, outcome.duplicates, warnings
    )


def _warnings(program: Program) -> int:
    said = program.log.read_text(encoding="utf-8").splitlines()
    return sum(any(part in line for part in WARNINGS) for line in said)


def measure() -> list[Result]:
    """All cases, side by side."""
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(outage, "blocked", blocked),
            pool.submit(outage, "full", full),
            pool.submit(damaged),
        ]
        return [job.result() for job in jobs]


def main() -> int:
    """Run from the command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    results = measure()
    rows = [
        _results.Row(
            f"spool {result.case}, endpoint down",
            f"{result.lost} of {result.made} lost, {result.counted_as_dropped} counted; "
            f"{result.warnings} warning",
            (f"≤ {result.may_be_lost}" if result.may_be_lost else "0") + " lost; 1 warning",
        )
        for result in results
    ]
    figures: dict[str, Any] = {
        "results": [{**asdict(result), "good": result.is_good} for result in results]
    }
    _results.save("spool_faults", figures, rows)
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
