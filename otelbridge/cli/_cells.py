"""Cells of text for a terminal: cleaned, measured, cut, padded, painted; durations and plurals.

Pure; used by everything in `cli` that prints tables. What comes from other people's programs goes
through `clean` before it reaches a terminal.
"""

from __future__ import annotations

import unicodedata
from typing import Final

RESET: Final = "\x1b[0m"
DIM: Final = "\x1b[2m"
RED: Final = "\x1b[31m"
YELLOW: Final = "\x1b[33m"
BOLD: Final = "\x1b[1m"


def duration_text(duration_ns: int) -> str:
    """A duration with a unit that keeps it short: `1.83 s`, `12.3 ms`, `410 µs`."""
    if duration_ns >= 10**9:
        return f"{duration_ns / 1e9:.2f} s"
    if duration_ns >= 10**6:
        return f"{duration_ns / 1e6:.1f} ms"
    return f"{duration_ns / 1e3:.0f} µs"


def plural(number: int, noun: str) -> str:
    """`1 span`, `2 spans`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def paint(text: str, code: str, colour: bool) -> str:
    """The text in a colour, when colours are wanted."""
    return f"{code}{text}{RESET}" if colour and text else text


def clean(text: str) -> str:
    """Text without control, format and line characters: nothing that moves a cursor."""
    if text.isprintable():
        return text
    return "".join(" " if character in "\t\n\r" else _visible(character) for character in text)


def _visible(character: str) -> str:
    return "�" if unicodedata.category(character)[0] == "C" else character


def cell_width(text: str) -> int:
    """Terminal cells: East Asian wide characters take two, combining marks none."""
    return sum(
        0
        if unicodedata.combining(character)
        else 2
        if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )


def pad(text: str, width: int, right: bool) -> str:
    """The text filled up to a width; `right` aligns it there."""
    fill = " " * max(0, width - cell_width(text))
    return fill + text if right else text + fill


def cut(text: str, cells: int) -> str:
    """The text in at most so many cells; an ellipsis ends what was cut."""
    if cell_width(text) <= cells:
        return text
    while cell_width(text) > cells - 1:
        text = text[:-1]
    return text + "…"
