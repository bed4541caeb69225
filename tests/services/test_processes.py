"""Children of the demo are always ended, whatever happens to their parent's work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otelbridge.demo import processes
from otelbridge.demo.processes import DemoError, ProcessGroup, free_ports, untrusted_address

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);"
    "time.sleep(600)",
]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_children_end_when_the_block_raises(tmp_path: Path) -> None:
    """An exception in the block leaves no child behind."""
    with pytest.raises(RuntimeError, match="boom"), ProcessGroup(tmp_path) as group:
        pids = [group.start(name, SLEEP, os.environ).process.pid for name in ("a", "b")]
        raise RuntimeError("boom")
    assert not any(alive(pid) for pid in pids)


def test_child_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    """After the grace period SIGKILL ends what SIGTERM did not."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    with ProcessGroup(tmp_path) as group:
        child = group.start("stubborn", STUBBORN, os.environ)
        eventually(lambda: "up" in child.log.read_text())
    assert child.process.returncode == -signal.SIGKILL


def test_sigterm_of_the_parent_ends_the_children(tmp_path: Path) -> None:
    """SIGTERM leaves through the `with` blocks: children are gone, the exit code says SIGTERM."""
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from otelbridge.demo.processes import ProcessGroup, sigterm_as_exit\n"
        "with sigterm_as_exit(), ProcessGroup(Path(sys.argv[1])) as group:\n"
        "    command = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "    print(group.start('child', command, os.environ).process.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.terminate()
        assert parent.wait(20) == 143
    assert not alive(child)


def test_early_end_of_a_child_is_told_with_its_log(tmp_path: Path) -> None:
    """A service that dies while starting gives its name, exit code and last words."""
    command = [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"]
    with ProcessGroup(tmp_path) as group:
        child = group.start("llm", command, os.environ)
        with pytest.raises(DemoError, match=r"llm ended with exit code 3(.|\n)*no such port"):
            group.wait_listening(child, "127.0.0.1", free_ports(1)[0], 20)


def test_service_that_never_listens_is_told(tmp_path: Path) -> None:
    """Waiting has a deadline, and the message names service, address and log."""
    with ProcessGroup(tmp_path) as group:
        child = group.start("rag", SLEEP, os.environ)
        with pytest.raises(DemoError, match=r"rag did not listen on 127\.0\.0\.1:\d+"):
            group.wait_listening(child, "127.0.0.1", free_ports(1)[0], 0.2)


def test_free_ports_differ() -> None:
    """Ports chosen together are all different."""
    assert len(set(free_ports(20))) == 20


def test_provider_gets_a_host_text_of_its_own() -> None:
    """The provider's host is never the text by which the services call each other."""
    assert untrusted_address()[1] != "127.0.0.1"
