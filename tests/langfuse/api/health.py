"""`/api/public/health` and `/api/public/ready`: no authorization."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.langfuse.stand_in import StandIn

_VERSIONS = {"v3": "3.225.4", "v4": "4.16.0"}


def routes(stand_in: StandIn) -> list[Route]:
    """The routes of this area."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "OK", "version": _VERSIONS[stand_in.generation]})

    return [Route("/api/public/health", health), Route("/api/public/ready", health)]
