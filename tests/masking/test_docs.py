"""The tables and examples of docs/masking.md are true."""

from __future__ import annotations

import re
from pathlib import Path

from otelbridge.masking.detectors import KINDS, OPTIONAL
from otelbridge.masking.rules import load

PAGE = (Path(__file__).parents[2] / "docs" / "masking.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[list[str], list[str]]]:
    section = PAGE.partition("## What is found by default")[2].partition("\n## ")[0]
    return {
        kind: (re.findall(r"`([^`]+)`", examples), re.findall(r"`([^`]+)`", results))
        for kind, examples, results in _ROW.findall(section)
    }


def test_the_page_has_a_row_for_every_kind():
    """And for none that does not exist."""
    assert sorted(rows()) == sorted(KINDS)
    assert "off unless asked for" in PAGE
    assert set(OPTIONAL) == {"ip"}


def test_every_example_becomes_what_the_page_says():
    """One result for all examples of a row, or one for each."""
    masker = load().text_masker()
    for kind, (examples, results) in rows().items():
        expected = results if len(results) > 1 else results * len(examples)
        if kind != "private-key":
            assert [masker.mask(example) for example in examples] == expected, kind


def test_the_rules_of_the_page_can_be_loaded():
    """As they are printed."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    masking = load("true", text, "a salt of this test")
    assert (
        masking.text_masker().mask("EMP-123456 a@example.org") == "[masked:employee] a@example.org"
    )
    assert masking.key_action("user.id") == "hash"
