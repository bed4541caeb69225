"""Grafana's alert rules for file provisioning: the query, a reduction to a number, the threshold.

Annotations and query models are taken by Grafana as they are, labels and titles go through its
environment expansion: none of ours holds a dollar sign.
"""

from __future__ import annotations

from typing import Any, Final

from grafana.alerts_src.rule import Group, Rule
from grafana.alerts_src.text import GROUPS, dumped, labels, said
from grafana.dashboards_src.index import dashboards
from grafana.dashboards_src.kit import PROM, panel_id

FOLDER: Final = "otelbridge"
_EXPRESSION: Final = "__expr__"
_SECONDS_BACK: Final = 600  # an instant query looks at its end; Grafana wants a range all the same


class MissingPanelError(LookupError):
    """An alert points at a panel that no dashboard has."""


def check_panels(rules: tuple[Rule, ...]) -> None:
    """Nothing, when a dashboard declares the panel of each rule.

    Raises:
        MissingPanelError: naming every rule whose panel is not there.
    """
    declared = {(board.uid, panel.key) for board in dashboards() for panel in board.panels}
    missing = [
        f"{rule.key}: no panel {rule.panel[1]!r} in {rule.panel[0]!r}"
        for rule in rules
        if rule.panel not in declared
    ]
    if missing:
        raise MissingPanelError("; ".join(missing))


def _data(rule: Rule) -> list[dict[str, Any]]:
    expression = {"type": _EXPRESSION, "uid": _EXPRESSION}
    query = {
        "refId": "A",
        "datasource": {"type": "prometheus", "uid": PROM},
        "instant": True,
        "range": False,
        "expr": rule.value,
    }
    reduced = {
        "refId": "B",
        "datasource": expression,
        "type": "reduce",
        "expression": "A",
        "reducer": "last",
    }
    threshold = {
        "refId": "C",
        "datasource": expression,
        "type": "threshold",
        "expression": "B",
        "conditions": [{"evaluator": {"type": "gt", "params": [rule.threshold]}}],
    }
    back = {"from": _SECONDS_BACK, "to": 0}
    return [
        {"refId": "A", "datasourceUid": PROM, "relativeTimeRange": back, "model": query},
        {"refId": "B", "datasourceUid": _EXPRESSION, "model": reduced},
        {"refId": "C", "datasourceUid": _EXPRESSION, "model": threshold},
    ]


def _rule(rule: Rule, runbooks_url: str) -> dict[str, Any]:
    dashboard, panel = rule.panel
    value = "$values.B.Value"
    return {
        "uid": rule.uid,
        "title": rule.title,
        "condition": "C",
        "for": rule.wait,
        "noDataState": rule.no_data,
        "execErrState": rule.on_error,
        "dashboardUid": dashboard,
        "panelId": panel_id(panel),
        "labels": labels(rule),
        "annotations": {
            "summary": said(rule.summary, rule, value),
            "description": said(rule.description, rule, value),
            "runbook_url": f"{runbooks_url}#{rule.uid}",
            "__dashboardUid__": dashboard,
            "__panelId__": str(panel_id(panel)),
        },
        "data": _data(rule),
    }


def _group(group: Group, runbooks_url: str) -> dict[str, Any]:
    rules = [_rule(rule, runbooks_url) for rule in group.rules]
    return {
        "orgId": 1,
        "name": group.name,
        "folder": FOLDER,
        "interval": group.interval,
        "rules": rules,
    }


def rules_file(runbooks_url: str) -> str:
    """`rules.yaml`."""
    return dumped(
        {"apiVersion": 1, "groups": [_group(group, runbooks_url) for group in GROUPS]},
        "The alerts of docs/runbooks.md, evaluated by Grafana over otelbridge-prom.\n"
        "The two budget alerts need grafana/prometheus/budget.rules.yaml in Prometheus.\n"
        "noDataState: queries filter, so an empty answer is healthy (OK); collector-gone alone\n"
        "always has one. execErrState: collector-gone tells when Prometheus does not answer, the\n"
        "others keep what they were (KeepLast): Error would page at each restart of Prometheus,\n"
        "before Grafana 13 without a pending period.",
    )
