"""The Langfuse SDK v2 in its own words: `observe`, `langfuse_context`, `Langfuse` and the handler.

    @observe()
    def answer(question):
        langfuse_context.update_current_trace(user_id="u-1", session_id="s-1", tags=["beta"])
        return generate(question)

Spans, ids and headers are OpenTelemetry's: `get_current_trace_id()` is what Tempo knows too.
`compat.install()` makes the imports of v2 give these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context

from otelbridge import _guard, legacy_headers, provider, semconv, view
from otelbridge.compat import _state
from otelbridge.compat._observation import Observation, kind_of, open_observation
from otelbridge.compat._off import NO_OP, NoOp
from otelbridge.compat._scores import give_score
from otelbridge.compat._write import write
from otelbridge.compat.client import Langfuse
from otelbridge.context import update_request
from otelbridge.genai._scope import StepScope
from otelbridge.genai._span import Call
from otelbridge.genai._values import is_true, text_of
from otelbridge.genai.observe import _label, _Observed, _signature, _wrapper
from otelbridge.genai.trace_io import set_trace_io

__all__ = ["CallbackHandler", "Langfuse", "langfuse_context", "observe"]  # noqa: F822 - by __getattr__

_TRACE_ID: Final = "langfuse_parent_trace_id"
_PARENT_ID: Final = "langfuse_parent_observation_id"
#: Arguments that v2 takes out of a call of an observed function.
_OWN_ARGUMENTS: Final = (
    _TRACE_ID, _PARENT_ID, "langfuse_observation_id", "langfuse_public_key",
    "langfuse_session_id", "langfuse_user_id", "langfuse_trace_id",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "CallbackHandler":  # needs LangChain, which is loaded when it is asked for
        from otelbridge.compat.langchain import CallbackHandler

        return CallbackHandler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class _V2Observed(_Observed):
    """As the base, with the arguments of v2, and an output set inside wins over the result."""

    transform: Callable[[Any], str] | None = None

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        _state.start_once()
        own: dict[str, Any] = {key: kwargs.pop(key) for key in _OWN_ARGUMENTS if key in kwargs}
        if not own:
            return _Observed.open(self, args, kwargs)
        trace_id = own.get(_TRACE_ID, own.get("langfuse_trace_id"))
        context = _continued(trace_id, own.get(_PARENT_ID))
        with StepScope(context):
            call = _Observed.open(self, args, kwargs)
        with StepScope(otel_trace.set_span_in_context(call.span, context)):
            update_request(
                user_id=own.get("langfuse_user_id"), session_id=own.get("langfuse_session_id")
            )
        return call

    def result(self, call: Call, value: Any) -> None:
        attributes = getattr(call.span, "attributes", None) or {}
        if semconv.LANGFUSE_OBSERVATION_OUTPUT in attributes:
            return
        if self.transform is not None:
            with _guard.guard("compat: transform_to_string"):
                value = self.transform(value if isinstance(value, list) else [value])
        _Observed.result(self, call, value)


def observe(
    func: Any = None,
    *,
    name: str | None = None,
    as_type: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
    transform_to_string: Callable[[Any], str] | None = None,
    **_: object,
) -> Any:
    """Trace every call of a function; use it bare or with arguments, on sync and async ones.

    Args:
        name: Name of the span; the function's name otherwise.
        as_type: `generation` for a call of a model.
        transform_to_string: Makes one text of the items of a generator.
    """

    def decorate(target: Any) -> Any:
        if isinstance(target, classmethod | staticmethod):
            return type(target)(decorate(target.__func__))
        kind = kind_of(as_type)
        observed = _V2Observed(
            target,
            kind=kind if kind in ("generation", "embedding") else "span",
            name=text_of(name) if name is not None else _label(target),
            signature=_signature(target),
            capture_input=is_true(capture_input),
            capture_output=is_true(capture_output) and kind != "embedding",
            transform=transform_to_string,
        )
        return _wrapper(target, observed)

    return decorate if func is None else decorate(func)


def _continued(trace_id: object, parent_id: object) -> Context:
    """The current context; where it has no trace, one that goes on with the trace that is named."""
    context = otel_context.get_current()
    if trace_id is None or otel_trace.get_current_span(context).get_span_context().is_valid:
        return context
    return legacy_headers.continued(trace_id, parent_id, context)


class _Continuation(AbstractContextManager[None]):
    """`with langfuse_context.configure(trace_id=…)`; called without `with` it does nothing."""

    def __init__(self, trace_id: object, parent_id: object) -> None:
        self._ids = (trace_id, parent_id)
        self._step: StepScope | None = None

    def __enter__(self) -> None:
        with _guard.guard("compat: configure"):
            self._step = StepScope(_continued(*self._ids))
            self._step.__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _guard.guard("compat: configure"):
            if self._step is not None:
                self._step.__exit__(exc_type, exc_value, traceback)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc_value, traceback)


class LangfuseContext:
    """`langfuse_context`: what is current, and what is said of it. No method raises."""

    def get_current_trace_id(self) -> str | None:
        """32 lower-case hex digits, None outside of a trace."""
        own = otel_trace.get_current_span().get_span_context()
        return otel_trace.format_trace_id(own.trace_id) if own.is_valid else None

    def get_current_observation_id(self) -> str | None:
        """16 lower-case hex digits, None outside of a span."""
        own = otel_trace.get_current_span().get_span_context()
        return otel_trace.format_span_id(own.span_id) if own.is_valid else None

    def get_current_trace_url(self) -> str | None:
        """The trace's page in Langfuse, None where it is not known."""
        return provider.trace_links().langfuse_url

    def get_current_langchain_handler(self) -> Any:
        """A LangChain handler for the current trace; None without LangChain or when off."""
        from otelbridge.compat.tracer import get_langfuse_callback

        return get_langfuse_callback()

    @_guard.guarded("compat: update_current_trace", None)
    def update_current_trace(  # noqa: PLR0917 - v2's, by position
        self,
        name: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        version: str | None = None,
        tags: list[str] | None = None,
        metadata: Any = None,
        input: Any = None,
        output: Any = None,
        level: str | None = None,
        status_message: str | None = None,
        **_: object,
    ) -> None:
        """Say it of the whole request: spans that are open or to come, and services behind."""
        update_request(
            user_id=user_id,
            session_id=session_id,
            tags=tags,
            metadata=metadata if isinstance(metadata, Mapping) else _one(metadata),
            trace_name=name,
            version=version,
        )
        texts = {"input": input, "output": output}
        given = {key: value for key, value in texts.items() if value is not None}
        if given:
            set_trace_io(**given)
        node = view.node_of(otel_trace.get_current_span())
        root: Any = node.entry.live_span if node is not None else None
        if root is not None and (level or status_message):
            write(root, {"level": level, "status_message": status_message})

    @_guard.guarded("compat: update_current_observation", None)
    def update_current_observation(self, **fields: Any) -> None:
        """Set `output`, `input`, `metadata`, `level`, `status_message`, `model`, `usage`,
        `usage_details`, `cost_details`, `prompt`, `name`, … of the current span.
        """
        span = otel_trace.get_current_span()
        write(span, fields)
        _state.remember(span, *(fields.get(key) for key in ("input", "output", "metadata")))

    def observe(
        self, name: str = "span", as_type: str | None = None, **fields: Any
    ) -> Observation | NoOp:
        """A child of the current span, for a `with` block."""
        _state.start_once()
        if _state.is_enabled():
            with _guard.guard("compat: observe"):
                context = otel_context.get_current()
                return open_observation(kind_of(as_type), name, context, fields)
        return NO_OP

    def configure(
        self,
        trace_id: str | None = None,
        parent_observation_id: str | None = None,
        *,
        public_key: str | None = None,
        secret_key: str | None = None,
        host: str | None = None,
        enabled: bool = True,
        **settings: Any,
    ) -> _Continuation:
        """In a `with` block: go on with the trace of a caller that sent its ids.

        The trace that is current goes on instead, so a valid traceparent wins. Malformed and
        missing ids: a trace of its own. Keys count if otelbridge has not been configured before.
        """
        if enabled:
            Langfuse(public_key, secret_key, host, **settings)
        return _Continuation(trace_id, parent_observation_id)

    def score_current_trace(
        self, name: str, value: Any, comment: str | None = None, **fields: Any
    ) -> str:
        """Judge the current trace; the id of the score."""
        return give_score(
            name, value, trace_id=self.get_current_trace_id(), comment=comment, **fields
        )

    def score_current_observation(
        self, name: str, value: Any, comment: str | None = None, **fields: Any
    ) -> str:
        """Judge the current span; the id of the score."""
        return give_score(
            name, value, trace_id=self.get_current_trace_id(), comment=comment,
            observation_id=self.get_current_observation_id(), **fields,
        )  # fmt: skip

    def flush(self) -> None:
        """Deliver what is queued."""
        with _guard.guard("compat: flush"):
            provider.flush()

    def auth_check(self) -> bool:
        """Whether Langfuse takes the keys; never raises."""
        return Langfuse().auth_check()


def _one(metadata: Any) -> dict[str, Any] | None:
    return None if metadata is None else {"value": metadata}


#: The one instance, as in v2.
langfuse_context: Final = LangfuseContext()
LangfuseDecorator: Final = LangfuseContext
