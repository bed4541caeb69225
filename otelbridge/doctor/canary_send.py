"""The canary: one made-up request as a trace, sent the way this process would send its own.

A private tracer provider with otelbridge's own processor settles the spans; the exporters of
`exporters` deliver them, to the Collector or, in `direct` export, to both stores. Nothing is
installed in the process. `canary_read` reads the trace back, `canary` compares. Limits:
the Collector's sampling overlay may drop it as any other trace.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from otelbridge import semconv
from otelbridge._version import __version__
from otelbridge.doctor.canary_own import OwnExporter, own_exporters
from otelbridge.exporters.branches import langfuse_branch, tempo_branch
from otelbridge.exporters.stock import langfuse_exporter, span_exporter
from otelbridge.links import pages_of
from otelbridge.masks import mask_text
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.settings import Settings

SERVICE: Final = "otelbridge-doctor"
#: Names of the spans: the entry of a service, plain work below it, a model call below that.
ROOT: Final = "otelbridge doctor"
STEP: Final = "canary step"
CALL: Final = "chat otelbridge-canary"
MODEL: Final = "otelbridge-canary"
#: The most that sending may take; one export retries inside of it.
SEND_SECONDS: Final = 10.0
_LOW_64: Final = (1 << 64) - 1
_EXPORTER_LOGGERS: Final = ("opentelemetry.exporter", "otelbridge")
_EXCERPT: Final = 300


@dataclass(frozen=True, slots=True)
class CanarySpan:
    """One span as it was made: ids as hex digits, `parent_id` empty for the root.

    Attributes:
        view_parent: Its parent in Langfuse, empty for the root there; None when it is not sent.
    """

    name: str
    span_id: str
    parent_id: str
    view_parent: str | None
    start_ns: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one exporter said: its target, whether it took the spans, and what it logged."""

    target: str
    accepted: bool
    log: str


@dataclass(frozen=True, slots=True)
class SentCanary:
    """A canary trace that was handed to the exporters.

    Attributes:
        marker: Text that stands in the prompt and the answer and nowhere else.
        sent_ns: Unix nanoseconds at which the exporters were done.
    """

    trace_id: str
    marker: str
    spans: tuple[CanarySpan, ...]
    deliveries: tuple[Delivery, ...]
    sent_ns: int

    @property
    def in_view(self) -> tuple[CanarySpan, ...]:
        """The spans that Langfuse is to have."""
        return tuple(span for span in self.spans if span.view_parent is not None)


class _Kept(SpanProcessor):
    """Keeps settled spans until they are exported in one piece."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class _SampledIds(RandomIdGenerator):
    """Trace ids that LANGFUSE_SAMPLE_RATE lets through, whatever it is (0 lets none)."""

    def __init__(self, sample_rate: float) -> None:
        self._bound = round(sample_rate * (1 << 64))

    def generate_trace_id(self) -> int:
        if not self._bound:
            return super().generate_trace_id()
        # The upper half is never zero, so that no store meets an id with leading zeros.
        upper = secrets.randbits(63) | 1 << 63
        return upper << 64 | secrets.randbelow(min(self._bound, _LOW_64) + 1) % self._bound


def cannot_send(settings: Settings) -> str | None:
    """Why these settings send no spans at all, None when they do."""
    if settings.sdk_disabled:
        return "OTEL_SDK_DISABLED=true"
    if settings.config_file:
        return f"OTEL_CONFIG_FILE={settings.config_file} builds the pipeline"
    if settings.traces_exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER={settings.traces_exporter}"
    return None


def send(settings: Settings, *, timeout_seconds: float = SEND_SECONDS) -> SentCanary:
    """Make the canary trace and hand it to the exporters of these settings.

    Args:
        settings: For which `cannot_send` is None.
        timeout_seconds: For each target; they are sent to side by side.
    """
    marker = f"otelbridge-canary-{secrets.token_hex(8)}"
    kept = _Kept()
    _make_spans(settings, marker, kept)
    exporters = _exporters(settings, timeout_seconds)
    deliveries = _deliver(exporters, kept.spans, timeout_seconds)
    spans = tuple(sorted(map(_seen, kept.spans), key=lambda span: span.start_ns))
    first = kept.spans[0].context
    assert first is not None  # a span of the SDK always has one
    return SentCanary(
        trace.format_trace_id(first.trace_id),
        marker,
        spans,
        deliveries,
        max(span.end_time or 0 for span in kept.spans),
    )


def _make_spans(settings: Settings, marker: str, kept: _Kept) -> None:
    langfuse = settings.langfuse
    processor = BridgeSpanProcessor(
        context=ContextAttributes(environment=langfuse.environment, release=langfuse.release),
        marks=ViewMarks(
            mode=settings.llm_view,
            enabled=langfuse.enabled,
            sample_rate=langfuse.sample_rate,
            capture_content=settings.capture_on_span,
        ),
        legacy_gen_ai_system=settings.legacy_gen_ai_system,
        capture_content=settings.capture_on_span,
        next_processor=kept,
    )
    provider = TracerProvider(
        sampler=ALWAYS_ON,  # the canary asks whether spans arrive, not which ones are chosen
        resource=Resource({**settings.resource_attributes, semconv.SERVICE_NAME: SERVICE}),
        id_generator=_SampledIds(langfuse.sample_rate),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("otelbridge.doctor", __version__)
    # Contexts are passed by hand: nothing becomes current in the process.
    root = tracer.start_span(
        ROOT, Context(), SpanKind.SERVER, {semconv.LANGFUSE_TRACE_TAGS: ["otelbridge-doctor"]}
    )
    step = tracer.start_span(STEP, trace.set_span_in_context(root, Context()))
    call = tracer.start_span(
        CALL, trace.set_span_in_context(step, Context()), SpanKind.CLIENT, _call(marker)
    )
    for span in (call, step, root):
        span.end()


def _call(marker: str) -> dict[str, AttributeValue]:
    def message(role: str, text: str) -> str:
        return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])

    return {
        semconv.GEN_AI_OPERATION_NAME: "chat",
        semconv.GEN_AI_PROVIDER_NAME: "otelbridge",
        semconv.GEN_AI_REQUEST_MODEL: MODEL,  # priced by nobody
        semconv.GEN_AI_INPUT_MESSAGES: message("user", f"{marker} asked"),
        semconv.GEN_AI_OUTPUT_MESSAGES: message("assistant", f"{marker} answered"),
    }


def _seen(span: ReadableSpan) -> CanarySpan:
    own, attributes = span.context, span.attributes or {}
    assert own is not None  # a span of the SDK always has one
    kept = attributes.get(semconv.LLM_KEEP)
    view_parent = attributes.get(semconv.LLM_PARENT) if kept is True else None
    return CanarySpan(
        span.name,
        trace.format_span_id(own.span_id),
        trace.format_span_id(span.parent.span_id) if span.parent else "",
        str(view_parent) if view_parent is not None else None,
        span.start_time or 0,
    )


def _exporters(settings: Settings, timeout_seconds: float) -> dict[str, SpanExporter]:
    """Target to exporter, as `provider` builds them, without their queues."""
    quick = replace(
        settings,
        otlp=replace(
            settings.otlp, timeout_seconds=min(timeout_seconds, settings.otlp.timeout_seconds)
        ),
    )
    if settings.exporter == "bridge":
        return dict(own_exporters(quick, timeout_seconds))
    exporter = span_exporter(quick)
    assert exporter is not None  # `cannot_send`
    if settings.export == "collector":
        return {"collector": exporter}
    pages = pages_of(settings)
    made: dict[str, SpanExporter] = {"tempo": tempo_branch(exporter, pages)}
    if settings.langfuse.configured:
        langfuse = langfuse_exporter(quick)
        made["langfuse"] = langfuse_branch(langfuse, pages)
    return made


def _deliver(
    exporters: dict[str, SpanExporter], spans: list[ReadableSpan], timeout_seconds: float
) -> tuple[Delivery, ...]:
    results: dict[str, SpanExportResult] = {}

    def run(target: str, exporter: SpanExporter) -> None:
        results[target] = exporter.export(spans)

    with _listening() as lines:
        threads = [
            threading.Thread(target=run, args=item, name="otelbridge-canary", daemon=True)
            for item in exporters.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout_seconds + 1)
        log = " | ".join(dict.fromkeys(lines))[:_EXCERPT]
        for exporter in exporters.values():
            exporter.shutdown()
    deliveries = []
    for target, exporter in exporters.items():
        said = exporter.reason if isinstance(exporter, OwnExporter) else log
        taken = results.get(target) is SpanExportResult.SUCCESS
        deliveries.append(Delivery(target, taken, "" if taken else said))
    return tuple(deliveries)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What the exporters log meanwhile, masked; kept from the console, as it is in the finding."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(mask_text(" ".join(record.getMessage().split())))

    loggers = [logging.getLogger(name) for name in _EXPORTER_LOGGERS]
    listener, before = Listener(), [(logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.handlers[:] = [listener]
        logger.propagate = False
    try:
        yield lines
    finally:
        for logger, (propagated, handlers) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.propagate = propagated
