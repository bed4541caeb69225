"""`otelbridge budget`: sums for people, exit status for cron."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from otelbridge.budgets.ledger import Ledger
from otelbridge.cli import main
from tests.langfuse.stand_in import StandIn

DAY = f"day={datetime.now(UTC).date().isoformat()}"
FILE = """
[[budget]]
name = "day"
per = "day"
limit_usd = 10
[[budget]]
name = "user"
per = ["user", "day"]
limit_usd = 2
"""


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of budgets, a directory of sums, no Langfuse."""
    monkeypatch.setitem(globals(), "DAY", f"day={datetime.now(UTC).date().isoformat()}")
    (tmp_path / "b.toml").write_text(FILE)
    monkeypatch.setenv("OTELBRIDGE_BUDGETS_FILE", str(tmp_path / "b.toml"))
    monkeypatch.setenv("OTELBRIDGE_BUDGETS_DIR", str(tmp_path / "sums"))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "sums")
    yield made
    made.close()


@pytest.fixture
def langfuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A Langfuse that knows of 11 USD today, of another machine."""
    with StandIn() as running:
        now = datetime.now(UTC).replace(hour=0, minute=0, second=1)
        running.state["costs"] = [
            {"startTime": now.isoformat(), "totalCost": 11.0, "userId": "u-9"}
        ]
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def test_status_shows_every_budget(book: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """The fullest sum of a budget first; yesterday's are not shown."""
    book.add([DAY, f"{DAY},user=u-1"], 1.7)
    book.add([f"{DAY},user=u-2", "day=2020-01-01"], 2.5)
    assert main(["budget", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "day: per day, limit $10, soft $8"
    assert [line.split()[1] for line in lines if line.startswith("  ")] == [
        "$1.7000", "$2.5000", "$1.7000",
    ]  # fmt: skip
    assert "u-2" in lines[3]
    assert lines[3].endswith("SPENT")
    assert lines[4].endswith("soft limit reached")
    assert main(["budget", "status", "--top", "1", "--budget", "user"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "  and 1 more"


def test_check_is_for_cron(book: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """0 within budget, 1 when one is spent; --soft and --budget narrow and widen it."""
    assert main(["budget", "check"]) == 0
    book.add([DAY, f"{DAY},user=u-1"], 1.7)
    assert main(["budget", "check", "--quiet"]) == 0
    assert main(["budget", "check", "--soft"]) == 1
    assert main(["budget", "check", "--soft", "--budget", "day"]) == 0
    book.add([f"{DAY},user=u-1"], 0.5)
    capsys.readouterr()
    assert main(["budget", "check", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["reached"]
    assert (row["budget"], row["key"], row["level"]) == ("user", f"{DAY},user=u-1", "hard")
    assert row["spent_usd"] == 2.2


def test_check_asks_langfuse_first(
    langfuse: StandIn, book: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """What other machines spent counts, unless it is not to be asked."""
    assert main(["budget", "check", "--offline"]) == 0
    assert main(["budget", "check"]) == 1
    out = capsys.readouterr().out
    assert "$11.0000" in out
    assert "user=u-9" in out


def test_check_fails_open_unless_strict(
    langfuse: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Langfuse away: a warning and the own sums; with --strict exit status 2."""
    langfuse.down()
    assert main(["budget", "check"]) == 0
    assert "this machine alone" in capsys.readouterr().err
    assert main(["budget", "check", "--strict"]) == 2


@pytest.mark.parametrize(
    "words", [["check", "--file", "nowhere.toml"], ["check", "--budget", "none"], ["bake"], []]
)
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and a reason."""
    assert main(["budget", *words]) == 2
    assert capsys.readouterr().err


def test_without_a_file_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variable is named."""
    monkeypatch.delenv("OTELBRIDGE_BUDGETS_FILE")
    assert main(["budget", "status"]) == 2
    assert "OTELBRIDGE_BUDGETS_FILE" in capsys.readouterr().err


def test_report_puts_the_stores_side_by_side(
    langfuse: StandIn, book: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Days and users by Langfuse, this machine's days, the Collector's sum by Prometheus."""
    book.add([DAY], 3.0)
    asked: list[str] = []

    def prometheus(url: str, *, params: dict[str, Any], timeout: float) -> httpx.Response:
        asked.append(params["query"])
        found = {"data": {"result": [{"value": [0, "10.5"]}]}}
        return httpx.Response(200, json=found, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", prometheus)
    assert main(["budget", "report", "--json", "--prometheus", "http://127.0.0.1:9090"]) == 0
    found = json.loads(capsys.readouterr().out)
    today = DAY.removeprefix("day=")
    assert found["langfuse_usd_by_day"] == {today: 11.0}
    assert found["langfuse_usd_by_user"] == {"u-9": 11.0}
    assert found["machine_usd_by_day"] == {today: 3.0}
    assert found["prometheus_usd"] == 10.5
    assert "otelbridge_gen_ai_cost_usd_total[" in asked[0]
    assert main(["budget", "report"]) == 0
    assert "$11.0000" in capsys.readouterr().out


def test_a_prometheus_that_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning; with --strict exit status 2."""
    words = ["budget", "report", "--prometheus", "http://127.0.0.1:9"]
    assert main(words) == 0
    assert "http://127.0.0.1:9 did not answer" in capsys.readouterr().err
    assert main([*words, "--strict"]) == 2
    assert main(["budget", "report", "--prometheus", "http://me:hunter2pw@127.0.0.1:9"]) == 0
    assert "hunter2pw" not in capsys.readouterr().err
