"""What each recorded emitter is made to do: the same small shop, with the same canaries.

Run by `benchmarks/record_emitters.py` as `python emit.py <emitter>` in the emitter's own virtual
environment, with a sink on loopback as endpoint and a proxy that answers for api.openai.com. Not
typed, packages are imported inside functions: no two emitters share an environment. Frameworks
that have agents and tools of their own are in `frameworks.py`.
"""
# ruff: noqa: F403, F405 - all canaries and steps, by their names

import contextlib
import json
import os
import sys

import frameworks
from scenarios import *


def genai_openai():
    """opentelemetry-instrumentation-genai-openai; tools and agents by opentelemetry-util-genai."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    from opentelemetry.util.genai.handler import get_telemetry_handler

    made = provider()
    OpenAIInstrumentor().instrument()
    client, handler = openai_client(), get_telemetry_handler()
    take_steps(client, (chat, stream, embed, fail))

    def run(call):
        with handler.tool("lookup_order", tool_type="function") as tool:
            tool.tool_call_id = call.id
            tool.arguments = json.loads(call.function.arguments)
            tool.tool_result = TOOL_RESULT
        return TOOL_RESULT

    with (
        request(),
        handler.invoke_local_agent(agent_name="clerk", conversation_id=SESSION),
    ):
        with handler.retrieval(data_source_id="handbook", provider="openai") as search:
            search.query_text = f"returns ({PHRASE} query)"
            search.documents = [{"id": "d1", "score": 0.9, "content": DOCUMENT}]
        tool_round(client, run)
    with (
        request(),
        contextlib.suppress(OutOfStockError),
        handler.tool("reserve", tool_type="function"),
    ):
        raise OutOfStockError(LEAK)
    made.shutdown()


def openinference():
    """openinference-instrumentation-openai, and the decorators of openinference-instrumentation."""
    from openinference.instrumentation import OITracer, TraceConfig, using_attributes
    from openinference.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry import trace

    made = provider()
    OpenAIInstrumentor().instrument(tracer_provider=made)
    tracer = OITracer(trace.get_tracer("openinference.instrumentation.shop"), config=TraceConfig())
    client = openai_client()

    @tracer.tool(name="lookup_order", description="The state of an order.")
    def lookup_order(order_id: str) -> str:
        return TOOL_RESULT

    @tracer.tool
    def reserve(order_id: str) -> str:
        raise OutOfStockError(LEAK)

    @tracer.chain
    def answer(question: str) -> str:
        with tracer.start_as_current_span("search", openinference_span_kind="retriever") as span:
            span.set_input(f"returns ({PHRASE} query)")
            span.set_attributes(
                {
                    "retrieval.documents.0.document.content": DOCUMENT,
                    "retrieval.documents.0.document.id": "d1",
                    "retrieval.documents.0.document.score": 0.9,
                    "retrieval.documents.0.document.metadata": json.dumps({"text": DOCUMENT}),
                }
            )
        with tracer.start_as_current_span("rank", openinference_span_kind="reranker") as span:
            span.set_attributes(
                {
                    "reranker.query": f"returns ({PHRASE} query)",
                    "reranker.model_name": "ranker-1",
                    "reranker.top_k": 1,
                    "reranker.input_documents.0.document.content": DOCUMENT,
                    "reranker.output_documents.0.document.content": DOCUMENT,
                }
            )
        said = tool_round(client, lambda call: lookup_order(**json.loads(call.function.arguments)))
        with contextlib.suppress(OutOfStockError):
            reserve(ORDER)
        return said.choices[0].message.content

    @tracer.agent(name="clerk")
    def clerk(question: str) -> str:
        return answer(question)

    with using_attributes(
        session_id=SESSION,
        user_id=USER,
        tags=["beta"],
        metadata={"team": "sales"},
        prompt_template=f"Answer {{question}} ({PHRASE} template)",
        prompt_template_variables={"question": f"{PHRASE} variable"},
        prompt_template_version="3",
    ):
        take_steps(client)
        with request():
            clerk(TOOL_QUESTION)
    made.shutdown()


def openllmetry():
    """traceloop-sdk (OpenLLMetry): its decorators and its instrumentation of openai."""
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import agent, task, tool, workflow

    Traceloop.init(
        app_name=os.environ["OTEL_SERVICE_NAME"],
        api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
        disable_batch=False,
        telemetry_enabled=False,
    )
    client = openai_client()

    @tool(name="lookup_order")
    def lookup_order(order_id):
        return TOOL_RESULT

    @tool(name="reserve")
    def reserve(order_id):
        raise OutOfStockError(LEAK)

    @task(name="search")
    def search(query):
        return [DOCUMENT]

    @agent(name="clerk")
    def clerk(question):
        search(f"returns ({PHRASE} query)")
        said = tool_round(client, lambda call: lookup_order(**json.loads(call.function.arguments)))
        with contextlib.suppress(OutOfStockError):
            reserve(ORDER)
        return said.choices[0].message.content

    @workflow(name="answer")
    def answer(question):
        return clerk(question)

    Traceloop.set_association_properties({"session_id": SESSION, "user_id": USER})
    take_steps(client)
    with request():
        answer(TOOL_QUESTION)
    from opentelemetry import trace

    trace.get_tracer_provider().shutdown()


def openllmetry_old():
    """opentelemetry-instrumentation-openai of early 2025: flat `gen_ai.prompt.<n>.*` keys."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    made = provider()
    OpenAIInstrumentor().instrument()
    take_steps(openai_client())
    made.shutdown()


def langfuse():
    """The Langfuse SDK with its OpenAI wrapper; it sends to its own endpoint at the sink."""
    from langfuse import Langfuse, observe, propagate_attributes
    from langfuse.openai import OpenAI

    made = Langfuse(
        public_key="pk-lf-made-up",
        secret_key="sk-lf-made-up",
        base_url=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
        environment="staging",
        release="1.2.3",
    )
    client = OpenAI(max_retries=0)

    @observe(as_type="tool")
    def lookup_order(order_id):
        return TOOL_RESULT

    @observe(as_type="tool")
    def reserve(order_id):
        raise OutOfStockError(LEAK)

    @observe(as_type="retriever")
    def search(query):
        return [DOCUMENT]

    @observe(as_type="agent", name="clerk")
    def clerk(question):
        search(f"returns ({PHRASE} query)")
        said = tool_round(client, lambda call: lookup_order(**json.loads(call.function.arguments)))
        with contextlib.suppress(OutOfStockError):
            reserve(ORDER)
        return said.choices[0].message.content

    with propagate_attributes(
        user_id=USER, session_id=SESSION, tags=["beta"], metadata={"team": "sales"}
    ):
        take_steps(client)
        with request():
            clerk(TOOL_QUESTION)
        with made.start_as_current_observation(
            as_type="generation",
            name="own call",
            model=CHAT,
            input=messages(f"By hand ({PHRASE} own)"),
            model_parameters={"temperature": 0.5},
        ) as generation:
            generation.update(
                output=f"Done ({PHRASE} own)",
                usage_details={"input": 11, "output": 7},
                cost_details={"total": 0.0001},
                metadata={"note": "by hand"},
            )
    made.shutdown()


def logfire():
    """logfire.instrument_openai without sending to Logfire."""
    import logfire as package

    package.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    client = openai_client()
    package.instrument_openai(client)
    take_steps(client)
    with (
        request(),
        contextlib.suppress(OutOfStockError),
        package.span("reserve {order}", order="A-1"),
    ):
        raise OutOfStockError(LEAK)
    package.shutdown()


def litellm():
    """litellm's OpenTelemetry callback."""
    import time

    import litellm as package

    made = provider()
    package.callbacks = ["otel"]
    context = {"session_id": SESSION, "user_api_key_user_id": USER, "tags": ["beta"]}  # mutated

    def settle():
        time.sleep(1.5)  # its callbacks run in threads that cannot be joined

    def complete(question, **more):
        said = package.completion(
            model=CHAT, messages=question, metadata=dict(context), user=USER, max_retries=0, **more
        )
        if more.get("stream"):
            for _ in said:
                pass
        settle()
        return said

    # Below someone else's span it writes on that one; only here. Else it makes `litellm_request`.
    with request():
        complete(messages(QUESTION), temperature=0.5, max_tokens=200)
    complete(messages(QUESTION), temperature=0.5, max_tokens=200)
    slowly = messages(f"Speak slowly ({PHRASE} stream).")
    complete(slowly, stream=True, stream_options={"include_usage": True})
    asked = messages(TOOL_QUESTION)
    first = complete(asked, tools=[TOOL])
    call = first.choices[0].message.tool_calls[0]
    asked.append(first.choices[0].message.model_dump(exclude_none=True))
    asked.append({"role": "tool", "tool_call_id": call.id, "content": TOOL_RESULT})
    complete(asked, tools=[TOOL])
    package.embedding(model=EMBEDDER, input=[EMBEDDED], metadata=dict(context))
    with contextlib.suppress(Exception):
        complete(messages(FAILING))
    settle()
    made.shutdown()


def anthropic():
    """The spans that the anthropic package makes itself."""
    import anthropic as package

    made = provider()
    client = package.Anthropic(max_retries=0)
    arguments = {"model": "claude-sonnet-4-5", "max_tokens": 200, "system": SYSTEM}
    definition = {"name": "lookup_order", "input_schema": PARAMETERS}

    def said(question):
        return [{"role": "user", "content": question}]

    with request():
        client.messages.create(messages=said(QUESTION), **arguments)
    with request():
        slowly = said(f"Speak slowly ({PHRASE} stream).")
        with client.messages.stream(messages=slowly, **arguments) as chunks:
            chunks.until_done()
    with request():
        asked = said(TOOL_QUESTION)
        first = client.messages.create(messages=asked, tools=[definition], **arguments)
        asked.append({"role": "assistant", "content": [b.model_dump() for b in first.content]})
        result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": TOOL_RESULT}
        asked.append({"role": "user", "content": [result]})
        client.messages.create(messages=asked, tools=[definition], **arguments)
    with request(), contextlib.suppress(Exception):
        client.messages.create(messages=said(FAILING), **arguments)
    made.shutdown()


def otelbridge():
    """otelbridge's helpers and its decorator, as the example services use them."""
    import otelbridge as package

    package.configure()
    client = openai_client()

    def call(question, **arguments):
        asked = messages(question) if isinstance(question, str) else question
        with package.chat(CHAT, provider="openai", messages=asked, **arguments) as made:
            made.record(client.chat.completions.create(model=CHAT, messages=asked, **arguments))

    @package.observe(kind="tool")
    def reserve(order_id):
        raise OutOfStockError(LEAK)

    with package.request_context(
        user_id=USER, session_id=SESSION, tags=["beta"], metadata={"team": "sales"}
    ):
        with request():
            call(QUESTION, temperature=0.5, max_tokens=200)
        with request():
            asked = messages(f"Speak slowly ({PHRASE} stream).")
            with package.chat(CHAT, provider="openai", messages=asked, stream=True) as made:
                options = {"stream": True, "stream_options": {"include_usage": True}}
                chunks = client.chat.completions.create(model=CHAT, messages=asked, **options)
                for _ in made.stream(chunks):
                    pass
        with (
            request(),
            package.invoke_agent(
                "clerk", provider="openai", input=TOOL_QUESTION, conversation_id=SESSION
            ) as agent,
        ):
            with package.retrieval("handbook", query=f"returns ({PHRASE} query)", top_k=1) as found:
                found.set_documents([{"id": "d1", "score": 0.9, "content": DOCUMENT}])
            call(TOOL_QUESTION, tools=[TOOL])
            with package.execute_tool(
                "lookup_order", call_id="call_1", arguments={"order_id": ORDER}
            ) as tool:
                tool.set_result(TOOL_RESULT)
            with contextlib.suppress(OutOfStockError):
                reserve(ORDER)
            agent.set_output(f"It is under way ({PHRASE} agent).")
        with request(), package.embeddings(EMBEDDER, provider="openai", input=EMBEDDED) as made:
            made.record(client.embeddings.create(model=EMBEDDER, input=EMBEDDED))
        with request(), contextlib.suppress(Exception):
            call(FAILING)
    package.shutdown()


if __name__ == "__main__":
    wanted = sys.argv[1]
    globals().get(wanted, getattr(frameworks, wanted, None))()
