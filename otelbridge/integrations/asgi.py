"""Serves one ASGI request so that its server span is reported and has an id; makes it if need be.

Around the whole application: inbound context starts here, the response carries the report of the
LLM view (`X-Otelbridge-Llm`) when the caller asked for it, and the span is held open, with the end
time that it asked for, until background tasks are done. `wsgi` is the same for WSGI. Works for any
ASGI application: `AsgiMiddleware(app)`; Starlette and FastAPI are done by `starlette`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from opentelemetry import context as otel_context
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

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
#: Scope and app in, name of the server span and attributes for it.
SpanDetails = Callable[[Scope], tuple[str, dict[str, Any]]]

_SCOPE_KEY: Final = "otelbridge.report_channel"
#: Statuses whose responses have no body (RFC 9110 6.4.1).
_BODILESS: Final = (204, 304)


class AsgiMiddleware:
    """Any ASGI application, with a server span for each request.

    Args:
        app: The application; for Starlette and FastAPI `otelbridge.configure` is enough.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = with_server_span(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the server asks for."""
        await serve(self._app, scope, receive, send)


def with_server_span(app: AsgiApp, details: SpanDetails | None = None) -> AsgiApp:
    """The application behind OpenTelemetry's ASGI middleware, without its spans for each message.

    Args:
        app: The application.
        details: Names the span; method and path otherwise.
    """
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.util.http import get_excluded_urls

    made: AsgiApp = OpenTelemetryMiddleware(
        app,
        excluded_urls=get_excluded_urls("ASGI"),
        default_span_details=details,
        exclude_spans=["receive", "send"],
    )
    return made


class _Request:
    """One HTTP request on its way through the application."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.channel = ReportChannel(self._hold)
        self.base = otel_context.set_value(CHANNEL_KEY, self.channel)
        self._method = scope.get("method")
        self._send = send
        self._held: HeldEnd | None = None

    def _hold(self, span: Any) -> None:
        # Without a server span (an excluded URL) the first span is one of the application's own.
        if span.kind is SpanKind.SERVER:
            self._held = HeldEnd(span, keep_time=True)

    async def send(self, message: Message) -> None:
        """Pass a message on to the server, the first one with our headers."""
        if message.get("type") == "http.response.start":
            with _guard.guard("asgi.send"):
                message = {**message, "headers": [*self._headers(message)]}
        await self._send(message)

    def _headers(self, message: Message) -> Iterable[tuple[bytes, bytes]]:
        raw = list(message.get("headers") or ())
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]
        complete = (
            message.get("status") in _BODILESS
            or self._method == "HEAD"
            or has_header(headers, "content-length")
        )
        yield from raw
        answer = self.channel.answer(body_complete=complete)
        if answer is not None:
            yield semconv.REPORT_HEADER.encode(), answer.encode()
        own = request_id()
        if own and not has_header(headers, REQUEST_ID_HEADER):
            yield REQUEST_ID_HEADER.encode(), own.encode("latin-1", "replace")

    def fail(self, error: BaseException) -> None:
        """Record an error that the application let through."""
        if isinstance(error, Exception):  # a cancelled request is no error of the application
            record_error(self.channel.span, error)

    def finish(self) -> None:
        """The application is done, background tasks included: let the server span end."""
        held, self._held = self._held, None
        if held is not None:
            with _guard.guard("asgi.finish"):
                held.release()


async def serve(app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an ASGI application for one request, with the report and the span held as needed."""
    if _SCOPE_KEY in scope or scope.get("type") not in ("http", "websocket"):
        await app(scope, receive, send)  # mounted in another that is served already, or lifespan
        return
    request = _Request(scope, send)
    with _guard.guard("asgi.serve"):
        scope = {**scope, _SCOPE_KEY: request.channel}
        request.base = with_id(_header(scope, b"x-request-id"), request.base)
        if scope["type"] == "websocket":  # its handshake has no response to report in
            request.base = otel_context.set_value(CHANNEL_KEY, None, request.base)
        else:
            send = request.send
    token = otel_context.attach(request.base)
    try:
        await app(scope, receive, send)
    except BaseException as error:
        with _guard.guard("asgi.serve"):
            request.fail(error)
        raise
    finally:
        request.finish()
        otel_context.detach(token)


def _header(scope: Scope, name: bytes) -> str | None:
    for present, value in scope.get("headers") or ():
        if present.lower() == name:
            text: str = value.decode("latin-1")
            return text
    return None
