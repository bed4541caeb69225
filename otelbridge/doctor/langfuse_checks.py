"""Checks of Langfuse: does it answer, which version, are the keys right, and whose are they.

Plain requests, because the `langfuse` package hides the status behind exceptions and takes 0.7 s to
import. Keys go to the configured address, and, when a Cloud region refuses them, to Langfuse's
other Cloud hosts.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from otelbridge.doctor import addresses as at
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.network_checks import ask, plain_to_tls, problem
from otelbridge.doctor.probe import Answer
from otelbridge.doctor.table import finding
from otelbridge.endpoints import shown
from otelbridge.settings import LangfuseSettings

_NEWEST_MAJOR: Final = 4
#: First server with an OTLP intake. Source: Langfuse documentation, OpenTelemetry.
_FIRST_OTLP: Final = (3, 22)


def langfuse(context: Context) -> Iterator[Finding]:
    """Health, version, keys and project."""
    settings = context.settings
    if settings is None or not settings.langfuse.enabled:
        return
    base = settings.langfuse.host or settings.langfuse.public_url
    if not base:
        return
    name, answer = "LANGFUSE_HOST", ask(context, "GET", f"{base}/api/public/health")
    public = settings.langfuse.public_url
    inside = at.is_container_name(urlsplit(base).hostname or "")
    if answer.problem == "dns" and inside and public and public != base:
        yield finding(
            "langfuse-other-address",
            f"Asked at {shown(public)}.",
            f"{shown(base)} is a name of the containers' network",
        )
        base, name = public, "LANGFUSE_PUBLIC_URL"
        answer = ask(context, "GET", f"{base}/api/public/health")
    context.facts["langfuse_url"] = base
    health = _health(context, name, base, answer)
    if any(found.level == "error" for found in health):
        yield from health
        return
    project = _project(context, base, settings.langfuse) if settings.langfuse.configured else []
    yield from (*health, *project)
    good = not any(found.level in ("error", "warning") for found in (*health, *project))
    context.facts["langfuse_ok"] = good and settings.langfuse.configured
    if good:
        key = context.facts.get("langfuse_project_id")
        yield finding(
            "langfuse-good",
            f"Langfuse at {shown(base)} answers.",
            f"version {_version_text(answer)}, project {key or 'not asked (no keys)'}",
        )


def _version_text(answer: Answer) -> str:
    told = answer.json()
    return str(told.get("version", "?"))[:40] if isinstance(told, dict) else "?"


def _health(context: Context, name: str, base: str, answer: Answer) -> list[Finding]:
    evidence = f"GET {shown(base)}/api/public/health: {answer.status}"
    if answer.problem:
        return [problem(context, name, base, answer)]
    if plain_to_tls(answer):
        return [finding("plain-on-tls", f"{shown(base)} ({name}) wants TLS.", evidence)]
    told = answer.json()
    if answer.status >= 500:
        return [
            finding("langfuse-unhealthy", f"Langfuse at {shown(base)} is not healthy.", evidence)
        ]
    if answer.status != 200 or not isinstance(told, dict) or "version" not in told:
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        return [
            finding(
                "langfuse-not-langfuse",
                f"{shown(base)} ({name}) is not Langfuse.",
                f"{evidence}, {kind}",
            )
        ]
    numbers = tuple(int(part) for part in re.findall(r"\d+", str(told["version"]))[:2])
    if numbers and numbers[0] < _NEWEST_MAJOR:
        return [
            finding(
                "langfuse-old",
                f"Langfuse {_version_text(answer)} is an older server.",
                evidence,
                level="note" if numbers >= _FIRST_OTLP else "warning",
            )
        ]
    return []


def _keys(settings: LangfuseSettings) -> dict[str, str]:
    pair = f"{settings.public_key}:{settings.secret_key}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _project(context: Context, base: str, settings: LangfuseSettings) -> list[Finding]:
    answer = ask(context, "GET", f"{base}/api/public/projects", headers=_keys(settings))
    evidence = f"GET {shown(base)}/api/public/projects: {answer.status}"
    if answer.problem:
        return [problem(context, "LANGFUSE_HOST", base, answer)]
    if answer.status == 401:
        return [_refused(context, base, settings, evidence)]
    if answer.status == 403:
        return [finding("langfuse-key-kind", "The keys are no project keys.", evidence)]
    told = answer.json()
    projects = told.get("data") if isinstance(told, dict) else None
    if answer.status != 200 or not isinstance(projects, list) or not projects:
        return [finding("langfuse-not-langfuse", f"{shown(base)} names no project.", evidence)]
    first = projects[0] if isinstance(projects[0], dict) else {}
    found, wanted = str(first.get("id", "")), settings.project_id
    context.facts["langfuse_project_id"] = found
    if wanted and found != wanted:
        return [
            finding(
                "langfuse-wrong-project",
                f"The keys are those of project {found}.",
                f"LANGFUSE_PROJECT_ID={wanted}",
                f"Set LANGFUSE_PROJECT_ID={found}, or take the keys of {wanted}.",
            )
        ]
    return []


def _refused(context: Context, base: str, settings: LangfuseSettings, evidence: str) -> Finding:
    """401: of another region, or wrong."""
    host = urlsplit(base).hostname or ""
    for other in at.CLOUD_HOSTS if host in at.CLOUD_HOSTS else ():
        if other == host:
            continue
        url = f"https://{other}/api/public/projects"
        if ask(context, "GET", url, headers=_keys(settings), timeout_seconds=3).status == 200:
            return finding(
                "langfuse-wrong-region",
                f"The keys belong to https://{other}.",
                evidence,
                f"Set LANGFUSE_HOST=https://{other}",
            )
    return finding(
        "langfuse-keys-refused", f"Langfuse at {shown(base)} refuses the keys.", evidence
    )


CHECKS: Final[tuple[Check, ...]] = (
    Check("langfuse", "langfuse", langfuse, stage="network", deadline_seconds=25.0),
)
