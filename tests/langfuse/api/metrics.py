"""Metrics: `/v2/metrics` on v4, `/metrics` on v3, each 404 on the other generation.

`stand_in.area("costs", [])` is a list of rows {"startTime", "totalCost", "userId", "sessionId",
"metadata"}. The rules are those that the client's documentation and the server of 4.16 have: known
views, measures and filter types, a row limit and a descending order with high-cardinality
dimensions, which do not go with a time dimension; `stand_in.area("metrics")["strict"] = True`
refuses such dimensions altogether, as the client's documentation says.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn

_HIGH = frozenset(("userId", "sessionId", "traceId", "id", "parentObservationId"))
_PLAIN = frozenset(("environment", "type", "name", "level", "version", "release", "traceName",
                    "providedModelName", "promptName", "promptVersion"))  # fmt: skip
_NEEDED = ("view", "metrics", "fromTimestamp", "toTimestamp")
_MEMBERS = {*_NEEDED, "dimensions", "filters", "timeDimension", "orderBy", "config"}
_VIEWS = {
    "v4": ("observations", "scores-numeric", "scores-categorical", "scores-boolean"),
    "v3": ("traces", "observations", "scores-numeric", "scores-categorical"),
}


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""

    async def metrics(request: Request) -> Response:
        query = _query(request.query_params.get("query"))
        _check(query, stand_in)
        rows = [row for row in stand_in.area("costs", []) if _wanted(row, query)]
        return JSONResponse({"data": _grouped(rows, query)})

    path = "/api/public/v2/metrics" if stand_in.generation == "v4" else "/api/public/metrics"
    return [Route(path, metrics)]


def _query(text: str | None) -> dict[str, Any]:
    try:
        query = json.loads(text or "")
    except ValueError:
        raise HTTPException(400, "query is no JSON") from None
    if not isinstance(query, dict) or any(name not in query for name in _NEEDED):
        raise HTTPException(400, f"query needs {', '.join(_NEEDED)}")
    if unknown := sorted(set(query) - _MEMBERS):
        raise HTTPException(400, f"unknown members {unknown}")
    return query


def _check(query: dict[str, Any], stand_in: StandIn) -> None:
    if query["view"] not in _VIEWS[stand_in.generation]:
        raise HTTPException(400, f"unknown view {query['view']}")
    if query["metrics"] != [{"measure": "totalCost", "aggregation": "sum"}]:
        raise HTTPException(400, "the stand-in sums totalCost only")
    if _moment(query["fromTimestamp"]) >= _moment(query["toTimestamp"]):
        raise HTTPException(400, "toTimestamp must be after fromTimestamp")
    fields = [one["field"] for one in query.get("dimensions", [])]
    if unknown := [field for field in fields if field not in _HIGH | _PLAIN]:
        raise HTTPException(400, f"unknown dimensions {unknown}")
    if not 1 <= query.get("config", {}).get("row_limit", 100) <= 1000:
        raise HTTPException(400, "row_limit must be 1 to 1000")
    if stand_in.generation == "v4" and _HIGH & set(fields):
        order = query.get("orderBy") or []
        descends = any(one == {"field": "sum_totalCost", "direction": "desc"} for one in order)
        if stand_in.area("metrics").get("strict"):
            raise HTTPException(400, "high cardinality dimensions are not supported")
        if "row_limit" not in query.get("config", {}) or not descends:
            raise HTTPException(400, "high cardinality dimensions need row_limit and desc orderBy")
        if query.get("timeDimension"):
            raise HTTPException(400, "high cardinality dimensions exclude timeDimension")
    for one in query.get("filters", []):
        if not {"column", "operator", "value", "type"} <= set(one):
            raise HTTPException(400, f"incomplete filter {one}")
        if one["type"] == "stringObject" and "key" not in one:
            raise HTTPException(400, "a stringObject filter needs a key")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise HTTPException(400, f"{text} has no time zone")
    return moment


def _wanted(row: dict[str, Any], query: dict[str, Any]) -> bool:
    started = _moment(row["startTime"])
    if not _moment(query["fromTimestamp"]) <= started < _moment(query["toTimestamp"]):
        return False
    for one in query.get("filters", []):
        value = row.get(one["column"])
        if one["type"] == "stringObject":
            value = (row.get("metadata") or {}).get(one["key"])
        if value != one["value"]:
            return False
    return True


def _grouped(rows: list[dict[str, Any]], query: dict[str, Any]) -> list[dict[str, Any]]:
    fields = [one["field"] for one in query.get("dimensions", [])]
    by_day = bool(query.get("timeDimension"))
    sums: dict[tuple[Any, ...], float] = defaultdict(float)
    if not fields and not by_day:
        sums[()] = 0.0
    for row in rows:
        day = row["startTime"][:10] + " 00:00:00" if by_day else None
        sums[(day, *(row.get(field) for field in fields)) if by_day or fields else ()] += row[
            "totalCost"
        ]
    found = []
    for key, usd in sorted(sums.items(), key=lambda item: -item[1]):
        named = dict(zip(fields, key[1:], strict=True)) if key else {}
        time = {"time_dimension": key[0]} if by_day else {}
        found.append({**time, **named, "sum_totalCost": usd})
    return found[: query.get("config", {}).get("row_limit", 100)]
