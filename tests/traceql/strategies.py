"""Random trees of TraceQL for property tests: every query that they give parses and validates.

`queries()` draws whole queries; `conditions`, `numbers`, `spansets` and `elements` draw parts.
Attribute keys and text values come from small pools by default, so that random spans can hit
them; `wild=True` draws any text instead.
"""

from __future__ import annotations

from functools import cache, partial

from hypothesis import strategies as st

from otelbridge.local.traceql import ast

KEYS = ("a", "b", "gen_ai.system", "gen_ai.usage.cost", "x-y", "name", "key with space", "1", 'q"t')
TEXTS = ("", "openai", "gpt-4o", "a", "b`c", "Ünï", "line\nbreak", 'say "no"', "back\\slash")
PATTERNS = ("gpt.*", "a|b", ".*", "[a-z]+", "openai", r"\w+", "(?i)GPT-4O", "")
SCOPES = ("", "span", "resource", "event", "link", "instrumentation")
DURATION_FIELDS = ("duration", "traceDuration", "event:timeSinceStart")
INT_FIELDS = ("nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:childCount")
TEXT_FIELDS = (
    "name", "statusMessage", "rootName", "rootServiceName", "event:name", "span:id",
    "span:parentID", "trace:id", "link:traceID", "link:spanID", "instrumentation:name",
    "instrumentation:version",
)  # fmt: skip
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
STRUCTURAL = (
    ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~",
)  # fmt: skip
_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@cache
def attributes(*, wild: bool = False) -> st.SearchStrategy[ast.Attribute]:
    # A name holds any character but NUL: quotes know no escape for it.
    wild_keys = _ANY_TEXT.map(lambda text: text.replace("\0", ""))
    keys = st.sampled_from(KEYS) | wild_keys if wild else st.sampled_from(KEYS)
    return st.builds(ast.Attribute, st.sampled_from(SCOPES), keys)


def intrinsics(*names: str) -> st.SearchStrategy[ast.Intrinsic]:
    return st.builds(ast.Intrinsic, st.sampled_from(names))


@cache
def number_literals(*, wild: bool = False) -> st.SearchStrategy[ast.Literal]:
    ints = st.integers(-(2**63), 2**63 - 1) if wild else st.integers(-3, 3000)
    floats = (
        st.floats(allow_nan=False, allow_infinity=False)
        if wild
        else st.sampled_from((0.0, 0.5, -1.5, 999.5, 1e-05, 2.0))
    )
    durations = st.integers(1 - 2**63, 2**63 - 1) if wild else st.integers(0, 5_000_000_000)
    return st.one_of(
        st.builds(partial(ast.Literal, "int"), ints),
        st.builds(partial(ast.Literal, "float"), floats),
        st.builds(partial(ast.Literal, "duration"), durations),
    )


@cache
def text_literals(*, wild: bool = False) -> st.SearchStrategy[ast.Literal]:
    texts = st.sampled_from(TEXTS) | _ANY_TEXT if wild else st.sampled_from(TEXTS)
    return st.builds(partial(ast.Literal, "string"), texts)


@cache
def numbers(depth: int = 2, *, wild: bool = False) -> st.SearchStrategy[ast.FieldExpr]:
    """Numeric expressions; a minus never stands before a literal, the parser folds that."""
    leaves = st.one_of(
        number_literals(wild=wild), attributes(wild=wild),
        intrinsics(*DURATION_FIELDS, *INT_FIELDS),
    )  # fmt: skip
    if depth <= 0:
        return leaves
    inner = numbers(depth - 1, wild=wild)
    operations = st.builds(
        ast.Binary, st.sampled_from(("+", "-", "*", "/", "%", "^")), inner, inner
    )
    fields = st.one_of(attributes(wild=wild), operations)
    return st.one_of(leaves, operations, st.builds(partial(ast.Unary, "-"), fields))


@cache
def conditions(depth: int = 2, *, wild: bool = False) -> st.SearchStrategy[ast.FieldExpr]:
    """Well-typed expressions that are true or false."""
    attribute = attributes(wild=wild)
    words = {"status": ("ok", "error", "unset"), "kind": ("server", "client", "internal")}
    equality = st.sampled_from(("=", "!="))
    leaves = st.one_of(
        attribute,
        st.builds(partial(ast.Literal, "bool"), st.booleans()),
        st.builds(
            ast.Binary, st.sampled_from(COMPARISONS), attribute | intrinsics(*TEXT_FIELDS),
            text_literals(wild=wild),
        ),
        st.builds(
            ast.Binary, st.sampled_from(("=~", "!~")), attribute | intrinsics(*TEXT_FIELDS),
            st.builds(partial(ast.Literal, "string"), st.sampled_from(PATTERNS)),
        ),
        st.builds(
            ast.Binary, st.sampled_from(COMPARISONS), numbers(depth - 1, wild=wild),
            numbers(depth - 1, wild=wild),
        ),
        st.builds(
            ast.Binary, equality, attribute, st.builds(partial(ast.Literal, "bool"), st.booleans())
        ),
        st.builds(
            ast.Binary, equality, attribute.filter(lambda a: a.key != "service.name"),
            st.just(ast.Literal("nil", None)),
        ),
        *(
            st.builds(
                ast.Binary, equality, intrinsics(name) | attribute,
                st.builds(partial(ast.Literal, name), st.sampled_from(values)),
            )
            for name, values in words.items()
        ),
    )  # fmt: skip
    if depth <= 0:
        return leaves
    inner = conditions(depth - 1, wild=wild)
    return st.one_of(
        leaves,
        st.builds(ast.Binary, st.sampled_from(("&&", "||")), inner, inner),
        st.builds(partial(ast.Unary, "!"), inner),
    )


@cache
def spansets(depth: int = 2, *, wild: bool = False) -> st.SearchStrategy[ast.SpansetExpr]:
    """Filters and what structural and logical operators make of them."""
    filters = st.builds(ast.SpansetFilter, conditions(wild=wild))
    if depth <= 0:
        return filters
    inner = spansets(depth - 1, wild=wild)
    operators = st.sampled_from(("&&", "||", *STRUCTURAL))
    # A parenthesised single spanset is that spanset, so a pipeline has more than that.
    pipelines = st.builds(
        lambda first, rest: ast.Pipeline((first, *rest)),
        inner, st.lists(elements(depth - 1, wild=wild), min_size=1, max_size=2),
    )  # fmt: skip
    operands = st.one_of(inner, inner, pipelines)
    return st.one_of(filters, st.builds(ast.SpansetOperation, operators, operands, operands))


@cache
def elements(depth: int = 1, *, wild: bool = False) -> st.SearchStrategy[ast.Element]:
    """What may stand after a pipe."""
    span_numbers = st.one_of(
        attributes(wild=wild), intrinsics(*DURATION_FIELDS, *INT_FIELDS),
        st.builds(partial(ast.Binary, "+"), attributes(wild=wild), numbers(0, wild=wild)),
    )  # fmt: skip
    aggregates = st.one_of(
        st.just(ast.Aggregate("count", None)),
        st.builds(ast.Aggregate, st.sampled_from(("min", "max", "sum", "avg")), span_numbers),
    )
    fields = st.one_of(attributes(wild=wild), intrinsics("name", "status", "kind", "span:id"))
    return st.one_of(
        spansets(depth, wild=wild),
        st.builds(
            ast.ScalarFilter, st.sampled_from(COMPARISONS), aggregates, number_literals(wild=wild)
        ),
        st.builds(ast.GroupBy, st.one_of(fields, span_numbers)),
        st.builds(ast.Select, st.lists(fields, min_size=1, max_size=3).map(tuple)),
        st.just(ast.Coalesce()),
    )


@cache
def metrics(*, wild: bool = False) -> st.SearchStrategy[ast.Metrics]:
    """First metrics functions with their keys."""
    fields = st.one_of(attributes(wild=wild), intrinsics("duration", "name", "status", "kind"))
    keys = st.lists(fields, max_size=4).map(tuple)
    over_time = ("min_over_time", "max_over_time", "avg_over_time", "sum_over_time")
    quantiles = st.lists(st.sampled_from((0.0, 0.5, 0.9, 0.99, 1.0)), min_size=1, max_size=3)
    return st.one_of(
        st.builds(ast.Metrics, st.sampled_from(("rate", "count_over_time")), by=keys),
        st.builds(
            ast.Metrics, st.sampled_from((*over_time, "histogram_over_time")), fields, by=keys
        ),
        st.builds(
            ast.Metrics, st.just("quantile_over_time"), fields, by=keys,
            quantiles=quantiles.map(tuple),
        ),
        st.builds(
            ast.Metrics, st.just("compare"),
            selection=st.builds(ast.SpansetFilter, conditions(wild=wild)),
            top=st.integers(1, 20), window=st.none() | st.just((1_000, 2_000)),
        ),
    )  # fmt: skip


@st.composite
def queries(draw: st.DrawFn, *, wild: bool = False, with_metrics: bool | None = None) -> ast.Query:
    """Whole queries; `with_metrics` None draws both kinds."""
    first = draw(spansets(wild=wild))
    rest = draw(st.lists(elements(wild=wild), max_size=2))
    function, stages = None, ()
    if with_metrics or (with_metrics is None and draw(st.booleans())):
        function = draw(metrics(wild=wild))
        if function.function != "compare":
            top = st.builds(ast.TopBottom, st.sampled_from(("topk", "bottomk")), st.integers(1, 5))
            kept = st.builds(
                ast.MetricsFilter, st.sampled_from(COMPARISONS), number_literals(wild=wild)
            )
            stages = tuple(draw(st.lists(st.one_of(top, kept), max_size=2)))
    hint = st.tuples(
        st.sampled_from(("most_recent", "exemplars", "sample")),
        st.builds(partial(ast.Literal, "bool"), st.booleans()) | number_literals(wild=wild),
    )
    hints = tuple(draw(st.lists(hint, max_size=2)))
    return ast.Query(ast.Pipeline((first, *rest)), function, stages, hints)
