"""`compare({selection}, n, start, end)` as SQL: how often each attribute value stands in the
selection and outside.

Every attribute of the span and its resource is counted by value, the `n` most frequent values of
each attribute are kept for either side, and the totals of each attribute beside them. Neighbours:
`compile_metrics` for the other functions, `otelbridge.local.series` for the series.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

from typing import Final

from otelbridge.local.store import columns
from otelbridge.local.traceql.compile import Sql
from otelbridge.local.traceql.compile_fields import Catalog, Fields
from otelbridge.local.traceql.compile_metrics import BUCKET, TIME
from otelbridge.local.traceql.compile_spansets import Relation, Spansets, encode
from otelbridge.local.traceql.compile_values import quote
from otelbridge.local.traceql.plan import Plan

_SCALARS: Final = ("s", "i", "d", "b")
_INTRINSICS: Final = (
    ("name", {"s": "name"}),
    ("status", {"status": "status"}),
    ("kind", {"kind": "kind"}),
    ("rootName", {"s": "root_name"}),
    ("rootServiceName", {"s": "root_service"}),
)


def compare(plan: Plan, catalog: Catalog | None = None) -> Sql:
    """Counts of values, with the parameters of `compile_metrics.metrics`.

    Columns: whether selected, attribute as it is written, encoded value (NULL: total), bucket,
    count.
    """
    node = plan.metrics
    if node is None or node.selection is None:
        raise TypeError("not a compare() query")
    spansets = Spansets(catalog, plan.pushdown)
    found = spansets.pipeline(plan.pipeline, Relation(None))
    fields = Fields(catalog)
    selected = fields.condition(node.selection.expr)
    if node.window:
        first, last = node.window
        selected = f"({selected}) AND s.start_ns BETWEEN {first:d} AND {last:d}"
    hot = "".join(f", s.{one.column}" for one in columns.HOT_SPAN)
    maps = "".join(f", s.{columns.MAP_COLUMNS[kind]}" for kind in _SCALARS)
    extra = (
        f", coalesce({selected}, false) AS picked, {BUCKET} AS b"
        ", s.resource_id, s.name, s.status, s.kind"
        f", {fields.table('i', 'root_name')}, {fields.table('i', 'root_service')}{hot}{maps}"
    )
    spans = spansets.add(spansets.scan(found, fields, extra, where=TIME), shared=True)
    pairs = spansets.add(
        f"SELECT picked, b, unnest({_span_pairs()}, recursive := true) FROM {spans} UNION ALL "
        f"SELECT p.picked, p.b, unnest({_resource_pairs()}, recursive := true) FROM {spans} AS p "
        f"JOIN {columns.RESOURCES} AS r ON r.id = p.resource_id"
    )
    counts = spansets.add(
        f"SELECT picked, k, v, b, count(*) AS n FROM {pairs} WHERE v IS NOT NULL GROUP BY ALL",
        shared=True,
    )
    ranks = spansets.add(
        "SELECT picked, k, v, "
        "row_number() OVER (PARTITION BY picked, k ORDER BY sum(n) DESC, v) AS rank "
        f"FROM {counts} GROUP BY picked, k, v"
    )
    return Sql(
        f"{spansets.with_clause()}SELECT c.picked, c.k, c.v, c.b, c.n "
        f"FROM {counts} AS c JOIN {ranks} AS t "
        "ON t.picked = c.picked AND t.k = c.k AND t.v = c.v "
        f"WHERE t.rank <= {node.top:d} UNION ALL "
        f"SELECT picked, k, NULL, b, sum(n) FROM {counts} GROUP BY picked, k, b"
    )


def _span_pairs() -> str:
    pairs = [_pair(name, encode(dict(value), "NULL")) for name, value in _INTRINSICS]
    pairs += [
        _pair(f"span.{one.key}", encode({one.type: one.column}, "NULL")) for one in columns.HOT_SPAN
    ]
    return _concat(pairs, "", "span.")


def _resource_pairs() -> str:
    pairs = [
        _pair(f"resource.{one.key}", encode({one.type: f"r.{one.column}"}, "NULL"))
        for one in columns.HOT_RESOURCE
    ]
    return _concat(pairs, "r.", "resource.")


def _pair(key: str, value: str) -> str:
    return f"{{'k': {quote(key)}, 'v': {value}}}"


def _concat(pairs: list[str], alias: str, prefix: str) -> str:
    lists = [f"[{', '.join(pairs)}]"]
    for kind in _SCALARS:
        entry = f"{{'k': {quote(prefix)} || e.key, 'v': {encode({kind: 'e.value'}, 'NULL')}}}"
        entries = f"map_entries({alias}{columns.MAP_COLUMNS[kind]})"
        lists.append(f"coalesce(list_transform({entries}, lambda e: {entry}), [])")
    sql = lists[0]
    for one in lists[1:]:
        sql = f"list_concat({sql}, {one})"
    return sql
