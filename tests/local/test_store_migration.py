"""A store of an older version becomes one of the present, with everything that was in it."""

from __future__ import annotations

import hashlib
import random
import uuid

import duckdb
import pytest

from otelbridge.errors import StoreError
from otelbridge.local.records import Batch, records
from otelbridge.local.store import migrate, schema
from otelbridge.local.store.database import Store
from otelbridge.local.store.opening import DATABASE_NAME

RECEIVED_NS = 1_700_000_000_000_000_000
#: As version 1 created them.
SPANS = (
    "CREATE TABLE {} (trace_id UUID, span_id UBIGINT, parent_span_id UBIGINT, name VARCHAR, "
    "service VARCHAR, kind INTEGER, status INTEGER, start_ns UBIGINT, duration_ns UBIGINT, "
    "resource_id UBIGINT, scope_id UBIGINT, received_ns UBIGINT, span_bytes UINTEGER, span BLOB)"
)
VERSION_1 = (
    "CREATE TABLE store_info (key VARCHAR, value VARCHAR)",
    "INSERT INTO store_info VALUES ('version', '1')",
    SPANS.format("tempo_spans"),
    SPANS.format("langfuse_spans"),
    "CREATE TABLE resources (id UBIGINT, schema_url VARCHAR, proto BLOB)",
    "CREATE TABLE scopes (id UBIGINT, schema_url VARCHAR, proto BLOB)",
)


def as_sent(request):
    """The spans of a request without the rules that the OTLP ports apply."""
    return Batch(tuple(records(request)), ())


def part(connection, table, message, url) -> int:
    """Store a resource or scope as version 1 did; gives its id."""
    data = message.SerializeToString()
    digest = hashlib.blake2b(data + b"\0" + url.encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    connection.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", [number, url, data])
    return number


def write_version_1(directory, request, sides=("tempo_spans", "langfuse_spans")) -> None:
    """A data directory as the code of version 1 left it, with the spans of a request."""
    directory.mkdir()
    with duckdb.connect(str(directory / DATABASE_NAME)) as connection:
        for statement in VERSION_1:
            connection.execute(statement)
        for group in request.resource_spans:
            resource_id = part(connection, "resources", group.resource, group.schema_url)
            for scoped in group.scope_spans:
                scope_id = part(connection, "scopes", scoped.scope, scoped.schema_url)
                for span in scoped.spans:
                    data = span.SerializeToString()
                    start, end = span.start_time_unix_nano, span.end_time_unix_nano
                    row = [
                        uuid.UUID(bytes=span.trace_id), int.from_bytes(span.span_id, "big"),
                        int.from_bytes(span.parent_span_id, "big") if span.parent_span_id else None,
                        span.name, group.resource.attributes[0].value.string_value, span.kind,
                        span.status.code, start, max(0, end - start), resource_id, scope_id,
                        RECEIVED_NS, len(data), data,
                    ]  # fmt: skip
                    for side in sides:
                        marks = ", ".join("?" * len(row))
                        connection.execute(f"INSERT INTO {side} VALUES ({marks})", row)


def make(samples):
    """A request of twenty spans with events, links and odd times."""
    rng = random.Random(3)
    trace_id, spans = rng.randbytes(16), []
    for number in range(20):
        parent = spans[rng.randrange(number)].span_id if number else b""
        span = samples.span(
            f"span {number}", {"gen_ai.system": "openai", "n": number, "a": ["x", "y"]},
            trace_id=trace_id, span_id=rng.randbytes(8), parent_span_id=parent,
        )  # fmt: skip
        span.events.add(name="e", time_unix_nano=span.start_time_unix_nano + number)
        if number == 5:
            span.end_time_unix_nano = 1
            span.links.add(trace_id=trace_id, span_id=b"l" * 8)
        spans.append(span)
    request = samples.request(*spans, service="web")
    request.resource_spans[0].schema_url = "https://example.org/1"
    return request, spans


def test_a_version_1_store_is_read_again(samples, tmp_path):
    """Spans, resources and scopes as before, columns, events, links and side tables as if new."""
    request, spans = make(samples)
    write_version_1(tmp_path / "old", request)
    old, new = Store(tmp_path / "old"), Store(None)
    new.write(as_sent(request)).result(20)
    for side in (schema.TEMPO, schema.LANGFUSE):
        found = old.trace(side, spans[0].trace_id)
        assert sorted((record.span for record in found), key=lambda span: span.span_id) == sorted(
            spans, key=lambda span: span.span_id
        )
        assert {record.resource_schema_url for record in found} == {"https://example.org/1"}
    for table, columns in schema.TABLES.items():
        if table == schema.LANGFUSE:
            continue
        names = ", ".join(name for name, _ in columns if name != "received_ns")
        statement = f"SELECT {names} FROM {table} ORDER BY ALL"
        rows = old.query(statement)
        assert rows == new.query(statement)
        assert rows
    assert old.query("SELECT DISTINCT received_ns FROM tempo_spans") == [(RECEIVED_NS,)]
    old.close()
    new.close()


def test_a_migrated_store_goes_on(samples, tmp_path):
    """It has the new version, none of the old tables, and joins what comes to what there was."""
    request, spans = make(samples)
    write_version_1(tmp_path / "old", request)
    store = Store(tmp_path / "old")
    late = samples.request(samples.span(trace_id=spans[0].trace_id))
    for again in (request, late):
        store.write(as_sent(again)).result(20)
    store.close()
    store = Store(tmp_path / "old")
    assert len(store.trace(schema.TEMPO, spans[0].trace_id)) == len(spans) + 1
    assert store.query("SELECT span_count FROM trace_info") == [(len(spans) + 1,)]
    assert store.query("SELECT value FROM store_info WHERE key = 'version'") == [("3",)]
    tables = {row[0] for row in store.query("SELECT table_name FROM duckdb_tables()")}
    assert tables == {"store_info", *schema.TABLES}
    store.close()


def test_a_version_2_store_gets_the_copies_of_its_resources(samples, tmp_path):
    """Spans carry their resource's service and owners as if they had been stored anew."""
    request, _spans = make(samples)
    owner = request.resource_spans[0].resource.attributes.add(key="langfuse.user.id")
    owner.value.string_value = "u-1"
    request.resource_spans.add().CopyFrom(samples.request(samples.span()).resource_spans[0])
    del request.resource_spans[1].resource.attributes[:]
    store = Store(tmp_path / "old")
    store.write(as_sent(request)).result(20)
    statement = "SELECT r_service_name, r_langfuse_user_id, count(*) FROM tempo_spans GROUP BY ALL"
    before = sorted(store.query(statement), key=str)
    assert before == [("", None, 1), ("web", "u-1", 20)]
    store.close()
    with duckdb.connect(str(tmp_path / "old" / DATABASE_NAME)) as connection:
        for column, _kind in schema.COPY_COLUMNS:
            connection.execute(f"ALTER TABLE tempo_spans DROP COLUMN {column}")
        connection.execute("UPDATE store_info SET value = '2' WHERE key = 'version'")
    store = Store(tmp_path / "old")
    assert sorted(store.query(statement), key=str) == before
    store.write(as_sent(request)).result(20)
    assert sorted(store.query(statement), key=str) == before
    store.close()


def test_an_empty_version_1_store_is_migrated(samples, tmp_path):
    """No spans, no resources: an empty store of the present version."""
    write_version_1(tmp_path / "old", samples.request(), sides=())
    store = Store(tmp_path / "old")
    assert store.query("SELECT count(*) FROM tempo_spans") == [(0,)]
    store.close()


def test_a_migration_that_fails_leaves_the_old_store(samples, tmp_path, monkeypatch):
    """Everything is one transaction; the error is told and the next opening tries again."""
    request, spans = make(samples)
    write_version_1(tmp_path / "old", request)
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_spans", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(tmp_path / "old")
    with duckdb.connect(str(tmp_path / "old" / DATABASE_NAME), read_only=True) as connection:
        assert connection.execute("SELECT count(service) FROM tempo_spans").fetchone() == (20,)
    store = Store(tmp_path / "old")
    assert len(store.trace(schema.TEMPO, spans[0].trace_id)) == 20
    store.close()


def test_a_version_that_never_was_is_refused(samples, tmp_path):
    """Version 0 is nobody's; the file stays as it is."""
    write_version_1(tmp_path / "old", samples.request(), sides=())
    with duckdb.connect(str(tmp_path / "old" / DATABASE_NAME)) as connection:
        connection.execute("UPDATE store_info SET value = '0'")
    with pytest.raises(StoreError, match="version 0"):
        Store(tmp_path / "old")
    assert not list((tmp_path / "old").glob("*.damaged-*"))
