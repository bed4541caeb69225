"""Byte limits of attributes: within the bound, still JSON, and said."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from otelbridge import semconv
from otelbridge.errors import ConfigError
from otelbridge.exporters import limits as limits_module
from otelbridge.exporters.cutting import cut, utf8_bytes
from otelbridge.exporters.encoding import SpanEncoder
from otelbridge.exporters.limits import LimitedEncoder, Limits, limited
from otelbridge.settings import Settings

CONTEXT = SpanContext(0xA1, 0xB2, False, TraceFlags(1))


def span_with(attributes: dict[str, Any], **fields: Any) -> ReadableSpan:
    """A span without the SDK's checks, as hostile as a test wants it."""
    return ReadableSpan("a span", context=CONTEXT, attributes=attributes, **fields)


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


# -- JSON ------------------------------------------------------------------------------------------
def test_long_texts_lose_their_ends_and_short_ones_nothing():
    """The longest give way, with a note; structure, roles and short texts are untouched."""
    tree = [message("system", "Be brief."), message("user", "word " * 2000), message("user", "Hm?")]
    short = json.loads(cut(json.dumps(tree), 4000))
    assert [one["role"] for one in short] == ["system", "user", "user"]
    assert (short[0], short[2]) == (tree[0], tree[2])
    content = short[1]["parts"][0]["content"]
    kept, note, _ = content.partition("... [")
    assert tree[1]["parts"][0]["content"].startswith(kept)
    assert content == f"{kept}... [{10_000 - len(kept)} characters cut]"
    assert note
    assert len(kept) > 3500  # the room is used


def test_blobs_go_first_and_say_what_they_were():
    """An image becomes a marker with type and size, and no text loses a character."""
    image = base64.b64encode(bytes(range(256)) * 400).decode()
    tree = [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is this? " * 50},
                {"type": "blob", "mime_type": "image/png", "modality": "image", "content": image},
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
                {"type": "image", "source": {"media_type": "image/webp", "data": image}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": image}},
            ],
        }
    ]
    short = json.loads(cut(json.dumps(tree), 2000))
    parts = short[0]["parts"]
    assert parts[0] == tree[0]["parts"][0]
    assert parts[1]["content"] == "[removed: image/png, about 102402 bytes]"
    assert parts[2]["image_url"]["url"] == "[removed: image/jpeg, about 102402 bytes]"
    assert parts[3]["source"]["data"] == "[removed: image/webp, about 102402 bytes]"
    assert parts[4]["input_audio"]["data"] == "[removed: wav, about 102402 bytes]"


def test_a_small_blob_stays_while_a_larger_one_is_enough():
    """Blobs go by size."""
    small, large = "QUJD" * 300, "QUJD" * 3000
    short = json.loads(cut(json.dumps({"small": small, "large": large}), 3000))
    assert short["small"] == small
    assert short["large"] == "[removed: base64, about 9000 bytes]"


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (message, {"role": "system", "parts": [{"type": "text", "content": "[{} removed here]"}]}),
        (
            lambda role, text: {"role": role, "content": text},
            {"role": "system", "content": "[{} removed here]"},
        ),
        (
            lambda role, text: {"type": "text", "text": f"{role}: {text}"},
            {"type": "text", "text": "[{} removed here]"},
        ),
        (lambda role, text: f"{role}: {text}", "[{} removed here]"),
        (lambda role, text: {"name": role, "description": text}, None),
    ],
    ids=["semconv", "openai", "parts", "texts", "tools"],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_old_messages_go_from_the_middle(make, note, wrapped):
    """First and newest stay; a note of the same shape has the number, where a shape is known."""
    talk = [make("user", f"question {number} " + "word " * 300) for number in range(100)]
    talk[0] = make("system", "Be brief.")
    text = cut(json.dumps({"messages": talk, "n": 1} if wrapped else talk), 20_000)
    assert 10_000 < utf8_bytes(text) <= 20_000
    short = json.loads(text)
    if wrapped:
        assert short["n"] == 1
        short = short["messages"]
    assert short[0] == talk[0]
    if note is None:
        newest = short[1:]
    else:
        newest = short[2:]
        told = json.dumps(note).replace("{}", str(99 - len(newest)))
        assert short[1] == json.loads(told)
    assert 5 < len(newest) < 99
    for mine, theirs in zip(newest, talk[-len(newest) :], strict=True):
        assert json.dumps(mine)[:40] == json.dumps(theirs)[:40]


def long_text(longest: int) -> st.SearchStrategy[str]:
    """Repetitions, which cost little to draw."""
    pieces = st.text(max_size=6) | st.sampled_from(["word ", "€𝄞", '"\\\n', "QUJD+/09"])
    return st.builds(lambda piece, count: (piece * count)[:longest], pieces, st.integers(0, 300))


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.text('ab cd€𝄞"\\\n', min_size=50, max_size=400)
    | st.text("ABCDabcd0123+/", min_size=520, max_size=900),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(st.text(max_size=40), inner, max_size=8)
        | st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": inner}),
            max_size=12,
        )
    ),
    max_leaves=20,
)
_documents = (
    st.lists(_json, max_size=8) | st.dictionaries(st.text(max_size=9), _json) | st.text()
).map(lambda tree: json.dumps(tree, ensure_ascii=len(str(tree)) % 2 == 0))


@settings(max_examples=100, deadline=None)
@given(_documents, st.integers(2, 3000), st.sampled_from([utf8_bytes, len]))
def test_json_stays_json_within_the_limit(text, limit, measure):
    """For any document and limit: valid, of the same type, small enough, and final."""
    short = cut(text, limit, measure)
    assert measure(short) <= limit
    assert type(json.loads(short)) is type(json.loads(text))
    assert cut(short, limit, measure) == short
    if measure(text) <= limit:
        assert short == text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=500), st.integers(0, 300), st.sampled_from([utf8_bytes, len]))
def test_text_is_cut_between_characters(text, limit, measure):
    """What is left is the beginning of the text, and can be encoded where the text could."""
    short = cut(text, limit, measure)
    assert measure(short) <= limit
    assert cut(short, limit, measure) == short
    short.encode()
    if text.lstrip()[:1] not in tuple('{["'):
        assert text.startswith(short.partition("... [")[0]) or "... [" in text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e999, "b": "' + "x" * 500 + '"}',
        '{"a": ' + "1" * 5000 + "}",
        '{"a": NaN, "b": "' + "x" * 500 + '"}',
        '["' + "\\ud800" * 200 + '"]',
        '["' + "\\ud83d\\ude00" * 200 + '"]',
        "[" * 3000 + "]" * 3000,
        '{"a":' * 60_000 + "1" + "}" * 60_000,
        '{"k": 1, "k": 2, "' + "key" * 200 + '": 3}',
        json.dumps({str(number): number for number in range(500)}),
        json.dumps(list(range(5000))),
    ],
    ids=["infinite", "digits", "nan", "surrogates", "pairs", "deep", "deeper", "twice", "wide",
         "numbers"],
)  # fmt: skip
def test_awkward_json_stays_json(text):
    """Numbers that Python cannot write, halves of characters, depth, width."""
    short = cut(text, 200)
    assert utf8_bytes(short) <= 200
    found = json.loads(short.encode("utf-8", "replace"), parse_constant=pytest.fail)
    assert isinstance(found, dict if text[0] == "{" else list)


def test_what_only_looks_like_json_is_text():
    """Brackets around prose are cut as prose; half of a surrogate pair never stays."""
    assert cut("[a] " + "word " * 100 + "[z]", 100).startswith("[a] word word ")
    assert cut("ab\ud83d\ude00" + "x" * 10, 3, len) == "ab"
    assert cut("€" * 100, 10) == "€€€"


def test_a_giant_is_not_parsed():
    """Beyond 16 MiB only brackets and a note are left: bounded work for the worker."""
    short = cut(json.dumps({"a": "x" * (17 << 20)}), 1 << 20)
    assert json.loads(short) == {"removed": f"[removed: JSON of {(17 << 20) + 9} characters]"}


# -- spans -----------------------------------------------------------------------------------------
def total_bytes(span: ReadableSpan) -> int:
    """Encoded, and so more than what the limit counts."""
    return len(SpanEncoder().encode(span).data)


def test_a_span_within_its_limits_is_the_same_object():
    """Nothing is copied, whatever kinds of values it has."""
    span = span_with(
        {"a": "text", "n": 1, "tags": ("x", "y"), "ratio": 0.5, "yes": True},
        events=[Event("e", {"k": "v"})],
        links=[Link(CONTEXT, {"k": "v"})],
    )
    assert limited(span, Limits(1024, 4096, 100, 100)) is span
    assert limited(span, Limits()) is span


def test_the_sdk_path_gives_a_copy_and_leaves_the_original():
    """A span of the SDK: the copy is cut and says so, the shared original is untouched."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    talk = json.dumps([message("user", "word " * 1000)])
    with provider.get_tracer("t").start_as_current_span("chat") as live:
        live.set_attributes({semconv.GEN_AI_INPUT_MESSAGES: talk, "plain": "p" * 3000, "n": 7})
        live.add_event("exception", {"exception.stacktrace": "line\n" * 1000})
        live.set_status(Status(StatusCode.ERROR, "m" * 3000))
    (span,) = memory.get_finished_spans()
    short = limited(span, Limits(value_bytes=1024))
    attributes = dict(short.attributes or {})
    assert attributes[semconv.TRUNCATED] == (
        f"gen_ai.input.messages={len(talk)} plain=3000"
        " exception/exception.stacktrace=5000 status=3000"
    )
    assert json.loads(attributes[semconv.GEN_AI_INPUT_MESSAGES])[0]["role"] == "user"
    assert attributes["plain"] == "p" * 999 + "... [2001 characters cut]"
    assert attributes["n"] == 7
    assert len(short.events[0].attributes["exception.stacktrace"]) <= 1024
    assert short.events[0].timestamp == span.events[0].timestamp
    assert short.status.status_code is StatusCode.ERROR
    assert len(short.status.description) <= 1024
    assert short.context == span.context
    assert span.attributes["plain"] == "p" * 3000
    assert semconv.TRUNCATED not in span.attributes


def test_the_bound_of_a_span_takes_from_the_largest():
    """Three long values come down to one length; short ones and the marks stay."""
    marks = {semconv.LLM_KEEP: True, semconv.LLM_PARENT: "00000000000000b3"}
    span = span_with({
        **marks, "small": "s" * 500, "a": "a" * 9000, "b": "b" * 5000, "c": "c" * 4000,
    })  # fmt: skip
    short = limited(span, Limits(span_bytes=10_000))
    attributes = dict(short.attributes or {})
    assert {key: attributes[key] for key in marks} == marks
    assert attributes["small"] == "s" * 500
    lengths = [len(attributes[key]) for key in "abc"]
    assert max(lengths) - min(lengths) < 10
    assert 9000 < total_bytes(short) <= 10_000


def test_more_entries_than_room_loses_events_before_attributes():
    """Where short values are too many: events and links go, then the largest attributes."""
    events = [Event(f"event {number}", {"k": "v" * 100}) for number in range(100)]
    span = span_with(
        {f"key.{number}": "v" * 100 for number in range(100)} | {semconv.LLM_PARENT: ""},
        events=events,
        links=[Link(CONTEXT, {"k": "v" * 100})] * 50,
    )
    few = limited(span, Limits(span_bytes=20_000))
    assert (len(few.attributes), len(few.links)) == (102, 0)
    assert 0 < len(few.events) < 100
    assert f"events={100 - len(few.events)}" in few.attributes[semconv.TRUNCATED]
    fewest = limited(span, Limits(span_bytes=5000))
    assert not fewest.events
    assert 10 < len(fewest.attributes) < 60
    assert fewest.attributes[semconv.LLM_PARENT] == ""


def test_lists_bytes_and_mappings_are_bounded_too():
    """Lists keep their beginning, each of its items whole but the one that is too long alone."""
    span = span_with({
        "texts": ("a" * 600, "b" * 600), "one": ("x" * 5000,), "vector": (0.5,) * 9000,
        "raw": b"r" * 5000, "map": {"k": "v" * 5000},
    })  # fmt: skip
    attributes = dict(limited(span, Limits(value_bytes=1024)).attributes or {})
    assert attributes["texts"][0] == "a" * 600
    assert len(attributes["texts"][1]) <= 424
    assert len(attributes["one"][0]) <= 1024
    assert attributes["vector"] == (0.5,) * 256
    assert attributes["raw"] == b"r" * 1024
    assert attributes["map"] == "[removed: a mapping]"


def test_the_limits_in_characters_cut_each_text_and_never_the_marks():
    """As the specification has it: items of lists too; own bounds for events; JSON stays JSON."""
    mark = "00000000000000b3"
    span = span_with(
        {"a": "€" * 50, "tags": ("t" * 50, "u"), "json": '{"k": "' + "v" * 50 + '"}',
         semconv.LLM_PARENT: mark, "raw": b"r" * 50},
        events=[Event("e", {"k": "v" * 50})],
    )  # fmt: skip
    short = limited(span, Limits(span_chars=10, part_chars=20))
    attributes = dict(short.attributes or {})
    assert attributes["a"] == "€" * 10
    assert attributes["tags"] == ("t" * 10, "u")
    assert isinstance(json.loads(attributes["json"]), dict)
    assert attributes[semconv.LLM_PARENT] == mark
    assert attributes["raw"] == b"r" * 50
    assert short.events[0].attributes["k"] == "v" * 20
    assert limited(short, Limits(span_chars=10, part_chars=20)) is short


_values = (
    long_text(3000)
    | _documents
    | st.integers()
    | st.booleans()
    | st.lists(long_text(500), max_size=6).map(tuple)
    | st.integers(0, 500).map(lambda count: (0.5,) * count)
    | st.builds(bytes, st.integers(0, 3000))
)
_attributes = st.dictionaries(st.text(min_size=1, max_size=20), _values, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    _attributes,
    st.lists(_attributes, max_size=4),
    st.sampled_from([0, 1024, 1500]),
    st.sampled_from([0, 2048, 4096]),
    st.sampled_from([None, 0, 40]),
)
def test_any_span_comes_within_its_limits_at_once(own, events, value_bytes, span_bytes, chars):
    """Bounds hold for each value and all together, and a second time changes nothing."""
    limits = Limits(value_bytes, span_bytes, chars, chars)
    span = span_with(own, events=[Event(f"e{i}", one) for i, one in enumerate(events)])
    short = limited(span, limits)
    assert limited(short, limits) is short
    texts = [
        (key, item)
        for attributes in (short.attributes, *(event.attributes for event in short.events))
        for key, value in attributes.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if isinstance(item, str | bytes)
    ]
    for key, text in texts:
        size = len(text) if isinstance(text, bytes) else utf8_bytes(text)
        assert not value_bytes or size <= value_bytes
        if chars is not None and isinstance(text, str) and key != semconv.TRUNCATED:
            assert len(text) <= chars
    if span_bytes:
        keys = sum(utf8_bytes(key) for key in short.attributes)
        assert keys + sum(size_of(text) for _, text in texts) <= span_bytes
    if short is not span:
        assert "=" in short.attributes[semconv.TRUNCATED]
    for key, value in own.items():
        left = (short.attributes or {}).get(key)
        if isinstance(value, str) and isinstance(left, str) and len(left) > 1:
            assert not is_document(value) or is_document(left)


def size_of(text: Any) -> int:
    return len(text) if isinstance(text, bytes) else utf8_bytes(text)


def is_document(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list | str)
    except ValueError:
        return False


@settings(max_examples=40, deadline=None)
@given(_attributes, st.sampled_from([Limits(1024, 4096), Limits(2000), Limits(0, 3000), Limits()]))
def test_a_span_whose_encoding_is_harmless_has_nothing_to_cut(own, limits):
    """What lets the encoder skip this step for the price of one comparison is true."""
    span = span_with(own)
    if total_bytes(span) <= limits.harmless_bytes:
        assert limited(span, limits) is span


# -- in the worker ---------------------------------------------------------------------------------
def test_the_encoder_cuts_what_is_too_long_and_nothing_else():
    """The bytes are those of the plain encoder, for the span or for its shorter copy."""
    limits, plain = Limits(1024, 4096), SpanEncoder()
    small, large = span_with({"a": "x" * 900}), span_with({"a": "x" * 2000, "b": 1})
    many = span_with({f"k{number}": "x" * 100 for number in range(12)})  # over no limit
    encoder = LimitedEncoder(limits)
    for span in (small, many):
        assert encoder.encode(span) == plain.encode(span)
    assert encoder.encode(large) == plain.encode(limited(large, limits)) != plain.encode(large)


def test_a_span_that_cannot_be_cut_leaves_whole(monkeypatch, swallow_errors):
    """A failure of this step costs no span."""
    span = span_with({"a": "x" * 2000})
    monkeypatch.setattr(limits_module, "cut", lambda *_: 1 / 0)
    assert LimitedEncoder(Limits(1024)).encode(span) == SpanEncoder().encode(span)


def test_the_sdk_can_be_told_not_to_cut(monkeypatch):
    """With these limits a provider leaves lengths to this step, whatever the environment says."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "10")
    unset = SpanLimits.UNSET
    sdk = SpanLimits(max_attribute_length=unset, max_span_attribute_length=unset)
    span = TracerProvider(span_limits=sdk).get_tracer("t").start_span("s")
    span.set_attribute("messages", json.dumps([message("user", "hello there")]))
    span.add_event("e", {"k": "v" * 50})
    span.end()
    short = limited(span, Limits.of(Settings.from_env()))
    assert json.loads(short.attributes["messages"]) == []
    assert short.events[0].attributes["k"] == "v" * 10


# -- settings --------------------------------------------------------------------------------------
def test_defaults_leave_room_in_one_request():
    """A span with all that it may carry still goes into a request of 4 MB."""
    limits = Limits.of(Settings.from_env({}))
    assert limits == Limits(1 << 20, 3 << 20, None, None)
    assert limits.harmless_bytes == 1 << 20
    huge = span_with({f"k{number}": "x" * (1 << 20) for number in range(5)})
    assert total_bytes(limited(huge, limits)) < 4_000_000


def test_settings_name_each_limit():
    """Own variables take units and 0; OpenTelemetry's general one counts where its own is unset."""
    limits = Limits.of(
        Settings.from_env({
            "OTELBRIDGE_ATTRIBUTE_MAX_BYTES": "64KiB",
            "OTELBRIDGE_SPAN_MAX_BYTES": "0",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "500",
        })
    )  # fmt: skip
    assert limits == Limits(65536, 0, 500, 500)
    own = {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0"}
    assert Limits.of(Settings.from_env(own)) == Limits(1 << 20, 3 << 20, 0, None)
    assert math.log2(Limits().harmless_bytes) > 40
    with pytest.raises(ConfigError, match="OTELBRIDGE_SPAN_MAX_BYTES"):
        Settings.from_env({"OTELBRIDGE_SPAN_MAX_BYTES": "100"})
