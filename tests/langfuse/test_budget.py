"""Budgets and Langfuse's metrics: what is asked, in both generations, and what becomes of answers.

The stand-in checks each query by the rules of the real routes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import otelbridge
from otelbridge import BudgetExceededError, budgets
from otelbridge import semconv as s
from otelbridge.budgets import Budget, checking
from otelbridge.budgets.ledger import Ledger
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.langfuse import budget
from otelbridge.langfuse.client import LangfuseApi
from otelbridge.langfuse.costs import CostReader
from otelbridge.settings import Settings
from tests.langfuse.stand_in import Generation, StandIn

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
V2, V1 = "/api/public/v2/metrics", "/api/public/metrics"


def call(usd: float, *, ago: timedelta = timedelta(), **row: Any) -> dict[str, Any]:
    started = max(NOW - ago, TODAY) if ago < timedelta(days=1) else NOW - ago
    return {"startTime": started.isoformat(), "totalCost": usd, **row}


def rows() -> list[dict[str, Any]]:
    return [
        call(0.25, userId="u-1", sessionId="s-1", metadata={"team": "sales"}),
        call(0.50, userId="u-1", sessionId="s-2", metadata={"team": "hr"}),
        call(1.00, userId="u-2", sessionId="s-3", metadata={"team": "sales"}),
        call(4.00, userId="u-2", sessionId="s-1", ago=timedelta(days=2)),
        call(8.00, ago=timedelta(days=2)),
    ]


@pytest.fixture(autouse=True)
def this_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began before midnight may come here after it."""
    now = datetime.now(UTC)
    monkeypatch.setitem(globals(), "NOW", now)
    monkeypatch.setitem(globals(), "TODAY", now.replace(hour=0, minute=0, second=0, microsecond=0))


@pytest.fixture(params=["v4", "v3"])
def langfuse(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    generation: Generation = request.param
    with StandIn(generation) as running:
        running.state["costs"] = rows()
        yield running


@pytest.fixture(autouse=True)
def fresh_budgets() -> Iterator[None]:
    """No budget of another test."""
    checking.reset()
    yield
    otelbridge.shutdown(1)
    checking.reset()


def settings_for(langfuse: StandIn, directory: Path, **variables: str) -> Settings:
    own = {"OTEL_TRACES_EXPORTER": "none", "OTELBRIDGE_BUDGETS_DIR": str(directory)}
    return Settings.from_env({**own, **langfuse.environment, **variables})


@pytest.fixture
def reader(langfuse: StandIn, tmp_path: Path) -> Iterator[CostReader]:
    with LangfuseApi(settings_for(langfuse, tmp_path).langfuse) as api:
        yield CostReader(api)


def test_sums_of_both_generations(reader: CostReader, langfuse: StandIn) -> None:
    """In all, of a session, a user and a team, by day and by user."""
    ends, begins = NOW + timedelta(seconds=1), TODAY
    long_ago = NOW - timedelta(days=30)
    assert reader.total({}, begins, ends) == pytest.approx(1.75)
    assert reader.total({"session": "s-1"}, long_ago, ends) == pytest.approx(4.25)
    assert reader.total({"user": "u-1"}, begins, ends) == pytest.approx(0.75)
    assert reader.total({"team": "sales"}, begins, ends) == pytest.approx(1.25)
    assert reader.total({"user": "nobody"}, begins, ends) == 0.0
    assert reader.by(["user"], {}, long_ago, ends) == {("u-2",): 5.0, ("u-1",): 0.75}
    assert reader.by(["session", "user"], {}, begins, ends)["s-1", "u-1"] == 0.25
    by_day = reader.by_day({}, long_ago, ends)
    assert by_day[TODAY.date().isoformat()] == pytest.approx(1.75)
    assert sum(by_day.values()) == pytest.approx(13.75)
    asked = [one.path for one in langfuse.seen]
    if langfuse.generation == "v4":
        assert set(asked) == {V2}
    else:
        assert asked.count(V2) == 1  # the 404 is learned once
        assert {one.status for one in langfuse.requests(V1)} == {200}


def test_wrong_keys_are_a_configuration_error(langfuse: StandIn, tmp_path: Path) -> None:
    """Not a sum of zero."""
    wrong = settings_for(langfuse, tmp_path, LANGFUSE_SECRET_KEY="sk-lf-wrong").langfuse
    with LangfuseApi(wrong) as api, pytest.raises(ConfigError, match="LANGFUSE_SECRET_KEY"):
        CostReader(api).total({}, TODAY, NOW)


def test_get_session_cost_answers(langfuse: StandIn, tmp_path: Path) -> None:
    """Langfuse's sum; the own one while it is higher; users and days likewise."""
    otelbridge.configure(settings_for(langfuse, tmp_path), instrument=False)
    assert otelbridge.get_session_cost("s-1") == pytest.approx(4.25)
    assert budget.get_user_cost("u-1") == pytest.approx(0.75)
    assert budget.get_user_cost("u-2", day=NOW - timedelta(days=2)) == pytest.approx(4.0)
    assert budget.get_day_cost() == pytest.approx(1.75)
    budgets.declare(Budget("session", 100, per="session"))
    budgets.add(5.0, {s.SESSION_ID: "s-1"})
    assert otelbridge.get_session_cost("s-1") == pytest.approx(5.0)


def test_get_session_cost_without_langfuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage or missing keys: the sum of this machine, else 0.0 and a warning; no exception."""
    with StandIn() as langfuse:
        settings = settings_for(langfuse, tmp_path)
    otelbridge.configure(settings, instrument=False)
    assert otelbridge.get_session_cost("s-1") == 0.0
    assert "did not answer" in caplog.text
    budgets.declare(Budget("session", 100, per="session"))
    budgets.add(0.5, {s.SESSION_ID: "s-1"})
    assert otelbridge.get_session_cost("s-1") == pytest.approx(0.5)


def sums(book: Ledger) -> dict[str, float]:
    return {one.key: round(one.spent_usd, 9) for one in book.newest() or []}


def test_reconciling_every_kind_of_budget(reader: CostReader, tmp_path: Path) -> None:
    """What other machines spent is in the sums of this one."""
    book, day = Ledger(tmp_path), f"day={NOW.date().isoformat()}"
    book.add([f"{day},team=sales"], 0.1)
    budget.reconcile(
        book,
        (
            Budget("day", 10, per="day"),
            Budget("user", 10, per=("user", "day")),
            Budget("session", 10, per="session"),
            Budget("team", 10, per=("team", "day")),
            Budget("sales", 10, per="day", only={"team": "sales"}),
        ),
        reader,
    )
    assert sums(book) == {
        day: 1.75,
        f"{day},user=u-1": 0.75, f"{day},user=u-2": 1.0,
        "session=s-1": 4.25, "session=s-2": 0.5, "session=s-3": 1.0,
        f"{day},team=sales": 1.25,
    }  # fmt: skip
    book.close()


def test_a_server_that_does_not_group_by_user(tmp_path: Path) -> None:
    """As the client's documentation has it: then the sums that are known here are asked for."""
    with StandIn("v4") as langfuse:
        langfuse.state.update(costs=rows(), metrics={"strict": True})
        book, day = Ledger(tmp_path), f"day={NOW.date().isoformat()}"
        book.add([f"{day},user=u-1", "day=2020-01-01,user=u-2"], 0.1)
        with LangfuseApi(settings_for(langfuse, tmp_path).langfuse) as api:
            budget.reconcile(book, (Budget("user", 10, per=("user", "day")),), CostReader(api))
        assert sums(book)[f"{day},user=u-1"] == 0.75
        assert [one.status for one in langfuse.seen] == [400, 200]
        book.close()


def test_what_langfuse_cannot_know_yet_is_neither_lost_nor_counted_twice(tmp_path: Path) -> None:
    """It is asked up to the moment at which the own sums were noted; younger spending is added."""
    with StandIn("v4") as langfuse:
        book, key = Ledger(tmp_path), "all"
        book.add([key], 1.0)
        noted = time.time() - 120
        book.mark(noted)
        book.add([key], 0.5)  # after the note: Langfuse may know it or not
        early, late = timedelta(seconds=600), timedelta(seconds=30)
        old = {"startTime": (NOW - early).isoformat(), "totalCost": 3.0}
        young = {"startTime": (NOW - late).isoformat(), "totalCost": 0.5}
        langfuse.state["costs"] = [old, young]
        with LangfuseApi(settings_for(langfuse, tmp_path).langfuse) as api:
            budget.reconcile(book, (Budget("all", 10),), CostReader(api))
        assert sums(book)[key] == 3.5
        book.close()


def test_asking_again_within_a_minute(tmp_path: Path) -> None:
    """The note is too young to ask up to it; nothing is counted twice."""
    with StandIn("v4") as langfuse:
        book = Ledger(tmp_path)
        book.add(["all"], 1.0)
        started = (NOW - timedelta(seconds=600)).isoformat()
        langfuse.state["costs"] = [{"startTime": started, "totalCost": 3.0}]
        with LangfuseApi(settings_for(langfuse, tmp_path).langfuse) as api:
            budget.reconcile(book, (Budget("all", 10),), CostReader(api))
            book.add(["all"], 0.5)
            assert sums(book) == {"all": 3.5}
            langfuse.state["costs"].append({"startTime": started, "totalCost": 0.5})
            budget.reconcile(book, (Budget("all", 10),), CostReader(api))
        assert sums(book) == {"all": 3.5}
        book.close()


def test_a_running_service_learns_what_others_spent(
    langfuse: StandIn, tmp_path: Path, eventually: Any
) -> None:
    """The first call asks in the background; once the answer is there, calls are refused."""
    settings = settings_for(langfuse, tmp_path)
    otelbridge.configure(settings, instrument=False)
    budgets.declare(Budget("session", 2.0, per="session"))
    request = {s.SESSION_ID: "s-1"}
    budgets.states(request)
    eventually(lambda: budgets.states(request)[0].spent_usd > 4)
    with (
        otelbridge.request_context(session_id="s-1"),
        pytest.raises(BudgetExceededError),
        otelbridge.chat("m", provider="p"),
    ):
        pass
    asked = len(langfuse.seen)
    budgets.states(request)
    assert len(langfuse.seen) == asked


def test_an_outage_leaves_the_sums_of_this_machine(
    tmp_path: Path, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """429 and a dead server: one warning, calls go on by the own sums."""
    with StandIn("v4") as langfuse:
        langfuse.fail(429, V2, retry_after=60)
        otelbridge.configure(settings_for(langfuse, tmp_path), instrument=False)
        budgets.declare(Budget("all", 2.0))
        with otelbridge.chat("m", provider="p") as made:
            made.set_usage(cost_usd=0.5)
        eventually(lambda: "sums known here" in caplog.text)
        assert budgets.states()[0].spent_usd == 0.5


def test_reconciling_can_be_switched_off(langfuse: StandIn, tmp_path: Path) -> None:
    """OTELBRIDGE_BUDGETS_RECONCILE=0 asks nothing."""
    settings = settings_for(langfuse, tmp_path, OTELBRIDGE_BUDGETS_RECONCILE="0")
    otelbridge.configure(settings, instrument=False)
    budgets.declare(Budget("all", 2.0))
    checking.states({})
    assert checking._state.asked_at == float("-inf")
    assert langfuse.seen == []


def test_an_answer_without_data_is_an_error(langfuse: StandIn, tmp_path: Path) -> None:
    """A proxy's page is no sum."""
    langfuse.fail(200, "/api/public/", body={"hello": "world"})
    with (
        LangfuseApi(settings_for(langfuse, tmp_path).langfuse) as api,
        pytest.raises(OtelbridgeError, match="without data"),
    ):
        CostReader(api).total({}, TODAY, NOW)
