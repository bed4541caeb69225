"""Metrics queries as one SQL statement each: a row for each combination of labels.

The counting is the database's; rates, quantiles and second stages are made of the rows by
`otelbridge.local.series`. A span counts at its start, in the bucket (start + i * step, start + (i +
1) * step]. Neighbours: `compile_spansets` gives the spans, `compile` the other statements.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otelbridge.local.store.columns import SPANS
from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compile import Sql
from otelbridge.local.traceql.compile_fields import Catalog, Fields
from otelbridge.local.traceql.compile_spansets import Relation, Spansets, first_row
from otelbridge.local.traceql.compile_values import Typed, present
from otelbridge.local.traceql.plan import Plan
from otelbridge.local.traceql.predicates import demanded
from otelbridge.local.traceql.rewrite import row_scopes

#: Which spans count, and in which bucket.
TIME: Final = "s.start_ns > $start_ns AND s.start_ns <= $end_ns"
BUCKET: Final = "((s.start_ns - $start_ns - 1) // $step_ns)"
_HISTOGRAMS: Final = ("quantile_over_time", "histogram_over_time")
_COUNTS: Final = ("rate", "count_over_time")
#: Spans offered as exemplars: of all series together, and of each series at least. Some cannot be
#: shown (two of one trace, say), so there are more than an answer may have.
_OFFERED: Final = 400
_OFFERED_EACH: Final = 4


@dataclass(frozen=True, slots=True)
class MetricsSql:
    """The statement of a metrics query.

    A row is a series. Columns: for each label the alternatives `labels[i]` (types, at most one not
    NULL), then lists of one length: bucket numbers, and
    for count and rate: counts; for min, max and sum: values; for avg: sums, counts; for quantile
    and histogram: exponents of two, counts, whether the unit is nanoseconds. Last, with exemplars:
    a list of numbers of spans, of different buckets; `exemplars` tells of `$row_ids`: number,
    trace_id, span_id, start_ns, and the value in seconds or as it is (NULL for counts and
    histograms).
    """

    sql: Sql
    labels: tuple[tuple[str, ...], ...]
    exemplars: Sql


def metrics(plan: Plan, catalog: Catalog | None = None, *, exemplars: bool = False) -> MetricsSql:
    """Aggregates of the spans that start in ($start_ns, $end_ns], by `$step_ns`.

    [$span_lo, $span_hi] bounds the starts of the spans that decide (`plan.whole_traces`: of whole
    traces).
    """
    node = plan.metrics
    if node is None:
        raise TypeError("not a metrics query")
    spansets = Spansets(catalog, plan.pushdown)
    found = spansets.pipeline(plan.pipeline, Relation(None))
    fields = Fields(catalog)
    labels: list[tuple[str, ...]] = []
    extra = f", {BUCKET} AS b"
    names: list[str] = []
    for index, key in enumerate(node.by):
        value = first_row(fields, key) or {"s": "NULL::VARCHAR"}
        labels.append(tuple(value))
        for kind, sql in value.items():
            names.append(f"l{index}_{kind}")
            extra += f", {sql} AS {names[-1]}"
    if exemplars:
        extra += ", s.rowid AS row_id"
    if node.argument is not None:
        value = first_row(fields, node.argument)
        extra += _value_columns(node, value)
        if _may_lose(node, plan):
            extra += f", {fields.table('i', 'start_ns')} AS began, {present(value)} AS has"
    spans = spansets.scan(found, fields, extra, where=TIME)
    where = "WHERE x IS NOT NULL " if node.function in _HISTOGRAMS else ""
    keys = "".join(f"{name}, " for name in names)
    columns, having = _aggregates(node, plan)
    counts = "".join(f", {sql} AS {name}" for name, sql in columns.items())
    # One row for a series and not for a sample: the samples are put together faster here.
    lists = "".join(f", list({name})" for name in columns)
    if exemplars:
        counts += ", any_value(row_id) AS row_id"
        lists += f", list(row_id)[:greatest({_OFFERED_EACH}, {_OFFERED} // count(*) OVER ())]"
    text = (
        f"{spansets.with_clause()}SELECT {keys}list(b){lists} FROM "
        f"(SELECT {keys}b{counts} FROM ({spans}) {where}GROUP BY ALL{having}) GROUP BY ALL"
    )
    return MetricsSql(Sql(text), tuple(labels), _exemplars(node, catalog))


def _exemplars(node: ast.Metrics, catalog: Catalog | None) -> Sql:
    fields = Fields(catalog)
    value = "NULL::DOUBLE"
    if node.argument is not None and node.function not in _HISTOGRAMS:
        value = _number(first_row(fields, node.argument))
    return Sql(
        f"SELECT s.rowid, s.trace_id, s.span_id, s.start_ns, {value} FROM {SPANS} AS s "
        f"{fields.joins()} WHERE s.rowid IN (SELECT unnest($row_ids::BIGINT[]))"
    )


def _number(value: Typed) -> str:
    """A value as a double, durations in seconds."""
    double, whole = value.get("d", "NULL::DOUBLE"), value.get("i", "NULL::BIGINT")
    duration = value.get("dur", "NULL::BIGINT")
    return f"coalesce({double}, {duration} / 1e9::DOUBLE, {whole}::DOUBLE)"


def _value_columns(node: ast.Metrics, value: Typed) -> str:
    whole = value.get("i", "NULL::BIGINT")
    duration = value.get("dur", "NULL::BIGINT")
    if node.function in _HISTOGRAMS:
        number = f"coalesce({duration}, {whole})"
        power = f"ceil(log2({number}))::BIGINT"
        # The smallest power of two that holds the value; above 2^48 log2 may round to one too
        # small.
        exact = f"{power} + ({number} > (1::HUGEINT << {power}::INTEGER))::BIGINT"
        return (
            f", CASE WHEN {number} > {2**48} THEN {exact} WHEN {number} >= 2 THEN {power} END AS x"
            f", {duration} IS NOT NULL AS ns"
        )
    return f", {_number(value)} AS v"


def _may_lose(node: ast.Metrics, plan: Plan) -> bool:
    """Whether it is a sum of what some spans may not have."""
    if node.function != "sum_over_time" or node.argument in demanded(plan.pipeline):
        return False
    return not isinstance(node.argument, ast.Intrinsic) or bool(row_scopes(node.argument))


def _aggregates(node: ast.Metrics, plan: Plan) -> tuple[dict[str, str], str]:
    """The columns of a bucket by name, and which buckets have a sample (` HAVING ...`)."""
    if node.function in _COUNTS:
        return {"n": "count(*)"}, ""
    if node.function in _HISTOGRAMS:
        return {"e": "x", "n": "count(*)", "ns": "any_value(ns)"}, ""
    if node.function == "avg_over_time":
        return {"value": "sum(v)", "n": "count(v)"}, " HAVING count(v) > 0"
    kind = node.function.removesuffix("_over_time")
    columns, having = {"value": f"{kind}(v)"}, " HAVING count(v) > 0"
    if _may_lose(node, plan):
        # As in Tempo a span without a value spoils the sum when its trace comes after one with a
        # value.
        lost = "min(CASE WHEN has THEN began END) < max(CASE WHEN NOT has THEN began END)"
        having += f" AND NOT coalesce({lost}, false)"
    return columns, having
