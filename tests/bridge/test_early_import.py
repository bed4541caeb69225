"""An app whose class was imported before `configure()` is instrumented all the same."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from opentelemetry.trace import StatusCode

from tests.bridge.conftest import Bridge
from tests.bridge.test_services import visit


def _plain_flask() -> type[Flask]:
    """The class as `from flask import Flask` gave it before anything was instrumented."""
    plain: type[Flask] = importlib.import_module("flask.app").Flask
    return plain


def test_an_early_imported_flask_has_server_spans(
    bridge: Bridge, llm_call: Callable[..., Any]
) -> None:
    """Its first request already has its span, also where a hook of its own answers."""
    app = _plain_flask()("early")
    bridge.start()

    @app.before_request
    def _hook() -> str | None:
        import flask

        return "from the hook" if flask.request.path == "/hook" else None

    @app.get("/ask")
    def _ask() -> str:
        with llm_call():
            return "answer"

    base = bridge.serve(app)
    assert visit(f"{base}/hook") == "from the hook"
    assert visit(f"{base}/ask") == "answer"
    assert len(bridge.spans()) == 3
    assert bridge.view() == {"GET /ask": "", "chat": "GET /ask"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exceptions_are_recorded_once_with_their_stack_trace(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """An unhandled error in a view or in a streamed body: ERROR, error.type, one event."""
    import flask

    bridge.start()
    app = bridge.app("app")

    @app.get("/view")
    def _view() -> str:
        raise ValueError("in the view")

    @app.get("/body")
    def _body() -> flask.Response:
        def body() -> Any:
            yield "a"
            raise KeyError("in the body")

        return flask.Response(body())

    base = bridge.serve(app)
    for path, kind in (("/view", "ValueError"), ("/body", "KeyError")):
        with pytest.raises(Exception, match=r"500|IncompleteRead"):
            visit(base + path)
        span = bridge.one(f"GET {path}")
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"]
        (event,) = span.events
        assert event.attributes["exception.type"] == kind
        assert "Traceback" in event.attributes["exception.stacktrace"]
