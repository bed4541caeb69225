"""Budgets at work: helpers book and ask, soft limits warn and choose, hard limits refuse."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelbridge
from otelbridge import BudgetExceededError, budgets, choose_model
from otelbridge import semconv as s
from otelbridge.budgets import Budget, BudgetState, checking
from otelbridge.context import update_request
from otelbridge.cost import pricelist

Declare = Callable[..., None]


def spend(usd: float, model: str = "gpt-4o", **options: Any) -> None:
    with otelbridge.chat(model, provider="openai", **options) as call:
        call.set_usage(cost_usd=usd)


def spent(name: str) -> float:
    return next(one.spent_usd for one in budgets.states() if one.budget.name == name)


def test_a_session_is_refused_once_its_budget_is_spent(declare: Declare) -> None:
    """The call that crosses the limit is made; the next is not; another session goes on."""
    declare(Budget("session", 0.05, per="session"))
    with otelbridge.request_context(session_id="s-1"):
        for _ in range(3):
            spend(0.02)
        made = False
        with pytest.raises(BudgetExceededError) as caught, otelbridge.chat("m", provider="p"):
            made = True
        assert not made
    error = caught.value
    assert (error.budget, error.key, error.limit_usd) == ("session", "session=s-1", 0.05)
    assert error.spent_usd == pytest.approx(0.06)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    with otelbridge.request_context(session_id="s-2"):
        spend(0.01)
    spend(0.01)  # no session: not concerned


def test_prices_of_the_list_count(declare: Declare) -> None:
    """A helper that knows tokens only is booked at its price."""
    declare(Budget("day", 100, per="day"))
    with otelbridge.chat("gpt-4o", provider="openai") as call:
        call.set_usage(input_tokens=1_000_000, output_tokens=0)
    assert spent("day") == pytest.approx(2.5)


def test_spans_of_other_emitters_count_once(declare: Declare) -> None:
    """An instrumentation below a helper adds nothing; alone it is priced and booked at its end."""
    declare(Budget("day", 100, per="day"))
    other = trace.get_tracer("opentelemetry.instrumentation.openai_v2")
    facts = {
        s.GEN_AI_OPERATION_NAME: "chat", s.GEN_AI_PROVIDER_NAME: "openai",
        s.GEN_AI_REQUEST_MODEL: "gpt-4o", s.GEN_AI_USAGE_INPUT_TOKENS: 400_000,
        s.GEN_AI_USAGE_OUTPUT_TOKENS: 0,
    }  # fmt: skip
    with otelbridge.chat("gpt-4o", provider="openai") as call:
        with other.start_as_current_span("chat gpt-4o", attributes=facts):
            pass
        call.set_usage(input_tokens=400_000, output_tokens=0)
    assert spent("day") == pytest.approx(1.0)
    with other.start_as_current_span("chat gpt-4o", attributes=facts):
        pass
    assert spent("day") == pytest.approx(2.0)


def test_combined_budgets_and_teams(declare: Declare) -> None:
    """User per day, team per day, and one for a single team, each with its own sum."""
    declare(
        Budget("user-day", 1, per=("user", "day")),
        Budget("team-day", 1, per=("team", "day")),
        Budget("sales", 0.01, per="day", only={"team": "sales"}),
    )
    with otelbridge.request_context(user_id="u-1", metadata={"team": "hr"}):
        spend(0.2)
        assert {one.budget.name for one in budgets.states()} == {"user-day", "team-day"}
    with otelbridge.request_context(user_id="u-1", metadata={"team": "sales"}):
        spend(0.3)
        assert spent("user-day") == pytest.approx(0.5)
        assert spent("team-day") == pytest.approx(0.3)
        with pytest.raises(BudgetExceededError, match="sales"):
            spend(0.1)


def test_cached_answers_and_agents_are_not_refused(declare: Declare) -> None:
    """No model is called for them; the embedding of a refused session is."""
    declare(Budget("all", 0.01))
    spend(0.02)
    spend(0.001, cached=True)
    with otelbridge.invoke_agent("a"), otelbridge.execute_tool("t"), otelbridge.retrieval("d"):
        pass
    with pytest.raises(BudgetExceededError), otelbridge.embeddings("m", provider="p"):
        pass
    assert spent("all") == pytest.approx(0.021)


def test_async_calls_and_streams_are_refused_too(declare: Declare) -> None:
    """`async with`, and `stream` without a block."""
    declare(Budget("all", 0.01))
    spend(0.02)

    async def ask() -> None:
        async with otelbridge.chat("m", provider="p"):
            pass

    with pytest.raises(BudgetExceededError):
        asyncio.run(ask())
    with pytest.raises(BudgetExceededError):
        otelbridge.chat("m", provider="p").stream(iter(["a"]))


def test_a_refused_call_is_a_span_without_a_price(tmp_path: Path) -> None:
    """Error type and budget are on it; it is no generation and has no usage; nothing stays open."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    otelbridge.configure(instrument=False, traces_exporter="none", budgets_directory=str(tmp_path))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    budgets.declare(Budget("session", 0.01, per="session"))
    with otelbridge.request_context(session_id="s-1"):
        spend(0.02)
        with pytest.raises(BudgetExceededError):
            spend(0.02)
        assert not trace.get_current_span().get_span_context().is_valid
    made, refused = exporter.get_finished_spans()
    attributes = dict(refused.attributes or {})
    assert attributes[s.ERROR_TYPE] == "otelbridge.errors.BudgetExceededError"
    assert attributes[s.LANGFUSE_OBSERVATION_TYPE] == "span"
    assert json.loads(attributes[s.LANGFUSE_OBSERVATION_COST_DETAILS]) == {"total": 0}
    assert not any(key.startswith(s.GEN_AI_USAGE_PREFIX) for key in attributes)
    assert attributes[s.BUDGET_NAME] == "session"
    assert attributes[s.BUDGET_SPENT] == pytest.approx(0.02)
    metadata = s.LANGFUSE_OBSERVATION_METADATA_PREFIX
    first = dict(made.attributes or {})
    assert first[metadata + "budget"] == 0.01
    assert first[metadata + "session_cost"] == 0.0
    assert first[metadata + "model_selected"] == "gpt-4o"
    assert first[s.LANGFUSE_OBSERVATION_TYPE] == "generation"


def test_the_cheaper_model_when_little_is_left(declare: Declare) -> None:
    """From the soft limit on, or below an amount that the caller names."""
    declare(Budget("session", 0.50, per="session", soft_usd=0.40))
    with otelbridge.request_context(session_id="s-1"):
        assert choose_model("big", "small") == "big"
        spend(0.35)
        assert choose_model("big", "small") == "big"
        assert choose_model("big", "small", below_usd=0.10) == "big"
        assert choose_model("big", "small", below_usd=0.20) == "small"
        spend(0.06)
        assert choose_model("big", "small") == "small"
    assert choose_model("big", "small") == "big"


def test_limits_are_said_once(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    """One warning and one callback at the soft limit, one at the limit; a failing one is logged."""
    told: list[tuple[str, str]] = []
    declare(Budget("all", 0.03, soft_usd=0.01))
    budgets.on_alert(lambda state: told.append((state.budget.name, state.level)))
    with caplog.at_level(logging.WARNING):
        spend(0.02)
        spend(0.02)
        for _ in range(3):
            with pytest.raises(BudgetExceededError):
                spend(1)
    assert told == [("all", "soft"), ("all", "hard")]
    assert caplog.text.count("spent; ") == 2


def test_another_process_does_not_say_it_again(declare: Declare) -> None:
    """The ledger knows what was said, over restarts."""
    told: list[BudgetState] = []
    declare(Budget("all", soft_usd=0.01))
    budgets.on_alert(told.append)
    spend(0.02)
    checking._state.alerted.clear()  # as after a restart
    spend(0.02)
    assert len(told) == 1


def test_a_failing_callback_harms_nobody(declare: Declare, swallow_errors: None) -> None:
    """What it raises is logged and the call goes on."""

    def fail(_: BudgetState) -> None:
        raise RuntimeError("no mail server")

    declare(Budget("all", soft_usd=0.01))
    budgets.on_alert(fail)
    spend(0.02)
    assert spent("all") == pytest.approx(0.02)


@pytest.mark.parametrize("fails", ["open", "closed"])
def test_when_the_sums_cannot_be_read(
    declare: Declare, tmp_path: Path, fails: str, swallow_errors: None
) -> None:
    """Open: calls go on by what this process knows. Closed: they are refused."""
    blocked = tmp_path / "not-a-directory"
    blocked.write_text("")
    declare(Budget("all", 0.05, fails=fails))
    checking.install((), blocked)
    if fails == "closed":
        with pytest.raises(BudgetExceededError, match="not known"):
            spend(0.02)
        return
    spend(0.02)
    spend(0.02)
    assert not budgets.states()[0].known
    spend(0.02)
    with pytest.raises(BudgetExceededError):
        spend(0.02)


def test_costs_by_other_means(declare: Declare) -> None:
    """`budgets.add` and `budgets.check` for work that no helper stands for."""
    declare(Budget("user", 1, per="user"))
    with otelbridge.request_context(user_id="u-1"):
        budgets.add(0.7)
        assert budgets.check()[0].remaining_usd == pytest.approx(0.3)
        budgets.add(0.7)
        with pytest.raises(BudgetExceededError):
            budgets.check()
    budgets.add(0.1, {s.USER_ID: "u-2"})
    assert budgets.states({s.USER_ID: "u-2"})[0].spent_usd == pytest.approx(0.1)


def test_nothing_is_written_without_a_budget(tmp_path: Path) -> None:
    """No budget: no file."""
    otelbridge.configure(
        instrument=False, traces_exporter="none", budgets_directory=str(tmp_path / "b")
    )
    spend(0.02)
    assert not (tmp_path / "b").exists()


def test_declare_takes_budgets_only() -> None:
    """A mistake in the program is said at once."""
    with pytest.raises(TypeError, match="str"):
        budgets.declare("session")  # type: ignore[arg-type]


def test_a_budget_of_the_same_name_is_replaced(declare: Declare) -> None:
    """Code wins over the file, the newest over older ones."""
    declare(Budget("all", 1))
    declare(Budget("all", 2))
    assert [one.limit_usd for one in budgets.budgets()] == [2.0]


@pytest.mark.parametrize("answered", ["set_usage", "record", "stream"])
def test_calls_of_traces_that_are_not_sampled_count(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, answered: str
) -> None:
    """Head sampling saves spans, not money; such calls are refused as well."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    declare(Budget("session", 2.0, per="session"))
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    chunk = {"object": "chat.completion.chunk", "choices": [], "usage": usage}
    with otelbridge.request_context(session_id="s-1"):
        with otelbridge.chat("gpt-4o", provider="openai") as call:
            if answered == "set_usage":
                call.set_usage(input_tokens=1_000_000, output_tokens=0)
            elif answered == "record":
                call.record({"choices": [{}], "usage": usage})
            else:
                stream = call.stream(iter([chunk]))
        if answered == "stream":
            list(stream)  # read behind the block
        assert not call.span.is_recording()
        assert spent("session") == pytest.approx(2.5)
        with pytest.raises(BudgetExceededError):
            spend(1.0)


def test_cached_calls_that_are_not_sampled_cost_what_is_said(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing by themselves."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    declare(Budget("all", 2.0))
    with otelbridge.chat("gpt-4o", provider="openai", cached=True) as call:
        call.set_usage(input_tokens=1_000_000, output_tokens=0)
    assert spent("all") == 0.0


_OTHER_SERVICE = """
import sys
import otelbridge
from otelbridge import budgets
otelbridge.configure(instrument=False, traces_exporter="none", budgets_directory=sys.argv[1])
budgets.declare(budgets.Budget("session", 0.05, per="session"))
with otelbridge.request_context(session_id="s-1"), otelbridge.chat("m", provider="p") as call:
    call.set_usage(cost_usd=0.06)
"""


def test_what_another_process_spent_counts(declare: Declare, tmp_path: Path) -> None:
    """A second service of this machine spends the session's budget; this one refuses."""
    declare(Budget("session", 0.05, per="session"))
    with otelbridge.request_context(session_id="s-1"):
        spend(0.01)
        command = [sys.executable, "-c", _OTHER_SERVICE, str(tmp_path)]
        subprocess.run(command, check=True, timeout=60)
        with pytest.raises(BudgetExceededError) as caught:
            spend(0.01)
    assert caught.value.spent_usd == pytest.approx(0.07)


def test_spans_of_others_wait_for_the_price_list(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended while the list loads, they are booked with the next one."""
    declare(Budget("day", 100, per="day"))
    facts = {
        s.GEN_AI_OPERATION_NAME: "chat", s.GEN_AI_PROVIDER_NAME: "openai",
        s.GEN_AI_REQUEST_MODEL: "gpt-4o", s.GEN_AI_USAGE_INPUT_TOKENS: 400_000,
        s.GEN_AI_USAGE_OUTPUT_TOKENS: 0,
    }  # fmt: skip
    other = trace.get_tracer("opentelemetry.instrumentation.openai_v2")
    with monkeypatch.context() as patch:
        patch.setattr(pricelist.PriceList, "is_done", False)
        other.start_span("chat gpt-4o", attributes=facts).end()
        assert spent("day") == 0.0
    other.start_span("chat gpt-4o", attributes=facts).end()
    assert spent("day") == pytest.approx(2.0)


def test_a_user_that_is_named_late_has_the_budget(declare: Declare) -> None:
    """What the older APIs say in the middle of a request counts for the calls after it."""
    declare(Budget("user", 0.05, per="user"))
    with trace.get_tracer("web").start_as_current_span("POST /ask"):
        with otelbridge.span("step"):
            update_request(user_id="u-late")
        spend(0.06)
        assert spent("user") == pytest.approx(0.06)
        with pytest.raises(BudgetExceededError, match="u-late"):
            spend(0.01)
