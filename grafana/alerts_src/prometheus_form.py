"""The Prometheus rule file, for Prometheus 2.42 and later and what takes its files (Mimir, Thanos).

The dashboard's address is a path, since nothing here knows where Grafana is. The budget is a file
of its own, kept by hand: grafana/prometheus/budget.rules.yaml.
"""

from __future__ import annotations

from typing import Any

from grafana.alerts_src.rule import Group, Rule
from grafana.alerts_src.text import GROUPS, dumped, labels, said
from grafana.dashboards_src.kit import panel_id


def _alert(rule: Rule, runbooks_url: str) -> dict[str, Any]:
    dashboard, panel = rule.panel
    form: dict[str, Any] = {"alert": rule.alert, "expr": rule.expr}
    if rule.wait != "0s":
        form["for"] = rule.wait
    form["labels"] = labels(rule)
    form["annotations"] = {
        "summary": said(rule.summary, rule, "$value"),
        "description": said(rule.description, rule, "$value"),
        "runbook_url": f"{runbooks_url}#{rule.uid}",
        "dashboard": f"/d/{dashboard}?viewPanel={panel_id(panel)}",
    }
    return form


def _group(group: Group, runbooks_url: str) -> dict[str, Any]:
    rules = [_alert(rule, runbooks_url) for rule in group.rules]
    return {"name": group.name, "interval": group.interval, "rules": rules}


def rules_file(runbooks_url: str) -> str:
    """`otelbridge.rules.yaml`."""
    return dumped(
        {"groups": [_group(group, runbooks_url) for group in GROUPS]},
        "The alerts of docs/runbooks.md for Prometheus and Alertmanager. Use these or Grafana's\n"
        "(grafana/provisioning/alerting/), not both: each would send.",
    )
