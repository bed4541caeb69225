"""Links of exemplars, made by Grafana's Prometheus source from our provisioned data sources.

transformV2 of @grafana/prometheus attaches `exemplarTraceIdDestinations`, getLinks of @grafana/data
gives the addresses; the exemplar frame has the labels as fields, as the source's backend makes it.
Limit: variables of the provisioning file are put in place by this test, not by Grafana's Go code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.grafana import node_dashboards as dashboards
from tests.grafana import node_tools

pytestmark = pytest.mark.timeout(400)  # the first test may install the packages

FILE = (
    Path(__file__).resolve().parents[2]
    / "grafana" / "provisioning" / "datasources" / "otelbridge.yaml"
)  # fmt: skip
LANGFUSE = "https://langfuse.example/base/project/proj/traces/"
IDS = [("00" + "4b" * 15, "0a" * 8), ("9f" * 16, "c3" * 8)]


def sources() -> dict[str, dict[str, Any]]:
    """Provisioned data source by uid."""
    if not FILE.exists():
        pytest.skip("no provisioned data sources in this checkout")
    return {found["uid"]: found for found in yaml.safe_load(FILE.read_text("utf-8"))["datasources"]}


def links(uid: str, langfuse: str) -> list[list[dict[str, str]]]:
    """Links of each of two exemplars; `langfuse` stands for the variable that holds the address."""
    found = sources()
    destinations = [
        {
            key: value.replace("$OTELBRIDGE_LANGFUSE_TRACE_LINK", langfuse)
            for key, value in destination.items()
        }
        for destination in found[uid]["jsonData"]["exemplarTraceIdDestinations"]
    ]
    columns = {
        "Time": ("time", [1, 2]),
        "Value": ("number", [0.5, 0.7]),
        "trace_id": ("string", [trace for trace, _ in IDS]),
        "span_id": ("string", [span for _, span in IDS]),
    }
    frame = {
        "schema": {
            "name": "exemplar",
            "refId": "A",
            "meta": {"custom": {"resultType": "exemplar"}},
            "fields": [{"name": name, "type": kind} for name, (kind, _) in columns.items()],
        },
        "data": {"values": [values for _, values in columns.values()]},
    }
    answer: list[list[dict[str, str]]] = node_tools.ask(
        "exemplars", frame=frame, destinations=destinations, range=dashboards.RANGE,
        settings={"dataSources": [{"uid": key, "name": one["name"]} for key, one in found.items()]},
    )  # fmt: skip
    return answer


def led_to_tempo(href: str) -> tuple[str, str, str]:
    """Data source, trace id and span id of a link to Explore."""
    pane = json.loads(parse_qs(urlsplit(href).query)["left"][0])
    query = pane["queries"][0]
    return pane["datasource"], query["query"], pane["panelsState"]["trace"]["spanId"]


def test_gen_ai_exemplars_lead_to_tempo_and_langfuse():
    """Each exemplar has two links: its span in Tempo and its trace in Langfuse, zeros kept."""
    found = links("otelbridge-prom-llm", LANGFUSE + "${__value.raw}")
    for (trace_id, span_id), (tempo, langfuse) in zip(IDS, found, strict=True):
        assert led_to_tempo(tempo["href"]) == ("otelbridge-tempo", trace_id, span_id)
        assert langfuse["href"] == LANGFUSE + trace_id


def test_other_exemplars_lead_to_tempo_only():
    """Exemplars of series that Langfuse may not have link to Tempo alone."""
    for (trace_id, span_id), (tempo,) in zip(
        IDS, links("otelbridge-prom", LANGFUSE + "${__value.raw}"), strict=True
    ):
        assert led_to_tempo(tempo["href"]) == ("otelbridge-tempo", trace_id, span_id)


def test_without_langfuse_exemplars_have_no_link_to_it():
    """An empty address gives no second link, not one that leads nowhere."""
    for (trace_id, _), (tempo,) in zip(IDS, links("otelbridge-prom-llm", ""), strict=True):
        assert led_to_tempo(tempo["href"])[1] == trace_id


def test_panels_with_exemplars_ask_a_source_that_links_them():
    """Every panel that shows exemplars asks a provisioned source with a destination for them."""
    found = sources()
    for dashboard in dashboards.load():
        for panel in dashboards.panels(dashboard):
            for target in panel.get("targets") or []:
                if target.get("exemplar"):
                    source = found[target["datasource"]["uid"]]
                    assert source["jsonData"]["exemplarTraceIdDestinations"], panel["title"]
