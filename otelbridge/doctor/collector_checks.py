"""Looks at the running Collector: health, its own metrics, and the configuration file when given.

Health and metrics are asked where the Collector's own variables say, else at their usual ports on
the host of the OTLP endpoint; one that publishes neither (in a container, say) is only noted. What
the metrics say counts only for the Collector behind the endpoint: it is reported after the canary
has shown that this is the one. `collector_series` reads metrics, `collector_config` the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from otelbridge.doctor.collector_config import check_file
from otelbridge.doctor.collector_series import (
    BRANCH_PROCESSORS,
    LANGFUSE,
    SERVICE,
    TEMPO,
    CollectorState,
    ExporterState,
    parse_pipelines,
    parse_state,
)
from otelbridge.doctor.findings import Check, Context, Finding
from otelbridge.doctor.network_checks import ask
from otelbridge.doctor.table import finding
from otelbridge.settings import Settings

_HEALTH_PORT: Final = 13133
_METRICS_PORT: Final = 8888
_ZPAGES_PORT: Final = 55679
_REQUEST_SECONDS: Final = 3.0
#: Of a queue, from which on the backend is away or too slow (docs/collector-operations.md).
_FULL_RATIO: Final = 0.8
#: Of all spans of a branch, above which past failures are more than an accident.
_FAILED_RATIO: Final = 0.01
_LANGFUSE_ROUTE: Final = ("collector-no-langfuse", "duplicate-langfuse-route")
_ANY_ADDRESS: Final = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared with, not bound
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Places:
    """Where the Collector's health check and its own metrics are asked; empty when unknown."""

    health: str
    metrics: str


def places(context: Context) -> Places:
    """The two addresses, from the Collector's variables and the host of the OTLP endpoint."""
    settings = context.settings
    host = urlsplit(settings.otlp.endpoint).hostname if settings else None
    if settings is None or not host:
        return Places("", "")
    given = urlsplit("//" + context.value("OTELBRIDGE_COLLECTOR_HEALTH_ENDPOINT"))
    health_host = given.hostname or ""
    health_host = host if health_host in _ANY_ADDRESS else health_host
    metrics_host = context.value("OTELBRIDGE_COLLECTOR_METRICS_HOST")
    metrics_host = host if metrics_host in _ANY_ADDRESS else metrics_host
    metrics_port = context.value("OTELBRIDGE_COLLECTOR_METRICS_PORT") or str(_METRICS_PORT)
    return Places(
        f"http://{_bracketed(health_host)}:{_port(given, _HEALTH_PORT)}/",
        f"http://{_bracketed(metrics_host)}:{metrics_port}/metrics",
    )


def _port(parts: SplitResult, usual: int) -> int:
    try:
        return parts.port or usual
    except ValueError:  # no number
        return usual


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def read_state(context: Context) -> CollectorState | None:
    """What the Collector's metrics say now; None when they cannot be had."""
    url = places(context).metrics
    answer = ask(context, "GET", url, timeout_seconds=_REQUEST_SECONDS) if url else None
    if answer is None or answer.status != _OK:
        return None
    return parse_state(answer.body.decode("utf-8", "replace"))


def _pipelines(context: Context) -> dict[str, frozenset[str]]:
    """The pipelines as the zpages overlay shows them; empty without it."""
    given = urlsplit("//" + context.value("OTELBRIDGE_COLLECTOR_ZPAGES_ENDPOINT"))
    host = urlsplit(places(context).health).hostname or ""
    host = host if (given.hostname or "") in _ANY_ADDRESS else str(given.hostname)
    url = f"http://{_bracketed(host)}:{_port(given, _ZPAGES_PORT)}/debug/pipelinez"
    answer = ask(context, "GET", url, timeout_seconds=_REQUEST_SECONDS)
    return parse_pipelines(answer.text) if answer.status == _OK else {}


def check_collector(context: Context) -> Iterator[Finding]:
    """Health now; what the metrics say is kept for `report_collector`."""
    settings = context.settings
    if settings is None or settings.sdk_disabled or settings.traces_exporter != "otlp":
        return
    where = places(context)
    health = ask(context, "GET", where.health, timeout_seconds=_REQUEST_SECONDS)
    state = read_state(context)
    unwell = bool(health.status and health.status != _OK and b"Server" in health.body)
    if unwell:  # another program on that port would not answer so
        yield finding(
            "collector-unhealthy",
            f"The Collector at {where.health} says that it is not ready.",
            f"status {health.status}: {health.text[:120].strip()}",
        )
    problems = list(_problems(context, settings, state)) if state is not None else []
    context.facts["collector_problems"] = problems
    known = [item.what for item in problems if item.code in _LANGFUSE_ROUTE]
    context.facts["langfuse_route"] = known[0].rstrip(".") if known else ""
    if state is None and health.status != _OK:
        yield finding(
            "collector-not-visible",
            "No Collector shows its health or its metrics here; only the canary can tell about it.",
            f"{where.health}: {health.detail or health.status}; {where.metrics}: no metrics",
        )
    elif not problems and not unwell:
        yield finding("collector-ok", "The Collector is healthy.", _summary(where, state))


def report_collector(context: Context) -> Iterator[Finding]:
    """What the metrics say, unless the canary has shown that they are another Collector's.

    Runs after the canary, which leaves `collector_proven`: whether the Collector that is seen has
    counted the canary's spans; None when no canary was sent.
    """
    problems: list[Finding] = context.facts.get("collector_problems", [])
    if context.facts.get("otlp_ok") is False:  # whatever is behind the endpoint, it is not well
        return
    if problems and context.facts.get("collector_proven") is False:
        yield finding(
            "collector-other",
            "The Collector whose metrics can be seen is not the one behind the endpoint.",
            f"{places(context).metrics} counted none of the canary's spans; not reported: "
            f"{', '.join(item.code for item in problems)}",
        )
        return
    yield from problems


def _problems(context: Context, settings: Settings, state: CollectorState) -> Iterator[Finding]:
    yield from _identity(state, _pipelines(context))
    yield from _branches(settings, state)
    for exporter in state.exporters.values():
        yield from _flow(exporter)
    yield from _intake(state)


def _identity(state: CollectorState, pipelines: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """Whether this is our configuration, and whole; the pages tell more than the metrics."""
    seen = state.processors.union(*pipelines.values())
    lacking = {
        store: [name for name in needed if name not in seen]
        for store, needed in BRANCH_PROCESSORS.items()
        # A processor has metrics from its first span on, which tail sampling holds back for long.
        if state.sending_to(store)
        and (pipelines or any(exporter.sent for exporter in state.sending_to(store)))
    }
    ours = state.service == SERVICE or {TEMPO, LANGFUSE} & set(state.exporters)
    if not ours:
        yield finding(
            "collector-not-ours",
            "The Collector does not run otelbridge's configuration.",
            f"service {state.service or 'unknown'} {state.version}, exporters "
            f"{', '.join(sorted(state.exporters)) or 'none'}",
        )
        return
    for store, names in lacking.items():
        if names:
            yield finding(
                "collector-branch-changed",
                f"The Collector's branch to {store.capitalize()} lacks {', '.join(names)}.",
                f"processors: {', '.join(sorted(state.processors)) or 'none'}",
            )


def _branches(settings: Settings, state: CollectorState) -> Iterator[Finding]:
    to_langfuse = state.sending_to("langfuse")
    names = ", ".join(sorted(state.exporters)) or "none"
    if not state.sending_to("tempo"):
        yield finding(
            "collector-no-tempo", "The Collector has no exporter for Tempo.", f"exporters: {names}"
        )
    if settings.export == "direct" and to_langfuse and settings.langfuse.configured:
        yield finding(
            "duplicate-langfuse-route",
            "Langfuse gets every LLM span twice: from this process (OTELBRIDGE_EXPORT=direct) and "
            "from the Collector behind the OTLP endpoint.",
            f"exporters of the Collector: {names}",
        )
    elif len(to_langfuse) > 1:
        yield finding(
            "duplicate-langfuse-route",
            f"The Collector has {len(to_langfuse)} exporters for Langfuse.",
            f"exporters: {names}",
            "Keep one of them; langfuse is one project's intake.",
        )
    wants = settings.export == "collector" and settings.langfuse.enabled
    if wants and not to_langfuse:
        keys = settings.langfuse.configured
        yield finding(
            "collector-no-langfuse",
            "The Collector has no exporter for Langfuse, so Langfuse gets nothing.",
            f"exporters: {names}",
            level="error" if keys else "note",
        )


def _flow(exporter: ExporterState) -> Iterator[Finding]:
    """What one exporter's queue and counters say."""
    seen = (
        f"{exporter.name}: {exporter.sent:.0f} spans sent, {exporter.send_failed:.0f} given up, "
        f"{exporter.enqueue_failed:.0f} not queued, queue {exporter.queue_size:.0f} of "
        f"{exporter.queue_capacity:.0f}"
    )
    if exporter.queue_capacity and exporter.queue_size >= _FULL_RATIO * exporter.queue_capacity:
        yield finding(
            "collector-queue-full",
            f"The Collector's queue of {exporter.name} is nearly full.",
            seen,
        )
    if exporter.enqueue_failed:
        yield finding("collector-enqueue-failed", f"{exporter.name} had no room for spans.", seen)
    tried = exporter.sent + exporter.send_failed
    if tried and exporter.send_failed > _FAILED_RATIO * tried:
        yield finding(
            "collector-send-failed",
            f"{exporter.name} gave up {exporter.send_failed:.0f} of {tried:.0f} spans.",
            seen,
        )


def _intake(state: CollectorState) -> Iterator[Finding]:
    if state.refused:
        yield finding(
            "collector-refused",
            f"The Collector refused {state.refused:.0f} spans.",
            f"{state.accepted:.0f} accepted, {state.refused:.0f} refused",
            level="note" if state.refused < _FAILED_RATIO * state.accepted else "warning",
        )


def _summary(where: Places, state: CollectorState | None) -> str:
    if state is None:
        return f"{where.health} answers 200; its metrics are not to be had"
    parts = [f"{state.service} {state.version}"]
    parts += [
        f"{item.name} sent {item.sent:.0f}, queue {item.queue_size:.0f}/{item.queue_capacity:.0f}"
        for item in state.exporters.values()
    ]
    return ", ".join(parts)


def check_configuration(context: Context) -> Iterator[Finding]:
    """The Collector's configuration file, when one was named (`--collector-config`)."""
    given = context.facts.get("collector_config")
    if given:
        yield from check_file(Path(given), context.environment)


CHECKS: Final = (
    Check("collector-config", "collector", check_configuration),
    Check("collector", "collector", check_collector, "network", deadline_seconds=15),
)
