"""The examples of docs/grafana.md do what the page says: compose file, scripts, ConfigMaps, values.

Scripts are run as they stand, in bash; kubectl prints and asks no cluster. The compose file and the
chart's values are read, not started.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from grafana.alerts_src.notifications import INERT_DEFAULTS
from otelbridge import cli, links
from otelbridge.span_rules import Pages
from tests.grafana.provisioning import DATASOURCES, GRAFANA, load
from tests.grafana.test_guide import (
    DASHBOARDS,
    PAGE_TEXT,
    ROOT,
    block,
    lines_of,
    provisioning_variables,
)


def test_the_compose_example_sets_what_the_files_need():
    """All variables but Loki's; `$$` becomes what the command prints; inert defaults."""
    service = yaml.safe_load(block("compose"))["services"]["grafana"]
    values = service["environment"]
    assert values.keys() == provisioning_variables() - {"LOKI_URL", "LOKI_TENANT"}
    assert values["OTELBRIDGE_LANGFUSE_TRACE_LINK"] == _example_link().replace("$", "$$")
    for name, default in INERT_DEFAULTS.items():
        assert values[name] == f"${{{name}:-{default}}}"
    provider = load(GRAFANA / "provisioning" / "dashboards" / "otelbridge.yaml")["providers"][0]
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert all((ROOT / path).is_dir() for path in mounts)


def _example_link() -> str:
    found = links.grafana_trace_link(Pages("https://langfuse.example", "my-project"))
    assert found is not None
    return found


def test_the_command_prints_what_the_page_shows(monkeypatch, capsys):
    """`otelbridge link --print-env` with the page's settings, compared as a line."""
    (line,) = (line for line in lines_of("sh") if "--print-env" in line)
    *settings, _, command, flag = shlex.split(line)
    for setting in settings:
        monkeypatch.setenv(*setting.split("=", 1))
    assert cli.main([command, flag]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed in PAGE_TEXT.splitlines()
    assert shlex.split(printed) == [f"OTELBRIDGE_LANGFUSE_TRACE_LINK={_example_link()}"]


def test_own_uids_replace_ours_everywhere(tmp_path: Path):
    """The page's loop leaves no uid of our data sources, and touches nothing else."""
    shutil.copytree(GRAFANA / "dashboards", tmp_path / "grafana" / "dashboards")
    shutil.copytree(GRAFANA / "provisioning", tmp_path / "grafana" / "provisioning")
    own = {"PROMETHEUS_UID": "my-prom", "TEMPO_UID": "my-tempo"}
    _shell(block("uids"), tmp_path, own)
    written = sorted((tmp_path / "mine").iterdir())
    assert len(written) == len(DASHBOARDS) + 1
    for path in written:
        text = path.read_text("utf-8")
        source = next((tmp_path / "grafana").rglob(path.name)).read_text("utf-8")
        back = text.replace("my-tempo", "otelbridge-tempo").replace("my-prom", "otelbridge-prom")
        assert back == source.replace("otelbridge-prom-llm", "otelbridge-prom")
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        assert set(_uids(document)) <= {"my-prom", "my-tempo", "__expr__", "-- Grafana --"}


def _uids(node: object) -> list[str]:
    """Uids of data sources anywhere in a dashboard or a rule file."""
    if isinstance(node, list):
        return [uid for item in node for uid in _uids(item)]
    if not isinstance(node, dict):
        return []
    own = [node["datasourceUid"]] if "datasourceUid" in node else []
    source = node.get("datasource")
    if isinstance(source, dict) and "uid" in source:
        own.append(source["uid"])
    return own + [uid for item in node.values() for uid in _uids(item)]


def _shell(script: str, folder: Path, more: dict[str, str] | None = None) -> str:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        [bash, "-euc", script], cwd=folder, env=environment | (more or {}),
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kubectl() -> str:
    """The client; nothing here asks a cluster."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("no kubectl: it prints the ConfigMaps of the guide without a cluster")
    return found


def test_the_configmaps_hold_the_files(kubectl: str):
    """The page's script, without a cluster: each file once, whole, under the sidecar's label."""
    made = [each for each in yaml.safe_load_all(_shell(block("configmaps"), ROOT)) if each]
    labels = [label for each in made for label in each["metadata"]["labels"]]
    assert sorted(set(labels)) == ["grafana_alert", "grafana_dashboard", "grafana_datasource"]
    assert labels.count("grafana_dashboard") == len(DASHBOARDS)
    held = {name: text for each in made for name, text in each["data"].items()}
    for each in DASHBOARDS:
        name = f"{each.uid}.json"
        assert held[name] == (GRAFANA / "dashboards" / name).read_text("utf-8")
    assert held["otelbridge-datasources.yaml"] == DATASOURCES.read_text("utf-8")
    assert not any("policies" in text.partition("\n")[0] for text in held)
    assert max(len(json.dumps(each)) for each in made) < 262_144  # what an annotation may hold


def test_the_kustomization_makes_the_same(kubectl: str, tmp_path: Path):
    """kustomize, without a cluster: names, labels and contents."""
    shutil.copytree(GRAFANA / "dashboards", tmp_path / "grafana" / "dashboards")
    shutil.copytree(GRAFANA / "provisioning", tmp_path / "grafana" / "provisioning")
    (tmp_path / "kustomization.yaml").write_text(block("kustomization"), "utf-8")
    made = list(yaml.safe_load_all(_shell(f"{shlex.quote(kubectl)} kustomize .", tmp_path)))
    assert {each["metadata"]["name"]: each["metadata"]["labels"] for each in made} == {
        "otelbridge-llm-dashboard": {"grafana_dashboard": "1"},
        "otelbridge-datasources": {"grafana_datasource": "1"},
    }
    held = [text for each in made for text in each["data"].values()]
    assert DATASOURCES.read_text("utf-8") in held


def test_the_charts_values_set_what_the_files_need():
    """Each variable of the files stands in `env` or comes from the secret."""
    values = yaml.safe_load(block("values"))
    missing = provisioning_variables() - values["env"].keys() - {"LOKI_URL", "LOKI_TENANT"}
    assert missing == {"SLACK_WEBHOOK_URL"}
    assert values["env"]["OTELBRIDGE_LANGFUSE_TRACE_LINK"] == _example_link()
