"""Small named stand-ins for servers: each docstring says what little it does.

None of them is a Tempo, Loki, Grafana or Langfuse; they answer what a wrong or an older address
would. `servers.World` starts them for the corpus.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

#: What a handler answers: status, headers, body.
Reply = tuple[int, dict[str, str], bytes]
Answer = Callable[[str, str, dict[str, str], bytes], Reply]


class StandIn:
    """An HTTP server on a free loopback port that answers what a function says."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                sent = {name.lower(): value for name, value in self.headers.items()}
                status, headers, content = answer(self.command, self.path, sent, body)
                self.send_response_only(status)
                headers = {"Date": formatdate(usegmt=True), **headers}
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_HEAD = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=partial(self._server.serve_forever, poll_interval=0.02), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def web_page(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """A web application that answers every address with its page, as Grafana's front does."""
    return 200, {"Content-Type": "text/html"}, b"<!doctype html><title>Grafana</title>"


def loki(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """Loki as far as a wrong address sees it: ready, its build, 404 on everything of Tempo's."""
    if path == "/ready":
        return 200, {"Content-Type": "text/plain"}, b"ready\n"
    if path.startswith("/loki/api/v1/status/buildinfo"):
        return 200, {"Content-Type": "application/json"}, b'{"version":"3.6.0","branch":"HEAD"}'
    return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"


def forwarded(base: str, skew_seconds: float = 0.0) -> Answer:
    """Passes everything on to another server; its clock is ahead by this much."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        parts = urlsplit(base)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            kept = {k: v for k, v in headers.items() if k not in ("host", "connection")}
            connection.request(method, path, body or None, kept)
            got = connection.getresponse()
            content = got.read()
            kind = {"Content-Type": got.getheader("Content-Type") or "text/plain"}
            date = formatdate(time.time() + skew_seconds, usegmt=True)
            return got.status, {**kind, "Date": date}, content
        finally:
            connection.close()

    return answer


class PlainTempo:
    """Tempo's OTLP/gRPC intake and `/api/traces/{id}`: keeps what it is sent as it is sent.

    `otelbridge local` would take message text away from what it stores on Tempo's side.
    """

    def __init__(self) -> None:
        self._batches: list[ResourceSpans] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        stand_in = self

        class Service(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - name of the RPC
                stand_in._batches.extend(request.resource_spans)
                return ExportTraceServiceResponse()

        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Service(), self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._api = StandIn(self._answer)
        self.url = self._api.url

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/ready":
            return 200, {"Content-Type": "text/plain"}, b"ready\n"
        if path.startswith("/api/status/buildinfo"):
            return 200, {"Content-Type": "application/json"}, b'{"version":"3.0.3"}'
        if path.startswith("/api/echo"):
            return 200, {"Content-Type": "text/plain"}, b"echo"
        if not path.startswith("/api/traces/"):
            return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"
        wanted = bytes.fromhex(path.rpartition("/")[2])
        found = [
            batch
            for batch in self._batches
            if any(span.trace_id == wanted for part in batch.scope_spans for span in part.spans)
        ]
        if not found:
            return 404, {"Content-Type": "text/plain"}, b"trace not found"
        content = ExportTraceServiceRequest(resource_spans=found).SerializeToString()
        return 200, {"Content-Type": "application/protobuf"}, content

    def close(self) -> None:
        self._server.stop(None).wait()
        self._api.close()


def langfuse_v3(base: str) -> Answer:
    """Langfuse 3 as a reader sees it: no v2 observations, the trace with all it holds instead."""
    pass_on = forwarded(base)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        parts = urlsplit(path)
        if parts.path == "/api/public/v2/observations":
            return 404, {"Content-Type": "application/json"}, b'{"message":"Not Found"}'
        if not parts.path.startswith("/api/public/traces/"):
            return pass_on(method, path, headers, body)
        trace_id = parts.path.rpartition("/")[2]
        asked = f"/api/public/v2/observations?traceId={trace_id}&fields=core,basic,io&limit=100"
        status, kind, content = pass_on("GET", asked, headers, b"")
        found = json.loads(content).get("data", [])
        if status != 200 or not found:
            return 404, kind, b'{"message":"Trace not found within authorized project"}'
        whole = {"id": trace_id, "projectId": found[0]["projectId"], "observations": found}
        return 200, kind, json.dumps(whole).encode()

    return answer
