"""Flask: requests pass through `wsgi.serve`, and apps made from an early import are instrumented.

`opentelemetry-instrumentation-flask` makes the server spans. It replaces `flask.Flask`, so an app
whose class was imported before (`from flask import Flask` above `configure()`) has none; such an
app is instrumented at its first request.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import wrapt

from otelbridge import _guard
from otelbridge.integrations import wsgi

_logger = _guard.logger
_PATCHED: Final = "_otelbridge_patched"
_state = {"instrument_apps": False}
_lock = threading.Lock()


def patch(flask_module: Any) -> None:
    """Send every request of every Flask app through `wsgi.serve`; idempotent."""
    base = flask_module.Flask
    for cls in base.__mro__:  # the stock instrumentation replaces flask.Flask by a subclass
        if cls.__module__ == "flask.app" and cls.__name__ == "Flask":
            base = cls
    if not base.__dict__.get(_PATCHED):
        wrapt.wrap_function_wrapper(base, "__call__", _serve)
        setattr(base, _PATCHED, True)


def instrument(flask_module: Any) -> None:
    """Apply the stock instrumentation, and to apps that it misses at their first request."""
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    patch(flask_module)
    _state["instrument_apps"] = True
    instrumentor = FlaskInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()


def _serve(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if _state["instrument_apps"] and not instance.__dict__.get("_is_instrumented_by_opentelemetry"):
        with _guard.guard("flask.instrument_app"), _lock:
            _instrument_app(instance)
    return _serve_call(wrapped, *args, **kwargs)


def _serve_call(wrapped: Any, environ: dict[str, Any], start_response: Any) -> Any:
    return wsgi.serve(wrapped, environ, start_response)  # keywords as in `Flask.__call__`


def _instrument_app(app: Any) -> None:
    # An app of the replaced class has its wsgi_app wrapped in its constructor.
    if type(app).__name__ == "_InstrumentedFlask" or getattr(app, "_got_first_request", True):
        return
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    FlaskInstrumentor.instrument_app(app)  # type: ignore[no-untyped-call]  # upstream has no types
    # Before the application's own hooks, one of which may answer the request.
    hooks = app.before_request_funcs.get(None)
    if hooks:
        # A new list: another thread's first request may be going through the old one.
        app.before_request_funcs[None] = [hooks[-1], *hooks[:-1]]
