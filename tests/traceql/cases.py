"""The recorded answers of Tempo, and a store or decoded traces filled from the same spans.

`tests/conformance/tempo/` holds the spans and the cases; the header lines there explain them. A
case is binding when it names no quirk, does not depend on version or block, and is no server error.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.local import records
from otelbridge.local.store.database import Store
from otelbridge.local.traceql.printing import go_duration
from tests.traceql import evaluator

_DIRECTORY = Path(__file__).parent.parent / "conformance" / "tempo"
_IDS = ("traceId", "spanId", "parentSpanId")
_UNITS = {"s": 1, "m": 60, "h": 3600}
Json = dict[str, Any]


def spans() -> tuple[list[Json], int]:
    """The requests as OTLP/JSON, and the base time in nanoseconds."""
    data = json.loads((_DIRECTORY / "spans.json").read_text())
    return data["requests"], int(data["base_unix_nano"])


def every(name: str) -> list[Json]:
    lines = (_DIRECTORY / name).read_text().splitlines()
    return [json.loads(line) for line in lines][1:]


def is_binding(case: Json) -> bool:
    """Whether Tempo's answer to the case has to be ours."""
    return (
        not case.get("quirk")
        and not case.get("version_or_block_dependent")
        and case["status"] < 500
    )


def answered(name: str, *, binding: bool = True) -> list[Json]:
    """Cases that Tempo answered, of `search.jsonl` or `metrics.jsonl`."""
    return [case for case in every(name) if case["status"] == 200 and is_binding(case) == binding]


def refused(name: str) -> list[Json]:
    """Binding cases that Tempo refuses."""
    return [case for case in every(name) if 400 <= case["status"] < 500 and is_binding(case)]


def error_start(case: Json) -> str:
    """What our text of a refusal begins with: Tempo's."""
    return str(case["error_starts_with"])


def store_of(requests: Iterable[Json]) -> Store:
    """A store in memory that took the requests one after the other."""
    store = Store(None)
    for request in requests:
        message = ParseDict(with_base64_ids(request), ExportTraceServiceRequest())
        store.write(records.Batch(tuple(records.records(message)), ())).result()
    return store


def with_base64_ids(node: Any) -> Any:
    """OTLP/JSON has hexadecimal ids where protobuf's JSON has base64."""
    if isinstance(node, dict):
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode()
            if key in _IDS
            else with_base64_ids(value)
            for key, value in node.items()
        }
    return [with_base64_ids(item) for item in node] if isinstance(node, list) else node


def pieces(requests: Iterable[Json]) -> list[Json]:
    """The same spans in one request each."""
    return [
        {
            "resourceSpans": [
                {
                    "resource": group.get("resource", {}),
                    "scopeSpans": [{"scope": scoped.get("scope", {}), "spans": [span]}],
                }
            ]
        }
        for request in requests
        for group in request["resourceSpans"]
        for scoped in group["scopeSpans"]
        for span in scoped["spans"]
    ]


# -- comparable forms ------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A typed value (or nil) as the cases write it: a bare JSON value, doubles rounded."""
    if value is None or value[0] == "nil":
        return "nil"
    kind, bare = value
    if kind == "dur":
        return go_duration(bare)
    if kind in ("ss", "ii", "dd", "bb"):
        return [plain((kind[0], item)) for item in bare]
    return round(float(bare), 9) if kind == "d" else bare


def recorded(value: Json) -> Any:
    """A value of a case in the same form."""
    ((kind, bare),) = value.items()
    if kind == "array":
        return [recorded(item) for item in bare]
    return round(float(bare), 9) if kind == "double" else bare


def trace_spans(case: Json) -> dict[str, list[str]]:
    """Span ids by trace of a search case."""
    return {trace["trace_id"]: trace["span_ids"] for trace in case["expected"]}


def trace_sets(case: Json) -> dict[str, list[Any]]:
    """Spansets by trace of a search case: span ids, matched, attributes."""
    return {
        trace["trace_id"]: sorted(
            (
                (
                    one["span_ids"],
                    one["matched"],
                    [(key, recorded(value)) for key, value in one["attributes"].items()],
                )
                for one in trace["sets"]
            ),
            key=repr,
        )
        for trace in case["spansets"]
    }


def step_ns(text: str | None) -> int | None:
    """A step of a case: `60s`, `1m30s`, plain seconds, or none."""
    if text is None:
        return None
    if text.isdigit():
        return int(text) * 10**9
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([smh])", text)) * 10**9


def recorded_series(case: Json, series: list[Json]) -> dict[str, list[list[float]]]:
    """Samples by label text; an instant value is a sample at the end."""
    end_ms = case["end_offset_s"] * 1000
    return {
        label_text((key, recorded(value)) for key, value in one["labels"].items()): one.get(
            "samples", [[end_ms, one.get("value")]]
        )
        for one in series
    }


def label_text(labels: Iterable[tuple[str, Any]]) -> str:
    """Labels as one text, whatever their order."""
    return json.dumps(sorted(labels))


def accepted_series(case: Json) -> list[list[Json]]:
    """The answers that count: of a case whose last bucket was cut by the clock, 2.10.8's too."""
    answers = [case["series"]]
    if "depends on wall time" in case.get("note", ""):
        answers.append(case["result_2_10_8"])
    return answers


def decoded() -> list[list[evaluator.Span]]:
    """The traces for the evaluator."""
    return evaluator.decode(spans()[0])
