"""Answers TraceQL queries from the local store: text in, plain objects out.

`search` looks at the newest traces first, in slices that grow, and stops when it has `limit` of
them; `query_range` and `query_instant` count in one statement. Neighbours: `traceql` turns text
into SQL, the store runs it (anything with `query(sql, parameters)` or `snapshot()`), the HTTP
layer, the command line and the pytest plugin show the answers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from otelbridge.local import series
from otelbridge.local.series import Buckets, Series
from otelbridge.local.store import columns
from otelbridge.local.traceql import (
    ast,
    compile,
    compile_compare,
    compile_metrics,
    parser,
    validate,
)
from otelbridge.local.traceql.compile import Sql, Value
from otelbridge.local.traceql.compile_fields import Catalog, TooComplexError
from otelbridge.local.traceql.errors import TraceQLUnsupportedError
from otelbridge.local.traceql.plan import Plan, plan

#: Whose answer is wanted where the two differ: the clean one, or Tempo's own.
Compat: TypeAlias = Literal["clean", "tempo"]
_SECOND: Final = 1_000_000_000
#: The first slice of a search has this many traces, or this often the limit; each next is larger.
_FIRST_SLICE: Final = 400
_SLICE_LIMITS: Final = 4
_SLICE_GROWTH: Final = 8
#: Most steps of a pipeline beside filters, and attributes shown: what DuckDB plans within a second.
_MAX_STEPS: Final = 128
_MAX_SHOWN: Final = 512
#: Plans and statements are kept for texts up to this length: dashboards ask the same again.
_KEPT_TEXT: Final = 4096
_KEPT: Final = 256


class Reader(Protocol):
    """What answers statements: a snapshot of the store, or a plain connection's wrapper."""

    def query(self, sql: str, parameters: Any = ...) -> list[tuple[Any, ...]]:
        """All rows of a statement; `parameters` by name."""


@dataclass(frozen=True, slots=True)
class SpanMatch:
    """A span of an answer; `attributes` are those that the query mentions or selects."""

    span_id: str
    name: str | None
    start_ns: int
    duration_ns: int
    attributes: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class SpanSet:
    """Spans of a trace that matched together: the first `spss` of `matched`."""

    spans: tuple[SpanMatch, ...]
    matched: int
    attributes: tuple[tuple[str, Value], ...]


@dataclass(slots=True)
class ServiceStats:
    """How many spans of a trace a service has, and how many of them failed."""

    span_count: int = 0
    error_count: int = 0


@dataclass(slots=True)
class TraceMatch:
    """A trace of an answer. Ids are padded lower-case hex; root fields are "" without a root."""

    trace_id: str
    root_service: str
    root_name: str
    start_ns: int
    duration_ns: int
    span_sets: list[SpanSet] = field(default_factory=list)
    service_stats: dict[str, ServiceStats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Traces, newest first, and how many the window has, matching or not."""

    traces: list[TraceMatch]
    inspected_traces: int


@dataclass(frozen=True, slots=True)
class MetricsAnswer:
    """Series by label, and the time axis that they share."""

    series: list[Series]
    buckets: Buckets


def search(
    store: Any, text: str, *, start_s: int, end_s: int, limit: int = 20, spss: int = 3,
    compat: Compat = "clean",
) -> SearchAnswer:  # fmt: skip
    """The newest `limit` traces that overlap [start_s, end_s] (Unix seconds) and match.

    An empty text answers the newest traces, without span sets.

    Raises:
        TraceQLError: the query is refused.
        StoreError: the store cannot be read, or not in time.
    """
    wanted = _kept(_planned, text or "{ }", False, compat)
    with _reader(store) as reader:
        catalog = _catalog(reader, store)
        statement, shown = _kept(_search_sql, text or "{ }", compat, catalog)
        rows, inspected = _sliced(
            reader, statement.sql, start_s * _SECOND, end_s * _SECOND, limit, spss
        )
        if not rows:
            return SearchAnswer([], inspected)
        return SearchAnswer(
            _answer(reader, wanted, shown if text else None, statement, rows), inspected
        )


def query_range(
    store: Any, text: str, *, start_ns: int, end_ns: int, step_ns: int | None = None,
    exemplars: bool = False, compat: Compat = "clean",
) -> MetricsAnswer:  # fmt: skip
    """A metrics query over the steps that cover [start_ns, end_ns]; `step_ns` None: about 240 of
    them.

    Raises:
        TraceQLError: the query is refused.
        StoreError: the store cannot be read, or not in time.
    """
    step = step_ns or series.default_step_ns(start_ns, end_ns)
    return _metrics(store, text, series.aligned(start_ns, end_ns, step), exemplars, compat)


def query_instant(
    store: Any, text: str, *, start_ns: int, end_ns: int, compat: Compat = "clean"
) -> MetricsAnswer:
    """A metrics query over (start_ns, end_ns] as one step: each series has one sample at most.

    Raises:
        TraceQLError: the query is refused.
        StoreError: the store cannot be read, or not in time.
    """
    return _metrics(store, text, Buckets(start_ns, end_ns - start_ns, 1), False, compat)


def _metrics(
    store: Any, text: str, buckets: Buckets, exemplars: bool, compat: Compat
) -> MetricsAnswer:
    wanted = _kept(_planned, text, True, compat)
    node = wanted.metrics
    if node is None:
        raise TypeError("validate() lets only metrics queries pass")
    end_ns = buckets.start_ns + buckets.step_ns * buckets.count
    exemplars = exemplars and not _hint_is_false(wanted, "exemplars")
    with _reader(store, refresh=_kept(_reads_side_tables, text, compat)) as reader:
        catalog = _catalog(reader, store)
        sql, labels, of_exemplars = _kept(_metrics_sql, text, compat, catalog, exemplars)
        low, high = buckets.start_ns + 1, end_ns
        if wanted.whole_traces:
            # Spans outside the range decide too, as far as their traces reach into it.
            count, first, _begin, last, _longest, _low = _run(
                reader, compile.window_bounds(), trace_hi=end_ns, from_ns=buckets.start_ns, newest=1
            )[0]
            low, high = (first, last) if count else (1, 0)
        rows = _run(
            reader, sql, span_lo=low, span_hi=high, start_ns=buckets.start_ns,
            end_ns=end_ns, step_ns=buckets.step_ns,
        )  # fmt: skip
        row_ids = series.offered(rows) if of_exemplars is not None else []
        shown = _run(reader, of_exemplars, row_ids=row_ids) if row_ids else []
    if node.function == "compare":
        return MetricsAnswer(series.build_comparison(rows, buckets), buckets)
    found = series.build(node, wanted.stages, labels, rows, buckets, shown)
    return MetricsAnswer(found, buckets)


# -- steps of a search -----------------------------------------------------------------------------


def _sliced(
    reader: Reader, sql: Sql, start_ns: int, end_ns: int, limit: int, spss: int
) -> tuple[list[tuple[Any, ...]], int]:
    """Rows of the newest traces that match; older slices only while there are too few."""
    newest = max(_FIRST_SLICE, _SLICE_LIMITS * limit)
    count, first, high, _last, longest, low = _run(
        reader, compile.window_bounds(), trace_hi=end_ns, from_ns=start_ns, newest=newest
    )[0]
    if not count:
        return [], 0
    rows: list[tuple[Any, ...]] = []
    traces: set[Any] = set()
    # The newest first, then slices of time sized as if the others came evenly; where they did not,
    # one more is read.
    width = (low - first + 1) * _SLICE_GROWTH * newest // max(1, count - newest)
    while len(traces) < limit and high >= first:
        if low - first < width:
            low = first  # a rest smaller than a slice is not worth a statement
        rows += _run(
            reader, sql, span_lo=low, span_hi=high + longest, trace_hi=high, from_ns=start_ns,
            limit=limit - len(traces), spss=spss,
        )  # fmt: skip
        traces = {row[0] for row in rows}
        high = low - 1
        low = high - width
        width *= _SLICE_GROWTH
    return rows, count


def _answer(
    reader: Reader, wanted: Plan, shown: Sql | None, statement: compile.SearchSql,
    rows: list[tuple[Any, ...]],
) -> list[TraceMatch]:  # fmt: skip
    low, high = min(row[1] for row in rows), max(row[2] for row in rows)
    found = {
        row[0]: TraceMatch(row[0].hex, row[4], row[3], row[1], row[2] - row[1]) for row in rows
    }
    for trace_id, service, spans, errors in _run(
        reader, compile.service_stats(), span_lo=low, span_hi=high, trace_ids=list(found)
    ):
        found[trace_id].service_stats[service] = ServiceStats(spans, errors)
    if shown is not None:
        _add_sets(reader, wanted, shown, statement, rows, found, (low, high))
    return list(found.values())


def _add_sets(
    reader: Reader, wanted: Plan, shown: Sql, statement: compile.SearchSql,
    rows: list[tuple[Any, ...]], found: dict[Any, TraceMatch], bounds: tuple[int, int],
) -> None:  # fmt: skip
    details = _run(
        reader, shown, span_lo=bounds[0], span_hi=bounds[1],
        trace_ids=[row[0] for row in rows], span_ids=[row[5] for row in rows],
    )  # fmt: skip
    keys = [compile.shown_key(node) for node in wanted.shown]
    spans = {}
    for trace_id, span_id, name, start_ns, duration_ns, *cells in details:
        listed = {
            key: compile.decode(cell)
            for key, cell in zip(keys, cells, strict=True)
            if cell is not None
        }
        spans[trace_id, span_id] = SpanMatch(
            f"{span_id:016x}", name if wanted.shows_name else None, start_ns, duration_ns,
            tuple(listed.items()),
        )  # fmt: skip
    sets: dict[Any, tuple[int, list[SpanMatch], list[str]]] = {}
    for row in rows:
        values = row[7] or []
        _matched, members, _values = sets.setdefault((row[0], *values), (row[6], [], values))
        members.append(spans[row[0], row[5]])
    for key, (matched, members, values) in sets.items():
        attributes = tuple(
            (name, compile.decode(value))
            for name, value in zip(statement.attributes, values, strict=True)
        )
        found[key[0]].span_sets.append(SpanSet(tuple(members), matched, attributes))


# -- from text to statements -----------------------------------------------------------------------


def _kept(make: Any, text: str, *arguments: Any) -> Any:
    """What a cached function gives; of long texts nothing is kept, for they are large."""
    if len(text) > _KEPT_TEXT:
        make = make.__wrapped__
    return make(text, *arguments)


@functools.lru_cache(maxsize=_KEPT)
def _planned(text: str, metrics: bool, compat: Compat) -> Plan:
    return _sized(plan(_parsed(text, metrics=metrics), compat))


@functools.lru_cache(maxsize=_KEPT)
def _search_sql(
    text: str, compat: Compat, catalog: Catalog | None
) -> tuple[compile.SearchSql, Sql]:
    """The statement that finds, and the one that shows."""
    wanted = _kept(_planned, text, False, compat)
    found = _compiled(lambda: compile.search(wanted, catalog))
    return found, compile.details(wanted, catalog)


@functools.lru_cache(maxsize=_KEPT)
def _metrics_sql(
    text: str, compat: Compat, catalog: Catalog | None, exemplars: bool
) -> tuple[Sql, tuple[tuple[str, ...], ...], Sql | None]:
    """The statement, the alternatives of each label, and the statement for exemplars if wanted."""
    wanted = _kept(_planned, text, True, compat)
    if wanted.metrics.function == "compare":
        return _compiled(lambda: compile_compare.compare(wanted, catalog)), (), None
    statement = _compiled(lambda: compile_metrics.metrics(wanted, catalog, exemplars=exemplars))
    return statement.sql, statement.labels, statement.exemplars if exemplars else None


@functools.lru_cache(maxsize=_KEPT)
def _reads_side_tables(text: str, compat: Compat) -> bool:
    """Whether a metrics query needs `span_tree` or `trace_info`; without them it waits less."""
    if _kept(_planned, text, True, compat).whole_traces:
        return True
    # Without a catalog the statement reads whatever one with a catalog may read.
    try:
        sql, _labels, shown = _kept(_metrics_sql, text, compat, None, True)
    except TraceQLUnsupportedError:
        return True
    texts = sql.text + (shown.text if shown is not None else "")
    return columns.TREE in texts or columns.TRACES in texts


# -- plumbing --------------------------------------------------------------------------------------


def _parsed(text: str, *, metrics: bool) -> ast.Query:
    query = parser.parse(text)
    validate.validate(query, metrics=metrics)
    return query


def _sized(wanted: Plan) -> Plan:
    """The plan, if the store can answer it in reasonable time and memory."""
    elements = wanted.pipeline.elements
    steps = sum(not isinstance(element, ast.SpansetFilter) for element in elements)
    for count, most, what in (
        (steps, _MAX_STEPS, "pipeline steps"), (len(wanted.shown), _MAX_SHOWN, "attributes"),
    ):  # fmt: skip
        if count > most:
            raise TraceQLUnsupportedError(
                f"query too complex: {count} {what}, at most {most} are supported",
                hint="ask in several queries",
            )
    return wanted


def _compiled(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except TooComplexError as error:
        raise TraceQLUnsupportedError(
            f"query too complex: {error}", hint="ask for it in parts"
        ) from error


def _run(reader: Reader, sql: Sql, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement with those of the parameters that it has."""
    names = _parameters(sql)
    return reader.query(sql.text, {name: parameters[name] for name in names})


@functools.lru_cache(maxsize=_KEPT)
def _parameters(sql: Sql) -> frozenset[str]:
    return sql.parameters


@contextlib.contextmanager
def _reader(store: Any, *, refresh: bool = True) -> Iterator[Reader]:
    """One consistent view for all statements of an answer, where the store can give it."""
    if not hasattr(store, "snapshot"):
        yield store
        return
    with store.snapshot(refresh=refresh) as reader:
        yield reader


def _catalog(reader: Any, store: Any) -> Catalog | None:
    """Which attributes exist by type, when the store keeps that (it may name too many)."""
    for source in (reader, store):
        if hasattr(source, "catalog"):
            return frozenset(source.catalog())
    return None


def _hint_is_false(wanted: Plan, name: str) -> bool:
    return any(key == name and value.value is False for key, value in wanted.hints)
