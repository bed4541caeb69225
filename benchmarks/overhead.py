"""What a span costs: otelbridge against the stock SDK and the peers' SDKs, for the same spans.

Bars: processor time of all threads per exported span (create, encode, compress, send) at most
0.7 x the stock SDK's, time of the calling thread at most 1.1 x, processor time at most half of each
peer's. Each arm is a process of its own (`_arms.py`) that sends to one sink on loopback; arms take
turns, each round in the other order, and ratios are taken within a round. An arm whose spans did
not all arrive, once each, has no figure. Bars compare `otelbridge`, as `configure()` makes it: LLM
view on, masking off. All arms export the same attributes; what otelbridge adds by itself the others
set by hand. `bare` is the stock SDK without those, `exporter` otelbridge's export path alone.
gzip on all arms, at the level that each exporter uses; `plain` is without compression. `own` is
each library's function for a model call, with the attributes that it writes: no bar. Exit 1: a bar
is missed.

    python -m benchmarks.overhead                 all cases
    python -m benchmarks.overhead chat small      these
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks._arms import environment
from benchmarks._peers import PeersMissingError, peer_versions, peers_python
from benchmarks._results import ROOT, TIMES, Row, save, spread
from benchmarks._sink import Sink

PEERS: Final = {"langfuse": "langfuse", "logfire": "logfire", "traceloop": "traceloop-sdk"}
OURS: Final = "otelbridge"
CPU_BAR, THREAD_BAR, PEER_BAR = 0.7, 1.1, 0.5
_ARM_SECONDS: Final = 120
_INHERITED_NOT: Final = ("OTEL_", "OTELBRIDGE_", "LANGFUSE_", "LOGFIRE_", "TRACELOOP_")


@dataclass(frozen=True)
class Case:
    """One comparison: spans of a shape, made in a way (`_arms.py`), by some arms."""

    shape: str
    way: str
    arms: tuple[str, ...]
    what: str
    compression: str = "gzip"


_PAIR: Final = ("stock", "bare", "exporter", OURS)
CASES: Final = {
    "chat": Case("chat", "otel", (*_PAIR, *PEERS), "chat spans of 3.4 kB"),
    "small": Case("small", "otel", (*_PAIR, *PEERS), "small spans"),
    "plain": Case("chat", "otel", _PAIR, "chat spans of 3.4 kB, no compression", "none"),
    "own": Case("chat", "own", (OURS, *PEERS), "chat spans by each library's own function"),
}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 5
    requests: int = 600
    warm_up: int = 60


class Run:
    """The arms of one case, and what they measured.

    Args:
        peers: The peers' interpreter; None leaves them out.
    """

    def __init__(self, case: Case, size: Size, peers: Path | None) -> None:
        self._case, self._size, self._peers = case, size, peers
        self.arms = [arm for arm in case.arms if peers is not None or arm not in PEERS]
        self.figures: dict[str, list[dict[str, float]]] = {arm: [] for arm in self.arms}
        self.void: dict[str, str] = {}

    def rounds(self) -> None:
        """Run every arm once a round."""
        with Sink() as sink, tempfile.TemporaryDirectory() as folder:
            for number in range(self._size.rounds):
                for arm in self.arms if number % 2 == 0 else reversed(self.arms):
                    if arm not in self.void:
                        self._once(arm, sink, folder)

    def _once(self, arm: str, sink: Sink, folder: str) -> None:
        python = str(self._peers) if arm in PEERS else sys.executable
        command = [
            python, "-m", "benchmarks._arms", arm, "--way", self._case.way,
            "--shape", self._case.shape, "--requests", str(self._size.requests),
            "--warm-up", str(self._size.warm_up),
        ]  # fmt: skip
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_INHERITED_NOT)}
        told = environment(sink.url, folder, self._case.compression)
        done = subprocess.run(
            command, cwd=ROOT, env=inherited | told, capture_output=True, text=True, check=False,
            timeout=_ARM_SECONDS,
        )  # fmt: skip
        received = sink.take()
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            self.void[arm] = f"ended with {done.returncode}: {lines[-1] if lines else ''}"
            return
        figures = json.loads(done.stdout.splitlines()[-1])
        sent = figures.pop("spans")
        if received.spans != sent or received.twice:
            self.void[arm] = f"{received.spans} of {sent} spans arrived, {received.twice} twice"
            return
        figures["wire_bytes"] = received.wire_bytes / sent
        figures["plain_bytes"] = received.plain_bytes / sent
        self.figures[arm].append(figures)

    def measured(self, arm: str) -> bool:
        """Whether an arm took part and all of its spans arrived, in every round."""
        return arm in self.arms and arm not in self.void

    def ratios(self, figure: str, of: str, to: str) -> dict[str, float]:
        """One arm's figure to another's, within each round.

        `of_lowest` is the lowest of all rounds to the lowest: other programs only add.
        """
        ours, theirs = ([one[figure] for one in self.figures[arm]] for arm in (of, to))
        within = [one / other for one, other in zip(ours, theirs, strict=True)]
        return {**spread(within, 3), "of_lowest": round(min(ours) / min(theirs), 3)}

    def median(self, arm: str, figure: str) -> float:
        """Of all rounds."""
        return statistics.median(one[figure] for one in self.figures[arm])

    def summary(self) -> dict[str, Any]:
        """Medians and spreads per arm, and ratios of ours to each."""
        arms = {
            arm: {key: spread([one[key] for one in runs]) for key in runs[0]}
            for arm, runs in self.figures.items()
            if runs and arm not in self.void
        }
        ratios = {
            f"{ours}/{arm}": {
                "cpu": self.ratios("cpu_us", ours, arm),
                "thread": self.ratios("thread_us", ours, arm),
            }
            for ours in (OURS, "exporter")
            for arm in self.arms
            if self.measured(ours) and self.measured(arm) and arm not in (OURS, "exporter")
        }
        return {"arms": arms, "void": self.void, "ratios": ratios}


def judge(run: Run, case: Case) -> list[tuple[str, float, float]]:
    """Every bar that this case decides: its name, the ratio, the most that it may be."""
    if not run.measured(OURS):
        return [("otelbridge is void", 1.0, 0.0)]
    if case.way == "own":
        return []
    bars = []
    if run.measured("stock"):
        bars = [
            ("cpu/stock", run.ratios("cpu_us", OURS, "stock")["median"], CPU_BAR),
            ("thread/stock", run.ratios("thread_us", OURS, "stock")["median"], THREAD_BAR),
        ]
    return bars + [
        (f"cpu/{peer}", run.ratios("cpu_us", OURS, peer)["median"], PEER_BAR)
        for peer in PEERS
        if run.measured(peer)
    ]


def rows(run: Run, case: Case, skipped: str) -> list[Row]:
    """The lines of the README's table for one case."""
    if not run.measured(OURS):
        return []
    made = []
    ours = f"{run.median(OURS, 'cpu_us'):.0f} µs"
    if run.measured("stock"):
        cpu, thread = (run.ratios(key, OURS, "stock") for key in ("cpu_us", "thread_us"))
        made = [
            Row(
                f"Processor time per exported span, {case.what}, against the stock SDK",
                f"{ours} against {run.median('stock', 'cpu_us'):.0f} µs, {_told(cpu)}",
                f"≤ {CPU_BAR} {TIMES}",
            ),
            Row(
                f"Calling thread per span, {case.what}, against the stock SDK",
                f"{run.median(OURS, 'thread_us'):.0f} µs against "
                f"{run.median('stock', 'thread_us'):.0f} µs, {_told(thread)}"
                f"{_told_bare(run)}",
                f"≤ {THREAD_BAR} {TIMES}",
            ),
        ]
    others = [
        f"{peer} {run.median(peer, 'cpu_us'):.0f} µs, {_told(run.ratios('cpu_us', OURS, peer))}"
        for peer in PEERS
        if run.measured(peer)
    ]
    if others or skipped:
        told = "; ".join(others) or f"not measured: {skipped}"
        bar = f"≤ {PEER_BAR} {TIMES} each" if case.way == "otel" else ""
        made.append(
            Row(f"Processor time per exported span, {case.what}: {ours}, against peers", told, bar)
        )
    return made


def _told_bare(run: Run) -> str:
    if not run.measured("bare"):
        return ""
    ratio = run.ratios("thread_us", OURS, "bare")["median"]
    return f"; {ratio:.2f} {TIMES} one without what otelbridge adds"


def _told(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} {TIMES} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"


def measure(name: str, size: Size, peers: Path | None, skipped: str, folder: Path | None) -> bool:
    """Run one case, write its result, and say whether it meets its bars."""
    case = CASES[name]
    run = Run(case, size, peers)
    run.rounds()
    bars = judge(run, case)
    met = all(ratio <= bar for _, ratio, bar in bars)
    wants_peers = bool(set(case.arms) & set(PEERS))
    figures = {
        "case": name,
        "spans": f"{case.what}; {case.compression}; a server span and 4 below it",
        "rounds": size.rounds,
        "requests": size.requests,
        "peers": peer_versions(peers, tuple(PEERS.values())) if peers and wants_peers else {},
        "skipped": skipped if wants_peers else "",
        **run.summary(),
        "bars": [{"what": what, "ratio": ratio, "bar": bar} for what, ratio, bar in bars],
        "met": met,
    }
    save(f"overhead_{name}", figures, rows(run, case, skipped if wants_peers else ""), folder)
    return met


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=Size.rounds)
    parser.add_argument("--requests", type=int, default=Size.requests, help="5 spans each")
    parser.add_argument("--warm-up", type=int, default=Size.warm_up)
    parser.add_argument("--no-peers", action="store_true", help="do not install or run them")
    parser.add_argument("--results", type=Path, help="folder for the JSON files")
    args = parser.parse_args(arguments)
    unknown = set(args.cases) - set(CASES)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    peers, skipped = None, "--no-peers"
    if not args.no_peers:
        try:
            peers, skipped = peers_python(), ""
        except PeersMissingError as reason:
            skipped = f"the peers cannot be installed ({reason})"
            sys.stderr.write(f"overhead: {skipped}\n")
    size = Size(args.rounds, args.requests, args.warm_up)
    met = [measure(name, size, peers, skipped, args.results) for name in args.cases or CASES]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
