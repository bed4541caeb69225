"""One span of a helper: start, being current, errors, content, exactly one end.

The base of every object that the helpers give. Nothing here raises into the application, changes
its exceptions or depends on a configured provider: without one the span is a no-op of the same
shape, and no text is turned into JSON for a span that is not recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from otelbridge import policy, semconv
from otelbridge._guard import guard
from otelbridge._version import __version__
from otelbridge.genai._config import get_config
from otelbridge.genai._scope import Scope
from otelbridge.genai._values import attribute_value, content_text, text_of

#: Instrumentation scope of every span of the helpers; `policy.LLM_SCOPES` knows it.
SCOPE_NAME: Final = "otelbridge.genai"

#: How a stream, a generator or a block came to its end (`otelbridge.stream.ending`).
COMPLETE: Final = "complete"
STOPPED: Final = "stopped"  # by its consumer: break, close(), dropped, never read
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

#: `langfuse.observation.level` of a call whose consumer stopped early: not an error, worth a look.
_LEVEL_STOPPED: Final = "WARNING"
_STOPPED_TEXT: Final = "the consumer stopped the stream before its end"
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{1,63}")

_cached: list[tuple[TracerProvider, Tracer]] = []


def _tracer() -> Tracer:
    """The tracer of the provider that is global now; kept until the provider changes."""
    provider = trace.get_tracer_provider()
    if _cached and _cached[0][0] is provider:
        return _cached[0][1]
    tracer = trace.get_tracer(SCOPE_NAME, __version__)
    if not isinstance(provider, trace.ProxyTracerProvider):
        _cached[:] = [(provider, tracer)]
    return tracer


def error_type(error: BaseException, *, provider_codes: bool = False) -> str:
    """`error.type`: the provider's error code, else the class, qualified unless it is a builtin.

    Args:
        provider_codes: Read `code` or `body.error.type`, as the OpenAI and Anthropic clients set
            them on API errors.
    """
    if provider_codes:
        with contextlib.suppress(Exception):  # members of a class that is not ours
            code = _provider_code(error)
            if code is not None:
                return code
    kind = type(error)
    module = text_of(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _provider_code(error: Any) -> str | None:
    if not hasattr(error, "body"):
        return None
    inner = error.body.get("error") if isinstance(error.body, Mapping) else None
    inner = inner.get("type") if isinstance(inner, Mapping) else None
    for code in (getattr(error, "code", None), inner):
        if isinstance(code, str) and _CODE.fullmatch(code):
            return code
    return None


class Call:
    """A span of a helper while it is open; use it with `with` or `async with`.

    Every method is safe to call at any time, with any value, before, during and after the span.

    Attributes:
        span: The OpenTelemetry span; a no-op span before the block is entered.
    """

    _provider_codes = False

    def __init__(
        self,
        name: object,
        *,
        observation_type: str,
        identity: Callable[[], Mapping[str, Any]],
        span_kind: SpanKind = SpanKind.INTERNAL,
        content: Callable[[], Mapping[str, Any]] | None = None,
        attributes: Mapping[Any, Any] | None = None,
    ) -> None:
        self.span: Span = trace.INVALID_SPAN
        self._name = name
        self._observation_type = observation_type
        self._make_identity = identity
        self._identity: Mapping[str, Any] = {}
        self._span_kind = span_kind
        self._first_content = content
        self._extra = attributes
        self._lock = threading.RLock()  # a dropped stream may end inside another call
        self._started = False
        self._ended = False
        self._recording = False
        self._scope: Scope | None = None
        self._error: BaseException | None = None
        self._noted: list[BaseException] = []
        self._ending: str | None = None
        self._wall_start_ns = 0
        self._clock_start_ns = 0
        self._end_ns: int | None = None
        self._first_chunk_ns: int | None = None

    # -- identity -------------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty text when there is no trace."""
        context = self.span.get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits; empty text when there is no trace."""
        context = self.span.get_span_context()
        return trace.format_span_id(context.span_id) if context.is_valid else ""

    # -- what the application may say about the call ---------------------------------------------

    def set_attribute(self, key: str, value: object) -> None:
        """Set a span attribute; a value that no attribute can hold becomes JSON text."""
        if self._recording:
            with guard("set_attribute"):
                self._write_extra({text_of(key): value})

    def set_input(self, value: object) -> None:
        """The input, as text or anything that becomes JSON."""
        self._set_content(semconv.LANGFUSE_OBSERVATION_INPUT, value)

    def set_output(self, value: object) -> None:
        """The output, as text or anything that becomes JSON."""
        self._set_content(semconv.LANGFUSE_OBSERVATION_OUTPUT, value)

    def record_exception(self, error: BaseException) -> None:
        """Say that the call failed although the application goes on: event, status, `error.type`.

        An exception that leaves the `with` block is recorded without this.
        """
        if self._recording:
            with guard("record_exception"):
                if not issubclass(type(error), BaseException):
                    raise TypeError(type(error).__name__)
                self._note_exception(error)
                self._error = error

    def first_chunk(self) -> None:
        """Say that the first piece of the answer is here; later calls change nothing."""
        if self._first_chunk_ns is None and self._started:
            self._first_chunk_ns = max(0, time.perf_counter_ns() - self._clock_start_ns)

    # -- block ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._start()
        with guard("entering a span"):
            self._scope = Scope(self.span)
            self._scope.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if exc is None and self._hand_over():
            return
        self._finish(exc)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def _leave(self) -> None:
        scope, self._scope = self._scope, None
        if scope is not None:
            with guard("leaving a span"):
                scope.leave()

    def _hand_over(self) -> bool:
        """Whether something that outlives the block will end the span."""
        return False

    # -- start and end --------------------------------------------------------------------------

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self._wall_start_ns = time.time_ns()
        self._clock_start_ns = time.perf_counter_ns()
        with guard("describing a span"):
            self._identity = self._make_identity()
        with guard("starting a span"):
            attributes = {
                semconv.LANGFUSE_OBSERVATION_TYPE: self._observation_type,
                **{key: value for key, value in self._identity.items() if value is not None},
            }
            self.span = _tracer().start_span(
                text_of(self._name), kind=self._span_kind, attributes=attributes
            )
            self._recording = self.span.is_recording()
        if self._recording:
            try:
                with guard("writing the first attributes"):
                    self._on_start()
            except BaseException as error:  # a KeyboardInterrupt goes on to the host
                self._finish(error)
                raise

    def _on_start(self) -> None:
        if self._extra is not None:
            with guard("writing the given attributes"):
                self._write_extra(self._extra)
        if self._first_content is not None and get_config().capture_content:
            self._write(self._first_content())

    def _finish(self, error: BaseException | None = None) -> None:
        """End the span, once; whoever comes second changes nothing."""
        with self._lock:
            if self._ended or not self._started:
                return
            self._ended = True
        try:
            if self._recording:
                with guard("finishing a span"):
                    self._write(self._final_attributes())
                with guard("setting the status of a span"):
                    self._set_status(error)
            else:
                with guard("finishing a span that is not recorded"):
                    self._finish_unrecorded()
        finally:  # also when a KeyboardInterrupt comes in between, which goes on to the host
            with guard("ending a span"):
                self.span.end(self._end_ns)
            self._recording = False
        self._error = None  # exceptions hold frames, frames hold this object
        self._noted.clear()

    def _final_attributes(self) -> dict[str, Any]:
        """What is only known at the end; keys of semconv, values that an attribute can hold."""
        return {}

    def _finish_unrecorded(self) -> None:
        """What is to be done at the end of a call whose trace is not sampled."""

    def _set_status(self, error: BaseException | None) -> None:
        if isinstance(error, GeneratorExit):  # the consumer closed the generator around the block
            self._ending, error = self._ending or STOPPED, None
        error = self._error if error is None else error
        if error is not None:
            description = f"{type(error).__name__}: {text_of(error)}"
            self.span.set_status(Status(StatusCode.ERROR, description))
            self._write({semconv.ERROR_TYPE: self._error_type(error)})
            self._note_exception(error)
            if self._ending is not None and is_cancel(error):
                self._ending = CANCELLED
        elif self._ending == STOPPED:
            self._write(
                {
                    semconv.LANGFUSE_OBSERVATION_LEVEL: _LEVEL_STOPPED,
                    semconv.LANGFUSE_OBSERVATION_STATUS_MESSAGE: _STOPPED_TEXT,
                }
            )
        if self._ending is not None:
            self._write({semconv.STREAM_ENDING: self._ending})

    def _error_type(self, error: BaseException) -> str:
        return error_type(error, provider_codes=self._provider_codes)

    def _note_exception(self, error: BaseException) -> None:
        if any(error is seen for seen in self._noted):
            return
        self._noted.append(error)
        self.span.add_event(
            semconv.EXCEPTION_EVENT,
            {
                semconv.EXCEPTION_TYPE: error_type(error),
                semconv.EXCEPTION_MESSAGE: text_of(error),
                semconv.EXCEPTION_STACKTRACE: _stack_trace(error),
            },
        )

    # -- writing --------------------------------------------------------------------------------

    def _write(self, attributes: Mapping[str, Any]) -> None:
        known = {key: value for key, value in attributes.items() if value is not None}
        if known:
            self.span.set_attributes(known)

    def _write_extra(self, attributes: Mapping[Any, Any]) -> None:
        """The application's own attributes: any key, any value; content only when captured."""
        capture = get_config().capture_content
        for key, value in attributes.items():
            name = text_of(key)
            if name and value is not None and (capture or not policy.is_content_key(name)):
                self.span.set_attribute(name, attribute_value(value))

    def _set_content(self, key: str, value: object) -> None:
        if self._recording and value is not None and get_config().capture_content:
            with guard("writing content"):
                self._write({key: content_text(value)})


def is_cancel(error: BaseException) -> bool:
    """Whether an exception stands for a cancelled task."""
    return isinstance(error, asyncio.CancelledError)


def _stack_trace(error: BaseException) -> str:
    try:
        return text_of("".join(traceback.format_exception(error)))
    except Exception:  # noqa: BLE001 - an exception class of the application's own that cannot be shown
        return "".join(traceback.format_tb(error.__traceback__))
