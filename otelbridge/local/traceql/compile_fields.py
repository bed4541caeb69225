"""Expressions inside braces as SQL over one row of `tempo_spans` (alias s) and what belongs to it.

A value becomes one SQL expression for each type that it can have, of which at most one is not NULL;
a comparison becomes the alternatives of the types that can be compared. Comparisons are two-valued:
NULL counts as false, and negation closes over it. Other tables are joined only when a part of them
was asked for. Neighbours: `compile_spansets` places these conditions, `columns` says where a value
is.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from otelbridge.local.store import columns
from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compile_values import (
    ARITHMETIC,
    LITERAL_TYPES,
    NUMERIC,
    Typed,
    absent,
    arithmetic,
    bigint,
    both,
    compare,
    either,
    false_if_null,
    first_present,
    literal,
    negated,
    pushed_test,
    quote,
    re2_pattern,
    sql_operator,
    without_strings,
)
from otelbridge.local.traceql.rewrite import is_predicate, row_scopes

#: Which (scope, key, type letter) exist in the store; a type that does not is left out of the SQL.
Catalog: TypeAlias = frozenset[tuple[str, str, str]]
#: For Tempo's own answer: of which predicates one has to hold for a field's value to be seen at
#: all.
Pushed: TypeAlias = Mapping[ast.Attribute | ast.Intrinsic, tuple[ast.Binary, ...]]

#: SQL of one condition beyond this is refused: alternatives of types multiply under arithmetic.
_MAX_SQL: Final = 400_000


class TooComplexError(ValueError):
    """The condition would become more SQL than the store should be asked to run."""


@dataclass(slots=True)
class Fields:
    """Turns expressions into SQL and remembers which tables they need.

    `joins` gives the FROM items after `tempo_spans AS s`. `catalog` None means: every type may be.
    `pushed` is not None where Tempo's own answer is wanted (see `compat`).
    """

    catalog: Catalog | None = None
    pushed: Pushed | None = None
    _parts: dict[str, dict[str, str]] = field(default_factory=lambda: {"r": {}, "c": {}})
    _tables: set[str] = field(default_factory=set)
    #: Condition on `e.trace_id` and the like that narrows the tables of events and links.
    _absent: frozenset[str] = frozenset()

    # -- tables ------------------------------------------------------------------------------------

    def joins(self) -> str:
        """The joins that the expressions compiled so far need."""
        sql = []
        for alias, table, key in (
            ("r", columns.RESOURCES, "resource_id"),
            ("c", columns.SCOPES, "scope_id"),
        ):
            if self._parts[alias]:
                # Computed here, once for each resource, and not for each span.
                wanted = "".join(f", {sql} AS {name}" for sql, name in self._parts[alias].items())
                sql.append(
                    f"JOIN (SELECT id{wanted} FROM {table}) AS {alias} ON {alias}.id = s.{key}"
                )
        if "i" in self._tables:
            sql.append(f"JOIN {columns.TRACES} AS i ON i.trace_id = s.trace_id")
        if "t" in self._tables:
            sql.append(
                f"LEFT JOIN {columns.TREE} AS t "
                "ON t.trace_id = s.trace_id AND t.span_id = s.span_id"
            )
        return " ".join(sql)

    def table(self, alias: str, column: str) -> str:
        """A column of trace_info (i) or span_tree (t)."""
        self._tables.add(alias)
        return f"{alias}.{column}"

    def _part(self, alias: str, sql: str) -> str:
        known = self._parts[alias]
        known.setdefault(sql, f"{alias}{len(known)}")
        return f"{alias}.{known[sql]}"

    # -- conditions --------------------------------------------------------------------------------

    def condition(self, node: ast.FieldExpr) -> str:
        """`{ node }` as a condition on s: some event and some link make it true."""
        scopes = row_scopes(node)
        if not scopes:
            return self.predicate(node)
        if isinstance(node, ast.Binary) and node.op in ("&&", "||"):
            apart = node.op == "||" or not row_scopes(node.left) or not row_scopes(node.right)
            if apart:
                word = "AND" if node.op == "&&" else "OR"
                return f"({self.condition(node.left)} {word} {self.condition(node.right)})"
        return self._some_row(node, scopes)

    def _some_row(self, node: ast.FieldExpr, scopes: frozenset[str]) -> str:
        inner = Fields(self.catalog, self.pushed)
        sql = inner.predicate(node)
        if len(scopes) == 1 and not inner.joins() and "s." not in without_strings(sql):
            scope = next(iter(scopes))
            alias, table = ("e", columns.EVENTS) if scope == "event" else ("l", columns.LINKS)
            bare = Fields(self.catalog, self.pushed, _absent=scopes).predicate(node)
            found = (
                ""
                if sql == "false"
                else f"(s.trace_id, s.span_id) IN (SELECT {alias}.trace_id, "
                f"{alias}.span_id FROM {table} AS {alias} WHERE {sql})"
            )
            if bare == "false":
                return (found and f"(s.has_{scope}s AND {found})") or "false"
            none = f"(NOT s.has_{scope}s AND {bare})"
            return f"({found} OR {none})" if found else none
        rows = "".join(
            f" LEFT JOIN {table} AS {alias} ON {alias}.trace_id = s.trace_id "
            f"AND {alias}.span_id = s.span_id"
            for scope, alias, table in (
                ("event", "e", columns.EVENTS),
                ("link", "l", columns.LINKS),
            )
            if scope in scopes
        )
        return (
            f"(s.trace_id, s.span_id) IN (SELECT s.trace_id, s.span_id FROM {columns.SPANS} AS s "
            f"{inner.joins()}{rows} WHERE s.start_ns BETWEEN $span_lo AND $span_hi AND {sql})"
        )

    def predicate(self, node: ast.FieldExpr) -> str:
        """A condition on the current row; NULL counts as false."""
        sql = self._predicate(node)
        if len(sql) > _MAX_SQL:
            raise TooComplexError("the expression has too many alternatives")
        return sql

    def _predicate(self, node: ast.FieldExpr) -> str:
        if isinstance(node, ast.Binary) and node.op in ("&&", "||"):
            left, right = self.predicate(node.left), self.predicate(node.right)
            return both(left, right) if node.op == "&&" else either((left, right))
        if isinstance(node, ast.Unary) and node.op == "!" and is_predicate(node.operand):
            return negated(self.condition(node.operand))
        if isinstance(node, ast.Binary) and node.op not in ARITHMETIC:
            return self._comparison(node)
        return self.value(node).get("b", "false")

    def _comparison(self, node: ast.Binary) -> str:
        if node.op == "=" and is_predicate(node.left) and is_predicate(node.right):
            # Tempo demands every comparison of such a query of the span: both have to hold.
            return both(self.predicate(node.left), self.predicate(node.right))
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(one, ast.Literal) and one.kind == "nil":
                gone = absent(self.value(other))
                return gone if node.op == "=" else negated(gone)
        if node.op in ("=", "!="):
            for one, other in ((node.left, node.right), (node.right, node.left)):
                if isinstance(one, ast.Intrinsic) and isinstance(other, ast.Literal):
                    by_number = self._id_comparison(one.name, node.op, other)
                    if by_number is not None:
                        return by_number
        left, right = self.value(node.left), self.value(node.right)
        if node.op in ("=~", "!~") and isinstance(node.right, ast.Literal):
            right = {"s": quote(re2_pattern(str(node.right.value)))}
        found = compare(node.op, left, right)
        if self.pushed is not None and node.op in ("!=", "!~") and not row_scopes(node):
            return either((found, absent(left), absent(right)))  # Tempo's engine: nil differs
        return found

    def _id_comparison(self, name: str, op: str, literal: ast.Literal) -> str | None:
        """Ids against text as the numbers that they are stored as; None for other fields."""
        if name not in ("trace:id", "span:id") or literal.kind != "string":
            return None
        text = str(literal.value)
        digits = 32 if name == "trace:id" else 16
        if name == "trace:id" and text:
            text = text.rjust(digits, "0")
        if len(text) != digits or not set(text) <= set("0123456789abcdef"):
            return "false" if op == "=" else "true"
        if name == "trace:id":
            return f"s.trace_id {sql_operator(op)} '{text}'::UUID"
        return f"s.span_id {sql_operator(op)} {int(text, 16)}::UBIGINT"

    # -- values ------------------------------------------------------------------------------------

    def value(self, node: ast.FieldExpr) -> Typed:
        """The value of an expression on the current row, by type."""
        if isinstance(node, ast.Literal):
            return {} if node.kind == "nil" else {LITERAL_TYPES[node.kind]: literal(node)}
        if isinstance(node, ast.Intrinsic | ast.Attribute):
            return self._seen(node)
        if is_predicate(node):
            return {"b": false_if_null(self.predicate(node))}
        if isinstance(node, ast.Unary):
            operand = self.value(node.operand)
            if node.op == "!":
                return {"b": f"(NOT {operand['b']})"} if "b" in operand else {}
            return {
                kind: f"(-{sql})" if kind == "d" else bigint(f"(-({sql})::HUGEINT)")
                for kind, sql in operand.items()
                if kind in NUMERIC
            }
        left, right = self.value(node.left), self.value(node.right)
        found = dict(arithmetic(node.op, left, right))
        if self.pushed is not None and node.op == "^" and "i" in found:
            found["i"] = arithmetic("^", {"i": right["i"]}, {"i": left["i"]})["i"]
        if sum(map(len, found.values())) > _MAX_SQL:
            raise TooComplexError("the arithmetic has too many alternatives")
        return found

    def stored(self, node: ast.Intrinsic | ast.Attribute) -> Typed:
        """The value of a field as it is stored."""
        return (
            self._intrinsic(node.name) if isinstance(node, ast.Intrinsic) else self._attribute(node)
        )

    def _seen(self, node: ast.Intrinsic | ast.Attribute) -> Typed:
        value = self.stored(node)
        tests = self.pushed.get(node) if self.pushed else None
        if not tests:
            return value
        fetched = either(pushed_test(value, test) for test in tests)
        return {kind: f"(CASE WHEN {fetched} THEN {sql} END)" for kind, sql in value.items()}

    def _intrinsic(self, name: str) -> Typed:
        scope, _, _rest = name.partition(":")
        if scope in self._absent:
            return {}
        if name in _PLAIN:
            return _PLAIN[name]
        if name in _OF_TRACE:
            kind, column = _OF_TRACE[name]
            return {kind: self.table("i", column)}
        if name == "traceDuration":
            return {"dur": f"({self.table('i', 'end_ns')} - {self.table('i', 'start_ns')})"}
        if name in _OF_TREE:
            return {"i": f"coalesce({self.table('t', _OF_TREE[name])}, 0)::BIGINT"}
        return {"s": self._part("c", name.partition(":")[2])}

    def _attribute(self, node: ast.Attribute) -> Typed:
        if node.scope in self._absent:
            return {}
        if node.scope == "span":
            return self._stored("span", "s", node.key, columns.HOT_SPAN)
        if node.scope == "resource":
            return self._of_part("resource", "r", node.key, columns.HOT_RESOURCE)
        if node.scope == "instrumentation":
            return self._of_part("instrumentation", "c", node.key, ())
        if node.scope:
            return self._stored(node.scope, "e" if node.scope == "event" else "l", node.key, ())
        return first_present(
            self._stored("span", "s", node.key, columns.HOT_SPAN),
            self._of_part("resource", "r", node.key, columns.HOT_RESOURCE),
            self._of_part("instrumentation", "c", node.key, ()),
        )

    def _of_part(self, scope: str, alias: str, key: str, hot: tuple[columns.Hot, ...]) -> Typed:
        stored = self._stored(scope, "", key, hot)
        copies = columns.RESOURCE_COPIES if scope == "resource" else {}
        return {
            kind: f"s.{copies[sql]}" if sql in copies else self._part(alias, sql)
            for kind, sql in stored.items()
        }

    def _stored(self, scope: str, alias: str, key: str, hot: tuple[columns.Hot, ...]) -> Typed:
        prefix = f"{alias}." if alias else ""
        found = {item.type: f"{prefix}{item.column}" for item in hot if item.key == key}
        hot_types: set[str] = set(found)
        result: dict[str, str] = {}
        for kind, column in columns.MAP_COLUMNS.items():
            if kind in hot_types:
                result[kind] = found[kind]
            elif self.catalog is None or (scope, key, kind) in self.catalog:
                result[kind] = f"{prefix}{column}[{quote(key)}]"
        return result


_PLAIN: Final[dict[str, dict[str, str]]] = {
    "duration": {"dur": "s.duration_ns"},
    "name": {"s": "s.name"},
    "status": {"status": "s.status"},
    "statusMessage": {"s": "s.status_message"},
    "kind": {"kind": "s.kind"},
    "span:id": {"s": "lpad(lower(hex(s.span_id)), 16, '0')"},
    "span:parentID": {
        "s": "CASE WHEN s.parent_span_id IS NULL THEN '' "
        "ELSE lpad(lower(hex(s.parent_span_id)), 16, '0') END"
    },
    "trace:id": {"s": "replace(s.trace_id::VARCHAR, '-', '')"},
    "event:name": {"s": "e.name"},
    "event:timeSinceStart": {"dur": "e.since_start_ns"},
    "link:traceID": {"s": "l.linked_trace_id"},
    "link:spanID": {"s": "l.linked_span_id"},
}
_OF_TRACE: Final = {"rootName": ("s", "root_name"), "rootServiceName": ("s", "root_service")}
_OF_TREE: Final = {
    "nestedSetLeft": "nested_left",
    "nestedSetRight": "nested_right",
    "nestedSetParent": "nested_parent",
    "span:childCount": "child_count",
}
