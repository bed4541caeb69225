"""Every query of every panel is asked of real servers that every emitter has filled.

The panels are those of `grafana.dashboards_src.index`; a panel that is added is asked too. Skipped
with the reason without a Collector binary or Prometheus. Neighbours: `filling.py` starts and fills
the servers, `asking.py` asks them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from grafana.dashboards_src import index, kit
from tests.grafana.asking import Asker, get, uses
from tests.grafana.filling import SERVICES, Fill
from tests.grafana.shop import ODD_MODEL, ODD_USER

# The first test to come pays for the fill.
pytestmark = [pytest.mark.collector, pytest.mark.e2e, pytest.mark.timeout(240)]

Entry = Mapping[str, Any]
PANELS = {entry["key"]: entry for entry in index.listing() if entry["queries"]}
ASKING_PROMETHEUS_EXEMPLARS = [
    (panel.key, query.expr)
    for declared in index.dashboards()
    for panel in declared.panels
    for query in panel.queries
    if isinstance(query, kit.Prom) and query.exemplars
]
PAIRS = [(key, emitter) for key, entry in PANELS.items() for emitter in entry["emitters"]]
#: Where a zero is the answer of series that exist: nothing failed, waits or is missing. That those
#: of the bridge leave zero is shown in `test_panels_faults.py`.
MAY_STAND_ON_ZERO = {
    "quality-missing-usage-share", "quality-missing-usage",
    "services-edge-errors", "services-errors",
    "queue-fill", "branch-failing", "branch-retrying", "spans-dropped",
    "health-refused", "health-no-room", "health-queue", "health-lag", "health-series-left-out",
}  # fmt: skip
#: Dashboards of which each panel that can be must be there for all five.
FOR_ALL = ("otelbridge-llm", "otelbridge-traces")
#: One value for each variable; what `shop.py` does for its first user goes with them.
CHOSEN = {
    "environment": ["demo"],
    "service": ["shop-helpers"],
    "provider": ["openai"],
    "model": ["gpt-4o"],
    "user": ["ann"],
    "minDuration": ["1us"],
    "minCost": ["0.001"],
}
#: What a text box holds until it is written into.
DEFAULTS = {
    variable.name: [variable.default]
    for declared in index.dashboards()
    for variable in declared.variables
    if not variable.query
}


def values_for(fill: Fill, emitter: str) -> dict[str, list[str]]:
    """The variables that narrow a dashboard to one emitter's services."""
    return DEFAULTS | {"service": list(SERVICES[emitter]), "traceId": [a_trace(fill, emitter)]}


def a_trace(fill: Fill, emitter: str) -> str:
    """An id with leading zeros, as a search answers it and so as tables link it: without them."""
    trace_id = min(fill.recorded[emitter])
    assert trace_id[0] == "0"
    return trace_id.lstrip("0")


def narrowed(asker: Asker, fill: Fill, entry: Entry, emitter: str) -> list[tuple[bool, bool]]:
    """Of each query that can be narrowed to this emitter: filled; some number above zero."""
    found = []
    for query in entry["queries"]:
        values = values_for(fill, emitter)
        if uses(query, "service") or uses(query, "traceId"):
            answer = asker.ask(query, values)
            found.append((asker.filled(query, values), answer.above_zero))
        elif query["kind"] == "service-map":
            ends = asker.ask(query, values).where(("client", "server"), SERVICES[emitter])
            found.append((ends.above_zero, ends.above_zero))
    return found


def what_it_says(asker: Asker, entry: Entry, values: Mapping[str, list[str]]) -> str:
    """The queries of a panel with the errors or numbers that came, for a failure's text."""
    said = [
        f"{query['kind']} {query['text']}\n    -> {asker.ask(query, values)!r:.600}"
        for query in entry["queries"]
    ]
    return f"{entry['dashboard']} {entry['key']}:\n  " + "\n  ".join(said)


@pytest.mark.parametrize(("key", "emitter"), PAIRS, ids=lambda value: value)
def test_a_panel_has_data_of_each_emitter_that_it_names(asker, fill, key, emitter):
    """With the service variable on the services of one emitter the panel has something to draw."""
    entry = PANELS[key]
    found = [filled for filled, _ in narrowed(asker, fill, entry, emitter)]
    if not found:  # nothing in it depends on a service: it is the same for all
        found = [asker.filled(query, DEFAULTS) for query in entry["queries"]]
    assert any(found), what_it_says(asker, entry, values_for(fill, emitter))


def test_no_panel_stands_on_zero_but_where_that_is_right(asker, fill):
    """What the test above and the next one take for data is a number above zero, or named here."""
    zeros = {
        key
        for key, emitter in PAIRS
        for found in [narrowed(asker, fill, PANELS[key], emitter)]
        if found and not any(above_zero for _, above_zero in found)
    } | {
        key
        for key, entry in PANELS.items()
        if not entry["emitters"]
        and not any(asker.ask(query, DEFAULTS).above_zero for query in entry["queries"])
    }
    assert zeros <= MAY_STAND_ON_ZERO <= PANELS.keys()


@pytest.mark.parametrize("key", PANELS)
def test_each_query_of_a_panel_has_data_with_all_variables_on_all(asker, fill, key):
    """No query of a panel is there in vain: on All, with every emitter's spans, each has data."""
    entry = PANELS[key]
    everything = DEFAULTS | {"traceId": [a_trace(fill, "otelbridge")]}
    empty = [q["text"] for q in entry["queries"] if not asker.filled(q, everything)]
    assert not empty, what_it_says(asker, entry, everything)


@pytest.mark.parametrize("key", PANELS)
def test_a_panel_has_data_with_one_value_chosen_for_each_variable(asker, fill, key):
    """One environment, service, provider, model and user: otelbridge's own panels stay filled."""
    entry = PANELS[key]
    chosen = DEFAULTS | CHOSEN | {"traceId": [a_trace(fill, "otelbridge")]}
    given = [asker.ask(query, chosen) for query in entry["queries"]]
    assert not any(answer.error for answer in given), what_it_says(asker, entry, chosen)
    if "otelbridge" in entry["emitters"]:
        filled = [asker.filled(query, chosen) for query in entry["queries"]]
        assert any(filled), what_it_says(asker, entry, chosen)


@pytest.mark.parametrize("key", [k for k, e in PANELS.items() if "otelbridge" in e["emitters"]])
def test_a_panel_has_data_of_a_model_and_a_user_with_quotes_in_their_names(asker, fill, key):
    """Values with quotes, backslash, dot and parentheses are found as they are."""
    entry = PANELS[key]
    odd = DEFAULTS | CHOSEN | {"model": [ODD_MODEL], "user": [ODD_USER]}
    odd["traceId"] = [a_trace(fill, "otelbridge")]
    filled = [asker.filled(query, odd) for query in entry["queries"]]
    assert any(filled), what_it_says(asker, entry, odd)


@pytest.mark.parametrize("key", PANELS)
def test_a_panel_names_every_emitter_that_it_has_data_of(asker, fill, key):
    """The list of emitters is whole: none that is left out would fill the panel."""
    entry = PANELS[key]
    others = sorted(set(SERVICES) - set(entry["emitters"]))
    unnamed = [
        emitter
        for emitter in others
        if any(above_zero for _, above_zero in narrowed(asker, fill, entry, emitter))
    ]
    assert not unnamed


@pytest.mark.parametrize("uid", FOR_ALL)
@pytest.mark.parametrize("emitter", SERVICES)
def test_the_first_dashboards_serve_every_emitter(uid, emitter):
    """LLM overview and Traces have panels for all five; a test above finds each of them filled."""
    named = [
        e["key"] for e in PANELS.values() if e["dashboard"] == uid and emitter in e["emitters"]
    ]
    assert named


def test_exemplars_lead_from_latency_panels_to_stored_spans(asker, fill):
    """Each panel with exemplars has some, and their trace and span ids are in the store."""
    assert ASKING_PROMETHEUS_EXEMPLARS
    without = []
    for key, promql in ASKING_PROMETHEUS_EXEMPLARS:
        labels = asker.exemplars(promql, {})
        if not labels:
            without.append(key)
        for label in labels[:: max(1, len(labels) // 20)]:
            status, text = get(f"{fill.local.tempo_url}/api/traces/{label['trace_id']}")
            assert status == 200, label
            assert span_ids(text) >= {label["span_id"]}
    assert not without


def span_ids(text: str) -> set[str]:
    """Ids in hex of all spans of an OTLP/JSON trace."""
    return {
        base64.b64decode(span["spanId"]).hex()
        for batch in json.loads(text)["batches"]
        for scope in batch["scopeSpans"]
        for span in scope["spans"]
    }
