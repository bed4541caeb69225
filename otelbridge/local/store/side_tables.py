"""Keeps `span_tree` and `trace_info` true to `tempo_spans`.

The writer tells which spans it commits; a refresh renumbers the traces that changed. Skeletons of
recent traces stay in memory (at most `_CACHED_SPANS` spans), so that a refresh reads the tables
only for a trace that was forgotten. They also tell which spans are there already, which saves a
search of the table for every batch. Nothing here locks: callers hold the store's gate, but for
`present` and `store` of a small transaction, when nothing is dirty and so nobody else comes here.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import duckdb

from otelbridge.local.store import arrow, schema
from otelbridge.local.store.columns import SPANS, TRACES, TREE
from otelbridge.local.store.numbering import Node, TraceFacts, TreeRow, number

_CACHED_SPANS: Final = 60_000
#: Traces that one refresh transaction takes; bounds its memory and time after a migration.
_REFRESH_TRACES: Final = 4_000


@dataclass(slots=True)
class Skeleton:
    """All spans of one trace, as far as the side tables care."""

    nodes: dict[int, Node] = field(default_factory=dict)
    received_ns: int = 0


class SideTables:
    """Which traces there are, which are out of date, and the skeletons of recent ones.

    Attributes:
        dirty_spans: Spans committed since the last refresh.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._known: set[bytes] = set()
        self._numbered: set[bytes] = set()
        self._dirty: set[bytes] = set()
        self._skeletons: OrderedDict[bytes, Skeleton] = OrderedDict()
        self._cached_spans = 0
        self.dirty_spans = 0
        self.load()

    @property
    def dirty(self) -> bool:
        """Whether a trace has changed since its numbers were stored."""
        return bool(self._dirty)

    def load(self) -> None:
        """Learn from the tables what is there and what is stale, as after a kill."""
        self._skeletons.clear()
        self._cached_spans = 0
        found = self._connection.execute(
            f"SELECT s.trace_id::BLOB, t.trace_id IS NOT NULL, "
            "t.received_ns IS DISTINCT FROM s.newest OR t.span_count <> s.spans, s.spans FROM "
            "(SELECT trace_id, max(received_ns) AS newest, count(*) AS spans "
            f"FROM {SPANS} GROUP BY trace_id) AS s LEFT JOIN {TRACES} AS t USING (trace_id)"
        ).fetchall()
        self._known = {row[0] for row in found}
        self._numbered = {row[0] for row in found if row[1]}
        self._dirty = {row[0] for row in found if row[2]}
        self.dirty_spans = sum(row[3] for row in found if row[2])

    def forget(self, trace_ids: Iterable[bytes]) -> None:
        """Traces whose rows were deleted from every table."""
        for trace_id in trace_ids:
            for group in (self._known, self._numbered, self._dirty):
                group.discard(trace_id)
            skeleton = self._skeletons.pop(trace_id, None)
            if skeleton is not None:
                self._cached_spans -= len(skeleton.nodes)

    def present(self, found: Mapping[bytes, Mapping[int, Node]]) -> list[tuple[bytes, int]]:
        """Those of the spans (by trace id and span id) that are stored already."""
        known = self._known & found.keys()
        self._ensure(known)
        return [
            (trace_id, span_id)
            for trace_id in known
            for span_id in found[trace_id].keys() & self._skeletons[trace_id].nodes.keys()
        ]

    def add(self, found: Mapping[bytes, Mapping[int, Node]], received_ns: int) -> None:
        """Spans that were committed; `present` was asked before, so known traces are in memory."""
        self._learn(found, received_ns)
        self.dirty_spans += sum(map(len, found.values()))
        self._dirty.update(found)

    def store(self, found: Mapping[bytes, Mapping[int, Node]], received_ns: int) -> None:
        """Write the numbers of traces with new spans in the transaction that writes the spans.

        For when no other trace is dirty; `present` was asked before. When the transaction fails,
        `load` must follow.
        """
        self._learn(found, received_ns)
        self._store(set(found))
        self._numbered.update(found)
        self._evict()

    def _learn(self, found: Mapping[bytes, Mapping[int, Node]], received_ns: int) -> None:
        for trace_id, nodes in found.items():
            skeleton = self._skeletons.get(trace_id)
            if skeleton is None:
                skeleton = self._skeletons[trace_id] = Skeleton()
            before = len(skeleton.nodes)
            skeleton.nodes.update(nodes)
            skeleton.received_ns = received_ns
            self._cached_spans += len(skeleton.nodes) - before
        self._known.update(found)  # `|= found.keys()` would copy all that are known

    def refresh(self) -> None:
        """Renumber every trace that changed."""
        while self._dirty:
            self.refresh_some()

    def refresh_some(self) -> bool:
        """Renumber a few thousand of them in one transaction; whether there are more."""
        chunk = set(islice(self._dirty, _REFRESH_TRACES))
        if chunk:
            self._ensure(chunk)
            self._connection.begin()
            try:
                self._store(chunk)
                self._connection.commit()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.rollback()
                raise
            self._numbered |= chunk
            self._dirty -= chunk
            self._evict()
        if self._dirty:
            return True
        self.dirty_spans = 0
        return False

    def _store(self, trace_ids: set[bytes]) -> None:
        stale = trace_ids & self._numbered
        if stale:
            for table in (TREE, TRACES):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE trace_id IN "
                    "(SELECT unnest(?::BLOB[])::UUID)", [list(stale)]
                )  # fmt: skip
        tree_traces: list[bytes] = []
        tree: list[TreeRow] = []
        facts: list[TraceFacts] = []
        for trace_id in trace_ids:
            numbers, one = number(self._skeletons[trace_id].nodes)
            tree_traces += [trace_id] * len(numbers)
            tree += numbers
            facts.append(one)
        names = [name for name, _ in schema.TABLES[TREE]]
        columns = (tree_traces, *zip(*tree, strict=True))
        arrow.insert(
            self._connection,
            TREE,
            schema.TABLES[TREE],
            dict(zip(names, columns, strict=True)),
        )
        trace_rows = [
            self._trace_row(trace_id, one) for trace_id, one in zip(trace_ids, facts, strict=True)
        ]
        names = [name for name, _ in schema.TABLES[TRACES]]
        arrow.insert(
            self._connection,
            TRACES,
            schema.TABLES[TRACES],
            dict(zip(names, zip(*trace_rows, strict=True), strict=True)),
        )

    def _trace_row(self, trace_id: bytes, facts: TraceFacts) -> tuple[object, ...]:
        root = facts.root
        return (
            trace_id,
            facts.start_ns,
            facts.end_ns,
            root[2] if root is not None else None,
            root[4] if root is not None else "",
            root[5] if root is not None else "",
            facts.span_count,
            self._skeletons[trace_id].received_ns,
        )

    def _ensure(self, trace_ids: set[bytes]) -> None:
        """Read the skeletons that are not in memory, and mark all as recently used."""
        read: dict[bytes, Skeleton] = {}
        for trace_id in trace_ids:
            if trace_id in self._skeletons:
                self._skeletons.move_to_end(trace_id)
            else:
                read[trace_id] = Skeleton()
        if not read:
            return
        found = self._connection.execute(
            "SELECT trace_id::BLOB, received_ns, start_ns, -(start_ns + duration_ns), span_id, "
            "parent_span_id, CASE WHEN parent_span_id IS NULL THEN name ELSE '' END, "
            "CASE WHEN parent_span_id IS NULL THEN r_service_name ELSE '' END "
            f"FROM {SPANS} WHERE trace_id IN (SELECT unnest(?::BLOB[])::UUID)",
            [list(read)],
        ).fetchall()
        for trace_id, received_ns, *node in found:
            skeleton = read[trace_id]
            skeleton.nodes[node[2]] = tuple(node)
            skeleton.received_ns = max(skeleton.received_ns, received_ns)
        self._skeletons.update(read)
        self._cached_spans += len(found)

    def _evict(self) -> None:
        """Forget the skeletons that were not used for longest; never one that is dirty."""
        if self._cached_spans <= _CACHED_SPANS:
            return
        for trace_id in list(self._skeletons):
            if self._cached_spans <= _CACHED_SPANS:
                break
            if trace_id not in self._dirty:
                self._cached_spans -= len(self._skeletons.pop(trace_id).nodes)
