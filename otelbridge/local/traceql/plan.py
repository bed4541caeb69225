"""What a query asks for, in the order in which it is answered; made from the tree, without SQL.

`plan` takes a validated tree. The plan holds the pipeline without its decorative parts, the fields
to show for each span, and how much of a trace must be read. Neighbours: `rewrite` simplifies,
`compile` writes SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from otelbridge.local.traceql import ast, compat, rewrite

#: Fields that are never listed among a span's attributes: the answer has them elsewhere.
_SHOWN_ELSEWHERE = frozenset(
    {"duration", "name", "traceDuration", "rootName", "rootServiceName", "trace:id", "span:id"}
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A query, ready to be compiled.

    `shown` are the fields listed with each span, in the order of first mention; `shows_name` says
    whether the query speaks of span names. `whole_traces` is true when a span's membership depends
    on other spans of its trace.
    """

    pipeline: ast.Pipeline
    metrics: ast.Metrics | None
    stages: tuple[ast.TopBottom | ast.MetricsFilter, ...]
    hints: tuple[tuple[str, ast.Literal], ...]
    shown: tuple[ast.Attribute | ast.Intrinsic, ...]
    shows_name: bool
    whole_traces: bool
    pushdown: compat.Pushdown | None = None


def plan(query: ast.Query, answer: str = "clean") -> Plan:
    """The plan of a validated query; `answer` "tempo" asks for Tempo's own."""
    pipeline = rewrite.flatten(query.pipeline)
    mentioned = tuple(dict.fromkeys(_fields(pipeline)))
    return Plan(
        pipeline=pipeline,
        metrics=query.metrics,
        stages=query.stages,
        hints=query.hints,
        shown=tuple(
            node
            for node in mentioned
            if isinstance(node, ast.Attribute) or node.name not in _SHOWN_ELSEWHERE
        ),
        shows_name=any(isinstance(n, ast.Intrinsic) and n.name == "name" for n in mentioned),
        whole_traces=not all(
            isinstance(e, (ast.SpansetFilter, ast.Select, ast.GroupBy, ast.Coalesce))
            for e in pipeline.elements
        ),
        pushdown=compat.pushdown(pipeline) if answer == "tempo" else None,
    )


def _fields(node: object) -> Iterator[ast.Attribute | ast.Intrinsic]:
    """Every field that a pipeline mentions, in order."""
    if isinstance(node, (ast.Attribute, ast.Intrinsic)):
        yield node
    elif isinstance(node, ast.Pipeline):
        for element in node.elements:
            yield from _fields(element)
    elif isinstance(node, (ast.SpansetFilter, ast.GroupBy)):
        yield from _fields(node.expr)
    elif isinstance(node, ast.Select):
        yield from node.attributes
    elif isinstance(node, ast.Unary):
        yield from _fields(node.operand)
    elif isinstance(node, (ast.Binary, ast.SpansetOperation, ast.ScalarFilter)):
        yield from _fields(node.left)
        yield from _fields(node.right)
    elif isinstance(node, ast.Aggregate) and node.argument is not None:
        yield from _fields(node.argument)
