"""Hypothesis strategies for span sets and for valid TraceQL trees over them.

Names and values come from small pools, so that most predicates match something. Doubles are
multiples of 1/4 so that sums do not depend on order. The pools mix keys with a column of their own
and keys that live in the typed maps, and one key has values of every type.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from otelbridge.local.traceql import ast

BASE_NS = 1_795_251_420_000_000_000
SECOND = 1_000_000_000
KEYS = ("a", "b", "mix", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.cost")
TEXTS = ("", "x", "y", "gpt-4o")
INTS = (-3, 0, 1, 2, 7, 9007199254740993)
DOUBLES = (-0.5, 0.0, 0.25, 1.0, 2.5)
_SPANS = 8


# -- spans, as OTLP/JSON ---------------------------------------------------------------------------

_scalars = st.one_of(
    st.sampled_from(TEXTS).map(lambda v: {"stringValue": v}),
    st.sampled_from(INTS).map(lambda v: {"intValue": str(v)}),
    st.sampled_from(DOUBLES).map(lambda v: {"doubleValue": v}),
    st.booleans().map(lambda v: {"boolValue": v}),
)
_values = st.one_of(
    _scalars,
    _scalars,
    st.lists(_scalars, max_size=3).map(lambda v: {"arrayValue": {"values": v}}),
)


def _attributes(keys: tuple[str, ...], size: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.dictionaries(
        st.sampled_from(keys), _values, min_size=min(1, size), max_size=size
    ).map(lambda found: [{"key": key, "value": value} for key, value in found.items()])


@st.composite
def _span(draw: st.DrawFn, trace: int, number: int, count: int) -> dict[str, Any]:
    start = BASE_NS + draw(st.integers(0, 240)) * SECOND // 2
    # A parent may be absent (0), another span, the span itself never, or one that never comes.
    parent = draw(st.sampled_from([0, 0, *range(1, count + 1), 99]))
    if parent >= number and parent != 99:
        parent = 0
    span: dict[str, Any] = {
        "traceId": f"{trace:032x}",
        "spanId": f"{trace * 100 + number:016x}",
        "name": draw(st.sampled_from(("chat", "tool", "step"))),
        "kind": draw(st.integers(0, 5)),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + draw(st.sampled_from((0, 5, 1500, 3000, 4000))) * 1_000_000),
        "attributes": draw(_attributes(KEYS, 4)),
        "status": {"code": draw(st.integers(0, 2))},
        "events": [
            {"name": name, "timeUnixNano": str(start + at), "attributes": attributes}
            for name, at, attributes in draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(("log", "exception")),
                        st.sampled_from((0, 1_000_000)),
                        _attributes(("level", "a"), 2),
                    ),
                    max_size=2,
                )
            )
        ],
        "links": [
            {"traceId": f"{other:032x}", "spanId": f"{other:016x}", "attributes": attributes}
            for other, attributes in draw(
                st.lists(st.tuples(st.integers(1, 2), _attributes(("why", "a"), 1)), max_size=1)
            )
        ],
    }
    if parent:
        span["parentSpanId"] = f"{trace * 100 + parent:016x}"
    return span


@st.composite
def requests(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to three traces, each span under one of two resources."""
    groups: list[dict[str, Any]] = []
    for service in ("gateway", ""):
        attributes = draw(_attributes(("a", "env"), 2))
        if service:
            attributes.append({"key": "service.name", "value": {"stringValue": service}})
        groups.append(
            {
                "resource": {"attributes": attributes},
                "scopeSpans": [
                    {
                        "scope": {"name": "lib", "attributes": draw(_attributes(("a", "tier"), 1))},
                        "spans": [],
                    }
                ],
            }
        )
    for trace in range(1, draw(st.integers(1, 3)) + 1):
        count = draw(st.integers(2, _SPANS))
        for number in range(1, count + 1):
            group = draw(st.sampled_from(groups))
            group["scopeSpans"][0]["spans"].append(draw(_span(trace, number, count)))
    return [{"resourceSpans": groups}]


# -- queries ---------------------------------------------------------------------------------------


def _int(value: int) -> ast.Literal:
    return ast.Literal("int", value)


NUMBERS = st.one_of(
    st.sampled_from(INTS).map(_int),
    st.sampled_from(DOUBLES).map(lambda v: ast.Literal("float", v)),
)
STRINGS = st.sampled_from(TEXTS).map(lambda v: ast.Literal("string", v))
PATTERNS = st.sampled_from((".*", "x|y", "(?i)GPT.*", "", "c.*t")).map(
    lambda v: ast.Literal("string", v)
)
ATTRIBUTES = st.one_of(
    st.sampled_from(KEYS).map(lambda key: ast.Attribute("span", key)),
    st.sampled_from(KEYS).map(lambda key: ast.Attribute("span", key)),
    st.sampled_from(("a", "env", "service.name")).map(lambda key: ast.Attribute("resource", key)),
    st.sampled_from(("a", "tier")).map(lambda key: ast.Attribute("instrumentation", key)),
    st.sampled_from(("a", "mix", "env", "tier")).map(lambda key: ast.Attribute("", key)),
)
ROW_ATTRIBUTES = st.one_of(
    st.sampled_from(("level", "a")).map(lambda key: ast.Attribute("event", key)),
    st.sampled_from(("why", "a")).map(lambda key: ast.Attribute("link", key)),
)
NUMERIC_FIELDS = st.one_of(
    ATTRIBUTES,
    st.sampled_from(("nestedSetLeft", "nestedSetParent", "span:childCount")).map(ast.Intrinsic),
)
ORDER = st.sampled_from(("=", "!=", "<", "<=", ">", ">="))
EQUAL = st.sampled_from(("=", "!="))
REGEX = st.sampled_from(("=~", "!~"))


def _binary(op: Any, left: Any, right: Any) -> st.SearchStrategy[ast.Binary]:
    return st.builds(ast.Binary, op, left, right)


ARITHMETIC = st.recursive(
    st.one_of(NUMERIC_FIELDS, NUMERIC_FIELDS, NUMBERS),
    lambda inner: _binary(st.sampled_from("+-*/%^"), inner, inner),
    max_leaves=3,
)
_TEXT_INTRINSICS = st.sampled_from(
    ("name", "statusMessage", "rootName", "rootServiceName", "span:id", "trace:id", "event:name",
     "link:traceID", "instrumentation:name", "span:parentID")
).map(ast.Intrinsic)  # fmt: skip
_DURATIONS = st.sampled_from(("duration", "traceDuration", "event:timeSinceStart")).map(
    ast.Intrinsic
)
_ANY_FIELD = st.one_of(ATTRIBUTES, ATTRIBUTES, ROW_ATTRIBUTES)
COMPARISONS = st.one_of(
    _binary(ORDER, _ANY_FIELD, st.one_of(NUMBERS, STRINGS)),
    _binary(ORDER, st.one_of(NUMBERS, STRINGS), _ANY_FIELD),
    _binary(EQUAL, _ANY_FIELD, st.booleans().map(lambda v: ast.Literal("bool", v))),
    _binary(REGEX, st.one_of(_ANY_FIELD, _TEXT_INTRINSICS), PATTERNS),
    _binary(EQUAL, _ANY_FIELD, st.just(ast.Literal("nil", None))),
    _binary(ORDER, _ANY_FIELD, _ANY_FIELD),
    _binary(ORDER, ARITHMETIC, NUMBERS),
    _binary(ORDER, ARITHMETIC, NUMERIC_FIELDS),
    _binary(ORDER, _TEXT_INTRINSICS, st.one_of(STRINGS, st.sampled_from(("chat", "gateway", "log"))
        .map(lambda v: ast.Literal("string", v)))),
    _binary(ORDER, _DURATIONS, st.sampled_from((0, SECOND, 3 * SECOND))
        .map(lambda v: ast.Literal("duration", v))),
    _binary(EQUAL, st.just(ast.Intrinsic("status")), st.sampled_from(("ok", "error", "unset"))
        .map(lambda v: ast.Literal("status", v))),
    _binary(EQUAL, st.just(ast.Intrinsic("kind")), st.sampled_from(("server", "client"))
        .map(lambda v: ast.Literal("kind", v))),
)  # fmt: skip
CONDITIONS = st.recursive(
    st.one_of(
        COMPARISONS, COMPARISONS, COMPARISONS, ATTRIBUTES, st.just(ast.Literal("bool", True))
    ),
    lambda inner: st.one_of(
        _binary(st.sampled_from(("&&", "||")), inner, inner),
        st.builds(ast.Unary, st.just("!"), COMPARISONS),
        st.builds(ast.Unary, st.just("!"), _binary(st.sampled_from(("&&", "||")), inner, inner)),
    ),
    max_leaves=4,
)
#: Conditions that most spans satisfy, so that what follows them has something to work on.
EASY = st.sampled_from(
    (
        ast.Literal("bool", True),
        ast.Binary("!=", ast.Intrinsic("kind"), ast.Literal("kind", "server")),
        ast.Binary(">=", ast.Intrinsic("duration"), ast.Literal("duration", 1_000_000)),
        ast.Binary("!=", ast.Attribute("span", "mix"), ast.Literal("nil", None)),
        ast.Binary("!=", ast.Intrinsic("name"), ast.Literal("string", "chat")),
        ast.Binary("<", ast.Intrinsic("nestedSetParent"), ast.Literal("int", 3)),
    )
)
FILTERS = st.builds(ast.SpansetFilter, st.one_of(EASY, EASY, CONDITIONS))
SPANSET_OPERATORS = st.sampled_from(
    ("&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~",
     "&>", "&>>", "&<", "&<<", "&~")
)  # fmt: skip
AGGREGATES = st.one_of(
    st.just(ast.Aggregate("count", None)),
    st.builds(
        ast.Aggregate,
        st.sampled_from(("min", "max", "sum", "avg")),
        st.one_of(ATTRIBUTES, ATTRIBUTES, st.just(ast.Intrinsic("duration")), ROW_ATTRIBUTES),
    ),
)
SCALAR_FILTERS = st.builds(ast.ScalarFilter, ORDER, AGGREGATES, NUMBERS)
GROUPS = st.builds(
    ast.GroupBy,
    st.one_of(
        ATTRIBUTES,
        st.sampled_from(("kind", "status", "name", "duration")).map(ast.Intrinsic),
        _binary(st.just("+"), ATTRIBUTES, NUMBERS),
        _binary(ORDER, ATTRIBUTES, NUMBERS),
    ),
)
SIMPLE_PIPELINES = st.builds(
    lambda first, rest: ast.Pipeline((first, *rest)),
    FILTERS,
    st.lists(SCALAR_FILTERS, min_size=1, max_size=1),
)
SPANSETS = st.recursive(
    st.one_of(FILTERS, FILTERS, FILTERS, SIMPLE_PIPELINES),
    lambda inner: st.builds(ast.SpansetOperation, SPANSET_OPERATORS, inner, inner),
    max_leaves=3,
).filter(lambda node: not isinstance(node, ast.Pipeline))
PIPELINES = st.builds(
    lambda first, rest: ast.Pipeline((first, *rest)),
    SPANSETS,
    st.lists(st.one_of(SPANSETS, SCALAR_FILTERS, GROUPS, st.just(ast.Coalesce())), max_size=3),
)
SEARCHES = st.builds(ast.Query, PIPELINES)
_BY = st.lists(
    st.one_of(ATTRIBUTES, st.sampled_from(("kind", "name", "event:name")).map(ast.Intrinsic)),
    max_size=2,
    unique=True,
).map(tuple)
_ARGUMENTS = st.one_of(ATTRIBUTES, st.just(ast.Intrinsic("duration")))
METRICS = st.one_of(
    st.builds(ast.Metrics, st.sampled_from(("rate", "count_over_time")), by=_BY),
    st.builds(
        ast.Metrics,
        st.sampled_from(
            ("min_over_time", "max_over_time", "avg_over_time", "sum_over_time",
             "histogram_over_time")
        ),
        _ARGUMENTS,
        _BY,
    ),
    st.builds(
        ast.Metrics, st.just("quantile_over_time"), _ARGUMENTS, _BY,
        st.sampled_from(((0.5,), (0.9, 0.99), (0.0, 1.0))),
    ),
)  # fmt: skip
STAGES = st.lists(
    st.one_of(
        st.builds(ast.TopBottom, st.sampled_from(("topk", "bottomk")), st.integers(1, 2)),
        st.builds(ast.MetricsFilter, ORDER, NUMBERS),
    ),
    max_size=1,
).map(tuple)
METRICS_QUERIES = st.builds(ast.Query, PIPELINES, METRICS, STAGES)
