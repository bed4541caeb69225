"""Metrics, emitters and PromQL that the panels of the LLM overview share."""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import CALLS, to_dashboard

DURATION: Final = "otelbridge_gen_ai_operation_duration_seconds"
#: The same durations with exemplars; beyond 2,000 series of a service it is cut (docs/metrics.md).
LATENCY: Final = "traces_spanmetrics_latency"
FIRST_CHUNK: Final = "otelbridge_gen_ai_time_to_first_chunk_seconds"
#: Counts calls: unlike otelbridge_* it stays in the exposition while nothing is called, so the
#: rare call is an increase (docs/metrics.md). Cut as LATENCY is.
SPANS: Final = "traces_spanmetrics_calls_total"
TOKENS: Final = "otelbridge_gen_ai_tokens_total"
OF_WHICH: Final = "otelbridge_gen_ai_tokens_of_which_total"
PER_CALL: Final = "otelbridge_gen_ai_tokens_per_call"
COST: Final = "otelbridge_gen_ai_cost_usd_total"
FAILED: Final = f'{CALLS}, status_code="STATUS_CODE_ERROR"'

PRICED: Final = ("otelbridge", "litellm")  # the others' spans have no cost
STREAMING: Final = ("otelbridge", "otel")  # the others do not say when the first chunk came
CACHE_AWARE: Final = ("otelbridge", "openinference", "openllmetry")
#: As the alert on the projected cost has it.
FORECAST: Final = f"sum(rate({COST}[3h])) * 86400"
#: The budget without an environment, or else the sum of those of the environments.
BUDGET_OF_ALL: Final = (
    '(max(otelbridge:daily_budget_usd{deployment_environment_name=""})'
    " or sum(otelbridge:daily_budget_usd))"
)
BUDGET: Final = (
    "the recording rule otelbridge:daily_budget_usd of grafana/prometheus/budget.rules.yaml"
)
DIMENSIONS: Final = (
    ("model", "gen_ai_request_model", "model"),
    ("provider", "gen_ai_provider_name", "provider"),
    ("service", "service_name", "service"),
)
TO_TRACES = to_dashboard("otelbridge-traces", "Calls, one by one")


def rate(metric: str, matchers: str, by: str = "") -> str:
    """Per second, summed by labels."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping}(rate({metric}{{{matchers}}}[$__rate_interval]))"


def total(metric: str, matchers: str, by: str = "") -> str:
    """Over the time range, summed by labels."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping}(increase({metric}{{{matchers}}}[$__range]))"


def quantile(q: str, metric: str, matchers: str, by: str = "le") -> str:
    """A quantile of a histogram, given without its `_bucket`."""
    return f"histogram_quantile({q}, {rate(metric + '_bucket', matchers, by)})"
