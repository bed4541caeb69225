"""Log records that can be joined with traces: a filter, a JSON and a text formatter.

`install_log_format` applies OTELBRIDGE_LOG_FORMAT to the root logger; loggers with handlers of
their own keep them. Message and exception text are masked by the same patterns as spans. Extra
fields of a record are not written: what the application adds there is not known to be harmless.
Formatting never raises, whatever the arguments of a log call are.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, cast

from opentelemetry import trace

from otelbridge import context
from otelbridge.masks import mask_query, mask_text
from otelbridge.settings import Settings

#: Attributes that the filter adds to a record; empty text when there is no value.
FIELDS: Final = ("trace_id", "span_id", "service", "request_id")


class TraceContextFilter(logging.Filter):
    """Adds `trace_id` (32 hex digits), `span_id` (16), `service` and `request_id` to every record.

    Use it on a handler with a format of your own, such as `%(trace_id)s %(message)s`. Empty text
    stands for no value; an attribute that a record already has is kept, so that a record written
    by another thread (QueueHandler) shows where it was made.

    Args:
        service: Name of the service.
    """

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self.service = service

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; every record passes."""
        if all(hasattr(record, name) for name in FIELDS):
            return True
        found = (*_ids(), self.service, context.request_id() or "")
        for name, value in zip(FIELDS, found, strict=True):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line, ASCII only.

    Keys: `time` (ISO 8601, UTC, milliseconds), `level`, `logger`, `message`, `trace_id`, `span_id`,
    `service`, `request_id`, and `exception` when there is one. All values are text.

    Args:
        service: Name of the service.
    """

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self._filter = TraceContextFilter(service)

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return json.dumps(_parts(record, self._filter))


class TextFormatter(logging.Formatter):
    """One line for people: time, level, logger, message, then `key=value`; a stack trace below.

    Line breaks in a message are shown as two characters, so that a message cannot look like two.

    Args:
        service: Name of the service.
    """

    def __init__(self, service: str = "") -> None:
        super().__init__()
        self._filter = TraceContextFilter(service)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, with a stack trace in the lines below."""
        parts = _parts(record, self._filter)
        message = parts["message"].replace("\r", "\\r").replace("\n", "\\n")
        fields = " ".join(f"{name}={parts[name]}" for name in FIELDS if parts[name])
        line = f"{parts['time']} {parts['level']:<7} {parts['logger']}: {message}"
        below = f"\n{parts['exception']}" if "exception" in parts else ""
        return f"{line} {fields}{below}" if fields else line + below


def install_log_format(settings: Settings) -> None:
    """Give the root logger's handlers, present and future, the format of OTELBRIDGE_LOG_FORMAT.

    A root logger without handlers gets one that writes to standard error; `logging.basicConfig`
    still works afterwards, as if that one were not there. Levels are left alone. `off` undoes it.
    """
    if settings.log_format == "off":
        _installation.remove()
        return
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    _installation.install(formatter(settings.service_name))


class _UnlessConfigured(logging.StreamHandler[Any]):
    """Writes to standard error as long as the application has not configured logging itself."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


def show_own_lines() -> None:
    """Make the `otelbridge` logger's lines visible (INFO and above), once and never twice.

    Python shows nothing below WARNING until logging is configured, and the start-up line is INFO.
    An application that configures logging, before or after, gets the lines in its own handlers.
    """
    logger = logging.getLogger("otelbridge")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _UnlessConfigured) for handler in logger.handlers):
        handler = _UnlessConfigured()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


class _Installation:
    """The one change made to the logging module, so that it can be repeated and undone."""

    def __init__(self) -> None:
        self._formatter: logging.Formatter | None = None
        self._own = logging.StreamHandler(sys.stderr)
        self._replaced: dict[logging.Handler, logging.Formatter | None] = {}
        self._basic_config = logging.basicConfig

    def install(self, formatter: logging.Formatter) -> None:
        """Format every handler of the root logger, now and when one is added."""
        root: Any = logging.getLogger()
        if self._formatter is None:
            self._basic_config = logging.basicConfig
            root.addHandler = self._add_handler
            cast(Any, logging).basicConfig = self._basic_config_formatted
        self._formatter = formatter
        if not root.handlers:
            self._own = logging.StreamHandler(sys.stderr)
            root.handlers.append(self._own)
        for handler in root.handlers:
            self._format(handler)

    def remove(self) -> None:
        """Put everything back."""
        if self._formatter is None:
            return
        root: Any = logging.getLogger()
        del root.addHandler
        cast(Any, logging).basicConfig = self._basic_config
        root.removeHandler(self._own)
        for handler, formatter in self._replaced.items():
            handler.setFormatter(formatter)
        self._replaced.clear()
        self._formatter = None

    def _format(self, handler: logging.Handler) -> None:
        if handler is not self._own:
            self._replaced.setdefault(handler, handler.formatter)
        handler.setFormatter(self._formatter)

    def _add_handler(self, handler: logging.Handler) -> None:
        logging.Logger.addHandler(logging.getLogger(), handler)
        self._format(handler)

    def _basic_config_formatted(self, **options: Any) -> None:
        root = logging.getLogger()
        root.removeHandler(self._own)
        try:
            self._basic_config(**options)
        finally:
            if not root.handlers:
                logging.Logger.addHandler(root, self._own)


_installation = _Installation()


def _ids() -> tuple[str, str]:
    span_context = trace.get_current_span().get_span_context()
    if not span_context.is_valid:
        return "", ""
    return trace.format_trace_id(span_context.trace_id), trace.format_span_id(span_context.span_id)


def _parts(record: logging.LogRecord, context_filter: TraceContextFilter) -> dict[str, str]:
    """The fields of a record as text, masked; `exception` only when there is one."""
    context_filter.filter(record)
    created = datetime.fromtimestamp(record.created, UTC)
    parts = {
        "time": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname,
        "logger": record.name,
        "message": _masked(_message(record)),
    }
    parts |= {name: _text(getattr(record, name, "")) for name in FIELDS}
    if exception := _exception(record):
        parts["exception"] = _masked(exception)
    return parts


def _masked(text: str) -> str:
    return mask_query(mask_text(text))


def _message(record: logging.LogRecord) -> str:
    """The message with its arguments, or without them when they cannot be formatted."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - any argument may raise while it is formatted
        return f"{_text(record.msg)} (arguments cannot be shown: {type(error).__name__})"


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - any object may raise in __str__
        return f"<{type(value).__name__}: {type(error).__name__} when shown>"


def _exception(record: logging.LogRecord) -> str:
    """Stack trace of the record's exception, else its stack, else empty text."""
    info = record.exc_info
    try:
        if isinstance(info, tuple) and info[1] is not None:
            return "".join(traceback.format_exception(info[1])).rstrip("\n")
        return _text(record.exc_text or record.stack_info or "")
    except Exception as error:  # noqa: BLE001 - an exception may raise while it is shown
        return f"<exception cannot be shown: {type(error).__name__}>"
