"""A WSGI application that says in each answer which process it came from and which spans it made.

`otelbridge.configure()` stands at import, as the README shows it: in the master process with
`--preload`, in each worker without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry import trace

import otelbridge


def span_id() -> str:
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


otelbridge.configure()
with otelbridge.span(f"import {os.getpid()}"):
    pass


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    with otelbridge.span("request"):
        made = [span_id()]
        with otelbridge.span("step"):
            made.append(span_id())
            time.sleep(0.002)
    body = " ".join([str(os.getpid()), *made]).encode()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]
