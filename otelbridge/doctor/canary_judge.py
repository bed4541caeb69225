"""Compares the canary as it was made with what a store has of it; pure.

Names the most telling thing per store: not there at all (and why, from the Collector's counters
before and after), or there with spans missing, orphans, other parents, copies, message text in the
wrong store, an empty root.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from otelbridge.doctor.canary_read import ReadBack, StoredSpan
from otelbridge.doctor.canary_send import CALL, ROOT, CanarySpan, SentCanary
from otelbridge.doctor.collector_series import CollectorState
from otelbridge.doctor.findings import Finding
from otelbridge.doctor.table import finding
from otelbridge.settings import Settings

_ZEROS: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class Route:
    """What the Collector did for one store meanwhile, in spans; all 0 when it was not seen.

    Attributes:
        visible: Whether the Collector's metrics tell about an exporter for this store, and about
            spans that came in meanwhile (else it is not the one behind the endpoint).
        given_up: Refused for good by the store.
        waiting: In the queue now.
    """

    visible: bool = False
    sent: float = 0
    given_up: float = 0
    waiting: float = 0
    exporter: str = ""


def route_of(store: str, before: CollectorState | None, after: CollectorState | None) -> Route:
    """The change of the counters of a store's exporters between two readings."""
    if before is None or after is None or after.accepted <= before.accepted:
        return Route()
    now, then = after.sending_to(store), before.sending_to(store)
    if not now:
        return Route()
    return Route(
        visible=True,
        sent=sum(item.sent for item in now) - sum(item.sent for item in then),
        given_up=sum(item.send_failed for item in now) - sum(item.send_failed for item in then),
        waiting=sum(item.queue_size for item in now),
        exporter=", ".join(item.name for item in now),
    )


def judge_tempo(
    settings: Settings, sent: SentCanary, back: ReadBack, route: Route
) -> list[Finding]:
    """Findings about Tempo's copy; none when it is as it should be."""
    if not back.spans:
        return [_absent("tempo", "Tempo", settings.tempo_url, back, route)]
    wanted = {span.span_id: span.parent_id for span in sent.spans}
    problems = _compare("Tempo", wanted, back, sent.spans)
    if sent.marker.encode() in back.body:
        problems.append(
            finding(
                "canary-content-in-tempo",
                "Tempo stores prompts and answers: the canary's text is there.",
                f"{sent.marker} in {back.api}",
            )
        )
    return problems


def judge_langfuse(
    settings: Settings, sent: SentCanary, back: ReadBack, route: Route
) -> list[Finding]:
    """Findings about Langfuse's copy; none when it is as it should be."""
    if not back.spans:
        host = settings.langfuse.host or ""
        return [_absent("langfuse", "Langfuse", host, back, route)]
    wanted = {span.span_id: span.view_parent or "" for span in sent.in_view}
    extra = [span for span in back.spans if span.span_id not in wanted]
    outside = {span.span_id for span in sent.spans} & {span.span_id for span in extra}
    if outside:  # then the parents are the true ones as well: one cause, one finding
        names = ", ".join(sorted({span.name for span in extra if span.span_id in outside}))
        problems = [
            finding(
                "canary-unfiltered",
                "Langfuse gets spans that are no LLM work.",
                f"not in the LLM view: {names}",
            )
        ]
    else:
        problems = _compare("Langfuse", wanted, back, sent.in_view)
    project = settings.langfuse.project_id
    others = {span.project_id for span in back.spans} - {"", project}
    if project and others:
        problems.append(
            finding(
                "canary-other-project",
                f"The canary is in project {', '.join(sorted(others))}, not in {project}: links "
                "lead nowhere.",
                f"LANGFUSE_PROJECT_ID={project}",
            )
        )
    if settings.capture_on_span and not problems:
        problems += _texts(sent, back)
    return problems


def _texts(sent: SentCanary, back: ReadBack) -> list[Finding]:
    found = []
    calls = [span for span in back.spans if span.name == CALL]
    if sent.marker.encode() not in back.body or not all(span.has_input for span in calls):
        found.append(
            finding(
                "canary-content-missing",
                "Langfuse has the call without its prompt and answer.",
                f"{sent.marker} is not in {back.api}",
            )
        )
    roots = [span for span in back.spans if span.name == ROOT]
    empty = [span for span in roots if not (span.has_input and span.has_output)]
    if empty and not found:
        found.append(
            finding(
                "canary-empty-root",
                "The root in Langfuse has no input or no output, so the trace shows none.",
                f"observation {empty[0].span_id}: input {empty[0].has_input}, output "
                f"{empty[0].has_output}",
            )
        )
    return found


def _compare(
    store: str, wanted: dict[str, str], back: ReadBack, made: tuple[CanarySpan, ...]
) -> list[Finding]:
    """Missing spans, copies, orphans and other parents."""
    names = {span.span_id: span.name for span in made}
    problems = []
    ids = Counter(span.span_id for span in back.spans)
    missing = [names[span_id] for span_id in wanted if span_id not in ids]
    orphans = [span for span in back.spans if _parent(span) and _parent(span) not in ids]
    if orphans:
        below = ", ".join(f"{span.name} below {span.parent_id}" for span in orphans)
        problems.append(
            finding(
                "canary-orphans",
                f"{store} has spans whose parent is not there: the tree has no root.",
                f"{below}; missing: {', '.join(missing) or 'none'}",
            )
        )
    elif missing:
        problems.append(
            finding(
                "canary-spans-missing",
                f"{store} has {len(wanted) - len(missing)} of {len(wanted)} spans of the canary.",
                f"missing after {back.waited_seconds:.0f} s: {', '.join(missing)}",
            )
        )
    if copies := _copies(back.spans, wanted):
        problems.append(
            finding(
                "canary-duplicates",
                f"{store} has spans of the canary more than once.",
                ", ".join(copies),
            )
        )
    other = [
        span for span in back.spans
        if span not in orphans and wanted.get(span.span_id, _parent(span)) != _parent(span)
    ]  # fmt: skip
    if other:
        problems.append(
            finding(
                "canary-parents-differ",
                f"{store} shows another tree than was made.",
                ", ".join(
                    f"{span.name} below {span.parent_id or 'nothing'} instead of "
                    f"{wanted[span.span_id] or 'nothing'}"
                    for span in other
                ),
            )
        )
    return problems


def _parent(span: StoredSpan) -> str:
    return "" if span.parent_id == _ZEROS else span.parent_id


def _copies(spans: tuple[StoredSpan, ...], wanted: dict[str, str]) -> list[str]:
    """Spans that are there twice: by their id, or by their name under another id."""
    by_id = Counter((span.span_id, span.name) for span in spans)
    found = [f"{name} ({number} times)" for (_, name), number in by_id.items() if number > 1]
    strangers = Counter(span.name for span in spans if span.span_id not in wanted)
    found += [f"{name} under another id" for name in strangers]
    return sorted(found)


def _absent(store: str, name: str, where: str, back: ReadBack, route: Route) -> Finding:
    """Why nothing is there, as closely as the Collector's counters allow."""
    seen = f"{where}{back.api}: {back.problem}"
    counters = (
        f"{route.exporter}: {route.sent:.0f} sent, {route.given_up:.0f} given up, "
        f"{route.waiting:.0f} waiting; {seen}"
    )
    if route.given_up > 0:
        return finding(
            f"canary-{store}-refused",
            f"The Collector gave the canary up: {name} refused it for good.",
            counters,
        )
    if route.visible and route.waiting:
        return finding(
            f"canary-{store}-waiting",
            f"The canary waits in the Collector: it cannot reach {name}.",
            counters,
        )
    if route.visible and route.sent > 0:
        return finding(
            f"canary-{store}-elsewhere",
            f"The Collector delivered the canary, but to another {name} or project than the one "
            "configured here.",
            counters,
        )
    if route.visible:
        return finding(
            f"canary-{store}-dropped",
            f"The Collector took the canary and sent nothing of it to {name}.",
            counters,
        )
    return finding(
        f"canary-not-in-{store}",
        f"The canary did not arrive in {name} within {back.waited_seconds:.0f} s.",
        seen,
    )
