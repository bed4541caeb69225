"""Values that raise when they are looked at, in every argument of the older APIs."""

from __future__ import annotations

import random
from typing import Any, NoReturn

import pytest

from otelbridge.compat.langfuse_v2 import Langfuse, langfuse_context, observe
from otelbridge.compat.manager import LangfuseManager
from otelbridge.compat.tracer import trace_span
from tests.compat.conftest import Spans

FIELDS = (
    "name", "input", "output", "metadata", "level", "status", "status_message", "end_time",
    "version", "model", "model_parameters", "usage", "usage_details", "cost_details", "prompt",
    "completion_start_time", "user_id", "session_id", "tags", "error", "unknown",
)  # fmt: skip


class Evil:
    """Raises whatever is done with it."""

    def _no(self, *_: Any) -> NoReturn:
        raise RuntimeError("no")

    __getattr__ = __str__ = __repr__ = __eq__ = __bool__ = __iter__ = __len__ = _no
    __hash__ = None  # type: ignore[assignment]  # unhashable, as a user's class may be


VALUES: tuple[Any, ...] = (
    None, 1, -1, 2**80, float("nan"), "x", "\ud800", "", b"\xff", [], {}, {"a": Evil()}, [Evil()],
    Evil(), object(), True, {1: 2}, {"input": "x", "output": -4}, {"total": Evil()}, "ERROR", set(),
    len, ValueError("x"), {"query_id": Evil()}, {"query_id": 5},
)  # fmt: skip


@pytest.mark.usefixtures("swallow_errors")
def test_no_value_of_any_argument_raises_or_loses_a_trace(on: Spans) -> None:
    """300 rounds of every call with values picked at random: each trace still ends."""
    dice = random.Random(7)
    manager, client = LangfuseManager(), Langfuse()

    def value() -> Any:
        return dice.choice(VALUES)

    @observe()
    def observed() -> None:
        langfuse_context.update_current_trace(user_id=value(), metadata=value(), tags=value())
        langfuse_context.update_current_observation(**fields)

    rounds = 300
    for number in range(rounds):
        fields = {name: value() for name in dice.sample(FIELDS, 4)}
        trace = manager.trace(f"round {number}", input=value(), session_id=value(), user_id=value())
        assert trace
        manager.span(value(), input=value(), span_type=value())
        trace.span(value(), value(), value()).update(**fields)
        trace.score(value(), value(), value())
        manager.event(value(), value(), value(), value())
        manager.user_id = value()
        assert isinstance(manager.user_id, str)
        manager.end_trace(value(), value())
        manager.event(value(), value(), value(), value())
        with trace_span(value(), value(), value(), session_id=value(), tags=value()) as t:
            t.update(**fields)
        with langfuse_context.configure(value(), value()):
            observed(langfuse_parent_trace_id=value(), langfuse_user_id=value())
        client.trace(id=value(), name=value(), metadata=value()).end(end_time=value())
        client.generation(trace_id=value(), name=value(), usage=value()).end()
    ended = {span.name for span in on.all()}
    assert {f"round {number}" for number in range(rounds)} <= ended
    assert manager.current_trace is None
