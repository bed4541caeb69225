"""The SDK's exporters and batch processor, for `OTELBRIDGE_EXPORTER=stock`, gRPC and the console.

With the settings that lose least: a queue of 20,480 spans together with a time-out of 60 s outlasts
20 s of outage (either alone still loses spans). Langfuse takes OTLP over HTTP only; gRPC is for the
one stream of `stock`.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)

from otelbridge.exporters.destinations import langfuse_stream
from otelbridge.processors.pipeline import ExportPath
from otelbridge.settings import OtlpSettings, Settings


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
        client_certificate_file=settings.otlp.client_certificate,
        client_key_file=settings.otlp.client_key,
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


def langfuse_exporter(settings: Settings) -> SpanExporter:
    """The exporter to Langfuse's OTLP intake; needs `settings.langfuse.configured`."""
    destination = langfuse_stream(settings)
    assert destination is not None
    return OTLPSpanExporter(
        endpoint=destination.owner.endpoint,
        headers=dict(destination.headers),
        timeout=settings.otlp.timeout_seconds,
        compression=Compression.Gzip,
    )


class StockProcessor(ExportPath, BatchSpanProcessor):
    """The SDK's batch processor, whose own shutdown waits 30 s for a dead endpoint."""

    def __init__(self, exporter: SpanExporter, shutdown_seconds: float, **limits: float) -> None:
        super().__init__(exporter, **limits)  # type: ignore[arg-type]  # whole numbers, by the caller
        self._shutdown_seconds = shutdown_seconds

    def end(self, timeout_seconds: float | None = None) -> bool:
        """Deliver for so long; what is not delivered then is lost, and nobody counts it."""
        seconds = self._shutdown_seconds if timeout_seconds is None else timeout_seconds
        self._batch_processor.shutdown(timeout_millis=int(seconds * 1000))
        return True


def batch_processor(exporter: SpanExporter, settings: Settings) -> StockProcessor:
    """The SDK's batch processor with the queue and delay of the settings."""
    return StockProcessor(
        exporter,
        settings.shutdown_timeout_seconds,
        max_queue_size=settings.queue_max_spans,
        schedule_delay_millis=settings.schedule_delay_seconds * 1000,
        max_export_batch_size=settings.batch_max_spans,
    )
