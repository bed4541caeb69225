"""Search answers as a table: one line a trace, or one line a span.

Pure: `query` prints what `render_matches` gives. Input is the JSON of Tempo's search.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from otelbridge.cli._cells import DIM, cell_width, clean, cut, duration_text, pad, paint, plural
from otelbridge.cli._plot import value_text

_ROOT_CELLS: Final = 32
_SERVICE_CELLS: Final = 24
_ATTRIBUTES_CELLS: Final = 72
_VALUES_SHOWN: Final = 3
_Json = Mapping[str, Any]


def render_matches(
    traces: Sequence[_Json],
    *,
    spans: bool = False,
    link: Callable[[str], str] | None = None,
    colour: bool = False,
) -> str:
    """The table, newest trace first, with a line that counts below it.

    Args:
        traces: `traces` of the answer.
        spans: One line for each span shown, in place of one for each trace.
        link: Gives the Langfuse link of a padded trace id.
        colour: Whether to use ANSI colours.
    """
    heads = _SPAN_HEADS if spans else _TRACE_HEADS
    rows = [row for trace in traces for row in (_span_rows if spans else _trace_rows)(trace)]
    if link is not None:
        heads = (*heads, "langfuse")
        rows = [(*row, link(row[0])) for row in rows]
    widths = [max(map(cell_width, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, *rows):
        parts = [
            pad(cell, width, right=head in _RIGHT)
            for cell, width, head in zip(row, widths, heads, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    lines[0] = paint(lines[0], DIM, colour)
    matched = sum(int(one.get("matched", 0)) for trace in traces for one in _sets(trace))
    counts = f"{plural(len(traces), 'trace')}, {plural(matched, 'matched span')}"
    if spans and len(rows) < matched:
        counts += f", {len(rows):,} shown"
    return "\n".join([*lines, paint(counts, DIM, colour)])


_TRACE_HEADS: Final = (
    "trace id", "start (UTC)", "root", "service", "duration", "spans", "attributes",
)  # fmt: skip
_SPAN_HEADS: Final = ("trace id", "span id", "start (UTC)", "name", "duration", "attributes")
_RIGHT: Final = frozenset({"duration", "spans"})


def _trace_rows(trace: _Json) -> list[tuple[str, ...]]:
    sets = _sets(trace)
    pairs = [pair for one in sets for pair in one.get("attributes") or []]
    pairs += [
        pair
        for one in sets
        for span in one.get("spans") or []
        for pair in span.get("attributes") or []
    ]
    matched = sum(int(one.get("matched", 0)) for one in sets)
    return [
        (
            _trace_id(trace),
            _clock(trace),
            cut(clean(str(trace.get("rootTraceName") or "-")), _ROOT_CELLS),
            cut(clean(str(trace.get("rootServiceName") or "-")), _SERVICE_CELLS),
            duration_text(int(trace.get("durationMs") or 0) * 1_000_000),
            f"{matched:,}",
            _attributes(pairs),
        )
    ]


def _span_rows(trace: _Json) -> list[tuple[str, ...]]:
    return [
        (
            _trace_id(trace),
            clean(str(span.get("spanID"))),
            _clock(span),
            cut(clean(str(span.get("name") or "-")), _ROOT_CELLS),
            duration_text(int(span.get("durationNanos") or 0)),
            _attributes(span.get("attributes") or []),
        )
        for one in _sets(trace)
        for span in one.get("spans") or []
    ]


def _sets(trace: _Json) -> list[_Json]:
    return list(trace.get("spanSets") or ([trace["spanSet"]] if trace.get("spanSet") else []))


def _attributes(pairs: Iterable[_Json]) -> str:
    """`key=value` for each key; several values are joined by `|`."""
    values: dict[str, dict[str, None]] = {}
    for pair in pairs:
        values.setdefault(clean(str(pair.get("key"))), {})[value_text(pair.get("value") or {})] = (
            None
        )
    parts = []
    for key, found in values.items():
        more = "|…" if len(found) > _VALUES_SHOWN else ""
        parts.append(f"{key}={'|'.join(list(found)[:_VALUES_SHOWN])}{more}")
    return cut(" ".join(parts), _ATTRIBUTES_CELLS)


def _trace_id(trace: _Json) -> str:
    return clean(str(trace.get("traceID", ""))).zfill(32)


def _clock(item: _Json) -> str:
    seconds = int(item.get("startTimeUnixNano") or 0) / 1e9
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%m-%d %H:%M:%S}"
