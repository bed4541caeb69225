"""`otelbridge spool status|replay|export|purge`: what waits on disk, and what to do with it.

`replay` sends what no living process has taken up, as a running service would (`sender`), to the
endpoint of this environment and only if it is the one that the spans were meant for; `export`
copies it to files; `purge` removes it. What a record is and where it goes: `destinations`.
Exit status: 0 good, 1 something is left or nothing was found to act on, 2 usage or configuration.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from otelbridge import endpoints
from otelbridge.errors import StoreError
from otelbridge.exporters.destinations import KINDS, Destination, Kind
from otelbridge.exporters.sender import Sender
from otelbridge.exporters.spool import (
    FoundOwner,
    Owner,
    Spool,
    SpoolStatus,
    found,
    purge,
    read,
    survey,
)
from otelbridge.settings import Settings

EXIT_NO: Final = 1
_MEBIBYTE: Final = 1024 * 1024
#: Where Retry-After says "at once".
_SHORTEST_PAUSE_SECONDS: Final = 0.1
_DAY_SECONDS: Final = 86_400


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `spool` to the command line."""
    parser = subparsers.add_parser(
        "spool",
        help="show, send, copy or remove the spans that wait on disk",
        description="Spans that could not be delivered wait on disk. A running process of the "
        "same service sends them by itself; these commands are for those that have none.",
        epilog="Exit status: 0 good, 1 something is left, 2 usage or configuration.",
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    _action(actions, "status", status, "show what waits")
    replay_parser = _action(actions, "replay", replay, "send it to the endpoint it was meant for")
    replay_parser.add_argument(
        "--to", metavar="URL", help="full URL to send to instead (/v1/traces is not added)"
    )
    replay_parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=30.0, help="for one request (30)"
    )
    replay_parser.add_argument(
        "--wait", metavar="SECONDS", type=_patience_seconds, default=60.0,
        help="in all, for a receiver that says when to come back with Retry-After (60)",
    )  # fmt: skip
    export_parser = _action(actions, "export", export, "copy it to files, one request each")
    export_parser.add_argument("output", metavar="DIRECTORY", type=Path, help="made if missing")
    purge_parser = _action(actions, "purge", remove, "remove it for good")
    purge_parser.add_argument("--yes", action="store_true", help="really remove it")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.add_argument(
        "--dir", metavar="PATH", type=Path, help="spool directory; OTELBRIDGE_SPOOL_DIR by default"
    )
    parser.add_argument("--service", metavar="NAME", help="only what this service left")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)
    return parser


def _patience_seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _DAY_SECONDS:  # NaN is not
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, of a day at most")
    return number


def _seconds(text: str) -> float:
    number = _patience_seconds(text)
    if not number:
        raise argparse.ArgumentTypeError("0 seconds are not enough for a request")
    return number


def status(args: argparse.Namespace) -> int:
    """Print what waits, by service and endpoint; 1 if a spool cannot be read."""
    settings = Settings.from_env()
    base = _base(args, settings)
    spools = list(_chosen(args, base))
    if args.json:
        listed = [asdict(spool) for spool in spools]
        print(json.dumps({"directory": str(base), "spools": listed}, indent=2))
    else:
        print(f"{base}: {_amount(spools)}")
        for spool in spools:
            print(_described(spool, settings.spool_max_bytes))
    return EXIT_NO if any(spool.reason for spool in spools) else 0


def _amount(spools: list[SpoolStatus]) -> str:
    if not spools:
        return "nothing waits, no service has a spool"
    totals = Counter({"span": 0})
    for spool in spools:
        totals[_noun(spool)] += spool.spans
    counted = [_count(number, noun) for noun, number in totals.items() if number or noun == "span"]
    unusable = sum(bool(spool.reason) for spool in spools)
    rest = f"; {_count(unusable, 'spool')} cannot be used" if unusable else ""
    return f"{', '.join(counted)} waiting{rest}"


def _noun(spool: SpoolStatus) -> str:
    """What `spans` of a spool counts."""
    kind = KINDS.get(spool.owner.get("kind", "traces"))
    return kind.noun if kind else "item"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _described(spool: SpoolStatus, cap_bytes: int) -> str:
    name = spool.owner.get("service") or Path(spool.directory).name
    line = f"  {name} -> {spool.owner.get('endpoint') or 'endpoint not known'}"
    if spool.owner.get("kind", "traces") != "traces":
        line += f" [{spool.owner['kind']}]"
    if spool.reason:
        return f"{line}\n    cannot be used: {spool.reason}"
    line += (
        f"\n    {_count(spool.spans, _noun(spool))} in {_count(spool.records, 'request')}, "
        f"{spool.bytes / _MEBIBYTE:.1f} of {cap_bytes / _MEBIBYTE:.0f} MiB"
    )
    if spool.oldest_age_seconds is not None:
        line += f", oldest {_age(spool.oldest_age_seconds)} old"
    if spool.dropped_spans:
        dropped = _count(spool.dropped_spans, _noun(spool))
        line += f"\n    {dropped} dropped at the cap since the last purge"
    if spool.bytes and not spool.records and not spool.set_aside:
        line += (
            f"\n    {_count(spool.bytes, 'byte')} in its files hold nothing to send: "
            f"in use by a running process, or damaged"
        )
    if spool.set_aside:
        line += f"\n    {_count(spool.set_aside, 'damaged file')} set aside in {spool.directory}"
    return line


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


# -- replay ----------------------------------------------------------------------------------------
def replay(args: argparse.Namespace) -> int:
    """Send what waits; 1 if any of it is left."""
    settings = Settings.from_env()
    base = _base(args, settings)
    if args.to is not None:
        _check_url(args.to)
    rows = [
        (spool, _replayed(spool, base, settings, args))
        for spool in _chosen(args, base)
        if spool.records or spool.reason
    ]
    if args.json:
        print(json.dumps({"directory": str(base), "spools": [row for _, row in rows]}, indent=2))
    elif not rows:
        print(f"{base}: nothing to send")
    else:
        for spool, row in rows:
            name = spool.owner.get("service") or Path(spool.directory).name
            if spool.reason:  # how much is in it is not known
                print(f"{name}: cannot be used: {spool.reason}", file=sys.stderr)
                continue
            print(f"{name}: {_count(row['sent'], _noun(spool))} sent, {row['left']:,} left")
            for why, number in row["dropped"].items():
                print(f"  {_count(number, _noun(spool))} dropped: {why}", file=sys.stderr)
            if row["reason"]:
                print(f"  {row['reason']}", file=sys.stderr)
    return EXIT_NO if any(row["left"] or row["reason"] for _, row in rows) else 0


def _replayed(
    spool: SpoolStatus, base: Path, settings: Settings, args: argparse.Namespace
) -> dict[str, Any]:
    """Send one owner's spool; what became of it."""
    row: dict[str, Any] = {"directory": spool.directory, "sent": 0, "dropped": {}}
    kind = KINDS.get(spool.owner.get("kind", "traces"))
    reason = spool.reason
    if kind is None:
        reason = reason or f"it holds {spool.owner['kind']}, which only a running service can send"
    elif not reason:
        destination = _destination(spool, kind, settings, args.to)
        if isinstance(destination, Destination):
            sender, reason = _send_all(base, spool, kind, destination, args)
            row["sent"] = sender.counts["exported"]
            row["dropped"] = {
                name.removeprefix("dropped_"): number
                for name, number in sender.counts.items()
                if name.startswith("dropped_")
            }
        else:
            reason = destination
    left = spool.spans if spool.reason else survey(base, Path(spool.directory).name).spans
    return row | {"left": left, "reason": reason if left or spool.reason else ""}


def _check_url(url: str) -> None:
    try:
        endpoints.split_http_url(url)
    except ValueError:
        raise StoreError(
            f"--to {endpoints.shown(url)!r} cannot be used; allowed: a full http:// or https:// "
            f"URL, such as http://localhost:4318/v1/traces"
        ) from None


def _destination(
    spool: SpoolStatus, kind: Kind, settings: Settings, url: str | None
) -> Destination | str:
    """Where a spool may be sent with what is configured here, or why it may not."""
    meant = spool.owner.get("endpoint", "")
    known = kind.destination(settings)
    if known and known.receives(spool.owner | ({"endpoint": endpoints.shown(url)} if url else {})):
        return known
    if url:  # the credentials of this environment are for its own endpoints only
        return Destination(Owner("", url), {"content-type": kind.content_type})
    return (
        f"it was meant for {meant or 'an unknown endpoint'}, which is not what this environment "
        f"is set to: set {kind.variables} as the service has it, or say where with --to URL"
    )


def _send_all(
    base: Path, spool: SpoolStatus, kind: Kind, destination: Destination, args: argparse.Namespace
) -> tuple[Sender, str]:
    """Send every segment that can be claimed; the sender, and why some of it is left."""
    name = endpoints.shown(destination.owner.endpoint)
    # Parts of a request that was taken apart come back here; making room is not our business.
    queue = Spool(base, owner=FoundOwner(Path(spool.directory).name), max_bytes=sys.maxsize)
    sender = Sender(
        destination.delivery(),
        spool=queue,
        compression="none",  # bodies are sent as they were stored
        timeout_seconds=args.timeout,
        pulse=lambda: None,
        name=name,
        split=kind.split,
        expires_seconds=float("inf"),  # a wrong key here says nothing about the service's
    )
    _work_off(sender, args.wait)
    sender.close()
    queue.close()
    if sender.resting_seconds() and sender.answer:
        return sender, f"{name} did not take it: {sender.answer.reason}"
    return sender, "a running process is writing or sending the rest"


def _work_off(sender: Sender, patience_seconds: float) -> None:
    """Send until nothing more can be sent, or Retry-After asks for more patience than there is."""
    while True:
        while sender.work_off():
            continue
        if sender.answer is None or sender.answer.retry_after_seconds is None:
            return
        pause_seconds = max(_SHORTEST_PAUSE_SECONDS, sender.resting_seconds())
        if pause_seconds > patience_seconds:
            return
        patience_seconds -= pause_seconds
        time.sleep(pause_seconds)


# -- export and purge ------------------------------------------------------------------------------
def export(args: argparse.Namespace) -> int:
    """Write each waiting request to a file of its own, uncompressed; 1 if nothing waits."""
    base = _base(args, Settings.from_env())
    output: Path = args.output
    files = spans = 0
    for spool in _chosen(args, base):
        name = Path(spool.directory).name
        kind = KINDS.get(spool.owner.get("kind", "traces"))
        suffix = kind.suffix if kind else "body"
        try:
            output.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number, record in enumerate(read(base, name), start=1):
                body = _plain(record.payload) if record.gzipped else record.payload
                _write(output / f"{name}-{number:06d}.{suffix}", body)
                files, spans = files + 1, spans + record.spans
        except OSError as error:
            raise StoreError(f"{error.filename or name}: {error.strerror or error}") from error
    if args.json:
        print(json.dumps({"output": str(output), "files": files, "spans": spans}))
    else:
        print(
            f"{output}: {_count(spans, 'span')} in {_count(files, 'file')}; the spool is as it was"
        )
    return 0 if files else EXIT_NO


def _plain(payload: bytes) -> bytes:
    try:
        return gzip.decompress(payload)
    except (OSError, EOFError, zlib.error):  # it went over the wire so: keep what there is
        return payload


def _write(path: Path, body: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with open(path, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as file:
        file.write(body)


def remove(args: argparse.Namespace) -> int:
    """Remove what waits; 1 if a running process has some of it."""
    base = _base(args, Settings.from_env())
    spools = list(_chosen(args, base))
    if not args.yes:
        raise StoreError(
            f"purge would remove {_amount(spools)} under {base} for good; say so with --yes "
            f"(`otelbridge spool export` keeps a copy)"
        )
    totals = {"files": 0, "spans": 0, "in_use": 0}
    for spool in spools:
        try:
            purged = purge(base, Path(spool.directory).name)
        except OSError as error:
            raise StoreError(f"{spool.directory}: {error.strerror or error}") from error
        for key, value in asdict(purged).items():
            totals[key] += value
    if args.json:
        print(json.dumps({"directory": str(base), **totals}))
    else:
        print(
            f"{base}: {_count(totals['spans'], 'span')} in {_count(totals['files'], 'file')} gone"
        )
        if totals["in_use"]:
            print(f"  {_count(totals['in_use'], 'file')} kept: in use by a running process")
    return EXIT_NO if totals["in_use"] else 0


# -- what the actions share ------------------------------------------------------------------------
def _base(args: argparse.Namespace, settings: Settings) -> Path:
    """The spool directory.

    Raises:
        StoreError: it is no directory, or cannot be read.
    """
    base: Path = args.dir or Path(settings.spool_directory)
    try:
        found(base)
    except OSError as error:
        raise StoreError(
            f"the spool directory {base} cannot be read: {error.strerror or error}; it is the "
            f"value of {'--dir' if args.dir else 'OTELBRIDGE_SPOOL_DIR'}"
        ) from error
    return base


def _chosen(args: argparse.Namespace, base: Path) -> Iterator[SpoolStatus]:
    known: list[Any] = [survey(base, name) for name in found(base)]
    own = [spool for spool in known if spool.owner or spool.segments or spool.reason]
    chosen = [spool for spool in own if args.service in (None, spool.owner.get("service"))]
    if args.service is not None and not chosen:
        services = sorted({spool.owner["service"] for spool in own if "service" in spool.owner})
        raise StoreError(
            f"no spool of service {args.service!r} in {base}; there are: "
            f"{', '.join(services) or 'none'}"
        )
    yield from chosen
