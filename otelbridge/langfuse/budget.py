"""Running sums and Langfuse's metrics brought together; `get_session_cost` and its like.

`budgets` counts what this machine spends, at once. Langfuse knows all machines, a little later.
`reconcile` asks it what was spent up to a moment at which the own sums were noted, so that what it
cannot know yet is neither lost nor counted twice. `provider` hands `reconciler` to `budgets`, whose
thread calls it; the command asks by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otelbridge import _guard
from otelbridge.budgets import checking
from otelbridge.budgets.rules import (
    KEPT_SECONDS,
    Budget,
    attribute_of,
    parts_of,
    read_budgets_file,
)
from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse import active
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError, langfuse_api
from otelbridge.langfuse.costs import COLUMNS, CostReader
from otelbridge.settings import LangfuseSettings, Settings

if TYPE_CHECKING:
    from otelbridge.budgets.ledger import Ledger

_logger = _guard.logger
#: Langfuse knows a call 10 to 30 s after its end: younger notes of the own sums are not used.
LAG_SECONDS: Final = 60.0
#: Sums that are asked for one by one, the newest; Langfuse Cloud counts metrics queries.
_MAX_SINGLE: Final = 20
_TIMEOUT_SECONDS: Final = 5.0
#: Sums without a period are compared over this time.
_LOOK_BACK: Final = timedelta(seconds=KEPT_SECONDS)
#: Those of sessions over a shorter one, as the question groups all sessions of the time.
_SESSION_LOOK_BACK: Final = timedelta(days=7)
#: Among so many sums of the ledger those of a budget are looked for.
_LOOKED_AT: Final = 2_000


def use(settings: Settings) -> None:
    """Read the file of budgets and set where sums are kept and who is asked; for `configure`.

    Raises:
        ConfigError: the file cannot be used.
    """
    checking.install(
        read_budgets_file(settings.budgets_file) if settings.budgets_file else (),
        Path(settings.budgets_directory),
        reconciler=reconciler(settings.langfuse),
        every_seconds=settings.budgets_reconcile_seconds,
    )


def get_session_cost(session_id: str) -> float:
    """What the model calls of a session have cost in the last 62 days, in USD.

    Langfuse's sum, or that of a budget per session where it is higher: Langfuse knows a call 10 to
    30 s late. A network call of at most some seconds. Where nobody can say it is 0.0, with a
    warning: it fails open.
    """
    return _cost({"session": session_id}, None)


def get_user_cost(user_id: str, *, day: datetime | None = None) -> float:
    """What a user's model calls have cost on a UTC day, today by default; as `get_session_cost`."""
    return _cost({"user": user_id}, day or datetime.now(UTC))


def get_day_cost(day: datetime | None = None) -> float:
    """What all model calls of a UTC day have cost, today by default; as `get_session_cost`."""
    return _cost({}, day or datetime.now(UTC))


@_guard.guarded("asking for a cost", 0.0)
def _cost(only: dict[str, str], day: datetime | None) -> float:
    known = _own(only, day)
    ends = datetime.now(UTC)
    begins = ends - _LOOK_BACK
    if day is not None:
        begins = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        ends = min(ends, begins + timedelta(days=1))
    try:
        settings = active.current().langfuse
        if settings.configured:
            with LangfuseApi(settings, timeout_seconds=_TIMEOUT_SECONDS) as api:
                return max(known or 0.0, CostReader(api).total(only, begins, ends))
        langfuse_api(settings)  # says, once, why it is off
    except OtelbridgeError as error:
        _logger.warning("otelbridge: the cost of %s is not complete: %s", only or "a day", error)
    if known is None:
        _guard.count("budget: a cost that nobody could say")
    return known or 0.0


def _own(only: dict[str, str], day: datetime | None) -> float | None:
    """The sum of a budget with just this key; None where there is none."""
    wanted = {*only, *(() if day is None else ("day",))}
    attributes = {attribute_of(word) or "": value for word, value in only.items()}
    for one in checking.budgets():
        if set(one.per) == wanted and not one.only and one.timezone == "UTC":
            key = one.key(attributes, day or datetime.now(UTC))
            sums = checking.ledger().sums([key]) if key else None
            if key and sums:
                return sums[key].spent_usd
    return None


def reconciler(settings: LangfuseSettings) -> Callable[[Ledger, tuple[Budget, ...]], None] | None:
    """What compares sums with this project; None where Langfuse is not configured."""
    if not settings.configured:
        return None

    was_told = False

    def run(book: Ledger, budgets: tuple[Budget, ...]) -> None:
        nonlocal was_told
        with LangfuseApi(settings, timeout_seconds=_TIMEOUT_SECONDS) as api:
            try:
                reconcile(book, budgets, CostReader(api))
            except OtelbridgeError as error:
                if not was_told:  # once for an outage
                    _logger.warning("otelbridge: budgets go by the sums known here: %s", error)
                was_told = True
            else:
                was_told = False

    return run


def reconcile(book: Ledger, budgets: tuple[Budget, ...], reader: CostReader) -> None:
    """Write into the ledger what Langfuse knows of the sums of the current periods.

    Raises:
        OtelbridgeError: Langfuse did not answer; what was learned before that is kept.
    """
    now = time.time()
    marked = book.marked_at()
    is_young = now - marked < LAG_SECONDS
    comparison = _Comparison(book, reader, now, 0.0 if is_young else marked)
    for one in budgets:
        comparison.compare(one)
    if not is_young:
        book.mark(now)


class _Comparison:
    """One run of `reconcile`.

    Args:
        marked: When the own sums were noted, Unix seconds; 0 for not yet, then all that was spent
            here up to now is taken as known to Langfuse.
    """

    def __init__(self, book: Ledger, reader: CostReader, now: float, marked: float) -> None:
        self._book = book
        self._reader = reader
        self._marked = marked
        self._now = datetime.fromtimestamp(now, UTC)
        self._ends = datetime.fromtimestamp(marked or now, UTC)

    def compare(self, budget: Budget) -> None:
        """Ask for the sums of one budget."""
        back = _SESSION_LOOK_BACK if "session" in budget.dimensions else _LOOK_BACK
        begins = budget.begins(self._now) or self._now - back
        if begins >= self._ends:
            return  # the period is younger than the note: the next run knows more
        only = dict(budget.only)
        free = [word for word in budget.dimensions if word not in only]
        if free and all(word in COLUMNS for word in free):
            try:
                for values, usd in self._reader.by(free, only, begins, self._ends).items():
                    self._note(budget, {**only, **dict(zip(free, values, strict=True))}, usd)
            except LangfuseApiError as error:
                if error.status != 400:  # this server does not group by users or sessions
                    raise
            else:
                return
        for wanted in self._single(budget) if free else [only]:
            self._note(budget, wanted, self._reader.total(wanted, begins, self._ends))

    def _single(self, budget: Budget) -> list[dict[str, str]]:
        """Whose sums of this budget and period are in the ledger, the newest."""
        found = []
        for one in self._book.newest(_LOOKED_AT) or ():
            parts = parts_of(one.key)
            if self._key(budget, parts) == one.key:
                found.append({word: parts[word] for word in budget.dimensions})
        return found[:_MAX_SINGLE]

    def _key(self, budget: Budget, parts: dict[str, str]) -> str | None:
        attributes = {attribute_of(word) or "": value for word, value in parts.items()}
        return budget.key(attributes, self._now)

    def _note(self, budget: Budget, parts: dict[str, str], usd: float) -> None:
        key = self._key(budget, parts)
        if key is None:
            return
        own = (self._book.sums([key]) or {}).get(key)
        base = 0.0
        if own is not None:
            base = own.own_usd if not self._marked else own.mark_usd or 0.0
        self._book.set_remote(key, usd, base, self._now.timestamp())
