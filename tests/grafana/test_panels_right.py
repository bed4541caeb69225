"""Numbers of panels against the spans in the store: two ways that share only the Collector.

PromQL counts what the Collector made of spans, TraceQL the spans that it passed on. Shares must
agree; `increase` may miss the first values of series that begin within the range, which here is the
first of `WAVES` equal waves. Servers: `filling.py`.
"""

from __future__ import annotations

import pytest

from grafana.dashboards_src import index, kit
from tests.grafana.asking import RANGE_S
from tests.grafana.filling import SERVICES, WAVES

pytestmark = [pytest.mark.collector, pytest.mark.e2e, pytest.mark.timeout(240)]

PANELS = {entry["key"]: entry for entry in index.listing()}
#: `increase` extrapolates to the range's ends, by some scrapes.
EXTRAPOLATED = 1.1
LEAST_SHARE = (WAVES - 1) / WAVES / EXTRAPOLATED


def shown(asker, key: str, emitter: str) -> float:
    """The number of a panel with one, for an emitter's services."""
    (query,) = PANELS[key]["queries"]
    ((_, (number,)),) = asker.ask(query, {"service": SERVICES[emitter]}).rows
    return number


def stored(asker, condition: str, emitter: str, function: str = "count_over_time()") -> float:
    """A number over the stored model calls of an emitter."""
    calls = f"span.gen_ai.operation.name =~ `{kit.MODEL_CALLS}`"
    service = "resource.service.name =~ `${service:regex}`"
    text = f"{{ {calls} && {condition} && {service} }} | {function}"
    query = {"kind": "traceql-metrics", "text": text, "instant": True}
    rows = asker.ask(query, {"service": SERVICES[emitter]}).rows
    return sum(number for _, numbers in rows for number in numbers)


@pytest.mark.parametrize("emitter", SERVICES)
def test_the_error_rate_is_that_of_the_stored_calls(asker, emitter):
    """Failed calls of all calls, the same by metrics as by spans; demo waves differ a little."""
    failed, calls = stored(asker, "status = error", emitter), stored(asker, "true", emitter)
    assert shown(asker, "llm-error-rate", emitter) == pytest.approx(failed / calls, abs=0.02)


@pytest.mark.parametrize("emitter", SERVICES)
def test_requests_and_tokens_are_those_of_the_stored_calls(asker, emitter):
    """Requests are per minute of the range, tokens are input and output of what was no cache."""
    minutes = RANGE_S / 60
    requests = stored(asker, "true", emitter)
    assert LEAST_SHARE < shown(asker, "llm-requests", emitter) * minutes / requests < EXTRAPOLATED
    tokens = sum(
        stored(
            asker,
            f"span.{usage} != nil && !(span.otelbridge.cached = true)",
            emitter,
            f"sum_over_time(span.{usage})",
        )
        for usage in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    )
    assert LEAST_SHARE < shown(asker, "llm-tokens-total", emitter) / tokens < EXTRAPOLATED


@pytest.mark.parametrize("emitter", PANELS["llm-cost-total"]["emitters"])
def test_cost_is_that_of_the_stored_calls(asker, emitter):
    """The total in US dollars, without answers from a cache."""
    uncached = "span.gen_ai.usage.cost != nil && !(span.otelbridge.cached = true)"
    cost = stored(asker, uncached, emitter, "sum_over_time(span.gen_ai.usage.cost)")
    assert LEAST_SHARE < shown(asker, "llm-cost-total", emitter) / cost < EXTRAPOLATED
