"""What model calls may cost: declared, counted over the processes of a machine, and acted on.

    from otelbridge import budgets
    budgets.declare(budgets.Budget("session", limit_usd=0.50, per="session"))
    model = budgets.choose_model("gpt-4o", "gpt-4o-mini")

or by OTELBRIDGE_BUDGETS_FILE. `rules` says what a budget is, `ledger` keeps the sums, `checking`
asks before a call, `spending` books after it; `langfuse.budget` compares with Langfuse.
"""

from otelbridge.budgets.checking import (
    BudgetState,
    budgets,
    check,
    choose_model,
    declare,
    in_force,
    on_alert,
    states,
)
from otelbridge.budgets.rules import Budget
from otelbridge.budgets.spending import add
from otelbridge.errors import BudgetExceededError

__all__ = [
    "Budget",
    "BudgetExceededError",
    "BudgetState",
    "add",
    "budgets",
    "check",
    "choose_model",
    "declare",
    "in_force",
    "on_alert",
    "states",
]
