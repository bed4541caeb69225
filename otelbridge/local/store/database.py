"""The local store: one DuckDB database, one writer thread, any number of readers.

Neighbours: the receivers call `Store.write`, the two APIs `Store.trace`, the query side
`Store.query` and `.snapshot`. A write is acknowledged after its transaction has committed, so what
a sender was told is stored survives a kill. One process owns a data directory (a lock file says
which); a damaged database is set aside under another name and a new one begun.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from otelbridge.errors import IngestError, StoreError
from otelbridge.local.records import Batch, SpanRecord
from otelbridge.local.store import opening, reading, retention
from otelbridge.local.store.schema import SIDES
from otelbridge.local.store.side_tables import SideTables
from otelbridge.local.store.values import AttributeKey
from otelbridge.local.store.writing import Writer

_logger = logging.getLogger("otelbridge.local")
#: Requests that may wait for the writer; above it senders are told to come back (429).
_QUEUE_REQUESTS: Final = 1024
#: Spans that one transaction takes at most when requests are waiting.
_TRANSACTION_SPANS: Final = 8192
#: After a transaction of so many spans the next one waits so long for more.
_BULK_SPANS: Final = 500
_GATHER_SECONDS: Final = 0.01
_RETENTION_INTERVAL_SECONDS: Final = 30.0
#: The side tables are renewed when nothing arrived for this time, so that a query seldom has to ...
_IDLE_SECONDS: Final = 0.02
#: ... or so many spans changed, so that a query in the midst of a bulk load waits shortly.
_REFRESH_SPANS: Final = 20_000
#: Up to so many spans a transaction renews the side tables itself; more would number the traces of
#: a bulk load again and again.
_SMALL_SPANS: Final = 1000
_NO_LIMITS: Final = retention.Limits()


@dataclass(slots=True)
class _Job:
    """Work for the writer thread: a batch to store, or something to run between transactions."""

    batch: Batch | None
    action: Callable[[], Any] | None
    done: Future[Any]

    def __post_init__(self) -> None:
        # From now on nobody can cancel it: the writer may always set its result.
        self.done.set_running_or_notify_cancel()


class Store:
    """Spans of both sides in `directory`, or in memory when it is None.

    Args:
        directory: Data directory, created when absent.
        limits: Retention; applied every 30 s and by `apply_retention`.
    Raises:
        StoreError: the directory cannot be used or is in use by another process.
    """

    def __init__(self, directory: Path | None, limits: retention.Limits = _NO_LIMITS) -> None:
        self._limits = limits
        self._lock_file = opening.lock_directory(directory) if directory is not None else None
        try:
            self._connection = opening.open_database(directory)
            self._side_tables = SideTables(self._connection)
            self._rows = Writer(self._connection, self._side_tables)
            self._received_ns = self._newest_received_ns()
        except BaseException:
            self._release_lock()
            raise
        # Held for a bulk transaction, a refresh and the begin of a snapshot: what a snapshot sees
        # of the spans and of the side tables fits together. A small one changes both at once.
        self._gate = threading.Lock()
        self._readers = reading.Readers(self._connection)
        self._queue: queue.Queue[_Job | None] = queue.Queue(_QUEUE_REQUESTS)
        self._bulk = False
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="otelbridge-store", daemon=True)
        self._writer.start()

    def write(self, batch: Batch) -> Future[None]:
        """Queue a batch; the future is done once it is committed.

        Raises:
            IngestError: 429 when the writer is too far behind.
            StoreError: the store is closed. (The future may carry one too: nothing was stored.)
        """
        done: Future[None] = Future()
        if not batch.tempo and not batch.langfuse:
            done.set_result(None)
            return done
        self._put(_Job(batch, None, done))
        return done

    def trace(self, side: str, trace_id: bytes) -> list[SpanRecord]:
        """Every span of a trace on one side (`schema.TEMPO`, `.LANGFUSE`), by start time.

        Records of one resource or scope share the object. Empty when the trace is unknown.
        """
        with self.snapshot(refresh=False) as found:
            return reading.read_trace(found, side, trace_id)

    def query(
        self,
        sql: str,
        parameters: Sequence[Any] | dict[str, Any] = (),
        *,
        timeout_seconds: float = reading.DEFAULT_TIMEOUT_SECONDS,
        refresh: bool = True,
    ) -> list[tuple[Any, ...]]:
        """All rows of one statement, on a snapshot of its own; arguments as `snapshot` has them."""
        with self.snapshot(timeout_seconds=timeout_seconds, refresh=refresh) as found:
            return found.query(sql, parameters)

    @contextlib.contextmanager
    def snapshot(
        self,
        *,
        timeout_seconds: float = reading.DEFAULT_TIMEOUT_SECONDS,
        refresh: bool = True,
    ) -> Iterator[reading.Snapshot]:
        """A consistent view for several statements; sees every write that was acknowledged.

        Args:
            timeout_seconds: For each statement.
            refresh: Whether `span_tree` and `trace_info` are to fit the spans; false saves the
                work for statements that read neither.
        Raises:
            StoreError: the store is closed or cannot be read; `StoreTimeout` after the deadline.
        """
        with self._readers.snapshot(timeout_seconds, self._fixed(refresh)) as found:
            yield found

    def catalog(self) -> frozenset[AttributeKey]:
        """(scope, key, type letter) of every attribute that was ever stored in a column.

        Scopes as TraceQL names them, types as `columns.ValueType`. It only grows: no snapshot that
        was taken before has more.
        """
        return self._rows.catalog()

    def refresh(self) -> None:
        """Bring the side tables up to date now; a snapshot does it by itself."""
        try:
            with self._fixed(refresh=True):
                pass
        except duckdb.Error as error:
            raise StoreError(f"the side tables cannot be renewed: {error}") from error

    @contextlib.contextmanager
    def _fixed(self, refresh: bool) -> Iterator[None]:
        """Holds commits back, with the side tables up to date if asked."""
        with self._gate:
            if refresh and self._side_tables.dirty:
                self._side_tables.refresh()
            yield

    def apply_retention(self, now_ns: int | None = None) -> int:
        """Apply the limits now; returns the number of spans deleted."""
        return int(self._call(lambda: self._retain(time.time_ns() if now_ns is None else now_ns)))

    def _newest_received_ns(self) -> int:
        union = " UNION ALL ".join(
            f"SELECT max(received_ns) AS newest FROM {side}" for side in SIDES
        )
        row = self._connection.execute(f"SELECT max(newest) FROM ({union})").fetchone()
        return int(row[0] or 0) if row else 0

    def used_bytes(self) -> int:
        """Bytes in use, as retention by size counts them."""
        return int(self._call(lambda: retention.used_bytes(self._connection)))

    def close(self) -> None:
        """Finish the queued writes, fold the log into the file, release the directory."""
        if self._closed:
            return
        self._put(None)
        self._writer.join()
        self._closed = True
        self._readers.close()
        with self._gate, contextlib.suppress(duckdb.Error):
            self._side_tables.refresh()
            self._connection.execute("CHECKPOINT")
        self._connection.close()
        self._release_lock()

    def _call(self, action: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._put(_Job(None, action, done))
        return done.result()

    def _put(self, job: _Job | None) -> None:
        if self._closed or not self._writer.is_alive():
            raise StoreError("the local store is closed")
        if job is None or job.action is not None:
            self._queue.put(job)
            return
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise IngestError(
                f"the local store is {_QUEUE_REQUESTS} requests behind; send again later",
                status=429,
            ) from None

    # -- writer thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        next_retention = time.monotonic() + _RETENTION_INTERVAL_SECONDS
        stopping = False
        while not stopping:
            wait = max(0.0, next_retention - time.monotonic())
            idle = min(wait, _IDLE_SECONDS) if self._side_tables.dirty else wait
            try:
                jobs, actions, stopping = self._gather(self._queue.get(timeout=idle))
            except queue.Empty:
                self._refresh_quietly()
                jobs, actions = [], []
            if jobs:
                self._commit_jobs(jobs)
            for job in actions:
                assert job.action is not None
                try:
                    job.done.set_result(job.action())
                except Exception as error:  # noqa: BLE001 - the writer thread must live on
                    job.done.set_exception(StoreError(f"the local store failed: {error}"))
            if self._side_tables.dirty_spans >= _REFRESH_SPANS:
                self._refresh_quietly()
            if time.monotonic() >= next_retention:
                next_retention = time.monotonic() + _RETENTION_INTERVAL_SECONDS
                self._retain_quietly()

    def _refresh_quietly(self) -> None:
        """As `refresh`, but lets writes and snapshots pass between its transactions."""
        try:
            while True:
                with self._gate:
                    more = self._side_tables.refresh_some()
                if not more or not self._queue.empty():
                    return
        except duckdb.Error as error:
            _logger.error("otelbridge local: the side tables cannot be renewed: %s", error)

    def _gather(self, first: _Job | None) -> tuple[list[_Job], list[_Job], bool]:
        """The jobs that wait now, up to one transaction's worth: writes, actions, whether to stop.

        An action ends the gathering, so that it sees every write that was queued before it. After
        a large transaction the senders that it answered are given a moment to come again: a
        transaction costs milliseconds, however small.
        """
        jobs: list[_Job] = []
        actions: list[_Job] = []
        spans, job = 0, first
        until = time.monotonic() + (_GATHER_SECONDS if self._bulk else 0.0)
        while job is not None:
            if job.batch is None:
                actions.append(job)
                break
            jobs.append(job)
            spans += len(job.batch.tempo) + len(job.batch.langfuse)
            if spans >= _TRANSACTION_SPANS:
                break
            try:
                job = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
        self._bulk = spans >= _BULK_SPANS
        return jobs, actions, job is None

    def _commit_jobs(self, jobs: list[_Job]) -> None:
        """One transaction for all; when it fails, one for each, so that a bad one fails alone."""
        try:
            self._commit([job.batch for job in jobs if job.batch is not None])
        except Exception as error:  # noqa: BLE001 - the writer thread must live on
            if len(jobs) > 1:
                for job in jobs:
                    self._commit_jobs([job])
                return
            _logger.error("otelbridge local: a batch could not be stored: %s", error)
            jobs[0].done.set_exception(StoreError(f"the batch could not be stored: {error}"))
            return
        for job in jobs:
            job.done.set_result(None)

    def _commit(self, batches: list[Batch]) -> None:
        self._received_ns = max(self._received_ns + 1, time.time_ns())
        prepared = self._rows.prepare(batches, self._received_ns)
        spans = sum(map(len, prepared.tempo.values()))
        if spans <= _SMALL_SPANS and not self._side_tables.dirty:
            # Spans and side tables change at once, so no snapshot has to wait for either. With
            # nothing dirty no other thread touches the side tables or this connection.
            try:
                self._rows.store(prepared, side_tables=True)
            except BaseException:
                with self._gate:
                    self._side_tables.load()
                raise
            return
        with self._gate:
            self._rows.store(prepared)

    def _retain(self, now_ns: int) -> int:
        with self._gate:
            try:
                gone = retention.apply(self._connection, self._limits, now_ns)
            except duckdb.Error:
                self._side_tables.load()  # some of it may have been deleted
                raise
            self._side_tables.forget(gone.tempo_traces)
            if gone.spans:
                self._rows.load_known()  # resources without spans are deleted too
        if gone.spans:
            _logger.info("otelbridge local: retention deleted %d spans", gone.spans)
        return gone.spans

    def _retain_quietly(self) -> None:
        try:
            self._retain(time.time_ns())
        except duckdb.Error as error:
            _logger.error("otelbridge local: retention failed: %s", error)

    def _release_lock(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None
