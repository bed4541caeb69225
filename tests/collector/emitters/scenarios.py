"""The canaries that every emitter is given, and the steps that clients of openai take.

Imported by `emit.py` in the emitters' own virtual environments and by the recorder: needs nothing
but the standard library until a function is called. Not typed: the packages are not there.
"""

import contextlib

#: Free text that stands in message content only: prompts, answers, tool data, documents.
PHRASE = "quartz heron"
#: Tool argument: the stand-in upstream calls a tool with the first text of this form.
ORDER = "QHN-7431907"
#: Secrets of the kinds that are masked; they stand in prompts and in error texts.
API_KEY = "sk-proj-Canary0123456789abcdefABCDEF"
EMAIL = "canary.person@quartz-secret.example"
PASSWORD = "Hunter2Canary"
URL = f"postgres://shop:{PASSWORD}@db.internal:5432/orders"
LEAK = f"key {API_KEY}, mail {EMAIL}, database {URL}"

USER, SESSION = "user-123", "conversation-7"
CHAT, EMBEDDER = "gpt-4o", "text-embedding-3-small"
SYSTEM = f"You serve a shop ({PHRASE} system). Answer briefly."
QUESTION = f"What of returns ({PHRASE} question)? My {LEAK}."
TOOL_QUESTION = f"Where is order {ORDER} ({PHRASE} tool question)?"
TOOL_RESULT = f"sent on Monday ({PHRASE} tool result)"
DOCUMENT = f"Goods can be returned within 30 days ({PHRASE} document)."
EMBEDDED = f"returns and refunds ({PHRASE} embedding)"
FAILING = f"[[status=429]] Say no ({PHRASE} failing)."
PARAMETERS = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "description": f"{PHRASE} tool parameter"}},
    "required": ["order_id"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "lookup_order",
        "description": "The state of an order.",
        "parameters": PARAMETERS,
    },
}


class OutOfStockError(Exception):
    """What the shop's own code raises, with secrets in its text."""


# -- steps that every client of the openai package takes -------------------------------------------
def messages(question, system=SYSTEM):
    """A system message and a user's question."""
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def chat(client):
    """One answer at once."""
    asked = messages(QUESTION)
    return client.chat.completions.create(
        model=CHAT, messages=asked, temperature=0.5, max_tokens=200
    )


def stream(client):
    """One answer in chunks, with usage in the last."""
    chunks = client.chat.completions.create(
        model=CHAT,
        messages=messages(f"Speak slowly ({PHRASE} stream)."),
        stream=True,
        stream_options={"include_usage": True},
    )
    for _ in chunks:
        pass


def tool_round(client, run=lambda call: TOOL_RESULT):
    """The model asks for a tool, the tool runs, the model answers."""
    asked = messages(TOOL_QUESTION)
    first = client.chat.completions.create(model=CHAT, messages=asked, tools=[TOOL])
    call = first.choices[0].message.tool_calls[0]
    asked.append(first.choices[0].message.model_dump(exclude_none=True))
    asked.append({"role": "tool", "tool_call_id": call.id, "content": run(call)})
    return client.chat.completions.create(model=CHAT, messages=asked, tools=[TOOL])


def embed(client):
    """One text as a vector."""
    client.embeddings.create(model=EMBEDDER, input=EMBEDDED)


def fail(client):
    """A call that the provider refuses; its error text repeats the caller's secrets."""
    with contextlib.suppress(Exception):
        client.chat.completions.create(model=CHAT, messages=messages(FAILING))


STEPS = (chat, stream, tool_round, embed, fail)


def provider():
    """The SDK's provider with the stock exporter, made the global one."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    made = TracerProvider(resource=Resource.create())
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(made)
    return made


def request(name="POST /ask"):
    """The web framework's span around each step: no LLM span, and no dialect."""
    from opentelemetry import trace

    return trace.get_tracer("shop.web").start_as_current_span(
        name,
        kind=trace.SpanKind.SERVER,
        attributes={"http.request.method": "POST", "url.path": "/ask"},
    )


def take_steps(client, steps=STEPS):
    """Each step in a request of its own."""
    for step in steps:
        with request():
            step(client)


def openai_client():
    """The plain client; it goes through the recorder's proxy."""
    import openai

    return openai.OpenAI(max_retries=0)
