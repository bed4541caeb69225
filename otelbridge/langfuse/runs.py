"""Runs over a dataset as values: what `run_dataset` gives, a file keeps, and Langfuse knows.

A run is its items, each with a trace and scores. Langfuse v4 lists them as items of an experiment,
v3 as run items of a dataset. Used by `datasets`, which makes runs, and `reports`, which compares
them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from otelbridge.errors import OtelbridgeError
from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError
from otelbridge.langfuse.experiment_data import by_cursor, paged

_FORMAT: Final = "otelbridge.run/1"
_ITEMS: Final = "/api/public/experiment-items"
#: Langfuse wants a beginning; runs that are compared are seldom older.
LOOK_BACK: Final = timedelta(days=90)


@dataclass(slots=True)
class RunItem:
    """One item of a run.

    Attributes:
        span_id: The item's observation, which scores are given to.
        error: Class and message of the exception of the function that was run; empty for none.
        scores: Name to number, boolean or category; the mean where there are several.
        failed_evaluators: Those that raised, with what.
        latency_seconds: Of the function, without the evaluators.
    """

    item_id: str
    trace_id: str = ""
    span_id: str = ""
    output: Any = None
    error: str = ""
    latency_seconds: float | None = None
    scores: dict[str, float | str] = field(default_factory=dict)
    failed_evaluators: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """A run over a dataset.

    Attributes:
        id: Of the experiment in Langfuse; empty where it is not known.
        url: Its page there.
    """

    name: str
    dataset: str
    items: list[RunItem]
    id: str = ""
    url: str = ""

    def mean(self, score: str) -> float:
        """The mean of a numeric score; NaN where no item has it."""
        values = [_number(item.scores.get(score)) for item in self.items]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else math.nan

    @property
    def failed(self) -> list[RunItem]:
        """The items whose function raised."""
        return [item for item in self.items if item.error]

    def samples(self) -> dict[str, dict[str, float]]:
        """Item id to its metrics, as `comparison` takes them."""
        found: dict[str, dict[str, float]] = {}
        for item in self.items:
            values = {"error": float(bool(item.error))}
            if item.latency_seconds is not None:
                values["latency_seconds"] = item.latency_seconds
            for name, value in item.scores.items():
                if (number := _number(value)) is not None:
                    values[f"score:{name}"] = number
            found[item.item_id] = values
        return found

    def save(self, path: str | Path) -> None:
        """Write the run to a file that `otelbridge experiment report` reads.

        Raises:
            OSError: The file cannot be written.
        """
        content = {"format": _FORMAT, **asdict(self)}
        text = json.dumps(content, ensure_ascii=False, indent=1, default=str)
        Path(path).write_text(text + "\n", encoding="utf-8")


def load(path: str | Path) -> Run:
    """A run that was saved.

    Raises:
        OtelbridgeError: The file cannot be read or is no run.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise ValueError("another format")
        return Run(**{**content, "items": [RunItem(**item) for item in content["items"]]})
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise OtelbridgeError(f"{path} is no saved run: {error!r}") from error


def from_langfuse(
    api: LangfuseApi, name: str, *, dataset: str = "", start: datetime | None = None
) -> Run:
    """A run that Langfuse knows, with its scores.

    Args:
        name: Of the run (v4: of the experiment).
        dataset: Its dataset; needed on v3.
        start: Nothing before it is looked at; 90 days ago by default.
    Raises:
        ConfigError, LangfuseApiError: Langfuse refuses or does not answer.
        OtelbridgeError: It knows no such run.
    """
    since = start or datetime.now(UTC) - LOOK_BACK
    query = {
        "experimentName": name, "fields": "core,dataset,scores", "limit": 100, "scoreLimit": 50,
        "fromStartTime": since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }  # fmt: skip
    try:
        rows = list(by_cursor(api, _ITEMS, query))
    except LangfuseApiError as error:
        if error.status != 404:
            raise
        return _from_v3(api, name, dataset)
    if not rows:
        raise OtelbridgeError(
            f"Langfuse at {api.host} knows no run {name!r} since {since:%Y-%m-%d}. Runs appear "
            f"some seconds after their end."
        )
    items: dict[str, RunItem] = {}
    for row in rows:  # newest first: an item that was run again counts once
        item_id = str(row.get("experimentItemId"))
        if item_id not in items:
            items[item_id] = _item(item_id, row)
    return Run(name, dataset, list(items.values()), str(rows[0].get("experimentId") or ""))


def _item(item_id: str, row: Mapping[str, Any]) -> RunItem:
    began, ended = _moment(row.get("startTime")), _moment(row.get("endTime"))
    return RunItem(
        item_id,
        str(row.get("traceId") or ""),
        str(row.get("id") or ""),
        error="ERROR" if row.get("level") == "ERROR" else "",
        latency_seconds=(ended - began).total_seconds() if began and ended else None,
        scores=_scores(row.get("scores") or ()),
    )


def _from_v3(api: LangfuseApi, name: str, dataset: str) -> Run:
    if not dataset:
        raise OtelbridgeError(f"This Langfuse finds the run {name!r} by its dataset: name it.")
    path = f"/api/public/datasets/{quote(dataset, safe='')}/runs/{quote(name, safe='')}"
    try:
        answer = api.request("GET", path)
    except LangfuseApiError as error:
        if error.status != 404:
            raise
        raise OtelbridgeError(
            f"Langfuse at {api.host} knows no run {name!r} of the dataset {dataset!r}."
        ) from error
    items = []
    for row in answer.get("datasetRunItems") or ():
        trace_id = str(row.get("traceId") or "")
        scores = paged(api, "/api/public/v2/scores", {"traceId": trace_id})
        items.append(
            RunItem(
                str(row.get("datasetItemId")), trace_id, str(row.get("observationId") or ""),
                scores=_scores(scores),
            )
        )  # fmt: skip
    return Run(name, dataset, items, str(answer.get("id") or ""))


def _scores(rows: Any) -> dict[str, float | str]:
    """Scores by name, numbers of one name as their mean."""
    several: dict[str, list[Any]] = {}
    for row in rows:
        if row.get("value") is not None and row.get("dataType") not in ("TEXT", "CORRECTION"):
            several.setdefault(str(row["name"]), []).append(row["value"])
    found: dict[str, float | str] = {}
    for name, values in several.items():
        numbers = [number for value in values if (number := _number(value)) is not None]
        found[name] = sum(numbers) / len(numbers) if numbers else str(values[0])
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _moment(value: object) -> datetime | None:
    return datetime.fromisoformat(str(value)) if value else None
