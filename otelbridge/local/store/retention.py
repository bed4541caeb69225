"""What the local store forgets: whole traces, by age of their newest span and by size.

Runs on the store's writer thread, on its connection, each deletion a transaction of its own. Age
counts from arrival, so that imported spans with old timestamps are not deleted at once; a trace
goes with all its spans on one side, never half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from otelbridge.local.store.schema import SIDES, TEMPO, TEMPO_PARTS

#: Delete down to this share of the limit, so that deletion does not run on every batch.
_TARGET_SHARE: Final = 0.8
#: Bytes that a row takes in memory beside the serialised span: the hot columns.
_ROW_BYTES: Final = 120


@dataclass(frozen=True, slots=True)
class Limits:
    """Retention limits; None switches one off.

    Attributes:
        age_seconds: Since the newest span of a trace arrived.
        max_bytes: Of the stored spans, uncompressed. The file holds them compressed, and beside
            them space that waits for reuse (DuckDB frees rows by groups of 122,880).
    """

    age_seconds: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """What was deleted: spans of both sides, and the traces of the Tempo side."""

    spans: int = 0
    tempo_traces: tuple[bytes, ...] = ()


def apply(connection: duckdb.DuckDBPyConnection, limits: Limits, now_ns: int) -> Gone:
    """Delete what is too old or too much."""
    gone = []
    if limits.age_seconds is not None:
        cutoff_ns = max(0, now_ns - int(limits.age_seconds * 1e9))
        gone += [_delete(connection, side, _older(side), cutoff_ns) for side in SIDES]
    if limits.max_bytes is not None:
        gone += _shrink(connection, limits.max_bytes)
    spans = sum(one.spans for one in gone)
    if spans:
        _drop_unused_parts(connection)
        connection.execute("CHECKPOINT")  # frees the space of what was deleted
    return Gone(spans, tuple(trace_id for one in gone for trace_id in one.tempo_traces))


def used_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Bytes of the stored spans as OTLP, with their columns: what `Limits.max_bytes` bounds."""
    total = 0
    for side in SIDES:
        row = connection.execute(
            f"SELECT coalesce(sum(span_bytes), 0) + count(*) * {_ROW_BYTES} FROM {side}"
        ).fetchone()
        total += int(row[0]) if row else 0
    return total


def _older(side: str) -> str:
    return f"SELECT trace_id FROM {side} GROUP BY trace_id HAVING max(received_ns) < ?"


def _delete(connection: duckdb.DuckDBPyConnection, side: str, doomed: str, value: int) -> Gone:
    """Delete the traces that the statement `doomed` names, from every table of that side."""
    found = connection.execute(
        f"SELECT trace_id, trace_id::BLOB FROM ({doomed})", [value]
    ).fetchall()
    if not found:
        return Gone()
    ids = [row[0] for row in found]
    tables = (side, *TEMPO_PARTS) if side == TEMPO else (side,)
    spans = 0
    connection.begin()
    try:
        for table in tables:
            row = connection.execute(
                f"DELETE FROM {table} WHERE trace_id IN (SELECT unnest(?::UUID[]))", [ids]
            ).fetchone()
            spans += int(row[0]) if row and table == side else 0
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return Gone(spans, tuple(row[1] for row in found) if side == TEMPO else ())


def _shrink(connection: duckdb.DuckDBPyConnection, max_bytes: int) -> list[Gone]:
    """Delete the oldest traces of both sides until the store is below its target."""
    used = used_bytes(connection)
    if used <= max_bytes:
        return []
    union = " UNION ALL ".join(
        f"SELECT trace_id, received_ns, span_bytes FROM {side}" for side in SIDES
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE doomed AS SELECT trace_id FROM (SELECT trace_id, "
        f"sum(total) OVER (ORDER BY newest, trace_id) - total AS before FROM (SELECT trace_id, "
        f"max(received_ns) AS newest, sum(span_bytes + {_ROW_BYTES}) AS total "
        f"FROM ({union}) GROUP BY trace_id)) WHERE before < ?",
        [used - int(max_bytes * _TARGET_SHARE)],
    )
    named = "SELECT DISTINCT trace_id FROM doomed JOIN {} USING (trace_id) WHERE 0 <= ?"
    gone = [_delete(connection, side, named.format(side), 0) for side in SIDES]
    connection.execute("DROP TABLE doomed")
    return gone


def _drop_unused_parts(connection: duckdb.DuckDBPyConnection) -> None:
    for table, column in (("resources", "resource_id"), ("scopes", "scope_id")):
        union = " UNION ALL ".join(f"SELECT {column} FROM {side}" for side in SIDES)
        connection.execute(f"DELETE FROM {table} WHERE id NOT IN ({union})")
