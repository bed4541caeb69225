"""docs/grafana.md says what is there: paths, names, variables, queries, tables, pictures, commands.

Its generated tables are written by `python -m grafana.guide_tables`. What only a real Grafana can
show is a checklist in the guide itself. Its examples are run in test_guide_examples.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from itertools import chain
from pathlib import Path

import pytest
import yaml

from grafana import guide_tables
from grafana.alerts_src.notifications import CHANNEL, DIGEST, PAGE
from grafana.alerts_src.text import GROUPS, RULES
from grafana.dashboards_src import index
from otelbridge import env
from otelbridge.local.traceql.lint import lint
from otelbridge.local.traceql.parser import parse
from otelbridge.local.traceql.validate import validate
from tests.grafana.provisioning import GRAFANA, LOKI_DATASOURCES, load

ROOT = GRAFANA.parent
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
PAGE_TEXT = (DOCS / "grafana.md").read_text("utf-8")
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]+?) -->\n\n?)?```(?P<kind>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PROSE = FENCE.sub("", PAGE_TEXT)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
DASHBOARDS = index.dashboards()
NUMBERS = {3: "three", 4: "four", 7: "seven", 19: "nineteen", 20: "twenty"}
MAX_PICTURE_BYTES = 80_000
#: What Grafana and Langfuse call things of their own.
THEIRS = {
    "No data", "Test", "Error", "New → Import", "Metadata", "Alerting → Alert rules",
    "Contact points", "Connections → Data sources", "Links", "Spans", "All", "Logs for this span",
    "Administration → Plugins and data → Correlations", "Query with otelbridge Tempo",
}  # fmt: skip


def block(mark: str) -> str:
    """The one fenced block with this mark above it."""
    (found,) = (each["text"] for each in FENCE.finditer(PAGE_TEXT) if each["mark"] == mark)
    return found


def lines_of(kind: str) -> list[str]:
    """The lines of all blocks of this language."""
    texts = (each["text"] for each in FENCE.finditer(PAGE_TEXT) if each["kind"] == kind)
    return [line for text in texts for line in text.splitlines() if line]


def variables_of(path: Path) -> set[str]:
    """What Grafana replaces in a provisioning file."""
    text = "\n".join(
        line for line in path.read_text("utf-8").splitlines() if not line.strip().startswith("#")
    )
    return set(re.findall(r"(?<!\$)\$\{?([A-Z][A-Z0-9_]+)", text))


def provisioning_variables() -> set[str]:
    files = [*(GRAFANA / "provisioning").rglob("*.yaml"), LOKI_DATASOURCES]
    return set().union(*(variables_of(path) for path in files))


# -- generated parts -------------------------------------------------------------------------------
def test_the_tables_are_what_dashboards_and_alerts_declare():
    """`python -m grafana.guide_tables` would change nothing."""
    assert guide_tables.with_parts(PAGE_TEXT) == PAGE_TEXT


def test_a_part_without_a_place_is_told():
    """A dashboard that the page has no place for stops the writer."""
    page = PAGE_TEXT.replace("<!-- generated: panels of otelbridge-llm -->", "")
    with pytest.raises(ValueError, match="panels of otelbridge-llm"):
        guide_tables.with_parts(page)


def test_the_table_of_emitters_is_the_index():
    """Read back cell by cell: figure, panel and each sender."""
    panels = {(each.uid, panel.key): panel for each in DASHBOARDS for panel in each.panels}
    table = PAGE_TEXT.partition("<!-- generated: emitters -->\n")[2].partition("\n<!--")[0]
    head, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table.split("\n"))
    assert head[2:] == list(guide_tables.NAMES.values())
    found = {row[0].lower(): row[2:] for row in rows}
    assert found.keys() == {figure.lower() for figure in index.FIGURES}
    for figure, where in index.FIGURES.items():
        fed = panels[where].emitters
        assert found[figure.lower()] == [
            "yes" if name in fed else "-" for name in guide_tables.NAMES
        ], figure


def test_every_dashboard_has_a_section():
    """Its title and uid are a heading, and its file is shipped; no other is named."""
    headings = re.findall(r"^### (.+) \(`(otelbridge-\w+)`\)$", PAGE_TEXT, re.MULTILINE)
    assert headings == [(each.title, each.uid) for each in DASHBOARDS]
    shipped = {path.stem for path in (GRAFANA / "dashboards").glob("*.json")}
    assert {uid for _, uid in headings} == shipped
    assert f"{NUMBERS[len(shipped)]} dashboards" in PAGE_TEXT


def test_every_alert_is_named_and_counted():
    """Each rule has a line that leads to its runbook; the numbers in words are right."""
    for rule in RULES:
        assert f"[`{rule.uid}`](runbooks.md#{rule.uid})" in PAGE_TEXT
    words = f"{NUMBERS[len(RULES)]} rules in {NUMBERS[len(GROUPS)]} groups"
    assert words in PAGE_TEXT
    assert f"{NUMBERS[len(RULES)]} alerts" in PAGE_TEXT


# -- names -----------------------------------------------------------------------------------------
def test_every_path_exists():
    """A path in code, a table or a command leads to a file or folder of this repository."""
    found = set(
        re.findall(r"(?<![\w/.@])(?:grafana|collector|tests|docs)/[\w./*-]*[\w*/]", PAGE_TEXT)
    )
    found -= {"grafana/grafana"}  # an image
    assert len(found) > 20
    assert [path for path in sorted(found) if not list(ROOT.glob(path))] == []


def test_links_resolve():
    """A relative link leads to a file, its anchor to a heading or an anchor there."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGE_TEXT):
        name, _, anchor = target.partition("#")
        path = DOCS / (name or "grafana.md")
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            wrong.append(target)
    assert wrong == []


def _anchors(path: Path) -> set[str]:
    text = path.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {word.replace(" ", "-") for word in words} | set(re.findall(r'<a id="([^"]+)"', text))


def test_every_name_of_ours_is_one():
    """`otelbridge-…` in code is a uid, a scrape job or a receiver that is shipped."""
    known = (
        {rule.uid for rule in RULES} | {each.uid for each in DASHBOARDS} | {PAGE, CHANNEL, DIGEST}
    )
    known |= {source["uid"] for source in load(LOKI_DATASOURCES)["datasources"]}
    scraping = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yaml").read_text("utf-8"))
    known |= {job["job_name"] for job in scraping["scrape_configs"]}
    named = {text for text in CODE if re.fullmatch(r"otelbridge-[a-z0-9-]+", text)}
    assert len(named) > 25
    assert sorted(named - known) == []


def test_every_name_on_the_screen_is_one():
    """Words in italics are titles of ours, or in the list of those of Grafana and Langfuse."""
    panels = [panel for each in DASHBOARDS for panel in each.panels]
    known = {each.title for each in chain(DASHBOARDS, panels)}
    known |= {row.title for each in DASHBOARDS for row in each.rows}
    known |= {variable.label for each in DASHBOARDS for variable in each.variables}
    known |= {link.title for panel in panels for link in panel.links}
    known |= {column.title for panel in panels for column in panel.columns}
    known |= {"Open", "otelbridge"}  # a cell's text, the folder
    for source in load(LOKI_DATASOURCES)["datasources"]:
        known |= {source["name"], *(each["label"] for each in source.get("correlations", ()))}
        fields = source["jsonData"].get("derivedFields", ())
        known |= {field["urlDisplayLabel"] for field in fields}
    emphasised = set(re.findall(r"(?<![*\\\w])\*([^*\n]+)\*(?!\*)", PROSE))
    ordinary = {"yes", "Failing", "retrying"}
    assert len(emphasised) > 25
    assert sorted(emphasised - known - THEIRS - ordinary) == []


def test_every_variable_exists_and_none_is_forgotten():
    """What files of grafana/ read is described; what is described is read somewhere."""
    ours = provisioning_variables()
    assert {name for name in ours if f"| `{name}`" not in PAGE_TEXT} <= {"LOKI_TENANT"}
    declared = {name for variable in env.VARIABLES for name in variable.spellings}
    collector = (DOCS / "collector.md").read_text("utf-8")
    declared |= set(re.findall(r"^\| `(\w+)` \|", collector, re.MULTILINE))
    named = {name for text in CODE for name in re.findall(r"\b[A-Z]+_[A-Z_]+\b", text)}
    assert ours <= named
    assert {name for name in named - ours - declared if not name.startswith("GF_")} == set()


# -- pictures --------------------------------------------------------------------------------------
def test_pictures_are_there_small_and_used():
    """Each picture is in the page with a text beside it; nothing lies around."""
    used = {
        name: text for text, name in re.findall(r"!\[([^\]]*)\]\(pictures/([^)]+)\)", PAGE_TEXT)
    }
    assert used.keys() == {path.name for path in PICTURES.iterdir()}
    assert all(used.values())
    for path in PICTURES.iterdir():
        assert path.stat().st_size < MAX_PICTURE_BYTES
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("path", sorted(PICTURES.glob("*.svg")), ids=lambda path: path.stem)
def test_drawings_are_well_formed_and_say_what_they_are(path: Path):
    """A title, a description, nothing fetched or run, and a note that it is no screenshot."""
    text = path.read_text("utf-8")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.findtext(f"{space}title")
    assert root.findtext(f"{space}desc")
    assert "drawing, not a screenshot" in [node.text for node in root.iter(f"{space}text")]
    kinds = {node.tag.removeprefix(space) for node in root.iter()}
    assert kinds <= {
        "svg", "title", "desc", "defs", "marker", "path", "rect", "text", "circle",
    }  # fmt: skip
    assert "href" not in text


def test_drawings_name_only_what_exists():
    """Variables and attributes in drawings are those of the files."""
    declared = {name for variable in env.VARIABLES for name in variable.spellings}
    declared |= set(re.findall(r"`([A-Z][A-Z_]+)`", (DOCS / "collector.md").read_text("utf-8")))
    known = declared | provisioning_variables()
    for path in PICTURES.glob("*.svg"):
        found = re.findall(
            r">\s*((?:OTELBRIDGE|LANGFUSE|TEMPO|PROMETHEUS|LOKI)_\w+)", path.read_text("utf-8")
        )
        for name in found:  # a name may be broken over two lines
            assert any(full == name or full.startswith(name) for full in known), name


# -- queries ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("query", lines_of("traceql"))
def test_traceql_is_valid_and_without_traps(query: str):
    """Tempo takes it, and no warning says that it means something else."""
    metrics = "over_time" in query or "rate()" in query
    tree = parse(query)
    validate(tree, metrics=metrics)
    found = lint(tree, endpoint="metrics" if metrics else "search")
    assert [each for each in found if each.severity == "warning"] == []


def test_promql_is_valid(tmp_path: Path):
    """promtool takes every line as an expression."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool binary: `apt-get install prometheus` (Debian) provides one")
    queries = lines_of("promql")
    assert len(queries) >= 4
    rules = [{"record": f"guide:{number}", "expr": text} for number, text in enumerate(queries)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "guide", "rules": rules}]}), "utf-8")
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=none", str(file)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# -- figures ---------------------------------------------------------------------------------------
def test_figures_are_those_of_the_files():
    """The cap of series, the budget, thresholds of time that the page states."""
    metrics = (DOCS / "metrics.md").read_text("utf-8")
    cap = re.search(r"`OTELBRIDGE_COLLECTOR_METRICS_USER_SERIES` \(([\d,]+)\)", metrics)
    assert cap
    assert f"`OTELBRIDGE_COLLECTOR_METRICS_USER_SERIES` ({cap[1]})" in PAGE_TEXT
    budget = (GRAFANA / "prometheus" / "budget.rules.yaml").read_text("utf-8")
    stated = re.search(r"`(vector\(\d+\))`: (\d+) USD", PAGE_TEXT)
    assert stated
    assert f"expr: {stated[1]}" in budget
    assert stated[1] == f"vector({stated[2]})"
    overlay = yaml.safe_load((ROOT / "collector" / "overlays" / "user-metrics.yaml").read_text())
    stale = re.search(r"'max_stale': '(\w+)'", str(overlay))
    assert stale
    assert f"without calls for {stale[1].removesuffix('h')} hours" in PAGE_TEXT


def test_routing_is_that_of_the_policies():
    """Each severity's receiver and pause between repetitions."""
    words = {"1h": "every hour", "12h": "every 12 hours", "168h": "weekly"}
    policies = load(GRAFANA / "provisioning" / "alerting" / "policies.yaml")["policies"]
    for route in policies[0]["routes"]:
        severity = {name: value for name, _, value in route["object_matchers"]}["severity"]
        (row,) = re.findall(rf"^\| {severity} \| (.+) \| (.+) \|$", PAGE_TEXT, re.MULTILINE)
        assert row[0].startswith(f"`{route['receiver']}`: ")
        assert row[1] == words[route["repeat_interval"]]
