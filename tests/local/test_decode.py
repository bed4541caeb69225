"""OTLP bytes to messages: both encodings agree, and malformed input has its status."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.errors import IngestError
from otelbridge.local.receivers.otlp_decode import JSON, PROTOBUF, decode, decompress

HEX_FIELDS = ("traceId", "spanId", "parentSpanId")


def to_otlp_json(value: Any, *, numbers: bool = False) -> Any:
    """protobuf's JSON of a request as OTLP/JSON: hexadecimal ids."""
    if isinstance(value, dict):
        return {
            key: base64.b64decode(item).hex()
            if key in HEX_FIELDS
            else int(item)
            if numbers and key in ("intValue", "startTimeUnixNano", "endTimeUnixNano")
            else to_otlp_json(item, numbers=numbers)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [to_otlp_json(item, numbers=numbers) for item in value]
    return value


def json_body(request: ExportTraceServiceRequest, *, numbers: bool = False) -> bytes:
    plain = MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(to_otlp_json(plain, numbers=numbers)).encode()


ids16 = st.binary(min_size=16, max_size=16).filter(any)
ids8 = st.binary(min_size=8, max_size=8).filter(any)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
nanoseconds = st.integers(0, 2**64 - 1)
leaves = st.one_of(
    text,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=8),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)
attributes = st.dictionaries(text, values, max_size=4)


@st.composite
def spans(draw: st.DrawFn, make: Any) -> Span:
    span = make.span(
        draw(text),
        draw(attributes),
        trace_id=draw(ids16),
        span_id=draw(ids8),
        parent_span_id=draw(st.one_of(st.just(b""), ids8)),
        start_time_unix_nano=draw(nanoseconds),
        end_time_unix_nano=draw(nanoseconds),
        kind=draw(st.integers(0, 5)),
        flags=draw(st.integers(0, 2**32 - 1)),
        trace_state=draw(text),
    )
    for fields in draw(st.lists(attributes, max_size=2)):
        span.events.add(
            name=draw(text), time_unix_nano=draw(nanoseconds), attributes=make.pairs(fields)
        )
        span.links.add(trace_id=draw(ids16), span_id=draw(ids8), attributes=make.pairs(fields))
    span.status.code = draw(st.integers(0, 2))
    span.status.message = draw(text)
    return span


@settings(max_examples=60, deadline=None)
@given(data=st.data(), numbers=st.booleans())
def test_protobuf_and_json_of_one_request_give_equal_messages(data, numbers, samples):
    """Whatever a request holds, both encodings decode to the message that was sent."""
    request = samples.request(*data.draw(st.lists(spans(samples), max_size=3)))
    assert decode(request.SerializeToString(), PROTOBUF) == request
    assert decode(json_body(request, numbers=numbers), JSON) == request


def test_json_ignores_unknown_and_snake_case_fields(samples):
    """Fields that OTLP/JSON does not define change nothing."""
    request = samples.request(samples.span())
    document = json.loads(json_body(request))
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span |= {"span_id": "ffff", "trace_id": 7, "newField": {"deep": [1]}, "start_time": "x"}
    assert decode(json.dumps(document).encode(), JSON) == request


def test_upper_case_hex_ids_name_the_same_trace(samples):
    """Ids are bytes: the case of their hexadecimal digits does not matter."""
    request = samples.request(samples.span(trace_id=bytes(range(0xA0, 0xB0))))
    body = json_body(request).decode()
    upper = body.replace(bytes(range(0xA0, 0xB0)).hex(), bytes(range(0xA0, 0xB0)).hex().upper())
    assert upper != body
    assert decode(upper.encode(), JSON) == request


def spans_json(**fields: Any) -> bytes:
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n"} | fields
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


MALFORMED_JSON = {
    "not JSON": b"{",
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "not UTF-8": b'{"resourceSpans": "\xff"}',
    "resourceSpans no list": b'{"resourceSpans": {}}',
    "scopeSpans no list": b'{"resourceSpans": [{"scopeSpans": "x"}]}',
    "spans no list": b'{"resourceSpans": [{"scopeSpans": [{"spans": {"a": 1}}]}]}',
    "attributes no list": spans_json(attributes={"k": "v"}),
    "events no list": spans_json(events="x"),
    "trace id missing": spans_json(traceId=""),
    "trace id null": spans_json(traceId=None),
    "trace id too short": spans_json(traceId="abcd"),
    "trace id not hex": spans_json(traceId="zz" * 16),
    "trace id odd": spans_json(traceId="a" * 31),
    "trace id all zeros": spans_json(traceId="0" * 32),
    "trace id a number": spans_json(traceId=12),
    "span id too short": spans_json(spanId="abcdef"),
    "span id all zeros": spans_json(spanId="0" * 16),
    "parent id too short": spans_json(parentSpanId="ab"),
    "link id too short": spans_json(links=[{"traceId": "ab", "spanId": "cd" * 8}]),
    "time no number": spans_json(startTimeUnixNano="soon"),
    "time too big": spans_json(startTimeUnixNano=str(2**64)),
    "lone surrogate": spans_json(name="\ud800"),
    "deeply nested": b'{"resourceSpans":' + b"[" * 100_000,
    "deep value": spans_json(
        attributes=[
            {"key": "k", "value": json.loads('{"arrayValue":{"values":[' * 150 + "]}}" * 150)}
        ]
    ),
}


@pytest.mark.parametrize("body", MALFORMED_JSON.values(), ids=MALFORMED_JSON.keys())
def test_malformed_json_is_refused_with_400(body):
    """Every kind of broken OTLP/JSON is an IngestError with status 400 and says what is wrong."""
    with pytest.raises(IngestError) as caught:
        decode(body, JSON)
    assert caught.value.status == 400
    assert str(caught.value)


def broken_protobuf(samples: Any) -> dict[str, bytes]:
    whole = samples.request(samples.span("a name", {"k": "v"})).SerializeToString()
    return {
        "truncated": whole[:-3],
        "random": bytes(range(255, 200, -1)),
        "trace id short": samples.request(samples.span(trace_id=b"abc")).SerializeToString(),
        "trace id long": samples.request(samples.span(trace_id=b"a" * 17)).SerializeToString(),
        "trace id empty": samples.request(samples.span(trace_id=b"")).SerializeToString(),
        "span id short": samples.request(samples.span(span_id=b"abc")).SerializeToString(),
        "one bad among good": samples.request(
            samples.span(), samples.span(span_id=b"abc")
        ).SerializeToString(),
        "name not UTF-8": whole.replace(b"a name", b"a \xff\xfeme"),
    }


@pytest.mark.parametrize("kind", ["truncated", "random", "trace id short", "trace id long",
                                  "trace id empty", "span id short", "one bad among good",
                                  "name not UTF-8"])  # fmt: skip
def test_malformed_protobuf_is_refused_with_400(kind, samples):
    """Every kind of broken protobuf is an IngestError with status 400."""
    with pytest.raises(IngestError) as caught:
        decode(broken_protobuf(samples)[kind], PROTOBUF)
    assert caught.value.status == 400


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/protobuf", "x"])
def test_another_content_type_is_refused_with_415(content_type):
    """OTLP/HTTP knows two media types."""
    with pytest.raises(IngestError) as caught:
        decode(b"", content_type)
    assert caught.value.status == 415


def test_content_type_parameters_do_not_matter():
    """A charset behind the media type is accepted."""
    assert decode(b"{}", "Application/JSON; charset=utf-8") == ExportTraceServiceRequest()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("", bytes)]
)
def test_compressed_bodies_come_back_whole(encoding, pack):
    """gzip, deflate and no compression give the bytes that went in."""
    body = b"abc" * 5000
    assert decompress(pack(body), encoding) == body


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"not gzip", "gzip", 400),
        (gzip.compress(b"x" * 1000)[:-9], "gzip", 400),
        (gzip.compress(b"x"), "deflate", 400),
        (b"x", "zstd", 400),
        (gzip.compress(b"x" * 1001), "gzip", 413),
        (b"x" * 1001, "", 413),
    ],
)
def test_broken_and_oversized_bodies_are_refused(body, encoding, status):
    """Bad compression is 400, more than the limit after decompression 413."""
    with pytest.raises(IngestError) as caught:
        decompress(body, encoding, max_bytes=1000)
    assert caught.value.status == status
