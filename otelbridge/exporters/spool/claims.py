"""A segment that this process alone may send now, and the ledger of what became of spans.

The claim is a flock(2) on the file: it ends with `done`, `keep`, or the death of the process.
Records that were answered are marked in place, so that what is sent twice after a crash is at most
the request that was on its way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from otelbridge import _guard
from otelbridge.exporters.spool import folder, records
from otelbridge.exporters.spool.records import Entry, Record

_logger = _guard.logger
#: A warning of `Ledger`.
NOT_SYNCED: Final = "the spool cannot be synchronised (%s)"


#: Errors of the disk or directory, not of one file.
_REFUSES_ALL: Final = frozenset({errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT})


class Ledger:
    """Counters of one spool in this process, and which warnings it has given."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in between
        self._counts: Counter[str] = Counter()
        self._warned: set[str] = set()
        #: Claims that ended with something left: what was claimed is to be looked at again.
        self.kept = 0

    def add(self, name: str, amount: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += amount

    def counts(self) -> dict[str, int]:
        """A copy of the counters."""
        with self._lock:
            return dict(self._counts)

    def warn(self, kind: str, message: str, *values: object, error: OSError | None = None) -> None:
        """Log a warning, the first time of its kind.

        Args:
            kind: Of what failed.
            message: With the `values` in it, as for `%`.
            values: See there.
            error: Behind it; what refuses everything, as a read-only disk does, is one kind.
        """
        if error is not None and error.errno in _REFUSES_ALL:
            kind = "unusable"
        with self._lock:
            first = kind not in self._warned
            self._warned.add(kind)
        if first:
            _logger.warning("otelbridge: %s", message % values)


class Claimed:
    """One claimed segment: send `records`, `mark` each answered one, then `done` or `keep`.

    Used by one thread. Leaving it as a context manager, or losing it, is `keep`. No method raises.

    Attributes:
        name: File name of the segment.
    """

    def __init__(
        self,
        directory: int,
        name: str,
        file: int,
        found: records.Scan,
        ledger: Ledger,
        *,
        fsync: bool = False,
    ) -> None:
        self.name = name
        self._directory = os.dup(directory)  # the spool may close its own
        self._file = file
        self._found = found
        self._left = {entry.offset: entry for entry in found.pending}
        self._last: Entry | None = None
        self._damaged = found.damaged_bytes > 0
        self._ledger = ledger
        self._unsynced = fsync

    @property
    def spans(self) -> int:
        """Spans in the records that are left."""
        return sum(entry.spans for entry in self._left.values())

    @property
    def records_left(self) -> int:
        """Records that are neither marked nor damaged."""
        return len(self._left)

    @property
    def age_seconds(self) -> float:
        """Time since the segment was begun, by the wall clock; never negative."""
        return max(0.0, time.time() - folder.ordinal(self.name) / 1e9)

    def records(self) -> Iterator[Record]:
        """The records that are left, oldest first; each is read when it is asked for."""
        for entry in list(self._left.values()):
            record = self._read(entry)
            if record is not None:
                self._last = entry
                yield record

    @_guard.guarded("spool read", None)
    def _read(self, entry: Entry) -> Record | None:
        if self._file < 0:
            return None
        try:
            data = os.pread(self._file, records.HEADER_BYTES + entry.payload_bytes, entry.offset)
        except OSError as error:
            self._ledger.warn("read", "a spool segment cannot be read (%s)", error, error=error)
            data = b""
        head = records.header_at(data, 0)
        payload = data[records.HEADER_BYTES :]
        if head is None or not records.matches(payload, head):
            # Damaged since it was claimed: set aside when the claim ends, not tried for ever.
            self._left.pop(entry.offset, None)
            self._damaged = True
            self._ledger.add("dropped_damaged", entry.spans)
            return None
        return Record(payload, entry.spans, entry.gzipped)

    @_guard.guarded("spool mark", None)
    def mark(self, dropped: str = "") -> None:
        """The record that came last from `records` is settled and will not be given again.

        Args:
            dropped: Why it was given up; empty when it was delivered.
        """
        entry = self._last
        if entry is None or self._left.pop(entry.offset, None) is None:
            return
        self._count(entry, dropped)
        try:
            os.pwrite(self._file, records.SETTLED, entry.offset + records.STATE_OFFSET)
        except OSError as error:  # at worst the request is sent twice
            self._ledger.warn("mark", "a spool segment cannot be marked (%s)", error, error=error)

    def _count(self, entry: Entry, dropped: str = "") -> None:
        if dropped:
            self._ledger.add(f"dropped_{dropped}", entry.spans)
        else:
            self._ledger.add("sent_spans", entry.spans)
            self._ledger.add("sent_records")

    @_guard.guarded("spool done", None)
    def done(self) -> None:
        """Every record is delivered or given up: remove the segment; set a damaged one aside."""
        if self._file < 0:
            return
        for entry in self._left.values():
            self._count(entry)
        self._left.clear()
        try:
            if self._damaged:
                set_aside(self._directory, self.name, self._ledger)
            else:
                os.unlink(self.name, dir_fd=self._directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._ledger.warn("remove", "a sent spool segment stays (%s)", error, error=error)
            self._settle_all()
        self._release()

    def _settle_all(self) -> None:
        # A file that cannot be removed can often still be written: it must not be sent again.
        for entry in self._found.pending:
            try:
                os.pwrite(self._file, records.SETTLED, entry.offset + records.STATE_OFFSET)
            except OSError:
                return

    @_guard.guarded("spool keep", None)
    def keep(self) -> None:
        """Leave the records that are not marked for later, to any process of the owner."""
        if self._file < 0:
            return
        if not self._left:
            self.done()
            return
        self.sync()
        self._release()
        self._ledger.kept += 1

    def sync(self) -> None:
        """Bring the segment to the disk, if it was written by this process and is not there yet."""
        if self._unsynced and self._file >= 0:
            self._unsynced = False
            try:
                os.fsync(self._file)
                os.fsync(self._directory)
            except OSError as error:
                if error.errno != errno.EBADF:  # sent and closed by another thread just now
                    self._ledger.warn("sync", NOT_SYNCED, error, error=error)

    def _release(self) -> None:
        file, self._file = self._file, -1
        directory, self._directory = self._directory, -1
        with contextlib.suppress(OSError):  # closing frees it too
            folder.unlock(file)
        os.close(file)
        os.close(directory)

    def abandon(self) -> None:
        """In a forked child: close the copies, the lock stays the parent's."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._directory)
            self._file = self._directory = -1

    def __enter__(self) -> Claimed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.keep()

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            self.keep()


def set_aside(directory: int, name: str, ledger: Ledger) -> None:
    """Rename a damaged segment so that nobody sends it again; one warning."""
    bad = name.removesuffix(folder.SUFFIX).removesuffix(folder.NEW_SUFFIX) + folder.BAD_SUFFIX
    os.rename(name, bad, src_dir_fd=directory, dst_dir_fd=directory)
    ledger.add("corrupt_segments")
    ledger.warn(
        "corrupt",
        "a damaged spool segment was set aside as %s; its undamaged records are not lost. "
        "Further ones are only counted.",
        bad,
    )
