"""What the recorded agent frameworks are made to do: the shop of `emit.py` with their own agents.

Run through `emit.py`. Not typed, packages are imported inside functions: no two emitters share an
environment.
"""
# ruff: noqa: F403, F405 - all canaries and steps, by their names

import contextlib

from scenarios import *


def pydantic_ai():
    """pydantic-ai's own spans on a plain SDK provider."""
    from pydantic_ai import Agent, Embedder, Tool
    from pydantic_ai.models.openai import OpenAIChatModel

    made = provider()
    Agent.instrument_all()

    def lookup_order(order_id: str) -> str:
        return TOOL_RESULT

    def reserve(order_id: str) -> str:
        raise OutOfStockError(LEAK)

    model = OpenAIChatModel(CHAT)
    clerk = Agent(model, name="clerk", system_prompt=SYSTEM, tools=[Tool(lookup_order)])
    terse = Agent(model, name="terse", instructions=SYSTEM)
    broken = Agent(model, name="broken", instructions=SYSTEM, tools=[Tool(reserve)])
    with request():
        terse.run_sync(QUESTION, model_settings={"temperature": 0.5, "max_tokens": 200})
    with request():
        terse.run_stream_sync(f"Speak slowly ({PHRASE} stream).").get_output()
    with request():
        clerk.run_sync(TOOL_QUESTION, conversation_id=SESSION)
    with request():
        Embedder(f"openai:{EMBEDDER}", instrument=True).embed_query_sync(EMBEDDED)
    for agent, question in ((terse, FAILING), (broken, TOOL_QUESTION)):
        with request(), contextlib.suppress(Exception):
            agent.run_sync(question)
    made.shutdown()


def langchain():
    """LangChain and LangGraph with openinference-instrumentation-langchain."""
    from langchain_core.documents import Document
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from langgraph.prebuilt import create_react_agent
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.langchain import LangChainInstrumentor

    made = provider()
    LangChainInstrumentor().instrument(tracer_provider=made)

    class Handbook(BaseRetriever):
        """Finds the one document."""

        def _get_relevant_documents(self, query, *, run_manager):
            return [Document(page_content=DOCUMENT, metadata={"source": "handbook"})]

    @tool
    def lookup_order(order_id: str) -> str:
        """The state of an order."""
        return TOOL_RESULT

    @tool
    def reserve(order_id: str) -> str:
        """Reserve an order."""
        raise OutOfStockError(LEAK)

    model = ChatOpenAI(model=CHAT, max_retries=0, temperature=0.5, max_tokens=200)
    template = ChatPromptTemplate.from_messages([("system", SYSTEM), ("user", "{question}")])
    chain = template | model
    with using_attributes(session_id=SESSION, user_id=USER, tags=["beta"]):
        with request():
            chain.invoke({"question": QUESTION})
        with request():
            for _ in chain.stream({"question": f"Speak slowly ({PHRASE} stream)."}):
                pass
        with request():
            Handbook().invoke(f"returns ({PHRASE} query)")
            clerk = create_react_agent(model, [lookup_order], prompt=SYSTEM, name="clerk")
            clerk.invoke({"messages": [("user", TOOL_QUESTION)]})
        with request():
            OpenAIEmbeddings(model=EMBEDDER, check_embedding_ctx_length=False).embed_query(EMBEDDED)
        with request(), contextlib.suppress(Exception):
            model.invoke(messages(FAILING))
        with request(), contextlib.suppress(OutOfStockError):
            reserve.invoke({"order_id": ORDER})
    made.shutdown()


def strands():
    """Strands Agents with its own spans; message text is in span events."""
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    made = provider()

    @tool
    def lookup_order(order_id: str) -> str:
        """The state of an order."""
        return TOOL_RESULT

    @tool
    def reserve(order_id: str) -> str:
        """Reserve an order."""
        raise OutOfStockError(LEAK)

    def agent(name, *tools):
        model = OpenAIModel(
            client_args={"max_retries": 0},
            model_id=CHAT,
            params={"temperature": 0.5, "max_tokens": 200},
        )
        return Agent(
            model=model,
            name=name,
            system_prompt=SYSTEM,
            tools=list(tools),
            callback_handler=None,
            retry_strategy=None,
            trace_attributes={"session.id": SESSION, "user.id": USER},
        )

    with request():
        agent("terse")(QUESTION)
    with request():
        agent("clerk", lookup_order)(TOOL_QUESTION)
    for name, question, tools in (("terse", FAILING, ()), ("broken", TOOL_QUESTION, (reserve,))):
        with request(), contextlib.suppress(Exception):
            agent(name, *tools)(question)
    made.shutdown()
