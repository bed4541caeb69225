"""The same queries asked of a real Tempo and of the local store: they must agree.

Needs a Tempo without other spans, of which OTELBRIDGE_TEST_TEMPO_URL names the API (port 3200) and
OTELBRIDGE_TEST_TEMPO_OTLP_URL the OTLP/HTTP receiver (same host, port 4318, when not given); skips
without the first. The recorded spans are sent with fresh times, unless they are there already.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from otelbridge.local.server import LocalServer
from tests.local.test_api_conformance import fill, pairs
from tests.traceql import cases

#: Read at import: tests run without variables of that prefix.
TEMPO_URL = os.environ.get("OTELBRIDGE_TEST_TEMPO_URL", "").rstrip("/")
OTLP_URL = os.environ.get("OTELBRIDGE_TEST_TEMPO_OTLP_URL", "").rstrip("/")
pytestmark = pytest.mark.skipif(
    not TEMPO_URL, reason="OTELBRIDGE_TEST_TEMPO_URL names no Tempo to compare with"
)
_VISIBLE_SECONDS = 120  # Tempo searches a trace once it is cut from memory
_SECOND = 10**9
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, holding the same spans."""

    local_url: str
    base_s: int
    http: httpx.Client

    def ask(self, path: str, **parameters: Any) -> tuple[httpx.Response, httpx.Response]:
        """The same request to Tempo and to the local store."""
        real, local = (
            self.http.get(f"{url}{path}", params=parameters) for url in (TEMPO_URL, self.local_url)
        )
        return real, local

    @property
    def window(self) -> dict[str, int]:
        """The time range of the recorded searches."""
        return {"start": self.base_s - 60, "end": self.base_s + 840}


def _shifted(node: Any, shift_ns: int) -> Any:
    if isinstance(node, dict):
        moved = {k: str(int(v) + shift_ns) for k, v in node.items() if k.endswith("UnixNano")}
        return {key: _shifted(value, shift_ns) for key, value in node.items()} | moved
    return [_shifted(item, shift_ns) for item in node] if isinstance(node, list) else node


def _spans_found(http: httpx.Client, base_s: int) -> int:
    reply = http.get(
        f"{TEMPO_URL}/api/search",
        params={"q": "{ }", "limit": 1000, "spss": 100, "start": base_s - 60, "end": base_s + 840},
    )
    reply.raise_for_status()
    return sum(one["matched"] for t in reply.json()["traces"] for one in t.get("spanSets", []))


def _send(http: httpx.Client, requests: list[Json]) -> None:
    target = OTLP_URL or str(httpx.URL(TEMPO_URL).copy_with(port=4318)).rstrip("/")
    for one in requests:
        body = json.dumps(one)
        headers = {"Content-Type": "application/json"}
        http.post(f"{target}/v1/traces", content=body, headers=headers).raise_for_status()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both servers with the recorded spans; Tempo gets them unless it has them."""
    requests, base_ns = cases.spans()
    count = len(cases.pieces(requests))
    with httpx.Client(timeout=60) as http, LocalServer() as running:
        if _spans_found(http, base_ns // _SECOND) != count:
            fresh_s = (int(time.time()) - 660) // 60 * 60
            requests = _shifted(requests, fresh_s * _SECOND - base_ns)
            base_ns = fresh_s * _SECOND
            _send(http, requests)
            deadline = time.monotonic() + _VISIBLE_SECONDS
            while _spans_found(http, base_ns // _SECOND) != count:
                assert time.monotonic() < deadline, "Tempo does not show the spans that it took"
                time.sleep(1)
        fill(running, requests)
        yield Pair(running.tempo_url, base_ns // _SECOND, http)


def _span_sets(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return {
        trace["traceID"].zfill(32): sorted(
            (
                sorted(span["spanID"] for span in one["spans"]),
                one["matched"],
                repr(pairs(one.get("attributes", []))),
            )
            for one in trace.get("spanSets", [])
        )
        for trace in reply.json()["traces"]
    }


@pytest.mark.parametrize("case", cases.answered("search.jsonl"), ids=lambda case: case["id"])
def test_both_find_the_same_spans(pair: Pair, case: Json) -> None:
    """Traces, spans, counts and attributes of the span sets agree."""
    real, local = pair.ask("/api/search", q=case["query"], limit=1000, spss=100, **pair.window)
    assert _span_sets(local) == _span_sets(real)


@pytest.mark.parametrize("case", cases.refused("search.jsonl"), ids=lambda case: case["id"])
def test_both_refuse_the_same_queries(pair: Pair, case: Json) -> None:
    """The status agrees, and so does the recorded start of the text."""
    real, local = pair.ask("/api/search", q=case["query"], limit=1000, spss=100, **pair.window)
    assert local.status_code == real.status_code
    start = cases.error_start(case)
    assert real.text.startswith(start) == local.text.startswith(start)


def _samples(reply: httpx.Response) -> Any:
    """Values by series and timestamp; None stands for the one of an instant query."""
    assert reply.status_code == 200, reply.text
    return {
        cases.label_text(pairs(series["labels"]).items()): {
            one.get("timestampMs"): one.get("value", 0)
            for one in series.get("samples", [{"value": series.get("value", 0)}])
        }
        for series in reply.json().get("series", [])
    }


@pytest.mark.parametrize("case", cases.answered("metrics.jsonl"), ids=lambda case: case["id"])
def test_both_count_the_same(pair: Pair, case: Json) -> None:
    """Labels and samples agree, but for a last bucket that Tempo cuts by the wall clock."""
    if "query_end_cutoff" in case.get("note", ""):
        pytest.skip("Tempo cuts the last bucket of this case by the wall clock")
    parameters = {"q": case["query"], "start": pair.base_s + case["start_offset_s"]}
    parameters["end"] = pair.base_s + case["end_offset_s"]
    if case.get("step") is not None:
        parameters["step"] = case["step"]
    real, local = pair.ask(case["endpoint"], **parameters)
    expected = _samples(real)
    # Sums depend on the order of the spans in their last digits.
    assert _samples(local) == {
        series: pytest.approx(values, abs=1e-9, nan_ok=True) for series, values in expected.items()
    }
