"""What serving a request has in common over WSGI and ASGI: its id, its span's end, its errors.

`wsgi` and `asgi` use it. A server span is made by another library; here its end is held back, and
errors are recorded that the library does not see. `X-Request-ID` is read or made, and goes on in
the baggage.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from otelbridge import semconv
from otelbridge.context import with_request_id

REQUEST_ID_HEADER: Final = "X-Request-ID"
_MAX_REQUEST_ID_CHARACTERS: Final = 128


class HeldEnd:
    """Takes the place of one span's `end` until the request is over.

    Args:
        span: Of the SDK.
        keep_time: End it as of the moment that its owner asked for, not of the release.
    """

    def __init__(self, span: Any, *, keep_time: bool = False) -> None:
        self._span = span
        self._end = span.end
        self._keep_time = keep_time
        self._requested_ns: int | None = None
        # An instance attribute shadows the method for this one span; `release` takes it away.
        span.end = self

    def __call__(self, end_time: int | None = None) -> None:
        """What the span's owner calls as `span.end`."""
        if self._requested_ns is None:
            self._requested_ns = end_time or time.time_ns()

    def release(self) -> None:
        """End the span now if its owner has asked for that, else leave the end to the owner."""
        if self._span.__dict__.pop("end", None) is not None and self._requested_ns is not None:
            self._end(self._requested_ns if self._keep_time else None)


def with_id(value: object, context: Context) -> Context:
    """A context with the id of a request: from its `X-Request-ID`, or made."""
    if isinstance(value, str) and value and value.isprintable():
        return with_request_id(value[:_MAX_REQUEST_ID_CHARACTERS], context, given=True)
    return with_request_id(uuid.uuid4().hex, context, given=False)


def has_header(headers: Iterable[tuple[str, str]], name: str) -> bool:
    """Whether a header is among these, in any case."""
    return any(present.lower() == name.lower() for present, _ in headers)


def record_error(span: Any, error: BaseException) -> None:
    """Record an error that the application let through on its server span."""
    if span is None or not span.is_recording() or isinstance(error, GeneratorExit):
        return
    if not _is_recorded(span, error):
        span.record_exception(error)
    span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _is_recorded(span: Any, error: BaseException) -> bool:
    """Whether the instrumentation has seen this error on its way out."""
    return any(
        event.name == semconv.EXCEPTION_EVENT
        and (event.attributes or {}).get(semconv.EXCEPTION_MESSAGE) == str(error)
        for event in span.events
    )
