"""`otelbridge config [--json | --markdown]`: every variable, its value and where it came from.

`--markdown` prints the reference that `docs/configuration.md` holds; it is made from the
declarations in `otelbridge.env` alone and does not depend on the environment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Final

from otelbridge.env import VARIABLES, Group, Variable
from otelbridge.settings import Settings

_TITLES: Final[dict[Group, str]] = {
    "OpenTelemetry": "OpenTelemetry",
    "gen_ai": "Message content",
    "Langfuse": "Langfuse",
    "otelbridge": "otelbridge",
}
_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `make docs` from otelbridge/env.py; change it there. -->

otelbridge is configured by environment variables; arguments of `otelbridge.configure()` win over
them. `otelbridge config` shows each value and its origin with secrets masked, `--json` for
programs.

- Empty text counts as not set.
- A bad `OTEL_*` value gives one warning and the default is used, as OpenTelemetry asks. A bad
  `LANGFUSE_*` or `OTELBRIDGE_*` value is an error that names variable, value and what is allowed.
- An `OTELBRIDGE_*` name that does not exist gives a warning with the closest name that does.
- Where a variable has other names, the first name wins; different values give a warning.
- `SDK` marks variables that the OpenTelemetry SDK reads itself and otelbridge only shows.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `config` to the command line."""
    parser = subparsers.add_parser(
        "config",
        help="show every variable with value and origin",
        description="Show every variable, its value and where it came from. Secrets are masked.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument(
        "--markdown", action="store_true", help="the reference in docs/configuration.md"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the configuration.

    Raises:
        ConfigError: a value that cannot be used.
    """
    if args.markdown:
        print(markdown(), end="")
        return 0
    settings = Settings.from_env()
    print(as_json(settings) if args.json else as_table(settings))
    return 0


def as_json(settings: Settings) -> str:
    """`{"startup": text, "variables": [{name, value, origin, read_by}], "warnings": [text]}`."""
    rows = [
        {
            "name": variable.name,
            "value": settings.values[variable.name] or None,
            "origin": settings.origins[variable.name],
            "read_by": variable.read_by,
        }
        for variable in VARIABLES
    ]
    answer = {
        "startup": settings.startup_line(),
        "variables": rows,
        "warnings": list(settings.warnings),
    }
    return json.dumps(answer, indent=2, ensure_ascii=False)


def as_table(settings: Settings) -> str:
    """Variables with value and origin by group, the start-up line, warnings below."""
    width = max(len(variable.name) for variable in VARIABLES)
    lines = []
    for group, title in _TITLES.items():
        lines.append(title)
        for variable in _of(group):
            value = settings.values[variable.name] or "-"
            origin = settings.origins[variable.name]
            lines.append(f"  {variable.name:<{width}}  {value}  [{origin}]")
        lines.append("")
    lines.append(settings.startup_line())
    lines += [f"warning: {sentence}" for sentence in settings.warnings]
    return "\n".join(lines)


def markdown() -> str:
    """The reference of all variables, a table per group."""
    parts = [_INTRODUCTION]
    for group, title in _TITLES.items():
        rows = [
            "| Variable | Default | Allowed | Meaning |",
            "|---|---|---|---|",
            *(_row(variable) for variable in _of(group)),
        ]
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _of(group: Group) -> Iterator[Variable]:
    return (variable for variable in VARIABLES if variable.group == group)


def _row(variable: Variable) -> str:
    name = f"`{variable.name}`"
    if variable.aliases:
        name += " (also " + ", ".join(f"`{alias}`" for alias in variable.aliases) + ")"
    notes = [variable.meaning]
    if variable.argument:
        notes.append(f"Argument `{variable.argument}`.")
    if variable.secret:
        notes.append("Secret.")
    if variable.read_by == "sdk":
        notes.append("SDK.")
    notes.append(f"Source: {variable.source}.")
    default = f"`{variable.default}`" if variable.default else "not set"
    cells = (name, default, variable.allowed, " ".join(notes))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
