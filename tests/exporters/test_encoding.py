"""The encoder against the official one, on generated spans, and where the official one gives up."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from otelbridge.exporters.encoding import SpanEncoder, request


class Level(IntEnum):
    """A number that is not of type int."""

    HIGH = 300


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
LONG = st.integers(120, 20_000).map(lambda size: "é" * size)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(
    TEXT, LONG, st.booleans(), INTEGERS, st.floats(allow_nan=False), st.binary(max_size=200),
    st.just(Level.HIGH),
)  # fmt: skip
VALUES = st.one_of(
    SCALARS,
    st.none(),
    st.lists(st.one_of(SCALARS, st.none()), max_size=5).map(tuple),
    st.dictionaries(TEXT, st.one_of(SCALARS, st.lists(INTEGERS, max_size=3)), max_size=3),
)
ATTRIBUTES = st.dictionaries(st.one_of(TEXT, st.sampled_from(["a", "http.method"])), VALUES,
                             max_size=6)  # fmt: skip
TIMES = st.one_of(st.none(), st.integers(0, 2**64 - 1))
STATES = st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("otelbridge", "x-y-f")])])
CONTEXTS = st.builds(
    lambda trace_id, span_id, remote, state: SpanContext(
        trace_id, span_id, remote, TraceFlags(1), state
    ),
    st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), STATES,
)  # fmt: skip
STATUSES = st.one_of(
    st.just(Status()), st.just(Status(StatusCode.OK)),
    TEXT.map(lambda text: Status(StatusCode.ERROR, text)),
)  # fmt: skip
SPANS = st.builds(
    ReadableSpan,
    name=TEXT, context=CONTEXTS, parent=st.one_of(st.none(), CONTEXTS),
    resource=st.builds(
        Resource,
        st.dictionaries(TEXT.filter(bool), TEXT, max_size=3), st.sampled_from(["", "http://s/1"]),
    ),
    attributes=ATTRIBUTES,
    events=st.lists(
        st.builds(Event, TEXT, ATTRIBUTES, st.integers(1, 2**63)), max_size=3
    ),
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=3),
    kind=st.sampled_from(SpanKind), status=STATUSES, start_time=TIMES, end_time=TIMES,
    instrumentation_scope=st.one_of(
        st.none(),
        st.builds(
            InstrumentationScope, TEXT, st.one_of(st.none(), TEXT), st.sampled_from(["", "u"]),
            st.dictionaries(TEXT, TEXT, max_size=2),
        ),
    ),
)  # fmt: skip


def decoded(*spans: ReadableSpan, encoder: SpanEncoder | None = None) -> ExportTraceServiceRequest:
    own = encoder or SpanEncoder()
    return ExportTraceServiceRequest.FromString(request([own.encode(span) for span in spans]))


def flat(message: ExportTraceServiceRequest) -> list[tuple[bytes, bytes, bytes]]:
    """Each span with its resource and scope, whatever the grouping."""
    return sorted(
        (
            resource.resource.SerializeToString(deterministic=True) + resource.schema_url.encode(),
            scope.scope.SerializeToString(deterministic=True) + scope.schema_url.encode(),
            span.SerializeToString(deterministic=True),
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


@settings(max_examples=300)
@given(st.lists(SPANS, min_size=1, max_size=4))
def test_means_what_the_official_encoder_says(spans: list[ReadableSpan]) -> None:
    """Every generated span decodes to the official encoder's message, cold and with warm caches."""
    encoder = SpanEncoder()
    official = encode_spans(spans)
    for resource in official.resource_spans:
        for scope in resource.scope_spans:
            for sent in scope.spans:
                if 0 < sent.end_time_unix_nano < sent.start_time_unix_nano:
                    sent.end_time_unix_nano = sent.start_time_unix_nano
    wanted = flat(official)
    assert flat(decoded(*spans, encoder=encoder)) == wanted
    assert flat(decoded(*spans, encoder=encoder)) == wanted


def test_one_resource_and_scope_are_written_once() -> None:
    """Spans of one resource and scope share one ResourceSpans and one ScopeSpans."""
    resource, scope = Resource({"service.name": "a"}), InstrumentationScope("lib", "1")
    message = decoded(*[span({}, resource=resource, instrumentation_scope=scope)] * 3)
    assert [len(r.scope_spans) for r in message.resource_spans] == [1]
    assert len(message.resource_spans[0].scope_spans[0].spans) == 3


def span(attributes: dict[str, Any], **fields: Any) -> ReadableSpan:
    return ReadableSpan(
        **{"name": "s", "context": SpanContext(1, 2, False), "attributes": attributes} | fields
    )


def sent_attributes(attributes: dict[str, Any]) -> Any:
    return decoded(span(attributes)).resource_spans[0].scope_spans[0].spans[0]


def test_equal_keys_of_other_types_are_told_apart() -> None:
    """`"1"`, 1, True and 1.0 under one key keep their types with warm caches."""
    encoder = SpanEncoder()
    kinds = []
    for value in ("1", 1, True, 1.0, "1"):
        message = decoded(span({"k": value}), encoder=encoder)
        sent = message.resource_spans[0].scope_spans[0].spans[0].attributes[0].value
        kinds.append(sent.WhichOneof("value"))
    assert kinds == ["string_value", "int_value", "bool_value", "double_value", "string_value"]


def test_lone_surrogates_are_repaired() -> None:
    """Half a surrogate pair, which is no UTF-8, costs neither the attribute nor the span."""
    sent = sent_attributes({"half": "a\ud800b", "whole": "ok"})
    assert {a.key: a.value.string_value for a in sent.attributes} == {"half": "a?b", "whole": "ok"}


def test_an_integer_beyond_64_bits_becomes_text() -> None:
    """A number that OTLP cannot hold is sent as its digits."""
    sent = sent_attributes({"big": 2**64, "low": -(2**63)})
    assert sent.attributes[0].value.string_value == str(2**64)
    assert sent.attributes[1].value.int_value == -(2**63)


def test_numbers_of_classes_that_refuse_are_sent_as_what_they_are() -> None:
    """An int subclass with broken methods is its number; one too long for `str` is hexadecimal."""

    class Refusing(int):
        def __int__(self) -> int:
            raise ArithmeticError

        __eq__ = __index__ = __int__  # type: ignore[assignment]  # any of them
        __hash__ = int.__hash__

    sent = sent_attributes({"number": Refusing(7), "long": 10**5000, "after": 1})
    assert sent.attributes[0].value.int_value == 7
    assert sent.attributes[1].value.string_value == hex(10**5000)
    assert sent.attributes[2].value.int_value == 1


def test_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    """A span that ends before it starts ends when it starts."""
    message = decoded(span({}, start_time=2_000, end_time=1_000))
    sent = message.resource_spans[0].scope_spans[0].spans[0]
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano) == (2_000, 2_000)


def test_what_is_no_otlp_value_counts_as_dropped() -> None:
    """An object, and a list that contains itself, are left out and counted; the rest is sent."""
    cycle: list[Any] = []
    cycle.append(cycle)
    sent = sent_attributes({"object": object(), "cycle": cycle, "left": 1})
    assert [a.key for a in sent.attributes] == ["left"]
    assert sent.dropped_attributes_count == 2
