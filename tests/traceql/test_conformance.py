"""The local store against real Tempo's recorded answers, in order, shuffled and in small pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from otelbridge.local import query
from otelbridge.local.store.database import Store
from tests.traceql import cases

_REQUESTS, _BASE_NS = cases.spans()
_BASE_S = _BASE_NS // 10**9


@pytest.fixture(scope="module", params=["in order", "shuffled, one span a request, twice"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store with the recorded spans; how they came must not matter."""
    sent = list(_REQUESTS)
    if request.param != "in order":
        sent = cases.pieces(_REQUESTS) * 2
        random.Random(5).shuffle(sent)
    filled = cases.store_of(sent)
    yield filled
    filled.close()


def _search(store: Store, text: str) -> query.SearchAnswer:
    return query.search(
        store, text, start_s=_BASE_S - 60, end_s=_BASE_S + 840, limit=1000, spss=100
    )


@pytest.mark.parametrize("case", cases.answered("search.jsonl"), ids=lambda case: case["id"])
def test_a_search_answers_as_tempo_does(store: Store, case: cases.Json) -> None:
    """Traces, spans, spansets with counts and attributes, and selected attributes are Tempo's."""
    traces = _search(store, case["query"]).traces
    spans = {
        trace.trace_id: sorted({span.span_id for one in trace.span_sets for span in one.spans})
        for trace in traces
    }
    assert spans == cases.trace_spans(case)
    if "spansets" in case:
        assert {
            trace.trace_id: sorted(
                (
                    (
                        sorted(span.span_id for span in one.spans),
                        one.matched,
                        [(key, cases.plain(value)) for key, value in one.attributes],
                    )
                    for one in trace.span_sets
                ),
                key=repr,
            )
            for trace in traces
        } == cases.trace_sets(case)
    if "span_attributes" in case:
        # Nested-set numbers depend on the order of siblings that start together.
        assert {
            span.span_id: {
                key: cases.plain(value)
                for key, value in span.attributes
                if not key.startswith("nestedSet")
            }
            for trace in traces
            for one in trace.span_sets
            for span in one.spans
        } == {
            span: {
                key: cases.recorded(value)
                for key, value in attributes.items()
                if not key.startswith("nestedSet")
            }
            for span, attributes in case["span_attributes"].items()
        }


@pytest.mark.parametrize("case", cases.answered("metrics.jsonl"), ids=lambda case: case["id"])
def test_a_metrics_query_answers_as_tempo_does(store: Store, case: cases.Json) -> None:
    """Series, their labels and every sample are Tempo's."""
    start = _BASE_NS + case["start_offset_s"] * 10**9
    end = _BASE_NS + case["end_offset_s"] * 10**9
    if case["endpoint"].endswith("query_range"):
        answer = query.query_range(
            store, case["query"], start_ns=start, end_ns=end, step_ns=cases.step_ns(case["step"])
        )
    else:
        answer = query.query_instant(store, case["query"], start_ns=start, end_ns=end)
    got = {
        cases.label_text((key, cases.plain(value)) for key, value in series.labels): [
            [time - _BASE_NS // 10**6, pytest.approx(value, abs=1e-9)]
            for time, value in series.samples
        ]
        for series in answer.series
    }
    assert got in [cases.recorded_series(case, one) for one in cases.accepted_series(case)]
