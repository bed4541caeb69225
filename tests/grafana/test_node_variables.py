"""Queries and links of all panels with variables filled in by @grafana/scenes.

Each query is filled with All, one value, several, and values with quotes, backslashes and
characters of regular expressions, by the rules of its data source (node/variables.js), and parsed:
PromQL by the grammar of Prometheus' own editor and by promtool where that is installed, TraceQL by
ours. And values mean themselves: the filled expressions match what was chosen and nothing else.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from otelbridge.local.traceql import parser
from otelbridge.local.traceql.errors import TraceQLError
from tests.grafana import node_dashboards as dashboards
from tests.grafana import node_tools

pytestmark = pytest.mark.timeout(400)  # the first test may install the packages

#: Since when Prometheus' source escapes double quotes is a switch; without it only quotes break.
TOGGLE = {"featureToggles": {"prometheusSpecialCharsInLabelValues": True}}
VARIABLE = {"name": "model", "type": "query", "multi": True, "includeAll": True,
            "allValue": ".*", "query": "x"}  # fmt: skip
KINDS = [pytest.param(kind, id=kind.replace(" ", "-")) for kind in dashboards.CHOICES]


def filled(
    variables: list[dict[str, Any]], texts: list[tuple[str, str]], kind: str, **settings: Any
) -> list[dict[str, Any]]:
    """`text` and `mistake` for each pair of language and text."""
    case = {
        "templating": variables,
        "values": dashboards.chosen(variables, kind),
        "range": dashboards.RANGE,
        "scoped": dashboards.SCOPED,
        "texts": [{"language": language, "text": text} for language, text in texts],
    }
    (answer,) = node_tools.ask("variables", cases=[case], settings=settings or TOGGLE)
    return answer


def leftover(text: str) -> list[str]:
    """Variables that nobody filled in; `$` at the end of an expression is none."""
    return re.findall(r"\$\{\w[^}]*\}|\$[A-Za-z_]\w*|\[\[\w+\]\]", text)


def per_dashboard() -> list[Any]:
    """Each committed dashboard."""
    return [pytest.param(dashboard, id=dashboard["uid"]) for dashboard in dashboards.load()]


# -- the method ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_double_quoted_promql_matches_what_was_chosen(kind):
    """`=~"$model"` matches each chosen value whole, after Prometheus has read the string."""
    (answer,) = filled([VARIABLE], [("promql", 'x{m=~"$model"}')], kind)
    assert answer["mistake"] is None
    (string,) = re.findall(r'=~("(?:[^"\\]|\\.)*")', answer["text"])
    pattern = re.compile(ast.literal_eval(string))
    for value in dashboards.CHOICES[kind]:
        assert pattern.fullmatch("gpt-4.1" if value == "$__all" else value)
    assert kind == dashboards.ALL or not pattern.fullmatch("another")
    assert not (kind == "one" and pattern.fullmatch("gpt-4x1"))


@pytest.mark.parametrize("kind", KINDS)
def test_backticks_match_what_was_chosen(kind):
    """`${model:regex}` in backticks, where a backslash is one, matches each chosen value whole."""
    texts = [("traceql", "{ .m =~ `${model:regex}` }"), ("promql", "x{m=~`${model:regex}`}")]
    traceql, promql = filled([VARIABLE], texts, kind)
    parser.parse(traceql["text"])
    assert promql["mistake"] is None
    for answer in (traceql, promql):
        (written,) = re.findall(r"`([^`]*)`", answer["text"])
        pattern = re.compile(written)
        for value in dashboards.CHOICES[kind]:
            assert pattern.fullmatch("gpt-4.1" if value == "$__all" else value)
        assert kind == dashboards.ALL or not pattern.fullmatch("another")
        assert not (kind == "one" and pattern.fullmatch("gpt-4x1"))


def test_forms_that_break_are_found_out():
    """In double quotes `:regex` leaves an escape that TraceQL refuses; PromQL does not close."""
    texts = [("traceql", '{ .m =~ "${model:regex}" }'), ("promql", 'sum(x{m=~"$model"}')]
    traceql, promql = filled([VARIABLE], texts, "one")
    with pytest.raises(TraceQLError):
        parser.parse(traceql["text"])
    assert promql["mistake"] is not None
    assert leftover(filled([VARIABLE], [("plain", "/d/x?a=$nobody")], "one")[0]["text"])


def test_without_its_switch_grafana_does_not_escape_double_quotes():
    """A chosen value with `"` breaks PromQL in a Grafana without that switch; others do not."""
    text = [("promql", 'x{m=~"$model"}')]
    without = {"featureToggles": {}}
    broken = {
        kind
        for kind in dashboards.CHOICES
        if filled([VARIABLE], text, kind, **without)[0]["mistake"] is not None
    }
    assert broken == {"double quote"}


# -- the committed dashboards ----------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dashboard", per_dashboard())
def test_queries_parse_with_every_choice(dashboard, kind):
    """Each query of each panel has all its variables and parses, whatever was chosen."""
    texts = [
        (panel["title"], query)
        for panel in dashboards.panels(dashboard)
        for query in dashboards.queries(panel)
    ]
    answers = filled(dashboards.templating(dashboard), [query for _, query in texts], kind)
    for (title, (language, _)), answer in zip(texts, answers, strict=True):
        text = answer["text"]
        if kind != "expression characters":  # a `$` of a value is no variable
            assert not leftover(text), f"{title}: {text}"
        if language == "promql":
            assert answer["mistake"] is None, f"{title}: {text[: answer['mistake'] + 1]}"
        elif language == "traceql" and text != dashboards.SAMPLE_TRACE:
            parser.parse(text)


@pytest.mark.parametrize("dashboard", per_dashboard())
def test_promtool_accepts_every_promql(dashboard, tmp_path):
    """Prometheus' own parser accepts each PromQL query with each choice, as a recording rule."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: the editor's grammar alone has judged PromQL")
    texts = [
        query
        for panel in dashboards.panels(dashboard)
        for query in dashboards.queries(panel)
        if query[0] == "promql"
    ]
    rules = []
    for number, kind in enumerate(dashboards.CHOICES):
        for place, answer in enumerate(filled(dashboards.templating(dashboard), texts, kind)):
            rules.append({"record": f"choice{number}:query{place}", "expr": answer["text"]})
    if not rules:
        pytest.skip("this dashboard asks Prometheus nothing")
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("dashboard", per_dashboard())
def test_links_between_pages_are_filled_in(dashboard):
    """Links on top of a dashboard and of its panels lead to one that exists and keep variables."""
    urls = [("plain", link["url"]) for link in dashboards.page_links(dashboard) if link.get("url")]
    known = {each["uid"] for each in dashboards.load()}
    named = {found[1] for _, url in urls if (found := re.match(r"/d/([\w-]+)", url))}
    assert named <= known
    for kind in dashboards.CHOICES:
        for (_, url), answer in zip(
            urls, filled(dashboards.templating(dashboard), urls, kind), strict=True
        ):
            if kind != "expression characters":
                assert set(leftover(answer["text"])) <= {"$__all"}, url
            if "${__url_time_range}" in url:
                assert "from=now-6h&to=now" in answer["text"]
