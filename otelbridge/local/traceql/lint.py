"""Warnings of a valid query that would surprise its author, or answer differently in real Tempo.

Each says what Tempo answers, what otelbridge answers and what to write instead. A "warning" is a
trap: the two answers differ, or the query very likely does not say what is meant. A "note" is a
rule of the language that both follow, or a trap that depends on values this query does not show;
knowing the stored types (`stored`) turns such a note into a warning, or into nothing.
Measured behaviour of Tempo 3.0.3 on vParquet4; texts are in lint_texts.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.lint_texts import TEXTS
from otelbridge.local.traceql.predicates import (
    Predicate,
    conjunctions,
    demanded,
    fields_of,
    is_event,
    predicates_in,
    predicates_of,
    walk,
)
from otelbridge.local.traceql.printing import to_text

#: Types that are stored per attribute: scope and key -> letters of `store.columns.ValueType`
#: ("i", "d", "ss", ...) and "other" for values that TraceQL does not see (maps, mixed arrays).
StoredTypes = Mapping[tuple[str, str], Collection[str]]

_ORDER = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_DURATIONS = frozenset({"duration", "traceDuration", "event:timeSinceStart"})
_FLOAT_KEY = re.compile(r"(cost|temperature|top_p|penalty|score(\.value)?|time_to_first_chunk)$")
_INT_KEY = re.compile(r"(tokens|status_code|\.port|\.count)$")
_ARRAY_KEY = re.compile(r"(finish_reasons|\.tags|stop_sequences|encoding_formats)$")
_SWALLOWED = re.compile(r"[+*/%]|-(?=\d+$|\.|(?:span|resource|event|link|instrumentation)\.)")
_REGEX_SIGNS = re.compile(r"[\\^$.|?*+()\[{]")
_SHOWN_LENGTH = 120
_MOST_FOUND = 50  # who writes a query of thousands of conditions reads no more than this


@dataclass(frozen=True, slots=True)
class Lint:
    """One warning or note.

    Attributes:
        code: stable name, for `allow=` lists and headers.
        pos: offset in the query, in characters.
        message: what is surprising, with Tempo's answer and ours.
        instead: what to write instead.
        level: "warning" or "note".
    """

    code: str
    pos: int
    message: str
    instead: str
    level: Literal["warning", "note"] = "warning"


def lint(
    query: ast.Query,
    *,
    endpoint: Literal["search", "metrics"] | None = None,
    stored: StoredTypes | None = None,
) -> list[Lint]:
    """Warnings and notes of a valid query, in the order of the text.

    Args:
        query: a tree that `validate` has accepted.
        endpoint: where the query was sent; None where that is not known.
        stored: the types that the store holds per attribute, if known.
    """
    linter = _Linter(query, stored)
    linter.pipeline(query.pipeline)
    if query.metrics is not None:
        linter.metrics(query.metrics)
        if endpoint == "search":
            linter.add("metrics_query_on_search", query.metrics, to_text(query.pipeline))
    return sorted(linter.found, key=lambda lint: (lint.pos, lint.code))


class _Linter:
    def __init__(self, query: ast.Query, stored: StoredTypes | None) -> None:
        self.query = query
        self.stored = stored
        self.found: list[Lint] = []

    def add(self, code: str, node: Any, instead: str, level: str = "warning") -> None:
        lint = Lint(code, node.pos, TEXTS[code], instead[:_SHOWN_LENGTH], level)  # type: ignore[arg-type]  # two words
        if lint not in self.found[-8:]:
            self.found.append(lint)

    def types(self, field: ast.Attribute) -> frozenset[str] | None:
        """Stored types of an attribute; None when they are not known."""
        if self.stored is None:
            return None
        scopes = (field.scope,) if field.scope else ("span", "resource", "event", "link",
                                                     "instrumentation")  # fmt: skip
        return frozenset(t for scope in scopes for t in self.stored.get((scope, field.key), ()))

    # -- pipelines ---------------------------------------------------------------------------------
    def pipeline(self, pipeline: ast.Pipeline) -> None:
        for element in pipeline.elements:
            self.element(element)

    def element(self, element: ast.Element) -> None:
        match element:
            case ast.SpansetFilter():
                self.filter(element)
            case ast.SpansetOperation():
                self.mixing(element)
                sides = (predicates_of(element.left), predicates_of(element.right))
                if element.op == "&&" and all(any(map(is_event, side)) for side in sides):
                    self.add("same_event_binding", element, "one condition on events", "note")
                if element.op == "&>>":
                    left, right = to_text(element.left), to_text(element.right)
                    text = f"({left} >> {right}) || ({right} << {left})"
                    self.add("union_descendant", element, text)
                self.element(element.left)
                self.element(element.right)
            case ast.Pipeline():
                self.pipeline(element)
            case ast.ScalarFilter():
                for side in (element.left, element.right):
                    if isinstance(side, ast.Aggregate) and side.argument is not None:
                        self.aggregate(side, side.argument)
                if isinstance(element.left, ast.Aggregate):
                    self.plain_nanoseconds(element, element.left.argument, element.right)
            case ast.GroupBy():
                self.expression(element.expr)
            case ast.Select():
                for field in element.attributes:
                    self.field(field)

    def mixing(self, node: ast.SpansetOperation | ast.Binary) -> None:
        """`&&` and `||` side by side without parentheses, or beside a structural operator."""
        if node.op not in ("&&", "||") or len(self.found) >= _MOST_FOUND:
            return
        for side in (node.left, node.right):
            mixed = isinstance(side, ast.Binary) and side.op in ("&&", "||")
            mixed |= isinstance(side, ast.SpansetOperation)
            if mixed and not side.grouped and side.op != node.op:  # type: ignore[union-attr]  # `mixed` says so
                self.add("left_assoc_and_or", node, to_text(node))

    def aggregate(self, node: ast.Aggregate, argument: ast.FieldExpr) -> None:
        self.expression(argument)
        if isinstance(argument, ast.Attribute):
            types = self.types(argument)
            text = f"{{ {to_text(argument)} != nil }} | {to_text(node)}"
            if types is None or len(types & {"s", "b", "i", "d"}) > 1:
                self.add("agg_mixed_types", node, text, "note")
        elif len({f for f in fields_of(argument) if isinstance(f, ast.Attribute)}) > 1:
            present = " && ".join(f"{to_text(f)} != nil" for f in fields_of(argument))
            self.add("nil_arithmetic", node, f"{{ {present} }} | {to_text(node)}")

    def metrics(self, node: ast.Metrics) -> None:
        for field in (node.argument, *node.by):
            if field is not None:
                self.field(field)
        if node.selection is not None:
            self.filter(node.selection)
        field = node.argument
        if (
            node.function == "sum_over_time"
            and isinstance(field, ast.Attribute)
            and field not in demanded(self.query.pipeline)
        ):
            self.add("sum_loses_samples", node, f"{{ {to_text(field)} != nil }} | {to_text(node)}")
        if node.function in ("quantile_over_time", "histogram_over_time") and isinstance(
            field, ast.Attribute
        ):
            types = self.types(field)
            if _FLOAT_KEY.search(field.key) if types is None else "d" in types:
                self.add("quantile_of_float", node, f"avg_over_time({to_text(field)})")

    # -- filters -----------------------------------------------------------------------------------
    def filter(self, node: ast.SpansetFilter) -> None:
        self.expression(node.expr)
        predicates = list(predicates_in(node.expr))
        by_field: dict[ast.Attribute | ast.Intrinsic, list[Predicate]] = defaultdict(list)
        for predicate in predicates:
            by_field[predicate.field].append(predicate)
        for predicate in predicates:
            if len(self.found) >= _MOST_FOUND:
                return
            # The first few of a long chain on one attribute say all there is to say.
            others = [p for p in by_field[predicate.field][:_MOST_FOUND] if p is not predicate]
            self.invisible(predicate)
            if predicate.negations:
                self.negated(predicate, others)
            elif predicate.literal.kind == "nil":
                self.presence(predicate)
            else:
                self.compared(predicate, others)
        on_events = {id(p.node): p.field for p in predicates if is_event(p)}
        for group in conjunctions(node.expr) if len(on_events) > 1 else ():
            if len({on_events[id(node)] for node in group if id(node) in on_events}) > 1:
                self.add("same_event_binding", node, "one condition on events", "note")

    def expression(self, expr: ast.FieldExpr) -> None:
        """What can be said of one node at a time."""
        for node, _ in walk(expr):
            match node:
                case ast.Attribute() | ast.Intrinsic():
                    self.field(node)
                case ast.Binary():
                    self.mixing(node)
                    self.operation(node)

    def operation(self, node: ast.Binary) -> None:
        sides = (node.left, node.right)
        if node.op == "^":
            self.add("power_operands_swapped", node, f"{to_text(node.left)} * ...")
        elif node.op in ("/", "%") and node.right in (
            ast.Literal("int", 0), ast.Literal("float", 0.0), ast.Literal("duration", 0),
        ):  # fmt: skip
            self.add("division_by_zero", node, "a divisor that is not zero")
        elif node.op == "||" and ast.Literal("bool", True) in sides:
            self.add("constant_in_or", node, "{ }")
        elif node.op == "||" and (bare := [s for s in sides if isinstance(s, ast.Attribute)]):
            self.add("bare_boolean_in_or", bare[0], f"{to_text(bare[0])} = true")
        elif node.op in ("=", "!=") and sides == (_NIL, _NIL):
            self.add("nil_eq_unreliable", node, "{ true }")

    def field(self, node: ast.Attribute | ast.Intrinsic) -> None:
        if isinstance(node, ast.Intrinsic):
            if node.name == "span:childCount":
                self.add("child_count", node, "{ ... } > { } or nestedSetRight - nestedSetLeft")
            return
        written = f"{node.scope}.{node.key}"
        if _SWALLOWED.search(node.key) and self.query.text.startswith(written, node.pos):
            spaced = re.sub(r"([-+*/%])", r" \1 ", written, count=1)
            text = f'{spaced}, or in quotes {node.scope}."{node.key}"'
            self.add("attr_name_eats_operator", node, text)

    def negated(self, predicate: Predicate, others: list[Predicate]) -> None:
        outer = predicate.negations[0]
        field = to_text(predicate.field)
        if predicate.literal.kind == "nil":
            self.add("nil_eq_unreliable", outer, f"{{ {field} = nil }}")
        elif all(other.negations for other in others):
            opposite = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~", "<": ">=", "<=": ">",
                        ">": "<=", ">=": "<"}[predicate.node.op]  # fmt: skip
            text = f"{field} {opposite} {to_text(predicate.literal)}"
            self.add("negation_needs_presence", outer, text)

    def invisible(self, predicate: Predicate) -> None:
        """Values that are stored but that no comparison sees."""
        field = predicate.field
        if isinstance(field, ast.Attribute) and "other" in (self.types(field) or ()):
            instead = "arrays of one type, or one attribute for each value"
            self.add("unsupported_value_kind", predicate.node, instead, "note")

    def presence(self, predicate: Predicate) -> None:
        if predicate.node.op == "=":
            text = f"{{ ... }} && {{ {to_text(predicate.field)} != nil }} for its presence"
            self.add("nil_eq_unreliable", predicate.node, text)

    def compared(self, predicate: Predicate, others: list[Predicate]) -> None:
        node, field, literal = predicate.node, predicate.field, predicate.literal
        if predicate.on_left and node.op in _ORDER and all(other.on_left for other in others):
            text = f"{to_text(field)} {_ORDER[node.op]} {to_text(literal)}"
            self.add("literal_on_left", node, text)
        if isinstance(field, ast.Intrinsic):
            self.plain_nanoseconds(node, field, literal)
            self.ids(predicate, field)
        else:
            if literal.kind in ("int", "float"):
                self.typed_literal(predicate, field, others)
            if node.op in ("!=", "!~"):
                text = f"{{ {to_text(field)} = nil || {to_text(node)} }}"
                self.add("missing_ne", node, text, "note")
            self.arrays(predicate, field, others)
        if node.op in ("=~", "!~") and not _REGEX_SIGNS.search(literal.value):
            text = f"{to_text(field)} {node.op} `.*{literal.value}.*`"
            self.add("regex_whole_value", node, text, "note")

    def plain_nanoseconds(self, node: Any, field: Any, literal: Any) -> None:
        if (
            isinstance(field, ast.Intrinsic) and field.name in _DURATIONS
            and isinstance(literal, ast.Literal) and literal.kind in ("int", "float")
            and literal.value != 0
        ):  # fmt: skip
            self.add("ns_int_duration", node, f"{to_text(field)} {node.op} {literal.value}s")

    def ids(self, predicate: Predicate, field: ast.Intrinsic) -> None:
        if field.name not in ("span:id", "span:parentID") or predicate.node.op not in ("=", "!="):
            return
        value = str(predicate.literal.value)
        if not value and field.name == "span:parentID":
            self.add("span_id_leading_zeros", predicate.node, "nestedSetParent < 0")
        elif value.startswith("0"):
            text = f"{field.name} =~ `0*{value.lstrip('0')}`"
            self.add("span_id_leading_zeros", predicate.node, text)
        elif value != value.lower():
            text = f"{field.name} {predicate.node.op} `{value.lower()}`"
            self.add("id_case", predicate.node, text)

    def typed_literal(
        self, predicate: Predicate, field: ast.Attribute, others: list[Predicate]
    ) -> None:
        kind = predicate.literal.kind
        if {o.literal.kind for o in others} & ({"int", "float", "nil"} - {kind}):
            return  # both types are asked for, or presence fetches every value
        other = "d" if kind == "int" else "i"
        types = self.types(field)
        name, op = to_text(field), predicate.node.op
        value = predicate.literal.value
        twin = f"{value}.0" if kind == "int" else (str(int(value)) if value == int(value) else "")
        instead = f"{name} {op} {to_text(predicate.literal)}"
        instead += f" || {name} {op} {twin}" if twin else f" && {name} != nil"
        if types is not None:
            if types & {other, other * 2}:
                self.add("typed_literal", predicate.node, instead)
            return
        usual = _FLOAT_KEY if kind == "int" else _INT_KEY
        level = "warning" if usual.search(field.key) else "note"
        self.add("typed_literal", predicate.node, instead, level)

    def arrays(self, predicate: Predicate, field: ast.Attribute, others: list[Predicate]) -> None:
        op = predicate.node.op
        similar = [o for o in others if o.node.op[0] == op[0] and not o.negations]
        code = ""
        if op in ("!=", "!~") and not similar:
            code = "array_ne_any_element"
        elif op in ("=", "=~") and similar and predicate.node.pos < similar[0].node.pos:
            code = "array_or"
        if not code:
            return
        types = self.types(field)
        known = bool(_ARRAY_KEY.search(field.key)) if types is None else bool(
            types & {"ss", "ii", "dd", "bb"}
        )  # fmt: skip
        value = to_text(predicate.literal)
        text = f"{to_text(field)} =~ `a|b`" if code == "array_or" else f"{to_text(field)} = {value}"
        if known:
            self.add(code, predicate.node, text)
        elif types is None and code == "array_ne_any_element":
            self.add(code, predicate.node, text, "note")


_NIL = ast.Literal("nil", None)
