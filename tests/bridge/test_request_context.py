"""`request_context`: on every span of the request, here and behind baggage, within the limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, trace

import otelbridge
from otelbridge import _guard, semconv
from otelbridge.context import MAX_BAGGAGE_BYTES, flatten_metadata
from tests.bridge.conftest import Bridge
from tests.bridge.test_services import visit

HOSTILE = 'ünï, "quoted"; a=b%20c\\ \t'


def _request_attributes(span: Any) -> dict[str, Any]:
    prefixes = ("user.", "session.", "langfuse.trace.", "langfuse.version")
    return {k: v for k, v in span.attributes.items() if k.startswith(prefixes)}


def test_every_span_of_the_request_carries_it_here_and_in_the_next_service(
    bridge: Bridge, llm_call: Callable[..., Any]
) -> None:
    """Server span, client span, threads and the service behind have identical attributes."""
    bridge.start()
    back, front = bridge.app("back"), bridge.app("front")

    @back.get("/back")
    def _back() -> str:
        with llm_call():
            return "ok"

    back_url = bridge.serve(back)
    tracer = trace.get_tracer("t")

    def in_thread() -> None:
        with tracer.start_as_current_span("thread"):
            pass

    @front.get("/front")
    def _front() -> str:
        metadata = {"task": {"type": "sql"}, "cached": True, "n": 3, "ids": [1, "b"], "x": HOSTILE}
        with otelbridge.request_context(
            user_id=HOSTILE, session_id="s-1", tags=["a,b", "c=d"], metadata=metadata,
            trace_name="ask",
        ):  # fmt: skip
            thread = threading.Thread(target=in_thread)
            thread.start()
            thread.join()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(in_thread).result()
            return httpx.get(f"{back_url}/back").text

    visit(f"{bridge.serve(front)}/front")
    spans = bridge.spans()
    assert sorted(span.name for span in spans) == [
        "GET", "GET /back", "GET /front", "chat", "thread", "thread",
    ]  # fmt: skip
    expected = {
        "user.id": HOSTILE.strip(),
        "session.id": "s-1",
        "langfuse.trace.name": "ask",
        "langfuse.trace.tags": ("a,b", "c=d"),
        "langfuse.trace.metadata.task.type": "sql",
        "langfuse.trace.metadata.cached": "true",
        "langfuse.trace.metadata.n": "3",
        "langfuse.trace.metadata.ids": '[1, "b"]',
        "langfuse.trace.metadata.x": HOSTILE.strip(),
        "langfuse.trace.metadata.request_id": bridge.one("chat").attributes[semconv.REQUEST_ID],
    }
    for span in spans:
        assert _request_attributes(span) == expected, span.name
    assert bridge.one("chat").attributes["gen_ai.conversation.id"] == "s-1"
    assert "gen_ai.conversation.id" not in bridge.one("GET /back").attributes


def test_nested_contexts_add_and_override(bridge: Bridge) -> None:
    """The inner value wins, tags unite, and the outer context is back afterwards."""
    bridge.start()
    tracer = trace.get_tracer("t")
    with otelbridge.request_context(user_id="u-1", tags=["a"], metadata={"k": "1", "o": "x"}):
        with otelbridge.request_context(user_id="u-2", tags=["b", "a"], metadata={"k": "2"}):
            tracer.start_span("inner").end()
        tracer.start_span("outer").end()
    tracer.start_span("after").end()
    inner = bridge.one("inner").attributes
    assert (inner["user.id"], inner["langfuse.trace.tags"]) == ("u-2", ("a", "b"))
    assert inner["langfuse.trace.metadata.k"] == "2"
    assert inner["langfuse.trace.metadata.o"] == "x"
    assert bridge.one("outer").attributes["user.id"] == "u-1"
    assert _request_attributes(bridge.one("after")) == {}


def test_concurrent_tasks_do_not_mix(bridge: Bridge) -> None:
    """Each asyncio task keeps its own request context."""
    bridge.start()
    tracer = trace.get_tracer("t")

    async def work(number: int) -> None:
        with otelbridge.request_context(user_id=f"u-{number}"):
            await asyncio.sleep(0)
            with tracer.start_as_current_span(f"s-{number}"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(20)))

    asyncio.run(main())
    for number in range(20):
        assert bridge.one(f"s-{number}").attributes["user.id"] == f"u-{number}"


def test_what_is_over_a_limit_is_dropped_whole_and_counted(bridge: Bridge) -> None:
    """200 characters are kept, 201 are dropped; the neighbours stay."""
    bridge.start()
    before = _guard.failures()
    metadata = {"long": "x" * 201, "fits": "y" * 200, "k" * 201: "v", "none": None}
    with otelbridge.request_context(user_id="u" * 201, session_id="s", metadata=metadata):
        trace.get_tracer("t").start_span("s").end()
    assert _request_attributes(bridge.one("s")) == {
        "session.id": "s",
        "langfuse.trace.metadata.fits": "y" * 200,
    }
    counted = {k: n - before.get(k, 0) for k, n in _guard.failures().items()}
    assert counted["request context: value over 200 characters"] == 1
    assert counted["request context: metadata value over 200 characters"] == 1
    assert counted["request context: metadata key over 200 characters"] == 1


def test_the_baggage_header_stays_within_its_limits(bridge: Bridge) -> None:
    """A hundred metadata keys: some are dropped whole, all that is left arrives next door."""
    bridge.start()
    metadata = {f"key-{number}": f"{number}-" + "ä" * 60 for number in range(100)}
    with otelbridge.request_context(user_id="u", metadata=metadata):
        headers: dict[str, str] = {}
        with trace.get_tracer("t").start_as_current_span("s"):
            otelbridge.inject(headers)
    assert len(headers["baggage"]) <= MAX_BAGGAGE_BYTES
    arrived = baggage.get_all(otelbridge.extract(headers))
    sent = _request_attributes(bridge.one("s"))
    assert dict(arrived) == sent
    assert 5 < len(sent) < 100
    assert all(value.endswith("ä" * 60) for key, value in sent.items() if key != "user.id")


def test_foreign_baggage_does_not_become_attributes(bridge: Bridge) -> None:
    """Only the members of the allow-list are copied; over-long ones are not."""
    bridge.start()
    context = otelbridge.extract(
        {"baggage": f"secret=x,user.name=y,user.id=u,session.id={'s' * 201},langfuse.public=true"}
    )
    trace.get_tracer("t").start_span("s", context=context).end()
    assert _request_attributes(bridge.one("s")) == {"user.id": "u"}
    assert "secret" not in bridge.one("s").attributes


class _Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_hostile_metadata_is_survived(bridge: Bridge, swallow_errors: None) -> None:
    """Cycles, raising objects, NaN, surrogates and odd keys cost themselves and nothing else."""
    bridge.start()
    cyclic: dict[Any, Any] = {"a": 1}
    cyclic["self"] = cyclic
    metadata = {"bad": _Hostile(), "nan": float("nan"), 7: "seven", "s": "\ud800", "c": cyclic}
    with otelbridge.request_context(user_id="u", metadata=metadata, tags=[1, "t"]):  # type: ignore[list-item]
        trace.get_tracer("t").start_span("s").end()
    found = _request_attributes(bridge.one("s"))
    assert found["user.id"] == "u"
    assert found["langfuse.trace.metadata.7"] == "seven"
    assert found["langfuse.trace.metadata.c.a"] == "1"
    assert found["langfuse.trace.tags"] == ("1", "t")
    assert not {k for k in found if k.endswith((".bad", ".nan", ".s"))}


def test_a_trace_name_puts_the_request_into_the_view(bridge: Bridge) -> None:
    """Set inside a request or around it, it keeps the entry span without LLM work."""
    bridge.start()
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("inside"), otelbridge.request_context(trace_name="n"):
        pass
    with otelbridge.request_context(trace_name="n"), tracer.start_as_current_span("around"):
        tracer.start_span("child").end()
    with otelbridge.request_context(user_id="u"), tracer.start_as_current_span("plain"):
        pass
    assert bridge.view() == {"inside": "", "around": ""}


@pytest.mark.parametrize(
    ("value", "text"),
    [("t", "t"), (True, "true"), (False, "false"), (3, "3"), (1.5, "1.5"), ([1, "a"], '[1, "a"]')],
)
def test_metadata_values_are_text(value: Any, text: str) -> None:
    """Booleans and numbers as JSON writes them, lists as JSON text."""
    assert flatten_metadata({"a": {"b": value}}) == {"a.b": text}
