"""OTLP/gRPC: TraceService/Export on its own port.

The message is parsed here and not by gRPC, so that a malformed one is answered with
INVALID_ARGUMENT (final for OTLP clients) instead of gRPC's INTERNAL. A store that cannot take the
batch is UNAVAILABLE, which clients retry.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelbridge.errors import IngestError, StoreError
from otelbridge.local.receivers import otlp_decode
from otelbridge.local.records import BatchWriter, from_otlp_port
from otelbridge.span_rules import NO_PAGES, Pages

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_THREADS: Final = 4


def grpc_server(
    write: BatchWriter, *, preview_raw: bool = True, pages: Pages = NO_PAGES
) -> grpc.Server:
    """A gRPC server with the trace service, not bound to a port and not started."""

    def export(body: bytes, context: grpc.ServicerContext) -> ExportTraceServiceResponse:
        try:
            request = otlp_decode.decode_protobuf(body)
            otlp_decode.check_ids(request)
            write(from_otlp_port(request, preview_raw=preview_raw, pages=pages)).result()
        except IngestError as error:
            busy = error.status == 429
            code = grpc.StatusCode.UNAVAILABLE if busy else grpc.StatusCode.INVALID_ARGUMENT
            context.abort(code, str(error))
        except StoreError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return ExportTraceServiceResponse()

    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="otelbridge-grpc"),
        options=[
            ("grpc.max_receive_message_length", otlp_decode.MAX_BODY_BYTES),
            # Without this a second server could share the port and take half of the spans.
            ("grpc.so_reuseport", 0),
        ],
    )
    handler = grpc.unary_unary_rpc_method_handler(
        export, response_serializer=ExportTraceServiceResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),)
    )
    return server
