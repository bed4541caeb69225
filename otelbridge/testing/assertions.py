"""The questions and assertions that `traces` and `live_traces` share.

Subclasses answer `ask` (the spans of a query) and `spans`; here a query is checked and linted, and
a failed assertion says the query, what nearly matched and the tree. Neighbours: `near_misses`,
`trees`, `checks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from otelbridge import semconv
from otelbridge.local.traceql import ast, lint, parser, validate
from otelbridge.local.traceql.errors import TraceQLError
from otelbridge.testing import checks, trees
from otelbridge.testing.near_misses import near_misses
from otelbridge.testing.spans import Span, number, stored_types

#: None: what the service wrote, message content included; else what one of the two stores gets.
View: TypeAlias = Literal["tempo", "langfuse"] | None


class TraceAssertionError(AssertionError):
    """A failed assertion about traces; its text has the tree."""


class QueryRefusedError(TraceAssertionError):
    """A query that is no TraceQL, or that would surprise its author; its text says where."""


class TraceQLWarning(UserWarning):
    """A lint of a query that was asked, but not asserted."""


class Tokens(NamedTuple):
    """Sums of token counts."""

    input: int
    output: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.input + self.output


class Assertions:
    """Queries and assertions over some spans. Queries are TraceQL; a filter `{ }` is every span.

    `allow` names lints that are accepted (`allow=("typed_literal",)`); `view` asks what Tempo or
    Langfuse would get instead of what the service wrote.
    """

    def spans(self, view: View = None) -> list[Span]:
        """Every span, by start time."""
        raise NotImplementedError

    def ask(self, text: str, view: View = None) -> list[Span]:
        """The spans of a query, unchecked and without waiting."""
        raise NotImplementedError

    def open_spans(self) -> list[Span]:
        """Spans that have not ended, where that can be known."""
        return []

    def _until(self, ask: Callable[[], list[Span]], done: Callable[[list[Span]], bool]) -> Any:
        """The answer of `ask`; subclasses may ask again until it is `done`."""
        return ask()

    # -- questions ---------------------------------------------------------------------------------

    def query(
        self, text: str = "{ }", *, view: View = None, allow: Collection[str] = ()
    ) -> list[Span]:
        """The spans that a query matches, by start time; a lint becomes a `TraceQLWarning`."""
        __tracebackhide__ = True
        for found in self._lints(self._parsed(text), view, allow):
            warnings.warn(_lint_text(found), TraceQLWarning, stacklevel=2)
        return self._until(lambda: self.ask(text, view), bool)  # type: ignore[no-any-return]  # as `ask`

    def cost_usd(self, text: str = "{ }", *, allow: Collection[str] = ()) -> float:
        """Sum of `gen_ai.usage.cost` over the spans of a query, in USD.

        Fails on a cost that is no number or negative.
        """
        __tracebackhide__ = True
        return self._sum(self._checked(text, allow), semconv.GEN_AI_USAGE_COST)

    def tokens(self, text: str = "{ }", *, allow: Collection[str] = ()) -> Tokens:
        """Sums of the input and output tokens over the spans of a query.

        Fails on a count that is no whole number or negative.
        """
        __tracebackhide__ = True
        found = self._checked(text, allow)
        return Tokens(
            int(self._sum(found, semconv.GEN_AI_USAGE_INPUT_TOKENS, whole=True)),
            int(self._sum(found, semconv.GEN_AI_USAGE_OUTPUT_TOKENS, whole=True)),
        )

    def tree(self, view: View = None) -> str:
        """The traces as text."""
        return self._tree(view, ())

    # -- assertions --------------------------------------------------------------------------------

    def assert_one(self, text: str, *, view: View = None, allow: Collection[str] = ()) -> Span:
        """The one span that a query matches; fails unless it is exactly one."""
        __tracebackhide__ = True
        return self.assert_count(text, 1, view=view, allow=allow)[0]

    def assert_none(self, text: str, *, view: View = None, allow: Collection[str] = ()) -> None:
        """Fails if the query matches a span."""
        __tracebackhide__ = True
        self.assert_count(text, 0, view=view, allow=allow)

    def assert_count(
        self, text: str, count: int, *, view: View = None, allow: Collection[str] = ()
    ) -> list[Span]:
        """The spans that a query matches; fails unless there are exactly `count`."""
        __tracebackhide__ = True
        wanted = f"exactly {count}" if count else "no"
        return self._held(text, view, allow, wanted, lambda found: len(found) == count)

    def assert_some(
        self, text: str, *, view: View = None, allow: Collection[str] = ()
    ) -> list[Span]:
        """The spans that a query matches; fails if there is none."""
        __tracebackhide__ = True
        return self._held(text, view, allow, "at least 1", bool)

    def assert_every(
        self, text: str, having: str, *, view: View = None, allow: Collection[str] = ()
    ) -> list[Span]:
        """The spans that a query matches; fails if there is none, or one that `having` lacks."""
        __tracebackhide__ = True
        found = self.assert_some(text, view=view, allow=allow)
        wanted = self._checked_query(having, view, allow)
        keys = {span.key for span in self.ask(having, view)}
        missed = [span for span in found if span.key not in keys]
        if missed:
            lines = [f"{len(missed)} of {len(found)} spans of {text} are not in {having}"]
            lines += [f"  {span.name!r}: {self._lacks(span, wanted, view)}" for span in missed[:5]]
            self._fail("\n".join(lines), view, missed, "fails")
        return found

    def assert_tree(self, pattern: str, *, view: View = None, allow: Collection[str] = ()) -> None:
        """Fails unless the traces have exactly this shape; see `trees` for patterns."""
        __tracebackhide__ = True
        wanted = trees.read_pattern(pattern)

        def matching(text: str) -> set[trees.Key]:
            self._checked_query(text, view, allow)
            return {span.key for span in self.ask(text, view)}

        found = trees.mismatches(wanted, self.spans(view), matching)
        if found:
            marked = [key for _, keys in found for key in keys]
            self._fail(_sentences("the tree differs:", found), view, marked, "here")

    def assert_no_content_outside_view(self) -> None:
        """Fails if message text stands on a span outside of the LLM view, or would reach Tempo.

        A piece of text under 12 characters is not looked for.
        """
        __tracebackhide__ = True
        self._no_faults(
            "message text outside of the LLM view:",
            checks.content_outside_view(self.spans(), self.spans("tempo")),
        )

    def assert_no_orphans(self, *, view: View | Literal["both"] = "both") -> None:
        """Fails if the parent of a span is missing, among all spans (None) or in a view.

        "both" looks at all spans, then at the Langfuse view.
        """
        __tracebackhide__ = True
        asked: tuple[View, ...] = (None, "langfuse") if view == "both" else (view,)
        for each in asked:
            faults = checks.orphans(self.spans(each), self.spans())
            self._no_faults(f"orphans in the {each} view:" if each else "orphans:", faults, each)

    def assert_no_secrets(self, *, allow: Collection[str] = ()) -> None:
        """Fails if a text of a span has what otelbridge masks: keys, tokens, passwords, addresses.

        `allow` names kinds (`allow=("email",)`).
        """
        __tracebackhide__ = True
        self._no_faults("secrets:", checks.secrets(self.spans(), _as_tuple(allow)))

    def assert_all_ended(self) -> None:
        """Fails if a span was started and has not ended; such a span is never exported."""
        __tracebackhide__ = True
        faults = [(f"{span.name!r} was not ended", span.key) for span in self.open_spans()]
        self._no_faults("open spans:", faults)

    # -- plumbing ----------------------------------------------------------------------------------

    def _held(
        self, text: str, view: View, allow: Collection[str], wanted: str,
        holds: Callable[[list[Span]], bool],
    ) -> list[Span]:  # fmt: skip
        __tracebackhide__ = True
        query = self._checked_query(text, view, allow)
        found: list[Span] = self._until(lambda: self.ask(text, view), holds)
        if not holds(found):
            noun = "span" if wanted.endswith(" 1") else "spans"
            lines = [f"{wanted} {noun} expected, {len(found)} found", f"  query: {text}"]
            if not found:
                near = near_misses(query, lambda piece: self.ask(piece, view))
                lines += ["near misses:", *(f"  {line}" for line in near)] if near else []
            self._fail("\n".join(lines), view, found, "match")
        return found

    def _lacks(self, span: Span, wanted: ast.Query, view: View) -> str:
        """Which part of a query a span does not satisfy."""

        def only_this(piece: str) -> list[Span]:
            return [each for each in self.ask(piece, view) if each.key == span.key]

        elements = wanted.pipeline.elements
        if len(elements) == 1 and isinstance(elements[0], ast.SpansetFilter):
            return "; ".join(near_misses(wanted, only_this)) or "does not match"
        return "does not match"

    def _no_faults(self, title: str, faults: Sequence[checks.Fault], view: View = None) -> None:
        __tracebackhide__ = True
        if faults:
            found = [(text, {key}) for text, key in faults]
            self._fail(_sentences(title, found), view, [key for _, key in faults], "here")

    def _sum(self, found: list[Span], key: str, *, whole: bool = False) -> float:
        __tracebackhide__ = True
        total = 0.0
        for span in found:
            value = number(span, key)
            fits = value is not None and value >= 0 and not (whole and isinstance(value, float))
            if key in span.attributes and not fits:  # NaN does not fit either
                kind = "whole number" if whole else "number"
                text = f"{key} of {span.name!r} is {span[key]!r}, not a {kind} of 0 or more"
                self._fail(text, None, [span], "here")
            total += value or 0
        return total

    def _checked(self, text: str, allow: Collection[str]) -> list[Span]:
        __tracebackhide__ = True
        self._checked_query(text, None, allow)
        found: list[Span] = self._until(lambda: self.ask(text), bool)
        return found

    def _checked_query(self, text: str, view: View, allow: Collection[str]) -> ast.Query:
        """The tree of a query; fails on what is no TraceQL and on lints that are not allowed."""
        __tracebackhide__ = True
        query = self._parsed(text)
        found = self._lints(query, view, allow)
        if found:
            codes = ", ".join(repr(code) for code in dict.fromkeys(each.code for each in found))
            texts = "\n".join(f"  {_lint_text(each)}" for each in found)
            raise QueryRefusedError(
                f"this query would surprise its author:\n  query: {text}\n{texts}\n"
                f"accept it with allow=({codes},)"
            )
        return query

    def _parsed(self, text: str) -> ast.Query:
        __tracebackhide__ = True
        try:
            query = parser.parse(text)
            validate.validate(query, metrics=False)
        except TraceQLError as error:
            raise QueryRefusedError(error.at(text).render()) from None
        return query

    def _lints(self, query: ast.Query, view: View, allow: Collection[str]) -> list[lint.Lint]:
        allowed = _as_tuple(allow)
        return [
            found
            for found in lint.lint(query, endpoint="search", stored=self._types(view))
            if found.level == "warning" and found.code not in allowed
        ]

    def _types(self, view: View) -> dict[tuple[str, str], set[str]] | None:
        return stored_types(self.spans(view))

    def _tree(self, view: View, marked: Collection[trees.Key], mark: str = "match") -> str:
        still_open = self.open_spans() if view is None else []
        return trees.render(
            [*self.spans(view), *still_open], marked=marked, mark=mark,
            open_spans={span.key for span in still_open},
        )  # fmt: skip

    def _fail(
        self, text: str, view: View, marked: Sequence[Span] | Sequence[trees.Key], mark: str
    ) -> None:
        __tracebackhide__ = True
        keys = [each.key if isinstance(each, Span) else each for each in marked]
        title = f"{view} view" if view else "captured"
        raise TraceAssertionError(f"{text}\n{title}:\n{self._tree(view, keys, mark)}")


def _as_tuple(allow: Collection[str]) -> tuple[str, ...]:
    return (allow,) if isinstance(allow, str) else tuple(allow)


def _lint_text(found: lint.Lint) -> str:
    instead = f" Instead: {found.instead}" if found.instead else ""
    return f"{found.code} at column {found.pos + 1}: {found.message}{instead}"


def _sentences(title: str, found: Sequence[tuple[str, Collection[trees.Key]]]) -> str:
    texts = list(dict.fromkeys(text for text, _ in found))
    return "\n".join([title, *(f"  {text}" for text in texts)])
