"""gen_ai helpers: spans for model calls, tools, retrieval, agents, evaluation, and a decorator."""

from otelbridge.genai.observe import observe
from otelbridge.genai.spans import (
    chat,
    embeddings,
    evaluate,
    execute_tool,
    invoke_agent,
    retrieval,
    span,
)
from otelbridge.genai.trace_io import set_trace_io

__all__ = [
    "chat",
    "embeddings",
    "evaluate",
    "execute_tool",
    "invoke_agent",
    "observe",
    "retrieval",
    "set_trace_io",
    "span",
]
