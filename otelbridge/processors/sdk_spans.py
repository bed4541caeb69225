"""Attributes of the SDK's spans without its wrappers, which every span of the host would pay for.

The public way copies a mapping key by key through a proxy, and checks values that are checked
already. Here the dictionary behind it is read and written where span and attributes are exactly of
the SDK's own classes, and the public way is taken for all else: another SDK, another version.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.util.types import AttributeValue

#: Whether this SDK keeps attributes in a dictionary of that name.
_IS_KNOWN: Final = isinstance(getattr(BoundedAttributes(immutable=False), "_dict", None), dict)
_FIELDS: Final = frozenset(vars(ReadableSpan("")))
#: Fields of a copy with other attributes, by the names that the constructor takes.
_EXPECTED: Final = frozenset(
    (
        "_attributes", "_context", "_end_time", "_events", "_instrumentation_info",
        "_instrumentation_scope", "_kind", "_links", "_name", "_parent", "_resource",
        "_start_time", "_status",
    )
)  # fmt: skip


def raw_attributes(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes to read at once and never to change."""
    attributes = getattr(span, "_attributes", None)
    kind = type(attributes)
    if _IS_KNOWN and (kind is BoundedAttributes or kind is SettledAttributes):
        found: dict[str, Any] = attributes._dict  # type: ignore[union-attr]  # just compared
        return found
    return dict(span.attributes or {})


def stamp(span: Span, values: Mapping[str, AttributeValue]) -> None:
    """Set attributes whose values are texts, booleans or numbers of exactly these types.

    As `set_attributes`, but for the check of the values.
    """
    attributes = getattr(span, "_attributes", None)
    if _IS_KNOWN and type(attributes) is BoundedAttributes and attributes.max_value_len is None:
        with attributes._lock:
            room = attributes.maxlen
            if room is None or len(attributes._dict) + len(values) <= room:
                attributes._dict.update(values)
                return
    span.set_attributes(values)


class SettledAttributes(BoundedAttributes):
    """Attributes that the SDK has checked before, which its own type would do once more (15 us)."""

    # On the class, so that no constructor of the SDK's has to run; nothing here takes its lock.
    maxlen = None
    max_value_len = None
    _immutable = True

    def __init__(self, values: dict[str, Any], dropped: int) -> None:
        self._dict = values
        self.dropped = dropped

    def __deepcopy__(self, memo: dict[int, Any]) -> SettledAttributes:
        return SettledAttributes(copy.deepcopy(self._dict, memo), self.dropped)

    def items(self) -> Any:
        """As of a dictionary: exporters read all of them."""
        return self._dict.items()


def with_attributes(
    span: ReadableSpan, attributes: Mapping[str, AttributeValue], **fields: Any
) -> ReadableSpan:
    """A copy of an ended span with other attributes; `fields` replaces further constructor fields.

    An ended span takes no attributes and its attribute mapping is shared with other processors, so
    every later change is made on a copy. The values must be of OTLP's types already.
    """
    settled = SettledAttributes(dict(attributes), span.dropped_attributes)
    if not fields and type(span) is ReadableSpan and _FIELDS == _EXPECTED:
        made = ReadableSpan.__new__(ReadableSpan)
        vars(made).update(vars(span))
        made._attributes = settled
        return made
    values: dict[str, Any] = {
        "name": span.name,
        "context": span.context,
        "parent": span.parent,
        "resource": span.resource,
        "attributes": settled,
        "events": span.events,
        "links": span.links,
        "kind": span.kind,
        "status": span.status,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "instrumentation_scope": span.instrumentation_scope,
    }
    return ReadableSpan(**(values | fields))
