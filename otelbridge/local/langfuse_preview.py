"""The Langfuse preview: Langfuse's OTLP intake, a read API and a page per trace.

The intake refuses what Langfuse v4.16.0 refuses, with the same status, so that a configuration
that works here works there. It stores what it is sent on the Langfuse side of the store. A
preview of the LLM view, not a replacement: no scores, prompts, datasets or users.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from otelbridge.errors import IngestError, StoreError
from otelbridge.local import preview_page
from otelbridge.local.observations import observation
from otelbridge.local.receivers import otlp_decode
from otelbridge.local.receivers.body import read_body, store_batch
from otelbridge.local.records import Batch, from_langfuse_intake
from otelbridge.local.store import schema
from otelbridge.local.store.database import Store
from otelbridge.local.tempo_api import parse_trace_id

DEFAULT_PUBLIC_KEY: Final = "pk-lf-local"
DEFAULT_SECRET_KEY: Final = "sk-lf-local"  # noqa: S105 - opens a preview on loopback only
DEFAULT_PROJECT_ID: Final = "local"
#: The Langfuse release whose mapping and answers these are.
LANGFUSE_VERSION: Final = "4.16.0"
_VERSION_HEADERS: Final = ("x-langfuse-ingestion-version", "x_langfuse_ingestion_version")
_MAX_INGESTION_VERSION: Final = 4
_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
#: Field groups of GET /api/public/v2/observations; `core` always comes, `core,basic` by default.
_FIELD_GROUPS: Final = {
    "core": "id traceId startTime endTime projectId parentObservationId type isRootObservation",
    "basic": "name level statusMessage version environment userId sessionId",
    "time": "completionStartTime",
    "io": "input output",
    "metadata": "metadata",
    "model": "model modelParameters",
    "usage": "usageDetails costDetails totalCost",
    "prompt": "promptName promptVersion",
    "metrics": "latency",
    "trace_context": "tags release traceName",
}


@dataclass(frozen=True, slots=True)
class Project:
    """The one project of the preview and its key pair."""

    project_id: str = DEFAULT_PROJECT_ID
    public_key: str = DEFAULT_PUBLIC_KEY
    secret_key: str = field(default=DEFAULT_SECRET_KEY, repr=False)


def langfuse_app(store: Store, project: Project) -> Starlette:
    """The application of the Langfuse preview port."""

    def to_batch(body: bytes, encoding: str, content_type: str) -> Batch:
        # Langfuse undoes gzip only; another encoding ends there as a parse error.
        plain = otlp_decode.decompress(body, "gzip" if "gzip" in encoding else "")
        return from_langfuse_intake(otlp_decode.decode(plain, content_type))

    async def intake(request: Request) -> Response:
        _authorize(request, project)
        _check_version(request)
        try:
            content_type = _content_type(request.headers.get("content-type", ""))
            body = await read_body(request)
            encoding = request.headers.get("content-encoding", "")
            batch = await run_in_threadpool(to_batch, body, encoding, content_type)
            await store_batch(store.write, batch)
        except IngestError as error:
            raise HTTPException(error.status, str(error)) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the request ended early") from error
        return JSONResponse({"spans": len(batch.langfuse)})

    def health(_request: Request) -> Response:
        return JSONResponse({"status": "OK", "version": LANGFUSE_VERSION})

    def projects(request: Request) -> Response:
        _authorize(request, project)
        organization = {"id": "local", "name": "otelbridge local"}
        entry = {"id": project.project_id, "name": project.project_id, "metadata": {}}
        return JSONResponse({"data": [{**entry, "organization": organization}]})

    def observations(request: Request) -> Response:
        _authorize(request, project)
        trace_id = request.query_params.get("traceId", "")
        if not trace_id:
            raise HTTPException(400, "traceId is needed: the preview lists one trace at a time")
        wanted = _wanted_fields(request.query_params.get("fields", "core,basic"))
        limit = _number(request, "limit", _DEFAULT_LIMIT, _MAX_LIMIT)
        offset = _number(request, "cursor", 0, None)
        found = _observations(store, project, trace_id)
        found.reverse()  # newest first
        page = found[offset : offset + limit]
        more = offset + limit < len(found)
        return JSONResponse(
            {
                "data": [{key: item[key] for key in wanted} for item in page],
                "meta": {"cursor": str(offset + limit)} if more else {},
            }
        )

    def trace_page(request: Request) -> Response:
        if request.path_params["project_id"] != project.project_id:
            return HTMLResponse(preview_page.not_found("project", project.project_id), 404)
        trace_id = request.path_params["trace_id"]
        found = _observations(store, project, trace_id)
        if not found:
            return HTMLResponse(preview_page.not_found("trace", trace_id), 404)
        selected = request.query_params.get("observation", "")
        page = preview_page.trace_page(project.project_id, trace_id, found, selected)
        return HTMLResponse(page, headers=preview_page.HEADERS)

    return Starlette(
        routes=[
            Route("/api/public/otel/v1/traces", intake, methods=["POST"]),
            Route("/api/public/health", health),
            Route("/api/public/projects", projects),
            Route("/api/public/v2/observations", observations),
            Route("/project/{project_id}/traces/{trace_id}", trace_page),
        ],
        exception_handlers={HTTPException: _refused, StoreError: _store_failed},
    )


def _observations(store: Store, project: Project, trace_id: str) -> list[dict[str, Any]]:
    """The observations of a trace by start time; none for text that is no trace id."""
    try:
        wanted = parse_trace_id(trace_id)
    except ValueError:
        return []
    found = store.trace(schema.LANGFUSE, wanted)
    return [observation(record, project.project_id) for record in found]


def _authorize(request: Request, project: Project) -> None:
    """Raise 401 without the right key pair, 403 for a Bearer public key (scores only)."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credentials.strip() == project.public_key:
        raise HTTPException(403, "Access denied: a Bearer public key may only write scores")
    if scheme.lower() != "basic":
        raise HTTPException(
            401, "No authorization header; use Basic auth with public key and secret key"
        )
    try:
        text = base64.b64decode(credentials.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(401, "Invalid authorization header") from None
    public, _, secret = text.partition(b":")
    right = hmac.compare_digest(public, project.public_key.encode())
    if not (hmac.compare_digest(secret, project.secret_key.encode()) and right):
        raise HTTPException(
            401,
            "Invalid credentials. Confirm that you've configured the correct host and key pair",
        )


def _check_version(request: Request) -> None:
    for name in _VERSION_HEADERS:
        value = request.headers.get(name)
        if value is None:
            continue
        number = int(value) if value.isascii() and value.isdigit() else None
        if number is None or number > _MAX_INGESTION_VERSION:
            raise HTTPException(400, f"{name} must be a number up to 4, not {value!r}")


def _content_type(header: str) -> str:
    """Langfuse looks for the two types anywhere in the header; `application/protobuf` is none."""
    for kind in (otlp_decode.PROTOBUF, otlp_decode.JSON):
        if kind in header.lower():
            return kind
    raise IngestError(f"Invalid content type {header!r}; use {otlp_decode.PROTOBUF} or JSON")


def _wanted_fields(groups: str) -> list[str]:
    names = [name.strip() for name in groups.split(",") if name.strip()]
    unknown = sorted(set(names) - set(_FIELD_GROUPS))
    if unknown:
        raise HTTPException(
            400, f"unknown field groups {unknown}; available: {', '.join(_FIELD_GROUPS)}"
        )
    chosen = ["core", *(name for name in names if name != "core")]
    return [key for name in chosen for key in _FIELD_GROUPS[name].split()]


def _number(request: Request, name: str, default: int, highest: int | None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or (highest is not None and int(text) > highest):
        limit = f" up to {highest}" if highest is not None else ""
        raise HTTPException(400, f"{name} must be a whole number{limit}, not {text!r}")
    return int(text)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"message": error.detail, "error": _ERROR_NAMES.get(error.status_code, "Error")}
    return JSONResponse(body, error.status_code, error.headers)


_ERROR_NAMES: Final = {
    400: "InvalidRequestError",
    401: "UnauthorizedError",
    403: "ForbiddenError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    429: "TooManyRequestsError",
}


def _store_failed(_request: Request, error: Exception) -> Response:
    # 503 and not 500: OTLP clients drop a batch on 500 and send it again on 503.
    return JSONResponse({"message": str(error), "error": "ServiceUnavailable"}, 503)
