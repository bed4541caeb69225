"""An OTLP/HTTP sink that keeps request bodies while it is measured against, and reads them after.

It runs in threads of the measuring process; what is measured runs in children. It answers every
POST with success, so no arm waits for it, and looks at spans only when asked (`take`).
"""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks._collector import span_ids


@dataclass(frozen=True)
class Received:
    """What arrived since the last look.

    Attributes:
        spans: Spans with different ids.
        twice: Spans beyond those.
        wire_bytes: Bodies as they came, compressed or not.
        plain_bytes: Bodies after decompression.
    """

    spans: int
    twice: int
    requests: int
    wire_bytes: int
    plain_bytes: int


class Sink:
    """Listens on a free loopback port as a context manager; `url` has no path."""

    def __init__(self) -> None:
        self._bodies: list[tuple[bool, bytes]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/v1/traces"):
                    sink._bodies.append((self.headers.get("Content-Encoding") == "gzip", body))
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                # One write: a head and a body apart would wait for each other's acknowledgement.
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
                    b"Content-Length: 0\r\n\r\n"
                )

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Sink:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self) -> Received:
        """Count what has arrived, and forget it."""
        bodies, self._bodies = self._bodies, []
        ids: list[bytes] = []
        plain_bytes = 0
        for gzipped, body in bodies:
            plain = gzip.decompress(body) if gzipped else body
            plain_bytes += len(plain)
            ids += span_ids(plain)
        unique = len(set(ids))
        return Received(
            spans=unique,
            twice=len(ids) - unique,
            requests=len(bodies),
            wire_bytes=sum(len(body) for _, body in bodies),
            plain_bytes=plain_bytes,
        )
