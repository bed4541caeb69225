"""What a budget is, whose sum a call counts for, and files of budgets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import otelbridge
from otelbridge.budgets.rules import Budget, parts_of, read_budgets_file
from otelbridge.errors import ConfigError

LATE = datetime(2026, 11, 20, 20, 30, tzinfo=UTC)
REQUEST = {"user.id": "u-1", "session.id": "s-1", "langfuse.trace.metadata.team": "sales"}


@pytest.mark.parametrize(
    ("budget", "key"),
    [
        (Budget("b", 1), "all"),
        (Budget("b", 1, per="session"), "session=s-1"),
        (Budget("b", 1, per=("user", "day")), "day=2026-11-20,user=u-1"),
        (Budget("b", 1, per=("month",)), "month=2026-11"),
        (Budget("b", 1, per=("day",), only={"team": "sales"}), "day=2026-11-20,team=sales"),
        (Budget("b", 1, per=("metadata.team",)), "metadata.team=sales"),
        (Budget("b", 1, per=("day",), timezone="Asia/Seoul"), "day=2026-11-21@Asia/Seoul"),
        (Budget("b", 1, only={"team": "hr"}), None),
        (Budget("b", 1, per=("metadata.shop",)), None),
    ],
)
def test_whose_sum_a_call_counts_for(budget: Budget, key: str | None) -> None:
    """The key names period and owner; a request that a budget does not concern has none."""
    assert budget.key(REQUEST, LATE) == key


def test_values_cannot_pretend_to_be_parts() -> None:
    """A user id with separators stays one part, and comes back as it was."""
    name = "a,day=2020-01-01=%,é"
    key = Budget("b", 1, per=("user", "day")).key({"user.id": name}, LATE)
    assert key is not None
    assert parts_of(key) == {"day": "2026-11-20", "user": name}


def test_days_and_months_begin_in_their_time_zone() -> None:
    """20:30 UTC is the next day in Seoul, which began at 15:00 UTC."""
    day = Budget("b", 1, per=("day",), timezone="Asia/Seoul").begins(LATE)
    assert day is not None
    assert day.astimezone(UTC) == datetime(2026, 11, 20, 15, tzinfo=UTC)
    month = Budget("b", 1, per=("month",)).begins(LATE)
    assert month == datetime(2026, 11, 1, tzinfo=UTC)
    assert Budget("b", 1, per="session").begins(LATE) is None


def test_the_soft_limit_is_four_fifths_unless_it_is_said() -> None:
    """Exactly, as people write amounts."""
    assert Budget("b", 0.05).soft_usd == 0.04
    assert Budget("b", 1, soft_usd=0.5).soft_usd == 0.5
    assert Budget("b", soft_usd=3).limit_usd is None


ENTRIES: list[dict[str, Any]] = [
    {"name": "session", "per": ["session"], "limit_usd": 0.5},
    {"name": "team", "per": "day", "only": {"team": "sales"}, "soft_usd": 20, "fails": "closed"},
]
TOML = """
[[budget]]
name = "session"
per = ["session"]
limit_usd = 0.5
[[budget]]
name = "team"
per = "day"
only = {team = "sales"}
soft_usd = 20
fails = "closed"
"""


def as_yaml(entries: list[dict[str, Any]]) -> str:
    yaml = pytest.importorskip("yaml")
    text: str = yaml.safe_dump({"budget": entries})
    return text


@pytest.mark.parametrize("form", ["toml", "json", "yaml"])
def test_a_file_in_three_forms(form: str, tmp_path: Path) -> None:
    """TOML, JSON and YAML say the same."""
    texts = {"toml": lambda: TOML, "json": lambda: json.dumps({"budget": ENTRIES}),
             "yaml": lambda: as_yaml(ENTRIES)}  # fmt: skip
    path = tmp_path / f"budgets.{form}"
    path.write_text(texts[form]())
    assert read_budgets_file(str(path)) == (
        Budget("session", 0.5, per=("session",)),
        Budget("team", None, 20.0, per=("day",), only={"team": "sales"}, fails="closed"),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"per": "session", "limit_usd": 1}, "budget 1.*name"),
        ({"name": "x"}, r"budget 1 \(x\).*limit_usd or soft_usd"),
        ({"name": "x", "limit_usd": -1}, "0 or more"),
        ({"name": "x", "limit_usd": True}, "0 or more"),
        ({"name": "x", "limit_usd": "1"}, "0 or more"),
        ({"name": "x", "limit_usd": 1, "soft_usd": 2}, "not more than limit_usd"),
        ({"name": "x", "limit_usd": 1, "per": ["week"]}, "not 'week'"),
        ({"name": "x", "limit_usd": 1, "per": ["day", "month"]}, "not both"),
        ({"name": "x", "limit_usd": 1, "per": 3}, "per"),
        ({"name": "x", "limit_usd": 1, "per": [3]}, "not 3"),
        ({"name": "x", "limit_usd": 1, "only": {"day": "x"}}, "only"),
        ({"name": "x", "limit_usd": 1, "fails": "soft"}, "open or closed"),
        ({"name": "x", "limit_usd": 1, "timezone": "Mars/Base"}, "Mars/Base"),
        ({"name": "x", "limit_usd": 1, "limit": 2}, "limit"),
        ("x", "a mapping"),
    ],
)
def test_a_mistake_in_a_file_is_named(entry: object, said: str, tmp_path: Path) -> None:
    """The error says which entry and what is allowed."""
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"budget": [entry]}))
    with pytest.raises(ConfigError, match=said) as caught:
        read_budgets_file(str(path))
    assert caught.value.variable == "OTELBRIDGE_BUDGETS_FILE"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.toml", "[[budget"), ("b.json", "[]"), ("b.json", "{"), ("b.yaml", "a: [b"),
        ("b.ini", ""), ("b.json", '{"budgets": []}'), ("b.json", '{"budget": {}}'),
        ("missing.json", None),
        ("b.json", '{"budget": [{"name":"a","limit_usd":1},{"name":"a","limit_usd":2}]}'),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(name: str, text: str | None, tmp_path: Path) -> None:
    """No budgets are made up from half a file."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match="OTELBRIDGE_BUDGETS_FILE"):
        read_budgets_file(str(path))


def test_configure_reads_the_file_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    """Budgets of OTELBRIDGE_BUDGETS_FILE are in force after `configure`; a mistake stops it."""
    path = tmp_path / "b.toml"
    path.write_text(TOML)
    settings: dict[str, Any] = {"traces_exporter": "none", "budgets_directory": str(tmp_path)}
    otelbridge.configure(instrument=False, budgets_file=str(path), **settings)
    from otelbridge import budgets

    assert [one.name for one in budgets.budgets()] == ["session", "team"]
    otelbridge.shutdown(1)
    path.write_text("[[budget]]\nname = 'x'\n")
    with pytest.raises(ConfigError, match="limit_usd"):
        otelbridge.configure(instrument=False, budgets_file=str(path), **settings)
