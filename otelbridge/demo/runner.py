"""Runs the demo from start to verdict: stack up, requests, checks, one tree in both views.

Progress goes to a callback, the result is a `Result` that the command prints or writes as JSON.
Neighbours: `stack`, `traffic`, `views`, `checks`; `cli.demo` is the face.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from otelbridge import semconv
from otelbridge.demo.checks import Check, Evidence, Pair, judge
from otelbridge.demo.processes import DemoError
from otelbridge.demo.stack import Stack
from otelbridge.demo.traffic import Sent, send_all
from otelbridge.demo.views import langfuse_trace, tempo_trace

#: How long the spans may take to arrive; normally under two seconds.
ARRIVAL_SECONDS: Final = 25.0
#: Once all holds, a late span still gets this long to prove it wrong.
SETTLE_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.25
_TELL_SECONDS: Final = 2.0
#: The request whose trace is shown.
SHOWN: Final = "order with a tool"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one run.

    Attributes:
        mode: "collector" or "direct".
        checks: Verdicts, in order.
        shown: The pair whose tree is worth looking at.
        arrival_seconds: From the last answer until all checks held, or until it was given up.
    """

    mode: str
    addresses: dict[str, str]
    evidence: Evidence
    checks: Sequence[Check]
    shown: Pair
    arrival_seconds: float

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The result for programs."""
        return {
            "ok": self.ok,
            "mode": self.mode,
            "addresses": self.addresses,
            "shown": self.shown.sent.trace_id,
            "arrival_seconds": round(self.arrival_seconds, 3),
            "requests": [
                {
                    "name": pair.name,
                    "path": pair.sent.case.path,
                    "status": pair.sent.status,
                    "trace_id": pair.sent.trace_id,
                    "tempo_spans": len(pair.tempo.spans),
                    "langfuse_spans": len(pair.langfuse.spans),
                }
                for pair in self.evidence.pairs
            ],
            "checks": [
                {"title": check.title, "ok": check.ok, "findings": list(check.findings)}
                for check in self.checks
            ],
        }


def drive(stack: Stack, tell: Tell) -> Result:
    """Send the requests to a running stack and check what both views got.

    Raises:
        DemoError: a request did not come back as it must, or a process ended.
    """
    canary = f"violet otter {secrets.token_hex(4)}"
    tell("sending requests through gateway -> rag -> llm -> provider (one takes over 3 s)")
    sent = send_all(stack.addresses.gateway, canary, tell)
    tell("waiting for the spans to arrive in both views")
    start = time.monotonic()
    evidence, checks = settle(lambda: gather(stack, sent, canary), tell)
    shown = next(pair for pair in evidence.pairs if pair.name == SHOWN)
    took = time.monotonic() - start
    return Result(stack.mode, addresses(stack), evidence, checks, shown, took)


def settle(look: Callable[[], Evidence], tell: Tell) -> tuple[Evidence, list[Check]]:
    """Look until every check holds and still does after a moment, or until the deadline."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    told = time.monotonic()
    held_since: float | None = None
    while True:
        evidence = look()
        checks = judge(evidence)
        now = time.monotonic()
        if not all(check.ok for check in checks):
            held_since = None
        elif held_since is None:
            held_since = now
        elif now - held_since >= SETTLE_SECONDS:
            return evidence, checks
        if now > deadline:
            return evidence, checks
        if now - told >= _TELL_SECONDS:
            told = now
            held = sum(check.ok for check in checks)
            tell(f"  {held} of {len(checks)} checks hold, {deadline - now:.0f} s left")
        time.sleep(_POLL_SECONDS)


def gather(stack: Stack, sent: Sequence[Sent], canary: str) -> Evidence:
    """Read every trace from both views, and what the provider received."""
    stack.processes.check_alive()
    keys = (stack.local.project.public_key, stack.local.project.secret_key)
    try:
        with httpx.Client(timeout=10, trust_env=False) as client:
            pairs = [
                Pair(
                    one,
                    tempo_trace(client, stack.local.tempo_url, one.trace_id),
                    langfuse_trace(client, stack.local.langfuse_url, one.trace_id, keys),
                )
                for one in sent
            ]
            upstream = client.get(f"{stack.addresses.upstream}/_headers").json()
    except httpx.HTTPError as error:
        raise DemoError(f"a view could not be read: {error!r}") from error
    return Evidence(pairs, upstream, canary)


def addresses(stack: Stack) -> dict[str, str]:
    """Every address of the stack, by name."""
    here = stack.addresses
    return {
        "gateway": here.gateway,
        "rag": here.rag,
        "llm": here.llm,
        "provider": here.upstream,
        **stack.local.addresses(),
    }


def differences(pair: Pair) -> list[str]:
    """What differs between the two views of a trace and why, from the trace itself."""
    tempo, langfuse = pair.tempo.spans, pair.langfuse.spans
    moved = [s for s in langfuse.values() if s.parent and s.parent != tempo[s.span_id].parent]
    left_out = Counter(span.name for i, span in tempo.items() if i not in langfuse)
    names = ", ".join(f"{count} x {name}" for name, count in sorted(left_out.items()))
    removed = [s for s in tempo.values() if s.attributes.get(semconv.CONTENT_REMOVED)]
    lines = [
        f"Tempo has all {len(tempo)} spans; Langfuse has the {len(langfuse)} that are LLM work or "
        "the entry of a service with LLM work below it.",
        f"Left out of Langfuse: {names} (HTTP clients and plain steps).",
        f"Message text: {len(removed)} spans lost theirs on the way to Tempo, Langfuse has it "
        "(and that is why prompts are searched there).",
    ]
    if moved:
        one = min(moved, key=lambda span: span.start_ns)
        above, below = tempo[tempo[one.span_id].parent], tempo[one.parent]
        lines.append(
            f"{len(moved)} spans hang elsewhere: {one.name} is below {above.name} "
            f"({above.service}) in Tempo, and below {below.name} ({below.service}) in Langfuse, so "
            "that nothing there is an orphan."
        )
    lines.append("Trace id and span ids are the same: each store is one click from the other.")
    return lines
