"""Answers of `query` in the JSON that Tempo 3.0.3 sends: what Grafana's data source reads.

64-bit integers are text, zero values are left out, trace ids have no leading zeros, span ids do.
Pure functions; `search_api` has the routes.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from otelbridge.local.query import MetricsAnswer, SearchAnswer, SpanMatch, SpanSet, TraceMatch
from otelbridge.local.series import Series
from otelbridge.local.traceql.compile import Value
from otelbridge.local.traceql.printing import go_duration

#: What Tempo shows as root service of a trace whose root has not come, or has no service name.
NO_ROOT: Final = "<root span not yet received>"
_ARRAY_KINDS: Final = {"ss": "s", "ii": "i", "dd": "d", "bb": "b"}


def value(typed: Value) -> dict[str, Any]:
    """An attribute value as `opentelemetry.proto.common.v1.AnyValue` in JSON."""
    kind, content = typed
    if kind == "i":
        return {"intValue": str(content)}
    if kind == "d":
        return {"doubleValue": _number(content)}
    if kind == "b":
        return {"boolValue": content}
    if kind == "dur":
        return {"stringValue": go_duration(content)}
    if kind in _ARRAY_KINDS:
        return {"arrayValue": {"values": [value((_ARRAY_KINDS[kind], item)) for item in content]}}
    return {"stringValue": "nil" if kind == "nil" else content}


def search(answer: SearchAnswer) -> dict[str, Any]:
    """The body of `/api/search`."""
    metrics: dict[str, Any] = {"completedJobs": 1, "totalJobs": 1}
    if answer.inspected_traces:
        metrics["inspectedTraces"] = answer.inspected_traces
    return {"traces": [_trace(trace) for trace in answer.traces], "metrics": metrics}


def _trace(trace: TraceMatch) -> dict[str, Any]:
    body: dict[str, Any] = {
        "traceID": trace.trace_id.lstrip("0"),
        "rootServiceName": trace.root_service or NO_ROOT,
    }
    if trace.root_name:
        body["rootTraceName"] = trace.root_name
    body["startTimeUnixNano"] = str(trace.start_ns)
    if trace.duration_ns // 1_000_000:
        body["durationMs"] = trace.duration_ns // 1_000_000
    if trace.span_sets:
        sets = [_span_set(found) for found in trace.span_sets]
        body["spanSet"] = sets[0]
        body["spanSets"] = sets
    body["serviceStats"] = {
        service: {"spanCount": stats.span_count}
        | ({"errorCount": stats.error_count} if stats.error_count else {})
        for service, stats in sorted(trace.service_stats.items())
    }
    return body


def _span_set(found: SpanSet) -> dict[str, Any]:
    body: dict[str, Any] = {
        "spans": [_span(span) for span in found.spans],
        "matched": found.matched,
    }
    if found.attributes:
        body["attributes"] = _pairs(found.attributes)
    return body


def _span(span: SpanMatch) -> dict[str, Any]:
    body: dict[str, Any] = {"spanID": span.span_id}
    if span.name:
        body["name"] = span.name
    body["startTimeUnixNano"] = str(span.start_ns)
    body["durationNanos"] = str(span.duration_ns)
    if span.attributes:
        body["attributes"] = _pairs(span.attributes)
    return body


def _pairs(attributes: tuple[tuple[str, Value], ...]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(typed)} for key, typed in attributes]


def query_range(answer: MetricsAnswer) -> str:
    """The body of `/api/metrics/query_range`, as text."""
    stamps = _Stamps()
    series = ",".join([_series(series, stamps) for series in answer.series])
    return f'{{"series":[{series}],"metrics":{dumped(_jobs())}}}'


def query_instant(answer: MetricsAnswer) -> dict[str, Any]:
    """The body of `/api/metrics/query`: the last sample of each series."""
    found = []
    for series in answer.series:
        if series.samples:
            body: dict[str, Any] = {"labels": _pairs(series.labels)}
            if series.samples[-1][1]:
                body["value"] = _number(series.samples[-1][1])
            found.append(body)
    return {"series": found, "metrics": _jobs()}


class _Stamps(dict[int, str]):
    """The begin of a sample's text by its timestamp: series share their times."""

    def __missing__(self, timestamp_ms: int) -> str:
        text = self[timestamp_ms] = f'{{"timestampMs":"{timestamp_ms}","value":'
        return text


def _series(series: Series, stamps: _Stamps) -> str:
    # Samples are many: their text is put together here, at a third of the cost of dictionaries.
    # Most are neither whole, nor infinite, nor NaN, and need no look at what JSON makes of them.
    samples = ",".join(
        [
            f"{stamps[time]}{number!r}}}" if 0 < number % 1 < 1 else _sample(time, number)
            for time, number in series.samples
        ]
    )
    shown = ""
    if series.exemplars:
        exemplars = [
            {
                "labels": _pairs((("trace:id", ("s", exemplar.trace_id.lstrip("0"))),)),
                "value": _number(exemplar.value),
                "timestampMs": str(exemplar.timestamp_ms),
            }
            for exemplar in series.exemplars
        ]
        shown = f',"exemplars":{dumped(exemplars)}'
    return f'{{"labels":{dumped(_pairs(series.labels))},"samples":[{samples}]{shown}}}'


def _sample(timestamp_ms: int, number: float) -> str:
    if not number:
        return f'{{"timestampMs":"{timestamp_ms}"}}'
    return f'{{"timestampMs":"{timestamp_ms}","value":{dumped(_number(number))}}}'


def dumped(body: object) -> str:
    """A body as compact JSON text."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _jobs() -> dict[str, Any]:
    return {"completedJobs": 1, "totalJobs": 1}


def _number(number: float) -> float | int | str:
    """JSON has no NaN and no infinities: protobuf's JSON writes them as text."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return int(number) if number == int(number) and abs(number) < 2**53 else number
