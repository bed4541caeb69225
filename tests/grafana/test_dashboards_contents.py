"""What the panels of agents, quality, service map and bridge health say, asked of the real thing.

Every panel of every dashboard is asked of a filled stack in `test_panels_filled.py`. Here: failures
that the filled stack has not (a Langfuse that refuses, one that is away, a Collector that ended) at
a real Collector and a real Prometheus, and the shapes that no server checks.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.dashboards_src import agents, bridge_health, kit, quality, service_map
from grafana.dashboards_src.index import queries_of
from grafana.dashboards_src.to_sdk import to_json
from otelbridge.local.server import LocalServer
from otelbridge.local.traceql import lint, parser, validate
from tests.collector.conftest import Bench, _start_bench, http_get
from tests.collector.metrics_bench import COLLECTOR
from tests.grafana.asking import Asker, put_in
from tests.grafana.filling import Scraper, skip_without_prometheus

MODULES = (agents, quality, service_map, bridge_health)
PANELS = {panel.key: panel for module in MODULES for panel in module.DASHBOARD.panels}
HEALTH = {panel.key: panel for panel in bridge_health.DASHBOARD.panels}
#: At this level the Collector also counts its requests to the backends.
DETAILED = {key for key, panel in HEALTH.items() if "level detailed" in panel.needs}
TRACEQL = [
    (panel.key, query["text"])
    for panel in PANELS.values()
    for query in queries_of(panel)
    if query["kind"] in ("traceql-search", "traceql-metrics")
]
CHOSEN = {
    "environment": ["prod"],
    "service": ["shop.eu", "rag"],
    "provider": ["openai"],
    "model": ["gpt-4o", "claude (new)"],
    "user": ["o'neil|x"],
}
DEFAULTS = {v.name: [v.default] for m in MODULES for v in m.DASHBOARD.variables if not v.query}
#: How values of these attributes are stored, whoever sent them: the Collector sees to it.
STORED: lint.StoredTypes = {
    ("span", "gen_ai.evaluation.score.value"): {"d"},
    ("span", "gen_ai.response.finish_reasons"): {"s", "ss"},
}
_OWN_METRIC = re.compile(r"\b(?:otelcol|http_client|rpc_client)_\w+")


# -- without a server ------------------------------------------------------------------------------
@pytest.mark.parametrize("values", [{}, CHOSEN], ids=["all", "chosen"])
@pytest.mark.parametrize(("key", "text"), TRACEQL, ids=lambda value: value[:30])
def test_traceql_says_in_tempo_what_it_says_here(key, text, values):
    """A panel's query is valid, has no lint that warns, and leaves no variable behind."""
    asked = put_in(text, DEFAULTS | values, promql=False)
    assert "$" not in asked
    query = parser.parse(asked)
    validate.validate(query, metrics=query.metrics is not None)
    endpoint: Any = "search" if query.metrics is None else "metrics"
    for stored in (None, STORED):  # by the usual types, and by those that the Collector stores
        found = lint.lint(query, endpoint=endpoint, stored=stored)
        assert [one for one in found if one.level == "warning"] == []


def test_the_alerts_find_the_panels_that_they_point_at():
    """The keys that alert rules link to are panels of bridge health."""
    wanted = {"branch-failing", "branch-retrying", "queue-fill", "spans-dropped", "collector-up"}
    assert wanted <= set(HEALTH)


def test_the_node_graph_asks_tempo_for_the_service_map():
    """One target of type serviceMap on the Tempo source, which knows its Prometheus itself."""
    drawn = json.loads(to_json(service_map.DASHBOARD))["panels"]
    (graph,) = [panel for panel in drawn if panel["type"] == "nodeGraph"]
    (target,) = graph["targets"]
    assert target["queryType"] == "serviceMap"
    assert target["datasource"] == {"type": "tempo", "uid": kit.TEMPO}
    assert graph["datasource"] == target["datasource"]


def test_answers_of_several_queries_become_one_table():
    """Without a merge Grafana shows one answer at a time and a list to choose from."""
    drawn = json.loads(to_json(service_map.DASHBOARD))["panels"]
    tables = [
        panel
        for top in drawn
        for panel in (top, *(top.get("panels") or []))
        if panel["type"] == "table" and len(panel["targets"]) > 1
    ]
    assert [panel["title"] for panel in tables] == ["Edges", "Operations"]
    for panel in tables:
        assert [one["id"] for one in panel["transformations"]] == ["merge", "organize"]
        values = [f"Value #{target['refId']}" for target in panel["targets"]]
        assert values == list(panel["transformations"][1]["options"]["indexByName"])[2:]


def test_a_dashboard_with_fewer_variables_uses_no_other():
    """A variable that a dashboard lacks would stay in a query or a link as text."""
    for module in MODULES:
        declared = module.DASHBOARD
        known = {variable.name for variable in declared.variables}
        used = set(re.findall(r"\$\{?([a-z]\w*)(?::\w+)?\}?", to_json(declared)))
        assert used - known - {"__data"} == set(), declared.uid


def test_panels_of_the_collector_itself_name_no_emitter():
    """What the Collector counts of itself is nobody's spans; all else names whose it is."""
    for panel in PANELS.values():
        own = all(_OWN_METRIC.search(q["text"]) for q in queries_of(panel))
        assert bool(panel.emitters) is not own, panel.key


# -- a Collector in trouble ------------------------------------------------------------------------
@dataclass
class Trouble:
    """A real Collector whose Langfuse refused, then went away, and the Prometheus that watched."""

    bench: Bench
    prometheus: Scraper
    own_metrics: str

    def values(self, key: str, window: str = "") -> dict[str, float]:
        """Branch (or whatever label comes last) to value, of a panel's first query.

        window: put in place of the two minutes that spans have to wait.
        """
        text = put_in(HEALTH[key].queries[0].expr, {}, promql=True)  # type: ignore[union-attr]
        if window:
            assert "[2m]" in text
            text = text.replace("[2m]", f"[{window}]")
        result = self.prometheus.get("/api/v1/query", query=text)["result"]
        return {
            one["metric"].get("branch", one["metric"].get("instance", "")): float(one["value"][1])
            for one in result
        }


def in_trouble(stack: ExitStack, binary: Path, folder: Path, level: str) -> Trouble:
    """Spans that arrive, then 400 and 500 for one each, then 503 for four."""
    config = yaml.safe_load((COLLECTOR / "config.yaml").read_text("utf-8"))
    config["service"]["telemetry"]["metrics"]["level"] = level
    (folder / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    environment = {"OTELBRIDGE_COLLECTOR_METRICS_FLUSH": "500ms"}
    bench = _start_bench(stack, binary, config=folder / "config.yaml", environment=environment)
    prometheus = stack.enter_context(Scraper(folder))
    prometheus.reload(bench.collector, [])
    made = Trouble(bench, prometheus, "")

    def send(count: int) -> None:
        trace = bench.new_trace()
        kept = {"otelbridge.llm.keep": True, "gen_ai.operation.name": "chat"}
        bench.send(*[bench.span(trace, kept) for _ in range(count)], bench.span(bytes(16)))

    bench.settle()
    wait_until(made, lambda: made.values("health-queue").get("langfuse") == 0.0)
    for status, count, refused in ((400, 1, 1), (500, 1, 2), (503, 4, 4)):
        bench.langfuse.status = status
        send(count)
        bench.wait(lambda refused=refused: bench.langfuse.refused >= refused, f"{refused} refusals")
    wait_until(made, lambda: made.values("branch-failing").get("langfuse", 0) > 0)
    wait_until(made, lambda: made.values("health-queue").get("langfuse") == 4.0)
    made.own_metrics = http_get(bench.collector.metrics_url).decode()
    return made


def target(url: str) -> str:
    """`host:port` of an exposition, as Prometheus wants it."""
    return url.removeprefix("http://").removesuffix("/metrics")


def wait_until(trouble: Trouble, predicate: Callable[[], Any]) -> None:
    trouble.prometheus.wait(predicate, "what the Collector counted")


@pytest.fixture(scope="module")
def trouble(collector_binary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """A Collector as it is deployed, its Langfuse away."""
    skip_without_prometheus()
    with ExitStack() as stack:
        yield in_trouble(stack, collector_binary, tmp_path_factory.mktemp("normal"), "normal")


@pytest.fixture(scope="module")
def detailed(collector_binary, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    """The same with metrics level detailed."""
    skip_without_prometheus()
    with ExitStack() as stack:
        yield in_trouble(stack, collector_binary, tmp_path_factory.mktemp("detail"), "detailed")


@pytest.mark.collector
@pytest.mark.timeout(120)
@pytest.mark.parametrize("key", sorted(set(HEALTH) - DETAILED))
def test_panels_of_bridge_health_have_data_from_a_collector_as_deployed(trouble, key):
    """Each query of each panel finds series of the real Collector at its normal level."""
    for query in HEALTH[key].queries:
        text = put_in(query.expr, {}, promql=True)
        wait_until(trouble, lambda text=text: trouble.prometheus.query(text))


@pytest.mark.collector
@pytest.mark.timeout(120)
@pytest.mark.parametrize("key", sorted(DETAILED))
def test_requests_to_the_backends_are_counted_at_level_detailed_only(trouble, detailed, key):
    """The row that says it needs level detailed has data there, and none at the normal level."""
    for query in HEALTH[key].queries:
        text = put_in(query.expr, {}, promql=True)
        wait_until(detailed, lambda text=text: detailed.prometheus.query(text))
        assert not trouble.prometheus.query(text)


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_metrics_that_panels_name_are_the_collectors(trouble, detailed):
    """Every name is in the exposition, but for the counter that a full queue makes (below)."""
    named = {
        name
        for panel in HEALTH.values()
        for query in panel.queries
        for name in _OWN_METRIC.findall(query.expr)
    }
    exposed = trouble.own_metrics + detailed.own_metrics
    missing = {name for name in named if not re.search(rf"^{name}\{{", exposed, re.MULTILINE)}
    assert missing == {"otelcol_exporter_enqueue_failed_spans_total"}


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_final_refusals_are_told_apart_from_retries(trouble):
    """400 and 500 show as failing, 503 as retrying; the Tempo branch shows neither."""
    failing = trouble.values("branch-failing")
    assert failing == {"langfuse": 2.0, "tempo": 0.0}
    wait_until(trouble, lambda: trouble.values("branch-retrying", "3s").get("langfuse") == 4.0)
    assert trouble.values("branch-retrying", "3s")["tempo"] == 0
    assert trouble.values("spans-dropped") == failing
    assert trouble.values("health-no-room") == {"langfuse": 0.0, "tempo": 0.0}


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_queue_fill_is_the_share_of_the_branchs_room(trouble):
    """Four spans of the 200,000 that Langfuse's queue holds; Tempo's is empty."""
    fill = trouble.values("queue-fill")
    assert fill == {"langfuse": pytest.approx(4 / 200_000), "tempo": 0.0}


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_requests_are_counted_by_status_at_level_detailed(detailed):
    """The answers that the stand-in gave are the statuses that the panel has."""
    expr = put_in(HEALTH["health-langfuse-status"].queries[0].expr, {}, promql=True)

    def statuses() -> set[str]:
        found = detailed.prometheus.get("/api/v1/query", query=expr)["result"]
        return {one["metric"]["http_response_status_code"] for one in found}

    wait_until(detailed, lambda: statuses() == {"200", "400", "500", "503"})


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_a_branch_that_never_sent_anything_shows_as_retrying(collector_binary, tmp_path):
    """Langfuse away since the Collector's start: there is no counter of sent spans, but a wait."""
    skip_without_prometheus()
    with ExitStack() as stack:
        bench = _start_bench(stack, collector_binary)
        bench.langfuse.status = 503
        own = target(bench.collector.metrics_url)
        made = Trouble(bench, stack.enter_context(Scraper(tmp_path, target=own)), "")
        bench.send(bench.span(bench.new_trace(), {"otelbridge.llm.keep": True}))
        wait_until(made, lambda: made.values("branch-retrying").get("langfuse") == 1.0)
        exposed = http_get(bench.collector.metrics_url).decode()
        assert 'otelcol_exporter_sent_spans_total{exporter="otlp_http' not in exposed


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_a_full_queue_is_not_shown_as_loss(collector_binary, tmp_path):
    """Spans that services were told to send again are without room and refused, but not lost."""
    skip_without_prometheus()
    small = {
        "OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS": "5",
        "OTELBRIDGE_COLLECTOR_LANGFUSE_BATCH_SPANS": "2",
    }
    with ExitStack() as stack:
        bench = _start_bench(stack, collector_binary, environment=small)
        bench.langfuse.status = 503
        own = target(bench.collector.metrics_url)
        made = Trouble(bench, stack.enter_context(Scraper(tmp_path, target=own)), "")
        body = [
            bench.request(
                [bench.span(trace, {"otelbridge.llm.keep": True}) for _ in range(2)]
            ).SerializeToString()
            for trace in (bench.new_trace() for _ in range(6))
        ]
        refused = [bench.post(one) for one in body].count(503)
        assert refused >= 1
        wait_until(made, lambda: made.values("health-no-room").get("langfuse") == 2.0 * refused)
        assert made.values("health-no-room")["tempo"] == 0
        assert set(made.values("spans-dropped").values()) == {0.0}


@pytest.mark.collector
@pytest.mark.timeout(120)
def test_a_collector_that_ended_stays_on_the_panel_as_down(collector_binary, tmp_path):
    """Up shows 1 while it runs and 0 once it is gone, though its own series have gone with it."""
    skip_without_prometheus()
    with ExitStack() as stack:
        bench = _start_bench(stack, collector_binary)
        own = target(bench.collector.metrics_url)
        made = Trouble(bench, stack.enter_context(Scraper(tmp_path, target=own)), "")
        wait_until(made, lambda: made.values("collector-up") == {own: 1.0})
        bench.collector.stop()
        wait_until(made, lambda: made.values("collector-up") == {own: 0.0})


# -- spans of a shape that comes later -------------------------------------------------------------
@pytest.fixture(scope="module")
def later() -> Iterator[Asker]:
    """A local server with spans as users' scores, experiments and judged prompts will make them."""
    # Bench makes spans; it needs none of its servers for that.
    making = Bench(None, None, None)  # type: ignore[arg-type]
    now_ns = time.time_ns()

    def score(name: str, value: float, user: str, variant: str, version: str) -> Any:
        attributes = {
            "langfuse.observation.type": "evaluator",
            "otelbridge.llm.keep": True,
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.score.value": value,
            "gen_ai.prompt.name": "answer",
            "gen_ai.prompt.version": version,
            "langfuse.trace.metadata.variant": variant,
            "user.id": user,
        }
        span = making.span(making.new_trace(), attributes, name=f"evaluate {name}")
        span.start_time_unix_nano, span.end_time_unix_nano = now_ns, now_ns + 1_000_000
        return span

    spans = [
        score("user_rating", 5.0, "ann", "A", "1"),
        score("user_rating", 2.0, "bert", "B", "2"),
        score("user-feedback", 1.0, "bert", "B", "2"),
        score("quality_score", 0.4, "ann", "A", "1"),
    ]
    with LocalServer() as server:
        sender = Bench(_Address(server.otlp_http_url), None, None)  # type: ignore[arg-type]
        sender.send(*spans)
        yield Asker("http://127.0.0.1:1", server.tempo_url, now_ns / 1e9)


@dataclass
class _Address:
    """All that sending needs of a Collector."""

    otlp_http_url: str


def answered(asker: Asker, key: str) -> dict[tuple[str, ...], float]:
    """Sorted label values to the last number above zero, of a panel's only query."""
    (query,) = queries_of(PANELS[key])
    answer = asker.ask(query, {})
    assert not answer.error, answer.error
    return {tuple(sorted(labels.values())): max(numbers) for labels, numbers in answer.rows}


def test_users_scores_are_drawn_by_name_and_by_user(later):
    """Only scores that users give count as ratings; the least content user comes first."""
    assert answered(later, "quality-rating-mean") == {("avg_over_time",): pytest.approx(8 / 3)}
    assert answered(later, "quality-ratings") == {("user_rating",): 3.5, ("user-feedback",): 1.0}
    assert answered(later, "quality-rating-by-user") == {("ann",): 5.0, ("bert",): 1.5}


def test_scores_are_drawn_by_variant_and_by_prompt_version(later):
    """The mean of each score stands beside its variant, and beside the prompt that was judged."""
    assert answered(later, "quality-variant-scores") == {
        ("A", "user_rating"): 5.0,
        ("B", "user_rating"): 2.0,
        ("B", "user-feedback"): 1.0,
        ("A", "quality_score"): 0.4,
    }
    by_prompt = answered(later, "quality-prompt-scores")
    assert by_prompt[("1", "answer", "user_rating")] == 5.0
    assert by_prompt[("2", "answer", "user_rating")] == 2.0


def test_low_scores_are_listed_with_their_pages(later):
    """A score below one half is a row with the address of its page."""
    (query,) = queries_of(PANELS["quality-scores-low"])
    rows = [labels for labels, _ in later.ask(query, {}).rows]
    assert [row["gen_ai.evaluation.name"] for row in rows] == ["quality_score"]
    assert rows[0]["otelbridge.langfuse.url"].startswith("http://127.0.0.1:")
