"""Why a query found nothing: which part of it fails on the best candidates.

The query is asked again in pieces, in the order of its pipeline: each side of a relation, each
filter with one condition left out, and if that does not help each condition alone. What the
candidates have instead is read from the spans. Pure apart from `ask`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.printing import to_text
from otelbridge.testing.spans import Span, held, value_type, values
from otelbridge.testing.trees import path

Ask = Callable[[str], Sequence[Span]]
_MOST_CONDITIONS = 12
_MOST_SHOWN = 3
_MOST_LINES = 12
_SHOWN_LENGTH = 60
_BACKTICKS = re.compile(r'`([^`"\\]*)`')
_RELATIONS = {
    ">": "a child", ">>": "a descendant", "<": "the parent", "<<": "an ancestor", "~": "a sibling",
}  # fmt: skip
_TYPES = {"s": "text", "b": "a boolean", "i": "an integer", "d": "a double"}


def near_misses(query: ast.Query, ask: Ask) -> list[str]:
    """Sentences about what nearly matched a query that matched nothing (or too little).

    Args:
        query: a search query that `validate` accepts.
        ask: the spans of a query, given as text.
    """
    finder = _Finder(ask)
    return list(finder.pipeline(query.pipeline))[:_MOST_LINES]


class _Finder:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._all: Sequence[Span] | None = None

    def spans(self, node: Any) -> Sequence[Span]:
        return self._ask(to_text(node))

    @property
    def every_span(self) -> Sequence[Span]:
        if self._all is None:
            self._all = self._ask("{ }")
        return self._all

    def pipeline(self, pipeline: ast.Pipeline) -> Iterator[str]:
        before: Sequence[Span] = ()
        for count in range(1, len(pipeline.elements) + 1):
            found = self.spans(replace(pipeline, elements=pipeline.elements[:count]))
            if not found:
                element = pipeline.elements[count - 1]
                if count == 1:
                    yield from self.element(element)
                else:
                    yield (
                        f"`{_text(pipeline.elements[0])}` … matches {_count(before)}, "
                        f"`| {_text(element)}` leaves none of them: {_names(before)}"
                    )
                return
            before = found

    def element(self, element: Any) -> Iterator[str]:
        match element:
            case ast.SpansetFilter():
                yield from self.filter(element)
            case ast.SpansetOperation():
                yield from self.operation(element)
            case ast.Pipeline():
                yield from self.pipeline(element)

    def operation(self, node: ast.SpansetOperation) -> Iterator[str]:
        sides = [(side, self.spans(side)) for side in (node.left, node.right)]
        for side, found in sides:
            if not found:
                yield f"`{_text(side)}` matches nothing by itself"
                yield from self.element(side)
        (left_node, left), (right_node, right) = sides
        if not left or not right:
            for side, found in sides:
                if found:
                    yield f"`{_text(side)}` matches {_count(found)}: {_names(found)}"
            return
        relation = _RELATIONS.get(node.op.lstrip("&!"))
        if relation is None:
            yield f"both sides of {node.op} match, but not in one trace"
            return
        which = "every" if node.op.startswith("!") else "no"
        yield (
            f"`{_text(left_node)}` matches {_count(left)}, `{_text(right_node)}` "
            f"{_count(right)}, but {which} right one is {relation} of a left one:"
        )
        for span in right[:_MOST_SHOWN]:
            above = " / ".join(each.name for each in path(span, self.every_span))
            orphan = span.parent_id and not above
            place = f"an orphan (parent {span.parent_id})" if orphan else "a root"
            yield f"  {span.name!r} is " + (f"below {above}" if above else place)

    def filter(self, node: ast.SpansetFilter) -> Iterator[str]:
        conditions = list(_conditions(node.expr))[:_MOST_CONDITIONS]
        if not self.every_span:
            yield "no span was captured at all"
            return
        helped = False
        for index, condition in enumerate(conditions):
            rest = [c for i, c in enumerate(conditions) if i != index]
            found = self.spans(replace(node, expr=_joined(rest)))
            if found:
                helped = True
                yield self.one_fails(condition, found, alone=not rest)
        if helped:
            return
        for condition in conditions:
            found = self.spans(replace(node, expr=condition))
            if found:
                yield f"`{_text(condition)}` alone matches {_count(found)}: {_names(found)}"
            else:
                yield self.one_fails(condition, self.every_span, alone=True)

    def one_fails(self, condition: ast.FieldExpr, found: Sequence[Span], *, alone: bool) -> str:
        """A sentence about a condition that `found` would match without."""
        fields = list(_fields(condition))
        instead = self._instead(condition, fields[0], found) if fields else ""
        if alone:
            text = f"`{_text(condition)}` holds for none of {_count(found)}"
        else:
            text = f"without `{_text(condition)}` {_count(found)} would match: {_names(found)}"
        return f"{text}; {instead}" if instead else text

    def _instead(
        self, condition: ast.FieldExpr, node: ast.Attribute | ast.Intrinsic, found: Sequence[Span]
    ) -> str:
        seen: list[Any] = []
        for span in found:
            seen += [value for value in values(span, node) if value not in seen]
        name = _text(node)
        if not seen:
            return f"{name} is absent{self._similar(node)}"
        seen.sort(key=lambda value: -_likeness(condition, value))
        shown = ", ".join(_shown(value) for value in seen[:_MOST_SHOWN])
        more = f" and {len(seen) - _MOST_SHOWN} more" if len(seen) > _MOST_SHOWN else ""
        return f"{name} is {shown}{more}{_type_note(condition, seen)}"

    def _similar(self, node: ast.Attribute | ast.Intrinsic) -> str:
        """Another scope or key under which spans have something like it."""
        if isinstance(node, ast.Intrinsic):
            return ""
        keys: dict[str, str] = {}
        for span in self.every_span:
            for scope in ("span", "resource", "event"):
                for mapping in held(span, scope):
                    for key in mapping:
                        keys.setdefault(key, scope)
        close = [node.key] if node.key in keys else difflib.get_close_matches(node.key, keys, 1)
        if not close or (close[0] == node.key and node.scope in ("", keys[close[0]])):
            return ""
        return f" (there is {keys[close[0]]}.{close[0]})"


def _conditions(expr: ast.FieldExpr) -> Iterator[ast.FieldExpr]:
    """The operands of the outermost chain of `&&`."""
    if isinstance(expr, ast.Binary) and expr.op == "&&":
        yield from _conditions(expr.left)
        yield from _conditions(expr.right)
    elif not (isinstance(expr, ast.Literal) and expr.value is True):
        yield expr


def _joined(conditions: Sequence[ast.FieldExpr]) -> ast.FieldExpr:
    if not conditions:
        return ast.Literal("bool", True)
    joined = conditions[0]
    for condition in conditions[1:]:
        joined = ast.Binary("&&", joined, condition)
    return joined


def _fields(expr: ast.FieldExpr) -> Iterator[ast.Attribute | ast.Intrinsic]:
    match expr:
        case ast.Attribute() | ast.Intrinsic():
            yield expr
        case ast.Unary():
            yield from _fields(expr.operand)
        case ast.Binary():
            yield from _fields(expr.left)
            yield from _fields(expr.right)


def _type_note(condition: ast.FieldExpr, seen: Sequence[Any]) -> str:
    if not isinstance(condition, ast.Binary):
        return ""
    literals = [n for n in (condition.left, condition.right) if isinstance(n, ast.Literal)]
    wanted = {"int": "id", "float": "id", "string": "s", "bool": "b"}
    for literal in literals:
        letters = wanted.get(literal.kind)
        kinds = {value_type(value) for value in seen}
        if letters and kinds and not kinds & set(letters) and all(k in _TYPES for k in kinds):
            stored = " or ".join(sorted(_TYPES[kind] for kind in kinds))
            return f", which is {stored}; `{_text(literal)}` is not"
    return ""


def _likeness(condition: ast.FieldExpr, value: Any) -> float:
    """How near a text is to the one that was asked for; 0 for other values."""
    for node in (condition.left, condition.right) if isinstance(condition, ast.Binary) else ():
        if isinstance(node, ast.Literal) and isinstance(node.value, str) and isinstance(value, str):
            return difflib.SequenceMatcher(None, node.value, value).ratio()
    return 0.0


def _text(node: Any) -> str:
    """Canonical text with plain quotes where it can have them: it stands between backticks."""
    return _BACKTICKS.sub(r'"\1"', to_text(node))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "…"


def _count(spans: Sequence[Span]) -> str:
    return "1 span" if len(spans) == 1 else f"{len(spans)} spans"


def _names(spans: Sequence[Span]) -> str:
    names = list(dict.fromkeys(repr(span.name) for span in spans))
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
