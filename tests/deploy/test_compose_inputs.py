"""Bad input: compose refuses with a name and a remedy, and `make up` before it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys

import pytest

from tests.deploy.tools import ROOT, compose, dclint, rendered

CALLED = '#!/bin/sh\nexec {python} {script} "$@"\n'


@pytest.fixture(scope="module")
def up():
    """The module deploy/up.py."""
    spec = importlib.util.spec_from_file_location("up", ROOT / "deploy" / "up.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A `docker` on the PATH whose answers a test chooses: {first words: (output, status)}."""
    answers = tmp_path / "answers.json"
    script = tmp_path / "docker.py"
    script.write_text(
        "import json, sys\n"
        f"answers = json.load(open({str(answers)!r}))\n"
        "asked = ' '.join(sys.argv[1:])\n"
        "for words, (output, error, status) in answers.items():\n"
        "    if asked.startswith(words):\n"
        "        print(output, end=''); print(error, end='', file=sys.stderr); sys.exit(status)\n"
        "sys.exit('no answer to: ' + asked)\n"
    )
    folder = tmp_path / "bin"
    folder.mkdir()
    docker = folder / "docker"
    docker.write_text(CALLED.format(python=sys.executable, script=script))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def answer(**changes):
        usual = {
            "compose version": ("5.6.0\n", "", 0),
            "info": (str(16 << 30), "", 0),
            "compose ps": ("", "", 0),
            "volume inspect": ("", "no such volume", 1),
        }
        answers.write_text(
            json.dumps({**usual, **{k.replace("_", " "): v for k, v in changes.items()}})
        )

    answer()
    return answer


@pytest.fixture
def project(up, tmp_path, monkeypatch, variables):
    """A project directory with a good .env; `up.ROOT` is it."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "docker-compose.yml").write_bytes((ROOT / "docker-compose.yml").read_bytes())
    env = root / ".env"
    env.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    env.chmod(0o600)
    monkeypatch.setattr(up, "ROOT", root)
    return root


CONFIG = {"services": {"grafana": {"mem_limit": str(1 << 30)}}}


# -- compose itself --------------------------------------------------------------------------------
def test_without_env_compose_refuses_and_says_what_to_run():
    """No .env: every missing name with the command that writes it; nothing is rendered."""
    told = compose("config", "--quiet", variables={})
    assert told.returncode != 0
    assert (
        "required variable LANGFUSE_SECRET_KEY is missing a value: run otelbridge init"
        in told.stderr
    )
    assert told.stdout == ""


SECRETS = (
    "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "NEXTAUTH_SECRET", "SALT", "ENCRYPTION_KEY",
    "POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD", "REDIS_AUTH", "OBJECT_STORE_ACCESS_KEY",
    "OBJECT_STORE_SECRET_KEY", "GRAFANA_ADMIN_PASSWORD", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY",
)  # fmt: skip


@pytest.mark.parametrize("missing", [*SECRETS, "LANGFUSE_HOST", "LANGFUSE_PUBLIC_URL"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_half_an_env_is_refused(variables, missing, how):
    """Each secret alone stops the start, of the light stack too, when it is absent or empty."""
    some = {name: value for name, value in variables.items() if name != missing}
    if how == "empty":
        some[missing] = ""
    told = compose("config", "--quiet", variables=some)
    assert told.returncode != 0
    assert f"required variable {missing} is missing a value" in told.stderr


def test_no_secret_has_a_default(variables):
    """docker-compose.yml holds no value that could stand for a secret."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for name in SECRETS:
        assert f"${{{name}:-" not in text
        assert f"${{{name}-" not in text
        assert f"${{{name}}}" not in text


def test_example_holds_names_only(variables):
    """A placeholder would pass compose's check for a value: .env.example has empty ones."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert all(line.startswith("#") or line.endswith("=") for line in lines)


def test_example_names_everything_that_must_be_set(variables):
    """.env.example and compose agree on what is needed, and nothing warns."""
    told = compose("config", "--quiet", variables=variables)
    assert (told.returncode, told.stderr) == (0, "")


def test_dclint_finds_nothing():
    """The linter of compose files, with the rules that rules.json leaves on."""
    told = subprocess.run(
        [*dclint(), "--config", str(ROOT / "tests/deploy/dclint/rules.json"), "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


# -- make up ---------------------------------------------------------------------------------------
def refused(up, capsys) -> str:
    assert up.main(["--check"]) == 1
    return capsys.readouterr().out


def test_no_docker_is_explained(up, monkeypatch, capsys, tmp_path):
    """Without an engine `make up` says so, and what works without one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert up.main([]) == 2
    said = capsys.readouterr().out
    assert "docker is not installed" in said
    assert "make demo" in said


def test_good_setup_is_accepted(up, project, engine, capsys):
    """With all in place the check says so and starts nothing."""
    engine(compose_config=(json.dumps(CONFIG), "", 0))
    assert up.main(["--check"]) == 0
    assert capsys.readouterr().out == "up: nothing speaks against it\n"


def test_start_tells_where_the_pages_are(up, project, engine, capsys):
    """A start that became healthy ends with the addresses a browser opens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {"services": {"grafana": {"mem_limit": "1", "ports": [{"published": str(port)}]}}}
    engine(compose_config=(json.dumps(config), "", 0), **{"compose up": ("", "", 0)})
    assert up.main([]) == 0
    assert f"grafana       http://localhost:{port}" in capsys.readouterr().out


def test_old_compose_is_refused(up, project, engine, capsys):
    """A compose that does not know what the file uses is named with the version needed."""
    engine(**{"compose version": ("v2.5.1\n", "", 0)})
    assert "compose v2.5.1 is too old" in refused(up, capsys)
    engine(**{"compose version": ("", "unknown command", 1)})
    assert "install the compose plugin" in refused(up, capsys)


def test_no_env_is_refused(up, project, engine, capsys):
    """Without .env the command that writes it."""
    (project / ".env").unlink()
    assert "`otelbridge init` writes it" in refused(up, capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SALT", "mysalt"), ("ENCRYPTION_KEY", "0" * 64), ("LITELLM_MASTER_KEY", "sk-1234"),
     ("GRAFANA_ADMIN_PASSWORD", '"admin"'), ("REDIS_AUTH", "myredissecret")],
)  # fmt: skip
def test_known_passwords_are_refused(up, project, engine, capsys, name, value):
    """Values of public examples are refused by name, and not repeated."""
    text = (project / ".env").read_text().splitlines()
    (project / ".env").write_text(
        "\n".join([*(t for t in text if not t.startswith(name)), f"{name}={value}"])
    )
    said = refused(up, capsys)
    assert f"{name} in .env: a value of a public example" in said
    assert value.strip('"') not in said.replace(name, "")


def test_half_an_env_is_named(up, project, engine, capsys):
    """What compose says forty times is said once for each name."""
    told = compose("config", "--quiet", variables={"SALT": "a"})
    engine(compose_config=("", told.stderr, 15))
    said = refused(up, capsys)
    assert said.count("REDIS_AUTH") == 1
    assert "ENCRYPTION_KEY" in said
    assert "SALT" not in said.replace("LITELLM_SALT_KEY", "")


def test_too_little_memory_is_refused(up, project, engine, capsys):
    """Below half of the limits nothing starts; below their sum it is said."""
    config = json.dumps({"services": {"a": {"mem_limit": str(8 << 30)}}})
    engine(compose_config=(config, "", 0), info=(str(3 << 30), "", 0))
    assert "the engine has 3.0 GiB, the limits add up to 8.0 GiB" in refused(up, capsys)
    engine(compose_config=(config, "", 0), info=(str(6 << 30), "", 0))
    assert up.main(["--check"]) == 0
    assert "not for load" in capsys.readouterr().out


def test_engine_that_does_not_answer(up, project, engine, capsys):
    """A stopped engine is said in its own words."""
    engine(compose_config=(json.dumps(CONFIG), "", 0), info=("", "cannot connect", 1))
    assert "cannot connect" in refused(up, capsys)


def test_taken_port_is_named_with_its_variable(up, project, engine, capsys):
    """A port of another program stops the start; ours, when the stack runs, do not."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = (project / "docker-compose.yml").read_text()
        (project / "docker-compose.yml").write_text(
            text.replace(":-3001}:3000", f":-{port}}}:3000")
        )
        config = {"services": {"grafana": {"mem_limit": "1", "ports": [{"published": str(port)}]}}}
        engine(compose_config=(json.dumps(config), "", 0))
        said = refused(up, capsys)
        assert f"{port} for grafana; another: OTELBRIDGE_COMPOSE_GRAFANA_PORT in .env" in said
        engine(compose_config=(json.dumps(config), "", 0), compose_ps=("0123abcd\n", "", 0))
        assert up.main(["--check"]) == 0


def test_volume_with_other_keys_is_refused(up, project, engine, capsys):
    """The keys of a start belong to its volume: others are refused until the volume is new."""
    born = ("2026-01-01T00:00:00Z\n", "", 0)
    engine(compose_config=(json.dumps(CONFIG), "", 0), volume_inspect=born, compose_up=("", "", 0))
    assert up.main([]) == 0
    text = (project / ".env").read_text()
    (project / ".env").write_text(text.replace("SALT=", "SALT=another"))
    assert "otelbridge_postgres" in refused(up, capsys)
    newer = ("2026-02-02T00:00:00Z\n", "", 0)
    engine(compose_config=(json.dumps(CONFIG), "", 0), volume_inspect=newer)
    assert up.main(["--check"]) == 0
    assert "another" not in (project / ".cache" / "compose-keys.json").read_text()


def test_unhealthy_start_says_where_to_look(up, project, engine, capsys):
    """A start that does not become healthy is a failure."""
    engine(compose_config=(json.dumps(CONFIG), "", 0), compose_up=("", "", 1))
    assert up.main([]) == 1
    assert "make logs" in capsys.readouterr().out


def test_readable_env_is_told(up, project, engine, capsys):
    """Others could read the secrets: said, with the remedy."""
    (project / ".env").chmod(0o644)
    engine(compose_config=(json.dumps(CONFIG), "", 0))
    assert up.main(["--check"]) == 0
    assert "chmod 600 .env" in capsys.readouterr().out


def test_real_rendering_feeds_the_checks(up, variables):
    """The rendered stack has what the checks and the closing lines read."""
    config = rendered(variables, "langfuse")
    assert dict(up.published(config))["grafana"] == 3001
    pages = {line.split()[0]: line.split()[1] for line in up.links(config)}
    assert pages == {
        "gateway": "http://localhost:8000",
        "grafana": "http://localhost:3001",
        "langfuse-web": "http://localhost:3000",
        "prometheus": "http://localhost:9090",
    }


def test_docs_name_every_variable_of_the_file(variables):
    """Each variable that compose reads is in docs/compose.md or docs/init.md, and none else."""
    compose_file = (ROOT / "docker-compose.yml").read_text("utf-8")
    read = set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", compose_file)) | {"COMPOSE_PROFILES"}
    docs = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("compose.md", "init.md"))
    assert {name for name in read if f"{name}" not in docs and name not in variables} == set()
    own = set(re.findall(r"\bOTELBRIDGE_COMPOSE_\w+", docs))
    assert {name for name in own if name not in read} == set()


def test_compose_renders_with_what_init_writes(tmp_path, variables):
    """`otelbridge init` and the file agree: nothing is missing; Langfuse is in its profile."""
    told = subprocess.run(
        [sys.executable, "-m", "otelbridge", "init", "--local"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    lines = (tmp_path / ".env").read_text("utf-8").splitlines()
    written = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(written) == set(variables)
    config = rendered(written)
    assert {"langfuse-web", "collector"} <= set(config["services"])
    assert "litellm" not in config["services"]
