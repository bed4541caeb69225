"""Code for the Langfuse SDK v2 as written: imports, `observe`, `langfuse_context`, `Langfuse()`."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

import otelbridge
from otelbridge.compat import install, uninstall
from otelbridge.compat.langfuse_v2 import Langfuse, langfuse_context, observe
from tests.compat.conftest import Spans, attribute, id_of, output, parent_of, trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def test_the_imports_of_v2_work_after_install() -> None:
    """`langfuse.decorators`, `langfuse.callback` and `langfuse.Langfuse` are those of v2."""
    with pytest.raises(ModuleNotFoundError):
        __import__("langfuse.decorators")
    install()
    install()
    from langfuse import Langfuse as FromPackage
    from langfuse.decorators import langfuse_context as context  # type: ignore[import-not-found]
    from langfuse.decorators import observe as decorator

    assert (FromPackage, context, decorator) == (Langfuse, langfuse_context, observe)
    uninstall()
    import langfuse

    assert langfuse.Langfuse is not Langfuse
    assert "langfuse.decorators" not in sys.modules


def test_the_variable_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTELBRIDGE_COMPAT=langfuse_v2` is enough."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTELBRIDGE_COMPAT", "langfuse_v2")
    otelbridge.configure(instrument=False)
    from langfuse.decorators import observe as decorator

    assert decorator is observe


def test_handler_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from langfuse.callback import CallbackHandler` takes what v2's took."""
    pytest.importorskip("langchain_core")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    install()
    from langfuse.callback import CallbackHandler  # type: ignore[import-not-found]

    handler = CallbackHandler(
        public_key="pk-lf-1", secret_key="sk-lf-1", host="http://127.0.0.1:9", user_id="u",
        session_id="s", metadata={"a": 1}, tags=["t"],
    )  # fmt: skip
    assert handler.get_trace_id() is None


def test_nested_observed_functions_are_a_tree(on: Spans) -> None:
    """Bare, with `()`, with a name; sync in async; arguments and results are recorded."""

    @observe()
    def retrieve(question: str) -> list[str]:
        return [question]

    @observe(as_type="generation")
    async def generate(question: str, *, documents: list[str]) -> str:
        await asyncio.sleep(0)
        return "answer"

    @observe(name="research_agent:web_search")
    async def answer(question: str) -> str:
        return await generate(question, documents=retrieve(question))

    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(answer("why")) == "answer"
    root = on.one("research_agent:web_search")
    assert {parent_of(on.one(name)) for name in ("retrieve", "generate")} == {id_of(root)}
    assert attribute(on.one("generate"), "observation.type") == "generation"
    assert attribute(root, "observation.input") == '{"question":"why"}'
    assert attribute(root, "observation.output") == "answer"


def test_ids_are_those_of_the_span(on: Spans) -> None:
    """32 and 16 hex digits inside, None outside."""
    found: list[Any] = []

    @observe
    def work() -> None:
        found.append(langfuse_context.get_current_trace_id())
        found.append(langfuse_context.get_current_observation_id())

    work()
    assert found == [trace_of(on.one("work")), id_of(on.one("work"))]
    assert langfuse_context.get_current_trace_id() is None
    assert langfuse_context.get_current_observation_id() is None


def test_update_current_trace_reaches_the_whole_request(on: Spans) -> None:
    """Said in a nested function: the outer span, spans before that still run, and all after."""

    @observe()
    def name_the_user() -> None:
        langfuse_context.update_current_trace(
            name="chat",
            user_id="u-1",
            session_id="s-1",
            tags=["beta"],
            metadata={"user": {"tier": "gold"}, "ab_test": "prompt", "variant": "B"},
            level="WARNING",
            status_message="slow",
        )

    @observe()
    def middle() -> None:
        name_the_user()

    @observe()
    def later() -> None: ...

    @observe()
    def request() -> None:
        middle()
        later()

    with otelbridge.span("POST /chat"):
        request()
    for name in ("POST /chat", "request", "middle", "name_the_user", "later"):
        span = on.one(name)
        assert attribute(span, "user.id") == "u-1", name
        assert attribute(span, "session.id") == "s-1"
        assert attribute(span, "trace.tags") == ("beta",)
        assert attribute(span, "trace.metadata.user.tier") == "gold"
        assert attribute(span, "trace.metadata.variant") == "B"
        assert attribute(span, "trace.name") == "chat"
    assert attribute(on.one("POST /chat"), "observation.level") == "WARNING"
    assert attribute(on.one("POST /chat"), "observation.status_message") == "slow"
    with otelbridge.span("next request"):
        pass
    assert attribute(on.one("next request"), "user.id") is None


def test_an_update_outside_of_a_trace_stays_nowhere(on: Spans) -> None:
    """It names no user for what this thread does next."""
    langfuse_context.update_current_trace(user_id="nobody's")
    langfuse_context.update_current_observation(output=1)
    observe(lambda: None, name="next")()
    assert attribute(on.one("next"), "user.id") is None


def test_a_block_opened_later_wins_over_an_earlier_update(on: Spans) -> None:
    """`request_context` inside says the user of its own spans."""

    @observe()
    def request() -> None:
        langfuse_context.update_current_trace(user_id="all")
        with otelbridge.request_context(user_id="one"):
            observe(lambda: None, name="inside")()
        observe(lambda: None, name="after")()

    request()
    assert attribute(on.one("inside"), "user.id") == "one"
    assert attribute(on.one("after"), "user.id") == "all"


def test_what_is_sent_to_other_services_follows_an_update_in_a_nested_function(
    on: Spans,
) -> None:
    """The next service hears the user that a function below has named."""

    @observe()
    def name_the_user() -> None:
        langfuse_context.update_current_trace(user_id="u-1")

    @observe()
    def request() -> dict[str, str]:
        name_the_user()
        headers: dict[str, str] = {}
        otelbridge.inject(headers)
        return headers

    assert "user.id=u-1" in request()["baggage"]


def test_an_update_of_the_observation_wins_over_the_result(on: Spans) -> None:
    """`output`, model, usage and prompt are those that were set."""

    class Prompt:
        name, version = "qa", 3

    @observe(as_type="generation")
    def generate() -> str:
        langfuse_context.update_current_observation(
            output="set", model="gpt-4o", metadata={"k": {"d": 1}}, prompt=Prompt(),
            usage={"input": 12, "output": 5, "unit": "TOKENS"}, level="DEBUG",
            model_parameters={"temperature": 0.1},
        )  # fmt: skip
        return "returned"

    generate()
    span = on.one("generate")
    assert attribute(span, "observation.output") == "set"
    assert attribute(span, "gen_ai.request.model") == "gpt-4o"
    assert attribute(span, "gen_ai.usage.input_tokens") == 12
    assert attribute(span, "gen_ai.usage.output_tokens") == 5
    assert attribute(span, "observation.prompt.version") == 3
    assert attribute(span, "observation.metadata.k.d") == "1"
    assert attribute(span, "observation.level") == "DEBUG"


def test_observe_as_a_block_is_a_child(on: Spans) -> None:
    """`with langfuse_context.observe(name=…) as span: span.update(output=…)`."""

    @observe()
    def work() -> None:
        with langfuse_context.observe(name="step") as span:
            span.update(output={"rows": 2})
            observe(lambda: None, name="below")()

    work()
    assert parent_of(on.one("step")) == id_of(on.one("work"))
    assert parent_of(on.one("below")) == id_of(on.one("step"))
    assert output(on.one("step")) == {"rows": 2}


@pytest.mark.parametrize("trace_id", [TRACE, TRACE.upper(), "0af76519-16cd-43dd-8448-eb211c80319c"])
@pytest.mark.parametrize("parent", [PARENT, None, "c5b7a1c2-0000-4000-8000-000000000001"])
def test_configure_goes_on_with_the_trace_of_the_headers(
    on: Spans, trace_id: str, parent: str | None
) -> None:
    """Hex digits or a UUID; a parent that is not 16 hex digits is dropped, the trace is kept."""

    @observe()
    def work() -> None: ...

    with langfuse_context.configure(trace_id=trace_id, parent_observation_id=parent):
        work()
    span = on.one("work")
    assert trace_of(span) == TRACE
    assert parent_of(span) == (PARENT if parent == PARENT else "")
    assert attribute(span, "otelbridge.llm.parent") == parent_of(span)


@pytest.mark.parametrize("trace_id", [None, "", "0" * 32, "xyz", "abc", 7, "ä" * 32])
def test_malformed_ids_give_a_normal_trace(on: Spans, trace_id: Any) -> None:
    """Garbage in a header is no error and no trace id."""
    with langfuse_context.configure(trace_id=trace_id, parent_observation_id="zz"):
        observe(lambda: None, name="work")()
    assert on.one("work").parent is None
    assert trace_of(on.one("work")) != trace_id


def test_a_trace_that_is_current_goes_on(on: Spans) -> None:
    """A valid traceparent, read by the server's instrumentation, wins over the older ids."""
    with (
        otelbridge.span("server"),
        langfuse_context.configure(trace_id=TRACE, parent_observation_id=PARENT),
    ):
        observe(lambda: None, name="work")()
    assert parent_of(on.one("work")) == id_of(on.one("server"))


def test_ids_as_arguments_of_an_observed_function(on: Spans) -> None:
    """v2 takes `langfuse_parent_trace_id` out of the call."""

    @observe()
    def work(question: str) -> str:
        return question

    asked = work("why", langfuse_parent_trace_id=TRACE, langfuse_parent_observation_id=PARENT)
    assert asked == "why"
    assert (trace_of(on.one("work")), parent_of(on.one("work"))) == (TRACE, PARENT)


def test_generators_keep_their_kind_and_give_one_output(on: Spans) -> None:
    """Sync and async streams are passed through; `transform_to_string` makes the output."""

    @observe(transform_to_string="|".join)
    def stream() -> Iterator[str]:
        yield from ("a", "b")

    @observe()
    async def astream() -> AsyncIterator[str]:
        yield "c"

    async def read() -> list[str]:
        return [item async for item in astream()]

    assert list(stream()) == ["a", "b"]
    assert asyncio.run(read()) == ["c"]
    assert attribute(on.one("astream"), "observation.output") == "c"
    assert inspect.isgeneratorfunction(stream)
    assert inspect.isasyncgenfunction(astream)


def test_exceptions_are_recorded_and_raised(on: Spans) -> None:
    """The application sees its own exception."""

    @observe()
    def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        work()
    assert on.one("work").status.status_code.name == "ERROR"


def test_threads_and_tasks_keep_users_apart(on: Spans) -> None:
    """`update_current_trace` in many requests at once names each one's own user."""

    @observe()
    async def request(number: int) -> None:
        langfuse_context.update_current_trace(user_id=f"u-{number}")
        await asyncio.sleep(0)
        observe(lambda: None, name=f"step {number}")()

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(100)))

    asyncio.run(main())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: copy_context().run(asyncio.run, request(n)), range(100, 140)))
    for number in range(140):
        assert attribute(on.one(f"step {number}"), "user.id") == f"u-{number}"


def test_the_client_makes_traces_spans_generations_and_events(on: Spans) -> None:
    """The stateful client of v2: nested objects, ended by `end()`."""
    langfuse = Langfuse()
    trace = langfuse.trace(name="rag", user_id="u", session_id="s", input="q", metadata={"a": 1})
    span = trace.span(name="retrieval", input="q")
    span.end(output=["doc"])
    generation = trace.generation(name="llm", model="gpt-4o", input="q")
    generation.end(output="a", usage={"input": 3, "output": 4})
    trace.event(name="shown")
    trace.update(output="a")
    trace.end()
    assert langfuse_context.get_current_trace_id() is None
    assert {parent_of(on.one(n)) for n in ("retrieval", "llm", "shown")} == {id_of(on.one("rag"))}
    assert attribute(on.one("llm"), "gen_ai.usage.output_tokens") == 4
    assert attribute(on.one("llm"), "user.id") == "u"
    langfuse.generation(trace_id=TRACE, name="elsewhere").end()
    assert trace_of(on.one("elsewhere")) == TRACE
    langfuse.flush()


def test_off_changes_nothing_for_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Observed functions run, blocks give the no-op, ids are None."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")

    @observe()
    def work(x: int) -> int:
        langfuse_context.update_current_trace(user_id="u")
        langfuse_context.update_current_observation(output=1)
        with langfuse_context.observe(name="s") as span:
            span.update(output=1)
        assert not span
        assert langfuse_context.get_current_trace_id() is None
        return x + 1

    assert work(1) == 2
    langfuse = Langfuse()
    assert not langfuse.trace(name="t").span(name="s").end()
    assert langfuse.score(trace_id="x", name="y", value=1) == ""
    assert langfuse_context.score_current_trace(name="y", value=1) == ""
