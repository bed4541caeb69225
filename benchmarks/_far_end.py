"""A stand-in for what spans are sent to, in a process of its own, that fails as it is told.

`FarEnd` is its handle: `set` changes what it does on one port that stays its own, `seen` tells
which span ids it took (answered with 2xx, to the last byte) and how often. It is a stand-in: no
Collector and no Langfuse; it shows what the sending side does. On loopback; `black_hole` needs
Linux (a full accept queue, whose kernel then drops SYN packets).
"""

from __future__ import annotations

import contextlib
import gzip
import multiprocessing
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

#: Faults below HTTP: nobody listens; SYN packets are dropped; accepts and never answers; answers
#: with a byte a second.
TRANSPORT = ("refused", "black_hole", "silent", "slow")
#: Faults by answer: status and headers.
ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "408": (408, {}),
    "429": (429, {"Retry-After": "2"}),
    "500": (500, {}),
    "503": (503, {}),
    "401": (401, {}),
    "404": (404, {}),
    "redirect": (307, {"Location": "/elsewhere"}),
}
#: Faults by content: 413 above `LIMIT_BYTES`; 413 always; 400 for a request with a span whose
#: name is `BAD`; 200 with such spans rejected.
CONTENT = ("413_limit", "413_always", "bad_span", "partial")
MODES = ("ok", *TRANSPORT, *ANSWERS, *CONTENT)
LIMIT_BYTES = 4000
BAD = "bad"


@dataclass(slots=True)
class Seen:
    """What has arrived: span ids (trace and span id in hex) with how often, and requests.

    `redirected` counts requests to where the redirect points: following it would take headers
    with keys elsewhere. `last_new` is the time.monotonic() of the last id that was new.
    """

    ids: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    connections: int = 0
    redirected: int = 0
    last_new: float = 0.0

    @property
    def duplicates(self) -> int:
        """Spans beyond the first of each id."""
        return self.ids.total() - len(self.ids)


class FarEnd:
    """A far end on loopback; a context manager."""

    def __init__(self, mode: str = "ok") -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_main, args=(other, mode), daemon=True)
        self._process.start()
        other.close()
        self.port: int = self._pipe.recv()
        self.endpoint = f"http://127.0.0.1:{self.port}/v1/traces"

    def set(self, mode: str) -> None:
        """Behave so from now on; requests that already hang stay so."""
        if mode not in MODES:
            raise ValueError(mode)
        self._ask(("set", mode))

    def seen(self) -> Seen:
        """What has arrived so far."""
        seen: Seen = self._ask(("seen",))
        return seen

    def count(self) -> int:
        """How many different ids have arrived; cheap."""
        count: int = self._ask(("count",))
        return count

    def _ask(self, what: tuple[str, ...]) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # whatever hangs in it
        self._process.join()
        self._process.close()
        self._pipe.close()


def _main(pipe: Connection, mode: str) -> None:
    server = _Server()
    server.set(mode)
    pipe.send(server.port)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            match pipe.recv():
                case "set", wanted:
                    server.set(wanted)
                    pipe.send(None)
                case "seen", *_:
                    with server.lock:
                        pipe.send(server.seen)
                case "count", *_:
                    pipe.send(len(server.seen.ids))


class _Server:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen = Seen()
        self.mode = ""
        self._holder = _bound(0)  # never listens: keeps the port while nobody else does
        self.port: int = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._peers: set[socket.socket] = set()

    def set(self, mode: str) -> None:
        was, self.mode = self.mode, mode
        if was == mode:
            return
        if mode in ("refused", "black_hole") or was in ("refused", "black_hole", ""):
            self._stop()
            if mode == "refused":
                for peer in list(self._peers):
                    _cut(peer)
            elif mode == "black_hole":
                self._fill()
            else:
                self._listen()

    def _listen(self) -> None:
        self._listener = _bound(self.port)
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _stop(self) -> None:
        for sock in (self._listener, *self._fillers):
            if sock is not None:
                _cut(sock)
                sock.close()
        self._listener, self._fillers = None, []

    def _fill(self) -> None:
        self._listener = _bound(self.port)
        self._listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            self._peers.add(peer)
            self.seen.connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer, peer.makefile("rb") as stream:
            while (line := stream.readline()) and self._answer(peer, line.split(b" ")[1], stream):
                pass
        self._peers.discard(peer)

    def _answer(self, peer: socket.socket, path: bytes, stream: Any) -> bool:
        headers = {}
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers[b"content-length"]))
        if headers.get(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        mode = self.mode
        with self.lock:
            self.seen.requests += 1
            self.seen.redirected += path == b"/elsewhere"
        if mode in ("silent", "black_hole"):
            peer.recv(1)  # until the other side gives up
            return False
        names = _names(body)
        status, told, taken, content = _judged(mode, body, names)
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        answer = (
            f"HTTP/1.1 {status} As told\r\n{head}content-length: {len(content)}\r\n\r\n".encode()
            + content
        )
        if mode == "slow":
            for byte in answer:
                peer.sendall(bytes([byte]))
                time.sleep(1)
        else:
            with self.lock:
                self._record(taken)
            peer.sendall(answer)
        return True

    def _record(self, taken: list[str]) -> None:
        known = len(self.seen.ids)
        self.seen.ids.update(taken)
        if len(self.seen.ids) > known:
            self.seen.last_new = time.monotonic()


def _judged(
    mode: str, body: bytes, names: dict[str, str]
) -> tuple[int, dict[str, str], list[str], bytes]:
    """Status, headers, ids that are taken, and content of the answer."""
    if mode in ANSWERS:
        return (*ANSWERS[mode], [], b"")
    if mode == "413_always" or (mode == "413_limit" and len(body) > LIMIT_BYTES):
        return 413, {}, [], b""
    good = [span_id for span_id, name in names.items() if name != BAD]
    if mode == "bad_span" and len(good) < len(names):
        return 400, {}, [], b""
    if mode == "partial" and len(good) < len(names):
        told = ExportTraceServiceResponse()
        told.partial_success.rejected_spans = len(names) - len(good)
        return 200, {}, good, told.SerializeToString()
    return 200, {}, list(names), b""


def _names(body: bytes) -> dict[str, str]:
    """Names by id of the spans in a request; an id that is in it twice would count once."""
    return {
        (span.trace_id + span.span_id).hex(): span.name
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
