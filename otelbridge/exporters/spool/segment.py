"""The segment that a process appends to.

It carries the process's lock as long as it grows. Functions raise OSError and leave what was
written before as it was.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from otelbridge.exporters.spool import folder, records

#: A new file can be swept up between its creation and its lock; so often in a row it is a fault.
_TRIES: Final = 10


class Active:
    """The segment that this process is appending to; locked as long as it is open."""

    def __init__(self, name: str, file: int, size_bytes: int) -> None:
        self.name = name
        self.file = file
        self.size_bytes = size_bytes
        #: Whether something of it may not be on the disk yet.
        self.unsynced = True
        self._named = False

    @classmethod
    def begin(cls, directory: int, newest: int, record: bytes) -> Active:
        """A new segment with its first record in it."""
        for _ in range(_TRIES):
            name = folder.new_name(newest)
            file = folder.create(directory, name)
            if file is not None:
                break
        else:
            raise BlockingIOError(errno.EAGAIN, "new segments are taken away", name)
        try:
            folder.write_at(file, records.MAGIC + record, 0)
            folder.publish(directory, name)
        except OSError:
            draft = name.removesuffix(folder.SUFFIX) + folder.NEW_SUFFIX
            _remove_quietly(directory, draft)
            os.close(file)
            raise
        return cls(name, file, len(records.MAGIC) + len(record))

    def takes(self, record: bytes, segment_bytes: int) -> bool:
        """Whether a record still fits, and the file has not been removed under us."""
        return self.size_bytes + len(record) <= segment_bytes and os.fstat(self.file).st_nlink > 0

    def append(self, record: bytes) -> None:
        """Add a record at the end; OSError leaves the segment as it was."""
        folder.write_at(self.file, record, self.size_bytes)
        self.size_bytes += len(record)
        self.unsynced = True

    def sync(self, directory: int) -> None:
        """fsync, of the file's name too the first time."""
        if self.unsynced:
            os.fsync(self.file)
            self.unsynced = False
            if not self._named:
                os.fsync(directory)
                self._named = True

    def close(self) -> None:
        """Seal: free the lock, also where a forked child has a copy of the descriptor."""
        try:
            folder.unlock(self.file)
        finally:
            os.close(self.file)


def _remove_quietly(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return
