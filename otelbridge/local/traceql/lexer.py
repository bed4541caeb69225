"""TraceQL text as tokens for the grammar (grammar.lark), with the rules of Go's scanner.

Tempo's lexer sits on Go's text/scanner, and what that accepts or calls an error is visible in
answers: `1_000` is one token, `'bar'` an "invalid char literal". Attribute names have rules of
their own: nearly every character belongs to them. An error becomes an INVALID token, so that it
counts only where the parser gets to it. Linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lark import Token
from lark.lexer import Lexer

from otelbridge.local.traceql import ast

_WORDS: dict[str, tuple[str, Any]] = {
    "true": ("WORD", ast.Literal("bool", True)),
    "false": ("WORD", ast.Literal("bool", False)),
    "nil": ("WORD", ast.Literal("nil", None)),
    "minInt": ("WORD", ast.Literal("int", -(2**63))),
    "maxInt": ("WORD", ast.Literal("int", 2**63 - 1)),
    **{word: ("WORD", ast.Literal("status", word)) for word in ("ok", "error", "unset")},
    **{
        word: ("WORD", ast.Literal("kind", word))
        for word in ("unspecified", "internal", "server", "client", "producer", "consumer")
    },
    **{
        word: ("INTRINSIC", word)
        for word in (
            "parent", "rootServiceName", "traceDuration",
            "nestedSetLeft", "nestedSetRight", "nestedSetParent",
        )
    },
    "duration": ("DURATION_WORD", "duration"),
    "name": ("NAME", "name"),
    "kind": ("KIND", "kind"),
    "status": ("STATUS", "status"),
    "statusMessage": ("STATUS_MESSAGE", "statusMessage"),
    "rootName": ("ROOT_NAME", "rootName"),
    "rootService": ("ROOT_SERVICE", "rootService"),
    "id": ("ID", "id"),
    "parentID": ("PARENT_ID", "parentID"),
    "childCount": ("CHILD_COUNT", "childCount"),
    "timeSinceStart": ("TIME_SINCE_START", "timeSinceStart"),
    "traceID": ("TRACE_ID", "traceID"),
    "spanID": ("SPAN_ID", "spanID"),
    "version": ("VERSION", "version"),
    "count": ("COUNT", "count"),
    **{word: ("AGGREGATE", word) for word in ("min", "max", "sum", "avg")},
    "by": ("BY", "by"),
    "select": ("SELECT", "select"),
    "coalesce": ("COALESCE", "coalesce"),
    "with": ("WITH", "with"),
    **{word: ("RATE", word) for word in ("rate", "count_over_time")},
    **{
        f"{word}_over_time": ("OVER_TIME", f"{word}_over_time")
        for word in ("min", "max", "avg", "sum", "histogram")
    },
    "quantile_over_time": ("QUANTILE", "quantile_over_time"),
    "compare": ("COMPARE_FUNCTION", "compare"),
    "topk": ("TOP_BOTTOM", "topk"),
    "bottomk": ("TOP_BOTTOM", "bottomk"),
}  # fmt: skip
_COLONS = {
    "span": "SPAN_COLON", "trace": "TRACE_COLON", "event": "EVENT_COLON", "link": "LINK_COLON",
    "instrumentation": "INSTRUMENTATION_COLON",
}  # fmt: skip
_SCOPES = frozenset({"span", "resource", "event", "link", "instrumentation", "parent"})
_OPERATORS: dict[str, str] = {
    "{": "LBRACE", "}": "RBRACE", "(": "LPAR", ")": "RPAR", ",": "COMMA", "|": "PIPE",
    "&&": "LOGIC", "||": "LOGIC", "=": "EQ", "=~": "MATCH", "!~": "NOT_MATCH", "!": "NOT",
    "+": "ADD", "-": "SUB", "*": "FACTOR", "/": "FACTOR", "%": "FACTOR", "^": "FACTOR",
    "<": "ANGLE", ">": "ANGLE", "!=": "COMPARE", "<=": "COMPARE", ">=": "COMPARE",
    **dict.fromkeys(
        (">>", "<<", "~", "!>", "!>>", "!<", "!<<", "&>", "&>>", "&<", "&<<", "&~"), "STRUCTURAL"
    ),
}  # fmt: skip

_TOKEN = re.compile(
    r"""
      (?P<space> (?: [ \t\r\n]+ | //[^\n]* | /\*.*?\*/ )+ )
    | (?P<word> [^\W\d]\w* )
    | (?P<number> 0[xXbBoO][0-9a-fA-F_]*
                | (?: [0-9][0-9_]*\.?[0-9_]* | \.[0-9][0-9_]* ) (?: [eE][+-]?[0-9_]* )? )
    | (?P<string> "(?: [^"\\\n] | \\[^\n] )*" )
    | (?P<raw> `[^`]*` )
    | (?P<char> '(?: [^'\\\n] | \\[^\n] )*' )
    | (?P<dot> \. )
    | (?P<operator> [!&]>>|[!&]<<|[!&]>|[!&]<|[!&=]~|&&|\|\||!=|<=|>=|>>|<<|[{}(),|=!+\-*/%^<>~] )
    """,
    re.VERBOSE | re.DOTALL,
)
_UNREADABLE = re.compile("[\0\ud800-\udfff]")  # lone surrogates stand for bytes that are no UTF-8
_NAME_PART = re.compile(r'[^\s{}()=~!<>&|^,"]+|(?P<quoted>"(?:[^"\\]|\\.)*")', re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NOT_OCTAL = re.compile("[89]")  # a leading zero makes Go's scanner look for octal digits
_DURATION_TAIL = re.compile(r"[0-9.nuµμmshdwy]+")  # Go takes both signs for micro
_GO_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_PROMETHEUS_DURATION = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?"
)
_HOUR_NS = 3_600_000_000_000
_UNIT_NS = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000,
    "s": 1_000_000_000, "m": 60_000_000_000, "h": _HOUR_NS,
}  # fmt: skip
_LONG_UNITS_NS = (365 * 24 * _HOUR_NS, 7 * 24 * _HOUR_NS, 24 * _HOUR_NS, _HOUR_NS,
                  60_000_000_000, 1_000_000_000, 1_000_000)  # fmt: skip
_MAX_INT = 2**63 - 1


class _BadTokenError(Exception):
    """Text that is no token; becomes an INVALID token."""


class TraceQLLexer(Lexer):
    """The lexer that Lark is given; see `tokens`."""

    def __init__(self, lexer_conf: object) -> None:
        pass

    def lex(self, data: str) -> Iterator[Token]:  # type: ignore[override]
        """Tokens of a text; Lark gives custom lexers the bare text."""
        return tokens(data)


def tokens(text: str) -> Iterator[Token]:
    """Tokens of a query: text as written, `value` decoded, `start_pos` in characters.

    The last token of a text that cannot be read on is INVALID; its value is Tempo's message.
    """
    bad = _UNREADABLE.search(text)
    at, end = int(text.startswith("\ufeff")), bad.start() if bad else len(text)
    while at < end:
        found = _TOKEN.match(text, at)
        kind = found.lastgroup if found else None
        if kind == "space":
            at = found.end()  # type: ignore[union-attr]  # `kind` says that it matched
            continue
        try:
            token, next_at = _read(text, at, found, kind)
        except _BadTokenError as error:
            yield _token("INVALID", text[at : at + 1], str(error), at, end)
            return
        if next_at > end:
            break  # it reaches over an unreadable character
        yield token
        at = next_at
    if bad is not None:
        reason = "invalid character NUL" if bad.group() == "\0" else "invalid UTF-8 encoding"
        yield _token("INVALID", "", reason, bad.start(), bad.end())


def _read(text: str, at: int, found: re.Match[str] | None, kind: str | None) -> tuple[Token, int]:
    if found is None:
        return _other(text, at), at + 1
    piece, end = found.group(), found.end()
    if kind == "operator":
        name = _OPERATORS[piece]
        if piece == "/" and text.startswith("/*", at):
            raise _BadTokenError("comment not terminated")
        return _token(name, piece, piece, at, end), end
    if kind == "word":
        following = text[end : end + 1]
        if following == "." and piece in _SCOPES:
            return _attribute(text, at, piece, end + 1)
        if following == ":" and piece in _COLONS:
            return _token(_COLONS[piece], piece + ":", piece, at, end + 1), end + 1
        name, value = _WORDS.get(piece, ("IDENTIFIER", piece))
        return _token(name, piece, value, at, end), end
    if kind == "dot":
        return _attribute(text, at, "", end)
    if kind == "number":
        return _number(text, at, piece, end)
    if kind == "char":
        if len(piece) == 3 or (len(piece) == 4 and piece[1] == "\\"):
            return _token("IDENTIFIER", piece, piece, at, end), end
        raise _BadTokenError("invalid char literal")
    if kind == "raw":
        literal = ast.Literal("string", piece[1:-1].replace("\r", ""), at)
    else:
        literal = ast.Literal("string", _unquote(piece), at)
    return _token("STRING", piece, literal, at, end), end


def _token(name: str, piece: str, value: Any, at: int, end: int) -> Token:
    token = Token(name, piece, at, end_pos=end)
    token.value = value
    return token


def _other(text: str, at: int) -> Token:
    """A character that begins no token: an identifier to Tempo, or an error of the scanner."""
    rune = text[at]
    if rune in "\"`'":
        raise _BadTokenError("literal not terminated")
    return _token("IDENTIFIER", rune, rune, at, at + 1)


def _attribute(text: str, start: int, scope: str, at: int) -> tuple[Token, int]:
    """An attribute whose name begins at `at`; the token's text is its scope as written."""
    parent = scope == "parent"
    prefix = text[start:at]
    if parent:
        scope = ""
        for inner in ("span", "resource"):
            if text.startswith(inner + ".", at):
                scope, at = inner, at + len(inner) + 1
    parts = []
    while (found := _NAME_PART.match(text, at)) is not None:
        piece, at = found.group(), found.end()
        parts.append(_unquote_name(piece) if found.group("quoted") else piece)
    if text.startswith('"', at):
        raise _BadTokenError('unexpected EOF, expecting "')
    key = "".join(parts)
    if not parts:
        return _token("EMPTY_ATTRIBUTE", prefix, prefix, start, at), at
    node = ast.Attribute(scope, key, start, parent)  # type: ignore[arg-type]  # scope is one of _SCOPES
    return _token("ATTRIBUTE", prefix, node, start, at), at


def _unquote_name(quoted: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found.group()[1] not in '"\\':
            raise _BadTokenError(f"invalid escape sequence in attribute: {found.group()}")
        return found.group()[1]

    return re.sub(r"\\.", plain, quoted[1:-1], flags=re.DOTALL)


def _unquote(quoted: str) -> str:
    if "\\" not in quoted:
        return quoted[1:-1]
    # \x.. and octal escapes are bytes of UTF-8 in Go, so they are put together as bytes.
    out = bytearray()
    last = 1
    for found in _ESCAPE.finditer(quoted):
        out += quoted[last : found.start()].encode("utf-8", "surrogatepass")
        out += _escaped(found)
        last = found.end()
    out += quoted[last:-1].encode("utf-8", "surrogatepass")
    return out.decode("utf-8", "replace")


def _escaped(found: re.Match[str]) -> bytes:
    simple, hexadecimal, octal, short, long, other = found.groups()
    if other is not None:
        raise _BadTokenError("invalid char escape")
    if simple is not None:
        return _SIMPLE_ESCAPES.get(simple, simple).encode()
    if hexadecimal is not None or octal is not None:
        value = int(hexadecimal, 16) if hexadecimal is not None else int(octal, 8)
        if value > 255:
            raise _BadTokenError("invalid syntax")
        return bytes([value])
    value = int(short or long, 16)
    if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        raise _BadTokenError("invalid syntax")
    return chr(value).encode()


def _number(text: str, at: int, piece: str, end: int) -> tuple[Token, int]:
    tail = _DURATION_TAIL.match(text, end)
    if tail is not None:
        nanoseconds = parse_duration_ns(piece + tail.group())
        if nanoseconds is not None:
            literal = ast.Literal("duration", nanoseconds, at)
            return _token("DURATION", text[at : tail.end()], literal, at, tail.end()), tail.end()
    if piece[:2].lower() in ("0x", "0b", "0o"):
        raise _BadTokenError(f'strconv.Atoi: parsing "{piece}": invalid syntax')
    if not piece[-1].isdigit() and piece[-1] in "eE+-":
        raise _BadTokenError("exponent has no digits")
    if "." in piece or "e" in piece or "E" in piece:
        return _token("FLOAT", piece, ast.Literal("float", _float(piece), at), at, end), end
    if piece[0] == "0" and (wrong := _NOT_OCTAL.search(piece)):
        raise _BadTokenError(f"invalid digit '{wrong.group()}' in octal literal")
    if "_" in piece:
        raise _BadTokenError(f'strconv.Atoi: parsing "{piece}": invalid syntax')
    # Longer texts are out of range anyway, and int() refuses very long ones.
    if len(piece.lstrip("0")) > 19 or int(piece) > _MAX_INT:
        raise _BadTokenError(f'strconv.Atoi: parsing "{piece}": value out of range')
    return _token("INTEGER", piece, ast.Literal("int", int(piece), at), at, end), end


def _float(piece: str) -> float:
    if "_" in piece:
        raise _BadTokenError(f'strconv.ParseFloat: parsing "{piece}": invalid syntax')
    value = float(piece)
    if value == float("inf"):
        raise _BadTokenError(f'strconv.ParseFloat: parsing "{piece}": value out of range')
    return value


def parse_duration_ns(text: str) -> int | None:
    """Nanoseconds of `1m30s`, `0.5m`, `1d12h`, ...; None for what is no duration.

    Fractions and any order of units as Go's time.ParseDuration takes them; `d`, `w` and `y` only
    in whole numbers and falling order, as Prometheus takes them.
    """
    total, at = 0, 0
    while (found := _GO_DURATION.match(text, at)) is not None:
        whole, fraction, unit = found.groups()
        if (not whole and not fraction) or len(whole) > 19:
            return None
        scale = _UNIT_NS[unit]
        total += int(whole or 0) * scale
        if fraction:
            fraction = fraction[:18]  # finer than a nanosecond of any unit
            total += int(fraction) * scale // 10 ** len(fraction)
        at = found.end()
    if at < len(text) or not text:
        found = _PROMETHEUS_DURATION.fullmatch(text)
        if found is None or not text or len(text) > 128:
            return None
        amounts = zip(found.groups(), _LONG_UNITS_NS, strict=True)
        total = sum(int(amount) * unit_ns for amount, unit_ns in amounts if amount)
    return total if total <= _MAX_INT else None
