"""An A2A-style agent server: JSON-RPC over HTTP, one server-sent event per step.

Run: `python a2a_streaming.py` (port by `PORT`, 8010 if unset). `message/send` answers at once,
`message/stream` sends an event for each step of an async generator; the steps, the model call in
one of them and the events are one trace. Environment: `OPENAI_BASE_URL`, `OPENAI_API_KEY`, `MODEL`.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import otelbridge

MODEL = os.environ.get("MODEL", "gpt-4o-mini")
FACTS = ("Standard shipping takes 3 days, express shipping one.", "Returns are free for 30 days.")
FAILED = {"code": -32603, "message": "the model did not answer"}
client = openai.AsyncOpenAI(max_retries=0)


async def search(question: str) -> list[str]:
    """The facts that share a word with the question."""
    with otelbridge.retrieval("facts", query=question, top_k=1) as call:
        words = set(question.lower().split())
        await asyncio.sleep(0)  # where a database would be asked
        found = sorted(FACTS, key=lambda fact: -len(words & set(fact.lower().split())))[:1]
        call.set_documents(found)
    return found


async def reply(question: str, facts: list[str]) -> str:
    messages: Any = [
        {"role": "system", "content": "Context:\n" + "\n".join(f"- {fact}" for fact in facts)},
        {"role": "user", "content": question},
    ]
    with otelbridge.chat(MODEL, provider="openai", messages=messages) as call:
        response = await client.chat.completions.create(model=MODEL, messages=messages)
        call.record(response)
    return str(response.choices[0].message.content)


@otelbridge.observe(kind="agent", name="a2a agent")
async def steps(question: str) -> AsyncIterator[dict[str, Any]]:
    """One item per step; its span ends before the item is handed on."""
    facts: list[str] = []
    for number, name in enumerate(("plan", "search", "answer"), 1):
        with otelbridge.span(f"step:{name}", kind="chain") as step:
            otelbridge.event("streaming_step", metadata={"step": name, "state": "start"})
            text = f"searching for an answer to: {question}"
            if name == "search":
                facts = await search(question)
                text = f"{len(facts)} fact found"
            elif name == "answer":
                text = await reply(question, facts)
            step.set_output(text)
            otelbridge.event("streaming_step", metadata={"step": name, "state": "complete"})
        yield {"step": name, "text": text, "final": number == 3}


def message_of(body: dict[str, Any]) -> tuple[str, str, str]:
    """Id, role and text of the message in a JSON-RPC request."""
    message = body["params"]["message"]
    text = " ".join(part["text"] for part in message["parts"] if part.get("kind") == "text")
    return message["messageId"], message.get("role", "user"), text


async def streamed(body: dict[str, Any]) -> AsyncIterator[str]:
    message_id, role, question = message_of(body)
    with otelbridge.request_context(
        trace_name="a2a_streaming_processing",
        user_id="a2a_stream_user",
        session_id=f"a2a_stream_session_{message_id}",
        metadata={"message_id": message_id, "role": role, "content_length": len(question)},
    ):
        otelbridge.set_trace_io(input={"user_query": question})
        sent = 0
        try:
            async for item in steps(question):
                sent += 1
                result = {"kind": "status-update", "messageId": message_id, **item}
                yield sse(body, result=result)
        except openai.APIError as error:  # the status line has left: say it in the stream
            otelbridge.error_analysis(error)
            otelbridge.score_api_call(error)
            yield sse(body, error=FAILED)
        else:
            otelbridge.score_api_call()
        finally:  # also when the caller hangs up, which is neither success nor error
            otelbridge.set_trace_io(output={"streaming_messages_sent": sent})


def sse(body: dict[str, Any], **member: Any) -> str:
    return f"data: {json.dumps({'jsonrpc': '2.0', 'id': body.get('id'), **member})}\n\n"


async def sent(body: dict[str, Any]) -> dict[str, Any]:
    """The member `result` or `error` of the answer."""
    message_id, role, question = message_of(body)
    with otelbridge.request_context(
        trace_name="a2a_message_processing",
        user_id="a2a_user",
        session_id=f"a2a_session_{message_id}",
        metadata={"message_id": message_id, "role": role, "content_length": len(question)},
    ):
        otelbridge.set_trace_io(input={"user_query": question})
        try:
            text = [item["text"] async for item in steps(question)][-1]
        except openai.APIError as error:
            otelbridge.score_api_call(error)
            return {"error": FAILED}
        otelbridge.set_trace_io(output=text)
        otelbridge.score_api_call()
        parts = [{"kind": "text", "text": text}]
        return {"result": {"kind": "message", "role": "agent", "messageId": message_id,
                           "parts": parts}}  # fmt: skip


async def rpc(request: Request) -> Response:
    body = await request.json()
    headers = {"X-Trace-Id": otelbridge.current_trace_id() or ""}
    if body.get("method") == "message/stream":
        return StreamingResponse(streamed(body), media_type="text/event-stream", headers=headers)
    member: dict[str, Any] = {"error": {"code": -32601, "message": "Method not found"}}
    if body.get("method") == "message/send":
        member = await sent(body)
    return JSONResponse({"jsonrpc": "2.0", "id": body.get("id"), **member}, headers=headers)


async def card(_: Request) -> Response:
    return JSONResponse({"name": "shop helper", "capabilities": {"streaming": True}})


app = Starlette(routes=[
    Route("/", rpc, methods=["POST"]), Route("/.well-known/agent-card.json", card),
])  # fmt: skip

if __name__ == "__main__":
    otelbridge.configure(service_name="a2a-agent")
    uvicorn.run(app, port=int(os.environ.get("PORT", "8010")), log_level="warning")
