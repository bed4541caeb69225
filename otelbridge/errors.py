"""The whole exception tree of otelbridge.

    OtelbridgeError
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
