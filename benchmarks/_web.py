"""The web service of `handler_latency`: Flask, a handler of 1 ms with an LLM span, threads.

Tracing starts as for any service: `otelbridge.configure()` (or the stock SDK) with the environment.
It says its port, answers `?` with its threads, and ends when its input is closed. Connections are
kept alive, so that the number of threads is that of the clients.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flask import Flask
from opentelemetry import trace
from werkzeug.test import EnvironBuilder

from benchmarks._app import STARTS, say

HANDLER_SECONDS = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=list(STARTS), default="otelbridge")
    parser.add_argument("--ids", help="not used")
    arm = parser.parse_args().arm
    tracer = STARTS[arm]()
    if arm == "stock":
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        FlaskInstrumentor().instrument()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_app(tracer)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say({"port": server.server_port})
    for _ in sys.stdin:
        say({"threads": len(os.listdir("/proc/self/task"))})


def _handler(app: Flask) -> type[BaseHTTPRequestHandler]:
    """WSGI over connections that stay open, which neither werkzeug's nor wsgiref's server does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            head: list[Any] = []
            environ = EnvironBuilder(path=self.path).get_environ()
            answer = app(environ, lambda status, headers, *_: head.extend((status, headers)))
            body = b"".join(answer)
            getattr(answer, "close", bool)()  # ends the span of the request
            lines = "".join(f"{name}: {value}\r\n" for name, value in head[1])
            self.wfile.write(f"HTTP/1.1 {head[0]}\r\n{lines}\r\n".encode() + body)

        def log_request(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


def _app(tracer: trace.Tracer) -> Flask:
    app = Flask("bench")

    @app.get("/answers/<number>")
    def answer(number: str) -> str:
        with tracer.start_as_current_span(
            "chat gpt-4o",
            kind=trace.SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.input.messages": f'[{{"role":"user","content":"{number * 200}"}}]',
            },
        ):
            time.sleep(HANDLER_SECONDS)
        return number

    return app


if __name__ == "__main__":
    main()
