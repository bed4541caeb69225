"""Request bodies on their way out: bytes, compression, spans, and how to halve them.

What `sender` sends and the spool keeps. Pure: no network, no files.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: On spans of chats a quarter of the CPU of levels 6 and 9, for a fifth more bytes (measured).
GZIP_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class Request:
    """One request body, by default an ExportTraceServiceRequest; gzipped or not; its spans."""

    body: bytes
    spans: int
    gzipped: bool = False

    def plain(self) -> bytes:
        """The bytes without compression."""
        return gzip.decompress(self.body) if self.gzipped else self.body


def halves(request: Request) -> Iterator[Request]:
    """The request as two of half the spans each, resources and scopes kept; needs two spans.

    Raises:
        ValueError: its bytes are no ExportTraceServiceRequest.
    """
    # Imported here: a receiver that refuses spans is rare.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        whole = ExportTraceServiceRequest.FromString(request.plain())
    except (DecodeError, EOFError, OSError, zlib.error) as error:
        raise ValueError("no ExportTraceServiceRequest") from error
    middle = request.spans // 2
    for first, last in ((0, middle), (middle, request.spans)):
        part = ExportTraceServiceRequest()
        position = 0
        for resource in whole.resource_spans:
            to_resource = None
            for scope in resource.scope_spans:
                count = len(scope.spans)
                chosen = scope.spans[max(0, first - position) : max(0, last - position)]
                position += count
                if not chosen:
                    continue
                if to_resource is None:
                    to_resource = part.resource_spans.add(
                        resource=resource.resource, schema_url=resource.schema_url
                    )
                to_resource.scope_spans.add(
                    scope=scope.scope, schema_url=scope.schema_url, spans=chosen
                )
        body = part.SerializeToString()
        yield Request(
            gzip.compress(body, GZIP_LEVEL, mtime=0) if request.gzipped else body,
            last - first,
            request.gzipped,
        )
