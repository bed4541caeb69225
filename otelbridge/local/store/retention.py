"""What the local store forgets: whole traces, by age of their newest span and by size.

Runs on the store's writer thread, on its connection, each deletion a transaction of its own. Age
counts from arrival, so that imported spans with old timestamps are not deleted at once; a trace
goes with all its spans on one side, never half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from otelbridge.local.store.schema import SIDES

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


def apply(connection: duckdb.DuckDBPyConnection, limits: Limits, now_ns: int) -> int:
    """Delete what is too old or too much; returns the number of spans deleted."""
    deleted = 0
    if limits.age_seconds is not None:
        cutoff_ns = max(0, now_ns - int(limits.age_seconds * 1e9))
        deleted += sum(_delete_older(connection, side, cutoff_ns) for side in SIDES)
    if limits.max_bytes is not None:
        deleted += _shrink(connection, limits.max_bytes)
    if deleted:
        _drop_unused_parts(connection)
        connection.execute("CHECKPOINT")  # frees the space of what was deleted
    return deleted


def used_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Bytes of the stored spans as OTLP, with their columns: what `Limits.max_bytes` bounds."""
    total = 0
    for side in SIDES:
        row = connection.execute(
            f"SELECT coalesce(sum(span_bytes), 0) + count(*) * {_ROW_BYTES} FROM {side}"
        ).fetchone()
        total += int(row[0]) if row else 0
    return total


def _delete_older(connection: duckdb.DuckDBPyConnection, side: str, cutoff_ns: int) -> int:
    row = connection.execute(
        f"DELETE FROM {side} WHERE trace_id IN (SELECT trace_id FROM {side} "
        "GROUP BY trace_id HAVING max(received_ns) < ?)",
        [cutoff_ns],
    ).fetchone()
    return int(row[0]) if row else 0


def _shrink(connection: duckdb.DuckDBPyConnection, max_bytes: int) -> int:
    """Delete the oldest traces until the store is below its target; 0 when it is within limits."""
    used = used_bytes(connection)
    if used <= max_bytes:
        return 0
    return _delete_oldest(connection, used - int(max_bytes * _TARGET_SHARE))


def _delete_oldest(connection: duckdb.DuckDBPyConnection, excess_bytes: int) -> int:
    """Delete the oldest traces of both sides, together at least `excess_bytes` where there are."""
    union = " UNION ALL ".join(
        f"SELECT trace_id, received_ns, span_bytes FROM {side}" for side in SIDES
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE doomed AS SELECT trace_id FROM (SELECT trace_id, "
        f"sum(total) OVER (ORDER BY newest, trace_id) - total AS before FROM (SELECT trace_id, "
        f"max(received_ns) AS newest, sum(span_bytes + {_ROW_BYTES}) AS total "
        f"FROM ({union}) GROUP BY trace_id)) WHERE before < ?",
        [excess_bytes],
    )
    deleted = 0
    for side in SIDES:
        row = connection.execute(
            f"DELETE FROM {side} WHERE trace_id IN (SELECT trace_id FROM doomed)"
        ).fetchone()
        deleted += int(row[0]) if row else 0
    connection.execute("DROP TABLE doomed")
    return deleted


def _drop_unused_parts(connection: duckdb.DuckDBPyConnection) -> None:
    for table, column in (("resources", "resource_id"), ("scopes", "scope_id")):
        union = " UNION ALL ".join(f"SELECT {column} FROM {side}" for side in SIDES)
        connection.execute(f"DELETE FROM {table} WHERE id NOT IN ({union})")
