"""The spool itself: puts payloads on disk, claims them for sending, keeps the cap.

Used by the exporters, one instance per stream and process; processes of the same owner share the
directory. Never raises into its caller and never waits for another process: what cannot be stored
is refused with one warning, and the caller keeps it in memory. An operation on a disk that hangs
(a dead network mount) does hang: call it from a worker thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from otelbridge import _guard
from otelbridge.exporters.spool import folder, records, tidy
from otelbridge.exporters.spool.cap import Cap
from otelbridge.exporters.spool.claims import NOT_SYNCED, Claimed, Ledger, set_aside
from otelbridge.exporters.spool.folder import FoundOwner, Owner
from otelbridge.exporters.spool.segment import Active
from otelbridge.exporters.spool.survey import SpoolStatus, survey

Fsync = Literal["never", "interval", "always"]
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
#: Time between two fsyncs with `interval`.
FSYNC_SECONDS: Final = 1.0
#: What one file may hold: a sixteenth of the cap, so that dropping the oldest costs little.
_SEGMENTS: Final = 16
_SEGMENT_BYTES: Final = (16 * 1024, 4 * 1024 * 1024)
#: After a failure the disk is left alone for this long.
_RETRY_SECONDS: Final = 1.0
#: A signal handler may interrupt `put` and call it again: it then writes a file of its own.
_LOCK_SECONDS: Final = 0.2

_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """A bounded queue of request bodies on disk, shared by the processes of one owner.

    Nothing is read or written before the first call. After a fork the child starts empty-handed;
    the parent's segments stay the parent's.

    Args:
        directory: Spool directory; each owner gets a directory of mode 0700 in it.
        owner: Whose spool this is.
        max_bytes: Cap over all processes of the owner (16 of them); the oldest segments are
            dropped where a put would pass 31/32 of it.
        segment_bytes: Size at which a segment is sealed; a sixteenth of the cap, 16 KiB to 4 MiB,
            by default.
        fsync: What a crash of the machine may cost (a crash of the process costs nothing that
            `put` answered True to). `never`: what the kernel has not written yet, about 30 s on
            Linux. `interval`: the last second of puts, as long as `sync` is called each second.
            `always`: nothing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        owner: Owner | FoundOwner,
        max_bytes: int = DEFAULT_MAX_BYTES,
        segment_bytes: int | None = None,
        fsync: Fsync = "interval",
    ) -> None:
        self.base = directory
        self.owner = owner
        self.max_bytes = max_bytes
        low, high = _SEGMENT_BYTES
        self._segment_bytes = segment_bytes or min(high, max(low, max_bytes // _SEGMENTS))
        self._fsync: Fsync = fsync
        self._start()
        _spools.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._directory = -1
        self._active: Active | None = None
        self._claimed: weakref.WeakSet[Claimed] = weakref.WeakSet()
        self._listed: deque[str] = deque()  # names left of the last listing
        self._kept_seen = 0
        self._cap = Cap(self.max_bytes, self._ledger)
        self._retry_at = 0.0
        self._synced_at = time.monotonic()

    # -- storing -------------------------------------------------------------------------------
    @_guard.guarded("spool put", False)
    def put(self, payload: bytes, spans: int, *, gzipped: bool = False) -> bool:
        """Store one request body; whether it is stored.

        Args:
            payload: The body as it goes over the wire.
            spans: Spans in it, for the counters.
            gzipped: Whether it is compressed.
        """
        record = records.encode(payload, spans, gzipped=gzipped)
        held = self._lock.acquire(timeout=_LOCK_SECONDS)
        try:
            return self._store(record, spans, held=held)
        finally:
            if held:
                self._lock.release()

    def _store(self, record: bytes, spans: int, *, held: bool) -> bool:
        if len(record) + len(records.MAGIC) > self._cap.limit_bytes:
            return self._refuse("too_large", spans)
        if time.monotonic() < self._retry_at:
            return self._refuse("unwritable", spans)
        try:
            try:
                stored = self._write(record, held=held)
            except FileNotFoundError:  # somebody removed the directory: make it again, once
                if held:
                    self._close_files()
                stored = self._write(record, held=held)
        except OSError as error:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._unusable(error)
            return self._refuse("unwritable", spans)
        if not stored:
            self._ledger.warn("full", "the spool is full of segments that others are sending")
            return self._refuse("full", spans)
        self._ledger.add("spooled_spans", spans)
        self._ledger.add("spooled_records")
        return True

    def _unusable(self, error: OSError) -> None:
        self._ledger.warn(
            "unusable",
            "the spool %s cannot be used (%s); undelivered spans are kept in memory only. "
            "Further failures are only counted.",
            self.base / self.owner.directory_name,
            error.strerror or error,
        )

    def _refuse(self, reason: str, spans: int) -> bool:
        self._ledger.add(f"refused_{reason}", spans)
        return False

    def _write(self, record: bytes, *, held: bool) -> bool:
        """Write a record; False if there is no room.

        Args:
            record: Encoded.
            held: Whether we hold the lock. If not, we are in a signal handler that came in while
                `put` is using the active segment: a segment of its own then.
        """

        def let_go(name: str) -> bool:
            if self._active is None or self._active.name != name:
                return True
            if held:
                self._seal()
            return held

        directory = self._opened(make=True)
        full: Active | None = None
        try:
            with self._cap.room(directory, len(record) + len(records.MAGIC), let_go) as room:
                if not room:
                    return False
                if not held:
                    full = self._begin(directory, record)
                elif self._active and self._active.takes(record, self._segment_bytes):
                    self._active.append(record)
                else:
                    full, self._active = self._active, None
                    self._active = self._begin(directory, record)
        finally:  # fsync takes its time: not while other processes wait
            if full:
                self._finish(full)
        due = time.monotonic() - self._synced_at >= FSYNC_SECONDS
        if held and (self._fsync == "always" or (self._fsync == "interval" and due)):
            self._sync()
        return True

    def _begin(self, directory: int, record: bytes) -> Active:
        begun = Active.begin(directory, self._cap.newest, record)
        self._cap.newest = folder.ordinal(begun.name)
        return begun

    # -- sending -------------------------------------------------------------------------------
    @_guard.guarded("spool claim", None)
    def claim(self) -> Claimed | None:
        """The oldest segment that nobody else is writing or sending; None if there is none."""
        try:
            with self._borrowed() as directory:
                if self._ledger.kept != self._kept_seen:
                    self._kept_seen = self._ledger.kept
                    self._listed.clear()
                # Thousands of segments are not listed again for each of them.
                for listing in (None, folder.files):
                    if listing:
                        self._listed.extend(file.name for file in listing(directory))
                    while self._listed:
                        if claimed := self._claim(directory, self._listed.popleft()):
                            return claimed
        except (TimeoutError, FileNotFoundError):
            return None  # asked from a signal handler inside `put`; nothing was ever stored
        except OSError as error:
            self._unusable(error)
        return None

    def _claim(self, directory: int, name: str) -> Claimed | None:
        if name.endswith(folder.BAD_SUFFIX):
            return None
        own = self._taken_over(name)
        unsynced = own is not None and own.unsynced and self._fsync != "never"
        try:
            file = own.file if own else folder.open_locked(directory, name)
            return None if file is None else self._taken(directory, name, file, fsync=unsynced)
        except OSError as error:  # one bad file does not stand in the way of the others
            reason = error.strerror or error
            self._ledger.warn(
                "foreign", "%s in the spool is left alone: %s", name, reason, error=error
            )
            return None

    def _taken_over(self, name: str) -> Active | None:
        """Our active segment, if this is it: sealed, and still locked.

        Not synced: what is sent and gone within moments needs no fsync; a claim that is kept does.
        """
        active = self._active
        if active is None or active.name != name:
            return None
        with self._held():
            if self._active is not active:
                return None
            self._active = None
            return active

    def _taken(self, directory: int, name: str, file: int, *, fsync: bool) -> Claimed | None:
        """The claim of a locked file; None, and the file gone or aside, if nothing is in it."""
        try:
            found = records.scan(folder.read_all(file))
            if found.torn:
                self._ledger.add("torn_tails")
            if found.pending:
                published = name.removesuffix(folder.NEW_SUFFIX).removesuffix(folder.SUFFIX)
                published += folder.SUFFIX
                if name != published:
                    folder.publish(directory, published)
                claimed = Claimed(directory, published, file, found, self._ledger, fsync=fsync)
                self._claimed.add(claimed)
                return claimed
            if found.damaged_bytes:
                set_aside(directory, name, self._ledger)
            else:
                os.unlink(name, dir_fd=directory)
        except OSError:
            os.close(file)
            raise
        os.close(file)
        return None

    # -- the rest ------------------------------------------------------------------------------
    @_guard.guarded("spool sync", None)
    def sync(self) -> None:
        """Bring what this process wrote to the disk; nothing with `never`."""
        if self._fsync == "never":
            return
        with contextlib.suppress(TimeoutError), self._held():
            self._sync()
        for claimed in list(self._claimed):
            claimed.sync()

    def _sync(self) -> None:
        self._synced_at = time.monotonic()
        if self._active:
            self._sync_file(self._active)

    def _sync_file(self, segment: Active) -> None:
        try:
            segment.sync(self._directory)
        except OSError as error:
            self._ledger.warn("sync", NOT_SYNCED, error, error=error)

    @_guard.guarded("spool close", None)
    def close(self) -> None:
        """Seal this process's segment, so that any process may send it. `put` begins a new one."""
        with contextlib.suppress(TimeoutError), self._held():
            self._close_files()

    def _seal(self) -> None:
        active, self._active = self._active, None
        if active:
            self._finish(active)

    def _finish(self, segment: Active) -> None:
        if self._fsync != "never":
            self._sync_file(segment)
        segment.close()

    def _close_files(self) -> None:
        self._seal()
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The lock of the active segment; never waited for long, a signal handler may ask."""
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            raise TimeoutError("the spool is in use by this process")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _borrowed(self) -> Iterator[int]:
        """A descriptor of the directory that `close` in another thread does not close."""
        with self._held():
            if self._directory >= 0 and not os.fstat(self._directory).st_nlink:
                self._close_files()  # removed by somebody; another process may have made it anew
            directory = os.dup(self._opened())
        try:
            yield directory
        finally:
            os.close(directory)

    def _opened(self, *, make: bool = False) -> int:
        """The owner's directory; looking for work makes none, its workers could be other users."""
        if self._directory < 0:
            base_fd = folder.open_base(self.base, make=make)
            try:
                name = self.owner.directory_name
                is_new = make and folder.make_directory(base_fd, name)
                self._directory = folder.enter(base_fd, name, tighten=True)
                folder.describe(self._directory, self.owner)
                if is_new:  # seldom, so the place to clean up after owners that are gone
                    tidy.sweep(base_fd)
            finally:
                os.close(base_fd)
        return self._directory

    @_guard.guarded("spool look", False)
    def has_pending(self) -> bool:
        """Whether there may be something to claim: one directory listing."""
        try:
            with self._borrowed() as directory:
                return not folder.is_empty(directory)
        except OSError:
            return False

    @_guard.guarded("spool look", (0, None))
    def usage(self) -> tuple[int, float | None]:
        """Bytes of all its files, and the age in seconds of the oldest to be sent; one listing."""
        try:
            with self._borrowed() as directory:
                listed = folder.files(directory)
        except OSError:
            return 0, None
        waiting = [file.ordinal for file in listed if not file.name.endswith(folder.BAD_SUFFIX)]
        age_seconds = max(0.0, time.time() - min(waiting) / 1e9) if waiting else None
        return sum(file.size_bytes for file in listed), age_seconds

    @property
    def counts(self) -> dict[str, int]:
        """What this process did, in spans unless the name says otherwise.

        `spooled_spans`, `spooled_records`, `sent_spans`, `sent_records`, `refused_too_large`,
        `refused_full`, `refused_unwritable`, `dropped_cap` and the reasons given to
        `Claimed.mark`, `corrupt_segments`, `torn_tails`.
        """
        return self._ledger.counts()

    def status(self) -> SpoolStatus:
        """What lies on disk for this owner, whoever wrote it. Reads every segment."""
        return survey(self.base, self.owner.directory_name)

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's files and begin anew."""
        if self._active:
            os.close(self._active.file)  # not `close`: the lock is the parent's
        for claimed in list(self._claimed):
            claimed.abandon()
        if self._directory >= 0:
            os.close(self._directory)
        self._start()


def _after_fork() -> None:
    for spool in list(_spools):
        with _guard.guard("spool after fork"):
            spool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
