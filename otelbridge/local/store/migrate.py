"""Older versions of the store's tables to the present ones, in the transaction of the caller.

`opening` calls it; a kill midway leaves the old store. Version 1 had the plain columns and the
whole serialised span: its rows are read again from that. The side tables are left empty, the
store renews what they lack.
"""

from __future__ import annotations

from typing import Final

import duckdb
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelbridge.errors import StoreError
from otelbridge.local.store import arrow, rows, schema, values, writing
from otelbridge.local.store.columns import EVENTS, LINKS, RESOURCES, SCOPES
from otelbridge.local.store.values import Decoders, KeysFound

_CHUNK_ROWS: Final = 10_000
_OLD: Final = "version_1_"


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the tables to `schema.SCHEMA_VERSION`.

    Raises:
        StoreError: a version that never was.
    """
    if version != 1:
        raise StoreError(f"the local store has version {version}, which no otelbridge wrote")
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
    connection.execute(
        "UPDATE store_info SET value = ? WHERE key = 'version'", [str(schema.SCHEMA_VERSION)]
    )


def _parts(connection: duckdb.DuckDBPyConnection, decoders: Decoders) -> None:
    select = f"SELECT id, schema_url, proto FROM {_OLD}"
    resources = rows.ResourceRows(decoders)
    for part_id, url, data in connection.execute(select + RESOURCES).fetchall():
        resources.add(part_id, url, data, Resource.FromString(data))
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
        for data, *rest in found:
            (spans if side == schema.TEMPO else plain).add(Span.FromString(data), *rest)
        if side == schema.LANGFUSE:
            arrow.insert(connection, side, schema.TABLES[side], plain.columns())
            continue
        for table, part in ((side, spans.spans), (EVENTS, spans.events), (LINKS, spans.links)):
            if len(part):
                arrow.insert(connection, table, schema.TABLES[table], part.columns())
