"""A stand-in of Langfuse's public API, served from a thread on loopback.

`StandIn("v4")` and `StandIn("v3")` answer as self-hosted Langfuse 4.16 and 3.225 do by default:
basic authorization, JSON errors, 404 for the routes that a generation does not have. Routes are
files in `tests/langfuse/api/`, one an area; each has `routes(stand_in) -> list[Route]` and is
found by its name. Every request is recorded; `fail` orders answers, `down` and `up` an outage.
"""

from __future__ import annotations

import base64
import importlib
import json
import pkgutil
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import langfuse.api  # noqa: F401 - here and not in the server's thread: imports may meet
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Generation = Literal["v3", "v4"]
Handler = Callable[[Request], Awaitable[Response]]
PUBLIC_KEY = "pk-lf-stand-in"
SECRET_KEY = "sk-lf-stand-in"
PROJECT_ID = "p-stand-in"
_NO_LOGIN = frozenset({"/api/public/health", "/api/public/ready"})
#: The only route that a Bearer public key opens.
_SCORES = "/api/public/scores"
_ERRORS = {
    400: "InvalidRequestError",
    401: "UnauthorizedError",
    403: "ForbiddenError",
    404: "LangfuseNotFoundError",
    405: "MethodNotAllowedError",
    429: "TooManyRequestsError",
}


@dataclass(frozen=True)
class Seen:
    """One request that came.

    Attributes:
        body: Of a JSON body, what it means; None for none.
        status: What was answered.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    status: int


@dataclass
class _Order:
    """A failure that was ordered by `fail`."""

    path: str
    status: int
    times: int
    headers: dict[str, str]
    body: Any
    method: str
    seconds: float


@dataclass
class StandIn:
    """A running stand-in; a context manager.

    Attributes:
        url: Base URL, kept over `down` and `up`.
        seen: Requests in order of arrival.
        state: What the areas store, by their name; `scores` is score id to body.
    """

    generation: Generation = "v4"
    public_key: str = PUBLIC_KEY
    secret_key: str = SECRET_KEY
    project_id: str = PROJECT_ID
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    _orders: list[_Order] = field(default_factory=list)
    _port: int = 0
    _running: ExitStack | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # -- what tests say ----------------------------------------------------------------------------
    @property
    def environment(self) -> dict[str, str]:
        """The variables that send otelbridge here."""
        return {
            "LANGFUSE_HOST": self.url,
            "LANGFUSE_PUBLIC_KEY": self.public_key,
            "LANGFUSE_SECRET_KEY": self.secret_key,
        }

    def area(self, name: str, default: Any = None) -> Any:
        """The state of an area, made at its first use."""
        return self.state.setdefault(name, {} if default is None else default)

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Score id to the newest body that was taken."""
        found: dict[str, dict[str, Any]] = self.area("scores")
        return found

    def fail(
        self,
        status: int,
        path: str = "/api/public/",
        *,
        times: int = 1,
        method: str = "",
        retry_after: float | None = None,
        body: Any = None,
        seconds: float = 0.0,
    ) -> None:
        """Answer the next `times` requests below `path` with this status.

        Args:
            method: Of this method only.
            retry_after: Seconds, as the header of that name.
            body: Instead of the usual JSON error.
            seconds: How long the answer takes.
        """  # fmt: skip
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        self._orders.append(_Order(path, status, times, headers, body, method, seconds))

    def recover(self) -> None:
        """Forget what `fail` ordered."""
        self._orders.clear()

    def requests(self, path: str, method: str = "") -> list[Seen]:
        """What came for this path."""
        return [one for one in self.seen if one.path == path and method in ("", one.method)]

    def reset(self) -> None:
        """As it was at its start, and listening: for tests that share one."""
        self.recover()
        self.state.clear()
        self.seen.clear()
        if self._running is None:
            self.up()

    # -- running -----------------------------------------------------------------------------------
    def __enter__(self) -> StandIn:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Listen, at the same port as before."""
        # With the protocol named: asyncio then answers without Nagle's pause of 40 ms.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        config = uvicorn.Config(
            self._app(), log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="stand-in", daemon=True
        )
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the stand-in does not start"
            time.sleep(0.005)
        self._running = ExitStack()
        self._running.callback(listener.close)
        self._running.callback(thread.join, 10)
        self._running.callback(setattr, server, "should_exit", True)

    def down(self) -> None:
        """Refuse connections from now on."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    # -- serving -----------------------------------------------------------------------------------
    def _app(self) -> Starlette:
        routes = [
            Route(route.path, self._served(route.endpoint), methods=list(route.methods or ["GET"]))
            for route in self._routes()
        ]

        async def unknown(request: Request, error: Exception) -> Response:
            response = await self._ordered_answer(request)
            if response is None:
                assert isinstance(error, HTTPException)
                response = refusal(error.status_code, error.detail)
            await self._record(request, response.status_code)
            return response

        return Starlette(routes=routes, exception_handlers={404: unknown, 405: unknown})

    def _routes(self) -> list[Route]:
        found: list[Route] = []
        for module in pkgutil.iter_modules([str(Path(__file__).parent / "api")]):
            area = importlib.import_module(f"tests.langfuse.api.{module.name}")
            found += area.routes(self)
        return found

    def _served(self, endpoint: Handler) -> Handler:
        async def serve(request: Request) -> Response:
            response = await self._answer(endpoint, request)
            await self._record(request, response.status_code)
            return response

        return serve

    async def _answer(self, endpoint: Handler, request: Request) -> Response:
        await request.body()
        if (ordered := await self._ordered_answer(request)) is not None:
            return ordered
        try:
            self._authorize(request)
            return await endpoint(request)
        except HTTPException as error:
            return refusal(error.status_code, error.detail)

    async def _ordered_answer(self, request: Request) -> Response | None:
        order = self._ordered(request)
        if order is None:
            return None
        await anyio.sleep(order.seconds)
        body = order.body if order.body is not None else _error(order.status, "as ordered")
        return JSONResponse(body, order.status, order.headers)

    def _ordered(self, request: Request) -> _Order | None:
        with self._lock:
            for order in self._orders:
                fits = order.method in ("", request.method)
                if fits and request.url.path.startswith(order.path) and order.times > 0:
                    order.times -= 1
                    return order
        return None

    def _authorize(self, request: Request) -> None:
        if request.url.path in _NO_LOGIN:
            return
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and credentials == self.public_key:
            if request.url.path == _SCORES and request.method == "POST":
                return
            raise HTTPException(403, "Access denied: a Bearer public key may only write scores")
        right = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        if scheme != "Basic" or credentials != right:
            raise HTTPException(401, "Invalid credentials. Confirm host and key pair.")

    async def _record(self, request: Request, status: int) -> None:
        raw = await request.body()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        self.seen.append(
            Seen(
                request.method, request.url.path, dict(request.query_params),
                dict(request.headers), body, status,
            )
        )  # fmt: skip


def refusal(status: int, message: str) -> JSONResponse:
    """An error as Langfuse writes it."""
    return JSONResponse(_error(status, message), status)


def _error(status: int, message: str) -> dict[str, str]:
    return {"message": message, "error": _ERRORS.get(status, "InternalServerError")}


async def json_body(request: Request) -> Any:
    """The JSON body of a request; 400 where it is none."""
    if "application/json" not in request.headers.get("content-type", ""):
        raise HTTPException(400, "content-type must be application/json")
    try:
        return json.loads(await request.body())
    except ValueError:
        raise HTTPException(400, "Invalid JSON") from None


def checked(model: Any, value: Any, *, also: frozenset[str] = frozenset()) -> None:
    """400 unless a JSON object is what a request model of Langfuse's API client says.

    Args:
        model: Of the `langfuse.api` package; its types and needed fields are checked.
        value: The body, with the names of the wire.
        also: Names that this model's generation does not know but the server takes.
    """
    from langfuse.api.core.pydantic_utilities import parse_obj_as
    from langfuse.api.core.serialization import (
        convert_and_respect_annotation_metadata,
        get_alias_to_field_mapping,
    )

    if not isinstance(value, dict):
        raise HTTPException(400, "Invalid request data: not an object")
    names = get_alias_to_field_mapping(model)
    known = {*names, *model.model_fields} - set(names.values()) | also
    if unknown := sorted(set(value) - known):
        raise HTTPException(400, f"Invalid request data: unknown {', '.join(unknown)}")
    try:
        parse_obj_as(
            model,
            convert_and_respect_annotation_metadata(
                object_=value, annotation=model, direction="read"
            ),
        )
    except ValueError as error:  # pydantic's
        raise HTTPException(400, f"Invalid request data: {error}") from None
