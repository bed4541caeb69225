"""httpx and httpx2: the trusted-host rule on the real URL, and the callee's report.

`opentelemetry-instrumentation-httpx` makes the client spans and injects. Its carrier shows the
Host header only, so the transports are wrapped: the URL's host decides, headers that were put on
by hand are taken off at an untrusted host, at each redirect hop, and the response header says
whether LLM work happened below. Works inside or outside of the stock wrapper.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import Any, Final

import wrapt
from opentelemetry import context as otel_context
from opentelemetry import propagate

from otelbridge import _guard, semconv, view
from otelbridge.propagation import (
    OUTGOING_HOST_KEY,
    BridgePropagator,
    register_answering_carrier,
)
from otelbridge.view import Answer

_PATCHED: Final = "_otelbridge_patched"
_INSTRUMENTORS: Final = {
    "httpx": "HTTPXClientInstrumentor",
    "httpx2": "HTTPX2ClientInstrumentor",
}
#: Errors that happen before a byte of the request has left: nobody has heard our name.
_NOT_SENT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError"}
)
_SERVER_ERROR: Final = 500
_REQUEST_TIMEOUT: Final = 408


def patch(module: Any) -> None:
    """Wrap the transports of `httpx` or `httpx2`; idempotent."""
    if module.HTTPTransport.__dict__.get(_PATCHED):
        return
    wrapt.wrap_function_wrapper(module.HTTPTransport, "handle_request", _handle)
    wrapt.wrap_function_wrapper(module.AsyncHTTPTransport, "handle_async_request", _handle_async)
    module.HTTPTransport._otelbridge_patched = True
    register_answering_carrier(module.Headers)


def instrument(module: Any) -> None:
    """Wrap the transports of httpx or httpx2, apply the stock instrumentation to what is loaded.

    That instrumentation imports both clients, so the import hook of one may run inside its import:
    it does nothing then, and the hook that caused the import instruments both.
    """
    patch(module)
    stock = importlib.import_module("opentelemetry.instrumentation.httpx")
    for name, instrumentor_name in _INSTRUMENTORS.items():
        instrumentor_type = getattr(stock, instrumentor_name, None)
        if name not in sys.modules or instrumentor_type is None:
            continue
        patch(sys.modules[name])
        instrumentor = instrumentor_type()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()


def _handle(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    exchange = _Exchange(args[0] if args else kwargs.get("request"))
    with exchange.outgoing():
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:
            exchange.failed(error)
            raise
    exchange.answered(response)
    return response


async def _handle_async(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    exchange = _Exchange(args[0] if args else kwargs.get("request"))
    with exchange.outgoing():
        try:
            response = await wrapped(*args, **kwargs)
        except BaseException as error:
            exchange.failed(error)
            raise
    exchange.answered(response)
    return response


class _Exchange:
    """One request on one transport hop, seen for its context headers only."""

    def __init__(self, request: Any) -> None:
        self._request = request

    @contextmanager
    def outgoing(self) -> Any:
        token = None
        with _guard.guard("httpx.request"):
            host = self._request.url.host
            propagator = propagate.get_global_textmap()
            if isinstance(propagator, BridgePropagator) and not propagator.trusts(host):
                self._settle("no")  # injected by the Host header only, and never sent
                propagator.withhold(self._request.headers, host)
            token = otel_context.attach(otel_context.set_value(OUTGOING_HOST_KEY, host))
        try:
            yield
        finally:
            if token is not None:
                otel_context.detach(token)

    def failed(self, error: BaseException) -> None:
        """No response: it may have been sent, and then somebody may use our name."""
        with _guard.guard("httpx.error"):
            self._settle("no" if type(error).__name__ in _NOT_SENT else "maybe")

    def answered(self, response: Any) -> None:
        """The response header, or its absence, settles the call."""
        with _guard.guard("httpx.response"):
            self._settle(_report(response))

    def _settle(self, answer: Answer) -> None:
        # The stock wrapper replaces request.headers, so they are read again here.
        member = _sent_member(self._request.headers.get("tracestate"))
        if member is not None and not member.firm:
            view.call_answered(int(member.sender, 16), answer)


def _sent_member(tracestate: str | None) -> view.Member | None:
    for item in (tracestate or "").split(","):
        key, _, value = item.strip().partition("=")
        if key == semconv.TRACESTATE_MEMBER:
            return view.parse_member(value)
    return None


def _report(response: Any) -> Answer:
    value = response.headers.get(semconv.REPORT_HEADER, "").strip().lower()
    if value in ("yes", "no", "maybe"):
        answer: Answer = value
        return answer
    # A proxy that gave up (502, 504, 408) or a worker that died says nothing of what runs behind
    # it; any other answer without the header comes from a service that does not use the name.
    status = response.status_code
    return "maybe" if status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT else "no"
