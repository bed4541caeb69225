"""Serves one WSGI request so that its server span lasts as long as its body, and is reported.

The stock instrumentation ends the server span when the view returns: a streamed body then runs
outside of it and its spans become traces of their own. Here the end of the span is held until the
body is closed, each step of the body runs in the request's context, and the response carries the
report of the LLM view (`X-Otelbridge-Llm`) when the caller asked for it. Works for any WSGI
application whose server span starts inside `serve`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from otelbridge import _guard, semconv
from otelbridge.context import request_id
from otelbridge.integrations.entry import (
    REQUEST_ID_HEADER,
    HeldEnd,
    has_header,
    record_error,
    with_id,
)
from otelbridge.propagation import CHANNEL_KEY
from otelbridge.view import ReportChannel

_ENVIRON_KEY: Final = "otelbridge.report_channel"
#: Statuses whose responses have no body (RFC 9110 6.4.1).
_BODILESS: Final = ("1", "204", "304")

StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class _Request:
    """One request on its way through the application."""

    def __init__(self, environ: dict[str, Any], start_response: StartResponse) -> None:
        self.channel = ReportChannel(self._hold)
        self.context: Context | None = None
        self.base = otel_context.set_value(CHANNEL_KEY, self.channel)
        """What the application is called in, also where its span starts with its body only."""
        self._environ = environ
        self._start_response = start_response
        self._held: HeldEnd | None = None

    def _hold(self, span: Any) -> None:
        # Without a server span (an excluded URL) the first span is one of the application's own.
        if span.kind is SpanKind.SERVER:
            self._held = HeldEnd(span)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], *args: Any, **kwargs: Any
    ) -> Any:
        with _guard.guard("wsgi.start_response"):
            # The server span is current here, whatever the view did before it returned.
            self.context = otel_context.get_current()
            answer = self.channel.answer(body_complete=self._body_complete(status, headers))
            if answer is not None:
                headers = [*headers, (semconv.REPORT_HEADER, answer)]
            if (own := request_id(self.context)) and not has_header(headers, REQUEST_ID_HEADER):
                headers = [*headers, (REQUEST_ID_HEADER, own)]
        return self._start_response(status, headers, *args, **kwargs)

    def _body_complete(self, status: str, headers: list[tuple[str, str]]) -> bool:
        """Whether the body was made before the headers: a stream has no Content-Length."""
        return (
            status.startswith(_BODILESS)
            or self._environ.get("REQUEST_METHOD") == "HEAD"
            or has_header(headers, "content-length")
        )

    def body_context(self) -> Context:
        """The context that the steps of the body run in."""
        if self.context is not None:
            return self.context
        span = self.channel.span
        return trace.set_span_in_context(span, self.base) if span is not None else self.base

    def fail(self, error: BaseException) -> None:
        """Record an error that the application let through."""
        record_error(self.channel.span, error)

    def finish(self) -> None:
        """The body is closed: let the server span end."""
        held, self._held = self._held, None
        if held is not None:
            with _guard.guard("wsgi.finish"):
                held.release()


class _Body:
    """A response body whose steps run in the request's context."""

    def __init__(self, iterable: Iterable[bytes], request: _Request) -> None:
        self._iterable = iterable
        self._iterator: Iterator[bytes] | None = None
        self._request = request
        self._context = request.body_context()
        self._closed = False

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        step: bytes = self._in_context(self._step)
        return step

    def _step(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._iterable)
        return next(self._iterator)

    def _in_context(self, step: Callable[[], Any]) -> Any:
        token = otel_context.attach(self._context)
        try:
            return step()
        except StopIteration:
            raise
        except BaseException as error:
            with _guard.guard("wsgi.body"):
                self._request.fail(error)
            raise
        finally:
            # What the body attached before it yielded (a request context, a span) must be there
            # when it goes on.
            self._context = otel_context.get_current()
            otel_context.detach(token)

    def close(self) -> None:
        """Close the application's body, then end the server span (PEP 3333, `close`)."""
        if self._closed:
            return
        self._closed = True
        try:
            close = getattr(self._iterable, "close", None)
            if close is not None:
                self._in_context(close)
        finally:
            self._request.finish()

    def __del__(self) -> None:
        # A server that dropped the body without closing it must not keep the span open for ever.
        if not sys.is_finalizing():
            self._request.finish()


def serve(app: WsgiApp, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Call a WSGI application for one request, with the report and the span held as needed."""
    if _ENVIRON_KEY in environ:  # an application mounted in another that is served already
        return app(environ, start_response)
    request = _Request(environ, start_response)
    environ[_ENVIRON_KEY] = request.channel
    with _guard.guard("wsgi.request_id"):
        request.base = with_id(environ.get("HTTP_X_REQUEST_ID"), request.base)
    token = otel_context.attach(request.base)
    try:
        iterable = app(environ, request.start_response)
    except BaseException as error:
        with _guard.guard("wsgi.serve"):
            request.fail(error)
        request.finish()
        raise
    finally:
        otel_context.detach(token)
    file_wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(file_wrapper, type) and isinstance(iterable, file_wrapper):
        request.finish()  # the server sends the file by itself and must see its own type
        return iterable
    return _Body(iterable, request)
