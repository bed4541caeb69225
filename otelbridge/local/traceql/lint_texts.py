"""What each lint says: the surprise, Tempo's answer, ours. Used by lint.py; data only."""

from __future__ import annotations

from typing import Final

TEXTS: Final[dict[str, str]] = {
    "typed_literal": (
        "A number literal looks only at values of its own type in Tempo: an integer misses values"
        " stored as doubles and the other way round. otelbridge compares the numbers."
    ),
    "ns_int_duration": (
        "A plain number compared with a duration counts nanoseconds, in Tempo and in otelbridge."
    ),
    "negation_needs_presence": (
        "Tempo fetches spans by the condition inside !( ) and then finds nothing; otelbridge"
        " answers every span for which the condition does not hold, also those without the"
        " attribute."
    ),
    "literal_on_left": (
        "With the literal on the left of an ordering Tempo finds nothing; otelbridge compares."
    ),
    "nil_eq_unreliable": (
        "`= nil` is wrong and changes from run to run in Tempo; otelbridge answers exactly the"
        " spans without the attribute."
    ),
    "power_operands_swapped": (
        "Tempo evaluates a ^ b of two integers as b to the power of a; otelbridge as a to the"
        " power of b."
    ),
    "division_by_zero": (
        "Tempo answers a division by zero with HTTP 500; in otelbridge its result is absent, so"
        " comparisons with it do not match."
    ),
    "constant_in_or": (
        "Tempo fetches spans by the other side of `|| true` alone; otelbridge answers all spans."
    ),
    "array_ne_any_element": (
        "On an array `!=` and `!~` hold if any element differs, in Tempo and in otelbridge; they"
        " do not mean that no element is equal."
    ),
    "array_or": (
        "Two `=` on one attribute joined by || make Tempo 3.0.3 answer HTTP 500 when an array"
        " holds both values; otelbridge answers spans where either is found."
    ),
    "unsupported_value_kind": (
        "Some values of this attribute are maps, empty arrays or arrays of mixed types, which"
        " TraceQL does not see, in Tempo and in otelbridge."
    ),
    "missing_ne": (
        "Spans without the attribute never match a comparison, not even `!=` or `!~`; the same in"
        " Tempo and in otelbridge."
    ),
    "union_descendant": (
        "Of several spans on the left with matches below them Tempo 3.0.3 leaves out some;"
        " otelbridge answers all of them."
    ),
    "bare_boolean_in_or": (
        "Tempo fetches no spans by a boolean attribute that stands alone beside ||, so it finds"
        " only what the other side finds; otelbridge answers both."
    ),
    "sum_loses_samples": (
        "Where spans without the attribute come between those with it, Tempo and otelbridge leave"
        " out the sum of the whole step. Ask for its presence in the filter."
    ),
    "left_assoc_and_or": (
        "&& and || have one precedence and group from the left, and structural operators bind"
        " tighter; the same in Tempo and in otelbridge. Parentheses say what is meant."
    ),
    "attr_name_eats_operator": (
        "The operator is read as a part of the attribute's name, in Tempo and in otelbridge;"
        " arithmetic needs spaces around it."
    ),
    "same_event_binding": (
        "Conditions on events (or links) joined by && inside braces have to hold on one and the"
        " same event. Of a span with several events Tempo shows one to spansets joined by &&;"
        " otelbridge looks at each."
    ),
    "child_count": (
        "span:childCount finds nothing in Tempo's default block format (vParquet4); otelbridge"
        " counts the children."
    ),
    "span_id_leading_zeros": (
        "Tempo does not find span ids that begin with zeros, nor roots by an empty parent id;"
        " otelbridge does."
    ),
    "id_case": "Span ids are lower-case hexadecimal digits; other spellings match nothing.",
    "agg_mixed_types": (
        "The aggregate takes numbers of both types, and spans without the attribute do not count;"
        " one value that is no number takes the whole sum or average away. The same in Tempo and in"
        " otelbridge."
    ),
    "nil_arithmetic": (
        "Where one of the attributes is absent, Tempo's arithmetic spoils the whole aggregate;"
        " otelbridge skips that span."
    ),
    "quantile_of_float": (
        "Quantiles and histograms take whole numbers and durations; for attributes stored as"
        " doubles there is no series, in Tempo and in otelbridge."
    ),
    "regex_whole_value": (
        "A regular expression has to match the whole value, in Tempo and in otelbridge; this one"
        " has no pattern in it."
    ),
    "metrics_query_on_search": (
        "A metrics query on the search endpoint answers the spans of its pipeline, in Tempo and"
        " in otelbridge; values come from /api/metrics/query_range."
    ),
}
