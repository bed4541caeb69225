"""OTLP attributes as Python values, and back.

Neighbours: `records` and `rules` read and rewrite spans with it, `observations` shows them. Pure;
protobuf messages in, Python values out, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


def any_value(value: AnyValue) -> Any:
    """An OTLP value as Python: str, bool, int, float, bytes, list, dict, or None when unset."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [any_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: any_value(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """OTLP attributes as a mapping of Python values."""
    return {pair.key: any_value(pair.value) for pair in pairs}


def to_any_value(value: Any) -> AnyValue:
    """A Python value as `any_value` gives it as an OTLP value."""
    found = AnyValue()
    if isinstance(value, str):
        found.string_value = value
    elif isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, bytes):
        found.bytes_value = value
    elif isinstance(value, list | tuple):
        found.array_value.SetInParent()
        found.array_value.values.extend(to_any_value(item) for item in value)
    elif isinstance(value, dict):
        found.kvlist_value.SetInParent()
        for key, item in value.items():
            found.kvlist_value.values.add(key=key, value=to_any_value(item))
    return found


def rewritten(
    pairs: Iterable[KeyValue], before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[KeyValue]:
    """The attributes `after` as OTLP: the pairs of `before` where the value is the same object.

    Attributes without a value, which `before` does not have, stay.
    """
    given = {pair.key: pair for pair in pairs}
    kept = [
        given[key]
        if key in before and before[key] is value
        else KeyValue(key=key, value=to_any_value(value))
        for key, value in after.items()
    ]
    return kept + [given[key] for key in given if key not in before and key not in after]
