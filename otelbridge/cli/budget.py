"""`otelbridge budget status|check|report`: what was spent of which budget, for people and cron.

Sums are those of this machine, compared with Langfuse first where its keys are set (`--offline`:
not). `check` is for cron: exit status 0 within every budget, 1 when one is spent (`--soft`: when a
soft limit is reached), 2 usage or configuration, and with `--strict` also when Langfuse or the sums
cannot be read; without it that is a warning, as budgets fail open.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from otelbridge.budgets.checking import BudgetState
from otelbridge.budgets.ledger import Ledger, Sum
from otelbridge.budgets.rules import VARIABLE, Budget, attribute_of, parts_of, read_budgets_file
from otelbridge.endpoints import shown
from otelbridge.errors import ConfigError, OtelbridgeError, StoreError
from otelbridge.langfuse.budget import reconcile
from otelbridge.langfuse.client import LangfuseApi
from otelbridge.langfuse.costs import CostReader
from otelbridge.settings import Settings

EXIT_NO: Final = 1
_PROMETHEUS_COST: Final = "otelbridge_gen_ai_cost_usd_total"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `budget` to the command line."""
    parser = subparsers.add_parser(
        "budget",
        help="show what was spent of the budgets; exit status for cron",
        description=f"Budgets are those of {VARIABLE} (docs/budgets.md).",
        epilog="Exit status: 0 good, 1 a budget is spent, 2 usage or configuration.",
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    showing = _action(actions, "status", status, "show the sums of every budget")
    showing.add_argument("--top", metavar="N", type=int, default=20, help="sums of a budget (20)")
    checking = _action(actions, "check", check, "exit with 1 when a budget is spent")
    checking.add_argument("--soft", action="store_true", help="also when a soft limit is reached")
    checking.add_argument("--quiet", action="store_true", help="print only what is reached")
    reporting = _action(actions, "report", report, "cost by day, and the costliest users")
    reporting.add_argument("--days", metavar="N", type=_days, default=7, help="days back (7)")
    reporting.add_argument("--top", metavar="N", type=int, default=10, help="users (10)")
    reporting.add_argument(
        "--prometheus", metavar="URL", help="also the Collector's sum there, of the same time"
    )


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.add_argument("--file", metavar="PATH", help=f"budgets; {VARIABLE} by default")
    parser.add_argument("--budget", metavar="NAME", help="this one only")
    parser.add_argument("--offline", action="store_true", help="do not ask Langfuse")
    parser.add_argument("--strict", action="store_true", help="fail when it cannot be asked")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)
    return parser


def _days(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 62:
        raise argparse.ArgumentTypeError("1 to 62")
    return number


# -- status and check ------------------------------------------------------------------------------
def status(args: argparse.Namespace) -> int:
    """Print the sums of the current periods."""
    settings = Settings.from_env()
    budgets = _budgets(args, settings)
    found = _states(args, settings, budgets)
    if args.json:
        print(json.dumps({"budgets": [_row(one) for one in found]}, indent=2))
        return 0
    for budget in budgets:
        rows = [one for one in found if one.budget.name == budget.name]
        print(f"{budget.name}: {_described(budget)}" + ("" if rows else "; nothing spent"))
        for one in rows[: args.top]:
            print(f"  {_line(one)}")
        if len(rows) > args.top:
            print(f"  and {len(rows) - args.top:,} more")
    return 0


def check(args: argparse.Namespace) -> int:
    """1 when a limit is reached."""
    settings = Settings.from_env()
    found = _states(args, settings, _budgets(args, settings))
    reached = [one for one in found if one.level == "hard" or (args.soft and one.level == "soft")]
    if args.json:
        print(json.dumps({"reached": [_row(one) for one in reached]}, indent=2))
    else:
        for one in reached:
            print(f"{one.budget.name}: {_line(one)}")
        if not reached and not args.quiet:
            print(f"within budget ({len(found)} sums)")
    return EXIT_NO if reached else 0


def _budgets(args: argparse.Namespace, settings: Settings) -> tuple[Budget, ...]:
    path = args.file or settings.budgets_file
    if not path:
        raise ConfigError(VARIABLE, "", "the path of a file of budgets", "Or give --file PATH.")
    known = read_budgets_file(path)
    if args.budget is None:
        return known
    chosen = tuple(one for one in known if one.name == args.budget)
    if not chosen:
        names = ", ".join(one.name for one in known) or "none"
        raise ConfigError("--budget", args.budget, names)
    return chosen


def _states(
    args: argparse.Namespace, settings: Settings, budgets: tuple[Budget, ...]
) -> list[BudgetState]:
    """What the ledger has of these budgets in their current periods, the fullest first."""
    book = Ledger(Path(settings.budgets_directory))
    try:
        if not args.offline and settings.langfuse.configured:
            _asked(args, settings, lambda reader: reconcile(book, budgets, reader))
        sums = book.newest()
        if sums is None:
            error = StoreError(f"the sums in {book.path} cannot be read")
            if args.strict:
                raise error
            print(f"otelbridge: {error}", file=sys.stderr)
    finally:
        book.close()
    now = datetime.now(UTC)
    found = [
        BudgetState(budget, one.key, one.spent_usd)
        for one in sums or ()
        for budget in budgets
        if _concerns(budget, one, now)
    ]
    return sorted(found, key=lambda state: -state.share)


def _concerns(budget: Budget, one: Sum, now: datetime) -> bool:
    parts = parts_of(one.key)
    attributes = {attribute_of(word) or "": value for word, value in parts.items()}
    return budget.key(attributes, now) == one.key


def _asked(args: argparse.Namespace, settings: Settings, ask: Callable[[CostReader], Any]) -> Any:
    """What Langfuse says; None, with a warning, where it cannot be asked and need not be."""
    try:
        with LangfuseApi(settings.langfuse) as api:
            return ask(CostReader(api))
    except OtelbridgeError as error:
        if args.strict:
            raise
        print(f"otelbridge: goes by the sums of this machine alone: {error}", file=sys.stderr)
        return None


def _described(budget: Budget) -> str:
    parts = [
        f"per {' and '.join(budget.per)}" if budget.per else "all calls",
        f"only {', '.join(f'{key}={value}' for key, value in budget.only.items())}"
        if budget.only
        else "",
        f"limit ${budget.limit_usd:g}" if budget.limit_usd is not None else "no limit",
        f"soft ${budget.soft_usd:g}",
    ]
    return ", ".join(part for part in parts if part)


def _line(one: BudgetState) -> str:
    word = {"ok": "", "soft": "  soft limit reached", "hard": "  SPENT"}[one.level]
    return f"{one.key}  ${one.spent_usd:.4f}  {one.share:.0%}{word}"


def _row(one: BudgetState) -> dict[str, Any]:
    return {
        "budget": one.budget.name, "key": one.key, "spent_usd": round(one.spent_usd, 9),
        "limit_usd": one.budget.limit_usd, "soft_usd": one.budget.soft_usd, "level": one.level,
    }  # fmt: skip


# -- report ----------------------------------------------------------------------------------------
def report(args: argparse.Namespace) -> int:
    """Print what calls cost by day and user, by Langfuse and, if asked, by Prometheus."""
    settings = Settings.from_env()
    ends = datetime.now(UTC)
    begins = ends.replace(hour=0, minute=0, second=0, microsecond=0)
    begins -= timedelta(days=args.days - 1)
    found: dict[str, Any] = {"from": begins.isoformat(), "to": ends.isoformat()}
    if not args.offline and settings.langfuse.configured:
        days = _asked(args, settings, lambda reader: reader.by_day({}, begins, ends))
        found["langfuse_usd_by_day"] = days
        users = _asked(args, settings, lambda reader: reader.by(["user"], {}, begins, ends))
        top = sorted((users or {}).items(), key=lambda item: -item[1])[: args.top]
        found["langfuse_usd_by_user"] = {key[0]: usd for key, usd in top}
    found["machine_usd_by_day"] = _by_day_here(settings)
    if args.prometheus:
        found["prometheus_usd"] = _prometheus(args, begins, ends)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print_report(found)
    return 0


def _by_day_here(settings: Settings) -> dict[str, float]:
    """UTC days to what this machine spent, where a budget counts all calls by day."""
    book = Ledger(Path(settings.budgets_directory))
    try:
        sums = book.newest() or []
    finally:
        book.close()
    return {
        parts["day"]: one.own_usd
        for one in sums
        if list(parts := parts_of(one.key)) == ["day"] and "@" not in parts["day"]
    }


def _prometheus(args: argparse.Namespace, begins: datetime, ends: datetime) -> float | None:
    """The Collector's sum of the time; `increase` misses the first sample of a new series."""
    import httpx

    window = int((ends - begins).total_seconds())
    query: dict[str, str | float] = {
        "query": f"sum(increase({_PROMETHEUS_COST}[{window}s]))",
        "time": ends.timestamp(),
    }
    try:
        answer = httpx.get(f"{args.prometheus.rstrip('/')}/api/v1/query", params=query, timeout=10)
        rows = answer.raise_for_status().json()["data"]["result"]
        return float(rows[0]["value"][1]) if rows else 0.0
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        told = (
            f"Prometheus at {shown(args.prometheus)} did not answer: {type(error).__name__} {error}"
        )
        if args.strict:
            raise OtelbridgeError(told) from None
        print(f"otelbridge: {told}", file=sys.stderr)
        return None


def _print_report(found: dict[str, Any]) -> None:
    print(f"{found['from'][:10]} to {found['to'][:16]} UTC")
    langfuse, here = found.get("langfuse_usd_by_day") or {}, found["machine_usd_by_day"]
    if "langfuse_usd_by_day" not in found:
        print("Langfuse is not asked: no keys, or --offline")
    days = sorted(day for day in {*langfuse, *here} if day >= found["from"][:10])
    print("day            Langfuse   this machine")
    for day in days:
        print(f"{day}  {_usd(langfuse.get(day)):>12}  {_usd(here.get(day)):>13}")
    if users := found.get("langfuse_usd_by_user"):
        print("costliest users (Langfuse)")
        for user, usd in users.items():
            print(f"  {_usd(usd):>12}  {user}")
    if "prometheus_usd" in found:
        print(f"Prometheus, all of it: {_usd(found['prometheus_usd'])}")


def _usd(amount: float | None) -> str:
    return "-" if amount is None else f"${amount:.4f}"
