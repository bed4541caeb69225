"""Whether a query that parses also makes sense: types, operators, limits (`validate`).

Checks run in Tempo's order (operands before the operation, the pipeline before the metrics) and
are worded as Tempo words them, so the first fault found is the one Tempo reports. Rules: Tempo 3.0
documentation of TraceQL and its recorded answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from otelbridge.local.traceql import ast, re2
from otelbridge.local.traceql.errors import (
    NotAMetricsQueryError,
    TraceQLError,
    TraceQLTypeError,
    TraceQLUnsupportedError,
)
from otelbridge.local.traceql.folding import folded, operands_folded
from otelbridge.local.traceql.printing import go_float, to_text

DYNAMIC = "dynamic"  # the type of an attribute: whatever a span stores
_NUMERIC = frozenset({"int", "float", "duration"})
_INTRINSIC_TYPES = {
    **dict.fromkeys(("duration", "traceDuration", "event:timeSinceStart"), "duration"),
    **dict.fromkeys(
        ("nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:childCount"), "int"
    ),
    "status": "status",
    "kind": "kind",
}
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^"})
_EQUALITY = frozenset({"=", "!="})
_ORDER = frozenset({"<", "<=", ">", ">="})
_REGEX = frozenset({"=~", "!~"})
_LOGIC = frozenset({"&&", "||"})
_ALLOWED = {
    **dict.fromkeys(_NUMERIC, _ARITHMETIC | _EQUALITY | _ORDER),
    "string": _EQUALITY | _ORDER | _REGEX,
    "bool": _EQUALITY | _LOGIC,
    **dict.fromkeys(("status", "kind", "nil"), _EQUALITY),
    DYNAMIC: _ARITHMETIC | _EQUALITY | _ORDER | _REGEX | _LOGIC,
}
_SERVICE_NAME = ("resource", "service.name")
MAX_METRICS_GROUPS = 5


def validate(query: ast.Query, *, metrics: bool) -> None:
    """Accept a query or raise the first fault that Tempo would report.

    Args:
        query: a tree from `parser.parse`.
        metrics: the query came to a metrics endpoint, so it has to be a metrics query. (A search
            endpoint accepts metrics queries and answers the spans of their pipeline.)

    Raises:
        TraceQLTypeError: parts that do not fit together.
        TraceQLUnsupportedError: well formed, but supported neither by Tempo nor here.
    """
    try:
        if metrics and query.metrics is None:
            raise NotAMetricsQueryError(
                "not a metrics query", position=len(query.text),
                hint="add a metrics function: {...} | rate()",
            )  # fmt: skip
        _pipeline(query.pipeline)
        if query.metrics is not None:
            _metrics(query.metrics, query.stages)
    except TraceQLError as error:
        raise error.at(query.text) from None


def type_of(expr: ast.FieldExpr) -> str:
    """Static type of an expression: a literal kind, or `DYNAMIC`."""
    match expr:
        case ast.Literal():
            return expr.kind
        case ast.Intrinsic():
            return _INTRINSIC_TYPES.get(expr.name, "string")
        case ast.Unary():
            return "bool" if expr.op == "!" else type_of(expr.operand)
        case ast.Binary():
            return _binary_type(expr.op, type_of(expr.left), type_of(expr.right))
        case _:
            return DYNAMIC


def _binary_type(op: str, left: str, right: str) -> str:
    if op not in _ARITHMETIC:
        return "bool"
    return left if left != DYNAMIC else right


def mentions_span(expr: ast.FieldExpr) -> bool:
    """Whether an expression depends on the span at all."""
    stack: list[ast.FieldExpr] = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Attribute | ast.Intrinsic):
            return True
        if isinstance(node, ast.Binary):
            stack += (node.left, node.right)
        elif isinstance(node, ast.Unary):
            stack.append(node.operand)
    return False


def _refuse(message: str, node: Any, piece: str, hint: str) -> NoReturn:
    raise TraceQLTypeError(message, position=node.pos, piece=piece, hint=hint)


def _unsupported(message: str, node: Any, piece: str, hint: str) -> NoReturn:
    raise TraceQLUnsupportedError(message, position=node.pos, piece=piece, hint=hint)


def _shown(node: Any) -> str:
    """Text of a node in a message: Tempo has evaluated constants by then."""
    match node:
        case ast.SpansetFilter() | ast.GroupBy():
            return to_text(replace(node, expr=folded(node.expr)))
        case ast.Aggregate() if node.argument is not None:
            return to_text(replace(node, argument=folded(node.argument)))
        case _:
            return to_text(operands_folded(node))


# -- pipelines -------------------------------------------------------------------------------------
def _pipeline(pipeline: ast.Pipeline) -> None:
    for element in pipeline.elements:
        _element(element)


def _element(element: ast.Element) -> None:
    match element:
        case ast.SpansetFilter():
            if _expression(element.expr) not in ("bool", DYNAMIC):
                _refuse(
                    f"span filter field expressions must resolve to a boolean: {_shown(element)}",
                    element, "{", "compare the value with something: { name = `a` }",
                )  # fmt: skip
        case ast.SpansetOperation():
            _element(element.left)
            _element(element.right)
        case ast.Pipeline():
            _pipeline(element)
        case ast.ScalarFilter():
            _scalar_filter(element)
        case ast.GroupBy():
            _expression(element.expr)
            if not mentions_span(element.expr):
                _refuse(
                    f"grouping field expressions must reference the span: {_shown(element)}",
                    element, "by", "group by an attribute or intrinsic: by(resource.service.name)",
                )  # fmt: skip
        case ast.Select():
            for attribute in element.attributes:
                _field(attribute)
        case ast.Coalesce():
            pass


def _scalar_filter(node: ast.ScalarFilter) -> None:
    _scalar(node.left)
    _scalar(node.right)
    _operation(node, _scalar_type(node.left), _scalar_type(node.right))
    hint = "write an aggregate on the left and a value on the right: count() > 2"
    if not isinstance(node.left, ast.Aggregate):
        # Tempo leaves the verb of its format in place.
        message = "scalar filter lhs of type (%v) not yet supported"
        _unsupported(message, node.left, to_text(node.left), hint)
    if not isinstance(node.right, ast.Literal):
        message = "scalar filter rhs of type (%v) not yet supported"
        _unsupported(message, node.right, to_text(node.right), hint)


def _scalar(node: ast.ScalarExpr) -> None:
    match node:
        case ast.Aggregate() if node.argument is not None:
            _aggregate(node, node.argument)
        case ast.ScalarOperation():
            _scalar(node.left)
            _scalar(node.right)
            _operation(node, _scalar_type(node.left), _scalar_type(node.right))
        case ast.ScalarPipeline():
            _pipeline(node.pipeline)
            _scalar(node.scalar)


def _aggregate(node: ast.Aggregate, argument: ast.FieldExpr) -> None:
    kind = _expression(argument)
    hint = f"aggregate a number of the span: {node.function}(duration)"
    if kind not in _NUMERIC | {DYNAMIC}:
        _refuse(
            f"aggregate field expressions must resolve to a number type: {_shown(node)}",
            node, node.function, hint,
        )  # fmt: skip
    if not mentions_span(argument):
        _refuse(
            f"aggregate field expressions must reference the span: {_shown(node)}",
            node, node.function, hint,
        )  # fmt: skip


def _scalar_type(node: ast.ScalarExpr) -> str:
    match node:
        case ast.Literal():
            return node.kind
        case ast.Aggregate():
            return "int" if node.argument is None else type_of(node.argument)
        case ast.ScalarOperation():
            return _scalar_type(node.left)
        case ast.ScalarPipeline():
            return _scalar_type(node.scalar)


# -- expressions -----------------------------------------------------------------------------------
def _expression(expr: ast.FieldExpr) -> str:
    """Check an expression from its leaves up; its static type."""
    match expr:
        case ast.Binary():
            left, right = _expression(expr.left), _expression(expr.right)
            _operation(expr, left, right)
            _nil_comparison(expr)
            if expr.op in _REGEX:
                _regex(expr)
            return _binary_type(expr.op, left, right)
        case ast.Unary():
            kind = _expression(expr.operand)
            wanted = {"bool"} if expr.op == "!" else _NUMERIC
            if kind not in wanted | {DYNAMIC}:
                _refuse(
                    f"illegal operation for the given type: {_shown(expr)}", expr, expr.op,
                    "! takes a condition, - takes a number",
                )  # fmt: skip
            return "bool" if expr.op == "!" else kind
        case ast.Attribute() | ast.Intrinsic():
            _field(expr)
    return type_of(expr)


def _field(node: ast.Attribute | ast.Intrinsic) -> None:
    hint = "relate spans with structural operators: { parent } > { child }"
    if isinstance(node, ast.Attribute):
        if node.parent:
            _unsupported("parent not yet supported", node, "parent", hint)
    elif node.name == "parent":
        hint = "for spans without a parent write { nestedSetParent < 0 }; " + hint
        _unsupported("intrinsic (parent) not yet supported", node, "parent", hint)


def _operation(
    node: ast.Binary | ast.ScalarOperation | ast.ScalarFilter, left: str, right: str
) -> None:
    """Types of both sides against each other, then against the operator."""
    same = left == right or DYNAMIC in (left, right) or "nil" in (left, right)
    if not same and not (left in _NUMERIC and right in _NUMERIC):
        _refuse(
            f"binary operations must operate on the same type: {_shown(node)}", node, node.op,
            _type_hint(left, right),
        )  # fmt: skip
    if node.op not in _ALLOWED[left] or node.op not in _ALLOWED[right]:
        kind = left if node.op not in _ALLOWED[left] else right
        allowed = " ".join(sorted(_ALLOWED[kind]))
        _refuse(
            f"illegal operation for the given types: {_shown(node)}", node, node.op,
            f"{_a(kind)} allows only {allowed}",
        )  # fmt: skip


def _type_hint(left: str, right: str) -> str:
    for kind, example in (
        ("kind", "kind = server"), ("status", "status = error"), ("duration", "duration > 1.5s"),
        ("string", 'name = "text"'), ("bool", "span.flag = true"),
    ):  # fmt: skip
        if kind == left or (kind == right and left != "string"):
            return f"{_a(left)} is compared with {_a(right)}; write for example {example}"
    return f"{_a(left)} cannot be compared with {_a(right)}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "int" else f"a {kind}"


def _nil_comparison(expr: ast.Binary) -> None:
    if expr.op != "=":
        return
    for field, other in ((expr.left, expr.right), (expr.right, expr.left)):
        if not isinstance(other, ast.Literal) or other.kind != "nil":
            continue
        hint = "it is always there; compare it with a value, for example with an empty string"
        text = to_text(field)
        if isinstance(field, ast.Intrinsic):
            message = f"{text}=nil is not valid because intrinsics cannot be nil"
            _refuse(message, expr, expr.op, hint)
        if isinstance(field, ast.Attribute) and (field.scope, field.key) == _SERVICE_NAME:
            message = f"{text}=nil is not valid because {text} cannot be nil"
            _refuse(message, expr, expr.op, hint)


def _regex(expr: ast.Binary) -> None:
    pattern = expr.right
    if not isinstance(pattern, ast.Literal):
        _refuse(
            f"invalid regex: {to_text(pattern)}", expr, expr.op,
            "the right side of a regular expression match has to be a string",
        )  # fmt: skip
    fault = re2.fault(pattern.value)
    if fault is not None:
        _refuse(
            f"invalid regex: {to_text(pattern)}", pattern, pattern.value,
            f"{fault}; the syntax is RE2's: no look-around, no back-references",
        )  # fmt: skip


# -- metrics ---------------------------------------------------------------------------------------
def _metrics(node: ast.Metrics, stages: tuple[ast.TopBottom | ast.MetricsFilter, ...]) -> None:
    for attribute in (node.argument, *node.by):
        if attribute is not None:
            _field(attribute)
    buckets = node.function in ("quantile_over_time", "histogram_over_time")
    most = MAX_METRICS_GROUPS - 1 if buckets else MAX_METRICS_GROUPS
    if len(node.by) > most:
        _unsupported(
            f"metrics group by {len(node.by)} values not yet supported", node, node.function,
            f"{node.function} takes at most {most} keys in by(...)",
        )  # fmt: skip
    for quantile in node.quantiles:
        if not 0 <= quantile <= 1:
            message = f"quantile must be between 0 and 1: {go_float(quantile)}"
            _refuse(message, node, node.function, "write 0.95 for the 95th percentile")
    if node.selection is not None:
        _compare(node, node.selection)
    for stage in stages:
        _stage(node, stage)


def _compare(node: ast.Metrics, selection: ast.SpansetFilter) -> None:
    _element(selection)
    hint = "compare({ selection }, 10, start, end), times in nanoseconds since 1970"
    if node.top <= 0:
        message = "compare() top number of values must be integer greater than 0"
        _refuse(message, node, node.function, hint)
    if node.window is not None:
        start, end = node.window
        if start <= 0 or end <= 0:
            message = "compare() timestamps must be positive integer unix nanoseconds"
            _refuse(message, node, node.function, hint)
        if end < start:
            message = "compare() end timestamp must be greater than start timestamp"
            _refuse(message, node, node.function, hint)


def _stage(node: ast.Metrics, stage: ast.TopBottom | ast.MetricsFilter) -> None:
    if isinstance(stage, ast.TopBottom) and stage.limit <= 0:
        hint = f"write how many series to keep: {stage.function}(5)"
        _refuse("limit must be greater than 0", stage, stage.function, hint)
    if node.function == "compare":
        piece = stage.function if isinstance(stage, ast.TopBottom) else stage.op
        hint = "compare() chooses its own top values by its second argument"
        message = "`compare()` cannot be used with second stage functions"
        _unsupported(message, stage, piece, hint)
