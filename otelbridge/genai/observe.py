"""The `observe` decorator: one span per call of a function, with its arguments and result.

Works on functions and methods, sync, async, generators and async generators, and keeps what they
are: signature, results, exceptions, `send`, `throw`, `close` and return values. The span of a
generator begins with its first item and is current only while its body runs, so that nothing leaks
into the code that consumes it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from opentelemetry.trace import set_span_in_context

from otelbridge import semconv
from otelbridge._guard import guard
from otelbridge.genai._scope import StepScope
from otelbridge.genai._span import COMPLETE, STOPPED, Call
from otelbridge.genai._values import is_text, is_true, text_of
from otelbridge.genai.spans import evaluate, execute_tool, retrieval, span

F = TypeVar("F", bound=Callable[..., Any])

_MAX_ITEMS: Final = 1_000  # items of a generator that are kept as its output

#: The kinds that have an operation in the semantic conventions but no helper with the same shape
#: (arguments are no messages): operation, and the key that names the thing.
_OPERATIONS: Final[dict[str, tuple[str, str | None]]] = {
    "agent": ("invoke_agent", semconv.GEN_AI_AGENT_NAME),
    "generation": ("chat", None),
    "embedding": ("embeddings", None),
}


@overload
def observe(function: F, /) -> F: ...
@overload
def observe(
    function: None = None,
    /,
    *,
    kind: str = "span",
    name: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Callable[[F], F]: ...
def observe(
    function: Any = None,
    /,
    *,
    kind: str = "span",
    name: str | None = None,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Any:
    """Trace every call of a function; use it bare or with arguments.

    Args:
        kind: What the function is: `span chain tool retriever agent generation embedding evaluator
            guardrail event`; another word counts as `span`.
        name: Name of the span or of the tool, agent, …; the function's name otherwise.
        capture_input: Record the arguments by name (`self` and `cls` are left out).
        capture_output: Record the result, or the items of a generator (the first 1,000). The
            vectors of an `embedding` are never recorded.
    """

    def decorate(target: Any) -> Any:
        if issubclass(type(target), classmethod | staticmethod):  # without asking the target
            return type(target)(decorate(target.__func__))
        word = text_of(kind)
        observed = _Observed(
            target,
            kind=word,
            name=text_of(name) if name is not None else _label(target),
            signature=_signature(target),
            capture_input=is_true(capture_input),
            capture_output=is_true(capture_output) and word != "embedding",
        )
        return _wrapper(target, observed)

    return decorate if function is None else decorate(function)


@dataclass(frozen=True, slots=True)
class _Observed:
    """A decorated function and how its calls are recorded."""

    function: Callable[..., Any]
    kind: str
    name: str
    signature: inspect.Signature | None
    capture_input: bool
    capture_output: bool

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The call object for one invocation; its span has not started."""
        if self.kind == "tool":
            call: Call = execute_tool(self.name)
        elif self.kind == "retriever":
            call = retrieval(self.name)
        elif self.kind == "evaluator":
            call = evaluate(self.name)
        elif self.kind in _OPERATIONS:
            call = _operation_call(self.kind, self.name)
        else:
            call = span(self.name, kind=self.kind)
        call._start()
        if self.capture_input and call._recording:
            try:
                with guard("recording arguments"):
                    call.set_input(self.arguments(args, kwargs))
            except BaseException as error:  # a KeyboardInterrupt goes on to the host
                call._finish(error)
                raise
        return call

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """The arguments by name; those of `**kwargs` beside the others."""
        if self.signature is None:
            return {"args": list(args), **kwargs}
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:  # the call itself is about to fail with this
            return {"args": list(args), **kwargs}
        result: dict[str, Any] = {}
        for position, (name, value) in enumerate(bound.items()):
            if position == 0 and name in ("self", "cls"):
                continue
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                result.update(value)
            else:
                result[name] = value
        return result

    def result(self, call: Call, value: Any) -> None:
        """Record what the function gave."""
        if self.capture_output:
            call.set_output(value)

    def first_item(self, call: Call) -> None:
        """A streaming generation has its first chunk with its first item."""
        if self.kind == "generation":
            call.first_chunk()


def _operation_call(kind: str, name: str) -> Call:
    operation, key = _OPERATIONS[kind]

    def identity() -> dict[str, Any]:
        named = {key: name} if key is not None else {}
        return {semconv.GEN_AI_OPERATION_NAME: operation, **named}

    title = f"{operation} {name}" if key is not None else name
    return Call(title, observation_type=kind, identity=identity)


def _label(target: Any) -> str:
    try:
        name = target.__name__
    except Exception:  # noqa: BLE001 - a callable of any class, whose members may raise anything
        name = None
    return text_of(name) if is_text(name) else type(target).__name__


def _signature(function: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except Exception:  # noqa: BLE001 - a builtin without one, or a class that raises what it likes
        return None


def _wraps(function: Any) -> Callable[[F], F]:
    """`functools.wraps`; a callable that cannot be looked at keeps the wrapper's own name."""

    def finish(wrapper: F) -> F:
        with contextlib.suppress(Exception):  # its members may raise anything, or be of any type
            functools.update_wrapper(wrapper, function)
        return wrapper

    return finish


def _body(function: Any) -> Any:
    """What tells whether a callable is a coroutine function or a generator."""
    try:
        if inspect.isroutine(function):
            return function
        if isinstance(function, functools.partial):
            return function.func
        return getattr(function, "__call__", function)  # noqa: B004 - the method is wanted, not whether there is one
    except Exception:  # noqa: BLE001 - a class that raises when it is looked at: called as it is
        return None


def _wrapper(function: Any, observed: _Observed) -> Any:
    """The wrapper of the same kind as the function."""
    body = _body(function)
    if inspect.isasyncgenfunction(body):
        return _wrap_async_generator(function, observed)
    if inspect.iscoroutinefunction(body):
        return _wrap_coroutine(function, observed)
    if inspect.isgeneratorfunction(body):
        return _wrap_generator(function, observed)
    return _wrap_function(function, observed)


def _wrap_function(function: Any, observed: _Observed) -> Any:
    @_wraps(function)
    def call_function(*args: Any, **kwargs: Any) -> Any:
        with observed.open(args, kwargs) as call:
            result = function(*args, **kwargs)
            observed.result(call, result)
            return result

    return call_function


def _wrap_coroutine(function: Any, observed: _Observed) -> Any:
    @_wraps(function)
    async def call_coroutine(*args: Any, **kwargs: Any) -> Any:
        with observed.open(args, kwargs) as call:
            result = await function(*args, **kwargs)
            observed.result(call, result)
            return result

    return call_coroutine


class _Items:
    """What a generator has given so far, for its output."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._more = 0

    def add(self, item: Any) -> None:
        if len(self._items) < _MAX_ITEMS:
            self._items.append(item)
        else:
            self._more += 1

    def output(self, returned: Any = None) -> Any:
        """Text in pieces as one text, else the items; the return value if there were none."""
        if not self._items:
            return returned
        more = [f"[{self._more} more items]"] if self._more else []
        if all(is_text(item) for item in self._items):
            return "".join([*self._items, *more])
        return [*self._items, *more]


def _wrap_generator(function: Any, observed: _Observed) -> Any:
    @_wraps(function)
    def call_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call, items = observed.open(args, kwargs), _Items()
        scope = StepScope(set_span_in_context(call.span))
        try:
            generator = function(*args, **kwargs)
            step = functools.partial(next, generator)
            while True:
                with scope:
                    item = step()
                observed.first_item(call)
                items.add(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with scope:
                        generator.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on to the body
                    step = functools.partial(generator.throw, thrown)
                else:
                    step = functools.partial(generator.send, sent)
        except StopIteration as stop:
            _finish(call, observed, items.output(stop.value), COMPLETE)
            return stop.value
        except GeneratorExit:
            _finish(call, observed, items.output(), STOPPED)
            raise
        except BaseException as error:
            observed.result(call, items.output())
            call._finish(error)
            raise

    return call_generator


def _wrap_async_generator(function: Any, observed: _Observed) -> Any:
    @_wraps(function)
    async def call_async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call, items = observed.open(args, kwargs), _Items()
        scope = StepScope(set_span_in_context(call.span))
        try:
            generator = function(*args, **kwargs)
            step = functools.partial(anext, generator)
            while True:
                with scope:
                    item = await step()
                observed.first_item(call)
                items.add(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with scope:
                        await generator.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on to the body
                    step = functools.partial(generator.athrow, thrown)
                else:
                    step = functools.partial(generator.asend, sent)
        except StopAsyncIteration:
            _finish(call, observed, items.output(), COMPLETE)
        except GeneratorExit:
            _finish(call, observed, items.output(), STOPPED)
            raise
        except BaseException as error:
            observed.result(call, items.output())
            call._finish(error)
            raise

    return call_async_generator


def _finish(call: Call, observed: _Observed, output: Any, ending: str) -> None:
    observed.result(call, output)
    call._ending = ending
    call._finish()
