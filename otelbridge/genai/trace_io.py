"""`set_trace_io`: what went into a request and what came out, on the root of the LLM view.

Without it the root carries the first input and the last output of the LLM spans below it. The
content policy applies as to message text; content never travels in a header, so a service behind
the first sets the input and output of its own entry span only.
"""

from __future__ import annotations

from typing import Any, Final

from opentelemetry import trace

from otelbridge import _guard, semconv, view
from otelbridge.genai._config import get_config
from otelbridge.genai._values import content_text

_UNSET: Final = object()


@_guard.guarded("set_trace_io", None)
def set_trace_io(*, input: Any = _UNSET, output: Any = _UNSET) -> None:
    """Set the input and output of the request that is being served.

    Args:
        input, output: Text as it is; anything else becomes JSON text. What is left out stays.
    They land on the request's entry span as `langfuse.observation.input` and `.output`; outside
    of a recorded request nothing happens.
    """
    if not get_config().capture_content:
        return
    node = view.node_of(trace.get_current_span())
    span = node.entry.live_span if node is not None else None
    if span is None:
        return
    if input is not _UNSET:
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_INPUT, content_text(input))
    if output is not _UNSET:
        span.set_attribute(semconv.LANGFUSE_OBSERVATION_OUTPUT, content_text(output))
