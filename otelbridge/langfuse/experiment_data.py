"""The traces of an experiment with what they cost, took and were judged, from Langfuse or Tempo.

Langfuse v4 is read by observations and v3/scores, v3 by traces and v2/scores; a Tempo, or
`otelbridge local`, by TraceQL. All give the same `Measured` values; `reports` compares them. What
only one store knows is left out for the other (no errors in v3's list of traces).
"""

from __future__ import annotations

import json
import math
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelbridge import endpoints, semconv
from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.langfuse.experiments import METADATA_PREFIX, tag_of, variant_in

_OBSERVATIONS: Final = "/api/public/v2/observations"
_FIELDS: Final = "core,basic,metadata,usage,trace_context"
_PAGE: Final = 1000
_PAGE_V3: Final = 100
#: Trace ids in one question for scores: 33 bytes each in an address.
_IDS: Final = 100
#: A report over more traces than this says so instead of waiting for an hour.
MAX_TRACES: Final = 20_000
_RETRIES: Final = 3
_LONGEST_REST_SECONDS: Final = 60.0
_TEMPO_TIMEOUT_SECONDS: Final = 60.0
_NUMERIC: Final = ("NUMERIC", "BOOLEAN")


@dataclass(slots=True)
class Measured:
    """One trace of an experiment.

    Attributes:
        values: Metric to number: `cost_usd`, `latency_seconds`, `error`, and `score:<name>`.
    """

    trace_id: str
    variant: str = ""
    user_id: str = ""
    session_id: str = ""
    values: dict[str, float] = field(default_factory=dict)


def from_langfuse(
    api: LangfuseApi, experiment: str, start: datetime, end: datetime
) -> list[Measured]:
    """The traces of an experiment that began in [start, end).

    Scores may have come later than `end`.

    Raises:
        ConfigError, LangfuseApiError: Langfuse refuses or does not answer.
        OtelbridgeError: More than 20,000 traces.
    """
    try:
        found = _observed(api, experiment, start, end)
    except LangfuseApiError as error:
        if error.status != 404:  # v3 does not have the route
            raise
        found = _listed(api, experiment, start, end)
        scores = paged(api, "/api/public/v2/scores", {"fromTimestamp": _text(start)})
        _add_scores(found, ((score.get("traceId"), score) for score in scores))
        return list(found.values())
    _add_scores(found, scores_of(api, list(found)))
    return list(found.values())


def scores_of(api: LangfuseApi, trace_ids: list[str]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Scores of traces and their spans by `/v3/scores`, each with its trace id."""
    for first in range(0, len(trace_ids), _IDS):
        query = {
            "traceId": ",".join(trace_ids[first : first + _IDS]),
            "fields": "subject",
            "limit": _PAGE_V3,
        }
        for score in by_cursor(api, "/api/public/v3/scores", query):
            subject = score.get("subject") or {}
            trace = subject.get("id") if subject.get("kind") == "trace" else subject.get("traceId")
            yield trace, score


def from_tempo(base_url: str, experiment: str, start: datetime, end: datetime) -> list[Measured]:
    """The same from a Tempo: what its spans say, scores of `score()` and `evaluate()` included.

    Raises:
        OtelbridgeError: Tempo does not answer as Tempo does; more than 20,000 traces.
    """
    key = f'span."{semconv.LANGFUSE_TRACE_METADATA_PREFIX}{METADATA_PREFIX}{experiment}"'
    wanted = (key, *(f"span.{one}" for one in _TEMPO_KEYS), "status")
    telling = f"nestedSetParent < 0 || span.{_COST} != nil || span.{_SCORE_VALUE} != nil"
    query = f"{{ {key} != nil && ({telling}) }} | select({', '.join(wanted)})"
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for one in _tempo(base_url, query, start, end):
        known = rows.setdefault(_trace_id(one), [])
        seen = {row["id"] for row in known}
        known += [row for row in _rows(one, experiment) if row["id"] not in seen]
        _check_count(len(rows), experiment)
    # What was judged later stands in traces of its own, without the experiment's name.
    judged = f"{{ span.{_JUDGED} != nil && span.{_SCORE_VALUE} != nil }} | select({_SELECTED})"
    for one in _tempo(base_url, judged, start, max(end, datetime.now(UTC))):
        if (trace_id := _trace_id(one)) not in rows:
            rows[trace_id] = _rows(one, experiment)
    return list(_scores_joined(rows).values())


# -- Langfuse v4 -----------------------------------------------------------------------------------
def _observed(
    api: LangfuseApi, experiment: str, start: datetime, end: datetime
) -> dict[str, Measured]:
    conditions = [
        {"type": "arrayOptions", "column": "tags", "operator": "any of",
         "value": [tag_of(experiment)]},
        {"type": "datetime", "column": "startTime", "operator": ">=", "value": _text(start)},
        {"type": "datetime", "column": "startTime", "operator": "<", "value": _text(end)},
    ]  # fmt: skip
    query = {"filter": json.dumps(conditions), "fields": _FIELDS, "limit": _PAGE}
    found: dict[str, Measured] = {}
    spans: dict[str, list[Mapping[str, Any]]] = {}
    for row in by_cursor(api, _OBSERVATIONS, query):
        spans.setdefault(str(row.get("traceId")), []).append(row)
        _check_count(len(spans), experiment)
    for trace_id, rows in spans.items():
        one = found[trace_id] = Measured(trace_id)
        for row in rows:
            one.variant = one.variant or variant_in(row.get("metadata"), experiment) or ""
            one.user_id = one.user_id or row.get("userId") or ""
            one.session_id = one.session_id or row.get("sessionId") or ""
        costs = [row["totalCost"] for row in rows if isinstance(row.get("totalCost"), int | float)]
        if costs:
            one.values["cost_usd"] = float(sum(costs))
        starts = [_seconds(row.get("startTime")) for row in rows]
        ends = [_seconds(row.get("endTime") or row.get("startTime")) for row in rows]
        one.values["latency_seconds"] = max(ends) - min(starts)
        roots = [row for row in rows if row.get("isRootObservation")] or rows
        one.values["error"] = float(any(row.get("level") == "ERROR" for row in roots))
    return found


def by_cursor(api: LangfuseApi, path: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every row of a route of v4, page by page."""
    cursor: str | None = None
    while True:
        answer = _asked(api, path, {**query, "cursor": cursor})
        yield from answer.get("data") or ()
        cursor = (answer.get("meta") or {}).get("cursor")
        if not cursor:
            return


# -- Langfuse v3 -----------------------------------------------------------------------------------
def _listed(
    api: LangfuseApi, experiment: str, start: datetime, end: datetime
) -> dict[str, Measured]:
    query = {
        "tags": tag_of(experiment), "fromTimestamp": _text(start), "toTimestamp": _text(end),
        "fields": "core,io,metrics",  # metadata comes with io
    }  # fmt: skip
    found: dict[str, Measured] = {}
    for row in paged(api, "/api/public/traces", query):
        one = found[str(row.get("id"))] = Measured(
            str(row.get("id")),
            variant_in(row.get("metadata"), experiment) or "",
            row.get("userId") or "",
            row.get("sessionId") or "",
        )
        for name, key in (("cost_usd", "totalCost"), ("latency_seconds", "latency")):
            if isinstance(row.get(key), int | float):
                one.values[name] = float(row[key])
        _check_count(len(found), experiment)
    return found


def paged(api: LangfuseApi, path: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every row of a route of v3, page by page."""
    page = 1
    while True:
        answer = _asked(api, path, {**query, "page": page, "limit": _PAGE_V3})
        data = answer.get("data") or []
        yield from data
        page += 1
        if not data or page > (answer.get("meta") or {}).get("totalPages", 1):
            return


def _asked(api: LangfuseApi, path: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
    """One page; waits where Langfuse says that it was asked too often."""
    for attempt in range(_RETRIES + 1):
        try:
            answer = api.request("GET", path, query=query)
        except LangfuseApiError as error:
            rest = error.retry_after_seconds or 1.0
            if error.status != 429 or attempt == _RETRIES or rest > _LONGEST_REST_SECONDS:
                raise
            time.sleep(rest)
        else:
            return answer if isinstance(answer, Mapping) else {}
    raise AssertionError("unreachable")


def _add_scores(
    found: Mapping[str, Measured], scores: Iterable[tuple[Any, Mapping[str, Any]]]
) -> None:
    """Numbers and booleans; the mean where a trace has several of one name."""
    several: dict[tuple[str, str], list[float]] = {}
    for trace_id, score in scores:
        value = score.get("value")
        if trace_id in found and score.get("dataType") in _NUMERIC and value is not None:
            several.setdefault((trace_id, f"score:{score['name']}"), []).append(float(value))
    for (trace_id, name), values in several.items():
        found[trace_id].values[name] = sum(values) / len(values)


# -- Tempo -----------------------------------------------------------------------------------------
#: Spans that Tempo gives of one trace (`max_spans_per_span_set`), and hours that it searches at
#: once (`max_duration`), by default.
_TEMPO_SPANS: Final = 100
_TEMPO_WINDOW: Final = timedelta(hours=168)
_COST: Final = semconv.GEN_AI_USAGE_COST
_SCORE_NAME: Final = semconv.GEN_AI_EVALUATION_NAME
_SCORE_VALUE: Final = semconv.GEN_AI_EVALUATION_SCORE_VALUE
_JUDGED: Final = semconv.SCORE_TRACE_ID
_TEMPO_KEYS: Final = (
    _COST,
    _SCORE_NAME,
    _SCORE_VALUE,
    _JUDGED,
    semconv.USER_ID,
    semconv.SESSION_ID,
)
_SELECTED: Final = ", ".join(f"span.{one}" for one in (_SCORE_NAME, _SCORE_VALUE, _JUDGED))


def _trace_id(trace: Mapping[str, Any]) -> str:
    return str(trace["traceID"]).rjust(32, "0")


def _rows(trace: Mapping[str, Any], experiment: str) -> list[Mapping[str, Any]]:
    sets = trace.get("spanSets") or [trace.get("spanSet") or {}]
    spans = [span for one in sets for span in one.get("spans") or ()]
    key = f"{semconv.LANGFUSE_TRACE_METADATA_PREFIX}{METADATA_PREFIX}{experiment}"
    rows: list[Mapping[str, Any]] = []
    for span in spans:
        attributes = {one["key"]: _plain(one["value"]) for one in span.get("attributes") or ()}
        begin = int(span.get("startTimeUnixNano") or 0)
        rows.append({
            **attributes, "variant": attributes.get(key), "start": begin, "id": span.get("spanID"),
            "end": begin + int(span.get("durationNanos") or 0),
            "trace_seconds": float(trace.get("durationMs") or 0) / 1000,
        })  # fmt: skip
    return rows


def _scores_joined(traces: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Measured]:
    """Traces with their scores; a trace that only carries a score of another is not one of them."""
    found: dict[str, Measured] = {}
    scores: list[tuple[Any, Mapping[str, Any]]] = []
    for trace_id, rows in traces.items():
        for row in rows:
            if _SCORE_VALUE in row and _SCORE_NAME in row:
                score = {
                    "name": row[_SCORE_NAME], "value": row[_SCORE_VALUE], "dataType": "NUMERIC"
                }  # fmt: skip
                scores.append((row.get(_JUDGED) or trace_id, score))
        work = [row for row in rows if _JUDGED not in row]
        if not work:
            continue
        one = found[trace_id] = Measured(trace_id)
        for row in work:
            one.variant = one.variant or row.get("variant") or ""
            one.user_id = one.user_id or row.get(semconv.USER_ID) or ""
            one.session_id = one.session_id or row.get(semconv.SESSION_ID) or ""
        costs = [row[semconv.GEN_AI_USAGE_COST] for row in work if semconv.GEN_AI_USAGE_COST in row]
        if costs:
            one.values["cost_usd"] = float(sum(costs))
        first, last = min(row["start"] for row in work), max(row["end"] for row in work)
        one.values["latency_seconds"] = max((last - first) / 1e9, work[0]["trace_seconds"])
        outermost = min(work, key=lambda row: (row["start"], -row["end"]))
        one.values["error"] = float(outermost.get("status") == "error")
    _add_scores(found, scores)
    return found


def _plain(value: Mapping[str, Any]) -> Any:
    for kind, convert in (("stringValue", str), ("doubleValue", float), ("intValue", int)):
        if kind in value:
            return convert(value[kind])
    return value.get("boolValue")


def _tempo(
    base_url: str, query: str, start: datetime, end: datetime
) -> Iterator[Mapping[str, Any]]:
    """The traces that a search finds, window by window; one over an edge may come twice."""
    start = start.replace(microsecond=0)  # a window of part seconds would be one second too long
    while start < end:
        until = min(start + _TEMPO_WINDOW, end)
        asked = {
            "q": query, "start": int(start.timestamp()), "end": math.ceil(until.timestamp()),
            "limit": MAX_TRACES + 1, "spss": _TEMPO_SPANS,
        }  # fmt: skip
        yield from _searched(f"{base_url.rstrip('/')}/api/search?{urllib.parse.urlencode(asked)}")
        start = until


def _searched(url: str) -> list[Mapping[str, Any]]:
    import urllib.error
    import urllib.request

    base_url = endpoints.shown(url.partition("/api/search")[0])
    try:
        endpoints.split_http_url(url)
    except ValueError:
        raise OtelbridgeError(f"{base_url!r} is no http:// or https:// URL of a Tempo") from None
    request = urllib.request.Request(url)  # noqa: S310 - the scheme is checked above
    try:
        with (
            suppress_instrumentation(),
            urllib.request.urlopen(request, timeout=_TEMPO_TIMEOUT_SECONDS) as answer,  # noqa: S310
        ):
            return list(json.load(answer).get("traces") or ())
    except urllib.error.HTTPError as error:
        said = error.read(500).decode("utf-8", "replace").strip()
        raise OtelbridgeError(f"{base_url} answered HTTP {error.code}: {said}") from error
    except (OSError, AttributeError, ValueError) as error:
        raise OtelbridgeError(f"no Tempo answers at {base_url}: {error}") from error


def _check_count(number: int, experiment: str) -> None:
    if number > MAX_TRACES:
        raise OtelbridgeError(
            f"The experiment {experiment!r} has more than {MAX_TRACES:,} traces in this time; "
            f"choose a shorter one with --from and --to."
        )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(moment: Any) -> float:
    return datetime.fromisoformat(str(moment)).timestamp()
