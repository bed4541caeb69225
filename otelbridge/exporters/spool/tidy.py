"""Removes the directories of owners that have nothing to send: services renamed, endpoints moved.

Nothing that waits can be lost: a directory with a segment in it cannot be removed, and a process
that had it open finds it gone and makes it anew (`queue`).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from otelbridge.exporters.spool import folder

#: A directory goes when nothing was written or removed in it for so long.
IDLE_SECONDS: Final = 7 * 24 * 3600.0
#: Directories looked at in one sweep.
_LOOKED_AT: Final = 200


def sweep(base_fd: int) -> int:
    """Remove empty directories that nobody used for a week; how many."""
    removed = 0
    with os.scandir(base_fd) as entries:
        names = [entry.name for entry in entries if folder.OWNER_NAME.fullmatch(entry.name)]
    for name in names[:_LOOKED_AT]:
        with contextlib.suppress(OSError):  # another's, or just in use: not ours to touch
            removed += remove_empty(base_fd, name, idle_seconds=IDLE_SECONDS)
    return removed


def remove_if_empty(base: Path, name: str) -> bool:
    """Remove one owner's directory at once if nothing but its description is in it.

    Raises:
        OSError: see `remove_empty`.
    """
    base_fd = os.open(base, os.O_RDONLY)
    try:
        return remove_empty(base_fd, name, idle_seconds=0.0)
    finally:
        os.close(base_fd)


def remove_empty(base_fd: int, name: str, *, idle_seconds: float) -> bool:
    """Remove a directory that holds no segment, no damaged file and nothing of other people.

    Args:
        base_fd: The spool directory.
        name: `Owner.directory_name`.
        idle_seconds: Only if nothing changed in it for so long.
    Raises:
        OSError: it cannot be read or is not ours.
    """
    directory = folder.enter(base_fd, name)
    try:
        if time.time() - os.fstat(directory).st_mtime < idle_seconds:
            return False
        names = os.listdir(directory)
        # The lock keeps out whoever makes room; a writer needs none, see below.
        if any(not _is_description(found) for found in names) or not folder.lock(directory):
            return False
        description = folder.owner_bytes(directory)
        for found in names:
            os.unlink(found, dir_fd=directory)
        try:
            os.rmdir(name, dir_fd=base_fd)
        except OSError:  # a writer was quicker: its segment needs the description
            folder.write_owner(directory, description)
            return False
    finally:
        os.close(directory)
    return True


def _is_description(name: str) -> bool:
    return name.startswith(folder.OWNER_FILE) or name == folder.DROPPED_FILE
