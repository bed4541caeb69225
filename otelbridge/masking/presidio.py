"""An adapter for Microsoft Presidio (`pip install otelbridge[presidio]`): names, places, and more.

Presidio finds with a language model what no pattern can, at milliseconds a text; it runs in the
export worker, never in a request. Its findings are joined with those of the built-in detectors.
Nothing is imported before `presidio_finder` is called without an analyzer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from otelbridge.errors import DependencyError
from otelbridge.masking.detectors import Place


class Analyzer(Protocol):
    """What is used of `presidio_analyzer.AnalyzerEngine`."""

    def analyze(self, text: str, language: str, **options: Any) -> Iterable[Any]:
        """Results with `entity_type`, `start`, `end` and `score`."""


def presidio_finder(
    analyzer: Analyzer | None = None,
    *,
    language: str = "en",
    entities: Collection[str] | None = None,
    score_threshold: float = 0.5,
) -> Callable[[str], list[Place]]:
    """What Presidio finds, for `finders` of `rules.Masking`.

    Args:
        analyzer: An engine of your own; by default a new `AnalyzerEngine()`, which loads its
            language model here, not at the first span.
        language: Language of the texts, as the analyzer knows it.
        entities: Presidio's names of what to look for (`PERSON`); None for all that it knows.
        score_threshold: From 0 to 1; results below it are left out.
    Raises:
        DependencyError: presidio-analyzer is not installed.
    """
    engine = _engine() if analyzer is None else analyzer
    wanted = list(entities) if entities is not None else None

    def find(text: str) -> list[Place]:
        results = engine.analyze(
            text=text, language=language, entities=wanted, score_threshold=score_threshold
        )
        return [
            (result.start, result.end, str(result.entity_type).lower().replace("_", "-"))
            for result in results
            if result.score >= score_threshold
        ]

    return find


def _engine() -> Analyzer:
    try:
        from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise DependencyError(
            "presidio-analyzer is not installed; pip install 'otelbridge[presidio]' and a model of "
            "spaCy for your language"
        ) from None
    engine: Analyzer = AnalyzerEngine()
    return engine
