"""Reading the store while the writer goes on: snapshots, deadlines, any number at a time.

`database.Store` hands out snapshots; the query side and the APIs use them. A snapshot is a
transaction of its own that cannot write: what is committed after it began is not seen. A statement
that runs past its deadline is interrupted.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import duckdb
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otelbridge.errors import StoreError
from otelbridge.local.records import SpanRecord
from otelbridge.local.store import packing, schema

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
_CLOSE_WAIT_SECONDS: Final = 5.0
_INTERRUPT_AGAIN_SECONDS: Final = 0.02


class StoreTimeout(StoreError):  # noqa: N818 - reads as what happened, like TimeoutError's kin
    """A statement ran past its deadline and was interrupted."""


class Deadlines:
    """Stops statements that run too long; one thread for all, which ends when there are none.

    A timer for each statement would be a thread for each: beside a busy writer its start alone
    takes as long as a statement.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._until: dict[Snapshot, float] = {}
        self._wakes = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, snapshot: Snapshot, until: float) -> None:
        """A statement of the snapshot begins; `until` is of the monotonic clock."""
        with self._changed:
            self._until[snapshot] = until
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="otelbridge-deadlines", daemon=True
                )
                self._wakes = until
                self._thread.start()
            elif until < self._wakes:
                self._changed.notify_all()

    def remove(self, snapshot: Snapshot) -> None:
        """The statement has ended."""
        with self._changed:
            self._until.pop(snapshot, None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                late = [one for one, until in self._until.items() if until <= now]
                for one in late:
                    del self._until[one]
                if not self._until and not late:
                    self._thread = None
                    return
                if not late:
                    self._wakes = min(self._until.values())
                    self._changed.wait(self._wakes - now)
            for one in late:
                one.expire()


class Snapshot:
    """A consistent view of the store; made by `Store.snapshot`, for one thread."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        timeout_seconds: float,
        deadlines: Deadlines,
    ) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._limit = f"the query took longer than {timeout_seconds:g} s and was stopped"
        self._deadlines = deadlines
        self._changed = threading.Condition()
        self._running = False
        self._interrupted = ""

    def begin(self) -> None:
        """Fix what is seen. DuckDB begins with the first statement that reads, hence the read."""
        self._connection.execute("BEGIN TRANSACTION READ ONLY")
        self._connection.execute("SELECT value FROM store_info LIMIT 1").fetchall()

    def query(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a statement that only reads.

        Raises:
            StoreTimeout: it ran longer than the snapshot's `timeout_seconds`.
            StoreError: DuckDB refused it, or the store was closed meanwhile.
        """
        with self._changed:
            if self._interrupted:
                raise StoreError(self._interrupted)
            self._running = True
        self._deadlines.add(self, time.monotonic() + self._timeout_seconds)
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except duckdb.InterruptException as error:
            kind = StoreTimeout if self._interrupted == self._limit else StoreError
            raise kind(self._interrupted or "the query was interrupted") from error
        except duckdb.Error as error:
            raise StoreError(f"the local store cannot be read: {error}") from error
        finally:
            self._deadlines.remove(self)
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def expire(self) -> None:
        """Stop the running statement, whose deadline has passed."""
        self.interrupt(self._limit)

    def interrupt(self, reason: str) -> None:
        """Stop the running statement; it and later ones raise StoreError with `reason`."""
        with self._changed:
            self._interrupted = self._interrupted or reason
            while self._running:  # DuckDB forgets an interrupt that comes before it has begun
                self._connection.interrupt()
                self._changed.wait(_INTERRUPT_AGAIN_SECONDS)


class Readers:
    """The open snapshots of one store."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        # Readers get cursors of this one, so that they never touch the writer's connection.
        self._connection = connection.cursor()
        self._changed = threading.Condition()
        self._open: set[Snapshot] = set()
        self._deadlines = Deadlines()
        self._closed = False

    @contextlib.contextmanager
    def snapshot(self, timeout_seconds: float, gate: Any) -> Iterator[Snapshot]:
        """A snapshot; `gate` is a context manager entered while what it sees is fixed."""
        with self._changed:
            if self._closed:
                raise StoreError("the local store is closed")
            cursor = self._connection.cursor()
            found = Snapshot(cursor, timeout_seconds, self._deadlines)
            self._open.add(found)
        try:
            with gate:
                found.begin()
            yield found
        except duckdb.Error as error:
            raise StoreError(f"the local store cannot be read: {error}") from error
        finally:
            with self._changed:
                cursor.close()
                self._open.discard(found)
                self._changed.notify_all()

    def close(self) -> None:
        """Interrupt what runs, wait for it shortly, and allow no more."""
        with self._changed:
            self._closed = True
            for found in self._open:
                found.interrupt("the local store is closed")
            self._changed.wait_for(lambda: not self._open, _CLOSE_WAIT_SECONDS)
            self._connection.close()
        self._deadlines.close()


def read_trace(snapshot: Snapshot, side: str, trace_id: bytes) -> list[SpanRecord]:
    """Every span of a trace, by start time; records of one resource or scope share the object."""
    found = snapshot.query(schema.SELECT_TRACE[side], [uuid.UUID(bytes=trace_id)])
    resources: dict[int, Resource] = {}
    scopes: dict[int, InstrumentationScope] = {}
    records = []
    for *packed, resource_id, scope_id, resource_url, resource, scope_url, scope in found:
        if resource_id not in resources:
            resources[resource_id] = Resource.FromString(resource)
        if scope_id not in scopes:
            scopes[scope_id] = InstrumentationScope.FromString(scope)
        records.append(
            SpanRecord(
                packing.unpack(trace_id, *packed),
                resources[resource_id],
                resource_url,
                scopes[scope_id],
                scope_url,
            )
        )
    return records
