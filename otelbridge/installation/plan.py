"""What a `.env` file still needs: pure, from the values that are there and what was chosen.

A value that is there is never replaced. What is wrong becomes a problem with its remedy, and then
nothing at all is written. `otelbridge.cli.init` asks, checks keys at Langfuse, and writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

from otelbridge import endpoints
from otelbridge.errors import ConfigError
from otelbridge.installation import entries
from otelbridge.installation.entries import BY_NAME, VARIABLES

Kind = Literal["local", "existing"]
#: How a container calls the machine that it runs on (compose maps it to the host's address).
CONTAINER_HOST: Final = "host.docker.internal"
#: Profiles of docker-compose.yml that `--with` takes.
PROFILES: Final = ("langfuse", "gateway", "logs")
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True)
class Choice:
    """Which Langfuse, and what is known of it; None is unknown.

    Attributes:
        kind: `local` is the stack's own, `existing` is Langfuse Cloud or another installation.
        host: As the Collector's container reaches it.
        public_url: As a browser reaches it.
        profiles: Further profiles for COMPOSE_PROFILES.
    """

    kind: Kind
    host: str
    public_url: str
    public_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    project_id: str | None = None
    email: str = entries.LOCAL_USER_EMAIL
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that has to be put right before anything starts; shows no secret."""

    variable: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write.

    Attributes:
        changes: Names to new values, in the order of the file; hidden from `repr`.
        kept: Names that have a value already.
        problems: When there are any, nothing is to be written.
        notes: Worth knowing.
    """

    changes: dict[str, str] = field(repr=False)
    kept: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def local(
    values: Mapping[str, str], email: str | None = None, profiles: tuple[str, ...] = ()
) -> Choice:
    """The Langfuse of the stack itself; the file may name another port for it."""
    port = values.get("OTELBRIDGE_COMPOSE_LANGFUSE_PORT") or entries.LANGFUSE_PORT
    return Choice(
        "local",
        entries.LOCAL_HOST,
        f"http://localhost:{port}",
        email=email or entries.LOCAL_USER_EMAIL,
        profiles=profiles,
    )


def normal_url(variable: str, url: str) -> str:
    """A base URL without trailing slash.

    Raises:
        ConfigError: not an http or https URL.
    """
    try:
        normal, _ = endpoints.base_url(variable, url.strip())
    except ValueError:
        raise ConfigError(variable, endpoints.shown(url), "an http:// or https:// URL") from None
    if "@" in urlsplit(normal).netloc:
        raise ConfigError(
            variable, endpoints.shown(url), "a URL without user and password", "Keys go separately."
        )
    return normal


def container_url(url: str) -> str:
    """The address of the same server from inside a container: loopback becomes the machine."""
    parts = urlsplit(url)
    if (parts.hostname or "").lower() not in _LOOPBACK:
        return url
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{CONTAINER_HOST}{port}"))


def url_from_here(values: Mapping[str, str]) -> str:
    """Langfuse as this machine reaches it: not by a name that only containers know."""
    host = values.get("LANGFUSE_HOST") or values.get("LANGFUSE_BASE_URL") or ""
    public = values.get("LANGFUSE_PUBLIC_URL") or ""
    inside = (CONTAINER_HOST, urlsplit(entries.LOCAL_HOST).hostname)
    return public if public and (not host or urlsplit(host).hostname in inside) else host


def kind_of(values: Mapping[str, str]) -> Kind | None:
    """Which Langfuse a file is for; None when it does not say."""
    host = (values.get("LANGFUSE_HOST") or values.get("LANGFUSE_BASE_URL") or "").rstrip("/")
    if host:
        return "local" if host == entries.LOCAL_HOST else "existing"
    profiles = values.get("COMPOSE_PROFILES", "").split(",")
    if values.get("LANGFUSE_INIT_ORG_ID") or "langfuse" in profiles:
        return "local"
    return None


def make_plan(values: Mapping[str, str], choice: Choice) -> Plan:
    """What to add to a file with these values.

    Args:
        values: Name to value; empty counts as missing.
        choice: Keys of an `existing` Langfuse must be there.
    """
    wanted = _wanted(values, choice)
    changes: dict[str, str] = {}
    kept: list[str] = []
    problems: list[Problem] = []
    for variable in VARIABLES:
        if variable.local_only and choice.kind != "local":
            continue
        value = values.get(variable.name, "")
        if value:
            kept.append(variable.name)
            if flaw := entries.weakness(variable, value):
                problems.append(Problem(variable.name, f"{variable.name} {flaw}", _fix(variable)))
            elif contradiction := _contradiction(variable.name, value, wanted):
                problems.append(contradiction)
        elif wanted.get(variable.name):
            changes[variable.name] = wanted[variable.name]
        elif variable.make is not None:
            changes[variable.name] = variable.make()
    problems += _key_problems({**values, **changes})
    merged = {**values, **changes}
    header = _basic_auth(merged)
    if not values.get("LANGFUSE_BASIC_AUTH"):
        changes = _in_order({**changes, "LANGFUSE_BASIC_AUTH": header})
    elif header != values["LANGFUSE_BASIC_AUTH"]:
        problems.append(
            Problem(
                "LANGFUSE_BASIC_AUTH",
                "LANGFUSE_BASIC_AUTH is not base64 of LANGFUSE_PUBLIC_KEY:LANGFUSE_SECRET_KEY",
                "Remove its line; `otelbridge init` writes it anew.",
            )
        )
    return Plan(changes, tuple(kept), tuple(problems), tuple(_notes(merged, choice)))


def _wanted(values: Mapping[str, str], choice: Choice) -> dict[str, str]:
    """Values that are chosen and not random."""
    is_local = choice.kind == "local"
    profiles = (*(("langfuse",) if is_local else ()), *choice.profiles)
    held = values.get("COMPOSE_PROFILES", "")
    started = held.split(",") if held else profiles  # what is there stays
    grafana_port = values.get("OTELBRIDGE_COMPOSE_GRAFANA_PORT") or entries.GRAFANA_PORT
    wanted = {
        "OTELBRIDGE_COMPOSE_LOGS": "otlp" if "logs" in started else "",
        "COMPOSE_PROFILES": ",".join(dict.fromkeys(profiles)),
        "LANGFUSE_HOST": choice.host,
        "LANGFUSE_PUBLIC_URL": choice.public_url,
        "LANGFUSE_PUBLIC_KEY": choice.public_key or "",
        "LANGFUSE_SECRET_KEY": choice.secret_key or "",
        "OTELBRIDGE_GRAFANA_URL": f"http://localhost:{grafana_port}",
    }
    if is_local:
        project = values.get("LANGFUSE_INIT_PROJECT_ID") or values.get("LANGFUSE_PROJECT_ID")
        project = project or entries.LOCAL_PROJECT_ID
        return wanted | {
            "LANGFUSE_PROJECT_ID": project,
            "LANGFUSE_INIT_PROJECT_ID": project,
            "LANGFUSE_INIT_ORG_ID": entries.LOCAL_ORG_ID,
            "LANGFUSE_INIT_USER_EMAIL": choice.email,
        }
    return wanted | {"LANGFUSE_PROJECT_ID": choice.project_id or ""}


#: Where another value than the one chosen would send spans or links somewhere else.
_MUST_AGREE: Final = (
    "LANGFUSE_HOST", "LANGFUSE_PROJECT_ID", "LANGFUSE_INIT_PROJECT_ID", "LANGFUSE_PUBLIC_KEY",
    "LANGFUSE_SECRET_KEY",
)  # fmt: skip


def _contradiction(name: str, value: str, wanted: Mapping[str, str]) -> Problem | None:
    other = wanted.get(name, "")
    if name not in _MUST_AGREE or not other or value.rstrip("/") == other:
        return None
    if BY_NAME[name].secret:
        what = f"{name} has another value than the one given now"
        fix = f"To replace the pair: otelbridge init --rotate {name}"
    else:
        what = f"{name} is {value!r}, and {other!r} is expected"
        fix = f"`init` never replaces a value: remove the line of {name}, then run it again."
    return Problem(name, what, fix)


def _fix(variable: entries.Variable) -> str:
    if not variable.secret:
        return f"Correct the line of {variable.name}."
    if variable.change == "free":
        return f"Run: otelbridge init --rotate {variable.name}"
    if variable.change == "pair":
        return "Copy both keys from the project's settings in Langfuse."
    return (
        f"If the stack never ran, empty the line of {variable.name} and run `otelbridge init` "
        f"again. If it ran: {variable.remedy}"
    )


def _key_problems(values: Mapping[str, str]) -> list[Problem]:
    """Keys in each other's place; keys without the usual prefix may still be right."""
    public, secret = values.get("LANGFUSE_PUBLIC_KEY", ""), values.get("LANGFUSE_SECRET_KEY", "")
    if public.startswith(entries.SECRET_PREFIX) or secret.startswith(entries.PUBLIC_PREFIX):
        return [
            Problem(
                "LANGFUSE_PUBLIC_KEY",
                "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are in each other's place",
                f"The public key begins with {entries.PUBLIC_PREFIX}, the secret one with "
                f"{entries.SECRET_PREFIX}.",
            )
        ]
    return []


def _basic_auth(values: Mapping[str, str]) -> str:
    return entries.basic_auth(
        values.get("LANGFUSE_PUBLIC_KEY", ""), values.get("LANGFUSE_SECRET_KEY", "")
    )


def _in_order(changes: Mapping[str, str]) -> dict[str, str]:
    return {variable.name: changes[variable.name] for variable in VARIABLES
            if variable.name in changes}  # fmt: skip


def _notes(values: Mapping[str, str], choice: Choice) -> list[str]:
    notes = []
    profiles = values.get("COMPOSE_PROFILES", "").split(",")
    if choice.kind == "local" and "langfuse" not in profiles:
        notes.append(
            "COMPOSE_PROFILES has no langfuse, so `docker compose up` starts no Langfuse; add it "
            "there."
        )
    if choice.kind == "existing" and "langfuse" in profiles:
        notes.append(
            "COMPOSE_PROFILES has langfuse: a local Langfuse is started beside the existing one, "
            "and gets no spans. Remove it there."
        )
    if absent := [name for name in choice.profiles if name not in profiles]:
        added = ",".join(absent)
        notes.append(f"COMPOSE_PROFILES stays as it is; add {added} there, then run it again.")
    if not values.get("LANGFUSE_PROJECT_ID"):
        notes.append(
            "LANGFUSE_PROJECT_ID is not known, so nothing links to Langfuse. Run `otelbridge init` "
            "again when Langfuse can be reached, or add it: the id in the address of its pages."
        )
    if choice.kind == "existing" and CONTAINER_HOST in values.get("LANGFUSE_HOST", ""):
        notes.append(
            f"The Collector's container reaches a Langfuse on this machine as {CONTAINER_HOST}; "
            f"it must listen on more than 127.0.0.1."
        )
    for name, prefix in (
        ("LANGFUSE_PUBLIC_KEY", entries.PUBLIC_PREFIX),
        ("LANGFUSE_SECRET_KEY", entries.SECRET_PREFIX),
    ):
        if not values.get(name, "").startswith(prefix):
            notes.append(f"{name} does not begin with {prefix}, as keys of Langfuse do.")
    return notes
