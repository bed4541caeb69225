"""What the conditions of `kit.WHERE_CALL` let through, asked of a local server with a few spans.

Only what the filled stack of `test_panels_filled.py` has not: gateways, and the names under which
services have given their environment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from grafana.dashboards_src import index
from otelbridge.local.server import LocalServer
from tests.collector.conftest import Bench
from tests.grafana.asking import Asker

PANELS = {entry["key"]: entry for entry in index.listing()}
#: Service to the rest of its resource; each makes one call.
RESOURCES = {
    "rag": {"deployment.environment.name": "prod"},
    "older": {"deployment.environment": "prod"},
    "trial": {"deployment.environment": "test"},
    "litellm": {},
    "litellm-2": {},
}


@dataclass
class _Address:
    """All that sending needs of a Collector."""

    otlp_http_url: str


@pytest.fixture(scope="module")
def asker() -> Iterator[Asker]:
    """A local server with a model call of each service."""
    now_ns = time.time_ns()
    with LocalServer() as server:
        bench = Bench(_Address(server.otlp_http_url), None, None)  # type: ignore[arg-type]
        for service, more in RESOURCES.items():
            span = bench.span(bench.new_trace(), {"gen_ai.operation.name": "chat"})
            span.start_time_unix_nano, span.end_time_unix_nano = now_ns, now_ns + 1_000_000
            bench.send(span, resource={"service.name": service, **more})
        yield Asker("http://127.0.0.1:1", server.tempo_url, now_ns / 1e9)


def listed(asker: Asker, **values: str) -> set[str]:
    """Services whose calls are in the table of calls; the box of gateways starts empty."""
    (query,) = PANELS["traces-calls"]["queries"]
    answer = asker.ask(query, {"gateway": [""]} | {name: [one] for name, one in values.items()})
    assert not answer.error, answer.error
    return {labels["service.name"] for labels, _ in answer.rows}


@pytest.mark.parametrize(
    ("pattern", "left_out"),
    [
        ("litellm", {"litellm"}),
        ("litellm|litellm-2", {"litellm", "litellm-2"}),
        ("litellm.*", {"litellm", "litellm-2"}),
        ("", set()),
        ("-", set()),
    ],
)
def test_calls_as_a_gateway_saw_them_are_left_out(asker, pattern, left_out):
    """The box holds a pattern of whole names; empty, or as the Collector has it for none, all
    calls are there."""
    assert listed(asker, gateway=pattern) == RESOURCES.keys() - left_out


def test_an_environment_is_found_by_the_older_name_too(asker):
    """Resources from before semantic conventions 1.27 call it deployment.environment."""
    assert listed(asker, environment="prod") == {"rag", "older"}
