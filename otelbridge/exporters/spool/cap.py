"""The cap on one owner's spool, over all its processes: what is oldest goes first, and is counted.

Processes make room one at a time, under a flock(2) on the directory. Listing the files costs more
than writing one record where there are many; so the cap keeps a part in reserve, and each process
may write a share of that part between two listings.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from otelbridge import _guard
from otelbridge.exporters.spool import folder, records
from otelbridge.exporters.spool.claims import Ledger
from otelbridge.exporters.spool.folder import File

#: Part of the cap that is kept in reserve, and how many processes share it.
_RESERVE: Final = 32
_PROCESSES: Final = 16
#: The most that a write waits for another process that is making room.
_LOCK_SECONDS: Final = 0.05


class Cap:
    """Room in the directory.

    Args:
        max_bytes: The cap.
        ledger: Where drops are counted.
    """

    def __init__(self, max_bytes: int, ledger: Ledger) -> None:
        self.max_bytes = max_bytes
        #: What the files may come to when a listing is made.
        self.limit_bytes = max_bytes - max_bytes // _RESERVE
        #: The highest ordinal known; new segments get a higher one.
        self.newest = 0
        self._ledger = ledger
        self._share_bytes = max_bytes // (_RESERVE * _PROCESSES)
        self._unlisted_bytes = max_bytes  # the first write lists

    @contextlib.contextmanager
    def room(
        self, directory: int, needed_bytes: int, let_go: Callable[[str], bool]
    ) -> Iterator[bool]:
        """Make room; the caller writes inside the context if there is some.

        Args:
            directory: Descriptor of the owner's directory.
            needed_bytes: What will be written.
            let_go: Told the name of a file before it is dropped; False keeps it.
        """
        self._unlisted_bytes += needed_bytes
        if self._unlisted_bytes <= self._share_bytes:
            yield True
            return
        with _locked(directory):
            yield self._make_room(directory, needed_bytes, let_go)

    def _make_room(self, directory: int, needed_bytes: int, let_go: Callable[[str], bool]) -> bool:
        listed = folder.files(directory)
        excess = sum(file.size_bytes for file in listed) + needed_bytes - self.limit_bytes
        for file in listed:
            if excess <= 0:
                break
            if let_go(file.name) and self._drop(directory, file):
                excess -= file.size_bytes
        self.newest = max([self.newest, *(file.ordinal for file in listed)])
        if excess > 0:
            return False
        self._unlisted_bytes = 0
        return True

    def _drop(self, directory: int, file: File) -> bool:
        try:
            opened = folder.open_locked(directory, file.name)
        except OSError:  # not ours to touch
            return False
        if opened is None:
            return False
        try:
            pending: tuple[records.Entry, ...] = ()
            if not file.name.endswith(folder.BAD_SUFFIX):
                pending = records.scan(folder.read_all(opened)).pending
            os.unlink(file.name, dir_fd=directory)
        finally:
            os.close(opened)
        spans = sum(entry.spans for entry in pending)
        if spans:
            self._ledger.add("dropped_cap", spans)
            with contextlib.suppress(OSError):  # a full disk: it is counted in this process
                folder.dropped(directory, spans)
            _guard.count("spool: dropped at the cap", spans)
            self._ledger.warn(
                "cap",
                "the spool has reached %d bytes (OTELBRIDGE_SPOOL_MAX_BYTES); the oldest spans "
                "are dropped and counted",
                self.max_bytes,
            )
        return True


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    """One process at a time makes room and writes, so that the cap holds over all of them.

    A stopped process must not stop others: after 50 ms the cap may be passed by one record.
    """
    locked = False
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not (locked := folder.lock(directory)) and time.monotonic() < deadline:
            time.sleep(0.001)
    except OSError:  # a file system without locks on directories
        locked = False
    try:
        yield
    finally:
        if locked:
            folder.unlock(directory)
