"""Time series as lines of block characters, and their figures.

Pure: `query` prints what `render_series` gives. Input is the JSON of Tempo's query_range.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from otelbridge.cli._cells import DIM, cell_width, clean, cut, pad, paint

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_MOST_SERIES: Final = 30
_LABEL_CELLS: Final = 46
_HEADS: Final = ("", "min", "max", "last", "sum")


def render_series(
    series: Sequence[Mapping[str, Any]],
    times: Iterable[int],
    *,
    sums: bool,
    colour: bool = False,
) -> str:
    """One line a series: labels, plot, smallest, largest and last value.

    Every plot has the same time axis and the same scale, from 0 (or the smallest value below it)
    to the largest value of all. A blank cell is a moment without a sample.

    Args:
        series: `series` of the answer.
        times: Milliseconds of the samples that were asked for.
        sums: Whether adding the samples of a series makes sense; then it is shown too.
        colour: Whether to use ANSI colours.
    """
    keys = {tuple(_keys(one)) for one in series}
    found = sorted(
        ((_label(one, bare=len(keys) == 1), _samples(one)) for one in series),
        key=lambda pair: (-max(pair[1].values(), default=-math.inf), pair[0]),
    )
    axis = sorted({time for _, samples in found for time in samples} | set(times))
    values = [value for _, samples in found for value in samples.values()]
    if not axis or not values:
        return "(no samples)"
    low, high = min(0.0, *values), max(0.0, *values)
    head = ", ".join(next(iter(keys))) if len(keys) == 1 else "series"
    shown: list[tuple[str, ...]] = [(cut(head, _LABEL_CELLS), *_HEADS)]
    shown += [_row(label, samples, axis, low, high) for label, samples in found[:_MOST_SERIES]]
    columns = range(6 if sums else 5)
    widths = [max(cell_width(row[column]) for row in shown) for column in columns]
    lines = [
        "  ".join(pad(row[column], widths[column], right=column > 1) for column in columns).rstrip()
        for row in shown
    ]
    lines[0] = paint(lines[0], DIM, colour)
    span = f"{_clock(axis[0])} to {_clock(axis[-1])} UTC, {_figure(low)} to {_figure(high)}"
    if len(found) > _MOST_SERIES:
        span += f"; the {_MOST_SERIES} largest of {len(found):,} series"
    return "\n".join([*lines, paint(span, DIM, colour)])


def value_text(value: Mapping[str, Any]) -> str:
    """An attribute value of Tempo's JSON as text: strings bare, arrays in brackets."""
    for kind, content in value.items():
        if kind == "arrayValue":
            return "[" + ", ".join(map(value_text, (content or {}).get("values") or [])) + "]"
        if kind == "boolValue":
            return str(content).lower()
        if kind == "doubleValue":
            return _figure(_number(content))
        return clean(str(content))
    return ""


def _row(
    label: str, samples: Mapping[int, float], axis: Iterable[int], low: float, high: float
) -> tuple[str, ...]:
    values = [samples[time] for time in sorted(samples)]
    plot = "".join(_block(samples.get(time), low, high) for time in axis)
    figures = (min(values), max(values), values[-1], math.fsum(values)) if values else ()
    return (cut(label, _LABEL_CELLS), plot, *(map(_figure, figures) if figures else [""] * 4))


def _keys(series: Mapping[str, Any]) -> list[str]:
    keys = [clean(str(label.get("key"))) for label in series.get("labels") or []]
    return ["series"] if keys == ["__name__"] else keys


def _label(series: Mapping[str, Any], *, bare: bool) -> str:
    """The labels of a series, without their names when all series have the same."""
    values = [value_text(label.get("value") or {}) for label in series.get("labels") or []]
    if bare:
        return ", ".join(values)
    return ", ".join(f"{key}={value}" for key, value in zip(_keys(series), values, strict=True))


def _samples(series: Mapping[str, Any]) -> dict[int, float]:
    """Values by time in milliseconds; a sample without a value is 0."""
    found = {
        int(sample["timestampMs"]): _number(sample.get("value", 0))
        for sample in series.get("samples") or []
    }
    return {time: value for time, value in found.items() if math.isfinite(value)}


def _number(value: Any) -> float:
    return float(value)  # protobuf's JSON writes NaN and infinities as text


def _block(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    if value <= low:
        return _BLOCKS[0]
    return _BLOCKS[max(1, round((value - low) / (high - low) * (len(_BLOCKS) - 1)))]


def _figure(value: float) -> str:
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def _clock(time_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC)
    return f"{moment:%m-%d %H:%M:%S}"
