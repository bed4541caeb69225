"""The one place that swallows errors on the path of a span.

Telemetry must never break the host program: code that runs inside an application's call passes
through `guard` or `guarded`. An error is logged once per place and exception type, and counted;
`failures()` shows the counts. The project's own tests set `reraise`, so that a bug cannot hide.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar


def fork_safe_lock() -> threading.Lock:
    """A lock that is free in a forked child, whichever thread of the parent held it."""
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        # As the standard library does for its own module locks.
        release = lock._at_fork_reinit  # type: ignore[attr-defined]  # not in the type stubs
        os.register_at_fork(after_in_child=release)
    return lock


_lock = fork_safe_lock()
_failures: Counter[str] = Counter()

#: Set to True by the project's own tests: swallowed errors are raised again.
reraise = False


class _SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """The package's logger for code on the path of a span.

    A handler of the application's own that raises costs the line, which is counted, and nothing
    else: spans whose way led through a log line would be lost with it.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            super().log(level, msg, *args, **{"stacklevel": 2, **kwargs})
        except Exception:  # noqa: BLE001 - whatever handlers and filters raise
            count("log line")


#: For every module on the path of a span; `logging.getLogger` is for the rest.
logger = _SafeLogger(logging.getLogger("otelbridge"))

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")


def record_failure(place: str, error: BaseException) -> None:
    """Count a swallowed error and log it the first time it is seen at this place."""
    key = f"{place}: {type(error).__name__}"
    with _lock:
        _failures[key] += 1
        first = _failures[key] == 1
    if first:
        logger.warning(
            "otelbridge: %s failed (%s); the program goes on without this piece of telemetry. "
            "Further failures of this kind are only counted.",
            place,
            type(error).__name__,
            exc_info=logger.isEnabledFor(logging.DEBUG),
        )


def count(reason: str, amount: int = 1) -> None:
    """Count something that was dropped for a known reason, without logging it."""
    with _lock:
        _failures[reason] += amount


def failures() -> dict[str, int]:
    """Counts of swallowed errors and drops, by place and reason, since the process started."""
    with _lock:
        return dict(_failures)


@contextmanager
def guard(place: str) -> Iterator[None]:
    """Run a block of telemetry code; an `Exception` in it is counted, logged once, and dropped."""
    try:
        yield
    except Exception as error:
        record_failure(place, error)
        if reraise:
            raise


def guarded(place: str, default: D) -> Callable[[Callable[P, R]], Callable[P, R | D]]:
    """Decorate a function of the span path: on an `Exception` it answers `default`."""

    def decorate(function: Callable[P, R]) -> Callable[P, R | D]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R | D:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                record_failure(place, error)
                if reraise:
                    raise
                return default

        return call

    return decorate
