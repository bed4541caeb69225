"""Checks of the way to a server, against real ones on loopback: names, ports, TLS, proxies."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from otelbridge.doctor import probe
from otelbridge.doctor import run as runner
from otelbridge.doctor.findings import Context, Finding
from otelbridge.local.server import LocalServer
from tests.doctor.stand_ins import Answer, Reply, StandIn

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Serve = Callable[..., StandIn]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts stand-ins that end with the test."""
    with ExitStack() as stack:

        def start(answer: Answer, tls: ssl.SSLContext | None = None) -> StandIn:
            server = StandIn(answer, tls)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(scope="module")
def local() -> Iterator[LocalServer]:
    with LocalServer() as server:
        yield server


@pytest.fixture(scope="module")
def grpc_port() -> Iterator[int]:
    """A gRPC server without services: it speaks HTTP/2 and nothing else."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem and, signed by it, good (127.0.0.1), expired and other (another name); selfsigned."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        done = subprocess.run(["openssl", *words], capture_output=True, cwd=folder, check=False)
        if done.returncode:
            pytest.skip(f"openssl makes no certificate here: {done.stderr[-200:]!r}")

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "selfsigned"):
        openssl("req", "-x509", *curve, "-days", "2", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    for name, host, days in (
        ("good", "IP:127.0.0.1", "2"),
        ("expired", "IP:127.0.0.1", "-1"),
        ("other", "DNS:elsewhere.example", "2"),
        ("cloud", "DNS:us.cloud.langfuse.com,DNS:cloud.langfuse.com", "2"),
    ):
        (folder / "names").write_text(f"subjectAltName={host}")
        openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "request")
        openssl(
            "x509",
            "-req",
            "-in",
            "request",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            "names",
            "-out",
            f"{name}.pem",
        )
    return folder


def server_side(pki: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    return context


def receiver(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
    """An OTLP receiver at its path, nothing anywhere else."""
    if (method, path) != ("POST", "/v1/traces"):
        return 404, {"Content-Type": "text/plain"}, b"404 page not found"
    return 200, {"Content-Type": "application/x-protobuf"}, b""


def answering(status: int, kind: str = "text/plain", body: bytes = b"") -> Answer:
    return lambda *_: (status, {"Content-Type": kind}, body)


def closed_port() -> tuple[socket.socket, int]:
    """A port that is taken and on which nobody listens."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]


def otlp(environment: dict[str, str], **more: Any) -> Finding:
    """The one finding about the OTLP endpoint."""
    context = Context.of(environment, Path("/nowhere"), **more)
    (one,) = runner.run(context, only=("otlp",))
    return one


# -- what answers ----------------------------------------------------------------------------------
def test_a_real_receiver_is_good(local: LocalServer):
    """`otelbridge local` takes the empty request, and stores nothing."""
    one = otlp({ENDPOINT: local.otlp_http_url})
    assert (one.code, one.level) == ("otlp-good", "ok")


def test_headers_of_the_set_up_are_sent(serve: Serve):
    """The receiver that asks for a token is good with it and refuses without it."""

    def wants_token(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("authorization") != "Bearer a-token":
            return 401, {"Content-Type": "text/plain"}, b"no"
        return receiver(method, path, headers, body)

    url = serve(wants_token).url
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a-token"}
    assert otlp({ENDPOINT: url, **headers}).code == "otlp-good"
    assert otlp({ENDPOINT: url}).code == "otlp-unauthorized"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (answering(404), "otlp-path-404"),
        (answering(405), "otlp-path-404"),
        (answering(403), "otlp-unauthorized"),
        (answering(429), "otlp-refusing"),
        (answering(503), "otlp-refusing"),
        (answering(200, "text/html", b"<html>"), "otlp-not-receiver"),
        (answering(302, "text/html"), "otlp-not-receiver"),
        (answering(400, "text/plain", b"Client sent an HTTP request to an HTTPS server.\n"),
         "plain-on-tls"),
    ],
)  # fmt: skip
def test_what_answers_instead_of_a_receiver_is_named(serve: Serve, answer: Answer, code: str):
    """By its status and content type, with both in the evidence."""
    one = otlp({ENDPOINT: serve(answer).url})
    assert one.code == code
    assert "POST http://127.0.0.1:" in one.evidence


def test_a_doubled_path_of_a_stock_exporter_is_seen_at_the_server(serve: Serve):
    """The full URL is used as it stands, and the answer is 404."""
    url = serve(receiver).url
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces/v1/traces"}
    assert otlp(traces).code == "otlp-path-404"
    assert otlp({ENDPOINT: f"{url}/v1/traces"}).code == "otlp-good"


def test_a_grpc_server_on_the_http_endpoint_is_named(grpc_port: int):
    """Its first bytes are an HTTP/2 frame."""
    one = otlp({ENDPOINT: f"http://127.0.0.1:{grpc_port}"})
    assert one.code == "otlp-grpc-answers"
    assert "4318" in one.fix


def test_grpc_needs_a_server_that_speaks_it(grpc_port: int, serve: Serve):
    """Good with a gRPC server; an HTTP/1 server is named."""
    stock = {"OTELBRIDGE_EXPORTER": "stock", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert otlp({ENDPOINT: f"http://127.0.0.1:{grpc_port}", **stock}).code == "otlp-good"
    assert otlp({ENDPOINT: serve(receiver).url, **stock}).code == "otlp-http-answers"


def test_what_follows_from_a_fault_in_a_variable_is_a_note(serve: Serve):
    """One fault is one error: the server's answer says which finding it follows from."""
    traces = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": serve(receiver).url}
    context = Context.of(traces, Path("/nowhere"))
    found = {one.code: one for one in runner.run(context, only=("endpoint", "otlp"))}
    assert found["endpoint-path-missing"].level == "error"
    assert found["otlp-path-404"].level == "note"
    assert found["otlp-path-404"].what.startswith("Follows from endpoint-path-missing: ")


def test_nothing_is_asked_when_nothing_is_sent():
    """OTEL_TRACES_EXPORTER=none: the endpoint does not matter."""
    context = Context.of({"OTEL_TRACES_EXPORTER": "none"}, Path("/nowhere"))
    assert runner.run(context, only=("otlp",)) == []


# -- names and ports -------------------------------------------------------------------------------
def test_a_closed_port_is_named():
    """Refused: nothing listens."""
    held, port = closed_port()
    with held:
        assert otlp({ENDPOINT: f"http://127.0.0.1:{port}"}).code == "port-closed"


def test_a_name_without_an_address_is_named():
    """The resolver says no; a container's name gets its own remedy."""

    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    one = otlp({ENDPOINT: "http://otel-collector:4318"}, resolve=unknown)
    assert one.code == "dns-failed"
    assert "localhost" in one.fix
    assert otlp({ENDPOINT: "https://otlp.example.com"}, resolve=unknown).code == "dns-failed"


def test_a_server_that_does_not_answer_is_silent_not_for_ever():
    """The time-out of one request ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        answer = probe.get(url, timeout_seconds=0.1)
    assert answer.problem == "silent"
    assert answer.seconds < 5


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://otlp.example.com", 80), ("https://otlp.example.com", 443),
     ("https://otlp.example.com:8443", 8443)],
)  # fmt: skip
def test_a_port_that_is_not_given_is_that_of_the_scheme(url: str, port: int):
    """The resolver is asked for it."""
    asked: list[int] = []

    def unknown(_: str, port: int, **__: Any) -> list[Any]:
        asked.append(port)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    otlp({ENDPOINT: url}, resolve=unknown)
    assert asked == [port]


def test_the_second_address_of_a_name_is_tried(serve: Serve):
    """As clients do: localhost is ::1 and 127.0.0.1, and the server has one of them."""
    server = serve(receiver)
    held, dead = closed_port()

    def two(*_: Any, **__: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", port)) for port in (dead, server.port)]

    with held:
        assert otlp({ENDPOINT: "http://collector.example:4318"}, resolve=two).code == "otlp-good"


# -- TLS -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "code"),
    [("good", "otlp-good"), ("expired", "tls-expired"), ("other", "tls-hostname"),
     ("selfsigned", "tls-untrusted")],
)  # fmt: skip
def test_a_certificate_is_judged_by_the_configured_authority(
    serve: Serve, pki: Path, name: str, code: str
):
    """Expired, for another name, of nobody known; good with the authority's file."""
    url = serve(receiver, server_side(pki, name)).url
    one = otlp({ENDPOINT: url, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(pki / "ca.pem")})
    assert one.code == code


def test_without_the_authority_s_file_a_company_certificate_is_unknown(serve: Serve, pki: Path):
    """And the remedy names the variable."""
    one = otlp({ENDPOINT: serve(receiver, server_side(pki, "good")).url})
    assert one.code == "tls-untrusted"
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in one.fix


def test_https_to_plain_and_http_to_tls_are_told_apart(serve: Serve, pki: Path):
    """Each direction has a code of its own."""
    plain, secure = serve(receiver), serve(receiver, server_side(pki, "good"))
    assert otlp({ENDPOINT: f"https://127.0.0.1:{plain.port}"}).code == "tls-on-plain"
    one = otlp({ENDPOINT: f"http://127.0.0.1:{secure.port}"})
    assert one.code == "plain-on-tls"
    assert one.fix.startswith(f"Set {ENDPOINT}=https://127.0.0.1:{secure.port}")


@pytest.mark.parametrize("content", [None, "no certificate", ""])
def test_a_bad_authority_file_is_named_before_any_server_is_asked(
    tmp_path: Path, content: str | None
):
    """Missing, text, or empty."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    context = Context.of({"OTEL_EXPORTER_OTLP_CERTIFICATE": str(path)}, tmp_path)
    (one,) = runner.run(context, only=("authorities",))
    assert one.code == "ca-file"
    assert str(path) in one.evidence


# -- what a port speaks, and proxies ---------------------------------------------------------------
def test_the_kind_of_a_port_is_found_out(serve: Serve, pki: Path, grpc_port: int):
    """TLS, HTTP/2, HTTP/1, something else, nothing."""
    assert probe.kind_of_port(serve(receiver, server_side(pki, "good")).url) == "tls"
    assert probe.kind_of_port(f"http://127.0.0.1:{grpc_port}") == "http2"
    assert probe.kind_of_port(serve(receiver).url) == "http1"
    held, port = closed_port()
    with held:
        assert probe.kind_of_port(f"http://127.0.0.1:{port}") == "silent"


@pytest.mark.parametrize(
    ("environment", "url", "proxied"),
    [
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:4318", True),
        ({"HTTPS_PROXY": "http://p:1"}, "http://localhost:4318", False),
        ({"ALL_PROXY": "http://p:1"}, "http://localhost:4318", True),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost"}, "http://localhost:4318", False),
        ({"http_proxy": "http://p:1", "NO_PROXY": "*"}, "http://localhost:4318", False),
        ({"http_proxy": "http://p:1", "NO_PROXY": ".svc"}, "http://otel.obs.svc:4318", False),
        ({"http_proxy": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.2.3:4318", False),
        ({"http_proxy": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3:4318", True),
        ({"http_proxy": "http://p:1", "NO_PROXY": "host"}, "http://otherhost:4318", True),
        ({}, "http://localhost:4318", False),
    ],
)
def test_the_proxy_is_chosen_as_the_exporter_chooses_it(
    environment: dict[str, str], url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
):
    """The rule agrees with the `requests` package, which the exporter uses."""
    import requests

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert bool(probe.proxy_of(environment, url)) is proxied
    theirs = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    assert bool(theirs) is proxied


def test_a_request_goes_through_the_proxy_that_applies(serve: Serve):
    """The proxy sees the whole address; what it answers is the answer."""
    seen: list[str] = []

    def proxy(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        seen.append(path)
        return 407, {}, b""

    environment = {"http_proxy": f"http://127.0.0.1:{serve(proxy).port}"}
    answer = probe.get("http://otlp.example.com/v1", environment=environment)
    assert (answer.status, seen) == (407, ["http://otlp.example.com/v1"])
