"""Reads a trace back from each side over HTTP, as a user's tools would.

`tempo_trace` asks Tempo's API (OTLP JSON), `langfuse_trace` Langfuse's observations API. Both give
a `View`: spans by id, and the raw answer, so that a check can search all of it. Written apart from
the readers of `otelbridge trace`, so that one mistake cannot hide in both. Knows nothing of the
demo's requests.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from otelbridge import semconv


@dataclass(frozen=True, slots=True)
class ViewSpan:
    """One span as a view answers it; ids in lower-case hex, `parent` empty for a root.

    `attributes` are span attributes on the Tempo side, an observation's fields (`input`, `userId`,
    `totalCost`, ...) on the Langfuse side.
    """

    span_id: str
    parent: str
    name: str
    service: str
    attributes: Mapping[str, Any]
    status: str
    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class View:
    """A trace in one view; no spans when that side does not have it."""

    trace_id: str
    spans: Mapping[str, ViewSpan]
    raw: str = field(repr=False)

    @property
    def roots(self) -> list[ViewSpan]:
        """Spans without a parent id."""
        return [span for span in self.spans.values() if not span.parent]

    @property
    def orphans(self) -> list[ViewSpan]:
        """Spans whose parent is named but not there."""
        return [s for s in self.spans.values() if s.parent and s.parent not in self.spans]

    @property
    def services(self) -> set[str]:
        """Names of the services that have spans here."""
        return {span.service for span in self.spans.values()}


def tempo_trace(client: httpx.Client, base_url: str, trace_id: str) -> View:
    """The trace from a Tempo API, empty when it answers 404.

    Raises:
        httpx.HTTPError: no answer, or a status other than 2xx and 404.
    """
    accept = {"Accept": "application/json"}
    reply = client.get(f"{base_url}/api/v2/traces/{trace_id}", headers=accept)
    if reply.status_code == httpx.codes.NOT_FOUND:
        return View(trace_id, {}, "")
    reply.raise_for_status()
    return View(trace_id, {span.span_id: span for span in parse(reply.json())}, reply.text)


def langfuse_trace(
    client: httpx.Client, base_url: str, trace_id: str, keys: tuple[str, str]
) -> View:
    """The trace's observations from a Langfuse API, empty when it has none.

    Args:
        keys: Public and secret key.
    Raises:
        httpx.HTTPError: no answer, or a status other than 2xx.
    """
    query = {
        "traceId": trace_id, "limit": "1000",
        "fields": "core,basic,time,io,metadata,model,usage,trace_context",
    }  # fmt: skip
    reply = client.get(f"{base_url}/api/public/v2/observations", params=query, auth=keys)
    reply.raise_for_status()
    spans = {}
    for item in reply.json()["data"]:
        resource = (item.get("metadata") or {}).get("resourceAttributes") or {}
        spans[item["id"]] = ViewSpan(
            span_id=item["id"],
            parent=item.get("parentObservationId") or "",
            name=item["name"],
            service=str(resource.get(semconv.SERVICE_NAME, "")),
            attributes=item,
            status=item.get("level") or "",
            start_ns=nanoseconds(item["startTime"]),
            end_ns=nanoseconds(item.get("endTime") or item["startTime"]),
        )
    return View(trace_id, spans, reply.text)


def nanoseconds(text: str) -> int:
    """An ISO-8601 time as nanoseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1e9)


def parse(body: Mapping[str, Any]) -> Iterator[ViewSpan]:
    """Spans of a Tempo answer (v2: `trace.resourceSpans`)."""
    for part in body["trace"].get("resourceSpans", []):
        resource = attributes(part.get("resource", {}).get("attributes", []))
        service = str(resource.get(semconv.SERVICE_NAME, ""))
        for scope in part.get("scopeSpans", []):
            for span in scope.get("spans", []):
                yield ViewSpan(
                    span_id=hex_id(span["spanId"], 8),
                    parent=hex_id(span.get("parentSpanId", ""), 8),
                    name=span.get("name", ""),
                    service=service,
                    attributes=attributes(span.get("attributes", [])),
                    status=str(span.get("status", {}).get("code", "STATUS_CODE_UNSET")),
                    start_ns=int(span["startTimeUnixNano"]),
                    end_ns=int(span["endTimeUnixNano"]),
                )


def attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """OTLP JSON attributes as a mapping of Python values."""
    return {pair["key"]: value_of(pair.get("value", {})) for pair in pairs}


def value_of(value: Mapping[str, Any]) -> Any:
    """One OTLP JSON value; 64-bit integers come as text there."""
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [value_of(item) for item in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return attributes(value["kvlistValue"].get("values", []))
    return next(iter(value.values()), None)


def hex_id(text: str, size: int) -> str:
    """An id as hex: Tempo answers base64, OTLP JSON hex; all zeros and empty mean none."""
    if not text:
        return ""
    if len(text) != 2 * size:
        try:
            text = base64.b64decode(text, validate=True).hex()
        except binascii.Error:
            return text
    return "" if text.strip("0") == "" else text.lower()
