"""Constant parts of an expression replaced by their value, as Tempo does while it parses.

Only messages need it (`validate`): `{ 1 + 2 }` is refused as `{ 3 }`. What could fail or overflow,
powers and arithmetic with durations or floats stay as they are written.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from otelbridge.local.traceql import ast

_NUMERIC = frozenset({"int", "float", "duration"})
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_INT64 = range(-(2**63), 2**63)


def folded(expr: ast.FieldExpr) -> ast.FieldExpr:
    """The expression with its constant parts evaluated; it has to be well typed."""
    match expr:
        case ast.Unary():
            operand = folded(expr.operand)
            if expr.op == "!" and isinstance(operand, ast.Literal) and operand.kind == "bool":
                return ast.Literal("bool", not operand.value, expr.pos)
            if expr.op == "-" and isinstance(operand, ast.Literal) and operand.kind == "int":
                return ast.Literal("int", -operand.value, expr.pos)
            return replace(expr, operand=operand)
        case ast.Binary():
            left, right = folded(expr.left), folded(expr.right)
            if isinstance(left, ast.Literal) and isinstance(right, ast.Literal):
                value = _value(expr.op, left, right)
                if value is not None:
                    kind: ast.LiteralKind = "bool" if isinstance(value, bool) else "int"
                    return ast.Literal(kind, value, expr.pos)
            return replace(expr, left=left, right=right)
        case _:
            return expr


def operands_folded(node: ast.FieldExpr) -> ast.FieldExpr:
    """The same for what stands below a node that itself may be ill typed."""
    if isinstance(node, ast.Binary):
        return replace(node, left=folded(node.left), right=folded(node.right))
    if isinstance(node, ast.Unary):
        return replace(node, operand=folded(node.operand))
    return node


def _value(op: str, left: ast.Literal, right: ast.Literal) -> bool | int | None:
    a, b = left.value, right.value
    same = left.kind == right.kind
    if op in _COMPARE and (same or (left.kind in _NUMERIC and right.kind in _NUMERIC)):
        return _COMPARE[op](a, b)
    if op in ("&&", "||") and same:
        return bool(a and b) if op == "&&" else bool(a or b)
    if left.kind != "int" or right.kind != "int" or (op in ("/", "%") and b == 0):
        return None
    result: int | None = None
    match op:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*":
            result = a * b
        case "/":  # Go truncates towards zero
            result = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        case "%":
            result = abs(a) % abs(b) * (-1 if a < 0 else 1)
    return result if result in _INT64 else None
