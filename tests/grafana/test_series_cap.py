"""How many series 10,000 users make with the defaults, and what holds beyond the cap.

The overlay user-metrics at its documented cap; a small cap is shown to be exact user by user in
`tests/collector/test_metrics_overlays.py`. Here: the default, the rest of the exposition, and the
signs by which the rules and the dashboards know that the cap was reached.
"""

from __future__ import annotations

import re

import pytest

from otelbridge import semconv
from tests.collector.conftest import http_get
from tests.collector.metrics_bench import (
    COST,
    TOKENS,
    Metrics,
    make_call,
    make_span,
    running,
    usage,
)
from tests.grafana.filling import ROOT, rules_of_files

pytestmark = [pytest.mark.collector, pytest.mark.timeout(120)]

USERS = 10_000
A_REQUEST = 1000  # spans
USER_METRICS = tuple(
    f"otelbridge_gen_ai_user_{name}_total" for name in ("calls", "tokens", "cost_usd")
)
#: By which a rule asks whether a cap of deltatocumulative was reached.
REACHED = 'otelcol_deltatocumulative_datapoints_total{error="limit"}'


def documented_cap() -> int:
    """The default that docs/metrics.md states."""
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    found = re.search(r"`OTELBRIDGE_COLLECTOR_METRICS_USER_SERIES` \(([\d,]+)\)", text)
    assert found
    return int(found[1].replace(",", ""))


def series(metrics: Metrics) -> tuple[list[str], list[str]]:
    """Lines of the exposition: with a user id, without; those of settling spans are left out."""
    lines = [line for line in metrics.scrape().splitlines() if line and line[0] != "#"]
    of_users = [line for line in lines if 'user_id="' in line]
    return of_users, [line for line in lines if "user_id" not in line and "settled-" not in line]


def send_users(metrics: Metrics, first: int, after: int) -> None:
    """One call of each of these users, in one session each."""
    spans = [
        make_span(
            "chat",
            make_call(**usage(10, 5, 0.25))
            | {semconv.USER_ID: f"user-{number}", semconv.SESSION_ID: f"session-{number}"},
        )
        for number in range(first, after)
    ]
    metrics.send(*spans, service="crowded")


def test_ten_thousand_users_make_no_more_series_than_documented(collector_binary):
    """Series of users end at the default cap, nothing else grows with users, totals are whole."""
    cap = documented_cap()
    with running(collector_binary, ("user-metrics",)) as metrics:
        send_users(metrics, 0, 1)
        metrics.settle("crowded", 1)
        metrics.wait(lambda: all(metrics.samples(name) for name in USER_METRICS))
        _, others_with_one = series(metrics)

        for start in range(1, USERS, A_REQUEST):
            send_users(metrics, start, min(start + A_REQUEST, USERS))
        metrics.settle("crowded", USERS)
        metrics.wait(lambda: metrics.total(TOKENS, service_name="crowded") == 15 * USERS)
        metrics.wait(lambda: metrics.total(COST, service_name="crowded") == 0.25 * USERS)
        metrics.wait(lambda: _reached(metrics) > 0)

        of_users, others = series(metrics)
        assert cap * 0.9 < len(of_users) <= cap
        assert len(others) == len(others_with_one)
        tokens = [
            value for labels, value in metrics.samples(USER_METRICS[1]) if "user_id" in labels
        ]
        assert set(tokens) == {15.0}  # who has a series has all of it


def test_the_sign_of_a_reached_cap_is_the_one_that_rules_ask_for():
    """The selector that the test above finds in the Collector's own metrics stands in a rule."""
    assert any(REACHED in rule["expr"] for rule in rules_of_files())


def _reached(metrics: Metrics) -> float:
    """Data points that the Collector left out because of a cap."""
    name, _, labels = REACHED.partition("{")
    lines = http_get(metrics.collector.metrics_url).decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith(name) and labels.rstrip("}") in line
    )
