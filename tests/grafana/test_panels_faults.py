"""Bridge health and its rules while a backend refuses, is away, or the queue is full.

The fill of the other tests is a healthy one, where these panels rightly stand on zero. Here a real
Collector sends to a stand-in that answers as told, and a real Prometheus is asked by the queries of
the panels and the expressions of the rules (how long a rule waits is shown in `rules/`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grafana.dashboards_src import index
from otelbridge import semconv
from tests.collector.conftest import Bench
from tests.grafana.asking import Asker
from tests.grafana.filling import Scraper, rules_of_files, skip_without_prometheus

pytestmark = [pytest.mark.collector, pytest.mark.timeout(120)]

PANELS = {entry["key"]: entry for entry in index.listing()}
RULES = {rule["alert"]: rule["expr"] for rule in rules_of_files() if "alert" in rule}
LANGFUSE, TEMPO = "langfuse", "tempo"
SPANS = 20  # of one request


def send(bench: Bench) -> int:
    """One request of model calls; its status."""
    trace_id = bench.new_trace()
    spans = [bench.span(trace_id, {semconv.GEN_AI_OPERATION_NAME: "chat"}) for _ in range(SPANS)]
    return bench.post(bench.request(spans).SerializeToString())


class Watched:
    """A Prometheus over one Collector, asked as of now until an answer comes."""

    def __init__(self, prometheus: Scraper) -> None:
        self._prometheus = prometheus

    def panel(self, key: str) -> dict[str, float]:
        """Branch → last number of a panel that shows branches."""
        asker = Asker(self._prometheus.url, "", time.time())
        rows = [row for query in PANELS[key]["queries"] for row in asker.ask(query, {}).rows]
        return {labels["branch"]: values[-1] for labels, values in rows}

    def fires(self, name: str) -> set[str]:
        """Exporters for which a rule's expression holds now."""
        found = self._prometheus.get("/api/v1/query", query=RULES[name])["result"]
        return {series["metric"]["exporter"] for series in found}

    def wait(self, predicate: Callable[[], Any], what: str) -> None:
        """Until it is true, at most some scrapes."""
        self._prometheus.wait(predicate, what)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[Bench], Watched]]:
    """`watch(bench)`: a Prometheus with the shipped configuration over this bench's Collector."""
    skip_without_prometheus()
    running: list[Scraper] = []

    def started(bench: Bench) -> Watched:
        prometheus = Scraper(tmp_path).__enter__()
        running.append(prometheus)
        prometheus.reload(bench.collector, [])
        return Watched(prometheus)

    yield started
    for prometheus in running:
        prometheus.__exit__(None, None, None)


def test_a_langfuse_that_refuses_is_shown_and_told_from_one_that_is_away(make_bench, watch):
    """400 is final: spans of that branch are failing and lost, nothing waits, Tempo is well."""
    bench = make_bench()
    bench.langfuse.status = 400
    watched = watch(bench)
    assert send(bench) == 200
    watched.wait(lambda: watched.panel("branch-failing").get(LANGFUSE) == SPANS, "failed spans")
    assert watched.panel("branch-failing")[TEMPO] == 0
    assert watched.panel("spans-dropped") == {LANGFUSE: SPANS, TEMPO: 0}
    assert watched.panel("branch-retrying")[LANGFUSE] == 0
    watched.wait(lambda: watched.fires("OtelbridgeSpansDropped"), "the rule of lost spans")
    assert not watched.fires("OtelbridgeLangfuseRefused")  # one batch is no refusing Langfuse
    for batches in (2, 3):  # each seen by a scrape of its own
        assert send(bench) == 200
        lost = batches * SPANS
        watched.wait(lambda lost=lost: watched.panel("spans-dropped")[LANGFUSE] >= lost, "more")
    watched.wait(
        lambda: watched.fires("OtelbridgeLangfuseRefused") == {"otlp_http/langfuse"}, "the rule"
    )
    assert not watched.fires("OtelbridgeLangfuseRetrying")
    assert not watched.fires("OtelbridgeTempoRefused")


def test_a_langfuse_that_is_away_is_shown_as_waiting_and_its_full_queue_is_seen(make_bench, watch):
    """503 is tried again: spans wait, none is lost; once the queue is full it refuses more."""
    bench = make_bench(
        environment={
            "OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS": "100",
            "OTELBRIDGE_COLLECTOR_LANGFUSE_BATCH_SPANS": "20",
        }
    )
    bench.langfuse.status = 503
    assert send(bench) == 200
    bench.wait(lambda: bench.langfuse.refused, "a refused try")
    watched = watch(bench)
    watched.wait(lambda: watched.panel("branch-retrying").get(LANGFUSE, 0) > 0, "waiting spans")
    assert watched.panel("branch-retrying")[TEMPO] == 0
    assert watched.panel("branch-failing") == {LANGFUSE: 0, TEMPO: 0}
    assert watched.fires("OtelbridgeLangfuseRetrying") == {"otlp_http/langfuse"}
    assert not watched.fires("OtelbridgeLangfuseRefused")
    assert not watched.fires("OtelbridgeQueueFilling")

    bench.wait(lambda: send(bench) == 503, "a full queue")
    watched.wait(lambda: watched.fires("OtelbridgeQueueFull"), "the rule of a full queue")
    assert watched.fires("OtelbridgeQueueFull") == {"otlp_http/langfuse"}
    assert watched.fires("OtelbridgeQueueFilling") == {"otlp_http/langfuse"}
    assert watched.panel("queue-fill")[LANGFUSE] > 0.8
    assert watched.panel("health-no-room")[LANGFUSE] > 0
