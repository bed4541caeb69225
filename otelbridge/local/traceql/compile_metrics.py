"""Metrics queries as one SQL statement each: a row for each combination of labels.

The counting is the database's; rates, quantiles and second stages are made of the rows by
`otelbridge.local.series`. A span counts at its start, in the bucket (start + i * step, start + (i +
1) * step]. Neighbours: `compile_spansets` gives the spans, `compile` the other statements.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compile import Sql
from otelbridge.local.traceql.compile_fields import Catalog, Fields
from otelbridge.local.traceql.compile_spansets import Relation, Spansets, first_row
from otelbridge.local.traceql.compile_values import Typed, present
from otelbridge.local.traceql.plan import Plan
from otelbridge.local.traceql.rewrite import row_scopes

#: Which spans count, and in which bucket.
TIME: Final = "s.start_ns > $start_ns AND s.start_ns <= $end_ns"
BUCKET: Final = "((s.start_ns - $start_ns - 1) // $step_ns)"
_HISTOGRAMS: Final = ("quantile_over_time", "histogram_over_time")


@dataclass(frozen=True, slots=True)
class MetricsSql:
    """The statement of a metrics query.

    A row is a series. Columns: for each label the alternatives `labels[i]` (types, at most one not
    NULL), then lists of one length: bucket numbers, and
    for count and rate: counts; for min, max, avg: values, counts; for sum: values, counts, whether
    lost; for quantile and histogram: exponents of two, counts, whether the unit is nanoseconds.
    With exemplars, after these: trace_id, span_id, start_ns of one span, and its value in seconds
    or as it is.
    """

    sql: Sql
    labels: tuple[tuple[str, ...], ...]


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
    value = {}
    if node.argument is not None:
        value = first_row(fields, node.argument)
        extra += _value_columns(node, value, fields)
    spans = spansets.scan(found, fields, extra, where=TIME)
    having = "WHERE x IS NOT NULL " if node.function in _HISTOGRAMS else ""
    keys = "".join(f"{name}, " for name in names)
    columns = _aggregates(node, plan)
    if exemplars:
        number = "any_value(v)" if value and node.function not in _HISTOGRAMS else "NULL::DOUBLE"
        columns |= {
            "trace": "any_value(trace_id)", "span": "any_value(span_id)",
            "began_ns": "any_value(start_ns)", "shown": number,
        }  # fmt: skip
    counts = "".join(f", {sql} AS {name}" for name, sql in columns.items())
    # One row for a series and not for a sample: the samples are put together faster here.
    lists = "".join(f", list({name})" for name in columns)
    text = (
        f"{spansets.with_clause()}SELECT {keys}list(b){lists} FROM "
        f"(SELECT {keys}b{counts} FROM ({spans}) {having}GROUP BY ALL) GROUP BY ALL"
    )
    return MetricsSql(Sql(text), tuple(labels))


def _value_columns(node: ast.Metrics, value: Typed, fields: Fields) -> str:
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
    double = value.get("d", "NULL::DOUBLE")
    columns = f", coalesce({double}, {duration} / 1e9::DOUBLE, {whole}::DOUBLE) AS v"
    if node.function == "sum_over_time":
        began = fields.table("i", "start_ns")
        columns += f", {began} AS began, {present(value)} AS has" if not _is_sure(node) else ""
    return columns


def _is_sure(node: ast.Metrics) -> bool:
    return isinstance(node.argument, ast.Intrinsic) and not row_scopes(node.argument)


def _aggregates(node: ast.Metrics, plan: Plan) -> dict[str, str]:
    """The columns of a bucket by name; a name that is its own SQL is a key."""
    if node.function in ("rate", "count_over_time"):
        return {"n": "count(*)"}
    if node.function in _HISTOGRAMS:
        return {"e": "x", "n": "count(*)", "ns": "any_value(ns)"}
    kind = {"min_over_time": "min", "max_over_time": "max"}.get(node.function, "sum")
    if node.function != "sum_over_time":
        return {"value": f"{kind}(v)", "n": "count(v)"}
    if _is_sure(node) or node.argument in set(_demanded(plan.pipeline)):
        return {"value": "sum(v)", "n": "count(v)", "lost": "false"}
    # As in Tempo a span without a value spoils the sum when its trace comes after one with a value.
    lost = "min(CASE WHEN has THEN began END) < max(CASE WHEN NOT has THEN began END)"
    return {"value": "sum(v)", "n": "count(v)", "lost": f"coalesce({lost}, false)"}


def _demanded(pipeline: ast.Pipeline) -> Iterator[object]:
    """Attributes that every span of the result has, as far as the filters show it."""
    for element in pipeline.elements:
        if isinstance(element, ast.SpansetFilter):
            yield from _compared(element.expr)


def _compared(node: ast.FieldExpr) -> Iterator[object]:
    if not isinstance(node, ast.Binary):
        return
    if node.op == "&&":
        yield from _compared(node.left)
        yield from _compared(node.right)
    elif node.op == "!=" or (node.op in ("<", "<=", ">", ">=", "=") and not _has_nil(node)):
        yield from (node.left, node.right)


def _has_nil(node: ast.Binary) -> bool:
    return any(isinstance(n, ast.Literal) and n.kind == "nil" for n in (node.left, node.right))
