"""The local store: one DuckDB database, one writer thread, any number of readers.

Neighbours: the receivers call `Store.write`, the two APIs `Store.trace`. A write is acknowledged
after its transaction has committed, so what a sender was told is stored survives a kill. One
process owns a data directory (a lock file says which); a damaged database is set aside under
another name and a new one begun.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.errors import IngestError, StoreError
from otelbridge.local.records import Batch, SpanRecord
from otelbridge.local.store import opening, retention, schema

_logger = logging.getLogger("otelbridge.local")
#: Requests that may wait for the writer; above it senders are told to come back (429).
_QUEUE_REQUESTS: Final = 1024
#: Spans that one transaction takes at most when requests are waiting.
_TRANSACTION_SPANS: Final = 8192
_RETENTION_INTERVAL_SECONDS: Final = 30.0
_NO_LIMITS: Final = retention.Limits()


@dataclass(slots=True)
class _Job:
    """Work for the writer thread: a batch to store, or something to run between transactions."""

    batch: Batch | None
    action: Callable[[], Any] | None
    done: Future[Any]


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
        except BaseException:
            self._release_lock()
            raise
        self._known: dict[str, set[int]] = {}
        self._load_known()
        # Readers get cursors of this one, so that they never touch the writer's connection.
        self._readers = self._connection.cursor()
        self._cursor_lock = threading.Lock()
        self._queue: queue.Queue[_Job | None] = queue.Queue(_QUEUE_REQUESTS)
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
        with self._cursor_lock:
            if self._closed:
                raise StoreError("the local store is closed")
            cursor = self._readers.cursor()
        try:
            rows = cursor.execute(schema.SELECT_TRACE[side], [uuid.UUID(bytes=trace_id)]).fetchall()
        except duckdb.Error as error:
            raise StoreError(f"the local store cannot be read: {error}") from error
        finally:
            cursor.close()
        resources: dict[int, Resource] = {}
        scopes: dict[int, InstrumentationScope] = {}
        found = []
        for data, resource_id, scope_id, resource_url, resource, scope_url, scope in rows:
            if resource_id not in resources:
                resources[resource_id] = Resource.FromString(resource)
            if scope_id not in scopes:
                scopes[scope_id] = InstrumentationScope.FromString(scope)
            found.append(
                SpanRecord(
                    Span.FromString(data),
                    resources[resource_id],
                    resource_url,
                    scopes[scope_id],
                    scope_url,
                )
            )
        return found

    def apply_retention(self, now_ns: int | None = None) -> int:
        """Apply the limits now; returns the number of spans deleted."""
        return int(self._call(lambda: self._retain(time.time_ns() if now_ns is None else now_ns)))

    def used_bytes(self) -> int:
        """Bytes in use, as retention by size counts them."""
        return int(self._call(lambda: retention.used_bytes(self._connection)))

    def close(self) -> None:
        """Finish the queued writes, fold the log into the file, release the directory."""
        if self._closed:
            return
        self._put(None)
        self._writer.join()
        with self._cursor_lock:
            self._closed = True
            with contextlib.suppress(duckdb.Error):
                self._connection.execute("CHECKPOINT")
            self._readers.close()
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
            try:
                first = self._queue.get(timeout=wait)
            except queue.Empty:
                next_retention = time.monotonic() + _RETENTION_INTERVAL_SECONDS
                self._retain_quietly()
                continue
            jobs, actions, stopping = self._gather(first)
            if jobs:
                self._commit_jobs(jobs)
            for job in actions:
                assert job.action is not None
                try:
                    job.done.set_result(job.action())
                except Exception as error:  # noqa: BLE001 - the writer thread must live on
                    job.done.set_exception(StoreError(f"the local store failed: {error}"))
            if time.monotonic() >= next_retention:
                next_retention = time.monotonic() + _RETENTION_INTERVAL_SECONDS
                self._retain_quietly()

    def _gather(self, first: _Job | None) -> tuple[list[_Job], list[_Job], bool]:
        """The jobs that wait now, up to one transaction's worth: writes, actions, whether to stop.

        An action ends the gathering, so that it sees every write that was queued before it.
        """
        jobs: list[_Job] = []
        spans = 0
        job = first
        while job is not None:
            if job.batch is None:
                return jobs, [job], False
            jobs.append(job)
            spans += len(job.batch.tempo) + len(job.batch.langfuse)
            if spans >= _TRANSACTION_SPANS:
                return jobs, [], False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, [], False
        return jobs, [], True

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
        received_ns = time.time_ns()
        new_parts: dict[str, dict[int, tuple[int, str, bytes]]] = {"resources": {}, "scopes": {}}
        sides = {
            schema.TEMPO: [record for batch in batches for record in batch.tempo],
            schema.LANGFUSE: [record for batch in batches for record in batch.langfuse],
        }
        self._connection.begin()
        try:
            for side, found in sides.items():
                if found:
                    self._replace_spans(side, found, received_ns, new_parts)
            for table, rows in new_parts.items():
                if rows:
                    self._connection.execute(
                        schema.INSERT_PARTS[table],
                        [list(column) for column in zip(*rows.values(), strict=True)],
                    )
            self._connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._connection.rollback()
            raise
        for table, rows in new_parts.items():
            self._known[table].update(rows)

    def _replace_spans(
        self,
        side: str,
        found: list[SpanRecord],
        received_ns: int,
        new_parts: dict[str, dict[int, tuple[int, str, bytes]]],
    ) -> None:
        ids: dict[tuple[int, str], int] = {}  # (identity of the message, URL): kept alive by found
        rows = {}
        for record in found:
            part_ids = []
            for table, message, url in (
                ("resources", record.resource, record.resource_schema_url),
                ("scopes", record.scope, record.scope_schema_url),
            ):
                key = (id(message), url)
                if key not in ids:
                    ids[key], data = schema.part_id(message, url)
                    if ids[key] not in self._known[table]:
                        new_parts[table][ids[key]] = (ids[key], url, data)
                part_ids.append(ids[key])
            # The last of equal (trace id, span id) in one transaction wins.
            rows[(record.span.trace_id, record.span.span_id)] = schema.span_row(
                record, part_ids[0], part_ids[1], received_ns
            )
        columns = [list(column) for column in zip(*rows.values(), strict=True)]
        self._connection.execute(schema.DELETE_SPANS[side], columns[:2])
        self._connection.execute(schema.INSERT_SPANS[side], columns)

    def _retain(self, now_ns: int) -> int:
        try:
            deleted = retention.apply(self._connection, self._limits, now_ns)
        finally:
            self._load_known()  # resources without spans are deleted too
        if deleted:
            _logger.info("otelbridge local: retention deleted %d spans", deleted)
        return deleted

    def _retain_quietly(self) -> None:
        try:
            self._retain(time.time_ns())
        except duckdb.Error as error:
            _logger.error("otelbridge local: retention failed: %s", error)

    def _load_known(self) -> None:
        for table in ("resources", "scopes"):
            rows = self._connection.execute(f"SELECT id FROM {table}").fetchall()
            self._known[table] = {row[0] for row in rows}

    def _release_lock(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None
