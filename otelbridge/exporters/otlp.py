"""Builds the way out by the settings: the own export path with its spool, or the stock one.

One stream for the Collector, two for `direct`. What every span goes through on its way (`steps`)
runs in the worker, in front of the rule of a branch; size limits come last, where it is encoded.
`destinations` says where a stream goes, `stock` has the SDK's exporters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from otelbridge import endpoints
from otelbridge.exporters import destinations
from otelbridge.exporters.branches import Branch, LangfuseRule, TempoRule
from otelbridge.exporters.destinations import Destination
from otelbridge.exporters.limits import LimitedEncoder, Limits, limited
from otelbridge.exporters.processor import OtlpSpanProcessor, Rule
from otelbridge.exporters.spool import Spool
from otelbridge.exporters.streams import Streams
from otelbridge.processors.pipeline import ExportPath
from otelbridge.settings import Settings
from otelbridge.span_rules import Pages


def export_path(settings: Settings, pages: Pages, steps: Sequence[Rule] = ()) -> ExportPath | None:
    """The way out: one stream for the Collector, two for `direct`; None where nothing leaves.

    Args:
        settings: Decide about everything.
        pages: For the links on spans that a Collector writes otherwise.
        steps: What every span goes through first, in this order: a span in, the span to go on
            with out, or None.
    """
    if settings.export == "collector":
        return _full_stream(settings, *steps)
    streams = [_full_stream(settings, *steps, TempoRule(pages))]
    if settings.langfuse.configured:
        streams.append(_langfuse_stream(settings, *steps, LangfuseRule(pages)))
    return Streams(*[stream for stream in streams if stream is not None])


def own_paths(path: ExportPath | None) -> dict[str, OtlpSpanProcessor]:
    """Those of `export_path` that are of our own, by destination, for `self_metrics`."""
    streams = path.streams if isinstance(path, Streams) else (path,)
    return {one.destination: one for one in streams if isinstance(one, OtlpSpanProcessor)}


def bridge_processor(settings: Settings, *, rule: Rule | None = None) -> OtlpSpanProcessor:
    """The own export path of the full stream; delivers at once what earlier processes left.

    Args:
        settings: With `http/protobuf` as protocol.
        rule: What becomes of a span on its way out, in the worker.
    """
    name = "tempo" if settings.export == "direct" else "collector"
    return _processor(
        settings, destinations.full_stream(settings), name, rule, settings.otlp.compression
    )


def langfuse_processor(settings: Settings, *, rule: Rule | None = None) -> OtlpSpanProcessor:
    """The own export path to Langfuse's OTLP intake; needs `settings.langfuse.configured`."""
    destination = destinations.langfuse_stream(settings)
    assert destination is not None
    return _processor(settings, destination, "langfuse", rule, "gzip")


def _full_stream(settings: Settings, *steps: Rule) -> ExportPath | None:
    if settings.exporter == "bridge" and settings.traces_exporter == "otlp":
        return bridge_processor(settings, rule=_chain(steps))
    from otelbridge.exporters.stock import span_exporter

    exporter = span_exporter(settings)
    return _stock(exporter, steps, settings) if exporter is not None else None


def _langfuse_stream(settings: Settings, *steps: Rule) -> ExportPath:
    if settings.exporter == "bridge":
        return langfuse_processor(settings, rule=_chain(steps))
    from otelbridge.exporters.stock import langfuse_exporter

    return _stock(langfuse_exporter(settings), steps, settings)


def _stock(exporter: SpanExporter, steps: Sequence[Rule], settings: Settings) -> ExportPath:
    """The SDK's way out behind the same steps and limits."""
    # Imported where it is used: the SDK's exporter and `requests` cost more than all of ours.
    from otelbridge.exporters.stock import batch_processor

    limits = Limits.of(settings)
    exporter = Branch(lambda span: limited(span, limits), exporter)
    rule = _chain(steps)
    return batch_processor(Branch(rule, exporter) if rule else exporter, settings)


def _chain(steps: Sequence[Rule]) -> Rule | None:
    """The steps as one rule, None for none; what one of them leaves out is left out."""
    if not steps:
        return None

    def apply(span: ReadableSpan) -> ReadableSpan | None:
        sent: ReadableSpan | None = span
        for step in steps:
            if sent is None:
                return None
            sent = step(sent)
        return sent

    return apply


def _processor(
    settings: Settings, destination: Destination, name: str, rule: Rule | None, compression: str
) -> OtlpSpanProcessor:
    spool = None
    if settings.spool_max_bytes > 0:
        spool = Spool(
            Path(settings.spool_directory),
            owner=destination.owner,
            max_bytes=settings.spool_max_bytes,
            fsync=settings.spool_fsync,
        )
    processor = OtlpSpanProcessor(
        destination.delivery(),
        spool=spool,
        max_spans=settings.queue_max_spans,
        batch_spans=settings.batch_max_spans,
        delay_seconds=settings.schedule_delay_seconds,
        timeout_seconds=settings.otlp.timeout_seconds,
        compression=compression,
        rule=rule,
        write_ahead=settings.spool_mode == "write-ahead",
        name=endpoints.shown(destination.owner.endpoint),
        destination=name,
        shutdown_seconds=settings.shutdown_timeout_seconds,
        encoder=partial(LimitedEncoder, Limits.of(settings)),
    )
    if spool is not None and spool.has_pending():
        processor.start()
    return processor
