"""Evaluators beside the application's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import otelbridge
from otelbridge.langfuse import evaluators, scores
from otelbridge.settings import Settings
from otelbridge.testing.traces import Traces
from tests.langfuse.stand_in import StandIn

TRACE = "0af7651916cd43dd8448eb211c80319c"
OPTIONS = {"trace_id": TRACE}


def test_what_an_evaluator_returns_is_scored(
    stand_in: StandIn, settings: Settings, traces: Traces
) -> None:
    """A value, a mapping and a list; the target is the trace that was current."""

    def quality(answer: str) -> float:
        return len(answer) / 10

    def several(answer: str) -> list[object]:
        return [{"name": "tone", "value": "kind", "comment": answer}, {"value": True}, None]

    with otelbridge.span("work"):
        trace_id = otelbridge.current_trace_id()
        assert otelbridge.evaluate_later(quality, "hello")
        assert otelbridge.evaluate_later(several, answer="hello")
    assert otelbridge.wait_for_evaluators(20)
    assert scores.flush_scores(20)
    found = {one["name"]: one for one in stand_in.scores.values()}
    assert {name: one["value"] for name, one in found.items()} == {
        "quality": 0.5, "tone": "kind", "several": 1,
    }  # fmt: skip
    assert {one["traceId"] for one in found.values()} == {trace_id}
    assert found["tone"]["comment"] == "hello"


def test_an_evaluator_that_fails_is_counted(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error reaches the log by its type, never the caller."""

    def broken() -> float:
        raise RuntimeError("secret text")

    with caplog.at_level(logging.WARNING):
        assert otelbridge.evaluate_later(broken, score_options=OPTIONS)
        assert otelbridge.wait_for_evaluators(20)
    assert scores.score_stats()["evaluators_failed"] == 1
    assert "RuntimeError" in caplog.text
    assert "secret text" not in caplog.text


def test_the_pool_is_bounded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    """At most four run at once, and what does not fit in the queue is refused and counted."""
    monkeypatch.setitem(evaluators._pool, "pool", evaluators._Pool())
    monkeypatch.setattr(evaluators._pool["pool"], "_queue", __import__("queue").Queue(10))
    go, running = threading.Event(), []

    def slow() -> None:
        running.append(1)
        go.wait(20)

    taken = 0
    for _ in range(evaluators.WORKERS):
        taken += otelbridge.evaluate_later(slow, score_options=OPTIONS)
        eventually(lambda: len(running) == taken, 20)  # noqa: B023 - read at once
    taken += sum(otelbridge.evaluate_later(slow, score_options=OPTIONS) for _ in range(20))
    assert taken == evaluators.WORKERS + 10
    assert len(running) == evaluators.WORKERS
    go.set()
    assert otelbridge.wait_for_evaluators(20)
    assert scores.score_stats()["evaluators_refused"] == 10


def test_an_evaluator_runs_in_the_context_of_its_request(
    settings: Settings, traces: Traces
) -> None:
    """A judge that calls a model is in the trace that it judges."""

    def judge() -> float:
        with otelbridge.chat("judge-model", provider="openai"):
            return 0.5

    with otelbridge.request_context(user_id="u-9"), otelbridge.span("work"):
        trace_id = otelbridge.current_trace_id()
        otelbridge.evaluate_later(judge)
    assert otelbridge.wait_for_evaluators(20)
    traces.assert_one('{ name = "score judge" && span.user.id = "u-9" }')
    assert traces.assert_one('{ name = "chat judge-model" }').trace_id == trace_id
