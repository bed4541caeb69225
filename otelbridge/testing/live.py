"""`LiveTraces`: the same questions to a Tempo, asked again until a deadline.

Plain HTTP by the standard library: `/api/search` finds, `/api/traces/{id}` gives the spans as
OTLP. A Tempo has one view, the one without message content. Neighbours: `assertions` has the
methods that tests call; `settings` knows OTELBRIDGE_TEMPO_URL.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelbridge.local.records import records
from otelbridge.settings import Settings
from otelbridge.testing.assertions import Assertions, QueryRefusedError, View
from otelbridge.testing.spans import Span, from_record

_REQUEST_SECONDS = 10.0
_MOST_TRACES = 100
_MOST_SPANS = 100  # of one spanset; Tempo refuses to show more
_CLOCK_SECONDS = 5  # that the clock of a service may be behind
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class TempoUnreachableError(AssertionError):
    """Tempo did not answer until the deadline."""


def tempo_url(given: str) -> str | None:
    """The address that was given, else that of OTELBRIDGE_TEMPO_URL, None when neither is set."""
    if given:
        return given
    settings = Settings.from_env()
    is_set = settings.origins.get("OTELBRIDGE_TEMPO_URL", "default") != "default"
    return settings.tempo_url if is_set else None


class LiveTraces(Assertions):
    """Traces of a Tempo; see `Assertions` for what can be asked.

    `query` and the assertions that expect spans ask again until they have them or the deadline has
    passed; what expects none (`assert_none`, the checks) asks once, so wait for the trace
    first: `live_traces.assert_some('{ ... }')`.

    Args:
        url: Tempo's base address.
        timeout_seconds: The deadline of one assertion.
        interval_seconds: Between two questions.
        since_s: Unix seconds; older traces are left out. By default now.
    """

    def __init__(
        self, url: str, *, timeout_seconds: float = 30.0, interval_seconds: float = 0.25,
        since_s: float | None = None,
    ) -> None:  # fmt: skip
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"a Tempo address begins with http:// or https://, not {url!r}")
        self.url = url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.interval_seconds = interval_seconds
        self.since_s = int((time.time() if since_s is None else since_s) - _CLOCK_SECONDS)
        host = urllib.parse.urlsplit(url).hostname or ""
        # A proxy of the environment is for the outside, not for stores on this machine.
        proxies = urllib.request.ProxyHandler({} if host in _LOOPBACK else None)
        self._opener = urllib.request.build_opener(proxies)

    def spans(self, view: View = None) -> list[Span]:
        """The spans of the newest traces since the start, whole traces."""
        return self._whole("{ }", view)

    def ask(self, text: str, view: View = None) -> list[Span]:
        """The spans of a query, by start time, asked once."""
        _check(view)
        keys: set[tuple[str, str]] = set()
        for trace in self._search(text):
            for part in trace.get("spanSets") or [trace.get("spanSet") or {}]:
                spans = part.get("spans") or ()
                keys.update((_trace_id(trace), str(span["spanID"]).zfill(16)) for span in spans)
                if int(part.get("matched") or 0) > len(spans):
                    raise QueryRefusedError(
                        f"{part['matched']} spans of trace {_trace_id(trace)} match {text}; Tempo "
                        f"shows {_MOST_SPANS} of them at most: ask for fewer"
                    )
        return [span for span in self._fetched({key[0] for key in keys}) if span.key in keys]

    def _types(self, view: View) -> None:
        return None  # what else is stored there is not known

    def _until(self, ask: Callable[[], list[Span]], done: Callable[[list[Span]], bool]) -> Any:
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            left = deadline - time.monotonic()
            try:
                found = ask()
            except TempoUnreachableError:
                if left <= 0:
                    raise
            else:
                if done(found) or left <= 0:
                    return found
            time.sleep(max(0.0, min(self.interval_seconds, left)))

    def _whole(self, text: str, view: View) -> list[Span]:
        _check(view)
        return self._fetched({_trace_id(trace) for trace in self._search(text)})

    def _search(self, text: str) -> list[dict[str, Any]]:
        parameters = {
            "q": text, "limit": _MOST_TRACES, "spss": _MOST_SPANS, "start": self.since_s,
            "end": int(time.time()) + _CLOCK_SECONDS,
        }  # fmt: skip
        body = self._get(f"/api/search?{urllib.parse.urlencode(parameters)}", "application/json")
        try:
            return list(json.loads(body or b"{}").get("traces") or ())
        except (ValueError, AttributeError):
            raise TempoUnreachableError(f"{self.url} does not answer as Tempo does") from None

    def _fetched(self, trace_ids: set[str]) -> list[Span]:
        found: list[Span] = []
        for trace_id in trace_ids:
            body = self._get(f"/api/traces/{trace_id}", "application/protobuf")
            try:
                # tempopb.Trace has the one field of an export request.
                request = ExportTraceServiceRequest.FromString(body or b"")
                found += map(from_record, records(request))
            except DecodeError:
                raise TempoUnreachableError(f"{self.url} does not answer as Tempo does") from None
        return sorted(found, key=lambda span: (span.start_ns, span.span_id))

    def _get(self, path: str, accept: str) -> bytes | None:
        request = urllib.request.Request(  # noqa: S310 - the scheme has been checked
            self.url + path, headers={"Accept": accept}
        )
        try:
            with self._opener.open(request, timeout=_REQUEST_SECONDS) as reply:
                body: bytes = reply.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read(500).decode("utf-8", "replace").strip()
            if error.code == 404:
                return None
            if error.code == 400:
                raise QueryRefusedError(f"{self.url}: {detail}") from None
            text = f"{self.url} answered status {error.code}: {detail}"
            raise TempoUnreachableError(text) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise TempoUnreachableError(f"no answer from {self.url}: {reason}") from None


def _check(view: View) -> None:
    if view == "langfuse":
        raise ValueError("a Tempo has no Langfuse view; `traces` has one")


def _trace_id(trace: dict[str, Any]) -> str:
    return str(trace["traceID"]).zfill(32)  # Tempo's search leaves leading zeros out
