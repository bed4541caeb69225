"""Tables of the local store, version 3: their DDL, and the statements that are always the same.

Which attribute has which column stands in `columns`; how a span becomes a row in `rows`. Two sides:
`tempo_spans` with hot columns and typed maps (what TraceQL asks), and `langfuse_spans` with the
plain columns only. Resources and scopes are stored once each, under a hash of their content. A
store of an older version is migrated (`migrate`), one of a newer version refused, never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otelbridge.local.store.columns import (
    DUCKDB_TYPES,
    EVENTS,
    HOT_RESOURCE,
    HOT_SPAN,
    KEYS,
    LINKS,
    MAP_COLUMNS,
    RESOURCE_COPIES,
    RESOURCES,
    SCOPES,
    SPANS,
    TRACES,
    TREE,
    Hot,
)

SCHEMA_VERSION: Final = 3
TEMPO: Final = SPANS
LANGFUSE: Final = "langfuse_spans"
SIDES: Final = (TEMPO, LANGFUSE)
#: Tables whose rows belong to one trace of the Tempo side, beside `tempo_spans` itself.
TEMPO_PARTS: Final = (EVENTS, LINKS, TREE, TRACES)

#: Column name and DuckDB type. Times are nanoseconds since 1970; ids are the big-endian value of
#: the id's bytes. `received_ns` is the same for all rows of a transaction and grows with each.
LANGFUSE_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("trace_id", "UUID"),
    ("span_id", "UBIGINT"),
    ("parent_span_id", "UBIGINT"),  # NULL on a root
    ("name", "VARCHAR"),
    ("kind", "TINYINT"),  # enum number of OTLP
    ("start_ns", "BIGINT"),
    ("duration_ns", "BIGINT"),
    ("resource_id", "UBIGINT"),
    ("scope_id", "UBIGINT"),
    ("received_ns", "BIGINT"),
    ("span_bytes", "UINTEGER"),  # length of the serialised span, for retention by size
    ("span", "BLOB"),  # the rest of it: what `packing.pack` gives
)
SPAN_COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    *LANGFUSE_COLUMNS,
    ("status", "TINYINT"),
    ("status_message", "VARCHAR"),
    ("has_events", "BOOLEAN"),
    ("has_links", "BOOLEAN"),
)
COPY_COLUMNS: Final = tuple((column, "VARCHAR") for column in RESOURCE_COPIES.values())
_PART_COLUMNS: Final = (("id", "UBIGINT"), ("schema_url", "VARCHAR"), ("proto", "BLOB"))
_SPAN_KEY: Final = (("trace_id", "UUID"), ("span_id", "UBIGINT"))
_EVENT_COLUMNS: Final = (
    *_SPAN_KEY,
    ("event_no", "USMALLINT"),
    ("name", "VARCHAR"),
    ("since_start_ns", "BIGINT"),
)
_LINK_COLUMNS: Final = (
    *_SPAN_KEY,
    ("link_no", "USMALLINT"),
    ("linked_trace_id", "VARCHAR"),
    ("linked_span_id", "VARCHAR"),
)
_TREE_COLUMNS: Final = (
    *_SPAN_KEY,
    ("nested_left", "INTEGER"),
    ("nested_right", "INTEGER"),
    ("nested_parent", "INTEGER"),
    ("child_count", "INTEGER"),
)
_TRACE_COLUMNS: Final = (
    ("trace_id", "UUID"),
    ("start_ns", "BIGINT"),
    ("end_ns", "BIGINT"),
    ("root_span_id", "UBIGINT"),
    ("root_name", "VARCHAR"),
    ("root_service", "VARCHAR"),
    ("span_count", "INTEGER"),
    ("received_ns", "BIGINT"),  # of the newest span that the numbers know: says what is stale
)


def _attributes(hot: Iterable[Hot] = ()) -> tuple[tuple[str, str], ...]:
    maps = ((column, f"MAP(VARCHAR, {DUCKDB_TYPES[kind]})") for kind, column in MAP_COLUMNS.items())
    return (*((one.column, DUCKDB_TYPES[one.type]) for one in hot), *maps)


#: Every table with all of its columns.
TABLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    TEMPO: (*SPAN_COLUMNS, *_attributes(HOT_SPAN), *COPY_COLUMNS),
    LANGFUSE: LANGFUSE_COLUMNS,
    RESOURCES: (*_PART_COLUMNS, *_attributes(HOT_RESOURCE)),
    SCOPES: (*_PART_COLUMNS, ("name", "VARCHAR"), ("version", "VARCHAR"), *_attributes()),
    EVENTS: (*_EVENT_COLUMNS, *_attributes()),
    LINKS: (*_LINK_COLUMNS, *_attributes()),
    TREE: _TREE_COLUMNS,
    TRACES: _TRACE_COLUMNS,
    KEYS: (("scope", "VARCHAR"), ("key", "VARCHAR"), ("type", "VARCHAR")),
}
#: The serialised spans are most of the file; zstd makes them a fifth (DuckDB would take FSST).
_COMPRESSION: Final = {"span": " USING COMPRESSION zstd"}


def _columns(columns: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {kind}{_COMPRESSION.get(name, '')}" for name, kind in columns)


CREATE_INFO: Final = "CREATE TABLE IF NOT EXISTS store_info (key VARCHAR, value VARCHAR)"
CREATE: Final[tuple[str, ...]] = tuple(
    f"CREATE TABLE IF NOT EXISTS {table} ({_columns(columns)})" for table, columns in TABLES.items()
)
SELECT_TRACE: Final = {
    side: (
        "SELECT s.span_id, s.parent_span_id, s.name, s.kind, s.start_ns, s.duration_ns, s.span, "
        "s.resource_id, s.scope_id, r.schema_url, r.proto, c.schema_url, c.proto "
        f"FROM {side} AS s JOIN {RESOURCES} AS r ON r.id = s.resource_id "
        f"JOIN {SCOPES} AS c ON c.id = s.scope_id WHERE s.trace_id = ? "
        "ORDER BY s.start_ns, s.span_id"
    )
    for side in SIDES
}
#: Reads the plain columns once; run at opening, because DuckDB finds damage when it reads.
CHECK: Final = tuple(
    "SELECT "
    + ", ".join(f"max({name})" for name, kind in columns if kind != "BLOB" and "MAP" not in kind)
    + f" FROM {table}"
    for table, columns in TABLES.items()
)
