"""TraceQL text as a tree (ast.py): `parse`.

Lark runs the grammar (grammar.lark, LALR) over our own tokens (lexer.py), builder.py makes nodes
as rules are reduced, syntax_message.py words refusals as Tempo's generated parser does. Lark is
loaded and the grammar compiled at the first query. Linear time; no recursion on the way.
"""

from __future__ import annotations

import dataclasses
import functools
from importlib import resources
from typing import TYPE_CHECKING, Any

from otelbridge.local.traceql import ast
from otelbridge.local.traceql.errors import TraceQLError, TraceQLTooLargeError

if TYPE_CHECKING:
    from lark import Lark

#: Longest query in bytes of UTF-8: Tempo's default `max_query_expression_size_bytes`.
MAX_QUERY_BYTES = 128 * 1024
#: Deepest tree; a chain of n operators of one level is n deep. Later stages walk it recursively.
MAX_TREE_DEPTH = 256


def parse(text: str) -> ast.Query:
    """The tree of a TraceQL query.

    Raises:
        TraceQLSyntaxError: the text is no TraceQL; worded as Tempo 3.0 words it.
        TraceQLTooLargeError: longer than MAX_QUERY_BYTES or deeper than MAX_TREE_DEPTH.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_QUERY_BYTES:
        raise TraceQLTooLargeError(
            f"TraceQL query is {size} bytes long, at most {MAX_QUERY_BYTES} are allowed",
            hint='a regular expression (=~ "a|b|c") replaces a long list of alternatives',
        )
    from lark import UnexpectedToken
    from lark.exceptions import VisitError

    try:
        draft: Any = _parser().parse(text)  # a builder.Draft
    except UnexpectedToken as error:
        from otelbridge.local.traceql.syntax_message import syntax_error

        raise syntax_error(error, text) from None
    except VisitError as error:
        if isinstance(error.orig_exc, TraceQLError):
            raise error.orig_exc.at(text) from None
        raise
    except TraceQLError as error:
        raise error.at(text) from None
    query: ast.Query = draft.query(text)
    _check_depth(query, text)
    return query


@functools.cache
def _parser() -> Lark:
    from lark import Lark

    from otelbridge.local.traceql.builder import TreeBuilder
    from otelbridge.local.traceql.lexer import TraceQLLexer

    here = resources.files("otelbridge.local.traceql")
    grammar = here.joinpath("grammar.lark").read_text("utf-8")
    return Lark(
        grammar, start="query", parser="lalr", lexer=TraceQLLexer, transformer=TreeBuilder(),
        maybe_placeholders=False,
    )  # fmt: skip


def _check_depth(query: ast.Query, text: str) -> None:
    """Refuse a tree that later stages could not walk; an explicit stack, so any depth is fine."""
    if len(text) < MAX_TREE_DEPTH:
        return  # a level takes at least one character
    stack: list[tuple[Any, int]] = [(query, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_TREE_DEPTH:
            raise TraceQLTooLargeError(
                f"TraceQL query is nested more than {MAX_TREE_DEPTH} levels deep",
                query=text, position=node.pos,
                hint='a regular expression (=~ "a|b|c") replaces a long chain of alternatives',
            )  # fmt: skip
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            children = value if isinstance(value, tuple) else (value,)
            stack += ((c, depth + 1) for c in children if dataclasses.is_dataclass(c))
