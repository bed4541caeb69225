"""Cold start: importing otelbridge, and configuring it, against the SDK and the peers.

Bar: `import otelbridge` takes at most 1.3 x what importing the SDK and its OTLP/HTTP exporter
takes. Each sample is a fresh interpreter; the arms take turns, so that a slow moment of the machine
meets all. `ready` arms also set up an exporting tracer provider, the peers by their own functions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._arms import environment
from benchmarks._peers import PeersMissingError, peer_versions, peers_python
from benchmarks._results import ROOT, TIMES, Row, save, spread
from benchmarks._sink import Sink

BAR: Final = 1.3
_SDK: Final = (
    "from opentelemetry.sdk.trace import TracerProvider;"
    "from opentelemetry.sdk.trace.export import BatchSpanProcessor;"
    "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter"
)
ARMS: Final = {
    "sdk": "import opentelemetry.sdk.trace",
    "sdk_and_exporter": _SDK,
    "otelbridge": "import otelbridge",
    "sdk_ready": f"{_SDK};p = TracerProvider();"
    "p.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))",
    "otelbridge_ready": "import otelbridge; otelbridge.configure()",
}
PEERS: Final = {
    "langfuse": "import langfuse",
    "logfire": "import logfire",
    "traceloop": "import traceloop.sdk",
    "langfuse_ready": "import os, langfuse; langfuse.Langfuse(public_key='pk-lf-benchmark',"
    "secret_key='sk-lf-benchmark', base_url=os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'])",
    "logfire_ready": "import logfire;"
    "logfire.configure(send_to_logfire=False, console=False, metrics=False)",
    "traceloop_ready": "import os; from traceloop.sdk import Traceloop; Traceloop.init("
    "api_endpoint=os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'], api_key='k')",
}
_PROGRAM: Final = (
    "import time; start = time.perf_counter(); {}; print('\\n', time.perf_counter() - start)"
)


def sample(python: str, statement: str, told: dict[str, str]) -> float:
    """Milliseconds that a statement takes in a fresh interpreter."""
    done = subprocess.run(
        [python, "-c", _PROGRAM.format(statement)], cwd=ROOT, env={**os.environ, **told},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return float(done.stdout.split()[-1]) * 1000


def measure(rounds: int, peers: Path | None) -> dict[str, list[float]]:
    """Samples of every arm in milliseconds; one more, first, writes byte code and warms files."""
    commands = {name: (sys.executable, statement) for name, statement in ARMS.items()}
    if peers is not None:
        commands |= {name: (str(peers), statement) for name, statement in PEERS.items()}
    times: dict[str, list[float]] = {name: [] for name in commands}
    with Sink() as sink, tempfile.TemporaryDirectory() as folder:
        told = environment(sink.url, folder)
        for number in range(rounds + 1):
            for name, (python, statement) in commands.items():
                taken = sample(python, statement, told)
                if number:
                    times[name].append(taken)
    return times


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-peers", action="store_true", help="do not install or run them")
    parser.add_argument("--results", type=Path, help="folder for the JSON files")
    args = parser.parse_args(arguments)
    peers, skipped = None, "--no-peers"
    if not args.no_peers:
        try:
            peers, skipped = peers_python(), ""
        except PeersMissingError as reason:
            skipped = f"the peers cannot be installed ({reason})"
    times = measure(args.rounds, peers)
    arms = {name: spread(values) for name, values in times.items()}
    pairs = zip(times["otelbridge"], times["sdk_and_exporter"], strict=True)
    ratio = spread([ours / theirs for ours, theirs in pairs], 3)
    names = ("langfuse", "logfire", "traceloop-sdk")
    figures: dict[str, Any] = {
        "rounds": args.rounds,
        "milliseconds": arms,
        "ratio": ratio,
        "bar": BAR,
        "skipped": skipped,
        "peers": peer_versions(peers, names) if peers else {},
    }
    save("imports", figures, rows(arms, ratio), args.results)
    return 0 if ratio["median"] <= BAR else 1


def rows(arms: dict[str, dict[str, float]], ratio: dict[str, float]) -> list[Row]:
    """The lines of the README's table."""

    def told(name: str) -> str:
        return f"{arms[name]['median']:.0f} ms"

    made = [
        Row(
            "`import otelbridge`, against importing the SDK and its OTLP/HTTP exporter",
            f"{told('otelbridge')} against {told('sdk_and_exporter')}, "
            f"{ratio['median']:.2f} {TIMES}",
            f"≤ {BAR} {TIMES}",
        ),
        Row(
            "The same with `configure()`, against a tracer provider with the SDK's exporter",
            f"{told('otelbridge_ready')} against {told('sdk_ready')}",
        ),
    ]
    peers = [name for name in ("langfuse", "logfire", "traceloop") if f"{name}_ready" in arms]
    if peers:
        figures = (f"{name} {told(name)}, {told(f'{name}_ready')}" for name in peers)
        made.append(Row("Peers: their import, and import with set-up", "; ".join(figures)))
    return made


if __name__ == "__main__":
    sys.exit(main())
