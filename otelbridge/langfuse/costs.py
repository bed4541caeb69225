"""What Langfuse's metrics say that model calls have cost: in all, by day, by user and session.

One query each, as `GET /api/public/v2/metrics` takes it; a server that answers 404 (v3) gets the
same question at its older `/api/public/metrics`. Rules of v2 (server 4.16): user and session
as dimensions need a row limit and a descending order, and go with no time dimension; a server
that refuses them all the same answers 400, and `budget` then asks for single ones. Langfuse knows
a call some 10 to 30 s after its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from otelbridge.langfuse.client import LangfuseApi, LangfuseApiError

#: Rows that one query may ask for.
ROW_LIMIT: Final = 1_000
_NEWER: Final = "/api/public/v2/metrics"
_OLDER: Final = "/api/public/metrics"
_MEASURE: Final = {"measure": "totalCost", "aggregation": "sum"}
_RESULT: Final = "sum_totalCost"
#: Words of budgets to Langfuse's columns; others are metadata.
COLUMNS: Final = {"session": "sessionId", "user": "userId"}


class CostReader:
    """Sums of cost in one project, in USD.

    Every method raises ConfigError or LangfuseApiError as `LangfuseApi.call`.
    """

    def __init__(self, api: LangfuseApi) -> None:
        self._api = api
        self._path = _NEWER

    def total(self, only: Mapping[str, str], begins: datetime, ends: datetime) -> float:
        """What the calls of a time cost together.

        Args:
            only: `session`, `user`, `team` or `metadata.<key>` to a value; empty for all.
            begins, ends: With a time zone; a call counts by its start.
        """
        rows = self._ask({**_range(begins, ends), "filters": _filters(only)})
        return sum(_usd(row) for row in rows)

    def by(
        self, words: Sequence[str], only: Mapping[str, str], begins: datetime, ends: datetime
    ) -> dict[tuple[str, ...], float]:
        """The costliest users or sessions, at most `ROW_LIMIT`: values of `words` to USD.

        Args:
            words: `user`, `session` or both.
        """
        columns = [COLUMNS[word] for word in words]
        rows = self._ask(
            {
                **_range(begins, ends),
                "filters": _filters(only),
                "dimensions": [{"field": column} for column in columns],
                "orderBy": [{"field": _RESULT, "direction": "desc"}],
                "config": {"row_limit": ROW_LIMIT},
            }
        )
        named = [row for row in rows if all(row.get(column) for column in columns)]
        return {tuple(str(row[column]) for column in columns): _usd(row) for row in named}

    def by_day(self, only: Mapping[str, str], begins: datetime, ends: datetime) -> dict[str, float]:
        """UTC days (`2026-11-21`) to USD; days without calls may be missing."""
        rows = self._ask(
            {
                **_range(begins, ends),
                "filters": _filters(only),
                "timeDimension": {"granularity": "day"},
            }
        )
        return {str(row.get("time_dimension"))[:10]: _usd(row) for row in rows}

    def _ask(self, parts: dict[str, Any]) -> list[dict[str, Any]]:
        query = {"view": "observations", "dimensions": [], "metrics": [_MEASURE], **parts}
        text = json.dumps(query)
        try:
            answer = self._api.request("GET", self._path, query={"query": text})
        except LangfuseApiError as error:
            if error.status != 404 or self._path == _OLDER:
                raise
            self._path = _OLDER
            answer = self._api.request("GET", self._path, query={"query": text})
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise LangfuseApiError(f"Langfuse at {self._api.host} answered without data.")
        return [row for row in rows if isinstance(row, dict)]


def _range(begins: datetime, ends: datetime) -> dict[str, str]:
    return {"fromTimestamp": _iso(begins), "toTimestamp": _iso(ends)}


def _iso(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _filters(only: Mapping[str, str]) -> list[dict[str, str]]:
    found = []
    for word, value in only.items():
        condition = {"operator": "=", "value": value}
        if word in COLUMNS:
            found.append({"column": COLUMNS[word], "type": "string", **condition})
        else:
            key = word.removeprefix("metadata.")
            found.append({"column": "metadata", "type": "stringObject", "key": key, **condition})
    return found


def _usd(row: Mapping[str, Any]) -> float:
    """The sum of a row; ClickHouse writes some numbers as text, and none as null."""
    try:
        return float(row.get(_RESULT) or 0.0)
    except (TypeError, ValueError):
        return 0.0
