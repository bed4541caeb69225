"""Tree nodes from the two APIs' JSON: Tempo's trace by id and Langfuse's observations.

Reads what real Tempo and Langfuse answer as well as what `otelbridge local` does. Pure and free of
heavy imports. A value of an unexpected shape is shown as unknown, never an error: another version
of a server must not stop a person from seeing the tree.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from otelbridge import semconv
from otelbridge.local.tree import Node

_SPAN_ID_DIGITS: Final = 16
_ERROR_CODES: Final = ("STATUS_CODE_ERROR", 2)
#: Observation types whose usage repeats that of the generations below them.
_AGGREGATES: Final = frozenset({"AGENT", "invoke_agent"})


def tempo_nodes(document: Mapping[str, Any]) -> list[Node]:
    """The nodes of Tempo's JSON answer: v2 (`trace.resourceSpans`), v1 (`batches`) or OTLP."""
    trace = document.get("trace", document) or {}
    nodes = []
    for group in trace.get("resourceSpans") or trace.get("batches") or ():
        resource = attributes((group.get("resource") or {}).get("attributes"))
        service = str(resource.get(semconv.SERVICE_NAME) or "")
        for scope in group.get("scopeSpans") or ():
            nodes += [_span_node(span, service) for span in scope.get("spans") or ()]
    return nodes


def observation_node(item: Mapping[str, Any]) -> Node:
    """The node of one observation of Langfuse's API (v2 observations or a v3 trace)."""
    usage = item.get("usageDetails") or {}
    resource = _object((_object(item.get("metadata"))).get("resourceAttributes"))
    start_ns = _nanoseconds(item.get("startTime"))
    end_ns = _nanoseconds(item.get("endTime")) or start_ns
    cost = item.get("totalCost")
    if cost is None:
        cost = item.get("calculatedTotalCost")  # the name in v3's GET /api/public/traces/{id}
    return Node(
        span_id=str(item.get("id", "")),
        parent_id=item.get("parentObservationId") or "",
        service=str(resource.get(semconv.SERVICE_NAME) or ""),
        name=item.get("name") or "",
        kind=item.get("type") or "SPAN",
        start_ns=start_ns,
        duration_ns=max(0, end_ns - start_ns),
        model=item.get("model") or item.get("providedModelName") or "",
        input_tokens=_bucket_sum(usage, "input"),
        output_tokens=_bucket_sum(usage, "output"),
        cost_usd=_number(cost),
        error=item.get("level") == "ERROR",
        status_message=item.get("statusMessage") or "",
        content={key: item[key] for key in ("input", "output") if item.get(key) is not None},
    )


def counts_twice(node: Node) -> bool:
    """Whether the node's tokens and cost repeat those of its children: agents do."""
    return node.kind in _AGGREGATES


def attributes(pairs: Any) -> dict[str, Any]:
    """OTLP JSON attributes as a mapping of Python values."""
    return {pair.get("key", ""): _value(pair.get("value") or {}) for pair in pairs or ()}


def _span_node(span: Mapping[str, Any], service: str) -> Node:
    found = attributes(span.get("attributes"))
    status = span.get("status") or {}
    start_ns = int(span.get("startTimeUnixNano") or 0)
    end_ns = int(span.get("endTimeUnixNano") or 0)
    kind = str(span.get("kind") or "").removeprefix("SPAN_KIND_").lower()
    model = found.get(semconv.GEN_AI_RESPONSE_MODEL) or found.get(semconv.GEN_AI_REQUEST_MODEL)
    return Node(
        span_id=_hex(span.get("spanId")),
        parent_id=_hex(span.get("parentSpanId")),
        service=service,
        name=str(span.get("name") or ""),
        kind=str(found.get(semconv.GEN_AI_OPERATION_NAME) or kind),
        start_ns=start_ns,
        duration_ns=max(0, end_ns - start_ns),
        model=str(model or ""),
        input_tokens=_count(found.get(semconv.GEN_AI_USAGE_INPUT_TOKENS)),
        output_tokens=_count(found.get(semconv.GEN_AI_USAGE_OUTPUT_TOKENS)),
        cost_usd=_number(found.get(semconv.GEN_AI_USAGE_COST)),
        error=status.get("code") in _ERROR_CODES,
        status_message=str(status.get("message") or ""),
        content=dict(_content(found)),
    )


def _content(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Message text, for a Tempo that was sent some; the bridge's Tempo branch sends none."""
    for label, keys in (
        ("input", (semconv.LANGFUSE_OBSERVATION_INPUT, semconv.GEN_AI_INPUT_MESSAGES)),
        ("output", (semconv.LANGFUSE_OBSERVATION_OUTPUT, semconv.GEN_AI_OUTPUT_MESSAGES)),
    ):
        for key in keys:
            if key in found:
                yield label, found[key]
                break


def _value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return int(value["intValue"])
    if "arrayValue" in value:
        return [_value(item) for item in value["arrayValue"].get("values") or ()]
    if "kvlistValue" in value:
        return attributes(value["kvlistValue"].get("values"))
    return next(iter(value.values()), None)


def _hex(text: Any) -> str:
    """A span id as hex: Tempo writes base64, OTLP JSON hexadecimal; all zeros is no parent."""
    if not isinstance(text, str) or not text:
        return ""
    digits = text.lower()
    if len(text) != _SPAN_ID_DIGITS:
        try:
            digits = base64.b64decode(text, validate=True).hex()
        except (binascii.Error, ValueError):
            return digits
    return digits if digits.strip("0") else ""


def _object(value: Any) -> Mapping[str, Any]:
    """A mapping, also from JSON text: Langfuse keeps nested metadata in either form."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _bucket_sum(usage: Mapping[str, Any], side: str) -> int | None:
    """The tokens of one side, all buckets: `input`, `input_cached_tokens`, ..."""
    counts = [
        value
        for key, value in usage.items()
        if (key == side or key.startswith(f"{side}_")) and isinstance(value, int)
    ]
    return sum(counts) if counts else None


def _nanoseconds(text: Any) -> int:
    if not isinstance(text, str):
        return 0
    try:
        # Exact for milliseconds, which is all that Langfuse keeps.
        return round(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000
    except ValueError:
        return 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):  # decimals come as text from some versions
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, (int, float)) else None
