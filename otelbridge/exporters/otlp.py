"""Builds the OTLP exporters and the batch processors in front of them.

The SDK's own exporter and batch processor, with the settings that lose nothing in a 20-second
outage: a queue of 20,480 spans together with a timeout of 60 s (either alone still loses spans).
Langfuse takes OTLP over HTTP only; gRPC is for the one stream of `OTELBRIDGE_EXPORTER=stock`.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)

from otelbridge._version import __version__
from otelbridge.settings import LangfuseSettings, OtlpSettings, Settings

#: Langfuse's OTLP path under its base URL (langfuse docs, OpenTelemetry endpoint).
LANGFUSE_TRACES_PATH = "/api/public/otel/v1/traces"
#: The most that one stream may hold its shutdown where `provider.shutdown` cannot (see there).
SHUTDOWN_MILLISECONDS = 5000


def span_exporter(settings: Settings) -> SpanExporter | None:
    """The exporter of the full stream; None for `OTEL_TRACES_EXPORTER=none`."""
    if settings.traces_exporter == "none":
        return None
    if settings.traces_exporter == "console":
        return ConsoleSpanExporter()
    if settings.otlp.protocol == "grpc":
        return _grpc_exporter(settings.otlp)
    return OTLPSpanExporter(
        endpoint=settings.otlp.endpoint,
        headers=dict(settings.otlp.headers),
        # A float works and is what the setting is; the annotation of 1.4x says int.
        timeout=settings.otlp.timeout_seconds,
        compression=Compression(settings.otlp.compression),
        certificate_file=settings.otlp.certificate,
    )


def _grpc_exporter(otlp: OtlpSettings) -> SpanExporter:
    # Imported here: grpc costs 100 ms and most services never use it.
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
        OTLPSpanExporter as GrpcSpanExporter,
    )

    compression = {
        "gzip": grpc.Compression.Gzip,
        "deflate": grpc.Compression.Deflate,
    }.get(otlp.compression, grpc.Compression.NoCompression)
    return GrpcSpanExporter(
        endpoint=otlp.endpoint,
        insecure=otlp.endpoint.startswith("http://"),
        headers=dict(otlp.headers),
        timeout=otlp.timeout_seconds,
        compression=compression,
    )


def langfuse_exporter(langfuse: LangfuseSettings, *, timeout_seconds: float) -> SpanExporter:
    """The exporter to Langfuse's OTLP intake; needs `langfuse.configured`."""
    pair = f"{langfuse.public_key}:{langfuse.secret_key}".encode()
    return OTLPSpanExporter(
        endpoint=f"{langfuse.host}{LANGFUSE_TRACES_PATH}",
        headers={
            "authorization": f"Basic {base64.b64encode(pair).decode()}",
            "x-langfuse-ingestion-version": "4",
            "x-langfuse-sdk-name": "otelbridge",
            "x-langfuse-sdk-version": __version__,
        },
        timeout=timeout_seconds,
        compression=Compression.Gzip,
    )


class Streams(SpanProcessor):
    """Several export paths that flush and end side by side: a dead one holds up only itself."""

    def __init__(self, *streams: SpanProcessor) -> None:
        self._streams = streams

    def on_end(self, span: ReadableSpan) -> None:
        """Hand the span to each."""
        for stream in self._streams:
            stream.on_end(span)

    def shutdown(self) -> None:
        """Shut all of them down."""
        self._each(lambda stream: stream.shutdown())

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush all of them; whether each one did."""
        return self._each(lambda stream: stream.force_flush(timeout_millis))

    def _each(self, action: Callable[[SpanProcessor], object]) -> bool:
        results: list[bool] = []

        def run(stream: SpanProcessor) -> None:
            results.append(action(stream) is not False)

        started = []
        for stream in self._streams:
            thread = threading.Thread(target=run, args=(stream,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # Python 3.12 starts no thread at the end of the program
                run(stream)
            else:
                started.append(thread)
        for thread in started:
            thread.join()
        return len(results) == len(self._streams) and all(results)


class _BoundedBatchProcessor(BatchSpanProcessor):
    """The SDK's batch processor, whose own shutdown waits 30 s for a dead endpoint."""

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=SHUTDOWN_MILLISECONDS)


def batch_processor(exporter: SpanExporter, settings: Settings) -> BatchSpanProcessor:
    """The SDK's batch processor with the queue and delay of the settings."""
    return _BoundedBatchProcessor(
        exporter,
        max_queue_size=settings.queue_max_spans,
        schedule_delay_millis=settings.schedule_delay_seconds * 1000,
        max_export_batch_size=settings.batch_max_spans,
    )
