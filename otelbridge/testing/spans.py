"""`Span`: one captured or fetched span as a plain object, and what can be read from it.

Made from OTLP records, so that spans of this process and spans of a Tempo look the same. `values`
reads a field of TraceQL from a span, for messages only: queries are answered by the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from otelbridge import semconv
from otelbridge.local.records import SpanRecord, service_name
from otelbridge.local.traceql import ast
from otelbridge.local.values import attributes_of

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200  # OTLP SpanFlags
_SCOPES = ("span", "resource", "event", "link", "instrumentation")


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a span."""

    name: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Ids are lower-case hexadecimal, `parent_id` is "" on a root; `kind` and `status` are TraceQL's
    words; times are nanoseconds since 1970. `remote_parent`: the parent is in another process.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    kind: str
    status: str
    status_message: str
    start_ns: int
    duration_ns: int
    attributes: dict[str, Any] = field(repr=False)
    resource: dict[str, Any] = field(repr=False)
    events: tuple[Event, ...] = field(repr=False)
    scope: str = ""
    scope_version: str = field(default="", repr=False)
    scope_attributes: dict[str, Any] = field(default_factory=dict, repr=False)
    links: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    remote_parent: bool = False

    def __getitem__(self, key: str) -> Any:
        """The span attribute of that key; KeyError when the span has none."""
        return self.attributes[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The span attribute of that key, or the default."""
        return self.attributes.get(key, default)

    @property
    def duration_seconds(self) -> float:
        """Length in seconds."""
        return self.duration_ns / 1e9

    @property
    def key(self) -> tuple[str, str]:
        """Trace id and span id."""
        return self.trace_id, self.span_id


def from_record(record: SpanRecord) -> Span:
    """A span from its OTLP record."""
    span = record.span
    parent = span.parent_span_id.hex()
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=parent if parent.strip("0") else "",
        service=service_name(record.resource),
        kind=_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "unspecified",
        status=_STATUSES[span.status.code] if 0 <= span.status.code < len(_STATUSES) else "unset",
        status_message=span.status.message,
        start_ns=span.start_time_unix_nano,
        duration_ns=max(0, span.end_time_unix_nano - span.start_time_unix_nano),
        attributes=attributes_of(span.attributes),
        resource=attributes_of(record.resource.attributes),
        events=tuple(Event(event.name, attributes_of(event.attributes)) for event in span.events),
        scope=record.scope.name,
        scope_version=record.scope.version,
        scope_attributes=attributes_of(record.scope.attributes),
        links=tuple(attributes_of(link.attributes) for link in span.links),
        remote_parent=bool(span.flags & _REMOTE_KNOWN and span.flags & _REMOTE),
    )


def held(span: Span, scope: str) -> list[dict[str, Any]]:
    """The attribute mappings of a span in one scope of TraceQL."""
    match scope:
        case "span":
            return [span.attributes]
        case "resource":
            return [span.resource]
        case "event":
            return [event.attributes for event in span.events]
        case "link":
            return list(span.links)
        case _:
            return [span.scope_attributes]


def values(span: Span, node: ast.Attribute | ast.Intrinsic) -> list[Any]:
    """What a span has for a field: nothing, one value, or one for each event or link."""
    if isinstance(node, ast.Attribute):
        for scope in (node.scope,) if node.scope else _SCOPES:
            found = [each[node.key] for each in held(span, scope) if node.key in each]
            if found:
                return found
        return []
    known: dict[str, Any] = {
        "name": span.name,
        "status": span.status,
        "statusMessage": span.status_message,
        "kind": span.kind,
        "duration": f"{span.duration_ns / 1e6:g}ms",
        "span:id": span.span_id,
        "span:parentID": span.parent_id,
        "trace:id": span.trace_id,
        "instrumentation:name": span.scope,
        "instrumentation:version": span.scope_version,
    }
    if node.name == "event:name":
        return [event.name for event in span.events]
    return [known[node.name]] if node.name in known else []


def value_type(value: Any) -> str:
    """The type letters of `store.columns.ValueType`, or "other"."""
    for cls, letter in ((str, "s"), (bool, "b"), (int, "i"), (float, "d")):
        if isinstance(value, cls):
            return letter
    if isinstance(value, list) and value:
        kinds = {value_type(item) for item in value}
        if len(kinds) == 1 and (kind := kinds.pop()) != "other" and len(kind) == 1:
            return kind if len(value) == 1 else kind * 2  # one element counts as itself
    return "other"


def stored_types(spans: list[Span]) -> dict[tuple[str, str], set[str]]:
    """Which types each attribute has, by scope and key, as `traceql.lint` takes it."""
    found: dict[tuple[str, str], set[str]] = {}
    for span in spans:
        for scope in _SCOPES:
            for mapping in held(span, scope):
                for key, value in mapping.items():
                    found.setdefault((scope, key), set()).add(value_type(value))
    return found


def number(span: Span, key: str) -> float | None:
    """A figure of a span, None when it has none or something other than a number."""
    value = span.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def summary(span: Span) -> str:
    """Model, tokens and cost of a gen_ai span in a few words; "" for other spans."""
    parts = []
    model = span.get(semconv.GEN_AI_REQUEST_MODEL) or span.get(semconv.GEN_AI_RESPONSE_MODEL)
    if model and str(model) not in span.name:
        parts.append(str(model))
    tokens = [
        span.get(key, "?")
        for key in (semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.GEN_AI_USAGE_OUTPUT_TOKENS)
    ]
    if tokens != ["?", "?"]:
        parts.append(f"{tokens[0]!r}→{tokens[1]!r} tokens".replace("'?'", "?"))
    cost = span.get(semconv.GEN_AI_USAGE_COST)
    if cost is not None:
        parts.append(f"${cost:.6g}" if isinstance(cost, int | float) else f"cost {cost!r}")
    return " ".join(parts)
