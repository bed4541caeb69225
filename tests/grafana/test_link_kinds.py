"""Every kind of link followed, over answers of a real Tempo API, to the preview and back.

Two ways that spans may come: every recorded emitter straight into `otelbridge local`, and the
filled stack (`filling.py`) with the real Collector, the demo's services and Prometheus. What
Grafana does between an answer and a link is restated in `correlations`, `explore` and here; links
of dashboard tables are in the tests that run Grafana's own libraries.
"""

from __future__ import annotations

import base64
import html
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import pytest

from otelbridge import links, policy, semconv
from otelbridge.local.langfuse_preview import Project
from otelbridge.local.nodes import attributes
from otelbridge.local.server import LocalServer
from otelbridge.span_rules import Pages
from tests.collector.emitters import corpus
from tests.grafana.correlations import Link, as_json, row_links
from tests.grafana.explore import opened
from tests.grafana.provisioning import DATASOURCES, datasource, load, provisioned

TRACES = 50
GRAFANA_URL = "http://grafana.example:3000"  # as in filling.py
JSON = {"content-type": "application/json"}
# The first test to come pays for the fill.
pytestmark = pytest.mark.timeout(150)


@dataclass
class World:
    """One Tempo API and one preview, and the traces that both were sent.

    Attributes:
        traces: Ids of traces with LLM work, of every emitter in turn, and of those without.
    """

    server: LocalServer
    traces: list[str]
    known: dict[tuple[str, str], Any] = field(default_factory=dict)  # nothing arrives any more
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    @cached_property
    def document(self) -> dict[str, Any]:
        """The data sources as Grafana has them once `otelbridge link --print-env` was obeyed."""
        pages = Pages(self.server.langfuse_url, self.server.project.project_id)
        value = links.grafana_trace_link(pages)
        assert value is not None
        document = provisioned(load(DATASOURCES), {"OTELBRIDGE_LANGFUSE_TRACE_LINK": value})
        assert isinstance(document, dict)
        return document

    @cached_property
    def correlations(self) -> list[dict[str, Any]]:
        found = datasource(self.document, "otelbridge-tempo")["correlations"]
        assert isinstance(found, list)
        return found

    def rows(self, trace_id: str) -> list[dict[str, Any]]:
        """The rows of the trace frame, as the plugin makes them of Tempo's answer."""
        if ("rows", trace_id) not in self.known:
            reply = self.http.get(f"{self.server.tempo_url}/api/v2/traces/{trace_id}")
            assert reply.status_code == 200
            self.known["rows", trace_id] = [
                span_row(span)
                for group in reply.json()["trace"]["resourceSpans"]
                for scope in group["scopeSpans"]
                for span in scope["spans"]
            ]
        found = self.known["rows", trace_id]
        assert isinstance(found, list)
        return found

    def observations(self, trace_id: str) -> dict[str, dict[str, Any]]:
        """What Langfuse has of a trace, by span id."""
        if ("observations", trace_id) not in self.known:
            project = self.server.project
            reply = self.http.get(
                f"{self.server.langfuse_url}/api/public/v2/observations",
                params={"traceId": trace_id, "fields": "core,metadata", "limit": "1000"},
                auth=(project.public_key, project.secret_key),
            )
            assert reply.status_code == 200
            found = {item["id"]: item for item in reply.json()["data"]}
            self.known["observations", trace_id] = found
        answer = self.known["observations", trace_id]
        assert isinstance(answer, dict)
        return answer

    def follow(self, href: str, trace_id: str, span_id: str | None) -> None:
        """The address answers 200 with this trace, this span being the one that is selected."""
        assert links.ids_of(href) == (trace_id, span_id)
        reply = self.http.get(href)
        assert reply.status_code == 200, href
        assert trace_id in reply.text
        if span_id is not None:
            (chosen,) = re.findall(r"<tr class=on>.*?</tr>", reply.text, re.DOTALL)
            assert f"observation={span_id}" in html.unescape(chosen)

    def expected(self, trace_id: str) -> set[str]:
        """Ids of the gen_ai spans that Langfuse has: those and no others shall have links."""
        here = self.observations(trace_id)
        return {
            row["spanID"]
            for row in self.rows(trace_id)
            if row["spanID"] in here and policy.is_gen_ai(tags_of(row))
        }

    def search(self, query: str) -> list[dict[str, Any]]:
        """The rows of a table of spans: ids, and one column for each selected attribute."""
        params = {"q": query, "limit": "500", "spss": "100"}
        reply = self.http.get(f"{self.server.tempo_url}/api/search", params=params)
        assert reply.status_code == 200, reply.text
        return [
            {"traceIdHidden": trace["traceID"].zfill(32), "spanID": span["spanID"]}
            | attributes(span.get("attributes"))
            for trace in reply.json()["traces"]
            for found in trace["spanSets"]
            for span in found["spans"]
        ]


def span_row(span: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the trace frame: ids in hex, tags as value then key, lists as JSON text."""
    tags = [
        {"value": as_json(value) if isinstance(value, list | dict) else value, "key": key}
        for key, value in attributes(span.get("attributes")).items()
    ]
    return {
        "traceID": base64.b64decode(span["traceId"]).hex(),
        "spanID": base64.b64decode(span["spanId"]).hex(),
        "operationName": span.get("name", ""),
        "startTime": int(span["startTimeUnixNano"]) / 1e6,
        "duration": (int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e6,
        "tags": tags,
    }


def tags_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in row["tags"]}


# -- two worlds ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def recorded_world() -> Iterator[World]:
    """Every recorded emitter, sent to `otelbridge local` as it is; some ids begin with zeros."""
    project = Project("Team_7.a~b", "pk-lf-x", "sk-lf-x")
    with LocalServer(project=project, grafana=Pages(grafana_url=GRAFANA_URL)) as server:
        world = World(server, [])
        while len(world.traces) < TRACES:
            for emitter in corpus.EMITTERS:
                texts, names = corpus.fresh(corpus.lines(emitter))
                ids = [name for name in names if len(name) == 32]
                zeros = {name: "000" + name[3:] for name in ids[::3]}
                whole = "\n".join(texts)
                for old, new in zeros.items():
                    whole = whole.replace(old, new)
                for text in whole.split("\n"):
                    url = f"{server.otlp_http_url}/v1/traces"
                    assert world.http.post(url, content=text, headers=JSON).status_code == 200
                world.traces += [zeros.get(name, name) for name in ids]
        assert any(trace_id.startswith("000") for trace_id in world.traces)
        yield world
        world.http.close()


@pytest.fixture(scope="module")
def filled_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The demo and the five emitters through the real Collector, equally many of each."""
    fill = request.getfixturevalue("fill")
    each = [sorted(found) for found in fill.traces.values()]
    most = max(map(len, each))
    mixed = [found[i] for i in range(most) for found in each if i < len(found)]
    world = World(fill.local, mixed)
    yield world
    world.http.close()


@pytest.fixture(params=["recorded", pytest.param("filled", marks=pytest.mark.collector)])
def world(request: pytest.FixtureRequest) -> World:
    """Each way that spans come."""
    found = request.getfixturevalue(f"{request.param}_world")
    assert isinstance(found, World)
    assert len(found.traces) >= TRACES
    return found


def with_llm_work(world: World) -> list[tuple[str, set[str]]]:
    """The first 50 traces that Langfuse has a gen_ai span of, with those spans' ids."""
    found = []
    for trace_id in world.traces:
        expected = world.expected(trace_id)
        if expected:
            found.append((trace_id, expected))
        if len(found) == TRACES:
            break
    assert len(found) == TRACES
    return found


# -- Explore ---------------------------------------------------------------------------------------
def links_of(world: World, row: Mapping[str, Any], name: str) -> list[Link]:
    return [link for link in row_links(row, world.correlations) if link.field == name]


def test_a_span_in_explore_leads_to_its_observation(world: World):
    """50 traces: each gen_ai span of the view has one link to the same ids, no other has any."""
    followed = 0
    for trace_id, expected in with_llm_work(world):
        linked = set()
        for row in world.rows(trace_id):
            for link in links_of(world, row, "spanID"):
                assert link.title == "Langfuse: this span"
                world.follow(link.href, trace_id, row["spanID"])
                linked.add(row["spanID"])
                followed += 1
        assert linked == expected
    assert followed >= TRACES


def test_a_trace_in_explore_leads_to_its_trace(world: World):
    """50 traces: the second link of the same spans leads to the whole trace, on no other span."""
    for trace_id, expected in with_llm_work(world):
        rows = {row["spanID"]: links_of(world, row, "traceID") for row in world.rows(trace_id)}
        assert {span_id for span_id, found in rows.items() if found} == expected
        (href,) = {link.href for found in rows.values() for link in found}
        world.follow(href, trace_id, None)


def test_spans_without_llm_work_have_no_link_of_any_kind(world: World):
    """HTTP servers, clients and plain steps of all traces: no correlation, no address in a tag."""
    plain = 0
    for trace_id in world.traces:
        for row in world.rows(trace_id):
            tags = tags_of(row)
            if not policy.is_gen_ai(tags):
                plain += 1
                assert semconv.LANGFUSE_URL not in tags
                assert row_links(row, world.correlations) == []
    assert plain >= TRACES


def shown_anchor(value: Any) -> str | None:
    """The address behind a value in the span's details: json-markup, which uses encodeURI."""
    if not isinstance(value, str) or not re.match(r"https?:", value):
        return None
    return urllib.parse.quote(value, safe=";,/?:@&=+$-_.!~*'()#")


def test_the_address_in_a_spans_details_is_a_link(world: World):
    """50 traces: what works wherever a trace is drawn, in dashboards and in Drilldown as well."""
    for trace_id, expected in with_llm_work(world):
        anchors = {
            row["spanID"]: shown_anchor(tags_of(row).get(semconv.LANGFUSE_URL))
            for row in world.rows(trace_id)
        }
        assert {span_id for span_id, href in anchors.items() if href} == expected
        for span_id, href in anchors.items():
            if href:
                world.follow(href, trace_id, span_id)


# -- result tables ---------------------------------------------------------------------------------
def test_a_row_of_a_result_table_leads_to_its_observation(world: World):
    """The column that shipped queries select: 50 traces, by correlation and by its bare value."""
    rows = world.search(
        "{ span.gen_ai.operation.name != nil } | select(span.otelbridge.langfuse.url)"
    )
    traces = set()
    for row in rows:
        found = row_links(row, world.correlations)
        value = row.get(semconv.LANGFUSE_URL)
        assert [link.href for link in found] == ([value] if value else [])
        if value and (row["traceIdHidden"] not in traces and len(traces) < TRACES):
            traces.add(row["traceIdHidden"])
            world.follow(value, row["traceIdHidden"], row["spanID"])
    assert len(traces) == TRACES


def test_rows_without_llm_work_have_no_link(world: World):
    """The column is empty for other spans, and then there is no link."""
    rows = world.search(
        "{ span.gen_ai.operation.name = nil } | select(span.otelbridge.langfuse.url, name)"
    )
    assert len(rows) >= TRACES
    for row in rows:
        assert bool(row_links(row, world.correlations)) == bool(row.get(semconv.LANGFUSE_URL))
        if row.get(semconv.LANGFUSE_URL):  # gen_ai by another key than the operation
            assert row["spanID"] in world.expected(row["traceIdHidden"])


# -- metrics, and the way back ---------------------------------------------------------------------
@pytest.mark.collector
@pytest.mark.parametrize("metric", ["calls_total", "latency_bucket"])
def test_an_exemplar_of_an_llm_series_leads_to_both_stores(metric: str, filled_world, fill):
    """Every trace that Prometheus names beside a gen_ai series is in Tempo and in Langfuse."""
    source = datasource(filled_world.document, "otelbridge-prom-llm")
    (target,) = source["jsonData"]["exemplarTraceIdDestinations"]
    selector = f'traces_spanmetrics_{metric}{{gen_ai_operation_name!~"|unknown"}}'
    found = fill.prometheus.get(
        "/api/v1/query_exemplars", query=selector, start=fill.start_s, end=fill.end_s + 1
    )
    named = {one["labels"][target["name"]] for series in found for one in series["exemplars"]}
    assert len(named) > 5
    assert target["datasourceUid"] == "otelbridge-tempo"
    for trace_id in named:
        assert filled_world.rows(trace_id)
        href = target["url"].replace("${__value.raw}", trace_id)
        filled_world.follow(href, trace_id, None)


def metadata_url(observation: Mapping[str, Any]) -> str:
    """`grafana_url` as Langfuse shows it in an observation's metadata."""
    key = semconv.GRAFANA_URL.rpartition(".")[2]
    found = observation["metadata"].get(key)
    assert isinstance(found, str), observation["metadata"]
    return found


def test_an_observation_leads_back_to_its_span_in_grafana(world: World):
    """50 traces: Explore opens the same trace, focused on the span, in a range that covers it."""
    for trace_id, _ in with_llm_work(world):
        rows = {row["spanID"]: row for row in world.rows(trace_id)}
        begin = min(row["startTime"] for row in rows.values())
        end = max(row["startTime"] + row["duration"] for row in rows.values())
        observations = world.observations(trace_id)
        assert observations
        for span_id, observation in observations.items():
            url = metadata_url(observation)
            assert url.startswith(f"{GRAFANA_URL}/explore?")
            pane = opened(url)
            assert (pane.datasource, pane.span_id) == ("otelbridge-tempo", span_id)
            assert span_id in rows
            assert [query["query"] for query in pane.queries] == [trace_id]
            assert int(pane.time_range[0]) < begin <= end < int(pane.time_range[1])
