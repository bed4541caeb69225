"""Addresses that the real Collector writes on spans, for settings as people give them.

It has no function that encodes text: what it writes is held to what `otelbridge.links` makes of the
same variables, for every id that needs no encoding, and the provisioned correlations read it back.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from otelbridge import Settings, links, semconv
from tests.collector.conftest import collector_binary, make_bench
from tests.grafana.correlations import row_links
from tests.grafana.provisioning import DATASOURCES, datasource, load, provisioned

__all__ = ["collector_binary", "make_bench"]

pytestmark = pytest.mark.collector
LLM = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.GEN_AI_REQUEST_MODEL: 'a "quoted" {model}'}
ENVIRONMENTS: dict[str, Mapping[str, str]] = {
    "slashes and paths": {
        "LANGFUSE_PUBLIC_URL": "https://host.example/langfuse/",
        "LANGFUSE_PROJECT_ID": "Team_7.a~b@c",
        "OTELBRIDGE_GRAFANA_URL": "https://host.example/grafana/",
    },
    "for viewers": {
        "LANGFUSE_PUBLIC_URL": "http://lf:3000",
        "LANGFUSE_PROJECT_ID": "my%20team",
        "OTELBRIDGE_GRAFANA_URL": "http://grafana:3001//",
        "OTELBRIDGE_GRAFANA_LINKS": "dashboard",
    },
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_collector_writes_the_addresses_that_the_command_prints(name: str, make_bench):
    """Slashes at the end, path prefixes, the form for Viewers, ids with leading zeros."""
    environment = ENVIRONMENTS[name]
    bench = make_bench(environment=environment)
    trace_id = b"\0\0" + bench.new_trace()[2:]
    span = bench.span(trace_id, {**LLM, "note": '{"key":"otelbridge.langfuse.url"}'})
    bench.send(span)
    pages = links.pages_of(Settings.from_env(environment))
    span_id = span.span_id.hex()
    expected = links.links(pages, trace_id.hex(), span_id, span.start_time_unix_nano)
    assert expected.trace_id is not None
    assert expected.trace_id.startswith("0000")
    (in_tempo,) = bench.at_tempo(trace_id, 1).values()
    (in_langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert in_tempo.attributes[semconv.LANGFUSE_URL] == expected.langfuse_url
    assert in_langfuse.attributes[semconv.GRAFANA_URL] == expected.grafana_url

    document = provisioned(load(DATASOURCES), {})
    row = {
        "traceID": trace_id.hex(),
        "spanID": span_id,
        "tags": [{"value": value, "key": key} for key, value in in_tempo.attributes.items()],
    }
    found = row_links(row, datasource(document, "otelbridge-tempo")["correlations"])
    assert [link.href for link in found] == [
        expected.langfuse_url,
        links.links(pages, trace_id.hex()).langfuse_url,
    ]
