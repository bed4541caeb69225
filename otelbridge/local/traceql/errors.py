"""Refusals of a TraceQL query, of three kinds that are never mixed.

`parser` raises syntax errors, `validate` type errors and "not supported here". Each carries the
message as Tempo words it, the position (line and column count from 1, in characters), the
offending piece of the text and a hint of what to write instead. The HTTP layer takes its texts
from `search_text` and `metrics_text`, a terminal takes `render()`.
"""

from __future__ import annotations

from otelbridge.errors import QueryError

_SHOWN_WIDTH = 96  # a longer line of the query is cut around the caret


class TraceQLError(QueryError):
    """A TraceQL query is refused.

    Attributes:
        message: the reason as Tempo words it, without a prefix.
        position: offset of the offending piece in the query, in characters.
        line, column: the same, counted from 1.
        piece: the offending text; empty at the end of the query.
        hint: what to write instead; may be empty.
        query: the whole text; empty until a caller that knows it sets it.
    """

    def __init__(
        self, message: str, *, query: str = "", position: int = 0, piece: str = "", hint: str = ""
    ) -> None:
        self.message = message
        self.query = query
        self.position = position
        self.piece = piece
        self.hint = hint
        super().__init__(message)

    @property
    def line(self) -> int:
        """Line of the offending piece, from 1."""
        return self.query.count("\n", 0, self.position) + 1

    @property
    def column(self) -> int:
        """Column of the offending piece, from 1, in characters."""
        return self.position - self.query.rfind("\n", 0, self.position)

    @property
    def tempo_message(self) -> str:
        """The message with the position where Tempo gives one."""
        return self.message

    @property
    def search_text(self) -> str:
        """Body of the 400 answer of the search endpoints."""
        return f"invalid TraceQL query: {self.tempo_message}"

    @property
    def metrics_text(self) -> str:
        """Body of the 400 answer of the metrics endpoints."""
        return f"compiling query: {self.tempo_message}"

    def at(self, query: str) -> TraceQLError:
        """This error, knowing the text that its position belongs to."""
        self.query = query
        return self

    def render(self) -> str:
        """The message, the line of the query with a caret under the piece, and the hint."""
        lines = [self.tempo_message]
        if self.query:
            lines += self._excerpt()
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def _excerpt(self) -> list[str]:
        start = self.position - self.column + 1
        end = self.query.find("\n", start)
        text = self.query[start : end if end >= 0 else len(self.query)]
        offset = self.column - 1
        before = after = ""
        if len(text) > _SHOWN_WIDTH:
            first = max(0, min(offset - _SHOWN_WIDTH // 2, len(text) - _SHOWN_WIDTH))
            before = "..." if first else ""
            after = "..." if first + _SHOWN_WIDTH < len(text) else ""
            text, offset = text[first : first + _SHOWN_WIDTH], offset - first
        # Control characters would move the caret or the terminal, surrogates cannot be printed.
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
        carets = "^" * max(1, min(len(self.piece.split("\n", 1)[0]), len(text) - offset))
        return [f"  {before}{shown}{after}", "  " + " " * (len(before) + offset) + carets]


class TraceQLSyntaxError(TraceQLError):
    """The text is not TraceQL."""

    @property
    def tempo_message(self) -> str:
        """The message after `parse error at line L, col C: `."""
        return f"parse error at line {self.line}, col {self.column}: {self.message}"

    @property
    def metrics_text(self) -> str:
        """Body of the 400 answer of the metrics endpoints: no prefix for what does not parse."""
        return self.tempo_message


class TraceQLTypeError(TraceQLError):
    """The query parses, but its parts do not fit together."""


class TraceQLUnsupportedError(TraceQLError):
    """The query is well formed, but neither Tempo nor otelbridge supports what it asks for."""


class NotAMetricsQueryError(TraceQLTypeError):
    """A search query where a metrics query is needed; Tempo gives this text without a prefix."""

    @property
    def metrics_text(self) -> str:
        """Body of the 400 answer of the metrics endpoints."""
        return self.tempo_message


class TraceQLTooLargeError(TraceQLSyntaxError):
    """The query is longer or nested deeper than is accepted."""

    @property
    def tempo_message(self) -> str:
        """The message alone: it is about the whole text."""
        return self.message
