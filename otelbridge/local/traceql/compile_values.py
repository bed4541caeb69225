"""Typed values as SQL: constants, comparisons, arithmetic and the logic of two values.

A value is a mapping from type to SQL expression of which at most one is not NULL; a comparison
becomes the alternatives of the pairs of types that can be compared. Functions from text to text: no
tables, no tree beyond literals. Neighbours: `compile_fields` makes the values, `compile_spansets`
uses both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from otelbridge.local.traceql import ast

#: SQL by type: a letter of `columns.ValueType`, or "dur", "status", "kind". At most one is not
#: NULL.
Typed: TypeAlias = Mapping[str, str]

STATUS: Final = ("unset", "ok", "error")
KIND: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
#: `(?<name` that is not escaped: an even number of backslashes stands before it.
_NAMED_GROUP: Final = re.compile(r"(?<!\\)((?:\\\\)*)\(\?<(?=[A-Za-z_])")
NUMERIC: Final = ("i", "d", "dur")
ARITHMETIC: Final = frozenset("+-*/%^")
_ARRAYS: Final = ("ss", "ii", "dd", "bb")
LITERAL_TYPES: Final = {
    "int": "i", "float": "d", "string": "s", "bool": "b", "duration": "dur",
    "status": "status", "kind": "kind",
}  # fmt: skip


def quote(text: str) -> str:
    """A text as an SQL literal; nothing of it is read as SQL."""
    # A NUL would end the statement for the database's parser.
    parts = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"


def re2_pattern(text: str) -> str:
    """A Go pattern for the database's RE2, which does not know `(?<name>...)` without the P."""
    return _NAMED_GROUP.sub(r"\1(?P<", text)


def literal(node: ast.Literal) -> str:
    """A constant of the query as SQL of its own type."""
    if node.kind == "string":
        return quote(str(node.value))
    if node.kind == "bool":
        return "true" if node.value else "false"
    if node.kind == "status":
        return f"{STATUS.index(node.value)}::TINYINT"
    if node.kind == "kind":
        return f"{KIND.index(node.value)}::TINYINT"
    if node.kind == "float":
        return f"'{float(node.value)!r}'::DOUBLE"
    return f"({int(node.value)})::BIGINT"


def compare(op: str, left: Typed, right: Typed) -> str:
    """A comparison as the alternatives of the pairs of types that can be compared."""
    found = []
    for a, x in left.items():
        for b, y in right.items():
            if a in _ARRAYS and b in _ARRAYS:
                continue
            if a in _ARRAYS:
                found.append(
                    _any_element(x, a[0], op, y, b, lambda e, o, k, p: _pair(o, e, p[0], k, p[1]))
                )
            elif b in _ARRAYS:
                found.append(
                    _any_element(y, b[0], op, x, a, lambda e, o, k, p: _pair(o, k, p[1], e, p[0]))
                )
            else:
                found.append(_pair(op, x, a, y, b))
    return either(found)


def _any_element(
    array: str, kind: str, op: str, other: str, other_kind: str, pair: Callable[..., str]
) -> str:
    if op == "=" and kind == other_kind:
        return f"({array} IS NOT NULL AND list_contains({array}, {other}))"
    test = pair("x", op, other, (kind, other_kind))
    if test == "false":
        return "false"
    return f"({array} IS NOT NULL AND len(list_filter({array}, lambda x: {test})) > 0)"


def _pair(op: str, x: str, a: str, y: str, b: str) -> str:
    """`x op y` for two SQL expressions of known types; "false" when they cannot be compared."""
    if a in NUMERIC and b in NUMERIC:
        if op in ("=~", "!~"):
            return "false"
        if "d" not in (a, b):
            return f"{x} {sql_operator(op)} {y}"
        return _double_pair(op, x, a, y, b)
    if a != b:
        return "false"
    if op in ("=~", "!~"):
        if a != "s":
            return "false"
        return f"{'' if op == '=~' else 'NOT '}regexp_full_match({x}, {y})"
    if a == "s" or op in ("=", "!="):
        return f"{x} {sql_operator(op)} {y}"
    return "false"


def _double_pair(op: str, x: str, a: str, y: str, b: str) -> str:
    # The database takes NaN as equal to itself and above all else; IEEE does not.
    may_x = a == "d" and "::DOUBLE" not in x
    may_y = b == "d" and "::DOUBLE" not in y
    test = f"{_double(x, a)} {sql_operator(op)} {_double(y, b)}"
    if op == "!=":
        return f"({test} OR isnan({x}))" if may_x and may_y else test
    if op in (">", ">=", "=") and may_x and (op != "=" or may_y):
        test += f" AND NOT isnan({x})"
    if op in ("<", "<=") and may_y:
        test += f" AND NOT isnan({y})"
    return f"({test})"


def _double(sql: str, kind: str) -> str:
    return sql if kind == "d" else f"({sql})::DOUBLE"


def sql_operator(op: str) -> str:
    """A comparison operator of TraceQL as SQL writes it."""
    return "<>" if op == "!=" else op


def bigint(sql: str) -> str:
    """A wider number as BIGINT, NULL when it does not fit."""
    return f"TRY_CAST({sql} AS BIGINT)"


def arithmetic(op: str, left: Typed, right: Typed) -> Typed:
    """Arithmetic for each pair of numeric types: double wins over duration over integer.

    NULL on overflow, on division by zero and when a side has no number.
    """
    found: dict[str, list[str]] = {}
    for a, x in left.items():
        for b, y in right.items():
            if a not in NUMERIC or b not in NUMERIC:
                continue
            if "d" in (a, b):
                kind, sql = "d", _double_arithmetic(op, _double(x, a), _double(y, b))
            else:
                kind = "dur" if "dur" in (a, b) else "i"
                sql = _integer_arithmetic(op, x, y)
            found.setdefault(kind, []).append(sql)
    return {
        kind: parts[0] if len(parts) == 1 else f"coalesce({', '.join(parts)})"
        for kind, parts in found.items()
    }


def _integer_arithmetic(op: str, x: str, y: str) -> str:
    if op == "^":
        return bigint(f"trunc(pow(({x})::DOUBLE, ({y})::DOUBLE))")
    x, y = f"({x})::HUGEINT", f"({y})::HUGEINT"
    if op in ("/", "%"):
        y = f"nullif({y}, 0)"
    return bigint(f"({x} {'//' if op == '/' else op} {y})")


def _double_arithmetic(op: str, x: str, y: str) -> str:
    if op in ("/", "%"):
        y = f"nullif({y}, 0)"
    sql = f"pow({x}, {y})" if op == "^" else f"({x} {op} {y})"
    return f"(CASE WHEN isfinite({sql}) THEN {sql} END)"


def first_present(*typed: Typed) -> Typed:
    """The value of the first of several places that has one."""
    result = dict(typed[-1])
    for earlier in reversed(typed[:-1]):
        if not earlier:
            continue
        gone = absent(earlier)
        result = {
            kind: _choose(earlier.get(kind), gone, result.get(kind))
            for kind in {**earlier, **result}
        }
    return result


def _choose(own: str | None, absent: str, later: str | None) -> str:
    if later is None:
        return own or "NULL"
    return f"(CASE WHEN {absent} THEN {later}{f' ELSE {own}' if own else ''} END)"


def pushed_test(value: Typed, test: ast.Binary) -> str:
    """A predicate as Tempo's storage applies it: to values stored with the literal's type only.

    The operator is applied to the field from the left, on whichever side the literal stands.
    """
    constant = test.right if isinstance(test.right, ast.Literal) else test.left
    if not isinstance(constant, ast.Literal):
        raise TypeError("only comparisons with a literal are pushed down")
    kind = LITERAL_TYPES[constant.kind]
    typed = value if "dur" in value else {k: v for k, v in value.items() if k in (kind, kind * 2)}
    return compare(test.op, typed, {kind: literal(constant)})


def absent(value: Typed) -> str:
    """The condition that a value is not there."""
    if not value:
        return "true"
    return "(" + " AND ".join(f"{sql} IS NULL" for sql in value.values()) + ")"


def present(value: Typed) -> str:
    """The condition that a value is there."""
    return negated(absent(value))


def both(left: str, right: str) -> str:
    """Two conditions joined by AND, constants folded."""
    if "false" in (left, right):
        return "false"
    if left == "true":
        return right
    return left if right == "true" else f"({left} AND {right})"


def either(parts: Iterable[str]) -> str:
    """Conditions joined by OR, constants folded; "false" of none."""
    kept = [part for part in parts if part != "false"]
    if "true" in kept:
        return "true"
    if not kept:
        return "false"
    return kept[0] if len(kept) == 1 else "(" + " OR ".join(kept) + ")"


def negated(sql: str) -> str:
    """The complement of a condition, in which NULL is false."""
    if sql in ("true", "false"):
        return "false" if sql == "true" else "true"
    return f"(NOT {false_if_null(sql)})"


def false_if_null(sql: str) -> str:
    """A condition as a boolean that is never NULL."""
    return sql if sql in ("true", "false") else f"coalesce({sql}, false)"


def without_strings(sql: str) -> str:
    """SQL with the quoted literals emptied, to look for names in it."""
    return "".join(part for index, part in enumerate(sql.split("'")) if index % 2 == 0)
