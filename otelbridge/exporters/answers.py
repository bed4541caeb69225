"""What an answer to an export means, and how long to wait after a bad one.

Pure: status, headers and body in, a verdict out. Classes: OTLP 1.x ("OTLP/HTTP Response"), and
beyond it 408, 500 and unknown 5xx are tried again, because gateways and Langfuse send them for
outages; `sender` bounds how often.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

#: Seconds; the first and the longest pause. Full jitter: from 0 to the bound, drawn evenly.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0
#: A longer Retry-After is taken for a mistake.
_RETRY_AFTER_MAX_SECONDS: Final = 600.0
_RETRY: Final = frozenset({429, 502, 503, 504})
_SERVER_ERRORS: Final = range(500, 600)
_NO_PARTIAL: Final = (b"", b"\n\x00")
HTTP_OK: Final = range(200, 300)


class Verdict(Enum):
    """What to do with the spans of a request."""

    DELIVERED = "delivered"
    RETRY = "try again"
    FAULT = "try again, a few times"
    TOO_LARGE = "send in smaller pieces"
    REFUSED = "find the span that is refused"
    MISCONFIGURED = "wait until somebody changes the configuration"


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict with its reason.

    Attributes:
        reason: For a log line and for counters: `HTTP 503`, `timeout`, `connection refused`.
        retry_after_seconds: What the other side asked for, 0 to 600.
        rejected_spans: Of a delivered request, those that the receiver did not take.
    """

    verdict: Verdict
    reason: str
    retry_after_seconds: float | None = None
    rejected_spans: int = 0


def answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """The meaning of an HTTP answer; header names in lower case."""
    if status in HTTP_OK:
        return Answer(Verdict.DELIVERED, f"HTTP {status}", rejected_spans=_rejected(body))
    reason = f"HTTP {status}"
    if status in _RETRY:
        return Answer(Verdict.RETRY, reason, retry_after(headers.get("retry-after")))
    if status == 408 or status in _SERVER_ERRORS:
        return Answer(Verdict.FAULT, reason, retry_after(headers.get("retry-after")))
    if status == 413:
        return Answer(Verdict.TOO_LARGE, reason)
    if status in (400, 422):
        return Answer(Verdict.REFUSED, reason)
    return Answer(Verdict.MISCONFIGURED, reason)


def retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, a number or a date; None for none or nonsense."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    if not seconds <= _RETRY_AFTER_MAX_SECONDS:  # not a number neither
        return _RETRY_AFTER_MAX_SECONDS if seconds > 0 else None
    return max(0.0, seconds)


def _rejected(body: bytes) -> int:
    if body in _NO_PARTIAL:
        return 0
    # Imported here: most receivers answer with an empty message.
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        message = ExportTraceServiceResponse.FromString(body)
    except DecodeError:  # JSON or a page; the status has said all
        return 0
    return max(0, message.partial_success.rejected_spans)


class Pauses:
    """Growing pauses with full jitter, so that a fleet does not come back in one moment."""

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._failures = 0

    def reset(self) -> None:
        """After a success."""
        self._failures = 0

    def next_seconds(self, asked: float | None = None, *, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure.

        Args:
            asked: What Retry-After said: waited for in full, plus up to a tenth.
            at_least: Lower bound of the drawn pause.
        """
        bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 16))
        self._failures += 1
        if asked is not None:
            return asked * (1 + self._dice.random() / 10)
        return max(at_least, self._dice.uniform(0, bound))
