"""One transaction of the writer: batches of records to rows, duplicates replaced, side tables told.

`database` runs it on its writer thread. The costly part, `prepare`, needs no database and runs
before the gate is taken; `store` appends the columns and commits. Of spans with one (trace id,
span id) the last wins, in a batch as between batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from otelbridge.local.records import Batch, SpanRecord
from otelbridge.local.store import arrow, packing, rows, schema
from otelbridge.local.store.columns import EVENTS, KEYS, LINKS, RESOURCES, SCOPES
from otelbridge.local.store.numbering import Node
from otelbridge.local.store.side_tables import SideTables
from otelbridge.local.store.values import AttributeKey, Decoders, KeysFound, decoders

#: Values of one table by column.
Columns = dict[str, Sequence[Any] | arrow.MapColumn]
Key = tuple[bytes, int]


@dataclass(slots=True)
class Prepared:
    """What one transaction writes: columns by table, skeletons by trace."""

    received_ns: int
    tables: dict[str, Columns] = field(default_factory=dict)
    new_parts: dict[str, set[int]] = field(default_factory=dict)
    tempo: dict[bytes, dict[int, Node]] = field(default_factory=dict)
    langfuse: list[Key] = field(default_factory=list)


class Writer:
    """Writes batches through one connection; not safe for two threads at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, side_tables: SideTables) -> None:
        self._connection = connection
        self._side_tables = side_tables
        self._known: dict[str, set[int]] = {}
        self._previewed: set[bytes] = set()
        self._keys = KeysFound(
            connection.execute(f"SELECT DISTINCT scope, key, type FROM {KEYS}").fetchall()
        )
        self._decoders = decoders(self._keys)
        self.load_known()

    def load_known(self) -> None:
        """Learn which resources, scopes and traces of the preview are stored."""
        for table in (RESOURCES, SCOPES):
            found = self._connection.execute(f"SELECT id FROM {table}").fetchall()
            self._known[table] = {row[0] for row in found}
        found = self._connection.execute(
            f"SELECT DISTINCT trace_id::BLOB FROM {schema.LANGFUSE}"
        ).fetchall()
        self._previewed = {row[0] for row in found}

    def catalog(self) -> frozenset[AttributeKey]:
        """Every attribute key that was ever committed, with scope and type."""
        return self._keys.noted

    def prepare(self, batches: Sequence[Batch], received_ns: int) -> Prepared:
        """The rows of all batches; touches no table."""
        prepared = Prepared(received_ns)
        parts = _Parts(self._known, self._decoders)
        tempo = {_key(record): record for batch in batches for record in batch.tempo}
        if tempo:
            spans = rows.SpanRows(self._decoders)
            for (trace_id, _), record in tempo.items():
                ids = parts.ids(record)
                node = spans.add(record.span, *ids, received_ns, parts.copies)
                prepared.tempo.setdefault(trace_id, {})[node[2]] = node
            prepared.tables[schema.TEMPO] = spans.spans.columns()
            for table, one in ((EVENTS, spans.events), (LINKS, spans.links)):
                if len(one):
                    prepared.tables[table] = one.columns()
        langfuse = {_key(record): record for batch in batches for record in batch.langfuse}
        if langfuse:
            plain = rows.PlainRows()
            for record in langfuse.values():
                plain.add(record.span, *parts.ids(record), received_ns)
            prepared.langfuse = [
                (trace_id, int.from_bytes(span_id, "big")) for trace_id, span_id in langfuse
            ]
            prepared.tables[schema.LANGFUSE] = plain.columns()
        prepared.tables.update(parts.columns())
        prepared.tables.update(key_columns(self._keys))
        prepared.new_parts = parts.new
        return prepared

    def store(self, prepared: Prepared, *, side_tables: bool = False) -> None:
        """Write and commit; on an exception nothing was stored.

        With `side_tables` in the same transaction: no other trace may be dirty then, and after an
        exception they have to be loaded again.
        """
        replaced = self._side_tables.present(prepared.tempo)
        previewed = [key for key in prepared.langfuse if key[0] in self._previewed]
        self._connection.begin()
        try:
            for table in (schema.TEMPO, EVENTS, LINKS):
                self._delete(table, replaced)
            self._delete(schema.LANGFUSE, previewed)
            for table, columns in prepared.tables.items():
                arrow.insert(self._connection, table, schema.TABLES[table], columns)
            if side_tables and prepared.tempo:
                self._side_tables.store(prepared.tempo, prepared.received_ns)
            self._connection.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._connection.rollback()
            raise
        self._keys.committed()
        for table, ids in prepared.new_parts.items():
            self._known[table] |= ids
        self._previewed.update(trace_id for trace_id, _ in prepared.langfuse)
        if not side_tables:
            self._side_tables.add(prepared.tempo, prepared.received_ns)

    def _delete(self, table: str, keys: Sequence[Key]) -> None:
        if keys:
            self._connection.execute(
                f"DELETE FROM {table} USING (SELECT unnest(?::BLOB[])::UUID AS trace_id, "
                "unnest(?::UBIGINT[]) AS span_id) AS new "
                f"WHERE {table}.trace_id = new.trace_id AND {table}.span_id = new.span_id",
                [list(column) for column in zip(*keys, strict=True)],
            )


def key_columns(found: KeysFound) -> dict[str, Columns]:
    """The columns of the keys that are new, by table."""
    if not found.new:
        return {}
    names = [name for name, _ in schema.TABLES[KEYS]]
    return {KEYS: dict(zip(names, zip(*sorted(found.new), strict=True), strict=True))}


class _Parts:
    """Ids of resources and scopes; rows of those that are not stored yet."""

    def __init__(self, known: dict[str, set[int]], decoders: Decoders) -> None:
        self._known = known
        self._ids: dict[tuple[int, str, int, str], tuple[int, int]] = {}
        self._last: SpanRecord | None = None
        self._last_ids = (0, 0)
        self._copies_of: dict[int, rows.Copies] = {}
        self._decoder = decoders["resource"]
        #: Of the resource that `ids` saw last.
        self.copies: rows.Copies = ()
        self._resources = rows.ResourceRows(decoders)
        self._scopes = rows.ScopeRows(decoders)
        self.new: dict[str, set[int]] = {RESOURCES: set(), SCOPES: set()}

    def ids(self, record: SpanRecord) -> tuple[int, int]:
        """Ids of the resource and the scope; the messages are kept alive by their records."""
        last = self._last
        if last is not None and record.resource is last.resource and record.scope is last.scope:
            return self._last_ids
        self._last = record
        urls = (record.resource_schema_url, record.scope_schema_url)
        key = (id(record.resource), urls[0], id(record.scope), urls[1])
        found = self._ids.get(key)
        if found is None:
            resource_id, data = packing.part_id(record.resource, urls[0])
            if self._is_new(RESOURCES, resource_id):
                self._resources.add(resource_id, urls[0], data)
            scope_id, data = packing.part_id(record.scope, urls[1])
            if self._is_new(SCOPES, scope_id):
                self._scopes.add(scope_id, urls[1], data, record.scope)
            found = self._ids[key] = (resource_id, scope_id)
        self._last_ids = found
        copies = self._copies_of.get(found[0])
        if copies is None:
            copies = rows.resource_copies(record.resource, self._decoder)
            self._copies_of[found[0]] = copies
        self.copies = copies
        return found

    def columns(self) -> dict[str, Columns]:
        """The columns of the new ones, by table."""
        found: dict[str, Columns] = {}
        if self.new[RESOURCES]:
            found[RESOURCES] = self._resources.columns()
        if self.new[SCOPES]:
            found[SCOPES] = self._scopes.columns()
        return found

    def _is_new(self, table: str, part_id: int) -> bool:
        if part_id in self._known[table] or part_id in self.new[table]:
            return False
        self.new[table].add(part_id)
        return True


def _key(record: SpanRecord) -> tuple[bytes, bytes]:
    span = record.span
    return span.trace_id, span.span_id
