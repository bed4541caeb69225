"""Users and sessions: who spends what, in which conversation, and how content they are.

Users are no labels of the Collector's metrics, so this dashboard asks Tempo, whose TraceQL metrics
reach 24 hours back (3 in Tempo 2). The last row is for the `user-metrics` overlay, which counts
users in Prometheus over any range, up to its cap.
"""

from __future__ import annotations

from typing import Final

from grafana.dashboards_src.kit import (
    BY_SERVICE,
    WHERE_CALL,
    WHERE_SERVICE,
    WHERE_USER,
    Dashboard,
    Panel,
    Prom,
    Row,
    TraceMetrics,
    calls_with,
    matching,
    span_table,
    to_dashboard,
)

_USER: Final = "resource.langfuse.user.id"
_SESSION: Final = "resource.langfuse.session.id"
_COST: Final = "span.gen_ai.usage.cost"
_INPUT: Final = "span.gen_ai.usage.input_tokens"
_OUTPUT: Final = "span.gen_ai.usage.output_tokens"
_OVERLAY: Final = "the Collector's overlay user-metrics (collector/overlays/user-metrics.yaml)"

# Whose spans name the user, and the session; and which of them have a cost as well.
_WITH_USER: Final = ("otelbridge", "openinference", "openllmetry", "litellm")
_WITH_SESSION: Final = ("otelbridge", "openinference", "openllmetry")
_ROOT_SESSION: Final = ("otelbridge", "openllmetry")  # elsewhere the root span is a plain server's
_USER_COST: Final = ("otelbridge", "litellm")
_SESSION_COST: Final = ("otelbridge",)
_NO_USER: Final = "No call in this time range whose span names a user."
_NO_SESSION: Final = "No call in this time range whose span names a session."
_TO_TRACES = to_dashboard("otelbridge-traces", "Calls, one by one")


def _top(
    key: str,
    title: str,
    what: str,
    function: str,
    *needed: str,
    owner: str,
    unit: str,
    emitters: tuple[str, ...],
    width: int = 8,
) -> Panel:
    """The ten owners with the largest value over the time range."""
    word = "user" if owner == _USER else "session"
    return Panel(
        key=key, title=title, kind="bargauge", unit=unit, emitters=emitters, width=width,
        description=f"{what} over the time range, the ten {word}s with the most. From spans in"
        f" Tempo ({owner}).",
        queries=(
            TraceMetrics(f"{calls_with(owner, *needed)} | {function} by ({owner}) | topk(10)",
                         instant=True),
        ),
        empty=_NO_USER if owner == _USER else _NO_SESSION, links=(_TO_TRACES,),
    )  # fmt: skip


_TOP = (
    _top("users-cost-top", "Cost by user", "US dollars", f"sum_over_time({_COST})", _COST,
         owner=_USER, unit="currencyUSD", emitters=_USER_COST),
    _top("users-requests-top", "Requests by user", "Calls of models", "count_over_time()",
         owner=_USER, unit="short", emitters=_WITH_USER),
    _top("users-output-tokens-top", "Output tokens by user", "Output tokens",
         f"sum_over_time({_OUTPUT})", _OUTPUT, owner=_USER, unit="short", emitters=_WITH_USER),
    _top("users-session-cost", "Cost by session", "US dollars", f"sum_over_time({_COST})", _COST,
         owner=_SESSION, unit="currencyUSD", emitters=_SESSION_COST),
    _top("users-session-requests", "Model calls by session", "Calls of models",
         "count_over_time()", owner=_SESSION, unit="short", emitters=_WITH_SESSION),
    Panel(
        key="users-session-queries", title="Queries per session", kind="bargauge", unit="short",
        description="Requests of users, each one a trace: root spans by session over the time"
        " range, the ten sessions with the most. From spans in Tempo.",
        queries=(
            TraceMetrics(f"{{ nestedSetParent < 0 && {_SESSION} != nil && {WHERE_SERVICE}"
                         f" && {WHERE_USER} }} | count_over_time() by ({_SESSION}) | topk(10)",
                         instant=True),
        ),
        emitters=_ROOT_SESSION, empty="No trace in this time range whose root names a session.",
        links=(_TO_TRACES,),
    ),
)  # fmt: skip

_OVER_TIME = Row("Users over time", (
    Panel(
        key="users-cost-over-time", title="Cost by user", kind="timeseries", unit="currencyUSD",
        description="US dollars by user in each step, the ten largest at each moment.",
        queries=(
            TraceMetrics(f"{calls_with(_USER, _COST)} | sum_over_time({_COST}) by ({_USER})"
                         " | topk(10)"),
        ),
        emitters=_USER_COST, empty=_NO_USER, stack=True, width=12, min=0,
    ),
    Panel(
        key="users-requests-over-time", title="Requests by user", kind="timeseries", unit="reqps",
        description="Calls of models per second by user, the ten largest at each moment.",
        queries=(
            TraceMetrics(f"{calls_with(_USER)} | rate() by ({_USER}) | topk(10)"),
        ),
        emitters=_WITH_USER, empty=_NO_USER, stack=True, width=12, min=0,
    ),
    Panel(
        key="users-latency", title="Average latency by user", kind="bargauge", unit="s",
        description="Average duration of a user's model calls, the ten slowest.",
        queries=(
            TraceMetrics(f"{calls_with(_USER)} | avg_over_time(duration) by ({_USER}) | topk(10)",
                         instant=True),
        ),
        emitters=_WITH_USER, empty=_NO_USER,
    ),
    Panel(
        key="users-errors", title="Failed calls by user", kind="bargauge", unit="short",
        description="Model calls with the status error, the ten users with the most.",
        queries=(
            TraceMetrics(f"{{ {WHERE_CALL} && {_USER} != nil && status = error }}"
                         f" | count_over_time() by ({_USER}) | topk(10)", instant=True),
        ),
        emitters=_WITH_USER, empty="No failed call of a named user in this time range.",
        links=(_TO_TRACES,),
    ),
    _top("users-input-tokens-top", "Input tokens by user", "Input tokens",
         f"sum_over_time({_INPUT})", _INPUT, owner=_USER, unit="short", emitters=_WITH_USER),
    _top("users-session-input-tokens", "Input tokens by session", "Input tokens",
         f"sum_over_time({_INPUT})", _INPUT, owner=_SESSION, unit="short",
         emitters=_WITH_SESSION, width=12),
    _top("users-session-output-tokens", "Output tokens by session", "Output tokens",
         f"sum_over_time({_OUTPUT})", _OUTPUT, owner=_SESSION, unit="short",
         emitters=_WITH_SESSION, width=12),
))  # fmt: skip

_RATED = 'event.gen_ai.evaluation.name = "user_rating"'
_RATING = Row("Ratings", (
    Panel(
        key="users-rating", title="Average rating by user", kind="bargauge", unit="short",
        description="Mean of the scores `user_rating` (1 to 5) by user: events"
        " gen_ai.evaluation.result on spans in Tempo, of otelbridge.score_user_rating or of"
        " services that write them themselves.",
        queries=(
            TraceMetrics(f"{{ {_RATED} && {_USER} != nil && {WHERE_SERVICE} && {WHERE_USER} }}"
                         " | avg_over_time(event.gen_ai.evaluation.score.value)"
                         f" by ({_USER}) | topk(10)", instant=True),
        ),
        emitters=("otelbridge",), needs="otelbridge.score_user_rating, POST /feedback",
        min=0, max=5, decimals=1, width=12,
    ),
    Panel(
        key="users-rating-over-time", title="Average rating", kind="timeseries", unit="short",
        description="Mean of the scores `user_rating` (1 to 5) of all users in each step.",
        queries=(
            TraceMetrics(f"{{ {_RATED} && {WHERE_SERVICE} && {WHERE_USER} }}"
                         " | avg_over_time(event.gen_ai.evaluation.score.value)", "rating"),
        ),
        emitters=("otelbridge",), needs="otelbridge.score_user_rating, POST /feedback",
        min=0, max=5, decimals=1, width=12,
    ),
))  # fmt: skip

_TABLES = Row("Spans", (
    span_table(
        "users-calls", "Calls of named users",
        "Model calls whose span names a user, the newest ones, with their pages in Langfuse.",
        calls_with(_USER),
        (_USER, _SESSION, "span.gen_ai.request.model", _INPUT, _OUTPUT, _COST, "status"),
        emitters=_WITH_USER, empty=_NO_USER,
    ),
    span_table(
        "users-sessions", "Requests of sessions",
        "Root spans of traces that belong to a session, the newest ones. A root that Langfuse does"
        " not have has no link there; the trace view has.",
        f"{{ nestedSetParent < 0 && {_SESSION} != nil && {WHERE_SERVICE} && {WHERE_USER} }}",
        (_SESSION, _USER, "resource.service.name", "status"),
        emitters=_ROOT_SESSION, empty=_NO_SESSION,
    ),
))  # fmt: skip

_BY_USER = f"{BY_SERVICE}, {matching('user_id', 'user')}"


def _counted(key: str, title: str, unit: str, metric: str, emitters: tuple[str, ...]) -> Panel:
    return Panel(
        key=key, title=title, kind="bargauge", unit=unit, emitters=emitters, needs=_OVERLAY,
        description=f"{title} over the time range, counted by the Collector before sampling: the"
        " ten users with the most. Users beyond the overlay's cap are left out.",
        queries=(
            Prom(f"topk(10, sum by (user_id) (increase({metric}{{{_BY_USER}}}[$__range])))",
                 "{{user_id}}", instant=True),
        ),
        width=6,
    )  # fmt: skip


_COUNTED = Row("Over long ranges (overlay user-metrics)", (
    _counted("users-counted-cost", "Cost by user", "currencyUSD",
             "otelbridge_gen_ai_user_cost_usd_total", _USER_COST),
    _counted("users-counted-tokens", "Tokens by user", "short",
             "otelbridge_gen_ai_user_tokens_total", _WITH_USER),
    _counted("users-counted-calls", "Calls by user", "short",
             "otelbridge_gen_ai_user_calls_total", _WITH_USER),
    Panel(
        key="users-active", title="Active users", kind="stat", unit="short",
        description="Users whom the Collector exposed in the time range: those with a call in it,"
        " or in the 15 minutes before it. Users beyond the overlay's cap are left out.",
        queries=(
            # Not by increase: it sees nothing of a user's first call, often the only one.
            Prom("count(count by (user_id) (present_over_time(otelbridge_gen_ai_user_calls_total"
                 f"{{{_BY_USER}}}[$__range])))", instant=True),
        ),
        emitters=_WITH_USER, needs=_OVERLAY, width=6,
    ),
))  # fmt: skip

DASHBOARD = Dashboard(
    uid="otelbridge-users",
    title="Users and sessions",
    description="Cost, tokens, requests and ratings of users and of their sessions.",
    top=_TOP,
    rows=(_OVER_TIME, _RATING, _TABLES, _COUNTED),
)
