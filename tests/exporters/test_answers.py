"""The meaning of answers, and the pauses after bad ones."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from otelbridge.exporters.answers import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Pauses,
    Verdict,
    answer,
    retry_after,
)


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.DELIVERED, (200, 202, 204)),
        (Verdict.RETRY, (429, 502, 503, 504)),
        (Verdict.FAULT, (408, 500, 501, 507, 599)),
        (Verdict.TOO_LARGE, (413,)),
        (Verdict.REFUSED, (400, 422)),
        (Verdict.MISCONFIGURED, (301, 302, 307, 308, 401, 403, 404, 405, 415)),
    ],
)
def test_each_status_has_its_class(verdict: Verdict, statuses: tuple[int, ...]) -> None:
    """Statuses fall into the classes of the OTLP specification, and 408 and 5xx are tried again."""
    assert {answer(status, {}, b"").verdict for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0), ("0.5", 0.5), ("-3", 0.0), ("", None), (None, None), ("soon", None),
        ("nan", None), ("1e9", 600.0), ("inf", 600.0),
    ],
)  # fmt: skip
def test_retry_after_numbers(value: str | None, seconds: float | None) -> None:
    """Numbers are taken within 0 to 600 seconds, nonsense is no header."""
    assert retry_after(value) == seconds


def test_retry_after_dates() -> None:
    """A date counts from now, a past one is now, one of next year is cut."""
    now = datetime.now(UTC)
    soon = retry_after(format_datetime(now + timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 27 <= soon <= 30
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
    assert retry_after(format_datetime(now + timedelta(days=300), usegmt=True)) == 600


def test_a_page_as_the_body_of_a_success_is_no_partial_success() -> None:
    """What is no protobuf in an answer of 200 changes nothing."""
    assert answer(200, {}, b"<html>\xff</html>").rejected_spans == 0


def test_pauses_grow_with_full_jitter() -> None:
    """Pauses are spread from 0 to a bound that doubles and stops growing; a success starts anew."""
    drawn: list[list[float]] = []
    for seed in range(200):
        pauses = Pauses(random.Random(seed))
        drawn.append([pauses.next_seconds() for _ in range(8)])
    for position in range(8):
        bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**position)
        values = [row[position] for row in drawn]
        assert max(values) <= bound
        assert min(values) < bound / 4
        assert max(values) > bound * 3 / 4
    pauses.reset()
    assert pauses.next_seconds() <= FIRST_PAUSE_SECONDS
    assert 5 <= pauses.next_seconds(5) <= 5.5
    assert pauses.next_seconds(at_least=9) >= 9
