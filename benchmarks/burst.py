"""R9: a burst of large spans: memory of the program, and the fate of every span.

50,000 spans of 20 KB as fast as the program can make them (2 s is not within Python's
reach; the figure says how long it took), into an endpoint that is well and into one that accepts
and never answers. A fifth of them are LLM calls. Highest memory is the kernel's (VmHWM), above
what the process had before the burst. Afterwards: created = exported + spooled + dropped, to the
span; what is in the spool is delivered by the next start; LLM spans go last.

    python -m benchmarks.burst [--spans 50000] [--bytes 20000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._far_end import FarEnd
from benchmarks._run import Program, compared, drops, made_ids, until
from otelbridge.exporters.spool import found, survey

BAR_BYTES = 128 * 1024 * 1024
MODES = ("ok", "silent")


@dataclass(frozen=True)
class Result:
    """One burst into one endpoint; spans unless named otherwise.

    Attributes:
        exported: Acknowledged by the first process.
        spooled: In the spool at its end.
        dropped: By reason, as the first process counted.
        lost: Not at the far end even after the next start.
    """

    mode: str
    made: int
    burst_seconds: float
    grown_mib: float
    exported: int
    spooled: int
    dropped: dict[str, int]
    lost: int
    lost_by_kind: dict[str, int]
    made_by_kind: dict[str, int]
    duplicates: int
    exit_seconds: float

    @property
    def is_good(self) -> bool:
        """In bounds, every span accounted for, LLM spans lost less than inner steps."""
        dropped = sum(self.dropped.values())
        accounted = self.made == self.exported + self.spooled + dropped
        return (
            self.grown_mib * 2**20 <= BAR_BYTES
            and accounted
            and self.lost == dropped
            and self.lost_share("llm") <= self.lost_share("inner")
            and not self.duplicates
        )

    def lost_share(self, kind: str) -> float:
        """Lost of a kind's spans, 0 to 1."""
        return self.lost_by_kind.get(kind, 0) / max(1, self.made_by_kind.get(kind, 0))


def run(mode: str, spans: int, size: int, *, catch_up_seconds: float = 60.0) -> Result:
    """One burst, the end of the program, and the next start."""
    with FarEnd(mode) as far_end, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ("--spans", str(spans), "--bytes", str(size), "--memory", "--end", "hold")
        with Program(folder, far_end.endpoint, *arguments) as program:
            ready = program.hear("ready")
            if mode == "ok":
                until(lambda: not program.ask()["counts"]["queued"], catch_up_seconds)
            grown_bytes = program.ask()["grown_bytes"]
            asked = time.monotonic()
            program.close_input()
            dropped = drops(program.hear("final")["final"])
            exit_seconds = program.end() - asked
        spool = folder / "spool"
        spooled = sum(survey(spool, owner).spans for owner in found(spool))
        exported = len(far_end.seen().ids)
        far_end.set("ok")
        made = made_ids(folder)
        with Program(folder, far_end.endpoint, "--end", "hold") as program:
            program.hear("ready")
            until(lambda: far_end.count() >= exported + spooled, catch_up_seconds)
        outcome = compared(made, far_end.seen())
        return Result(
            mode=mode,
            made=outcome.made,
            burst_seconds=round(ready["seconds"], 2),
            grown_mib=round(grown_bytes / 2**20, 1),
            exported=exported,
            spooled=spooled,
            dropped=dropped,
            lost=outcome.lost,
            lost_by_kind=outcome.lost_by_kind,
            made_by_kind=dict(Counter(made.values())),
            duplicates=outcome.duplicates,
            exit_seconds=round(exit_seconds, 2),
        )


def measure(spans: int, size: int) -> list[Result]:
    """One burst into each kind of endpoint."""
    return [run(mode, spans, size) for mode in MODES]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=20_000)
    options = parser.parse_args()
    results = measure(options.spans, options.bytes)
    rows = [
        _results.Row(
            f"burst of {result.made:,} spans of {options.bytes:,} bytes, endpoint {result.mode}",
            f"memory +{result.grown_mib:.0f} MiB in {result.burst_seconds} s; "
            f"{result.exported:,} exported, {result.spooled:,} spooled, "
            f"{sum(result.dropped.values()):,} dropped and counted: "
            f"{result.lost_share('inner'):.0%} of inner steps, "
            f"{result.lost_share('llm'):.0%} of LLM spans",
            "≤ 128 MiB, all counted, LLM spans last",
        )
        for result in results
    ]
    figures: dict[str, Any] = {
        "results": [{**asdict(result), "good": result.is_good} for result in results]
    }
    _results.save("burst", figures, rows)
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
