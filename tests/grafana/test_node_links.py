"""Data links of table panels, evaluated by Grafana's own code and then followed.

Frames are made of real answers of `otelbridge local`, as the Tempo source makes them
(`node_frames`); @grafana/data applies each panel's transformations and field configuration and
gives the links, with variables filled in by @grafana/scenes. What a click opens is requested.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from otelbridge import semconv
from otelbridge.local.langfuse_preview import Project
from otelbridge.local.server import LocalServer
from tests.grafana import node_dashboards as dashboards
from tests.grafana import node_frames, node_tools, node_traces

pytestmark = pytest.mark.timeout(400)  # the first test may install the packages

#: A panel of our own, so that a fault of a dashboard and one of this test are told apart.
QUERY = "{ } | select(span.otelbridge.langfuse.url, span.gen_ai.request.model)"
PANEL: dict[str, Any] = {
    "type": "table",
    "title": "own",
    "targets": [{"tableType": "spans", "query": QUERY, "limit": 100, "spss": 20}],
    "fieldConfig": {
        "defaults": {},
        "overrides": [
            {
                "matcher": {"id": "byName", "options": semconv.LANGFUSE_URL},
                "properties": [
                    {
                        "id": "links",
                        "value": [{"title": "Langfuse", "url": "${__value.raw}"}],
                    }
                ],
            },
            {
                "matcher": {"id": "byName", "options": "spanID"},
                "properties": [
                    {
                        "id": "links",
                        "value": [
                            {
                                "title": "Trace view",
                                "url": "/d/otelbridge-traces?${__url_time_range}"
                                "&var-traceId=${__data.fields.traceIdHidden}",
                            }
                        ],
                    }
                ],
            },
        ],
    },
}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """An HTTP client without proxies."""
    with httpx.Client(trust_env=False, timeout=10) as http:
        yield http


@pytest.fixture(scope="module")
def sent(client: httpx.Client) -> Iterator[node_traces.Sent]:
    """`otelbridge local` with fifty traces and every recorded emitter; spans have their pages."""
    with LocalServer(project=Project("proj", "pk", "sk")) as server:
        yield node_traces.send(server, client)


@pytest.fixture(scope="module")
def unlinked(client: httpx.Client) -> Iterator[node_traces.Sent]:
    """The same where Langfuse is not configured: no span has a page."""
    with LocalServer(preview_raw=False) as server:
        yield node_traces.send(server, client)


def shown(
    sent: node_traces.Sent,
    panel: dict[str, Any],
    dashboard: dict[str, Any],
    choice: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The panel's table as Grafana has it: rows of the frame, and fields by name with their cells.

    choice: Variable name → the one value chosen; all others stand on All.
    """
    variables = dashboards.templating(dashboard)
    values = dashboards.chosen(variables, dashboards.ALL, sent.jump)
    values |= {name: {"value": [value]} for name, value in (choice or {}).items()}
    (target,) = panel["targets"]
    case = {
        "templating": variables, "values": values, "range": dashboards.RANGE,
        "scoped": dashboards.SCOPED,
        "texts": [{"text": target["query"], "language": "traceql"}],
    }  # fmt: skip
    ((filled,),) = node_tools.ask("variables", cases=[case])
    answer = sent.search(filled["text"], limit=target.get("limit"), spss=target.get("spss"))
    spans = target["tableType"] == "spans"
    frame = (node_frames.spans_frame if spans else node_frames.traces_frame)(answer)
    (table,) = node_tools.ask(
        "links", frames=[frame], panel=panel, templating=variables, values=values,
        range=dashboards.RANGE,
    )  # fmt: skip
    # Rows come from the frame, which has all ids, in the order that transformations gave the table.
    names = [field["name"] for field in frame["schema"]["fields"]]
    values = zip(*frame["data"]["values"], strict=True)
    key = "spanID" if spans else "traceID"
    by_id = {row[key]: row for row in (dict(zip(names, one, strict=True)) for one in values)}
    fields = {field["name"]: field for field in table["fields"]}
    return {"rows": [by_id[cell["text"]] for cell in fields[key]["cells"]], "fields": fields}


def clickable(table: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Row, column and href of all that a user can click in a table."""
    for name, column in table["fields"].items():
        if not column["hidden"]:
            for row, cell in zip(table["rows"], column["cells"], strict=True):
                for link in cell["clickable"]:
                    yield row, name, link["href"]


def check(sent: node_traces.Sent, table: dict[str, Any]) -> set[str]:
    """Hold every link of a spans table to its span; gives the ids of traces with a page linked."""
    linked: set[str] = set()
    for row, column, href in clickable(table):
        trace_id = sent.trace_of[row["spanID"]]
        if not href.startswith("/explore"):
            assert not re.search(r"%7B|\$\{|undefined", href), "a variable is left over"
        if href.startswith(sent.server.langfuse_url):
            assert href == sent.page(row["spanID"]), column
            linked.add(trace_id)
        elif href.startswith("/d/"):
            parameters = parse_qs(urlsplit(href).query, keep_blank_values=True)
            for value in parameters.get("var-traceId", []):
                assert value.zfill(32) == trace_id, column
        else:
            assert href.startswith("/explore?left="), f"{column}: {href} leads nowhere known"
            pane = json.loads(parse_qs(urlsplit(href).query)["left"][0])
            assert pane["queries"][0]["query"].zfill(32) == trace_id
            assert pane["panelsState"]["trace"]["spanId"] == row["spanID"]
    return linked


def tables() -> list[Any]:
    """Every table panel over spans of every committed dashboard, with its dashboard."""
    return [
        pytest.param(dashboard, panel, id=f"{dashboard['uid']}/{panel['title']}")
        for dashboard in dashboards.load()
        for panel in dashboards.panels(dashboard)
        if panel["type"] == "table" and dashboards.is_search(panel)
    ]


# -- the method, on a panel of our own -------------------------------------------------------------
def test_links_of_fifty_traces_are_right_and_answered(sent, client):
    """Each model span of fifty traces has one link, which the preview answers with its page."""
    table = shown(sent, PANEL, {})
    linked = check(sent, table)
    hrefs = {row["spanID"]: href for row, column, href in clickable(table)
             if column == semconv.LANGFUSE_URL}  # fmt: skip
    assert sent.llm <= hrefs.keys()
    assert len({sent.trace_of[span] for span in sent.llm}) == node_traces.TRACES
    assert any(trace.startswith("000000") for trace in linked)
    for span_id in sent.llm:
        page = client.get(hrefs[span_id])
        assert page.status_code == 200
        assert f"trace <code>{sent.trace_of[span_id]}</code>" in page.text
        assert re.search(rf"<tr class=on>.*?observation={span_id}", page.text)  # it is selected


def test_spans_without_a_page_have_no_link(sent):
    """A span that Langfuse does not have gives nothing to click in the Langfuse column."""
    table = shown(sent, PANEL, {})
    without = {row["spanID"] for row in table["rows"]} & sent.plain
    assert len(without) >= node_traces.TRACES
    columns = [(row["spanID"], column) for row, column, _ in clickable(table)]
    assert not without & {span for span, column in columns if column == semconv.LANGFUSE_URL}


def test_without_langfuse_there_is_no_column(unlinked):
    """Where Langfuse is not configured the frame has no such field, so nothing to click."""
    table = shown(unlinked, PANEL, {})
    assert semconv.LANGFUSE_URL not in table["fields"]
    assert all(href.startswith(("/d/", "/explore")) for _, _, href in clickable(table))


@pytest.mark.parametrize("field", ["traceID", "traceId"])
def test_another_spelling_of_the_trace_id_is_found_out(sent, field):
    """The spans table has neither traceID nor traceId; a link that names one fails these checks."""
    panel = copy.deepcopy(PANEL)
    (link,) = panel["fieldConfig"]["overrides"][1]["properties"][0]["value"]
    link["url"] = link["url"].replace("traceIdHidden", field)
    hrefs = [href for _, column, href in clickable(shown(sent, panel, {})) if column == "spanID"]
    assert any(href.endswith("&var-traceId=") for href in hrefs)
    with pytest.raises(AssertionError):
        check(sent, shown(sent, panel, {}))


def test_overrides_do_not_reach_the_traces_panel(sent):
    """The traces panel registers no field options: the same links exist in a table, not in it."""
    found = {}
    for kind in ("table", "traces"):
        table = shown(sent, {**PANEL, "type": kind}, {})
        found[kind] = {column for _, column, href in clickable(table) if "/explore" not in href}
    assert found == {"table": {"spanID", semconv.LANGFUSE_URL}, "traces": set()}


def test_a_link_made_of_a_search_result_id_loses_leading_zeros(sent):
    """Tempo's search leaves leading zeros out, so only the span's own address leads to Langfuse."""
    panel = copy.deepcopy(PANEL)
    panel["targets"][0]["tableType"] = "traces"
    rule = panel["fieldConfig"]["overrides"][0]
    rule["matcher"]["options"] = "traceID"
    rule["properties"][0]["value"][0]["url"] = "https://lf.example/traces/${__value.raw}"
    table = shown(sent, panel, {})
    hrefs = {href for _, _, href in clickable(table) if href.startswith("https://lf.example")}
    whole = {f"https://lf.example/traces/{sent.trace_of[span]}" for span in sent.llm}
    assert f"https://lf.example/traces/{sent.jump}" in hrefs - whole
    assert hrefs & whole


@pytest.mark.parametrize(
    ("value", "arrives"),
    [("o'hara \"x\"", True), ("gpt-4.1 (a|b)", True), ("é 漢", True), ("a=b;c,d:e@f", True),
     ("a & b", False), ("a#b", False), ("a+b", False), ("100%25", False)],
)  # fmt: skip
def test_variables_in_a_jump_between_dashboards(value, arrives):
    """A jump keeps chosen values, but for those with & # + or an escape, which Grafana decodes."""
    variable = {"name": "user", "type": "query", "multi": True, "includeAll": True, "query": "x"}
    panel = copy.deepcopy(PANEL)
    (link,) = panel["fieldConfig"]["overrides"][1]["properties"][0]["value"]
    link["url"] = "/d/otelbridge-traces?${user:queryparam}&var-traceId=${__value.raw}"
    (table,) = node_tools.ask(
        "links", frames=[node_frames.table_frame({"spanID": ["0a"]})], panel=panel,
        templating=[variable], values={"user": {"value": [value]}}, range=dashboards.RANGE,
    )  # fmt: skip
    ((found,),) = (cell["clickable"] for cell in table["fields"][0]["cells"])
    parameters = parse_qs(urlsplit(found["href"]).query, keep_blank_values=True)
    assert (parameters["var-user"] == [value]) is arrives


@pytest.mark.parametrize(
    ("project", "arrives"),
    [("my%20project", True), ("%C3%A9", True), ("a%22b", True), ("a.b_c-d~e", True),
     ("a%26b", True), ("a%2Fb", False), ("a%3Fb", False), ("a%23b", False)],
)  # fmt: skip
def test_percent_escapes_in_the_address(project, arrives):
    """Grafana undoes percent escapes in links: of project ids, only those with / ? # get lost."""
    url = f"https://lf.example/project/{project}/traces/{'0a' * 16}?observation={'0b' * 8}"
    (table,) = node_tools.ask(
        "links", frames=[node_frames.table_frame({semconv.LANGFUSE_URL: [url]})], panel=PANEL,
        templating=[], values={}, range=dashboards.RANGE,
    )  # fmt: skip
    ((link,),) = (cell["clickable"] for cell in table["fields"][0]["cells"])
    path = unquote(urlsplit(link["href"]).path)
    assert (path == unquote(urlsplit(url).path) and "%2F" not in url) is arrives


# -- the committed dashboards ----------------------------------------------------------------------
def test_every_column_link_is_in_a_table_that_is_checked():
    """Column links are in spans tables only, which the tests below evaluate one by one."""
    checked = [parameters.values[1] for parameters in tables()]
    for dashboard in dashboards.load():
        for panel in dashboards.panels(dashboard):
            if dashboards.column_links(panel):
                assert panel in checked, panel["title"]
                assert panel["targets"][0]["tableType"] == "spans", panel["title"]


@pytest.mark.parametrize(("dashboard", "panel"), tables())
def test_table_links_lead_to_the_same_span(sent, client, dashboard, panel):
    """Each link of a table leads to its row's span and trace; those to Langfuse are answered."""
    table = shown(sent, panel, dashboard)
    assert table["rows"], "no span of node_traces.py is found: add one, or no link is checked"
    linked = check(sent, table)
    assert linked, "not one row has a link to Langfuse"
    pages = [href for _, _, href in clickable(table) if href.startswith(sent.server.langfuse_url)]
    for href in sorted(set(pages))[:5]:
        assert client.get(href).status_code == 200


@pytest.mark.parametrize(("dashboard", "panel"), tables())
def test_table_without_langfuse_has_no_link_to_it(unlinked, dashboard, panel):
    """Without Langfuse a table has rows but no link there; one of linked spans only is empty."""
    table = shown(unlinked, panel, dashboard)
    wants_linked = f"span.{semconv.LANGFUSE_URL} != nil" in panel["targets"][0]["query"]
    assert bool(table["rows"]) is not wants_linked
    assert all(href.startswith(("/d/", "/explore")) for _, _, href in clickable(table))


@pytest.mark.parametrize(("dashboard", "panel"), tables())
def test_columns_that_a_panel_names_are_shown(sent, dashboard, panel):
    """A column with a setting of its own is no field that the source hides."""
    table = shown(sent, panel, dashboard)
    named = {
        rule["matcher"]["options"]
        for rule in panel["fieldConfig"]["overrides"]
        if rule["matcher"]["id"] == "byName"
    }
    hidden = {name for name in named & table["fields"].keys() if table["fields"][name]["hidden"]}
    # `name` is hidden unless the query selects it: Tempo answers no names otherwise.
    assert not hidden - {"traceIdHidden"}


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [("model", "gen_ai.request.model", node_traces.MODELS[1]),
     ("user", "langfuse.user.id", node_traces.USERS[1])],
)  # fmt: skip
def test_a_chosen_value_is_what_tables_show(sent, variable, field, value):
    """A model or user with quotes, brackets and `|` in its name, if chosen, alone is left."""
    seen = 0
    for parameters in tables():
        dashboard, panel = parameters.values
        if f"{{{variable}:" in panel["targets"][0]["query"]:
            table = shown(sent, panel, dashboard, {variable: value})
            columns = table["fields"]
            if field in columns:
                found = {cell["text"] for cell in columns[field]["cells"]}
                seen += 1
                assert found == {value}, panel["title"]
    assert seen
