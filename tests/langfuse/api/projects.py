"""`/api/public/projects`: whose keys these are."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""

    async def projects(_: Request) -> Response:
        organization = {"id": "o-stand-in", "name": "stand-in"}
        project = {"id": stand_in.project_id, "name": "stand-in", "metadata": {}}
        return JSONResponse({"data": [{**project, "organization": organization}]})

    return [Route("/api/public/projects", projects)]
