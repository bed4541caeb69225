"""Simplifications of the tree before SQL is written: the same answers, fewer stages.

Pure functions over `ast`. A pipeline in parentheses that is one spanset expression becomes that
expression, and filters that follow each other become one step. Neighbours: `plan` applies them.
"""

from __future__ import annotations

from typing import Final

from otelbridge.local.traceql import ast

_ARITHMETIC: Final = frozenset("+-*/%^")


def is_predicate(node: ast.FieldExpr) -> bool:
    """Whether the value is a yes or no of its own: logic, comparison, or their negation."""
    if isinstance(node, ast.Unary):
        return node.op == "!" and is_predicate(node.operand)
    return isinstance(node, ast.Binary) and node.op not in _ARITHMETIC


def row_scopes(node: ast.FieldExpr) -> frozenset[str]:
    """Which of "event" and "link" an expression ranges over.

    A negated predicate is closed: it says something of all the events, not of one.
    """
    if isinstance(node, ast.Attribute):
        return frozenset({node.scope} & {"event", "link"})
    if isinstance(node, ast.Intrinsic):
        return frozenset({node.name.partition(":")[0]} & {"event", "link"})
    if isinstance(node, ast.Unary):
        if node.op == "!" and is_predicate(node.operand):
            return frozenset()
        return row_scopes(node.operand)
    if isinstance(node, ast.Binary):
        return row_scopes(node.left) | row_scopes(node.right)
    return frozenset()


def flatten(pipeline: ast.Pipeline) -> ast.Pipeline:
    """Parentheses that only group are removed, here and in every operand."""
    elements: list[ast.Element] = []
    for element in pipeline.elements:
        if isinstance(element, ast.Pipeline):
            # As an element it runs on the incoming spansets one by one: its steps in line.
            elements.extend(flatten(element).elements)
        elif isinstance(element, ast.SpansetOperation):
            elements.append(_operation(element))
        else:
            elements.append(element)
    return ast.Pipeline(tuple(elements), pipeline.pos)


def _operation(node: ast.SpansetOperation) -> ast.SpansetOperation:
    return ast.SpansetOperation(node.op, _operand(node.left), _operand(node.right), node.pos)


def _operand(node: ast.SpansetExpr) -> ast.SpansetExpr:
    if isinstance(node, ast.SpansetOperation):
        return _operation(node)
    if isinstance(node, ast.Pipeline):
        flat = flatten(node)
        only = flat.elements[0]
        if len(flat.elements) == 1 and isinstance(only, (ast.SpansetFilter, ast.SpansetOperation)):
            return only
        return flat
    return node
