"""The whole exception tree of otelbridge.

    OtelbridgeError
    ├── BudgetExceededError  a model call that a budget does not allow
    ├── ConfigError        a variable or argument that cannot be used
    ├── DependencyError    an optional package or tool that is missing
    ├── IngestError        telemetry that a receiver refuses
    ├── QueryError         a query that cannot be answered as it is written
    │   └── TraceQLError   its three kinds are in local/traceql/errors.py
    └── StoreError         the local store cannot be opened, read or written

Start-up and command errors raise these; errors on the path of a span never reach the host
program, they pass through `otelbridge._guard`. Every message says what was given, what is
allowed and what to do.
"""

from __future__ import annotations


class OtelbridgeError(Exception):
    """Base of every error that otelbridge raises on purpose."""


class BudgetExceededError(OtelbridgeError):
    """A model call that a budget does not allow; raised before the call is made.

    The one error that a helper raises into the application, and only where a budget with a
    `limit_usd` was declared.

    Attributes:
        budget: Name of the budget.
        key: What it was spent for: `day=2026-11-21,user=u-1`.
        spent_usd: None where it could not be read and the budget fails closed.
        limit_usd: The limit.
    """

    def __init__(
        self, budget: str, key: str, spent_usd: float | None, limit_usd: float | None
    ) -> None:
        self.budget = budget
        self.key = key
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd
        limit = "no limit" if limit_usd is None else f"${limit_usd:.4f}"
        spent = "not known" if spent_usd is None else f"${spent_usd:.4f}"
        super().__init__(f"budget {budget!r} ({key}) allows {limit}, spent: {spent}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.budget, self.key, self.spent_usd, self.limit_usd)


class ConfigError(OtelbridgeError):
    """A setting that cannot be used: names the variable, the value given and what is allowed."""

    def __init__(self, variable: str, value: str, allowed: str, remedy: str = "") -> None:
        self.variable = variable
        self.value = value
        self.allowed = allowed
        self.remedy = remedy
        message = f"{variable}={value!r} cannot be used; allowed: {allowed}"
        super().__init__(f"{message}. {remedy}" if remedy else message)


class DependencyError(OtelbridgeError):
    """An optional package or a tool is missing; the message names how to get it."""


class IngestError(OtelbridgeError):
    """Telemetry that a receiver refuses.

    Attributes:
        status: HTTP status code that the receiver answers with.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class QueryError(OtelbridgeError):
    """A query that cannot be answered as it is written."""


class StoreError(OtelbridgeError):
    """The local store cannot be opened, read or written."""
