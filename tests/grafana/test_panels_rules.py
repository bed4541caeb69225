"""The rules of Prometheus and of Grafana, asked of servers that every emitter has filled.

That each rule fires and stays quiet in time is shown by the unit tests in `rules/`. Here: that its
expression runs on real series, and that every series it reads exists. Servers: `filling.py`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.grafana.asking import MACROS
from tests.grafana.filling import ROOT, SERVICES, Fill, rules_of_files

pytestmark = [pytest.mark.collector, pytest.mark.e2e, pytest.mark.timeout(240)]

GRAFANA_RULES = ROOT / "grafana" / "provisioning" / "alerting" / "rules.yaml"
#: A metric, with its matchers if there are any.
SELECTOR = re.compile(r"\b(?:otelbridge[_:]|traces_|otelcol_|up\b)[\w:]*(?:\{[^{}]*\})?")
#: Not there in a healthy bridge; `test_panels_faults.py` and `test_series_cap.py` bring up most.
ABSENT_AT_FIRST = {
    "otelcol_exporter_enqueue_failed_spans_total": "a queue was full",
    'otelcol_deltatocumulative_datapoints_total{error="limit"}': "a cap on series was reached",
    'traces_spanmetrics_calls_total{otel_metric_overflow="true"}': "a service has too many series",
    'otelbridge:daily_budget_usd{deployment_environment_name!=""}': "a budget of one environment",
}


def grafana_expressions() -> list[str]:
    """PromQL of every query of Grafana's rules, as Grafana sends it."""
    rules = yaml.safe_load(GRAFANA_RULES.read_text("utf-8"))
    found = []
    for rule in [rule for group in rules["groups"] for rule in group["rules"]]:
        for query in rule["data"]:
            if query["datasourceUid"] != "__expr__":
                expression = query["model"]["expr"]
                for macro, value in MACROS.items():
                    expression = expression.replace(macro, value)
                found.append(expression)
    return found


def asked(fill: Fill, promql: str) -> list[dict[str, Any]]:
    """The series of an answer as of the end of the fill; a query that is refused fails."""
    return fill.prometheus.get("/api/v1/query", query=promql, time=fill.end_s)["result"]


def test_every_rule_is_evaluated_without_error(fill):
    """Recording and alerting rules of grafana/prometheus/ run on the real series."""
    assert len(fill.rules) == len(rules_of_files()) > 0
    failed = [rule for rule in fill.rules if rule["health"] != "ok"]
    assert {rule["name"]: rule.get("lastError") for rule in failed} == {}


def test_the_series_that_rules_read_exist(fill):
    """Each selector of a rule finds series of the fill, or only a fault or a setting makes them."""
    selectors = {found for rule in rules_of_files() for found in SELECTOR.findall(rule["expr"])}
    assert len(selectors) > len(ABSENT_AT_FIRST)
    missing = {one for one in selectors if not asked(fill, f"count({one})")}
    assert missing <= ABSENT_AT_FIRST.keys()


def test_the_error_rate_rule_sees_failing_calls_of_every_emitter(fill):
    """Its expression, without waiting, gives a failing service of each emitter."""
    (rule,) = (rule for rule in rules_of_files() if rule.get("alert") == "OtelbridgeErrorRate")
    failing = {series["metric"]["service_name"] for series in asked(fill, rule["expr"])}
    assert [emitter for emitter, own in SERVICES.items() if not failing & set(own)] == []


def test_grafana_s_rules_are_understood_by_prometheus(fill):
    """Each query of grafana/provisioning/alerting/ is answered; one that is refused fails."""
    expressions = grafana_expressions()
    assert expressions
    for expression in expressions:
        asked(fill, expression)
