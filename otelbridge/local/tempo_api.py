"""Tempo's HTTP API over the local store: the application, readiness and traces by id.

Shapes as Tempo 3.0.3 answers (JSON of protobuf: base64 ids, enum names, 64-bit integers as text,
zero values left out; errors as plain text). Attribute values are whole here, Tempo by default
cuts them at 2,048 bytes. Reads only.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, TracesData
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from otelbridge._version import __version__
from otelbridge.errors import StoreError
from otelbridge.local.query import Compat
from otelbridge.local.records import SpanRecord
from otelbridge.local.search_api import search_routes
from otelbridge.local.store import schema
from otelbridge.local.store.database import Store
from otelbridge.local.store.reading import StoreTimeout

PROTOBUF: Final = "application/protobuf"
_HEX: Final = frozenset(string.hexdigits)
_MAX_ID_DIGITS: Final = 32
#: Smaller answers are sent as they are: the reader is mostly on the same machine.
_GZIP_BYTES: Final = 4096


def tempo_app(
    store: Store, ready: Callable[[], bool] = lambda: True, compat: Compat = "clean"
) -> Starlette:
    """The application of the Tempo port.

    Args:
        store: What is asked.
        ready: Whether every port listens.
        compat: Whose answer a TraceQL query gets where otelbridge's differs from Tempo's.
    """

    def get_ready(_request: Request) -> Response:
        if ready():
            return PlainTextResponse("ready")
        return PlainTextResponse("otelbridge local is starting\n", 503)

    def echo(_request: Request) -> Response:
        return PlainTextResponse("echo")

    def build_info(_request: Request) -> Response:
        # Grafana reads `version` to decide which features to offer.
        return JSONResponse(
            {
                "version": TEMPO_VERSION,
                "revision": f"otelbridge-{__version__}",
                "branch": "otelbridge-local",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            }
        )

    def trace_v1(request: Request) -> Response:
        found = _find(store, request)
        if isinstance(found, Response):
            return found
        if not found:
            return Response(status_code=404)
        trace, _size = traces_data(found)
        if _wants_protobuf(request):
            return Response(trace.SerializeToString(), media_type=PROTOBUF)
        body = _json(trace).replace('"resourceSpans"', '"batches"', 1)
        return Response(body, media_type="application/json")

    def trace_v2(request: Request) -> Response:
        found = _find(store, request)
        if isinstance(found, Response):
            return found
        trace, size = traces_data(found)
        if _wants_protobuf(request):
            return Response(_trace_by_id_response(trace, size), media_type=PROTOBUF)
        metrics = f'{{"inspectedBytes":"{size}"}}' if size else "{}"
        body = f'{{"trace":{_json(trace)},"metrics":{metrics}}}'
        return Response(body, media_type="application/json")

    return Starlette(
        routes=[
            Route("/ready", get_ready),
            Route("/api/echo", echo),
            Route("/api/status/buildinfo", build_info),
            Route("/api/traces/{trace_id}", trace_v1),
            Route("/api/v2/traces/{trace_id}", trace_v2),
            *search_routes(store, compat),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=_GZIP_BYTES, compresslevel=1)],
        exception_handlers={StoreError: _store_failed, Exception: _failed},
    )


#: The Tempo release whose answers these are.
TEMPO_VERSION: Final = "3.0.3"


def parse_trace_id(text: str) -> bytes:
    """16 bytes from 1 to 32 hexadecimal digits, padded on the left.

    Raises:
        ValueError: with Tempo's own text, for another character or too many digits.
    """
    for position, character in enumerate(text, start=1):
        if character not in _HEX:
            raise ValueError(
                "trace IDs can only contain hex characters: "
                f"invalid character '{character}' at position {position}"
            )
    if len(text) > _MAX_ID_DIGITS:
        raise ValueError("trace IDs can't be larger than 128 bits")
    return bytes.fromhex(text.zfill(_MAX_ID_DIGITS))


def traces_data(found: list[SpanRecord]) -> tuple[TracesData, int]:
    """The spans grouped by resource and scope, and the bytes of their serialised form.

    Every span has a `status`, empty when unset, as Tempo writes it.
    """
    trace = TracesData()
    groups: dict[tuple[int, str], Any] = {}
    scopes: dict[tuple[int, str, int, str], ScopeSpans] = {}
    size = 0
    for record in found:
        resource_key = (id(record.resource), record.resource_schema_url)
        if resource_key not in groups:
            group = trace.resource_spans.add(schema_url=record.resource_schema_url)
            group.resource.CopyFrom(record.resource)
            groups[resource_key] = group
        scope_key = (*resource_key, id(record.scope), record.scope_schema_url)
        if scope_key not in scopes:
            scope = groups[resource_key].scope_spans.add(schema_url=record.scope_schema_url)
            scope.scope.CopyFrom(record.scope)
            scopes[scope_key] = scope
        size += record.span.ByteSize()
        record.span.status.SetInParent()
        scopes[scope_key].spans.append(record.span)
    return trace, size


def _find(store: Store, request: Request) -> list[SpanRecord] | Response:
    try:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        _check_window(request)
    except ValueError as error:
        return _text(str(error), 400)
    return store.trace(schema.TEMPO, trace_id)


def _check_window(request: Request) -> None:
    """Check `start` and `end`; they only narrow Tempo's search of blocks and cut no spans."""
    values = {}
    for name in ("start", "end"):
        text = request.query_params.get(name, "")
        if text and not (text.isascii() and text.isdigit()):
            raise ValueError(f'invalid {name}: strconv.ParseInt: parsing "{text}": invalid syntax')
        values[name] = int(text or 0)
    if values["end"] and values["start"] >= values["end"]:
        raise ValueError(
            "http parameter start must be before end. "
            f"received start={values['start']} end={values['end']}"
        )


def _json(trace: TracesData) -> str:
    return MessageToJson(trace, indent=None)


def _wants_protobuf(request: Request) -> bool:
    return PROTOBUF in request.headers.get("accept", "")


def _text(message: str, status: int) -> Response:
    return PlainTextResponse(message, status)


def _store_failed(_request: Request, error: Exception) -> Response:
    return _text(str(error), 504 if isinstance(error, StoreTimeout) else 500)


def _failed(_request: Request, error: Exception) -> Response:
    """The client gets the kind of error, the log the stack (Starlette raises it again)."""
    return _text(f"internal error: {type(error).__name__}", 500)


def _trace_by_id_response(trace: TracesData, size: int) -> bytes:
    """tempopb.TraceByIDResponse: trace = 1 (same wire form as TracesData), metrics = 2.

    `metrics.inspectedBytes` = 1, uint64; from Tempo's pkg/tempopb/tempo.proto.
    """
    body = trace.SerializeToString()
    metrics = b"\x08" + _varint(size) if size else b""
    return b"\x0a" + _varint(len(body)) + body + b"\x12" + _varint(len(metrics)) + metrics


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
