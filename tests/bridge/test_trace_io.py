"""Input and output on the root of the LLM view."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

import otelbridge
from otelbridge.genai._config import GenAiConfig, set_config
from tests.bridge.conftest import Bridge

INPUT, OUTPUT = "langfuse.observation.input", "langfuse.observation.output"


def test_what_the_application_sets_is_on_the_root(bridge: Bridge) -> None:
    """`set_trace_io` writes text as it is and anything else as JSON text, on the entry span."""
    bridge.start()
    with trace.get_tracer("t").start_as_current_span("POST /ask"):
        otelbridge.set_trace_io(input={"question": "why"})
        with otelbridge.chat("m", provider="p", messages="low level", name="chat") as call:
            otelbridge.set_trace_io(output="because")
            call.set_output("low level answer")
    attributes = bridge.one("POST /ask").attributes
    assert json.loads(str(attributes[INPUT])) == {"question": "why"}
    assert attributes[OUTPUT] == "because"


def test_without_it_the_root_has_first_input_and_last_output(bridge: Bridge) -> None:
    """The texts of the LLM spans below stand in, in order of time."""
    bridge.start()
    with trace.get_tracer("t").start_as_current_span("POST /ask"):
        for number in (1, 2):
            with otelbridge.execute_tool(f"t{number}", arguments=f"in {number}") as call:
                call.set_result(f"out {number}")
    attributes = bridge.one("POST /ask").attributes
    assert "in 1" in str(attributes[INPUT])
    assert "out 2" in str(attributes[OUTPUT])


def test_a_service_behind_the_first_gets_no_stand_in(
    bridge: Bridge, llm_call: Callable[..., Any]
) -> None:
    """Only the root of the view carries the request's texts; content is not written twice."""
    bridge.start()
    headers: dict[str, str] = {}
    with llm_call("outer"):
        otelbridge.inject(headers)
    tracer = trace.get_tracer("t")
    server = tracer.start_as_current_span("server", context=otelbridge.extract(headers))
    with server, otelbridge.execute_tool("t", arguments="in"):
        pass
    assert bridge.view()["server"] == "outer"
    assert INPUT not in bridge.one("server").attributes


def test_no_content_keeps_the_root_empty(bridge: Bridge) -> None:
    """With NO_CONTENT neither the application's nor the stand-in texts are recorded."""
    bridge.start(capture_content=False)
    set_config(GenAiConfig(capture_content=False))
    with trace.get_tracer("t").start_as_current_span("POST /ask"):
        otelbridge.set_trace_io(input="canary", output="canary")
        with otelbridge.execute_tool("t", arguments="canary") as call:
            call.set_result("canary")
    for span in bridge.spans():
        assert "canary" not in str(dict(span.attributes))


def test_no_content_holds_for_spans_that_others_write(bridge: Bridge) -> None:
    """Message text set through the OpenTelemetry API leaves neither attributes nor events."""
    bridge.start(capture_content=False)
    with trace.get_tracer("t").start_as_current_span("chat m") as span:
        span.set_attribute("gen_ai.request.model", "m")
        span.set_attribute("gen_ai.input.messages", "canary")
        span.set_attribute("gen_ai.prompt.0.content", "canary")
        span.add_event("gen_ai.user.message", {"content": "canary"})
        span.add_event("note", {"output.value": "canary", "count": 1})
    (found,) = bridge.spans()
    assert "canary" not in found.to_json()
    assert found.attributes["otelbridge.content.removed"] is True
    assert found.attributes["gen_ai.request.model"] == "m"
    assert [(e.name, dict(e.attributes)) for e in found.events] == [("note", {"count": 1})]
