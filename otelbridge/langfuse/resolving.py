"""Finds the trace of a request id: in this process, then in Tempo, then in Langfuse.

`otelbridge.request_id` stands on every span, so TraceQL finds it; Langfuse has it in the metadata
(`request_id`). Network calls: for `score_delivery`'s worker and the command only, never in the
caller of `score`.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelbridge import _guard, request_ids, semconv
from otelbridge.links import parse_trace_id
from otelbridge.settings import CLOUD_HOST, Settings

_TIMEOUT_SECONDS: Final = 5.0
#: Tempo searches no more than 168 hours at once by default.
_WINDOWS_SECONDS: Final = (24 * 3600, 167 * 3600)
#: The newest of the traces that a request made by being sent again.
_MOST: Final = 20
_ANSWER_BYTES: Final = 2_000_000


class UnansweredError(Exception):
    """No store could be asked: whether the request has a trace is not known."""


class Resolver:
    """Asks the stores of the settings. One thread at a time.

    Args:
        settings: Tempo is asked where OTELBRIDGE_TEMPO_URL is set, Langfuse where its keys are.
    """

    def __init__(self, settings: Settings) -> None:
        is_set = settings.origins.get("OTELBRIDGE_TEMPO_URL", "default") != "default"
        self._tempo_url = settings.tempo_url if is_set else ""
        self._langfuse = settings.langfuse

    @property
    def can_ask(self) -> bool:
        """Whether any store is set up."""
        return bool(self._tempo_url) or self._langfuse.configured

    def find(self, request_id: str, *, given_ns: int | None = None) -> str | None:
        """The trace of a request as 32 hex digits, None when every store was asked and none has it.

        Args:
            given_ns: When the score was given, Unix nanoseconds; the request was before.
        Raises:
            UnansweredError: a store could not be asked, and no other one knew.
        """
        if (seen := request_ids.trace_of(request_id)) is not None:
            return seen.trace_id
        asked = given_ns or time.time_ns()
        unanswered = not self.can_ask
        for search in (self._in_tempo, self._in_langfuse):
            try:
                if found := search(request_id, asked):
                    return found
            except Exception as error:  # noqa: BLE001 - refused, timed out, no JSON
                _guard.count(f"request id not resolved: {type(error).__name__}")
                unanswered = True
        if unanswered:
            raise UnansweredError
        return None

    def _in_tempo(self, request_id: str, given_ns: int) -> str | None:
        if not self._tempo_url:
            return None
        query = f"{{ span.{semconv.REQUEST_ID} = {_quoted(request_id)} }}"
        end_s = int(time.time()) + 60
        for window_seconds in _WINDOWS_SECONDS:
            start_s = max(given_ns // 10**9 - window_seconds, end_s - _WINDOWS_SECONDS[-1])
            asked = {"q": query, "start": start_s, "end": end_s, "limit": _MOST}
            found = _json(f"{self._tempo_url.rstrip('/')}/api/search", asked).get("traces") or []
            if found:
                newest = max(found, key=lambda one: int(one.get("startTimeUnixNano") or 0))
                return parse_trace_id(newest["traceID"])
        return None

    def _in_langfuse(self, request_id: str, given_ns: int) -> str | None:
        if not self._langfuse.configured:
            return None
        since = datetime.fromtimestamp(given_ns / 1e9 - _WINDOWS_SECONDS[1], UTC).isoformat()
        named = {
            "type": "stringObject", "column": "metadata", "key": "request_id",
            "operator": "=", "value": request_id,
        }  # fmt: skip
        recent = {"type": "datetime", "operator": ">=", "value": since}
        try:
            rows = self._rows(
                "/api/public/v2/observations", [named, {**recent, "column": "startTime"}]
            )
            key = "traceId"
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            # v3, which has no such route by default; on v4 it is the other way round.
            rows = self._rows("/api/public/traces", [named, {**recent, "column": "timestamp"}])
            key = "id"
        return parse_trace_id(rows[0][key]) if rows else None

    def _rows(self, path: str, conditions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        host = (self._langfuse.host or CLOUD_HOST).rstrip("/")
        pair = f"{self._langfuse.public_key}:{self._langfuse.secret_key}".encode()
        login = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        asked = {"filter": json.dumps(conditions), "limit": 1, "fields": "core"}
        rows: list[dict[str, Any]] = _json(f"{host}{path}", asked, login)["data"]
        return rows


def _json(
    url: str, query: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON object that a GET answers.

    By the standard library: importing an HTTP client here, in a thread, could meet the
    application's own import of it and cost its instrumentation.

    Raises:
        OSError, ValueError: no answer, a bad status, something else than JSON.
    """
    request = urllib.request.Request(  # noqa: S310 - http and https, checked by the settings
        f"{url}?{urllib.parse.urlencode(query)}", headers=dict(headers or {})
    )
    opener = urllib.request.build_opener(_NoRedirect)
    with suppress_instrumentation(), opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
        found: dict[str, Any] = json.loads(answer.read(_ANSWER_BYTES))
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The keys go to the host that was named and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: the status is an error then."""


def _quoted(text: str) -> str:
    """A TraceQL string; what a request id may hold is printable."""
    return json.dumps(text, ensure_ascii=False)
