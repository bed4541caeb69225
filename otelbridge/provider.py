"""The one place that assembles: settings -> provider, propagators, processors, exporters.

`configure` builds (or completes) the tracer provider of the process and switches the
instrumentations on; `flush` and `shutdown` end what it started. It reads no environment itself
and is safe to call from several threads and more than once. Used by `distro` and by hand.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate, trace
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.util._importlib_metadata import entry_points

from otelbridge import _guard, self_metrics, semconv
from otelbridge._version import __version__
from otelbridge.cost import pricing
from otelbridge.cost.custom import NO_PRICES, read_prices_file
from otelbridge.exporters.lifecycle import hold_sigterm, leave_sigterm, on_sigterm
from otelbridge.genai._config import GenAiConfig, set_config
from otelbridge.langfuse import active, budget, scores
from otelbridge.legacy_headers import ContinuingIds
from otelbridge.links import (
    NO_LINKS,
    TraceLinks,
    links,
    pages_of,
    parse_span_id,
    parse_trace_id,
)
from otelbridge.logs import install_log_format, show_own_lines
from otelbridge.processors.context import ContextAttributes
from otelbridge.processors.llm_view import ViewMarks
from otelbridge.processors.pipeline import BridgeSpanProcessor, ExportPath, Settling
from otelbridge.processors.pricing import priced
from otelbridge.processors.sdk_tracer import BridgeTracerProvider
from otelbridge.propagation import BridgePropagator
from otelbridge.settings import Settings, set_environment_defaults
from otelbridge.trust import TrustedHosts

if TYPE_CHECKING:
    from otelbridge.masking.rules import Masking
    from otelbridge.masking.spans import SpanMasking

_logger = _guard.logger
_DISTRO: Final = "otelbridge"
#: Processors that send nothing beside us (`integrations.langfuse_sdk`).
_SILENCED: Final = ("LangfuseSpanProcessor",)
_DAY_SECONDS: Final = 86_400.0
#: Beyond the time that an export path was given: for writing what it has to the spool.
_GRACE_SECONDS: Final = 2.0


class _State:
    """What `configure` has built in this process."""

    def __init__(self) -> None:
        self.lock = _guard.fork_safe_lock()
        self.settings: Settings | None = None
        self.provider: TracerProvider | None = None
        self.processor: BridgeSpanProcessor | None = None
        self.owns_provider = False


_state = _State()


def configure(
    settings: Settings | None = None,
    *,
    instrument: bool = True,
    masking: Masking | str | bool | None = None,
    **overrides: Any,
) -> TracerProvider | None:
    """Switch tracing on for this process; further calls change nothing.

    Args:
        settings: Defaults to `Settings.from_env(**overrides)`.
        instrument: Also instrument Flask, httpx, httpx2 and threads, now or when the application
            imports them; False where `opentelemetry-instrument` does that.
        masking: Rules in code, in place of those of the environment; True, False or text is the
            same as OTELBRIDGE_MASKING.
        overrides: Single settings, which win over the environment (see `Settings.from_env`).
    Returns:
        The provider in use: an SDK provider that the application had set before is completed, not
        replaced. None with OTEL_SDK_DISABLED=true, or when another library's provider is in place.
    Raises:
        ConfigError: a setting, or a file that it names, cannot be used.
    """
    # Imported here: patterns take 20 ms to compile, which `import otelbridge` need not wait for.
    from otelbridge.masking.spans import masking_rule

    own_rules = None
    if isinstance(masking, str | bool):
        overrides["masking"] = masking
    else:
        own_rules = masking
    with _state.lock:
        if _state.settings is not None:
            if settings not in (None, _state.settings) or overrides or own_rules is not None:
                _logger.warning(
                    "otelbridge: configure() was called before in this process; the arguments of "
                    "this call are ignored. Call otelbridge.shutdown() first to start again."
                )
            return _state.provider
        chosen = Settings.from_env(**overrides) if settings is None else settings
        custom_prices = read_prices_file(chosen.prices_file) if chosen.prices_file else NO_PRICES
        mask = masking_rule(chosen, own_rules)
        budget.use(chosen)
        set_environment_defaults(capture_content=chosen.capture_content)
        install_log_format(chosen)
        show_own_lines()
        _say_settings(chosen)
        set_config(
            GenAiConfig(
                capture_content=chosen.capture_on_span,
                legacy_gen_ai_system=chosen.legacy_gen_ai_system,
                prices=chosen.prices,
            )
        )
        pricing.set_prices(enabled=chosen.prices, custom=custom_prices)
        propagate.set_global_textmap(_propagator(chosen))
        scores.use(chosen, own_rules)  # first: what is registered last for the exit runs first
        if not chosen.sdk_disabled:
            _install(chosen, mask)
            if _state.processor is not None:
                _deliver_at_sigterm(chosen.shutdown_timeout_seconds)
        _serve_langfuse_sdk(chosen)
        if instrument:
            instrument_libraries(stock=not chosen.sdk_disabled)
        _state.settings = chosen
        active.use(chosen)
        return _state.provider


def active_settings() -> Settings | None:
    """The settings that `configure` was called with, None before."""
    return _state.settings


def trace_links(trace_id: str | None = None, span_id: str | None = None) -> TraceLinks:
    """Where a trace is in Langfuse and in Grafana, to log or to return; never raises.

    Args:
        trace_id: 32 hex digits of any trace; by default the current one, with its current span.
        span_id: 16 hex digits of a span of that trace.
    Returns:
        Addresses are None where there is none to give: a store is not configured
        (LANGFUSE_PUBLIC_URL and LANGFUSE_PROJECT_ID; OTELBRIDGE_GRAFANA_URL), tracing is off, the
        trace is not sampled, or the current span is kept out of Langfuse. Whether a trace has LLM
        work by its end, and so is in Langfuse, is not known while it runs.
    """
    try:
        if trace_id is None:
            return _current_links()
        trace_id = parse_trace_id(trace_id)
        span_id = parse_span_id(span_id) if span_id else None
    except Exception as error:  # noqa: BLE001 - ids of any kind, which may raise anything
        _guard.record_failure("trace_links", error)
        return NO_LINKS
    settings = _state.settings
    if settings is None or settings.sdk_disabled:
        return TraceLinks(trace_id, span_id)
    return links(pages_of(settings), trace_id, span_id)


@_guard.guarded("trace_links", NO_LINKS)
def _current_links() -> TraceLinks:
    span, settings = trace.get_current_span(), _state.settings
    context = span.get_span_context()
    if not context.is_valid:
        return NO_LINKS
    trace_id = trace.format_trace_id(context.trace_id)
    span_id = trace.format_span_id(context.span_id)
    if settings is None or settings.sdk_disabled or not context.trace_flags.sampled:
        return TraceLinks(trace_id, span_id)
    pages = pages_of(settings)
    found = links(pages, trace_id, span_id, getattr(span, "start_time", None) or time.time_ns())
    keep = (getattr(span, "attributes", None) or {}).get(semconv.LLM_KEEP)
    if keep is True:
        return found
    # Only a span that is surely in the view can be selected there.
    whole = links(pages, trace_id).langfuse_url if keep is None else None
    return replace(found, langfuse_url=whole)


def _say_settings(settings: Settings) -> None:
    for warning in settings.warnings:
        _logger.warning("otelbridge: %s", warning)
    _logger.info("%s", settings.startup_line())


def _propagator(settings: Settings) -> BridgePropagator:
    found: list[TextMapPropagator] = []
    for name in settings.propagators:
        for entry_point in entry_points(group="opentelemetry_propagator", name=name):
            found.append(entry_point.load()())
            break
        else:
            _logger.warning(
                "otelbridge: OTEL_PROPAGATORS names %r, which no installed package provides; "
                "it is left out.",
                name,
            )
    trusted = TrustedHosts(settings.trusted_hosts, in_cluster=settings.in_cluster)
    return BridgePropagator(
        CompositePropagator(found),
        trusted=trusted,
        trust_inbound=settings.trust_inbound,
        legacy=settings.legacy_langfuse_headers,
    )


def _install(settings: Settings, mask: SpanMasking | None) -> None:
    existing = trace.get_tracer_provider()
    if isinstance(existing, TracerProvider):
        _complete(existing, settings, mask)
        return
    if not isinstance(existing, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        _logger.warning(
            "otelbridge: the tracer provider of this process is %s, not the OpenTelemetry SDK's; "
            "it is left alone and otelbridge exports nothing. Call otelbridge.configure() before "
            "the other library starts, or switch that library's tracing off.",
            type(existing).__qualname__,
        )
        return
    provider = BridgeTracerProvider(
        resource=_resource(settings),
        span_limits=_span_limits(settings),
        shutdown_on_exit=False,  # it has no deadline: a dead endpoint holds the exit for 30 s
        id_generator=ContinuingIds(RandomIdGenerator()),
    )
    atexit.register(shutdown, settings.shutdown_timeout_seconds)
    processor = _bridge_processor(settings, _export_path(settings, mask))
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _state.provider, _state.processor, _state.owns_provider = provider, processor, True


def _deliver_at_sigterm(seconds: float) -> None:
    on_sigterm(lambda dies: shutdown(seconds) if dies else flush(seconds))


def _span_limits(settings: Settings) -> SpanLimits:
    limit, unset = settings.attribute_count_limit, SpanLimits.UNSET
    try:
        return SpanLimits(  # reads the other limits by itself
            max_span_attributes=limit,
            max_attribute_length=unset,  # the export path cuts, so that JSON stays JSON
            max_span_attribute_length=unset,
        )
    except ValueError as error:
        _logger.warning("otelbridge: %s; the limits besides the attribute count are off.", error)
    return SpanLimits(unset, unset, unset, limit, unset, unset, unset, unset)


def _complete(provider: TracerProvider, settings: Settings, mask: SpanMasking | None) -> None:
    """Add our processor to a provider that somebody else built."""
    others = _exporters_of(provider, ignored=() if settings.langfuse_sdk_export else _SILENCED)
    export_path = None if settings.config_file else _export_path(settings, mask)
    processor = _bridge_processor(settings, export_path)
    provider.add_span_processor(processor)
    if not isinstance(provider.id_generator, ContinuingIds):
        # For tracers made from now on; upstream's type is narrower than what it takes.
        provider.id_generator = ContinuingIds(provider.id_generator)  # type: ignore[assignment]
    if others:
        _logger.warning(
            "otelbridge: the tracer provider was set before and also exports through %s; spans "
            "that leave there are outside of what otelbridge promises (LLM view, content policy, "
            "masking).",
            ", ".join(others),
        )
    _state.provider, _state.processor, _state.owns_provider = provider, processor, False


def _exporters_of(provider: TracerProvider, ignored: tuple[str, ...]) -> list[str]:
    active = getattr(provider, "_active_span_processor", None)
    found = []
    for processor in getattr(active, "_span_processors", ()):
        if isinstance(processor, BridgeSpanProcessor):  # shut down before this `configure`
            continue
        if type(processor).__name__ in ignored:
            continue
        exporter = getattr(processor, "span_exporter", None) or getattr(
            getattr(processor, "_batch_processor", None), "_exporter", None
        )
        found.append(type(exporter or processor).__qualname__)
    return found


def _resource(settings: Settings) -> Resource:
    # Resource.create reads OTEL_RESOURCE_ATTRIBUTES and the resource detectors by itself.
    return Resource.create(
        {
            semconv.SERVICE_NAME: settings.service_name,
            semconv.TELEMETRY_DISTRO_NAME: _DISTRO,
            semconv.TELEMETRY_DISTRO_VERSION: __version__,
        }
    )


def _bridge_processor(
    settings: Settings, next_processor: SpanProcessor | None
) -> BridgeSpanProcessor:
    langfuse = settings.langfuse
    return BridgeSpanProcessor(
        context=ContextAttributes(environment=langfuse.environment, release=langfuse.release),
        marks=ViewMarks(
            mode=settings.llm_view,
            enabled=langfuse.enabled,
            sample_rate=langfuse.sample_rate,
            capture_content=settings.capture_on_span,
        ),
        legacy_gen_ai_system=settings.legacy_gen_ai_system,
        capture_content=settings.capture_on_span,
        next_processor=next_processor,
    )


def _export_path(settings: Settings, mask: SpanMasking | None) -> ExportPath | None:
    # Imported here: a process that exports nothing by itself (the tests') needs none of it.
    from otelbridge.exporters.otlp import export_path, own_paths

    settle = Settling(
        legacy_gen_ai_system=settings.legacy_gen_ai_system,
        capture_content=settings.capture_on_span,
    )
    steps = (settle, priced) if mask is None else (settle, priced, mask)
    path = export_path(settings, pages_of(settings), steps)
    if path is not None:
        path.settles = True
    self_metrics.watch(own_paths(path))
    return path


def _serve_langfuse_sdk(settings: Settings) -> None:
    """The Langfuse SDK's spans leave by us only; with the v2 switch its old imports work."""
    import wrapt

    from otelbridge.integrations import langfuse_sdk, langfuse_v2

    # Where we send Langfuse nothing for want of a way, the SDK keeps its own.
    no_way = settings.langfuse.enabled and settings.langfuse_off_reason is not None
    langfuse_sdk.let_sdk_export(settings.langfuse_sdk_export or no_way)
    hook = _guard.guarded("langfuse sdk", None)(langfuse_sdk.patch)
    wrapt.register_post_import_hook(hook, "langfuse._client.span_processor")
    if settings.compat == "langfuse_v2":
        langfuse_v2.install()


def instrument_libraries(*, stock: bool) -> None:
    """Instrument Flask, Starlette, FastAPI, httpx and httpx2 when they are imported, and threads.

    Args:
        stock: Also apply OpenTelemetry's own instrumentations; False where
            `opentelemetry-instrument` applies them.
    """
    import wrapt

    from otelbridge.integrations import flask, http_clients, starlette

    hooks: dict[str, Callable[[Any], None]] = {
        "flask": flask.instrument if stock else flask.patch,
        "httpx": http_clients.instrument if stock else http_clients.patch,
        "httpx2": http_clients.instrument if stock else http_clients.patch,
        "starlette.applications": starlette.patch,
        "starlette.responses": starlette.patch_responses,
        "fastapi.applications": starlette.patch_fastapi,
    }
    for name, hook in hooks.items():
        wrapt.register_post_import_hook(_guard.guarded(f"instrument {name}", None)(hook), name)
    with _guard.guard("instrument threading"):
        from opentelemetry.instrumentation.threading import ThreadingInstrumentor

        instrumentor = ThreadingInstrumentor()
        if stock and not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()


def flush(timeout_seconds: float = 5.0) -> bool:
    """Deliver what is queued, for at most this long.

    Returns:
        Whether the export path was done in time; False does not mean that anything was lost.
    """
    processor = _state.processor
    timeout_seconds = _bounded(timeout_seconds)
    deadline = time.monotonic() + timeout_seconds
    if processor is None:
        return scores.flush_scores(timeout_seconds)
    # force_flush of the SDK ignores its timeout (measured 22-30 s for 2 s), hence the own thread.
    flushed = _within(
        lambda: processor.force_flush(int(timeout_seconds * 1000)), timeout_seconds, "flush"
    )
    return scores.flush_scores(max(0.0, deadline - time.monotonic())) and flushed


def shutdown(timeout_seconds: float = 5.0) -> bool:
    """Deliver what is queued, for at most this long, and switch tracing off for this process.

    Returns:
        Whether everything was delivered, or is in the spool for the next process, in time.
        `configure()` may be called again afterwards; OpenTelemetry keeps the first provider of a
        process, which then exports nothing more.
    """
    timeout_seconds = _bounded(timeout_seconds)
    with _state.lock:
        processor, _state.processor = _state.processor, None
        _state.settings = None
        active.use(None)
        _state.provider = None
        atexit.unregister(shutdown)
    hold_sigterm()  # SIGTERM would end the process in the middle of this
    try:
        deadline = time.monotonic() + timeout_seconds
        scores.begin_stop(timeout_seconds)  # ends beside the spans, not behind them
        delivered = processor is None or _within(
            lambda: processor.end(timeout_seconds), timeout_seconds + _GRACE_SECONDS, "shutdown"
        )
        return scores.stop(max(0.0, deadline - time.monotonic())) and delivered
    finally:
        leave_sigterm()


def _bounded(seconds: float) -> float:
    """From 0 to a day: locks and clocks take no infinity, and what is no number is 0."""
    return min(max(0.0, seconds), _DAY_SECONDS)


def _within(action: Callable[[], object], timeout_seconds: float, place: str) -> bool:
    results: list[bool] = []

    def run() -> None:
        with _guard.guard(place):
            results.append(action() is not False)

    thread = threading.Thread(target=run, name=f"otelbridge-{place}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # from Python 3.12 on no thread can be started at the end of the program
        run()
    else:
        thread.join(timeout_seconds)
    return bool(results) and results[0]
