"""Child processes that never outlive their parent's work, each with a log file.

`ProcessGroup` is a context manager: whatever happens inside (an exception, Ctrl-C, SIGTERM), every
child is asked to end, then made to. A child is its own process group, so that what it started goes
with it. Limits: a parent killed by SIGKILL cannot clean up.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from otelbridge.errors import OtelbridgeError

STOP_SECONDS = 5.0  # above the 1.5 s that a service may take to deliver its last spans


class DemoError(OtelbridgeError):
    """The demo cannot go on; the message says what failed and where the log is."""


@dataclass(frozen=True, slots=True)
class Child:
    """One started process: its name, handle and log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log, for an error message."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class ProcessGroup:
    """Starts processes and ends all of them when left."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.children: list[Child] = []

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
    ) -> Child:
        """Start one process with exactly this environment; its output goes to `<name>.log`."""
        log = self.log_dir / f"{name}.log"
        with log.open("wb") as output, interrupts_held():
            process = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            child = Child(name, process, log)
            self.children.append(child)
        return child

    def check_alive(self) -> None:
        """Raise DemoError when a child has ended by itself, with the end of its log."""
        for child in self.children:
            code = child.process.poll()
            if code is not None:
                raise DemoError(
                    f"{child.name} ended with exit code {code}. Its log {child.log} ends:\n"
                    f"{child.tail()}"
                )

    def wait_listening(self, child: Child, host: str, port: int, deadline_seconds: float) -> None:
        """Wait until the port takes connections; DemoError when it does not or a child ended.

        A connection, not a request: a request would be a trace of its own.
        """
        deadline = time.monotonic() + deadline_seconds
        while True:
            self.check_alive()
            try:
                socket.create_connection((host, port), timeout=2).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"{child.name} did not listen on {host}:{port} within "
                        f"{deadline_seconds:.0f} s. Its log {child.log} ends:\n{child.tail()}"
                    ) from None
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM to all, one common deadline, SIGKILL to what is left.

        A second Ctrl-C or SIGTERM while waiting kills at once, then goes on its way.
        """
        try:
            self._end(STOP_SECONDS)
        except BaseException:
            self._end(0.0)
            raise

    def _end(self, grace_seconds: float) -> None:
        for child in self.children:
            _signal_group(child.process, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        for child in self.children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(child.process, signal.SIGKILL)
                child.process.wait()
        self.children.clear()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.returncode is not None:  # reaped: its number may belong to another by now
        return
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


class _Interrupts:
    """Turns SIGTERM and SIGINT into exceptions, and holds them back where they would do harm."""

    def __init__(self) -> None:
        self._holding = False
        self._waiting: int | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal inside the block takes effect at its end: a child is known or not started."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            waiting, self._waiting = self._waiting, None
            if waiting is not None:
                self.act(waiting, None)

    def act(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self._holding:
            self._waiting = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)


_interrupts = _Interrupts()
interrupts_held = _interrupts.held


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM raises SystemExit(143) inside the block, so that `finally` clauses run.

    Neither it nor Ctrl-C strikes between the start of a child and its entry in the group. Outside
    the main thread, where Python allows no handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, _interrupts.act) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that nothing listens on at this moment (they are held open until all are chosen)."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind((host, 0))
        return [int(held.getsockname()[1]) for held in sockets]
    finally:
        for held in sockets:
            held.close()


def untrusted_address() -> tuple[str, str]:
    """(bind address, host text) for the mock provider: loopback, yet not what services use.

    Trust is decided by the host's text. 127.0.0.2 exists on Linux; elsewhere the name `localhost`
    serves, since the services call each other by 127.0.0.1.
    """
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            return "127.0.0.1", "localhost"
    return "127.0.0.2", "127.0.0.2"
