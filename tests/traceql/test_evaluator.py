"""The oracle against real Tempo's recorded answers, so that it can stand in for Tempo elsewhere."""

from __future__ import annotations

import pytest

from otelbridge.local import series
from otelbridge.local.traceql import parser
from tests.traceql import cases, evaluator

_TRACES = cases.decoded()
_BASE_NS = cases.spans()[1]
_QUERIES = [case for case in cases.answered("search.jsonl") if case["query"]]


@pytest.mark.parametrize("case", _QUERIES, ids=lambda case: case["id"])
def test_the_evaluator_finds_the_spans_that_tempo_found(case: cases.Json) -> None:
    """Spans, and spansets with their counts and attributes where recorded, are Tempo's."""
    found = evaluator.search(_TRACES, parser.parse(case["query"]))
    spans = {
        trace: sorted({span.span_id for one in sets for span in one.spans})
        for trace, sets in found.items()
    }
    assert spans == cases.trace_spans(case)
    if "spansets" in case:
        assert {
            trace: sorted(
                (
                    (
                        sorted(span.span_id for span in one.spans),
                        len(one.spans),
                        [(key, cases.plain(value)) for key, value in one.attributes],
                    )
                    for one in sets
                ),
                key=repr,
            )
            for trace, sets in found.items()
        } == cases.trace_sets(case)


@pytest.mark.parametrize("case", cases.answered("metrics.jsonl"), ids=lambda case: case["id"])
def test_the_evaluator_counts_what_tempo_counted(case: cases.Json) -> None:
    """Series, their labels and every sample are Tempo's."""
    start = _BASE_NS + case["start_offset_s"] * 10**9
    end = _BASE_NS + case["end_offset_s"] * 10**9
    buckets = series.Buckets(start, end - start, 1)
    if case["endpoint"].endswith("query_range"):
        step = cases.step_ns(case["step"]) or series.default_step_ns(start, end)
        buckets = series.aligned(start, end, step)
    query = parser.parse(case["query"])
    found = evaluator.metrics(_TRACES, query, buckets.start_ns, buckets.step_ns, buckets.count)
    got = {
        cases.label_text((key, cases.plain(value)) for key, value in labels): [
            [buckets.timestamp_ms(b) - _BASE_NS // 10**6, pytest.approx(value, abs=1e-9)]
            for b, value in sorted(samples.items())
        ]
        for labels, samples in found.items()
    }
    assert got in [cases.recorded_series(case, one) for one in cases.accepted_series(case)]
