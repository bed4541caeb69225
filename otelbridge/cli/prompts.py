"""`otelbridge prompts list|get|create|label|rollback`: the prompts of Langfuse's registry.

Asks Langfuse itself, never a cache. Texts come from a file or standard input; a file with a JSON
list is a chat prompt. Exit status: 0 done or found, 1 there is no such prompt, 2 usage,
configuration or no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from otelbridge.cli._cells import clean
from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse import prompts
from otelbridge.langfuse.prompt_text import as_answer

EXIT_NO: Final = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `prompts` to the command line."""
    parser = subparsers.add_parser(
        "prompts",
        help="list, read, add, label and roll back the prompts of Langfuse",
        description="The prompts of the Langfuse project of LANGFUSE_PUBLIC_KEY.",
        epilog="Exit status: 0 done or found, 1 no such prompt, 2 usage, configuration, no answer.",
    )
    actions = parser.add_subparsers(title="actions", metavar="<action>", required=True)
    listing = _action(actions, "list", listed, "show names, versions and labels")
    listing.add_argument("--name", help="this prompt only")
    listing.add_argument("--label", help="versions with this label only")
    listing.add_argument("--tag", help="prompts with this tag only")
    getting = _action(actions, "get", get, "print a prompt's text")
    getting.add_argument("name")
    chosen = getting.add_mutually_exclusive_group()
    chosen.add_argument("--version", type=_version, metavar="N")
    chosen.add_argument("--label", default=prompts.PRODUCTION, help="default: %(default)s")
    creating = _action(actions, "create", create, "add a version from a file or standard input")
    creating.add_argument("name")
    creating.add_argument("file", help="text, or a JSON list of chat messages; - is standard input")
    creating.add_argument("--label", action="append", default=[], help="may be given repeatedly")
    creating.add_argument("--tag", action="append", help="may be given repeatedly")
    creating.add_argument("--config", type=_config, metavar="JSON", help="an object, kept beside")
    creating.add_argument("--message", default="", help="why this version")
    labelling = _action(actions, "label", label, "put labels on a version")
    labelling.add_argument("name")
    labelling.add_argument("version", type=_version, metavar="VERSION")
    labelling.add_argument("labels", nargs="+", metavar="LABEL")
    rolling = _action(actions, "rollback", rollback, "move a label to the version before")
    rolling.add_argument("name")
    rolling.add_argument("--label", default=prompts.PRODUCTION, help="default: %(default)s")
    rolling.add_argument("--to", type=_version, metavar="VERSION", help="this version instead")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.add_argument("--json", action="store_true", help="one JSON value")
    parser.set_defaults(run=lambda args: _answered(run, args))
    return parser


def _answered(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    try:
        return run(args)
    except prompts.PromptNotFoundError as error:
        print(f"otelbridge prompts: {error}", file=sys.stderr)
        return EXIT_NO
    except ValueError as error:
        raise OtelbridgeError(str(error)) from error


def listed(args: argparse.Namespace) -> int:
    """Print what Langfuse lists; 1 when it lists nothing."""
    found = prompts.list_prompts(name=args.name, label=args.label, tag=args.tag)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    for one in [] if args.json else found:
        versions = ", ".join(map(str, one.versions))
        labels = ", ".join(one.labels) or "-"
        print(f"{clean(one.name)}  {one.type}  versions {versions}  labels {clean(labels)}")
    if not found:
        print("otelbridge prompts: Langfuse lists none", file=sys.stderr)
    return 0 if found else EXIT_NO


def get(args: argparse.Namespace) -> int:
    """Print one prompt; `--json` with version, labels and configuration."""
    prompt = prompts.read_prompt(args.name, version=args.version, label=args.label)
    if args.json:
        print(json.dumps(as_answer(prompt), ensure_ascii=False, indent=2))
    elif isinstance(prompt.prompt, str):
        print(prompt.prompt)
    else:
        print(json.dumps(prompt.prompt, ensure_ascii=False, indent=2))
    return 0


def create(args: argparse.Namespace) -> int:
    """Add a version, and print its number."""
    created = prompts.create_prompt(
        args.name,
        _template(args.file),
        labels=args.label,
        tags=args.tag,
        config=args.config,
        commit_message=args.message,
    )
    _say(args, as_answer(created), f"{created.name}: version {created.version}")
    return 0


def label(args: argparse.Namespace) -> int:
    """Put labels on a version, and print which it has."""
    changed = prompts.set_labels(args.name, args.version, args.labels)
    labels = ", ".join(changed.labels)
    _say(args, as_answer(changed), f"{changed.name}: version {changed.version} has {labels}")
    return 0


def rollback(args: argparse.Namespace) -> int:
    """Move the label, and print from where to where."""
    done = prompts.rollback_prompt(args.name, label=args.label, to_version=args.to)
    text = f"{done.name}: {done.label} went from version {done.from_version} to {done.to_version}"
    _say(args, asdict(done), text)
    return 0


def _say(args: argparse.Namespace, value: Any, text: str) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2) if args.json else clean(text))


def _template(file: str) -> Any:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OtelbridgeError(f"{file} cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            pass  # text may begin with a bracket too
    return text.removesuffix("\n")


def _version(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, not {text!r}")
    return int(text)


def _config(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a JSON object is needed ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed")
    return value
