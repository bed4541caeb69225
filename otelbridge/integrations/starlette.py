"""Starlette and FastAPI: requests pass through `asgi.serve`, and streams keep their context.

The server span is made by whoever is there: FastAPI itself (from 0.16x on), the stock
instrumentations where somebody applied them, else OpenTelemetry's ASGI middleware, put around the
application here, so that it does not matter when the application was imported.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import AsyncIterable, Iterator
from typing import Any, Final

import wrapt
from opentelemetry import trace

from otelbridge import _guard
from otelbridge.integrations import asgi

_PATCHED: Final = "_otelbridge_patched"
_TRACED: Final = "_otelbridge_traced"
#: Whether apps without a server span of anybody's get one, from the first `patch` on.
_state = {"instrument_apps": False}
_STOCK_MIDDLEWARE: Final = "OpenTelemetryMiddleware"


def patch(module: Any) -> None:
    """Send every request of every app of `starlette.applications` through `asgi.serve`."""
    _state["instrument_apps"] = True
    _patch_class(module.Starlette)


def patch_fastapi(module: Any) -> None:
    """The same for `fastapi.applications`, whose class makes spans before Starlette's is called."""
    _state["instrument_apps"] = True
    for cls in module.FastAPI.__mro__:  # the stock instrumentation replaces it by a subclass
        if cls.__module__ == "fastapi.applications" and cls.__name__ == "FastAPI":
            _patch_class(cls)


def patch_responses(module: Any) -> None:
    """Run each step of a streamed body of `starlette.responses` in the request's context."""
    cls = module.StreamingResponse
    if not cls.__dict__.get(_PATCHED):
        wrapt.wrap_function_wrapper(cls, "__init__", _make_streaming)
        setattr(cls, _PATCHED, True)


def _patch_class(cls: Any) -> None:
    wrapped = cls.__dict__.get("__call__")
    if wrapped is None or cls.__dict__.get(_PATCHED):
        return

    # A function and no wrapt wrapper: servers look whether `__call__` is a coroutine function.
    @functools.wraps(wrapped)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await _serve(functools.partial(wrapped, self), self, scope, receive, send)

    cls.__call__ = call
    setattr(cls, _PATCHED, True)


async def _serve(wrapped: Any, app: Any, scope: Any, receive: Any, send: Any) -> None:
    serving = wrapped
    with _guard.guard("starlette.serve"):
        if scope["type"] in ("http", "websocket") and not _makes_spans(app):
            serving = _traced(wrapped, app)
    await asgi.serve(serving, scope, receive, send)


def _makes_spans(app: Any) -> bool:
    """Whether the server span of this app's requests is somebody else's matter."""
    if not _state["instrument_apps"]:
        return True
    if trace.get_current_span().is_recording():
        return True  # around it: another middleware, or an app that this one is mounted in
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return True
    if any(one.cls.__name__ == _STOCK_MIDDLEWARE for one in getattr(app, "user_middleware", ())):
        return True
    native = getattr(app, "_native_telemetry", None)
    return native is not None and bool(native.enabled())


def _traced(wrapped: Any, app: Any) -> asgi.AsgiApp:
    """The app behind a middleware that is made once."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await wrapped(scope, receive, send)

    made = app.__dict__.get(_TRACED)
    if made is None:
        made = asgi.with_server_span(call, lambda scope: _details(app, scope))
        setattr(app, _TRACED, made)
    return made  # type: ignore[no-any-return]  # what was set above


def _details(app: Any, scope: Any) -> tuple[str, dict[str, Any]]:
    """`GET /items/{id}` and the route: what is templated has no ids in it."""
    route = _route(app, scope)
    method = str(scope.get("method", "") if scope["type"] == "http" else "WS")
    return (f"{method} {route}", {"http.route": route}) if route else (method, {})


def _route(app: Any, scope: Any) -> str:
    from starlette.routing import Match

    partial = ""
    for route in app.routes:
        match, below = route.matches({**scope, "app": app})
        path = getattr(route, "path", "")
        if match is Match.NONE or not isinstance(path, str):
            continue
        if getattr(route, "routes", None):  # a mount: the rest of the path is its own matter
            path += _route(route, {**scope, **below})
        if match is Match.FULL:
            return path
        partial = partial or path
    return partial


def _make_streaming(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
    with _guard.guard("starlette.stream"):
        args, kwargs = _with_kept_context(args, kwargs)
    wrapped(*args, **kwargs)


def _with_kept_context(args: Any, kwargs: Any) -> tuple[Any, Any]:
    content = args[0] if args else kwargs.get("content")
    if content is None or isinstance(content, AsyncIterable):
        return args, kwargs  # its steps run in the request's own task
    steps = _Steps(content)
    return ((steps, *args[1:]), kwargs) if args else (args, {**kwargs, "content": steps})


class _Steps:
    """A synchronous body whose steps run in threads, all of them in one context.

    Starlette gives each step a copy of the request's: what one step put there (a span, a user) is
    gone in the next one, and cannot be taken back where it was not put.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._iterator: Iterator[Any] | None = None
        self._context = contextvars.copy_context()

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self._context.run(self._step)

    def _step(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._content)
        return next(self._iterator)
