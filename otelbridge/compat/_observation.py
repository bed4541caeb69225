"""The objects that the older APIs hand out: a trace, and an observation in it.

Both are a span of the helpers (`genai`) with the methods that older code calls on them. A trace is
what a request does under one name: it joins the trace that is current (a server's span), is current
itself until it ends, and ends what was left open below it. Nothing here raises into the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.context import Context

from otelbridge import _guard, legacy_headers, request_ids, semconv
from otelbridge.compat import _state
from otelbridge.compat._scores import give_score
from otelbridge.compat._write import write
from otelbridge.context import request_context, update_request
from otelbridge.genai._scope import Scope, StepScope
from otelbridge.genai._span import Call
from otelbridge.genai._values import optional_text, text_of
from otelbridge.genai.trace_io import set_trace_io

#: Kinds of spans in older APIs to observation types of Langfuse.
KINDS: Final[dict[str, str]] = {
    "DEFAULT": "span", "LLM": "generation", "GENERATION": "generation",
    "RETRIEVAL": "retriever", "RETRIEVER": "retriever", "TOOL": "tool", "AGENT": "agent",
    "EMBEDDING": "embedding", "CHAIN": "chain", "EVALUATOR": "evaluator",
    "GUARDRAIL": "guardrail", "EVENT": "event",
}  # fmt: skip
#: Operation of the conventions and the key that names its subject, where there is one.
_OPERATIONS: Final[dict[str, tuple[str, str | None]]] = {
    "generation": ("chat", None),
    "embedding": ("embeddings", None),
    "tool": ("execute_tool", semconv.GEN_AI_TOOL_NAME),
    "agent": ("invoke_agent", semconv.GEN_AI_AGENT_NAME),
    "retriever": ("retrieval", semconv.GEN_AI_DATA_SOURCE_ID),
}
_REQUEST_FIELDS: Final = ("user_id", "session_id", "tags")
_DAY_NS: Final = 86_400 * 10**9
#: Longer texts are content and stay out of a span event, which Tempo shows.
_MAX_WORD_CHARACTERS: Final = 64


def kind_of(word: object) -> str:
    """The observation type of a `span_type` or `as_type`; an unknown word is a plain span."""
    name = text_of(word) if word is not None else ""
    return KINDS.get(name.upper(), "span")


class Observation:
    """A span that older code holds in its hand: `update`, `end`, and children below it.

    True in a condition. Use with `with` makes it current; without, it is not.
    """

    def __init__(
        self, call: Call, context: Context, ended: Callable[[Observation], None] | None = None
    ) -> None:
        self._call = call
        self._context = context
        self._told = ended
        self._open: dict[int, Observation] = {}
        self._scope: Scope | None = None
        self._is_ended = False

    # -- identity -------------------------------------------------------------------------------

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty text without a trace."""
        return self._call.trace_id

    @property
    def observation_id(self) -> str:
        """16 lower-case hex digits; empty text without a trace."""
        return self._call.span_id

    @property
    def id(self) -> str:
        """What older code calls the id: of the observation, for a trace that of the trace."""
        return self.observation_id

    @property
    def ended(self) -> bool:
        """Whether the span has ended."""
        return self._is_ended

    # -- below it -------------------------------------------------------------------------------

    def span(
        self, name: str = "span", input: Any = None, span_type: Any = "DEFAULT", **fields: Any
    ) -> Observation:
        """A child; `update(end_time=…)`, `end()` or leaving a `with` block ends it."""
        return self._child(kind_of(span_type), name, {"input": input, **fields})

    def generation(self, name: str = "generation", **fields: Any) -> Observation:
        """A call of a model below this one, with `model`, `input`, `output`, `usage` and so on."""
        return self._child("generation", name, fields)

    def event(
        self,
        name: str = "event",
        input: Any = None,
        output: Any = None,
        level: str = "DEFAULT",
        **fields: Any,
    ) -> Observation:
        """An event observation in Langfuse, a span event in Tempo."""
        given = {"input": input, "output": output, "level": level, **fields}
        with _guard.guard("compat: event"):
            self._call.span.add_event(text_of(name), _event_attributes(given))
        event = self._child("event", name, given)
        event.end()
        return event

    def _child(self, kind: str, name: object, fields: Mapping[str, Any]) -> Observation:
        child = open_observation(kind, name, self._context, fields, ended=self._forget)
        self._open[id(child)] = child
        return child

    def _forget(self, child: Observation) -> None:
        self._open.pop(id(child), None)

    # -- what is said of it ---------------------------------------------------------------------

    def update(self, *, end_time: datetime | None = None, **fields: Any) -> Self:
        """Set `output`, `input`, `metadata`, `level`, `status`, `status_message`, `model`, `usage`,
        …; unknown fields are ignored. `end_time` ends it.
        """
        with _guard.guard("compat: update"):
            write(self._call.span, fields)
            _state.remember(self._call.span, *(fields.get(key) for key in _ID_FIELDS))
            self._update_request(fields)
        if end_time is not None:
            self.end(end_time=end_time)
        return self

    def _update_request(self, fields: Mapping[str, Any]) -> None:
        named = {key: fields[key] for key in _REQUEST_FIELDS if fields.get(key) is not None}
        if named:
            with StepScope(self._context):
                update_request(**named)
                self._context = otel_context.get_current()

    def score(self, name: str, value: Any, comment: str | None = None, **fields: Any) -> str:
        """Judge this observation; the id of the score."""
        return give_score(
            name, value, trace_id=self.trace_id, observation_id=self.observation_id,
            comment=comment, **fields,
        )  # fmt: skip

    # -- end ------------------------------------------------------------------------------------

    def end(self, *, end_time: datetime | None = None, **fields: Any) -> Self:
        """End it, with all that is open below; a second call changes nothing."""
        if fields:
            self.update(**fields)
        self.finish(None, end_time)
        return self

    def finish(self, error: BaseException | None, end_time: datetime | None = None) -> None:
        """End it, as failed if there is an error."""
        if self._is_ended:
            return
        self._is_ended = True
        with _guard.guard("compat: end"):
            for child in list(self._open.values()):
                child.finish(None)
            if end_time is not None:
                self._call._end_ns = _moment_ns(end_time, self._call._wall_start_ns)
            self._call._finish(error)
            if self._told is not None:
                self._told(self)

    def __enter__(self) -> Self:
        with _guard.guard("compat: enter"):
            self._scope = Scope(self._call.span)
            self._scope.enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        with _guard.guard("compat: exit"):
            if self._scope is not None:
                self._scope.leave()
        self.finish(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        self.__exit__(kind, error, stack)


_ID_FIELDS: Final = ("input", "output", "metadata")


class Trace(Observation):
    """What a request does under one name; see the module.

    Attributes:
        user_id, session_id: As given or updated last.
        outer: The trace of an older API around this one.
    """

    user_id: str | None = None
    session_id: str | None = None
    outer: Trace | None = None
    _block: AbstractContextManager[None] | None = None
    _before: Context | None = None

    @property
    def id(self) -> str:
        """32 lower-case hex digits: the id of the trace."""
        return self.trace_id

    def update(self, *, end_time: datetime | None = None, **fields: Any) -> Self:
        """As of an observation; `user_id`, `session_id` and `tags` are those of the request."""
        for key in ("user_id", "session_id"):
            if fields.get(key) is not None:
                setattr(self, key, optional_text(fields[key]))
        texts = {key: fields[key] for key in ("input", "output") if fields.get(key) is not None}
        if texts:
            with _guard.guard("compat: trace texts"), StepScope(self._context):
                set_trace_io(**texts)
        return super().update(end_time=end_time, **fields)

    def span_here(self, name: object, kind: str, fields: Mapping[str, Any]) -> Observation:
        """A child of the span that is current, if that is in this trace, else of the trace."""
        here = otel_context.get_current()
        inner = otel_trace.get_current_span(here).get_span_context()
        own = self._call.span.get_span_context()
        context = here if inner.trace_id == own.trace_id and inner.is_valid else self._context
        child = open_observation(kind, name, context, fields, ended=self._forget)
        self._open[id(child)] = child
        return child

    def score(self, name: str, value: Any, comment: str | None = None, **fields: Any) -> str:
        """Judge the trace; the id of the score."""
        return give_score(name, value, trace_id=self.trace_id, comment=comment, **fields)

    def finish(self, error: BaseException | None, end_time: datetime | None = None) -> None:
        """End it and bring back what was current before it."""
        if not self._is_ended:
            super().finish(error, end_time)
            with _guard.guard("compat: leave a trace"):
                self.leave()

    def leave(self) -> None:
        """Bring back what was current before, in the thread or task that asks."""
        if self._before is None or self._scope is None:
            return
        self._scope.leave()
        if self._block is not None:
            self._block.__exit__(None, None, None)
        here = otel_trace.get_current_span()
        own = (self._call.span, otel_trace.get_current_span(self._before))
        # It may have ended in another thread, which left its own context only. A span that was
        # opened on top of it stays.
        if _state.current_trace() is self and any(here is span for span in own):
            otel_context.attach(self._before)


def open_observation(
    kind: str,
    name: object,
    context: Context,
    fields: Mapping[str, Any],
    *,
    ended: Callable[[Observation], None] | None = None,
) -> Observation:
    """A started observation whose parent is the span of the context."""
    call = _started(kind, name, context, fields)
    return Observation(call, otel_trace.set_span_in_context(call.span, context), ended)


def open_trace(
    name: object,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    current: bool = True,
    trace_id: object = None,
    fields: Mapping[str, Any],
) -> Trace:
    """A started trace, joined to the current one if there is one.

    Args:
        current: Whether it is current until it ends.
        trace_id: The trace to go on with, where none is current.
        fields: `input`, `metadata`, `tags`, `version` and the rest of `update`.
    """
    outer = current_trace()
    before = otel_context.get_current()
    block = request_context(
        user_id=user_id,
        session_id=session_id,
        tags=fields.get("tags"),
        metadata=_metadata(fields.get("metadata")),
        trace_name=text_of(name) if outer is None else None,
        version=fields.get("version"),
    )
    block.__enter__()
    inside = otel_context.get_current()
    if trace_id is not None and not otel_trace.get_current_span(inside).get_span_context().is_valid:
        inside = legacy_headers.continued(trace_id, None, inside)
    own = {key: value for key, value in fields.items() if key not in ("tags", "metadata")}
    call = _started("span", name, inside, own)
    opened = Trace(call, otel_trace.set_span_in_context(call.span, inside))
    opened.outer = outer
    opened.user_id, opened.session_id = optional_text(user_id), optional_text(session_id)
    _state.remember(call.span, fields.get("input"), fields.get("metadata"))
    if fields.get("input") is not None:
        with StepScope(opened._context):
            set_trace_io(input=fields["input"])
    if current:
        opened._block, opened._before = block, before
        _state.set_current_trace(opened)
        opened._scope = Scope(call.span)
        opened._scope.enter()
        opened._context = otel_context.get_current()
    else:
        block.__exit__(None, None, None)
        otel_context.attach(before)
    return opened


def current_trace() -> Trace | None:
    """The innermost trace of an older API that is open here."""
    found = _state.current_trace()
    while isinstance(found, Trace) and found.ended:
        with _guard.guard("compat: leave a trace"):
            found.leave()
        found = found.outer
    return found if isinstance(found, Trace) else None


def lone_event(name: object, fields: Mapping[str, Any]) -> Observation:
    """An event without a current trace: in the trace that its ids name, else in one of its own."""
    context = otel_context.get_current()
    values = (fields.get("input"), fields.get("output"), fields.get("metadata"))
    seen = [found for text in _state.ids_in(*values) if (found := request_ids.trace_of(text))]
    if seen:
        context = legacy_headers.continued(seen[0].trace_id, seen[0].span_id, context)
    elif (span := otel_trace.get_current_span(context)).is_recording():
        span.add_event(text_of(name), _event_attributes(fields))
    return open_observation("event", name, context, fields).end()


def _started(kind: str, name: object, context: Context, fields: Mapping[str, Any]) -> Call:
    operation, key = _OPERATIONS.get(kind, (None, None))
    model = fields.get("model")

    def identity() -> dict[str, Any]:
        return {
            semconv.GEN_AI_OPERATION_NAME: operation,
            **({key: text_of(name)} if key is not None else {}),
            semconv.GEN_AI_REQUEST_MODEL: optional_text(model) if operation else None,
        }

    call = Call(name, observation_type=kind, identity=identity)
    with StepScope(context):
        call._start()
    write(call.span, fields)
    return call


def _metadata(value: Any) -> Mapping[str, Any] | None:
    return value if value is None or isinstance(value, Mapping) else {"value": value}


def _event_attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers and words of an event, for Tempo: no text of any length."""
    found: dict[str, Any] = {}
    for key in ("input", "output", "metadata"):
        value = fields.get(key)
        for name, item in value.items() if isinstance(value, Mapping) else ():
            is_word = isinstance(item, str) and item.isidentifier()
            if isinstance(item, bool | int | float) or (
                is_word and len(item) <= _MAX_WORD_CHARACTERS
            ):
                found[text_of(name)] = item
    level = optional_text(fields.get("level"))
    return {**found, "level": level} if level else found


def _moment_ns(moment: datetime, start_ns: int) -> int:
    """The end that a caller names; now, where it cannot be (another zone's clock)."""
    now = time.time_ns()
    given = int(moment.timestamp() * 10**9) if isinstance(moment, datetime) else now
    return given if start_ns <= given <= now + _DAY_NS else now
