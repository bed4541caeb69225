"""The adapter for Presidio: by its interface, and with the real package where it is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import pytest

from otelbridge.errors import DependencyError
from otelbridge.masking.presidio import presidio_finder
from otelbridge.masking.rules import Masking


@dataclass
class Result:
    """As `presidio_analyzer.RecognizerResult`."""

    entity_type: str
    start: int
    end: int
    score: float


class Analyzer:
    """Knows one name, as `presidio_analyzer.AnalyzerEngine` might."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def analyze(self, text: str, language: str, **options: Any) -> list[Result]:
        self.calls.append({"language": language, **options})
        found = text.find("Jane Doe")
        if "boom" in text:
            raise RuntimeError("no model")
        if found < 0:
            return []
        return [
            Result("PERSON", found, found + 8, 0.85),
            Result("LOCATION", 0, len(text), 0.2),
            Result("EMAIL_ADDRESS", found, found + 8, 0.5),
        ]


def test_findings_are_joined_with_the_built_in_ones():
    """Presidio's names of things become kinds; what scores too low does not count."""
    analyzer = Analyzer()
    masker = Masking(
        finders={"presidio": presidio_finder(analyzer, language="de", entities=["PERSON"])}
    ).text_masker()
    assert masker.mask("Jane Doe, 010-1234-5678") == "[masked:email-address], [masked:phone]"
    assert masker.mask('{"a":"by Jane Doe"}') == '{"a":"by [masked:email-address]"}'
    assert analyzer.calls[0] == {"language": "de", "entities": ["PERSON"], "score_threshold": 0.5}


def test_a_failing_analyzer_costs_the_value():
    """Fails closed, like every function of the application."""
    masker = Masking(finders={"presidio": presidio_finder(Analyzer())}).text_masker()
    assert masker.mask("boom, Jane Doe") == "[masked:failed]"
    hashing = Masking(
        finders={"presidio": presidio_finder(Analyzer())},
        detectors={"presidio": "last4"},
    )
    assert hashing.text_masker().mask("Jane Doe Dr.").startswith("Jane Doe") is False


def test_without_the_package_the_message_says_what_to_install():
    """Only the default analyzer needs it."""
    if importlib.util.find_spec("presidio_analyzer") is not None:
        pytest.skip("presidio-analyzer is installed")
    with pytest.raises(DependencyError, match=r"otelbridge\[presidio\]"):
        presidio_finder()


def test_the_real_package_finds_by_its_patterns():
    """One recogniser of the real package, no language model."""
    presidio = pytest.importorskip("presidio_analyzer")
    pattern = presidio.Pattern("badge", r"BADGE-\d+", 0.9)
    badge = presidio.PatternRecognizer("BADGE", patterns=[pattern])

    class Engine:
        def analyze(self, text: str, language: str, **options: Any) -> Any:
            return badge.analyze(text, ["BADGE"])

    masker = Masking(finders={"presidio": presidio_finder(Engine())}).text_masker()
    assert masker.mask("BADGE-77 enters") == "[masked:badge] enters"
