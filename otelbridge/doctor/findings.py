"""The values of the doctor: a finding, the explanation of its code, a check and what it is given.

Checks are plain functions `check(context)` that yield findings; each module of checks lists its
own in `CHECKS`, and `run` puts them in order. Nothing here looks at the machine: `Context.of`
takes the environment and the directory as arguments, so that a test decides what is there.
"""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from otelbridge.endpoints import shown
from otelbridge.env import BY_NAME
from otelbridge.errors import ConfigError
from otelbridge.settings import Settings

#: `ok` good; `note` worth knowing; `warning` works, but not as meant; `error` does not work.
Level = Literal["ok", "note", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "note", "warning", "error")
#: `local` looks at files and variables, `network` asks servers (side by side), `canary` runs last.
Stage = Literal["local", "network", "canary"]
STAGES: Final[tuple[Stage, ...]] = ("local", "network", "canary")

_SECRET_NAME: Final = re.compile(
    r"(?:SECRET|PASSWORD|PASSWD|TOKEN|_KEY|_AUTH|_SALT|^SALT|HEADERS|CREDENTIAL|WEBHOOK)",
    re.IGNORECASE,
)
_SHORTEST_SECRET_CHARS: Final = 6  # shorter ones would blank out ordinary words


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        code: A code of the table (`otelbridge.doctor.table`), kebab-case.
        level: See `Level`.
        what: What is the matter, one sentence with the names and values of this set-up.
        evidence: What was seen; no secret.
        fix: What to do, as concrete as this set-up allows; empty when nothing needs doing.
    """

    code: str
    level: Level
    what: str
    evidence: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """The explanation of a code: one page of `--explain`, one section of docs/troubleshooting.md.

    Attributes:
        code: Kebab-case, unique.
        level: What a finding with this code counts as.
        title: A few words.
        meaning: What it means and what follows from it.
        seen: How the doctor sees it.
        fix: The general remedy; also of a finding that names none of its own.
    """

    code: str
    level: Level
    title: str
    meaning: str
    seen: str
    fix: str = ""


@dataclass(slots=True)
class Context:
    """What a check may look at.

    Attributes:
        environment: Variables in force: those of the process over those of the .env file.
        directory: Where .env, docker-compose.yml and a LiteLLM configuration are looked for.
        env_file: Variables of the .env file alone, empty without one.
        settings: None when they cannot be read; `settings_error` says why.
        packages: Installed distributions, names normalised (`opentelemetry-sdk`), to versions.
        distros: Names of the installed entry points `opentelemetry_distro` to their package.
        network: Whether servers may be asked.
        now_seconds: The clock, Unix time.
        resolve: As socket.getaddrinfo.
        readback_seconds: How long the canary may take to be seen in the stores.
        env_path: The .env file, whether or not it is there.
        env_problem: Why it could not be read; empty for none.
        facts: What checks of an earlier stage found out for later ones, by name.
    """

    environment: Mapping[str, str]
    directory: Path
    env_file: Mapping[str, str] = field(default_factory=dict)
    settings: Settings | None = None
    settings_error: ConfigError | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    distros: Mapping[str, str] = field(default_factory=dict)
    network: bool = True
    now_seconds: Callable[[], float] = time.time
    resolve: Callable[..., list[Any]] = socket.getaddrinfo
    readback_seconds: float = 30.0
    env_path: Path | None = None
    env_problem: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        environment: Mapping[str, str],
        directory: Path,
        env_file: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Context:
        """A context with the settings read from `environment` over `env_file`."""
        merged = {**(env_file or {}), **environment}
        context = cls(merged, directory, env_file or {}, **more)
        try:
            context.settings = Settings.from_env(merged)
        except ConfigError as error:
            context.settings_error = error
        return context

    def value(self, name: str) -> str:
        """The text of a variable, first spelling that has one, stripped; empty for none."""
        variable = BY_NAME.get(name)
        for spelling in variable.spellings if variable else (name,):
            if text := self.environment.get(spelling, "").strip():
                return text
        return ""

    def secrets(self) -> tuple[str, ...]:
        """Texts that must never be shown, longest first."""
        found = {
            value.strip()
            for mapping in (self.environment, self.env_file)
            for name, value in mapping.items()
            if is_secret_name(name) and len(value.strip()) >= _SHORTEST_SECRET_CHARS
        }
        pair = f"{self.value('LANGFUSE_PUBLIC_KEY')}:{self.value('LANGFUSE_SECRET_KEY')}"
        if len(pair) > _SHORTEST_SECRET_CHARS:  # as a server may echo it
            found.add(base64.b64encode(pair.encode()).decode())
        for text in tuple(found):  # the parts of header lists, and values in quotes
            found.update(
                part
                for part in re.split(r"[\s,=\"']+|%20", text)
                if len(part) >= _SHORTEST_SECRET_CHARS and part.lower() not in _HEADER_WORDS
            )
        return tuple(sorted(found - set(_HEADER_WORDS), key=len, reverse=True))

    def scrub(self, text: str) -> str:
        """The text without any secret of this environment, for everything that is shown."""
        for secret in self.secrets():
            text = text.replace(secret, "…")
        return shown(text)


#: Parts of header values that are no secrets.
_HEADER_WORDS: Final = ("authorization", "x-langfuse-ingestion-version", "bearer", "x-scope-orgid")


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    variable = BY_NAME.get(name)
    return variable.secret if variable else bool(_SECRET_NAME.search(name))


@dataclass(frozen=True, slots=True)
class Check:
    """A function to run.

    Attributes:
        name: For `--only` and `--skip`, kebab-case; a group's name stands for all its checks.
        run: Gives findings; an error in it becomes the finding `check-failed`.
        stage: See `Stage`.
        deadline_seconds: After it the check is left alone, with the finding `check-timeout`.
    """

    name: str
    group: str
    run: Callable[[Context], Iterable[Finding]]
    stage: Stage = "local"
    deadline_seconds: float = 10.0
