"""Who may send to the Collector's receivers: logins, TLS, browsers; and its own pages."""

from __future__ import annotations

import base64
import http.client
import ssl
import subprocess
import urllib.error

import grpc
import pytest

from benchmarks._collector import EXPORT_METHOD, free_ports
from otelbridge.errors import OtelbridgeError
from tests.collector.conftest import http_get
from tests.collector.overlaying import CONFIGS, FOLDER, LLM, ask, with_overlays

pytestmark = pytest.mark.collector
TOKEN = "made-up-token-7"


def grpc_status(bench, body, authorization=None, channel=None):
    """Status of an export request over gRPC; closes the channel."""
    metadata = [] if authorization is None else [("authorization", authorization)]
    with channel or grpc.insecure_channel(bench.collector.otlp_grpc_endpoint) as open_channel:
        try:
            open_channel.unary_unary(EXPORT_METHOD)(body, timeout=10, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def one_span(bench):
    """A trace id and an export request with one LLM span of that trace."""
    trace_id = bench.new_trace()
    return trace_id, bench.request([bench.span(trace_id, LLM)]).SerializeToString()


# -- logins ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without keys"])
def test_auth_asks_services_for_a_password(make_bench, tmp_path, keys):
    """Without or with a wrong password 401 and UNAUTHENTICATED; with it spans arrive."""
    users = tmp_path / "htpasswd"
    users.write_text("service:made-up\n", encoding="utf-8")
    bench = make_bench(
        keys=keys,
        config=with_overlays(tmp_path, "auth", base=CONFIGS[0] if keys else CONFIGS[1]),
        environment={"OTELBRIDGE_COLLECTOR_AUTH_HTPASSWD_FILE": str(users)},
    )
    trace_id, body = one_span(bench)

    def basic(password):
        return "Basic " + base64.b64encode(f"service:{password}".encode()).decode()

    assert ask(bench, body) == 401
    assert ask(bench, body, {"Authorization": basic("wrong")}) == 401
    assert ask(bench, body, {"Authorization": "Basic Og=="}) == 401, "empty user and password"
    assert grpc_status(bench, body) == grpc.StatusCode.UNAUTHENTICATED
    assert grpc_status(bench, body, basic("made-up")) == grpc.StatusCode.OK
    assert len(bench.at_tempo(trace_id, 1)) == 1


def test_auth_without_its_file_does_not_start(make_bench, tmp_path):
    """A forgotten htpasswd file closes the door instead of leaving it open."""
    missing = tmp_path / "nowhere"
    with pytest.raises(OtelbridgeError, match="nowhere"):
        make_bench(
            config=with_overlays(tmp_path, "auth"),
            environment={"OTELBRIDGE_COLLECTOR_AUTH_HTPASSWD_FILE": str(missing)},
        )


def test_bearer_token_is_asked_for_on_both_receivers(make_bench, tmp_path):
    """No, a wrong and an empty token: 401 and UNAUTHENTICATED; with the token spans arrive."""
    bench = make_bench(
        config=with_overlays(tmp_path, "auth-bearer"),
        environment={"OTELBRIDGE_COLLECTOR_AUTH_TOKEN": TOKEN},
    )
    for wrong in (None, "", "Bearer", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        _, body = one_span(bench)
        assert grpc_status(bench, body, wrong) == grpc.StatusCode.UNAUTHENTICATED, wrong
        headers = {} if wrong is None else {"Authorization": wrong}
        assert ask(bench, body, headers) == 401, wrong
    by_grpc, body = one_span(bench)
    assert grpc_status(bench, body, f"Bearer {TOKEN}") == grpc.StatusCode.OK
    by_http, body = one_span(bench)
    assert ask(bench, body, {"Authorization": f"Bearer {TOKEN}"}) == 200
    for trace_id in (by_grpc, by_http):
        assert len(bench.at_tempo(trace_id, 1)) == 1
    assert TOKEN not in bench.collector.log_tail(10**6)


def test_bearer_without_a_token_does_not_start(make_bench, tmp_path):
    """A forgotten token closes the door instead of leaving it open."""
    with pytest.raises(OtelbridgeError, match="no bearer token provided"):
        make_bench(config=with_overlays(tmp_path, "auth-bearer"))


@pytest.mark.parametrize("content", ["", "\n", None], ids=["empty", "blank", "no file"])
def test_start_script_wants_a_token_in_the_token_file(collector_binary, tmp_path, content):
    """An empty, a blank and a missing token file end the start with the file's name."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    result = subprocess.run(
        [FOLDER / "run.sh", "--config", FOLDER / "overlays" / "auth-bearer.yaml"],
        env={
            "PATH": "/usr/bin:/bin",
            "OTELBRIDGE_COLLECTOR_BINARY": str(collector_binary),
            "OTELBRIDGE_COLLECTOR_AUTH_TOKEN_FILE": str(file),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, f"{file} holds no token" in result.stderr) == (1, True)


# -- TLS -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A folder with ca.pem, and server, client and stranger as .pem and .key; made by openssl."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    authority = ("-addext", "basicConstraints=critical,CA:TRUE")
    for name in ("ca", "other-ca"):
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-subj", f"/CN={name}", *(() if name == "ca" else authority))  # fmt: skip
    for name, issuer in (("server", "ca"), ("client", "ca"), ("stranger", "other-ca")):
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE",
                "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key")  # fmt: skip
    return folder


def tls_variables(pki):
    return {
        "OTELBRIDGE_COLLECTOR_TLS_CERT_FILE": str(pki / "server.pem"),
        "OTELBRIDGE_COLLECTOR_TLS_KEY_FILE": str(pki / "server.key"),
    }


def tls_context(pki, client=""):
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    if client:
        context.load_cert_chain(pki / f"{client}.pem", pki / f"{client}.key")
    return context


def tls_channel(bench, pki, client=""):
    files = [pki / "ca.pem"]
    if client:
        files += [pki / f"{client}.key", pki / f"{client}.pem"]
    credentials = grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))
    return grpc.secure_channel(bench.collector.otlp_grpc_endpoint, credentials)


def test_tls_is_spoken_on_both_receivers(make_bench, tmp_path, pki):
    """With a certificate https and gRPC over TLS are served, and plain text is not."""
    bench = make_bench(config=with_overlays(tmp_path, "tls"), environment=tls_variables(pki))
    (first, body), (second, other) = one_span(bench), one_span(bench)
    assert ask(bench, body) == 400, "http on an https port"
    assert ask(bench, body, context=tls_context(pki)) == 200
    assert grpc_status(bench, other, channel=tls_channel(bench, pki)) == grpc.StatusCode.OK
    for trace_id in (first, second):
        assert len(bench.at_tempo(trace_id, 1)) == 1


def test_client_certificates_are_asked_for_when_a_client_ca_is_given(make_bench, tmp_path, pki):
    """No certificate and one of another CA are turned away on both receivers; a right one sends."""
    bench = make_bench(
        config=with_overlays(tmp_path, "tls"),
        environment={
            **tls_variables(pki),
            "OTELBRIDGE_COLLECTOR_TLS_CLIENT_CA_FILE": str(pki / "ca.pem"),
        },
    )
    for client in ("", "stranger"):
        _, body = one_span(bench)
        with pytest.raises((urllib.error.URLError, OSError)):
            ask(bench, body, context=tls_context(pki, client))
        status = grpc_status(bench, body, channel=tls_channel(bench, pki, client))
        assert status != grpc.StatusCode.OK
    (first, body), (second, other) = one_span(bench), one_span(bench)
    assert ask(bench, body, context=tls_context(pki, "client")) == 200
    channel = tls_channel(bench, pki, "client")
    assert grpc_status(bench, other, channel=channel) == grpc.StatusCode.OK
    for trace_id in (first, second):
        assert len(bench.at_tempo(trace_id, 1)) == 1
    assert len(bench.tempo.store.spans) == 2, "nothing of the others"


# -- browsers, pages -------------------------------------------------------------------------------
def test_browsers_of_other_origins_are_not_let_in(bench):
    """CORS is closed: neither a preflight nor an answer names an allowed origin."""
    trace_id, body = one_span(bench)
    address = bench.collector.otlp_http_url.removeprefix("http://")
    for method, content in (("OPTIONS", b""), ("POST", body)):
        connection = http.client.HTTPConnection(address, timeout=10)
        headers = {
            "Origin": "https://elsewhere.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
            "Content-Type": "application/x-protobuf",
        }
        connection.request(method, "/v1/traces", content, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == (405 if method == "OPTIONS" else 200)
        names = {name.lower() for name, _ in answer.getheaders()}
        assert not {name for name in names if name.startswith("access-control-")}
    assert len(bench.at_tempo(trace_id, 1)) == 1


@pytest.mark.parametrize("base", CONFIGS)
def test_zpages_show_the_pipelines(make_bench, tmp_path, base):
    """With the overlay the Collector's own pages answer on loopback and spans go on."""
    (port,) = free_ports(1)
    bench = make_bench(
        keys=base == CONFIGS[0],
        config=with_overlays(tmp_path, "zpages", base=base),
        environment={"OTELBRIDGE_COLLECTOR_ZPAGES_ENDPOINT": f"127.0.0.1:{port}"},
    )
    page = http_get(f"http://127.0.0.1:{port}/debug/pipelinez", "text/html").decode()
    assert "traces/tempo" in page
    assert ("traces/langfuse" in page) == (base == CONFIGS[0])
    trace_id, body = one_span(bench)
    assert ask(bench, body) == 200
    assert len(bench.at_tempo(trace_id, 1)) == 1
