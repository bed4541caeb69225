"""Finding, building and starting the binary, and the rendered configuration files."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from otelbridge import collector
from otelbridge.errors import DependencyError, OtelbridgeError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ("config.yaml", "config.no-langfuse.yaml")
LAYERS = ROOT / "collector" / "layers"


@pytest.fixture(scope="module")
def render():
    """The module `collector/render.py`."""
    spec = importlib.util.spec_from_file_location("render", ROOT / "collector" / "render.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["render"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["render"]


@pytest.fixture
def project(tmp_path):
    """A copy of what a build is made from, without a build."""
    shutil.copytree(ROOT / "collector", tmp_path / "collector")
    return tmp_path


def put_binary(project, folder):
    path = project / ".cache" / "collector" / folder / collector.BINARY_NAME
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


# -- configuration files ---------------------------------------------------------------------------
def test_committed_files_are_what_the_generator_makes(render):
    """Both configurations and the table in docs/collector.md follow the policy tables."""
    stale = [
        str(path.relative_to(ROOT))
        for path, text in render.rendered_files().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `python collector/render.py`"


def test_every_variable_of_a_file_is_declared_with_its_default(render):
    """Each `${env:...}` in a layer, overlay or single file is a row of the table, as declared."""
    declared = {variable.name: variable.reference for variable in render.VARIABLES}
    assert len(declared) == len(render.VARIABLES), "a variable is declared twice"
    files = [*(ROOT / "collector" / name for name in CONFIGS)]
    files += [*LAYERS.glob("*.yaml"), *(ROOT / "collector" / "overlays").glob("*.yaml")]
    for path in files:
        text = path.read_text(encoding="utf-8")
        for name, _ in re.findall(r"\$\{env:([A-Z0-9_]+)(:-)?", text):
            if name in declared:
                rest = text.split(f"${{env:{name}")[1:]
                tail = declared[name].removeprefix(f"${{env:{name}")
                assert all(part.startswith(tail) for part in rest), (path.name, name)
            else:
                assert any(f"${{env:{name}:-" in ref for ref in declared.values()), name


@pytest.mark.parametrize("name", CONFIGS)
def test_header_of_a_single_file_names_the_variables_that_it_reads(render, name):
    """The list in the header is that of the file's body."""
    text = (ROOT / "collector" / name).read_text(encoding="utf-8")
    header, body = text.split("\n\n", 1)
    read = {v.name for v in render.VARIABLES if f"${{env:{v.name}:" in body}
    assert set(re.findall(r"^#   ([A-Z0-9_]{4,})$", header, re.MULTILINE)) == read
    assert ("LANGFUSE_SECRET_KEY" in read) == (name == "config.yaml")


@pytest.mark.parametrize("layer", sorted(path.name for path in LAYERS.glob("*.yaml")))
def test_header_of_a_layer_says_what_it_adds_and_what_it_restates(layer):
    """Every layer opens with what it adds and which lists it had to repeat."""
    header = (LAYERS / layer).read_text(encoding="utf-8").split("\n\n", 1)[0]
    assert "# Adds: " in header
    assert "# Lists that it restates" in header


@pytest.mark.collector
@pytest.mark.parametrize("name", CONFIGS)
def test_layers_one_by_one_make_the_same_configuration_as_the_single_file(
    render, collector_binary, name
):
    """`print-config` of all layer files equals `print-config` of the rendered file."""

    def printed(*files):
        options = [part for file in files for part in ("--config", str(file))]
        result = subprocess.run(
            [collector_binary, "print-config", *options],
            env={},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return yaml.safe_load(result.stdout)

    layers = render.layer_names(langfuse=name == "config.yaml")
    single = printed(ROOT / "collector" / name)
    assert printed(*(LAYERS / f"{layer}.yaml" for layer in layers)) == single
    pipelines = single["service"]["pipelines"]
    assert pipelines["traces/in"]["processors"][0] == "memory_limiter"
    assert set(single["extensions"]) == set(single["service"]["extensions"])
    used = {p for pipeline in pipelines.values() for p in pipeline.get("processors", ())}
    assert used == set(single["processors"])  # nothing fell out when a list was replaced


@pytest.mark.parametrize("name", CONFIGS)
def test_durable_path_has_no_batch_processor_and_every_exporter_queues_on_disk(name):
    """Acknowledged spans are on disk: the memory limiter is first and every queue has a storage."""
    config = yaml.safe_load((ROOT / "collector" / name).read_text(encoding="utf-8"))
    pipelines = config["service"]["pipelines"]
    assert pipelines["traces/in"]["processors"][0] == "memory_limiter"
    spans = [pipeline for id_, pipeline in pipelines.items() if id_.startswith("traces")]
    used = [p for pipeline in spans for p in pipeline.get("processors", ())]
    assert not [p for p in used if p.startswith("batch")]
    durable = {"otlp_grpc/tempo", "otlp_http/langfuse"} & set(config["exporters"])
    assert durable
    for exporter in (config["exporters"][id_] for id_ in durable):
        assert exporter["sending_queue"]["storage"] == "file_storage/queue"
        assert exporter["sending_queue"]["sizer"] == "items"


@pytest.mark.collector
@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_is_valid_without_any_variable(collector_binary, name):
    """`validate` accepts both files in an empty environment."""
    result = subprocess.run(
        [collector_binary, "validate", "--config", ROOT / "collector" / name],
        env={},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.collector
def test_langfuse_address_comes_from_either_name(collector_binary):
    """LANGFUSE_HOST wins over LANGFUSE_BASE_URL, which wins over Langfuse's cloud; secrets hide."""

    def endpoint(**environment):
        result = subprocess.run(
            [collector_binary, "print-config", "--config", ROOT / "collector" / "config.yaml"],
            env={"LANGFUSE_SECRET_KEY": "sk-lf-made-up", **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert "sk-lf-made-up" not in result.stdout + result.stderr
        return yaml.safe_load(result.stdout)["exporters"]["otlp_http/langfuse"]["endpoint"]

    base, host = {"LANGFUSE_BASE_URL": "http://b:1"}, {"LANGFUSE_HOST": "http://h:2"}
    assert endpoint() == "https://cloud.langfuse.com/api/public/otel"
    assert endpoint(**base) == "http://b:1/api/public/otel"
    assert endpoint(**base, **host) == "http://h:2/api/public/otel"


@pytest.mark.collector
def test_binary_holds_every_component_of_the_manifest(collector_binary):
    """The binary that is found was built from this manifest, component by component."""
    result = subprocess.run(
        [collector_binary, "components"], capture_output=True, text=True, timeout=30, check=True
    )
    manifest = yaml.safe_load((ROOT / "collector" / "builder.yaml").read_text(encoding="utf-8"))
    kinds = ("receivers", "processors", "exporters", "connectors", "extensions", "providers")
    for kind in kinds:
        for entry in manifest[kind]:
            assert entry["gomod"] in result.stdout, entry


# -- finding ---------------------------------------------------------------------------------------
def test_no_binary_is_found_before_a_build(project):
    """A checkout without a build, and a folder that is no checkout, give None."""
    assert collector.find_collector(project) is None
    assert collector.find_collector(project / "collector") is None


def test_only_a_build_of_the_present_manifest_is_found(project):
    """A binary built from another manifest is not used."""
    path = put_binary(project, f"{collector.build_hash(project)}-go1.26.8")
    put_binary(project, "0123456789abcdef-go1.26.8")
    assert collector.find_collector(project) == path
    with (project / "collector" / "builder.yaml").open("a") as manifest:
        manifest.write("# changed\n")
    assert collector.find_collector(project) is None


def test_given_binary_wins_and_a_wrong_path_is_named(project, tmp_path):
    """A path given by the caller is used; one that cannot run is an error that names it."""
    given = put_binary(project, "elsewhere")
    assert collector.find_collector(project, binary=given) == given
    with pytest.raises(DependencyError, match=r"OTELBRIDGE_COLLECTOR_BINARY=.*missing"):
        collector.find_collector(project, binary=tmp_path / "missing")


# -- building --------------------------------------------------------------------------------------
def run_build(project, path):
    return subprocess.run(
        [shutil.which("bash"), project / "collector" / "build.sh"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def tools(tmp_path):
    """A PATH with the script's tools but no Go."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in ("bash", "dirname", "awk", "sort", "head", "cat", "cut", "sha256sum", "mkdir"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    return folder


def fake_go(tools, version):
    (tools / "go").write_text(f"#!{shutil.which('bash')}\necho go{version}\n")
    (tools / "go").chmod(0o755)


def test_build_without_go_says_what_to_install(project, tools):
    """Exit status 2, and a line that names Go and the least version."""
    result = run_build(project, str(tools))
    assert result.returncode == 2
    assert re.search(r"Go is not installed\. Install Go 1\.\d+", result.stderr)


def test_build_with_an_old_go_says_what_to_install(project, tools):
    """Exit status 2, with the version that is there and the one that is needed."""
    fake_go(tools, "1.9.7")
    result = run_build(project, str(tools))
    assert result.returncode == 2
    assert re.search(r"Go 1\.9\.7 is too old\. Install Go 1\.\d+", result.stderr)


def test_second_build_returns_at_once_with_the_path_that_is_found(project, tools):
    """With a build of this manifest in the cache nothing runs; script and Python agree on it."""
    fake_go(tools, "1.99.1")
    path = put_binary(project, f"{collector.build_hash(project)}-go1.99.1")
    result = run_build(project, str(tools))
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, str(path), "")
    assert collector.find_collector(project) == path


def test_failed_build_prints_the_end_of_its_log_and_leaves_nothing_half_made(project):
    """A builder that fails gives exit status 1, the log's path, and no folder in the cache."""
    fake = project / "fake"
    fake.mkdir()
    (fake / "go").write_text(
        f"#!{shutil.which('bash')}\n"
        'if [ "$1" = env ]; then echo go1.99.1; else echo "proxy unreachable"; exit 1; fi\n'
    )
    (fake / "go").chmod(0o755)
    result = run_build(project, f"{fake}:{os.environ['PATH']}")
    assert result.returncode == 1
    assert "proxy unreachable" in result.stderr
    cache = project / ".cache" / "collector"
    assert str(cache / "build.log") in result.stderr
    assert [path.name for path in cache.iterdir()] == ["build.log"]


# -- starting --------------------------------------------------------------------------------------
@pytest.mark.collector
def test_start_on_a_port_in_use_fails_with_the_collectors_own_words(collector_binary):
    """The error holds the last log lines, which name the address; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = collector.CollectorProcess(
            collector_binary,
            tempo_endpoint="127.0.0.1:1",
            otlp_http_port=taken.getsockname()[1],
        )
        with pytest.raises(OtelbridgeError, match="address already in use"):
            process.start()
        assert process.pid is None


@pytest.mark.collector
def test_start_with_a_wrong_setting_names_the_variables_field(collector_binary):
    """A value of the wrong type ends the start with the Collector's message, not with a timeout."""
    process = collector.CollectorProcess(
        collector_binary,
        tempo_endpoint="127.0.0.1:1",
        environment={"OTELBRIDGE_COLLECTOR_TEMPO_QUEUE_SPANS": "many"},
    )
    with pytest.raises(OtelbridgeError, match="queue_size"):
        process.start()
