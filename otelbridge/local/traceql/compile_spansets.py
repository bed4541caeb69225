"""Pipelines of spansets as a chain of common table expressions.

A relation holds spans (trace_id, span_id, start_ns), and after `by` or an aggregate the values that
tell spansets of a trace apart (`sk`, a list of texts, see `encode`). Filters are held back until
something needs their result, so that a filter and what follows it are one scan. Runs over the
traces that begin in [$span_lo, $span_hi]. Neighbours: `compile_fields` for conditions, `compile`
and `compile_metrics` use the result.
"""

# ruff: noqa: S608 - SQL is what this module writes; text of a query enters it through `quote`.

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from otelbridge.local.store import columns
from otelbridge.local.traceql import ast
from otelbridge.local.traceql.compat import Pushdown, candidates, imitating
from otelbridge.local.traceql.compile_fields import Catalog, Fields, TooComplexError
from otelbridge.local.traceql.compile_values import KIND, STATUS, Typed, compare, present
from otelbridge.local.traceql.printing import to_text
from otelbridge.local.traceql.rewrite import row_scopes

#: The spans that a query looks at; the runner gives the bounds (nanoseconds).
RANGE: Final = "s.start_ns BETWEEN $span_lo AND $span_hi"
_KEY: Final = "s.trace_id, s.span_id, s.start_ns"
_BIG: Final = 2**31 - 1
#: Each is a step over the candidates with one more column; the time grows with the square.
_MAX_OPERATIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Relation:
    """Spans on their way through the pipeline.

    `base` is the expression they come from (None: all spans), `where` the filters not yet applied
    to it. `values` names the spanset attributes whose values are in `sk`; empty while there is one
    set a trace.
    """

    base: str | None
    where: tuple[ast.FieldExpr, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(slots=True)
class Spansets:
    """Compiles a pipeline; `ctes` collects what goes after WITH, in order."""

    catalog: Catalog | None = None
    pushdown: Pushdown | None = None
    ctes: list[str] = field(default_factory=list)
    _names: int = 0
    _operations: int = 0

    def add(self, sql: str, *, shared: bool = False) -> str:
        """A new common table expression; `shared` when it is read more than once."""
        name = f"q{self._names}"
        self._names += 1
        self.ctes.append(f"{name} AS {'MATERIALIZED ' if shared else ''}({sql})")
        return name

    def with_clause(self) -> str:
        """`WITH ...` of everything added so far, or nothing."""
        return f"WITH {', '.join(self.ctes)} " if self.ctes else ""

    def pipeline(self, node: ast.Pipeline, given: Relation) -> Relation:
        """The relation that the elements make of `given`."""
        for element in node.elements:
            given = self._element(element, given)
        return given

    def scan(
        self, given: Relation, fields: Fields, extra: str = "", sk: str = "sk", where: str = ""
    ) -> str:
        """A SELECT of the relation's spans with more columns (`, x AS y`) over `s`.

        `fields` is where the extra columns were compiled, so that their tables are joined.
        """
        filters = imitating(fields, self.pushdown)
        conditions = [filters.condition(expr) for expr in given.where]
        if given.base is None:
            conditions.append(f"({candidates(fields, self.pushdown)})")
        conditions = [sql for sql in (*conditions, where) if sql and sql not in ("true", "(true)")]
        source = f"{columns.SPANS} AS s"
        if given.base is not None:
            source = (
                f"{given.base} AS p JOIN {columns.SPANS} AS s ON s.trace_id = p.trace_id "
                "AND s.span_id = p.span_id"
            )
        column = ""
        if given.values or sk != "sk":
            column = f", {sk} AS sk" if sk != "sk" else ", p.sk"
        wheres = " AND ".join([RANGE, *conditions])
        return f"SELECT {_KEY}{column}{extra} FROM {source} {fields.joins()} WHERE {wheres}"

    def named(self, given: Relation, *, shared: bool = True) -> str:
        """The name of a table expression with exactly the spans of the relation."""
        if given.base is not None and not given.where:
            return given.base
        return self.add(self.scan(given, Fields(self.catalog)), shared=shared)

    def _element(self, element: ast.Element, given: Relation) -> Relation:
        if isinstance(element, ast.SpansetFilter):
            return replace(given, where=(*given.where, element.expr))
        if isinstance(element, ast.SpansetOperation):
            return self._operation(element, given)
        if isinstance(element, ast.ScalarFilter):
            return self._scalar_filter(element, given)
        if isinstance(element, ast.GroupBy):
            fields = Fields(self.catalog)
            nil = "'b:false'" if isinstance(element.expr, (ast.Binary, ast.Unary)) else "'n'"
            key = encode(first_row(fields, element.expr), nil)
            sk = f"list_append(p.sk, {key})" if given.values else f"[{key}]"
            name = self.add(self.scan(given, fields, sk=sk), shared=True)
            return Relation(name, values=(*given.values, to_text(element)))
        if isinstance(element, ast.Coalesce):
            if not given.values:
                return given
            name = self.named(given)
            return Relation(
                self.add(f"SELECT trace_id, span_id, start_ns FROM {name}", shared=True)
            )
        if isinstance(element, ast.Pipeline):
            return self.pipeline(element, given)
        return given  # select() only says what to show

    # -- aggregates --------------------------------------------------------------------------------

    def _scalar_filter(self, node: ast.ScalarFilter, given: Relation) -> Relation:
        if not isinstance(node.left, ast.Aggregate) or not isinstance(node.right, ast.Literal):
            raise TypeError("validate() lets only `aggregate op literal` pass")
        fields = Fields(self.catalog)
        argument = node.left.argument
        extra = having = ""
        if argument is not None:
            numbers = first_row(fields, argument)
            extra = "".join(
                f", {numbers.get(kind, _NO_NUMBER[kind])} AS a_{kind}" for kind in _NO_NUMBER
            )
            others = [
                f"({sql}) IS NOT NULL" for kind, sql in numbers.items() if kind not in _NO_NUMBER
            ]
            if others and node.left.function in ("sum", "avg"):
                # As in Tempo: a value that is no number makes the sum none either.
                extra += f", {' OR '.join(others)} AS a_other"
                having = " AND NOT bool_or(a_other)"
            spans = self.add(self.scan(given, fields, extra), shared=True)
        else:
            spans = self.named(given)
        grouped = bool(given.values)
        keys = "trace_id, sk" if grouped else "trace_id"
        value = aggregate(node.left.function)
        literal = fields.value(node.right)
        groups = self.add(
            f"SELECT {keys}, {encode(value, 'NULL')} AS value FROM {spans} "
            f"GROUP BY {keys} HAVING {compare(node.op, value, literal)}{having}"
        )
        sk = "list_append(p.sk, g.value)" if grouped else "[g.value]"
        name = self.add(
            f"SELECT p.trace_id, p.span_id, p.start_ns, {sk} AS sk "
            f"FROM {spans} AS p JOIN {groups} AS g "
            f"ON g.trace_id = p.trace_id{' AND g.sk = p.sk' if grouped else ''}",
            shared=True,
        )
        return Relation(name, values=(*given.values, to_text(node.left)))

    # -- operations between spansets ---------------------------------------------------------------

    def _operation(self, node: ast.SpansetOperation, given: Relation) -> Relation:
        base = given
        if given.where:
            base = Relation(self.named(given), values=given.values)
        fields = Fields(self.catalog)
        masks: list[str] = []
        plan = self._leaves(node, base, fields, masks)
        extra = "".join(f", coalesce({sql}, false) AS f{n}" for n, sql in enumerate(masks))
        any_mask = " OR ".join(f"({sql})" for sql in masks)
        where = "" if "true" in masks else f"({any_mask})"
        name = self.add(self.scan(base, fields, extra, where=where), shared=True)
        if _has_structure(node):
            name = self._with_tree(name, plan)
        part = "trace_id, sk" if given.values else "trace_id"
        name, mask = self._combine(plan, name, part)
        keys = "trace_id, span_id, start_ns" + (", sk" if given.values else "")
        found = self.add(f"SELECT {keys} FROM {name} WHERE {mask}", shared=True)
        return Relation(found, values=given.values)

    def _with_tree(self, name: str, plan: _Mask) -> str:
        """The candidates with nested-set numbers nl, nr and np, 0 without a path to a root."""
        if plan.op != "||" and plan.right is not None and plan.right.column:
            # Traces without a span on the right have no part in the result: fewer to join and sort.
            right = f"SELECT trace_id FROM {name} WHERE {plan.right.column}"
            name = self.add(f"SELECT * FROM {name} WHERE trace_id IN ({right})", shared=True)
        numbers = ", ".join(
            f"coalesce(t.{column}, 0) AS {short}"
            for short, column in (
                ("nl", "nested_left"),
                ("nr", "nested_right"),
                ("np", "nested_parent"),
            )
        )
        return self.add(
            f"SELECT p.*, {numbers} FROM {name} AS p LEFT JOIN {columns.TREE} AS t "
            "ON t.trace_id = p.trace_id AND t.span_id = p.span_id",
            shared=True,
        )

    def _leaves(
        self, node: ast.SpansetExpr, base: Relation, fields: Fields, masks: list[str]
    ) -> _Mask:
        """The operands as mask columns f0, f1, ...; operations keep their shape."""
        if isinstance(node, ast.SpansetOperation):
            return _Mask(
                node.op,
                self._leaves(node.left, base, fields, masks),
                self._leaves(node.right, base, fields, masks),
            )
        if isinstance(node, ast.SpansetFilter):
            masks.append(imitating(fields, self.pushdown).condition(node.expr))
        else:
            name = self.named(self.pipeline(node, base))
            masks.append(f"(s.trace_id, s.span_id) IN (SELECT trace_id, span_id FROM {name})")
        return _Mask("", column=f"f{len(masks) - 1}")

    def _combine(self, node: _Mask, name: str, part: str) -> tuple[str, str]:
        """Evaluate the operations bottom up, each a new mask column; gives table and column."""
        if node.left is None or node.right is None:
            return name, node.column
        name, a = self._combine(node.left, name, part)
        name, b = self._combine(node.right, name, part)
        if node.op == "||":
            return name, f"({a} OR {b})"  # needs no other span, so no step of its own
        self._operations += 1
        if self._operations > _MAX_OPERATIONS:
            raise TooComplexError(f"more than {_MAX_OPERATIONS} operations between spansets")
        column = f"m{self._names}"
        sql = _operation_sql(node.op, a, b, name, part)
        masked = f"SELECT *, coalesce({sql}, false) AS {column} FROM {name}"
        return self.add(masked, shared=True), column


@dataclass(frozen=True, slots=True)
class _Mask:
    """An operation between masks, or the column of one operand."""

    op: str
    left: _Mask | None = None
    right: _Mask | None = None
    column: str = ""


def _has_structure(node: object) -> bool:
    if not isinstance(node, ast.SpansetOperation):
        return False
    return node.op not in ("&&", "||") or _has_structure(node.left) or _has_structure(node.right)


def _operation_sql(op: str, a: str, b: str, name: str, part: str) -> str:
    if op == "&&":
        both = " AND ".join(
            f"({part}) IN (SELECT ({part}) FROM {name} WHERE {mask})" for mask in (a, b)
        )
        return f"({a} OR {b}) AND {both}"
    if op.startswith("!"):
        return f"{b} AND NOT coalesce({_related(op[1:], a, b, name, part)}, false)"
    if op.startswith("&"):
        inverse = {">": "<", "<": ">", ">>": "<<", "<<": ">>", "~": "~"}[op[1:]]
        return (
            f"coalesce({b} AND {_related(op[1:], a, b, name, part)}, false) OR "
            f"coalesce({a} AND {_related(inverse, b, a, name, part)}, false)"
        )
    return f"{b} AND {_related(op, a, b, name, part)}"


def _related(op: str, a: str, b: str, name: str, part: str) -> str:
    """Whether the span of this row has a span of mask `a` in relation `a op this`."""
    rows = f"FROM {name} WHERE {a} AND nl > 0"
    if op == ">":
        return f"(nl > 0 AND ({part}, np) IN (SELECT ({part}, nl) {rows}))"
    if op == "<":
        return f"(nl > 0 AND ({part}, nl) IN (SELECT ({part}, np) {rows}))"
    if op == "~":
        siblings = f"SELECT ({part}, np) {rows}"
        others = f"({part}, np) IN ({siblings} GROUP BY {part}, np HAVING count(*) > 1)"
        return f"(nl > 0 AND CASE WHEN {a} THEN {others} ELSE ({part}, np) IN ({siblings}) END)"
    # Nested sets never overlap in part, so the furthest right edge so far tells of an ancestor.
    if op == ">>":
        edge = f"max(CASE WHEN {a} AND nl > 0 THEN nr END)"
        frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
        return (
            f"(nl > 0 AND coalesce({edge} OVER (PARTITION BY {part} ORDER BY nl {frame}), 0) > nl)"
        )
    edge = f"min(CASE WHEN {a} AND nl > 0 THEN nl END)"
    frame = "ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING"
    return (
        f"(nl > 0 AND coalesce({edge} OVER (PARTITION BY {part} ORDER BY nl {frame}), {_BIG}) < nr)"
    )


# -- values ----------------------------------------------------------------------------------------

_NO_NUMBER: Final = {"i": "NULL::BIGINT", "d": "NULL::DOUBLE", "dur": "NULL::BIGINT"}


def first_row(fields: Fields, node: ast.FieldExpr) -> Typed:
    """The value of an expression for a span; of the first event or link where it has one."""
    scopes = row_scopes(node)
    if not scopes:
        return fields.value(node)
    inner = fields.value(node)
    found = {}
    for kind, sql in inner.items():
        rows = []
        for scope, alias, table, order in (
            ("event", "e", columns.EVENTS, "event_no"),
            ("link", "l", columns.LINKS, "link_no"),
        ):
            if scope in scopes:
                rows.append((f"{table} AS {alias}", alias, f"{alias}.{order}"))
        source = ", ".join(row[0] for row in rows)
        same = " AND ".join(
            f"{alias}.trace_id = s.trace_id AND {alias}.span_id = s.span_id"
            for _, alias, _o in rows
        )
        order_by = ", ".join(row[2] for row in rows)
        found[kind] = (
            f"(SELECT {sql} FROM {source} WHERE {same} AND {present(inner)} "
            f"ORDER BY {order_by} LIMIT 1)"
        )
    return found


def aggregate(function: str) -> Typed:
    """An aggregate over the columns a_i, a_d and a_dur of a group, by type."""
    if function == "count":
        return {"i": "count(*)"}
    whole, double = "count(a_d) = 0", "count(a_d) > 0"
    integer, duration = f"{whole} AND count(a_dur) = 0", f"{whole} AND count(a_dur) > 0"
    if function in ("min", "max"):
        pick = "least" if function == "min" else "greatest"
        of = {kind: f"{function}(a_{kind})" for kind in _NO_NUMBER}
        doubles = f"{pick}({of['d']}, {of['i']}::DOUBLE, {of['dur']}::DOUBLE)"
        durations = f"{pick}({of['dur']}, {of['i']})"
        integers = of["i"]
    else:
        integers = "sum(a_i)"
        durations = "(coalesce(sum(a_dur), 0) + coalesce(sum(a_i), 0))"
        # Compensated: the answer must not depend on the order in which spans came.
        doubles = f"(coalesce(fsum(a_d), 0) + {durations}::DOUBLE)"
    if function == "avg":
        every = "(count(a_i) + count(a_d) + count(a_dur))"
        doubles = f"({doubles} / {every})"
        integers = f"(sum(a_i)::DOUBLE / {every})"
        durations = f"({durations} // {every}::HUGEINT)"
        return {
            "d": f"CASE WHEN {double} THEN {doubles} WHEN {integer} THEN {integers} END",
            "dur": f"CASE WHEN {duration} THEN {durations} END",
        }
    return {
        "i": f"CASE WHEN {integer} THEN {integers} END",
        "d": f"CASE WHEN {double} THEN {doubles} END",
        "dur": f"CASE WHEN {duration} THEN {durations} END",
    }


def encode(value: Typed, nil: str) -> str:
    """A value as one text that keeps its type: `s:text`, `i:1`, ...; `decode` reads it."""
    parts = []
    for kind, sql in value.items():
        if kind in ("ss", "ii", "dd", "bb"):
            text = f"to_json({sql})::VARCHAR"
        elif kind == "status":
            text = f"{_words(STATUS)}[{sql} + 1]"
        elif kind == "kind":
            text = f"{_words(KIND)}[{sql} + 1]"
        elif kind == "d":
            text = f"({sql} + 0.0::DOUBLE)::VARCHAR"  # one text for both zeros
        else:
            text = f"({sql})::VARCHAR"
        parts.append(f"'{kind}:' || {text}")
    return f"coalesce({', '.join([*parts, nil])})"


def _words(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"
