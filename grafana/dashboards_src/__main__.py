"""`python -m grafana.dashboards_src`: writes grafana/dashboards/*.json; `--json` lists the panels.

To be run from the repository's root. `--check` writes nothing and fails where a file is not what
would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana.dashboards_src import index
from grafana.dashboards_src.to_sdk import to_json

FOLDER = Path(__file__).resolve().parent.parent / "dashboards"


def rendered() -> dict[str, str]:
    """File name to contents, for every dashboard."""
    return {f"{declared.uid}.json": to_json(declared) for declared in index.dashboards()}


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 1 when `--check` found a difference."""
    parser = argparse.ArgumentParser(prog="python -m grafana.dashboards_src", description=__doc__)
    parser.add_argument("--json", action="store_true", help="list all panels and their queries")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args(arguments)
    if options.json:
        sys.stdout.write(json.dumps(index.listing(), indent=1) + "\n")
        return 0
    files = rendered()
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if options.check:
        for name in sorted(files.keys() | present.keys()):
            if files.get(name) != present.get(name):
                sys.stderr.write(f"grafana/dashboards/{name} is not what is declared\n")
        return 0 if files == present else 1
    for name, contents in files.items():
        (FOLDER / name).write_text(contents, encoding="utf-8")
    for name in present.keys() - files.keys():
        (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
