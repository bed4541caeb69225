"""`make up`: says what would stop the compose stack, and why, before anything starts.

Then starts it. Asks Docker (compose's version, memory, volumes, what is running), the rendered
configuration and .env. Needs no package, so that it runs before `make install`. Prints names of
variables, never values.
Not checked: whether images can be pulled; compose says that itself.

    python3 deploy/up.py [--check]      --check only looks. Exit: 0 good, 1 refused, 2 no Docker
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: configs.content and start_interval; Docker's own list of changes.
OLDEST_COMPOSE = (2, 24, 0)
GIB = 1 << 30
#: Values of Langfuse's, LiteLLM's and Grafana's examples, which everybody knows.
KNOWN = frozenset({
    "mysalt", "mysecret", "minio", "miniosecret", "myredissecret", "clickhouse", "postgres",
    "password", "admin", "langfuse", "secret", "test", "changeme", "sk-1234", "0" * 64,
    "pk-lf-1234567890", "sk-lf-1234567890",
})  # fmt: skip
SECRETS = (
    "LANGFUSE_SECRET_KEY", "LANGFUSE_INIT_USER_PASSWORD", "NEXTAUTH_SECRET", "SALT",
    "ENCRYPTION_KEY", "POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD", "REDIS_AUTH",
    "OBJECT_STORE_SECRET_KEY", "GRAFANA_ADMIN_PASSWORD", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY",
)  # fmt: skip
#: What a data volume remembers from its first start.
FIXED = ("POSTGRES_PASSWORD", "SALT", "ENCRYPTION_KEY")
VOLUME = "otelbridge_postgres"


class Refused(Exception):  # noqa: N818 - it is not an error of the program
    """Why nothing was started, and what to do."""


def tell(line: str) -> None:
    """One line for the person who called."""
    sys.stdout.write(f"up: {line}\n")
    sys.stdout.flush()


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`docker ...` in the project's directory, output kept, whatever its status."""
    return subprocess.run(
        ["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines of .env; quotes around a value are taken off."""
    pairs = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            pairs[name.strip()] = value.strip().strip("'\"")
    return pairs


# -- checks: each raises Refused, or tells ---------------------------------------------------------
def check_docker() -> None:
    """Docker is there, answers, and its compose is new enough."""
    if shutil.which("docker") is None:
        raise Refused(
            "docker is not installed. The stack needs a container engine with compose "
            f"{'.'.join(map(str, OLDEST_COMPOSE))} or newer (docs/compose.md, also about Podman).\n"
            "Without one: `make demo` runs the services, the Collector and a local store."
        )
    told = docker("compose", "version", "--short")
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", told.stdout.strip())
    if told.returncode or found is None:
        raise Refused("`docker compose` is missing: install the compose plugin of your Docker")
    if tuple(map(int, found.groups())) < OLDEST_COMPOSE:
        raise Refused(
            f"compose {found[0]} is too old for docker-compose.yml: "
            f"{'.'.join(map(str, OLDEST_COMPOSE))} or newer is needed"
        )


def check_env(path: Path) -> dict[str, str]:
    """.env is there, is private, and holds none of the passwords that everybody knows."""
    if not path.is_file():
        raise Refused("there is no .env. `otelbridge init` writes it, with secrets of its own")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        tell(".env can be read by other users: chmod 600 .env")
    env = read_env(path)
    known = [name for name in SECRETS if env.get(name) in KNOWN]
    if known:
        raise Refused(
            f"{', '.join(known)} in .env: a value of a public example. If the stack never ran, "
            "empty its line and run `otelbridge init`; else see docs/init.md"
        )
    return env


def rendered() -> dict[str, Any]:
    """What compose makes of docker-compose.yml and .env, as it would start it."""
    told = docker("compose", "config", "--format", "json")
    if told.returncode:
        missing = sorted(set(re.findall(r"required variable (\w+)", told.stderr)))
        if missing:
            raise Refused(
                f"not in .env, or empty: {', '.join(missing)}. `otelbridge init` writes .env; "
                "one that it made is complete"
            )
        raise Refused(f"compose does not accept the configuration:\n{told.stderr.strip()}")
    return json.loads(told.stdout)


def check_memory(config: Mapping[str, Any]) -> None:
    """The engine has at least half of what all limits add up to; less than all is told."""
    limits = sum(int(service["mem_limit"]) for service in config["services"].values())
    told = docker("info", "--format", "{{.MemTotal}}")
    if told.returncode or not told.stdout.strip().isdigit():
        raise Refused(f"the Docker engine does not answer: {told.stderr.strip() or 'docker info'}")
    total = int(told.stdout)
    text = f"the engine has {total / GIB:.1f} GiB, the limits add up to {limits / GIB:.1f} GiB"
    if total < limits / 2:
        raise Refused(
            f"too little memory: {text}. Give it more, or leave out a profile (COMPOSE_PROFILES in "
            ".env; Langfuse can also run elsewhere, `otelbridge init --help`)"
        )
    if total < limits:
        tell(f"{text}: enough for trying it, not for load")


def published(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(service, port on this machine) of every published port."""
    for name, service in config["services"].items():
        for port in service.get("ports", []):
            yield name, int(port["published"])


def check_ports(config: Mapping[str, Any], compose_file: Path) -> None:
    """Nobody else listens on a port that the stack publishes."""
    if docker("compose", "ps", "--quiet").stdout.strip():
        return  # they are ours
    defaults = re.findall(r"\$\{(\w+_PORT):-(\d+)\}", compose_file.read_text("utf-8"))
    variables = {int(port): name for name, port in defaults}
    taken = [(name, port) for name, port in published(config) if listening(port)]
    if taken:
        lines = [
            f"  {port} for {name}; another: {variables.get(port, 'see docker-compose.yml')} in .env"
            for name, port in taken
        ]
        raise Refused("\n".join(["ports are taken by other programs:", *lines]))


def listening(port: int) -> bool:
    """Somebody accepts connections at 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_volume(env: Mapping[str, str], record: Path) -> None:
    """Langfuse's volume was started with the keys that .env has now, as far as is known here."""
    told = docker("volume", "inspect", "--format", "{{.CreatedAt}}", VOLUME)
    known = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    if told.returncode or known.get("made") != told.stdout.strip():
        return
    if known["keys"] != fingerprint(env):
        raise Refused(
            f"{', '.join(FIXED)}: one of them is not what the volume {VOLUME} was made with, so "
            "Langfuse could not read its data.\nPut the old .env back, or give its data up: "
            "docker compose --profile '*' down --volumes"
        )


def remember_volume(env: Mapping[str, str], record: Path) -> None:
    """Keep a fingerprint of the keys beside the volume's time of birth, for the next call."""
    told = docker("volume", "inspect", "--format", "{{.CreatedAt}}", VOLUME)
    if told.returncode == 0:
        record.parent.mkdir(exist_ok=True)
        known = {"made": told.stdout.strip(), "keys": fingerprint(env)}
        record.write_text(json.dumps(known), "utf-8")


def fingerprint(env: Mapping[str, str]) -> str:
    """16 hex digits that change with any of the fixed keys and give none of them away."""
    text = "\0".join(env.get(name, "") for name in FIXED)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def links(config: Mapping[str, Any]) -> Iterator[str]:
    """Where a browser finds what has a page."""
    pages = ("gateway", "grafana", "langfuse-web", "prometheus", "litellm")
    for name, port in published(config):
        if name in pages:
            yield f"  {name:<14}http://localhost:{port}"


def main(arguments: list[str]) -> int:
    """Look, and unless told otherwise start; the exit status."""
    record = ROOT / ".cache" / "compose-keys.json"
    try:
        check_docker()
        env = check_env(ROOT / ".env")
        config = rendered()
        check_memory(config)
        check_ports(config, ROOT / "docker-compose.yml")
        check_volume(env, record)
    except Refused as reason:
        tell(f"nothing was started: {reason}")
        return 2 if shutil.which("docker") is None else 1
    if "--check" in arguments:
        tell("nothing speaks against it")
        return 0
    tell("the first start pulls images and builds two: minutes. Langfuse takes 2 to 3 more")
    status = subprocess.run(
        ["docker", "compose", "up", "--detach", "--wait"], cwd=ROOT, check=False
    )
    remember_volume(env, record)
    if status.returncode:
        tell("something did not become healthy: `docker compose ps`, `make logs`")
        return 1
    tell("\n".join(["everything is healthy", *links(config)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
