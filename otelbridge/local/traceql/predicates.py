"""Walks over expressions: every node, the comparisons of a field with a literal, what && joins.

Used by lint.py and compile_metrics.py. Nothing here recurses, so trees of any depth can be walked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from otelbridge.local.traceql import ast


@dataclass(frozen=True, slots=True)
class Predicate:
    """A comparison of a field with a literal inside a filter, and the `!` around it."""

    node: ast.Binary
    field: ast.Attribute | ast.Intrinsic
    literal: ast.Literal
    on_left: bool  # the literal
    negations: tuple[ast.Unary, ...]


def walk(
    expr: ast.FieldExpr, negations: tuple[ast.Unary, ...] = ()
) -> Iterator[tuple[ast.FieldExpr, tuple[ast.Unary, ...]]]:
    """Every node of an expression with the `!` that stand around it."""
    stack = [(expr, negations)]
    while stack:
        node, around = stack.pop()
        yield node, around
        if isinstance(node, ast.Binary):
            stack += ((node.right, around), (node.left, around))
        elif isinstance(node, ast.Unary):
            stack.append((node.operand, (*around, node)[:2] if node.op == "!" else around))


def predicates_in(expr: ast.FieldExpr) -> Iterator[Predicate]:
    """Comparisons of a field with a literal, in the order of the text."""
    for node, negations in walk(expr):
        if isinstance(node, ast.Binary) and node.op in (
            "=", "!=", "<", "<=", ">", ">=", "=~", "!~",
        ):  # fmt: skip
            for field, literal, on_left in (
                (node.left, node.right, False), (node.right, node.left, True),
            ):  # fmt: skip
                if isinstance(field, ast.Attribute | ast.Intrinsic) and isinstance(
                    literal, ast.Literal
                ):
                    yield Predicate(node, field, literal, on_left, negations)


def predicates_of(element: ast.Element) -> list[Predicate]:
    """Predicates of a spanset expression, whatever its shape."""
    found: list[Predicate] = []
    stack: list[Any] = [element]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.SpansetFilter):
            found += predicates_in(node.expr)
        elif isinstance(node, ast.SpansetOperation):
            stack += (node.left, node.right)
        elif isinstance(node, ast.Pipeline):
            stack += node.elements
    return found


def fields_of(expr: ast.FieldExpr) -> list[ast.Attribute | ast.Intrinsic]:
    """Attributes and intrinsics of an expression, in the order of the text."""
    return [node for node, _ in walk(expr) if isinstance(node, ast.Attribute | ast.Intrinsic)]


def conjunctions(expr: ast.FieldExpr) -> list[list[ast.FieldExpr]]:
    """Operands that are joined by `&&`, per chain of them."""
    groups: list[list[ast.FieldExpr]] = []
    stack: list[tuple[ast.FieldExpr, list[ast.FieldExpr] | None]] = [(expr, None)]
    while stack:
        node, group = stack.pop()
        if isinstance(node, ast.Binary) and node.op == "&&":
            if group is None:
                group = []
                groups.append(group)
            stack += ((node.left, group), (node.right, group))
        elif group is not None:
            group.append(node)
        elif isinstance(node, ast.Binary) and node.op == "||":
            stack += ((node.left, None), (node.right, None))
    return groups


def demanded(pipeline: ast.Pipeline) -> set[ast.FieldExpr]:
    """Operands that every span of the result has, as far as the filters show it."""
    found: set[ast.FieldExpr] = set()
    stack = [part.expr for part in pipeline.elements if isinstance(part, ast.SpansetFilter)]
    while stack:
        node = stack.pop()
        if not isinstance(node, ast.Binary):
            continue
        if node.op == "&&":
            stack += (node.left, node.right)
        elif node.op == "!=" or (node.op in ("<", "<=", ">", ">=", "=") and not _has_nil(node)):
            found.update((node.left, node.right))
    return found


def _has_nil(node: ast.Binary) -> bool:
    return any(isinstance(n, ast.Literal) and n.kind == "nil" for n in (node.left, node.right))


def is_event(predicate: Predicate) -> bool:
    """Whether the field belongs to an event or link, of which a span may have several."""
    field = predicate.field
    scope = field.scope if isinstance(field, ast.Attribute) else field.name.split(":")[0]
    return scope in ("event", "link")
