"""`otelbridge doctor`: one finding after the other on what is wrong here, each with its remedy.

The looking is done by `otelbridge.doctor`; here are the arguments and the forms of the report.
Exit status: 0 nothing wrong, 1 at least one warning or error, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from otelbridge.doctor import run as runner
from otelbridge.doctor import table
from otelbridge.doctor.findings import LEVELS, Context, Finding
from otelbridge.env import seconds
from otelbridge.settings import process_environment

_COLOURS: Final = {"ok": "32", "note": "36", "warning": "33", "error": "31"}
_WIDTH: Final = 100


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="look for what is wrong with this set-up, and say what to do about it",
        description="Look at variables, files, packages and servers of this set-up, and send "
        "one small trace through it. Changes nothing, shows no secret.",
        epilog="Exit status: 0 nothing wrong (notes are no fault), 1 at least one warning or "
        "error, 2 usage.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--explain", metavar="CODE", help="print what a code means")
    parser.add_argument(
        "--markdown", action="store_true", help="all codes, docs/troubleshooting.md"
    )
    parser.add_argument("--list", action="store_true", help="names that --only and --skip take")
    parser.add_argument(
        "--only",
        metavar="NAMES",
        type=_names,
        default=(),
        help="checks, groups or codes, separated by commas",
    )
    parser.add_argument(
        "--skip", metavar="NAMES", type=_names, default=(), help="the same, left out"
    )
    parser.add_argument("--no-network", action="store_true", help="ask no server, send no canary")
    parser.add_argument(
        "--env-file",
        metavar="PATH",
        type=Path,
        help="instead of .env in the directory; variables of the shell win",
    )
    parser.add_argument(
        "--directory",
        metavar="PATH",
        type=Path,
        default=Path(),
        help="where .env, docker-compose.yml and code are (default: here)",
    )
    parser.add_argument(
        "--collector-config", metavar="FILE", type=Path, help="look at this Collector configuration"
    )
    parser.add_argument(
        "--readback",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="how long the canary may take to be seen in the stores (default: 30)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look and report; see the module for the exit status."""
    if args.markdown:
        print(table.markdown(), end="")
        return 0
    if args.explain is not None:
        return _explain(args.explain)
    if args.list:
        print("\n".join(runner.selectable()))
        return 0
    if problem := _usage(args):
        print(f"otelbridge doctor: {problem}", file=sys.stderr)
        return 2
    context = runner.context_of(
        process_environment(), args.directory.resolve(), args.env_file, network=not args.no_network
    )
    context.readback_seconds = args.readback
    if args.collector_config is not None:
        context.facts["collector_config"] = args.collector_config
    found = runner.run(context, only=args.only, skip=args.skip)
    status = runner.exit_status(found)
    if args.json:
        print(as_json(found, status))
    else:
        print(as_text(found, colour=sys.stdout.isatty() and not context.value("NO_COLOR")))
        _hint(context, found)
    return status


def _usage(args: argparse.Namespace) -> str:
    known = runner.selectable()
    for name in (*args.only, *args.skip):
        if name not in known:
            close = table.closest(name)
            hint = f"; did you mean {close}?" if close else ""
            return f"{name!r} is no check, group or code{hint} (see --list)"
    if not args.directory.is_dir():
        return f"{args.directory} is no directory"
    for path in (args.env_file, args.collector_config):
        if path is not None and not path.is_file():
            return f"{path} is no file"
    return ""


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip().lower() for part in text.split(",") if part.strip())


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0") from None


def _explain(code: str) -> int:
    entry = table.BY_CODE.get(code.strip().lower())
    if entry is None:
        close = table.closest(code)
        hint = f"; did you mean {close}?" if close else ""
        print(f"otelbridge doctor: there is no code {code!r}{hint}", file=sys.stderr)
        return 2
    print("\n".join(textwrap.fill(line, _WIDTH) for line in table.page(entry).split("\n")))
    return 0


def as_json(found: Sequence[Finding], status: int) -> str:
    """`{"status": 0|1, "counts": {level: n}, "findings": [{code, level, what, evidence, fix}]}`."""
    answer = {
        "status": status,
        "counts": _counts(found),
        "findings": [asdict(one) for one in found],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False)


def as_text(found: Sequence[Finding], *, colour: bool = False) -> str:
    """A line for each finding, evidence and remedy below it, worst last; counts at the end."""
    lines = []
    for level in LEVELS:
        for one in found:
            if one.level == level:
                lines += _lines(one, colour)
    counts = ", ".join(f"{count} {level}" for level, count in _counts(found).items() if count)
    return "\n".join([*lines, f"otelbridge doctor: {counts or 'nothing found'}"])


def _lines(one: Finding, colour: bool) -> list[str]:
    mark = f"{one.level:<7}"
    if colour:
        mark = f"\033[{_COLOURS[one.level]}m{mark}\033[0m"
    seen = f" ({one.evidence})" if one.evidence else ""
    lines = [f"{mark}  {one.code}: {one.what}{seen}"]
    if one.fix and one.level != "ok":
        lines.append(f"         fix: {one.fix}")
    return lines


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(one.level for one in found)
    return {level: counted[level] for level in LEVELS}


def _hint(context: Context, found: Sequence[Finding]) -> None:
    wrong = [one.code for one in found if one.level in ("warning", "error")]
    if wrong:
        print(f"otelbridge doctor --explain {wrong[-1]}   says more", file=sys.stderr)
    if not context.network:
        print("no server was asked (--no-network)", file=sys.stderr)
