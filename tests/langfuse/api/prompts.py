"""Prompts: `/api/public/v2/prompts`, by the rules of Langfuse's own create and update actions.

`prompts` of the stand-in's state is name to its versions, ascending. Labels are unique over the
versions of a name, `latest` follows the newest, a PATCH adds labels and removes none.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn, checked, json_body

_LABEL = re.compile(r"[a-z0-9_\-.]{1,36}")
_MOMENT = "2026-11-21T12:00:00.000Z"


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""
    prompts: dict[str, list[dict[str, Any]]] = stand_in.area("prompts")

    async def create(request: Request) -> Response:
        body = await json_body(request)
        _check_body(body)
        versions = prompts.get(body["name"], [])
        if versions and versions[-1]["type"] != body.get("type", "text"):
            raise HTTPException(400, "Previous versions have different prompt type.")
        labels = list(dict.fromkeys((*body.get("labels", []), "latest")))
        tags = body.get("tags", versions[-1]["tags"] if versions else [])
        created = {
            "id": f"prompt-{len(prompts)}-{len(versions)}", "projectId": stand_in.project_id,
            "name": body["name"], "version": len(versions) + 1, "type": body.get("type", "text"),
            "prompt": body["prompt"], "config": body.get("config", {}), "labels": labels,
            "tags": tags, "commitMessage": body.get("commitMessage"), "resolutionGraph": None,
            "createdAt": _MOMENT, "updatedAt": _MOMENT,
        }  # fmt: skip
        _take_labels(versions, labels)
        for version in versions:
            version["tags"] = tags
        prompts[body["name"]] = [*versions, created]
        return JSONResponse(created, 201)

    async def listed(request: Request) -> Response:
        wanted = request.query_params
        rows = [
            row for name, versions in sorted(prompts.items())
            if (row := _meta(name, versions, wanted)) is not None
        ]  # fmt: skip
        page, limit = int(wanted.get("page", 1)), int(wanted.get("limit", 10))
        meta = {"page": page, "limit": limit, "totalItems": len(rows),
                "totalPages": -(-len(rows) // limit)}  # fmt: skip
        return JSONResponse({"data": rows[(page - 1) * limit : page * limit], "meta": meta})

    async def get(request: Request) -> Response:
        version, label = request.query_params.get("version"), request.query_params.get("label")
        if version and label:
            raise HTTPException(400, "Cannot specify both version and label")
        for one in prompts.get(request.path_params["name"], []):
            if (version and one["version"] == int(version)) or (
                not version and (label or "production") in one["labels"]
            ):
                return JSONResponse(one)
        raise HTTPException(404, "Prompt not found")

    async def relabel(request: Request) -> Response:
        body = await json_body(request)
        labels = body.get("newLabels") if isinstance(body, dict) else None
        if not isinstance(labels, list) or not all(_LABEL.fullmatch(one) for one in labels):
            raise HTTPException(400, "newLabels")
        if "latest" in labels:
            raise HTTPException(400, "Label 'latest' is always assigned to the latest version")
        versions = prompts.get(request.path_params["name"], [])
        number = request.path_params["version"]
        for one in versions:
            if one["version"] == number:
                _take_labels([other for other in versions if other is not one], labels)
                one["labels"] = list(dict.fromkeys((*labels, *one["labels"])))
                return JSONResponse(one)
        raise HTTPException(404, "Prompt not found")

    base = "/api/public/v2/prompts"
    return [
        Route(base, create, methods=["POST"]),
        Route(base, listed),
        Route(base + "/{name:path}/versions/{version:int}", relabel, methods=["PATCH"]),
        Route(base + "/{name:path}", get),
    ]


def _check_body(body: Any) -> None:
    from langfuse.api.prompts.types.create_chat_prompt_request import CreateChatPromptRequest
    from langfuse.api.prompts.types.create_text_prompt_request import CreateTextPromptRequest

    chat = isinstance(body, dict) and body.get("type") == "chat"
    checked(CreateChatPromptRequest if chat else CreateTextPromptRequest, body)
    if not 1 <= len(body["name"]) <= 255 or "|" in body["name"]:
        raise HTTPException(400, "name")
    for label in body.get("labels", []):
        if not _LABEL.fullmatch(label):
            raise HTTPException(400, f"label {label!r}")


def _take_labels(versions: list[dict[str, Any]], labels: list[str]) -> None:
    for version in versions:
        version["labels"] = [label for label in version["labels"] if label not in labels]


def _meta(name: str, versions: list[dict[str, Any]], wanted: Any) -> dict[str, Any] | None:
    label, tag = wanted.get("label"), wanted.get("tag")
    fitting = [one for one in versions if not label or label in one["labels"]]
    if not fitting or wanted.get("name", name) != name or (tag and tag not in versions[-1]["tags"]):
        return None
    return {
        "name": name, "type": versions[-1]["type"], "tags": versions[-1]["tags"],
        "versions": [one["version"] for one in fitting],
        "labels": [label for one in fitting for label in one["labels"]],
        "lastUpdatedAt": _MOMENT, "lastConfig": fitting[-1]["config"],
    }  # fmt: skip
