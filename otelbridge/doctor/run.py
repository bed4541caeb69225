"""Runs the checks: files and variables in order, servers side by side, the canary last.

Each check is guarded and has a deadline; what it found before either is kept. Everything that is
shown passes through the context's scrubber. Also makes a context of what is really there.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from otelbridge.doctor import files_checks, packages_checks, settings_checks
from otelbridge.doctor.findings import STAGES, Check, Context, Finding
from otelbridge.doctor.table import BY_CODE, finding

#: Modules with `CHECKS`, in the order of the report.
_MODULES: Final = (
    "settings_checks",
    "endpoint_checks",
    "header_checks",
    "files_checks",
    "packages_checks",
    "spool_checks",
    "network_checks",
    "collector_checks",
    "tempo_checks",
    "langfuse_checks",
    "clock",
    "canary",
)
_STACK_DEPTH: Final = 40
_HEADERS: Final = (
    "header-not-pair", "header-encoding", "header-newline", "header-not-basic", "header-empty",
    "header-not-base64", "header-order", "header-missing", "header-other-keys", "value-quoted",
    "value-placeholder", "value-whitespace", "keys-half", "key-prefix", "region-mismatch",
)  # fmt: skip
_ADDRESSES: Final = (
    "endpoint-path-doubled", "endpoint-path-missing", "endpoint-wrong-port", "endpoint-no-scheme",
    "endpoint-unusable", "langfuse-endpoint-path", "langfuse-grpc", "grpc-port-with-http",
    "http-port-with-grpc", "grpc-not-spoken", "https-to-plain", "http-to-public", "ca-file",
    "proxy-captures", "value-quoted", "value-placeholder",
)  # fmt: skip
#: What a server says, to the faults in variables that it follows from: told as a note then, so
#: that one fault is one error.
_FOLLOWS: Final[dict[str, tuple[str, ...]]] = {
    "otlp-unauthorized": (*_HEADERS, *_ADDRESSES),
    **dict.fromkeys(
        ("otlp-path-404", "otlp-not-receiver", "otlp-http-answers", "otlp-grpc-answers"), _ADDRESSES
    ),
    "tls-on-plain": ("https-to-plain",),
    "plain-on-tls": ("http-to-public",),
    **dict.fromkeys(("tempo-is-loki", "tempo-not-tempo"), ("tempo-port-3100", "tempo-url-wrong")),
    "langfuse-not-langfuse": ("langfuse-host-path",),
    "langfuse-keys-refused": ("region-mismatch", "key-prefix", "value-quoted", "value-placeholder"),
}
#: Variable of docker-compose.yml with a port of this machine, to the address that it makes.
_PORTS: Final = {
    "OTELBRIDGE_COMPOSE_OTLP_HTTP_PORT": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTELBRIDGE_COMPOSE_TEMPO_PORT": "OTELBRIDGE_TEMPO_URL",
}


def all_checks() -> tuple[Check, ...]:
    """Every check in the order of the report."""
    found: list[Check] = []
    for name in _MODULES:
        try:
            module = importlib.import_module(f"otelbridge.doctor.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"otelbridge.doctor.{name}":
                raise
            continue
        found += module.CHECKS
    return (*found, settings_checks.LAST)


def context_of(
    environment: Mapping[str, str], directory: Path, env_path: Path | None = None, **more: Any
) -> Context:
    """A context of this directory, its .env file, and the packages that are installed.

    Args:
        environment: Of the process; wins over the file.
        env_path: Another file than `.env` in the directory.
        more: Further fields of Context; `packages` and `distros` replace what is installed.
    """
    path = env_path or directory / ".env"
    values, why = files_checks.load(path)
    values = {**_published({**values, **environment}), **values}
    more.setdefault("packages", packages_checks.installed())
    more.setdefault("distros", packages_checks.distro_names())
    return Context.of(environment, directory, values, env_path=path, env_problem=why, **more)


def _published(variables: Mapping[str, str]) -> dict[str, str]:
    """Addresses that follow from ports which docker-compose.yml was told to publish."""
    return {
        name: f"http://localhost:{variables[port]}"
        for port, name in _PORTS.items()
        if variables.get(port, "").isdecimal() and not variables.get(name)
    }


def run(
    context: Context,
    *,
    only: Collection[str] = (),
    skip: Collection[str] = (),
    checks: Collection[Check] | None = None,
    told: Callable[[Check], None] | None = None,
) -> list[Finding]:
    """All findings, in the order of the checks, without secrets.

    Args:
        only: Names of checks, groups or codes; empty for all.
        skip: The same, left out.
        checks: Instead of `all_checks`.
        told: Called with each check before it starts.
    """
    chosen = [
        check
        for check in (all_checks() if checks is None else checks)
        if (context.network or check.stage == "local") and _wanted(check, only, skip)
    ]
    found: dict[int, list[Finding]] = {}
    for stage in STAGES:
        jobs = [(index, check) for index, check in enumerate(chosen) if check.stage == stage]
        if stage == "network":
            found |= _side_by_side(context, jobs, told)
            continue
        for index, check in jobs:
            context.facts["named"] = " ".join(
                f"{one.what} {one.evidence}" for some in found.values() for one in some
            )
            found |= _side_by_side(context, [(index, check)], told)
    causes = {
        one.code for some in found.values() for one in some if one.level in ("warning", "error")
    }
    codes = {name for name in only if name in BY_CODE}
    names = set(only) - codes
    return [
        _scrubbed(context, _follow(one, causes))
        for index in sorted(found)
        for one in found[index]
        if one.code not in skip
        and (not codes or one.code in codes or {chosen[index].name, chosen[index].group} & names)
    ]


def _wanted(check: Check, only: Collection[str], skip: Collection[str]) -> bool:
    names = {check.name, check.group}
    if names & set(skip):
        return False
    return not only or bool(names & set(only)) or any(name in BY_CODE for name in only)


def selectable() -> tuple[str, ...]:
    """Names that `--only` and `--skip` take."""
    checks = all_checks()
    groups = dict.fromkeys(check.group for check in checks)
    return (*groups, *(check.name for check in checks if check.name not in groups), *BY_CODE)


def exit_status(findings: Collection[Finding]) -> int:
    """0, or 1 with at least one warning or error."""
    return int(any(one.level in ("warning", "error") for one in findings))


def _follow(one: Finding, causes: Collection[str]) -> Finding:
    """The finding, as a note where another one names its cause."""
    cause = next((code for code in _FOLLOWS.get(one.code, ()) if code in causes), "")
    if not cause or one.level not in ("warning", "error"):
        return one
    fix = "See to the cause first."
    return Finding(one.code, "note", f"Follows from {cause}: {one.what}", one.evidence, fix)


def _scrubbed(context: Context, one: Finding) -> Finding:
    return Finding(
        one.code,
        one.level,
        *(" ".join(context.scrub(text).split()) for text in (one.what, one.evidence, one.fix)),
    )


# -- one stage -------------------------------------------------------------------------------------
def _side_by_side(
    context: Context, jobs: list[tuple[int, Check]], told: Callable[[Check], None] | None
) -> dict[int, list[Finding]]:
    """Findings by index; a check that passes its deadline is left alone in its thread."""
    found: dict[int, list[Finding]] = {index: [] for index, _ in jobs}
    running = []
    for index, check in jobs:
        if told is not None:
            told(check)
        thread = threading.Thread(
            target=_guarded,
            args=(context, check, found[index]),
            daemon=True,
            name=f"doctor-{check.name}",
        )
        thread.start()
        running.append((index, check, thread, time.monotonic() + check.deadline_seconds))
    for index, check, thread, deadline in running:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            late = finding(
                "check-timeout",
                f"The check {check.name} took too long.",
                f"more than {check.deadline_seconds:g} s",
            )
            found[index] = [*found[index], late]  # a copy: the thread may still append to the old
    return found


def _guarded(context: Context, check: Check, into: list[Finding]) -> None:
    try:
        for one in check.run(context):
            into.append(one)  # noqa: PERF402 - one by one: what came before an error stays
    except Exception as error:  # noqa: BLE001 - a broken check must not hide the others
        into.append(
            finding("check-failed", f"The check {check.name} could not be finished.", _where(error))
        )


def _where(error: Exception) -> str:
    """Kind and place of an error; its text is left out, for it may hold a secret."""
    place = ""
    for frame in _frames(error):
        place = frame
    return f"{type(error).__name__} at {place}"


def _frames(error: Exception) -> Iterator[str]:
    step, depth = error.__traceback__, 0
    while step is not None and depth < _STACK_DEPTH:
        name = Path(step.tb_frame.f_code.co_filename).name
        yield f"{name}:{step.tb_lineno}"
        step, depth = step.tb_next, depth + 1
