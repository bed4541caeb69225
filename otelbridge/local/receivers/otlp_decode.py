"""OTLP trace requests in, official protobuf messages out.

Neighbours: `otlp_http`, `otlp_grpc` and the Langfuse preview hand bytes in; `store` and the view
rules take the messages. Everything malformed raises `IngestError` with the HTTP status that the
OpenTelemetry Collector and Tempo answer with. Wire facts: the OTLP specification 1.x (protobuf;
JSON with hexadecimal ids, lowerCamelCase names and enums as numbers).
"""

from __future__ import annotations

import base64
import json
import string
import zlib
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.errors import IngestError

#: Largest request body after decompression, as the Collector's HTTP receiver (20 MiB).
MAX_BODY_BYTES: Final = 20 * 1024 * 1024
PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
#: OTLP/JSON writes these three as hexadecimal text; protobuf's own JSON form is base64.
_HEX_FIELDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_HEX_DIGITS: Final = frozenset(string.hexdigits)
#: `zlib.decompressobj` window sizes: 16 + 15 reads a gzip header, 15 a zlib one ("deflate").
_WINDOW_BITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15, "zlib": 15}


def media_type(content_type: str) -> str:
    """The bare media type of a Content-Type header, lower case: `application/json`."""
    return content_type.split(";", 1)[0].strip().lower()


def decompress(body: bytes, content_encoding: str, *, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The request body without its Content-Encoding (gzip, deflate or none).

    Raises:
        IngestError: 400 for an encoding that is unknown or broken, 413 above `max_bytes`; the
            limit is checked while decompressing, so a small bomb costs no memory.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity", "none"):
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    if encoding not in _WINDOW_BITS:
        raise IngestError(
            f"unsupported Content-Encoding {content_encoding!r}; allowed: gzip, deflate, identity"
        )
    decoder = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        text = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise IngestError(f"request body is not valid {encoding}: {error}") from error
    if len(text) > max_bytes:
        raise _too_large(max_bytes)
    if not decoder.eof:
        raise IngestError(f"request body is not valid {encoding}: the data end too early")
    return text


def decode(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """A decompressed body as an OTLP request whose ids have been checked.

    Raises:
        IngestError: 415 for another content type; 400 for a body that does not parse or has a
            trace or span id of the wrong length.
    """
    kind = require_content_type(content_type)
    request = decode_protobuf(body) if kind == PROTOBUF else decode_json(body)
    check_ids(request)
    return request


def require_content_type(content_type: str) -> str:
    """The media type of an OTLP/HTTP request; `IngestError` 415 unless it is one of the two."""
    kind = media_type(content_type)
    if kind not in (PROTOBUF, JSON):
        raise IngestError(
            f"415 unsupported media type, supported: [{JSON}, {PROTOBUF}]", status=415
        )
    return kind


def decode_protobuf(body: bytes) -> ExportTraceServiceRequest:
    """The request in a protobuf body; `IngestError` 400 when it does not parse."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise IngestError(f"request body is not an OTLP trace request: {error}") from error
    return request


def decode_json(body: bytes) -> ExportTraceServiceRequest:
    """The request in an OTLP/JSON body; unknown fields are ignored, `IngestError` 400 otherwise."""
    request = ExportTraceServiceRequest()
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise IngestError(f"JSON body must be an object, not {type(document).__name__}")
        json_format.ParseDict(_to_proto_json(document), request, ignore_unknown_fields=True)
    except RecursionError as error:
        raise IngestError("JSON body is nested too deeply") from error
    except json_format.ParseError as error:
        raise IngestError(f"JSON body is not an OTLP trace request: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise IngestError(f"request body is not valid JSON: {error}") from error
    return request


def check_ids(request: ExportTraceServiceRequest) -> None:
    """Raise `IngestError` 400 when any id of a span or link has the wrong length or is all zeros.

    The whole request is refused, as Tempo and Langfuse do: nothing of it is stored.
    """
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                _check_id(span.trace_id, TRACE_ID_BYTES, "trace id", span.name)
                _check_id(span.span_id, SPAN_ID_BYTES, "span id", span.name)
                if span.parent_span_id and len(span.parent_span_id) != SPAN_ID_BYTES:
                    raise _bad_id(span.parent_span_id, SPAN_ID_BYTES, "parent span id", span.name)
                for link in span.links:
                    if len(link.trace_id) not in (0, TRACE_ID_BYTES):
                        raise _bad_id(link.trace_id, TRACE_ID_BYTES, "link trace id", span.name)
                    if len(link.span_id) not in (0, SPAN_ID_BYTES):
                        raise _bad_id(link.span_id, SPAN_ID_BYTES, "link span id", span.name)


def _check_id(value: bytes, length: int, what: str, span_name: str) -> None:
    if len(value) != length:
        raise _bad_id(value, length, what, span_name)
    if not any(value):
        raise IngestError(f"{what} of span {span_name!r} is all zeros, which OTLP forbids")


def _bad_id(value: bytes, length: int, what: str, span_name: str) -> IngestError:
    return IngestError(
        f"{what} of span {span_name!r} has {len(value)} bytes; it must have {length}"
    )


def _too_large(max_bytes: int) -> IngestError:
    return IngestError(f"request body is larger than {max_bytes} bytes; send less", status=413)


def _to_proto_json(value: Any) -> Any:
    """OTLP/JSON as protobuf JSON: ids from hexadecimal to base64, snake_case names dropped.

    The OTLP specification does not allow the original field names, but `json_format` would read
    them; no key of an OTLP/JSON object is data, so an underscore marks an unknown field.
    """
    if isinstance(value, dict):
        return {
            key: _hex_to_base64(key, item) if key in _HEX_FIELDS else _to_proto_json(item)
            for key, item in value.items()
            if "_" not in key
        }
    if isinstance(value, list):
        return [_to_proto_json(item) for item in value]
    return value


def _hex_to_base64(field: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) % 2 or not _HEX_DIGITS.issuperset(value):
        raise IngestError(f"{field} must be hexadecimal text, not {value!r:.60}")
    return base64.b64encode(bytes.fromhex(value)).decode("ascii")
