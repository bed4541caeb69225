"""Repair of invalid UTF-8 and masking of secrets as OTTL statements, for `render.py`.

Both are rare and both need a look at every value, so the look has to be cheap: all keys and values
of a span as one text, in which a pattern of `masks.py` leaves a trace that a search for a literal
finds. Only spans that have one go on to the detectors. Text in, text out, as in `ottl_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ottl_rules import at, lines, quoted

from otelbridge import masks, semconv

_LITERAL: Final = re.compile(r"[.?*+()\[\]{}|\\^$]")
#: Reads an invalid byte as U+FFFD and makes it a real one: pattern and replacement.
REPAIR: Final = r'"\\x{FFFD}", "\uFFFD"'
#: A mark from one statement group to the next: a span's cache ends with its group.
FOUND: Final = "\x00found"
_MARKS: Final = "[?&]"  # how the pattern of URL parameters starts


def text_statement(context: str) -> str:
    """All keys and values, name and status message of a context as one text.

    Values stand in it as they are but for quotes; those of lists and maps are JSON.
    """
    parts = [f"{context}.name", f'ToKeyValueString({context}.attributes, "\\x01", "\\x02")']
    if context == "span":
        parts.insert(1, "span.status.message")
    return f'set({context}.cache["text"], Concat([{", ".join(parts)}], "\\x02"))'


def _invalid(context: str) -> str:
    """True when there is no text or it is no UTF-8: decoding changes an invalid byte only."""
    text = f'{context}.cache["text"]'
    return f'{text} == nil or Decode({text}, "utf-8") != {text}'


def _holds(context: str, pattern: str) -> str:
    return f'IsMatch({context}.cache["text"], {quoted(pattern)})'


def _needles(parts: Iterable[str]) -> list[str]:
    """Patterns that find any of the texts, fewer than there are texts.

    Each starts with a literal, which Go looks for at the speed of memory: with two letters that
    some share, or with one that is rare.
    """
    groups: dict[str, list[str]] = {}
    for part in sorted(set(parts)):
        start = part[:1] if part[0] in "Axg" else part[:2]
        groups.setdefault(start, []).append(_LITERAL.sub(r"\\\g<0>", part[len(start) :]))
    return [
        _LITERAL.sub(r"\\\g<0>", start) + (rest[0] if len(rest) == 1 else f"(?:{'|'.join(rest)})")
        for start, rest in groups.items()
    ]


def _found(context: str, pattern: str, triggers: Iterable[str]) -> list[str]:
    """Conditions of which one is true for a text in which a mask's pattern matches."""
    if _MARKS not in pattern:
        return [_holds(context, needle) for needle in _needles(triggers)]
    # URL parameters: the pattern itself, but with a literal in front.
    return [_holds(context, pattern.replace(_MARKS, mark)) for mark in (r"\?", "&")]


def found_statement(context: str, *, masking: bool) -> str:
    """The mark `FOUND` for what needs repair, and with `masking` for what may hold a secret."""
    conditions = [_invalid(context)]
    if masking:
        rows = list(zip(masks.MASK_PATTERNS, masks.MASK_TRIGGERS, strict=True))
        texts = [part for (pattern, _), parts in rows if _MARKS not in pattern for part in parts]
        conditions += _found(context, "", (*masks.CREDENTIAL_HEADER_PARTS, *texts))
        for (pattern, _), _ in rows:
            conditions += _found(context, pattern, ()) if _MARKS in pattern else ()
    return f"set({at(FOUND, context)}, true) where {' or '.join(conditions)}"


def borrow_statements(context: str) -> tuple[list[str], list[str]]:
    """Name and status message become attributes, so that one pass serves all; and back again."""
    paths = {"\x00name": f"{context}.name"}
    if context == "span":
        paths["\x00status"] = "span.status.message"
    opening = [f"set({at(key, context)}, {path})" for key, path in paths.items()]
    close = [f"set({path}, {at(key, context)})" for key, path in paths.items()]
    return opening, close + [f"delete_key({context}.attributes, {quoted(key)})" for key in paths]


def repair_statements(context: str) -> list[str]:
    """Invalid bytes in keys and values become U+FFFD."""
    return [
        f'replace_all_patterns({context}.attributes, "{mode}", {REPAIR}) where {_invalid(context)}'
        for mode in ("key", "value")
    ]


def mask_statements(context: str) -> list[str]:
    """The detectors on the attribute values of a context; identifiers are put back as they were.

    Each runs only when the text holds a piece without which it cannot match.
    """
    kept = masks.UNMASKED_KEYS if context == "span" else ()
    saved = [(f"{context}.cache[{quoted(key)}]", at(key)) for key in kept]
    no_text = f'{context}.cache["text"] == nil'
    header = quoted(masks.CREDENTIAL_HEADER_PATTERN)
    statements = [f"delete_matching_keys({context}.attributes, {header})"]
    statements += [f"set({cached}, {value})" for cached, value in saved]
    rows = zip(masks.MASK_PATTERNS, masks.MASK_TRIGGERS, strict=True)
    statements += [
        f'replace_all_patterns({context}.attributes, "value", {quoted(pattern)}, '
        f"{quoted(replacement.replace('$1', '${1}'))}) "
        f"where {' or '.join((no_text, *_found(context, pattern, parts)))}"
        for (pattern, replacement), parts in rows
    ]
    return statements + [f"set({value}, {cached})" for cached, value in saved]


def mask_everything(function: str, target: str) -> str:
    """Every detector on a target, without a look beforehand."""
    return lines(
        (
            f"{function}({target}, {quoted(pattern)}, {quoted(replacement.replace('$1', '${1}'))})"
            for pattern, replacement in masks.MASK_PATTERNS
        ),
        10,
    )


def mask_resource() -> str:
    """Masking of resource attributes; identifiers are put back as they were."""
    cached = 'resource.cache["text"]'
    saved = [
        (f"resource.cache[{quoted(key)}]", at(key, "resource"))
        for key in masks.UNMASKED_RESOURCE_KEYS
    ]
    statements = [f'set({cached}, ToKeyValueString(resource.attributes, "\\x01", "\\x02"))']
    statements += [f"set({old}, {value})" for old, value in saved]
    for (pattern, replacement), parts in zip(
        masks.MASK_PATTERNS, masks.MASK_TRIGGERS, strict=True
    ):
        where = " or ".join((f"{cached} == nil", *_found("resource", pattern, parts)))
        statements.append(
            f'replace_all_patterns(resource.attributes, "value", {quoted(pattern)}, '
            f"{quoted(replacement.replace('$1', '${1}'))}) where {where}"
        )
    statements += [f"set({value}, {old}) where {old} != nil" for old, value in saved]
    return "      - statements:\n" + lines(statements, 10)


def scrub(context: str, *, masking: bool) -> str:
    """Repair of invalid UTF-8 in name, keys and values of a span or event, and masking if wanted.

    Two groups. The first looks at one text of all keys and values, and notes whether anything in it
    may need work; the second does the work, on the few spans that need some.
    """
    found = at(FOUND, context)
    first = [text_statement(context), found_statement(context, masking=masking)]
    if context == "span":
        first.append(
            f"set({at(semconv.OVERSIZE)}, true) "
            'where Len(span.cache["text"]) > @OTELBRIDGE_COLLECTOR_TEMPO_VALUE_BYTES@'
        )
    opening, close = borrow_statements(context)
    second = [
        f"delete_key({context}.attributes, {quoted(FOUND)})",
        *opening,
        text_statement(context),
        *repair_statements(context),
        *(mask_statements(context) if masking else ()),
        *close,
    ]
    return (
        "      - statements:\n"
        + lines(first, 10)
        + "\n      - conditions:\n"
        + lines([f"{found} != nil"], 10)
        + "\n        statements:\n"
        + lines(second, 10)
    )
