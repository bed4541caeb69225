"""What happens to one span's attributes at the entry, for Tempo and for Langfuse, step by step.

The Collector does the same with the statements generated from the same tables (`policy`, `masks`,
`dialects`, `langfuse_policy`); `exporters.branches` and `local.rules` apply these functions to
spans of the SDK and of OTLP, and `tests/collector/test_parity.py` compares the three. Mappings in,
mappings out, never changed in place: what comes back unchanged is the same object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from otelbridge import dialects, langfuse_policy, masks, policy, semconv

#: Value of the resource attribute `otelbridge.branch` once the Tempo rule has been applied.
TEMPO_BRANCH: Final = "tempo"
_SCRUBBED_RESOURCE: Final = frozenset({semconv.PROCESS_COMMAND_LINE, semconv.PROCESS_COMMAND_ARGS})
#: Without one of these no dialect is tried and no gen_ai name settled.
_DIALECT_KEYS: Final = frozenset(policy.GEN_AI_KEYS).union(
    *(dialect.when for dialect in dialects.DIALECTS)
)
#: Span attribute, its name for Langfuse, which is a resource attribute in Tempo.
_OWNERS: Final = (
    (semconv.USER_ID, semconv.LANGFUSE_USER_ID),
    (semconv.SESSION_ID, semconv.LANGFUSE_SESSION_ID),
)
#: Asked for each attribute of each span; services use few keys.
_is_content_key = lru_cache(maxsize=4096)(policy.is_content_key)
#: A character of UTF-8 has four bytes at most: no text of fewer characters is over the limit.
_SURELY_SHORT: Final = policy.TEMPO_VALUE_BYTES // 4

#: Data source and dashboard of the links to Grafana, fixed as in `grafana/`.
_DATASOURCE: Final = {"type": "tempo", "uid": "otelbridge-tempo"}
_DASHBOARD: Final = "otelbridge-traces"
_BEFORE_MS: Final = 900_000  # the time range of those links, around the start of the span
_AFTER_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Pages:
    """Base URLs of the two stores' pages in a browser; empty text leaves the links out.

    `grafana_links` is `explore`, or `dashboard` where viewers may not open Explore.
    """

    langfuse_url: str = ""
    langfuse_project_id: str = ""
    grafana_url: str = ""
    grafana_links: str = "explore"


NO_PAGES: Final = Pages()


@dataclass(frozen=True, slots=True)
class Place:
    """A span's ids as hex digits and its start, for links."""

    trace_id: str
    span_id: str
    start_time_ns: int


# -- entry: both sides -----------------------------------------------------------------------------
def entered(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Span attributes after the entry: secrets masked, current gen_ai names beside the others."""
    masked = _masked(attributes, masks.mask_changes(attributes))
    if _DIALECT_KEYS.isdisjoint(masked):
        return masked
    return dialects.normalise(masked, policy.GEN_AI_KEYS)


def entered_event(name: str, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Attributes of an event after the entry; those of a link with an empty name."""
    if not attributes:
        return attributes
    masked = _masked(attributes, masks.mask_changes(attributes, unmasked=()))
    if name == semconv.GEN_AI_EVALUATION_RESULT_EVENT:
        score = masked.get(semconv.GEN_AI_EVALUATION_SCORE_VALUE)
        if isinstance(score, int) and not isinstance(score, bool):
            return {**masked, semconv.GEN_AI_EVALUATION_SCORE_VALUE: float(score)}
    return masked


def _masked(attributes: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
    if not changes:
        return attributes
    kept = {**attributes, **changes}
    return {key: value for key, value in kept.items() if value is not None}


def entered_text(text: str) -> str:
    """A span's name, an event's name or a status message after the entry."""
    return masks.mask_text(text)


def entered_resource(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resource attributes after the entry: without command lines, secrets masked."""
    changes: dict[str, str | None] = {
        key: masks.mask_text(value)
        for key, value in attributes.items()
        if isinstance(value, str)
        and key not in masks.UNMASKED_RESOURCE_KEYS
        and masks.may_hold_secret(value)
    }
    changes.update((key, None) for key in _SCRUBBED_RESOURCE.intersection(attributes))
    return _masked(attributes, changes)


def surely_outside_the_view(attributes: Mapping[str, Any]) -> bool:
    """Whether a span cannot be in the LLM view, seen before the entry."""
    keep = attributes.get(semconv.LLM_KEEP)
    if keep is None:
        return _DIALECT_KEYS.isdisjoint(attributes)
    return not (keep is True or keep == "true")


# -- Tempo -----------------------------------------------------------------------------------------
def tempo_span(
    attributes: Mapping[str, Any], *, content_elsewhere: bool, place: Place, pages: Pages
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Attributes of a span in Tempo, and those that go to its resource.

    Args:
        attributes: As `entered` gives them.
        content_elsewhere: Whether its events or links had message content.
    """
    kept = _without_content(attributes)
    if content_elsewhere or kept is not attributes:
        kept = {**kept, semconv.CONTENT_REMOVED: True}
    if semconv.OVERSIZE in kept:
        kept = {key: value for key, value in kept.items() if key != semconv.OVERSIZE}
    kept = _bounded(kept)
    owners: dict[str, Any] = {}
    for source, target in _OWNERS:
        if target in kept:
            owners[target] = kept[target]
            kept = {key: value for key, value in kept.items() if key != target}
        elif kept.get(source, "") != "":
            owners[target] = kept[source]
    linked = pages.langfuse_url and pages.langfuse_project_id
    if linked and policy.is_gen_ai(kept) and policy.in_llm_view(kept):
        kept = {**kept, semconv.LANGFUSE_URL: langfuse_page(pages, place.trace_id, place.span_id)}
    return kept, owners


def langfuse_page(pages: Pages, trace_id: str, span_id: str = "") -> str:
    """A trace in Langfuse, with the observation of one span selected when it is given."""
    page = f"{pages.langfuse_url}/project/{pages.langfuse_project_id}/traces/{trace_id}"
    return f"{page}?observation={span_id}" if span_id else page


def tempo_event(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Attributes of an event or link in Tempo, and whether it had message content."""
    if not attributes:
        return attributes, False
    kept = _without_content(attributes)
    return _without_broken_end(_bounded(kept)), kept is not attributes


def tempo_resource(attributes: Mapping[str, Any], owners: Mapping[str, Any]) -> dict[str, Any]:
    """Resource attributes in Tempo: marked, cut, with the user and session of its spans."""
    limit = policy.TEMPO_VALUE_BYTES
    kept: dict[str, Any] = {**entered_resource(attributes), semconv.BRANCH: TEMPO_BRANCH}
    for key, value in kept.items():
        if isinstance(value, str) and len(value) > _SURELY_SHORT:
            kept[key] = value.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
    return {**_without_broken_end(kept), **owners}


def _without_content(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {key: value for key, value in attributes.items() if not _is_content_key(key)}
    return attributes if len(kept) == len(attributes) else kept


def _bounded(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    long = {
        key: value
        for key, value in attributes.items()
        if isinstance(value, str) and len(value) > _SURELY_SHORT
    }
    bounded = policy.bounded_attributes(long) if long else long
    return attributes if bounded == long else {**attributes, **bounded}


def _without_broken_end(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is left of a cut character goes, whoever has cut it."""
    changed = {
        key: value.rstrip("\ufffd")
        for key, value in attributes.items()
        if isinstance(value, str) and value.endswith("\ufffd")
    }
    return {**attributes, **changed} if changed else attributes


# -- Langfuse --------------------------------------------------------------------------------------
def langfuse_span(
    attributes: Mapping[str, Any], true_parent: str, *, place: Place, pages: Pages
) -> tuple[Mapping[str, Any], str] | None:
    """Attributes and parent of a span in Langfuse; None when it is outside of the LLM view.

    Args:
        attributes: As `entered` gives them.
        true_parent: 16 hex digits, or empty text for a root; likewise in the answer.
    """
    if not policy.in_llm_view(attributes):
        return None
    sent = langfuse_policy.langfuse_attributes(attributes, place.start_time_ns)
    if pages.grafana_url and semconv.GRAFANA_URL not in sent:
        sent[semconv.GRAFANA_URL] = grafana_page(pages, place)
    parent = policy.view_parent(attributes, true_parent)
    return sent, parent


def grafana_page(pages: Pages, place: Place) -> str:
    """A span in Grafana, in a time range of an hour from its start on; see `grafana_range_page`."""
    start_ms = place.start_time_ns // 1_000_000
    span = (str(start_ms - _BEFORE_MS), str(start_ms + _AFTER_MS))
    return grafana_range_page(pages, place.trace_id, place.span_id, span)


def grafana_range_page(
    pages: Pages, trace_id: str, span_id: str, time_range: tuple[str, str]
) -> str:
    """A trace in Grafana (13.x): Explore in its `panes` form, or the dashboard of traces.

    Args:
        pages: With a `grafana_url`.
        trace_id: 32 hex digits.
        span_id: 16 hex digits, the span that Explore opens; empty text for none. A dashboard
            cannot be told one.
        time_range: Milliseconds as text, or what Grafana's time picker takes (`now-1h`).
    """
    begin, end = time_range
    if pages.grafana_links == "dashboard":
        page = f"{pages.grafana_url}/d/{_DASHBOARD}?var-traceId={trace_id}"
        return f"{page}&from={begin}&to={end}"
    query = {"refId": "A", "datasource": _DATASOURCE, "queryType": "traceql"}
    pane: dict[str, Any] = {
        "datasource": _DATASOURCE["uid"],
        "queries": [{**query, "query": trace_id}],
        "range": {"from": begin, "to": end},
    }
    if span_id:
        pane["panelsState"] = {"trace": {"spanId": span_id}}
    panes = quote(json.dumps({"tmp": pane}, separators=(",", ":")), safe="")
    return f"{pages.grafana_url}/explore?schemaVersion=1&orgId=1&panes={panes}"
