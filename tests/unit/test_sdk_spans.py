"""Reading and writing the SDK's attributes without its wrappers changes nothing that shows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider

from otelbridge.processors.sdk_spans import raw_attributes, stamp, with_attributes

MARKS: dict[str, Any] = {"otelbridge.llm.parent": "0" * 16, "otelbridge.llm.keep": True, "a": 2}


def started(**limits: int) -> Span:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(**limits))
    span = provider.get_tracer("t").start_span("s", attributes={"a": 1, "b": "text", "c": ("x",)})
    assert isinstance(span, Span)
    return span


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_span_attributes": 4},
        {"max_span_attributes": 0},
        {"max_span_attribute_length": 3},
    ],
    ids=str,
)
def test_stamping_is_setting(limits: dict[str, int]) -> None:
    """Within the limits and beyond them, the span has what `set_attributes` gives it."""
    ours, theirs = started(**limits), started(**limits)
    stamp(ours, MARKS)
    theirs.set_attributes(MARKS)
    assert dict(ours.attributes or {}) == dict(theirs.attributes or {})
    assert ours.dropped_attributes == theirs.dropped_attributes


def test_raw_attributes_of_any_kind_of_span() -> None:
    """Live and ended spans, copies and hand-made ones show the same as by the public way."""
    live = started()
    ended = live._readable_span()
    made = ReadableSpan("s", attributes={"a": 1})
    for span in (live, ended, made, with_attributes(ended, {"z": 1}), ReadableSpan("s")):
        assert raw_attributes(span) == dict(span.attributes or {})


def test_a_copy_differs_in_its_attributes_alone() -> None:
    """All fields of the span are the same objects; the attributes are read-only and copyable."""
    live = started(max_span_attributes=2)
    live.add_event("e")
    live.end()
    ended = live._readable_span()
    made = with_attributes(ended, {"z": 1})
    assert dict(made.attributes or {}) == {"z": 1}
    assert dict(ended.attributes or {}) != {"z": 1}
    assert made.dropped_attributes == ended.dropped_attributes == 1
    assert made.to_json().replace('"z": 1', "") != ended.to_json()
    for name in set(vars(ended)) - {"_attributes"}:
        assert getattr(made, name) is getattr(ended, name)
    attributes: Any = made._attributes
    with pytest.raises(TypeError):
        attributes["y"] = 1
    assert copy.deepcopy(attributes) == attributes
    assert attributes.copy() == {"z": 1}
    assert repr(attributes) == "{'z': 1}"
