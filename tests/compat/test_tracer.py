"""The tracer shape: class methods, `trace_span`, the client's scores and events, on and off."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from otelbridge.compat import NO_OP
from otelbridge.compat.tracer import Tracer, get_client, get_langfuse_callback, trace_span
from otelbridge.context import request_id
from tests.compat.conftest import Spans, attribute, id_of, output, parent_of, trace_of


def test_initialize_switches_on_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class methods start tracing by LANGFUSE_* alone; release and environment are honoured."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("LANGFUSE_RELEASE", "r-7")
    monkeypatch.setenv("LANGFUSE_ENVIRONMENT", "Staging")
    assert Tracer.initialize() is True
    assert Tracer.is_enabled() is True
    assert Tracer.get_client() is Tracer.get_client() is get_client()
    Tracer.flush()
    with trace_span("t") as t:
        attributes = t._call.span.attributes
    assert attributes["langfuse.release"] == "r-7"
    assert attributes["langfuse.environment"] == "staging"


def test_off_gives_none_for_client_and_handler_and_the_no_op_for_spans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only `get_client()` and `get_langfuse_callback()` give None."""
    monkeypatch.setenv("LANGFUSE_ENABLED", "false")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    Tracer.initialize()
    assert (Tracer.is_enabled(), Tracer.get_client(), get_client()) == (False, None, None)
    assert get_langfuse_callback(session_id="s", user_id="u", metadata={}, tags=[]) is None
    with trace_span("t", user_id="u", metadata={"a": 1}, anything="else") as t:
        assert t is NO_OP
        assert not t
        t.update(output=1, metadata={}, status="completed")
    with pytest.raises(ZeroDivisionError), trace_span("t"):
        raise ZeroDivisionError


def test_a_trace_span_says_what_it_was_given_and_updated(on: Spans) -> None:
    """User and metadata go to the request, output and status to the span."""
    with trace_span("recommend", user_id="u-1", metadata={"query": "shoes"}, tags=["web"]) as t:
        assert t
        with trace_span("intent_classification") as step:
            step.update(output={"intent": "buy"}, metadata={"model": "llama3"}, status="completed")
        t.update(output={"items": 3}, status="completed")
    root, step_span = on.one("recommend"), on.one("intent_classification")
    assert parent_of(step_span) == id_of(root)
    assert attribute(step_span, "user.id") == "u-1"
    assert attribute(step_span, "trace.metadata.query") == "shoes"
    assert attribute(step_span, "trace.name") == "recommend"
    assert attribute(step_span, "observation.metadata.model") == "llama3"
    assert output(root) == {"items": 3}
    assert attribute(root, "trace.tags") == ("web",)


def test_status_error_and_exceptions_fail_the_span(on: Spans) -> None:
    """`status="error"` is a failure; an exception is recorded and goes on to the caller."""
    with trace_span("said") as t:
        t.update(status="error", metadata={"why": "empty"})
    with pytest.raises(ValueError, match="bad"), trace_span("raised"):
        raise ValueError("bad")
    assert on.one("said").status.status_code.name == "ERROR"
    assert on.one("raised").status.status_code.name == "ERROR"
    assert [event.name for event in on.one("raised").events] == ["exception"]


def test_it_nests_in_tasks_and_threads_without_mixing(on: Spans) -> None:
    """Workflow steps in tasks of one request stay below it; requests beside it are their own."""

    async def step(name: str) -> None:
        with trace_span(name):
            await asyncio.sleep(0)

    async def request(number: int) -> None:
        with trace_span(f"request {number}", user_id=f"u-{number}"):
            await asyncio.gather(*(step(f"step {number}") for _ in range(3)))

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(50)))

    asyncio.run(main())
    thread = threading.Thread(target=lambda: asyncio.run(request(50)))
    thread.start()
    thread.join(20)
    for number in range(51):
        root = on.one(f"request {number}")
        steps = [span for span in on.all() if span.name == f"step {number}"]
        assert [parent_of(span) for span in steps] == [id_of(root)] * 3
        assert {attribute(span, "user.id") for span in steps} == {f"u-{number}"}


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What reaches `otelbridge.langfuse.scores.score`."""
    from otelbridge.langfuse import scores

    given: list[dict[str, Any]] = []

    def score(name: str, value: Any, **target: Any) -> str:
        given.append({"name": name, "value": value, **target})
        return "id"

    monkeypatch.setattr(scores, "score", score)
    return given


def test_client_scores_are_scores_of_the_trace(on: Spans, scored: list[dict[str, Any]]) -> None:
    """The scores in use: success, error with a comment, a rating of 4.5."""
    client = Tracer.get_client()
    assert client is not None
    client.score(trace_id="0" * 31 + "1", name="api_success", value=1.0)
    client.score(trace_id="req-1", name="api_error", value=0.0, comment="timeout")
    client.score("req-1", "user_rating", 4.5)
    assert [(one["name"], one["value"], one["trace_id"]) for one in scored] == [
        ("api_success", 1.0, "0" * 31 + "1"),
        ("api_error", 0.0, "req-1"),
        ("user_rating", 4.5, "req-1"),
    ]
    assert scored[1]["comment"] == "timeout"


def test_a_recommendation_id_finds_its_trace(on: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """An id of the application's own, named in metadata, is known to scores and events."""
    from otelbridge import request_ids

    with trace_span("recommend", metadata={"recommendation_id": "rec-9"}):
        pass
    root = on.one("recommend")
    seen = request_ids.trace_of("rec-9")
    assert seen is not None
    assert (seen.trace_id, seen.span_id) == (trace_of(root), id_of(root))
    client = Tracer.get_client()
    assert client is not None
    client.event(name="clicked", metadata={"recommendation_id": "rec-9", "position": 2})
    assert trace_of(on.one("clicked")) == trace_of(root)
    assert request_id() is None


def test_a_score_that_cannot_be_one_does_not_raise(on: Spans) -> None:
    """Wrong names and values are logged; the application goes on."""
    client = Tracer.get_client()
    assert client is not None
    assert client.score(trace_id="0" * 31 + "1", name="", value=1) == ""
    assert client.score(trace_id="0" * 31 + "1", name="x", value=object()) == ""
    assert client.score(trace_id=None, name="x", value=1) == ""
