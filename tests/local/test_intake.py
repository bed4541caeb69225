"""OTLP over HTTP and gRPC into a running server, by the real exporters and by hand."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


def emit(exporter) -> bytes:
    """Two spans through the SDK and an exporter; their trace id."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("outer") as outer, tracer.start_as_current_span("inner"):
        pass
    provider.shutdown()
    return outer.get_span_context().trace_id.to_bytes(16, "big")


@pytest.mark.parametrize("compression", list(Compression))
def test_the_sdk_http_exporter_delivers(local, talk, compression):
    """Spans of the official OTLP/HTTP exporter are readable as soon as it returns."""
    exporter = HttpExporter(f"{local.otlp_http_url}/v1/traces", compression=compression)
    trace_id = emit(exporter)
    assert {span["name"] for span in talk.tempo_spans(trace_id)} == {"outer", "inner"}


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_sdk_grpc_exporter_delivers(local, talk, compression):
    """Spans of the official OTLP/gRPC exporter are readable as soon as it returns."""
    endpoint = local.otlp_grpc_endpoint
    trace_id = emit(GrpcExporter(endpoint, insecure=True, compression=compression))
    assert {span["name"] for span in talk.tempo_spans(trace_id)} == {"outer", "inner"}


def test_http_answers_in_the_encoding_of_the_request(local, http, samples):
    """Protobuf gets an empty ExportTraceServiceResponse, JSON a partialSuccess object."""
    url = f"{local.otlp_http_url}/v1/traces"
    reply = http.post(url, content=b"", headers=PROTOBUF)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(reply.content) == ExportTraceServiceResponse()
    reply = http.post(url, content=b"{}", headers=JSON)
    assert (reply.status_code, reply.json()) == (200, {"partialSuccess": {}})


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"\xff\xff", PROTOBUF, 400),
        (b"nothing packed", {**PROTOBUF, "content-encoding": "gzip"}, 400),
        (b"", {**PROTOBUF, "content-encoding": "br"}, 400),
        (gzip.compress(bytes(21 << 20)), {**PROTOBUF, "content-encoding": "gzip"}, 413),
        (bytes(21 << 20), PROTOBUF, 413),
    ],
)
def test_http_refuses_malformed_requests(local, http, content, headers, status):
    """Broken requests get 4xx and the server goes on answering."""
    reply = http.post(f"{local.otlp_http_url}/v1/traces", content=content, headers=headers)
    assert reply.status_code == status
    assert http.get(f"{local.tempo_url}/ready").status_code == 200


def test_http_errors_carry_an_rpc_status(local, http, samples):
    """A bad trace id is code 3 with a message, as JSON or as protobuf by the request's type."""
    bad = samples.request(samples.span("broken", trace_id=b"short"))
    url = f"{local.otlp_http_url}/v1/traces"
    reply = http.post(url, content=bad.SerializeToString(), headers=PROTOBUF)
    status = Status.FromString(reply.content)
    assert (reply.status_code, status.code) == (400, 3)
    assert "16" in status.message
    reply = http.post(url, content=b"[]", headers=JSON)
    assert reply.json().keys() == {"code", "message"}
    assert reply.json()["code"] == 3


def test_a_request_with_one_bad_span_stores_nothing(local, http, talk, samples):
    """A refused request leaves no part of itself behind."""
    good = samples.span()
    request = samples.request(good, samples.span(span_id=b"x"))
    reply = http.post(
        f"{local.otlp_http_url}/v1/traces", content=request.SerializeToString(), headers=PROTOBUF
    )
    assert reply.status_code == 400
    assert talk.tempo_spans(good.trace_id) == []


def test_http_methods_and_paths_beside_the_intake(local, http):
    """GET is 405 and another path 404."""
    assert http.get(f"{local.otlp_http_url}/v1/traces").status_code == 405
    assert http.post(f"{local.otlp_http_url}/v1/metrics").status_code == 404


def raw_export(endpoint: str, body: bytes) -> bytes:
    with grpc.insecure_channel(endpoint) as channel:
        call = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=None,
            response_deserializer=None,
        )
        return call(body, timeout=10)


def test_grpc_refuses_malformed_requests_with_invalid_argument(local, samples):
    """Bytes that do not parse and ids of the wrong length are final for a client."""
    short = samples.request(samples.span(span_id=b"x")).SerializeToString()
    for body in (b"\xff\xff\xff", short):
        with pytest.raises(grpc.RpcError) as caught:
            raw_export(local.otlp_grpc_endpoint, body)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_refuses_oversized_requests(local):
    """Above 20 MiB gRPC answers RESOURCE_EXHAUSTED."""
    with pytest.raises(grpc.RpcError) as caught:
        raw_export(local.otlp_grpc_endpoint, bytes((20 << 20) + 1))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_same_span_sent_twice_is_stored_once_in_its_last_form(talk, samples):
    """A retried or corrected span replaces the one with the same trace id and span id."""
    first = samples.span("first")
    again = samples.span("second", trace_id=first.trace_id, span_id=first.span_id)
    talk.send(samples.request(first, samples.span("other", trace_id=first.trace_id)))
    talk.send(samples.request(again))
    talk.send(samples.request(first, again))
    names = [span["name"] for span in talk.tempo_spans(first.trace_id)]
    assert sorted(names) == ["other", "second"]


def test_concurrent_senders_lose_nothing(local, talk, samples):
    """HTTP and gRPC senders at once: every acknowledged span is there."""
    trace_id = os.urandom(16)

    def send(worker: int) -> None:
        for number in range(5):
            spans = [samples.span(f"{worker}.{number}.{n}", trace_id=trace_id) for n in range(10)]
            request = samples.request(*spans, service=f"svc-{worker % 3}")
            if worker % 2:
                talk.send(request)
            else:
                with grpc.insecure_channel(local.otlp_grpc_endpoint) as channel:
                    TraceServiceStub(channel).Export(request, timeout=20)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(8)))
    names = {span["name"] for span in talk.tempo_spans(trace_id)}
    assert len(names) == 8 * 5 * 10


def test_hostile_values_are_stored_and_answered(talk, samples):
    """Extreme times, numbers and names do not break the store, the API or the preview."""
    span = samples.span(
        "\x00\x1b[31m<script>",
        {"big": 2**63 - 1, "small": -(2**63), "inf": float("inf"), "nan": float("nan"),
         "gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 2**62,
         "gen_ai.usage.cost": float("nan"), "": "", "many": ["x"] * 1000},
        start_time_unix_nano=2**64 - 1,
        end_time_unix_nano=0,
    )  # fmt: skip
    span.kind = 77
    talk.send(samples.request(span))
    (found,) = talk.tempo_spans(span.trace_id)
    assert found["startTimeUnixNano"] == str(2**64 - 1)
    assert found["kind"] == 77
    assert json.dumps(found)
    (seen,) = talk.observations(span.trace_id)
    assert seen["costDetails"] == {}
