"""Reads one trace back from Tempo and from Langfuse, by its id, until it is whole or time is up.

Tempo answers in OTLP's protobuf (`/api/traces/{id}`). Langfuse has two generations of read API:
`/api/public/v2/observations` (v4, and v3 that opted in) and `/api/public/traces/{id}` (v3; gone
from v4's defaults); the one that does not answer 404 is used. Asks through `probe`; judges nothing.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.doctor import probe
from otelbridge.doctor.findings import Context
from otelbridge.doctor.network_checks import ask as ask_server
from otelbridge.settings import LangfuseSettings

_INTERVAL_SECONDS: Final = 0.25
_ROUNDS_A_SECOND: Final = 4
#: How long the rest may take once some spans are there: they were sent in one request.
REST_SECONDS: Final = 10.0
#: Between the first whole answer and the last question.
SETTLE_SECONDS: Final = 0.3
_REQUEST_SECONDS: Final = 5.0
_EXCERPT: Final = 200
#: Observations asked for at once; the canary has three. Langfuse takes up to 1000.
_MOST: Final = 100
_NO_SUCH_ROUTE: Final = (404, 405)


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span or observation as a store shows it.

    Attributes:
        parent_id: 16 hex digits, empty for a root.
        kind: Langfuse's observation type, empty for Tempo.
        project_id: Langfuse's project, empty where it is not told.
    """

    span_id: str
    parent_id: str
    name: str
    kind: str = ""
    has_input: bool = False
    has_output: bool = False
    project_id: str = ""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a store had in the end.

    Attributes:
        spans: As stored, one entry for each copy.
        body: The whole answer as bytes, to look for text in.
        api: The route that answered.
        problem: Why there are no spans, or why they were not all of them; empty when there are.
        waited_seconds: From the first question to the last answer.
        page: Langfuse's own path of the trace's page, where it tells one.
    """

    spans: tuple[StoredSpan, ...]
    body: bytes
    api: str
    problem: str
    waited_seconds: float
    page: str = ""


#: Asks once: what there is now.
Ask = Callable[[], ReadBack]


def read_until(
    ask: Ask,
    span_ids: Iterable[str],
    deadline_seconds: float,
    given_up: Callable[[], bool] = lambda: False,
) -> ReadBack:
    """Ask again and again until all of the spans are there or the deadline has passed.

    Once they are there it asks a last time, `SETTLE_SECONDS` later: second copies come a little
    after the first.

    Args:
        ask: From `tempo_reader` or `langfuse_reader`.
        span_ids: Those that must be there.
        deadline_seconds: From now.
        given_up: Asked about once a second; True when the spans cannot come any more.
    """
    wanted, start = set(span_ids), time.monotonic()
    rounds, first_seen = 0, 0.0
    while True:
        found = ask()
        waited = time.monotonic() - start
        missing = wanted - {span.span_id for span in found.spans}
        if not missing:
            time.sleep(SETTLE_SECONDS)
            found = ask()
            break
        rounds += 1
        if found.spans:
            first_seen = first_seen or waited
            deadline_seconds = min(deadline_seconds, first_seen + REST_SECONDS)
        hopeless = rounds % _ROUNDS_A_SECOND == 0 and given_up()
        if hopeless or waited >= deadline_seconds:
            break
        time.sleep(min(_INTERVAL_SECONDS, max(0.0, deadline_seconds - waited)))
    problem = found.problem
    missing = wanted - {span.span_id for span in found.spans}
    if missing and not problem:
        problem = f"{len(missing)} of {len(wanted)} spans are not there"
    return ReadBack(found.spans, found.body, found.api, problem, waited, found.page)


def tempo_reader(base_url: str, trace_id: str, context: Context) -> Ask:
    """Asks a Tempo for a trace; proxies and authorities are those of this set-up."""
    path = f"/api/traces/{trace_id}"

    def ask() -> ReadBack:
        answer = ask_server(
            context,
            "GET",
            base_url + path,
            headers={"accept": "application/protobuf"},
            timeout_seconds=_REQUEST_SECONDS,
        )
        if answer.status != 200:
            return _nothing(path, answer)
        try:
            request = ExportTraceServiceRequest.FromString(answer.body)
        except DecodeError:
            return ReadBack((), answer.body, path, "the answer is not a trace of Tempo's", 0.0)
        spans = tuple(
            StoredSpan(span.span_id.hex(), span.parent_span_id.hex(), span.name)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        )
        return ReadBack(spans, answer.body, path, "", 0.0)

    return ask


def langfuse_reader(
    base_url: str, langfuse: LangfuseSettings, trace_id: str, context: Context
) -> Ask:
    """Asks a Langfuse for a trace, by whichever generation of its API is there."""
    pair = base64.b64encode(f"{langfuse.public_key}:{langfuse.secret_key}".encode()).decode()
    headers = {"authorization": f"Basic {pair}", "accept": "application/json"}
    new = f"/api/public/v2/observations?traceId={trace_id}&fields=core,basic,io&limit={_MOST}"
    old = f"/api/public/traces/{quote(trace_id)}"

    def get(path: str) -> probe.Answer:
        return ask_server(
            context,
            "GET",
            base_url + path,
            headers=headers,
            timeout_seconds=_REQUEST_SECONDS,
        )

    def ask() -> ReadBack:
        answer = get(new)
        if answer.status in _NO_SUCH_ROUTE:
            answer = get(old)
            return _observations(answer, old, "observations")
        return _observations(answer, new.partition("?")[0], "data")

    return ask


def _observations(answer: probe.Answer, path: str, key: str) -> ReadBack:
    if answer.status != 200:
        return _nothing(path, answer)
    try:
        parsed = json.loads(answer.body)
        spans = tuple(_observation(item, parsed) for item in parsed[key])
        page = parsed.get("htmlPath") or ""
    except (ValueError, TypeError, KeyError, AttributeError):
        return ReadBack((), answer.body, path, "the answer is not Langfuse's", 0.0)
    problem = "" if spans else "the trace is not there"
    return ReadBack(spans, answer.body, path, problem, 0.0, str(page))


def _observation(item: dict[str, Any], whole: dict[str, Any]) -> StoredSpan:
    return StoredSpan(
        span_id=str(item["id"]),
        parent_id=str(item.get("parentObservationId") or ""),
        name=str(item.get("name") or ""),
        kind=str(item.get("type") or ""),
        has_input=item.get("input") not in (None, "", [], {}),
        has_output=item.get("output") not in (None, "", [], {}),
        project_id=str(item.get("projectId") or whole.get("projectId") or ""),
    )


def _nothing(path: str, answer: probe.Answer) -> ReadBack:
    if answer.status == 404:
        return ReadBack((), answer.body, path, "the trace is not there (status 404)", 0.0)
    said = answer.body[:_EXCERPT].decode("utf-8", "replace").strip()
    problem = (
        f"status {answer.status}: {said}" if answer.status else answer.detail or answer.problem
    )
    return ReadBack((), answer.body, path, " ".join(problem.split()), 0.0)
