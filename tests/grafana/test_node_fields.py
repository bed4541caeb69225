"""Units, mappings, thresholds and option names of all panels, asked of @grafana/data.

Grafana is silent about all of these: an unknown unit is appended to the number as text, an unknown
option or matcher is skipped. Options of single panels (`custom.*`) are not checked here.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.grafana import node_dashboards as dashboards
from tests.grafana import node_tools

pytestmark = pytest.mark.timeout(400)  # the first test may install the packages

SAMPLES = [0, 0.04, 0.5, 1, 12, 90, 1500, 2_000_000]


def configs(dashboard: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Title and field configuration of each panel that has one."""
    found = [(panel["title"], panel) for panel in dashboards.panels(dashboard)]
    return [(title, panel) for title, panel in found if panel.get("fieldConfig")]


def units(panel: dict[str, Any]) -> set[str]:
    """Every unit that a panel names."""
    config = panel["fieldConfig"]
    found = {(config.get("defaults") or {}).get("unit")}
    for rule in config.get("overrides") or []:
        found |= {item["value"] for item in rule["properties"] if item["id"] == "unit"}
    return found - {None}


def per_dashboard() -> list[Any]:
    """Each committed dashboard."""
    return [pytest.param(dashboard, id=dashboard["uid"]) for dashboard in dashboards.load()]


def test_unknown_units_and_options_are_found_out():
    """A misspelt unit, option, matcher and colour mode are each named."""
    named = ["s", "currencyUSD", "suffix: x", "seconds"]
    assert node_tools.ask("units", units=named) == ["seconds"]
    panel = {
        "type": "stat",
        "fieldConfig": {
            "defaults": {"unitt": "s", "color": {"mode": "threshold"}},
            "overrides": [
                {
                    "matcher": {"id": "byNam", "options": "a"},
                    "properties": [{"id": "link", "value": []}],
                }
            ],
        },
    }
    (answer,) = node_tools.ask("fields", cases=[{"panel": panel, "values": [1]}])
    assert answer["unknownOptions"] == ["unitt", "link"]
    assert answer["unknownMatchers"] == ["byNam"]
    assert answer["unknownColours"] == ["threshold"]


def test_units_thresholds_and_mappings_change_what_is_shown():
    """The same number is shown by its unit, coloured by its threshold, replaced by its mapping."""
    defaults = {
        "unit": "currencyUSD",
        "color": {"mode": "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": None, "color": "green"}, {"value": 80, "color": "red"}],
        },
        "mappings": [{"type": "value", "options": {"0": {"text": "free", "index": 0}}}],
    }
    panel = {"type": "stat", "fieldConfig": {"defaults": defaults, "overrides": []}}
    (answer,) = node_tools.ask("fields", cases=[{"panel": panel, "values": [0, 79, 80]}])
    free, below, above = answer["shown"]
    assert (free["text"], below["text"], above["text"]) == ("free", "$79", "$80")
    assert below["color"] != above["color"]


@pytest.mark.parametrize("dashboard", per_dashboard())
def test_every_unit_is_known(dashboard):
    """Grafana knows each unit that a panel or a column names."""
    named = {title: units(panel) for title, panel in configs(dashboard)}
    unknown = set(node_tools.ask("units", units=sorted(set().union(*named.values()))))
    assert not {title: found & unknown for title, found in named.items() if found & unknown}


@pytest.mark.parametrize("dashboard", per_dashboard())
def test_every_option_is_known_and_applied(dashboard):
    """Each option, matcher and colour exists, and numbers of each panel can be shown with them."""
    cases = [{"panel": panel, "values": SAMPLES} for _, panel in configs(dashboard)]
    answers = node_tools.ask("fields", cases=cases)
    for (title, panel), answer in zip(configs(dashboard), answers, strict=True):
        for what in ("unknownOptions", "unknownMatchers", "unknownColours"):
            assert not answer[what], f"{title}: {what}"
        for value, shown in zip(SAMPLES, answer["shown"], strict=True):
            assert shown["text"], f"{title}: {value} is shown as nothing"
        steps = ((panel["fieldConfig"].get("defaults") or {}).get("thresholds") or {}).get("steps")
        for above in (steps or [])[1:]:
            assert above["value"] is not None, f"{title}: only the first threshold is without value"
