r"""A list of key patterns as one regular expression that Go's engine matches in one pass.

Go tries the branches of an alternation one after the other, or all in step, unless the next
character always decides: then it runs ten times faster. So the alternatives are spelled out and
folded into a prefix tree. Understood are the forms that `policy.CONTENT_KEY_PATTERNS` uses:
literals, `\.`, groups of alternatives, `(...)?`, `[...]+`, and `(\..*)?` at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

_BELOW: Final = r"(\..*)?"  # the key itself and everything below it
_TOKEN: Final = re.compile(r"\\.|\[[^\]]*\]\+|[A-Za-z0-9_:-]")
_END: Final = ""


def _alternatives(pattern: str) -> list[str]:
    """The parts between the bars of the outermost level."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(pattern):
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            parts.append(pattern[start:position])
            start = position + 1
    return [*parts, pattern[start:]]


def _closing(pattern: str, start: int) -> int:
    depth = 0
    for position in range(start, len(pattern)):
        depth += (pattern[position] == "(") - (pattern[position] == ")")
        if depth == 0:
            return position
    raise ValueError(f"no closing bracket in {pattern!r}")


def expand(pattern: str) -> list[tuple[str, ...]]:
    r"""Every alternative as a row of tokens: characters, classes, or `(\..*)?` as the last one."""
    options = _alternatives(pattern)
    if len(options) > 1:
        return [row for option in options for row in expand(option)]
    rows: list[tuple[str, ...]] = [()]
    position = 0
    while position < len(pattern):
        if pattern[position:] == _BELOW:
            rows = [(*row, _BELOW) for row in rows]
            break
        if pattern[position] == "(":
            end = _closing(pattern, position)
            inner = expand(pattern[position + 1 : end].removeprefix("?:"))
            position = end + 1
            if pattern[position : position + 1] == "?":
                inner, position = [(), *inner], position + 1
            rows = [(*row, *more) for row in rows for more in inner]
            continue
        token = _TOKEN.match(pattern, position)
        if token is None:
            raise ValueError(f"{pattern!r}: cannot read {pattern[position:]!r}")
        position = token.end()
        optional = pattern[position : position + 1] == "?" and pattern[position:] != _BELOW
        more_rows = [(*row, token[0]) for row in rows]
        rows = [*rows, *more_rows] if optional else more_rows
        position += optional
    return rows


def trie_pattern(patterns: Iterable[str]) -> str:
    """One anchored pattern that matches what any of `patterns` matches as a whole."""
    root: dict[str, Any] = {}
    for pattern in patterns:
        for row in expand(pattern):
            node = root
            for token in row:
                node = node.setdefault(token, {})
            node[_END] = {}
    return f"^{_written(root)}$"


def _written(node: dict[str, Any]) -> str:
    if _BELOW in node:  # holds everything that starts with a dot
        node = {key: child for key, child in node.items() if key not in (r"\.", _END)}
    endings: dict[str, list[str]] = {}  # what branches end in alike is written once
    for token, child in node.items():
        if token != _END:
            head, ending = _split(token, child)
            endings.setdefault(ending, []).append(head)
    branches = [_either(heads) + ending for ending, heads in endings.items()]
    if not branches:
        return ""
    text = _either(branches)
    return f"(?:{text})?" if _END in node else text


def _either(options: list[str]) -> str:
    some = [option for option in options if option]
    if len(some) == len(options) == 1:
        return options[0]
    return f"(?:{'|'.join(some)})" + ("?" if len(some) < len(options) else "")


def _split(token: str, child: dict[str, Any]) -> tuple[str, str]:
    """A branch as the tokens up to the next fork or end, and what is written from there on."""
    if token == _BELOW:
        return "", "(?:\\..*)?"
    head = token
    while len(child) == 1 and not {_END, _BELOW} & set(child):
        ((token, child),) = child.items()
        head += token
    return head, _written(child)
