"""Datasets, their items and runs: `/dataset-run-items` on v3, `/experiment-items` on v4.

`datasets` of the state is name to its items, `run_items` what v3 was told, `experiment_items` what
v4 made of the spans that a test gives it. v4 answers a run item as if it took it, and takes none.
"""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn, json_body

_MOMENT = "2026-11-21T12:00:00.000Z"
_RUN_ITEM = {
    "runName": str, "datasetItemId": str, "traceId": str, "observationId": str,
    "runDescription": str, "metadata": dict,
}  # fmt: skip


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""
    datasets: dict[str, list[dict[str, Any]]] = stand_in.area("datasets")
    run_items: list[dict[str, Any]] = stand_in.area("run_items", [])

    async def dataset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in datasets:
            raise HTTPException(404, "Dataset not found")
        return JSONResponse({
            "id": f"ds-{name}", "name": name, "projectId": stand_in.project_id, "metadata": None,
            "createdAt": _MOMENT, "updatedAt": _MOMENT,
        })  # fmt: skip

    async def items(request: Request) -> Response:
        wanted = request.query_params
        name = wanted.get("datasetName", "")
        page, limit = int(wanted.get("page", 1)), int(wanted.get("limit", 50))
        if limit > 100:
            raise HTTPException(400, "limit must be at most 100")
        rows = [
            {"status": "ACTIVE", "input": None, "expectedOutput": None, "metadata": None,
             "datasetId": f"ds-{name}", "datasetName": name, "createdAt": _MOMENT,
             "updatedAt": _MOMENT, "mediaReferences": [], **row}
            for row in datasets.get(name, [])
        ]  # fmt: skip
        meta = {"page": page, "limit": limit, "totalItems": len(rows),
                "totalPages": -(-len(rows) // limit)}  # fmt: skip
        return JSONResponse({"data": rows[(page - 1) * limit : page * limit], "meta": meta})

    async def run_item(request: Request) -> Response:
        body = await json_body(request)
        for key, value in body.items():
            if key not in _RUN_ITEM or not isinstance(value, _RUN_ITEM[key]):
                raise HTTPException(400, f"Invalid request data: {key}")
        if not {"runName", "datasetItemId", "traceId"} <= set(body):
            raise HTTPException(400, "Invalid request data")
        known = {row["id"] for rows in datasets.values() for row in rows}
        if body["datasetItemId"] not in known:
            raise HTTPException(404, "Dataset item not found")
        stored = {
            **body, "id": f"ri-{len(run_items)}", "datasetRunId": f"run-{body['runName']}",
            "datasetRunName": body["runName"], "createdAt": _MOMENT, "updatedAt": _MOMENT,
        }  # fmt: skip
        if stand_in.generation == "v3":
            run_items.append(stored)
        return JSONResponse(stored)

    async def run(request: Request) -> Response:
        name = request.path_params["run"]
        rows = [row for row in run_items if row["runName"] == name]
        if not rows:
            raise HTTPException(404, "Dataset run not found")
        return JSONResponse({"id": f"run-{name}", "name": name, "datasetRunItems": rows})

    async def experiment_items(request: Request) -> Response:
        wanted = request.query_params
        if "fromStartTime" not in wanted or int(wanted.get("limit", 50)) > 100:
            raise HTTPException(400, "fromStartTime is needed, limit is at most 100")
        rows = [
            row for row in stand_in.area("experiment_items", [])
            if row["experimentName"] in wanted.get("experimentName", "").split(",")
        ]  # fmt: skip
        start, limit = int(wanted.get("cursor", 0)), int(wanted.get("limit", 50))
        more = {"cursor": str(start + limit)} if start + limit < len(rows) else {}
        return JSONResponse({"data": rows[start : start + limit], "meta": more})

    found = [
        Route("/api/public/v2/datasets/{name:path}", dataset),
        Route("/api/public/dataset-items", items),
        Route("/api/public/dataset-run-items", run_item, methods=["POST"]),
    ]
    if stand_in.generation == "v3":
        return [*found, Route("/api/public/datasets/{name}/runs/{run}", run)]
    return [*found, Route("/api/public/experiment-items", experiment_items)]
