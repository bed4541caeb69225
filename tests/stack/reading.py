"""Sends a case's requests and reads back what they left, from any backend: no verdicts here.

`drive` returns a `Driven`; `look` asks Tempo's API, Langfuse's API and Prometheus for all that the
case's facts are about and returns an `Evidence`, again each time it is called. Judged by `judging`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any, Final

import httpx

from otelbridge import semconv
from otelbridge.demo.views import View, attributes, langfuse_trace, tempo_trace
from tests.stack.backends import Answer, Backend, NotReadyError
from tests.stack.casefile import Case, CaseError, Request, filled

_SPANS_PER_SET: Final = 100  # Tempo's own limit (query_frontend, max_spans_per_span_set)
_POLL_SECONDS: Final = 0.15
_LOOKS: Final = 12  # at least: a machine that stood still has let the deadline pass, and no more
#: Asks for a model that no case asks for, so that it moves no counter that a case watches.
_FENCE_MODEL: Final = "gpt-4.1-mini"


@dataclass(frozen=True, slots=True)
class Driven:
    """What was sent and came back.

    Attributes:
        values: What `$name` stands for in this run.
        start_s: When it began, in seconds since 1970.
        before: Each promql query's value before the first request.
    """

    answers: Mapping[str, list[Answer]]
    traces: Mapping[str, list[str]]
    values: Mapping[str, str]
    start_s: float
    before: list[float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a case's facts are about, at one moment.

    Attributes:
        tempo: Trace id → the trace as Tempo's API gives it; `langfuse` likewise.
        found: Per traceql query: span id → its selected attributes.
        matched: Per traceql query: how many spans Tempo counts.
        measured: Per promql query: the sum of its series.
        opened: Link → status of its page.
    """

    driven: Driven
    tempo: Mapping[str, View]
    langfuse: Mapping[str, View]
    found: list[dict[str, dict[str, Any]]]
    matched: list[int]
    measured: list[float]
    opened: Mapping[str, int] = field(default_factory=dict)

    def traces(self, name: str) -> Iterable[tuple[View, View]]:
        """Both views of each trace of a request."""
        for trace_id in self.driven.traces[name]:
            yield self.tempo[trace_id], self.langfuse[trace_id]


# -- sending ---------------------------------------------------------------------------------------
def drive(backend: Backend, client: httpx.Client, case: Case) -> Driven:
    """Send all requests of a case, in order, those that are `together` at the same time.

    Raises:
        CaseError: a request without a trace id that has facts about its trace.
    """
    run = os.urandom(4).hex()
    values = {
        "run": run,
        "canary": f"amber finch {run}",
        "sent_trace": os.urandom(16).hex(),
        "sent_span": os.urandom(8).hex(),
    }
    start_s = time.time()
    before = [measure(backend, client, one["query"]) for one in filled(case.promql, values)]
    answers: dict[str, list[Answer]] = {}
    for together, group in groupby(case.requests, key=lambda one: one.together):
        wanted = [(one, nth) for one in group for nth in range(one.times)]
        with ThreadPoolExecutor(max_workers=8 if together else 1) as pool:
            jobs = [pool.submit(_send, backend, client, one, nth, values) for one, nth in wanted]
            for (one, _), job in zip(wanted, jobs, strict=True):
                answers.setdefault(one.name, []).append(job.result())
    traces = {one.name: _traces(case, one, answers[one.name], values) for one in case.requests}
    values |= {name: found[0] for name, found in traces.items() if len(found) == 1}
    return Driven(answers, traces, values, start_s, before)


def _send(
    backend: Backend, client: httpx.Client, request: Request, nth: int, values: Mapping[str, str]
) -> Answer:
    own = {**values, "nth": str(nth)}
    headers, body = filled(request.headers, own), filled(request.body, own)
    return backend.send(client, request.to, request.method, request.path, headers, body)


def _traces(
    case: Case, request: Request, answers: list[Answer], values: Mapping[str, str]
) -> list[str]:
    if request.trace == "sent":
        return [values["sent_trace"]]
    found = [answer.headers.get("x-trace-id", "") for answer in answers]
    if not all(len(one) == 32 for one in found) and request.name in case.traces:
        raise CaseError(f"{case.name}: {request.name}: no X-Trace-Id was answered: {answers}")
    return found


def fence(backend: Backend, client: httpx.Client, within_seconds: float) -> None:
    """Return once a request sent now is whole in Tempo and Langfuse, found by TraceQL, and priced.

    What was sent earlier has had its time then, so that its absence says something. The first one
    also warms the services: price lists, and the documents' vectors.

    Raises:
        NotReadyError: that was not so in time.
    """
    start_s = time.time()
    deadline = time.monotonic() + within_seconds
    why = "nothing was sent"
    while time.monotonic() < deadline:
        question = f"Does fence {os.urandom(4).hex()} stand?"  # a known one is answered by a cache
        body = {"question": question, "model": _FENCE_MODEL}
        answer = backend.send(client, "gateway", "POST", "/ask", {}, body)
        trace_id = answer.headers.get("x-trace-id", "")
        why = f"trace {trace_id} (status {answer.status}) is not whole on both sides"
        again = min(deadline, time.monotonic() + within_seconds / 2)
        while answer.status == httpx.codes.OK and time.monotonic() < again:
            tempo = tempo_trace(client, backend.tempo_url, trace_id)
            langfuse = langfuse_trace(client, backend.langfuse_url, trace_id, backend.keys)
            calls = [one for one in langfuse.spans.values() if one.name.startswith("chat ")]
            query = f'{{ trace:id = "{trace_id}" && span.gen_ai.operation.name = "chat" }}'
            _, matched = search(backend, client, {"query": query}, start_s)
            whole = tempo.services == {"gateway", "rag", "llm"} and not tempo.orphans and matched
            if whole and calls and not langfuse.orphans and langfuse.roots:
                if calls[0].attributes.get("totalCost"):
                    return
                why = "the price list is not loaded"
                break
            time.sleep(_POLL_SECONDS)
        time.sleep(_POLL_SECONDS)
    raise NotReadyError(f"{why} within {within_seconds:g} s")


# -- reading ---------------------------------------------------------------------------------------
def look(backend: Backend, client: httpx.Client, case: Case, driven: Driven) -> Evidence:
    """Ask every side now."""
    ids = {one for name in case.traces for one in driven.traces[name]}
    tempo = {one: tempo_trace(client, backend.tempo_url, one) for one in ids}
    langfuse = {one: langfuse_trace(client, backend.langfuse_url, one, backend.keys) for one in ids}
    found, matched = [], []
    for one in filled(case.traceql, driven.values, case.name):
        spans, number = search(backend, client, one, driven.start_s)
        found.append(spans)
        matched.append(number)
    queries = [one["query"] for one in filled(case.promql, driven.values, case.name)]
    return Evidence(
        driven=driven,
        tempo=tempo,
        langfuse=langfuse,
        found=found,
        matched=matched,
        measured=[measure(backend, client, one) for one in queries],
    )


def search(
    backend: Backend, client: httpx.Client, wanted: Mapping[str, Any], start_s: float
) -> tuple[dict[str, dict[str, Any]], int]:
    """Spans that match a TraceQL query with their attributes, and how many Tempo counts."""
    names = ", ".join(wanted.get("with", ()))
    query = f"{wanted['query']} | select({names})" if names else wanted["query"]
    asked = {
        "q": query, "limit": 50, "spss": _SPANS_PER_SET,
        "start": int(start_s) - 1, "end": int(time.time()) + 2,
    }  # fmt: skip
    reply = client.get(f"{backend.tempo_url}/api/search", params=asked)
    if reply.is_error:
        raise CaseError(f"{query}: {reply.status_code} {reply.text[:300]}")
    sets = [
        one
        for trace in reply.json().get("traces") or ()
        for one in trace.get("spanSets") or [trace.get("spanSet") or {}]
    ]
    spans = {
        span["spanID"]: {**attributes(span.get("attributes", [])), "name": span.get("name")}
        for one in sets
        for span in one.get("spans", ())
    }
    return spans, sum(one.get("matched", 0) for one in sets)


def measure(backend: Backend, client: httpx.Client, promql: str) -> float:
    """The sum of the series of an instant query; 0 without any."""
    reply = client.get(f"{backend.prometheus_url}/api/v1/query", params={"query": promql})
    if reply.is_error:
        raise CaseError(f"{promql}: {reply.status_code} {reply.text[:300]}")
    return sum(float(series["value"][1]) for series in reply.json()["data"]["result"])


def links(view: View, kind: str) -> dict[str, str]:
    """Span id → the link that it carries: to `langfuse` on Tempo's side, else to `grafana`."""
    if kind == "langfuse":
        found = {i: one.attributes.get(semconv.LANGFUSE_URL) for i, one in view.spans.items()}
    else:
        found = {
            i: (one.attributes.get("metadata") or {}).get("grafana_url")
            for i, one in view.spans.items()
        }
    return {span_id: str(url) for span_id, url in found.items() if url}


def open_links(backend: Backend, client: httpx.Client, case: Case, seen: Evidence) -> Evidence:
    """The evidence with the pages of all links that the case asks for, where they are followed."""
    opened: dict[str, int] = {}
    for name, facts in case.traces.items():
        for kind in set(facts.get("links", {})) & backend.followed:
            for tempo, langfuse in seen.traces(name):
                for url in links(tempo if kind == "langfuse" else langfuse, kind).values():
                    opened[url] = client.get(url, follow_redirects=True).status_code
    return Evidence(
        seen.driven, seen.tempo, seen.langfuse, seen.found, seen.matched, seen.measured, opened
    )


def poll(
    backend: Backend, client: httpx.Client, case: Case, driven: Driven,
    judge: Callable[[Evidence], list[str]],
) -> Evidence:  # fmt: skip
    """The first evidence that was found good twice in a row, else one from after the deadline.

    Twice: what is too much (a second copy of a span) comes later than what is enough.
    """
    deadline = time.monotonic() + backend.within_seconds
    good = 0
    for number in count(1):
        last = number >= _LOOKS and time.monotonic() > deadline
        seen = look(backend, client, case, driven)
        good = 0 if judge(seen) else good + 1
        if good == 2 or last:
            break
        time.sleep(_POLL_SECONDS)
    return open_links(backend, client, case, seen)
