"""Texts and values are masked whole or in part, JSON stays JSON, nothing leaves on a failure."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelbridge import _guard
from otelbridge.masking.rules import Masking, Pattern, load
from otelbridge.masking.text import FAILED, TextMasker

MAIL = "jane.doe@example.com"
CARD = "4111 1111 1111 1111"
SALT = "a salt of this test"
DEFAULT = load().text_masker()


@pytest.fixture(scope="module")
def masker() -> TextMasker:
    return load().text_masker()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"mail": "jane.doe@example.com", "n": 1.50}', '{"mail": "[masked:email]", "n": 1.5}'),
        ('[{"content":"line\\njane.doe@example.com"}]', '[{"content":"line\\n[masked:email]"}]'),
        ('{"a":"jane\\u002edoe\\u0040example.com"}', '{"a":"[masked:email]"}'),
        ('{"card": 4111111111111111}', '{"card": "[masked:card]"}'),
        (
            '{"card": 4111111111111111, "note": "a\\nb"}',
            '{"card": "[masked:card]", "note": "a\\nb"}',
        ),
        ('{"password": "p", "user": "u"}', '{"password": "[masked:secret]", "user": "u"}'),
        ('{"password": 12345678}', '{"password": "[masked:secret]"}'),
        ('{"password": {"type": "string"}}', '{"password": {"type": "string"}}'),
        ('{"token": "string", "api_key": null}', '{"token": "string", "api_key": null}'),
        ('{"jane.doe@example.com": 3}', '{"[masked:email]": 3}'),
        (
            '{"args": "{\\"password\\": \\"x y1\\"}"}',
            '{"args": "{\\"password\\": \\"[masked:secret]\\"}"}',
        ),
        ('{"이름": "김", "전화": "010-1234-5678"}', '{"이름": "김", "전화": "[masked:phone]"}'),
        ('{"cut": "jane.doe@example.com", "op', '{"cut": "[masked:email]", "op'),
        ('{"tokens": 1763754223123, "id": 4111111111111111111}', None),
        ('{"a": [1, 2.0, true, null, "x"], "b": {"c": "d"}}', None),
    ],
)
def test_json_is_masked_inside_and_stays_json(masker: TextMasker, text: str, left: str | None):
    """Values change one by one; text without a secret comes back as the same object."""
    masked = masker.mask(text)
    assert masked == (text if left is None else left)
    if left is None:
        assert masked is text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from([MAIL, CARD, "password=hunter2", "a\n" + MAIL]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.booleans())
def test_any_json_stays_json(value: dict[str, object], ascii_only: bool):
    """Whatever stands in it: the result can be read, and has neither address nor card."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    masked = DEFAULT.mask(text)
    json.loads(masked)
    assert MAIL not in masked
    assert CARD not in masked


def test_values_of_every_attribute_type(masker: TextMasker):
    """Lists, tuples, mappings and bytes are looked into; other types and clean ones stay."""
    assert masker.value((MAIL, "x")) == ("[masked:email]", "x")
    assert masker.value([1, {"a": MAIL}]) == [1, {"a": "[masked:email]"}]
    assert masker.value(f"to {MAIL}".encode()) == b"to [masked:email]"
    assert masker.value(4111111111111111) == "[masked:card]"
    for clean in (
        1763754223123,
        2**63,
        True,
        None,
        1.5,
        math.inf,
        ("a", "b"),
        {"a": 1},
        b"\xff\x00",
    ):
        assert masker.value(clean) is clean


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("db.password", "hunter", "[masked:secret]"),
        ("app.api_key", "abc123def", "[masked:secret]"),
        ("gen_ai.request.max_tokens", "4096", "4096"),
        ("csrf_token", "Zx8kQ1vB7nM3pL5wT2yR", "[masked:secret]"),
        (
            "csrf_token",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ),
        ("password", "${DB_PASSWORD}", "${DB_PASSWORD}"),
        ("password", "must have at least 8 characters", "must have at least 8 characters"),
    ],
)
def test_a_telling_name_masks_the_whole_value(masker: TextMasker, name: str, value: str, left: str):
    """`password` does so for whatever is a password, `token` for what was drawn."""
    assert masker.value(value, name) == left


def test_hash_last_four_and_allowed_texts():
    """Equal texts get equal hashes under one salt and others under another; last4 keeps four."""
    rules = {"email": "hash", "card": "last4"}
    one, other = Masking(detectors=rules, salt=SALT), Masking(detectors=rules, salt=SALT + "!")
    masked = one.text_masker().mask(f"{MAIL} {CARD} {MAIL}")
    first, card, last = masked.split()
    assert first == last
    assert first.startswith("[hash:email:")
    assert card == "[masked:card:1111]"
    assert other.text_masker().mask(MAIL) != first
    allowing = Masking(allow=["*@example.com"]).text_masker()
    assert allowing.mask(f"{MAIL} x@example.org") == f"{MAIL} [masked:email]"


def test_own_patterns_and_functions():
    """A pattern, a group of it, and a function find beside the built-in ones, in JSON too."""

    def shouting(text: str) -> list[tuple[int, int]]:
        return [(text.index("LOUD"), text.index("LOUD") + 4)] if "LOUD" in text else []

    masker = Masking(
        patterns=[Pattern("employee", r"EMP-\d{6}"), Pattern("room", r"^room (?P<secret>\d+)$")],
        finders={"loud": shouting},
    ).text_masker()
    assert (
        masker.mask(f"EMP-123456 {MAIL} LOUD") == "[masked:employee] [masked:email] [masked:loud]"
    )
    assert masker.mask("room 17") == "room [masked:room]"
    assert masker.mask('{"a":"room 17"}') == '{"a":"room [masked:room]"}'


@pytest.mark.parametrize(
    "wrong", [lambda _: 1 / 0, lambda _: [(0, 99)], lambda _: ["no offsets"], lambda _: 5]
)
def test_a_function_that_fails_costs_the_whole_value(wrong, caplog: pytest.LogCaptureFixture):
    """The value is replaced, counted each time, and warned of once."""
    masker = Masking(finders={"wrong": wrong}).text_masker()
    before = sum(n for place, n in _guard.failures().items() if place.startswith("masking"))
    for _ in range(3):
        assert masker.mask(f"harmless, or {MAIL}") == FAILED
    assert masker.value(["a"]) == FAILED
    after = sum(n for place, n in _guard.failures().items() if place.startswith("masking"))
    assert after - before == 4
    assert len([r for r in caplog.records if "masking" in r.getMessage()]) <= 1


def test_hostile_values_fail_closed(masker: TextMasker):
    """Deep nesting and objects that raise when looked at become the marker, nothing raises."""
    deep: list[object] = [MAIL]
    for _ in range(5000):
        deep = [deep]

    class Raising(dict[str, str]):
        def items(self):
            raise RuntimeError("no")

    assert MAIL not in str(masker.value(deep))
    assert masker.value(Raising()) == FAILED
    assert MAIL not in masker.mask("[" * 50_000 + f'"{MAIL}"' + "]" * 50_000)
    assert masker.mask("\ud800 " + MAIL) == "\ud800 [masked:email]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/u/jane.doe%40example.com/x%20y", "/u/[masked:email]/x%20y"),
        ("q=4111%201111%201111%201111&a=%2F", "q=[masked:card]&a=%2F"),
        (
            "u=https%3A%2F%2Fbob%3Ahunter2%40h%2Fx",
            "u=https%3A%2F%2Fbob%3A[masked:password]%40h%2Fx",
        ),
        (r"{'a': 'x\njane\u002edoe\u0040example.com\n'", r"{'a': 'x\n[masked:email]\n'"),
        (r"C:\new\4111111111111111\t", r"C:\new\[masked:card]\t"),
        (r"\n\npassword=abc123\n\n", r"\n\npassword=[masked:secret]\n\n"),
        ("100% of 5%4 %zz %", "100% of 5%4 %zz %"),
    ],
)
def test_escapes_do_not_hide_a_secret(masker: TextMasker, text: str, left: str):
    """Percent-encoded, and in text that was quoted once more and is no JSON; the rest stays."""
    assert masker.mask(text) == left


@given(st.lists(st.sampled_from(["%40", "\\n", "\\u00e9", "a", " ", "%", "\\", MAIL]), max_size=9))
def test_what_is_beside_a_finding_stays(parts: list[str]):
    """However escapes stand: between two blanks the address goes, and both ends are there."""
    text = "".join(parts)
    masked = DEFAULT.mask(f"{text} | {MAIL} | {text}")
    assert " | [masked:email] | " in masked
    left, _, right = masked.partition(" | [masked:email] | ")
    assert left == right or MAIL in text


@given(
    st.lists(st.sampled_from([MAIL, CARD, "010 1234 5678", "3", "id", "order", "://a:", "token"]))
)
def test_values_are_found_as_if_each_were_alone(parts: list[str]):
    """One search over all values of a JSON text says no more and no less than one for each."""
    masked = json.loads(DEFAULT.mask(json.dumps({"v": parts, "a\nb": "c\nd"})))["v"]
    assert masked == [DEFAULT.mask(part) for part in parts]
