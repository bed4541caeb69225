"""Reading spans: `/v2/observations` on v4, `/traces` and `/observations` on v3.

`stand_in.area("observations", [])` is a list of rows with the names of the v2 answer; `metadata` is
an object. The structured `filter` knows what otelbridge asks: metadata by key, times, plain text.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn

_PLAIN = {
    "traceId": "traceId", "userId": "userId", "sessionId": "sessionId", "name": "name",
    "type": "type", "environment": "environment", "level": "level",
}  # fmt: skip
_GROUPS = frozenset(
    ("core", "basic", "time", "io", "metadata", "model", "usage", "prompt", "metrics")
) | {"trace_context"}
_MAX_LIMIT = 1000


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""

    def rows() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = stand_in.area("observations", [])
        return found

    async def observations(request: Request) -> Response:
        _check(request)
        found = [row for row in rows() if _wanted(row, request, "startTime")]
        limit = int(request.query_params.get("limit", 50))
        start = int(request.query_params.get("cursor", 0))
        more = {"cursor": str(start + limit)} if start + limit < len(found) else {}
        return JSONResponse({"data": found[start : start + limit], "meta": more})

    async def traces(request: Request) -> Response:
        found = [row for row in rows() if _wanted(row, request, "timestamp")]
        tag = request.query_params.get("tags")
        found = [row for row in found if tag is None or tag in (row.get("tags") or ())]
        begins = request.query_params.get("fromTimestamp", "")
        ends = request.query_params.get("toTimestamp", "9999")
        found = [row for row in found if begins <= row.get("startTime", "9") < ends]
        known = {row["traceId"]: row for row in found}
        data = [
            {
                "id": trace_id, "timestamp": row.get("startTime"), "name": row.get("traceName"),
                "userId": row.get("userId"), "sessionId": row.get("sessionId"),
                "metadata": row.get("metadata") or {}, "totalCost": row.get("totalCost"),
                "latency": row.get("latency"), "tags": row.get("tags") or [],
            }
            for trace_id, row in known.items()
        ]  # fmt: skip
        page = int(request.query_params.get("page", 1))
        limit = int(request.query_params.get("limit", 50))
        pages = -(-len(data) // limit)
        meta = {"page": page, "limit": limit, "totalItems": len(data), "totalPages": pages}
        return JSONResponse({"data": data[(page - 1) * limit : page * limit], "meta": meta})

    if stand_in.generation == "v4":
        return [Route("/api/public/v2/observations", observations)]
    return [Route("/api/public/traces", traces), Route("/api/public/observations", observations)]


def _check(request: Request) -> None:
    limit = request.query_params.get("limit", "50")
    if not limit.isdigit() or not 0 < int(limit) <= _MAX_LIMIT:
        raise HTTPException(400, f"limit must be 1 to {_MAX_LIMIT}")
    fields = request.query_params.get("fields", "core").split(",")
    if unknown := set(fields) - _GROUPS:
        raise HTTPException(400, f"unknown field groups {sorted(unknown)}")


def _wanted(row: dict[str, Any], request: Request, time_column: str) -> bool:
    given = request.query_params
    if "filter" in given:  # wins over the plain parameters
        return all(_fits(row, one, time_column) for one in _conditions(given["filter"]))
    if "fromStartTime" in given and row.get("startTime", "") < given["fromStartTime"]:
        return False
    return all(row.get(key) == given[name] for name, key in _PLAIN.items() if name in given)


def _conditions(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        raise HTTPException(400, "filter is no JSON") from None
    for one in found:
        if not {"type", "column", "operator", "value"} <= set(one):
            raise HTTPException(400, f"incomplete filter condition {one}")
        if one["type"] == "stringObject" and "key" not in one:
            raise HTTPException(400, "a stringObject condition needs a key")
    return list(found)


def _fits(row: dict[str, Any], condition: dict[str, Any], time_column: str) -> bool:
    column, value = condition["column"], condition["value"]
    if condition["type"] == "stringObject":
        return bool((row.get(column) or {}).get(condition["key"]) == value)
    if condition["type"] == "arrayOptions":
        return not set(value).isdisjoint(row.get(column) or ())
    if condition["type"] == "datetime":
        if column not in (time_column, "startTime"):
            raise HTTPException(400, f"unknown column {column}")
        moment = row.get("startTime", "9999")
        return bool(moment >= value if condition["operator"] in (">", ">=") else moment < value)
    return bool(row.get(column) == value)
