"""Where each part of a span goes: hot columns, typed maps, events, links; and back from the row."""

from __future__ import annotations

import random

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelbridge.local.records import Batch, records
from otelbridge.local.store import schema
from otelbridge.local.store.columns import MAP_COLUMNS
from otelbridge.local.store.database import Store
from otelbridge.local.store.values import Decoder, KeysFound, _any, _short_text, split

MAPS = ", ".join(MAP_COLUMNS.values())


@pytest.fixture
def store():
    """A store in memory."""
    with_store = Store(None)
    yield with_store
    with_store.close()


def as_sent(request):
    """The spans of a request without the rules that the OTLP ports apply."""
    return Batch(tuple(records(request)), ())


def put(store, samples, *spans, **options) -> None:
    store.write(as_sent(samples.request(*spans, **options))).result(20)


def maps(store, table="tempo_spans", where="true") -> dict[str, dict]:
    """The maps of the one row, by letter, without the empty ones."""
    (row,) = store.query(f"SELECT {MAPS} FROM {table} WHERE {where}")
    return {kind: one for kind, one in zip(MAP_COLUMNS, row, strict=True) if one is not None}


def test_attributes_go_to_the_map_of_their_type(store, samples):
    """Text, integers, doubles, booleans and arrays of each have maps of their own."""
    values = {
        "s": "text", "i": -(2**63), "d": 0.5, "b": False, "e": "",
        "ss": ["a", "b"], "ii": [1, 2, 3], "dd": [0.5, 1.5], "bb": [True, False],
    }  # fmt: skip
    put(store, samples, samples.span("x", values))
    assert maps(store) == {
        "s": {"s": "text", "e": ""}, "i": {"i": -(2**63)}, "d": {"d": 0.5}, "b": {"b": False},
        "ss": {"ss": ["a", "b"]}, "ii": {"ii": [1, 2, 3]}, "dd": {"dd": [0.5, 1.5]},
        "bb": {"bb": [True, False]},
    }  # fmt: skip


def test_an_array_of_one_element_counts_as_its_element(store, samples):
    """It is in the scalar map, or in the hot column of its key."""
    put(store, samples, samples.span("x", {"a": ["v"], "n": [7], "gen_ai.system": ["openai"]}))
    assert maps(store) == {"s": {"a": "v"}, "i": {"n": 7}}
    assert store.query("SELECT a_gen_ai_system FROM tempo_spans") == [("openai",)]


def test_what_has_no_type_is_in_no_column(store, samples):
    """Empty and mixed arrays, key-value lists, bytes and unset values; the span keeps them."""
    values = {"empty": [], "mixed": ["a", 1], "map": {"k": 1}, "bytes": b"x", "unset": None}
    span = samples.span("x", {**values, "nested": [["a"], ["b"]], "maps": [{"k": 1}]})
    put(store, samples, span)
    assert maps(store) == {}
    assert [record.span for record in store.trace(schema.TEMPO, span.trace_id)] == [span]


def test_a_hot_column_takes_its_own_type_only(store, samples):
    """Another type goes to its map: an integer in a double's key, a text in an integer's."""
    keys = ("gen_ai.usage.cost", "gen_ai.usage.input_tokens", "otelbridge.llm.keep")
    right = dict(zip(keys, (0.25, 12, True), strict=True))
    wrong = dict(zip(keys, (1, "12", "yes"), strict=True))
    put(store, samples, samples.span("right", right), samples.span("wrong", wrong))
    select = "SELECT a_gen_ai_usage_cost, a_gen_ai_usage_input_tokens, a_otelbridge_llm_keep "
    assert store.query(select + "FROM tempo_spans ORDER BY name") == [
        (0.25, 12, True),
        (None, None, None),
    ]
    assert maps(store, where="name = 'right'") == {}
    assert maps(store, where="name = 'wrong'") == {
        "i": {"gen_ai.usage.cost": 1},
        "s": {"gen_ai.usage.input_tokens": "12", "otelbridge.llm.keep": "yes"},
    }


def test_of_equal_keys_the_last_counts(store, samples):
    """A key that is there twice has one value, whatever the types."""
    span = samples.span("x", {"k": 1, "gen_ai.system": "a"})
    span.attributes.extend(samples.pairs({"k": "last"}))
    span.attributes.extend(samples.pairs({"gen_ai.system": "b"}))
    put(store, samples, span)
    assert maps(store) == {"s": {"k": "last"}}
    assert store.query("SELECT a_gen_ai_system FROM tempo_spans") == [("b",)]


def test_resource_and_scope_attributes_have_columns(store, samples):
    """service.name, the Langfuse pair and the others; a scope's name, version and attributes."""
    request = samples.request(
        samples.span(), service="web", resource={"langfuse.user.id": "u", "n": 1, "zone": "a"}
    )
    scope = request.resource_spans[0].scope_spans[0].scope
    scope.version = "2"
    scope.attributes.extend(samples.pairs({"scope.tier": "gold"}))
    store.write(as_sent(request)).result(20)
    columns = "a_service_name, a_langfuse_user_id, a_langfuse_session_id"
    assert store.query(f"SELECT {columns} FROM resources") == [("web", "u", None)]
    assert maps(store, "resources") == {"i": {"n": 1}, "s": {"zone": "a"}}
    assert store.query("SELECT name, version FROM scopes") == [("tests", "2")]
    assert maps(store, "scopes") == {"s": {"scope.tier": "gold"}}


@pytest.mark.parametrize("name", [None, 7, ["a", "b"]])
def test_a_missing_service_name_is_empty(store, samples, name):
    """Also one that is no text."""
    request = samples.request(samples.span())
    del request.resource_spans[0].resource.attributes[:]
    if name is not None:
        request.resource_spans[0].resource.attributes.extend(samples.pairs({"service.name": name}))
    store.write(as_sent(request)).result(20)
    assert store.query("SELECT a_service_name FROM resources") == [("",)]


def test_events_and_links_have_rows(store, samples):
    """Numbered, with names, times since the span's start, ids as text, and typed maps."""
    span = samples.span("x")
    start = span.start_time_unix_nano
    for name, offset in (("first", 5), ("before", -5)):
        event = span.events.add(name=name, time_unix_nano=start + offset)
        event.attributes.extend(samples.pairs({"offset": offset}))
    link = span.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)))
    link.attributes.extend(samples.pairs({"link.reason": "retry"}))
    put(store, samples, span, samples.span("plain"))
    assert store.query(
        "SELECT event_no, name, since_start_ns, m_i['offset'] FROM span_events ORDER BY event_no"
    ) == [(0, "first", 5, 5), (1, "before", -5, -5)]
    assert store.query(
        "SELECT link_no, linked_trace_id, linked_span_id, m_s['link.reason'] FROM span_links"
    ) == [(0, bytes(range(16)).hex(), bytes(range(8)).hex(), "retry")]
    flags = store.query("SELECT name, has_events, has_links FROM tempo_spans ORDER BY name")
    assert flags == [("plain", False, False), ("x", True, True)]


def test_a_span_that_is_sent_again_replaces_its_events_and_links(store, samples):
    """The last of one (trace id, span id) wins in every table, in one request and in two."""
    spans = []
    for number in range(3):
        span = samples.span(f"v{number}", trace_id=b"t" * 16, span_id=b"s" * 8)
        span.events.add(name=f"e{number}")
        span.links.add(trace_id=bytes([number + 1]) * 16, span_id=b"l" * 8)
        spans.append(span)
    put(store, samples, spans[0])
    put(store, samples, *spans[1:])
    assert store.query("SELECT name FROM tempo_spans") == [("v2",)]
    assert store.query("SELECT name FROM span_events") == [("e2",)]
    assert store.query("SELECT linked_trace_id FROM span_links") == [("03" * 16,)]


def test_the_catalog_has_every_key_with_its_types(samples, tmp_path):
    """By TraceQL's scopes, hot columns too, over a restart; what no column holds is absent."""
    store = Store(tmp_path)
    span = samples.span("x", {"k": 1, "gen_ai.system": "a", "tags": ["a", "b"], "no": {"m": 1}})
    span.events.add(name="e").attributes.extend(samples.pairs({"at": 0.5}))
    span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8).attributes.extend(
        samples.pairs({"why": True})
    )
    request = samples.request(span, samples.span("y", {"k": "text"}), service="web")
    scope = request.resource_spans[0].scope_spans[0].scope
    scope.attributes.extend(samples.pairs({"tier": [1, 2]}))
    store.write(as_sent(request)).result(20)
    expected = {
        ("span", "k", "i"), ("span", "k", "s"), ("span", "gen_ai.system", "s"),
        ("span", "tags", "ss"), ("event", "at", "d"), ("link", "why", "b"),
        ("resource", "service.name", "s"), ("instrumentation", "tier", "ii"),
    }  # fmt: skip
    assert store.catalog() == expected
    store.write(as_sent(request)).result(20)
    assert len(store.query("SELECT * FROM attribute_keys")) == len(expected)
    store.close()
    store = Store(tmp_path)
    assert store.catalog() == expected
    store.close()


HOSTILE = {
    "ends before it starts": {"start_time_unix_nano": 10, "end_time_unix_nano": 3},
    "no end": {"start_time_unix_nano": 10, "end_time_unix_nano": 0},
    "no times": {"start_time_unix_nano": 0, "end_time_unix_nano": 0},
    "times beyond 63 bits": {"start_time_unix_nano": 2**64 - 2, "end_time_unix_nano": 2**64 - 1},
    "parent of zeros": {"parent_span_id": bytes(8)},
    "unknown kind": {"kind": 1000},
    "negative kind": {"kind": -1},
    "trace state": {"trace_state": "otelbridge=" + "a" * 200, "parent_span_id": b"p" * 8},
    "long name": {"name": "ä" * 500, "kind": 3},
    "nothing but ids": {"name": "", "start_time_unix_nano": 0, "end_time_unix_nano": 0},
    "NUL in the name": {"name": "a\0b"},
    "flags and status": {"flags": 257, "status": Status(code=2, message="no\0 good")},
}


@pytest.mark.parametrize("fields", HOSTILE.values(), ids=HOSTILE)
def test_a_span_comes_back_as_it_was(store, samples, fields):
    """What the columns cannot hold is kept in the serialised span."""
    span = samples.span(**{"name": "x", **fields}, attributes={"k": "v" * 300, "n": 2**40})
    put(store, samples, span)
    assert [record.span for record in store.trace(schema.TEMPO, span.trace_id)] == [span]
    assert maps(store) == {"s": {"k": "v" * 300}, "i": {"n": 2**40}}


def test_times_fit_their_columns(store, samples):
    """Cut to 63 bits; a span that ends before it starts lasts 0; a parent of zeros is none."""
    spans = [
        samples.span("backwards", start_time_unix_nano=10, end_time_unix_nano=3),
        samples.span("huge", start_time_unix_nano=5, end_time_unix_nano=2**64 - 1),
        samples.span("root", start_time_unix_nano=1, end_time_unix_nano=1, parent_span_id=bytes(8)),
    ]
    spans[0].events.add(name="e", time_unix_nano=2**64 - 1)
    put(store, samples, *spans)
    found = store.query("SELECT name, start_ns, duration_ns, parent_span_id FROM tempo_spans")
    assert sorted(found) == [
        ("backwards", 10, 0, None),
        ("huge", 5, 2**63 - 6, None),
        ("root", 1, 0, None),
    ]
    assert store.query("SELECT since_start_ns FROM span_events") == [(2**63 - 1,)]


def test_random_spans_come_back_as_they_were(store, samples):
    """Three hundred spans with random fields set, in one request: all equal to what was sent."""
    rng = random.Random(5)
    spans = []
    for number in range(300):
        span = Span(trace_id=rng.randbytes(16), span_id=rng.randbytes(8))
        for name, value in (
            ("parent_span_id", rng.randbytes(8)),
            ("trace_state", "a=" + "b" * rng.randrange(300)),
            ("name", "näme" * rng.randrange(80)),
            ("kind", rng.randrange(6)),
            ("start_time_unix_nano", rng.randrange(2**63)),
            ("end_time_unix_nano", rng.randrange(2**63)),
            ("dropped_attributes_count", 3),
            ("flags", 1),
        ):
            if rng.random() < 0.6:
                setattr(span, name, value)
        if rng.random() < 0.6:
            span.attributes.extend(
                samples.pairs({f"k{n}": "v" * rng.randrange(400) for n in range(rng.randrange(9))})
            )
        if number % 7 == 0:
            span.events.add(name="e", time_unix_nano=1).attributes.extend(samples.pairs({"x": 1}))
        spans.append(span)
    put(store, samples, *spans)
    for span in spans:
        assert [record.span for record in store.trace(schema.TEMPO, span.trace_id)] == [span]


def test_attributes_are_split_whatever_their_length(samples):
    """Lengths of one, two and three bytes; what follows the attributes is left alone."""
    pairs = samples.pairs({"a": "x", "b": "y" * 200, "c": "z" * 20_000})
    span = Span(attributes=pairs, dropped_attributes_count=2, flags=1)
    assert split(span.SerializeToString()) == [pair.SerializeToString() for pair in pairs]
    assert split(b"") == []


def test_short_attributes_are_read_as_protobuf_reads_them(samples):
    """Lengths about the bounds, empty texts, other types, keys of many bytes, nothing at all."""
    rng = random.Random(3)
    given = [("", ""), ("k", ""), ("", "v"), ("ä", "ß"), ("k", None), ("k", {}), ("k", [""])]
    given += [("k" * rng.randrange(140), "v" * rng.randrange(140)) for _ in range(2000)]
    given += [("k" * 10, "v" * length) for length in range(100, 135)]
    given += [("k" * length, "v") for length in range(100, 135)]
    given += [("k", value) for value in (0, 1, -1, 2**62, True, 0.5, b"\n\1x", ["a"], {"a": "b"})]
    short = 0
    for pair in (one for key, value in given for one in samples.pairs({key: value})):
        data = pair.SerializeToString()
        found = _short_text(data)
        assert found is None or found == _any(data)
        short += found is not None
    assert short > 500
    decoder = Decoder("span", (), KeysFound())
    assert list(decoder.values([b""])) == [("", None, "", None)]
