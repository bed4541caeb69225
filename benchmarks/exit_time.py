"""R6: how long a program with a dead endpoint takes to end, and what becomes of its spans.

Cases: the program ends normally, by `sys.exit`, by SIGTERM; 100 and 2,000 spans were just made;
the endpoint refuses, drops SYN packets, accepts and never answers, answers a byte a second, or its
name does not resolve. Then the endpoint is mended and the service started again: every span is to
arrive, once. The stock SDK with its defaults runs beside it with 2,000 spans, for a normal end and
for SIGTERM. Time is from the last statement of the program, or from the signal, to the end of the
process.

    python -m benchmarks.exit_time [--ci]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._app import HANGING_HOST
from benchmarks._far_end import FarEnd
from benchmarks._run import Outcome, Program, delivered_by_next_start

BAR_SECONDS = 2.0
FAULTS = ("refused", "black_hole", "silent", "slow", "dns")
ENDS = ("normal", "sys.exit", "sigterm")
COUNTS = (100, 2000)
CI_FAULTS = ("refused", "silent", "dns")
CI_ENDS = ("normal", "sigterm")
#: Of the stock SDK, which waits for most of them for 30 s.
STOCK_CASES = (("normal", 2000), ("sigterm", 2000))


@dataclass(frozen=True)
class Exit:
    """One end of one program."""

    arm: str
    fault: str
    end: str
    spans: int
    seconds: float
    status: int


def measure(
    faults: Sequence[str],
    ends: Sequence[str],
    counts: Sequence[int],
    *,
    stock: bool,
    jobs: int = 1,
) -> dict[str, Any]:
    """Ends of both arms, and per fault what the next start delivered of the own arm's spans.

    Args:
        jobs: Faults of the own arm at the same time.
    """
    cases = [(end, count) for count in counts for end in ends]
    exits: list[Exit] = []
    delivered: dict[str, Any] = {}
    with ThreadPoolExecutor(len(faults)) as beside, ThreadPoolExecutor(jobs) as pool:
        stocks = [beside.submit(_stock, fault) for fault in faults if stock]
        for fault, (ended, outcome) in zip(
            faults, pool.map(lambda fault: _own(fault, cases), faults), strict=True
        ):
            exits += ended
            delivered[fault] = asdict(outcome)
        for job in stocks:
            exits += job.result()
    return {
        "exits": [asdict(exit_) for exit_ in exits],
        "delivered_by_the_next_start": delivered,
        "p100_seconds": {
            arm: round(max(found), 2)
            for arm in ("otelbridge", "stock")
            if (found := [exit_.seconds for exit_ in exits if exit_.arm == arm])
        },
        "lost": sum(outcome["lost"] for outcome in delivered.values()),
        "duplicates": sum(outcome["duplicates"] for outcome in delivered.values()),
    }


def _own(fault: str, cases: list[tuple[str, int]]) -> tuple[list[Exit], Outcome]:
    """The cases of a fault one after the other, then the next start of the service."""
    with FarEnd(_mode(fault)) as far_end, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exits = [_exit("otelbridge", folder, far_end, fault, *case) for case in cases]
        far_end.set("ok")
        resolver = ("--resolver", str(far_end.port)) if fault == "dns" else ()
        return exits, delivered_by_next_start(folder, far_end, _endpoint(fault, far_end), *resolver)


def _stock(fault: str) -> list[Exit]:
    """The stock SDK: the cases of a fault side by side, for all that they do is wait."""
    with FarEnd(_mode(fault)) as far_end, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ThreadPoolExecutor(max_workers=len(STOCK_CASES)) as pool:
            jobs = [
                pool.submit(_exit, "stock", folder, far_end, fault, *case) for case in STOCK_CASES
            ]
            return [job.result() for job in jobs]


def _exit(arm: str, folder: Path, far_end: FarEnd, fault: str, end: str, spans: int) -> Exit:
    arguments = ["--arm", arm, "--spans", str(spans), "--end", end]
    if fault == "dns":
        arguments += ["--resolver", "hangs"]
    with Program(folder, _endpoint(fault, far_end), *arguments) as program:
        program.hear("ready")
        begun = program.terminate() if end == "sigterm" else program.hear("end")["end"]
        seconds = round(program.end() - begun, 3)
        return Exit(arm, fault, end, spans, seconds, program.process.returncode)


def _mode(fault: str) -> str:
    return "ok" if fault == "dns" else fault


def _endpoint(fault: str, far_end: FarEnd) -> str:
    if fault == "dns":
        return f"http://{HANGING_HOST}:{far_end.port}/v1/traces"
    return far_end.endpoint


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ci", action="store_true", help="fewer cases, without the stock SDK")
    if parser.parse_args().ci:
        figures = measure(CI_FAULTS, CI_ENDS, (100,), stock=False, jobs=len(CI_FAULTS))
    else:
        figures = measure(FAULTS, ENDS, COUNTS, stock=True)
    slowest = figures["p100_seconds"]
    rows = [
        _results.Row(
            f"exit with a dead endpoint, slowest of {len(figures['exits'])} (both arms)",
            " · ".join(f"{arm} {seconds} s" for arm, seconds in slowest.items()),
            f"≤ {BAR_SECONDS} s",
        ),
        _results.Row("spans lost at such an exit, after the next start", str(figures["lost"]), "0"),
    ]
    _results.save("exit_time", figures, rows)
    good = slowest["otelbridge"] <= BAR_SECONDS and not figures["lost"] + figures["duplicates"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
