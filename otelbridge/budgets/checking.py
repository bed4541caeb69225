"""Which budgets a request concerns, what they say, and which model to take.

The state of this process: the budgets of the file and of the code, the ledger, the callbacks, and
whoever can ask Langfuse (set by `provider`; this package knows no API). `genai` asks before a model
call, `spending` books after one. Nothing here raises but `check`, and that only for a budget.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otelbridge import _guard, semconv, view
from otelbridge._version import __version__
from otelbridge.budgets.rules import Budget
from otelbridge.context import context_attributes, with_updates
from otelbridge.errors import BudgetExceededError

if TYPE_CHECKING:  # it needs sqlite3, which some builds of Python lack and most services do not use
    from otelbridge.budgets.ledger import Ledger, Sum

_logger = _guard.logger
#: Of the helpers' family: what it records belongs to the LLM view (`policy.LLM_SCOPES`).
_SCOPE: Final = "otelbridge.genai.budget"
_MAX_ALERTED: Final = 10_000
_ALERT_SECONDS: Final = 62 * 86_400.0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget as one request finds it.

    Attributes:
        key: Whose sum it is: `day=2026-11-21,user=u-1`.
        spent_usd: The sum in force, of this machine and, once asked, of Langfuse.
        known: False where the sum could not be read and only this process' part is in it.
    """

    budget: Budget
    key: str
    spent_usd: float
    known: bool = True

    @property
    def remaining_usd(self) -> float | None:
        """What is left up to the limit, not below 0; None without a limit."""
        limit = self.budget.limit_usd
        return None if limit is None else max(0.0, limit - self.spent_usd)

    @property
    def level(self) -> str:
        """`ok`, `soft` from `soft_usd` on, `hard` from `limit_usd` on."""
        limit, soft = self.budget.limit_usd, self.budget.soft_usd
        if limit is not None and self.spent_usd >= limit:
            return "hard"
        return "soft" if soft is not None and self.spent_usd >= soft else "ok"

    @property
    def share(self) -> float:
        """Spent of the limit, else of the soft limit; 1 is all of it."""
        whole = self.budget.soft_usd if self.budget.limit_usd is None else self.budget.limit_usd
        return self.spent_usd / whole if whole else float("inf")

    def error(self) -> BudgetExceededError | None:
        """Why a call is refused, None where it is not."""
        if not self.known and self.budget.fails == "closed":
            return BudgetExceededError(self.budget.name, self.key, None, self.budget.limit_usd)
        if self.level != "hard":
            return None
        return BudgetExceededError(
            self.budget.name, self.key, self.spent_usd, self.budget.limit_usd
        )


Alert = Callable[[BudgetState], object]
Reconciler = Callable[["Ledger", tuple[Budget, ...]], object]


class _State:
    """What this process knows of budgets."""

    def __init__(self) -> None:
        self.lock = _guard.fork_safe_lock()
        self.of_file: tuple[Budget, ...] = ()
        self.of_code: tuple[Budget, ...] = ()
        self.budgets: tuple[Budget, ...] = ()
        self.directory: Path | None = None
        self.ledger: Ledger | None = None
        self.alerts: list[Alert] = []
        self.alerted: set[tuple[str, str, str]] = set()
        self.reconciler: Reconciler | None = None
        self.every_seconds = 0.0
        self.asked_at = float("-inf")


_state = _State()


def in_force() -> bool:
    """Whether any budget is declared in this process."""
    return bool(_state.budgets)


def budgets() -> tuple[Budget, ...]:
    """The budgets in force: those of the file, then those declared in code."""
    return _state.budgets


def declare(*given: Budget) -> None:
    """Add budgets; one of the same name is replaced.

    Raises:
        TypeError: something else than a `Budget`.
    """
    for one in given:
        if not isinstance(one, Budget):
            raise TypeError(f"declare() takes Budget, not {type(one).__name__}")
    with _state.lock:
        known = {one.name: one for one in (*_state.of_code, *given)}
        _state.of_code = tuple(known.values())
        _combine()


def on_alert(callback: Alert) -> None:
    """Call this once for each sum that reaches a soft limit, and once when it reaches the limit.

    Once for all processes of the machine. It runs in the thread of the call that spent or asked:
    hand over what takes long. What it raises is logged and goes no further.
    """
    _state.alerts.append(callback)


def install(
    of_file: tuple[Budget, ...],
    directory: Path,
    *,
    reconciler: Reconciler | None = None,
    every_seconds: float = 0.0,
) -> None:
    """Set what the configuration says; `provider` calls it.

    Args:
        of_file: Budgets of the file.
        directory: Where the sums are kept.
        reconciler: Asks Langfuse and writes what it says into the ledger.
        every_seconds: How often, 0 for never.
    """
    with _state.lock:
        _state.of_file = of_file
        if directory != _state.directory:
            _close_ledger()
            _state.directory = directory
        _state.reconciler, _state.every_seconds = reconciler, every_seconds
        _state.asked_at = float("-inf")
        _combine()


def reset() -> None:
    """Forget budgets, callbacks and the open file, for tests."""
    with _state.lock:
        _close_ledger()
        _state.of_file = _state.of_code = _state.budgets = ()
        _state.directory = _state.reconciler = None
        _state.alerts, _state.alerted = [], set()


def _combine() -> None:
    known = {one.name: one for one in (*_state.of_file, *_state.of_code)}
    _state.budgets = tuple(known.values())


def _close_ledger() -> None:
    if _state.ledger is not None:
        _state.ledger.close()
        atexit.unregister(_state.ledger.close)
        _state.ledger = None


def ledger() -> Ledger:
    """The sums; kept in this process alone before `configure` has said where."""
    from otelbridge.budgets.ledger import Ledger

    with _state.lock:
        if _state.ledger is None:
            _state.ledger = Ledger(_state.directory)
            atexit.register(_state.ledger.close)
        return _state.ledger


# -- asking ----------------------------------------------------------------------------------------
def states(attributes: Mapping[str, Any] | None = None) -> list[BudgetState]:
    """The budgets that concern a request, each with its sum, the fullest first.

    Args:
        attributes: `user.id`, `session.id`, `langfuse.trace.metadata.<key>`, as spans have them; by
            default those of the current request context.
    """
    with _guard.guard("budget"):
        if attributes is None:
            attributes = request_attributes()
        found = states_of(keys_of(attributes))
        _reconcile_when_due()
        return found
    return []


def request_attributes() -> dict[str, Any]:
    """Whose the current request is, as its spans say it: also what was said after its start."""
    context = otel_context.get_current()
    node = view.node_of(trace.get_current_span(context))
    if node is not None and node.entry.updates:
        context = with_updates(context, node.entry)
    return dict(context_attributes(context))


def keys_of(attributes: Mapping[str, Any]) -> list[tuple[Budget, str]]:
    """The budgets that concern a request, each with the key of its sum."""
    now = datetime.now(UTC)
    return [(one, key) for one in _state.budgets if (key := one.key(attributes, now))]


def states_of(keys: list[tuple[Budget, str]]) -> list[BudgetState]:
    """What the sums under these keys say; alerts are given."""
    if not keys:
        return []
    sums, known = _sums(dict.fromkeys(key for _, key in keys))
    found = [BudgetState(one, key, sums[key].spent_usd, known) for one, key in keys]
    for one in found:
        if one.level != "ok":
            _alert(one)
    return sorted(found, key=lambda one: -one.share)


def _sums(keys: Iterable[str]) -> tuple[dict[str, Sum], bool]:
    found = ledger().sums(keys)
    return (found, True) if found is not None else (ledger().waiting(keys), False)


def check(attributes: Mapping[str, Any] | None = None) -> list[BudgetState]:
    """The budgets that concern the current request; raises where one of them is spent.

    The helpers `chat` and `embeddings` do this themselves; it is for other costly work. Refused
    work leaves a span `budget <name>`, a guardrail in Langfuse.

    Args:
        attributes: as `states`.
    Raises:
        BudgetExceededError: a sum has reached its `limit_usd`, or it cannot be read and the budget
            fails closed.
    """
    found = states(attributes)
    error = refusal(found)
    if error is not None:
        with _guard.guard("budget span"):
            _tell(error, found)
        raise error
    return found


def _tell(error: BudgetExceededError, found: list[BudgetState]) -> None:
    """The span of refused work that has none of its own."""
    attributes = span_attributes(found) | {
        semconv.LANGFUSE_OBSERVATION_TYPE: "guardrail",
        semconv.ERROR_TYPE: f"{type(error).__module__}.{type(error).__qualname__}",
    }
    tracer = trace.get_tracer(_SCOPE, __version__)
    span = tracer.start_span(f"budget {error.budget}", attributes=attributes)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end()


def refusal(found: Iterable[BudgetState]) -> BudgetExceededError | None:
    """The error of the first budget that refuses, None where none does."""
    return next((error for one in found if (error := one.error()) is not None), None)


def choose_model(preferred: str, cheaper: str, *, below_usd: float | None = None) -> str:
    """The preferred model, or the cheaper one when a budget of this request runs out; no error.

    Args:
        below_usd: The cheaper one is taken when less than this remains of a limit; by default
            from each budget's `soft_usd` on.
    """
    for one in states():
        left = one.remaining_usd
        few = one.level != "ok" if below_usd is None else left is not None and left < below_usd
        if few:
            with _guard.guard("budget event"):
                trace.get_current_span().add_event(
                    semconv.BUDGET_EVENT,
                    {
                        semconv.BUDGET_NAME: one.budget.name,
                        semconv.BUDGET_SPENT: one.spent_usd,
                        "preferred": str(preferred),
                        "chosen": str(cheaper),
                    },
                )
            return cheaper
    return preferred


def span_attributes(found: list[BudgetState], model: str = "") -> dict[str, Any]:
    """What a model call's span says of the budget that is nearest to its end.

    `otelbridge.budget.*` for Tempo; `budget`, `session_cost` (for a sum per session) and
    `model_selected` as metadata of the observation in Langfuse.
    """
    if not found:
        return {}
    nearest = found[0]
    limit = nearest.budget.limit_usd
    prefix = semconv.LANGFUSE_OBSERVATION_METADATA_PREFIX
    attributes: dict[str, Any] = {
        semconv.BUDGET_NAME: nearest.budget.name,
        semconv.BUDGET_SPENT: nearest.spent_usd,
        prefix + "budget": nearest.budget.soft_usd if limit is None else limit,
    }
    if model:
        attributes[prefix + "model_selected"] = model
    if limit is not None:
        attributes[semconv.BUDGET_LIMIT] = limit
    for one in found:
        if "session" in one.budget.dimensions and not one.budget.period:
            attributes[prefix + "session_cost"] = one.spent_usd
            break
    return attributes


# -- alerts and Langfuse ---------------------------------------------------------------------------
def _alert(state: BudgetState) -> None:
    name = (state.budget.name, state.key, state.level)
    if name in _state.alerted:
        return
    if len(_state.alerted) >= _MAX_ALERTED:
        _state.alerted.clear()
    _state.alerted.add(name)
    if state.known and not ledger().claim("alert " + "\n".join(name), _ALERT_SECONDS):
        return  # another process of this machine has said it, or said it before a restart
    consequence = "calls are refused from now on" if state.level == "hard" else "soft limit"
    amount = state.budget.limit_usd if state.level == "hard" else state.budget.soft_usd
    _logger.warning(
        "otelbridge: budget %r (%s): $%.4f of $%.4f spent; %s.",
        state.budget.name, state.key, state.spent_usd, amount or 0.0, consequence,
    )  # fmt: skip
    for callback in tuple(_state.alerts):
        with _guard.guard("a callback of on_alert"):
            callback(state)


def _reconcile_when_due() -> None:
    reconciler, now = _state.reconciler, time.monotonic()
    if reconciler is None or not _state.every_seconds:
        return
    with _state.lock:
        if now - _state.asked_at < _state.every_seconds:
            return
        _state.asked_at = now
    # Langfuse may take its time; the call that found this due does not wait for it.
    threading.Thread(
        target=reconcile, args=(reconciler,), name="otelbridge-budgets", daemon=True
    ).start()


@_guard.guarded("comparing budgets with Langfuse", None)
def reconcile(reconciler: Reconciler) -> None:
    """Ask Langfuse, unless another process of this machine did so of late."""
    book = ledger()
    if book.claim("reconcile", _state.every_seconds * 0.9):
        reconciler(book, _state.budgets)
