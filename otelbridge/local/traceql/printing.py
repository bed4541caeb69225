"""Canonical text of a tree, as Tempo prints it in answers and messages: `to_text`.

Every nested operation stands in parentheses (`by(1 + (span.item.index % 3))`), strings in
backticks, durations as Go prints them. The text parses to the same tree again; where Tempo's own
form would not (a float without a point, a string with a backtick) ours differs.
"""

from __future__ import annotations

import re
from typing import Any

from otelbridge.local.traceql import ast

_NEEDS_QUOTES = re.compile(r'[\s{}()=~!<>&|^,"\0]')
_NEEDS_ESCAPES = re.compile(r'["\\\x00-\x1f\x7f]')
_SECOND_NS = 1_000_000_000
_TIGHT = ("*", "/", "%", "^")


def to_text(node: Any) -> str:
    """Text of any node of the tree; of an `ast.Query` a whole query."""
    match node:
        case ast.Literal():
            return _literal(node)
        case ast.Attribute():
            return _attribute(node)
        case ast.Intrinsic():
            return node.name
        case ast.Unary():
            return node.op + _wrapped(to_text(node.operand), node.operand)
        case ast.Binary() | ast.ScalarOperation() | ast.SpansetOperation() | ast.ScalarFilter():
            left = _wrapped(to_text(node.left), node.left, before=node.op)
            return f"{left} {node.op} {_wrapped(to_text(node.right), node.right)}"
        case ast.SpansetFilter():
            return f"{{ {to_text(node.expr)} }}"
        case ast.Pipeline():
            parts = (f"({to_text(e)})" if isinstance(e, ast.Pipeline) else to_text(e)
                     for e in node.elements)  # fmt: skip
            return " | ".join(parts)
        case ast.ScalarPipeline():
            return f"({to_text(node.pipeline)} | {to_text(node.scalar)})"
        case ast.Query():
            return _query(node)
        case _:
            return _stage(node)


#: The name under which the stages that make answers use it.
canonical = to_text


def _wrapped(text: str, node: Any, before: str = "") -> str:
    """Text of an operand, in parentheses if it is itself composed."""
    if isinstance(
        node, ast.Binary | ast.Unary | ast.ScalarOperation | ast.SpansetOperation | ast.Pipeline
    ):
        return f"({text})"
    if before in _TIGHT and text.startswith("-") and isinstance(node, ast.Literal):
        return f"({text})"  # a leading minus binds less than these operators
    return text


def _stage(node: Any) -> str:
    match node:
        case ast.Aggregate():
            argument = "" if node.argument is None else to_text(node.argument)
            return f"{node.function}({argument})"
        case ast.GroupBy():
            return f"by({to_text(node.expr)})"
        case ast.Select():
            return f"select({_list(node.attributes)})"
        case ast.Coalesce():
            return "coalesce()"
        case ast.Metrics():
            return _metrics(node)
        case ast.TopBottom():
            return f"{node.function}({node.limit})"
        case ast.MetricsFilter():
            return f"{node.op} {to_text(node.value)}"
        case _:
            raise TypeError(f"not a node of the tree: {type(node).__name__}")


def _list(nodes: tuple[Any, ...]) -> str:
    return ", ".join(map(to_text, nodes))


def _query(query: ast.Query) -> str:
    parts = [to_text(query.pipeline)]
    if query.metrics is not None:
        parts += (" | ", _metrics(query.metrics))
    for stage in query.stages:
        parts += (" | " if isinstance(stage, ast.TopBottom) else " ", _stage(stage))
    if query.hints:
        hints = ", ".join(f"{name}={to_text(value)}" for name, value in query.hints)
        parts.append(f" with ({hints})")
    return "".join(parts)


def _metrics(node: ast.Metrics) -> str:
    arguments = [] if node.argument is None else [to_text(node.argument)]
    arguments += [go_float(quantile) for quantile in node.quantiles]
    if node.selection is not None:
        arguments += [to_text(node.selection), str(node.top)]
        arguments += map(str, node.window or ())
    by = f" by ({_list(node.by)})" if node.by else ""
    return f"{node.function}({', '.join(arguments)}){by}"


def _attribute(node: ast.Attribute) -> str:
    key = node.key
    ambiguous = (not node.scope and key[:1].isdigit()) or (
        node.parent and not node.scope and key.startswith(("span.", "resource."))
    )
    if not key or ambiguous or _NEEDS_QUOTES.search(key):
        key = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    scope = f"{node.scope}." if node.scope else ""
    if node.parent:
        return f"parent.{scope}{key}"
    return f"{scope or '.'}{key}"


def _literal(node: ast.Literal) -> str:
    value = node.value
    match node.kind:
        case "string":
            return _string(value)
        case "int":
            return "minInt" if value == -(2**63) else str(value)
        case "float":
            text = go_float(value)
            return text if "." in text or "e" in text else text + ".0"
        case "bool":
            return "true" if value else "false"
        case "duration":
            return go_duration(value)
        case "nil":
            return "nil"
        case _:
            return str(value)


def _string(value: str) -> str:
    if "`" not in value and "\r" not in value and "\0" not in value:
        return f"`{value}`"
    escaped = _NEEDS_ESCAPES.sub(
        lambda found: "\\" + c if (c := found.group()) in '"\\' else f"\\x{ord(c):02x}", value
    )
    return f'"{escaped}"'


def go_float(value: float) -> str:
    """A float as Go's FormatFloat(value, 'g', -1, 64) gives it: `0.5`, `5`, `1e+06`, `1e-05`."""
    sign, text = ("-", repr(-value)) if value < 0 or repr(value) == "-0.0" else ("", repr(value))
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0") or "0"
    if digits == "0":
        return sign + "0"
    zeros = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    power = len(whole) - zeros - 1 + int(exponent or 0)
    digits = digits.rstrip("0")
    if power < -4 or power >= 6:  # where Go's shortest form switches to an exponent
        point = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{point}e{power:+03d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    head, tail = digits[: power + 1].ljust(power + 1, "0"), digits[power + 1 :]
    return f"{sign}{head}.{tail}" if tail else sign + head


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1.215s`, `1m59s`, `1h0m0s`, `150ms`, `0s`."""
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left == 0:
        return "0s"
    if left < _SECOND_NS:
        for unit, scale in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
            if left < scale * 1000:
                return f"{sign}{_decimal(left, scale)}{unit}"
    hours, left = divmod(left, 3600 * _SECOND_NS)
    minutes, left = divmod(left, 60 * _SECOND_NS)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if minutes or hours else ""
    return f"{sign}{text}{_decimal(left, _SECOND_NS)}s"


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).zfill(len(str(scale)) - 1).rstrip('0')}"
