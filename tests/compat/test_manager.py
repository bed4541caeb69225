"""The manager shape: every row of its table as written, on and off, in tasks and threads."""

# ruff: noqa: DTZ005 - times without a zone, as the applications write them
from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta

import pytest

import otelbridge
from otelbridge.compat import NO_OP
from otelbridge.compat.manager import LangfuseConfig, LangfuseManager
from tests.compat.conftest import Spans, attribute, id_of, output, parent_of, trace_of


def run_query(manager: LangfuseManager, question: str, *, session: str, user: str) -> None:
    """A Text2SQL request as an application writes it."""
    trace = manager.trace(
        "text2sql_query",
        input={"user_query": question, "query_id": f"q-{session}"},
        session_id=session,
        user_id=user,
    )
    search = manager.span("vector_search", input=question, span_type="RETRIEVAL")
    search.update(output={"found_samples": 2}, level="DEFAULT", end_time=datetime.now())
    sql = trace.span("generate_sql", input=question, span_type="LLM")
    sql.update(output="SELECT 1", end_time=datetime.now())
    manager.event("query_completed", output={"result_count": 1, "execution_time": 0.2})
    manager.end_trace(output={"generated_sql": "SELECT 1", "result_count": 1})


def test_a_request_is_one_tree_with_its_user_and_session_on_every_span(on: Spans) -> None:
    """Trace, spans and event of one request share trace, user, session and parent."""
    run_query(LangfuseManager(), "how many", session="session_1", user="ada")
    root = on.one("text2sql_query")
    assert root.parent is None
    for name in ("vector_search", "generate_sql", "query_completed"):
        span = on.one(name)
        assert parent_of(span) == id_of(root)
        assert attribute(span, "user.id") == "ada"
        assert attribute(span, "session.id") == "session_1"
        assert attribute(span, "trace.name") == "text2sql_query"
    assert output(root) == {"generated_sql": "SELECT 1", "result_count": 1}
    assert attribute(root, "observation.metadata.success") == "true"


@pytest.mark.parametrize(
    ("span_type", "observation", "operation"),
    [
        ("DEFAULT", "span", None),
        ("LLM", "generation", "chat"),
        ("RETRIEVAL", "retriever", "retrieval"),
        ("TOOL", "tool", "execute_tool"),
        ("AGENT", "agent", "invoke_agent"),
        ("EMBEDDING", "embedding", "embeddings"),
    ],
)
def test_a_span_type_is_an_observation_type(
    on: Spans, span_type: str, observation: str, operation: str | None
) -> None:
    """Each of the six types has its type in Langfuse and its operation in Tempo."""
    manager = LangfuseManager()
    manager.trace("t")
    manager.span("step", span_type=span_type)
    manager.end_trace()
    assert attribute(on.one("step"), "observation.type") == observation
    assert attribute(on.one("step"), "gen_ai.operation.name") == operation


def test_config_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`LANGFUSE_ENABLED/HOST/PUBLIC_KEY/SECRET_KEY` fill the data class; keys are not shown."""
    monkeypatch.setenv("LANGFUSE_ENABLED", "true")
    monkeypatch.setenv("LANGFUSE_HOST", "https://langfuse.internal")
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-1")
    config = LangfuseConfig.from_env()
    assert config == LangfuseConfig(True, "https://langfuse.internal", "pk-lf-1", "sk-lf-1")
    assert "sk-lf-1" not in repr(config)


def test_without_keys_the_config_is_off_in_direct_mode_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that sends to a Collector needs no keys; direct export does, with one warning."""
    assert LangfuseConfig().enabled
    monkeypatch.setenv("OTELBRIDGE_EXPORT", "direct")
    assert not LangfuseConfig().enabled
    assert len([r for r in caplog.records if "is missing" in r.message]) == 1


def test_a_failed_start_logs_an_error_and_disables(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting that cannot be used does not end the application."""
    monkeypatch.setenv("OTELBRIDGE_EXPORT", "sideways")
    manager = LangfuseManager(LangfuseConfig())
    assert manager.is_enabled() is False
    assert any(record.levelname == "ERROR" for record in caplog.records)
    assert manager.trace("t") is NO_OP
    assert not LangfuseManager().is_enabled()


@pytest.mark.parametrize("variable", ["LANGFUSE_ENABLED", "OTEL_SDK_DISABLED"])
def test_off_gives_one_falsy_object_that_takes_every_call(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """`if t:` and bare calls both work on what an inactive manager gives."""
    monkeypatch.setenv(variable, "false" if variable == "LANGFUSE_ENABLED" else "true")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    manager = LangfuseManager()
    assert manager.is_enabled() is False
    trace = manager.trace("t", input={"a": 1}, session_id="s", user_id="u")
    span = manager.span("s", input=1, span_type="LLM")
    event = manager.event("e", output={}, level="ERROR")
    assert trace is span is event is NO_OP
    assert not trace
    assert trace.span("x").update(output=1, level="ERROR", end_time=datetime.now()) is NO_OP
    with trace.span("y") as inner:
        inner.end()
    assert (str(trace.id), list(trace), trace.anything.at.all(1)) == ("", [], NO_OP)
    manager.end_trace(output=1, error=ValueError("x"))
    manager.session_id, manager.user_id = "s-2", "u-2"
    assert (manager.session_id, manager.user_id) == ("s-2", "u-2")


def test_end_trace_with_an_error_marks_the_trace(on: Spans) -> None:
    """Text and exceptions both fail the trace and say what happened."""
    manager = LangfuseManager()
    manager.trace("by text")
    manager.end_trace(error="no such table")
    manager.trace("by exception")
    manager.end_trace(error=ValueError("no such column"))
    for name, words in (("by text", "no such table"), ("by exception", "ValueError: no such col")):
        span = on.one(name)
        assert span.status.status_code.name == "ERROR"
        assert words in attribute(span, "observation.status_message")
        assert attribute(span, "observation.level") == "ERROR"
        assert attribute(span, "observation.metadata.success") == "false"
    assert [event.name for event in on.one("by exception").events] == ["exception"]


def test_update_with_level_error_fails_a_span_while_the_request_goes_on(on: Spans) -> None:
    """A failed vector search is an error; the trace around it is not."""
    manager = LangfuseManager()
    manager.trace("t")
    search = manager.span("vector_search", span_type="RETRIEVAL")
    search.update(output={"error": "down"}, level="ERROR", end_time=datetime.now())
    manager.end_trace(output="ok")
    assert on.one("vector_search").status.status_code.name == "ERROR"
    assert on.one("t").status.status_code.name == "UNSET"


def test_end_time_ends_a_span_at_that_time(on: Spans) -> None:
    """An `end_time` is the end; one that cannot be (another zone's clock) becomes now."""
    manager = LangfuseManager()
    manager.trace("t")
    moment = datetime.now() + timedelta(seconds=2)
    manager.span("later").update(end_time=moment)
    manager.span("before it began").update(end_time=datetime.now() - timedelta(hours=9))
    manager.end_trace()
    assert on.one("later").end_time == int(moment.timestamp() * 10**9)
    wrong = on.one("before it began")
    assert wrong.end_time >= wrong.start_time


def test_a_trace_ends_what_was_left_open_below_it(on: Spans) -> None:
    """A span without `end_time` is not lost."""
    manager = LangfuseManager()
    trace = manager.trace("t")
    trace.span("open").span("open below")
    manager.span("open too")
    manager.end_trace()
    assert on.names() == ["open", "open below", "open too", "t"]


def test_an_event_is_an_observation_and_a_span_event(on: Spans) -> None:
    """Langfuse gets an event observation, Tempo an event on the trace's span, without texts."""
    manager = LangfuseManager()
    manager.trace("t")
    manager.event(
        "error_analysis",
        output={"error_type": "ValueError", "error_message": "a user's own words", "tries": 2},
        level="ERROR",
    )
    manager.end_trace()
    span = on.one("error_analysis")
    assert attribute(span, "observation.type") == "event"
    assert output(span)["error_message"] == "a user's own words"
    (event,) = on.one("t").events
    assert event.name == "error_analysis"
    assert dict(event.attributes or {}) == {
        "error_type": "ValueError", "tries": 2, "level": "ERROR",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["query_id", "request_id", "message_id"])
def test_a_late_event_finds_its_trace_by_the_id_in_it(on: Spans, key: str) -> None:
    """Feedback that comes after the request joins the request's trace."""
    manager = LangfuseManager()
    manager.trace("t", input={key: "id-7"})
    manager.end_trace()
    manager.event("user_feedback", input={key: "id-7", "satisfaction": 5})
    assert trace_of(on.one("user_feedback")) == trace_of(on.one("t"))
    assert parent_of(on.one("user_feedback")) == id_of(on.one("t"))


def test_an_event_of_nothing_known_makes_a_small_trace(on: Spans) -> None:
    """An id that nobody knows costs no event."""
    LangfuseManager().event("query_quality", output={"score": 0.9}, metadata={"query_id": "?"})
    span = on.one("query_quality")
    assert span.parent is None
    assert attribute(span, "otelbridge.llm.keep") is True


def test_session_and_user_have_defaults_and_are_settable(on: Spans) -> None:
    """`session_<time>` and `anonymous`, until they are set; a trace takes what was set."""
    manager = LangfuseManager()
    assert re.fullmatch(r"session_\d{8}_\d{6}", manager.session_id)
    assert manager.user_id == "anonymous"

    def in_a_request_of_its_own() -> None:
        manager.session_id, manager.user_id = "s-1", "ada"
        manager.trace("t")
        assert (manager.session_id, manager.user_id) == ("s-1", "ada")
        manager.user_id = "bob"
        assert manager.user_id == "bob"
        manager.span("s")
        manager.end_trace()

    copy_context().run(in_a_request_of_its_own)
    assert manager.user_id == "anonymous"
    assert attribute(on.one("s"), "user.id") == "bob"
    assert attribute(on.one("t"), "user.id") == "bob"


def test_a_trace_joins_the_trace_that_is_current(on: Spans) -> None:
    """Under a server's span a trace is part of the shared trace, and model calls are below it."""
    manager = LangfuseManager()
    with otelbridge.span("POST /query"):
        manager.trace("text2sql_query", user_id="ada")
        with otelbridge.chat("gpt-4o", provider="openai"):
            pass
        manager.end_trace()
    assert parent_of(on.one("text2sql_query")) == id_of(on.one("POST /query"))
    assert parent_of(on.one("chat gpt-4o")) == id_of(on.one("text2sql_query"))
    assert attribute(on.one("chat gpt-4o"), "user.id") == "ada"


async def _ask(manager: LangfuseManager, number: int) -> None:
    manager.trace("q", session_id=f"s-{number}", user_id=f"u-{number}")
    for _ in range(3):
        await asyncio.sleep(0)
        assert (manager.session_id, manager.user_id) == (f"s-{number}", f"u-{number}")
        manager.span("step", input=number)
    manager.event("done", output={"number": number})
    manager.end_trace(output={"number": number})


def _check_unmixed(on: Spans, requests: int) -> None:
    traces: dict[str, set[str]] = {}
    for span in on.all():
        traces.setdefault(trace_of(span), set()).add(
            f"{attribute(span, 'user.id')}/{attribute(span, 'session.id')}"
        )
    assert len(traces) == requests
    assert sorted(who for found in traces.values() for who in found) == sorted(
        f"u-{number}/s-{number}" for number in range(requests)
    )


def test_two_hundred_concurrent_tasks_never_mix(on: Spans) -> None:
    """One manager serves 200 tasks at once: each trace has one user and one session."""
    manager = LangfuseManager()

    async def main() -> None:
        await asyncio.gather(*(_ask(manager, number) for number in range(200)))

    asyncio.run(main())
    _check_unmixed(on, 200)


def test_concurrent_threads_of_a_pool_never_mix(on: Spans) -> None:
    """Threads that serve one request after the other see only their own."""
    manager = LangfuseManager()
    barrier = threading.Barrier(4)

    def serve(number: int) -> None:
        barrier.wait(20)
        assert manager.current_trace is None
        assert manager.user_id == "anonymous"
        asyncio.run(_ask(manager, number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(serve, range(40)))
    _check_unmixed(on, 40)


def test_a_trace_may_be_ended_by_another_thread(on: Spans) -> None:
    """What this thread does next is not below the ended trace."""
    manager = LangfuseManager()

    def whole_request() -> None:
        manager.trace("t", user_id="ada")
        inherited = copy_context()
        thread = threading.Thread(target=lambda: inherited.run(manager.end_trace, "done"))
        thread.start()
        thread.join(20)
        manager.span("after").end()
        manager.trace("next")
        manager.end_trace()

    copy_context().run(whole_request)
    assert on.one("t").end_time is not None
    assert on.one("after").parent is None
    assert on.one("next").parent is None
    assert attribute(on.one("next"), "user.id") == "anonymous"


def test_a_session_set_under_a_server_span_ends_with_the_request(on: Spans) -> None:
    """In a thread that serves another request next, the next one starts without it."""
    manager = LangfuseManager()
    with otelbridge.span("first request"):
        manager.user_id = "ada"
        assert manager.user_id == "ada"
    with otelbridge.span("second request"):
        assert manager.user_id == "anonymous"


def test_steps_of_an_async_generator_stay_in_one_trace(on: Spans) -> None:
    """A2A streaming: an event for each step, each step resumed in another task."""
    manager = LangfuseManager()

    async def steps() -> AsyncIterator[int]:
        trace = manager.trace("a2a_streaming_processing", user_id="a2a_stream_user")
        for number in range(3):
            trace.event("streaming_step", output={"step": number})
            yield number
        trace.update(output={"streaming_messages_sent": 3})
        trace.end()

    async def main() -> None:
        stream = steps()
        for _ in range(3):
            await asyncio.create_task(anext(stream))  # type: ignore[arg-type]  # a coroutine
        assert [item async for item in stream] == []

    asyncio.run(main())
    root = on.one("a2a_streaming_processing")
    found = [span for span in on.all() if span.name == "streaming_step"]
    assert [parent_of(span) for span in found] == [id_of(root)] * 3
    assert {attribute(span, "user.id") for span in found} == {"a2a_stream_user"}


def test_hostile_values_stay_outside_of_the_application(on: Spans) -> None:
    """Values that raise when they are looked at cost only themselves."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

        __str__ = __repr__

    manager = LangfuseManager()
    manager.trace("t", input=Hostile(), session_id="s")
    manager.span("s", input={"a": Hostile()}).update(output=Hostile(), model="m", nonsense=1)
    manager.event("e", output={"x": Hostile()}, level="LOUD")
    manager.end_trace(output=Hostile())
    assert on.names() == ["e", "s", "t"]
