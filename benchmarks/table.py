"""Writes the table of measured figures in README.md from the files in `benchmarks/results/`.

Each file brings its lines (`rows`), its date and its machine (`_results.py`); what was not measured
on this machine is not in the table. Only the text between the two markers changes.

    python -m benchmarks.table            write it
    python -m benchmarks.table --print    show it
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._results import RESULTS, ROOT

BEGIN: Final = "<!-- begin: python -m benchmarks.table -->"
END: Final = "<!-- end: python -m benchmarks.table -->"
NONE: Final = "\N{EN DASH}"
README: Final = ROOT / "README.md"


class NoTableError(Exception):
    """There is nothing to write, or no place for it."""


def results(folder: Path) -> list[dict[str, Any]]:
    """All results of a folder that bring lines for the table, by file name.

    Raises:
        NoTableError: none is there.
    """
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    found = [result for result in found if result.get("rows")]
    if not found:
        raise NoTableError(f"no results in {folder}: run `make bench` first")
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The lines between the markers: where and when, then one line for each figure."""
    lines = [*_where(found), ""]
    lines += ["| What | Figure | Bar |", "|---|---|---|"]
    for result in found:
        for row in result["rows"]:
            lines.append(f"| {row['what']} | {row['figure']} | {row['bar'] or NONE} |")
    return "\n".join(lines)


def _where(found: list[dict[str, Any]]) -> list[str]:
    places: dict[str, dict[str, str]] = {}
    for result in found:
        machine = result["machine"]
        place = (
            f"{result['date'][:10]}, {machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_gib']:.0f} GiB, Python {result['python']}"
        )
        places.setdefault(place, {}).update({**result["packages"], **result.get("peers", {})})
    return [
        f"{place}; {', '.join(f'{name} {version}' for name, version in versions.items())}."
        for place, versions in places.items()
    ]


def written(page: str, text: str) -> str:
    """The page with the text between its markers.

    Raises:
        NoTableError: the markers are not there, once each and in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise NoTableError(f"the page needs `{BEGIN}` and `{END}`, once each")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; exit 1 when nothing can be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="show the table, write nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--readme", type=Path, default=README)
    args = parser.parse_args(arguments)
    try:
        text = table(results(args.results))
        if args.print:
            sys.stdout.write(text + "\n")
            return 0
        page = written(args.readme.read_text(encoding="utf-8"), text)
    except NoTableError as reason:
        sys.stderr.write(f"table: {reason}\n")
        return 1
    args.readme.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
