"""Making a span current, without tokens.

`opentelemetry.context.detach` wants its token back in the very `contextvars.Context` that gave it
and logs an error otherwise; a generator that is finalised in another task or thread cannot keep to
that. Here leaving restores the earlier context by value, and only where this scope's span is
still the current one, so a scope may be left anywhere, in any order.
"""

from __future__ import annotations

from types import TracebackType

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, get_current_span, set_span_in_context

_SCOPE_KEY = otel_context.create_key("otelbridge-scope")


class Scope:
    """One span being current: `enter()` makes it so, `leave()` brings back what was before.

    Left while another scope is on top, it keeps its predecessor, and the scope on top goes back to
    that one: an ended span never becomes current again.
    """

    __slots__ = ("_context", "_previous", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._context: Context | None = None
        self._previous: Context | None = None

    def enter(self) -> None:
        """Make the span current."""
        self._previous = otel_context.get_current()
        context = otel_context.set_value(_SCOPE_KEY, self, self._previous)
        self._context = set_span_in_context(self._span, context)
        otel_context.attach(self._context)

    def leave(self) -> None:
        """Bring back the context from before `enter`, unless another span is current here."""
        current = otel_context.get_current()
        previous, self._context = self._previous, None
        on_top = otel_context.get_value(_SCOPE_KEY, current) is self
        if previous is None or not on_top or get_current_span(current) is not self._span:
            return  # another scope is on top, or another thread or task: nothing to undo here
        self._previous = None
        otel_context.attach(_live(previous))

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()


class StepScope:
    """The context of a generator, current while a step of it runs, wherever that is.

    A step may run in another task or thread than the one before it (a task for each item, a thread
    pool), and what the generator's body put into the context in one step (a span, a request's user)
    has to be there in the next one; the consumer's context is as it was in between.
    """

    __slots__ = ("_context", "_outer")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._outer = context

    def __enter__(self) -> None:
        self._outer = otel_context.get_current()
        otel_context.attach(self._context)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context = otel_context.get_current()
        otel_context.attach(self._outer)


def _live(context: Context) -> Context:
    """The nearest context, from this one outwards, whose scope was not left out of order."""
    while True:
        scope = otel_context.get_value(_SCOPE_KEY, context)
        if not isinstance(scope, Scope) or scope._context is not None or scope._previous is None:
            return context
        context = scope._previous
