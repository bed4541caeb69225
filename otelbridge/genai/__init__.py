"""gen_ai helpers: spans for model calls, tools, retrieval, agents, evaluation, and a decorator."""

from otelbridge.genai.app_events import (
    error_analysis,
    event,
    metric,
    performance,
    query_quality,
)
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
    "error_analysis",
    "evaluate",
    "event",
    "execute_tool",
    "invoke_agent",
    "metric",
    "observe",
    "performance",
    "query_quality",
    "retrieval",
    "set_trace_io",
    "span",
]
