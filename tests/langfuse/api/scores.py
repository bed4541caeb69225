"""Scores: POST and DELETE on `/api/public/scores`, and each generation's way to read them.

The rules of a body are those of Langfuse's OpenAPI document: `CreateScoreRequest` of the installed
client for names and types, and here what a schema cannot say. v4 reads by `/v3/scores`; its older
reads are 404, as is `/v3/scores` on v3.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn, checked, json_body

_TARGETS = ("traceId", "sessionId", "datasetRunId")
_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9-_]{1,40}")
#: Next.js refuses longer bodies before the route sees them.
_BODY_BYTES = 1_000_000
_MAX_PAGE = 100


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""

    async def create(request: Request) -> Response:
        if len(await request.body()) > _BODY_BYTES:
            raise HTTPException(413, "Body exceeded 1mb limit")
        body = await json_body(request)
        if isinstance(body, list):  # what the client of 5.0 sends
            return _batch(stand_in, body)
        check(body)
        stand_in.scores[body["id"]] = body
        return JSONResponse({"id": body["id"]})

    async def delete(request: Request) -> Response:
        if stand_in.scores.pop(request.path_params["id"], None) is None:
            raise HTTPException(404, "Score not found")
        return JSONResponse({"message": "Score deleted"}, 202)

    async def read(request: Request) -> Response:
        wanted = request.query_params
        pairs = (("traceId", "traceId"), ("sessionId", "sessionId"), ("name", "name"))
        found = [
            _shown(stand_in, score)
            for score in stand_in.scores.values()
            if all(score.get(k) in wanted[name].split(",") for name, k in pairs if name in wanted)
        ]
        limit = int(wanted.get("limit", 50))
        if limit > _MAX_PAGE:
            raise HTTPException(400, f"limit must be 1 to {_MAX_PAGE}")
        if stand_in.generation == "v3":
            page = int(wanted.get("page", 1))
            meta = {"page": page, "limit": limit, "totalPages": -(-len(found) // limit)}
            return JSONResponse({"data": found[(page - 1) * limit : page * limit], "meta": meta})
        start = int(wanted.get("cursor", 0))
        more = {"cursor": str(start + limit)} if start + limit < len(found) else {}
        subjects = "subject" in wanted.get("fields", "").split(",")
        page_of = [_core(score, subjects) for score in found[start : start + limit]]
        return JSONResponse({"data": page_of, "meta": {"limit": limit, **more}})

    found = [
        Route("/api/public/scores", create, methods=["POST"]),
        Route("/api/public/scores/{id}", delete, methods=["DELETE"]),
    ]
    reads = {"v3": ("/api/public/v2/scores",), "v4": ("/api/public/v3/scores",)}
    return [*found, *(Route(path, read) for path in reads[stand_in.generation])]


def check(body: Any) -> None:
    """400 for a body that Langfuse refuses; an id is filled in.

    Some of it the real server's worker finds later and drops without a word: a stand-in that said
    nothing would hide the mistake.
    """
    from langfuse.api.scores.types.create_score_request import CreateScoreRequest

    checked(CreateScoreRequest, body, also=frozenset({"timestamp"}))
    body.setdefault("id", f"made-{len(body['name'])}")
    targets = [name for name in _TARGETS if body.get(name)]
    if len(targets) != 1:
        raise HTTPException(400, f"exactly one of {', '.join(_TARGETS)}, not {targets}")
    if body.get("observationId") and targets != ["traceId"]:
        raise HTTPException(400, "observationId needs traceId")
    if not body["name"]:
        raise HTTPException(400, "name is empty")
    environment = body.get("environment")
    if environment is not None and not _ENVIRONMENT.fullmatch(environment):
        raise HTTPException(400, f"environment {environment!r}")
    if (timestamp := body.get("timestamp")) is not None and (
        datetime.fromisoformat(timestamp).tzinfo is None
    ):
        raise HTTPException(400, "timestamp without an offset")
    _check_value(body.get("dataType"), body["value"])


def _check_value(data_type: str | None, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    rules = {
        None: number or isinstance(value, str),
        "NUMERIC": number,
        "BOOLEAN": number and value in (0, 1),
        "CATEGORICAL": isinstance(value, str) and value != "",
        "TEXT": isinstance(value, str) and 1 <= len(value) <= 500,
        "CORRECTION": isinstance(value, str),
    }
    if not rules[data_type]:
        raise HTTPException(400, f"value {value!r} does not fit dataType {data_type}")


def _batch(stand_in: StandIn, bodies: list[Any]) -> Response:
    errors = []
    for body in bodies:
        try:
            check(body)
        except HTTPException as error:
            errors.append({"message": error.detail})
        else:
            stand_in.scores[body["id"]] = body
    if errors:
        counts = {"accepted": len(bodies) - len(errors), "rejected": len(errors)}
        return JSONResponse({**counts, "errors": errors}, 207)
    return JSONResponse({"message": "Accepted"}, 202)


def _shown(stand_in: StandIn, body: dict[str, Any]) -> dict[str, Any]:
    data_type = body.get("dataType") or (
        "CATEGORICAL" if isinstance(body["value"], str) else "NUMERIC"
    )
    moment = body.get("timestamp", "2026-11-21T12:00:00Z")
    value = bool(body["value"]) if data_type == "BOOLEAN" else body["value"]
    return {
        **body,
        "projectId": stand_in.project_id, "value": value, "dataType": data_type, "source": "API",
        "timestamp": moment, "createdAt": moment, "updatedAt": moment,
        "environment": body.get("environment", "default"),
    }  # fmt: skip


def _core(score: dict[str, Any], subjects: bool) -> dict[str, Any]:
    """A score as `/v3/scores` shows it: what it is about only when asked for."""
    target = {key: score.pop(key, None) for key in (*_TARGETS, "observationId")}
    if subjects:
        kinds = {"traceId": "trace", "sessionId": "session", "datasetRunId": "experiment"}
        kind, found = next((kinds[key], target[key]) for key in _TARGETS if target[key])
        if target["observationId"]:
            kind, found = "observation", target["observationId"]
        score["subject"] = {"kind": kind, "id": found}
        if kind == "observation":
            score["subject"]["traceId"] = target["traceId"]
    return score
