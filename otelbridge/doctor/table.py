"""The table of codes: one source for findings, `--explain CODE` and docs/troubleshooting.md.

Gathers the tables of settings, set-up, spool, network and route. `finding` is how checks make their
findings, so that no code exists without an explanation.
"""

from __future__ import annotations

import difflib
from typing import Final

from otelbridge.doctor import table_network, table_route, table_settings, table_setup, table_spool
from otelbridge.doctor.findings import Entry, Finding, Level

#: Title of a part of the document to its entries, in order.
PARTS: Final[dict[str, tuple[Entry, ...]]] = {
    "Variables": table_settings.ENTRIES,
    "Files and packages": table_setup.ENTRIES,
    "Spool": table_spool.ENTRIES,
    "Network, Langfuse and Tempo": table_network.ENTRIES,
    "Collector, clock and canary": table_route.ENTRIES,
}
BY_CODE: Final[dict[str, Entry]] = {
    entry.code: entry for entries in PARTS.values() for entry in entries
}
_INTRODUCTION: Final = """\
# Troubleshooting

<!-- Made by `otelbridge doctor --markdown` from otelbridge/doctor/table*.py; change it there. -->

`otelbridge doctor` looks at the variables, files, packages and servers of a set-up and names what
is wrong with it, with evidence and remedy. It changes nothing, shows no secret, and sends one small
trace of its own, the canary.

- `otelbridge doctor --explain CODE` prints one entry of this page, `--json` is for programs.
- `--only` and `--skip` take checks, groups or codes; `--no-network` asks no server.
- Exit status: 0 nothing wrong (notes are no fault), 1 at least one warning or error, 2 usage.

**error**: does not work. **warning**: works, but not as meant. **note**: worth knowing. **ok**:
looked at and good.
"""


def finding(
    code: str, what: str, evidence: str = "", fix: str = "", *, level: Level | None = None
) -> Finding:
    """A finding with the level and, unless given, the remedy of its entry.

    Raises:
        KeyError: a code that is not in the table.
    """
    entry = BY_CODE[code]
    return Finding(code, level or entry.level, what, evidence, fix or entry.fix)


def closest(code: str) -> str | None:
    """The code most like this text, for a hint."""
    return next(iter(difflib.get_close_matches(code, BY_CODE, n=1, cutoff=0.4)), None)


def page(entry: Entry) -> str:
    """The explanation of one code as plain text."""
    lines = [f"{entry.code} ({entry.level}): {entry.title}", "", entry.meaning, ""]
    lines.append(f"Seen by: {entry.seen}")
    if entry.fix:
        lines.append(f"Fix: {entry.fix}")
    return "\n".join(lines)


def markdown() -> str:
    """docs/troubleshooting.md."""
    parts = [_INTRODUCTION]
    for title, entries in PARTS.items():
        parts += [f"## {title}\n"] if entries else []
        for entry in entries:
            lines = [f"### {entry.code}\n", f"**{entry.title}** ({entry.level}). {entry.meaning}\n"]
            lines.append(f"- Seen by: {entry.seen}")
            lines += [f"- Fix: {entry.fix}"] if entry.fix else []
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
