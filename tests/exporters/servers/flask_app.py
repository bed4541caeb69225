"""A Flask application without a word of otelbridge's set-up: `opentelemetry-instrument` does it.

The server span of a request ends after the answer has gone out.
"""

from __future__ import annotations

import os

from flask import Flask
from opentelemetry import trace

import otelbridge

application = Flask(__name__)


def span_id() -> str:
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


with otelbridge.span(f"import {os.getpid()}"):
    pass


@application.get("/")
def answer() -> str:
    made = [span_id()]
    with otelbridge.span("step"):
        made.append(span_id())
    return " ".join([str(os.getpid()), *made])
