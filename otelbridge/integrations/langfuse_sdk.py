"""The Langfuse SDK (3 to 5) beside us: its spans go out once, by us.

The SDK makes its spans with the provider of the process, ours, and adds a processor that sends
them to Langfuse itself. They would arrive twice, with equal ids, and be counted twice. So that
processor is given the SDK's own switch, `should_export_span`, which says no for every span that
passes through ours; `propagate_attributes`, scores and prompts of the SDK go on as they are.
A client with an isolated `tracer_provider` is left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import wrapt
from opentelemetry import trace

from otelbridge import _guard, view

_FILTER: Final = "_should_export_span"
_PATCHED: Final = "_otelbridge_patched"
_state = {"may_export": False}
_lock = threading.Lock()


def let_sdk_export(allowed: bool) -> None:
    """Whether the SDK sends spans itself although we do (`OTELBRIDGE_LANGFUSE_SDK_EXPORT`)."""
    _state["may_export"] = allowed


def patch(module: Any) -> None:
    """Put the switch into every `LangfuseSpanProcessor`, also those that exist; idempotent.

    Args:
        module: `langfuse._client.span_processor`.
    """
    kind = module.LangfuseSpanProcessor
    with _lock:
        if not kind.__dict__.get(_PATCHED):
            wrapt.wrap_function_wrapper(kind, "__init__", _init)
            wrapt.wrap_function_wrapper(kind, "on_end", _on_end)
            setattr(kind, _PATCHED, True)
    active = getattr(trace.get_tracer_provider(), "_active_span_processor", None)
    for processor in getattr(active, "_span_processors", ()):
        if isinstance(processor, kind):  # a client that was made before `configure()`
            _switch(processor, before_us=True)


def _init(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    with _guard.guard("langfuse sdk"):
        _switch(instance)


def _switch(processor: Any, *, before_us: bool = False) -> None:
    """Give a processor the switch.

    Args:
        before_us: It stands before our processor in the provider and judges a starting span first.
    """
    chosen: Callable[[Any], bool] | None = getattr(processor, _FILTER, None)
    if chosen is None or getattr(chosen, _PATCHED, False):
        return  # SDK 3 has no such filter: `_on_end` alone

    def should_export(span: Any) -> bool:
        ours = (before_us and not _state["may_export"]) or _is_ours(span)
        return not ours and chosen(span)

    should_export._otelbridge_patched = True  # type: ignore[attr-defined]  # a mark on a function
    setattr(processor, _FILTER, should_export)


def _on_end(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    span = args[0] if args else kwargs.get("span")
    if getattr(instance, _FILTER, None) is None and _is_ours(span):
        return
    wrapped(*args, **kwargs)


def _is_ours(span: Any) -> bool:
    """Whether our processor has this span in its hands and sends it."""
    if _state["may_export"]:
        return False
    context = span.get_span_context()
    return context is not None and view.node_by_id(context.span_id) is not None
