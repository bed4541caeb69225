"""`otelbridge experiment report`: variants side by side, or one run over a dataset against another.

Without `--against` NAME is an A/B experiment and its traces are read from Langfuse (or a Tempo).
With it, NAME and RUN are runs: files that `Run.save` wrote, or names that Langfuse knows. Exit
status: 0 no regression, 1 a regression or nothing to compare, 2 usage, configuration, no answer.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from otelbridge.cli._cells import clean
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import active, runs
from otelbridge.langfuse.client import LangfuseApi
from otelbridge.langfuse.comparison import Difference, Group
from otelbridge.langfuse.experiment_data import from_langfuse, from_tempo
from otelbridge.langfuse.reports import (
    UNITS,
    Drop,
    NothingToCompareError,
    Report,
    as_json,
    experiment_report,
    run_report,
)

EXIT_NO: Final = 1
_AGE: Final = re.compile(r"(\d+)([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `experiment` to the command line."""
    parser = subparsers.add_parser(
        "experiment",
        help="compare the variants of an experiment, or two runs over a dataset",
        description="Reports on experiments.",
        epilog="Exit status: 0 no regression, 1 a regression or nothing to compare, 2 usage, "
        "configuration, no answer.",
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    report_parser = actions.add_parser(
        "report",
        help="cost, latency and scores side by side, with intervals and a test",
        description="Compare the variants of an experiment, or with --against two runs.",
    )
    report_parser.add_argument("name", help="an experiment; with --against a run, or its file")
    report_parser.add_argument(
        "--from", dest="start", type=_moment, metavar="TIME",
        help="ISO 8601, or an age: 30m, 12h, 7d, 4w (default: 7d; runs: 90d)",
    )  # fmt: skip
    report_parser.add_argument(
        "--to", dest="end", type=_moment, metavar="TIME", help="the same (default: now)"
    )
    report_parser.add_argument(
        "--against", metavar="RUN", help="the earlier run: its name in Langfuse, or its file"
    )
    report_parser.add_argument("--dataset", default="", help="of the runs; Langfuse v3 needs it")
    report_parser.add_argument(
        "--max-drop", type=_drop, metavar="DROP",
        help="exit 1 when a score's mean falls, or errors rise, by more: 0.05, or 5%%",
    )  # fmt: skip
    report_parser.add_argument(
        "--lower-is-better", action="append", default=[], metavar="SCORE",
        help="a score where a rise is the drop; may be given repeatedly",
    )  # fmt: skip
    report_parser.add_argument("--control", help="the baseline (default: the first by name)")
    report_parser.add_argument("--unit", choices=UNITS, default="trace", help="what is one sample")
    report_parser.add_argument(
        "--source", choices=("langfuse", "tempo"), default="langfuse", help="who is asked"
    )
    report_parser.add_argument("--tempo", metavar="URL", help="default: OTELBRIDGE_TEMPO_URL")
    report_parser.add_argument("--json", action="store_true", help="one JSON object")
    report_parser.set_defaults(run=report)


def report(args: argparse.Namespace) -> int:
    """Print the report; see the module for the exit status."""
    try:
        found = _of_runs(args) if args.against else _of_experiment(args)
    except NothingToCompareError as error:
        print(f"otelbridge experiment: {error}", file=sys.stderr)
        return EXIT_NO
    if args.json:
        print(json.dumps(as_json(found), ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(found)))
    for one in found.regressions:
        print(f"regression: {clean(one)}", file=sys.stderr)
    return EXIT_NO if found.regressions else 0


def _of_experiment(args: argparse.Namespace) -> Report:
    end = args.end or datetime.now(UTC)
    start = args.start or end - timedelta(days=7)
    if start >= end:
        raise OtelbridgeError("--from must be before --to")
    settings = active.current()
    if args.source == "tempo":
        measured = from_tempo(args.tempo or settings.tempo_url, args.name, start, end)
    else:
        with _api() as api:
            measured = from_langfuse(api, args.name, start, end)
    return experiment_report(
        args.name,
        measured,
        unit=args.unit,
        control=args.control,
        max_drop=args.max_drop,
        lower_is_better=args.lower_is_better,
    )


def _of_runs(args: argparse.Namespace) -> Report:
    found = [_run(name, args) for name in (args.name, args.against)]
    return run_report(*found, max_drop=args.max_drop, lower_is_better=args.lower_is_better)


def _run(name: str, args: argparse.Namespace) -> runs.Run:
    if Path(name).is_file():
        return runs.load(name)
    if name.endswith(".json"):
        raise OtelbridgeError(f"there is no file {name}")
    with _api() as api:
        return runs.from_langfuse(api, name, dataset=args.dataset, start=args.start)


def _api() -> LangfuseApi:
    settings = active.current().langfuse
    if not settings.configured:
        variable = " and ".join(settings.missing_keys) or "LANGFUSE_ENABLED"
        raise ConfigError(variable, "", "what Langfuse's API needs", "Or ask --source tempo.")
    return LangfuseApi(settings)


# -- printing --------------------------------------------------------------------------------------
def _lines(found: Report) -> list[str]:
    counts = ", ".join(f"{clean(name)}: {count:,}" for name, count in found.counts.items())
    lines = [f"{clean(found.name)} by {found.unit} ({counts})"]
    for metric, groups in found.groups.items():
        lines += ["", clean(metric)]
        changes = {one.group: one for one in found.differences if one.metric == metric}
        for group in groups:
            lines.append(_group_line(group, changes.get(group.name)))
    if found.differences:
        lines += ["", "[..] 95 % confidence interval; p adjusted for all comparisons shown"]
    return lines + [clean(note) for note in found.notes]


def _group_line(group: Group, change: Difference | None) -> str:
    line = f"  {clean(group.name):<20} {group.mean:>12.6g} {_interval(group.low, group.high):<26}"
    line += f" n={group.count:,}"
    if change is None:
        return line
    p = "p=-" if change.p_adjusted is None else f"p={change.p_adjusted:.3g}"
    interval = _interval(change.low, change.high)
    return f"{line}  {change.difference:+.4g} {interval} {p} ({change.test})"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"


def _moment(text: str) -> datetime:
    if match := _AGE.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        allowed = "ISO 8601 (2026-11-01, 2026-11-01T09:00Z) or an age (30m, 12h, 7d, 4w)"
        raise argparse.ArgumentTypeError(f"{text!r} is no time; allowed: {allowed}") from None
    return moment if moment.tzinfo else moment.astimezone()


def _drop(text: str) -> Drop:
    try:
        return Drop.parse(text)
    except ValueError:
        message = f"{text!r} is no drop; allowed: a number of 0 or more (0.05), or a share (5%)"
        raise argparse.ArgumentTypeError(message) from None
