"""Names and values of attributes in the local store: what an editor completes a query with.

Names come from the store's catalog, or, filtered by a query, from the newest spans that match it;
values are the groups of a count. Neighbours: `query` runs the counts, `search_api` has the routes.
Rules as measured on Tempo 3.0.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

from otelbridge.local import query
from otelbridge.local.store import columns
from otelbridge.local.traceql import ast, parser, validate
from otelbridge.local.traceql.compile import Value
from otelbridge.local.traceql.errors import TraceQLError
from otelbridge.local.traceql.printing import to_text

SCOPES: Final = ("resource", "span", "event", "link", "instrumentation")
#: As Tempo 3.0.3 lists them under the scope `intrinsic`.
INTRINSICS: Final = (
    "duration", "event:name", "event:timeSinceStart", "instrumentation:name",
    "instrumentation:version", "kind", "link:spanID", "link:traceID", "name", "rootName",
    "rootServiceName", "span:duration", "span:id", "span:kind", "span:name", "span:parentID",
    "span:status", "span:statusMessage", "status", "statusMessage", "trace:duration", "trace:id",
    "trace:rootName", "trace:rootService", "traceDuration",
)  # fmt: skip
STATUS_WORDS: Final = ("error", "ok", "unset")
KIND_WORDS: Final = ("client", "consumer", "internal", "producer", "server", "unspecified")
_SECOND: Final = 1_000_000_000
_ALWAYS: Final = (0, 2**62)
#: A filter on names looks at this many of the newest matching traces.
_SAMPLE_TRACES: Final = 500
_SAMPLE_SPANS: Final = 100
_TYPES: Final = {"s": "string", "i": "int", "d": "float", "b": "bool"}
_TABLES: Final = {
    "span": (columns.SPANS, columns.HOT_SPAN),
    "resource": (columns.RESOURCES, columns.HOT_RESOURCE),
    "instrumentation": (columns.SCOPES, ()),
    "event": (columns.EVENTS, ()),
    "link": (columns.LINKS, ()),
}
#: How rows of each table belong to a span of the sample.
_MEMBERS: Final = {
    "span": "(t.trace_id, t.span_id) IN (SELECT * FROM sample)",
    "event": "(t.trace_id, t.span_id) IN (SELECT * FROM sample)",
    "link": "(t.trace_id, t.span_id) IN (SELECT * FROM sample)",
    "resource": "t.id IN (SELECT resource_id FROM tempo_spans AS s "
    "WHERE (s.trace_id, s.span_id) IN (SELECT * FROM sample))",
    "instrumentation": "t.id IN (SELECT scope_id FROM tempo_spans AS s "
    "WHERE (s.trace_id, s.span_id) IN (SELECT * FROM sample))",
}


class UnknownTagError(ValueError):
    """A name that is no attribute with a scope and no intrinsic."""


def names(
    store: Any, scopes: Iterable[str], text: str = "", window: tuple[int, int] = (0, 0)
) -> dict[str, list[str]]:
    """Attribute names by scope, sorted; with a query, those on the newest spans that match it.

    Args:
        store: What `query.search` takes.
        scopes: Some of `SCOPES`.
        text: TraceQL; one that is refused filters nothing.
        window: Start and end in seconds for the query; (0, 0) is everything.
    """
    wanted = list(scopes)
    sample = _sample(store, text, window) if text else None
    found: dict[str, set[str]] = {scope: set() for scope in wanted}
    if sample is None and hasattr(store, "catalog"):
        for scope, key, _kind in store.catalog():
            if scope in found:
                found[scope].add(key)
    else:
        with store.snapshot(refresh=False) as reader:
            found = {scope: _names_of(reader, scope, sample) for scope in wanted}
    return {scope: sorted(keys) for scope, keys in found.items()}


def _sample(store: Any, text: str, window: tuple[int, int]) -> tuple[list[str], list[int]] | None:
    start_s, end_s = window if any(window) else _ALWAYS
    try:
        answer = query.search(
            store, text, start_s=start_s, end_s=min(end_s, _ALWAYS[1] // _SECOND),
            limit=_SAMPLE_TRACES, spss=_SAMPLE_SPANS,
        )  # fmt: skip
    except TraceQLError:
        return None
    ids = {
        (trace.trace_id, int(span.span_id, 16))
        for trace in answer.traces
        for found in trace.span_sets
        for span in found.spans
    }
    return [trace_id for trace_id, _ in ids], [span_id for _, span_id in ids]


def _names_of(reader: Any, scope: str, sample: tuple[list[str], list[int]] | None) -> set[str]:
    table, hot = _TABLES[scope]
    start, where, parameters = "", f"FROM {table} AS t", {}
    if sample is not None:
        start = (
            "WITH sample AS (SELECT unnest($traces::UUID[]) AS trace_id, "
            "unnest($spans::UBIGINT[]) AS span_id) "
        )
        where += f" WHERE {_MEMBERS[scope]}"
        parameters = {"traces": sample[0], "spans": sample[1]}
    maps = " UNION ".join(
        f"SELECT DISTINCT unnest(map_keys(t.{column})) AS key {where}"
        for column in columns.MAP_COLUMNS.values()
    )
    found = {row[0] for row in reader.query(start + maps, parameters)}
    if hot:
        counts = ", ".join(f"count(nullif(t.{one.column}::VARCHAR, ''))" for one in hot)
        row = reader.query(f"{start}SELECT {counts} {where}", parameters)[0]
        found |= {one.key for one, count in zip(hot, row, strict=True) if count}
    return found


def values(
    store: Any, tag: str, text: str = "", window: tuple[int, int] = (0, 0)
) -> list[tuple[str, str]]:
    """Values of an attribute or intrinsic as (type, text), sorted; arrays by element.

    Args:
        store: What `query.search` takes.
        tag: A name with its scope (`span.x`, `.x`) or an intrinsic.
        text: TraceQL that narrows the spans; one that is refused filters nothing.
        window: Start and end in seconds; (0, 0) is everything.
    Raises:
        UnknownTagError: the name is neither.
    """
    node = field(tag)
    if isinstance(node, ast.Intrinsic):
        if node.name in ("status", "kind"):
            words = STATUS_WORDS if node.name == "status" else KIND_WORDS
            return [("keyword", word) for word in words]
        if node.name in ("duration", "traceDuration", "event:timeSinceStart"):
            return []
    start_s, end_s = window if any(window) else (0, _ALWAYS[1] // _SECOND)
    answer = query.query_instant(
        store,
        f"{_filter(text)} | {{ {to_text(node)} != nil }} | count_over_time() by ({to_text(node)})",
        start_ns=start_s * _SECOND, end_ns=end_s * _SECOND,
    )  # fmt: skip
    return _distinct(label for series in answer.series for _key, label in series.labels)


def values_of_any_scope(store: Any, name: str) -> list[str]:
    """Values of an attribute of that name in every scope, as plain sorted text (API version 1)."""
    if name in get_args(ast.IntrinsicName):
        return [text for _kind, text in values(store, name)]
    found: set[str] = set()
    for scope in SCOPES:
        tag = to_text(ast.Attribute(scope, name))
        found.update(text for _kind, text in values(store, tag))
    return sorted(found)


def field(tag: str) -> ast.Attribute | ast.Intrinsic:
    """The node that a tag name stands for.

    Raises:
        UnknownTagError: it is no attribute with a scope and no intrinsic.
    """
    for scope in (*SCOPES, ""):
        prefix = f"{scope}."
        if tag.startswith(prefix) and len(tag) > len(prefix):
            return ast.Attribute(scope, tag.removeprefix(prefix))
    try:
        metrics = parser.parse(f"{{ }} | count_over_time() by ({tag})").metrics
    except TraceQLError as error:
        raise UnknownTagError(f"please provide a valid tagName: {error.tempo_message}") from error
    if metrics is None or len(metrics.by) != 1:
        raise UnknownTagError(f"please provide a valid tagName: {tag}")
    return metrics.by[0]


def _filter(text: str) -> str:
    """The spanset part of a query that can stand before a count; everything when it cannot."""
    try:
        found = parser.parse(text)
        validate.validate(found, metrics=False)
    except TraceQLError:
        return "{ }"
    return to_text(found.pipeline) if found.metrics is None else "{ }"


def _distinct(labels: Iterable[Value]) -> list[tuple[str, str]]:
    found = set()
    for kind, content in labels:
        for item in content if isinstance(content, tuple) else (content,):
            letter = kind[0] if kind in columns.DUCKDB_TYPES else "s"
            text = str(item).lower() if letter == "b" else str(item)
            if kind != "nil":
                found.add((_TYPES[letter], text))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))
