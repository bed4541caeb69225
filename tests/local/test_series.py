"""Labels of series whose spans lack what they are grouped by, as Tempo 3.0.3 answers them."""

from __future__ import annotations

import pytest

from otelbridge.local import series
from otelbridge.local.series import Buckets
from otelbridge.local.traceql.parser import parse


@pytest.mark.parametrize(
    ("query", "row", "labels"),
    [
        ("rate() by (span.x)", (None, [0], [3]), (("span.x", ("s", "nil")),)),
        ("sum_over_time(span.v) by (span.x)", (None, [0], [3.5]), (("span.x", ("s", "nil")),)),
        (
            "quantile_over_time(duration, .5) by (span.x)",
            (None, [0], [20], [3], [True]),
            (("p", ("d", 0.5)),),
        ),
        (
            "histogram_over_time(duration) by (span.x)",
            (None, [0], [20], [3], [True]),
            (("__bucket", ("d", 2.0**20 / 1e9)),),
        ),
    ],
)
def test_a_group_without_the_attribute(query: str, row: tuple, labels: tuple):
    """It is called nil where it would have no label at all, and otherwise has none for it."""
    node = parse(f"{{ }} | {query}").metrics
    (found,) = series.build(node, (), (("s",),), [row], Buckets(0, 10**9, 1))
    assert found.labels == labels
