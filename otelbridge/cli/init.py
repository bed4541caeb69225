"""`otelbridge init`: write the `.env` of the stack, rotate a secret, print a service's variables.

Asks where a terminal is there, takes flags everywhere else. What it decides is in
`otelbridge.installation`; here are the questions, the order and the words. Exit status: 0 done or
nothing to do, 1 refused with the reason and the remedy (nothing is written), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from otelbridge import envfile
from otelbridge.cli import _init_answers as answers
from otelbridge.errors import OtelbridgeError
from otelbridge.installation import entries, plan, rotation, snippets, surroundings
from otelbridge.installation.plan import Choice, Plan, Problem
from otelbridge.settings import process_environment

_STATUS_REFUSED: Final = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `init` to the command line."""
    parser = subparsers.add_parser(
        "init",
        help="write the stack's .env with new secrets, or keys of an existing Langfuse",
        description="Write .env for docker compose: new secrets, Langfuse's keys and project. "
        "Values that are there are kept; running it again changes nothing.",
        epilog="Exit status: 0 done or nothing to do, 1 refused (nothing written), 2 usage.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="Langfuse as a part of the stack")
    where.add_argument(
        "--host", metavar="URL",
        help="an existing Langfuse, such as https://cloud.langfuse.com, instead of a local one",
    )  # fmt: skip
    parser.add_argument("--public-url", metavar="URL",
                        help="that Langfuse as a browser reaches it (default: --host)")  # fmt: skip
    parser.add_argument("--public-key", metavar="KEY", help="public key of its project")
    parser.add_argument(
        "--secret-key", metavar="KEY",
        help="its secret key; - reads it from standard input. Others can see a key that is "
        "given here; without the option LANGFUSE_SECRET_KEY is taken, or it is asked for",
    )  # fmt: skip
    parser.add_argument("--offline", action="store_true", help="do not check keys at Langfuse")
    parser.add_argument("--email", help="login that a local Langfuse makes")
    parser.add_argument(
        "--with", dest="profiles", metavar="PROFILES", type=_profiles, default=(),
        help="further profiles for COMPOSE_PROFILES: gateway, logs",
    )  # fmt: skip
    parser.add_argument("--file", type=Path, default=Path(".env"), help="default: .env")
    parser.add_argument("--rotate", metavar="NAME", action="append", default=[],
                        help="make this secret anew (may be given again)")  # fmt: skip
    parser.add_argument("--force", action="store_true",
                        help="with --rotate: the stack never ran, or its data is gone")  # fmt: skip
    parser.add_argument(
        "--print-env", nargs="?", const="shell", choices=snippets.FORMS, metavar="FORM",
        help=f"write nothing, print what a service needs: {', '.join(snippets.FORMS)}",
    )  # fmt: skip
    parser.add_argument("--service", default="my-service", help="with --print-env: its name")
    parser.add_argument("--endpoint", metavar="URL",
                        help="with --print-env: OTLP/HTTP address to send to")  # fmt: skip
    parser.add_argument("--with-keys", action="store_true",
                        help="with --print-env: Langfuse's keys too, which are secret")  # fmt: skip
    parser.add_argument("--direct", action="store_true",
                        help="with --print-env: without a Collector; has the keys")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def _profiles(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in plan.PROFILES]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)}: no such profile; there are {', '.join(plan.PROFILES)}"
        )
    return names


def run(args: argparse.Namespace) -> int:
    """Write, rotate or print; see the module for the exit status.

    Raises:
        OtelbridgeError: usage, or a file that cannot be read or written.
    """
    environment = process_environment()
    path: Path = args.file
    found = envfile.read(path, environment)
    if args.print_env and args.rotate:
        raise OtelbridgeError("--rotate and --print-env: one at a time")
    if args.print_env:
        return _print_env(args, found.values if found else {})
    values = found.values if found else {}
    rotation.check_names(args.rotate)
    if args.rotate and found is None:
        raise OtelbridgeError(f"--rotate: there is no {path} yet. Run: otelbridge init")
    choice: Choice | None = None
    try:
        if problems := surroundings.git_problems(path):
            raise answers.Refused(problems)
        choice = answers.choose(args, values, environment)
        done = _decide(args, values, choice)
    except answers.Refused as refusal:
        done = Plan({}, (), tuple(refusal.problems), ())
    notes: tuple[str, ...] = ()
    if not done.problems:
        notes = (*done.notes, *_notes(args, environment, {**values, **done.changes}))
    if done.changes and not done.problems:
        old = found or envfile.EnvFile("", ())
        text = old.with_values(done.changes, comments=_comments(done.changes))
        envfile.write(path, text, replaces=found.text if found else None)
    _report(args, choice, done, notes, {**values, **done.changes})
    return _STATUS_REFUSED if done.problems else 0


def _decide(args: argparse.Namespace, values: Mapping[str, str], choice: Choice) -> Plan:
    directory = args.file.parent
    if args.rotate:
        names: Sequence[str] = args.rotate
        volumes = surroundings.volumes(directory, values)
        return rotation.make_rotation(values, names, choice, volumes, force=args.force)
    made = plan.make_plan(values, choice)
    if any(entries.BY_NAME[name].volume for name in made.changes):
        volumes = surroundings.volumes(directory, values)
        stored = rotation.volume_problems(made.changes, volumes)
        return Plan(made.changes, made.kept, (*made.problems, *stored), made.notes)
    return made


def _comments(changes: Mapping[str, str]) -> dict[str, str]:
    return {name: entries.BY_NAME[name].meaning for name in changes
            if entries.BY_NAME[name].meaning}  # fmt: skip


def _notes(
    args: argparse.Namespace, environment: Mapping[str, str], values: Mapping[str, str]
) -> list[str]:
    notes = []
    if args.secret_key not in (None, "-"):
        notes.append(
            "A key on the command line is seen in process lists and kept in the shell's history; "
            "--secret-key - reads it from standard input."
        )
    for variable in entries.VARIABLES:
        given, value = environment.get(variable.name), values.get(variable.name)
        if value and given is not None and given != value:
            notes.append(
                f"{variable.name} has another value in this shell, and docker compose prefers "
                f"that to the file; run: unset {variable.name}"
            )
    if not (args.file.parent / "docker-compose.yml").exists():
        notes.append(
            "docker compose reads .env beside docker-compose.yml, and there is none in this "
            "directory."
        )
    elif args.file.name != ".env":
        notes.append(f"docker compose reads .env; use: docker compose --env-file {args.file}")
    return notes


def _report(
    args: argparse.Namespace,
    choice: Choice | None,
    done: Plan,
    notes: Sequence[str],
    values: Mapping[str, str],
) -> None:
    written = () if done.problems else tuple(done.changes)
    if args.json:
        print(json.dumps({
            "file": str(args.file),
            "langfuse": choice and {
                "kind": choice.kind,
                "host": values.get("LANGFUSE_HOST") or choice.host,
                "public_url": values.get("LANGFUSE_PUBLIC_URL") or choice.public_url,
                "project_id": values.get("LANGFUSE_PROJECT_ID") or choice.project_id,
                "keys_checked": choice.kind == "existing" and choice.project_id is not None,
            },
            "written": written,
            "kept": done.kept,
            "notes": notes,
            "problems": [{"variable": each.variable, "what": each.what, "fix": each.fix}
                         for each in done.problems],
        }, indent=2))  # fmt: skip
        return
    if done.problems:
        _say_problems(args.file, done.problems)
    else:
        for line in _summary(args, done, values):
            print(line)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def _say_problems(path: Path, problems: Sequence[Problem]) -> None:
    print(f"otelbridge init: refused, nothing is written to {path}", file=sys.stderr)
    for problem in problems:
        print(f"  {problem.what}\n    {problem.fix}", file=sys.stderr)


def _summary(args: argparse.Namespace, done: Plan, values: Mapping[str, str]) -> list[str]:
    if not done.changes:
        return [f"{args.file} is complete; nothing changed."]
    if args.rotate:
        return [f"{args.file}: new value of {', '.join(done.changes)}"]
    lines = [f"{args.file} written, mode 0600: {len(done.changes)} added, {len(done.kept)} kept."]
    link = values.get("LANGFUSE_PUBLIC_URL", "")
    if project := values.get("LANGFUSE_PROJECT_ID"):
        link += f"/project/{project}"
    lines.append(f"  Langfuse  {link}")
    if email := values.get("LANGFUSE_INIT_USER_EMAIL"):
        lines.append(f"            log in as {email} with LANGFUSE_INIT_USER_PASSWORD")
    lines.append(f"  Grafana   {values['OTELBRIDGE_GRAFANA_URL']}")
    lines.append("            log in as admin with GRAFANA_ADMIN_PASSWORD")
    lines.append("Start it: docker compose up")
    return lines


def _print_env(args: argparse.Namespace, values: Mapping[str, str]) -> int:
    needed = ("LANGFUSE_HOST", "LANGFUSE_PUBLIC_URL", *snippets.KEYS)
    if missing := [name for name in needed if not values.get(name)]:
        print(f"otelbridge init: {args.file} has no {', '.join(missing)}. Run: otelbridge init",
              file=sys.stderr)  # fmt: skip
        return _STATUS_REFUSED
    keys = args.with_keys or args.direct
    variables = snippets.service_variables(
        values, args.print_env, service=args.service, endpoint=args.endpoint, keys=keys,
        direct=args.direct,
    )  # fmt: skip
    if args.json:
        print(json.dumps(variables, indent=2))
    else:
        print(snippets.render(variables, values, args.print_env, keys=keys), end="")
    for note in snippets.notes(values, args.print_env):
        print(f"note: {note}", file=sys.stderr)
    return 0
