"""Alerts on money: the day's budget, its projection, and users who spend unlike themselves.

A day is the last 24 hours, not a calendar day: PromQL has no window that begins at midnight. The
budget is the recording rule `otelbridge:daily_budget_usd` (grafana/prometheus/budget.rules.yaml),
because Grafana puts no environment variables into queries. Costs are those the spans carry.
"""

from __future__ import annotations

from typing import Final

from grafana.alerts_src.rule import Group, Look, Rule, indented

BUDGET: Final = "otelbridge:daily_budget_usd"
PROJECTION_HOURS: Final = 3
USER_HOUR_USD: Final = 1  # less is never an anomaly
NEW_USER_HOUR_USD: Final = 10  # for users without a history
_COST = "otelbridge_gen_ai_cost_usd_total"
_USER_COST = "otelbridge_gen_ai_user_cost_usd_total"
_ENVIRONMENT = "deployment_environment_name"
_USER = f"{_ENVIRONMENT}, user_id"


def _of_budget(dollars: str) -> str:
    """`dollars` (with `BY` where grouping goes) as a share of the budget: all, and by environment.

    A budget without the label environment is for everything, one with it for that environment.
    """
    total = dollars.replace("BY", "sum")
    each = dollars.replace("BY", f"sum by ({_ENVIRONMENT})")
    return (
        f'{total} / on () {BUDGET}{{{_ENVIRONMENT}=""}}\n'
        f'or\n{each} / on ({_ENVIRONMENT}) {BUDGET}{{{_ENVIRONMENT}!=""}}'
    )


_SPENT = _of_budget(f"BY(increase({_COST}[1d]))")
_PROJECTED = _of_budget(f"BY(rate({_COST}[{PROJECTION_HOURS}h])) * 86400")
_BY_MODEL = Look(
    "Which service and model",
    f"topk(10, sum by (service_name, gen_ai_request_model) (increase({_COST}[1d])))",
    "promql",
)
_EXPENSIVE = Look(
    "The most expensive calls",
    "{ span.gen_ai.usage.cost > 0.1 } | select(span.gen_ai.usage.cost, "
    "span.gen_ai.request.model, resource.langfuse.user.id, span.otelbridge.langfuse.url)",
    "traceql",
)

OVER_BUDGET = Rule(
    key="cost-over-budget",
    title="Cost of the last 24 hours over the daily budget",
    value=_SPENT,
    threshold=1,
    wait="5m",
    severity="critical",
    reading="share",
    summary="{value} of the daily budget spent in 24 hours",
    description=(
        "Model calls of the last 24 hours cost {value} of the daily budget (environment, where the"
        " budget is for one: {deployment_environment_name})."
    ),
    panel=("otelbridge-llm", "llm-cost-forecast"),
    meaning=(
        "What model calls cost in the last 24 hours, which is not the calendar day, is more than"
        f" `{BUDGET}`. Cost is what spans carry as `gen_ai.usage.cost`: calls without a price count"
        " as nothing, so the true figure may be higher. A series' first sample is not counted."
    ),
    look=(_BY_MODEL, _EXPENSIVE),
    do=(
        "One service or user: its own limit, or stop the job.",
        "One model after a release: roll back; compare by `gen_ai.prompt.version`.",
        "Wanted: raise the number in grafana/prometheus/budget.rules.yaml and reload Prometheus.",
        "A gateway and its clients both counted:"
        " `OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES`.",
    ),
)

PROJECTED = Rule(
    key="cost-projected",
    title="Cost is projected over the daily budget",
    value=f"(\n{indented(_PROJECTED)}\n) unless (\n{indented(_SPENT)}\n) > 1",
    threshold=1,
    wait="30m",
    severity="warning",
    reading="share",
    summary="At the pace of the last 3 hours a day costs {value} of the budget",
    description=(
        "24 hours at the mean pace of the last 3 would cost {value} of the daily budget"
        " (environment, where the budget is for one: {deployment_environment_name})."
    ),
    panel=("otelbridge-llm", "llm-cost-forecast"),
    meaning=(
        "A straight line: the mean spend per second of the last 3 hours times one day is above the"
        " budget, for 30 minutes, and the budget is not used up yet. It knows nothing of the"
        " time of day: a service that works in office hours looks dearer by day than its day is."
        " One burst can do it only when it alone is an eighth of the budget."
    ),
    look=(
        Look(
            "The pace, USD per hour",
            f"sum by (service_name, gen_ai_request_model) (rate({_COST}[15m])) * 3600",
            "promql",
        ),
        _BY_MODEL,
    ),
    do=(
        "Compare with the same hours yesterday; office hours alone are no reason.",
        "A new job or release: ask its owner before the budget is gone.",
    ),
)

NO_BUDGET = Rule(
    key="budget-missing",
    title="There is no daily budget to compare with",
    value=f"absent({BUDGET})",
    threshold=0,
    wait="15m",
    severity="info",
    reading="count",
    summary="Prometheus has no otelbridge:daily_budget_usd",
    description="Without this recording rule the two budget alerts cannot fire.",
    panel=("otelbridge-llm", "llm-cost-forecast"),
    meaning="The recording rule of the budget is not loaded, so the budget alerts stay silent.",
    look=(Look("In Prometheus", BUDGET, "promql"),),
    do=("Add grafana/prometheus/budget.rules.yaml to `rule_files` and reload Prometheus.",),
)

_HOUR = f"sum by ({_USER}) (increase({_USER_COST}[1h]))"
# The week at steps of 10 minutes: series are exposed 15 minutes after their last news.
_WEEK = f"sum by ({_USER}) (increase({_USER_COST}[7d:10m] offset 1h))"

# Seen three to six days ago: with less behind it a seventh of the sum is no usual day.
_KNOWN = f"count by ({_USER}) (present_over_time({_USER_COST}[3d] offset 3d))"

USER_SPEND = Rule(
    key="user-spend",
    title="A user spent more in an hour than on a usual day",
    value=(
        f"{_HOUR} > ({_WEEK} > 0) / 7\n"
        f"and on ({_USER}) {_KNOWN}\n"
        f"or\n({_HOUR} unless on ({_USER}) ({_WEEK} > 0 and on ({_USER}) {_KNOWN}))"
        f" > {NEW_USER_HOUR_USD}"
    ),
    threshold=USER_HOUR_USD,
    wait="0s",
    severity="warning",
    reading="dollars",
    summary="User {user_id} spent {value} in one hour",
    description=(
        "User {user_id} (environment {deployment_environment_name}) spent {value} in the last hour,"
        " more than on a mean day of the week before, or more than 10 USD without such a history."
    ),
    panel=("otelbridge-users", "users-counted-cost"),
    meaning=(
        "In the last hour a user cost more than on the mean day of the 7 days before, and more than"
        f" {USER_HOUR_USD} USD. Users without costs in those days, or not seen three to six days"
        f" ago (new, or back from a holiday), are judged by a fixed {NEW_USER_HOUR_USD} USD. Needs"
        " the overlay user-metrics; users beyond its cap of series are not seen (docs/metrics.md)."
        " A user's very first costs, up to the first scrape, do not count."
    ),
    look=(
        Look("Who", f"topk(10, sum by (user_id) (increase({_USER_COST}[1h])))", "promql"),
        Look(
            "What the calls were",
            '{ resource.langfuse.user.id = "ID" && span.gen_ai.usage.cost != nil } | '
            "select(span.gen_ai.usage.cost, span.gen_ai.request.model, span.session.id, "
            "span.otelbridge.langfuse.url)",
            "traceql",
        ),
    ),
    do=(
        "Many sessions at once: a script or a stolen key; limit or lock the user.",
        "One endless session: an agent in a loop; look at its trace, stop it.",
        "Wanted: nothing; the mean grows with it within days.",
    ),
)

GROUP = Group("otelbridge-cost", "5m", (OVER_BUDGET, PROJECTED, NO_BUDGET, USER_SPEND))
