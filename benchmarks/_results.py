"""What the measuring scripts share: facts about the machine, medians, result files.

A result is one JSON object in `benchmarks/results/NAME.json` with the figures, the machine, the
versions and `rows` for the table in the README, which `benchmarks/table.py` writes. Results stay
out of the repository: they belong to a machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
#: In texts for the table, which ruff takes for a letter where it stands in code.
TIMES: Final = "\N{MULTIPLICATION SIGN}"
PACKAGES: Final = ("otelbridge", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")


class Row(NamedTuple):
    """One line of the README's table; texts, `bar` empty where there is none."""

    what: str
    figure: str
    bar: str = ""


def facts() -> dict[str, Any]:
    """Date, machine, load average, Python and the versions of what is measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": _memory_gib(),
            "system": platform.platform(),
        },
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
    }


def versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of distributions; those not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), digits),
        "lowest": round(min(values), digits),
        "highest": round(max(values), digits),
    }


def save(
    name: str, figures: dict[str, Any], rows: Iterable[Row], folder: Path | None = None
) -> Path:
    """Write a result file, and print it as one line of JSON."""
    result = {**facts(), **figures, "rows": [row._asdict() for row in rows]}
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return path
