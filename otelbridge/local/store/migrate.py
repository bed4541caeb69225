"""Older versions of the store's tables to the present ones, in the transaction of the caller.

`opening` calls it; a kill midway leaves the old store. Version 1 had the plain columns and the
whole serialised span: its rows are read again from that, and the side tables are left empty, the
store renews what they lack. Version 2 had no copies of resource attributes with the spans.
"""

from __future__ import annotations

from typing import Final

import duckdb
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.errors import StoreError
from otelbridge.local.store import arrow, rows, schema, values, writing
from otelbridge.local.store.columns import EVENTS, LINKS, RESOURCE_COPIES, RESOURCES, SCOPES
from otelbridge.local.store.values import Decoders, KeysFound

_CHUNK_ROWS: Final = 10_000
_OLD: Final = "version_1_"
_NO_COPIES: Final = (None,) * len(RESOURCE_COPIES)


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the tables to `schema.SCHEMA_VERSION`.

    Raises:
        StoreError: a version that never was.
    """
    if version not in (1, 2):
        raise StoreError(f"the local store has version {version}, which no otelbridge wrote")
    if version == 1:
        _from_version_1(connection)
    else:
        for column, kind in schema.COPY_COLUMNS:
            connection.execute(f"ALTER TABLE {schema.TEMPO} ADD COLUMN {column} {kind}")
    copies = ", ".join(f"{copy} = r.{column}" for column, copy in RESOURCE_COPIES.items())
    connection.execute(
        f"UPDATE {schema.TEMPO} AS s SET {copies} FROM {RESOURCES} AS r WHERE r.id = s.resource_id"
    )
    connection.execute(
        "UPDATE store_info SET value = ? WHERE key = 'version'", [str(schema.SCHEMA_VERSION)]
    )


def _from_version_1(connection: duckdb.DuckDBPyConnection) -> None:
    tables = (schema.TEMPO, schema.LANGFUSE, RESOURCES, SCOPES)
    for table in tables:
        connection.execute(f"ALTER TABLE {table} RENAME TO {_OLD}{table}")
    for statement in schema.CREATE:
        connection.execute(statement)
    keys = KeysFound()
    decoders = values.decoders(keys)
    _parts(connection, decoders)
    for side in schema.SIDES:
        _spans(connection, side, decoders)
    for table, columns in writing.key_columns(keys).items():
        arrow.insert(connection, table, schema.TABLES[table], columns)
    for table in tables:
        connection.execute(f"DROP TABLE {_OLD}{table}")


def _parts(connection: duckdb.DuckDBPyConnection, decoders: Decoders) -> None:
    select = f"SELECT id, schema_url, proto FROM {_OLD}"
    resources = rows.ResourceRows(decoders)
    for part_id, url, data in connection.execute(select + RESOURCES).fetchall():
        resources.add(part_id, url, data)
    scopes = rows.ScopeRows(decoders)
    for part_id, url, data in connection.execute(select + SCOPES).fetchall():
        scopes.add(part_id, url, data, InstrumentationScope.FromString(data))
    for table, found in ((RESOURCES, resources), (SCOPES, scopes)):
        if len(found):
            arrow.insert(connection, table, schema.TABLES[table], found.columns())


def _spans(connection: duckdb.DuckDBPyConnection, side: str, decoders: Decoders) -> None:
    """By ranges of row numbers, so that memory holds one range."""
    row = connection.execute(f"SELECT coalesce(max(rowid), -1) FROM {_OLD}{side}").fetchone()
    for begin in range(0, int(row[0]) + 1 if row else 0, _CHUNK_ROWS):
        found = connection.execute(
            f"SELECT span, resource_id, scope_id, received_ns FROM {_OLD}{side} "
            "WHERE rowid >= ? AND rowid < ?",
            [begin, begin + _CHUNK_ROWS],
        ).fetchall()
        if not found:
            continue
        spans, plain = rows.SpanRows(decoders), rows.PlainRows()
        for data, resource_id, scope_id, received_ns in found:
            span = Span.FromString(data)
            if side == schema.TEMPO:
                spans.add(span, resource_id, scope_id, received_ns, _NO_COPIES)
            else:
                plain.add(span, resource_id, scope_id, received_ns)
        if side == schema.LANGFUSE:
            arrow.insert(connection, side, schema.TABLES[side], plain.columns())
            continue
        for table, part in ((side, spans.spans), (EVENTS, spans.events), (LINKS, spans.links)):
            if len(part):
                arrow.insert(connection, table, schema.TABLES[table], part.columns())
