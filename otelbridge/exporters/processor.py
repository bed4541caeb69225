"""The span processor of the own export path: a queue, one worker thread, a bounded end.

The host's threads only append (`span_queue`). The worker encodes (`encoding`) and sends (`sender`);
while it waits for the endpoint it goes on moving a queue that fills up to the spool. Locks and one
thread are all it uses, so it runs under gevent; after a fork the child starts empty, with a worker
of its own at its first span.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import ReadableSpan

from otelbridge import _guard
from otelbridge.exporters.encoding import EncodedSpan, SpanEncoder, request
from otelbridge.exporters.sender import Sender
from otelbridge.exporters.span_queue import UNWEIGHED_SPANS, WEIGHED_FOR, SpanQueue
from otelbridge.processors.pipeline import ExportPath

if TYPE_CHECKING:
    from otelbridge.exporters.delivery import Delivery
    from otelbridge.exporters.spool import Spool

_logger = _guard.logger
#: What waits for the worker at most, by estimate.
QUEUE_BYTES: Final = 48 * 1024 * 1024
#: One request before compression; Langfuse Cloud takes 4.5 MB, the Collector 20 MiB.
REQUEST_BYTES: Final = 4 * 1000 * 1000
#: The last part of the time at exit, which belongs to the spool.
SPOOL_SECONDS: Final = 0.5
#: Encoding, compressing and writing chats, on one core of a busy machine.
SPOOL_BYTES_PER_SECOND: Final = 48 * 1024 * 1024
#: A waiting worker looks up every 0.1 s.
_GRACE_SECONDS: Final = 0.15
#: A queue fuller than this is moved to the spool while the endpoint is waited for.
_RELIEF: Final = 0.5
#: And so long at a time: the request that is on its way waits meanwhile.
_PULSE_SECONDS: Final = 0.1
#: Encoded at a stretch, under 1 ms: the interpreter takes its lock away from a thread after 5.
_YIELD_SPANS: Final = 16

_SAMPLED: Final = 1

Rule = Callable[[ReadableSpan], ReadableSpan | None]


class _Wakeup:
    """Ends a wait from any thread and from signal handlers: one lock, nothing to deadlock on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:  # another thread was quicker
                return

    def wait(self, seconds: float) -> bool:
        return self._lock.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))


class OtlpSpanProcessor(ExportPath):
    """Exports ended spans over OTLP/HTTP.

    Args:
        delivery: Where they go.
        spool: Keeps what cannot be delivered; None keeps it in memory.
        max_spans: Spans that wait for the worker at most.
        batch_spans: Spans in one request at most.
        delay_seconds: Time between two exports while few spans wait.
        timeout_seconds: The most that one attempt may take.
        compression: `gzip`, `deflate` or `none`.
        rule: What becomes of a span on its way out, in the worker; None from it leaves it out.
        name: Of the destination, for log lines.
        destination: `collector`, `tempo` or `langfuse`, for metrics.
        write_ahead: Spans go to the spool every 0.1 s, and are sent from there: a killed process
            loses no more than the last moments.
        shutdown_seconds: What `end` may take unless it is told.
        queue_bytes: What waits for the worker at most, by estimate.
        encoder: Makes the encoder of a worker.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        spool: Spool | None = None,
        max_spans: int = 20_480,
        batch_spans: int = 512,
        delay_seconds: float = 5.0,
        timeout_seconds: float = 10.0,
        compression: str = "gzip",
        rule: Rule | None = None,
        name: str = "the OTLP endpoint",
        destination: str = "collector",
        write_ahead: bool = False,
        shutdown_seconds: float = 1.5,
        queue_bytes: int = QUEUE_BYTES,
        encoder: Callable[[], SpanEncoder] = SpanEncoder,
    ) -> None:
        self._new_encoder = encoder
        self.destination = destination
        self._queue = SpanQueue(max_spans, queue_bytes)
        self._batch_spans = batch_spans
        self._looked_from = min(UNWEIGHED_SPANS, batch_spans)
        self._delay_seconds = 0.1 if write_ahead else delay_seconds
        self._write_ahead = write_ahead and spool is not None
        self._rule = rule
        self._spool = spool
        self._shutdown_seconds = shutdown_seconds
        self.sender = Sender(
            delivery,
            spool=spool,
            compression=compression,
            timeout_seconds=timeout_seconds,
            pulse=self._pulse,
            name=name,
        )
        self._start_lock = _guard.fork_safe_lock()
        self._is_shut_down = False
        self._fresh()
        if hasattr(os, "register_at_fork"):
            forked = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def _fresh(self) -> None:
        self._encoder = self._new_encoder()
        self._wakeup = _Wakeup()
        self._flushes: deque[threading.Lock] = deque()
        self._worker: threading.Thread | None = None
        self._abandoned = threading.Event()
        self._ended = threading.Event()
        if self._is_shut_down:  # before the fork
            self._ended.set()
        #: Encoded but not yet in the sender's hands.
        self._between: list[EncodedSpan] = []

    def _after_fork(self) -> None:
        self._queue.clear()
        self.sender.forget()
        self._fresh()

    # -- the host's threads ------------------------------------------------------------------------
    def on_end(self, span: ReadableSpan) -> None:
        """Queue a sampled span; never raises, never waits."""
        try:
            context = span.context
            if context is None or not context.trace_flags & _SAMPLED or self._is_shut_down:
                return
            waiting = self._queue.put(span)
            if self._worker is None:
                self.start()
            # Threads that end spans at once may skip a number, so those behind it are looked at.
            if waiting == self._batch_spans or (
                waiting > self._looked_from
                and waiting % WEIGHED_FOR == 1
                and (waiting > self._batch_spans or self._queue.fill > _RELIEF)
            ):
                self._wakeup.set()
        except Exception as error:  # not `guarded`: its call is a fifth of the whole
            _guard.record_failure("span queue", error)
            if _guard.reraise:
                raise

    def start(self) -> None:
        """Start the worker, where it does not run; also delivers what earlier processes left."""
        with self._start_lock:
            if self._worker is not None or self._is_shut_down:
                return
            # Made here and not at the fork: gevent may patch the locks of a child after it.
            self._wakeup = _Wakeup()
            worker = threading.Thread(target=self._run, name="otelbridge-export", daemon=True)
            self._worker = worker
        try:
            worker.start()  # outside of the lock: under gevent other greenlets run meanwhile
        except RuntimeError:  # at the end of the program; `shutdown` does the worker's job
            return
        _end_with_the_child_process(self)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Deliver what waits; whether all of it was handed over or is safe in the spool in time."""
        if self._is_shut_down:
            return True
        if self._worker is None:
            return True
        done = threading.Lock()
        done.acquire()
        self._flushes.append(done)
        self._wakeup.set()
        return done.acquire(timeout=timeout_millis / 1000) and not self.sender.held_bytes

    def end(self, timeout_seconds: float | None = None) -> bool:
        """Deliver for so long, then write what is left to the spool; ends all exporting.

        The last third, at most 0.5 s, belongs to the spool, and more of it where much is queued.
        Returns whether nothing was lost.
        """
        with self._start_lock:
            was_shut_down, self._is_shut_down = self._is_shut_down, True
        if timeout_seconds is None:
            timeout_seconds = self._shutdown_seconds
        if was_shut_down:
            # Another thread is at it; who asks a second time may be about to kill the process.
            return self._ended.wait(timeout_seconds + _GRACE_SECONDS)
        try:
            return self._end(timeout_seconds)
        finally:
            self._ended.set()

    def _end(self, timeout_seconds: float) -> bool:
        now = time.monotonic()
        spooling = min(SPOOL_SECONDS, timeout_seconds / 3)
        # A queue of large spans takes longer to write; up to a quarter of the time is left to try.
        needed = min(self._queue.bytes / SPOOL_BYTES_PER_SECOND, timeout_seconds * 3 / 4)
        self.sender.stop_at = now + timeout_seconds - max(spooling, needed)
        worker = self._worker
        if worker is not None and worker.is_alive() and worker is not threading.current_thread():
            self._wakeup.set()
            worker.join(max(0.0, self.sender.stop_at - now) + _GRACE_SECONDS)
        elif self._queue.spans and not self._abandoned.is_set():
            self._finish()
        self._abandoned.set()  # a worker that still waits leaves what it holds to this thread
        with _guard.guard("export at exit"):
            self._spool_rest()
        if worker is None or not worker.is_alive():
            self.sender.close()
        return not self.sender.counts["dropped_exit"]

    def _spool_rest(self) -> None:
        rest, self._between = self._between, []
        if rest:
            self._each_request(rest, self.sender.store)
        self._encoder = self._new_encoder()  # the worker may be in the middle of the other one
        while self._queue.spans:
            self._relieve()
        self.sender.spool_held()

    @property
    def spool(self) -> Spool | None:
        """Where undelivered spans wait."""
        return self._spool

    def stats(self) -> dict[str, float]:
        """Counts since the start of the process, in spans unless named otherwise.

        While nothing is on its way, `created` is the sum of `exported`, `left_out` (by the rule),
        `queued`, `held`, the `dropped_<reason>`, and what of it still lies in the spool. What
        another process left there counts as `exported` or dropped by the process that sends it.
        """
        counts = Counter(self.sender.counts)
        for reason, amount in self._queue.dropped.items():
            counts[f"dropped_{reason}"] += amount
        if self._spool is not None:
            kept = self._spool.counts
            for name in ("dropped_cap", "dropped_damaged"):  # the others are the sender's, too
                if amount := kept.get(name, 0):
                    counts[name] += amount
        return {
            **counts,
            "created": self._queue.created,
            "queued": self._queue.spans,
            "held": self.sender.held_spans,
            "queued_bytes": self._queue.bytes,
            "held_bytes": self.sender.held_bytes,
            "last_latency_seconds": self.sender.latency_seconds,
        }

    # -- the worker --------------------------------------------------------------------------------
    def _run(self) -> None:
        with _guard.guard("export of what was kept"):
            self._export_backlog()  # of earlier processes: this one may end before the first delay
        while not self._is_shut_down:
            # Woken because a batch is full, it leaves the rest for the next batch.
            woken = bool(self._flushes) or self._wakeup.wait(self._wait_seconds())
            asked = len(self._flushes)
            if self._is_shut_down:
                break
            with _guard.guard("export"):
                self._export_due(everything=not woken or asked > 0)
            for _ in range(asked):
                self._flushes.popleft().release()
            with _guard.guard("export of what was kept"):
                self._export_backlog()
        with _guard.guard("export at exit"):
            self._finish()
        while self._flushes:
            self._flushes.popleft().release()

    def _wait_seconds(self) -> float:
        rest = self.sender.resting_seconds()
        return min(self._delay_seconds, rest) if rest else self._delay_seconds

    def _export_due(self, *, everything: bool) -> None:
        hand_over = self.sender.store if self._write_ahead else self.sender.submit
        while not self._is_shut_down and self._is_due(everything):
            self._export_some(hand_over)

    def _export_backlog(self) -> None:
        """Send what was kept; what is new comes in between."""
        while (
            not self._is_shut_down
            and not self._flushes
            and self.sender.has_backlog
            and self.sender.work_off()
        ):
            self._export_due(everything=False)
        if self._spool is not None:
            self._spool.sync()

    def _is_due(self, everything: bool) -> bool:
        waiting = self._queue.spans
        return waiting >= self._batch_spans or (
            waiting > 0 and (everything or self._queue.fill > _RELIEF)
        )

    def _finish(self) -> None:
        """At shutdown: send until nothing is left, the endpoint fails, or time is up."""
        sender = self.sender
        while (
            self._queue.spans
            and not self._abandoned.is_set()
            and not sender.resting_seconds()
            and time.monotonic() < sender.stop_at
        ):
            self._export_some(sender.submit)
        while sender.held_bytes and not self._abandoned.is_set() and sender.work_off():
            pass

    def _export_some(self, hand_over: Callable[..., None]) -> None:
        spans = self._queue.take(self._batch_spans, REQUEST_BYTES)
        self._between = self._encode(spans)
        self._each_request(self._between, hand_over)

    def _encode(self, spans: list[ReadableSpan]) -> list[EncodedSpan]:
        encoded = []
        counts = self.sender.counts
        for number, span in enumerate(spans):
            if number % _YIELD_SPANS == 1 and self._queue.fill < _RELIEF and not self._is_shut_down:
                time.sleep(0.0001)  # lets waiting threads run: a batch would hold requests up
            sent: ReadableSpan | None = span
            place, reason = "export rule", "dropped_rule"
            try:
                if self._rule is not None:
                    sent = self._rule(span)
                place, reason = "encode span", "dropped_encoding"
                if sent is None:
                    counts["left_out"] += 1
                else:
                    encoded.append(self._encoder.encode(sent))
            except Exception as error:
                counts[reason] += 1
                _guard.record_failure(place, error)
                if _guard.reraise:
                    raise
        return encoded

    def _each_request(self, spans: list[EncodedSpan], hand_over: Callable[..., None]) -> None:
        """Requests of bounded size; a span is taken off the list as its request is handed over."""
        while spans:
            size = count = 0
            for span in spans:
                size += len(span.data)
                if count and size > REQUEST_BYTES:
                    break
                count += 1
            packed = self.sender.packed(request(spans[:count]), count)
            del spans[:count]
            hand_over(packed)

    def _relieve(self) -> None:
        encoded = self._encode(self._queue.take(self._batch_spans, REQUEST_BYTES))
        self._each_request(encoded, self.sender.store)

    def _pulse(self) -> None:
        """While the endpoint is waited for: what fills the queue, or may not wait, is spooled."""
        relief = 0.0 if self._write_ahead else _RELIEF
        until = time.monotonic() + _PULSE_SECONDS
        while self._queue.fill > relief and not self._abandoned.is_set():
            self._relieve()
            if time.monotonic() > until:  # faster than it can be moved: the request goes on first
                break


def _end_with_the_child_process(processor: OtlpSpanProcessor) -> None:
    """A child of `multiprocessing` ends without `atexit`; its own list of last calls is run."""
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None:
        return
    ended = weakref.WeakMethod(processor.shutdown)
    util.Finalize(None, lambda: (method := ended()) and method(), exitpriority=10)
