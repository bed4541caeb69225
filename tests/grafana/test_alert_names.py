"""Every selector of every alert, looked up in what the built Collector really exposes.

One Collector is brought into each state that an alert speaks of: a refusal for good, a retry, a
full queue, a span without an id, caps on series. A renamed metric or label would leave an alert
silent for ever; here it fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts_src.text import RULES
from otelbridge import semconv
from tests.collector.conftest import Bench, _start_bench, http_get
from tests.collector.metrics_bench import COLLECTOR, OVERLAYS, _merge, written

pytestmark = [pytest.mark.collector, pytest.mark.timeout(120)]

_SELECTOR = re.compile(r"\b((?:otelcol|traces|otelbridge_gen_ai)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~?)"([^"]*)"')
_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def exposed(bench: Bench) -> list[tuple[str, dict[str, str]]]:
    """Name and labels of each series on both of the Collector's pages."""
    pages = (bench.collector.metrics_url, bench.collector.prometheus_url)
    lines = [line for page in pages for line in http_get(page).decode("utf-8").splitlines()]
    found = [_SERIES.match(line) for line in lines if not line.startswith("#")]
    return [(one[1], dict(_LABEL.findall(one[2] or ""))) for one in found if one]


def has(series: list[tuple[str, dict[str, str]]], name: str, matchers: str) -> bool:
    """Whether a selector finds something."""
    wanted = _MATCHER.findall(matchers)

    def fits(labels: dict[str, str]) -> bool:
        return all(
            re.fullmatch(value if how == "=~" else re.escape(value), labels.get(label, ""))
            for label, how, value in wanted
        )

    return any(name == own and fits(labels) for own, labels in series)


def calls(bench: Bench, *names: str, model: str = "m") -> Any:
    """A request with one call of a model for each span name, the last one failed."""
    spans = [
        bench.span(
            bench.new_trace(),
            {
                semconv.GEN_AI_OPERATION_NAME: "chat",
                semconv.GEN_AI_REQUEST_MODEL: model,
                semconv.GEN_AI_USAGE_INPUT_TOKENS: 3,
                semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 4,
                semconv.GEN_AI_USAGE_COST: 0.5,
                semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: 0.2,
                semconv.USER_ID: "u-1",
            },
            name=name,
        )
        for name in names
    ]
    spans[-1].status.code = 2
    return bench.request(spans).SerializeToString()


@pytest.fixture(scope="module")
def troubled(collector_binary: Path, tmp_path_factory: Any) -> Iterator[list[Any]]:
    """The series of a Collector that went through everything the alerts are about."""
    config = yaml.safe_load((COLLECTOR / "config.yaml").read_text("utf-8"))
    users = yaml.safe_load((OVERLAYS / "user-metrics.yaml").read_text("utf-8"))
    path = written(tmp_path_factory.mktemp("alerts") / "config.yaml", _merge(config, users))
    settings = {
        "OTELBRIDGE_COLLECTOR_METRICS_FLUSH": "200ms",
        "OTELBRIDGE_COLLECTOR_METRICS_MAX_SERIES": "8",
        "OTELBRIDGE_COLLECTOR_METRICS_SERVICE_SERIES": "6",
        "OTELBRIDGE_COLLECTOR_LANGFUSE_QUEUE_SPANS": "512",
    }
    with ExitStack() as stack:
        bench = _start_bench(stack, collector_binary, config=path, environment=settings)

        def until(name: str, matchers: str = "") -> None:
            bench.wait(lambda: has(exposed(bench), name, matchers), f"{name}{{{matchers}}}")

        assert bench.post(calls(bench, "chat", "chat")) == 200
        until("otelbridge_gen_ai_user_cost_usd_total")
        until("otelbridge_gen_ai_cost_usd_total")
        until("otelcol_exporter_sent_spans_total", 'exporter="otlp_http/langfuse"')
        bench.send(bench.span(b"\0" * 16))
        bench.langfuse.status = 401
        assert bench.post(calls(bench, *(f"other {n}" for n in range(9)), model="n")) == 200
        until("traces_spanmetrics_calls_total", 'otel_metric_overflow="true"')
        until("otelcol_deltatocumulative_datapoints_total", 'error="limit"')
        bench.wait(lambda: bench.langfuse.refused, "a refusal by Langfuse")
        bench.langfuse.status = 503
        many = calls(bench, *["chat"] * 200)
        bench.wait(lambda: bench.post(many) == 503, "a full queue")
        until("otelcol_exporter_enqueue_failed_spans_total")
        yield exposed(bench)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_the_selectors_of_a_rule_find_series_of_the_real_collector(
    rule: Any, troubled: list[tuple[str, dict[str, str]]]
):
    """Each metric name with its label matchers, and each label grouped by, is really exposed."""
    selectors = set(_SELECTOR.findall(rule.value))
    for name, matchers in selectors:
        assert has(troubled, name, matchers), f"{name}{{{matchers}}}"
    names = {name for name, _ in selectors}
    known = {label for name, labels in troubled if name in names for label in labels}
    grouped = {
        label.strip()
        for labels in re.findall(r"by \(([^)]*)\)", rule.value)
        for label in labels.split(",")
    }
    assert grouped <= known | {"instance", "job"}  # the two that Prometheus adds
