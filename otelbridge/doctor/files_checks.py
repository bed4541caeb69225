"""Checks of files in the working directory: .env, and a LiteLLM configuration.

The .env grammar is `otelbridge.envfile`'s. A LiteLLM configuration is looked at line by line,
because a YAML reader is no dependency of otelbridge: the three lists of callbacks in flow or
block form are found, anchors and multi-line flow lists with comments are not.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otelbridge import envfile
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.table import finding
from otelbridge.installation import entries, plan, surroundings

#: Secrets that a complete .env of the stack holds (docs/compose.md); half of one names some.
STACK_SECRETS: Final = (
    "LANGFUSE_PUBLIC_KEY",
    "LANGFUSE_SECRET_KEY",
    "NEXTAUTH_SECRET",
    "SALT",
    "ENCRYPTION_KEY",
    "POSTGRES_PASSWORD",
    "CLICKHOUSE_PASSWORD",
    "REDIS_AUTH",
    "OBJECT_STORE_ACCESS_KEY",
    "OBJECT_STORE_SECRET_KEY",
    "GRAFANA_ADMIN_PASSWORD",
    "LITELLM_MASTER_KEY",
    "LITELLM_SALT_KEY",
)
#: Any of these makes a .env one of the stack.
_STACK_MARKS: Final = ("ENCRYPTION_KEY", "CLICKHOUSE_PASSWORD", "NEXTAUTH_SECRET", "REDIS_AUTH")
#: Values of published examples. Source: langfuse/langfuse docker-compose.yml, its .env examples,
#: LiteLLM's and Grafana's documentation.
DEFAULT_PASSWORDS: Final = frozenset(
    (
        "mysalt",
        "mysecret",
        "miniosecret",
        "minio",
        "minioadmin",
        "myredissecret",
        "clickhouse",
        "postgres",
        "password",
        "admin",
        "secret",
        "changeme",
        "sk-1234",
        "grafana",
        "redis",
        "langfuse",
        "litellm",
        "12345678",
        "prom-operator",
        "0" * 64,
    )
)
_DEFAULT_NAMES: Final = (
    *STACK_SECRETS,
    "LANGFUSE_INIT_USER_PASSWORD",
    "GF_SECURITY_ADMIN_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "REDIS_PASSWORD",
)
_COMPOSE_FILES: Final = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")
_URL_PASSWORDS: Final = ("POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD", "REDIS_AUTH")
_LITELLM_FILES: Final = (
    "litellm*.y*ml",
    "config.y*ml",
    "proxy_config.y*ml",
    "litellm/*.y*ml",
    "deploy/litellm/*.y*ml",
)
_CALLBACKS: Final = re.compile(
    r"^(?P<indent> *)(?P<key>callbacks|success_callback|failure_callback) *:(?P<rest>.*)$"
)
_MOST_BYTES: Final = 1 << 20


def load(path: Path) -> tuple[dict[str, str], str]:
    """The variables of a .env file and, when it cannot be read, why; never raises.

    A file that others may read is read all the same: `env_file` tells.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"it cannot be opened: {error.strerror}"
    if len(content) > _MOST_BYTES:
        return {}, f"it has more than {_MOST_BYTES} bytes"
    try:
        return envfile.parse(content.decode("utf-8")).values, ""
    except UnicodeDecodeError:
        return {}, "it is no UTF-8 text"
    except envfile.EnvFileError as error:
        return {}, str(error)


def env_file(context: Context) -> Iterator[Finding]:
    """The .env file: there, readable, complete, private, in force."""
    path = context.env_path
    if path is None:
        return
    if not path.exists():
        if any((context.directory / name).is_file() for name in _COMPOSE_FILES):
            yield finding("env-file-missing", f"There is no {path.name} beside docker-compose.yml.")
        return
    if context.env_problem:
        yield finding(
            "env-file-broken", f"{path.name} cannot be read as compose would.", context.env_problem
        )
        return
    problems = [*_complete(context, path), *_private(path), *_shadowed(context, path)]
    yield from problems
    if not problems:
        yield finding(
            "env-file-good",
            f"{path.name} is complete and private.",
            f"{len(context.env_file)} variables",
        )


def _complete(context: Context, path: Path) -> Iterator[Finding]:
    given = {name for name, value in context.env_file.items() if value.strip()}
    if any(name in context.env_file for name in _STACK_MARKS):
        if missing := [name for name in STACK_SECRETS if name not in given]:
            yield finding(
                "env-file-half",
                f"{path.name} lacks {', '.join(missing)}.",
                f"{len(given)} names have a value",
            )
    elif empty := [
        name
        for name, value in context.env_file.items()
        if not value.strip() and name in STACK_SECRETS
    ]:
        yield finding("env-file-half", f"{', '.join(empty)} have no value in {path.name}.")


def _private(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        yield finding(
            "env-file-permissions",
            f"Others may read {path.name}.",
            f"mode {mode:04o}",
            f"chmod 600 {path.name}; rotate keys that others may have read.",
        )
    for problem in surroundings.git_problems(path)[:1]:
        yield finding("env-file-not-ignored", f"{problem.what}.", "as git says", problem.fix)
        return
    for directory in (path.parent, *path.parent.parents):
        ignored = _lines(directory / ".gitignore")
        if any(line.strip("/") in (path.name, ".env*", "*.env", "**/.env") for line in ignored):
            return
        if (directory / ".git").exists():
            yield finding(
                "env-file-not-ignored", f"No .gitignore names {path.name}.", f"up to {directory}"
            )
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _shadowed(context: Context, path: Path) -> Iterator[Finding]:
    from_here = plan.url_from_here(context.env_file)  # as `init --print-env` prints it
    others = [
        name
        for name, value in context.env_file.items()
        if (given := context.environment.get(name, value)) != value
        and not (name == "LANGFUSE_HOST" and given.rstrip("/") == from_here.rstrip("/"))
    ]
    if others:
        yield finding(
            "env-file-shadowed",
            f"The environment overrides {path.name}.",
            f"different values for {', '.join(sorted(others))}",
            f"unset {' '.join(sorted(others))}",
        )


def secrets(context: Context) -> Iterator[Finding]:
    """Published passwords, and secrets of the wrong form."""
    for name in _DEFAULT_NAMES:
        value = context.value(name)
        if value.lower() in DEFAULT_PASSWORDS:
            yield finding(
                "default-password",
                f"{name} has the value of a published example.",
                "it is in the list of known defaults",
                _new_value(name),
            )
    key = context.value("ENCRYPTION_KEY")
    if key and not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        yield finding(
            "encryption-key-form",
            "ENCRYPTION_KEY is not 64 hexadecimal digits.",
            f"{len(key)} characters",
        )
    for name in _URL_PASSWORDS:
        if found := sorted(set(context.value(name)) & set("@:/%#?&= +")):
            yield finding(
                "secret-alphabet",
                f"{name} has characters that end an address early.",
                f"{len(found)} different ones",
            )


def _new_value(name: str) -> str:
    variable = entries.BY_NAME.get(name)
    if variable is None:
        return ""  # the table's
    if variable.change == "free":
        return f"otelbridge init --rotate {name}"
    first = "Before the first start: empty its line and run `otelbridge init`."
    return f"{first} Later: {variable.remedy}"


def litellm(context: Context) -> Iterator[Finding]:
    """Callbacks of LiteLLM configurations in the directory."""
    found = (path for pattern in _LITELLM_FILES for path in context.directory.glob(pattern))
    paths = {path for path in found if path.is_file()}
    for path in sorted(paths):
        lines = _lines(path) if path.stat().st_size <= _MOST_BYTES else []
        if not any(re.match(r"(?:litellm_settings|model_list) *:", line) for line in lines):
            continue
        name = path.relative_to(context.directory)
        for number, key, callback in callbacks(lines):
            if callback in ("langfuse", "langfuse_otel"):
                yield finding(
                    "litellm-langfuse-callback",
                    f"{name} sends to Langfuse by itself.",
                    f"line {number}: {key} has {callback!r}",
                    f'In {name}: litellm_settings: callbacks: ["otel"], and LITELLM_OTEL_V2=true.',
                )
            elif callback == "otel" and not _true(context.value("LITELLM_OTEL_V2"), path):
                yield finding(
                    "litellm-otel-v1",
                    f"{name} uses the first tracing engine.",
                    f"line {number}: {key} has 'otel', LITELLM_OTEL_V2 is not true",
                )
    if context.value("LITELLM_OTEL_LANGFUSE_SPAN_SCOPE") == "llm_only":
        yield finding(
            "litellm-langfuse-scope",
            "LiteLLM sends LLM spans without their parents.",
            "LITELLM_OTEL_LANGFUSE_SPAN_SCOPE=llm_only",
        )


def _true(value: str, path: Path) -> bool:
    """Whether version 2 is on: in the environment, the configuration, or a compose file above."""
    if value.lower() in ("true", "1"):
        return True
    switched = re.compile(r"""LITELLM_OTEL_V2["']?\s*[:=]\s*["']?(?:true|1)\b""", re.IGNORECASE)
    places = [
        path,
        *(directory / name for directory in path.parents[:3] for name in _COMPOSE_FILES),
    ]
    return any(switched.search("\n".join(_lines(place))) for place in places if place.is_file())


def callbacks(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line number from 1, key and name of each callback."""
    key, indent = "", -1
    for number, raw in enumerate(lines, start=1):
        line = re.sub(r"(?:^|\s)#.*$", "", raw).rstrip()
        if match := _CALLBACKS.match(line):
            key, indent = match["key"], len(match["indent"])
            for word in re.findall(r"[\w.\-]+", match["rest"]):
                yield number, key, word
            continue
        item = re.match(r"^( *)- *[\"']?([\w.\-]+)", line)
        if key and item and len(item[1]) >= indent:
            yield number, key, item[2]
        elif key and line.strip() and re.fullmatch(r"[\s\[\]\"',\w.\-]+", line) and ":" not in line:
            for word in re.findall(r"[\w.\-]+", line):  # a flow list over several lines
                yield number, key, word
        elif line.strip():
            key = ""


CHECKS: Final[tuple[Check, ...]] = (
    Check("env-file", "files", env_file),
    Check("secrets", "files", secrets),
    Check("litellm", "files", litellm),
)
