"""R1 and R2: spans made before, during and after an outage, against spans that arrived.

A service makes spans at a steady rate; the endpoint fails in one way for the middle of that time
and is then mended. The stock SDK with its defaults does the same beside it, for two of the ways.
Lost must be 0, except where the receiver refuses single spans or any size: those are counted.
Answers that mean a wrong configuration (401, 404, redirects) are to be said once, never followed,
and their spans delivered once it is mended.

    python -m benchmarks.outage [--ci | --long] [--kinds refused,503] [--jobs 6]

40 s at 250 spans/s with 20 s of outage; `--long`: 31 minutes at 50 spans/s with 30 of outage.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import _results
from benchmarks._far_end import ANSWERS, CONTENT, TRANSPORT, FarEnd
from benchmarks._run import Program, compared, drops, made_ids, until

#: From the first span on.
FROM_THE_START = ("bad_span", "partial")
#: Where spans are lost by rule, and then counted.
COUNTED = (*FROM_THE_START, "413_always")
MISCONFIGURED = ("401", "404", "redirect")
KINDS = (*TRANSPORT, *ANSWERS, *CONTENT)
STOCK_KINDS = ("refused", "503")
CI_KINDS = ("refused", "silent", "503", "429", "413_limit", "401", "redirect", "bad_span")


@dataclass(frozen=True)
class Load:
    """Spans a second, for how long, the outage in it, and how long to wait for the rest."""

    rate: float
    seconds: float
    outage_from: float
    outage_to: float
    catch_up_seconds: float = 60.0
    environment: dict[str, str] = field(default_factory=dict)


FULL = Load(250, 40, 10, 30)
LONG = Load(50, 1860, 30, 1830, catch_up_seconds=300)
#: Exports more often than by default: an outage of 2 s would else pass unnoticed.
CI = Load(
    100,
    5,
    1.5,
    3.5,
    environment={"OTEL_EXPORTER_OTLP_TIMEOUT": "2", "OTEL_BSP_SCHEDULE_DELAY": "200"},
)


@dataclass(frozen=True)
class Result:
    """One kind of outage, one arm; counts of spans.

    `caught_up_seconds`: from when it is mended and the last span is made to the last arrival.
    """

    kind: str
    arm: str
    made: int
    lost: int
    counted_as_dropped: int
    duplicates: int
    caught_up_seconds: float
    requests_in_outage: int
    redirects_followed: int
    said_misconfigured: int

    @property
    def is_good(self) -> bool:
        """The outage was felt; nothing lost but what is refused by rule, which is counted."""
        felt = self.requests_in_outage > 0 or self.kind in TRANSPORT
        honest = self.lost == self.counted_as_dropped and (self.lost > 0) == (self.kind in COUNTED)
        once = self.said_misconfigured == (self.kind in MISCONFIGURED)
        return felt and honest and once and not self.duplicates + self.redirects_followed


def measure(
    kinds: Iterable[str], load: Load, *, stock: Iterable[str] = STOCK_KINDS, jobs: int = 6
) -> list[Result]:
    """One result for each kind, and for each kind of the stock arm."""
    cases = [("otelbridge", kind) for kind in kinds] + [("stock", kind) for kind in stock]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(lambda case: run(case[1], case[0], load), cases))


def run(kind: str, arm: str, load: Load) -> Result:
    """One service through one outage."""
    spans = int(load.rate * load.seconds)
    arguments = ["--arm", arm, "--rate", str(load.rate), "--spans", str(spans), "--end", "hold"]
    arguments += ["--bad"] if kind in FROM_THE_START else []
    with (
        FarEnd(kind if kind in FROM_THE_START else "ok") as far_end,
        tempfile.TemporaryDirectory() as name,
        Program(Path(name), far_end.endpoint, *arguments, environment=load.environment) as program,
    ):
        started = program.hear("started")["started"]
        _sleep_until(started + load.outage_from)
        before = far_end.seen().requests
        far_end.set(kind)
        _sleep_until(started + load.outage_to)
        during = far_end.seen().requests - before
        far_end.set("ok")
        mended = time.monotonic()
        ready = program.hear("ready")
        made = ready["made"]
        until(lambda: far_end.count() + _dropped(program) >= made, load.catch_up_seconds)
        seen, dropped = far_end.seen(), _dropped(program)
        program.end()
        outcome = compared(made_ids(Path(name)), seen)
        return Result(
            kind=kind,
            arm=arm,
            made=outcome.made,
            lost=outcome.lost,
            counted_as_dropped=dropped,
            duplicates=outcome.duplicates,
            caught_up_seconds=round(max(0, seen.last_new - max(mended, ready["ready"])), 1),
            requests_in_outage=during,
            redirects_followed=seen.redirected,
            said_misconfigured=program.log_lines("refuses spans"),
        )


def _dropped(program: Program) -> int:
    return sum(drops(program.ask()["counts"]).values())


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _rows(results: list[Result], load: Load) -> list[_results.Row]:
    what = f"{load.outage_to - load.outage_from:g} s outage at {load.rate:g} spans/s"
    own = [result for result in results if result.arm == "otelbridge"]
    rows = []
    for counted, bar in ((False, "0"), (True, "all counted")):
        some = [result for result in own if (result.kind in COUNTED) is counted]
        if some:
            lost = sum(result.lost for result in some)
            dropped = f", {sum(result.counted_as_dropped for result in some):,} counted"
            figure = f"{lost:,} of {sum(result.made for result in some):,} lost"
            kinds = ", ".join(result.kind for result in some)
            rows.append(
                _results.Row(f"{what}: {kinds}", figure + (dropped if counted else ""), bar)
            )
    for result in results:
        if result.arm == "stock":
            lost = f"{result.lost:,} of {result.made:,} lost"
            rows.append(_results.Row(f"{what}: {result.kind}, stock SDK", lost))
    return rows


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ci", action="store_true", help="5 s at 100 spans/s, some kinds")
    parser.add_argument("--long", action="store_true", help="30 minutes of outage")
    parser.add_argument("--kinds", default="", help="comma-separated; by default all")
    parser.add_argument("--jobs", type=int, default=6, help="services at the same time")
    options = parser.parse_args()
    load = CI if options.ci else LONG if options.long else FULL
    kinds = tuple(options.kinds.split(",")) if options.kinds else CI_KINDS if options.ci else KINDS
    stock = () if options.ci else tuple(kind for kind in STOCK_KINDS if kind in kinds)
    results = measure(kinds, load, stock=stock, jobs=len(kinds) if options.ci else options.jobs)
    figures: dict[str, Any] = {
        "load": asdict(load),
        "results": [{**asdict(result), "good": result.is_good} for result in results],
    }
    _results.save("outage", figures, _rows(results, load))
    return 0 if all(result.is_good for result in results if result.arm == "otelbridge") else 1


if __name__ == "__main__":
    sys.exit(main())
