"""Log records that can be joined with traces, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider

from otelbridge.context import REQUEST_ID_KEY
from otelbridge.logs import (
    JsonFormatter,
    TextFormatter,
    TraceContextFilter,
    install_log_format,
)
from otelbridge.settings import Settings

FIELDS = {"time", "level", "logger", "message", "trace_id", "span_id", "service", "request_id"}


class Hostile:
    """An object that raises whenever it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def record(message: Any = "hello", *args: Any, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("shop", logging.INFO, "shop.py", 1, message, args, exc_info)


def as_json(log_record: logging.LogRecord) -> dict[str, str]:
    line = JsonFormatter("checkout").format(log_record)
    assert "\n" not in line
    parsed: dict[str, str] = json.loads(line)
    return parsed


@pytest.fixture
def in_span() -> Iterator[tuple[str, str]]:
    """A current span with a request id; gives trace id and span id as hex."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    token = otel_context.attach(otel_context.set_value(REQUEST_ID_KEY, "req-1"))
    with tracer.start_as_current_span("work") as span:
        span_context = span.get_span_context()
        yield f"{span_context.trace_id:032x}", f"{span_context.span_id:016x}"
    otel_context.detach(token)


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger without handlers, pytest's own included; everything is put back."""
    root = logging.getLogger()
    handlers, level, basic_config = root.handlers[:], root.level, logging.basicConfig
    root.handlers[:] = []
    try:
        yield root
    finally:
        install_log_format(Settings.from_env({}))
        assert logging.basicConfig is basic_config
        assert "addHandler" not in vars(root)
        root.handlers[:] = handlers
        root.setLevel(level)


def settings_for(log_format: str) -> Settings:
    return Settings.from_env({"OTELBRIDGE_LOG_FORMAT": log_format, "OTEL_SERVICE_NAME": "checkout"})


def test_a_record_inside_a_span_carries_its_ids(in_span: tuple[str, str]):
    """trace_id, span_id, service and request id are those of the work being done."""
    line = as_json(record("paid %d", 3))
    assert (line["trace_id"], line["span_id"]) == in_span
    assert (line["service"], line["request_id"]) == ("checkout", "req-1")
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "shop", "paid 3")
    assert set(line) == FIELDS


def test_a_record_outside_of_a_span_has_empty_ids():
    """Every key is always there, so that log stores need no special case."""
    line = as_json(record())
    assert (line["trace_id"], line["span_id"], line["request_id"]) == ("", "", "")


def test_the_time_is_iso_8601_in_utc():
    """A time that every log store parses, with the moment of the log call."""
    log_record = record()
    line = as_json(log_record)
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).timestamp() == pytest.approx(
        log_record.created, abs=0.001
    )


def test_the_filter_serves_a_format_of_ones_own(in_span: tuple[str, str]):
    """The attributes can be used in any %-format."""
    log_record = record()
    assert TraceContextFilter("checkout").filter(log_record)
    shown = logging.Formatter("%(trace_id)s %(span_id)s %(service)s %(request_id)s").format(
        log_record
    )
    assert shown == f"{in_span[0]} {in_span[1]} checkout req-1"


def test_a_record_written_by_another_thread_shows_where_it_was_made(in_span: tuple[str, str]):
    """With a QueueHandler the filter runs at the call, the formatter in the listener."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)  # type: ignore[arg-type]  # SimpleQueue has put_nowait
    handler.addFilter(TraceContextFilter("checkout"))
    handler.handle(record())
    lines: list[dict[str, str]] = []
    listener = threading.Thread(target=lambda: lines.append(as_json(records.get(timeout=10))))
    listener.start()
    listener.join(timeout=10)
    assert lines[0]["trace_id"] == in_span[0]


def test_secrets_in_message_and_exception_are_masked():
    """The same patterns as on spans."""
    try:
        raise ValueError("bad key sk-proj-abcdefghijklmnop")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    log_record = record("mail %s about ?api_key=topsecret1", "ann@example.com", exc_info=info)
    for text in (JsonFormatter().format(log_record), TextFormatter().format(log_record)):
        assert "ann@example.com" not in text
        assert "topsecret1" not in text
        assert "sk-proj-abcdefghijklmnop" not in text
        assert "[masked:email]" in text
        assert "ValueError: bad key [masked:api-key]" in text


@pytest.mark.parametrize(
    "log_record",
    [
        record("%s", Hostile()),
        record("%d", "no number"),
        record("%s %s", "too few"),
        record("too many", 1, 2),
        record(Hostile()),
        record(None),
        record({"a": float("nan")}),
        record("lone surrogate \ud800 and \x00"),
        record("x", exc_info=(None, None, None)),
        record("x", exc_info=(RuntimeError, RuntimeError(Hostile()), None)),
        record("x", exc_info=True),
    ],
)
@pytest.mark.parametrize("formatter", [JsonFormatter("s"), TextFormatter("s")])
def test_hostile_log_calls_never_raise(formatter: logging.Formatter, log_record: logging.LogRecord):
    """Whatever is logged, one line comes out that can be written to any stream."""
    line = formatter.format(log_record)
    assert line.encode("ascii", "backslashreplace")
    if isinstance(formatter, JsonFormatter):
        assert set(json.loads(line)) >= FIELDS
        assert line.isascii()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_any_message_is_one_line_of_json(message: str, argument: str):
    """One object per line, whatever the text."""
    line = as_json(record(message.replace("%", "%%") + "%s", argument))
    assert set(line) == FIELDS


def test_a_line_break_in_a_message_cannot_look_like_a_second_line():
    """Text logs cannot be forged by logged input."""
    line = TextFormatter("checkout").format(record("a\r\nERROR root: forged"))
    assert line.count("\n") == 0
    assert line.endswith(r"INFO    shop: a\r\nERROR root: forged service=checkout")


def test_text_shows_the_stack_trace_below():
    """People read a stack trace as lines."""
    try:
        raise ValueError("boom")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    lines = TextFormatter().format(record("failed", exc_info=info)).splitlines()
    assert lines[0].endswith("shop: failed")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: boom"


def test_off_leaves_logging_alone():
    """The default changes nothing."""
    with bare_root() as root:
        install_log_format(Settings.from_env({}))
        assert root.handlers == []


def test_a_root_without_handlers_gets_one(capsys: pytest.CaptureFixture[str]):
    """Zero-code services log JSON to standard error without a line of code."""
    with bare_root():
        install_log_format(settings_for("json"))
        logging.getLogger("shop").warning("hello")
        assert json.loads(capsys.readouterr().err)["service"] == "checkout"


def test_installing_twice_does_not_double_lines(capsys: pytest.CaptureFixture[str]):
    """Repeating is harmless and the newest format wins."""
    with bare_root():
        install_log_format(settings_for("json"))
        install_log_format(settings_for("text"))
        logging.getLogger("shop").warning("hello")
        assert capsys.readouterr().err.endswith("WARNING shop: hello service=checkout\n")


def test_basic_config_still_works_afterwards():
    """The application's own level and stream count; only the format is ours."""
    with bare_root() as root:
        install_log_format(settings_for("json"))
        stream = io.StringIO()
        logging.basicConfig(level=logging.INFO, stream=stream, format="%(message)s")
        logging.getLogger("shop").info("hello")
        assert len(root.handlers) == 1
        assert json.loads(stream.getvalue())["message"] == "hello"


def test_a_handler_added_later_is_formatted_too():
    """Configuration by dictConfig or by hand ends in addHandler."""
    with bare_root() as root:
        install_log_format(settings_for("json"))
        stream = io.StringIO()
        root.addHandler(logging.StreamHandler(stream))
        logging.getLogger("shop").warning("hello")
        assert json.loads(stream.getvalue())["logger"] == "shop"


def test_switching_off_puts_the_formatters_back():
    """What the application had set is restored."""
    with bare_root() as root:
        handler = logging.StreamHandler(io.StringIO())
        mine = logging.Formatter("%(message)s")
        handler.setFormatter(mine)
        root.addHandler(handler)
        install_log_format(settings_for("json"))
        assert isinstance(handler.formatter, JsonFormatter)
        install_log_format(settings_for("off"))
        assert handler.formatter is mine
        assert root.handlers == [handler]
