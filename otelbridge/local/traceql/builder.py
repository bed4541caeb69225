"""Nodes of the tree (ast.py) from the rules of the grammar, as the parser reduces them.

Each method is named after a rule or alias of grammar.lark and gets its children: tokens and what
other methods returned. Chains of operators arrive flat and are ordered here (`_ordered`); nothing
recurses, so the depth of a query is bounded by the parser's own limit and not by Python's.
"""

# ruff: noqa: D102 - a method is named after the rule whose node it makes, and does nothing else
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lark import Token, Transformer

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.errors import TraceQLError, TraceQLSyntaxError

#: From loose to tight; all comparisons and relations between spansets are one level.
_LEVELS = (
    ("&&", "||"),
    ("=", "!=", "<", "<=", ">", ">=", "=~", "!~", ">>", "<<", "~", "!>", "!>>", "!<", "!<<",
     "&>", "&>>", "&<", "&<<", "&~"),
    ("+", "-"),
    ("!",),
    ("*", "/", "%"),
    ("^",),
)  # fmt: skip
PRECEDENCE = {operator: level for level, row in enumerate(_LEVELS) for operator in row}
#: Unary minus binds as its binary form does: `-a * b` is `-(a * b)`.
_PREFIX = {"-": PRECEDENCE["-"], "!": PRECEDENCE["!"]}
_NUMERIC = ("int", "float", "duration")
_CANONICAL = {
    "trace:duration": "traceDuration",
    "trace:rootName": "rootName",
    "trace:rootService": "rootServiceName",
    "span:duration": "duration",
    "span:name": "name",
    "span:kind": "kind",
    "span:status": "status",
    "span:statusMessage": "statusMessage",
}


class Chain(list[Any]):
    """Operands and operator tokens in the order of the text; prefix operators before theirs."""


@dataclass(slots=True)
class Draft:
    """A query to which `with (...)` may still add hints, as often as it stands there."""

    elements: Chain
    metrics: Chain = field(default_factory=Chain)
    hints: Chain = field(default_factory=Chain)

    def query(self, text: str) -> ast.Query:
        """The finished query."""
        function = self.metrics[0] if self.metrics else None
        return ast.Query(
            ast.Pipeline(tuple(self.elements)), function, tuple(self.metrics[1:]),
            tuple(self.hints), text,
        )  # fmt: skip


def unknown_identifier(token: Token) -> TraceQLError:
    """The refusal of a bare word where a value is needed."""
    piece = str(token)
    hint = f'write span.{piece} or .{piece} for an attribute, "{piece}" for a string'
    if not piece.isidentifier():
        hint = "there are no lists" if piece == "[" else "a value has to stand here"
    return TraceQLSyntaxError(
        f"unknown identifier: {piece}", position=token.start_pos or 0, piece=piece, hint=hint
    )


def negated(literal: ast.Literal, pos: int) -> ast.Literal:
    """`-literal`, with the overflow of 64-bit integers."""
    value = -literal.value
    if literal.kind != "float" and value == 2**63:
        value = -(2**63)
    return ast.Literal(literal.kind, value, pos)


def _ordered(chain: Chain, node: Any) -> Any:
    """The tree of a flat chain, by precedence; `node(op, left, right, pos)` makes its nodes."""
    values: list[Any] = []
    pending: list[tuple[int, str, int, bool]] = []  # level, operator, position, is a prefix

    def reduce_one() -> None:
        _, operator, pos, prefix = pending.pop()
        right = values.pop()
        if not prefix:
            values.append(node(operator, values.pop(), right, pos))
        elif operator == "-" and isinstance(right, ast.Literal) and right.kind in _NUMERIC:
            values.append(negated(right, pos))
        else:
            values.append(ast.Unary(operator, right, pos))  # type: ignore[arg-type]  # "-" or "!"

    after_operand = False
    for item in chain:
        if not isinstance(item, Token):
            values.append(item)
            after_operand = True
            continue
        operator, pos = str(item), item.start_pos or 0
        if not after_operand:
            pending.append((_PREFIX[operator], operator, pos, True))
            continue
        level = PRECEDENCE[operator]
        while pending and (pending[-1][0] > level or (pending[-1][0] == level and operator != "^")):
            reduce_one()
        pending.append((level, operator, pos, False))
        after_operand = False
    while pending:
        reduce_one()
    return values[0]


def _at(token: Token) -> int:
    return token.start_pos or 0


class TreeBuilder(Transformer):  # type: ignore[type-arg]  # its result is a Draft
    """Callbacks of the LALR parser; the last one returns a `Draft`."""

    # -- shared ------------------------------------------------------------------------------------
    def first(self, children: list[Any]) -> Chain:
        """A list of one item."""
        return Chain(children)

    def append(self, children: list[Any]) -> Chain:
        """A separated list and one more item."""
        children[0].append(children[2])
        return children[0]  # type: ignore[no-any-return]  # the grammar gives a Chain

    def extend(self, children: list[Any]) -> Chain:
        """A chain of operators and one more operand."""
        children[0] += children[1:]
        return children[0]  # type: ignore[no-any-return]  # the grammar gives a Chain

    def parenthesised(self, children: list[Any]) -> Any:
        """What stands in parentheses."""
        inner = children[1]
        return replace(inner, grouped=True) if isinstance(inner, ast.Binary) else inner

    # -- whole queries -----------------------------------------------------------------------------
    def search_query(self, children: list[Any]) -> Draft:
        return Draft(children[0])

    def metrics_query(self, children: list[Any]) -> Draft:
        return Draft(children[0], children[2])

    def hinted_query(self, children: list[Any]) -> Draft:
        children[0].hints += children[3]
        return children[0]  # type: ignore[no-any-return]  # the grammar gives a Draft

    def hint(self, children: list[Any]) -> tuple[str, ast.Literal]:
        return str(children[0]), children[2]

    # -- spansets ----------------------------------------------------------------------------------
    def spansets(self, children: list[Any]) -> ast.SpansetExpr:
        return _ordered(children[0], ast.SpansetOperation)  # type: ignore[no-any-return]

    def empty_filter(self, children: list[Any]) -> ast.SpansetFilter:
        return ast.SpansetFilter(ast.Literal("bool", True, _at(children[0])), _at(children[0]))

    def filter(self, children: list[Any]) -> ast.SpansetFilter:
        return ast.SpansetFilter(children[1], _at(children[0]))

    def wrapped_pipeline(self, children: list[Any]) -> ast.SpansetExpr:
        bracket, elements, _ = children
        only = elements[0]
        if len(elements) == 1 and isinstance(
            only, ast.SpansetFilter | ast.SpansetOperation | ast.Pipeline
        ):
            return replace(only, grouped=True) if isinstance(only, ast.SpansetOperation) else only
        return ast.Pipeline(tuple(elements), _at(bracket))

    # -- expressions -------------------------------------------------------------------------------
    def expr(self, children: list[Any]) -> ast.FieldExpr:
        return _ordered(children[0], ast.Binary)  # type: ignore[no-any-return]

    # An operand is kept back to front, so that a prefix is added in constant time.
    def bare(self, children: list[Any]) -> list[Any]:
        return children

    def prefixed(self, children: list[Any]) -> list[Any]:
        children[1].append(children[0])
        return children[1]  # type: ignore[no-any-return]

    def first_operand(self, children: list[Any]) -> Chain:
        return Chain(reversed(children[0]))

    def extend_operand(self, children: list[Any]) -> Chain:
        chain, operator, operand = children
        chain.append(operator)
        chain.extend(reversed(operand))
        return chain  # type: ignore[no-any-return]

    def unknown(self, children: list[Any]) -> Any:
        raise unknown_identifier(children[0])

    def attribute(self, children: list[Any]) -> ast.Attribute:
        return children[0].value  # type: ignore[no-any-return]

    def bare_intrinsic(self, children: list[Any]) -> ast.Intrinsic:
        word = str(children[0])
        return ast.Intrinsic(word, word, _at(children[0]))  # type: ignore[arg-type]

    def scoped_intrinsic(self, children: list[Any]) -> ast.Intrinsic:
        text = f"{children[0]}{children[1]}"
        name = _CANONICAL.get(text, text)
        return ast.Intrinsic(name, text, _at(children[0]))  # type: ignore[arg-type]

    def literal(self, children: list[Any]) -> ast.Literal:
        token = children[0]
        value = token.value
        return ast.Literal(value.kind, value.value, _at(token))

    number = literal

    def negative(self, children: list[Any]) -> ast.Literal:
        return negated(children[1], _at(children[0]))

    # -- pipeline elements -------------------------------------------------------------------------
    def scalar(self, children: list[Any]) -> ast.ScalarExpr:
        return _ordered(children[0], ast.ScalarOperation)  # type: ignore[no-any-return]

    def scalar_pipeline(self, children: list[Any]) -> ast.ScalarPipeline:
        bracket, elements, _, scalar, _ = children
        return ast.ScalarPipeline(ast.Pipeline(tuple(elements)), scalar, _at(bracket))

    def scalar_filter(self, children: list[Any]) -> ast.ScalarFilter:
        left, operator, right = children
        return ast.ScalarFilter(str(operator), left, right, _at(operator))  # type: ignore[arg-type]

    def count(self, children: list[Any]) -> ast.Aggregate:
        return ast.Aggregate("count", None, _at(children[0]))

    def aggregate(self, children: list[Any]) -> ast.Aggregate:
        return ast.Aggregate(str(children[0]), children[2], _at(children[0]))  # type: ignore[arg-type]

    def group(self, children: list[Any]) -> ast.GroupBy:
        return ast.GroupBy(children[2], _at(children[0]))

    def select(self, children: list[Any]) -> ast.Select:
        return ast.Select(tuple(children[2]), _at(children[0]))

    def coalesce(self, children: list[Any]) -> ast.Coalesce:
        return ast.Coalesce(_at(children[0]))

    # -- metrics -----------------------------------------------------------------------------------
    def rate(self, children: list[Any]) -> ast.Metrics:
        return ast.Metrics(str(children[0]), pos=_at(children[0]))  # type: ignore[arg-type]

    def over_time(self, children: list[Any]) -> ast.Metrics:
        return ast.Metrics(str(children[0]), children[2], pos=_at(children[0]))  # type: ignore[arg-type]

    def quantile(self, children: list[Any]) -> ast.Metrics:
        name, _, argument, _, quantiles, _ = children
        values = tuple(float(token.value.value) for token in quantiles)
        return ast.Metrics("quantile_over_time", argument, quantiles=values, pos=_at(name))

    def grouped(self, children: list[Any]) -> ast.Metrics:
        plain = children[0]
        return ast.Metrics(
            plain.function, plain.argument, tuple(children[3]), plain.quantiles, pos=plain.pos
        )

    def compare(self, children: list[Any]) -> ast.Metrics:
        numbers = [c.value.value for c in children[3:] if c.type == "INTEGER"]
        return ast.Metrics(
            "compare", selection=children[2], top=numbers[0] if numbers else 10,
            window=(numbers[1], numbers[2]) if len(numbers) == 3 else None, pos=_at(children[0]),
        )  # fmt: skip

    def top_bottom(self, children: list[Any]) -> Chain:
        metrics, _, name, _, limit, _ = children
        metrics.append(ast.TopBottom(str(name), limit.value.value, _at(name)))  # type: ignore[arg-type]
        return metrics  # type: ignore[no-any-return]

    def metrics_filter(self, children: list[Any]) -> Chain:
        metrics, operator, value = children
        metrics.append(ast.MetricsFilter(str(operator), value, _at(operator)))  # type: ignore[arg-type]
        return metrics  # type: ignore[no-any-return]
