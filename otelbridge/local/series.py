"""Time series from the rows of a metrics statement: rates, quantiles, second stages, exemplars.

Input are the rows that `traceql.compile_metrics` describes; the number of buckets and the step come
from `query`, which runs the statement. Pure functions; rules as measured on Tempo 3.0.3.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compile import Value, decode
from otelbridge.local.traceql.compile_values import KIND, STATUS
from otelbridge.local.traceql.printing import to_text

#: Exemplars of one answer at most, and of one trace one.
MAX_EXEMPLARS: Final = 100
_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
#: Lists of values in a row; one for the functions that are not here.
_COLUMNS: Final = {"avg_over_time": 2, "quantile_over_time": 3, "histogram_over_time": 3}
Label = tuple[str, Value]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A span that stands for a sample."""

    trace_id: str
    span_id: str
    timestamp_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """Labels and (timestamp in ms, value) samples by time; a missing sample is NaN in Tempo."""

    labels: tuple[Label, ...]
    samples: tuple[tuple[int, float], ...]
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(frozen=True, slots=True)
class Buckets:
    """The time axis: bucket i covers (start + i * step, start + (i + 1) * step] nanoseconds."""

    start_ns: int
    step_ns: int
    count: int

    def timestamp_ms(self, bucket: int) -> int:
        """The right edge of a bucket."""
        return (self.start_ns + (bucket + 1) * self.step_ns) // 1_000_000


@dataclass(frozen=True, slots=True)
class _Group:
    """What a row says of one combination of labels: lists of one length."""

    buckets: Sequence[int] = ()
    columns: Sequence[Sequence[Any]] = ()
    row_ids: Sequence[int] = ()


def build(
    node: ast.Metrics,
    stages: Sequence[ast.TopBottom | ast.MetricsFilter],
    alternatives: Sequence[tuple[str, ...]],
    rows: Iterable[tuple[Any, ...]],
    buckets: Buckets,
    exemplars: Iterable[tuple[Any, ...]] = (),
) -> list[Series]:
    """The series of a metrics query, ordered by their labels.

    `exemplars` are the rows that tell of the spans offered as such, if any were.
    """
    width = sum(map(len, alternatives))
    size = _COLUMNS.get(node.function, 1)
    groups: dict[tuple[Label, ...], _Group] = {}
    for row in rows:
        if row[width] is None:
            continue  # nothing was counted, and there was nothing to group by
        rest = row[width + 1 :]
        row_ids = rest[size] if len(rest) > size else ()
        groups[_labels(node, alternatives, row)] = _Group(row[width], rest[:size], row_ids)
    if not node.by and node.function in ("rate", "count_over_time"):
        groups.setdefault((), _Group(columns=((),)))
    chosen = _chosen(groups.values(), {row[0]: row[1:] for row in exemplars})
    times = [buckets.timestamp_ms(b) for b in range(buckets.count)]
    result = []
    for (labels, group), spans in zip(groups.items(), chosen, strict=True):
        for extra, samples in _samples(node, group, buckets, times):
            shown = tuple(_exemplars(spans, dict(samples), buckets)) if spans else ()
            result.append(Series(_final_labels(node, labels, extra), tuple(samples), shown))
            spans.clear()  # the first of several quantiles has them
    for stage in stages:
        result = (
            _filtered(stage, result)
            if isinstance(stage, ast.MetricsFilter)
            else _best(stage, result)
        )
    return sorted(result, key=_order)


def build_comparison(rows: Iterable[tuple[Any, ...]], buckets: Buckets) -> list[Series]:
    """The series of `compare()`: counts by attribute value, and by attribute (`..._total`)."""
    counts: dict[tuple[Label, ...], dict[int, int]] = {}
    for picked, key, value, bucket, count in rows:
        side = "selection" if picked else "baseline"
        meta = side if value is not None else f"{side}_total"
        shown = decode(value) if value is not None else ("s", "nil")
        labels = (("__meta_type", ("s", meta)), (key, shown))
        counts.setdefault(labels, {})[int(bucket)] = int(count)
    found = [
        Series(
            labels,
            tuple((buckets.timestamp_ms(b), float(row.get(b, 0))) for b in range(buckets.count)),
        )
        for labels, row in counts.items()
    ]
    return sorted(found, key=_order)


def _labels(
    node: ast.Metrics, alternatives: Sequence[tuple[str, ...]], row: tuple[Any, ...]
) -> tuple[Label, ...]:
    labels = []
    column = 0
    for key, kinds in zip(node.by, alternatives, strict=True):
        value: Value = ("nil", None)
        for kind, cell in zip(kinds, row[column:], strict=False):
            if cell is not None:
                value = (kind, _word(kind, cell))
                break
        column += len(kinds)
        labels.append((to_text(key), value))
    return tuple(labels)


def _word(kind: str, cell: Any) -> Any:
    if kind == "status":
        return STATUS[cell]
    if kind == "kind":
        return KIND[cell]
    return tuple(cell) if isinstance(cell, list) else cell


def _final_labels(
    node: ast.Metrics, labels: tuple[Label, ...], extra: tuple[Label, ...]
) -> tuple[Label, ...]:
    """Labels without nil ones; when none would be left the first stays, with the text "nil"."""
    kept = tuple(label for label in labels if label[1][0] != "nil")
    if labels and not kept and not extra:
        kept = ((labels[0][0], ("s", "nil")),)
    if not labels and not extra:
        kept = (("__name__", ("s", node.function)),)
    return kept + extra


#: Timestamp in ms and value, by time.
_Samples: TypeAlias = list[tuple[int, float]]


def _samples(
    node: ast.Metrics, group: _Group, buckets: Buckets, times: Sequence[int]
) -> Iterator[tuple[tuple[Label, ...], _Samples]]:
    if node.function in ("rate", "count_over_time"):
        unit = buckets.step_ns / 1e9 if node.function == "rate" else 1.0
        values = [0.0] * buckets.count
        for bucket, count in zip(group.buckets, group.columns[0], strict=True):
            values[bucket] = count / unit
        yield (), list(zip(times, values, strict=True))
    elif node.function in ("quantile_over_time", "histogram_over_time"):
        yield from _histogram(node, group, times)
    elif group.buckets:
        found = group.columns[0]
        if node.function == "avg_over_time":
            found = [value / count for value, count in zip(*group.columns, strict=True)]
        by_bucket = dict(zip(group.buckets, found, strict=True))
        # Sorting the numbers alone takes a third of the time of sorting the pairs.
        yield (), [(times[bucket], float(by_bucket[bucket])) for bucket in sorted(by_bucket)]


def _histogram(
    node: ast.Metrics, group: _Group, times: Sequence[int]
) -> Iterator[tuple[tuple[Label, ...], _Samples]]:
    if not group.buckets:
        return
    exponents, counts, nanoseconds = group.columns
    unit = 1e9 if any(nanoseconds) else 1.0
    if node.function == "histogram_over_time":
        by_exponent: dict[int, dict[int, int]] = {}
        for bucket, exponent, count in zip(group.buckets, exponents, counts, strict=True):
            by_exponent.setdefault(exponent, {})[bucket] = count
        for exponent, found in sorted(by_exponent.items()):
            label = ("__bucket", ("d", 2.0**exponent / unit))
            yield (label,), [(time, float(found.get(b, 0))) for b, time in enumerate(times)]
        return
    by_bucket: list[list[tuple[int, int]]] = [[] for _ in times]
    for bucket, exponent, count in zip(group.buckets, exponents, counts, strict=True):
        by_bucket[bucket].append((exponent, count))
    for listed in by_bucket:
        listed.sort()
    for q in node.quantiles:
        samples = [
            (time, quantile(q, listed) / unit)
            for time, listed in zip(times, by_bucket, strict=True)
        ]
        yield (("p", ("d", q)),), samples


def quantile(q: float, counts: Sequence[tuple[int, int]]) -> float:
    """A quantile of values counted by power of two: `counts` are (exponent, count), ascending.

    Interpolated on the logarithm between the previous non-empty bucket and the one that is hit; 0
    for nothing.
    """
    total = 0
    for _exponent, count in counts:
        total += count
    needed = max(1, math.ceil(q * total))
    below = 0
    low: int | None = None
    for exponent, count in counts:
        if below + count == needed:
            return 2.0**exponent
        if below + count > needed:
            low = exponent - 1 if low is None else low
            return float(2 ** (low + (exponent - low) * (needed - below) / count))
        below += count
        low = exponent
    return 0.0


def offered(rows: Iterable[tuple[Any, ...]]) -> list[int]:
    """The numbers of the spans that rows with exemplars offer as such."""
    return [row_id for row in rows for row_id in row[-1] or ()]


def _chosen(
    groups: Collection[_Group], offered: Mapping[int, tuple[Any, ...]]
) -> list[list[tuple[Any, ...]]]:
    """For each group the spans to show: the groups take turns, and no trace is shown twice."""
    chosen: list[list[tuple[Any, ...]]] = [[] for _ in groups]
    turns = max((len(group.row_ids) for group in groups), default=0) if offered else 0
    taken: set[Any] = set()
    for turn in range(turns):
        for group, of_group in zip(groups, chosen, strict=True):
            span = offered.get(group.row_ids[turn]) if turn < len(group.row_ids) else None
            if span is None or span[0] in taken:
                continue
            if len(taken) >= MAX_EXEMPLARS:
                return chosen
            taken.add(span[0])
            of_group.append(span)
    return chosen


def _exemplars(
    spans: Iterable[tuple[Any, ...]], samples: Mapping[int, float], buckets: Buckets
) -> Iterator[Exemplar]:
    for trace_id, span_id, start_ns, value in spans:
        number = value
        if number is None:  # of a count: the sample that it belongs to
            bucket = (start_ns - buckets.start_ns - 1) // buckets.step_ns
            number = samples.get(buckets.timestamp_ms(bucket), 0.0)
        yield Exemplar(trace_id.hex, f"{span_id:016x}", start_ns // 1_000_000, float(number))


def _order(series: Series) -> str:
    return ",".join(f"{key}={value}" for key, (_kind, value) in series.labels)


def _filtered(stage: ast.MetricsFilter, found: list[Series]) -> list[Series]:
    limit = stage.value.value / 1e9 if stage.value.kind == "duration" else float(stage.value.value)
    test = _COMPARISONS[stage.op]
    result = []
    for series in found:
        samples = tuple(sample for sample in series.samples if test(sample[1], limit))
        if samples:
            result.append(replace(series, samples=samples))
    return result


def _best(stage: ast.TopBottom, found: list[Series]) -> list[Series]:
    """The best `limit` series at each time; of equals topk takes the first, bottomk the last."""
    top = stage.function == "topk"
    ordered = sorted(found, key=_order, reverse=not top)
    by_time: dict[int, list[tuple[float, int]]] = {}
    for index, series in enumerate(ordered):
        for time, value in series.samples:
            if not math.isnan(value):
                by_time.setdefault(time, []).append((-value if top else value, index))
    winners = {
        (index, time)
        for time, values in by_time.items()
        for _value, index in sorted(values)[: stage.limit]
    }
    result = []
    for index, series in enumerate(ordered):
        samples = tuple(sample for sample in series.samples if (index, sample[0]) in winners)
        if samples:
            result.append(replace(series, samples=samples))
    return result


def default_step_ns(start_ns: int, end_ns: int) -> int:
    """The step when none is asked for: 1/240 of the range, rounded down to a round duration."""
    step = (end_ns - start_ns) // 240
    if end_ns - start_ns < 60 * _SECOND:
        return max(step // (50 * _MILLI) * (50 * _MILLI), 50 * _MILLI)
    for unit in (3600 * _SECOND, 300 * _SECOND, 60 * _SECOND, 15 * _SECOND, 5 * _SECOND):
        if step >= unit:
            return step // unit * unit
    return max(step // _SECOND * _SECOND, _SECOND)


_MILLI: Final = 1_000_000
_SECOND: Final = 1_000_000_000


def aligned(start_ns: int, end_ns: int, step_ns: int) -> Buckets:
    """The buckets of a range query: outward to whole steps, and one more before the start."""
    first = start_ns // step_ns * step_ns - step_ns
    last = -(-end_ns // step_ns) * step_ns
    return Buckets(first, step_ns, (last - first) // step_ns)
