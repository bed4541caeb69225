"""Parameters, limits, headers and bad input of the search, tag and metrics endpoints.

What the queries answer is `test_api_conformance`; here is what surrounds them.
"""

from __future__ import annotations

import contextlib
import http.client
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from otelbridge.errors import StoreError
from otelbridge.local import records
from otelbridge.local.server import LocalServer
from otelbridge.local.store.reading import StoreTimeout
from otelbridge.local.tempo_api import tempo_app
from tests.traceql import cases

_REQUESTS, _BASE_NS = cases.spans()
_BASE_S = _BASE_NS // 10**9
_WINDOW = {"start": _BASE_S - 60, "end": _BASE_S + 840}


def fill(server: LocalServer) -> None:
    """Put the recorded spans into a server's store, as they were sent to Tempo."""
    for one in _REQUESTS:
        message = ParseDict(cases.with_base64_ids(one), ExportTraceServiceRequest())
        server.store.write(records.Batch(tuple(records.records(message)), ())).result()


@pytest.fixture(scope="module")
def tempo() -> Iterator[httpx.Client]:
    """A client of the Tempo port of a server that holds the recorded spans."""
    with LocalServer() as server:
        fill(server)
        with httpx.Client(base_url=server.tempo_url, trust_env=False, timeout=30) as client:
            yield client


def ids(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [trace["traceID"] for trace in reply.json()["traces"]]


# -- search ----------------------------------------------------------------------------------------


def test_a_search_without_a_query_lists_the_newest_traces_without_span_sets(tempo: httpx.Client):
    """No parameters: every stored trace up to 20, newest first, root and counts by service."""
    traces = tempo.get("/api/search").json()["traces"]
    assert len(traces) == 18
    starts = [int(trace["startTimeUnixNano"]) for trace in traces]
    assert starts == sorted(starts, reverse=True)
    assert all("spanSet" not in trace and "spanSets" not in trace for trace in traces)
    assert traces[0]["serviceStats"]["batch-worker"] == {"spanCount": 25, "errorCount": 6}


def test_the_shape_of_a_trace_of_a_search_is_tempos(tempo: httpx.Client):
    """Ids without leading zeros, times as text, `spanSet` repeats the first of `spanSets`."""
    reply = tempo.get("/api/search", params={"q": '{ trace:id = "abc123def45678" }', **_WINDOW})
    (trace,) = reply.json()["traces"]
    assert trace["traceID"] == "abc123def45678"
    assert isinstance(trace["startTimeUnixNano"], str)
    assert trace["spanSet"] == trace["spanSets"][0]
    assert {span["spanID"] for span in trace["spanSet"]["spans"]} == {
        "00000000000000a1", "00000000000000a2",
    }  # fmt: skip
    assert all(isinstance(span["durationNanos"], str) for span in trace["spanSet"]["spans"])


def test_limit_and_spss_cut_and_matched_still_counts_all(tempo: httpx.Client):
    """`limit` traces, `spss` spans of each set (3 by default, also for 0), `matched` is whole."""
    reply = tempo.get("/api/search", params={"q": "{ }", "limit": 2, **_WINDOW})
    assert len(ids(reply)) == 2
    assert [len(t["spanSet"]["spans"]) for t in reply.json()["traces"]] == [3, 3]
    assert reply.json()["traces"][0]["spanSet"]["matched"] == 50
    for given, shown in ((1, 1), (0, 3)):
        reply = tempo.get("/api/search", params={"q": "{ }", "limit": 1, "spss": given, **_WINDOW})
        assert len(reply.json()["traces"][0]["spanSet"]["spans"]) == shown


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"limit": "0"}, "invalid limit: must be a positive number"),
        ({"limit": "-3"}, "invalid limit: must be a positive number"),
        ({"limit": "many"}, 'invalid limit: strconv.Atoi: parsing "many": invalid syntax'),
        ({"limit": "9" * 40}, "invalid limit: strconv.Atoi"),
        ({"limit": "262145"}, "limit 262145 exceeds max limit 262144"),
        ({"spss": "101"}, "spans per span set exceeds 100. received 101"),
        ({"spss": "-1"}, "invalid spss: must be a non-negative number"),
        ({"start": "10"}, "please provide non-zero values for http parameters start and end"),
        ({"start": "10", "end": "9"}, "http parameter start must be before end. received start=10"),
        ({"start": "1", "end": "700000"}, "range specified by start and end exceeds 168h0m0s"),
        ({"start": "\u0661", "end": "2"}, "invalid start"),
        ({"q": "{ }", "tags": "a=b"}, "invalid request: can't specify tags and q"),
        ({"minDuration": "fast"}, 'invalid minDuration: time: invalid duration "fast"'),
        ({"q": "{ }", "compat": "loki"}, 'invalid compat: "loki"'),
    ],
)
def test_a_bad_parameter_of_a_search_is_refused_in_plain_text(
    tempo: httpx.Client, given: dict[str, str], text: str
):
    """Status 400 and a text that names the parameter."""
    reply = tempo.get("/api/search", params=given)
    assert (reply.status_code, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert reply.text.startswith(text)


def test_the_window_selects_traces_that_overlap_it(tempo: httpx.Client):
    """A trace outside start and end is not found; spans of one that overlaps are not clipped."""
    every = tempo.get("/api/search", params={"q": "{ }", "limit": 100, **_WINDOW}).json()["traces"]
    last = max(every, key=lambda trace: int(trace["startTimeUnixNano"]))
    start = int(last["startTimeUnixNano"]) // 10**9
    narrow = {"q": "{ }", "start": start, "end": start + 5, "spss": 100}
    overlapping = [
        trace["traceID"]
        for trace in every
        if int(trace["startTimeUnixNano"]) / 1e9 + trace.get("durationMs", 0) / 1e3 >= start
    ]
    assert 0 < len(overlapping) < len(every)
    assert ids(tempo.get("/api/search", params=narrow)) == overlapping
    found = tempo.get("/api/search", params=narrow).json()["traces"][0]
    assert found["traceID"] == last["traceID"]
    assert found["spanSet"]["matched"] == last["spanSet"]["matched"]
    before = {"q": "{ }", "start": _BASE_S - 7200, "end": _BASE_S - 3600}
    assert ids(tempo.get("/api/search", params=before)) == []


def test_the_older_parameters_search_by_tags_and_duration(tempo: httpx.Client):
    """`tags` in logfmt and `minDuration`/`maxDuration` of the trace, as before TraceQL."""
    window = {"limit": 100, **_WINDOW}
    by_tags = tempo.get(
        "/api/search",
        params={"tags": 'gen_ai.system=anthropic name="chat claude-3-5-sonnet"', **window},
    )
    same = '{ .gen_ai.system = "anthropic" && name = "chat claude-3-5-sonnet" }'
    assert ids(by_tags) == ids(tempo.get("/api/search", params={"q": same, **window})) != []
    by_duration = tempo.get(
        "/api/search", params={"minDuration": "10s", "maxDuration": "1m", **window}
    )
    same = "{ traceDuration >= 10s && traceDuration <= 1m }"
    assert ids(by_duration) == ids(tempo.get("/api/search", params={"q": same, **window})) != []


def test_a_trap_is_named_in_a_warning_header_and_compat_gives_tempos_answer(tempo: httpx.Client):
    """The header says code, place and what to write; `compat=tempo` answers as Tempo does."""
    given = {"q": "{ 0.01 < span.gen_ai.usage.cost }", "limit": 100, **_WINDOW}
    clean = tempo.get("/api/search", params=given)
    (warning,) = clean.headers.get_list("warning")
    assert warning.startswith('299 otelbridge "literal_on_left at ')
    assert "span.gen_ai.usage.cost > 0.01" in warning
    assert ids(clean) != []
    assert ids(tempo.get("/api/search", params={**given, "compat": "tempo"})) == []
    plain = tempo.get("/api/search", params={"q": "{ status = error }", **_WINDOW})
    assert "warning" not in plain.headers


def test_compat_tempo_of_the_server_is_the_default_of_its_requests():
    """A server made with `compat="tempo"` answers as Tempo unless a request says `compat=clean`."""
    given = {"q": "{ 0.01 < span.gen_ai.usage.cost }", **_WINDOW}
    with LocalServer(compat="tempo") as server:
        fill(server)
        with httpx.Client(base_url=server.tempo_url, trust_env=False) as client:
            assert ids(client.get("/api/search", params=given)) == []
            assert ids(client.get("/api/search", params={**given, "compat": "clean"})) != []


def test_head_and_post_are_answered_as_get_is(tempo: httpx.Client):
    """Parameters stand in the URL; HEAD has no body."""
    given = {"q": "{ status = error }", **_WINDOW}
    assert ids(tempo.post("/api/search", params=given)) == ids(
        tempo.get("/api/search", params=given)
    )
    head = tempo.head("/api/search", params=given)
    assert (head.status_code, head.content) == (200, b"")


def test_large_answers_are_compressed_when_that_is_asked_for(tempo: httpx.Client):
    """gzip by Accept-Encoding, the same content without."""
    given = {"q": "{ }", "limit": 100, "spss": 100, **_WINDOW}
    packed = tempo.get("/api/search", params=given, headers={"accept-encoding": "gzip"})
    plain = tempo.get("/api/search", params=given, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_an_answer_does_not_wait_for_delayed_acknowledgements(tempo: httpx.Client):
    """On a kept connection ten small answers take less than ten times TCP's 40 ms."""
    tempo.get("/api/echo")
    start = time.perf_counter()
    for _ in range(10):
        assert tempo.get("/api/v2/search/tags", params={"scope": "nonsense"}).status_code == 400
    assert time.perf_counter() - start < 0.4


# -- queries that are too much ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('{ name = "' + "x" * 1_000_000 + '" }', "TraceQL query is 1000013 bytes long"),
        ('{ name = "' + "é" * 500_000 + '" }', "TraceQL query is 1000013 bytes long"),
        ("{ " + "!" * 100_000 + "true }", "TraceQL query is nested more than"),
        ("{ }" + " | by(name)" * 10_000, "query too complex: 10000 pipeline steps"),
        ("{ } | select(" + ", ".join(f"span.a{i}" for i in range(6000)) + ")",
         "query too complex: 6000 attributes"),
        ('{ name =~ "((a{1,1000}){1,1000}){1,1000}" }', "invalid regex"),
    ],
    ids=["1 MB", "1 MB of UTF-8", "deep", "many steps", "many attributes", "regex"],
)  # fmt: skip
def test_a_query_that_is_too_much_is_refused_and_the_server_goes_on(
    tempo: httpx.Client, query: str, text: str
):
    """Status 400 with the reason, within seconds; the next request is answered."""
    connection = http.client.HTTPConnection(tempo.base_url.host, tempo.base_url.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/search?q={urllib.parse.quote(query)}")
        reply = connection.getresponse()
        body = reply.read().decode()
    assert reply.status == 400
    assert body.startswith(f"invalid TraceQL query: {text}")
    assert len(body) < 2000
    assert tempo.get("/api/echo").text == "echo"


def test_a_regular_expression_that_would_backtrack_is_answered_at_once(tempo: httpx.Client):
    """RE2 needs time in proportion to the text, whatever the pattern."""
    start = time.perf_counter()
    assert ids(tempo.get("/api/search", params={"q": '{ name =~ "(x+x+)+y" }', **_WINDOW})) == []
    assert time.perf_counter() - start < 5


class _Broken:
    """A store whose every snapshot fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def catalog(self) -> frozenset[Any]:
        return frozenset()

    def snapshot(self, **_options: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (StoreTimeout("the query took longer than 30 s and was stopped"), 504,
         "the query took longer than 30 s and was stopped"),
        (StoreError("the local store is closed"), 500, "the local store is closed"),
        (ZeroDivisionError("secret/path.py"), 500, "internal error: ZeroDivisionError"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/search", "/api/metrics/query_range"])
def test_a_failure_of_the_store_is_a_line_of_text(
    path: str, error: Exception, status: int, text: str
):
    """A deadline is 504, the rest 500; never a stack trace."""
    with TestClient(tempo_app(_Broken(error)), raise_server_exceptions=False) as client:
        reply = client.get(path, params={"q": "{ } | rate()"})
    assert (reply.status_code, reply.text) == (status, text)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


# -- tags ------------------------------------------------------------------------------------------


def test_tag_names_are_listed_by_scope(tempo: httpx.Client):
    """Every scope with its names; one scope when asked; the limit counts in each."""
    scopes = {one["name"]: one["tags"] for one in tempo.get("/api/v2/search/tags").json()["scopes"]}
    assert list(scopes) == ["resource", "span", "event", "link", "instrumentation", "intrinsic"]
    assert {"service.name", "langfuse.user.id"} <= set(scopes["resource"])
    assert {"gen_ai.request.model", "gen_ai.usage.cost"} <= set(scopes["span"])
    assert "duration" in scopes["intrinsic"]
    one = tempo.get("/api/v2/search/tags", params={"scope": "link", "limit": 1}).json()["scopes"]
    assert one == [{"name": "link", "tags": scopes["link"][:1]}]
    bad = tempo.get("/api/v2/search/tags", params={"scope": "foo"})
    assert (bad.status_code, bad.text) == (400, "invalid scope: foo")
    flat = tempo.get("/api/search/tags").json()["tagNames"]
    assert flat == sorted({tag for name in scopes if name != "intrinsic" for tag in scopes[name]})


def test_tag_names_can_be_narrowed_by_a_query(tempo: httpx.Client):
    """Only names on matching spans; a query that is refused narrows nothing."""

    def names(query: str) -> set[str]:
        given = {"scope": "span", "q": query}
        (scope,) = tempo.get("/api/v2/search/tags", params=given).json()["scopes"]
        return set(scope["tags"])

    narrow, every = names("{ span.http.route != nil }"), names("")
    assert "http.route" in narrow
    assert "gen_ai.request.model" in every - narrow
    assert names("{ span.http") == every


def values(tempo: httpx.Client, tag: str, **given: Any) -> set[tuple[str, str | None]]:
    path = f"/api/v2/search/tag/{urllib.parse.quote(tag)}/values"
    reply = tempo.get(path, params=given)
    assert reply.status_code == 200, reply.text
    return {(one["type"], one.get("value")) for one in reply.json()["tagValues"]}


def test_tag_values_have_types_and_arrays_their_elements(tempo: httpx.Client):
    """Strings, numbers, booleans, keywords; an empty text has no `value`."""
    assert ("string", "gpt-4o") in values(tempo, "span.gen_ai.request.model")
    assert ("string", "nil") not in values(tempo, "span.gen_ai.request.model")
    assert ("string", None) in values(tempo, "resource.service.name")
    assert values(tempo, "span.tool.ok") == {("bool", "true"), ("bool", "false")}
    assert values(tempo, "span.floats") == {("float", "0.5"), ("float", "1.5")}
    assert ("string", "stop") in values(tempo, "span.gen_ai.response.finish_reasons")
    kinds = {kind for kind, _ in values(tempo, "span.gen_ai.usage.input_tokens")}
    assert kinds == {"int", "float", "string"}
    assert values(tempo, "status") == {("keyword", word) for word in ("error", "ok", "unset")}
    assert values(tempo, "duration") == values(tempo, "span.nobody.has.this") == set()
    assert ("string", "exception") in values(tempo, "event:name")


def test_tag_values_can_be_narrowed_by_a_query(tempo: httpx.Client):
    """Values of matching spans; a query that is refused narrows nothing."""
    tag = "span.gen_ai.request.model"
    narrow = values(tempo, tag, q='{ span.gen_ai.system = "anthropic" }')
    assert narrow == {("string", "claude-3-5-sonnet")}
    assert values(tempo, tag, q="{ span.gen") == values(tempo, tag) > narrow
    assert len(values(tempo, tag, limit=2)) == 2
    assert values(tempo, tag, start=1, end=2**62) == values(tempo, tag)
    assert values(tempo, tag, start=1, end=2) == set()


def test_a_bare_name_is_no_tag_of_the_second_version_but_of_the_first(tempo: httpx.Client):
    """`gen_ai.system` needs a scope in v2; v1 looks in every scope and answers sorted text."""
    reply = tempo.get("/api/v2/search/tag/gen_ai.system/values")
    assert reply.status_code == 400
    assert reply.text.startswith("please provide a valid tagName: ")
    flat = tempo.get("/api/search/tag/gen_ai.system/values").json()["tagValues"]
    assert flat == sorted(flat)
    assert {"openai", "anthropic"} <= set(flat)
    assert tempo.get("/api/search/tag/no such/values").json()["tagValues"] == []


# -- metrics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"start": "x"}, 'invalid start: "x" is no time'),
        ({"start": "-5", "end": "100"}, 'invalid start: "-5" is no time'),
        ({"start": "9" * 30, "end": "100"}, "invalid start"),
        ({"start": "100", "end": "100"}, "end must be greater than start"),
        ({"start": "100", "end": "90000"}, "metrics query time range 24h58m20s exceeds"),
        ({"start": "100", "end": "700", "step": "1ns"}, "step of 1ns is too small"),
        ({"start": "100", "end": "700", "step": "-5s"}, "rpc error: code = Code(400)"),
        ({"since": "soon"}, 'rpc error: code = Code(400) desc = cannot parse "soon"'),
    ],
)
def test_a_bad_parameter_of_a_metrics_query_is_refused_in_plain_text(
    tempo: httpx.Client, given: dict[str, str], text: str
):
    """Status 400 and a text that names the parameter."""
    reply = tempo.get("/api/metrics/query_range", params={"q": "{ } | rate()", **given})
    assert (reply.status_code, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert reply.text.startswith(text)


def test_times_of_a_metrics_query_have_four_forms(tempo: httpx.Client):
    """Seconds, fractions, nanoseconds and RFC 3339 ask for the same minutes."""
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_BASE_S))
    answers = [
        tempo.get(
            "/api/metrics/query_range",
            params={"query": "{ } | rate()", "start": start, "end": _BASE_S + 600, "step": "60"},
        ).json()["series"]
        for start in (_BASE_S, f"{_BASE_S}.0", f"{_BASE_NS}", iso)
    ]
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0][0]["samples"]) == 11


def test_exemplars_point_at_traces_unless_a_hint_says_no(tempo: httpx.Client):
    """At most one of a trace, with its id; `with (exemplars=false)` gives none."""
    given = {"start": _BASE_S, "end": _BASE_S + 600, "step": "60s"}
    query = "{ status = error } | count_over_time()"
    (series,) = tempo.get("/api/metrics/query_range", params={"q": query, **given}).json()["series"]
    found = [one["labels"][0]["value"]["stringValue"] for one in series["exemplars"]]
    assert len(found) == len(set(found)) > 0
    known = ids(
        tempo.get("/api/search", params={"q": "{ status = error }", "limit": 99, **_WINDOW})
    )
    assert set(found) <= set(known)
    (series,) = tempo.get(
        "/api/metrics/query_range", params={"q": f"{query} with (exemplars=false)", **given}
    ).json()["series"]
    assert "exemplars" not in series


# -- traces by id ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trace_id", ["abc123def45678", "ABC123DEF45678", "0" * 18 + "abc123def45678"]
)
def test_a_trace_id_is_taken_in_any_case_and_length(tempo: httpx.Client, trace_id: str):
    """Leading zeros may be left out, also to an odd number of digits; capitals are digits too."""
    assert len(tempo.get(f"/api/traces/{trace_id}").json()["batches"]) == 2
    assert "resourceSpans" in tempo.get(f"/api/v2/traces/{trace_id}").json()["trace"]
