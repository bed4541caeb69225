"""A program that makes spans with otelbridge's helpers, a round for each line on standard input.

Started by `filling.py` as a process of its own, because `configure` sets the process' provider.
It has what the recorded emitters and the demo lack: scores, prompt versions, variants of a trace,
teams and databases in the trace's metadata, cached and refused calls of one prompt. After each
round it flushes and writes one line with the trace ids.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from opentelemetry import trace

import otelbridge
from otelbridge import semconv

USERS = ("ann", "bert", "cleo")
MODELS = (("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"))
#: Names that are no good neighbours of quotes and of regular expressions.
ODD_USER = 'o\'neil "x"'
ODD_MODEL = 'my "own" model\\v1.0 (beta)'
REFUSED = 2  # calls of a round that the provider refuses


class RateLimitError(Exception):
    """What a provider's package raises."""


def chunk(text: str = "", usage: dict[str, int] | None = None) -> dict[str, Any]:
    """A piece of a streamed answer, as OpenAI sends it."""
    choices = [] if usage else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o",
        "choices": choices,
        "usage": usage,
    }


def streamed(model: str, provider: str, asked: list[dict[str, str]]) -> None:
    """A call with a time to first token, cached and reasoning tokens."""
    usage = {
        "prompt_tokens": 90,
        "completion_tokens": 20,
        "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    with otelbridge.chat(model, provider=provider, messages=asked, stream=True) as call:
        for _ in call.stream(iter([chunk("Yes"), chunk(", it is."), chunk(usage=usage)])):
            pass
        call.set_usage(cost_usd=0.002)


def answered(model: str, provider: str, version: int, asked: list[dict[str, str]]) -> None:
    """Calls with one version of a prompt: answered (cut short in the second), cached, refused."""
    prompt: dict[str, Any] = {"prompt_name": "support", "prompt_version": version}
    for cached in (False, True):
        with otelbridge.chat(
            model, provider=provider, messages=asked, cached=cached, **prompt
        ) as call:
            call.set_response(
                id="r-1", model=model, finish_reasons=["stop" if version == 1 else "length"]
            )
            call.set_usage(
                input_tokens=100 * version,
                output_tokens=40,
                cached_tokens=0,
                cost_usd=0.003 * version,
            )
    for _ in range(REFUSED):
        with (
            contextlib.suppress(RateLimitError),
            otelbridge.chat(model, provider=provider, messages=asked, **prompt),
        ):
            raise RateLimitError("slow down")


def worked(model: str, provider: str, asked: list[dict[str, str]]) -> None:
    """An agent with a search, a tool that works and one that does not."""
    with otelbridge.invoke_agent("buyer", provider=provider, model=model, input=asked) as agent:
        with otelbridge.retrieval("catalogue", query="lamp", top_k=2) as found:
            found.set_documents([{"id": "d1", "score": 0.9, "content": "a lamp"}])
        with otelbridge.execute_tool("stock", call_id="c-1", arguments={"id": 1}) as tool:
            tool.set_result("3 left")
        with (
            contextlib.suppress(TimeoutError),
            otelbridge.execute_tool("reserve", call_id="c-2", arguments={"id": 1}),
        ):
            raise TimeoutError("no answer")
        with otelbridge.embeddings("text-embedding-3-small", provider="openai", input="lamp") as e:
            e.set_usage(input_tokens=3, cost_usd=0.00001)
        answered(model, provider, 1, asked)
        agent.set_output("Reserved.")


def judged(good: bool) -> None:
    """Scores of a prompt with number and label, a user's rating, a score that is a label only."""
    prompt = {semconv.GEN_AI_PROMPT_NAME: "support", semconv.GEN_AI_PROMPT_VERSION: 2}
    for name, value in (("faithfulness", 0.9 if good else 0.4), ("completeness", 0.3)):
        with otelbridge.evaluate(name, attributes=prompt) as judgement:
            judgement.set_score(value, label="pass" if value > 0.5 else "fail")
    with otelbridge.evaluate("user_rating") as judgement:
        judgement.set_score(5 if good else 2)
    with otelbridge.evaluate("tone") as judgement:
        judgement.set_score("friendly")


def round_(number: int) -> list[str]:
    """What every user does; the trace ids."""
    traces = []
    for index, user in enumerate((*USERS, ODD_USER)):
        model, provider = MODELS[index % len(MODELS)]
        if user == ODD_USER:
            model, provider = ODD_MODEL, "openai"
        variant = "AB"[index % 2]
        asked = [{"role": "user", "content": f"Have you a lamp? ({number})"}]
        metadata = {
            "team": ("sales", "support")[index % 2],
            "database": ("orders", "stock")[index % 2],
            "variant": variant,
        }
        with (
            otelbridge.request_context(
                user_id=user, session_id=f"{user}-{number % 2}", tags=[variant], metadata=metadata
            ),
            trace.get_tracer("shop.web").start_as_current_span(
                "POST /buy", kind=trace.SpanKind.SERVER, attributes={"http.request.method": "POST"}
            ),
            otelbridge.span("shop", kind="chain"),
        ):
            traces.append(otelbridge.current_trace_id() or "")
            streamed(model, provider, asked)
            worked(model, provider, asked)
            answered(model, provider, 2, asked)
            judged(good=index != 1)
    return traces


def main() -> None:
    """Rounds until standard input ends."""
    otelbridge.configure()
    for line in sys.stdin:
        traces = round_(int(line))
        otelbridge.flush()
        sys.stdout.write(json.dumps(traces) + "\n")
        sys.stdout.flush()
    otelbridge.shutdown()


if __name__ == "__main__":
    main()
