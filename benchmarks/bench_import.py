"""Import time of otelbridge against importing the SDK and the OTLP/HTTP exporter.

Bar: at most 1.3 x. Each sample is a fresh interpreter; the two arms alternate, so that a slow
moment of the machine meets both. Prints JSON with medians in milliseconds and their ratio, and
exits 1 when the bar is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys

ARMS = {
    "otelbridge": "import otelbridge",
    "sdk_and_exporter": (
        "import opentelemetry.sdk.trace.export;"
        "import opentelemetry.exporter.otlp.proto.http.trace_exporter"
    ),
}
PROGRAM = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
BAR = 1.3


def sample(statement: str) -> float:
    """Seconds that one import takes in a fresh interpreter."""
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(rounds: int) -> dict[str, object]:
    """Medians of both arms in milliseconds, and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in ARMS}
    for statement in ARMS.values():
        sample(statement)  # warms the file cache and writes the byte code
    for _ in range(rounds):
        for name, statement in ARMS.items():
            times[name].append(sample(statement))
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    return {
        "python": platform.python_version(),
        "rounds": rounds,
        **{f"{name}_ms": round(value, 1) for name, value in medians.items()},
        "ratio": round(medians["otelbridge"] / medians["sdk_and_exporter"], 3),
        "bar": BAR,
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    result = measure(parser.parse_args().rounds)
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if float(str(result["ratio"])) <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
