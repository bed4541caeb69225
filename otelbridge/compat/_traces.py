"""`fetch_traces` of the Langfuse SDK v2: traces of a time with their cost.

Langfuse 4 has no list of traces; the metrics answer the same question. A server of before is asked
for its list. Never raises: without an answer there are no traces, which is logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from otelbridge import _guard
from otelbridge.langfuse import active
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError, langfuse_api

_METRICS: Final = "/api/public/v2/metrics"
_TRACES: Final = "/api/public/traces"
_NOT_FOUND: Final = 404
#: A server that has no sums by trace.
_REFUSED: Final = 400
#: The most rows that a metrics query gives (Langfuse 4).
_MAX_ROWS: Final = 1000
_FILTERS: Final = {"user_id": "userId", "session_id": "sessionId", "name": "traceName"}


@dataclass(frozen=True, slots=True)
class FetchedTrace:
    """A trace as a budget check needs it; costs are in USD."""

    id: str
    name: str | None
    cost: float
    user_id: str | None = None
    session_id: str | None = None

    @property
    def total_cost(self) -> float:
        """The same as `cost`."""
        return self.cost


@dataclass(frozen=True, slots=True)
class FetchedTraces:
    """What was found, the dearest first; a list of at most 1,000.

    A server that gives no sums by trace is asked for the whole: one entry, with an empty id.

    Attributes:
        is_complete: False when Langfuse did not answer, had more, or gave the whole only.
    """

    data: list[FetchedTrace] = field(default_factory=list)
    is_complete: bool = True


def fetch_traces(begin: datetime, end: datetime, conditions: Mapping[str, Any]) -> FetchedTraces:
    """Traces between two moments; see `compat.client.Langfuse.fetch_traces`."""
    try:
        api = langfuse_api(active.current().langfuse)
        if api is None:
            return FetchedTraces(is_complete=False)
        with api:
            try:
                return _by_metrics(api, begin, end, conditions)
            except LangfuseApiError as error:
                if error.status == _NOT_FOUND:
                    return _by_list(api, begin, end, conditions)
                if error.status == _REFUSED:
                    return _in_all(api, begin, end, conditions)
                raise
    except Exception as error:  # noqa: BLE001 - a budget check must not end the application
        _guard.logger.warning("otelbridge: fetch_traces found nothing: %s", error)
        return FetchedTraces(is_complete=False)


def _by_metrics(
    api: LangfuseApi, begin: datetime, end: datetime, conditions: Mapping[str, Any]
) -> FetchedTraces:
    limit = _limit(conditions)
    rows = _ask(
        api, begin, end, conditions,
        dimensions=[{"field": "traceId"}, {"field": "traceName"}],
        orderBy=[{"field": "sum_totalCost", "direction": "desc"}],
        config={"row_limit": limit},
    )  # fmt: skip
    costs: dict[str, FetchedTrace] = {}
    for row in rows:  # a trace whose spans were named differently has several rows
        trace_id, cost = str(row["traceId"]), float(row.get("sum_totalCost") or 0.0)
        known = costs.get(trace_id)
        costs[trace_id] = FetchedTrace(
            id=trace_id,
            name=row.get("traceName") or (known.name if known else None),
            cost=cost + (known.cost if known else 0.0),
            user_id=conditions.get("user_id"),
            session_id=conditions.get("session_id"),
        )
    return FetchedTraces(list(costs.values()), is_complete=len(rows) < limit)


def _in_all(
    api: LangfuseApi, begin: datetime, end: datetime, conditions: Mapping[str, Any]
) -> FetchedTraces:
    """One entry without an id that holds the whole sum."""
    rows = _ask(api, begin, end, conditions, dimensions=[])
    total = sum(float(row.get("sum_totalCost") or 0.0) for row in rows)
    return FetchedTraces([FetchedTrace("", None, total)], is_complete=False)


def _ask(
    api: LangfuseApi,
    begin: datetime,
    end: datetime,
    conditions: Mapping[str, Any],
    **parts: Any,
) -> list[dict[str, Any]]:
    query = {
        "view": "observations",
        "metrics": [{"measure": "totalCost", "aggregation": "sum"}],
        "filters": [
            {"column": column, "operator": "=", "value": str(conditions[key]), "type": "string"}
            for key, column in _FILTERS.items()
            if conditions.get(key)
        ],
        "fromTimestamp": _text(begin),
        "toTimestamp": _text(end),
        **parts,
    }
    answer = api.request("GET", _METRICS, query={"query": json.dumps(query)})
    rows: list[dict[str, Any]] = answer["data"]
    return rows


def _by_list(
    api: LangfuseApi, begin: datetime, end: datetime, conditions: Mapping[str, Any]
) -> FetchedTraces:
    limit = _limit(conditions)
    wanted = {"userId": "user_id", "sessionId": "session_id", "name": "name"}
    params: dict[str, Any] = {
        "fromTimestamp": _text(begin),
        "toTimestamp": _text(end),
        **{column: conditions[key] for column, key in wanted.items() if conditions.get(key)},
    }
    found: list[FetchedTrace] = []
    page, pages = 1, 1
    while page <= pages and len(found) < limit:
        answer = api.request("GET", _TRACES, query={**params, "page": page, "limit": 100})
        found += [
            FetchedTrace(
                id=str(row["id"]),
                name=row.get("name"),
                cost=float(row.get("totalCost") or 0.0),
                user_id=row.get("userId"),
                session_id=row.get("sessionId"),
            )
            for row in answer["data"]
        ]
        pages, page = int(answer["meta"]["totalPages"]), page + 1
    return FetchedTraces(found[:limit], is_complete=page > pages and len(found) <= limit)


def _limit(conditions: Mapping[str, Any]) -> int:
    given = conditions.get("limit")
    return max(1, min(given, _MAX_ROWS)) if isinstance(given, int) else _MAX_ROWS


def _text(moment: datetime) -> str:
    """In UTC; a time without a zone is local, as Python takes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
