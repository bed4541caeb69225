"""SIGTERM: deliver within a deadline, then what the signal did before.

A signal handler runs between two steps of the main thread, which may hold any lock, so it only
starts a bare thread and returns; the main thread goes on meanwhile. The thread does the work and
sends the signal again, and the second time the former handler (or the default: the end) has it. A
second SIGTERM from outside does the same at once. Handlers that are set later replace this one;
such programs end by themselves and are served by `atexit`; only uvicorn, which ends by a second,
deadly SIGTERM after its last request, is served by a wrapper. What Python cannot do: a main thread
inside a long C call sees no signal until it returns.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import wrapt

from otelbridge import _guard

Handler = Callable[[int, FrameType | None], Any] | int | None
BeforeEnd = Callable[[bool], object]


#: Their handlers only note the signal: the workers end later, by `atexit` or `_wrap_uvicorn`.
_SERVERS: Final = frozenset({"gunicorn", "uvicorn"})
#: Also for processes in which a server has replaced our handler.
_before_end: list[BeforeEnd] = []


class _Terminator:
    """The handler of this process."""

    def __init__(self, before_end: BeforeEnd, previous: Handler) -> None:
        self.before_end = before_end
        self.previous = previous
        # Process ids, so that a forked child starts anew.
        self._started_in = 0
        self.held_in = 0
        self.came_in = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._started_in == os.getpid() or _ends_by_itself(self.previous):
            self._hand_on(number, frame)
            return
        self._started_in = os.getpid()
        if self.held_in == os.getpid():
            self.came_in = os.getpid()
            return
        try:
            _thread.start_new_thread(self._work, (number,))
        except RuntimeError:  # no more threads
            self._hand_on(number, frame)

    def _work(self, number: int) -> None:
        try:
            with _guard.guard("SIGTERM"):
                self.before_end(not callable(self.previous))
        finally:
            os.kill(os.getpid(), number)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self._started_in = 0
        previous = self.previous
        if callable(previous):
            previous(number, frame)
        elif previous != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _ends_by_itself(handler: Handler) -> bool:
    owner = type(getattr(handler, "__self__", None))
    return any(base.__module__.partition(".")[0] in _SERVERS for base in owner.__mro__)


def on_sigterm(before_end: BeforeEnd) -> bool:
    """Run `before_end`, which bounds its own time, when SIGTERM comes, before what it did before.

    It is told whether the process dies right afterwards; False when a handler of the program
    follows, under which the program may go on. A further call replaces `before_end`.

    Returns:
        False where no handler can be set: outside of the main thread, where SIGTERM is ignored, or
        where a handler was set that Python does not know.
    """
    _before_end[:] = [before_end]
    wrapt.register_post_import_hook(
        _guard.guarded("uvicorn", None)(_wrap_uvicorn), "uvicorn.server"
    )
    if threading.current_thread() is not threading.main_thread():
        return False
    current: Handler = signal.getsignal(signal.SIGTERM)
    if isinstance(current, _Terminator):
        current.before_end = before_end
        return True
    if current is None or current == signal.SIG_IGN:
        return False
    signal.signal(signal.SIGTERM, _Terminator(before_end, current))
    return True


def hold_sigterm() -> None:
    """The end is being prepared already: SIGTERM, the first time, waits for `leave_sigterm`."""
    current = signal.getsignal(signal.SIGTERM)
    if isinstance(current, _Terminator):
        current.held_in = os.getpid()


def leave_sigterm() -> None:
    """Put the former handler back, if ours still stands, and send it what came meanwhile."""
    _before_end.clear()
    current = signal.getsignal(signal.SIGTERM)
    if not isinstance(current, _Terminator):
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, current.previous)
    current.held_in = 0
    if current.came_in == os.getpid():
        current.came_in = 0
        os.kill(os.getpid(), signal.SIGTERM)


def _wrap_uvicorn(module: Any) -> None:
    """From 0.29 on uvicorn catches SIGTERM, ends its requests, puts the handler that it found back
    and raises the signal again. Where that was the default, nothing else of ours would run.
    """
    if not isinstance(module.Server.shutdown, wrapt.FunctionWrapper):
        wrapt.wrap_function_wrapper(module.Server, "shutdown", _shut_uvicorn_down)


async def _shut_uvicorn_down(wrapped: Any, server: Any, args: Any, kwargs: Any) -> Any:
    result = await wrapped(*args, **kwargs)
    # A server in another thread, as in tests, catches no signals and is not the whole program.
    if signal.SIGTERM in getattr(server, "_captured_signals", ()):
        for before_end in tuple(_before_end):
            with _guard.guard("end of uvicorn"):
                before_end(True)
    return result
