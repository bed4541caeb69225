"""Plans as SQL text for DuckDB; nothing here talks to a database.

A search is two statements: `search` finds the newest traces with a match and the ids of the spans
to show, `details` fetches what is shown of those spans. `$name` in the text is a parameter that the
runner gives, named in `Sql.parameters`; values of the query stand in the text as quoted literals.
Neighbours: `compile_spansets`, `compile_fields`, `compile_metrics`; `otelbridge.local.query` runs
it.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from otelbridge.local.store import columns
from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compile_fields import Catalog, Fields
from otelbridge.local.traceql.compile_spansets import RANGE, Relation, Spansets, encode, first_row
from otelbridge.local.traceql.plan import Plan

#: A decoded value: its type (a letter of `columns.ValueType`, or "dur", "status", "kind", "nil")
#: and itself.
Value = tuple[str, Any]

#: Names of the parameters that bound a statement; see `search`.
_PARAMETER: Final = re.compile(r"\$([a-z_]+)")
_STRING: Final = re.compile(r"'(?:[^']|'')*'")


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement and the names of its parameters."""

    text: str

    @property
    def parameters(self) -> frozenset[str]:
        """What the runner has to give, and nothing else may be given."""
        return frozenset(_PARAMETER.findall(_STRING.sub("", self.text)))


@dataclass(frozen=True, slots=True)
class SearchSql:
    """The statement of a search; `attributes` names the values in the column `sk`, in order.

    Columns: trace_id, start_ns and end_ns of the trace, root_name, root_service, span_id, matched
    (spans of the spanset, before the cut to `spss`), sk (list of encoded values, or NULL).
    Rows of a trace stand together, newest trace first; those of a spanset too, spans by start.
    """

    sql: Sql
    attributes: tuple[str, ...]


def search(plan: Plan, catalog: Catalog | None = None) -> SearchSql:
    """The newest `$limit` traces that begin in [$span_lo, $trace_hi], end at `$from_ns` or later
    and match.

    `$span_hi` is the latest start of a span of those traces, or later; `$spss` the spans shown of a
    spanset.
    """
    spansets = Spansets(catalog, plan.pushdown)
    found = spansets.pipeline(plan.pipeline, Relation(None))
    name = spansets.named(found)
    kept = spansets.add(
        "SELECT i.trace_id, i.start_ns, i.end_ns, i.root_name, i.root_service "
        f"FROM {columns.TRACES} AS i "
        "WHERE i.start_ns BETWEEN $span_lo AND $trace_hi AND i.end_ns >= $from_ns "
        f"AND i.trace_id IN (SELECT trace_id FROM {name}) "
        "ORDER BY i.start_ns DESC, i.trace_id DESC LIMIT $limit",
        shared=True,
    )
    sk = "r.sk" if found.values else "NULL::VARCHAR[]"
    part = "r.trace_id, r.sk" if found.values else "r.trace_id"
    text = (
        f"{spansets.with_clause()}"
        "SELECT r.trace_id, k.start_ns, k.end_ns, k.root_name, k.root_service, "
        f"r.span_id, count(*) OVER (PARTITION BY {part}) AS matched, {sk} AS sk "
        f"FROM {name} AS r JOIN {kept} AS k ON k.trace_id = r.trace_id "
        f"QUALIFY row_number() OVER (PARTITION BY {part} ORDER BY r.start_ns, r.span_id) <= $spss "
        "ORDER BY k.start_ns DESC, r.trace_id DESC, sk, r.start_ns, r.span_id"
    )
    return SearchSql(Sql(text), found.values)


def window_bounds() -> Sql:
    """Of the traces that begin at `$trace_hi` or before and end at `$from_ns` or later.

    Columns: their number, the first and the last start, the last end, the longest duration, the
    first start among the newest `$newest`; NULLs without any.
    """
    traces = f"FROM {columns.TRACES} WHERE start_ns <= $trace_hi AND end_ns >= $from_ns"
    newest = f"SELECT start_ns {traces} ORDER BY start_ns DESC LIMIT $newest"
    return Sql(
        "SELECT count(*), min(start_ns), max(start_ns), max(end_ns), max(end_ns - start_ns), "
        f"(SELECT min(start_ns) FROM ({newest})) {traces}"
    )


def details(plan: Plan, catalog: Catalog | None = None) -> Sql:
    """What is shown of the spans `$trace_ids[i]`, `$span_ids[i]`: ids, name, start, duration,
    fields.

    Columns after the first five: one encoded value for each of `plan.shown`, NULL when absent.
    """
    fields = Fields(catalog)
    shown = "".join(
        f", {encode(first_row(fields, node), 'NULL')} AS v{index}"
        for index, node in enumerate(plan.shown)
    )
    return Sql(
        f"SELECT s.trace_id, s.span_id, s.name, s.start_ns, s.duration_ns{shown} "
        f"FROM {columns.SPANS} AS s {fields.joins()} WHERE {RANGE} AND (s.trace_id, s.span_id) IN "
        "(SELECT unnest($trace_ids::UUID[]), unnest($span_ids::UBIGINT[]))"
    )


def service_stats() -> Sql:
    """Spans and failed spans by service of the traces `$trace_ids`."""
    return Sql(
        "SELECT s.trace_id, s.r_service_name, count(*), count(*) FILTER (s.status = 2) "
        f"FROM {columns.SPANS} AS s "
        f"WHERE {RANGE} AND s.trace_id IN (SELECT unnest($trace_ids::UUID[])) GROUP BY ALL"
    )


def decode(text: str) -> Value:
    """The value that `encode` wrote."""
    kind, _, rest = text.partition(":")
    if kind in ("i", "dur"):
        return kind, int(rest)
    if kind == "d":
        return kind, float(rest)
    if kind == "b":
        return kind, rest == "true"
    if kind in ("ss", "ii", "dd", "bb"):
        return kind, tuple(json.loads(rest))
    return ("nil", None) if kind == "n" else (kind, rest)


def shown_key(node: ast.Attribute | ast.Intrinsic) -> str:
    """The key under which a field is listed with a span: without its scope."""
    return node.key if isinstance(node, ast.Attribute) else node.name
