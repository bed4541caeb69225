"""The masks of `otelbridge.masks`: what is searched by hand equals the patterns of the table."""

from __future__ import annotations

import random
import re

import pytest

from otelbridge import masks

#: Pieces of secrets, and what stands between them; any row of them may come together.
PIECES = (
    *(
        "eyJ",
        "eyJabcdefgh",
        "abcdefgh",
        ".",
        "-",
        "_",
        "@",
        "a",
        "b.com",
        "example",
        "%",
        "%a",
        "+",
    ),
    *(" ", "\n", "é", "com", "x1", "A1b2C3d4E5f6", "sk-", "AKIA", "Bearer ", "basic ", "xoxb-"),
    *("?key=", "&sig=", "://u:", "=", "/", ":", "[masked:email]", "-----BEGIN PRIVATE KEY-----"),
)
HOSTILE = ("a-", "eyJ-", "@", "a.@", "sk-", "Bearer ", "://a:", "?key", "%+.-", "a@b.", "x@y.com")


def by_patterns(text: str) -> str:
    """The text masked by the table's patterns one after the other, as the Collector does it."""
    for pattern, replacement in masks.MASK_PATTERNS:
        text = re.compile(pattern, re.ASCII).sub(replacement.replace("$1", r"\1"), text)
    return text


def test_text_is_masked_as_the_patterns_say():
    """20,000 rows of pieces: the quick ways find what the patterns find, and nothing else."""
    generator, masked = random.Random(7), 0
    for _ in range(20_000):
        text = "".join(generator.choices(PIECES, k=generator.randint(1, 14)))
        expected = by_patterns(text)
        assert masks.mask_text(text) == expected, text
        assert expected == text or masks.may_hold_secret(text), text
        masked += expected != text
    assert 2_000 < masked < 18_000


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("How does Basic authentication work?", "How does Basic authentication work?"),
        ("bearer token-authentication", "bearer token-authentication"),
        ("call hf_hub_download(repo)", "call hf_hub_download(repo)"),
        ("Basic dXNlcjpwYXNz", "[masked:credential]"),
        ("Bearer abcdefghijk1", "[masked:credential]"),
        ("Bearer 1abcdefghijk", "[masked:credential]"),
        ("hf_" + "a1" * 17, "[masked:api-key]"),
    ],
)
def test_words_are_no_credentials(text: str, masked: str):
    """Ordinary text about authentication stays; what looks like a token goes."""
    assert masks.mask_text(text) == by_patterns(text) == masked


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_is_masked_in_one_pass(piece: str):
    """300 kB that make a backtracking matcher start anew everywhere: hours, if it does."""
    text = piece * (300_000 // len(piece))
    masked = masks.mask_text(f"{text} {text} someone@example.com")
    assert masked.endswith("[masked:email]")
    assert masks.mask_text(masked).endswith("[masked:email]")


def test_attributes_are_masked_beside_identifiers_and_without_credential_headers():
    """Text is masked, identifiers and other types stay, a captured credential goes."""
    mail = "person@example.com"
    attributes = {
        "user.id": mail,
        "note": mail,
        "list": [mail],
        "n": 1,
        "http.request.header.authorization": ["Basic abc"],
        "http.request.header.accept": ["*/*"],
    }
    masked = {**attributes, "note": "[masked:email]"}
    del masked["http.request.header.authorization"]
    assert masks.mask_attributes(attributes) == masked
    assert masks.mask_attributes(attributes, unmasked=()) == {**masked, "user.id": "[masked:email]"}
    assert masks.mask_changes({"user.id": mail, "n": 1}) == {}
