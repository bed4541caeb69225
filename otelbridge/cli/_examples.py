"""Named TraceQL queries: what people on call ask first, shown in docs/traceql.md.

Data only. A test runs each against spans of the demo and finds something; another keeps the page
and this list the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Example:
    """A query with a name; `what` says in a few words what it finds."""

    name: str
    what: str
    query: str


_CALL: Final = 'span.gen_ai.operation.name = "chat"'

EXAMPLES: Final[dict[str, Example]] = {
    example.name: example
    for example in (
        Example("openai", "calls to one provider", '{ span.gen_ai.system = "openai" }'),
        Example(
            "slow-gpt-4o", "gpt-4o calls that took longer than 3 s",
            '{ span.gen_ai.request.model = "gpt-4o" && duration > 3s }',
        ),
        Example(
            "one-user", "everything one user's requests did",
            '{ resource.langfuse.user.id = "user-123" }',
        ),
        Example(
            "errors-by-model", "failed model calls, counted by model",
            f"{{ {_CALL} && status = error }} | count_over_time() by (span.gen_ai.request.model)",
        ),
        Example(
            "latency-by-model", "95th percentile of the duration of model calls",
            f"{{ {_CALL} }} | quantile_over_time(duration, 0.95) by (span.gen_ai.request.model)",
        ),
        Example(
            "cost-by-user", "US dollars by user",
            "{ span.gen_ai.usage.cost != nil }"
            " | sum_over_time(span.gen_ai.usage.cost) by (span.user.id)",
        ),
        Example(
            "expensive-sessions", "the five sessions that cost the most, at each moment",
            "{ span.gen_ai.usage.cost != nil }"
            " | sum_over_time(span.gen_ai.usage.cost) by (span.session.id) | topk(5)",
        ),
        Example(
            "retries", "model calls made again, by the program or inside its HTTP client",
            f"({{ {_CALL} && status = error }} ~ {{ {_CALL} }})"
            f" || ({{ {_CALL} }} > ({{ span.http.request.method = \"POST\" }}"
            ' ~ { span.http.request.method = "POST" }))',
        ),
        Example(
            "long-agents", "agents that took more than two steps",
            '{ span.gen_ai.operation.name = "invoke_agent" }'
            ' >> { span.gen_ai.operation.name =~ "chat|execute_tool" } | count() > 2',
        ),
        Example(
            "missing-usage", "model calls whose token counts are missing",
            f"{{ {_CALL} && span.gen_ai.usage.input_tokens = nil }} | select(status)",
        ),
    )
}  # fmt: skip
