"""What a set of spans must not have: prompt text outside of the view, orphans, secrets.

Each function gives one sentence for each fault, with the spans it is about; no sentence repeats
the text it complains of. Rules are those of `policy` and `masks`. Pure: spans in, faults out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from otelbridge import masks, policy, semconv
from otelbridge.testing.spans import Span

Fault = tuple[str, tuple[str, str]]
#: Shorter pieces of a message ("yes", "Paris") stand in other places by chance.
LEAST_PIECE = 12
#: Parts of a message that are no text of a person or a model.
_STRUCTURE = frozenset(
    {"role", "type", "id", "name", "finish_reason", "mime_type", "modality", "uri", "model"}
)
_MARKER = re.compile(r"\[masked(?::([a-z-]+))?\]")


def content_outside_view(spans: Sequence[Span], sent_to_tempo: Sequence[Span]) -> list[Fault]:
    """Message text where only the LLM view may have it.

    Args:
        spans: as the service wrote them.
        sent_to_tempo: the same after the rule of the Tempo branch. Whatever of the text is still
            there stands under a key that nobody takes for content.
    """
    faults: list[Fault] = []
    for span in spans:
        if not policy.in_llm_view(span.attributes):
            faults += [
                (f"{span.name!r} is outside of the LLM view and has {what}", span.key)
                for what in _content_places(span)
            ]
    pieces = {piece for span in spans for piece in _pieces_of(span)}
    for span in sent_to_tempo:
        for where, text in _texts(span):
            if any(piece in text for piece in pieces):
                faults.append((f"{span.name!r} repeats message text in {where}", span.key))
    return faults


def _content_places(span: Span) -> Iterator[str]:
    for key in span.attributes:
        if policy.is_content_key(key):
            yield key
    for event in span.events:
        if policy.is_content_event(event.name):
            yield f"the event {event.name}"


def _pieces_of(span: Span) -> Iterator[str]:
    """Texts of the messages, tool data and documents of a span."""
    content = [
        value
        for key, value in span.attributes.items()
        # The description of a tool stands beside its definition by right.
        if policy.is_content_key(key) and key != semconv.GEN_AI_TOOL_DEFINITIONS
    ]
    for event in span.events:
        whole = policy.is_content_event(event.name)
        content += [
            value for key, value in event.attributes.items() if whole or policy.is_content_key(key)
        ]
    for value in content:
        yield from _leaves(_parsed(value))


def _parsed(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        text = value.strip()
        if len(text) >= LEAST_PIECE:
            yield text
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in _STRUCTURE:
                yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def _texts(span: Span) -> Iterator[tuple[str, str]]:
    """Every text of a span, with the place it stands in."""
    yield "its name", span.name
    yield "its status message", span.status_message
    mappings = [("", span.attributes), ("resource attribute ", span.resource)]
    mappings += [(f"event {event.name}: ", event.attributes) for event in span.events]
    mappings += [("link attribute ", link) for link in span.links]
    for place, mapping in mappings:
        for key, value in mapping.items():
            if isinstance(value, str):
                yield f"{place}{key}", value
            elif isinstance(value, list | dict):
                yield f"{place}{key}", json.dumps(value, ensure_ascii=False, default=str)


def orphans(spans: Sequence[Span], every_span: Sequence[Span]) -> list[Fault]:
    """Spans whose parent is not among them.

    A parent in another process, which cannot be captured, is no fault, nor is a parent in the view
    that such a process has named.

    Args:
        spans: those of a view.
        every_span: those of the traces, with their true parents.
    """
    known = {span.key for span in spans}
    true = {span.key: span for span in every_span}
    faults = []
    for span in spans:
        parent = (span.trace_id, span.parent_id)
        if not span.parent_id or parent in known or _from_outside(span, parent, true):
            continue
        who = f"{true[parent].name!r}, which is not kept" if parent in true else "not captured"
        text = f"{span.name!r} is an orphan: its parent {span.parent_id} is {who}"
        faults.append((text, span.key))
    return faults


def _from_outside(span: Span, parent: tuple[str, str], true: dict[tuple[str, str], Span]) -> bool:
    if parent in true:
        return False
    above: Span | None = true.get(span.key)
    seen = set()
    while above is not None and above.key not in seen:
        seen.add(above.key)
        if above.remote_parent and (above.trace_id, above.parent_id) not in true:
            return True
        above = true.get((above.trace_id, above.parent_id))
    return False


def secrets(spans: Sequence[Span], allow: Sequence[str] = ()) -> list[Fault]:
    """Texts that the masks of otelbridge would change; `allow` has kinds as in `[masked:email]`."""
    faults = []
    for span in spans:
        for where, text in _texts(span):
            if where in masks.UNMASKED_KEYS:
                continue
            faults += [
                (f"{span.name!r} has a secret ({kind}) in {where}", span.key)
                for kind in sorted(_kinds(text) - set(allow))
            ]
        faults += [
            (f"{span.name!r} has a credential header, {key}", span.key)
            for key in sorted(span.attributes.keys() - masks.mask_attributes(span.attributes))
        ]
    return faults


def _kinds(text: str) -> set[str]:
    masked = masks.mask_text(text)
    if masked == text:
        return set()
    before = _MARKER.findall(text)
    found = _MARKER.findall(masked)
    for kind in before:
        if kind in found:
            found.remove(kind)
    return {kind or "parameter" for kind in found} or {"secret"}
