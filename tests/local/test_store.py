"""The store: commits before it acknowledges, has one owner, survives damage, forgets traces whole.

Real DuckDB files and processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from otelbridge.errors import StoreError
from otelbridge.local.records import Batch, from_langfuse_intake, from_otlp_port
from otelbridge.local.store import rows, schema
from otelbridge.local.store.database import Store
from otelbridge.local.store.opening import DATABASE_NAME
from otelbridge.local.store.retention import Limits

HOUR_NS = 3600 * 10**9


def write(store, samples, *spans, side="tempo", **options) -> None:
    make = from_otlp_port if side == "tempo" else from_langfuse_intake
    store.write(make(samples.request(*spans, **options))).result(20)


def names(store, trace_id, side=schema.TEMPO) -> list[str]:
    return [record.span.name for record in store.trace(side, trace_id)]


@pytest.fixture(params=["file", "memory"])
def directory(request, tmp_path):
    """A data directory, or None for a store in memory."""
    return tmp_path / "data" if request.param == "file" else None


def test_spans_come_back_with_resource_and_scope(directory, samples):
    """What was written is read, and records of one resource share it."""
    store = Store(directory)
    span = samples.span("a", {"k": 1})
    other = samples.span("b", trace_id=span.trace_id)
    write(store, samples, span, other, service="web")
    first, second = store.trace(schema.TEMPO, span.trace_id)
    assert {first.span.name, second.span.name} == {"a", "b"}
    assert first.resource is second.resource
    assert first.resource.attributes[0].value.string_value == "web"
    assert first.scope.name == "tests"
    store.close()


def test_a_file_store_keeps_its_spans_over_a_restart(tmp_path, samples):
    """Close and open again: same spans, new writes join old resources."""
    span = samples.span("before")
    store = Store(tmp_path)
    write(store, samples, span)
    store.close()
    store = Store(tmp_path)
    write(store, samples, samples.span("after", trace_id=span.trace_id))
    assert sorted(names(store, span.trace_id)) == ["after", "before"]
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otelbridge.local.records import from_otlp_port
from otelbridge.local.store.database import Store
store = Store(Path(sys.argv[1]))
for number in range(20):
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"t" * 16, b"span%04d" % number, str(number)
    store.write(from_otlp_port(request)).result(20)
    print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_acknowledged_spans_survive_kill_9(tmp_path):
    """Every write that was acknowledged before a SIGKILL is there afterwards."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert result.returncode == -9, result.stderr
    store = Store(tmp_path)
    assert sorted(names(store, b"t" * 16), key=int) == result.stdout.split()
    assert len(result.stdout.split()) == 20
    store.close()


def test_a_second_opener_is_told_who_has_the_directory(tmp_path):
    """In this process and in another one: StoreError with the owner's process and the way out."""
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=rf"process {os.getpid()}.*--data"):
        Store(tmp_path)
    code = (
        "from pathlib import Path; from otelbridge.local.store.database import Store; "
        f"Store(Path({str(tmp_path)!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=50
    )
    assert f"process {os.getpid()}" in result.stderr
    store.close()
    Store(tmp_path).close()


def test_a_directory_that_cannot_be_created_is_named(tmp_path):
    """A file where the directory should be is a StoreError with a remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--data"):
        Store(tmp_path / "file" / "data")


def garbage(data: bytes) -> bytes:
    return b"no database" * 1000


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    for offset in range(3 * 4096 + 1000, len(changed), 262_144):
        changed[offset] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("damage", [garbage, cut, flipped, lambda _: b""])
def test_a_damaged_file_is_set_aside_and_named(tmp_path, samples, caplog, damage):
    """The file is kept under another name, a log line names it, and the store works."""
    store = Store(tmp_path)
    for _ in range(4):  # enough that half of the file still holds all of its directory
        spans = [samples.span("x", {"pad": os.urandom(150).hex()}) for _ in range(2500)]
        write(store, samples, *spans)
    store.close()
    path = tmp_path / DATABASE_NAME
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    store = Store(tmp_path)
    (aside,) = tmp_path.glob(f"{DATABASE_NAME}.damaged-*")
    assert aside.read_bytes() == broken
    assert str(aside) in caplog.text
    span = samples.span("new")
    write(store, samples, span)
    assert names(store, span.trace_id) == ["new"]
    store.close()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    """Another version's data are neither changed nor set aside."""
    Store(tmp_path).close()
    with duckdb.connect(str(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("UPDATE store_info SET value = '99' WHERE key = 'version'")
    with pytest.raises(StoreError, match="version 99"):
        Store(tmp_path)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_batch_that_cannot_be_stored_fails_alone(samples, monkeypatch):
    """One transaction for waiting writes; when it fails each is tried alone."""
    store = Store(None)
    release = threading.Event()
    blocker = threading.Thread(target=lambda: store._call(lambda: release.wait(20)))
    blocker.start()
    poison = samples.span("poison")
    original = rows.plain_row

    def row(span, *rest):
        if span.name == "poison":
            raise ValueError("cannot be stored")
        return original(span, *rest)

    monkeypatch.setattr(rows, "plain_row", row)
    good = [samples.span(f"good-{n}", trace_id=poison.trace_id) for n in range(3)]
    futures = [
        store.write(from_otlp_port(samples.request(span))) for span in (good[0], poison, *good[1:])
    ]
    release.set()
    blocker.join()
    assert [future.exception(20) is None for future in futures] == [True, False, True, True]
    assert isinstance(futures[1].exception(), StoreError)
    assert len(names(store, poison.trace_id)) == 3
    store.close()


def test_a_write_cannot_be_cancelled(samples):
    """A sender that goes away (its task is cancelled) does not stop the writer."""
    store = Store(None)
    release = threading.Event()
    blocker = threading.Thread(target=lambda: store._call(lambda: release.wait(20)))
    blocker.start()
    span = samples.span("x")
    future = store.write(from_otlp_port(samples.request(span)))
    assert not future.cancel()
    release.set()
    blocker.join()
    future.result(20)
    assert names(store, span.trace_id) == ["x"]
    store.close()


def test_concurrent_writers_and_readers(directory, samples):
    """Eight writers with overlapping resources and a reader: nothing lost, nothing twice."""
    store = Store(directory)
    trace_id = os.urandom(16)
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(len(store.trace(schema.TEMPO, trace_id)))

    def work(worker: int) -> None:
        for number in range(10):
            spans = [samples.span(f"{worker}.{number}", trace_id=trace_id) for _ in range(5)]
            write(store, samples, *spans, service=f"svc-{number % 4}")

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stop.set()
    reader.join(20)
    assert len(names(store, trace_id)) == 8 * 10 * 5
    assert seen == sorted(seen)
    assert all(count % 5 == 0 for count in seen)  # a request is seen whole or not at all
    store.close()


def test_a_closed_store_says_so(samples):
    """Reading and writing after close are StoreErrors; closing twice is fine."""
    store = Store(None)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.trace(schema.TEMPO, bytes(16))
    with pytest.raises(StoreError, match="closed"):
        write(store, samples, samples.span())
    with pytest.raises(StoreError, match="closed"):
        store.apply_retention()


def test_writes_before_close_are_kept(tmp_path, samples):
    """Close waits for what was queued."""
    store = Store(tmp_path)
    spans = [samples.span(str(n), trace_id=b"q" * 16) for n in range(50)]
    futures = [store.write(from_otlp_port(samples.request(span))) for span in spans]
    store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    store = Store(tmp_path)
    assert len(names(store, b"q" * 16)) == 50
    store.close()


def test_an_empty_batch_is_done_at_once():
    """Nothing to write means nothing to wait for."""
    store = Store(None)
    assert store.write(Batch((), ())).done()
    store.close()


def test_retention_by_age_deletes_whole_traces(directory, samples):
    """A trace goes when its newest span arrived too long ago, on both sides, never in part."""
    store = Store(directory, Limits(age_seconds=3600))
    old, grown = samples.span("old"), samples.span("grown")
    write(store, samples, old, grown)
    write(store, samples, samples.span("preview", trace_id=old.trace_id), side="langfuse")
    between_ns = time.time_ns()
    write(store, samples, samples.span("late", trace_id=grown.trace_id))
    assert store.apply_retention(between_ns) == 0
    assert store.apply_retention(between_ns + HOUR_NS) == 2
    assert names(store, old.trace_id) == []
    assert names(store, old.trace_id, schema.LANGFUSE) == []
    assert sorted(names(store, grown.trace_id)) == ["grown", "late"]
    store.close()


def test_a_resource_that_retention_deleted_is_stored_again_when_it_returns(directory, samples):
    """Spans of a service that was forgotten are readable when it sends again."""
    store = Store(directory, Limits(age_seconds=1))
    write(store, samples, samples.span(), service="shop")
    assert store.apply_retention(time.time_ns() + HOUR_NS) == 1
    span = samples.span("again")
    write(store, samples, span, service="shop")
    assert names(store, span.trace_id) == ["again"]
    store.close()


def test_retention_by_size_deletes_the_oldest_traces(directory, samples):
    """Above the limit the oldest go until the store is below it; the newest stay."""
    limit = 1_000_000
    store = Store(directory, Limits(max_bytes=limit))
    newest = b""
    for _ in range(12):
        spans = [samples.span("x", {"pad": os.urandom(150).hex()}) for _ in range(400)]
        write(store, samples, *spans)
        store.apply_retention()
        assert 0 < store.used_bytes() <= limit
        newest = spans[-1].trace_id
    assert names(store, newest) == ["x"]
    if directory is not None:
        assert (directory / DATABASE_NAME).stat().st_size < 5 * limit
    store.close()


def test_without_limits_nothing_is_deleted(samples):
    """Both limits off: retention is a no-op."""
    store = Store(None)
    span = samples.span()
    write(store, samples, span)
    assert store.apply_retention(time.time_ns() + 10**6 * HOUR_NS) == 0
    assert names(store, span.trace_id)
    store.close()
