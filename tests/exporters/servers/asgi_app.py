"""A Starlette application that says which process an answer came from and which spans it made."""

from __future__ import annotations

import asyncio
import os

from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import otelbridge


def span_id() -> str:
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


otelbridge.configure()
with otelbridge.span(f"import {os.getpid()}"):
    pass


async def answer(_: Request) -> PlainTextResponse:
    with otelbridge.span("request"):
        made = [span_id()]
        with otelbridge.span("step"):
            made.append(span_id())
            await asyncio.sleep(0.002)
    return PlainTextResponse(" ".join([str(os.getpid()), *made]))


application = Starlette(routes=[Route("/", answer)])
