"""The overlays: combinations are valid, and each does what its header says."""

from __future__ import annotations

import base64
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import yaml

from benchmarks._collector import EXPORT_METHOD
from benchmarks._collector_faults import NGINX, merged
from otelbridge import collector as collector_module
from otelbridge import semconv
from otelbridge.errors import OtelbridgeError

ROOT = collector_module.project_root()
FOLDER = ROOT / "collector"
OVERLAYS = sorted((FOLDER / "overlays").glob("*.yaml"))
CONFIGS = ("config.yaml", "config.no-langfuse.yaml")
LLM = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.LLM_KEEP: True}


def load(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def with_overlays(tmp_path, *names, base="config.yaml"):
    """A file with a configuration and overlays, merged as the Collector merges them."""
    config = load(FOLDER / base)
    for name in names:
        config = merged(config, load(FOLDER / "overlays" / f"{name}.yaml"))
    path = tmp_path / "merged.yaml"
    path.write_text(yaml.safe_dump(config, width=10**6), encoding="utf-8")
    return path


# -- validity --------------------------------------------------------------------------------------
@pytest.mark.collector
@pytest.mark.timeout(180)
def test_combinations_are_valid(collector_binary):
    """Both configurations plain, with each overlay and with all; `make collector-validate`: all."""
    result = subprocess.run(
        [FOLDER / "validate.sh", "--short", collector_binary],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert result.stdout == "22 combinations are valid\n"


@pytest.mark.collector
def test_a_combination_that_is_not_valid_is_named(collector_binary, tmp_path):
    """The check can fail: a broken overlay gives status 1 and its name."""
    shutil.copytree(FOLDER, tmp_path / "collector")
    broken = tmp_path / "collector" / "overlays" / "fsync.yaml"
    broken.write_text("extensions: {file_storage/queue: {fsnyc: true}}\n", encoding="utf-8")
    result = subprocess.run(
        [tmp_path / "collector" / "validate.sh", "--short", collector_binary],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 1
    assert "fsync.yaml" in result.stdout
    assert "fsnyc" in result.stdout


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
@pytest.mark.parametrize("base", CONFIGS)
def test_overlay_keeps_the_limiter_first_and_every_extension_listed(path, base):
    """Lists are replaced on merge: what an overlay restates still has all that it should."""
    config = merged(load(FOLDER / base), load(path))
    assert config["service"]["pipelines"]["traces/in"]["processors"][0] == "memory_limiter"
    before = load(FOLDER / base)["service"]["extensions"]
    assert set(before) <= set(config["service"]["extensions"]) <= set(config["extensions"])


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_opens_with_what_it_adds_and_restates(path):
    """Each file says what it adds and which lists it restates, and names its variables."""
    text = path.read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    assert header.startswith("# Adds: ")
    assert "# Lists that it restates:" in header
    declared = {
        row["name"]: row["default"]
        for file in (FOLDER / "variables").glob("*.yaml")
        for row in load(file)
    }
    used = re.findall(r"\$\{env:([A-Z0-9_]+):-([^}]*)\}", text)
    assert {(name, default) for name, default in used} <= set(declared.items())


# -- the newest image ------------------------------------------------------------------------------
def paths_of(node, prefix=()):
    """Dotted paths of all keys, component names without what follows the slash."""
    if isinstance(node, dict):
        for key, value in node.items():
            path = (*prefix, str(key).partition("/")[0] if len(prefix) == 1 else str(key))
            yield ".".join(path)
            yield from paths_of(value, path)
    elif isinstance(node, list):
        for item in node:
            yield from paths_of(item, prefix)


@pytest.mark.parametrize(
    "path",
    [*(FOLDER / name for name in CONFIGS), *OVERLAYS],
    ids=lambda path: path.stem,
)
def test_names_and_keys_are_valid_for_the_pinned_build_and_for_the_newest_image(path):
    """Only component names and keys that both ends of collector/compatibility.yaml know."""
    table, config = load(FOLDER / "compatibility.yaml"), load(path)
    for kind, allowed in table["components"].items():
        used = {name.partition("/")[0] for name in config.get(kind, {})}
        assert used <= set(allowed), f"{kind} of {path.name}"
    for row in table["renamed"]:
        wrong = row["old"] if row["use"] == "new" else row["new"]
        used = {name.partition("/")[0] for name in config.get(row["kind"], {})}
        assert wrong not in used, row
    for found in paths_of(config):
        for row in table["keys_not_to_use"]:
            assert not re.fullmatch(row["path"], found), row


@pytest.mark.collector
def test_pinned_build_has_every_component_of_the_table(collector_binary):
    """`components` of the binary lists all names that the files may use."""
    result = subprocess.run(
        [collector_binary, "components"], capture_output=True, text=True, timeout=30, check=True
    )
    built = yaml.safe_load(result.stdout)
    for kind, allowed in load(FOLDER / "compatibility.yaml")["components"].items():
        assert set(allowed) <= {item["name"] for item in built[kind]}, kind


# -- what they do ----------------------------------------------------------------------------------
def ask(bench, body, headers=None, context=None):
    """Status of an export request, over https with a TLS context."""
    url = bench.collector.otlp_http_url + "/v1/traces"
    if context:
        url = url.replace("http://", "https://")
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/x-protobuf", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.collector
@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without keys"])
def test_auth_asks_services_for_a_password(make_bench, tmp_path, keys):
    """Without or with a wrong password 401 and UNAUTHENTICATED; with it spans arrive."""
    base = CONFIGS[0] if keys else CONFIGS[1]
    users = tmp_path / "htpasswd"
    users.write_text("service:made-up\n", encoding="utf-8")
    bench = make_bench(
        keys=keys,
        config=with_overlays(tmp_path, "auth", base=base),
        environment={
            "OTELBRIDGE_COLLECTOR_AUTH_HTPASSWD_FILE": str(users),
            "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "20ms",
        },
    )
    trace_id = bench.new_trace()
    body = bench.request([bench.span(trace_id, LLM)]).SerializeToString()

    def basic(password):
        return "Basic " + base64.b64encode(f"service:{password}".encode()).decode()

    assert ask(bench, body) == 401
    assert ask(bench, body, {"Authorization": basic("wrong")}) == 401
    assert ask(bench, body, {"Authorization": "Basic Og=="}) == 401, "empty user and password"
    with grpc.insecure_channel(bench.collector.otlp_grpc_endpoint) as channel:
        export = channel.unary_unary(EXPORT_METHOD)
        with pytest.raises(grpc.RpcError) as failure:
            export(body, timeout=10)
        assert failure.value.code() == grpc.StatusCode.UNAUTHENTICATED
        export(body, timeout=10, metadata=[("authorization", basic("made-up"))])
    assert len(bench.at_tempo(trace_id, 1)) == 1


@pytest.mark.collector
def test_auth_without_its_file_does_not_start(make_bench, tmp_path):
    """A forgotten htpasswd file closes the door instead of leaving it open."""
    missing = tmp_path / "nowhere"
    with pytest.raises(OtelbridgeError, match="nowhere"):
        make_bench(
            config=with_overlays(tmp_path, "auth"),
            environment={"OTELBRIDGE_COLLECTOR_AUTH_HTPASSWD_FILE": str(missing)},
        )


@pytest.mark.collector
def test_tls_is_spoken_on_both_receivers(make_bench, tmp_path):
    """With a certificate https and gRPC over TLS are served, and plain text is not."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    bench = make_bench(
        config=with_overlays(tmp_path, "tls"),
        environment={
            "OTELBRIDGE_COLLECTOR_TLS_CERT_FILE": str(certificate),
            "OTELBRIDGE_COLLECTOR_TLS_KEY_FILE": str(key),
            "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "20ms",
        },
    )
    traces = [bench.new_trace(), bench.new_trace()]
    bodies = [bench.request([bench.span(t, LLM)]).SerializeToString() for t in traces]
    assert ask(bench, bodies[0]) == 400, "http on an https port"
    context = ssl.create_default_context(cafile=certificate)
    assert ask(bench, bodies[0], context=context) == 200
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(bench.collector.otlp_grpc_endpoint, credentials) as channel:
        channel.unary_unary(EXPORT_METHOD)(bodies[1], timeout=10)
    for trace_id in traces:
        assert len(bench.at_tempo(trace_id, 1)) == 1


@pytest.mark.collector
def test_sampling_keeps_whole_traces_for_both_stores(make_bench, tmp_path):
    """Errors, slow and expensive traces are kept whole; the rest, at 0 percent, in neither."""
    bench = make_bench(
        config=with_overlays(tmp_path, "sampling"),
        environment={
            "OTELBRIDGE_COLLECTOR_SAMPLING_WAIT": "1s",
            "OTELBRIDGE_COLLECTOR_SAMPLING_PERCENT": "0",
            "OTELBRIDGE_COLLECTOR_FLUSH_TIMEOUT": "20ms",
        },
    )
    traces = {kind: bench.new_trace() for kind in ("error", "slow", "expensive", "plain")}
    for kind, trace_id in traces.items():
        root = bench.span(trace_id, {semconv.LLM_KEEP: True})
        llm = bench.span(trace_id, LLM, parent=root.span_id.hex())
        if kind == "error":
            llm.status.code = 2
        if kind == "slow":
            root.end_time_unix_nano = root.start_time_unix_nano + 6_000_000_000
        if kind == "expensive":
            llm.attributes.add(key="gen_ai.usage.cost").value.double_value = 0.25
        bench.send(root, bench.span(trace_id, parent=root.span_id.hex()))
        bench.send(llm)
    for kind in ("error", "slow", "expensive"):
        assert len(bench.at_tempo(traces[kind], 3)) == 3
        bench.wait(lambda t=traces[kind]: len(bench.langfuse.store.of(t)) == 2, "the LLM view")
    name = "otelcol_processor_tail_sampling_count_traces_sampled"

    def dropped():
        with urllib.request.urlopen(bench.collector.metrics_url, timeout=5) as answer:
            text = answer.read().decode()
        series = rf'^{name}\S*{{[^}}]*policy="share"[^}}]*sampled="false"[^}}]*}} 4'
        return re.search(series, text, re.MULTILINE)

    bench.wait(dropped, "the decision on all four traces")
    assert not bench.tempo.store.of(traces["plain"])
    assert not bench.langfuse.store.of(traces["plain"])


@pytest.mark.collector
def test_load_balancing_sends_a_trace_to_one_member(make_bench, tmp_path):
    """A front tier forwards everything to a second tier, which is found by name."""
    bench = make_bench()
    config = merged(
        load(FOLDER / "layers" / "base.yaml"), load(FOLDER / "overlays" / "load-balancing.yaml")
    )
    path = tmp_path / "front.yaml"
    path.write_text(yaml.safe_dump(config, width=10**6), encoding="utf-8")
    host, _, port = bench.collector.otlp_grpc_endpoint.rpartition(":")
    front = make_bench(
        config=path,
        environment={
            "OTELBRIDGE_COLLECTOR_TIER_HOST": host,
            "OTELBRIDGE_COLLECTOR_TIER_PORT": port,
        },
    )
    traces = [front.new_trace() for _ in range(20)]
    front.send(*(front.span(trace_id, LLM) for trace_id in traces for _ in range(2)))
    for trace_id in traces:
        assert len(bench.at_tempo(trace_id, 2)) == 2


@pytest.mark.collector
def test_debug_writes_spans_to_the_log_and_disturbs_no_branch(make_bench, tmp_path):
    """The log names the span; both stores have it."""
    bench = make_bench(config=with_overlays(tmp_path, "debug"))
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM, name="a span to be seen"))
    bench.wait(lambda: "a span to be seen" in bench.collector.log_tail(50), "the span in the log")
    assert len(bench.at_tempo(trace_id, 1)) == 1
    bench.wait(lambda: len(bench.langfuse.store.of(trace_id)) == 1, "the span at Langfuse")


@pytest.mark.skipif(not NGINX, reason="no nginx: `apt-get install nginx-light`")
def test_proxy_configuration_is_what_nginx_accepts(tmp_path):
    """`nginx -t` on the filled-in template, without a warning."""
    text = (FOLDER / "nginx" / "langfuse-proxy.conf.template").read_text(encoding="utf-8")
    for name, value in {
        "LISTEN": "127.0.0.1:8081",
        "UPSTREAM": "http://127.0.0.1:3000",
        "DIR": str(tmp_path),
    }.items():
        text = text.replace("${LANGFUSE_PROXY_" + name + "}", value)
    assert "${" not in text
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    result = subprocess.run(
        [NGINX, "-t", "-p", tmp_path, "-e", "stderr", "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (result.returncode, "[warn]" in result.stderr) == (0, False), result.stderr
