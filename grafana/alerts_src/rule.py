"""What an alert is, apart from the tool that evaluates it, and the PromQL that rules share.

A rule's `value` is a PromQL expression without the final comparison: Prometheus compares by itself,
Grafana by its threshold step. Rules know nothing of files; the writers are beside this module.
Metric names are those of docs/metrics.md and of the Collector's own exposition (port 8888).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["critical", "warning", "info"]
#: How the value is read by people; the text is a Go template over a number, in both tools.
Reading = Literal["share", "seconds", "dollars", "count"]
TEMPLATES: Final[dict[Reading, str]] = {
    "share": "{{ %s | humanizePercentage }}",
    "seconds": '{{ %s | printf "%%.1f" }} s',
    "dollars": '{{ %s | printf "%%.2f" }} USD',
    "count": '{{ %s | printf "%%.0f" }}',
}
#: The same words in both tools; Grafana takes them as they are, `NoData` and `Error` alert.
NoData = Literal["OK", "Alerting", "NoData", "KeepLast"]
ExecError = Literal["Error", "Alerting", "OK", "KeepLast"]


@dataclass(frozen=True)
class Look:
    """One line of a runbook's section: where to look. `kind` is the query's language."""

    text: str
    query: str = ""
    kind: Literal["promql", "traceql", "sh", ""] = ""


@dataclass(frozen=True)
class Rule:
    """One alert.

    key: kebab case; the uid is `otelbridge-<key>` and the runbook's anchor the same.
    title: a statement that is true when the alert fires.
    value, threshold: fires while `value > threshold`; series are told apart by the value's labels.
    wait: Prometheus' `for`, Grafana's pending period.
    summary: one line; `{value}` is the value in its reading, `{x}` the label x.
    no_data: what Grafana makes of an empty answer. Most values are filtered, so empty is healthy.
    on_error: what Grafana makes of a query that fails.
    panel: dashboard uid and key of the panel that shows the value.
    meaning, look, do: the runbook.
    """

    key: str
    title: str
    value: str
    threshold: float
    wait: str
    severity: Severity
    reading: Reading
    summary: str
    description: str
    panel: tuple[str, str]
    meaning: str
    look: tuple[Look, ...]
    do: tuple[str, ...]
    no_data: NoData = "OK"
    on_error: ExecError = "KeepLast"

    @property
    def uid(self) -> str:
        """Grafana's uid, at most 40 characters."""
        return f"otelbridge-{self.key}"

    @property
    def alert(self) -> str:
        """The name that Prometheus gives the alert."""
        return "".join(part.capitalize() for part in self.uid.split("-"))

    @property
    def expr(self) -> str:
        """The alerting expression for Prometheus."""
        return f"({self.value}) > {self.threshold:g}"


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, every `interval`."""

    name: str
    interval: str
    rules: tuple[Rule, ...]


# -- PromQL that rules share -----------------------------------------------------------------------

UPTIME: Final = "otelcol_process_uptime_seconds_total"
#: The labels that a call of a model is told apart by.
BY_CALL: Final = "deployment_environment_name, service_name, gen_ai_request_model"


def _scraped(series: str, minutes: int, seen: str) -> str:
    """The condition, behind `and`, that a series' page was read when the window began.

    Only series of port 8888 share their `instance` with the uptime; 8889 is a page of its own.
    """
    window, started = f"offset {minutes}m", f"{UPTIME} < {minutes * 60}"
    if series.startswith("otelcol_"):
        return f"on (instance) ({UPTIME} {window} or {started})"
    if not seen:
        return f"on () (count({UPTIME} {window}) or count({started}))"
    # Pushed metrics have no `up`: there any series of the page shows that it was read.
    then, now = (f"group by (instance) ({metric})" for metric in (f"{seen} {window}", seen))
    return f"on (instance) (up {window} == 1 or {then} or {now} and on () {started})"


def grown(series: str, minutes: int, by: str, seen: str = "") -> str:
    """What counters grew by in the last minutes, that of series which began meanwhile included.

    `increase` sees nothing of a counter's first sample, which for errors is often the only one. A
    series that was not there at the window's start counts whole, but only when its page was read
    then or a Collector has started since: totals that a Prometheus finds at a Collector it could
    not reach are history.

    Args:
        series: A selector of counters.
        minutes: Length of the window.
        by: Labels of the result.
        seen: A metric of the same page, for series that are not the Collector's own (`otelcol_*`).
            Without it any Collector that was scraped will do, so that more counts as new.
    """
    window = f"{minutes}m"
    return (
        f"sum by ({by}) (\n"
        f"  ({series} unless {series} offset {window})"
        f" and {_scraped(series, minutes, seen)}\n"
        f"  or increase({series}[{window}])\n"
        ")"
    )


def indented(text: str, spaces: int = 2) -> str:
    """The text with every line moved to the right."""
    return "\n".join(" " * spaces + line for line in text.splitlines())
