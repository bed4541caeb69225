"""Checks of Tempo's API: is it Tempo, is it ready, and if it is not, what is it.

Neighbour: `endpoint_checks.tempo_address` judges the text of the address. A Tempo that nobody
configured and that is not there is a note, unless a compose file says that it should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.network_checks import ask, plain_to_tls, problem
from otelbridge.doctor.probe import Answer
from otelbridge.doctor.table import finding
from otelbridge.endpoints import shown

_LEAST: Final = (2, 7)
#: Path, a piece of the answer's text, and what it is.
_OTHERS: Final = (
    ("/loki/api/v1/status/buildinfo", '"version"', "Loki"),
    ("/api/public/health", '"version"', "Langfuse"),
    ("/api/health", '"database"', "Grafana"),
    ("/api/v1/status/buildinfo", '"success"', "Prometheus"),
)


def tempo(context: Context) -> Iterator[Finding]:
    """Identity, version, readiness."""
    settings = context.settings
    if settings is None or not settings.tempo_url:
        return
    base, name = settings.tempo_url, "OTELBRIDGE_TEMPO_URL"
    answer = ask(context, "GET", f"{base}/api/status/buildinfo")
    if answer.problem:
        found = problem(context, name, base, answer)
        compose = any(
            (context.directory / file).is_file()
            for file in ("docker-compose.yml", "compose.yml", "compose.yaml")
        )
        if not context.value(name) and not compose:
            found = finding(
                found.code,
                found.what,
                found.evidence,
                f"Set {name}, if traces are to be queried from here.",
                level="note",
            )
        yield found
        return
    evidence = f"GET {shown(base)}/api/status/buildinfo: {answer.status}"
    if plain_to_tls(answer):
        yield finding("plain-on-tls", f"{shown(base)} ({name}) wants TLS.", evidence)
    elif answer.status == 401 and "org id" in answer.text:
        yield finding("tempo-tenant", "Tempo wants X-Scope-OrgID.", evidence)
    elif not _is_tempo(context, base, answer):
        yield _something_else(context, base, evidence)
    else:
        yield from _state(context, base, answer, evidence)


def _is_tempo(context: Context, base: str, build: Answer) -> bool:
    told = build.json()
    if build.status == 200 and isinstance(told, dict) and "version" in told:
        return True
    echo = ask(context, "GET", f"{base}/api/echo")
    return echo.status == 200 and echo.text.strip() == "echo"


def _something_else(context: Context, base: str, evidence: str) -> Finding:
    for path, mark, who in _OTHERS:
        answer = ask(context, "GET", base + path, timeout_seconds=2)
        if answer.status == 200 and mark in answer.text:
            code = "tempo-is-loki" if who == "Loki" else "tempo-not-tempo"
            return finding(
                code,
                f"{who} answers at {shown(base)}.",
                f"GET {path}: 200",
                "Set OTELBRIDGE_TEMPO_URL to Tempo's API, port 3200.",
            )
    return finding("tempo-not-tempo", f"{shown(base)} is not Tempo.", evidence)


def _state(context: Context, base: str, build: Answer, evidence: str) -> Iterator[Finding]:
    told = build.json()
    version = str(told.get("version", "?"))[:40] if isinstance(told, dict) else "?"
    context.facts["tempo_url"] = base
    ready = ask(context, "GET", f"{base}/ready")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    old = re.match(r"v?\d+\.\d+\.\d+", version) is not None and numbers < _LEAST
    if old:
        yield finding("tempo-old", f"Tempo {version} is an older one.", evidence)
    if ready.status == 503:
        yield finding(
            "tempo-not-ready",
            f"Tempo at {shown(base)} is not ready.",
            f"GET /ready: 503, {' '.join(ready.text.split())[:80]}",
        )
    elif not old:
        yield finding("tempo-good", f"Tempo at {shown(base)} answers.", f"version {version}")


CHECKS: Final[tuple[Check, ...]] = (
    Check("tempo", "tempo", tempo, stage="network", deadline_seconds=20.0),
)
