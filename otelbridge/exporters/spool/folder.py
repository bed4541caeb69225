"""The directory of one owner's spool: who may use it, names of segments, locks.

Every file is reached through a descriptor of the checked directory and without following links, so
that nobody who can write beside it gets us to read, write or remove something else. Functions here
raise OSError; `queue` decides what becomes of it. Without flock(2) (Windows) there is no spool.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from otelbridge import endpoints

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # every use is behind `_flock`

#: A sealed or growing segment, one not yet complete, one set aside. The digit is the format's.
SUFFIX: Final = ".spool1"
NEW_SUFFIX: Final = ".spool1-new"
BAD_SUFFIX: Final = ".spool1-bad"
OWNER_FILE: Final = "owner.json"
DROPPED_FILE: Final = "dropped"
#: What `Owner.directory_name` makes.
OWNER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+-[0-9a-f]{16}", re.ASCII)
_NAME: Final = re.compile(r"(\d{20})-(\d+)-([0-9a-f]{12})(\.spool1(?:-new|-bad)?)", re.ASCII)
_DIRECTORY_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
# Without O_NONBLOCK a pipe in place of a segment would hold us up.
_FILE_FLAGS: Final = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose data a spool holds; different owners never see each other's.

    Attributes:
        service: `service.name`.
        endpoint: Full URL of the receiver; a password in it is never written to disk.
        account: What else decides who receives it and outlives a rotation of keys: the public key
            of Langfuse, a tenant. Only its hash is written.
        kind: What the payloads are: `traces`, or another stream's name.
    """

    service: str
    endpoint: str
    account: str = ""
    kind: str = "traces"

    @property
    def directory_name(self) -> str:
        """A readable part and 16 hex digits of a hash over everything."""
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{self.service}-{self.kind}").strip("-.")[:48]
        text = json.dumps([self.service, self.endpoint, self.account, self.kind])
        return f"{readable or 'spool'}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def described(self) -> dict[str, str]:
        """What is written beside the segments, for people and for `otelbridge spool`."""
        shown = asdict(self) | {"endpoint": endpoints.shown(self.endpoint)}
        shown["account"] = hashlib.sha256(self.account.encode()).hexdigest()[:16]
        return shown if self.account else shown | {"account": ""}


@dataclass(frozen=True, slots=True)
class FoundOwner:
    """An owner known by nothing but its directory, as `otelbridge spool` finds it."""

    directory_name: str

    @property
    def described(self) -> dict[str, str]:
        """Nothing: its maker wrote what there is to say."""
        return {}


@dataclass(frozen=True, slots=True)
class File:
    """A file of the spool: its name and its size now."""

    name: str
    size_bytes: int

    @property
    def ordinal(self) -> int:
        """Nanoseconds of the epoch when it was begun, or more where the clock went back."""
        return ordinal(self.name)


def ordinal(name: str) -> int:
    """See `File.ordinal`."""
    return int(name[:20])


def open_base(base: Path, *, make: bool) -> int:
    """A descriptor of the spool directory.

    Raises:
        OSError: it cannot be made or opened; FileNotFoundError if it is not to be made.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no flock")
    if make:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(base, _DIRECTORY_FLAGS)


def make_directory(base_fd: int, name: str) -> bool:
    """Make an owner's directory; False if it is there."""
    try:
        os.mkdir(name, 0o700, dir_fd=base_fd)
    except FileExistsError:
        return False
    return True


def enter(base_fd: int, name: str, *, tighten: bool = False) -> int:
    """A descriptor of an owner's directory that is really ours.

    Args:
        base_fd: The spool directory.
        name: `Owner.directory_name`.
        tighten: Make a wider mode 0700.
    Raises:
        OSError: it is no directory, is a link, or belongs to another user.
    """
    directory = os.open(name, _DIRECTORY_FLAGS | getattr(os, "O_NOFOLLOW", 0), dir_fd=base_fd)
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", name)
        if tighten and stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(directory, 0o700)
    except OSError:
        os.close(directory)
        raise
    return directory


def describe(directory: int, owner: Owner | FoundOwner) -> None:
    """Write `owner.json` if it is not there and there is something to say."""
    try:
        os.stat(OWNER_FILE, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        if owner.described:
            write_owner(directory, json.dumps(owner.described, indent=1).encode())


@contextlib.contextmanager
def entered(base: Path, name: str) -> Iterator[int]:
    """A descriptor of one owner's directory, closed afterwards.

    Raises:
        OSError: see `enter`.
    """
    base_fd = os.open(base, _DIRECTORY_FLAGS)
    try:
        directory = enter(base_fd, name)
    finally:
        os.close(base_fd)
    try:
        yield directory
    finally:
        os.close(directory)


def write_owner(directory: int, description: bytes) -> None:
    """Write `owner.json`; a segment is worth more than its description, so it may fail."""
    draft = f"{OWNER_FILE}-{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
    with contextlib.suppress(OSError):
        file = os.open(draft, flags, 0o600, dir_fd=directory)
        try:
            os.write(file, description)
        finally:
            os.close(file)
        os.rename(draft, OWNER_FILE, src_dir_fd=directory, dst_dir_fd=directory)


def owner_bytes(directory: int) -> bytes:
    """What `owner.json` holds; empty when it is missing or no plain file of ours."""
    try:
        file = open_file(directory, OWNER_FILE, write=False)
    except OSError:
        return b""
    try:
        return read_all(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def entries(directory: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What is in a directory, through a descriptor of its own.

    Copies of a descriptor, also in forked processes, share one position: of two that read at once
    each would miss what the other got.
    """
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(own) as found:
            yield found
    finally:
        os.close(own)


def files(directory: int) -> list[File]:
    """Every file of the spool, set-aside and unfinished ones too, oldest first."""
    listed: dict[str, File] = {}
    with entries(directory) as found:
        names = [entry.name for entry in found if _NAME.fullmatch(entry.name)]
    for name in names:
        # A segment that gets its final name meanwhile is there under either of the two, or both.
        final = name.removesuffix(NEW_SUFFIX) + SUFFIX if name.endswith(NEW_SUFFIX) else name
        for known_as in dict.fromkeys((name, final)):
            with contextlib.suppress(FileNotFoundError):  # sent or dropped just now
                size_bytes = os.stat(known_as, dir_fd=directory, follow_symlinks=False).st_size
                if final not in listed or known_as == final:
                    listed[final] = File(known_as, size_bytes)
                break
    return sorted(listed.values(), key=lambda file: file.name)


def is_empty(directory: int) -> bool:
    """Whether there is nothing to send; stops at the first file that may be."""
    with entries(directory) as found:
        return not any(
            _NAME.fullmatch(entry.name) and not entry.name.endswith(BAD_SUFFIX) for entry in found
        )


def new_name(newest: int) -> str:
    """A name behind every other, even after the clock was set back.

    Args:
        newest: The highest ordinal there is.
    """
    ordinal = max(time.time_ns(), newest + 1)
    return f"{ordinal:020d}-{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"


def create(directory: int, name: str) -> int | None:
    """A new file of mode 0600, locked by us before anybody else can see it as a segment.

    None if somebody who sweeps up after crashes took the empty file before we locked it.
    """
    draft = name.removesuffix(SUFFIX) + NEW_SUFFIX
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
    file = os.open(draft, flags, 0o600, dir_fd=directory)
    if not lock(file) or os.fstat(file).st_nlink != 1:
        os.close(file)
        return None
    return file


def publish(directory: int, name: str) -> None:
    """Give a file of `create` its name as a segment."""
    draft = name.removesuffix(SUFFIX) + NEW_SUFFIX
    os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)


def open_file(directory: int, name: str, *, write: bool = True) -> int:
    """A descriptor of a file of the spool.

    Raises:
        PermissionError: it is a link, no regular file, has a second name, or another user's.
        OSError: it cannot be opened, FileNotFoundError when it is gone.
    """
    try:
        flags = (os.O_RDWR if write else os.O_RDONLY) | _FILE_FLAGS
        file = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PermissionError(errno.EPERM, "it is a link", name) from None
        raise
    found = os.fstat(file)
    if found.st_nlink == 0:
        os.close(file)
        raise FileNotFoundError(errno.ENOENT, "it is gone", name)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        os.close(file)
        raise PermissionError(errno.EPERM, "it is not a plain file of this user", name)
    return file


def dropped(directory: int, more: int = 0) -> int:
    """Spans dropped at the cap by all processes since the last purge, after adding some.

    Raises:
        OSError: the count cannot be read or written.
    """
    if more:
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
            os.close(os.open(DROPPED_FILE, flags, 0o600, dir_fd=directory))
    try:
        file = open_file(directory, DROPPED_FILE, write=more > 0)
    except FileNotFoundError:
        return 0
    try:
        text = os.pread(file, 20, 0)
        total = (int(text) if text.isdigit() else 0) + more
        if more:
            os.pwrite(file, b"%020d" % total, 0)
    finally:
        os.close(file)
    return total


def lock(file: int) -> bool:
    """Lock without waiting; False while another holds it. A crash of the holder frees it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(file: int) -> None:
    """Free the lock, also where a forked child still has a copy of the descriptor."""
    fcntl.flock(file, fcntl.LOCK_UN)


def open_locked(directory: int, name: str) -> int | None:
    """A descriptor of a file that is ours alone now; None while it is another's or when it is gone.

    Raises:
        OSError: see `open_file`.
    """
    try:
        file = open_file(directory, name)
    except FileNotFoundError:
        return None
    try:
        if lock(file) and _is_named(directory, name, file):
            return file
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def _is_named(directory: int, name: str, file: int) -> bool:
    """Whether the name still leads to this file: it may have been sent while we waited."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))


def read_all(file: int) -> bytes:
    """The bytes of a file."""
    size_bytes = os.fstat(file).st_size
    parts, position = [], 0
    while position < size_bytes:
        part = os.pread(file, size_bytes - position, position)
        if not part:
            break
        parts.append(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_at(file: int, data: bytes, position: int) -> None:
    """Write all of it, or raise OSError with the file as long as before (if it lets us)."""
    view, written = memoryview(data), 0
    try:
        while written < len(data):
            written += os.pwrite(file, view[written:], position + written)
    except OSError:
        os.ftruncate(file, position)
        raise
