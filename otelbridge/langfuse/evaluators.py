"""Evaluators beside the application's work: a bounded pool that judges after the answer has left.

`evaluate_later(fn, ...)` runs `fn` in one of a few threads, in the caller's context, and scores
what it returns. A full queue refuses, an error is counted; neither reaches the caller. Neighbour:
`scores`, where both are counted.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import trace

from otelbridge import _guard
from otelbridge.langfuse import scores

_logger = _guard.logger
#: Threads; started one by one as they are needed.
WORKERS: Final = 4
#: Evaluations that may wait; further ones are refused.
WAITING: Final = 1000
_IDLE_SECONDS: Final = 5.0


class _Pool:
    """A few daemon threads over one queue; they end when there is nothing to do."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def submit(self, work: Callable[[], None]) -> bool:
        """Run later; False when too many wait."""
        with self._lock:
            try:
                self._queue.put_nowait(work)
            except queue.Full:
                return False
            self._unfinished += 1
            if self._threads < min(WORKERS, self._unfinished):
                threading.Thread(target=self._run, name="otelbridge-evaluate", daemon=True).start()
                self._threads += 1
        return True

    def wait(self, timeout_seconds: float) -> bool:
        """Whether all is done within this time."""
        deadline = time.monotonic() + timeout_seconds
        while self._unfinished and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._unfinished

    def _run(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._queue.empty():
                        self._threads -= 1
                        return
                continue
            try:
                work()
            finally:
                with self._lock:
                    self._unfinished -= 1


_pool: dict[str, _Pool] = {"pool": _Pool()}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _pool.update(pool=_Pool()))


def evaluate_later(
    fn: Callable[..., Any],
    *args: Any,
    score_name: str | None = None,
    score_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> bool:
    """Run an evaluator in the background and score what it returns; never raises, never waits.

    Args:
        fn: Called with `args` and `kwargs` in the caller's context. Returns a value for `score`; or
            a mapping with `value` and any of `name`, `comment`, `data_type`, `metadata`; or a list
            of those; None for no score.
        score_name: By default the function's name.
        score_options: Target and options of `score`; by default the caller's current trace.
    Returns:
        Whether it was taken: at most 4 run and 1,000 wait in a process, and what waits when the
        program ends is not run.
    """
    with _guard.guard("evaluate_later"):
        options = dict(score_options or {})
        if not _TARGETS & set(options):
            current = trace.get_current_span()
            found = current.get_span_context()
            if found.is_valid:
                options["trace_id"] = trace.format_trace_id(found.trace_id)
        name = score_name or str(getattr(fn, "__name__", "evaluation"))
        context = contextvars.copy_context()

        def work() -> None:
            context.run(_evaluate, lambda: fn(*args, **kwargs), name, options)

        if _pool["pool"].submit(work):
            scores.note("evaluators_started")
            return True
        scores.note("evaluators_refused")
    return False


_TARGETS: Final = frozenset(
    ("trace_id", "span", "session_id", "request_id", "dataset_run_id", "span_id")
)


def _evaluate(call: Callable[[], Any], name: str, options: Mapping[str, Any]) -> None:
    try:
        found = call()
        for one in found if isinstance(found, list | tuple) else [found]:
            if one is None:
                continue
            given = dict(one) if isinstance(one, Mapping) else {"value": one}
            own_name, value = given.pop("name", name), given.pop("value")
            scores.score(own_name, value, **{**options, **given})
    except Exception as error:  # noqa: BLE001 - whatever an evaluator raises
        scores.note("evaluators_failed")
        _logger.warning(
            "otelbridge: evaluator %s failed: %s", name, type(error).__name__, exc_info=False
        )


def wait_for_evaluators(timeout_seconds: float = 5.0) -> bool:
    """Wait for what was given to `evaluate_later`; before a short program ends.

    Returns:
        Whether all of it is done.
    """
    return _pool["pool"].wait(timeout_seconds)
