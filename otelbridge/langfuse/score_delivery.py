"""Takes scores to Langfuse: a queue, one worker thread, the durable spool.

`submit` never blocks and does no I/O. The worker masks a score, writes it to the spool (kind
`scores`) and sends from there with the exporters' `Sender`: one POST a score, tried again through
outages, found by the next start of the service. Scores of requests whose trace is unknown wait in a
spool of their own (`scores-unresolved`) and are looked up again, see `resolving`. A forked child
starts empty; what waited belongs to the parent.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otelbridge import _guard, endpoints
from otelbridge.exporters.bodies import Request
from otelbridge.exporters.destinations import Destination, langfuse_scores, whole
from otelbridge.exporters.sender import Sender
from otelbridge.exporters.spool import Spool
from otelbridge.langfuse.resolving import Resolver, UnansweredError
from otelbridge.langfuse.score_body import Score
from otelbridge.langfuse.score_record import (
    TextMasker,
    masked,
    masker_of,
    open_record,
    read_open_record,
    sendable,
    with_trace,
)
from otelbridge.masking.rules import Masking
from otelbridge.settings import Settings

#: Kind of the spool of scores whose request has no known trace.
UNRESOLVED: Final = "scores-unresolved"
#: Scores in memory, between the caller and the worker; the newest are refused beyond it.
QUEUED: Final = 10_000
#: A request that the stores do not know after so long has no trace: it was not sampled, say.
UNKNOWN_SECONDS: Final = 24 * 3600.0
#: The same where no store could be asked.
UNANSWERED_SECONDS: Final = 7 * 24 * 3600.0
_TICK_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 10.0
#: Between two looks for the traces of requests: spans need a moment to arrive in a store.
_FIRST_LOOK_SECONDS: Final = 1.0
_LONGEST_LOOK_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 0.3

#: Told of a score whose trace was found, or given up with no trace id in its target.
OnSettled = Callable[[Score, Mapping[str, Any]], object]


class ScoreDelivery:
    """The way of one process's scores to one Langfuse project.

    Args:
        settings: With Langfuse's keys.
        destination: From `langfuse_scores`.
        on_settled: Runs in the worker.
        masking: Rules in code, in place of those of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        on_settled: OnSettled,
        masking: Masking | None = None,
    ) -> None:
        self._settings = settings
        self._on_settled = on_settled
        self._queue: deque[tuple[Score, Mapping[str, Any]]] = deque()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._spool = self._make_spool(destination)
        self._open = self._make_spool(
            replace(destination, owner=replace(destination.owner, kind=UNRESOLVED))
        )
        #: Unresolved scores where there is no usable spool.
        self._held_open: deque[tuple[Score, Mapping[str, Any]]] = deque(maxlen=1000)
        self._resolver = Resolver(settings)
        self._look_at = 0.0
        self._look_pause_seconds = _FIRST_LOOK_SECONDS
        self._masking = masking
        self._maskers: list[TextMasker | None] = []
        self.sender = Sender(
            destination.delivery(),
            spool=self._spool,
            compression="none",
            timeout_seconds=_TIMEOUT_SECONDS,
            pulse=self._store_queue,
            name=endpoints.shown(destination.owner.endpoint),
            split=whole,
            expires_seconds=UNANSWERED_SECONDS,
            noun="score",
        )
        self.counts: Counter[str] = Counter()

    def _make_spool(self, destination: Destination) -> Spool | None:
        settings = self._settings
        if not settings.spool_max_bytes:
            return None
        return Spool(
            Path(settings.spool_directory),
            owner=destination.owner,
            max_bytes=settings.spool_max_bytes,
            fsync=settings.spool_fsync,
        )

    # -- any thread --------------------------------------------------------------------------------
    def submit(self, score: Score, request: Mapping[str, Any]) -> bool:
        """Take a score; False when the queue is full, which is counted.

        Args:
            score: A request's without trace id is looked up.
            request: Attributes of the judged request, for `on_settled`.
        """
        if len(self._queue) >= QUEUED:
            self.counts["dropped_queue_full"] += 1
            return False
        self._queue.append((score, request))
        self._idle.clear()
        self.start()
        self._wake.set()
        return True

    def has_backlog(self) -> bool:
        """Whether an earlier process left anything."""
        return any(spool.has_pending() for spool in (self._spool, self._open) if spool is not None)

    def start(self) -> None:
        """Start the worker if it does not run."""
        if self._thread is not None or self._stopping:
            return
        with self._lock:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="otelbridge-scores", daemon=True)
                thread.start()  # RuntimeError at the end of the program; the caller's guard has it
                self._thread = thread

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until Langfuse has everything that can be sent now.

        Returns:
            Whether nothing waits any more; scores without a trace do not count.
        """
        deadline = time.monotonic() + timeout_seconds
        if self._thread is None and self._queue:
            self.start()
        while self._thread is not None and time.monotonic() < deadline:
            self._wake.set()
            if self._idle.wait(0.05):
                break
        return not self._queue and not self.sender.has_backlog

    def begin_stop(self, timeout_seconds: float) -> None:
        """Tell the worker to end: send what it can within this time, keep the rest."""
        self.sender.stop_at = time.monotonic() + max(0.0, timeout_seconds - _SETTLE_SECONDS)
        self._stopping = True
        self._wake.set()

    def stop(self, timeout_seconds: float) -> bool:
        """End the worker; what it could not send is in the spool, or counted as lost.

        Returns:
            Whether everything was sent or is in the spool.
        """
        self.begin_stop(timeout_seconds)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_seconds)
        self._store_queue()
        self.sender.spool_held()
        if self._open is not None:
            self._open.close()
        if unfound := len(self._held_open):
            self.counts["dropped_exit"] += unfound
            _guard.logger.warning(
                "otelbridge: %d score(s) of requests without a known trace are lost at the end of "
                "the program, for want of a usable spool.",
                unfound,
            )
        kept = self.sender.counts + self.counts
        return not (kept["dropped_exit"] or kept["dropped_memory_full"])

    def stats(self) -> dict[str, int]:
        """Counts of this process in scores: see `scores.score_stats`."""
        sent = self.sender.counts
        found = Counter(
            {
                "delivered": sent["exported"],
                "queued": len(self._queue),
                "held": self.sender.held_spans + len(self._held_open),
            }
        )
        found.update(self.counts)
        found.update({name: n for name, n in sent.items() if name.startswith("dropped_")})
        if self._spool is not None:
            kept = self._spool.counts
            found.update({name: n for name, n in kept.items() if name == "dropped_cap"})
        return dict(found)

    # -- the worker --------------------------------------------------------------------------------
    def _run(self) -> None:
        with _suppressed():
            while not self._stopping:
                with _guard.guard("scores"):
                    self._round()
                if not self._queue and not self._can_send():
                    self._idle.set()
                self._wake.wait(_TICK_SECONDS)
                self._wake.clear()
            with _guard.guard("scores"):
                self._store_queue()
                while self.sender.work_off():
                    pass
            self.sender.close()
            self._idle.set()

    def _can_send(self) -> bool:
        return self.sender.resting_seconds() == 0 and self.sender.has_backlog

    def _round(self) -> None:
        self._store_queue()
        while not self._stopping and self.sender.work_off():
            self._store_queue()
        if self._spool is not None:
            self._spool.sync()
        if not self._stopping and time.monotonic() >= self._look_at:
            self._look_for_traces()

    def _store_queue(self) -> None:
        """Bring what was submitted to safety; also while an answer is waited for."""
        while self._queue:
            try:
                score, request = self._queue.popleft()
            except IndexError:  # another thread, at the end of the program
                return
            stored = False
            with _guard.guard("score"):
                self._store(masked(score, self._masker()), request)
                stored = True
            if not stored:
                self.counts["dropped_error"] += 1

    def _masker(self) -> TextMasker | None:
        if not self._maskers:  # its patterns take 20 ms to compile
            self._maskers = [masker_of(self._settings, self._masking)]
        return self._maskers[0]

    def _store(self, score: Score, request: Mapping[str, Any]) -> None:
        if score.target.request_id and not score.target.trace_id:
            self._keep_open(score, request)
            return
        body = sendable(score)
        self.sender.store(Request(body, 1))

    def _keep_open(self, score: Score, request: Mapping[str, Any]) -> None:
        self.counts["unresolved"] += 1
        self._look_pause_seconds = _FIRST_LOOK_SECONDS
        self._look_at = min(self._look_at, time.monotonic() + _FIRST_LOOK_SECONDS)
        if self._open is not None and self._open.put(open_record(score, request), 1):
            return
        if len(self._held_open) == self._held_open.maxlen:
            self.counts["dropped_memory_full"] += 1
        self._held_open.append((score, request))

    # -- scores of requests ------------------------------------------------------------------------
    def _look_for_traces(self) -> None:
        left = 0
        held, self._held_open = self._held_open, deque(maxlen=self._held_open.maxlen)
        for score, request in held:
            if not self._stopping and self._resolve(score, request):
                continue
            self._held_open.append((score, request))
            left += 1
        if self._open is not None and self._open.has_pending():
            left += self._look_into(self._open)
        pause = self._look_pause_seconds if left else _TICK_SECONDS
        self._look_at = time.monotonic() + pause
        if left:
            self._look_pause_seconds = min(_LONGEST_LOOK_SECONDS, pause * 2)

    def _look_into(self, spool: Spool) -> int:
        """Look for the traces of what waits; how many scores still do."""
        left, seen = 0, []
        try:
            while (claimed := spool.claim()) is not None:
                seen.append(claimed)  # held: the next claim gives the next segment
                for record in claimed.records():
                    if self._stopping:
                        return left + 1
                    try:
                        score, request = read_open_record(record.payload)
                    except ValueError:
                        self.counts["dropped_damaged"] += 1
                        claimed.mark("damaged")
                        continue
                    if self._resolve(score, request):
                        claimed.mark()
                    else:
                        left += 1
        finally:
            for claimed in seen:
                if claimed.records_left:
                    claimed.keep()
                else:
                    claimed.done()
        return left

    def _resolve(self, score: Score, request: Mapping[str, Any]) -> bool:
        """Whether a score is settled: its trace was found and it is on its way, or it expired."""
        age_seconds = time.time() - score.time_ns / 1e9
        try:
            trace_id = self._resolver.find(score.target.request_id, given_ns=score.time_ns)
            limit_seconds = UNKNOWN_SECONDS
        except UnansweredError:
            trace_id, limit_seconds = None, UNANSWERED_SECONDS
        if trace_id is None and age_seconds < limit_seconds:
            return False
        if trace_id is None:
            self.counts["dropped_unresolved"] += 1
            _guard.count("score of an unknown request")
        else:
            score = with_trace(score, trace_id)
            self.counts["resolved"] += 1
            self._store(score, request)
        self._on_settled(score, request)
        return True


def _suppressed() -> Any:
    """A context in which no instrumentation makes spans of our own requests.

    An empty one besides: a thread may have been given that of the request that started it.
    """
    otel_context.attach(Context())  # for good: the thread is ours
    return suppress_instrumentation()


def delivery_of(
    settings: Settings, on_settled: OnSettled, masking: Masking | None = None
) -> ScoreDelivery | None:
    """The delivery to the settings' Langfuse; None without its keys."""
    destination = langfuse_scores(settings)
    if destination is None:
        return None
    return ScoreDelivery(settings, destination, on_settled, masking)
