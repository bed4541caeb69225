"""What the real Collector does with input that is broken, hostile or absurd."""

from __future__ import annotations

import gzip
import os
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from benchmarks._collector import EXPORT_METHOD, usage
from otelbridge import semconv

pytestmark = pytest.mark.collector

LLM = {semconv.GEN_AI_OPERATION_NAME: "chat", semconv.LLM_KEEP: True}
MIB = 1 << 20
LIMIT_BYTES = 16 * MIB  # OTELBRIDGE_COLLECTOR_HTTP_MAX_BYTES and _GRPC_MAX_MIB
MEMORY_LIMIT_MIB = 512  # OTELBRIDGE_COLLECTOR_MEMORY_LIMIT_MIB


def still_works(bench):
    """The next request is taken and reaches both stores; memory is below the limit."""
    trace_id = bench.new_trace()
    bench.send(bench.span(trace_id, LLM), bench.span(trace_id))
    assert len(bench.at_tempo(trace_id, 2)) == 2
    assert len(bench.at_langfuse(trace_id, 1)) == 1
    assert usage(bench.collector.pid).rss_bytes < MEMORY_LIMIT_MIB * MIB


def one(bench, **attributes):
    """Bytes of a request with one span that has these attributes."""
    span = bench.span(bench.new_trace(), {**LLM, **attributes})
    return bench.request([span]).SerializeToString()


# -- refused ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make_body", "headers", "status"),
    [
        (lambda bench: os.urandom(500), {}, 400),
        (lambda bench: one(bench)[:-3], {}, 400),
        (lambda bench: b'{"resourceSpans":[', {"Content-Type": "application/json"}, 400),
        (
            lambda bench: b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}',
            {"Content-Type": "application/json"},
            400,
        ),
        (one, {"Content-Type": "text/plain"}, 415),
        (one, {"Content-Encoding": "made-up"}, 400),
        (one, {"Content-Encoding": "gzip"}, 400),
        (lambda bench: one(bench, big="x" * 20 * MIB), {}, 400),
        (
            lambda bench: gzip.compress(one(bench, big="x" * 20 * MIB)),
            {"Content-Encoding": "gzip"},
            400,
        ),
        (lambda bench: gzip.compress(bytes(400 * MIB), 9), {"Content-Encoding": "gzip"}, 400),
    ],
    ids=[
        "random bytes",
        "truncated protobuf",
        "broken JSON",
        "JSON with a bad id",
        "wrong content type",
        "unknown encoding",
        "not the gzip it says",
        "20 MB span",
        "20 MB span, gzipped",
        "gzip bomb of 400 MB",
    ],
)
def test_broken_or_too_large_requests_are_refused(bench, make_body, headers, status):
    """A 4xx, so that the sender does not try again; the next request is served as ever."""
    assert bench.post(make_body(bench), headers) == status
    still_works(bench)


@pytest.mark.parametrize(
    ("make_body", "code"),
    [
        (lambda bench: one(bench)[:-3], grpc.StatusCode.INTERNAL),
        (lambda bench: one(bench, big="x" * 20 * MIB), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["truncated protobuf", "20 MB span"],
)
def test_broken_or_too_large_grpc_requests_are_refused(bench, make_body, code):
    """The same over gRPC, with the status that its clients do not retry."""
    with grpc.insecure_channel(bench.collector.otlp_grpc_endpoint) as channel:
        export = channel.unary_unary(EXPORT_METHOD)
        with pytest.raises(grpc.RpcError) as failure:
            export(make_body(bench), timeout=20)
        assert failure.value.code() == code
    still_works(bench)


def test_browsers_are_not_invited(bench):
    """CORS is closed: a preflight request gets no permission."""
    request = urllib.request.Request(
        bench.collector.otlp_http_url + "/v1/traces",
        method="OPTIONS",
        headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    assert headers["Access-Control-Allow-Origin"] is None


# -- accepted and bounded --------------------------------------------------------------------------
def test_huge_values_are_bounded_on_the_tempo_side(bench):
    """Ten attributes of 1 MB: taken; what reaches Tempo is a small part of it."""
    trace_id = bench.new_trace()
    span = bench.span(trace_id, {**LLM, **{f"app.value{n}": "é" * (MIB // 2) for n in range(10)}})
    assert bench.post(bench.request([span]).SerializeToString()) == 200
    (arrived,) = bench.at_tempo(trace_id, 1).values()
    assert arrived.span.ByteSize() < MIB
    assert size_in_values(arrived) <= 10 * 8192
    still_works(bench)


def size_in_values(received):
    return sum(
        len(value.encode()) for value in received.attributes.values() if isinstance(value, str)
    )


def test_a_hundred_thousand_attributes_pass_through(bench):
    """Slow for its own request only: taken, delivered, and the next request is served."""
    trace_id = bench.new_trace()
    span = bench.span(trace_id, {**LLM, **{f"key{n}": n for n in range(100_000)}})
    body = bench.request([span]).SerializeToString()
    with urllib.request.urlopen(
        urllib.request.Request(
            bench.collector.otlp_http_url + "/v1/traces",
            body,
            {"Content-Type": "application/x-protobuf"},
        ),
        timeout=30,
    ) as answer:
        assert answer.status == 200
    bench.wait(lambda: bench.tempo.store.of(trace_id), "the span at Tempo", 20)
    still_works(bench)


def with_bytes(body: bytes, placeholder: bytes, raw: bytes) -> bytes:
    """The request with a placeholder replaced by bytes of the same length."""
    assert len(placeholder) == len(raw)
    assert body.count(placeholder) == 1
    return body.replace(placeholder, raw)


@pytest.mark.parametrize("place", ["value", "key", "name", "status", "event"])
def test_invalid_utf8_costs_no_neighbour(bench, place):
    """Wherever the bytes stand, the span's neighbours reach both stores, and so does the span."""
    trace_id = bench.new_trace()
    poison = "PLACEHOLDE"
    attributes = dict(LLM)
    if place in {"value", "key"}:
        attributes |= {"note": poison} if place == "value" else {poison: "value"}
    span = bench.span(
        trace_id,
        attributes,
        name=poison if place == "name" else "work",
        events=[("event", {"note": poison})] if place == "event" else (),
    )
    if place == "status":
        span.status.message = poison
    neighbours = [bench.span(trace_id, LLM) for _ in range(3)]
    body = bench.request([neighbours[0], span, *neighbours[1:]]).SerializeToString()
    assert bench.post(with_bytes(body, poison.encode(), b"caf\xe9\xff\xfe cut")) == 200
    assert len(bench.at_tempo(trace_id, 4)) == 4
    assert len(bench.at_langfuse(trace_id, 4)) == 4


@pytest.mark.parametrize("which", ["trace_id", "span_id"])
@pytest.mark.parametrize("zeros", [b"", bytes(8), bytes(16)], ids=["empty", "8 zeros", "16 zeros"])
def test_zero_ids_cost_no_neighbour(bench, which, zeros):
    """A span without an id is dropped (or its request refused); neighbours arrive."""
    trace_id = bench.new_trace()
    bad = bench.span(trace_id, LLM)
    setattr(bad, which, zeros)
    body = bench.request([bench.span(trace_id, LLM), bad, bench.span(trace_id, LLM)])
    status = bench.post(body.SerializeToString())
    expected_length = 16 if which == "trace_id" else 8
    if len(zeros) in {0, expected_length}:
        assert status == 200
        assert len(bench.at_tempo(trace_id, 2)) == 2
        assert len(bench.at_langfuse(trace_id, 2)) == 2
    else:
        assert status == 400
    still_works(bench)


@pytest.mark.parametrize(
    ("start_ns", "end_ns"),
    [(0, 0), (2_000_000_000_000_000_000, 1), (2**63, 2**64 - 1)],
    ids=["epoch", "ends before it starts", "year 2554"],
)
def test_clock_skew_is_passed_on(bench, start_ns, end_ns):
    """Impossible times are the stores' business: the span arrives as it was sent."""
    trace_id = bench.new_trace()
    span = bench.span(trace_id, LLM)
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    bench.send(span)
    (arrived,) = bench.at_tempo(trace_id, 1).values()
    assert (arrived.span.start_time_unix_nano, arrived.span.end_time_unix_nano) == (
        start_ns,
        end_ns,
    )
    still_works(bench)


def test_cyclic_parents_and_duplicate_ids_are_passed_on(bench):
    """Two spans that name each other as parent, and one sent twice: nothing is held or lost."""
    trace_id = bench.new_trace()
    first, second = bench.span(trace_id, LLM), bench.span(trace_id, LLM)
    first.parent_span_id, second.parent_span_id = second.span_id, first.span_id
    twice = bench.span(trace_id, LLM)
    bench.send(first, second, twice, twice)

    def arrived(store):
        with store.lock:
            return sorted(item.id for item in store.spans if item.span.trace_id == trace_id)

    expected = sorted(span.span_id.hex() for span in (first, second, twice, twice))
    bench.wait(lambda: arrived(bench.tempo.store) == expected, "four spans at Tempo")
    bench.wait(lambda: arrived(bench.langfuse.store) == expected, "four spans at Langfuse")
    still_works(bench)


def nested(depth: int) -> Message:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

    value = AnyValue(string_value="deep")
    for _ in range(depth):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    return value


def test_nested_values_cost_no_neighbour(bench):
    """A value nested 40 deep: the span and its neighbours arrive."""
    trace_id = bench.new_trace()
    span = bench.span(trace_id, LLM)
    span.attributes.add(key="deep").value.CopyFrom(nested(40))
    bench.post(bench.request([span, bench.span(trace_id, LLM)]).SerializeToString())
    store = bench.tempo.store

    def count():
        with store.lock:
            return sum(item.span.trace_id == trace_id for item in store.spans)

    bench.wait(lambda: count() == 2, "both spans at Tempo")
    still_works(bench)


# -- memory ----------------------------------------------------------------------------------------
@pytest.mark.timeout(120)
def test_burst_of_large_spans_stays_below_the_memory_limit(make_bench, tmp_path: Path):
    """5,000 spans of 20 KB as fast as they are taken: some are refused, none makes it grow."""
    bench = make_bench(work_dir=tmp_path)
    prompt = os.urandom(10_000).hex()
    for _ in range(50):
        trace_id = bench.new_trace()
        spans = [bench.span(trace_id, {**LLM, "gen_ai.input.messages": prompt}) for _ in range(100)]
        body = bench.request(spans).SerializeToString()
        bench.wait(lambda body=body: bench.post(body) == 200, "the request to be taken", 20)
    figures = usage(bench.collector.pid)
    assert figures.peak_rss_bytes < MEMORY_LIMIT_MIB * MIB
