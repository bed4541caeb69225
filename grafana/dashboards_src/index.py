"""All dashboards, their panels and queries in one list: for the tests and for the guide.

`FIGURES` says which panel shows which of the figures that people on call asked for; a test holds
that each of them exists.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from grafana.dashboards_src import kit

#: Modules with a `DASHBOARD`, in the order of the on-call path.
MODULES: Final = (
    "llm_overview", "users_sessions", "traces", "agents", "quality", "service_map", "bridge_health",
)  # fmt: skip

#: Figure → (uid of the dashboard, key of the panel).
FIGURES: Final = {
    "total cost": ("otelbridge-llm", "llm-cost-total"),
    "cost per user": ("otelbridge-users", "users-cost-top"),
    "cost per session": ("otelbridge-users", "users-session-cost"),
    "cost per team": ("otelbridge-llm", "llm-team-cost"),
    "cost per database": ("otelbridge-llm", "llm-database-cost"),
    "cost per model": ("otelbridge-llm", "llm-cost-by-model"),
    "daily cost trend": ("otelbridge-llm", "llm-cost-trend"),
    "cost against the budget": ("otelbridge-llm", "llm-cost-forecast"),
    "average, P50, P90, P95 and P99 latency": ("otelbridge-llm", "llm-latency"),
    "time to first token": ("otelbridge-llm", "llm-ttft"),
    "error rate": ("otelbridge-llm", "llm-error-rate"),
    "daily error rate": ("otelbridge-llm", "llm-error-rate-over-time"),
    "total tokens": ("otelbridge-llm", "llm-tokens-total"),
    "tokens per request": ("otelbridge-llm", "llm-tokens-per-request"),
    "average cost per request": ("otelbridge-llm", "llm-cost-per-request"),
    "requests per minute": ("otelbridge-llm", "llm-requests"),
    "queries per session": ("otelbridge-users", "users-session-queries"),
    "most expensive calls": ("otelbridge-traces", "traces-expensive"),
    "slowest calls": ("otelbridge-traces", "traces-slow"),
    "failed calls": ("otelbridge-traces", "traces-failed"),
    "cached against uncached latency": ("otelbridge-llm", "llm-cached-latency"),
    "cached against uncached cost": ("otelbridge-llm", "llm-cached-cost"),
    "average rating per user": ("otelbridge-users", "users-rating"),
    "scores by name": ("otelbridge-quality", "quality-scores-by-name"),
    "results of A/B variants": ("otelbridge-quality", "quality-variant-scores"),
    "latency by prompt version": ("otelbridge-traces", "traces-prompt-latency"),
    "cost by prompt version": ("otelbridge-traces", "traces-prompt-cost"),
}


def dashboards() -> tuple[kit.Dashboard, ...]:
    """Every dashboard that is declared."""
    found = []
    for name in MODULES:
        try:
            module = importlib.import_module(f"grafana.dashboards_src.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"grafana.dashboards_src.{name}":
                raise
            continue
        found.append(module.DASHBOARD)
    return tuple(found)


def queries_of(panel: kit.Panel) -> list[dict[str, Any]]:
    """A panel's queries: `kind`, `text`, `instant` and `source` (uid).

    Kinds: prom, traceql-search, traceql-metrics, traceql-trace, service-map.
    """
    found: list[dict[str, Any]] = []
    for query in panel.queries:
        match query:
            case kit.Prom():
                kind, text, instant = "prom", query.expr, query.instant
            case kit.Search():
                kind, text, instant = "traceql-search", query.query, False
            case kit.TraceMetrics():
                kind, text, instant = "traceql-metrics", query.query, query.instant
            case kit.TraceById():
                kind, text, instant = "traceql-trace", query.query, False
            case kit.ServiceMap():
                kind, text, instant = "service-map", query.query, False
        found.append({"kind": kind, "text": text, "instant": instant, "source": panel.source})
    return found


def listing() -> list[dict[str, Any]]:
    """A plain entry for each panel of each dashboard."""
    return [
        {
            "dashboard": declared.uid, "key": panel.key, "id": panel.id, "title": panel.title,
            "kind": panel.kind, "unit": panel.unit, "emitters": list(panel.emitters),
            "needs": panel.needs, "queries": queries_of(panel),
        }
        for declared in dashboards() for panel in declared.panels
    ]  # fmt: skip
