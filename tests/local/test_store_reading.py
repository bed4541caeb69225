"""Snapshots: consistent, with a deadline, unable to write, many at a time while writes go on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from otelbridge.errors import StoreError
from otelbridge.local.records import from_otlp_port
from otelbridge.local.store.database import Store
from otelbridge.local.store.reading import StoreTimeout

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 8"


@pytest.fixture
def store():
    """A store in memory."""
    found = Store(None)
    yield found
    found.close()


def put(store, samples, *spans) -> None:
    store.write(from_otlp_port(samples.request(*spans))).result(20)


def test_parameters_by_place_and_by_name(store, samples):
    """Both forms of DuckDB's parameters are bound."""
    put(store, samples, samples.span("a"), samples.span("b"))
    assert store.query("SELECT name FROM tempo_spans WHERE name = ?", ["b"]) == [("b",)]
    named = "SELECT name FROM tempo_spans WHERE name = $name"
    assert store.query(named, {"name": "a"}) == [("a",)]


def test_a_snapshot_does_not_change(store, samples):
    """Spans and side tables that are committed meanwhile are seen by the next one only."""
    put(store, samples, samples.span("a"))
    with store.snapshot() as before:
        put(store, samples, samples.span("b"))
        store.refresh()
        for table in ("tempo_spans", "trace_info", "span_tree"):
            assert before.query(f"SELECT count(*) FROM {table}") == [(1,)]
            assert store.query(f"SELECT count(*) FROM {table}") == [(2,)]


def test_side_tables_fit_the_spans_while_writes_go_on(store, samples):
    """Each snapshot has exactly one row of the tree for each span, under eight writers."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            put(store, samples, *(samples.span(trace_id=b"t" * 16) for _ in range(3)))

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write) for _ in range(4)]
        seen = []
        for _ in range(15):
            with store.snapshot() as found:
                (spans,) = found.query("SELECT count(*) FROM tempo_spans")[0]
                assert found.query("SELECT count(*), count(DISTINCT span_id) FROM span_tree") == [
                    (spans, spans)
                ]
                if spans:
                    assert found.query("SELECT span_count FROM trace_info") == [(spans,)]
                seen.append(spans)
        stop.set()
        for writer in writers:
            writer.result(20)
    assert seen == sorted(seen)
    assert seen[-1] > 0


def test_a_snapshot_cannot_write(store):
    """A statement that would change the store is refused."""
    for statement in ("DELETE FROM tempo_spans", "CREATE TABLE t (a INTEGER)"):
        with pytest.raises(StoreError, match="read"):
            store.query(statement)


def test_a_statement_is_stopped_at_its_deadline(store, samples):
    """StoreTimeout says how long it was given; the store goes on."""
    begin = time.monotonic()
    with pytest.raises(StoreTimeout, match=r"longer than 0\.2 s"):
        store.query(ENDLESS, timeout_seconds=0.2)
    assert time.monotonic() - begin < 10
    put(store, samples, samples.span("after"))
    assert store.query("SELECT name FROM tempo_spans") == [("after",)]


def test_a_deadline_is_that_of_its_own_statement(store):
    """A second statement of the snapshot has its whole time again; the first one's is over."""
    with store.snapshot(timeout_seconds=5) as found:
        assert found.query("SELECT 1") == [(1,)]
        assert found.query("SELECT 2") == [(2,)]
        assert not found._running


def test_many_readers_at_a_time(store, samples):
    """Sixteen threads, each its own cursor; one that is stopped does not disturb the others."""
    put(store, samples, *(samples.span(str(n)) for n in range(100)))

    def read(number: int) -> int:
        if number == 3:
            with pytest.raises(StoreTimeout):
                store.query(ENDLESS, timeout_seconds=0.1)
            return 100
        return len(store.query("SELECT name FROM tempo_spans"))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(read, range(64))) == {100}


def test_bad_sql_is_a_store_error(store):
    """DuckDB's message is passed on."""
    with pytest.raises(StoreError, match="no_such_table"):
        store.query("SELECT * FROM no_such_table")


def test_closing_stops_what_is_read(samples):
    """A running statement ends with StoreError, and close does not wait for its deadline."""
    store = Store(None)
    put(store, samples, samples.span())
    started = threading.Event()

    def read() -> None:
        with store.snapshot(timeout_seconds=50) as found:
            found.query("SELECT 1")
            started.set()
            found.query(ENDLESS)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read)
        assert started.wait(20)
        store.close()
        with pytest.raises(StoreError, match="closed"):
            future.result(20)
    with pytest.raises(StoreError, match="closed"):
        store.query("SELECT 1")
