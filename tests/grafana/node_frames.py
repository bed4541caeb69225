"""Answers of Tempo's API as the data frames that Grafana's Tempo source makes of them, in JSON.

Restated from the source's backend (grafana-tempo-datasource 13.1.5, pkg/tempo/search.go): names,
order, types and configuration of the fields. `node/links.js` reads them as Grafana reads those of
its backend. Limits: the `nested` column of the traces table is left out; panels link top rows only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_INTERNAL: Final = {"datasourceUid": "otelbridge-tempo", "datasourceName": "otelbridge Tempo"}
_HIDDEN: Final = {"custom": {"hideFrom": {"viz": True}}}


def spans_frame(answer: Mapping[str, Any], ref_id: str = "A") -> dict[str, Any]:
    """The frame of table type `spans`: a row for each span of /api/search's answer."""
    rows = list(_rows(answer))
    attributes = sorted({name for row in rows for name in row["attributes"]})
    link = {
        "title": "Span: ${__value.raw}",
        "url": "",
        "internal": {
            **_INTERNAL,
            "query": {"query": "${__data.fields.traceIdHidden}", "queryType": "traceql"},
            "panelsState": {"trace": {"spanId": "${__value.raw}"}},
        },
    }
    named = any(row["name"] for row in rows)
    fields = [
        _field("traceIdHidden", "string", rows, _HIDDEN),
        _field("traceService", "string", rows, {"displayNameFromDS": "Trace Service"}),
        _field("traceName", "string", rows, {"displayNameFromDS": "Trace Name"}),
        _field(
            "spanID", "string", rows,
            {"displayNameFromDS": "Span ID", "unit": "string", "links": [link]},
        ),
        _field("time", "time", rows, {"displayNameFromDS": "Start time"}),
        _field(
            "name", "string", rows,
            {"displayNameFromDS": "Name", "custom": {"hideFrom": {"viz": not named}}},
        ),
        *(_attribute(name, rows) for name in attributes),
        _field("duration", "number", rows, {"displayNameFromDS": "Duration", "unit": "ns"}),
    ]  # fmt: skip
    return _frame("Spans", ref_id, fields)


def traces_frame(answer: Mapping[str, Any], ref_id: str = "A") -> dict[str, Any]:
    """The frame of table type `traces`: a row for each trace, without its nested spans."""
    link = {
        "title": "Trace: ${__value.raw}",
        "url": "",
        "internal": {**_INTERNAL, "query": {"query": "${__value.raw}", "queryType": "traceql"}},
    }
    rows = [
        {
            "traceID": trace["traceID"],
            "startTime": int(trace["startTimeUnixNano"]) / 1e6,
            "traceService": trace.get("rootServiceName", ""),
            "traceName": trace.get("rootTraceName", ""),
            "traceDuration": trace.get("durationMs"),
        }
        for trace in _newest_first(answer)
    ]
    fields = [
        _field("traceID", "string", rows, {"displayNameFromDS": "Trace ID", "links": [link]}),
        _field("startTime", "time", rows, {"displayNameFromDS": "Start time"}),
        _field("traceService", "string", rows, {"displayNameFromDS": "Service"}),
        _field("traceName", "string", rows, {"displayNameFromDS": "Name"}),
        _field("traceDuration", "number", rows, {"displayNameFromDS": "Duration", "unit": "ms"}),
    ]
    return _frame("Traces", ref_id, fields)


def table_frame(columns: Mapping[str, list[Any]], ref_id: str = "A") -> dict[str, Any]:
    """A frame of these columns; the type of a field is that of its first value."""
    fields = [
        {
            "name": name,
            "type": "number" if isinstance(values[0], int | float) else "string",
            "config": {},
            "values": values,
        }
        for name, values in columns.items()
    ]
    return _frame("", ref_id, fields)


def _rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for trace in _newest_first(answer):
        for found in trace.get("spanSets", []):
            for span in found["spans"]:
                pairs = (*found.get("attributes", ()), *span.get("attributes", ()))
                yield {
                    "traceIdHidden": trace["traceID"],
                    "traceService": trace.get("rootServiceName", ""),
                    "traceName": trace.get("rootTraceName", ""),
                    "spanID": span["spanID"],
                    "time": int(span["startTimeUnixNano"]) / 1e6,
                    "name": span.get("name", ""),
                    "duration": float(span["durationNanos"]),
                    "attributes": {pair["key"]: _value(pair["value"]) for pair in pairs},
                }


def _newest_first(answer: Mapping[str, Any]) -> list[Any]:
    return sorted(answer["traces"], key=lambda trace: -int(trace["startTimeUnixNano"]))


def _value(value: Mapping[str, Any]) -> Any:
    if "intValue" in value:
        return float(value["intValue"])
    for kind in ("stringValue", "doubleValue", "boolValue"):
        if kind in value:
            return value[kind]
    return str(value)


def _attribute(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    values = [row["attributes"].get(name) for row in rows]
    # The last span that has it decides the type, as in the source.
    last = next(value for value in reversed(values) if value is not None)
    kind = "string"
    if isinstance(last, bool):
        kind = "boolean"
    elif isinstance(last, int | float):
        kind = "number"
    return {"name": name, "type": kind, "config": {"displayNameFromDS": name}, "values": values}


def _field(
    name: str, kind: str, rows: list[dict[str, Any]], config: Mapping[str, Any]
) -> dict[str, Any]:
    return {"name": name, "type": kind, "config": config, "values": [row[name] for row in rows]}


def _frame(name: str, ref_id: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    schema = [{k: field[k] for k in ("name", "type", "config")} for field in fields]
    return {
        "schema": {"name": name, "refId": ref_id, "fields": schema, "meta": {}},
        "data": {"values": [field["values"] for field in fields]},
    }
