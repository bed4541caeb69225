"""One trace for Grafana Tempo and Langfuse.

    import otelbridge
    otelbridge.configure()

    with otelbridge.request_context(user_id="u-1", session_id="s-1"):
        with otelbridge.chat("gpt-4o", provider="openai", messages=messages) as call:
            call.record(client.chat.completions.create(model="gpt-4o", messages=messages))

Importing has no side effect; nothing happens before `configure()` or `opentelemetry-instrument`.
The names below are the whole public surface; the local backend is reached by its commands.
"""

from otelbridge._version import __version__
from otelbridge.context import current_trace_id, request_context
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.genai import (
    chat,
    embeddings,
    evaluate,
    execute_tool,
    invoke_agent,
    observe,
    retrieval,
    set_trace_io,
    span,
)
from otelbridge.propagation import extract, inject
from otelbridge.provider import configure, flush, shutdown, trace_links
from otelbridge.self_metrics import export_stats
from otelbridge.settings import Settings

__all__ = [
    "ConfigError",
    "OtelbridgeError",
    "Settings",
    "__version__",
    "chat",
    "configure",
    "current_trace_id",
    "embeddings",
    "evaluate",
    "execute_tool",
    "export_stats",
    "extract",
    "flush",
    "inject",
    "invoke_agent",
    "observe",
    "request_context",
    "retrieval",
    "set_trace_io",
    "shutdown",
    "span",
    "trace_links",
]
