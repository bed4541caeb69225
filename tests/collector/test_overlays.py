"""The overlays as files: combinations are valid, both ends of the version table know their names.

What they do: tests of access, of tiers and of metrics; the debug overlay and the proxy are here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from math import comb

import pytest
import yaml

from benchmarks._collector_faults import NGINX, merged
from tests.collector.overlaying import CONFIGS, FOLDER, LLM, OVERLAYS, load, with_overlays

LAYERS = sorted((FOLDER / "layers").glob("*.yaml"))
# The overlays that concern the front tier: those of collector/validate.sh.
FRONT = ("zpages", "debug", "fsync", "tls", "auth", "auth-bearer")


def validate(script, *arguments):
    """The outcome of collector/validate.sh."""
    return subprocess.run(
        [script, *arguments], capture_output=True, text=True, timeout=170, check=False
    )


# -- validity --------------------------------------------------------------------------------------
@pytest.mark.collector
@pytest.mark.timeout(180)
def test_combinations_are_valid(collector_binary):
    """Each configuration plain, with each overlay, each two and all; the front tier likewise."""

    def tried(overlays):
        return 1 + overlays + comb(overlays, 2) + 1

    count = 2 * tried(len(OVERLAYS) - 1) + tried(len(FRONT)) + 6  # load-balancing is no overlay
    result = validate(FOLDER / "validate.sh", collector_binary)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert result.stdout == f"{count} combinations are valid\n"


@pytest.mark.collector
@pytest.mark.timeout(180)
def test_a_combination_that_is_not_valid_is_named(collector_binary, tmp_path):
    """The check can fail: a wrong key in an overlay, a wrong rule in a configuration."""
    folder = tmp_path / "collector"
    shutil.copytree(FOLDER, folder)
    for path in (folder / "overlays").glob("*.yaml"):  # fewer combinations
        if path.stem not in {*FRONT, "load-balancing"}:
            path.unlink()
    overlay, config = folder / "overlays" / "fsync.yaml", folder / "config.yaml"
    overlay.write_text("extensions: {file_storage/queue: {fsnyc: true}}\n", encoding="utf-8")
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("replace_all_patterns(", "replace_al_patterns(", 1), "utf-8")
    result = validate(folder / "validate.sh", collector_binary)
    assert result.returncode == 1
    for named in (overlay.name, "fsnyc", config.name, "replace_al_patterns"):
        assert named in result.stdout


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
@pytest.mark.parametrize("base", CONFIGS)
def test_overlay_keeps_the_limiter_first_and_every_extension_listed(path, base):
    """Lists are replaced on merge: what an overlay restates still has all that it should."""
    config = merged(load(FOLDER / base), load(path))
    assert config["service"]["pipelines"]["traces/in"]["processors"][0] == "memory_limiter"
    before, after = load(FOLDER / base)["service"], config["service"]
    assert set(before["extensions"]) <= set(after["extensions"]) <= set(config["extensions"])
    for name, pipeline in before["pipelines"].items():
        if (path.stem, name) == ("sampling", "traces/in"):  # it moves the fan-out
            continue
        for kind in ("processors", "exporters"):
            assert set(pipeline.get(kind, ())) <= set(after["pipelines"][name].get(kind, ()))


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


def test_every_overlay_is_in_the_table_of_the_docs():
    """docs/collector-operations.md has a row for each, and for no other."""
    text = (FOLDER.parent / "docs" / "collector-operations.md").read_text(encoding="utf-8")
    table = text.split("| Overlay |", 1)[1].split("\n\n", 1)[0]
    firsts = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = [name for first in firsts for name in re.findall(r"`([a-z-]+)`", first)]
    assert sorted(named) == sorted(path.stem for path in OVERLAYS)


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
    [*(FOLDER / name for name in CONFIGS), *LAYERS, *OVERLAYS],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
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
