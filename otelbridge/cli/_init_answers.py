"""Which Langfuse `otelbridge init` sets up, and its keys: flags, file, environment or a person.

Flags win, then the file, then the environment; a person is asked only at a terminal. A secret key
is typed without echo or read from standard input. Keys of an existing Langfuse are checked there,
unless `--offline`.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from otelbridge.errors import OtelbridgeError
from otelbridge.installation import keys, plan
from otelbridge.installation.plan import Choice, Kind, Problem
from otelbridge.settings import CLOUD_HOST

_KEYS: Final = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
_STANDARD_INPUT: Final = "-"
#: What says which Langfuse a file is for.
_TARGET: Final = (
    "LANGFUSE_HOST", "LANGFUSE_BASE_URL", "LANGFUSE_PUBLIC_URL", "LANGFUSE_PROJECT_ID", *_KEYS,
    "LANGFUSE_BASIC_AUTH", "LANGFUSE_INIT_ORG_ID", "LANGFUSE_INIT_PROJECT_ID",
)  # fmt: skip


class Refused(Exception):  # noqa: N818 - an outcome with its reasons, not a failure
    """Nothing is to be written, for these reasons."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.what for problem in problems))


def choose(
    args: argparse.Namespace, values: Mapping[str, str], environment: Mapping[str, str]
) -> Choice:
    """The Langfuse to set up.

    Args:
        args: Flags of `otelbridge init`.
        values: Of the file.
        environment: Of this process.
    Raises:
        Refused: a contradiction, or keys that Langfuse refuses.
        OtelbridgeError: something is needed and nobody can be asked.
    """
    ask = sys.stdin.isatty() and not args.json and args.secret_key != _STANDARD_INPUT
    kind = _kind(args, values, ask=ask)
    if kind == "existing":
        return _existing(args, values, environment, ask=ask)
    if flags := _given(args, "public_key", "secret_key", "public_url"):
        raise OtelbridgeError(
            f"{flags} belongs to an existing Langfuse; add --host URL. A local one gets new keys."
        )
    return plan.local(values, args.email, args.profiles)


def _given(args: argparse.Namespace, *names: str) -> str:
    flags = (f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None)
    return " and ".join(flags)


def _kind(args: argparse.Namespace, values: Mapping[str, str], *, ask: bool) -> Kind:
    asked: Kind | None = "local" if args.local else "existing" if args.host else None
    held = plan.kind_of(values)
    if asked and held and asked != held:
        lines = ", ".join(name for name in _TARGET if values.get(name))
        now = "a local Langfuse" if held == "local" else "an existing Langfuse"
        raise Refused(
            [
                Problem(
                    "LANGFUSE_HOST",
                    f"{args.file} is for {now} already, and `init` never replaces a value",
                    f"To change over, remove the lines of {lines}"
                    + (" and langfuse from COMPOSE_PROFILES" if held == "local" else "")
                    + ", then run it again.",
                )
            ]
        )
    if asked or held:
        return asked or held or "local"
    if ask:
        return _ask_kind()
    if any(values.get(name) for name in _KEYS):
        raise OtelbridgeError(
            f"{args.file} has keys of Langfuse, but not where they belong. Add --host URL (for "
            f"Langfuse Cloud {CLOUD_HOST}, or the address of its region), or --local"
        )
    return "local"


def _ask_kind() -> Kind:
    print("Langfuse: 1  a new one on this machine, a part of the stack")
    print("          2  Langfuse Cloud, or another one that exists")
    while (answer := input("Which? [1] ").strip()) not in ("", "1", "2"):
        print("1 or 2, please.")
    return "existing" if answer == "2" else "local"


def _existing(
    args: argparse.Namespace,
    values: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    ask: bool,
) -> Choice:
    url = args.host or plan.url_from_here(values)
    if not url and ask:
        url = input(f"Its address? [{CLOUD_HOST}] ").strip() or CLOUD_HOST
    url = plan.normal_url("LANGFUSE_HOST", url)
    rotates = any(name in _KEYS for name in args.rotate)
    held: Mapping[str, str] = {} if rotates else values
    if args.rotate and not rotates:
        public, secret = values.get(_KEYS[0]), values.get(_KEYS[1])
    else:
        public, secret = _pair(args, held, environment, ask=ask, rotates=rotates)
    host = values.get("LANGFUSE_HOST") or values.get("LANGFUSE_BASE_URL")
    if args.public_url:
        public_url = plan.normal_url("LANGFUSE_PUBLIC_URL", args.public_url)
    else:
        public_url = values.get("LANGFUSE_PUBLIC_URL") or url
    project_id = None
    if public and secret and not args.offline and (rotates or not args.rotate):
        project_id = _project(url, public, secret, values)
    return Choice(
        "existing",
        plan.container_url(plan.normal_url("LANGFUSE_HOST", args.host or host or url)),
        public_url,
        public,
        secret,
        project_id,
        profiles=args.profiles,
    )


def _project(url: str, public: str, secret: str, values: Mapping[str, str]) -> str:
    found = keys.project_of(url, public, secret)
    if isinstance(found, Problem):
        raise Refused([found])
    held = values.get("LANGFUSE_PROJECT_ID")
    if held and held != found.id:
        raise Refused(
            [
                Problem(
                    "LANGFUSE_PROJECT_ID",
                    f"the keys belong to the project {found.id!r}, LANGFUSE_PROJECT_ID is {held!r}",
                    "Links would lead to the wrong project. Take the keys of that project, or "
                    "remove the line of LANGFUSE_PROJECT_ID.",
                )
            ]
        )
    return found.id


def _pair(
    args: argparse.Namespace,
    held: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    ask: bool,
    rotates: bool,
) -> tuple[str | None, str | None]:
    public = args.public_key or held.get(_KEYS[0])
    secret = _secret_flag(args) or held.get(_KEYS[1])
    if not rotates:  # for a rotation the environment most likely has the old pair
        public = public or environment.get(_KEYS[0])
        secret = secret or environment.get(_KEYS[1])
    if ask:
        public = public or input("Public key (pk-lf-...)? ").strip()
        secret = secret or getpass.getpass("Secret key (sk-lf-..., not shown)? ").strip()
    if not rotates and not (public and secret):
        missing = " and ".join(
            name for name, value in zip(_KEYS, (public, secret), strict=True) if not value
        )
        raise OtelbridgeError(
            f"{missing} needed: give --public-key KEY and --secret-key - (reads standard input), "
            f"or set the variables"
        )
    return public or None, secret or None


def _secret_flag(args: argparse.Namespace) -> str | None:
    if args.secret_key != _STANDARD_INPUT:
        secret: str | None = args.secret_key
        return secret
    if line := sys.stdin.readline().strip():
        return line
    raise OtelbridgeError("--secret-key -: standard input has no line with a key")
