"""One kept-alive HTTP connection to an OTLP endpoint, with a deadline over each whole attempt.

On `http.client`: a request of 30 kB costs 0.1 ms of CPU (urllib3 0.2, requests 0.5), and its
socket can be watched. Every wait for the peer is cut into slices; between them the caller's `tick`
runs, which may do other work and ends the attempt by raising TimeoutError. So neither a byte a
second nor a silent peer holds an attempt beyond its deadline; connecting and the TLS handshake have
a limit of their own, and only the handshake and resolving the name cannot be interrupted.
"""

from __future__ import annotations

import http.client
import io
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from otelbridge.exporters.answers import HTTP_OK, Answer, Verdict, answer

Tick = Callable[[], None]
#: Seconds between two ticks while the peer is waited for.
SLICE_SECONDS: Final = 0.1
#: The most that connecting and a TLS handshake may take, each: a peer that lives answers sooner.
CONNECT_SECONDS: Final = 5.0
#: Of an answer; what is longer is no ExportTraceServiceResponse.
_BODY_BYTES: Final = 65_536


class _WatchedSocket(io.RawIOBase):
    """A connected socket whose waits run `tick`; what `http.client` needs of a socket."""

    def __init__(self, sock: socket.socket, tick: Tick) -> None:
        super().__init__()
        self.sock = sock
        self.tick = tick
        sock.settimeout(SLICE_SECONDS)

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self.tick()
            try:
                left = left[self.sock.send(left) :]
            except TimeoutError:
                continue

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            self.tick()
            try:
                return self.sock.recv_into(buffer)
            except TimeoutError:
                continue

    def makefile(self, mode: str) -> io.BufferedReader:
        # A reader of its own for each answer: closing it must not close the connection.
        return io.BufferedReader(_WatchedSocket(self.sock, self.tick))

    def close(self) -> None:
        """As the response's reader: nothing; `disconnect` ends the connection."""

    def disconnect(self) -> None:
        self.sock.close()


class _Connection(http.client.HTTPConnection):
    """Connects when told to and gives `http.client` a watched socket."""

    watched: _WatchedSocket | None = None

    def open(self, tick: Tick, tls: ssl.SSLContext | None, server_name: str) -> None:
        tick()
        sock = _connected(self.host, self.port, tick)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._watch(sock, tick)
            if getattr(self, "_tunnel_host", None):
                self._tunnel()  # type: ignore[attr-defined]  # what HTTPSConnection does as well
            if tls is not None:
                sock.settimeout(CONNECT_SECONDS)
                sock = tls.wrap_socket(sock, server_hostname=server_name)
                self._watch(sock, tick)
        except BaseException:
            sock.close()
            raise

    def _watch(self, sock: socket.socket, tick: Tick) -> None:
        self.watched = _WatchedSocket(sock, tick)
        self.sock = cast(socket.socket, self.watched)

    def disconnect(self) -> None:
        # Not in `close`: `http.client` calls that before the body of a last answer is read.
        watched, self.watched = self.watched, None
        if watched is not None:
            watched.disconnect()
        self.close()


def _connected(host: str, port: int, tick: Tick) -> socket.socket:
    """A connection to the first address of a host that takes one, as `socket.create_connection`."""
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect(sock, address, tick)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _connect(sock: socket.socket, address: Any, tick: Tick) -> None:
    sock.settimeout(SLICE_SECONDS)
    deadline = time.monotonic() + CONNECT_SECONDS
    try:
        sock.connect(address)
        return
    except TimeoutError:  # it goes on in the background
        tick()
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        while not selector.select(SLICE_SECONDS):
            tick()
            if time.monotonic() > deadline:
                raise TimeoutError("connecting")
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


class Delivery:
    """Posts request bodies to one endpoint. One thread at a time; no I/O in the constructor.

    Args:
        endpoint: Full URL; user and password in it become basic authorization.
        headers: Sent with each request.
        certificate: PEM file of authorities that alone are trusted; None for the system's.
        client_certificate: PEM file with this side's certificate (and key, unless `client_key`).
        proxy: URL of an HTTP proxy.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        certificate: str | None = None,
        client_certificate: str | None = None,
        client_key: str | None = None,
        proxy: str | None = None,
    ) -> None:
        self._url = urlsplit(endpoint)
        self._secure = self._url.scheme == "https"
        self._target = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        self._headers = {"content-type": "application/x-protobuf", **dict(headers or {})}
        if self._url.username and "authorization" not in self._headers:
            self._headers["authorization"] = _basic(self._url.username, self._url.password)
        self._certificate = certificate
        self._client = (client_certificate, client_key)
        self._proxy = urlsplit(proxy) if proxy else None
        self._tls: ssl.SSLContext | None = None
        self._connection: _Connection | None = None

    def post(self, body: bytes, *, encoding: str, tick: Tick) -> Answer:
        """Send one request and judge the answer; never raises an `Exception` of the network.

        Args:
            body: As it goes over the wire.
            encoding: Content-Encoding, empty for none.
            tick: Runs at least every 0.1 s while waiting; a TimeoutError from it ends the attempt.
        """
        while True:
            reused = self._connection is not None
            try:
                return self._exchange(body, encoding, tick)
            except (http.client.HTTPException, OSError, ValueError) as error:
                self.close()
                if reused and isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    continue  # the peer closed an idle connection: that says nothing about it
                return _failure(error)
            except BaseException:
                self.close()
                raise

    def _exchange(self, body: bytes, encoding: str, tick: Tick) -> Answer:
        connection = self._connected(tick)
        headers = self._headers | ({"content-encoding": encoding} if encoding else {})
        connection.request("POST", self._target, body, headers)
        response = connection.getresponse()
        content = response.read(_BODY_BYTES)
        told = {name.lower(): value for name, value in response.getheaders()}
        if not response.isclosed() or response.will_close:
            self.close()
        return answer(response.status, told, content if response.status in HTTP_OK else b"")

    def _connected(self, tick: Tick) -> _Connection:
        connection = self._connection
        if connection is not None and connection.watched is not None:
            connection.watched.tick = tick
            return connection
        host, port = self._url.hostname or "", self._url.port or (443 if self._secure else 80)
        if self._proxy is None:
            connection = _Connection(host, port)
        else:
            connection = _Connection(self._proxy.hostname or "", self._proxy.port or 80)
            login = {}
            if self._proxy.username:
                login["Proxy-Authorization"] = _basic(self._proxy.username, self._proxy.password)
            if self._secure:
                connection.set_tunnel(host, port, login)
            else:
                self._headers |= {"host": self._url.netloc.rpartition("@")[2], **login}
                self._target = self._url._replace(
                    netloc=self._url.netloc.rpartition("@")[2], fragment=""
                ).geturl()
        connection.open(tick, self._tls_context() if self._secure else None, host)
        self._connection = connection
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # No variable of another library is read here: the given file alone is trusted.
            context = ssl.create_default_context(cafile=self._certificate or _authorities())
            if self._client[0]:
                # An encrypted key must fail and not ask at the terminal.
                context.load_cert_chain(self._client[0], self._client[1], password="")
            self._tls = context
        return self._tls

    def close(self) -> None:
        """Close the connection; the next `post` opens one. In a forked child: the child's copy."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _authorities() -> str | None:
    """None where the system has authorities, else those that `requests` brings along."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return None
    try:
        import certifi  # a dependency of requests, and so of the stock exporter
    except ImportError:
        return None
    return certifi.where()


def _basic(user: str, password: str | None) -> str:
    import base64

    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _failure(error: Exception) -> Answer:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Answer(Verdict.MISCONFIGURED, f"certificate: {error.verify_message}")
    if isinstance(error, FileNotFoundError | PermissionError):  # of the certificates
        return Answer(Verdict.MISCONFIGURED, f"certificate file: {error.strerror}")
    if isinstance(error, ValueError):  # a header that HTTP cannot carry
        return Answer(Verdict.MISCONFIGURED, f"{type(error).__name__} in headers or address")
    if isinstance(error, TimeoutError):
        return Answer(Verdict.RETRY, "timeout")
    if isinstance(error, ConnectionRefusedError):
        return Answer(Verdict.RETRY, "connection refused")
    if isinstance(error, socket.gaierror):
        return Answer(Verdict.RETRY, "name not resolved")
    if isinstance(error, ssl.SSLError):
        return Answer(Verdict.RETRY, f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        return Answer(Verdict.RETRY, "no HTTP there: is it a gRPC port?")
    return Answer(Verdict.RETRY, type(error).__name__)
