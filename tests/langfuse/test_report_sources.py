"""What a report says of sources that cannot be read, and how long it asks Tempo at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from otelbridge.cli import main
from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse import experiment_data
from otelbridge.langfuse.experiment_data import from_tempo

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_no_search_of_tempo_is_longer_than_it_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven days from a part of a second on: Tempo refuses a search of 168 hours and a second."""
    asked: list[tuple[int, int]] = []

    def searched(url: str) -> list[Any]:
        query = parse_qs(urlsplit(url).query)
        asked.append((int(query["start"][0]), int(query["end"][0])))
        return []

    monkeypatch.setattr(experiment_data, "_searched", searched)
    end = datetime(2026, 11, 8, 12, 0, 0, 700_000, UTC)
    from_tempo("http://127.0.0.1:9", "checkout", end - timedelta(days=7), end)
    assert max(until - begins for begins, until in asked) == 7 * 24 * 3600
    assert asked[0][0] <= (end - timedelta(days=7)).timestamp()
    assert asked[-1][1] >= end.timestamp()


@pytest.mark.parametrize(
    ("url", "told"),
    [("nonsense", "is no http:// or https://"), ("file:///etc/passwd", "is no http:// or https://"),
     ("http://me:hunter2pw@127.0.0.1:9", "no Tempo answers")],
)  # fmt: skip
def test_an_address_that_is_no_tempo_is_told_without_its_password(url: str, told: str) -> None:
    """Only http and https are asked, and a password in the address stays out of the message."""
    with pytest.raises(OtelbridgeError, match=told) as caught:
        from_tempo(url, "checkout", NOW - HOUR, NOW)
    assert "hunter2pw" not in str(caught.value)


def test_a_run_file_that_is_missing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not looked for in Langfuse, which would ask for keys."""
    missing = str(tmp_path / "none.json")
    assert main(["experiment", "report", missing, "--against", missing]) == 2
    assert f"there is no file {missing}" in capsys.readouterr().err
