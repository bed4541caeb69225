"""One HTTP request, or the first bytes of a port, with every way to fail as a value.

Used by the network checks and the canary. Never raises for what a server or a network does; does
not follow redirects; reads at most `MAX_BODY_BYTES`. Names are resolved by the caller's resolver
and the connection goes to its answer, so that a test can stand in for any host.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

Problem = Literal[
    "",
    "dns",
    "refused",
    "silent",
    "tls-expired",
    "tls-untrusted",
    "tls-hostname",
    "tls-none",
    "not-http",
    "ca-file",
    "failed",
]
Kind = Literal["tls", "http2", "http1", "other", "silent"]
Resolver = Callable[..., list[Any]]
MAX_BODY_BYTES: Final = 1 << 20
#: HTTP/2 connection preface and an empty SETTINGS frame. Source: RFC 9113, section 3.4.
_H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
#: OpenSSL's X509_V_ERR_*: 10 expired; 62 host name and 64 address do not match.
_EXPIRED: Final = (10,)
_OTHER_NAME: Final = (62, 64)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `problem` is empty when there was an HTTP answer.

    Attributes:
        status: HTTP status, 0 without an answer.
        headers: Names in lower case.
        detail: One line on the problem, without secrets.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    problem: Problem = ""
    detail: str = ""
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_seconds: float = 5.0,
    certificate: str | None = None,
    resolve: Resolver = socket.getaddrinfo,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Ask once.

    Args:
        url: http or https.
        timeout_seconds: For connecting, and for each read.
        certificate: PEM file of authorities; else REQUESTS_CA_BUNDLE or SSL_CERT_FILE of
            `environment`, else those of certifi, as the exporter has them.
        environment: Where proxy variables come from; none are used without it.
    """
    parts = urlsplit(url)
    started = time.monotonic()
    env = environment or {}
    proxy = proxy_of(env, url)
    target = urlsplit(proxy if "://" in (proxy or "") else f"http://{proxy}") if proxy else parts
    connection: http.client.HTTPConnection | None = None
    try:
        sock = _connect(target, resolve, timeout_seconds)
        connection = _over(
            sock, parts, target if proxy else None, timeout_seconds, certificate, env
        )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"user-agent": "otelbridge-doctor", **(headers or {})}
        if proxy and parts.scheme == "http":
            path = f"http://{parts.netloc}{path}"
            sent |= _proxy_authorization(target)
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        content = response.read(MAX_BODY_BYTES)
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, content, seconds=time.monotonic() - started)
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem, detail = _classify(error)
        return Answer(problem=problem, detail=detail, seconds=time.monotonic() - started)
    finally:
        if connection is not None:
            connection.close()


def get(url: str, **more: Any) -> Answer:
    """`request` with GET."""
    return request("GET", url, **more)


def post(url: str, body: bytes, **more: Any) -> Answer:
    """`request` with POST."""
    return request("POST", url, body=body, **more)


def kind_of_port(
    url: str, *, resolve: Resolver = socket.getaddrinfo, timeout_seconds: float = 2.0
) -> Kind:
    """What the server at an address speaks, whatever the scheme of the address says."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the question is whether it speaks TLS, nothing is sent
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(parts, resolve, timeout_seconds) as plain, context.wrap_socket(plain):
            return "tls"
    except OSError:  # ssl.SSLError is one
        pass
    try:
        with _connect(parts, resolve, timeout_seconds) as sock:
            sock.sendall(_H2_PREFACE)
            first = sock.recv(64)
    except OSError:
        return "silent"
    # Python's http.server answers what it does not know with a bare error page.
    if first.startswith((b"HTTP/1", b"<")):
        return "http1"
    # A frame's header: 3 bytes length, type (4 SETTINGS, 7 GOAWAY), flags, stream 0.
    if len(first) >= 9 and first[3] in (4, 7) and struct.unpack(">I", first[5:9])[0] == 0:
        return "http2"
    return "other" if first else "silent"


def proxy_of(environment: Mapping[str, str], url: str) -> str | None:
    """The proxy that the `requests` package would use for a URL, None for a direct connection."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    proxy = ""
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        proxy = proxy or environment.get(name, "") or environment.get(name.upper(), "")
    if not proxy.strip():
        return None
    listed = environment.get("no_proxy", "") or environment.get("NO_PROXY", "")
    for entry in (item.strip().lower() for item in listed.split(",")):
        if entry and _bypasses(entry, host, parts.port):
            return None
    return proxy.strip()


def _bypasses(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        bare = entry.lstrip(".")
        return host == bare or host.endswith(f".{bare}") or f"{host}:{port}" == entry
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


# -- connecting ------------------------------------------------------------------------------------
class _NameError(OSError):
    """A host name without an address."""


def _connect(parts: SplitResult, resolve: Resolver, timeout_seconds: float) -> socket.socket:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = resolve(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: labels too long for a name
        raise _NameError(f"no address for {parts.hostname}") from error
    problem: OSError = _NameError(f"no address for {parts.hostname}")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout_seconds)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


def _over(
    sock: socket.socket,
    parts: SplitResult,
    proxy: SplitResult | None,
    timeout_seconds: float,
    certificate: str | None,
    environment: Mapping[str, str],
) -> http.client.HTTPConnection:
    """A connection over this socket, with a tunnel and TLS where they belong."""
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_seconds)
    try:
        if parts.scheme == "https":
            if proxy is not None:
                _tunnel(sock, parts, proxy)
            trusted = certificate or environment.get("REQUESTS_CA_BUNDLE")
            trusted = trusted or environment.get("SSL_CERT_FILE") or _certifi()
            sock = tls_context(trusted).wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    connection.sock = sock
    return connection


class CaFileError(OSError):
    """A file of authorities that cannot be used."""


def tls_context(certificate: str | None) -> ssl.SSLContext:
    """A context that trusts the authorities in a PEM file, the system's for None.

    Raises:
        CaFileError: no such file, or no certificate in it.
    """
    try:
        return ssl.create_default_context(cafile=certificate)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError, ValueError a bad path
        reason: str | None = "no such path"
        if isinstance(error, OSError):
            reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise CaFileError(f"{certificate}: {reason}") from error


def _certifi() -> str | None:
    try:
        import certifi
    except ImportError:
        return None
    return certifi.where()


def _tunnel(sock: socket.socket, parts: SplitResult, proxy: SplitResult) -> None:
    lines = [f"CONNECT {parts.hostname}:{parts.port or 443} HTTP/1.1", f"Host: {parts.hostname}"]
    lines += [f"{name}: {value}" for name, value in _proxy_authorization(proxy).items()]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii", "replace"))
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < 65536 and (piece := sock.recv(4096)):
        answer += piece
    status = answer.split(b" ", 2)[1:2]
    if status != [b"200"]:
        shown = status[0].decode("ascii", "replace") if status else "nothing"
        raise http.client.HTTPException(f"the proxy {proxy.hostname} answers {shown}")


def _proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"proxy-authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _classify(error: Exception) -> tuple[Problem, str]:
    """The problem and one line on it; the order matters, for most of these are OSErrors."""
    if isinstance(error, _NameError):
        return "dns", str(error)
    if isinstance(error, CaFileError):
        return "ca-file", str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = str(getattr(error, "verify_message", "") or "certificate refused")
        if error.verify_code in _EXPIRED:
            return "tls-expired", detail
        return ("tls-hostname" if error.verify_code in _OTHER_NAME else "tls-untrusted"), detail
    if isinstance(error, ssl.SSLError):
        return "tls-none", (error.reason or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, ConnectionRefusedError):
        return "refused", "connection refused"
    if isinstance(error, http.client.RemoteDisconnected | http.client.BadStatusLine):
        return "not-http", "closed without an HTTP answer"
    if isinstance(error, ConnectionError):
        return "not-http", "the connection was reset"
    if isinstance(error, TimeoutError):
        return "silent", "no answer within the time-out"
    if isinstance(error, http.client.HTTPException):
        return "not-http", str(error) or type(error).__name__
    if isinstance(error, OSError):
        return "silent", error.strerror or type(error).__name__
    return "failed", type(error).__name__  # a header or URL that http.client refuses
