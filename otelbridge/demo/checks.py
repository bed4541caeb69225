"""What must hold after the demo's requests: a list of named checks over both views.

Each check is a function of `Evidence` that returns what is wrong, one line per finding; nothing
found means ok. No I/O: `runner` gathers the evidence again until all hold or its deadline passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from otelbridge import policy, semconv
from otelbridge.demo.traffic import Sent, streamed_text
from otelbridge.demo.views import View, ViewSpan

#: Outcomes of requests that came back with an answer.
ANSWERED: Final = ("answer", "first", "cached")
CONTEXT_HEADERS: Final = ("traceparent", "tracestate", "baggage")
#: Text of the examples' documents, tool results and answers that is content, besides the canary.
CONTENT_PHRASES: Final = (
    "Goods can be returned within 30 days",
    "standard shipping takes 3 days",
    "arrives on Thursday",
    "You asked:",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One request with its trace as each side has it."""

    sent: Sent
    tempo: View
    langfuse: View

    @property
    def name(self) -> str:
        """The request's name, for findings."""
        return self.sent.case.name


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the checks look at.

    Attributes:
        upstream: What the mock provider received: `path` and `headers` of each request.
        canary: The phrase that was in every question.
    """

    pairs: Sequence[Pair]
    upstream: Sequence[Mapping[str, Any]]
    canary: str

    @property
    def llm(self) -> list[Pair]:
        """The requests that do LLM work."""
        return [pair for pair in self.pairs if pair.sent.case.llm]


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on one promise; `findings` is empty when it holds."""

    title: str
    findings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the promise holds."""
        return not self.findings


def every_request_traced(evidence: Evidence) -> Iterator[str]:
    """Each request left one trace, whole, with spans of every service it passed."""
    for pair in evidence.pairs:
        if len(pair.sent.trace_id) != 32:
            yield f"{pair.name}: the gateway answered no trace id"
        elif missing := pair.sent.case.services - pair.tempo.services:
            yield f"{pair.name}: no spans of {', '.join(sorted(missing))}"
        elif pair.tempo.orphans or len(pair.tempo.roots) != 1:
            yield (
                f"{pair.name}: {len(pair.tempo.roots)} roots, {len(pair.tempo.orphans)} spans "
                "without their parent"
            )


def no_content_in_tempo(evidence: Evidence) -> Iterator[str]:
    """No prompt, answer, document, tool argument or result in any answer of the Tempo side."""
    for pair in evidence.pairs:
        for phrase in (evidence.canary, *CONTENT_PHRASES):
            if phrase in pair.tempo.raw:
                yield f"{pair.name}: {phrase!r} is there"
        for span in pair.tempo.spans.values():
            for key in filter(policy.is_content_key, span.attributes):
                yield f"{pair.name}: span {span.name} has {key}"


def same_id_in_both(evidence: Evidence) -> Iterator[str]:
    """The LLM requests are in both views under one trace id."""
    for pair in evidence.llm:
        for side, view in (("Tempo", pair.tempo), ("Langfuse", pair.langfuse)):
            if not view.spans:
                yield f"{pair.name}: trace {pair.sent.trace_id} is not in the {side} view"


def langfuse_is_the_llm_view(evidence: Evidence) -> Iterator[str]:
    """The Langfuse view has every LLM-view span of the trace and no other."""
    for pair in evidence.llm:
        wanted = {i for i, s in pair.tempo.spans.items() if policy.in_llm_view(s.attributes)}
        have = set(pair.langfuse.spans)
        for span_id in have - wanted:
            yield f"{pair.name}: {pair.langfuse.spans[span_id].name} is there and should not be"
        for span_id in wanted - have:
            yield f"{pair.name}: {pair.tempo.spans[span_id].name} is missing"


def unbroken_tree(evidence: Evidence) -> Iterator[str]:
    """Each span of the Langfuse view hangs below the nearest LLM-view ancestor it has in Tempo."""
    for pair in evidence.llm:
        if len(pair.langfuse.roots) != 1:
            yield f"{pair.name}: {len(pair.langfuse.roots)} roots"
        for span in pair.langfuse.spans.values():
            if span.parent and span.parent not in pair.langfuse.spans:
                yield f"{pair.name}: the parent of {span.name} is missing"
            elif span.span_id in pair.tempo.spans and span.parent != view_ancestor(pair, span):
                yield f"{pair.name}: {span.name} hangs below another span than in Tempo"


def view_ancestor(pair: Pair, span: ViewSpan) -> str:
    """The nearest ancestor in the full tree that the Langfuse view has, or empty text."""
    above = pair.tempo.spans[span.span_id].parent
    while above and above not in pair.langfuse.spans:
        above = pair.tempo.spans[above].parent if above in pair.tempo.spans else ""
    return above


def root_says_what_it_was(evidence: Evidence) -> Iterator[str]:
    """The root of the Langfuse view carries the trace's name, input and output."""
    for pair in evidence.llm:
        for root in pair.langfuse.roots:
            wanted = ["traceName", "input"]
            if pair.sent.case.outcome in (*ANSWERED, "cut"):
                wanted.append("output")
            for name in wanted:
                if not root.attributes.get(name):
                    yield f"{pair.name}: root {root.name} has no {name}"
            if evidence.canary not in str(root.attributes.get("input")):
                yield f"{pair.name}: the root's input is not the question"


def prompts_in_langfuse(evidence: Evidence) -> Iterator[str]:
    """Every model call in the Langfuse view has its prompt, and its answer when there was one."""
    for pair in evidence.llm:
        calls = observed(pair, "chat")
        if not calls:
            yield f"{pair.name}: no model call"
        for call in calls:
            if evidence.canary not in str(call.attributes.get("input")):
                yield f"{pair.name}: {call.name} has no prompt"
            if pair.sent.case.outcome in ANSWERED and not call.attributes.get("output"):
                yield f"{pair.name}: {call.name} has no answer"


def tokens_and_cost(evidence: Evidence) -> Iterator[str]:
    """Every answered model call has integer token counts and a cost, the same in both views."""
    for pair in evidence.llm:
        if pair.sent.case.outcome != "answer":
            continue
        for call in observed(pair, "chat", "embeddings"):
            tempo = pair.tempo.spans[call.span_id].attributes
            counts: list[Any] = [tempo.get(semconv.GEN_AI_USAGE_INPUT_TOKENS)]
            if tempo[semconv.GEN_AI_OPERATION_NAME] == "chat":  # embeddings have no output
                counts.append(tempo.get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS))
            if not all(type(count) is int and count > 0 for count in counts):
                yield f"{pair.name}: {call.name} has token counts {counts}"
                continue
            total = (call.attributes.get("usageDetails") or {}).get("total")
            if total != sum(counts):
                yield f"{pair.name}: {call.name} has {total} tokens in Langfuse, {counts} in Tempo"
            cost = tempo.get(semconv.GEN_AI_USAGE_COST)
            if not isinstance(cost, float) or cost <= 0:
                yield f"{pair.name}: {call.name} has {semconv.GEN_AI_USAGE_COST}={cost!r}"
            elif abs(cost - (call.attributes.get("totalCost") or 0.0)) > cost * 1e-9:
                yield f"{pair.name}: {call.name} costs another sum in Langfuse"


def who_asked(evidence: Evidence) -> Iterator[str]:
    """Every span of the Langfuse view carries the user and the session, in all services."""
    for pair in evidence.llm:
        body = pair.sent.case.body or {}
        for span in pair.langfuse.spans.values():
            for name, value in (("userId", body.get("user")), ("sessionId", body.get("session"))):
                if span.attributes.get(name) != value:
                    yield f"{pair.name}: {span.service} {span.name} has no {name} {value}"


def nothing_for_plain_requests(evidence: Evidence) -> Iterator[str]:
    """A health check and a plain page are in Tempo, and no trace of them is in Langfuse."""
    for pair in evidence.pairs:
        if not pair.sent.case.llm and pair.langfuse.spans:
            yield f"{pair.name}: {len(pair.langfuse.spans)} spans in the Langfuse view"


def provider_saw_no_context(evidence: Evidence) -> Iterator[str]:
    """The untrusted provider got requests, and none carried trace context or baggage."""
    if not evidence.upstream:
        yield "the provider got no request at all"
    for request in evidence.upstream:
        for name in request["headers"]:
            if name.lower() in CONTEXT_HEADERS:
                yield f"{request['path']} got {name}"


def outcomes_are_told(evidence: Evidence) -> Iterator[str]:
    """Failed calls have status ERROR and error.type, the slow one its time, the cached its mark."""
    for pair in evidence.llm:
        calls = calls_of(pair.tempo, "chat")
        outcome = pair.sent.case.outcome
        if outcome == "error" and not any(
            "ERROR" in c.status and c.attributes.get(semconv.ERROR_TYPE) for c in calls
        ):
            yield f"{pair.name}: no model call has status ERROR and error.type"
        if outcome in (*ANSWERED, "cut") and any("ERROR" in c.status for c in calls):
            yield f"{pair.name}: a model call has status ERROR"
        if outcome == "cached" and not any(c.attributes.get(semconv.CACHED) for c in calls):
            yield f"{pair.name}: no model call has {semconv.CACHED}"
        if pair.name == "slow" and not any(c.seconds >= 3.0 for c in calls):
            yield f"{pair.name}: no model call took 3 s"
        if pair.name == "stream" and not streamed_text(pair.sent):
            yield f"{pair.name}: no text came back"


def observed(pair: Pair, *operations: str) -> list[ViewSpan]:
    """The observations of a trace's calls of these operations, known by their span ids."""
    return [
        pair.langfuse.spans[span.span_id]
        for span in calls_of(pair.tempo, *operations)
        if span.span_id in pair.langfuse.spans
    ]


def calls_of(view: View, *operations: str) -> list[ViewSpan]:
    """The spans of a Tempo view with one of these values of gen_ai.operation.name."""
    return [
        span
        for span in view.spans.values()
        if span.attributes.get(semconv.GEN_AI_OPERATION_NAME) in operations
    ]


CHECKS: Final[tuple[tuple[str, Callable[[Evidence], Iterator[str]]], ...]] = (
    ("each request is one whole trace, with every service it passed", every_request_traced),
    ("the same trace id stands in both views", same_id_in_both),
    ("no message text, documents or tool data on the Tempo side", no_content_in_tempo),
    ("the Langfuse side has the LLM-view spans and no others", langfuse_is_the_llm_view),
    ("every parent is present there, in the same order as in Tempo", unbroken_tree),
    ("its root has name, input and output", root_says_what_it_was),
    ("prompts and answers are on the Langfuse side", prompts_in_langfuse),
    ("tokens and cost are on every answered model call", tokens_and_cost),
    ("user and session are on every LLM-view span of every service", who_asked),
    ("failed, slow, cached and interrupted calls are told apart", outcomes_are_told),
    ("/healthz and the plain page left nothing in Langfuse", nothing_for_plain_requests),
    ("the provider saw no traceparent, tracestate or baggage", provider_saw_no_context),
)


def judge(evidence: Evidence) -> list[Check]:
    """Every check's verdict, in the order of `CHECKS`."""
    return [Check(title, tuple(function(evidence))) for title, function in CHECKS]
