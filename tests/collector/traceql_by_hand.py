"""The guide's three TraceQL queries asked of received spans, twice.

By the local store's TraceQL, and by conditions written by hand that do what Tempo does with these
three: a scope is that scope only, a string compares with a string only, `duration` is end minus
start in nanoseconds. `matches` holds the two to the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelbridge.local import query as local_query
from otelbridge.local.records import Batch, SpanRecord
from otelbridge.local.store.database import Store
from tests.collector import planting
from tests.collector.conftest import Received

SYSTEM: Final = '{ span.gen_ai.system = "openai" }'
SLOW_MODEL: Final = '{ span.gen_ai.request.model = "gpt-4o" && duration > 3s }'
USER: Final = '{ resource.langfuse.user.id = "user-123" }'
_SECOND_NS: Final = 1_000_000_000


def _is(attributes: dict[str, Any], key: str, text: str) -> bool:
    """Equal to the text; of an array, any element."""
    value = attributes.get(key)
    return value == text or (isinstance(value, list) and text in value)


def _is_slow_gpt_4o(item: Received) -> bool:
    length_ns = item.span.end_time_unix_nano - item.span.start_time_unix_nano
    return _is(item.attributes, "gen_ai.request.model", "gpt-4o") and length_ns > 3 * _SECOND_NS


# A value of another type than text never equals text in Python either.
_CONDITIONS: Final[dict[str, Callable[[Received], bool]]] = {
    SYSTEM: lambda item: _is(item.attributes, "gen_ai.system", "openai"),
    SLOW_MODEL: _is_slow_gpt_4o,
    USER: lambda item: _is(item.resource, "langfuse.user.id", "user-123"),
}
QUERIES: Final = tuple(_CONDITIONS)


def matches(query: str, spans: Iterable[Received]) -> set[tuple[str, str]]:
    """Hex trace id and span id of each span that the query selects.

    Raises:
        KeyError: the query is none of `QUERIES`.
    """
    condition, received = _CONDITIONS[query], list(spans)
    by_hand = {(item.span.trace_id.hex(), item.id) for item in received if condition(item)}
    assert _asked(query, received) == by_hand
    return by_hand


def _asked(query: str, received: list[Received]) -> set[tuple[str, str]]:
    """The same by the local store, which gets the spans as they were received."""
    store = Store(None)
    try:
        records = tuple(map(_record, received))
        store.write(Batch(records, ())).result(60)
        everything = len(records) + 1
        answer = local_query.search(
            store, query, start_s=0, end_s=2**33, limit=everything, spss=everything
        )
    finally:
        store.close()
    return {
        (trace.trace_id, span.span_id)
        for trace in answer.traces
        for found in trace.span_sets
        for span in found.spans
    }


def _record(item: Received) -> SpanRecord:
    resource = Resource()
    for key, value in item.resource.items():
        planting.set_attribute(resource, key, value)
    return SpanRecord(item.span, resource, "", InstrumentationScope(), "")
