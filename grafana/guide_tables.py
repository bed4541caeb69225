"""`python -m grafana.guide_tables`: writes the generated parts of docs/grafana.md.

A part stands between two marks that name it; the text around them is written by hand. Parts are
made of the declared dashboards (`dashboards_src.index`) and rules (`alerts_src.text`). Run it from
the repository's root after either has changed; `--check` only compares.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from grafana.alerts_src.rule import Rule
from grafana.alerts_src.text import GROUPS
from grafana.dashboards_src import index, kit

GUIDE: Final = Path(__file__).resolve().parents[1] / "docs" / "grafana.md"
#: As the guide's reader knows them.
NAMES: Final = {
    "otelbridge": "otelbridge",
    "otel": "OTel gen_ai",
    "openinference": "OpenInference",
    "openllmetry": "OpenLLMetry",
    "litellm": "LiteLLM",
}


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join([_row(*head), "|" + "---|" * len(head), *(_row(*row) for row in rows)])


def emitters() -> str:
    """Which figure has data from whose spans, and the panel that shows it."""
    panels = {(each.uid, panel.key): panel for each in index.dashboards() for panel in each.panels}
    titles = {each.uid: each.title for each in index.dashboards()}
    rows = []
    for figure, (uid, key) in index.FIGURES.items():
        panel = panels[uid, key]
        marks = ("yes" if name in panel.emitters else "-" for name in NAMES)
        rows.append((figure[0].upper() + figure[1:], f"{titles[uid]}: {panel.title}", *marks))
    return _table(("Figure", "Panel", *NAMES.values()), rows)


def served() -> str:
    """How many panels of each dashboard have data from whose spans."""
    rows = []
    for each in index.dashboards():
        fed = [panel for panel in each.panels if panel.emitters]
        counts = (str(sum(name in panel.emitters for panel in fed)) for name in NAMES)
        rows.append((each.title, str(len(fed)), *counts))
    return _table(("Dashboard", "Panels over spans", *NAMES.values()), rows)


def panels_of(dashboard: kit.Dashboard) -> str:
    """Titles of a dashboard's panels, a line for each row; a star where something must be there."""
    rows = (("On top", dashboard.top), *((row.title, row.panels) for row in dashboard.rows))
    lines = []
    for title, panels in rows:
        named = "; ".join(panel.title + (" \\*" if panel.needs else "") for panel in panels)
        lines.append(f"- **{title}**: {named}.")
    needs: dict[str, None] = dict.fromkeys(each.needs for each in dashboard.panels if each.needs)
    if needs:
        lines += ["", "\\* What these need, as their description says:", ""]
        lines += [f"- {text}" for text in needs]
    return "\n".join(lines)


def alerts() -> str:
    """Every rule with its severity, how long it waits, and the panel that shows its value."""
    titles = {
        (each.uid, panel.key): f"{each.title}: {panel.title}"
        for each in index.dashboards() for panel in each.panels
    }  # fmt: skip

    def cells(rule: Rule, interval: str) -> tuple[str, ...]:
        link = f"[`{rule.uid}`](runbooks.md#{rule.uid})"
        waits = "at once" if rule.wait == "0s" else f"after {rule.wait}"
        return link, rule.title, rule.severity, f"{interval}, {waits}", titles[rule.panel]

    head = ("Alert", "Says", "Severity", "Asked every, fires", "Panel")
    return _table(head, [cells(rule, each.interval) for each in GROUPS for rule in each.rules])


def parts() -> dict[str, str]:
    """Name of a part to its text."""
    made = {"emitters": emitters(), "served": served(), "alerts": alerts()}
    return made | {f"panels of {each.uid}": panels_of(each) for each in index.dashboards()}


def with_parts(page: str) -> str:
    """The page with every part renewed.

    Raises:
        ValueError: a part that has no place in the page, or two.
    """
    for name, text in parts().items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
        before, mark, after = page.partition(begin)
        _, closed, rest = after.partition(end)
        if not (mark and closed) or begin in rest:
            raise ValueError(f"docs/grafana.md does not have one place for the part {name!r}")
        page = f"{before}{begin}{text}\n{end}{rest}"
    return page


def main() -> int:
    """Exit status: 0, or 1 when `--check` found a difference."""
    parser = argparse.ArgumentParser(description="Write the generated parts of docs/grafana.md.")
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args()
    page = GUIDE.read_text(encoding="utf-8")
    renewed = with_parts(page)
    if options.check:
        return int(page != renewed)
    GUIDE.write_text(renewed, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
