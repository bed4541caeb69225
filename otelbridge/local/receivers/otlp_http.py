"""OTLP/HTTP: POST /v1/traces, protobuf or JSON, gzip or deflate.

Neighbours: `otlp_decode` parses, `records` applies the rules of the two sides, the store commits
before the answer leaves. Answers are in the request's encoding, as the OTLP specification wants:
an empty ExportTraceServiceResponse, or a google.rpc.Status (`{"code":3,"message":...}`).
"""

from __future__ import annotations

import json
from typing import Final

from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otelbridge.errors import IngestError, StoreError
from otelbridge.local.receivers import otlp_decode
from otelbridge.local.receivers.body import read_body, store_batch
from otelbridge.local.records import Batch, BatchWriter, from_otlp_port
from otelbridge.span_rules import NO_PAGES, Pages

#: google.rpc codes by HTTP status: INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE.
_RPC_CODES: Final = {400: 3, 413: 8, 429: 8, 503: 14}


def otlp_http_app(
    write: BatchWriter, *, preview_raw: bool = True, pages: Pages = NO_PAGES
) -> Starlette:
    """The application of the OTLP/HTTP port.

    Args:
        write: Takes the spans, `Store.write`.
        preview_raw: Whether raw spans also feed the Langfuse preview.
        pages: Where the preview's pages are, for the links to them.
    """

    def to_batch(body: bytes, encoding: str, content_type: str) -> Batch:
        decoded = otlp_decode.decode(otlp_decode.decompress(body, encoding), content_type)
        return from_otlp_port(decoded, preview_raw=preview_raw, pages=pages)

    async def traces(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        try:
            otlp_decode.require_content_type(content_type)
            body = await read_body(request)
            encoding = request.headers.get("content-encoding", "")
            batch = await run_in_threadpool(to_batch, body, encoding, content_type)
            await store_batch(write, batch)
        except IngestError as error:
            return _refusal(str(error), error.status, content_type)
        except StoreError as error:
            return _refusal(str(error), 503, content_type)
        except ClientDisconnect:
            return Response(status_code=400)
        if otlp_decode.media_type(content_type) == otlp_decode.JSON:
            return Response(b'{"partialSuccess":{}}', media_type=otlp_decode.JSON)
        answer = ExportTraceServiceResponse().SerializeToString()
        return Response(answer, media_type=otlp_decode.PROTOBUF)

    return Starlette(routes=[Route("/v1/traces", traces, methods=["POST"])])


def _refusal(message: str, status: int, content_type: str) -> Response:
    headers = {"retry-after": "1"} if status in (429, 503) else None
    code = _RPC_CODES.get(status)
    kind = otlp_decode.media_type(content_type)
    if code is None:
        return PlainTextResponse(message, status, headers)
    if kind == otlp_decode.PROTOBUF:
        body = Status(code=code, message=message).SerializeToString()
        return Response(body, status, headers, otlp_decode.PROTOBUF)
    return Response(
        json.dumps({"code": code, "message": message}), status, headers, otlp_decode.JSON
    )
