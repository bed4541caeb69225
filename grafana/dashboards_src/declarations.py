"""What a dashboard is made of: declarations that `to_sdk` turns into Grafana's classic JSON.

A dashboard is a row of panels on top and collapsed rows below. Every panel says what it shows,
whose spans feed it (`emitters`) and what has to be there besides (`needs`), so that the guide, the
tests and the panel's own description say the same. Queries name a data source by its fixed uid.

Limits: classic dashboards only (the format that file provisioning takes in Grafana 11 to 13); one
TraceQL search in a panel, because Grafana runs the first one's text for all of them.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final, Literal

TEMPO: Final = "otelbridge-tempo"
PROM: Final = "otelbridge-prom"  # exemplars lead to Tempo
PROM_LLM: Final = "otelbridge-prom-llm"  # the same server; exemplars lead to Langfuse as well
SOURCES: Final = {TEMPO: "tempo", PROM: "prometheus", PROM_LLM: "prometheus"}  # uid -> plugin
TAG: Final = "otelbridge"

#: Whose spans there are recordings of; a panel lists those that it has data from.
EMITTERS: Final = ("otelbridge", "otel", "openinference", "openllmetry", "litellm")

Kind = Literal[
    "stat", "timeseries", "bargauge", "piechart", "heatmap", "histogram", "table", "nodeGraph",
    "traces", "text",
]  # fmt: skip
#: Kinds that need no unit of their own: a table has one for each column.
UNITLESS: Final = frozenset({"table", "nodeGraph", "traces", "text"})

Threshold = tuple[float, str]  # from this value on, this colour; below the first one: green


@dataclass(frozen=True)
class Prom:
    """PromQL. `instant` asks once, at the end of the range. The panel chooses the data source."""

    expr: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False
    format: Literal["time_series", "table", "heatmap"] = "time_series"

    @property
    def of_gen_ai(self) -> bool:
        """Whether all its series are of gen_ai spans, so that exemplars have a Langfuse page."""
        names, matchers = r"\b((?:otelbridge|traces|otelcol)_\w+)", r"(\{(?:\$\{[^}]*\}|[^}])*)?"
        found = re.findall(names + matchers, self.expr)
        return bool(found) and all(
            name.startswith("otelbridge_gen_ai_") or "gen_ai_operation_name=" in selector
            for name, selector in found
        )


@dataclass(frozen=True)
class Search:
    """TraceQL that finds spans; the table has a row for each. `spss`: spans of one trace."""

    query: str
    limit: int = 50
    spss: int = 20


@dataclass(frozen=True)
class TraceMetrics:
    """TraceQL that ends in a metrics function; `instant` gives one value for the whole range.

    A sum, average, minimum or maximum of an attribute needs `attribute != nil` in the filter: one
    span without it would take the value away. `name` is for a query with one series.
    """

    query: str
    name: str = ""
    instant: bool = False
    step: str = ""


@dataclass(frozen=True)
class TraceById:
    """The trace whose id a variable holds."""

    query: str = "${traceId}"


@dataclass(frozen=True)
class ServiceMap:
    """The graph that Grafana makes of traces_service_graph_*; `query` is a PromQL selector."""

    query: str = ""


Query = Prom | Search | TraceMetrics | TraceById | ServiceMap


@dataclass(frozen=True)
class Link:
    """A link of a panel or a column; internal ones start with /d/ and keep time and variables."""

    title: str
    url: str
    new_tab: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table by the name of its field in the frame."""

    field: str
    title: str = ""
    unit: str = ""
    width: int = 0
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One panel.

    key: kebab case, unique over all dashboards; the panel's id is made of it, so it must stay.
    description: what it shows and where that comes from, in a sentence or two.
    emitters: those whose spans give it data. needs: what has to be there besides, or "".
    unit: Grafana's name for it (s, currencyUSD, percentunit, reqpm, short, …).
    empty: said instead of "No data"; `needs` gives a text of its own.
    """

    key: str
    title: str
    description: str
    kind: Kind
    queries: tuple[Query, ...] = ()
    unit: str = ""
    emitters: tuple[str, ...] = EMITTERS
    needs: str = ""
    empty: str = ""
    thresholds: tuple[Threshold, ...] = ()
    links: tuple[Link, ...] = ()
    columns: tuple[Column, ...] = ()
    content: str = ""  # of a text panel, Markdown
    width: int = 8
    height: int = 8
    min: float | None = None
    max: float | None = None
    decimals: int | None = None
    stack: bool = False
    sort: str = ""  # title of the column that a table is sorted by, largest first
    time_from: str = ""  # a range of the panel's own: "7d"
    #: One series whose name matches this pattern is drawn dashed: a budget beside what is spent.
    dashed: str = ""

    @property
    def id(self) -> int:
        """The panel's number; it depends on the key alone, so that alerts can point at it."""
        return panel_id(self.key)

    @property
    def source(self) -> str:
        """The uid that all its queries go to; "" without queries.

        Raises:
            ValueError: queries for Prometheus and for Tempo in one panel.
        """
        prom = [query for query in self.queries if isinstance(query, Prom)]
        if prom and len(prom) != len(self.queries):
            raise ValueError(f"{self.key}: one panel asks Prometheus or Tempo, not both")
        if prom:
            return PROM_LLM if all(query.of_gen_ai for query in prom) else PROM
        return TEMPO if self.queries else ""


@dataclass(frozen=True)
class Row:
    """A row below the first panels, collapsed until it is opened: its queries run only then."""

    title: str
    panels: tuple[Panel, ...]

    @property
    def id(self) -> int:
        """The row's number; it depends on its title alone."""
        return panel_id("row:" + self.title)


@dataclass(frozen=True)
class Variable:
    """A variable on top of the dashboard.

    source: uid. query: `label_values(…)` for Prometheus, an attribute for Tempo; both empty make
    a text box that holds `default`. `All` stands for `.*`.
    """

    name: str
    label: str
    description: str
    source: str = ""
    query: str = ""
    default: str = ""


_DURATION = "otelbridge_gen_ai_operation_duration_seconds_count"

ENVIRONMENT: Final = Variable(
    "environment", "Environment",
    "Spans of these environments. Panels that ask Prometheus go by one name for a span: its"
    " langfuse.environment, else deployment.environment.name of its resource,"
    " else deployment.environment. Panels that ask Tempo take a span when any of the three fits.",
    PROM,
    "label_values(traces_spanmetrics_calls_total, deployment_environment_name)",
)  # fmt: skip
SERVICE: Final = Variable(
    "service", "Service", "Spans of these services.", PROM,
    "label_values(traces_spanmetrics_calls_total"
    "{deployment_environment_name=~`${environment:regex}`}, service_name)",
)  # fmt: skip
PROVIDER: Final = Variable(
    "provider", "Provider", "Calls of these providers' models.", PROM_LLM,
    f"label_values({_DURATION}{{service_name=~`${{service:regex}}`}}, gen_ai_provider_name)",
)  # fmt: skip
MODEL: Final = Variable(
    "model", "Model", "Calls that asked for these models.", PROM_LLM,
    f"label_values({_DURATION}{{gen_ai_provider_name=~`${{provider:regex}}`}},"
    " gen_ai_request_model)",
)  # fmt: skip
USER: Final = Variable(
    "user", "User", "Requests of these users. Panels that ask Prometheus have no users and show"
    " everybody: users are no labels there.", TEMPO, "resource.langfuse.user.id",
)  # fmt: skip
TRACE_ID: Final = Variable(
    "traceId", "Trace id", "The trace shown in the trace view: 32 hexadecimal digits."
)
GATEWAY: Final = Variable(
    "gateway", "Gateways left out",
    "Services that pass on calls which their clients report too: the"
    " panels of model calls that ask Tempo leave theirs out, or each would count twice. A regular"
    " expression, as OTELBRIDGE_COLLECTOR_METRICS_UNCOUNTED_SERVICES is for the metrics; `-` leaves"
    " none out, `litellm` is for a LiteLLM whose clients are instrumented.",
    default="-",  # as the Collector's: where only the gateway is instrumented nothing may be empty
)  # fmt: skip
COMMON_VARIABLES: Final = (ENVIRONMENT, SERVICE, PROVIDER, MODEL, USER, GATEWAY)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; `refresh` and `since` as Grafana writes them (`1m`, `now-6h`)."""

    uid: str
    title: str
    description: str
    top: tuple[Panel, ...]
    rows: tuple[Row, ...] = ()
    variables: tuple[Variable, ...] = COMMON_VARIABLES
    since: str = "now-3h"  # the longest that TraceQL metrics take in Tempo 2; Tempo 3: 24 h
    refresh: str = "1m"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, those of the rows after the first ones."""
        return (*self.top, *(panel for row in self.rows for panel in row.panels))


def panel_id(key: str) -> int:
    """A number between 1 and 999,999,999 that depends on the key alone."""
    return zlib.crc32(key.encode()) % 999_999_999 + 1
