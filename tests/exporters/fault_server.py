"""An OTLP/HTTP receiver on loopback that answers as a test tells it to."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

#: Names of the spans of a request to status, headers and body.
Behaviour = Callable[[list[str]], tuple[int, dict[str, str], bytes]]


def ok(_: list[str]) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b""


class Receiver:
    """Takes spans; `names` and `span_ids` are those of requests answered with 2xx, as they came."""

    def __init__(self, behaviour: Behaviour = ok, tls: Any = None, port: int = 0) -> None:
        self.behaviour = behaviour
        self.names: list[str] = []
        self.span_ids: list[str] = []
        #: Told the spans of each request that is taken.
        self.on_spans: Callable[[list[Any]], object] = lambda _: None
        self.requests: list[list[str]] = []
        self.request_headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                message = ExportTraceServiceRequest.FromString(body)
                spans = [
                    span
                    for resource in message.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                names = [span.name for span in spans]
                receiver.requests.append(names)
                receiver.paths.append(self.path)
                receiver.request_headers.append({k.lower(): v for k, v in self.headers.items()})
                status, headers, content = receiver.behaviour(names)
                if 200 <= status < 300:
                    receiver.names.extend(names)
                    receiver.span_ids.extend(span.span_id.hex() for span in spans)
                    receiver.on_spans(spans)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.port = self._server.server_address[1]
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    event = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        event.wait(0.01)
    return True
