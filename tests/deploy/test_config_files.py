"""Every file that compose mounts, read by the program it is for, where that can be had here.

ClickHouse, Tempo and Loki cannot: their files are held to what docs and reference say of them.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.collector.conftest import _start_bench
from tests.collector.overlaying import with_overlays
from tests.deploy.tools import PROFILES, ROOT, program, rendered

DEPLOY = ROOT / "deploy"
UNCOUNTED = "OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES"


def environment(service: dict) -> dict[str, str]:
    """A service's environment as its program sees it."""
    return {key: str(value).replace("$$", "$") for key, value in service["environment"].items()}


def run(command: list[str], **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=50, **options
    )


# -- Collector -------------------------------------------------------------------------------------
@pytest.mark.collector
@pytest.mark.parametrize("logs", ["", "otlp"], ids=["plain", "logs"])
def test_collector_reads_its_files(collector_binary, variables, logs):
    """The built Collector accepts its configuration with compose's environment and files."""
    service = rendered({**variables, "OTELBRIDGE_COMPOSE_LOGS": logs})["services"]["collector"]
    mounted = {v["target"]: v["source"] for v in service["volumes"] if v["type"] == "bind"}
    extra = []
    for part in service["command"]:
        path = part.removeprefix("--config=")
        target = next(target for target in mounted if path.startswith(target))
        extra.append(f"--config={mounted[target]}{path.removeprefix(target)}")
    assert len(extra) == (2 if logs else 1)
    main = f"--config={ROOT / 'collector' / 'config.yaml'}"
    told = run([str(collector_binary), "validate", main, *extra], env=environment(service))
    assert (told.returncode, told.stderr) == (0, "")


def test_gateway_file_restates_the_branches_it_is_added_to():
    """Its lists of processors are those of the branches with one of its own each: in Langfuse's
    before all others, in Tempo's behind the one that writes the link."""

    def processors(file: Path, branch: str) -> list[str]:
        return yaml.safe_load(file.read_text("utf-8"))["service"]["pipelines"][branch]["processors"]

    ours = DEPLOY / "collector/gateway.yaml"
    langfuse = processors(ROOT / "collector/layers/langfuse.yaml", "traces/langfuse")
    assert processors(ours, "traces/langfuse") == ["filter/gateway", *langfuse]
    first, *others = processors(ROOT / "collector/layers/tempo.yaml", "traces/tempo")
    assert first == "transform/tempo"
    assert processors(ours, "traces/tempo") == [first, "transform/gateway", *others]


@pytest.mark.collector
@pytest.mark.timeout(60)
def test_spans_of_a_gateway_have_no_link_to_a_page_that_langfuse_has_not(
    collector_binary, variables, tmp_path
):
    """In Tempo a call is there as its client and as the gateway saw it; the client's has a page."""
    told = environment(rendered(variables, "gateway")["services"]["collector"])
    names = ("LANGFUSE_PUBLIC_URL", "LANGFUSE_PROJECT_ID", UNCOUNTED)
    over = yaml.safe_load((DEPLOY / "collector/gateway.yaml").read_text("utf-8"))
    with ExitStack() as stack:
        bench = _start_bench(
            stack, collector_binary, config=with_overlays(tmp_path, over=over),
            environment={name: told[name] for name in names},
        )  # fmt: skip
        trace_id = bench.new_trace()
        call = {"gen_ai.operation.name": "chat"}
        for service in ("rag", "litellm"):
            bench.send(bench.span(trace_id, call), resource={"service.name": service})
        at_tempo = bench.at_tempo(trace_id, 2).values()
        links = {
            span.resource["service.name"]: span.attributes.get("otelbridge.langfuse.url")
            for span in at_tempo
        }
        (at_langfuse,) = bench.at_langfuse(trace_id, 1).values()
    assert links["rag"].endswith(f"?observation={at_langfuse.id}")
    assert links["litellm"] is None


# -- Prometheus ------------------------------------------------------------------------------------
def test_prometheus_reads_its_files(tmp_path):
    """promtool accepts the configuration with the rules where compose puts them."""
    promtool = program("promtool")
    shutil.copy(DEPLOY / "prometheus/prometheus.yaml", tmp_path)
    (tmp_path / "rules").symlink_to(ROOT / "grafana" / "prometheus")
    told = run([promtool, "check", "config", str(tmp_path / "prometheus.yaml")])
    assert told.returncode == 0, told.stdout + told.stderr
    assert "1 rule files found" in told.stdout


def test_prometheus_scrapes_as_the_shipped_file_does():
    """compose's file differs from grafana/prometheus/'s in addresses and alerts only."""
    ours, shipped = (
        yaml.safe_load(path.read_text("utf-8"))
        for path in (
            DEPLOY / "prometheus/prometheus.yaml",
            ROOT / "grafana/prometheus/prometheus.yaml",
        )
    )
    for config in (ours, shipped):
        for job in config["scrape_configs"]:
            job["static_configs"] = [
                {"targets": [target.split(":")[1] for target in group["targets"]]}
                for group in job["static_configs"]
            ]
    rules = {Path(file).name for file in shipped.pop("rule_files")}
    assert {Path(file).name for file in ours.pop("rule_files")} == rules - {"otelbridge.rules.yaml"}
    assert ours == shipped


def test_prometheus_scrapes_what_the_collector_opens(full):
    """The ports in the file are those at which compose makes the Collector listen."""
    text = (DEPLOY / "prometheus/prometheus.yaml").read_text("utf-8")
    given = full["services"]["collector"]["environment"]
    assert "collector:8889" in text
    assert given["OTELBRIDGE_COLLECTOR_PROMETHEUS_ENDPOINT"] == "0.0.0.0:8889"
    assert "collector:8888" in text
    assert given["OTELBRIDGE_COLLECTOR_METRICS_HOST"] == "0.0.0.0"
    assert "--enable-feature=exemplar-storage" in full["services"]["prometheus"]["command"]


# -- stores ----------------------------------------------------------------------------------------
def test_redis_starts_with_its_file(full, tmp_path):
    """A Redis with the mounted file asks for the password, never evicts, and its probe is right."""
    server, client = program("redis-server"), program("redis-cli")
    (tmp_path / "auth.conf").write_text(full["configs"]["redis_auth"]["content"])
    (tmp_path / "data").mkdir()
    config = (DEPLOY / "redis/redis.conf").read_text("utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    config = config.replace("/etc/redis-auth.conf", str(tmp_path / "auth.conf"))
    config = config.replace("/data", str(tmp_path / "data")).replace(
        "bind * -::*", "bind 127.0.0.1"
    )
    (tmp_path / "redis.conf").write_text(f"{config}\nport {port}\n")
    kind, probe = full["services"]["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    probe = probe.replace("redis-cli", f"{client} -p {port}")
    assert run(["sh", "-c", probe]).returncode != 0  # nothing runs yet
    process = subprocess.Popen(
        [server, str(tmp_path / "redis.conf")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 20
        while run(["sh", "-c", probe]).returncode and time.monotonic() < deadline:
            assert process.poll() is None, process.stdout.read()
        assert run(["sh", "-c", probe]).returncode == 0
        assert "NOAUTH" in run([client, "-p", port, "get", "x"]).stdout
        password = full["services"]["langfuse-web"]["environment"]["REDIS_AUTH"]
        asked = [client, "-p", port, "config", "get", "maxmemory-policy"]
        told = run(asked, env={**os.environ, "REDISCLI_AUTH": password})
        assert told.stdout.split() == ["maxmemory-policy", "noeviction"]
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_postgres_starts_with_its_arguments(full, tmp_path):
    """A real PostgreSQL, not as root, takes compose's settings; its probe is right."""
    places = tuple(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    names = ("initdb", "postgres", "psql", "pg_isready")
    initdb, server, psql, ready = (program(name, *places) for name in names)
    user = []
    if os.geteuid() == 0:  # as in the image: it refuses to run as root
        user = [program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    home = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are closed to other users
    try:
        if user:
            os.chown(home, 65534, 65534)
        told = run([*user, initdb, "-D", str(home / "data"), "-U", "langfuse", "-A", "trust"])
        assert told.returncode == 0, told.stderr
        name, *arguments = full["services"]["postgres"]["command"]
        assert name == "postgres"
        place = ["-D", str(home / "data"), "-k", str(home), "-c", "listen_addresses="]
        process = subprocess.Popen([*user, server, *place, *arguments], stderr=subprocess.PIPE)
        try:
            probe = full["services"]["postgres"]["healthcheck"]["test"][1].replace("$$", "$")
            probe = probe.replace("pg_isready", f"{ready} -h {home}")
            given = {**os.environ, "POSTGRES_USER": "langfuse", "POSTGRES_DB": "postgres"}
            deadline = time.monotonic() + 30
            while run(["sh", "-c", probe], env=given).returncode and time.monotonic() < deadline:
                assert process.poll() is None, process.stderr.read()
            for setting in arguments[1::2]:
                key, _, value = setting.partition("=")
                asked = [psql, "-h", str(home), "-U", "langfuse", "-d", "postgres", "-Atc"]
                assert run([*asked, f"SHOW {key}"]).stdout.strip() == value
        finally:
            process.terminate()
            process.communicate(timeout=20)
    finally:
        shutil.rmtree(home)


def test_clickhouse_keeps_no_endless_logs():
    """Well-formed files; of the log tables only query_log and error_log stay, with a TTL."""
    server = ET.parse(DEPLOY / "clickhouse/config.d/otelbridge.xml").getroot()
    users = ET.parse(DEPLOY / "clickhouse/users.d/otelbridge.xml").getroot()
    assert (server.tag, users.tag) == ("clickhouse", "clickhouse")
    logs = {node.tag: node for node in server if node.tag.endswith("_log")}
    kept = {tag for tag, node in logs.items() if node.get("remove") is None}
    assert kept == {"query_log", "error_log"}
    assert all(logs[tag].findtext("ttl") == "event_date + INTERVAL 3 DAY DELETE" for tag in kept)
    assert {"trace_log", "text_log", "metric_log", "asynchronous_metric_log", "part_log"} <= set(
        logs
    )
    assert int(server.findtext("max_server_memory_usage")) < 2 * 1024**3 * 0.85
    assert server.findtext("timezone") == "UTC"
    assert server.find("profiles") is None, "settings of queries belong into users.d"


# -- Tempo, Loki, LiteLLM --------------------------------------------------------------------------
def test_tempo_is_version_3_and_shows_the_newest_spans(full):
    """No key of Tempo 2, three days of traces, and no window in which a new trace is hidden."""
    config = yaml.safe_load((DEPLOY / "tempo/tempo.yaml").read_text("utf-8"))
    assert not {"ingester", "compactor", "ingester_client", "ingest"} & set(config)
    retention = config["backend_scheduler"]["provider"]["compaction"]["compaction"]
    assert retention["block_retention"] == "72h"
    assert config["query_frontend"]["query_end_cutoff"] == "0s"
    assert config["live_store"]["fail_on_high_lag"] is False
    receivers = config["distributor"]["receivers"]["otlp"]["protocols"]
    assert receivers["grpc"]["endpoint"] == "0.0.0.0:4317"  # localhost is the default since 2.7
    sent_to = full["services"]["collector"]["environment"]["OTELBRIDGE_TEMPO_OTLP_ENDPOINT"]
    assert sent_to == "tempo:4317"
    paths = re.findall(r"path: (/\S+?)}?\n", (DEPLOY / "tempo/tempo.yaml").read_text("utf-8"))
    assert len(paths) == 3
    assert all(path.startswith("/var/tempo/") for path in paths), "all state is on the volume"


def test_tempo_cuts_where_the_collector_cuts():
    """A value that the Collector marked and cut is not cut again."""
    config = yaml.safe_load((DEPLOY / "tempo/tempo.yaml").read_text("utf-8"))
    layer = (ROOT / "collector/layers/tempo.yaml").read_text("utf-8")
    default = re.search(r"OTELBRIDGE_COLLECTOR_TEMPO_VALUE_BYTES:-(\d+)", layer)
    assert config["distributor"]["max_attribute_bytes"] == int(default[1])


def test_loki_keeps_logs_as_long_as_tempo_keeps_traces():
    """72 hours, and something that deletes; structured metadata for the trace ids."""
    config = yaml.safe_load((DEPLOY / "loki/loki.yaml").read_text("utf-8"))
    assert config["limits_config"]["retention_period"] == "72h"
    assert config["compactor"]["retention_enabled"] is True
    assert config["limits_config"]["allow_structured_metadata"] is True
    assert config["schema_config"]["configs"][0]["schema"] == "v13"


def test_litellm_serves_three_models_and_one_trace(variables):
    """Three names, the local one twice; every key from the environment; no callback to Langfuse."""
    text = (DEPLOY / "litellm/config.yaml").read_text("utf-8")
    config = yaml.safe_load(text)
    names = [model["model_name"] for model in config["model_list"]]
    assert sorted(names) == ["claude-sonnet", "gpt-4o", "local", "local"]
    local = [m["litellm_params"] for m in config["model_list"] if m["model_name"] == "local"]
    assert len({params["api_base"] for params in local}) == 2
    assert all(
        model["litellm_params"]["api_key"].startswith("os.environ/")
        for model in config["model_list"]
    )
    assert config["general_settings"]["master_key"] == "os.environ/LITELLM_MASTER_KEY"
    assert config["litellm_settings"]["callbacks"] == ["otel"]
    service = rendered(variables, "gateway")["services"]["litellm"]
    given = environment(service)
    assert set(re.findall(r"os\.environ/(\w+)", text)) <= set(given)
    assert given["LITELLM_OTEL_V2"] == "true"
    assert given["OTEL_ENDPOINT"] == given["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    counted = rendered(variables)["services"]["collector"]["environment"]
    assert counted["OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES"] == given["OTEL_SERVICE_NAME"]


def test_grafana_gets_every_variable_that_its_files_read(variables):
    """A variable that is not set becomes nothing: no data source address, no start."""
    config = rendered({**variables, "OTELBRIDGE_COMPOSE_LOGS": "otlp"}, *PROFILES)
    service = config["services"]["grafana"]
    mounted = [v["source"] for v in service["volumes"] if "provisioning" in v["target"]]
    assert len(mounted) == 3
    read = set()
    for folder in mounted:
        for file in Path(folder).glob("*.yaml"):
            lines = [line for line in file.read_text("utf-8").splitlines() if "#" not in line[:1]]
            read |= set(re.findall(r"(?<!\$)\$\{?([A-Z][A-Z_]+)\b", "\n".join(lines)))
    assert {"TEMPO_URL", "LOKI_URL", "SLACK_WEBHOOK_URL"} <= read
    assert {name for name in read if not environment(service).get(name)} == set()
    provider = yaml.safe_load(
        (ROOT / "grafana/provisioning/dashboards/otelbridge.yaml").read_text("utf-8")
    )
    path = provider["providers"][0]["options"]["path"]
    assert path in {v["target"] for v in service["volumes"]}
