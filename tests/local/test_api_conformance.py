"""Tempo's recorded answers, asked for over HTTP of a running local server.

Status codes, error texts and the JSON itself: ids, spansets, attributes, series. The spans are put
into the store as they were sent to Tempo: the OTLP ports would apply the Tempo rule to them first.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.local import records
from otelbridge.local.server import LocalServer
from tests.traceql import cases

_REQUESTS, _BASE_NS = cases.spans()
_BASE_S = _BASE_NS // 10**9
_WINDOW = {"start": _BASE_S - 60, "end": _BASE_S + 840}
Json = dict[str, Any]
_ORDERS = ("in order", "shuffled", "one span a request", "twice")


def _sent(order: str) -> list[Json]:
    pieces = cases.pieces(_REQUESTS)
    if order == "in order":
        return _REQUESTS
    if order == "shuffled":
        random.Random(7).shuffle(pieces)
        return pieces
    return pieces if order == "one span a request" else [*_REQUESTS, *reversed(_REQUESTS)]


@pytest.fixture(scope="module", params=_ORDERS)
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A running server that holds the recorded spans; how they came must not matter."""
    with LocalServer() as running:
        fill(running, _sent(request.param))
        yield running


@pytest.fixture(scope="module")
def plain_server() -> Iterator[LocalServer]:
    """The same with the spans in order, for what does not depend on how they came."""
    with LocalServer() as running:
        fill(running, _REQUESTS)
        yield running


def fill(running: LocalServer, requests: list[Json]) -> None:
    """Store OTLP/JSON requests without the Tempo rule."""
    written = []
    for one in requests:
        message = ParseDict(cases.with_base64_ids(one), ExportTraceServiceRequest())
        written.append(running.store.write(records.Batch(tuple(records.records(message)), ())))
    for done in written:
        done.result(30)


def wire(value: Json) -> Any:
    """An `AnyValue` of the answer in the form of `cases.recorded`."""
    ((kind, bare),) = value.items()
    if kind == "arrayValue":
        return [wire(item) for item in bare["values"]]
    if kind == "intValue":
        assert isinstance(bare, str), "64-bit integers are text"
        return int(bare)
    return round(float(bare), 9) if kind == "doubleValue" else bare


def pairs(listed: list[Json]) -> dict[str, Any]:
    """A list of attributes as a dictionary."""
    return {one["key"]: wire(one["value"]) for one in listed}


def search(running: LocalServer, http: httpx.Client, query: str, **more: Any) -> httpx.Response:
    parameters = {"q": query, "limit": 1000, "spss": 100, **_WINDOW, **more}
    return http.get(f"{running.tempo_url}/api/search", params=parameters)


def metrics(running: LocalServer, http: httpx.Client, case: Json) -> httpx.Response:
    parameters = {
        "q": case["query"],
        "start": _BASE_S + case["start_offset_s"],
        "end": _BASE_S + case["end_offset_s"],
    }
    if case.get("step") is not None:
        parameters["step"] = case["step"]
    return http.get(f"{running.tempo_url}{case['endpoint']}", params=parameters)


def _spans(trace: Json) -> list[Json]:
    return [span for one in trace.get("spanSets", []) for span in one["spans"]]


def _without_numbers(attributes: Json) -> Json:
    """Nested-set numbers depend on the order of siblings that start together."""
    return {key: value for key, value in attributes.items() if not key.startswith("nestedSet")}


@pytest.mark.parametrize("case", cases.answered("search.jsonl"), ids=lambda case: case["id"])
def test_a_search_answers_as_tempo_does(
    server: LocalServer, http: httpx.Client, case: Json
) -> None:
    """Traces, spans, spansets with counts and attributes, and selected attributes are Tempo's."""
    reply = search(server, http, case["query"])
    assert reply.status_code == 200, reply.text
    traces = {trace["traceID"].zfill(32): trace for trace in reply.json()["traces"]}
    assert {
        trace_id: sorted({span["spanID"] for span in _spans(trace)})
        for trace_id, trace in traces.items()
    } == cases.trace_spans(case)
    if "spansets" in case:
        assert {
            trace_id: sorted(
                (
                    (
                        sorted(span["spanID"] for span in one["spans"]),
                        one["matched"],
                        list(pairs(one.get("attributes", [])).items()),
                    )
                    for one in trace.get("spanSets", [])
                ),
                key=repr,
            )
            for trace_id, trace in traces.items()
        } == cases.trace_sets(case)
    if "span_attributes" in case:
        assert {
            span["spanID"]: _without_numbers(pairs(span.get("attributes", [])))
            for trace in traces.values()
            for span in _spans(trace)
        } == {
            span_id: _without_numbers({k: cases.recorded(v) for k, v in attributes.items()})
            for span_id, attributes in case["span_attributes"].items()
        }


@pytest.mark.parametrize("case", cases.answered("metrics.jsonl"), ids=lambda case: case["id"])
def test_a_metrics_query_answers_as_tempo_does(
    server: LocalServer, http: httpx.Client, case: Json
) -> None:
    """Series, labels and samples are Tempo's; a zero value is left out of a sample."""
    reply = metrics(server, http, case)
    assert reply.status_code == 200, reply.text
    instant = case["endpoint"].endswith("/query")
    end_ms = case["end_offset_s"] * 1000
    got = {}
    for series in reply.json()["series"]:
        samples = [
            [int(one["timestampMs"]) - _BASE_NS // 10**6, one.get("value", 0)]
            for one in series.get("samples", [])
        ]
        assert all(one.get("value") != 0 for one in series.get("samples", []))
        samples = [[end_ms, series.get("value", 0)]] if instant else samples
        got[cases.label_text(pairs(series["labels"]).items())] = [
            [time, pytest.approx(value, abs=1e-9)] for time, value in samples
        ]
    assert got in [cases.recorded_series(case, one) for one in cases.accepted_series(case)]


@pytest.mark.parametrize("case", cases.refused("search.jsonl"), ids=lambda case: case["id"])
def test_a_search_is_refused_as_tempo_refuses_it(
    plain_server: LocalServer, http: httpx.Client, case: Json
) -> None:
    """Status and beginning of the text are Tempo's; the text is plain."""
    reply = search(plain_server, http, case["query"])
    assert reply.status_code == case["status"]
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.startswith(cases.error_start(case))


@pytest.mark.parametrize("case", cases.refused("metrics.jsonl"), ids=lambda case: case["id"])
def test_a_metrics_query_is_refused_as_tempo_refuses_it(
    plain_server: LocalServer, http: httpx.Client, case: Json
) -> None:
    """Status and beginning of the text are Tempo's; the text is plain."""
    reply = metrics(plain_server, http, case)
    assert reply.status_code == case["status"]
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.startswith(cases.error_start(case))
