"""Whether the older APIs are on, and which trace of theirs the current request is in.

The current trace stands in OpenTelemetry's context, so it is that of the request: threads and tasks
inherit it, concurrent requests do not see each other's. Ids that an application invents (a query,
a message, a recommendation) are remembered for scores and events that come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otelbridge import _guard, provider, request_ids
from otelbridge.processors.pipeline import BridgeSpanProcessor

_TRACE_KEY: Final = "otelbridge.compat_trace"
#: Members of inputs, outputs and metadata by which applications find a request again.
ID_KEYS: Final = ("query_id", "request_id", "message_id", "recommendation_id")
_state = {"tried": False, "failed": False}


def start(**overrides: Any) -> bool:
    """Switch otelbridge on unless it is, and say whether it is; a failure is logged, not raised."""
    if _state["failed"] and not overrides:
        return False  # said once; an object per request would say it each time
    _state["tried"] = True
    if provider.active_settings() is None and not _has_processor():
        try:
            provider.configure(**overrides)
            _state["failed"] = False
        except Exception as error:  # noqa: BLE001 - a wrong setting must not end the application
            _state["failed"] = True
            _guard.logger.error("otelbridge: tracing stays off, it could not start: %s", error)
    return is_enabled()


def start_once() -> None:
    """`start` at the first use, for APIs without a call that starts them."""
    if not _state["tried"]:
        start()


def is_enabled() -> bool:
    """Whether the older APIs record: started, and neither tracing nor Langfuse switched off."""
    if _state["failed"]:
        return False
    settings = provider.active_settings()
    if settings is None:
        return _has_processor()
    lacks_keys = settings.export == "direct" and bool(settings.langfuse.missing_keys)
    return settings.langfuse.enabled and not settings.sdk_disabled and not lacks_keys


def _has_processor() -> bool:
    """Whether the provider of this process has our processor already, however it came to be."""
    current = trace.get_tracer_provider()
    active = getattr(current, "_active_span_processor", None)
    processors = getattr(active, "_span_processors", ())
    return isinstance(current, TracerProvider) and any(
        isinstance(processor, BridgeSpanProcessor) and not processor.is_shut_down
        for processor in processors
    )


def current_trace() -> Any:
    """The trace object that the current request opened by an older API, None for none."""
    return otel_context.get_value(_TRACE_KEY)


def set_current_trace(opened: Any) -> None:
    """Make it the current one, until the context is left that `opened` keeps."""
    otel_context.attach(otel_context.set_value(_TRACE_KEY, opened))


def ids_in(*values: object) -> list[str]:
    """The ids of the application's own that inputs, outputs or metadata name."""
    found: list[str] = []
    for value in values:
        if isinstance(value, Mapping):
            given = (value.get(key) for key in ID_KEYS)
            found.extend(text for text in given if isinstance(text, str) and text)
    return found


def remember(span: trace.Span, *values: object) -> None:
    """Let scores and events find this span's trace by the ids in these values."""
    context = span.get_span_context()
    if not context.is_valid:
        return
    for text in ids_in(*values):
        request_ids.remember(
            text, trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
        )
