"""Collects the spans of one test in memory and puts OpenTelemetry's globals back afterwards.

Without an SDK provider in the process, one of our own is the global provider for the test, with
the processors and the propagator that `otelbridge.configure()` would install and nothing behind
them. It is the same object in every test: tracers made at import time stay with the first provider
they see. A provider that the suite has configured is completed for the test, its exporters to the
outside are taken off for that time. Neighbours: `provider` assembles, `traces` asks.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from otelbridge import provider as assembly
from otelbridge.genai import _config as genai_config
from otelbridge.integrations import flask, http_clients
from otelbridge.legacy_headers import ContinuingIds
from otelbridge.processors.pipeline import BridgeSpanProcessor
from otelbridge.settings import Settings

#: Where exporters live that send spans out of the process.
_OUTSIDE = "opentelemetry.exporter."
_INSTRUMENTORS = (
    ("flask", "FlaskInstrumentor"),
    ("httpx", "HTTPXClientInstrumentor"),
    ("httpx", "HTTPX2ClientInstrumentor"),
    ("threading", "ThreadingInstrumentor"),
)
_HOOKS: dict[str, Callable[[Any], None]] = {
    "flask": flask.instrument,
    "httpx": http_clients.instrument,
    "httpx2": http_clients.instrument,
}


class Recorder(SpanProcessor):
    """The spans of one test: those that were started, and those that ended, as exported."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[tuple[int, int], tuple[Span, int]] = {}
        self._given_up: set[tuple[int, int]] = set()
        self._ended: list[ReadableSpan] = []

    def started(self, span: Span) -> None:
        """A span has begun in this thread."""
        context = span.get_span_context()
        if context is not None:
            with self._changed:
                key = (context.trace_id, context.span_id)
                self._open[key] = (span, threading.get_ident())

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that ended; one of an earlier test is let go."""
        context = span.context
        with self._changed:
            if context and self._open.pop((context.trace_id, context.span_id), None):
                self._ended.append(span)
            self._changed.notify_all()

    def ended(self) -> list[ReadableSpan]:
        """Spans that have ended, in that order."""
        with self._changed:
            return list(self._ended)

    def open(self) -> list[ReadableSpan]:
        """Spans that were started and have not ended."""
        with self._changed:
            return [span for span, _ in self._open.values()]

    def settle(self, timeout_seconds: float) -> None:
        """Wait for open spans of other threads: a server's span ends after its last byte.

        Spans of this thread cannot end meanwhile. What did not end in time is not waited for again.
        """
        own = threading.get_ident()

        def awaited() -> list[tuple[int, int]]:
            alive = {thread.ident for thread in threading.enumerate()} - {own}
            return [
                key
                for key, (_, thread) in self._open.items()
                if thread in alive and key not in self._given_up
            ]

        with self._changed:
            self._changed.wait_for(lambda: not awaited(), timeout_seconds)
            self._given_up.update(awaited())


class _Starts(SpanProcessor):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._recorder.started(span)


class _Sampler(sampling.Sampler):
    """Every span while a test captures, none between the tests."""

    capturing = False

    def should_sample(self, *args: Any, **options: Any) -> sampling.SamplingResult:
        choice = sampling.ALWAYS_ON if self.capturing else sampling.ALWAYS_OFF
        return choice.should_sample(*args, **options)

    def get_description(self) -> str:
        return "WhileCapturing"


class _Provider(TracerProvider):
    """The provider of tests; it survives the `shutdown` of an application under test."""

    def __init__(self, settings: Settings) -> None:
        self.switch = _Sampler()
        super().__init__(
            sampler=self.switch,
            resource=assembly._resource(settings),
            span_limits=assembly._span_limits(settings),
            shutdown_on_exit=False,
            id_generator=ContinuingIds(RandomIdGenerator()),
        )
        self._disabled = False  # OTEL_SDK_DISABLED keeps a test run quiet, and this is quiet

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        if not isinstance(span_processor, BridgeSpanProcessor):  # it has one already
            super().add_span_processor(span_processor)

    def shutdown(self) -> None:
        self.force_flush()


_own: list[_Provider] = []
_hooked: list[bool] = []
_capturing = {"instrument": False}


@contextlib.contextmanager
def capturing(*, instrument: bool = True) -> Iterator[Recorder]:
    """Record spans for the length of a `with` block.

    Args:
        instrument: Instrument Flask, httpx and threads meanwhile, where the suite has not
            configured a provider by itself.
    """
    recorder = Recorder()
    existing = trace.get_tracer_provider()
    with contextlib.ExitStack() as stack:
        # A span that an earlier test left in the context would become the parent of ours.
        token = otel_context.attach(Context())
        stack.callback(otel_context.detach, token)
        if isinstance(existing, TracerProvider) and not isinstance(existing, _Provider):
            stack.enter_context(_completed(existing, recorder))
        else:
            settings = _settings()
            stack.enter_context(_installed(settings, recorder))
            stack.enter_context(_configured(settings))
            if instrument:
                stack.enter_context(_instrumented())
        yield recorder


def _settings() -> Settings:
    return Settings.from_env(
        sdk_disabled=False, traces_exporter="none", log_format="off", langfuse_enabled=True,
        langfuse_sample_rate=1.0,
    )  # fmt: skip


@contextlib.contextmanager
def _installed(settings: Settings, recorder: Recorder) -> Iterator[None]:
    """Our provider as the global one."""
    if not _own:
        _own.append(_Provider(settings))
    own = _own[0]
    update = getattr(own, "_update_resource", None)
    if update is not None:  # tracers of earlier tests follow; older SDKs keep the first resource
        update(assembly._resource(settings))
    once = trace._TRACER_PROVIDER_SET_ONCE
    before, was_set = trace._TRACER_PROVIDER, once._done
    bridge = assembly._bridge_processor(settings, recorder)
    with _processors(own, bridge, _Starts(recorder)):
        trace._TRACER_PROVIDER, once._done = own, True
        own.switch.capturing = True
        try:
            yield
        finally:
            own.switch.capturing = False
            trace._TRACER_PROVIDER, once._done = before, was_set
            trace._TRACER_PROVIDER_SET_ONCE = once


@contextlib.contextmanager
def _configured(settings: Settings) -> Iterator[None]:
    """Propagator, switches of the helpers, and what a call of `configure` finds."""
    state = assembly._state
    textmap, switches = propagate.get_global_textmap(), genai_config.get_config()
    before = (state.settings, state.provider, state.processor, state.owns_provider)
    propagate.set_global_textmap(assembly._propagator(settings))
    genai_config.set_config(
        genai_config.GenAiConfig(
            capture_content=settings.capture_on_span,
            legacy_gen_ai_system=settings.legacy_gen_ai_system,
        )
    )
    # An application that calls configure() itself would export: for it, this was done before.
    state.settings, state.provider, state.processor = settings, _own[0], None
    try:
        yield
    finally:
        state.settings, state.provider, state.processor, state.owns_provider = before
        genai_config.set_config(switches)
        propagate.set_global_textmap(textmap)


@contextlib.contextmanager
def _completed(existing: TracerProvider, recorder: Recorder) -> Iterator[None]:
    """The suite's own provider, with our processor added, or its export path turned to us."""
    present = tuple(
        processor
        for processor in existing._active_span_processor._span_processors
        if not _sends_outside(processor)
    )
    for processor in present:
        if isinstance(processor, BridgeSpanProcessor) and not processor._is_shut_down:
            ours: tuple[SpanProcessor, ...] = (_Starts(recorder),)
            export_path, processor._next = processor._next, recorder
            break
    else:
        processor = assembly._bridge_processor(_settings(), recorder)
        ours, export_path = (processor, _Starts(recorder)), recorder
    with _processors(existing, *present, *ours):
        try:
            yield
        finally:
            processor._next = export_path


@contextlib.contextmanager
def _processors(provider: TracerProvider, *processors: SpanProcessor) -> Iterator[None]:
    """Other processors on a provider; in place, because its tracers hold the list."""
    active = provider._active_span_processor
    with active._lock:
        before, active._span_processors = active._span_processors, processors
    try:
        yield
    finally:
        with active._lock:
            active._span_processors = before


def _sends_outside(processor: Any) -> bool:
    exporter = getattr(processor, "span_exporter", None) or getattr(
        getattr(processor, "_batch_processor", None), "_exporter", None
    )
    return any(cls.__module__.startswith(_OUTSIDE) for cls in type(exporter).__mro__)


@contextlib.contextmanager
def _instrumented() -> Iterator[None]:
    """Flask, httpx and threads instrumented, those imported meanwhile too."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    before = {type(found) for found in _instrumentors() if found.is_instrumented_by_opentelemetry}
    early_apps = flask._state["instrument_apps"]
    _capturing["instrument"] = True
    try:
        for name, hook in _HOOKS.items():
            if name in sys.modules:
                hook(sys.modules[name])
        _hook_imports()
        if ThreadingInstrumentor not in before:
            ThreadingInstrumentor().instrument()
        yield
    finally:
        _capturing["instrument"] = False
        flask._state["instrument_apps"] = early_apps
        for found in _instrumentors():
            if found.is_instrumented_by_opentelemetry and type(found) not in before:
                found.uninstrument()


def _hook_imports() -> None:
    if _hooked:
        return
    _hooked.append(True)
    import wrapt

    def hook_for(instrument: Callable[[Any], None]) -> Callable[[Any], None]:
        def when_imported(module: Any) -> None:
            if _capturing["instrument"]:
                instrument(module)

        return when_imported

    for name, instrument in _HOOKS.items():
        wrapt.register_post_import_hook(hook_for(instrument), name)


def _instrumentors() -> list[Any]:
    """The instrumentors that are loaded."""
    return [
        getattr(sys.modules[module], name)()
        for library, name in _INSTRUMENTORS
        if (module := f"opentelemetry.instrumentation.{library}") in sys.modules
        and hasattr(sys.modules[module], name)
    ]
