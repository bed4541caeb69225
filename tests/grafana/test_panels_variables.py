"""The lists of the dashboards' variables, asked of servers that every emitter has filled.

A variable whose query has no values leaves nothing to choose, so each must offer what the fill has.
Queries are asked as Grafana asks them: `label_values` of Prometheus, tag values of Tempo.
"""

from __future__ import annotations

import json
import re

import pytest

from grafana.dashboards_src import index
from tests.grafana.asking import RANGE_S, get, put_in
from tests.grafana.filling import SERVICES
from tests.grafana.shop import ODD_MODEL, ODD_USER

pytestmark = [pytest.mark.collector, pytest.mark.e2e, pytest.mark.timeout(240)]

QUERIES = {
    (variable.name, variable.query)
    for declared in index.dashboards()
    for variable in declared.variables
    if variable.query
}
#: What a variable must offer at least.
OFFERED = {
    "environment": {"demo"},
    "service": {service for services in SERVICES.values() for service in services},
    "provider": {"openai", "anthropic"},
    "model": {"gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", ODD_MODEL},
    "user": {"ann", "alice", "litellm-user-one", "openllmetry-user-two", ODD_USER},
    "instance": set(),
}


@pytest.mark.parametrize(("name", "query"), sorted(QUERIES), ids=lambda value: value.split("(")[0])
def test_a_variable_offers_what_is_there(fill, name, query):
    """Each list holds the values of the fill, with the variables it depends on standing on All."""
    end_s = fill.end_s
    found = re.fullmatch(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)", query)
    if found:
        selector = put_in(found["selector"], {}, promql=True)
        path = f"{fill.prometheus.url}/api/v1/label/{found['label']}/values"
        _, text = get(path, **{"match[]": selector, "start": end_s - RANGE_S, "end": end_s})
        values = set(json.loads(text)["data"])
    else:
        path = f"{fill.local.tempo_url}/api/v2/search/tag/{query}/values"
        _, text = get(path, start=int(end_s) - RANGE_S, end=int(end_s) + 2)
        values = {value["value"] for value in json.loads(text)["tagValues"]}
    assert values >= OFFERED[name]
    assert values - {""}
