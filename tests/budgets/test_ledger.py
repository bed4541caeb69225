"""The running sums: exact over threads and processes, private, and never in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otelbridge import _guard
from otelbridge.budgets.ledger import Ledger, Sum

PROCESSES, CALLS = 4, 100


_SPEND = f"""
import os, sys
from pathlib import Path
from otelbridge.budgets.ledger import Ledger
book = Ledger(Path(sys.argv[1]))
sys.stdin.readline()
for _ in range({CALLS}):
    book.add(["all", f"user={{os.getpid()}}"], 0.000_001)
book.close()
"""


def _own(book: Ledger, key: str) -> float:
    sums = book.sums([key])
    assert sums is not None
    return sums[key].own_usd


def test_processes_add_to_one_sum(tmp_path: Path) -> None:
    """Four processes at once lose no nanodollar."""
    processes = [
        subprocess.Popen([sys.executable, "-c", _SPEND, str(tmp_path)], stdin=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(90) for process in processes] == [0] * PROCESSES
    book = Ledger(tmp_path)
    sums = book.sums(["all"])
    assert sums is not None
    assert sums["all"].own_usd == pytest.approx(PROCESSES * CALLS * 1e-6, abs=1e-12)
    assert sums["all"].calls == PROCESSES * CALLS
    assert len(book.newest() or []) == PROCESSES + 1
    book.close()


def test_threads_add_to_one_sum(tmp_path: Path) -> None:
    """One ledger serves the threads of a process."""
    book = Ledger(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: book.add(["all"], 0.01), range(200)))
    assert _own(book, "all") == pytest.approx(2.0)
    book.close()


def test_a_forked_child_opens_the_file_by_itself(tmp_path: Path) -> None:
    """Parent and child go on after a fork; what waits in the parent is written once."""
    book = Ledger(tmp_path)
    book.add(["all"], 1.0)
    child = os.fork()
    if child == 0:
        book.add(["all"], 2.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    book.add(["all"], 4.0)
    assert _own(book, "all") == 7.0
    book.close()


def test_files_are_private(tmp_path: Path) -> None:
    """Directory 0700, file 0600."""
    book = Ledger(tmp_path / "deep" / "budgets")
    book.add(["all"], 1.0)
    assert book.path is not None
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(book.path.parent.stat().st_mode) == 0o700
    book.close()


def test_without_a_usable_file_amounts_wait_in_memory(
    tmp_path: Path, swallow_errors: None, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log; this process' part is known, and written once the file works."""
    blocked = tmp_path / "budgets"
    blocked.write_text("a file where a directory should be")
    _guard._failures.clear()  # one line for each place and process
    book = Ledger(blocked)
    for _ in range(3):
        book.add(["all"], 1.0)
    assert book.sums(["all"]) is None
    assert book.newest() is None
    assert book.waiting(["all"]) == {"all": Sum("all", 3.0, 3)}
    assert book.claim("x", 60) is False
    assert caplog.text.count("keeping the sums of budgets failed") == 1
    blocked.unlink()
    book._rests_until = 0.0
    book.add(["all"], 1.0)
    assert _own(book, "all") == 4.0
    book.close()


def test_a_damaged_file_does_not_reach_the_caller(tmp_path: Path, swallow_errors: None) -> None:
    """Bytes that are no database count as not readable."""
    (tmp_path / "sums.sqlite").write_bytes(b"no database at all" * 100)
    book = Ledger(tmp_path)
    book.add(["all"], 1.0)
    assert book.sums(["all"]) is None
    assert any("budgets" in place for place in _guard.failures())


def test_a_claim_is_given_once_within_its_time(tmp_path: Path) -> None:
    """Two processes' ledgers: the first gets it, after its time another may."""
    one, other = Ledger(tmp_path), Ledger(tmp_path)
    assert one.claim("reconcile", 60)
    assert not other.claim("reconcile", 60)
    assert other.claim("alert", -1)
    assert one.claim("alert", 60)
    one.close(), other.close()


@pytest.mark.parametrize(
    ("found", "spent_usd"),
    [
        (Sum("k", own_usd=2.0), 2.0),
        (Sum("k", own_usd=2.0, remote_usd=5.0, base_usd=1.5), 5.5),
        (Sum("k", own_usd=2.0, remote_usd=1.0, base_usd=2.0), 2.0),
        (Sum("k", own_usd=0.5, remote_usd=5.0, base_usd=1.5), 5.0),
    ],
)
def test_the_sum_in_force(found: Sum, spent_usd: float) -> None:
    """What Langfuse knows and what came since; never less than what was spent here."""
    assert found.spent_usd == spent_usd
