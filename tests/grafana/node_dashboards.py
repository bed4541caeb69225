"""The committed dashboards as the checks in node need them: panels, queries, links, sample values.

Works on whatever grafana/dashboards/*.json holds; nothing here knows a panel by name. Variables get
samples by kind: `all`, one value, several, and values with characters that queries must survive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[2] / "grafana" / "dashboards"
RANGE: Final = {"from": "now-6h", "to": "now"}
#: What the sources put in place of Grafana's own macros.
SCOPED: Final = {
    "__rate_interval": "1m",
    "__interval": "15s",
    "__interval_ms": "15000",
    "__range": "21600s",
    "__range_s": "21600",
    "__range_ms": "21600000",
}
ALL: Final = "all"
#: Kind of choice → the values chosen, for each variable with several.
CHOICES: Final[dict[str, list[str]]] = {
    ALL: ["$__all"],
    "one": ["gpt-4.1"],
    "several": ["gpt-4.1", "claude-sonnet-4-5"],
    "expression characters": ["gpt-4.1 (a|b)[c]*+?{2}^x$"],
    "several odd ones": ["o'hara & co", "a/b:c#d", "é ü 漢"],
    "double quote": ['say "hi"'],
    "backslash": ["a\\b"],
}
SAMPLE_TRACE: Final = "00" + "ab" * 15


def load(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every dashboard, sorted by file name."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, also those in collapsed rows; the rows themselves not."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def templating(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The dashboard's variables."""
    return dashboard.get("templating", {}).get("list", [])


def chosen(
    variables: list[dict[str, Any]], kind: str, trace_id: str = SAMPLE_TRACE
) -> dict[str, dict[str, Any]]:
    """Variable name → what its box holds after a choice of this kind.

    Text boxes keep what they start with; one that starts empty waits for a trace id.
    """
    found: dict[str, dict[str, Any]] = {}
    for variable in variables:
        if variable["type"] == "textbox":
            found[variable["name"]] = {"value": variable.get("query") or trace_id}
        elif variable.get("multi"):
            found[variable["name"]] = {"value": CHOICES[kind], "options": ["x", "y"]}
        else:
            value = CHOICES[kind][0]
            found[variable["name"]] = {"value": value, "options": ["x", "y"]}
    return found


def queries(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Language (`promql`, `traceql` or `plain`) and text of each query of a panel."""
    for target in panel.get("targets") or []:
        if target["datasource"]["type"] == "prometheus":
            yield "promql", target["expr"]
        elif target.get("queryType") == "traceql":
            yield "traceql", target["query"]
        elif target.get("serviceMapQuery"):
            yield "plain", target["serviceMapQuery"]


def is_search(panel: dict[str, Any]) -> bool:
    """Whether a panel shows spans or traces found by TraceQL."""
    targets = panel.get("targets") or []
    return any(target.get("tableType") in ("spans", "traces") for target in targets)


def column_links(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """The data links of a panel's field configuration."""
    config = panel.get("fieldConfig") or {}
    found = list((config.get("defaults") or {}).get("links") or [])
    for rule in config.get("overrides") or []:
        for property_ in rule["properties"]:
            if property_["id"] == "links":
                found += property_["value"]
    return found


def page_links(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The links on top of a dashboard and of its panels."""
    found = list(dashboard.get("links") or [])
    for panel in panels(dashboard):
        found += panel.get("links") or []
    return found
