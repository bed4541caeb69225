"""A shopping assistant of five agents over Ollama's API, behind FastAPI.

Run: `python shopping_assistant.py` (port by `PORT`, 8020 if unset). Intent first, then profile and
sentiment at the same time, then recommendation and response. `POST /feedback` takes the
`X-Request-ID` of an answer. Environment: `OLLAMA_HOST` (http://127.0.0.1:11434), `MODEL`, and
`OTELBRIDGE_PRICES_FILE=prices.toml`, as no price list knows what your machine costs.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

import otelbridge

Chat = Callable[[str, str], Awaitable[str]]
MODEL = os.environ.get("MODEL", "llama3.2")
INTENTS = ("buy", "compare", "return")
MOODS = ("happy", "annoyed")
GOODS = {"lamp": "the desk lamp Luma for 39 EUR", "chair": "the chair Rest for 120 EUR"}
app = FastAPI()
ollama = httpx.AsyncClient(
    base_url=os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434"), timeout=120
)


class Ask(BaseModel):
    """What a shop's page sends."""

    message: str
    user: str = "anonymous"
    session: str | None = None


@cache
def llm(kind: str, temperature: float = 0.1) -> Chat:
    """The model of one kind of agent; its kind is on every call, user and session come by context.

    Returns:
        An async function from system prompt and question to the answer.
    """
    about = {"langfuse.observation.metadata.agent": kind}

    async def chat(system: str, question: str) -> str:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        asked: dict[str, Any] = {"model": MODEL, "messages": messages, "stream": False}
        asked["options"] = {"temperature": temperature}
        with otelbridge.chat(
            MODEL, provider="ollama", messages=messages, temperature=temperature, attributes=about
        ) as call:
            reply = await ollama.post("/api/chat", json=asked)
            got = reply.raise_for_status().json()
            call.set_response(model=got["model"], finish_reasons=[got["done_reason"]])
            call.set_usage(input_tokens=got["prompt_eval_count"], output_tokens=got["eval_count"])
            call.set_output(got["message"]["content"])
        return str(got["message"]["content"])

    return chat


async def agent(name: str, system: str, question: str) -> str:
    """One agent: a span around its call."""
    with otelbridge.invoke_agent(name, provider="ollama", model=MODEL, input=question) as run:
        said = await llm(name)(system, question)
        run.set_output(said)
    return said


def named(text: str, words: tuple[str, ...], otherwise: str) -> str:
    """The first of the words that a model's answer has: small models add others around it."""
    return next((word for word in words if word in text.lower()), otherwise)


@otelbridge.observe(kind="tool", name="catalogue")
async def goods(message: str) -> list[str]:
    return [text for name, text in GOODS.items() if name in message.lower()] or ["a gift card"]


async def assist(message: str) -> dict[str, Any]:
    said = await agent("intent", f"One word of {', '.join(INTENTS)}.", message)
    intent = named(said, INTENTS, "browse")
    profile, mood = await asyncio.gather(
        agent("profile", "What the customer likes, in one line.", message),
        agent("sentiment", f"One word of {', '.join(MOODS)}, neutral.", message),
    )
    mood = named(mood, MOODS, "neutral")
    # From here on every span of the request says so, in both stores.
    with otelbridge.request_context(metadata={"workflow": {"intent": intent, "mood": mood}}):
        facts = "\n".join(f"- {text}" for text in await goods(message))
        picked = await agent(
            "recommendation", f"Pick for a customer who {intent}s: {profile}\nContext:\n{facts}",
            message,
        )  # fmt: skip
        tone = f"Answer a customer who is {mood}."
        text = await agent("response", f"{tone}\nContext:\n- {picked}", message)
    return {"answer": text, "intent": intent, "mood": mood}


@app.post("/assist")
async def ask(body: Ask, response: Response) -> dict[str, Any]:
    response.headers["X-Trace-Id"] = otelbridge.current_trace_id() or ""
    with otelbridge.request_context(
        trace_name="shopping_assistant", user_id=body.user, session_id=body.session,
        tags=["assistant", MODEL],
    ):  # fmt: skip
        otelbridge.set_trace_io(input=body.message)
        try:
            made = await assist(body.message)
        except httpx.HTTPError as error:
            otelbridge.score_api_call(error)
            raise HTTPException(503, "the assistant is not available",
                                headers=dict(response.headers)) from error  # fmt: skip
        otelbridge.set_trace_io(output=made["answer"])
        otelbridge.score_api_call()
        return made


app.add_route("/feedback", otelbridge.feedback_app(names={"user_rating"}), methods=["POST"])

if __name__ == "__main__":
    otelbridge.configure(service_name="shopping-assistant")
    uvicorn.run(app, port=int(os.environ.get("PORT", "8020")), log_level="warning")
