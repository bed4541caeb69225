"""The running sums of all processes of this machine, in one small SQLite file.

A sum is a row: what was spent here, and, once Langfuse was asked, what it knows and how much of
ours that covers. A call costs one read and one write (about 20 us each) in the calling
thread. Whatever fails (disk full, locked, no directory) is logged once; amounts then wait in
memory, are counted by this process, and are written with the next success. For a local disk:
SQLite's locks do not hold on network file systems.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from otelbridge import _guard
from otelbridge.budgets.rules import KEPT_SECONDS

R = TypeVar("R")
D = TypeVar("D")
_NANO: Final = 1_000_000_000
#: The most that a call waits for another process' write; SQLite's own pauses are 1 to 100 ms.
_BUSY_MS: Final = 100
#: A file that fails is left alone for so long: each try may take `_BUSY_MS`.
_REST_SECONDS: Final = 5.0
#: Amounts that cannot be written are kept for so many sums.
_MAX_UNWRITTEN: Final = 10_000
_SCHEMA: Final = """
create table if not exists sums(
    key text primary key, nano integer not null default 0, calls integer not null default 0,
    remote integer, base integer not null default 0, asked real, mark integer, marked real,
    updated real not null default 0
) without rowid;
create index if not exists by_time on sums(updated);
create table if not exists claims(name text primary key, until real not null) without rowid;
"""
#: A sum that is not there: the columns behind the key.
_NOTHING: Final = (0, 0, *(None,) * 6)
#: Row of `claims` that holds the time of the last `mark`.
_MARK: Final = "mark"
_of_parents: Final[list[sqlite3.Connection]] = []
_COLUMNS: Final = "key, nano, calls, remote, base, asked, mark, marked, updated"


@dataclass(frozen=True, slots=True)
class Sum:
    """What was spent under a key.

    Attributes:
        own_usd: By processes of this machine.
        calls: Priced calls of them.
        remote_usd: What Langfuse knew when it was last asked, None before.
        base_usd: How much of `own_usd` is contained in that.
        asked: When that was, Unix seconds.
        mark_usd: `own_usd` at `marked` (Unix seconds), for the next question.
        updated: The newest call, Unix seconds.
    """

    key: str
    own_usd: float = 0.0
    calls: int = 0
    remote_usd: float | None = None
    base_usd: float = 0.0
    asked: float | None = None
    mark_usd: float | None = None
    marked: float | None = None
    updated: float = 0.0

    @property
    def spent_usd(self) -> float:
        """The sum in force: ours, or Langfuse's with what we added since, whichever is more."""
        if self.remote_usd is None:
            return self.own_usd
        return max(self.own_usd, self.remote_usd + max(0.0, self.own_usd - self.base_usd))


class Ledger:
    """The sums of one directory.

    Args:
        directory: Made when missing, for this user alone; None keeps the sums in this process.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = _guard.fork_safe_lock()
        self._connection: sqlite3.Connection | None = None
        self._process_id = 0
        self._rests_until = 0.0
        self._unwritten: dict[str, tuple[int, int]] = {}

    @property
    def path(self) -> Path | None:
        """The file; None for sums of this process only."""
        return None if self._directory is None else self._directory / "sums.sqlite"

    def add(self, keys: Iterable[str], usd: float) -> None:
        """Add a call's cost to these sums."""
        nano = round(usd * _NANO)
        with self._lock:
            self._leave_parent()
            for key in keys:
                amount, calls = self._unwritten.get(key, (0, 0))
                if key in self._unwritten or len(self._unwritten) < _MAX_UNWRITTEN:
                    self._unwritten[key] = (amount + nano, calls + 1)
                else:
                    _guard.count("budget: sums that do not fit")
            self._run(self._write, None)

    def _write(self, connection: sqlite3.Connection) -> None:
        now = time.time()
        rows = [(key, nano, calls, now) for key, (nano, calls) in self._unwritten.items()]
        with _transaction(connection):
            connection.executemany(
                "insert into sums(key, nano, calls, updated) values(?, ?, ?, ?) on conflict(key) "
                "do update set nano = nano + excluded.nano, calls = calls + excluded.calls, "
                "updated = excluded.updated",
                rows,
            )
        self._unwritten.clear()

    def sums(self, keys: Iterable[str]) -> dict[str, Sum] | None:
        """The sums under these keys; None where the file cannot be read now."""
        wanted = tuple(keys)
        marks = ",".join("?" * len(wanted))
        statement = f"select {_COLUMNS} from sums where key in ({marks})"  # noqa: S608 - only marks
        with self._lock:
            rows = self._run(lambda file: file.execute(statement, wanted).fetchall(), None)
            if rows is None:
                return None
            found = {row[0]: self._sum(row) for row in rows}
            return {key: found.get(key) or self._sum((key, *_NOTHING)) for key in wanted}

    def waiting(self, keys: Iterable[str]) -> dict[str, Sum]:
        """What this process could not write, for when the file cannot be read."""
        with self._lock:
            return {key: self._sum((key, *_NOTHING)) for key in keys}

    def newest(self, most: int = -1) -> list[Sum] | None:
        """The sums that were added to last, all of them by default; None as `sums`."""
        statement = f"select {_COLUMNS} from sums order by updated desc limit ?"  # noqa: S608 - constants
        with self._lock:
            rows = self._run(lambda file: file.execute(statement, (most,)).fetchall(), None)
            return None if rows is None else [self._sum(row) for row in rows]

    def _sum(self, row: tuple[object, ...]) -> Sum:
        key, nano, calls, remote, base, asked, mark, marked, updated = row
        more, more_calls = self._unwritten.get(str(key), (0, 0))
        return Sum(
            str(key),
            (_whole(nano) + more) / _NANO,
            _whole(calls) + more_calls,
            None if remote is None else _whole(remote) / _NANO,
            _whole(base) / _NANO,
            _real(asked),
            None if mark is None else _whole(mark) / _NANO,
            _real(marked),
            _real(updated) or 0.0,
        )

    def set_remote(self, key: str, usd: float, base_usd: float, asked: float) -> None:
        """Note what Langfuse knows of a sum, and how much of ours is in it."""
        self._execute(
            "insert into sums(key, remote, base, asked, updated) values(?, ?, ?, ?, ?) on "
            "conflict(key) do update set remote = excluded.remote, base = excluded.base, "
            "asked = excluded.asked",
            (key, round(usd * _NANO), round(base_usd * _NANO), asked, asked),
        )

    def mark(self, now: float) -> None:
        """Note every sum of ours as it is now; `marked_at` then answers this time."""

        def note(file: sqlite3.Connection) -> None:
            with _transaction(file):
                last = file.execute("select until from claims where name = ?", (_MARK,)).fetchone()
                # Who was not added to since the last note has an equal sum in it.
                file.execute(
                    "update sums set mark = nano, marked = ? where updated >= ?",
                    (now, last[0] if last else 0.0),
                )
                file.execute("insert or replace into claims values(?, ?)", (_MARK, now))

        with self._lock:
            self._run(note, None)

    def marked_at(self) -> float:
        """When the own sums were noted last, Unix seconds; 0 for never."""
        with self._lock:
            found = self._run(
                lambda file: file.execute(
                    "select until from claims where name = ?", (_MARK,)
                ).fetchone(),
                None,
            )
        return float(found[0]) if found else 0.0

    def claim(self, name: str, seconds: float) -> bool:
        """Whether this process is the first to ask for `name` within so many seconds."""
        now = time.time()
        taken = self._execute(
            "insert into claims(name, until) values(?, ?) on conflict(name) do update set "
            "until = excluded.until where until <= ?",
            (name, now + seconds, now),
        )
        return taken == 1

    def close(self) -> None:
        """Write what waits and close the file."""
        with self._lock:
            self._leave_parent()
            if self._unwritten:
                self._rests_until = 0.0
                self._run(self._write, None)
            self._drop()

    # -- the file ----------------------------------------------------------------------------------
    def _execute(self, statement: str, values: tuple[object, ...]) -> int:
        with self._lock:
            return self._run(lambda file: file.execute(statement, values).rowcount, 0)

    def _run(self, action: Callable[[sqlite3.Connection], R], default: D) -> R | D:
        """What an action on the open file answers; the default while it rests or fails."""
        try:
            connection = self._open()
            return default if connection is None else action(connection)
        except (sqlite3.Error, OSError) as error:
            _guard.record_failure("keeping the sums of budgets", error)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                self._drop()
                self._rests_until = time.monotonic() + _REST_SECONDS
            return default

    def _open(self) -> sqlite3.Connection | None:
        self._leave_parent()
        if self._connection is not None:
            return self._connection
        if time.monotonic() < self._rests_until:
            return None
        if self.path is None:
            self._connection = _connected(":memory:")
            return self._connection
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:  # one process at a time: SQLite does not wait for a change of the journal mode
            fcntl.flock(lock, fcntl.LOCK_EX)
            # SQLite would make it readable for all.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = _connected(str(self.path))
        finally:
            os.close(lock)
        return self._connection

    def _leave_parent(self) -> None:
        if self._process_id != (process_id := os.getpid()):
            if self._connection is not None:
                # SQLite: a connection must be neither used nor closed in a forked child.
                _of_parents.append(self._connection)
                self._connection = None
            self._unwritten.clear()  # the parent writes them
            self._process_id = process_id

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _connected(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"pragma busy_timeout={_BUSY_MS}")
    connection.execute("pragma journal_mode=wal")
    # A power cut may take the last sums; the file stays whole.
    connection.execute("pragma synchronous=off")
    connection.executescript(_SCHEMA)
    connection.execute("delete from sums where updated < ?", (time.time() - KEPT_SECONDS,))
    connection.execute("delete from claims where until < ? and name <> ?", (time.time(), _MARK))
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
