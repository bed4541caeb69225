"""A plain-Python evaluator of TraceQL: the oracle that the SQL answers are held against.

It works on decoded spans, one at a time and with no indexes, in the clean semantics of the
design (section 6): two-valued comparisons, one event per binding, numeric comparison over types.
It shares the syntax tree and the canonical text with the product and nothing else.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.printing import to_text

#: A typed value: type letter of `columns.ValueType`, or "dur", "status", "kind"; None is nil.
Value = tuple[str, Any] | None
STATUS = ("unset", "ok", "error")
KIND = ("unspecified", "internal", "server", "client", "producer", "consumer")
_NUMERIC = ("i", "d", "dur")
_ARRAYS = ("ss", "ii", "dd", "bb")
_LITERALS = {
    "int": "i", "float": "d", "string": "s", "bool": "b", "duration": "dur",
    "status": "status", "kind": "kind",
}  # fmt: skip
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


@dataclass
class Event:
    """An event of a span."""

    name: str
    since_start_ns: int
    attributes: dict[str, Value]


@dataclass
class Link:
    """A link of a span; ids as padded hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Value]


@dataclass
class Span:
    """A decoded span with what is derived from its trace."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    status: int
    status_message: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    resource: dict[str, Value]
    scope_name: str
    scope_version: str
    scope: dict[str, Value]
    events: list[Event] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    nested_left: int = 0
    nested_right: int = 0
    nested_parent: int = 0
    child_count: int = 0
    root_name: str = ""
    root_service: str = ""
    trace_start_ns: int = 0
    trace_duration_ns: int = 0

    @property
    def duration_ns(self) -> int:
        """Nanoseconds; 0 when it ends before it starts."""
        return max(0, self.end_ns - self.start_ns)


@dataclass
class Spanset:
    """Spans of one trace that belong together, with the attributes of the pipeline."""

    spans: list[Span]
    attributes: list[tuple[str, Value]] = field(default_factory=list)


# -- decoding --------------------------------------------------------------------------------------


def typed(value: dict[str, Any]) -> Value:
    """An OTLP/JSON value as the store keeps it: None for what TraceQL cannot see."""
    if "stringValue" in value:
        return "s", value["stringValue"]
    if "intValue" in value:
        return "i", int(value["intValue"])
    if "doubleValue" in value:
        return "d", float(value["doubleValue"])
    if "boolValue" in value:
        return "b", bool(value["boolValue"])
    if "arrayValue" in value:
        items = [typed(item) for item in value["arrayValue"].get("values", [])]
        kinds = {item[0] if item else "" for item in items}
        if len(kinds) != 1 or not kinds <= {"s", "i", "d", "b"}:
            return None
        if len(items) == 1:
            return items[0]
        return kinds.pop() * 2, tuple(item[1] for item in items if item)
    return None


def _attributes(pairs: Iterable[dict[str, Any]]) -> dict[str, Value]:
    found = {pair["key"]: typed(pair["value"]) for pair in pairs}
    return {key: value for key, value in found.items() if value is not None}


def decode(requests: Iterable[dict[str, Any]]) -> list[list[Span]]:
    """The traces of OTLP/JSON requests, numbered; the last of two equal span ids counts."""
    traces: dict[str, dict[str, Span]] = {}
    for request in requests:
        for group in request["resourceSpans"]:
            resource = _attributes(group.get("resource", {}).get("attributes", []))
            resource.setdefault("service.name", ("s", ""))
            for scoped in group["scopeSpans"]:
                scope = scoped.get("scope", {})
                for raw in scoped["spans"]:
                    span = _span(raw, resource, scope)
                    traces.setdefault(span.trace_id, {})[span.span_id] = span
    return [number(list(spans.values())) for spans in traces.values()]


def _span(raw: dict[str, Any], resource: dict[str, Value], scope: dict[str, Any]) -> Span:
    start = int(raw["startTimeUnixNano"])
    status = raw.get("status", {})
    return Span(
        trace_id=raw["traceId"].lower().zfill(32),
        span_id=raw["spanId"].lower().zfill(16),
        parent_id=raw.get("parentSpanId", "").lower(),
        name=raw.get("name", ""),
        kind=int(raw.get("kind", 0)),
        status=int(status.get("code", 0)),
        status_message=status.get("message", ""),
        start_ns=start,
        end_ns=int(raw["endTimeUnixNano"]),
        attributes=_attributes(raw.get("attributes", [])),
        resource=resource,
        scope_name=scope.get("name", ""),
        scope_version=scope.get("version", ""),
        scope=_attributes(scope.get("attributes", [])),
        events=[
            Event(
                event.get("name", ""),
                int(event["timeUnixNano"]) - start,
                _attributes(event.get("attributes", [])),
            )
            for event in raw.get("events", [])
        ],
        links=[
            Link(
                link["traceId"].lower().zfill(32),
                link["spanId"].lower().zfill(16),
                _attributes(link.get("attributes", [])),
            )
            for link in raw.get("links", [])
        ],
    )


def number(spans: list[Span]) -> list[Span]:
    """Fill in the nested-set numbers and trace values; children by start time, then span id."""
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
        children.setdefault(span.parent_id, []).append(span)
    for span in spans:
        span.child_count = len(children.get(span.span_id, []))
        span.nested_left = span.nested_right = span.nested_parent = 0
    counter = itertools.count(1)

    def visit(span: Span, parent: int) -> None:
        span.nested_parent, span.nested_left = parent, next(counter)
        for child in children.get(span.span_id, []):
            visit(child, span.nested_left)
        span.nested_right = next(counter)

    for root in children.get("", []):
        visit(root, -1)
    roots = children.get("", [])
    for span in spans:
        span.trace_start_ns = min(s.start_ns for s in spans)
        span.trace_duration_ns = (
            max(s.start_ns + s.duration_ns for s in spans) - span.trace_start_ns
        )
        if roots:
            span.root_name = roots[-1].name
            service = roots[-1].resource["service.name"]
            span.root_service = service[1] if service and service[0] == "s" else ""
    return spans


# -- field expressions -----------------------------------------------------------------------------

Binding = tuple[Event | None, Link | None]


def _intrinsic(span: Span, binding: Binding, name: str) -> Value:
    event, link = binding
    if name.startswith("event:"):
        if event is None:
            return None
        return ("s", event.name) if name == "event:name" else ("dur", event.since_start_ns)
    if name.startswith("link:"):
        if link is None:
            return None
        return "s", link.trace_id if name == "link:traceID" else link.span_id
    simple: dict[str, Value] = {
        "duration": ("dur", span.duration_ns),
        "name": ("s", span.name),
        "status": ("status", STATUS[span.status]),
        "statusMessage": ("s", span.status_message),
        "kind": ("kind", KIND[span.kind]),
        "rootName": ("s", span.root_name),
        "rootServiceName": ("s", span.root_service),
        "traceDuration": ("dur", span.trace_duration_ns),
        "nestedSetLeft": ("i", span.nested_left),
        "nestedSetRight": ("i", span.nested_right),
        "nestedSetParent": ("i", span.nested_parent),
        "span:id": ("s", span.span_id),
        "span:parentID": ("s", span.parent_id),
        "span:childCount": ("i", span.child_count),
        "trace:id": ("s", span.trace_id),
        "instrumentation:name": ("s", span.scope_name),
        "instrumentation:version": ("s", span.scope_version),
    }
    return simple[name]


def _attribute(span: Span, binding: Binding, node: ast.Attribute) -> Value:
    event, link = binding
    scopes: dict[str, dict[str, Value]] = {
        "span": span.attributes,
        "resource": span.resource,
        "instrumentation": span.scope,
        "event": event.attributes if event else {},
        "link": link.attributes if link else {},
    }
    if node.scope:
        return scopes[node.scope].get(node.key)
    for scope in ("span", "resource", "instrumentation"):
        if node.key in scopes[scope]:
            return scopes[scope][node.key]
    return None


def evaluate(span: Span, binding: Binding, node: ast.FieldExpr) -> Value:
    """The value of an expression on one span and one of its events and links."""
    if isinstance(node, ast.Literal):
        return None if node.kind == "nil" else (_LITERALS[node.kind], node.value)
    if isinstance(node, ast.Intrinsic):
        return _intrinsic(span, binding, node.name)
    if isinstance(node, ast.Attribute):
        return _attribute(span, binding, node)
    if isinstance(node, ast.Unary):
        return _unary(span, binding, node)
    left, right = evaluate(span, binding, node.left), evaluate(span, binding, node.right)
    if node.op == "&&":
        return "b", left == ("b", True) and right == ("b", True)
    if node.op == "||":
        return "b", left == ("b", True) or right == ("b", True)
    if node.op in ("+", "-", "*", "/", "%", "^"):
        return arithmetic(node.op, left, right)
    if _is_nil(node.left) or _is_nil(node.right):
        return "b", (left is None and right is None) == (node.op == "=")
    if node.op == "=" and _is_predicate(node.left) and _is_predicate(node.right):
        return "b", left == right == ("b", True)  # as Tempo: both are demanded of the span
    if node.op in ("=", "!="):
        right = _padded(node.left, node.right, right)
        left = _padded(node.right, node.left, left)
    return "b", compare(node.op, left, right)


def _unary(span: Span, binding: Binding, node: ast.Unary) -> Value:
    if node.op == "!" and _is_predicate(node.operand):
        # Negation closes over its own events: the complement of "some event ...".
        return "b", not matches(span, node.operand)
    value = evaluate(span, binding, node.operand)
    if node.op == "!":
        return ("b", not value[1]) if value and value[0] == "b" else None
    if value is None or value[0] not in _NUMERIC:
        return None
    return _integer(value[0], -value[1]) if value[0] != "d" else ("d", -value[1])


def _padded(one: ast.FieldExpr, other: ast.FieldExpr, value: Value) -> Value:
    """A trace id in the query may be written without its leading zeros."""
    is_id = isinstance(one, ast.Intrinsic) and one.name == "trace:id"
    if is_id and isinstance(other, ast.Literal) and value and value[0] == "s" and value[1]:
        return "s", value[1].rjust(32, "0")
    return value


def _is_nil(node: ast.FieldExpr) -> bool:
    return isinstance(node, ast.Literal) and node.kind == "nil"


def _is_predicate(node: ast.FieldExpr) -> bool:
    if isinstance(node, ast.Unary):
        return node.op == "!" and _is_predicate(node.operand)
    return isinstance(node, ast.Binary) and node.op not in ("+", "-", "*", "/", "%", "^")


def compare(op: str, left: Value, right: Value) -> bool:
    """A two-valued comparison: nil and foreign types never match, arrays match by any element."""
    if left is None or right is None:
        return False
    if left[0] in _ARRAYS and right[0] in _ARRAYS:
        return False
    if left[0] in _ARRAYS:
        return any(compare(op, (left[0][0], item), right) for item in left[1])
    if right[0] in _ARRAYS:
        return any(compare(op, left, (right[0][0], item)) for item in right[1])
    a, b = left[1], right[1]
    if left[0] in _NUMERIC and right[0] in _NUMERIC:
        if "d" in (left[0], right[0]):
            a, b = float(a), float(b)
    elif left[0] != right[0]:
        return False
    if op in ("=~", "!~"):
        return left[0] == "s" and (re.fullmatch(b, a) is not None) == (op == "=~")
    if op in ("=", "!="):
        return bool((a == b) == (op == "="))
    if left[0] == "s":
        a, b = a.encode(), b.encode()
    ordered = left[0] == "s" or left[0] in _NUMERIC
    order = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[op]
    return ordered and bool(order(a, b))


def _integer(kind: str, number: int) -> Value:
    return (kind, number) if INT_MIN <= number <= INT_MAX else None


def arithmetic(op: str, left: Value, right: Value) -> Value:
    """Arithmetic; nil on nil, foreign types, division by zero and integer overflow."""
    if left is None or right is None or left[0] not in _NUMERIC or right[0] not in _NUMERIC:
        return None
    a, b = left[1], right[1]
    try:
        if "d" in (left[0], right[0]):
            a, b = float(a), float(b)
            if op in ("/", "%") and b == 0:
                return None
            result = {
                "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b,
                "/": lambda: a / b, "%": lambda: math.fmod(a, b), "^": lambda: math.pow(a, b),
            }[op]()  # fmt: skip
            return ("d", result) if math.isfinite(result) else None
        kind = "dur" if "dur" in (left[0], right[0]) else "i"
        if op == "^":
            return _integer(kind, math.trunc(math.pow(a, b)))
        if op in ("/", "%"):
            if b == 0:
                return None
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return _integer(kind, quotient if op == "/" else a - b * quotient)
        return _integer(kind, {"+": a + b, "-": a - b, "*": a * b}[op])
    except (OverflowError, ValueError):
        return None


def scopes_of(node: Any) -> set[str]:
    """Which of event and link an expression mentions outside negations."""
    if isinstance(node, ast.Attribute):
        return {node.scope} & {"event", "link"}
    if isinstance(node, ast.Intrinsic):
        return {node.name.partition(":")[0]} & {"event", "link"}
    if isinstance(node, ast.Unary):
        if node.op == "!" and _is_predicate(node.operand):
            return set()
        return scopes_of(node.operand)
    if isinstance(node, ast.Binary):
        return scopes_of(node.left) | scopes_of(node.right)
    return set()


def bindings(span: Span, node: ast.FieldExpr) -> Iterator[Binding]:
    """Each event with each link, as far as the expression mentions them; none counts as one."""
    scopes = scopes_of(node)
    events: list[Any] = span.events if "event" in scopes else []
    links: list[Any] = span.links if "link" in scopes else []
    return itertools.product(events or [None], links or [None])


def matches(span: Span, node: ast.FieldExpr) -> bool:
    """Whether `{ node }` takes the span."""
    return any(evaluate(span, bound, node) == ("b", True) for bound in bindings(span, node))


def value_of(span: Span, node: ast.FieldExpr) -> Value:
    """The value for grouping and aggregates: of the first event or link that has one."""
    for bound in bindings(span, node):
        value = evaluate(span, bound, node)
        if value is not None:
            return value
    return None


# -- pipelines -------------------------------------------------------------------------------------


def search(traces: list[list[Span]], query: ast.Query) -> dict[str, list[Spanset]]:
    """The spansets of each trace that has any."""
    found = {}
    for spans in traces:
        sets = run(query.pipeline, [Spanset(list(spans))])
        if sets:
            found[spans[0].trace_id] = sets
    return found


def run(pipeline: ast.Pipeline, sets: list[Spanset]) -> list[Spanset]:
    """Spansets of one trace through the elements of a pipeline."""
    for element in pipeline.elements:
        if isinstance(element, ast.Pipeline):
            sets = run(element, sets)
            continue
        sets = [result for one in sets for result in _step(element, one)]
        if isinstance(element, ast.Coalesce) and sets:
            merged = {id(span): span for one in sets for span in one.spans}
            sets = [Spanset(list(merged.values()))]
    return sets


def _step(element: ast.Element, one: Spanset) -> list[Spanset]:
    if isinstance(element, (ast.SpansetFilter, ast.SpansetOperation)):
        spans = _operand(element, one)
        return [Spanset(spans, one.attributes)] if spans else []
    if isinstance(element, ast.GroupBy):
        groups: dict[Value, list[Span]] = {}
        for span in one.spans:
            groups.setdefault(group_value(span, element.expr), []).append(span)
        return [
            Spanset(spans, [*one.attributes, (to_text(element), value)])
            for value, spans in groups.items()
        ]
    if isinstance(element, ast.ScalarFilter):
        return _scalar_filter(element, one)
    return [one]


def group_value(span: Span, node: ast.FieldExpr) -> Value:
    """A group key: nil is its own group, arithmetic without a value is the group false."""
    value = value_of(span, node)
    if value is None and isinstance(node, (ast.Binary, ast.Unary)):
        return "b", False
    if value is not None and value[0] == "d" and value[1] == 0:
        return "d", 0.0
    return value


def _operand(node: Any, one: Spanset) -> list[Span]:
    """The spans that an operand of a spanset expression takes."""
    if isinstance(node, ast.SpansetFilter):
        return [span for span in one.spans if matches(span, node.expr)]
    if isinstance(node, ast.Pipeline):
        kept = {id(span) for found in run(node, [one]) for span in found.spans}
        return [span for span in one.spans if id(span) in kept]
    left, right = _operand(node.left, one), _operand(node.right, one)
    if node.op == "&&":
        kept = {id(span) for span in left + right} if left and right else set()
    elif node.op == "||":
        kept = {id(span) for span in left + right}
    else:
        kept = _structural(node.op, left, right)
    return [span for span in one.spans if id(span) in kept]


def _structural(op: str, left: list[Span], right: list[Span]) -> set[int]:
    relation = op.lstrip("!&")
    pairs = [(a, b) for a in left for b in right if related(relation, a, b)]
    hit = {id(b) for _a, b in pairs}
    if op.startswith("!"):
        return {id(b) for b in right} - hit
    return hit | {id(a) for a, _b in pairs} if op.startswith("&") else hit


def related(op: str, a: Span, b: Span) -> bool:
    """Whether `{a} op {b}` holds for two spans of a trace."""
    if a.nested_left == 0 or b.nested_left == 0:
        return False
    if op == ">":
        return b.nested_parent == a.nested_left
    if op == ">>":
        return a.nested_left < b.nested_left and b.nested_right < a.nested_right
    if op == "<":
        return a.nested_parent == b.nested_left
    if op == "<<":
        return b.nested_left < a.nested_left and a.nested_right < b.nested_right
    return a is not b and a.nested_parent == b.nested_parent


def _scalar_filter(node: ast.ScalarFilter, one: Spanset) -> list[Spanset]:
    assert isinstance(node.left, ast.Aggregate)
    assert isinstance(node.right, ast.Literal)
    value = aggregate(node.left, one.spans)
    if value is None or not compare(node.op, value, (_LITERALS[node.right.kind], node.right.value)):
        return []
    return [Spanset(one.spans, [*one.attributes, (to_text(node.left), value)])]


def aggregate(node: ast.Aggregate, spans: list[Span]) -> Value:
    """An aggregate over the numeric values; nil when there are none."""
    if node.argument is None:
        return "i", len(spans)
    values = [value_of(span, node.argument) for span in spans]
    numbers = [value for value in values if value and value[0] in _NUMERIC]
    if not numbers:
        return None
    others = any(value and value[0] not in _NUMERIC for value in values)
    if others and node.function in ("sum", "avg"):
        return None
    kinds = {value[0] for value in numbers}
    kind = "d" if "d" in kinds else "dur" if "dur" in kinds else "i"
    if node.function in ("min", "max"):
        best = numbers[0]
        op = "<" if node.function == "min" else ">"
        for value in numbers[1:]:
            best = value if compare(op, value, best) else best
        return kind, float(best[1]) if kind == "d" else best[1]
    total = sum(float(value[1]) if kind == "d" else value[1] for value in numbers)
    if node.function == "sum":
        return kind, total
    if kind == "dur":
        return kind, abs(total) // len(numbers) * (1 if total >= 0 else -1)
    return "d", total / len(numbers)


# -- metrics ---------------------------------------------------------------------------------------

#: Labels of a series as sorted pairs, and its samples by bucket.
Labels = tuple[tuple[str, Value], ...]
Series = dict[Labels, dict[int, float]]


def metrics(
    traces: list[list[Span]], query: ast.Query, start_ns: int, step_ns: int, buckets: int
) -> Series:
    """Samples by bucket number; bucket i covers (start + i * step, start + (i + 1) * step]."""
    node = query.metrics
    assert node is not None
    end_ns = start_ns + step_ns * buckets
    spans = {
        id(span): span
        for sets in search(traces, query).values()
        for one in sets
        for span in one.spans
        if start_ns < span.start_ns <= end_ns
    }
    grouped: dict[Labels, dict[int, list[Span]]] = {}
    for span in spans.values():
        bucket = -((start_ns - span.start_ns) // step_ns) - 1
        labels = tuple((to_text(key), value_of(span, key)) for key in node.by)
        grouped.setdefault(labels, {}).setdefault(bucket, []).append(span)
    result: Series = {}
    if not node.by and node.function in ("rate", "count_over_time"):
        grouped.setdefault((), {})
    for labels, found in grouped.items():
        for extra, samples in _samples(node, found, step_ns, buckets):
            result[_final_labels(node, labels, extra)] = samples
    for stage in query.stages:
        result = _second_stage(stage, result, buckets)
    return result


def _final_labels(node: ast.Metrics, labels: Labels, extra: Labels) -> Labels:
    kept = tuple(pair for pair in labels if pair[1] is not None)
    if labels and not kept and not extra:
        kept = ((labels[0][0], ("s", "nil")),)
    if not labels and not extra:
        kept = (("__name__", ("s", node.function)),)
    return kept + extra


def _samples(
    node: ast.Metrics, found: dict[int, list[Span]], step_ns: int, buckets: int
) -> Iterator[tuple[Labels, dict[int, float]]]:
    if node.function in ("rate", "count_over_time"):
        unit = step_ns / 1e9 if node.function == "rate" else 1
        yield (), {b: len(found.get(b, [])) / unit for b in range(buckets)}
        return
    assert node.argument is not None
    values = {
        b: [v for v in (value_of(span, node.argument) for span in spans) if v and v[0] in _NUMERIC]
        for b, spans in found.items()
    }
    if node.function in ("quantile_over_time", "histogram_over_time"):
        yield from _histogram(node, values, buckets)
        return
    if node.function == "sum_over_time":
        for b in [b for b, spans in found.items() if poisoned(spans, node.argument)]:
            values[b] = []
    reduce = {
        "min_over_time": min, "max_over_time": max, "sum_over_time": math.fsum,
        "avg_over_time": lambda numbers: math.fsum(numbers) / len(numbers),
    }[node.function]  # fmt: skip
    samples = {b: reduce([_seconds(v) for v in found]) for b, found in values.items() if found}
    if samples:
        yield (), samples


def poisoned(spans: list[Span], argument: ast.FieldExpr) -> bool:
    """Whether Tempo loses the sum: a span without a value comes in a later trace than one with."""
    has, lacks = [], []
    for span in spans:
        value = value_of(span, argument)
        (has if value else lacks).append(span.trace_start_ns)
    return bool(has and lacks and min(has) < max(lacks))


def _seconds(value: Any) -> float:
    return value[1] / 1e9 if value[0] == "dur" else float(value[1])


def _histogram(
    node: ast.Metrics, values: dict[int, list[Any]], buckets: int
) -> Iterator[tuple[Labels, dict[int, float]]]:
    counts: dict[int, dict[int, int]] = {}  # exponent: bucket: count
    unit = 1.0
    for b, found in values.items():
        for kind, number in found:
            if kind == "d" or number < 2:
                continue
            unit = 1e9 if kind == "dur" else unit
            row = counts.setdefault((number - 1).bit_length(), {})
            row[b] = row.get(b, 0) + 1
    if not counts:
        return
    if node.function == "histogram_over_time":
        for exponent, row in counts.items():
            label = (("__bucket", ("d", 2.0**exponent / unit)),)
            yield label, {b: float(row.get(b, 0)) for b in range(buckets)}
        return
    for q in node.quantiles:
        samples = {}
        for b in range(buckets):
            here = sorted((e, row[b]) for e, row in counts.items() if row.get(b))
            samples[b] = quantile(q, here) / unit
        yield (("p", ("d", q)),), samples


def quantile(q: float, counts: list[tuple[int, int]]) -> float:
    """A quantile of (exponent, count) pairs by exponent, interpolated within a power of two."""
    if not counts:
        return 0.0
    needed = max(1, math.ceil(q * sum(count for _e, count in counts)))
    total = 0
    for index, (exponent, count) in enumerate(counts):
        if total + count >= needed:
            low = counts[index - 1][0] if index else exponent - 1
            part = (needed - total) / count
            return 2.0**exponent if part == 1 else 2 ** (low + (exponent - low) * part)
        total += count
    raise AssertionError("the counts add up to what is needed")


def label_text(labels: Labels) -> str:
    """What series are ordered by."""
    return ",".join(f"{key}={value[1] if value else 'nil'}" for key, value in labels)


def _second_stage(stage: ast.TopBottom | ast.MetricsFilter, series: Series, buckets: int) -> Series:
    kept: Series = {}
    if isinstance(stage, ast.MetricsFilter):
        limit = _seconds((_LITERALS[stage.value.kind], stage.value.value))
        for labels, samples in series.items():
            left = {b: v for b, v in samples.items() if compare(stage.op, ("d", v), ("d", limit))}
            if left:
                kept[labels] = left
        return kept
    for b in range(buckets):
        here = [(samples[b], labels) for labels, samples in series.items() if b in samples]
        here = sorted(
            (pair for pair in here if not math.isnan(pair[0])),
            key=lambda pair: label_text(pair[1]),
            reverse=stage.function == "bottomk",
        )
        here.sort(key=lambda pair: -pair[0] if stage.function == "topk" else pair[0])
        for value, labels in here[: stage.limit]:
            kept.setdefault(labels, {})[b] = value
    return kept
