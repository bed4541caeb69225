"""Asks Prometheus and the Tempo API what a panel would ask, with the dashboard's variables put in.

`Asker.ask` gives an `Answer` for one query of `grafana.dashboards_src.index.listing()`; whether it
has something to draw is `Asker.filled`. Macros and variables are replaced as Grafana does it for
the formats that our dashboards use; `test_panels_put_in.py` holds that to Grafana's own code.
`filling.py` starts the servers.
"""

from __future__ import annotations

import datetime
import http.client
import json
import math
import re
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: The range that is asked for; all waves of the fill are in it.
RANGE_S: Final = 600
STEP_S: Final = 15
SEARCH_S: Final = 900
ALL: Final = ".*"  # the dashboards' custom value for All
MACROS: Final = {
    "$__rate_interval": "1m",
    "$__range_ms": str(RANGE_S * 1000),
    "$__range_s": str(RANGE_S),
    "$__range": f"{RANGE_S // 60}m",
    "$__interval_ms": str(STEP_S * 1000),
    "$__interval": f"{STEP_S}s",
}
#: A zero that stands for "no series" in PromQL.
_NO_SERIES_ZERO: Final = re.compile(r"\s+or\s+(?:on\s*\(\s*\)\s*)?vector\(\s*0\s*\)")
_VARIABLE: Final = re.compile(r"\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\$(?P<bare>[A-Za-z]\w*)")
_TRACE_METRICS: Final = re.compile(r"\|\s*(?:rate|\w+_over_time|compare)\s*\(")

Values = Mapping[str, Sequence[str]]  # variable → chosen values; an absent one stands on All


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave.

    Attributes:
        rows: Labels and numbers of each series; of a search, each span.
        error: What the server says of a query that it refuses, else "".
    """

    rows: tuple[tuple[Mapping[str, str], tuple[float, ...]], ...]
    error: str = ""

    @property
    def finite(self) -> bool:
        """Whether some number is finite."""
        return any(math.isfinite(value) for _, values in self.rows for value in values)

    @property
    def above_zero(self) -> bool:
        """Whether some number is finite and not zero."""
        return any(math.isfinite(v) and v != 0 for _, values in self.rows for v in values)

    def where(self, labels: Sequence[str], values: Sequence[str]) -> Answer:
        """Only rows of which one of these labels has one of these values."""
        kept = [row for row in self.rows if {row[0].get(label) for label in labels} & set(values)]
        return Answer(tuple(kept), self.error)


class Asker:
    """Asks as of one moment; answers are kept, because panels share queries."""

    def __init__(self, prometheus_url: str, tempo_url: str, end_s: float) -> None:
        self._prometheus_url = prometheus_url
        self._tempo_url = tempo_url
        self._end_s = end_s
        self._known: dict[tuple[str, ...], Answer] = {}

    def ask(self, query: Mapping[str, Any], values: Values) -> Answer:
        """The answer to one query of a panel.

        Args:
            query: `kind`, `text` and `instant`, as `index.listing()` gives them.
            values: Of the dashboard's variables.
        """
        kind, instant = query["kind"], bool(query["instant"])
        text = put_in(query["text"], values, promql=kind in ("prom", "service-map"))
        key = (kind, text, str(instant))
        if key not in self._known:
            self._known[key] = self._asked(kind, text, instant)
        return self._known[key]

    def filled(self, query: Mapping[str, Any], values: Values) -> bool:
        """Whether the panel has something to draw.

        A zero of Prometheus counts where series stand behind it, not where `or vector(0)` made it;
        TraceQL metrics answer zeros for nothing, so there a number above zero is wanted.
        """
        answer = self.ask(query, values)
        if answer.error or answer.above_zero or query["kind"] != "prom":
            return not answer.error and answer.above_zero
        bare = _NO_SERIES_ZERO.sub("", query["text"])
        return self.ask({**query, "text": bare}, values).finite

    def exemplars(self, promql: str, values: Values) -> list[Mapping[str, str]]:
        """Labels of the exemplars that Grafana would draw beside this query."""
        data = self._prometheus(
            "query_exemplars",
            query=put_in(promql, values, promql=True),
            start=self._end_s - RANGE_S,
            end=self._end_s,
        )
        assert isinstance(data, list), data
        return [exemplar["labels"] for series in data for exemplar in series["exemplars"]]

    # -- kinds of queries --------------------------------------------------------------------------
    def _asked(self, kind: str, text: str, instant: bool) -> Answer:
        if kind == "prom":
            return self._promql(text, instant)
        if kind == "service-map":  # Grafana asks these series, below the panel's selector
            total = f"traces_service_graph_request_total{text}"
            return self._promql(
                f"sum by (client, server) (rate({total}[{MACROS['$__range']}]))", True
            )
        if kind == "traceql-trace":
            return self._trace(text)
        if kind == "traceql-search":
            return self._search(text)
        assert kind == "traceql-metrics", kind
        return self._trace_metrics(text, instant)

    def _promql(self, text: str, instant: bool) -> Answer:
        if instant:
            data = self._prometheus("query", query=text, time=self._end_s)
        else:
            start = self._end_s - RANGE_S
            data = self._prometheus(
                "query_range", query=text, start=start, end=self._end_s, step=STEP_S
            )
        if isinstance(data, str):
            return Answer((), data)
        if data["resultType"] == "scalar":
            return Answer((({}, (float(data["result"][1]),)),))
        samples = [
            (series["metric"], series.get("values") or [series["value"]])
            for series in data["result"]
        ]
        return Answer(
            tuple((labels, tuple(float(v) for _, v in values)) for labels, values in samples)
        )

    def _search(self, text: str) -> Answer:
        if not text or _TRACE_METRICS.search(text):
            return Answer((), f"no search: {text}")
        found = self._tempo("/api/search", q=text, limit=50, spss=20, **self._window())
        if isinstance(found, str):
            return Answer((), found)
        spans = [
            span for trace in found["traces"] for s in trace["spanSets"] for span in s["spans"]
        ]
        return Answer(tuple((_labels(span.get("attributes", ())), (1.0,)) for span in spans))

    def _trace_metrics(self, text: str, instant: bool) -> Answer:
        path, step = ("/api/metrics/query", {})
        if not instant:
            path, step = "/api/metrics/query_range", {"step": f"{STEP_S}s"}
        found = self._tempo(path, q=text, **step, **self._window())
        if isinstance(found, str):
            return Answer((), found)
        rows = []
        for series in found["series"]:
            samples = series.get("samples", [{"value": series.get("value", 0.0)}])
            numbers = tuple(float(sample.get("value", 0.0)) for sample in samples)
            rows.append((_labels(series.get("labels", ())), numbers))
        return Answer(tuple(rows))

    def _trace(self, trace_id: str) -> Answer:
        if not re.fullmatch("[0-9a-f]{1,32}", trace_id):  # a search answers no leading zeros
            return Answer((), f"no trace id: {trace_id}")
        found = self._tempo(f"/api/v2/traces/{trace_id}")
        if isinstance(found, str):
            return Answer((), found)
        batches = found["trace"]["resourceSpans"]
        return Answer(tuple((_labels(b["resource"]["attributes"]), (1.0,)) for b in batches))

    # -- HTTP --------------------------------------------------------------------------------------
    def _window(self) -> dict[str, int]:
        return {"start": int(self._end_s) - SEARCH_S, "end": int(self._end_s) + 2}

    def _prometheus(self, name: str, **parameters: Any) -> Any:
        """`data` of the answer, or the text of its error."""
        _, text = get(f"{self._prometheus_url}/api/v1/{name}", **parameters)
        answer = json.loads(text)
        return answer["data"] if answer["status"] == "success" else str(answer["error"])

    def _tempo(self, path: str, **parameters: Any) -> Any:
        """The answer, or the text of its error."""
        status, text = get(self._tempo_url + path, **parameters)
        return json.loads(text) if status == http.client.OK else f"{status}: {text}"


# -- variables -------------------------------------------------------------------------------------
def put_in(text: str, values: Values, *, promql: bool) -> str:
    """A query with its macros and variables replaced, as Grafana sends it.

    Raises:
        AssertionError: a variable in a format that is not restated here.
    """
    for macro, value in MACROS.items():
        text = text.replace(f"${{{macro[1:]}}}", value).replace(macro, value)

    def value_of(found: re.Match[str]) -> str:
        chosen = values.get(found["braced"] or found["bare"])
        if chosen is None:
            return ALL  # a custom value for All is put in as it is, whatever the format
        form = found["format"] or ("prometheus" if promql else "pipe")
        return _FORMATS[form](list(chosen))

    return _VARIABLE.sub(value_of, text)


def _for_prometheus(values: list[str]) -> str:
    """As Grafana's Prometheus source, with its toggle prometheusSpecialCharsInLabelValues off."""
    backslash = "\\"
    doubled = [value.replace(backslash, backslash * 4) for value in values]
    escaped = [re.sub(r"[$^*{}\[\]+?.()|]", r"\\\\\g<0>", value) for value in doubled]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _for_regex(values: list[str]) -> str:
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


_FORMATS: Final = {
    "prometheus": _for_prometheus,
    "regex": _for_regex,
    "raw": ",".join,
    "pipe": "|".join,
}


def uses(query: Mapping[str, Any], variable: str) -> bool:
    """Whether a query's text has this variable."""
    found = _VARIABLE.finditer(query["text"])
    return variable in {match["braced"] or match["bare"] for match in found}


# -- reading ---------------------------------------------------------------------------------------
def get(url: str, **parameters: Any) -> tuple[int, str]:
    """Status and text of a GET on loopback."""
    address, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", f"/{path}?{urllib.parse.urlencode(parameters)}")
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8")
    finally:
        connection.close()


def unix_s(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time with up to nine decimals."""
    return datetime.datetime.fromisoformat(text).timestamp()


def stored_spans(tempo_url: str, start_s: float) -> dict[str, float]:
    """Service → spans in the store since a minute before then."""
    status, text = get(
        f"{tempo_url}/api/metrics/query",
        q="{ } | count_over_time() by (resource.service.name)",
        start=int(start_s) - 60,
        end=int(time.time()) + 60,
    )
    assert status == http.client.OK, text
    return {
        _labels(series["labels"])["resource.service.name"]: float(series.get("value", 0))
        for series in json.loads(text)["series"]
    }


def _labels(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return dict(_pairs(items))


def _pairs(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for item in items:
        for value in item["value"].values():
            yield item["key"], str(value)
