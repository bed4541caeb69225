"""Checks of the spool: can it be written, does it survive, does anybody send what waits in it.

Looks at the directory as this user sees it and claims nothing; a service that runs as another user,
or in a container, has its own. What other services left is a note: this set-up is looked at.
`otelbridge spool status` shows all in full.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otelbridge.doctor.findings import Check, Context, Finding, Level
from otelbridge.doctor.table import finding
from otelbridge.exporters.destinations import KINDS
from otelbridge.exporters.spool import SpoolStatus, found, survey
from otelbridge.settings import Settings

#: A process that is alive sends what waits within a minute of its endpoint's return.
WAITING_SECONDS: Final = 900.0
#: The oldest give way at 31/32 of the cap.
_NEARLY_FULL: Final = 0.9
_MIB: Final = 1024 * 1024
_MOUNTS: Final = Path("/proc/self/mountinfo")
#: Files that container engines leave at the root. Source: Docker and Podman.
_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_MEMORY: Final = ("tmpfs", "ramfs")


def directory(context: Context) -> Iterator[Finding]:
    """Whether undelivered spans can be written down, and are there after a restart."""
    settings = context.settings
    if settings is None or settings.exporter != "bridge" or settings.traces_exporter != "otlp":
        return
    if not settings.spool_max_bytes:
        yield finding("spool-off", "Nothing is written to disk.", "OTELBRIDGE_SPOOL_MAX_BYTES=0")
        return
    base = Path(settings.spool_directory)
    if why := _unwritable(base):
        yield finding(
            "spool-unwritable", f"Spans cannot be written to {base}.", why,
            f"Give this user {base}, or set OTELBRIDGE_SPOOL_DIR to a directory it may write.",
        )  # fmt: skip
        return
    if why := _passing(base, context):
        yield finding("spool-ephemeral", f"{base} does not outlive this machine or container.", why)
    else:
        yield finding("spool-good", f"Undelivered spans can be written to {base}.")


def _unwritable(base: Path) -> str:
    """Why nothing can be written there; empty when it can."""
    if "\0" in str(base):
        return "a path holds no zero byte"
    there = base
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is no directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} may not be written by user {os.geteuid()}"
    return ""


def _passing(base: Path, context: Context) -> str:
    """Why what is written there will be gone; empty when nothing says so."""
    mount, kind = _mount_of(base)
    if kind in _MEMORY:
        return f"{mount} is in memory ({kind})"
    contained = context.value("KUBERNETES_SERVICE_HOST") or any(
        mark.exists() for mark in _CONTAINER_MARKS
    )
    if contained and mount == "/" and kind == "overlay":
        return "it lies in the container's own layer, which is removed with it"
    return ""


def _mount_of(base: Path) -> tuple[str, str]:
    """Mount point and file system of a path; empty text where the system does not say."""
    best = ("", "")
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return best
    for line in lines:
        before, _, after = line.partition(" - ")  # see proc_pid_mountinfo(5)
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        mount = fields[4].replace("\\040", " ")
        if base.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, after.split()[0])
    return best


def contents(context: Context) -> Iterator[Finding]:
    """What waits in the spools of this user, for how long, and what was lost."""
    settings = context.settings
    if settings is None:
        return
    base = Path(settings.spool_directory)
    try:
        names = found(base)
    except (OSError, ValueError) as error:  # the latter: a zero byte
        if not _unwritable(base):  # else `directory` has said it
            yield finding("spool-unwritable", f"{base} cannot be read.", str(error))
        return
    for name in names:
        yield from _spool(settings, survey(base, name))


def _spool(settings: Settings, spool: SpoolStatus) -> Iterator[Finding]:
    service = spool.owner.get("service") or Path(spool.directory).name
    of_this = service == settings.service_name
    level: Level | None = None if of_this else "note"  # of a service that is not looked at
    place = f"{service} -> {spool.owner.get('endpoint') or 'endpoint not known'}"
    if spool.reason:
        yield finding(
            "spool-unwritable", f"The spool of {service} cannot be used.",
            f"{spool.directory}: {spool.reason}", level=level,
        )  # fmt: skip
        return
    age_seconds = spool.oldest_age_seconds or 0.0
    if spool.spans and age_seconds >= WAITING_SECONDS:
        kind = KINDS.get(spool.owner.get("kind", "traces"))
        known = kind.destination(settings) if kind is not None else None
        elsewhere = of_this and known is not None and not known.receives(spool.owner)
        yield finding(
            "spool-other-endpoint" if elsewhere else "spool-waiting",
            f"{spool.spans:,} span(s) of {service} have waited for {age_seconds / 60:,.0f} min.",
            place,
            level=level,
        )
    if spool.dropped_spans:
        yield finding(
            "spool-dropped", f"{spool.dropped_spans:,} span(s) of {service} were dropped.", place,
            level=level,
        )  # fmt: skip
    elif spool.bytes >= _NEARLY_FULL * settings.spool_max_bytes > 0:
        yield finding(
            "spool-full", f"The spool of {service} is nearly full.",
            f"{spool.bytes / _MIB:.0f} of {settings.spool_max_bytes / _MIB:.0f} MiB",
            level=level,
        )  # fmt: skip
    if spool.set_aside:
        yield finding(
            "spool-damaged", f"{spool.set_aside} damaged file(s) of {service} are set aside.",
            f"*.spool1-bad in {spool.directory}", level=level,
        )  # fmt: skip


CHECKS: Final[tuple[Check, ...]] = (
    Check("spool-directory", "spool", directory),
    Check("spool-contents", "spool", contents),
)
