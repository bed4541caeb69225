"""Tempo's own answers where ours are cleaner: what its storage hides from its engine.

Tempo fetches spans by the comparisons of a query that have the form `field op literal`, and its
engine then sees only the values that passed one of them (measured behaviour, reference of Tempo
3.0.3). So a literal's type decides, negation finds nothing, and a literal on the left is compared
the wrong way round. `pushdown` collects these comparisons; `compile_fields` and `compile_spansets`
apply them. Not imitated: `= nil` (its answers vary between runs), divisions by zero and other
server errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from otelbridge.local.traceql import ast, rewrite
from otelbridge.local.traceql.compile_fields import Fields, Pushed
from otelbridge.local.traceql.compile_values import ARITHMETIC, present, pushed_test


@dataclass(frozen=True, slots=True)
class Pushdown:
    """Comparisons by field; `looked` are fields that are fetched whatever their value.

    `every`: a span must pass for every field; else for one of them, unless `unfiltered`.
    """

    tests: Pushed
    looked: tuple[ast.Attribute | ast.Intrinsic, ...] = ()
    every: bool = True
    unfiltered: bool = False


def pushdown(pipeline: ast.Pipeline) -> Pushdown:
    """What Tempo's storage would apply for a pipeline."""
    tests: dict[ast.Attribute | ast.Intrinsic, list[ast.Binary]] = {}
    looked: dict[ast.Attribute | ast.Intrinsic, None] = {}
    filters = list(_filters(pipeline))
    for expr in filters:
        for node, test in _demands(expr):
            if test is None:
                looked[node] = None
            else:
                tests.setdefault(node, []).append(test)
    alone = not any(isinstance(e, ast.SpansetOperation) for e in pipeline.elements)
    return Pushdown(
        {node: tuple(found) for node, found in tests.items() if node not in looked},
        tuple(looked),
        every=alone and not any(_has_or(expr) for expr in filters),
        unfiltered=not filters or any(isinstance(expr, ast.Literal) for expr in filters),
    )


def imitating(fields: Fields, given: Pushdown | None) -> Fields:
    """The same collector of joins, for expressions in filters."""
    return fields if given is None else replace(fields, pushed=given.tests)


def candidates(fields: Fields, given: Pushdown | None) -> str:
    """The condition that Tempo's storage hands a span to the engine; "true" without any."""
    if given is None or (given.unfiltered and not given.every):
        return "true"
    found = []
    for node, tests in given.tests.items():
        if rewrite.row_scopes(node):
            found.append(" OR ".join(f"({fields.condition(test)})" for test in tests))
        else:
            value = fields.stored(node)
            found.append(" OR ".join(f"({pushed_test(value, t)})" for t in tests))
    for node in given.looked:
        if isinstance(node, ast.Intrinsic) and not given.every:
            return "true"
        if isinstance(node, ast.Attribute) and not rewrite.row_scopes(node):
            found.append(present(fields.stored(node)))
    return (" AND " if given.every else " OR ").join(f"({sql})" for sql in found) or "true"


def _filters(node: object) -> Iterator[ast.FieldExpr]:
    if isinstance(node, ast.SpansetFilter):
        yield node.expr
    elif isinstance(node, ast.SpansetOperation):
        yield from _filters(node.left)
        yield from _filters(node.right)
    elif isinstance(node, ast.Pipeline):
        for element in node.elements:
            yield from _filters(element)


def _demands(
    node: ast.FieldExpr,
) -> Iterator[tuple[ast.Attribute | ast.Intrinsic, ast.Binary | None]]:
    """Fields of an expression, each with the comparison that is pushed down, or None."""
    if isinstance(node, (ast.Attribute, ast.Intrinsic)):
        yield node, None
    elif isinstance(node, ast.Unary):
        yield from _demands(node.operand)
    elif isinstance(node, ast.Binary):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(other, ast.Literal) and isinstance(one, (ast.Attribute, ast.Intrinsic)):
                if other.kind == "nil" and node.op == "=":
                    return  # Tempo's own answers vary here; ours is true absence
                compared = node.op not in ARITHMETIC and other.kind != "nil"
                yield one, node if compared else None
                return
        yield from _demands(node.left)
        yield from _demands(node.right)


def _has_or(node: ast.FieldExpr) -> bool:
    if isinstance(node, ast.Unary):
        return _has_or(node.operand)
    if isinstance(node, ast.Binary):
        return node.op == "||" or _has_or(node.left) or _has_or(node.right)
    return False
