"""docs/scores.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import otelbridge
from otelbridge import request_ids
from otelbridge.langfuse import (
    evaluators,
    feedback,
    score_body,
    score_delivery,
    score_helpers,
    score_signals,
    scores,
)
from otelbridge.local.traceql import parser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")


def test_every_name_of_the_page_is_public() -> None:
    """`otelbridge.x` and the helpers of the table are names of the package or of its signals."""
    calls = set(re.findall(r"`(score_\w+)\(", PAGE))
    assert calls == {name for name in vars(score_helpers) if name.startswith("score_")}
    named = set(re.findall(r"\botelbridge\.(\w+)\(", PAGE)) | calls
    assert named - {"score_body"} <= set(otelbridge.__all__)
    for metric in (score_signals.VALUES, score_signals.COUNTS):
        assert f"`{metric}`" in PAGE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"the last {request_ids.REMEMBERED:,} requests", True),
        (f"`{score_delivery.UNRESOLVED}`", True),
        (f"after 1 to {score_delivery._LONGEST_LOOK_SECONDS:g} seconds",
         score_delivery._FIRST_LOOK_SECONDS == 1),
        (f"for {score_delivery.UNKNOWN_SECONDS / 3600:g} hours", True),
        (f"for {score_delivery.UNANSWERED_SECONDS / 86400:g} days", True),
        (f"at most {feedback.MAX_BODY_BYTES // 1024} KiB", True),
        ("one of four threads", evaluators.WORKERS == 4),
        (f"{evaluators.WAITING:,} evaluations", True),
        (f"cut at {score_body.MAX_TEXT_CHARACTERS} characters", True),
    ],
)  # fmt: skip
def test_figures_of_the_page_are_those_of_the_code(text: str, value: bool) -> None:
    """Limits and times."""
    assert value
    assert text in re.sub(r"\s+", " ", PAGE)


def test_queries_and_links_of_the_page_work() -> None:
    """TraceQL is TraceQL, and every file that it refers to is there."""
    queries = re.findall(r"^\{ .* \}$", PAGE, re.MULTILINE)
    assert len(queries) == 3
    for query in queries:
        parser.parse(query)
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_counts_of_the_page_are_counts() -> None:
    """Names of `score_stats` stand in its docstring or in the page."""
    known = (scores.score_stats.__doc__ or "") + PAGE
    for name in ("delivered", "queued", "held", "unresolved", "resolved", "refused", "off"):
        assert f"`{name}`" in known
