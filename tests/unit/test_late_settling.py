"""What an export path settles in its worker is what is settled at once for all others."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Status, StatusCode

from otelbridge import semconv as s
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor, ExportPath, Settling

CHAT: dict[str, Any] = {
    s.GEN_AI_OPERATION_NAME: "chat",
    s.GEN_AI_PROVIDER_NAME: "openai",
    s.GEN_AI_REQUEST_MODEL: "gpt-4o",
    s.GEN_AI_INPUT_MESSAGES: "x" * 5000,
    s.GEN_AI_USAGE_INPUT_TOKENS: 10,
    s.GEN_AI_USAGE_OUTPUT_TOKENS: 5,
}


class Path(ExportPath):
    """An export path of which the worker works when it is told to.

    Args:
        late: It settles by itself.
    """

    def __init__(self, *, late: bool, capture_content: bool) -> None:
        self.settles = late
        self.step = Settling(legacy_gen_ai_system=True, capture_content=capture_content)
        self.waiting: list[ReadableSpan] = []
        self.sent: list[dict[str, Any]] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.waiting.append(span)

    def work(self) -> None:
        for span in self.waiting:
            sent = self.step(span) if self.settles else span
            self.sent.append(dict(sent.attributes or {}))
        self.waiting = []


def bridged(*, late: bool, capture_content: bool = True) -> tuple[TracerProvider, Path]:
    path = Path(late=late, capture_content=capture_content)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BridgeSpanProcessor(
            context=ContextAttributes(environment="test", release=None),
            marks=ViewMarks(mode="services", enabled=True, capture_content=capture_content),
            capture_content=capture_content,
            next_processor=path,
        )
    )
    return provider, path


def without_ids(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in span.items() if k != s.LLM_PARENT} for span in spans]


@pytest.mark.parametrize("capture_content", [True, False])
def test_late_and_at_once_are_the_same(capture_content: bool) -> None:
    """Names, URLs, error types and content of the same spans are the same on both ways."""
    sent = []
    for late in (True, False):
        provider, path = bridged(late=late, capture_content=capture_content)
        tracer = provider.get_tracer("t")
        with tracer.start_as_current_span("root", attributes={"url.full": "http://a/?token=abc"}):
            with tracer.start_as_current_span("chat", attributes=CHAT) as span:
                span.add_event("exception", {"exception.type": "E", "gen_ai.prompt": "secret"})
                span.set_status(Status(StatusCode.ERROR))
            tracer.start_span("later", attributes={"http.url": "http://a/?api_key=abc"}).end()
        path.work()
        sent.append(without_ids(path.sent))
    assert sent[0] == sent[1]
    chat, later, root = sent[0]
    assert chat[s.GEN_AI_SYSTEM] == "openai"
    assert chat[s.ERROR_TYPE] == "E"
    assert (s.GEN_AI_INPUT_MESSAGES in chat) is capture_content
    assert "abc" not in str(later) + str(root)


@pytest.mark.parametrize("exported", [True, False], ids=["exported before", "still waiting"])
@pytest.mark.parametrize("late", [True, False])
def test_an_outer_span_knows_the_call_that_was_counted_below_it(late: bool, exported: bool) -> None:
    """A span that turns out to be the same call at its end finds it, exported or not."""
    provider, path = bridged(late=late)
    with provider.get_tracer("outer").start_as_current_span("outer") as outer:
        provider.get_tracer("client").start_span("inner", attributes=CHAT).end()
        if exported:
            path.work()
            gc.collect()
        outer.set_attributes(CHAT)
    path.work()
    inner, above = path.sent
    assert s.COST_COUNTED_BY not in inner
    assert above[s.COST_COUNTED_BY]
    assert s.GEN_AI_USAGE_INPUT_TOKENS not in above


def test_a_span_that_cannot_be_looked_through_leaves_bare(
    swallow_errors: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in the worker costs the attributes of the span, not its content's secrecy."""
    provider, path = bridged(late=True)

    def broken(present: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr("otelbridge.processors.pipeline.clean_urls", broken)
    provider.get_tracer("t").start_span("s", attributes=CHAT).end()
    path.work()
    assert path.sent == [{s.LLM_KEEP: False}]
