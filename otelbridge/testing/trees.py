"""Traces as trees: the picture of a failure, and patterns of names that a trace has to have.

A pattern is indented text, one span name a line (`*` and `?` stand for any text and any
character), with a TraceQL filter behind it if wanted. Children of a pattern line are all children
of the span, in any order; a line `...` allows others. Pure: spans in, text or answers out.
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from otelbridge.local.tree import Node, Placed, arrange
from otelbridge.testing.spans import Span, summary

_MOST_LINES = 200
_WITH_FILTER = re.compile(r"^(.*?)\s+(\{.*\})$")
Key = tuple[str, str]


class PatternError(ValueError):
    """A tree pattern that cannot be read; says which line."""


@dataclass(slots=True)
class Pattern:
    """A line of a pattern, and the lines below it."""

    text: str
    name: re.Pattern[str]
    query: str
    children: list[Pattern] = field(default_factory=list)
    others: bool = False


def render(
    spans: Iterable[Span], *, marked: Collection[Key] = (), mark: str = "match",
    open_spans: Collection[Key] = (),
) -> str:  # fmt: skip
    """The trees of all traces, the spans in `marked` pointed at; no message content."""
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    lines = []
    for trace_id, members in sorted(
        by_trace.items(), key=lambda item: min(span.start_ns for span in item[1])
    ):
        by_id = {span.span_id: span for span in members}
        services = ", ".join(sorted({span.service for span in members if span.service}))
        lines.append(f"trace {trace_id} ({services})" if services else f"trace {trace_id}")
        for placed in arrange(_node(span) for span in members):
            span = by_id[placed.node.span_id]
            notes = _notes(span, placed, span.key in open_spans)
            arrow = f"   ◄ {mark}" if span.key in marked else ""
            lines.append(f"  {_rails(placed)}{span.name}{notes}{arrow}")
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"  … and {len(lines) - _MOST_LINES} lines more"]
    return "\n".join(lines) or "(no spans)"


def _node(span: Span) -> Node:
    return Node(
        span.span_id, span.parent_id, span.service, span.name, span.kind, span.start_ns,
        span.duration_ns,
    )  # fmt: skip


def _rails(placed: Placed) -> str:
    if not placed.depth:
        return ""
    rails = "".join("│  " if rail else "   " for rail in placed.rails[1:])
    return rails + ("└─ " if placed.last else "├─ ")


def _notes(span: Span, placed: Placed, is_open: bool) -> str:
    notes = [summary(span)]
    if span.kind not in ("internal", "unspecified"):
        notes.insert(0, span.kind)
    if span.status == "error":
        message = textwrap.shorten(span.status_message, 60, placeholder=" …")
        notes.append(f"error: {message}" if message else "error")
    if placed.orphan:
        where = "in another process" if span.remote_parent else "not captured"
        notes.append(f"parent {span.parent_id} {where}")
    if is_open:
        notes.append("not ended")
    shown = ", ".join(filter(None, notes))
    return f"  [{shown}]" if shown else ""


def path(span: Span, spans: Iterable[Span]) -> list[Span]:
    """The ancestors of a span, from the top, without the span."""
    by_key = {each.key: each for each in spans}
    found: list[Span] = []
    parent = by_key.get((span.trace_id, span.parent_id))
    while parent is not None and parent not in found:
        found.insert(0, parent)
        parent = by_key.get((parent.trace_id, parent.parent_id))
    return found


# -- patterns --------------------------------------------------------------------------------------


def read_pattern(text: str) -> Pattern:
    """The pattern of an indented text; its own line is that above the roots.

    Raises:
        PatternError: no line at all, or a line that is indented as no line above it.
    """
    top = Pattern("", re.compile(""), "")
    # The lines from the top to the last one: their indentation and that of the lines below them.
    stack: list[tuple[int, Pattern, int | None]] = [(-1, top, None)]
    for raw in textwrap.dedent(text.expandtabs(4)).splitlines():
        line, indent = raw.strip(), len(raw) - len(raw.lstrip())
        if not line:
            continue
        while stack[-1][0] >= indent:
            stack.pop()
        own, parent, below = stack[-1]
        if below not in (None, indent):
            raise PatternError(f"tree pattern: {line!r} is indented as no line above it")
        stack[-1] = (own, parent, indent)
        if line == "...":
            parent.others = True
            continue
        found = _WITH_FILTER.match(line)
        name, query = found.groups() if found else (line, "")
        child = Pattern(line, _glob(name), query)
        parent.children.append(child)
        stack.append((indent, child, None))
    if not top.children:
        raise PatternError("tree pattern: it has no line")
    return top


def _glob(name: str) -> re.Pattern[str]:
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(c, re.escape(c)) for c in name), re.DOTALL)


def mismatches(
    pattern: Pattern, spans: Sequence[Span], matching: Callable[[str], Collection[Key]]
) -> list[tuple[str, set[Key]]]:
    """What keeps the traces from having the shape of a pattern; empty when they have it.

    Args:
        pattern: from `read_pattern`; its children are the roots of all traces.
        spans: every span.
        matching: the spans of a TraceQL query.
    Returns:
        Sentences with the spans that they are about.
    """
    return _Comparison(spans, matching).below(pattern, None)


class _Comparison:
    def __init__(self, spans: Sequence[Span], matching: Callable[[str], Collection[Key]]) -> None:
        self._matching = matching
        self._answers: dict[str, Collection[Key]] = {}
        self._memo: dict[tuple[int, Key], list[tuple[str, set[Key]]]] = {}
        self._children: dict[Key | None, list[Span]] = defaultdict(list)
        known = {span.key for span in spans}
        for span in sorted(spans, key=lambda span: (span.start_ns, span.span_id)):
            parent: Key | None = (span.trace_id, span.parent_id)
            self._children[parent if parent in known else None].append(span)

    def below(self, pattern: Pattern, span: Span | None) -> list[tuple[str, set[Key]]]:
        """Mismatches between the lines below a pattern line and the children of its span."""
        children = self._children[span.key if span else None]
        fits = [[self._fits(line, child) for child in children] for line in pattern.children]
        taken = _assigned(fits)
        where = f"below {span.name!r}" if span else "at the top"
        found: list[tuple[str, set[Key]]] = []
        left = [i for i in range(len(children)) if i not in taken.values()]
        for row, line in enumerate(pattern.children):
            if row in taken:
                continue
            # A child of the right name that does not fit tells more than "missing".
            near = next((i for i in left if self._named(line, children[i])), None)
            if near is None:
                found.append((f"{where} there is no {line.text!r}", {span.key} if span else set()))
            else:
                left.remove(near)
                found += self._mismatch(line, children[near])
        if not pattern.others:
            found += [(self._unexpected(children[i], where), {children[i].key}) for i in left]
        return found

    def _unexpected(self, span: Span, where: str) -> str:
        if where == "at the top" and span.parent_id:
            return f"{span.name!r} is an orphan: its parent {span.parent_id} is not there"
        return f"{where} there is also {span.name!r}; a line `...` allows others"

    def _fits(self, line: Pattern, span: Span) -> bool:
        return self._named(line, span) and not self._mismatch(line, span)

    def _named(self, line: Pattern, span: Span) -> bool:
        top_orphan = span.parent_id and not span.remote_parent and span in self._children[None]
        return line.name.fullmatch(span.name) is not None and not top_orphan

    def _mismatch(self, line: Pattern, span: Span) -> list[tuple[str, set[Key]]]:
        memo = (id(line), span.key)
        if memo not in self._memo:
            found = self.below(line, span)
            if line.query:
                if line.query not in self._answers:
                    self._answers[line.query] = self._matching(line.query)
                if span.key not in self._answers[line.query]:
                    found.insert(0, (f"{span.name!r} does not satisfy {line.query}", {span.key}))
            self._memo[memo] = found
        return self._memo[memo]


def _assigned(fits: list[list[bool]]) -> dict[int, int]:
    """A largest assignment of rows to columns, each used once (Kuhn's augmenting paths)."""
    owner: dict[int, int] = {}

    def assign(row: int, seen: set[int]) -> bool:
        for column, fit in enumerate(fits[row]):
            if fit and column not in seen:
                seen.add(column)
                if column not in owner or assign(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    for row in range(len(fits)):
        assign(row, set())
    return {row: column for column, row in owner.items()}
