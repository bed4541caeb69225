"""Text to tree: what is accepted, how it groups, and how refusals read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge.local.traceql import ast, parser
from otelbridge.local.traceql.errors import (
    TraceQLError,
    TraceQLSyntaxError,
    TraceQLTooLargeError,
)
from otelbridge.local.traceql.lexer import parse_duration_ns
from otelbridge.local.traceql.parser import parse
from otelbridge.local.traceql.printing import to_text
from otelbridge.local.traceql.validate import validate

HERE = Path(__file__).parent
RECORDED = HERE.parent / "conformance" / "tempo"


def recorded(name: str) -> list[dict]:
    lines = (RECORDED / name).read_text("utf-8").splitlines()
    return [case for case in map(json.loads, lines) if not case.get("_header")]


#: Refused for the parameters of the request, not for the query; the empty text never gets here.
NOT_OF_THE_QUERY = {"m95", "m96", "m98", "q474"}
CASES = [
    pytest.param(case, kind == "metrics", id=case["id"])
    for kind in ("search", "metrics")
    for case in recorded(f"{kind}.jsonl")
    if case["id"] not in NOT_OF_THE_QUERY
]


@pytest.mark.parametrize(("case", "metrics"), CASES)
def test_recorded_queries_are_accepted_or_refused_as_tempo_does(case, metrics):
    """A query answered by Tempo passes; a refused one gives the text that Tempo gives."""
    try:
        validate(parse(case["query"]), metrics=metrics)
    except TraceQLError as error:
        text = error.metrics_text if metrics else error.search_text
        assert text.startswith(case.get("error_starts_with", "a 200 answer"))
    else:
        assert case["status"] != 400


def refusal(text: str) -> TraceQLError | None:
    """The error of a text that is refused by the parser or by validation."""
    try:
        query = parse(text)
        validate(query, metrics=False)
    except TraceQLError as error:
        return error
    assert parse(to_text(query)) == query
    return None


def message(query: str) -> str:
    with pytest.raises(TraceQLSyntaxError) as caught:
        parse(query)
    return caught.value.tempo_message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "line 1, col 1: syntax error: unexpected $end"),
        ("{\n.a =\n", "line 3, col 1: syntax error: unexpected $end"),
        ("{ .a = }", "line 1, col 8: syntax error: unexpected }"),
        ("{ .a == 1 }", "line 1, col 7: syntax error: unexpected ="),
        ("{ .a = 1 and .b = 2 }", "line 1, col 10: syntax error: unexpected IDENTIFIER"),
        ("{ name span.x }", "line 1, col 8: syntax error: unexpected span."),
        ("{ { } }", "line 1, col 3: syntax error: unexpected {"),
        ("{ } | count(name) > 1", "line 1, col 13: syntax error: unexpected name, expecting )"),
        ("{ } | select(name",
         "line 1, col 18: syntax error: unexpected $end, expecting ) or ,"),
        ("{ } | rate() | ",
         "line 1, col 16: syntax error: unexpected $end, expecting topk or bottomk"),
        ("{ } | topk(2)", "line 1, col 7: syntax error: unexpected topk"),
        ("{ } | quantile_over_time(duration, )",
         "line 1, col 36: syntax error: unexpected ), expecting INTEGER or FLOAT"),
        ("{ } with (a", "line 1, col 12: syntax error: unexpected $end, expecting ="),
        ("coalesce()", "line 1, col 1: syntax error: unexpected coalesce"),
        ("{ foo 'bar' }", "line 1, col 3: unknown identifier: foo"),
        ("{ span = 1 }", "line 1, col 3: unknown identifier: span"),
        ("{ .a = `x", "line 1, col 8: literal not terminated"),
        ('{ .a = "\\q" }', "line 1, col 8: invalid char escape"),
        ("{ .a = 1_000 }", 'line 1, col 8: strconv.Atoi: parsing "1_000": invalid syntax'),
        ("{ .a = 089 }", "line 1, col 8: invalid digit '8' in octal literal"),
        ("{ .a = [1] }", "line 1, col 8: unknown identifier: ["),
        ("{ .a = 1e }", "line 1, col 8: exponent has no digits"),
        ("/* never closed", "line 1, col 1: comment not terminated"),
        ('{ .a = "\0" }', "line 1, col 9: invalid character NUL"),
        ('{ .a = "\udcff" }', "line 1, col 9: invalid UTF-8 encoding"),
    ],
)  # fmt: skip
def test_syntax_errors_are_worded_as_a_goyacc_parser_words_them(query, expected):
    """Position, the unexpected token, and at most four expected ones."""
    assert message(query) == f"parse error at {expected}"


@pytest.mark.parametrize(
    ("query", "grouped"),
    [
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        ("{ .a && .b || .c }", "{ (.a && .b) || .c }"),
        ("{ .a = 1 || .b = 2 && .c }", "{ ((.a = 1) || (.b = 2)) && .c }"),
        ("{ .a + .b * .c ^ 2 ^ 3 > 1 }", "{ (.a + (.b * (.c ^ (2 ^ 3)))) > 1 }"),
        ("{ .a - .b - .c = 1 }", "{ ((.a - .b) - .c) = 1 }"),
        ("{ .a = .b != .c }", "{ (.a = .b) != .c }"),
        ("{ -.a * .b + .c > 0 }", "{ ((-(.a * .b)) + .c) > 0 }"),
        ("{ .a ^ -.b * .c > 0 }", "{ (.a ^ (-(.b * .c))) > 0 }"),
        ("{ !.a = .b }", "{ (!.a) = .b }"),
        ("{ !.a * .b = .c }", "{ (!(.a * .b)) = .c }"),
        ("{ !!.a }", "{ !(!.a) }"),
        ("{ --3 = .a }", "{ 3 = .a }"),
        ("{.a} || {.b} && {.c}", "({ .a } || { .b }) && { .c }"),
        ("{.a} || {.b} > {.c}", "{ .a } || ({ .b } > { .c })"),
        ("{.a} > {.b} > {.c}", "({ .a } > { .b }) > { .c }"),
        ("{.a} &>> ({.b} !~ {.c})", "{ .a } &>> ({ .b } !~ { .c })"),
        ("{.a} >> ({.b} | count() > 1)", "{ .a } >> ({ .b } | count() > 1)"),
        ("((({.a})))", "{ .a }"),
        ("by(name) | count() > 1", "by(name) | count() > 1"),
        ("{} | -1 + count() * 2 > 3", "{ true } | (-1 + (count() * 2)) > 3"),
    ],
)
def test_grouping(query, grouped):
    """One level for && and ||, one for all comparisons and relations, unary minus as binary."""
    assert to_text(parse(query)) == grouped


def expression(text: str) -> ast.FieldExpr:
    only = parse(f"{{ {text} }}").pipeline.elements[0]
    assert isinstance(only, ast.SpansetFilter)
    return only.expr


@pytest.mark.parametrize(
    ("written", "scope", "key"),
    [
        ("span.a", "span", "a"),
        (".a", "", "a"),
        ("span.a-b", "span", "a-b"),
        ("span.item.index+1", "span", "item.index+1"),
        ("span.a/b%c*d:e[0]", "span", "a/b%c*d:e[0]"),
        ('span."key with space"', "span", "key with space"),
        ('span."item".index', "span", "item.index"),
        ('span.a."b c".d', "span", "a.b c.d"),
        (r'span."quo\"te\\"', "span", 'quo"te\\'),
        ("span.name", "span", "name"),
        ("link.link.reason", "link", "link.reason"),
        ("instrumentation.scope.tier", "instrumentation", "scope.tier"),
        ("resource.span.x", "resource", "span.x"),
        (".résumé", "", "résumé"),
        ('.""', "", ""),
    ],
)
def test_attribute_names(written, scope, key):
    """Nearly every character belongs to a name; any part may be quoted."""
    assert expression(written) == ast.Attribute(scope, key)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("span:duration", "duration"), ("trace:rootService", "rootServiceName"),
        ("trace:rootName", "rootName"), ("trace:duration", "traceDuration"),
        ("event:timeSinceStart", "event:timeSinceStart"), ("span:parentID", "span:parentID"),
        ("link:traceID", "link:traceID"), ("instrumentation:version", "instrumentation:version"),
        ("nestedSetLeft", "nestedSetLeft"), ("span:statusMessage", "statusMessage"),
    ],
)  # fmt: skip
def test_intrinsics_have_one_name_however_they_are_written(written, name):
    """Scoped and bare forms are the same intrinsic; the node keeps how it was written."""
    node = expression(f"{written} != nil").left
    assert (node.name, node.text) == (name, written)


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ('"a\\tb\\u00e9\\x41\\101"', "string", "a\tbéAA"),
        (r'"\xc3\xa9"', "string", "é"),
        (r'`\d+ "raw`', "string", '\\d+ "raw'),
        ("12", "int", 12), ("007", "int", 7), ("maxInt", "int", 2**63 - 1),
        ("minInt", "int", -(2**63)), ("-4", "int", -4),
        (".5", "float", 0.5), ("1e3", "float", 1000.0), ("5.", "float", 5.0),
        ("1m30s", "duration", 90_000_000_000), ("0.5m", "duration", 30_000_000_000),
        ("1d", "duration", 86_400_000_000_000), ("100us", "duration", 100_000),
        ("3µs", "duration", 3_000), ("-3s", "duration", -3_000_000_000),
        ("nil", "nil", None), ("false", "bool", False), ("error", "status", "error"),
        ("producer", "kind", "producer"),
    ],
)  # fmt: skip
def test_literals(written, kind, value):
    """Go's strings and numbers, durations of Go and Prometheus, and words."""
    assert expression(f".a = {written}").right == ast.Literal(kind, value)


def test_a_word_is_a_keyword_only_as_it_is_spelled():
    """`True` and `NAME` are unknown identifiers, not keywords."""
    assert "unknown identifier: True" in message("{ True }")
    assert "unknown identifier: NAME" in message("{ NAME = 1 }")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1h1x", None), ("3", None), ("s", None), ("1.5d", None), ("1w2d", 9 * 86_400 * 10**9),
        ("2d1w", None), ("1s1h", 3601 * 10**9), ("999999999h", None), (".s", None),
        ("1.0000000019s", 1_000_000_001),
    ],
)  # fmt: skip
def test_durations(text, nanoseconds):
    """Go's form in any order, Prometheus' long units in falling order, nothing beyond 64 bits."""
    assert parse_duration_ns(text) == nanoseconds


def test_comments_newlines_and_hints():
    """Comments count as space; several hint clauses add up."""
    query = parse("{ .a } // first\n | /* second\n */ rate() with (a=1) with (b=`x`, c=true)")
    assert query.metrics == ast.Metrics("rate")
    assert query.hints == (
        ("a", ast.Literal("int", 1)), ("b", ast.Literal("string", "x")),
        ("c", ast.Literal("bool", True)),
    )  # fmt: skip


def test_metrics_functions_and_what_follows_them():
    """Arguments, keys, quantiles, comparison with a selection, filters and topk in any order."""
    query = parse("{} | quantile_over_time(duration, .5, 1) by (name, .x) > 2s | topk(3) <= 1")
    assert query.metrics.quantiles == (0.5, 1.0)
    assert [attribute.pos for attribute in query.metrics.by] == [45, 51]
    assert query.stages == (
        ast.MetricsFilter(">", ast.Literal("duration", 2_000_000_000)), ast.TopBottom("topk", 3),
        ast.MetricsFilter("<=", ast.Literal("int", 1)),
    )  # fmt: skip
    compare = parse("{} | compare({ status = error }, 5, 100, 200)").metrics
    assert (compare.top, compare.window) == (5, (100, 200))


DEEP = 10_000
HOSTILE = {
    "parentheses in braces": "{ " + "(" * DEEP + ".a" + ")" * DEEP + " }",
    "open parentheses": "(" * DEEP,
    "braces": "{" * DEEP,
    "minus signs": "{ " + "-" * DEEP + ".a = 1 }",
    "exclamation marks": "{ " + "!" * DEEP + ".a }",
    "spansets in parentheses": "(" * DEEP + "{}" + ")" * DEEP,
    "pipelines in parentheses": "(" * 500 + "{}|count()>1" + ")" * 500,
    "a chain of alternatives": "{ " + " || ".join(["span.x = 1"] * 5000) + " }",
    "groups of powers": "{ " + " + ".join(["(" + " ^ ".join([".a"] * 100) + ")"] * 200) + " > 1 }",
    "pipes": "{}" + "|{}" * DEEP,
    "digits": "{ .a = " + "9" * 100_000 + " }",
    "quotes": '{ ."' + '\\"' * 50_000 + " }",
    "open comments": "{}" + "/* " * 30_000,
    "control characters": "{ .a = \x01\x02\x1b[31m }",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_end_in_a_tree_or_a_refusal(text):
    """No recursion error and no hang: a tree that prints and validates, or a TraceQLError."""
    started = time.process_time()
    error = refusal(text)
    if error is not None:
        lines = error.render().split("\n")
        assert "\x1b" not in lines[1]
    assert time.process_time() - started < 20


def test_length_and_depth_have_limits_that_are_named():
    """One byte too many is refused without parsing; a tree too deep names the limit."""
    fits = '{ .a = "' + "x" * (parser.MAX_QUERY_BYTES - 11) + '" }'
    assert len(fits) == parser.MAX_QUERY_BYTES
    parse(fits)
    with pytest.raises(TraceQLTooLargeError, match="131073 bytes"):
        parse(fits + " ")
    with pytest.raises(TraceQLTooLargeError, match="bytes long"):
        parse("é" * 70_000)
    with pytest.raises(TraceQLTooLargeError, match="256 levels"):
        parse("{ " + " || ".join([".a = 1"] * 260) + " }")
    parse("{ " + " || ".join([".a = 1"] * 250) + " }")


def test_time_grows_with_the_length_and_not_faster():
    """Eight times the text takes about eight times as long; quadratic would be sixty-four."""

    def seconds(count: int) -> float:
        text = "{ } | select(" + ", ".join(["span.abc"] * count) + ")"
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            parse(text)
            best = min(best, time.process_time() - started)
        return best

    seconds(100)
    assert seconds(8000) < 24 * seconds(1000)


@settings(derandomize=True, max_examples=300, deadline=None, database=None)
@given(
    st.lists(
        st.sampled_from(
            ["{", "}", "(", ")", "|", "&&", "||", ">", "!~", "=", "-", "!", "by", "count", "avg",
             "rate", "topk", "with", "span.", ".a", "span:", "name", "event:", "1", "2s", ".5",
             '"x"', "`", "'", "nil", ",", "foo", "select", "coalesce", "compare", "/", "//", "\n",
             "\0", "é", "by(", "{}", "parent.", "^", "=~"]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_any_mixture_of_tokens_ends_in_a_tree_or_a_refusal(pieces):
    """Whatever stands side by side, the only exception is a TraceQLError within the text."""
    text = " ".join(pieces)
    error = refusal(text)
    if error is not None:
        assert 0 <= error.position <= len(text)
        assert (error.line, error.column) >= (1, 1)
        assert error.render().startswith(error.tempo_message)


def test_refusals_render_as_recorded():
    """Message, line with a caret, hint: compared with golden/refusals.txt.

    UPDATE_GOLDEN=1 writes the file anew.
    """
    blocks = []
    for query in (HERE / "golden" / "queries.txt").read_text("utf-8").splitlines():
        with pytest.raises(TraceQLError) as caught:
            validate(parse(query), metrics=False)
        blocks.append(f"{type(caught.value).__name__}: {caught.value.render()}\n")
    text, path = "\n".join(blocks), HERE / "golden" / "refusals.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_a_long_line_is_cut_around_the_caret():
    """The caret stands under the piece, however long the line is."""
    with pytest.raises(TraceQLSyntaxError) as caught:
        parse("{ " + ".a = 1 && " * 100 + "? = 1" + " && .b = 2" * 100 + " }")
    _, line, carets, *_ = caught.value.render().split("\n")
    assert len(line) < 110
    assert line[carets.index("^")] == "?"


def test_importing_otelbridge_loads_no_lark():
    """Neither the package nor the parser's module loads Lark before the first query."""
    code = (
        "import sys, otelbridge, otelbridge.local.traceql.parser as p;"
        "assert 'lark' not in sys.modules; p.parse('{}'); assert 'lark' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
