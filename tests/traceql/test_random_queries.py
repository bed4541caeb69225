"""Random spans and random queries: what the store answers is what the plain evaluator answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otelbridge.local import query
from otelbridge.local.store.database import Store
from otelbridge.local.traceql import ast, parser, validate
from otelbridge.local.traceql.errors import TraceQLError
from otelbridge.local.traceql.printing import to_text
from tests.traceql import cases, evaluator, random_queries

_BASE_S = random_queries.BASE_NS // 10**9
_STEP_NS = 30 * 10**9
_BUCKETS = 6
_EXAMPLES = 25


def _accepted(text: str, *, metrics: bool) -> ast.Query | None:
    """The tree of a query that validation lets pass."""
    try:
        tree = parser.parse(text)
        validate.validate(tree, metrics=metrics)
    except TraceQLError:
        return None  # one of the few combinations that are refused, such as service.name = nil
    return tree


class _Plain:
    """A store that keeps no catalog: the SQL looks for every type of an attribute."""

    def __init__(self, store: Store) -> None:
        self.snapshot = store.snapshot


def _sets(sets: list[tuple[list[str], list[Any]]]) -> list[str]:
    return sorted(repr(one) for one in sets)


def _check_search(store: Any, traces: list[list[evaluator.Span]], text: str) -> None:
    tree = _accepted(text, metrics=False)
    if tree is None:
        return
    expected = {
        trace: _sets(
            [
                (
                    sorted(span.span_id for span in one.spans),
                    [(key, cases.plain(value)) for key, value in one.attributes],
                )
                for one in sets
            ]
        )
        for trace, sets in evaluator.search(traces, tree).items()
    }
    answer = query.search(
        store, text, start_s=_BASE_S - 10, end_s=_BASE_S + 1000, limit=1000, spss=100
    )
    assert {
        trace.trace_id: _sets(
            [
                (
                    sorted(span.span_id for span in one.spans),
                    [(key, cases.plain(value)) for key, value in one.attributes],
                )
                for one in trace.span_sets
            ]
        )
        for trace in answer.traces
    } == expected, text


def _check_metrics(store: Any, traces: list[list[evaluator.Span]], text: str) -> None:
    tree = _accepted(text, metrics=True)
    if tree is None:
        return
    first_ns = random_queries.BASE_NS - _STEP_NS
    expected = {
        repr([(key, cases.plain(value)) for key, value in labels]): {
            bucket: round(value, 6) for bucket, value in samples.items()
        }
        for labels, samples in evaluator.metrics(traces, tree, first_ns, _STEP_NS, _BUCKETS).items()
    }
    # The range is widened by one step at its start, as Tempo does.
    answer = query.query_range(
        store, text, start_ns=first_ns + _STEP_NS, end_ns=first_ns + _BUCKETS * _STEP_NS,
        step_ns=_STEP_NS,
    )  # fmt: skip
    assert answer.buckets.start_ns == first_ns
    assert {
        repr([(key, cases.plain(value)) for key, value in series.labels]): {
            (time * 10**6 - first_ns) // _STEP_NS - 1: round(value, 6)
            for time, value in series.samples
        }
        for series in answer.series
    } == expected, text


# The strategies' own text is long; hypothesis only prints it when it reports a failure.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(
    max_examples=_EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    random_queries.requests(),
    st.lists(random_queries.SEARCHES, min_size=3, max_size=4),
    st.lists(random_queries.METRICS_QUERIES, min_size=1, max_size=2),
)
def test_the_store_answers_what_the_evaluator_answers(
    requests: list[dict[str, Any]], searches: list[ast.Query], metrics: list[ast.Query]
) -> None:
    """Spans, spansets, their attributes, series and samples of random queries are equal."""
    traces = evaluator.decode(requests)
    store = cases.store_of(requests)
    try:
        for source in (store, _Plain(store)):
            for search in searches:
                _check_search(source, traces, to_text(search))
            for counted in metrics:
                _check_metrics(source, traces, to_text(counted))
    finally:
        store.close()
