"""The demo's requests: a dozen varied ones against the gateway, and what each should leave behind.

`send_all` returns one `Sent` per request, with the trace id that the gateway answered in its
`X-Trace-Id` header. Slow requests run beside the others. Nothing here reads telemetry.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import httpx

from otelbridge.demo.processes import DemoError

ALL = frozenset({"gateway", "rag", "llm"})


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what is expected of it.

    Attributes:
        body: JSON for a POST; None makes it a GET.
        status: The HTTP status that must come back.
        cut_after: Hang up after this many SSE lines.
        services: Services that must have spans in its trace.
        llm: Whether the trace must be in the Langfuse view at all.
        outcome: "answer", "first", "cached", "error", "cut" or "plain". "answer" promises tokens
            and cost; the "first" call of a process may go unpriced while the price list loads.
    """

    name: str
    path: str
    body: dict[str, Any] | None = None
    status: int = 200
    cut_after: int = 0
    services: frozenset[str] = ALL
    llm: bool = True
    outcome: str = "answer"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that was made: its case, trace id and what came back."""

    case: Case
    trace_id: str
    status: int
    text: str = field(repr=False)


def cases(canary: str) -> tuple[list[Case], ...]:
    """The requests of one run, in rounds: a first one alone, most at once, one that needs another.

    Args:
        canary: A phrase put into each question; it must never be found in Tempo.
    """

    def ask(
        question: str, user: str, session: str, model: str = "gpt-4o", **more: Any
    ) -> dict[str, Any]:
        text = f"{question} ({canary})"
        return {"question": text, "user": user, "session": session, "model": model, **more}

    shipping = "How long does express shipping take?"
    claude = "claude-sonnet-4-5"
    first = [Case("first question", "/ask", ask(shipping, "alice", "s-1"), outcome="first")]
    most = [
        Case("slow", "/ask", ask("Tell me all about payment [[latency=3.2]]", "dave", "s-4")),
        Case("order with a tool", "/ask",
             ask("Where is my order A-17?", "alice", "s-1", tags=["vip"],
                 metadata={"shop": "lamps"})),
        Case("other model", "/ask", ask("How do I return a lamp?", "bob", "s-2", claude)),
        Case("other model, tool", "/ask", ask("Has order A-18 left?", "bob", "s-2", claude)),
        Case("reasoning and cached tokens", "/ask",
             ask("Is the cable covered? [[reasoning=40]] [[cached=8]]", "carol", "s-3", "o4-mini")),
        Case("rate limited", "/ask", ask("Too much? [[status=429]]", "carol", "s-3"), 429,
             outcome="error"),
        Case("provider fails", "/ask", ask("Broken? [[status=500]]", "dave", "s-4"), 500,
             outcome="error"),
        Case("stream", "/ask/stream", ask("What does the warranty cover?", "user-123", "s-5")),
        Case("stream, caller hangs up", "/ask/stream",
             ask("Tell me a long story [[delay=0.15]]", "user-123", "s-5"), cut_after=3,
             outcome="cut"),
        Case("stream, provider breaks off", "/ask/stream",
             ask("And then? [[break=3]]", "frank", "s-6"), outcome="error"),
        Case("feedback in the background", "/feedback",
             {"comment": f"Quick and friendly! ({canary})", "user": "alice", "session": "s-1"}, 202,
             services=frozenset({"gateway", "llm"})),
        Case("health check", "/healthz", services=frozenset({"gateway"}), llm=False,
             outcome="plain"),
        Case("plain page", "/", services=frozenset({"gateway"}), llm=False, outcome="plain"),
    ]
    last = [Case("answer from the cache", "/ask", ask(shipping, "frank", "s-6"), outcome="cached")]
    return first, most, last


def send(client: httpx.Client, case: Case) -> Sent:
    """Make one request; DemoError when the status is not the expected one or no trace id came."""
    text = ""
    try:
        method = "GET" if case.body is None else "POST"
        with client.stream(method, case.path, json=case.body) as reply:
            for count, line in enumerate(reply.iter_lines(), start=1):
                text += line + "\n"
                if count == case.cut_after:
                    break
    except httpx.HTTPError as error:
        raise DemoError(f"request {case.name!r} to {case.path} failed: {error!r}") from error
    trace_id = reply.headers.get("X-Trace-Id", "")
    if reply.status_code != case.status:
        raise DemoError(
            f"request {case.name!r} answered {reply.status_code}, expected {case.status}: "
            f"{text[:300]}"
        )
    return Sent(case, trace_id, reply.status_code, text)


def send_all(gateway: str, canary: str, tell: Callable[[str], None]) -> list[Sent]:
    """Send every case, round by round, four at a time.

    Args:
        gateway: Base URL.
        tell: Called with a line for each answer.
    """
    sent: list[Sent] = []
    with httpx.Client(base_url=gateway, timeout=30, trust_env=False) as client:
        for round_ in cases(canary):
            pool = ThreadPoolExecutor(max_workers=4)
            try:
                for future in as_completed([pool.submit(send, client, case) for case in round_]):
                    answer = future.result()
                    sent.append(answer)
                    tell(f"  {answer.status}  {answer.case.name:<28} trace {answer.trace_id}")
            finally:  # after an error or a signal: leave the rest unsent
                pool.shutdown(wait=False, cancel_futures=True)
    return sent


def streamed_text(sent: Sent) -> str:
    """The text of an SSE answer."""
    events = [json.loads(line[6:]) for line in sent.text.splitlines() if line.startswith("data: ")]
    return "".join(event.get("text", "") for event in events)
