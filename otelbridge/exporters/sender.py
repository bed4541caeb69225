"""Takes encoded requests and answers for them: delivered, kept for later, or dropped and counted.

`processor` hands it requests, `delivery` carries them, `answers` judges, `exporters.spool` (any
object with its `put`, `claim`, `has_pending`) keeps what cannot be delivered. While an endpoint
fails, new requests go to the spool at once, and one is tried after each pause. Without a usable
spool they stay in memory up to a bound. Used by one worker thread; at the end of the program by the
thread that ends it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from otelbridge import _guard
from otelbridge.exporters.answers import Answer, Pauses, Verdict
from otelbridge.exporters.bodies import GZIP_LEVEL, Request, halves
from otelbridge.exporters.delivery import Delivery

if TYPE_CHECKING:
    from otelbridge.exporters.spool import Claimed, Spool

_logger = _guard.logger
#: Requests held in memory where there is no usable spool.
HELD_BYTES: Final = 32 * 1024 * 1024
#: Between two tries of a configuration that was refused.
MISCONFIGURED_SECONDS: Final = 15.0
#: A request that fails so often while the endpoint takes others is taken apart or dropped.
_SUSPECT_TRIES: Final = 3
#: Refusals in a row after which it is the endpoint, not a span: 512 spans are halved 9 times.
_REFUSALS: Final = 16
#: A worker's write to the spool is waited for so long at the end; a hanging disk is not.
_HANDOVER_SECONDS: Final = 0.2
#: Requests refused for themselves that one look into the spool passes over to reach what is behind
#: them. What may as well be the endpoint's fault counts for more, so that it is not hammered.
_PASSED_OVER: Final = 16
_PASSED_OVER_IN_DOUBT: Final = 8
#: What a refused configuration keeps in the spool at most.
EXPIRES_SECONDS: Final = 24 * 3600.0


class Sender:
    """Delivers requests in order of arrival as well as the endpoint allows.

    Args:
        delivery: The connection; any object with its `post` and `close`.
        spool: Keeps what cannot be delivered; None keeps it in memory.
        compression: `gzip`, `deflate` or `none`.
        timeout_seconds: The most that one attempt may take.
        pulse: Runs about every 0.1 s while the endpoint is waited for.
        name: Of the destination, for log lines; no secrets.
        split: A request that is too large or refused as smaller ones; by default the halves of
            an ExportTraceServiceRequest. It raises ValueError where it cannot.
        expires_seconds: Age in the spool at which a refused configuration costs a request.
        noun: What a request is made of, for log lines.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        spool: Spool | None,
        compression: str,
        timeout_seconds: float,
        pulse: Callable[[], None],
        name: str,
        pauses: Pauses | None = None,
        split: Callable[[Request], Iterable[Request]] = halves,
        expires_seconds: float = EXPIRES_SECONDS,
        noun: str = "span",
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._compression = compression
        self._timeout_seconds = timeout_seconds
        self._pulse = pulse
        self._name = name
        self._pauses = pauses or Pauses()
        self._split = split
        self._expires_seconds = expires_seconds
        self._noun = noun
        #: Told the seconds of each request and, unless it was delivered, why not.
        self.on_answer: Callable[[float, str], object] = lambda _seconds, _reason: None
        self.stop_at = float("inf")
        self.counts: Counter[str] = Counter()
        self._said: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Forget everything, in a forked child: what is held belongs to the parent."""
        self._delivery.close()
        self.counts.clear()
        self.rest_until = 0.0
        self._pause_seconds = 0.0
        self.failing = ""
        #: What came last.
        self.answer: Answer | None = None
        self.latency_seconds = 0.0
        self._pauses.reset()
        self._held: deque[Request] = deque()
        self.held_bytes = 0
        #: What is being delivered and stands nowhere else, for whoever has to end the program.
        self._unsettled: list[Request] = []
        self._taken_over = False
        #: Held by a worker that stores what is unsettled: then the end does not do it again.
        self._handover = threading.Lock()
        self._suspects: dict[bytes, tuple[int, int]] = {}

    # -- in ----------------------------------------------------------------------------------------
    def packed(self, body: bytes, spans: int) -> Request:
        """A request from plain bytes, compressed as it goes over the wire."""
        if self._compression == "gzip":
            return Request(gzip.compress(body, GZIP_LEVEL, mtime=0), spans, gzipped=True)
        return Request(body, spans)

    def submit(self, request: Request) -> None:
        """Deliver now, or keep while the endpoint rests."""
        if self.resting_seconds() > 0:
            self.store(request)
            return
        self._unsettled = [request]
        settled = False
        with _guard.guard("delivery"):  # whatever goes wrong, the spans stay
            settled = self._settle(request)
        with self._handover:
            if not settled and not self._taken_over:
                self.store(request)
            self._unsettled = []

    def store(self, request: Request) -> None:
        """Keep for later: in the spool, else in memory, where the oldest makes room."""
        if self._spool is not None and self._spool.put(
            request.body, request.spans, gzipped=request.gzipped
        ):
            self.counts["spooled"] += request.spans
            return
        self._held.append(request)
        self.held_bytes += len(request.body)
        while self.held_bytes > HELD_BYTES:
            oldest = self._held.popleft()
            self.held_bytes -= len(oldest.body)
            self._drop("memory_full", oldest.spans)

    def resting_seconds(self) -> float:
        """How long nothing is to be sent: the pause after a failure."""
        rest = self.rest_until - time.monotonic()
        if rest > self._pause_seconds:  # the clock was set back
            self.rest_until += self._pause_seconds - rest
            rest = self._pause_seconds
        return max(0.0, rest)

    # -- what was kept -----------------------------------------------------------------------------
    @property
    def held_spans(self) -> int:
        """Spans that memory holds for want of a usable spool."""
        return sum(request.spans for request in list(self._held))

    @property
    def has_backlog(self) -> bool:
        """Whether anything is kept, by this process or by one that died."""
        return bool(self._held) or (self._spool is not None and self._spool.has_pending())

    def work_off(self) -> bool:
        """Send a piece of what was kept; False when nothing could be sent."""
        if self.resting_seconds() > 0 or time.monotonic() > self.stop_at:
            return False
        if self._held:
            request = self._held.popleft()
            self.held_bytes -= len(request.body)
            self.submit(request)
            return not self.resting_seconds()
        return self._work_off_spool(self._spool) if self._spool is not None else False

    def _work_off_spool(self, spool: Spool) -> bool:
        """Send one segment, the oldest that the endpoint takes."""
        passed_over = 0
        with contextlib.ExitStack() as claims:  # held to the end: `claim` gives the next one then
            while passed_over < _PASSED_OVER and (claimed := spool.claim()) is not None:
                claims.enter_context(claimed)  # left early, the rest is for later
                passed_over = self._send(claimed, passed_over)
                if not claimed.records_left:
                    claimed.done()
                    return True
        return False

    def _send(self, claimed: Claimed, passed_over: int) -> int:
        """Send what is in a segment; how much was passed over, `_PASSED_OVER` to stop."""
        for record in claimed.records():
            self._pulse()
            if time.monotonic() > self.stop_at:
                return _PASSED_OVER
            request = Request(record.payload, record.spans, record.gzipped)
            if self._settle(request):
                claimed.mark()
            elif self.failing == "rejected" and claimed.age_seconds >= self._expires_seconds:
                self._drop("expired", record.spans)
                claimed.mark("expired")
            else:
                passed_over += self._doubt(request)
                if passed_over >= _PASSED_OVER:
                    break
        return passed_over

    def _doubt(self, request: Request) -> int:
        """How much the last answer speaks against the endpoint, not against this request alone."""
        verdict = self.answer.verdict if self.answer is not None else Verdict.RETRY
        if verdict is Verdict.REFUSED and request.spans == 1:
            return 1
        in_doubt = verdict in (Verdict.REFUSED, Verdict.FAULT)
        return _PASSED_OVER_IN_DOUBT if in_doubt else _PASSED_OVER

    def spool_held(self) -> None:
        """At the end of the program: what memory holds goes to the spool, or is counted as lost."""
        locked = self._handover.acquire(timeout=_HANDOVER_SECONDS)
        self._taken_over = True  # a worker that is still at it keeps nothing any more
        unsettled, self._unsettled = self._unsettled, []
        waiting = [*unsettled, *self._held]
        self._held.clear()
        self.held_bytes = 0
        if locked:
            self._handover.release()
        for request in waiting:
            if self._spool is not None and self._spool.put(
                request.body, request.spans, gzipped=request.gzipped
            ):
                self.counts["spooled"] += request.spans
            else:
                self._drop("exit", request.spans)
        if self._spool is not None:
            self._spool.close()

    def close(self) -> None:
        """Close the connection."""
        self._delivery.close()

    # -- one request -------------------------------------------------------------------------------
    def _settle(self, request: Request) -> bool:
        """Deliver; False when the whole request is to be kept for later."""
        answer = self._post(request)
        verdict = answer.verdict
        if verdict is Verdict.DELIVERED:
            if self._suspects:
                self._suspects.pop(_key(request), None)
            return True
        if verdict is Verdict.TOO_LARGE:
            if parts := self._parts(request):
                return self._take_apart(request, parts)
            self._drop("too_large", request.spans)
            return True
        if verdict in (Verdict.REFUSED, Verdict.FAULT):
            suspect = self._is_suspect(request)
            if (verdict is Verdict.REFUSED or suspect) and (parts := self._parts(request)):
                return self._take_apart(request, parts)
            if suspect:
                self._drop("rejected", request.spans)
                return True
        self._rest(answer)
        return False

    def _post(self, request: Request) -> Answer:
        started = time.monotonic()
        deadline = started + self._timeout_seconds

        def tick() -> None:
            nonlocal deadline
            now = time.monotonic()
            if now > deadline or now > self.stop_at:
                raise TimeoutError
            self._pulse()
            deadline += time.monotonic() - now  # what is done meanwhile is not the peer's fault

        encoding = "gzip" if request.gzipped else ""
        body = request.body
        if self._compression == "deflate" and not request.gzipped:
            body, encoding = zlib.compress(body, GZIP_LEVEL), "deflate"
        answer = self._delivery.post(body, encoding=encoding, tick=tick)
        self.answer = answer
        self.latency_seconds = time.monotonic() - started
        delivered = answer.verdict is Verdict.DELIVERED
        self.on_answer(self.latency_seconds, "" if delivered else answer.reason)
        self.counts["requests"] += 1
        if answer.verdict is Verdict.DELIVERED:
            self.counts["accepted_requests"] += 1
            self.counts["exported"] += request.spans - min(answer.rejected_spans, request.spans)
            if answer.rejected_spans:
                self._drop("partial_success", min(answer.rejected_spans, request.spans))
            self._recovered()
        return answer

    def _parts(self, request: Request) -> list[Request]:
        """A request in smaller ones, in reverse; none if it cannot be taken apart."""
        if request.spans == 1:
            return []
        try:
            return [*self._split(request)][::-1]
        except ValueError:
            return []

    def _take_apart(self, request: Request, pending: list[Request]) -> bool:
        """Halve until the spans that are refused stand alone, and drop those.

        False when nothing at all was taken: then it is the endpoint, not a span.
        """
        if self._unsettled:
            self._unsettled = pending
        alone: list[tuple[Request, Verdict]] = []
        taken = refusals = 0
        while pending and (taken or refusals < _REFUSALS):
            part = pending[-1]
            answer = self._post(part)
            if answer.verdict in (Verdict.RETRY, Verdict.MISCONFIGURED):
                self._rest(answer)
                pending += [single for single, _ in alone]
                return self._keep_parts(pending) if taken else False
            pending.pop()
            if answer.verdict is Verdict.DELIVERED:
                taken += 1
                continue
            refusals += answer.verdict is not Verdict.TOO_LARGE
            if parts := self._parts(part):
                pending += parts
            else:
                alone.append((part, answer.verdict))
        if not taken and refusals:
            if not self._is_suspect(request, peek=True):
                self._rest(Answer(Verdict.MISCONFIGURED, "every span is refused"))
                return False
            self._drop("rejected", request.spans)
            return True
        for part, verdict in alone:
            self._drop("too_large" if verdict is Verdict.TOO_LARGE else "rejected", part.spans)
        return True

    def _keep_parts(self, parts: list[Request]) -> bool:
        with self._handover:
            for part in () if self._taken_over else parts:
                self.store(part)
            self._unsettled = []
        return True

    def _is_suspect(self, request: Request, *, peek: bool = False) -> bool:
        """Whether this request failed often enough while the endpoint took others."""
        key, accepted = _key(request), self.counts["accepted_requests"]
        tries, accepted_before = self._suspects.get(key, (0, accepted))
        if not peek:
            tries += 1
            if len(self._suspects) > 1000:
                self._suspects.clear()
            self._suspects[key] = (tries, accepted_before)
        return tries >= _SUSPECT_TRIES and accepted > accepted_before

    # -- the state of the endpoint -----------------------------------------------------------------
    def _rest(self, answer: Answer) -> None:
        if time.monotonic() > self.stop_at:
            return
        wrong = answer.verdict is Verdict.MISCONFIGURED
        pause = self._pauses.next_seconds(
            answer.retry_after_seconds, at_least=MISCONFIGURED_SECONDS if wrong else 0.0
        )
        self.rest_until = time.monotonic() + pause
        self._pause_seconds = pause
        self.counts["failures"] += 1
        keeps = "on disk" if self._spool is not None and not self._held else "in memory"
        if wrong and answer.reason not in self._said:
            self._said.add(answer.reason)
            _logger.error(
                "otelbridge: %s refuses %ss (%s): a wrong address, key or certificate. They "
                "wait %s; `otelbridge doctor` looks for the cause.",
                self._name, self._noun, answer.reason, keeps,
            )  # fmt: skip
        elif not wrong and not self.failing:
            _logger.warning(
                "otelbridge: %s takes no %ss (%s); they wait %s.",
                self._name, self._noun, answer.reason, keeps,
            )  # fmt: skip
        self.failing = "rejected" if wrong else answer.reason

    def _recovered(self) -> None:
        self._pauses.reset()
        self.rest_until = 0.0
        if self.failing:
            _logger.info("otelbridge: %s takes %ss again.", self._name, self._noun)
            self.failing = ""

    def _drop(self, reason: str, spans: int) -> None:
        self.counts[f"dropped_{reason}"] += spans
        if reason not in self._said:
            self._said.add(reason)
            _logger.warning(
                "otelbridge: %d %s(s) for %s dropped (%s); further ones are only counted.",
                spans, self._noun, self._name, reason,
            )  # fmt: skip


def _key(request: Request) -> bytes:
    return hashlib.blake2b(request.body, digest_size=16).digest()
