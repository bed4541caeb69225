"""The LangChain and LangGraph handler: runs as spans of the current trace, and no run twice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypedDict

import pytest
from opentelemetry import trace

pytest.importorskip("langchain_core")
pytest.importorskip("langgraph")

from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

import otelbridge
from otelbridge.compat import langchain as handler_module
from otelbridge.compat.langchain import CallbackHandler
from otelbridge.compat.tracer import get_langfuse_callback
from tests.compat.conftest import (
    Spans,
    attribute,
    id_of,
    output,
    parent_of,
    trace_of,
)

USAGE = {
    "input_tokens": 70, "output_tokens": 30, "total_tokens": 100,
    "input_token_details": {"cache_read": 20}, "output_token_details": {"reasoning": 5},
}  # fmt: skip


class ChatOpenAI(GenericFakeChatModel):
    """A model that says of itself what the integration of that name says."""

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "gpt-4o", "temperature": 0.2, "_type": "openai-chat"}

    def _get_ls_params(self, stop: Any = None, **_: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-4o", "ls_model_type": "chat"}


def model() -> GenericFakeChatModel:
    answer = AIMessage(
        "hello there",
        usage_metadata=USAGE,  # type: ignore[arg-type]  # a typed dictionary of theirs
        response_metadata={"model_name": "gpt-4o-2024-08-06", "finish_reason": "stop"},
    )
    return ChatOpenAI(messages=iter([answer] * 500))


@tool
def lookup(order: int) -> str:
    """Find an order."""
    with otelbridge.span("query orders"):
        return f"order {order}"


class Shelf(BaseRetriever):
    """A retriever with one document."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(page_content=f"about {query}", metadata={"certainty": 0.9})]


@pytest.fixture(autouse=True)
def no_langsmith(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangSmith is off unless a test says otherwise."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")


def test_a_chain_is_a_tree_below_the_current_span(on: Spans) -> None:
    """Prompt, model, retriever, tool: parents as LangChain calls them, user on each."""
    chain = (
        ChatPromptTemplate.from_messages([("system", "be short"), ("human", "{q}")])
        | model()
        | RunnableLambda(lambda message: Shelf().invoke(message.content))
        | RunnableLambda(lambda found: lookup.invoke({"order": len(found)}))
    )
    handler = get_langfuse_callback(
        session_id="s-1", user_id="u-1", metadata={"team": "sales"}, tags=["shop"]
    )
    with otelbridge.span("request"):
        assert chain.invoke({"q": "hi"}, config={"callbacks": [handler]}) == "order 1"
    sequence = on.one("RunnableSequence")
    assert parent_of(sequence) == id_of(on.one("request"))
    generation = on.one("chat gpt-4o")
    assert parent_of(generation) == id_of(sequence)
    assert parent_of(on.one("query orders")) == id_of(on.one("lookup"))
    lambdas = {id_of(span) for span in on.all() if span.name == "RunnableLambda"}
    assert {parent_of(on.one("lookup")), parent_of(on.one("Shelf"))} == lambdas
    for span in on.all():
        assert attribute(span, "user.id") == "u-1", span.name
        assert attribute(span, "session.id") == "s-1"
        assert attribute(span, "trace.metadata.team") == "sales"
        assert list(attribute(span, "trace.tags")) == ["shop"]
    kinds = {span.name: attribute(span, "observation.type") for span in on.all()}
    assert kinds["lookup"] == "tool"
    assert kinds["Shelf"] == "retriever"
    assert kinds["RunnableSequence"] == "chain"
    assert output(on.one("Shelf"))[0]["page_content"] == "about hello there"
    assert handler.get_trace_id() == trace_of(sequence)


def test_a_generation_has_model_messages_usage_and_reason(on: Spans) -> None:
    """What LangChain tells of a call stands under the names of the conventions."""
    with otelbridge.span("request"):
        model().invoke(
            [SystemMessage("be short"), HumanMessage("hi")], {"callbacks": [CallbackHandler()]}
        )
    span = on.one("chat gpt-4o")
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": 70,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    found = dict(span.attributes or {})
    assert {key: found.get(key) for key in expected} == expected
    assert list(found["gen_ai.response.finish_reasons"]) == ["stop"]
    sent = json.loads(str(found["gen_ai.input.messages"]))
    assert [message["role"] for message in sent] == ["system", "user"]
    assert "hello there" in str(found["gen_ai.output.messages"])


def test_streams_have_a_time_to_first_token_and_leave_the_consumer_alone(on: Spans) -> None:
    """Between the tokens the consumer's own span is current; sync and async."""
    config: Any = {"callbacks": [CallbackHandler()]}

    def is_in_a_span() -> bool:
        return trace.get_current_span().get_span_context().is_valid

    inside = [is_in_a_span() for _ in model().stream("hi", config=config)]

    async def read() -> list[bool]:
        return [is_in_a_span() async for _ in model().astream("hi", config=config)]

    assert {*inside, *asyncio.run(read())} == {False}
    assert len(on.all()) == 2
    for span in on.all():
        assert 0 <= attribute(span, "gen_ai.response.time_to_first_chunk") < 30
        assert "hello there" in str(attribute(span, "gen_ai.output.messages"))


def test_errors_are_recorded_where_they_happen(on: Spans) -> None:
    """The failing tool and the chain around it fail; the exception goes on."""

    @tool
    def broken(order: int) -> str:
        """Fail."""
        raise LookupError(f"no order {order}")

    chain = RunnableLambda(lambda _: broken.invoke({"order": 7}))
    with pytest.raises(LookupError):
        chain.invoke(1, config={"callbacks": [CallbackHandler()]})
    for name in ("broken", "RunnableLambda"):
        assert on.one(name).status.status_code.name == "ERROR"
        assert attribute(on.one(name), "error.type") == "LookupError"
    assert not trace.get_current_span().get_span_context().is_valid


def test_models_that_take_text(on: Spans) -> None:
    """An LLM without messages is a generation too."""
    FakeListLLM(responses=["yes"]).invoke("is it?", config={"callbacks": [CallbackHandler()]})
    (span,) = on.all()
    assert attribute(span, "gen_ai.operation.name") == "text_completion"
    assert attribute(span, "observation.type") == "generation"
    assert "yes" in str(attribute(span, "gen_ai.output.messages"))


def test_a_graph_with_spans_of_its_nodes(on: Spans) -> None:
    """LangGraph, sync and async: what a node does is below the node."""
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        n: int

    def node(state: State) -> State:
        with otelbridge.span("inside"):
            return {"n": state["n"] + 1}

    graph: Any = StateGraph(State)
    graph.add_node("agent", node)
    graph.add_edge(START, "agent")
    graph.add_edge("agent", END)
    app = graph.compile()
    config: Any = {"callbacks": [CallbackHandler(user_id="u")]}
    assert app.invoke({"n": 1}, config=config) == {"n": 2}
    assert asyncio.run(app.ainvoke({"n": 1}, config=config)) == {"n": 2}
    assert len(on.all()) == 6
    by_id = {id_of(span): span for span in on.all()}
    for span in on.all():
        if span.name == "inside":
            assert by_id[parent_of(span)].name == "agent"
            assert by_id[parent_of(by_id[parent_of(span)])].name == "LangGraph"
            assert attribute(span, "user.id") == "u"


def test_one_handler_serves_many_requests_at_once(on: Spans) -> None:
    """Parallel branches and 50 concurrent requests: no run below another request's."""
    handler = CallbackHandler()
    both = RunnableParallel(a=model(), b=model())

    async def request(number: int) -> None:
        with otelbridge.request_context(user_id=f"u-{number}"), otelbridge.span(f"r{number}"):
            await both.ainvoke("hi", config={"callbacks": [handler]})

    async def main() -> None:
        await asyncio.gather(*(request(number) for number in range(50)))

    asyncio.run(main())
    users: dict[str, set[str]] = {}
    for span in on.all():
        users.setdefault(trace_of(span), set()).add(str(attribute(span, "user.id")))
    assert sorted(users.values(), key=str) == sorted(
        ({f"u-{number}"} for number in range(50)), key=str
    )
    assert [span.name for span in on.all()].count("chat gpt-4o") == 100
    assert handler._runs == {}


def test_a_batch_in_threads(on: Spans) -> None:
    """`batch` runs in a pool: each run is below the span around it."""
    with otelbridge.span("request"):
        model().batch(["a", "b", "c"], config={"callbacks": [CallbackHandler()]})
    found = [span for span in on.all() if span.name == "chat gpt-4o"]
    assert [trace_of(span) for span in found] == [trace_of(on.one("request"))] * 3


@pytest.fixture
def langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A LangSmith on loopback, its variables set; what it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_PATCH = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    from langsmith.utils import get_env_var

    for name, value in {
        "ENABLE_TRACING": "true",
        "LANGSMITH_TRACING": "true",
        "LANGCHAIN_TRACING_V2": "true",
        "LANGSMITH_API_KEY": "lsv2_pt_test",
        "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
    }.items():
        monkeypatch.setenv(name, value)
    get_env_var.cache_clear()
    yield seen
    get_env_var.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_langsmith_beside_it_gives_no_second_generation(
    on: Spans, langsmith: list[str], eventually: Any
) -> None:
    """Both on for a while: LangSmith gets its runs, the trace has one generation."""
    from langchain_core.tracers.langchain import wait_for_all_tracers

    with otelbridge.span("request"):
        model().invoke("hi", config={"callbacks": [get_langfuse_callback()]})
    wait_for_all_tracers()
    eventually(lambda: any("runs" in path for path in langsmith))
    assert on.names() == ["chat gpt-4o", "request"]


def test_langsmiths_opentelemetry_mode_is_warned_of_once(
    on: Spans,
    langsmith: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would record each call a second time in our own provider."""
    from langsmith.utils import get_env_var

    monkeypatch.setattr(handler_module, "_warned", [])
    monkeypatch.setenv("LANGSMITH_OTEL_ENABLED", "true")
    get_env_var.cache_clear()
    CallbackHandler()
    CallbackHandler()
    assert len([r for r in caplog.records if "LANGSMITH_OTEL_ENABLED" in r.message]) == 1


def test_without_langchain_there_is_no_handler(
    on: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`get_langfuse_callback` gives None and says why."""
    import sys

    monkeypatch.setitem(sys.modules, "otelbridge.compat.langchain", None)
    assert get_langfuse_callback(session_id="s", user_id="u", metadata={}, tags=[]) is None
    assert "langchain-core is not installed" in caplog.text


def test_the_sdks_own_handler_runs_through_our_provider(on: Spans) -> None:
    """`langfuse.langchain.CallbackHandler` of the SDK v3 to v5: same trace, sent by us only."""
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler as Theirs

    client = Langfuse(
        public_key="pk-lf-own-handler", secret_key="sk-lf-1", base_url="http://127.0.0.1:9"
    )
    try:
        with otelbridge.span("request"):
            model().invoke("hi", config={"callbacks": [Theirs(public_key="pk-lf-own-handler")]})
    finally:
        client.shutdown()
    (generation,) = [span for span in on.all() if span.name != "request"]
    assert parent_of(generation) == id_of(on.one("request"))
    assert attribute(generation, "observation.type") == "generation"
