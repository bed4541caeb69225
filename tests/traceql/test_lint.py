"""Lints: every trap that the recorded cases name is found, and little else."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from otelbridge.local.traceql.lint import lint
from otelbridge.local.traceql.lint_texts import TEXTS
from otelbridge.local.traceql.parser import parse
from tests.traceql import strategies

RECORDED = Path(__file__).parent.parent / "conformance" / "tempo"
LETTERS = {"stringValue": "s", "intValue": "i", "doubleValue": "d", "boolValue": "b"}
#: Tags of the recorded cases that are named otherwise here.
RENAMED = {"child_count_needs_vparquet5": "child_count"}
#: Whether a value is invisible to TraceQL is a property of the data, not of the query's text.
NEEDS_STORED_TYPES = {"unsupported_value_kind"}
#: Warnings on cases without a tag: the trap is there, the recorded data just does not fall in.
JUSTIFIED = {
    ("q236", "typed_literal"),  # span.mixed = 6, also stored as a double
    ("q347", "typed_literal"),  # tokens, one of them stored as a double
    ("q401", "typed_literal"),
    ("q458", "array_or"),  # the case in which Tempo answers HTTP 500
    ("q472", "division_by_zero"),  # likewise
    ("q367", "id_case"),  # an id in upper case, which finds nothing
}


def stored_types() -> dict[tuple[str, str], set[str]]:
    """Types per attribute of the recorded spans, as a store would report them."""
    found = defaultdict(set)

    def add(scope, attributes):
        for attribute in attributes or ():
            key, (kind, value) = (scope, attribute["key"]), next(iter(attribute["value"].items()))
            items = value.get("values", []) if kind == "arrayValue" else []
            kinds = {next(iter(item)) for item in items}
            if kind in LETTERS:
                found[key].add(LETTERS[kind])
            elif len(kinds) == 1:
                found[key].add(LETTERS[kinds.pop()] * (1 if len(items) == 1 else 2))
            else:
                found[key].add("other")

    for request in json.loads((RECORDED / "spans.json").read_text("utf-8"))["requests"]:
        for resource in request["resourceSpans"]:
            add("resource", resource.get("resource", {}).get("attributes"))
            for scope in resource["scopeSpans"]:
                add("instrumentation", scope.get("scope", {}).get("attributes"))
                for span in scope["spans"]:
                    add("span", span.get("attributes"))
                    for event in span.get("events", ()):
                        add("event", event.get("attributes"))
                    for link in span.get("links", ()):
                        add("link", link.get("attributes"))
    return found


STORED = stored_types()
CASES = [
    pytest.param(case, id=case["id"])
    for case in map(json.loads, (RECORDED / "search.jsonl").read_text("utf-8").splitlines())
    if case.get("query") and case["status"] != 400
]


@pytest.mark.parametrize("known", [False, True], ids=["types unknown", "types known"])
@pytest.mark.parametrize("case", CASES)
def test_recorded_quirks_are_found_and_other_cases_give_no_warning(case, known):
    """Every tag has its lint; a warning without a tag is in the list of justified ones."""
    found = lint(parse(case["query"]), endpoint="search", stored=STORED if known else None)
    tags = {RENAMED.get(tag, tag) for tag in case.get("quirk", ())}
    expected = tags if known else tags - NEEDS_STORED_TYPES
    assert expected <= {each.code for each in found}
    warned = {each.code for each in found if each.level == "warning"}
    assert warned - tags <= {code for case_id, code in JUSTIFIED if case_id == case["id"]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{ span.gen_ai.request.temperature > 0 }", [("typed_literal", "warning", 34)]),
        ("{ span.gen_ai.request.temperature > 0.0 }", [("typed_literal", "note", 34)]),
        ("{ span.x > 1 || span.x > 1.0 }", []),
        ("{ span.x > 999.5 && span.x != nil }", []),
        ("{ span.x * 1 > 0 }", []),
        ("{ duration > 3 }", [("ns_int_duration", "warning", 11)]),
        ("{ duration > 0 }", []),
        ("{} | avg(duration) > 3", [("ns_int_duration", "warning", 19)]),
        ("{ !(status = error) }", [("negation_needs_presence", "warning", 2)]),
        ("{ !(.a = `x`) && .a != nil }", []),
        ("{ !span.flag }", []),
        ("{ !(.a != nil) }", [("nil_eq_unreliable", "warning", 2)]),
        ("{ 3s < duration }", [("literal_on_left", "warning", 5)]),
        ('{ "v" = span.x }', []),
        ("{ 3s < duration && duration > 3s }", []),
        ("{ .a ^ 2 = .b }", [("power_operands_swapped", "warning", 5)]),
        ("{ .a / 0 > .b }", [("division_by_zero", "warning", 5)]),
        ("{ .a || true }", [("constant_in_or", "warning", 5)]),
        ("{ .a = `x` || (.b && .c) }", []),
        ("{ .a = `x` || .b = `x` && .c }", [("left_assoc_and_or", "warning", 23)]),
        ("{.a} || ({.b} > {.c})", []),
        ("{.a} || {.b} > {.c}", [("left_assoc_and_or", "warning", 5)]),
        ("{ span.a+1 = 4 }", [("attr_name_eats_operator", "warning", 2),
                              ("typed_literal", "note", 11)]),
        ('{ span."a+1" }', []),
        ("{ span.x-user && .a-1 }", [("attr_name_eats_operator", "warning", 17)]),
        ("{ event:name = `a.` && event.level = `b` }", [("same_event_binding", "note", 0)]),
        ("{ event:name = `a` || event.level = `b` }", []),
        ("{ event:name = `a` } && { event:name = `b` }", [("same_event_binding", "note", 21)]),
        ("{} | select(span:childCount)", [("child_count", "warning", 12)]),
        ("{ span:id = `00f067aa0ba902b7` }", [("span_id_leading_zeros", "warning", 10)]),
        ("{ name =~ `chat` }", [("regex_whole_value", "note", 7)]),
        ("{} | max(.a + .b) > 1", [("nil_arithmetic", "warning", 5)]),
        ("{} | quantile_over_time(span.gen_ai.usage.cost, .9)",
         [("quantile_of_float", "warning", 5)]),
        ("{ } | sum_over_time(span.cost) by (name)", [("sum_loses_samples", "warning", 6)]),
        ("{ span.cost != nil && kind = client } | sum_over_time(span.cost)", []),
        ("{ } | sum_over_time(duration)", []),
        ("{ name = `a` } &>> { name = `b` }", [("union_descendant", "warning", 15)]),
        ("{ name = `a` } &<< { name = `b` }", []),
        ("{ span.stream || status = error }", [("bare_boolean_in_or", "warning", 2)]),
        ("{ span.stream = true || status = error }", []),
        ("{ span.stream && status = error }", []),
        ("{ span.langfuse.trace.tags != `a` }",
         [("array_ne_any_element", "warning", 27), ("missing_ne", "note", 27)]),
        ("{ span.a.tags = `a` || span.a.tags = `b` }", [("array_or", "warning", 14)]),
        ("{ span.model != `a` && span.model != `b` }",
         [("missing_ne", "note", 13), ("missing_ne", "note", 34)]),
    ],
)  # fmt: skip
def test_lints(query, expected):
    """Each trap with its level and its place, and the way of writing that avoids it."""
    assert [(each.code, each.level, each.pos) for each in lint(parse(query))] == expected


@pytest.mark.parametrize(
    ("query", "instead"),
    [
        ("{ span.cost > 1 }", "span.cost > 1 || span.cost > 1.0"),
        ("{ span.tokens > 999.5 }", "span.tokens > 999.5 && span.tokens != nil"),
        ("{ 3s < duration }", "duration > 3s"),
        ("{ !(status = error) }", "status != error"),
        ("{ .a || .b && .c }", "(.a || .b) && .c"),
        ("{ span:parentID = `` }", "nestedSetParent < 0"),
        ("{ .a = `x` && .b != `y` }", "{ .b = nil || .b != `y` }"),
        ("{} | max(.a + .b) > 1", "{ .a != nil && .b != nil } | max(.a + .b)"),
    ],
)
def test_what_to_write_instead(query, instead):
    """The advice is text of the language, made of the query's own names."""
    assert instead in [each.instead for each in lint(parse(query))]


def test_stored_types_silence_what_cannot_happen():
    """An attribute that is only ever stored as integers gives no note on an integer literal."""
    query = parse("{ span.n > 5 && span.n != 7 }")
    codes = {each.code for each in lint(query, stored={("span", "n"): {"i"}})}
    assert codes == {"missing_ne"}
    mixed = lint(query, stored={("span", "n"): {"i", "d"}})
    assert {each.level for each in mixed if each.code == "typed_literal"} == {"warning"}


def test_every_text_is_used_and_says_whose_answer_it_is():
    """Texts speak of Tempo's answer (or are a rule of both)."""
    assert all("Tempo" in text or code == "id_case" for code, text in TEXTS.items())


def test_long_queries_give_a_bounded_list():
    """Thousands of suspicious conditions are reported by their first fifty."""
    group = "(" + " || ".join([".a != 1"] * 60) + ")"
    found = lint(parse("{ " + " && ".join([group] * 60) + " }"))
    assert len(found) <= 60


@settings(
    derandomize=True, max_examples=150, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(strategies.queries())
def test_any_valid_query_can_be_linted(query):
    """Known codes, levels and positions for every tree."""
    for each in lint(query, endpoint="search"):
        assert each.code in TEXTS
        assert each.message == TEXTS[each.code]
        assert each.instead
