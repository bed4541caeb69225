"""`asking.put_in` against Grafana's own code: the panels are asked what Grafana would send.

@grafana/scenes fills the queries of the committed dashboards, with the default format of each data
source (`node/variables.js`). Skipped where node or its packages are missing (`node_tools.py`).
"""

from __future__ import annotations

import pytest

from tests.grafana import node_dashboards as dashboards
from tests.grafana import node_tools
from tests.grafana.asking import MACROS, put_in

pytestmark = pytest.mark.timeout(400)  # the first test may install the packages


@pytest.mark.parametrize("kind", dashboards.CHOICES)
@pytest.mark.parametrize("dashboard", dashboards.load(), ids=lambda one: one["uid"])
def test_queries_are_filled_as_grafana_fills_them(dashboard, kind):
    """Every query of every panel, for All, one value, several, and values with odd characters."""
    templating = dashboards.templating(dashboard)
    chosen = dashboards.chosen(templating, kind)
    queries = [
        query for panel in dashboards.panels(dashboard) for query in dashboards.queries(panel)
    ]
    case = {
        "templating": templating,
        "values": chosen,
        "range": dashboards.RANGE,
        "scoped": {name.removeprefix("$"): value for name, value in MACROS.items()},
        "texts": [{"language": language, "text": text} for language, text in queries],
    }
    (answers,) = node_tools.ask("variables", cases=[case], settings={"featureToggles": {}})

    values = {
        name: [choice["value"]] if isinstance(choice["value"], str) else choice["value"]
        for name, choice in chosen.items()
        if choice["value"] != ["$__all"]
    }
    for (language, text), answer in zip(queries, answers, strict=True):
        assert put_in(text, values, promql=language == "promql") == answer["text"]
