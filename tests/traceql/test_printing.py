"""Canonical text: as Tempo prints it, and the same tree when it is parsed again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.parser import parse
from otelbridge.local.traceql.printing import go_duration, go_float, to_text
from otelbridge.local.traceql.validate import validate
from tests.traceql import strategies

SLOW = settings(
    derandomize=True, max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@SLOW
@given(strategies.queries(wild=True))
def test_the_text_of_any_tree_parses_to_the_same_tree(query):
    """parse(to_text(tree)) is the tree, for keys, texts and numbers of every shape."""
    assert parse(to_text(query)) == query


@SLOW
@given(strategies.queries())
def test_printing_is_stable_and_drawn_queries_are_valid(query):
    """Canonical text prints as itself, and what the strategies draw passes validation."""
    text = to_text(query)
    again = parse(text)
    assert to_text(again) == text
    validate(again, metrics=query.metrics is not None)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ('{kind="server"}', "{ kind = `server` }"),
        ("{ }", "{ true }"),
        ("{} | by(span.item.index+1 % 3)", '{ true } | by(span.item.index+1 % 3)'),
        ("{} | by(1 + span.item.index % 3)", "{ true } | by(1 + (span.item.index % 3))"),
        ("{} | avg(span:duration) > 1215ms", "{ true } | avg(duration) > 1.215s"),
        ("{} | count()>=2|coalesce( )", "{ true } | count() >= 2 | coalesce()"),
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        ("{ .a = 1 && !.b }", "{ (.a = 1) && (!.b) }"),
        ("{ -.a * 2 > 0 }", "{ (-(.a * 2)) > 0 }"),
        ("{ 2 ^ 3 ^ 2 = .x }", "{ (2 ^ (3 ^ 2)) = .x }"),
        ("{ (-2) ^ .x = 4 }", "{ ((-2) ^ .x) = 4 }"),
        ("{ !.a + 1 = 2 }", "{ ((!.a) + 1) = 2 }"),
        ("{ !.a * 2 = 2 }", "{ (!(.a * 2)) = 2 }"),
        ("{.a} >> {.b} > {.c} || {.d}", "(({ .a } >> { .b }) > { .c }) || { .d }"),
        ('{ span."key with space" = "b`c" }', '{ span."key with space" = "b`c" }'),
        ('{ span."plain" = `a"b` }', '{ span.plain = `a"b` }'),
        ("{ span.cost = 5.0 }", "{ span.cost = 5.0 }"),
        ("{ .x = maxInt || .x = minInt }", "{ (.x = 9223372036854775807) || (.x = minInt) }"),
        ("({} | count() > 1) && ({.a}|by(name))",
         "({ true } | count() > 1) && ({ .a } | by(name))"),
        ("{} | rate()by(name,.x)>1|topk(2)", "{ true } | rate() by (name, .x) > 1 | topk(2)"),
        ("{}|quantile_over_time(.a,.5,1)", "{ true } | quantile_over_time(.a, 0.5, 1)"),
        ("{} | compare({.a})", "{ true } | compare({ .a }, 10)"),
        ("{} with (most_recent=true) with(sample=-0.5)",
         "{ true } with (most_recent=true, sample=-0.5)"),
    ],
)  # fmt: skip
def test_canonical_text(written, canonical):
    """Nested operations are parenthesised, strings stand in backticks, spaces are regular."""
    assert to_text(parse(written)) == canonical


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"), (1, "1ns"), (1_500, "1.5µs"), (150_000_000, "150ms"), (1_215_000_000, "1.215s"),
        (119_000_000_000, "1m59s"), (3_600_000_000_000, "1h0m0s"), (-3_000_000_000, "-3s"),
        (90_061_000_000_001, "25h1m1.000000001s"),
    ],
)  # fmt: skip
def test_durations_print_as_go_prints_them(nanoseconds, text):
    """The largest unit is hours, zero parts stay between units, fractions lose their zeros."""
    assert go_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5"), (0.5, "0.5"), (1e6, "1e+06"), (123456.0, "123456"), (1234567.0, "1.234567e+06"),
        (0.0001, "0.0001"), (0.00001, "1e-05"), (-2.5, "-2.5"), (0.0, "0"), (1e300, "1e+300"),
    ],
)  # fmt: skip
def test_floats_print_as_go_prints_them(value, text):
    """The shortest digits, with an exponent from six digits on and below 0.0001."""
    assert go_float(value) == text


def test_what_is_no_node_is_refused():
    """A value that is not of the tree is a mistake of the caller, not an empty text."""
    with pytest.raises(TypeError, match="not a node"):
        to_text(object())


def test_positions_take_no_part_in_equality():
    """Trees are equal whatever the spaces, and positions count characters of the text."""
    spaced, dense = parse("{  .a =   1 }"), parse("{.a=1}")
    assert spaced == dense
    binary = spaced.pipeline.elements[0].expr
    assert isinstance(binary, ast.Binary)
    assert (binary.pos, binary.left.pos, binary.right.pos) == (6, 3, 10)
