"""What lies in a spool, seen from outside: for `otelbridge spool` and for metrics.

Looking claims nothing: segments that are being written or sent are read as they are, and a
half-written record at their end is simply not counted. Purging leaves them alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from otelbridge.exporters.spool import folder, records, tidy
from otelbridge.exporters.spool.records import Record


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The state of one owner's spool.

    Attributes:
        directory: Where it is.
        owner: What `owner.json` says: service, endpoint, account, kind; empty if it is not there.
        segments: Files with records to send.
        bytes: Size of everything in it, set-aside files too: what the cap counts.
        records: Requests to send.
        spans: Spans in them.
        oldest_age_seconds: Since the oldest segment was begun, by the wall clock; None if empty.
        set_aside: Damaged files kept for inspection.
        dropped_spans: Dropped at the cap by all processes since the last purge.
        reason: Why it cannot be used; empty when it can.
    """

    directory: str
    owner: dict[str, str]
    segments: int = 0
    bytes: int = 0
    records: int = 0
    spans: int = 0
    oldest_age_seconds: float | None = None
    set_aside: int = 0
    dropped_spans: int = 0
    reason: str = ""


def found(base: Path) -> list[str]:
    """Names of the owners' directories under a spool directory; empty if there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with os.scandir(base) as entries:
            return sorted(
                entry.name
                for entry in entries
                if folder.OWNER_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def survey(base: Path, name: str) -> SpoolStatus:
    """The state of one owner's spool; never raises, `reason` says what is wrong."""
    path = base / name
    try:
        with folder.entered(base, name) as directory:
            return _survey(directory, path)
    except FileNotFoundError:
        return SpoolStatus(str(path), {})
    except OSError as error:
        return SpoolStatus(str(path), {}, reason=error.strerror or str(error))


def _survey(directory: int, path: Path) -> SpoolStatus:
    listed = folder.files(directory)
    pending = [
        (file, entries)
        for file in listed
        if not file.name.endswith(folder.BAD_SUFFIX) and (entries := _pending(directory, file.name))
    ]
    oldest = min((file.ordinal for file, _ in pending), default=None)
    return SpoolStatus(
        str(path),
        owner_of(directory),
        segments=len(pending),
        bytes=sum(file.size_bytes for file in listed),
        records=sum(len(entries) for _, entries in pending),
        spans=sum(entry.spans for _, entries in pending for entry in entries),
        oldest_age_seconds=None if oldest is None else max(0.0, time.time() - oldest / 1e9),
        set_aside=sum(file.name.endswith(folder.BAD_SUFFIX) for file in listed),
        dropped_spans=folder.dropped(directory),
    )


def _pending(directory: int, name: str) -> tuple[records.Entry, ...]:
    try:
        file = folder.open_file(directory, name, write=False)
    except OSError:  # gone meanwhile, or not ours
        return ()
    try:
        return records.scan(folder.read_all(file)).pending
    finally:
        os.close(file)


def owner_of(directory: int) -> dict[str, str]:
    """What `owner.json` says; empty when it is missing or damaged."""
    try:
        read = json.loads(folder.owner_bytes(directory))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in read.items()} if isinstance(read, dict) else {}


def read(base: Path, name: str) -> Iterator[Record]:
    """The records that wait in one owner's spool, oldest first; all of them stay where they are.

    Raises:
        OSError: it cannot be read.
    """
    with folder.entered(base, name) as directory:
        for listed in folder.files(directory):
            if not listed.name.endswith(folder.BAD_SUFFIX):
                yield from _records(directory, listed.name)


def _records(directory: int, name: str) -> Iterator[Record]:
    try:
        file = folder.open_file(directory, name, write=False)
    except OSError:  # sent meanwhile, or not ours
        return
    try:
        data = folder.read_all(file)
    finally:
        os.close(file)
    for entry in records.scan(data).pending:
        yield Record(data[entry.payload_offset : entry.end], entry.spans, entry.gzipped)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed.

    Attributes:
        files: Removed.
        spans: In them and not delivered.
        in_use: Files that a process is writing or sending now; they stay.
    """

    files: int = 0
    spans: int = 0
    in_use: int = 0


def purge(base: Path, name: str) -> Purged:
    """Remove what nobody uses at the moment of one owner, set-aside files too.

    The directory goes with them, unless something is left in it.

    Raises:
        OSError: it cannot be read or written.
    """
    files = spans = in_use = 0
    with folder.entered(base, name) as directory:
        for listed in folder.files(directory):
            try:
                file = folder.open_locked(directory, listed.name)
            except PermissionError:  # not ours
                file = None
            if file is None:
                in_use += 1
                continue
            try:
                if not listed.name.endswith(folder.BAD_SUFFIX):
                    pending = records.scan(folder.read_all(file)).pending
                    spans += sum(entry.spans for entry in pending)
                os.unlink(listed.name, dir_fd=directory)
                files += 1
            finally:
                os.close(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.DROPPED_FILE, dir_fd=directory)
    tidy.remove_if_empty(base, name)
    return Purged(files, spans, in_use)
