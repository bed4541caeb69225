"""The alerts without a Grafana server: forms against each other, shapes, and promtool.

The timelines of every rule are in `rules/*.test.yaml`, run by promtool in virtual time. Shapes are
those that Grafana's file provisioning knows (names of its Go types, read in its sources); how
Grafana itself evaluates and sends is not tested here. Metric names: `test_alert_names.py`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts_src import grafana_form, notifications
from grafana.alerts_src.__main__ import generated
from grafana.alerts_src.cost_rules import BUDGET
from grafana.alerts_src.text import RULES
from grafana.dashboards_src.index import dashboards
from otelbridge.local.traceql.parser import parse
from otelbridge.local.traceql.validate import validate
from tests.grafana.provisioning import GRAFANA, load, provisioned

ALERTING = GRAFANA / "provisioning" / "alerting"
PROMETHEUS = GRAFANA / "prometheus"
RUNBOOKS = GRAFANA.parent / "docs" / "runbooks.md"
TIMELINES = sorted((Path(__file__).parent / "rules").glob("*.test.yaml"))
ENVIRONMENT = {"ALERT_EMAIL_TO": "a@example.org;b@example.org", "SLACK_WEBHOOK_URL": "https://h/x"}
BY_KEY = {rule.key: rule for rule in RULES}

# What Grafana's provisioning knows: pkg/services/provisioning/alerting/*_types.go, and the models
# of its query, reduce and threshold steps.
RULE_KEYS = {
    "uid", "title", "condition", "data", "dashboardUid", "panelId", "noDataState", "execErrState",
    "for", "keepFiringFor", "annotations", "labels", "isPaused", "notification_settings",
}  # fmt: skip
GROUP_KEYS = {"orgId", "name", "folder", "interval", "rules"}
DATA_KEYS = {"refId", "queryType", "relativeTimeRange", "datasourceUid", "model"}
MODEL_KEYS = {
    "A": {"refId", "datasource", "instant", "range", "expr", "editorMode", "legendFormat"},
    "B": {"refId", "datasource", "type", "expression", "reducer", "settings"},
    "C": {"refId", "datasource", "type", "expression", "conditions"},
}
ROUTE_KEYS = {
    "receiver", "group_by", "object_matchers", "matchers", "mute_time_intervals", "continue",
    "group_wait", "group_interval", "repeat_interval", "routes", "active_time_intervals",
}  # fmt: skip


def promtool(*arguments: str | Path) -> str:
    """What promtool said; fails unless it found everything right."""
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("no promtool binary: `apt-get install prometheus` (Debian) provides one")
    done = subprocess.run(
        [binary, *map(str, arguments)], capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def grafana_rules() -> dict[str, dict[str, Any]]:
    """Grafana's rules by their uid, as they are written."""
    document = load(ALERTING / "rules.yaml")
    return {rule["uid"]: rule for group in document["groups"] for rule in group["rules"]}


def prometheus_rules() -> dict[str, dict[str, Any]]:
    """Prometheus' alerts by their name."""
    document = load(PROMETHEUS / "otelbridge.rules.yaml")
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


# -- forms -----------------------------------------------------------------------------------------
def test_the_committed_files_are_what_the_rules_give():
    """Every generated file is byte for byte what `python -m grafana.alerts_src` would write."""
    for path, text in generated().items():
        assert path.read_text("utf-8") == text, path


def test_grafana_and_prometheus_ask_the_same():
    """Each alert has one expression, threshold, pending time and labels in both files."""
    grafana, prometheus = grafana_rules(), prometheus_rules()
    assert len(grafana) == len(prometheus) == len(RULES)
    for rule in RULES:
        ours, theirs = grafana[rule.uid], prometheus[rule.alert]
        (bound,) = ours["data"][2]["model"]["conditions"][0]["evaluator"]["params"]
        assert theirs["expr"] == f"({ours['data'][0]['model']['expr']}) > {bound:g}"
        assert ours["for"] == theirs.get("for", "0s")
        assert ours["labels"] == theirs["labels"]
        assert ours["annotations"]["runbook_url"] == theirs["annotations"]["runbook_url"]


def test_every_rule_points_at_a_panel_that_is_declared():
    """Dashboard uid and panel id of each rule are those of a declared panel, in both places."""
    panels = {(board.uid, panel.id) for board in dashboards() for panel in board.panels}
    for rule in grafana_rules().values():
        assert (rule["dashboardUid"], rule["panelId"]) in panels
        assert rule["annotations"]["__dashboardUid__"] == rule["dashboardUid"]
        assert rule["annotations"]["__panelId__"] == str(rule["panelId"])


def test_a_missing_panel_stops_the_generation():
    """A rule that points at no panel is named in an error."""
    lost = replace(BY_KEY["error-rate"], panel=("otelbridge-llm", "no-such-panel"))
    with pytest.raises(grafana_form.MissingPanelError, match=r"error-rate.*no-such-panel"):
        grafana_form.check_panels((*RULES, lost))


def test_every_runbook_link_leads_to_its_section():
    """The part of `runbook_url` behind # is an anchor of docs/runbooks.md, there once."""
    text = RUNBOOKS.read_text("utf-8")
    for rule in grafana_rules().values():
        anchor = rule["annotations"]["runbook_url"].partition("#")[2]
        assert text.count(f'<a id="{anchor}"></a>') == 1
        assert anchor == rule["uid"]


def test_the_traceql_of_the_runbooks_is_valid():
    """Each TraceQL line of a runbook parses and has types that fit."""
    queries = [look.query for rule in RULES for look in rule.look if look.kind == "traceql"]
    for query in queries:
        validate(parse(query), metrics=False)
    assert len(queries) >= 5


def test_the_promql_of_the_runbooks_is_valid(tmp_path: Path):
    """Each PromQL line of a runbook is taken by promtool as a recording rule."""
    queries = [look.query for rule in RULES for look in rule.look if look.kind == "promql"]
    rules = [{"record": f"looked:at:{at}", "expr": query} for at, query in enumerate(queries)]
    path = tmp_path / "looks.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "looks", "rules": rules}]}), "utf-8")
    assert f"{len(queries)} rules found" in promtool("check", "rules", path)


# -- shapes ----------------------------------------------------------------------------------------
def test_rules_have_the_shape_of_grafanas_provisioning():
    """No unknown key on any level; uids are unique and within Grafana's alphabet and length."""
    document = load(ALERTING / "rules.yaml")
    assert set(document) == {"apiVersion", "groups"}
    uids = []
    for group in document["groups"]:
        assert set(group) == GROUP_KEYS
        for rule in group["rules"]:
            uids.append(rule["uid"])
            assert set(rule) <= RULE_KEYS
            assert rule["condition"] == "C"
            for step, ref in zip(rule["data"], "ABC", strict=True):
                assert set(step) <= DATA_KEYS
                assert step["refId"] == step["model"]["refId"] == ref
                assert set(step["model"]) <= MODEL_KEYS[ref]
                assert step["datasourceUid"] == step["model"]["datasource"]["uid"]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) for uid in uids)
    assert len({rule.title for rule in RULES}) == len(RULES)  # unique within a folder


def test_rules_ask_a_data_source_that_is_provisioned():
    """The query's uid is one of the provisioned Prometheus data sources."""
    document = load(GRAFANA / "provisioning" / "datasources" / "otelbridge.yaml")
    sources = {source["uid"] for source in document["datasources"]}
    assert {rule["data"][0]["datasourceUid"] for rule in grafana_rules().values()} <= sources


def test_an_empty_answer_alerts_only_where_there_always_is_one():
    """noDataState is OK for filtered queries; one rule alone tells when Prometheus fails them."""
    for uid, rule in grafana_rules().items():
        gone = uid == "otelbridge-collector-gone"
        assert rule["noDataState"] == ("Alerting" if gone else "OK")
        assert rule["execErrState"] == ("Alerting" if gone else "KeepLast")


def test_only_labels_and_titles_that_grafana_expands_are_free_of_dollar_signs():
    """Titles and labels hold no variable; annotations use the two that templates have."""
    for rule in grafana_rules().values():
        assert "$" not in rule["title"] + "".join(rule["labels"].values())
        used = set(re.findall(r"\$[\w.]+", str(rule["annotations"])))
        assert all(name == "$values.B.Value" or name.startswith("$labels.") for name in used)
    for rule in prometheus_rules().values():
        used = set(re.findall(r"\$[\w.]+", str(rule["annotations"])))
        assert all(name == "$value" or name.startswith("$labels.") for name in used)


def test_a_label_that_a_series_lacks_is_a_dash_in_the_sentence():
    """Each label is behind a condition with a dash for its other case, in both files."""
    for rule in (*grafana_rules().values(), *prometheus_rules().values()):
        text = str(rule["annotations"])
        names = re.findall(r"\{\{ \$labels\.(\w+) \}\}", text)
        for name in names:
            label = f"$labels.{name}"
            guarded = f"{{{{ if {label} }}}}{{{{ {label} }}}}{{{{ else }}}}-{{{{ end }}}}"
            assert text.count(guarded) == names.count(name)


def test_annotations_name_labels_that_the_expression_keeps():
    """A label in a sentence is one that the rule's expression groups by or computes."""
    for rule in RULES:
        named = set(re.findall(r"\{(\w+)\}", rule.summary + rule.description)) - {"value"}
        kept = {
            label.strip()
            for labels in re.findall(r"by \(([^)]*)\)", rule.value)
            for label in labels.split(",")
        }
        assert named <= kept, rule.key


# -- contact points, routes, messages --------------------------------------------------------------
def test_contact_points_take_their_addresses_from_the_environment():
    """After Grafana's expansion every e-mail and Slack receiver holds the two variables."""
    document = provisioned(load(ALERTING / "contact-points.yaml"), ENVIRONMENT)
    assert set(document) == {"apiVersion", "contactPoints"}
    uids = []
    for point in document["contactPoints"]:
        assert set(point) == {"orgId", "name", "receivers"}
        for receiver in point["receivers"]:
            assert set(receiver) == {"uid", "type", "settings", "disableResolveMessage"}
            uids.append(receiver["uid"])
            address = {"email": "addresses", "slack": "url"}[receiver["type"]]
            assert receiver["settings"][address] in ENVIRONMENT.values()
            assert "$" not in str(receiver["settings"])
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 for uid in uids)


def test_the_inert_defaults_are_not_empty_and_written_down():
    """The header of the file names a value for each variable, under a name that never resolves."""
    text = (ALERTING / "contact-points.yaml").read_text("utf-8")
    assert set(notifications.INERT_DEFAULTS) == set(ENVIRONMENT)
    for name, value in notifications.INERT_DEFAULTS.items():
        assert f"{name}: {value}" in text
        assert re.search(r"[@/]otelbridge\.invalid|[@/]slack\.otelbridge\.invalid", value)


def test_routes_send_by_severity_to_points_that_exist():
    """Each severity has one route; critical goes to e-mail and Slack; names refer to what is."""
    document = load(ALERTING / "policies.yaml")
    assert set(document) == {"apiVersion", "policies", "muteTimes"}
    points = {
        point["name"]: {receiver["type"] for receiver in point["receivers"]}
        for point in load(ALERTING / "contact-points.yaml")["contactPoints"]
    }
    mutes = {mute["name"] for mute in document["muteTimes"]}
    (root,) = document["policies"]
    routes = {route["object_matchers"][1][2]: route for route in root["routes"]}
    assert set(routes) == {rule.severity for rule in RULES} == {"critical", "warning", "info"}
    for route in (root, *root["routes"]):
        assert set(route) - {"orgId"} <= ROUTE_KEYS
        assert route["receiver"] in points
        assert set(route.get("mute_time_intervals", ())) <= mutes
    assert points[routes["critical"]["receiver"]] == {"email", "slack"}
    assert points[routes["warning"]["receiver"]] == {"slack"}
    assert points[routes["info"]["receiver"]] == {"email"}
    assert "$" not in str(document)


def test_messages_survive_grafanas_expansion_and_are_the_ones_that_are_used():
    """Templates hold no dollar sign; those that contact points name are defined; links are in."""
    document = load(ALERTING / "templates.yaml")
    (template,) = document["templates"]
    text = template["template"]
    assert provisioned(text, {}) == text
    assert text.count("{{") == text.count("}}")
    used = re.findall(r'template "([\w.]+)"', (ALERTING / "contact-points.yaml").read_text("utf-8"))
    assert set(used) == set(re.findall(r'define "([\w.]+)"', text))
    assert all(part in text for part in (".PanelURL", ".Annotations.runbook_url", ".SilenceURL"))


# -- Prometheus ------------------------------------------------------------------------------------
def test_promtool_takes_the_rules_and_the_scrape_configuration():
    """promtool finds both rule files and the configuration that loads them valid."""
    said = promtool("check", "rules", *sorted(PROMETHEUS.glob("*.rules.yaml")))
    assert f"{len(RULES)} rules found" in said
    assert "2 rule files found" in promtool("check", "config", PROMETHEUS / "prometheus.yaml")


def test_the_budget_file_records_the_name_that_alerts_read():
    """One series without labels: a positive number of dollars."""
    (group,) = load(PROMETHEUS / "budget.rules.yaml")["groups"]
    (rule,) = group["rules"]
    assert rule["record"] == BUDGET
    assert float(re.fullmatch(r"vector\((.+)\)", rule["expr"])[1]) > 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("timeline", TIMELINES, ids=lambda path: path.name.split(".")[0])
def test_the_timelines_of_the_rules_hold(timeline: Path):
    """promtool finds each alert firing and quiet when its timeline says so."""
    assert "SUCCESS" in promtool("test", "rules", timeline)


def test_every_rule_has_a_firing_and_a_quiet_timeline():
    """For each alert some timeline expects it to fire and some expects it not to."""
    fires: set[str] = set()
    quiet: set[str] = set()
    names = {rule.alert for rule in RULES}
    for path in TIMELINES:
        for case in load(path)["tests"]:
            for step in case["promql_expr_test"]:
                found = re.search(r'ALERTS\{alertname(=~?)"([^"]+)"', step["expr"])
                if found is None:
                    continue
                matched = {name for name in names if re.fullmatch(found[2], name)}
                samples = step.get("exp_samples", [])
                said = set(re.findall(r'alertname="(\w+)"', str(samples)))
                if samples:
                    fires |= said or (matched if found[1] == "=" else set())
                else:
                    quiet |= matched
    assert fires >= names
    assert quiet >= names
