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
from otelbridge.budgets import choose_model
from otelbridge.context import current_trace_id, request_context
from otelbridge.errors import BudgetExceededError, ConfigError, OtelbridgeError
from otelbridge.genai import (
    chat,
    embeddings,
    error_analysis,
    evaluate,
    event,
    execute_tool,
    invoke_agent,
    metric,
    observe,
    performance,
    query_quality,
    retrieval,
    set_trace_io,
    span,
)
from otelbridge.langfuse.budget import get_session_cost
from otelbridge.langfuse.datasets import run_dataset
from otelbridge.langfuse.evaluation import judge
from otelbridge.langfuse.evaluators import evaluate_later, wait_for_evaluators
from otelbridge.langfuse.experiments import variant
from otelbridge.langfuse.feedback import feedback_app, feedback_blueprint
from otelbridge.langfuse.prompts import get_prompt
from otelbridge.langfuse.score_helpers import (
    score_api_call,
    score_quality,
    score_sql_execution,
    score_thumbs,
    score_user_rating,
)
from otelbridge.langfuse.scores import score, score_stats
from otelbridge.propagation import extract, inject
from otelbridge.provider import configure, flush, shutdown, trace_links
from otelbridge.self_metrics import export_stats
from otelbridge.settings import Settings

__all__ = [
    "BudgetExceededError",
    "ConfigError",
    "OtelbridgeError",
    "Settings",
    "__version__",
    "chat",
    "choose_model",
    "configure",
    "current_trace_id",
    "embeddings",
    "error_analysis",
    "evaluate",
    "evaluate_later",
    "event",
    "execute_tool",
    "export_stats",
    "extract",
    "feedback_app",
    "feedback_blueprint",
    "flush",
    "get_prompt",
    "get_session_cost",
    "inject",
    "invoke_agent",
    "judge",
    "metric",
    "observe",
    "performance",
    "query_quality",
    "request_context",
    "retrieval",
    "run_dataset",
    "score",
    "score_api_call",
    "score_quality",
    "score_sql_execution",
    "score_stats",
    "score_thumbs",
    "score_user_rating",
    "set_trace_io",
    "shutdown",
    "span",
    "trace_links",
    "variant",
    "wait_for_evaluators",
]
