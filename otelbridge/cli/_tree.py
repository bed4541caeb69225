"""A trace as text: one line a span, with its bar, model, tokens, cost and status.

Pure: `trace` and `demo` print what `render_tree` gives. Names come from other people's programs, so
control characters are replaced before anything reaches a terminal.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

from otelbridge.cli._cells import (
    BOLD,
    DIM,
    RED,
    RESET,
    cell_width,
    clean,
    cut,
    duration_text,
    pad,
    paint,
    plural,
)
from otelbridge.local.nodes import counts_twice
from otelbridge.local.tree import Node, Placed, arrange

_BAR_CELLS: Final = 18
_NAME_CELLS: Final = 58
_SERVICE_CELLS: Final = 20
_MODEL_CELLS: Final = 26
_CONTENT_LINES: Final = 40
_RAILS: Final = 10
#: Cyan, green, yellow, blue, magenta and bright cyan: told apart on light and dark terminals.
_SERVICE_COLOURS: Final = tuple(f"\x1b[{code}m" for code in (36, 32, 33, 34, 35, 96))


def render_tree(
    nodes: Sequence[Node], *, title: str = "", colour: bool = False, content: bool = False
) -> str:
    """The tree of a trace, lines joined by newlines, without one at the end.

    Args:
        nodes: Spans or observations, in any order; an empty trace gives one line that says so.
        title: First line.
        colour: Whether to use ANSI colours.
        content: Whether to print input and output under each span that has them.
    """
    heading = paint(clean(title), BOLD, colour)
    if not nodes:
        return f"{heading}\n(no spans)" if title else "(no spans)"
    placed = arrange(nodes)
    rows = [_cells(item) for item in placed]
    widths = [max(cell_width(row[column]) for row in rows) for column in range(len(_HEADS))]
    widths = [max(width, len(head)) for width, head in zip(widths, _HEADS, strict=True)]
    begin_ns = min(node.start_ns for node in nodes)
    total_ns = max(1, max(node.start_ns + node.duration_ns for node in nodes) - begin_ns)
    lines = [heading] if title else []
    lines.append(paint(_join(_HEADS, " " * _BAR_CELLS, "", widths).rstrip(), DIM, colour))
    for item, row in zip(placed, rows, strict=True):
        bar = _bar(item.node, begin_ns, total_ns)
        lines.append(_line(item, row, bar, widths, colour))
        if content:
            lines += _content(item, widths[0], colour)
    lines.append(paint(_footer(placed, total_ns), DIM, colour))
    return "\n".join(lines)


_HEADS: Final = ("service", "span", "duration", "model", "tokens in/out", "cost")
_RIGHT: Final = (False, False, True, False, True, True)


def _cells(item: Placed) -> tuple[str, ...]:
    node = item.node
    tokens = ""
    if node.input_tokens is not None or node.output_tokens is not None:
        tokens = f"{_count(node.input_tokens)} / {_count(node.output_tokens)}"
    return (
        cut(clean(node.service), _SERVICE_CELLS),
        cut(_branches(item) + (clean(node.name) or "(no name)"), _NAME_CELLS),
        duration_text(node.duration_ns),
        cut(clean(node.model), _MODEL_CELLS),
        tokens,
        "" if node.cost_usd is None else f"${node.cost_usd:.6f}",
    )


def _branches(item: Placed) -> str:
    if not item.depth:
        return ""
    # The first rail belongs to the top level, which draws no line to its siblings. A deep agent
    # loop keeps its last levels and says how many stand before them.
    hidden = max(0, len(item.rails) - 1 - _RAILS)
    rails = f"+{hidden} " if hidden else ""
    rails += "".join("│  " if more else "   " for more in item.rails[1 + hidden :])
    return rails + ("└─ " if item.last else "├─ ")


def _line(item: Placed, row: Sequence[str], bar: str, widths: Sequence[int], colour: bool) -> str:
    node = item.node
    status = ""
    if node.error:
        message = cut(clean(node.status_message), _NAME_CELLS)
        status = paint(f"ERROR {message}".rstrip(), RED, colour)
    if item.orphan:
        note = f"orphan of {clean(node.parent_id)}"
        status = f"{status}  {note}" if status else note
    text = _join(row, bar, status, widths)
    if colour:
        shade = _SERVICE_COLOURS[zlib.crc32(node.service.encode()) % len(_SERVICE_COLOURS)]
        text = shade + text[: widths[0]] + RESET + text[widths[0] :]
        text = text.replace(bar, shade + bar + RESET, 1) if bar.strip() else text
    return text.rstrip()


def _join(cells: Sequence[str], bar: str, status: str, widths: Sequence[int]) -> str:
    padded = [
        pad(cell, width, right) for cell, width, right in zip(cells, widths, _RIGHT, strict=True)
    ]
    return "  ".join([*padded[:2], bar, *padded[2:], status])


def _bar(node: Node, begin_ns: int, total_ns: int) -> str:
    """Where the span lies in the trace; at least one cell, so that short spans are seen."""
    first = min(_BAR_CELLS - 1, (node.start_ns - begin_ns) * _BAR_CELLS // total_ns)
    end_ns = node.start_ns + node.duration_ns - begin_ns
    last = min(_BAR_CELLS, max(first + 1, -(-end_ns * _BAR_CELLS // total_ns)))
    return "·" * first + "█" * (last - first) + "·" * (_BAR_CELLS - last)


def _content(item: Placed, indent: int, colour: bool) -> list[str]:
    lines = []
    margin = " " * (indent + 2 + 3 * min(item.depth, _RAILS) + 2)
    for label, value in item.node.content.items():
        text = _pretty(value).splitlines() or [""]
        shown = [clean(line) for line in text[:_CONTENT_LINES]]
        if len(text) > _CONTENT_LINES:
            shown.append(f"... {len(text) - _CONTENT_LINES} more lines")
        head, *rest = shown
        lines.append(paint(f"{margin}{label}: {head}", DIM, colour))
        lines += [paint(f"{margin}  {line}", DIM, colour) for line in rest]
    return lines


def _footer(placed: Sequence[Placed], total_ns: int) -> str:
    nodes = [item.node for item in placed]
    services = {node.service for node in nodes if node.service}
    counts = [plural(len(nodes), "span"), plural(len(services), "service")]
    parts = [*counts, duration_text(total_ns)]
    counted = [node for node in nodes if not counts_twice(node)]
    sent = sum(node.input_tokens or 0 for node in counted)
    received = sum(node.output_tokens or 0 for node in counted)
    if sent or received:
        parts.append(f"{sent:,} tokens in, {received:,} out")
    costs = [node.cost_usd for node in counted if node.cost_usd is not None]
    if costs:
        parts.append(f"${sum(costs):.6f}")
    errors = sum(node.error for node in nodes)
    if errors:
        parts.append(plural(errors, "error"))
    orphans = sum(item.orphan for item in placed)
    if orphans:
        parts.append(plural(orphans, "orphan"))
    return ", ".join(parts)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _pretty(value: Any) -> str:
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if not isinstance(parsed, (dict, list)):
            return value
        value = parsed
    return json.dumps(value, indent=2, ensure_ascii=False)
