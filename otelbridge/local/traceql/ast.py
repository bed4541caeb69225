"""The tree that a TraceQL query becomes: frozen dataclasses, nothing else.

`parser` makes it, `validate` checks it, `lint` warns of it, `plan` and `compile` turn it into SQL,
`printing` gives its canonical text. A node's `pos` is the offset of its first character in the
query and takes no part in equality. Names are those of the language's documentation (Tempo 3.0,
"TraceQL").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias
from typing import Literal as OneOf

#: Where an attribute is looked for; "" is the unscoped form (`.x`): span, resource, then scope.
Scope: TypeAlias = OneOf["", "span", "resource", "event", "link", "instrumentation"]
#: Type of a literal. A duration is an int of nanoseconds, a status or kind its word, nil None.
LiteralKind: TypeAlias = OneOf[
    "int", "float", "string", "bool", "duration", "status", "kind", "nil"
]
#: Intrinsics by their canonical name; `text` of the node keeps how it was written.
IntrinsicName: TypeAlias = OneOf[
    "duration", "name", "status", "statusMessage", "kind", "rootName", "rootServiceName",
    "traceDuration", "nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:id",
    "span:parentID", "span:childCount", "trace:id", "event:name", "event:timeSinceStart",
    "link:traceID", "link:spanID", "instrumentation:name", "instrumentation:version",
    "parent",  # parses, `validate` refuses it as Tempo does
]  # fmt: skip
Comparison: TypeAlias = OneOf["=", "!=", "<", "<=", ">", ">=", "=~", "!~"]
Arithmetic: TypeAlias = OneOf["+", "-", "*", "/", "%", "^"]
Logic: TypeAlias = OneOf["&&", "||"]
Structural: TypeAlias = OneOf[
    ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"
]


@dataclass(frozen=True, slots=True)
class Attribute:
    """`span.x`, `resource.x`, `.x`, ...: an attribute by scope and key.

    `parent` marks `parent.x`, which parses and which `validate` refuses, as Tempo does.
    """

    scope: Scope
    key: str
    pos: int = field(default=0, compare=False)
    parent: bool = False


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """`duration`, `span:duration`, `trace:rootService`, ...; `text` as it was written."""

    name: IntrinsicName
    text: str = field(default="", compare=False)
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant of the query."""

    kind: LiteralKind
    value: Any
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `!x`."""

    op: OneOf["-", "!"]
    operand: FieldExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, comparison or logic inside braces; `pos` is that of the operator.

    `grouped`: it stood in parentheses (only `lint` cares).
    """

    op: Arithmetic | Comparison | Logic
    left: FieldExpr
    right: FieldExpr
    pos: int = field(default=0, compare=False)
    grouped: bool = field(default=False, compare=False)


FieldExpr: TypeAlias = Attribute | Intrinsic | Literal | Unary | Binary


@dataclass(frozen=True, slots=True)
class SpansetFilter:
    """`{ expr }`; `{}` has the literal true."""

    expr: FieldExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class SpansetOperation:
    """Two spansets joined by `&&`, `||` or a structural operator; `pos` is that of the operator."""

    op: Logic | Structural
    left: SpansetExpr
    right: SpansetExpr
    pos: int = field(default=0, compare=False)
    grouped: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`count()`, `avg(expr)`, ...; `argument` is None for count."""

    function: OneOf["count", "min", "max", "sum", "avg"]
    argument: FieldExpr | None
    pos: int = field(default=0, compare=False)


#: What may stand on a side of a scalar filter: arithmetic parses, `validate` refuses it.
ScalarExpr: TypeAlias = "Aggregate | Literal | ScalarOperation | ScalarPipeline"


@dataclass(frozen=True, slots=True)
class ScalarOperation:
    """Arithmetic between scalars; parses, but is not supported by Tempo either."""

    op: Arithmetic
    left: ScalarExpr
    right: ScalarExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ScalarFilter:
    """`avg(duration) > 1s`: keeps the spansets for which it holds."""

    op: Comparison
    left: ScalarExpr
    right: ScalarExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class GroupBy:
    """`by(expr)`: splits each spanset by value."""

    expr: FieldExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Select:
    """`select(a, b)`: adds attributes to the answer, filters nothing."""

    attributes: tuple[Attribute | Intrinsic, ...]
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Coalesce:
    """`coalesce()`: merges the spansets of a trace."""

    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Elements joined by `|`; at least one. As an operand it stood in parentheses."""

    elements: tuple[Element, ...]
    pos: int = field(default=0, compare=False)


SpansetExpr: TypeAlias = SpansetFilter | SpansetOperation | Pipeline
Element: TypeAlias = (
    SpansetFilter | SpansetOperation | Pipeline | ScalarFilter | GroupBy | Select | Coalesce
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The first metrics function of a query.

    `argument` is the value of min/max/avg/sum/quantile/histogram; `by` the group keys; `quantiles`
    those of quantile_over_time. For `compare`, `selection` is its spanset, `top` its second
    argument (10 when absent) and `window` its start and end in nanoseconds.
    """

    function: OneOf[
        "rate", "count_over_time", "min_over_time", "max_over_time", "avg_over_time",
        "sum_over_time", "quantile_over_time", "histogram_over_time", "compare",
    ]  # fmt: skip
    argument: Attribute | Intrinsic | None = None
    by: tuple[Attribute | Intrinsic, ...] = ()
    quantiles: tuple[float, ...] = ()
    selection: SpansetFilter | None = None
    top: int = 10
    window: tuple[int, int] | None = None
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class TopBottom:
    """`topk(n)` or `bottomk(n)` after a metrics function."""

    function: OneOf["topk", "bottomk"]
    limit: int
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class MetricsFilter:
    """`> 1` and the like after a metrics function (Tempo 3.0)."""

    op: OneOf["=", "!=", "<", "<=", ">", ">="]
    value: Literal
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class ScalarPipeline:
    """`({ ... } | count())` as one side of a scalar filter; parses, `validate` refuses it."""

    pipeline: Pipeline
    scalar: ScalarExpr
    pos: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query: a pipeline, the metrics after it if any, and hints (`with (a=true)`).

    `text` is the query as it was written; positions count in it.
    """

    pipeline: Pipeline
    metrics: Metrics | None = None
    stages: tuple[TopBottom | MetricsFilter, ...] = ()
    hints: tuple[tuple[str, Literal], ...] = ()
    text: str = field(default="", compare=False)
