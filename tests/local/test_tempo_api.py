"""The Tempo port answers as Tempo does, and gives back every field of a span."""

from __future__ import annotations

import base64
import os

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

ATTRIBUTES = {
    "text": "hé",
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "big": 2**62,
    "ratio": 0.25,
    "nothing": 0.0,
    "raw": b"\x00\xff",
    "list": ["a", 1, 2.5, True],
    "empty list": [],
    "map": {"inner": {"deep": [1, "x"]}},
    "unset": None,
}


@pytest.fixture
def rich(samples) -> Span:
    """A span that uses every field of OTLP."""
    span = samples.span(
        "chat gpt-4o",
        ATTRIBUTES,
        parent_span_id=os.urandom(8),
        trace_state="a=b",
        flags=257,
        kind=Span.SPAN_KIND_CLIENT,
        dropped_attributes_count=3,
        dropped_events_count=4,
        dropped_links_count=5,
    )
    span.status.code = 2
    span.status.message = "broken"
    span.events.add(
        name="exception",
        time_unix_nano=5,
        dropped_attributes_count=1,
        attributes=samples.pairs(ATTRIBUTES),
    )
    span.links.add(
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        trace_state="c=d",
        flags=1,
        dropped_attributes_count=2,
        attributes=samples.pairs(ATTRIBUTES),
    )
    return span


def rich_request(samples, span):
    request = samples.request(span, resource={"branch.test": [1, 2], "deep": {"a": 1.5}})
    group = request.resource_spans[0]
    group.schema_url = "https://example.test/resource"
    group.resource.dropped_attributes_count = 6
    scope = group.scope_spans[0]
    scope.schema_url = "https://example.test/scope"
    scope.scope.version = "1.2"
    scope.scope.attributes.extend(samples.pairs({"scope": "attribute"}))
    scope.scope.dropped_attributes_count = 7
    return request


def test_every_field_comes_back_in_json_and_protobuf(local, http, talk, samples, rich):
    """What was sent equals what v1 and v2 answer, in both encodings, besides the branch's mark."""
    request = rich_request(samples, rich)
    talk.send(request)
    resource = request.resource_spans[0].resource
    resource.attributes.extend(samples.pairs({"otelbridge.branch": "tempo"}))
    sent = TracesData(resource_spans=request.resource_spans)
    base = f"{local.tempo_url}/api"
    v1 = http.get(f"{base}/traces/{rich.trace_id.hex()}").json()
    v2 = http.get(f"{base}/v2/traces/{rich.trace_id.hex()}").json()
    assert ParseDict({"resourceSpans": v1["batches"]}, TracesData()) == sent
    assert ParseDict(v2["trace"], TracesData()) == sent
    headers = {"accept": "application/protobuf"}
    reply = http.get(f"{base}/traces/{rich.trace_id.hex()}", headers=headers)
    assert reply.headers["content-type"] == "application/protobuf"
    assert TracesData.FromString(reply.content) == sent
    wrapped = http.get(f"{base}/v2/traces/{rich.trace_id.hex()}", headers=headers).content
    assert TracesData.FromString(first_field(wrapped)) == sent


def first_field(message: bytes) -> bytes:
    """The bytes of length-delimited field 1 at the start of a protobuf message."""
    assert message[0] == 0x0A
    length = shift = 0
    for index, byte in enumerate(message[1:], start=1):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return message[index + 1 : index + 1 + length]
    raise AssertionError("no length")


def test_json_is_written_as_tempo_writes_it(local, http, talk, samples):
    """base64 ids, enum names, 64-bit numbers as text, zero values left out, status always."""
    span = samples.span("GET /", {"n": 1, "f": 2.5}, kind=Span.SPAN_KIND_SERVER)
    talk.send(samples.request(span, service="web"))
    reply = http.get(f"{local.tempo_url}/api/traces/{span.trace_id.hex()}")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {
        "batches": [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": "web"}},
                        {"key": "otelbridge.branch", "value": {"stringValue": "tempo"}},
                    ]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "tests"},
                        "spans": [
                            {
                                "traceId": base64.b64encode(span.trace_id).decode(),
                                "spanId": base64.b64encode(span.span_id).decode(),
                                "name": "GET /",
                                "kind": "SPAN_KIND_SERVER",
                                "startTimeUnixNano": "1700000000000000000",
                                "endTimeUnixNano": "1700000000250000000",
                                "attributes": [
                                    {"key": "n", "value": {"intValue": "1"}},
                                    {"key": "f", "value": {"doubleValue": 2.5}},
                                ],
                                "status": {},
                            }
                        ],
                    }
                ],
            }
        ]
    }
    v2 = talk.tempo(span.trace_id)
    assert v2.keys() == {"trace", "metrics"}
    assert int(v2["metrics"]["inspectedBytes"]) == span.ByteSize()


def test_error_status_has_a_name(talk, samples):
    """status.code is an enum name."""
    span = samples.span()
    span.status.code = 2
    span.status.message = "no"
    talk.send(samples.request(span))
    (found,) = talk.tempo_spans(span.trace_id)
    assert found["status"] == {"code": "STATUS_CODE_ERROR", "message": "no"}


def test_spans_of_one_trace_are_grouped_by_service_and_scope(talk, samples):
    """Two services sent in four requests are two resources; spans stand in time order."""
    trace_id = os.urandom(16)
    for number in (3, 1, 2, 0):
        span = samples.span(str(number), trace_id=trace_id, start_time_unix_nano=100 + number)
        talk.send(samples.request(span, service=f"svc-{number % 2}"))
    groups = talk.tempo(trace_id)["trace"]["resourceSpans"]
    names = [[span["name"] for span in group["scopeSpans"][0]["spans"]] for group in groups]
    assert names == [["0", "2"], ["1", "3"]]


def test_unknown_trace(local, http):
    """v1 answers 404 without a body, v2 200 with an empty trace."""
    unknown = os.urandom(16).hex()
    v1 = http.get(f"{local.tempo_url}/api/traces/{unknown}")
    assert (v1.status_code, v1.content) == (404, b"")
    v2 = http.get(f"{local.tempo_url}/api/v2/traces/{unknown}")
    assert (v2.status_code, v2.json()) == (200, {"trace": {}, "metrics": {}})


def test_leading_zeros_of_an_id_may_be_left_out(local, http, talk, samples):
    """A short id is padded, as Tempo's search prints ids without leading zeros."""
    span = samples.span(trace_id=bytes(3) + os.urandom(13))
    talk.send(samples.request(span))
    short = span.trace_id.hex().lstrip("0")
    for text in (short, short.upper()):
        assert http.get(f"{local.tempo_url}/api/traces/{text}").status_code == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "zz",
            "trace IDs can only contain hex characters: invalid character 'z' at position 1",
        ),
        (
            "12xz",
            "trace IDs can only contain hex characters: invalid character 'x' at position 3",
        ),
        ("0" * 33, "trace IDs can't be larger than 128 bits"),
        ("ab?start=x", 'invalid start: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "ab?start=9&end=3",
            "http parameter start must be before end. received start=9 end=3",
        ),
    ],
)
@pytest.mark.parametrize("version", ["/api/traces", "/api/v2/traces"])
def test_bad_requests_are_400_in_plain_text(local, http: httpx.Client, version, path, message):
    """The whole body is Tempo's error text."""
    reply = http.get(f"{local.tempo_url}{version}/{path}")
    assert (reply.status_code, reply.text) == (400, message)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_start_and_end_are_accepted(local, http, talk, samples):
    """A time window does not cut spans."""
    span = samples.span()
    talk.send(samples.request(span))
    url = f"{local.tempo_url}/api/v2/traces/{span.trace_id.hex()}?start=1600000000&end=1800000000"
    assert http.get(url).json()["trace"]


def test_probes(local, http):
    """Readiness, echo and build info as Grafana and scripts ask for them."""
    assert http.get(f"{local.tempo_url}/ready").text == "ready"
    assert http.get(f"{local.tempo_url}/api/echo").text == "echo"
    info = http.get(f"{local.tempo_url}/api/status/buildinfo").json()
    assert info.keys() == {"version", "revision", "branch", "buildUser", "buildDate", "goVersion"}
