"""Types, operators and limits: what is refused although it parses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.errors import OtelbridgeError, QueryError
from otelbridge.local.traceql import re2
from otelbridge.local.traceql.errors import (
    NotAMetricsQueryError,
    TraceQLError,
    TraceQLSyntaxError,
    TraceQLTypeError,
    TraceQLUnsupportedError,
)
from otelbridge.local.traceql.parser import parse
from otelbridge.local.traceql.validate import type_of, validate

duckdb = pytest.importorskip("duckdb")


def refusal(query: str, *, metrics: bool = False) -> TraceQLError:
    with pytest.raises(TraceQLError) as caught:
        validate(parse(query), metrics=metrics)
    return caught.value


@pytest.mark.parametrize(
    "query",
    [
        "{ span.flag }", "{ .a + .b }", "{ nil = nil }", "{ name != nil }",
        "{ resource.service.name != nil }", "{ .a = nil }", "{ 1 = 1.5 }", "{ duration > 3 }",
        "{ duration / 2 > 4.5 }", "{ 3s + 1 > .a }", '{ name < "b" }', '{ name =~ "(?i)x" }',
        '{ .a =~ "x" }', "{ (duration > 3s) = (kind = client) }", "{ !.a && -.b > -3 }",
        "{ status = error || kind = server }", "{ -duration < 0 }", "{ span:childCount = 0 }",
        "{ } | count() != 1.5", "{ } | avg(duration) > 1", "{ } | max(.a * 2) = 3s",
        "{ } | by(kind = server)", "{ } | by(1 + .a)", "{ } | select(span:id, .x)",
        "{ } | rate() by (name, kind, status, duration, rootName)", "{ } | min_over_time(name)",
        "{ } | quantile_over_time(.a, 0, 1) by (name, kind, status, .x)",
        "{ } | compare({ .a }, 5, 1, 1)", "{ } | rate() > -1 | topk(1) | bottomk(1)",
    ],
)  # fmt: skip
def test_well_typed_queries_pass(query):
    """Numbers mix, dynamic and nil sides fit everything that their operator allows."""
    validate(parse(query), metrics="rate" in query or "_over_time" in query or "comp" in query)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('{ kind = "server" }', "binary operations must operate on the same type: kind = `server`"),
        ("{ 1 && true }", "binary operations must operate on the same type: 1 && true"),
        ("{ name =~ 3 }", "binary operations must operate on the same type: name =~ 3"),
        ("{ nestedSetLeft = ok }",
         "binary operations must operate on the same type: nestedSetLeft = ok"),
        ("{ .a = 1 && 3s + `a` = 2 }",
         "binary operations must operate on the same type: 3s + `a`"),
        ("{ status > error }", "illegal operation for the given types: status > error"),
        ("{ .a > nil }", "illegal operation for the given types: .a > nil"),
        ("{ .a =~ 3 }", "illegal operation for the given types: .a =~ 3"),
        ('{ "a" + "b" = "ab" }', "illegal operation for the given types: `a` + `b`"),
        ("{ !3 }", "illegal operation for the given type: !3"),
        ("{ -name = 1 }", "illegal operation for the given type: -name"),
        ('{ "a" }', "span filter field expressions must resolve to a boolean: { `a` }"),
        ("{ duration }", "span filter field expressions must resolve to a boolean: { duration }"),
        ("{ 1 + 2 * 3 }", "span filter field expressions must resolve to a boolean: { 7 }"),
        ("{ 200 = 200 = 200 }", "binary operations must operate on the same type: true = 200"),
        ("{ name = -7 / 2 }", "binary operations must operate on the same type: name = -3"),
        ("{ 5 / 0 }", "span filter field expressions must resolve to a boolean: { 5 / 0 }"),
        ("{ .a } | { nil }", "span filter field expressions must resolve to a boolean: { nil }"),
        ("{ .a + duration }",
         "span filter field expressions must resolve to a boolean: { .a + duration }"),
        ("{ nil = rootName }", "rootName=nil is not valid because intrinsics cannot be nil"),
        ("{ resource.service.name = nil }",
         "resource.service.name=nil is not valid because resource.service.name cannot be nil"),
        ("{ .a =~ `(` }", "invalid regex: `(`"),
        ("{ .a =~ `a(?!b)` }", "invalid regex: `a(?!b)`"),
        ("{ .a =~ .b }", "invalid regex: .b"),
        ("{ } | avg(name) > 1",
         "aggregate field expressions must resolve to a number type: avg(name)"),
        ("{ } | sum(3) > 1", "aggregate field expressions must reference the span: sum(3)"),
        ("{ } | by(3)", "grouping field expressions must reference the span: by(3)"),
        ('{ } | count() = "a"', "binary operations must operate on the same type: count() = `a`"),
        ("{ } | rate() | topk(0)", "limit must be greater than 0"),
        ("{ } | quantile_over_time(.a, 1.5)", "quantile must be between 0 and 1: 1.5"),
        ("{ } | compare({ .a }, 0)",
         "compare() top number of values must be integer greater than 0"),
        ("{ } | compare({ .a }, 1, 0, 1)",
         "compare() timestamps must be positive integer unix nanoseconds"),
        ("{ } | compare({ .a }, 1, 2, 1)",
         "compare() end timestamp must be greater than start timestamp"),
        ("{ } | compare({ 3 })", "span filter field expressions must resolve to a boolean: { 3 }"),
    ],
)  # fmt: skip
def test_type_errors(query, text):
    """What does not fit together is a type error, worded as Tempo words it."""
    error = refusal(query)
    assert (type(error), error.message) == (TraceQLTypeError, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("{ parent = nil }", "intrinsic (parent) not yet supported"),
        ("{ parent.a = 1 }", "parent not yet supported"),
        ("{ } | select(parent.resource.a)", "parent not yet supported"),
        ("{ } | rate() by (parent.a)", "parent not yet supported"),
        ("{ } | 2 < count()", "scalar filter lhs of type (%v) not yet supported"),
        ("{ } | count() + 1 > 2", "scalar filter lhs of type (%v) not yet supported"),
        ("({ } | count()) > 5", "scalar filter lhs of type (%v) not yet supported"),
        ("{ } | count() > count()", "scalar filter rhs of type (%v) not yet supported"),
        ("{ } | count() > 1 + 1", "scalar filter rhs of type (%v) not yet supported"),
        ("{ } | rate() by (name, kind, status, duration, rootName, .x)",
         "metrics group by 6 values not yet supported"),
        ("{ } | histogram_over_time(.a) by (name, kind, status, duration, .x)",
         "metrics group by 5 values not yet supported"),
        ("{ } | compare({ .a }) | topk(2)",
         "`compare()` cannot be used with second stage functions"),
    ],
)  # fmt: skip
def test_unsupported_queries(query, text):
    """What is well formed but supported by nobody is a kind of refusal of its own."""
    error = refusal(query)
    assert (type(error), error.message) == (TraceQLUnsupportedError, text)


def test_the_first_fault_in_reading_order_of_the_tree_is_reported():
    """Operands come before the operation, the pipeline before the metrics."""
    assert "not yet supported" in refusal('{ parent = "a" && name = 3 }').message
    assert refusal("{ name = 3 } | rate() | topk(0)").message.endswith("name = 3")
    assert refusal("{ } | count() > 1 | { 3 } | by(3)").message.endswith("{ 3 }")


def test_texts_of_the_http_answers_differ_by_endpoint_and_kind():
    """Search prefixes everything; metrics prefixes what was parsed, and nothing else."""
    semantic = refusal("{ name = 3 } | rate()", metrics=True)
    assert semantic.search_text.startswith("invalid TraceQL query: binary operations")
    assert semantic.metrics_text.startswith("compiling query: binary operations")
    syntax = refusal("{ } | rate() by ()", metrics=True)
    assert isinstance(syntax, TraceQLSyntaxError)
    assert syntax.metrics_text == "parse error at line 1, col 18: syntax error: unexpected )"
    search = refusal("{ }", metrics=True)
    assert isinstance(search, NotAMetricsQueryError)
    assert search.metrics_text == "not a metrics query"


def test_refusals_are_otelbridge_errors_with_position_piece_and_hint():
    """One tree of exceptions; the position is that of the operator at fault."""
    error = refusal("{ .a }\n| { kind = `x` }")
    assert isinstance(error, QueryError)
    assert isinstance(error, OtelbridgeError)
    assert (error.line, error.column, error.piece) == (2, 10, "=")
    assert error.render().split("\n")[1:3] == ["  | { kind = `x` }", "           ^"]
    assert "kind = server" in error.hint


def test_type_of_expressions():
    """Arithmetic has the type of its typed side, everything else that is no leaf is boolean."""
    for text, kind in (
        (".a", "dynamic"), (".a + 1", "int"), ("duration * 2", "duration"), ("!.a", "bool"),
        (".a = 1", "bool"), ("-.a", "dynamic"), ("trace:id", "string"), ("status", "status"),
    ):  # fmt: skip
        assert type_of(parse(f"{{}} | by({text})").pipeline.elements[1].expr) == kind


VALID = [
    "", "a", "a|b", "(a)(b)", "a*?b+?c??", "[a-z]+", "[^]]", "[]a]", "[a-]", "[-a]", r"[\]\-]",
    "[[:alpha:]_]", "[[:^digit:]]", r"\d\D\s\S\w\W", r"[\d\w]", r"\pL\p{Greek}\PN\p{^Lu}", "(?s).*",
    "(?i)a", "(?i-s:a)", "(?P<n>a)", "(?:a)", r"\Qa(b\E", r"\x41\x{1F600}", r"\012", r"\.\*\-\_",
    "a{2}", "a{2,}", "a{2,5}?", "a{,5}", "a{", "{", "a{1000}", "^a$", r"\Aa\z", r"\ba\B", "(a*)*",
    "(a|)", "()", "é+", r"[\x00-\x7f]", "[a-z&&x]", r"\a\f\n\r\t\v", "^*", "a||b", "}", "]",
]  # fmt: skip
INVALID = [
    "(", ")", "a)", "(a", "[", "[a", "[b-a]", r"[a-\d]", "[[:foo:]]", "*", "+a", "(*a)", "|*",
    "a**", "a*+", "a{2}{3}", "a{1001}", "a{3,2}", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)",
    "(?#x)", "(?z)", "(?P<n", "(?P<>a)", "(?P=n)", r"\1", r"(a)\1", "\\", r"\Z", r"\y", r"\e",
    r"\pX", r"\p{Nope}", r"\x", r"\x{110000}", r"\k<n>", "(?P<n>a)(?P<n>b)", "a???", "(a{100}){11}",
    r"\E", "(?i)*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", VALID)
def test_patterns_of_re2_pass_and_run(pattern):
    """What passes is accepted by DuckDB's RE2 as well."""
    assert re2.fault(pattern) is None
    duckdb.execute("SELECT regexp_full_match('x', ?)", [pattern]).fetchone()


@pytest.mark.parametrize("pattern", INVALID)
def test_patterns_that_re2_refuses_are_named(pattern):
    """Look-arounds, back-references and broken syntax are found before anything runs."""
    assert re2.fault(pattern)


PIECES = [
    "a", "b", "d", "x", "L", "é", "1", "2", "0", ",", ":", "<", ">", "-", "&&", ".", "^", "$", "|",
    "(", ")", "(?", "(?:", "(?i)", "(?P<n>", "[", "[^", "]", "[:alpha:]", "{", "}", "{2}", "{1,3}",
    "*", "+", "?", "\\", "\\p", "\\Q", "\\E", "\\b", "\\1", "\\x", "\\z", "\\A",
]  # fmt: skip


@settings(derandomize=True, max_examples=1500, deadline=None, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=7).map("".join))
def test_the_judgement_of_any_pattern_is_that_of_duckdb(pattern):
    """Whatever is put together, re2 and the engine that will run it agree on its validity."""
    try:
        duckdb.execute("SELECT regexp_full_match('x', ?)", [pattern]).fetchone()
    except duckdb.Error:
        accepted = False
    else:
        accepted = True
    assert (re2.fault(pattern) is None) == accepted


def test_a_hostile_pattern_is_judged_in_linear_time():
    """Tens of thousands of brackets are one refusal, not a recursion error."""
    assert re2.fault("(" * 50_000) == "expression nests too deeply"
    assert re2.fault("[" * 50_000) == "missing closing ]"
    assert re2.fault("(a|b)" * 20_000) is None
