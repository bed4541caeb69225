"""Fifty traces in `otelbridge local`, and what their links must lead to.

Each has an HTTP entry, an agent and below it tools, a retrieval, calls of a model, scores and a
database call; one tool and one call fail. Ids include leading zeros, which Tempo's search leaves
out of trace ids. Times are of now.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelbridge.local.server import LocalServer
from tests.collector.emitters import corpus
from tests.local.conftest import Samples

TRACES: Final = 50
MODELS: Final = ("gpt-4.1", 'odd "model" (v1.5|beta)', "claude-sonnet-4-5")
USERS: Final = ("ann", 'o\'hara "x" & co', "bert@example.com")


@dataclass
class Sent:
    """What was sent.

    Attributes:
        trace_of: Span id → trace id, both whole and in hex, also of the recorded emitters.
        llm: Spans of the fifty traces that Langfuse has a page of.
        plain: Their other spans.
    """

    server: LocalServer
    http: httpx.Client
    trace_of: dict[str, str] = field(default_factory=dict)
    llm: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)

    @property
    def jump(self) -> str:
        """Id of one of the fifty traces as a table of Tempo has it: without its leading zeros."""
        found = min(self.trace_of[span] for span in self.llm)
        assert found.startswith("000000")
        return found.lstrip("0")

    def search(self, query: str, **parameters: Any) -> dict[str, Any]:
        """The answer of /api/search.

        Raises:
            AssertionError: the query was refused.
        """
        given = {key: value for key, value in parameters.items() if value}
        reply = self.http.get(f"{self.server.tempo_url}/api/search", params={"q": query, **given})
        assert reply.status_code == 200, f"{query}\n{reply.text}"
        return reply.json()

    def page(self, span_id: str) -> str:
        """The address of a span in the preview."""
        base = f"{self.server.langfuse_url}/project/{self.server.project.project_id}"
        return f"{base}/traces/{self.trace_of[span_id]}?observation={span_id}"


def send(server: LocalServer, http: httpx.Client) -> Sent:
    """Send the fifty traces and one copy of every recorded emitter."""
    sent = Sent(server, http)
    dice = random.Random(6)
    for first in range(0, TRACES, 10):
        _post(sent, _merged(_trace(sent, n, dice) for n in range(first, first + 10)))
    for emitter in corpus.EMITTERS:
        texts, _ = corpus.fresh(corpus.lines(emitter))
        request = _merged(map(corpus.parse, texts))
        for batch in request.resource_spans:
            for scope in batch.scope_spans:
                for span in scope.spans:
                    sent.trace_of[span.span_id.hex()] = span.trace_id.hex()
        _post(sent, request)
    return sent


def _merged(requests: Iterable[ExportTraceServiceRequest]) -> ExportTraceServiceRequest:
    whole = ExportTraceServiceRequest()
    for request in requests:
        whole.resource_spans.extend(request.resource_spans)
    return whole


def _post(sent: Sent, request: ExportTraceServiceRequest) -> None:
    reply = sent.http.post(
        f"{sent.server.otlp_http_url}/v1/traces",
        content=request.SerializeToString(),
        headers={"content-type": "application/x-protobuf"},
    )
    assert reply.status_code == 200, reply.text


def _trace(sent: Sent, number: int, dice: random.Random) -> ExportTraceServiceRequest:
    zeros = number % 4  # bytes of zeros in front of both ids
    trace_id = bytes(zeros) + bytes([1 + number]) + dice.randbytes(15 - zeros)
    start = time.time_ns() - number * 1_000_000_000
    model, user = MODELS[number % 3], USERS[number % 3]
    common = {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "user.id": user,
        "session.id": f"session {number % 7}",
    }
    call = {
        **common,
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": 100 + number,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cost": 0.01 * number,
        "gen_ai.prompt.name": "support",
        "gen_ai.prompt.version": 3,
        "langfuse.trace.metadata.team": "search",
        "langfuse.environment": "test",
    }
    tool = {**common, "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "stock"}
    score = {"gen_ai.evaluation.score.value": 0.2, "gen_ai.evaluation.score.label": "bad"}
    failed = Status(code=Status.STATUS_CODE_ERROR, message="slow down")
    good = Status()
    below: tuple[tuple[str, dict[str, Any], Status], ...] = (
        ("execute_tool", tool, good),
        ("execute_tool", tool, good),
        ("execute_tool", tool, good),
        ("execute_tool", {**tool, "error.type": "TimeoutError"}, failed),
        ("retrieval", {**common, "gen_ai.operation.name": "retrieval",
                       "gen_ai.data_source.id": "catalogue"}, good),
        ("chat", call, good),
        ("chat", {**call, "gen_ai.response.finish_reasons": ["length"]}, good),
        ("chat", {**call, "error.type": "RateLimitError"}, failed),
        ("evaluate", {**common, **score, "gen_ai.evaluation.name": "relevance"}, good),
        ("evaluate", {**common, **score, "gen_ai.evaluation.name": "user-rating"}, good),
        ("SELECT", {"db.system.name": "postgresql"}, good),
    )  # fmt: skip
    agent = {**common, "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "buyer"}
    kinds = (("GET /ask", {"http.request.method": "GET"}, good), ("invoke_agent", agent, good))
    spans, parent = [], b""
    for place, (name, attributes, status) in enumerate(kinds + below):
        span_id = bytes(zeros) + dice.randbytes(8 - zeros)
        spans.append(
            Samples.span(
                name, attributes, trace_id=trace_id, span_id=span_id, parent_span_id=parent,
                start_time_unix_nano=start + place * 1_000_000,
                end_time_unix_nano=start + (place + 1) * 2_000_000_000,
                kind=Span.SPAN_KIND_SERVER if place == 0 else Span.SPAN_KIND_CLIENT,
                status=status,
            )
        )  # fmt: skip
        sent.trace_of[span_id.hex()] = trace_id.hex()
        if common.items() <= attributes.items():
            sent.llm.add(span_id.hex())
        else:
            sent.plain.add(span_id.hex())
        if place < len(kinds):  # all others are below the agent
            parent = span_id
    return Samples.request(*spans, service="shop", resource={"deployment.environment.name": "test"})
