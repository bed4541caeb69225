"""Columns of Python values into a DuckDB table, through Arrow's C interface.

`rows` and `side_tables` gather the columns. DuckDB takes bound lists at some microseconds a value;
nanoarrow copies them at some ten nanoseconds, and is 3 MB where pyarrow is 170. A column that a
batch does not use is left out and so is NULL.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Final

import duckdb
import nanoarrow as na  # type: ignore[import-untyped]  # it ships no types

_LETTER_TYPES: Final[dict[str, Any]] = {
    "s": na.string(),
    "i": na.int64(),
    "d": na.float64(),
    "b": na.bool_(),
}
_ARROW_TYPES: Final[dict[str, Any]] = {
    "VARCHAR": na.string(),
    "BLOB": na.binary(),
    "BIGINT": na.int64(),
    "UBIGINT": na.uint64(),
    "INTEGER": na.int32(),
    "UINTEGER": na.uint32(),
    "USMALLINT": na.uint16(),
    "TINYINT": na.int8(),
    "DOUBLE": na.float64(),
    "BOOLEAN": na.bool_(),
}
#: Buffers of these types that `array` makes faster than nanoarrow, for columns without None.
_ARRAY_CODES: Final = {"BIGINT": "q", "UINTEGER": "I", "TINYINT": "b", "INTEGER": "i"}


@dataclass(slots=True)
class MapColumn:
    """The maps of one type: entries of all rows behind each other, and where each row ends."""

    letter: str
    keys: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def insert(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    types: Sequence[tuple[str, str]],
    columns: Mapping[str, Sequence[Any] | MapColumn],
) -> None:
    """Append rows to `table`.

    Args:
        connection: In a transaction of the caller.
        table: Name of the table.
        types: Names and DuckDB types of its columns.
        columns: Values by column, all of one length; UUIDs as 16 bytes.
    """
    used = [(name, kind) for name, kind in types if name in columns]
    arrays = {name: _array(kind, columns[name]) for name, kind in used}
    length = next(iter(arrays.values())).length
    if not length:
        return
    batch = na.Array(  # noqa: F841 - DuckDB finds the variable by the name in the statement
        na.c_array_from_buffers(
            na.struct({name: one.schema for name, one in arrays.items()}),
            length,
            [None],
            children=list(arrays.values()),
        )
    )
    names = ", ".join(name for name, _ in used)
    values = ", ".join(f"{name}::UUID" if kind == "UUID" else name for name, kind in used)
    connection.execute(f"INSERT INTO {table} ({names}) SELECT {values} FROM batch")


def _array(kind: str, values: Sequence[Any] | MapColumn) -> Any:
    if isinstance(values, MapColumn):
        return _maps(values)
    if kind == "UUID":
        joined = b"".join(values)
        return na.c_array_from_buffers(na.fixed_size_binary(16), len(values), [None, joined])
    if kind in _ARRAY_CODES and None not in values:
        buffer = array(_ARRAY_CODES[kind], values)
        return na.c_array_from_buffers(_ARROW_TYPES[kind], len(values), [None, buffer])
    return na.c_array(values, _ARROW_TYPES[kind])


def _maps(column: MapColumn) -> Any:
    """A map array, null where a row has no entry."""
    scalar = _LETTER_TYPES[column.letter[0]]
    if len(column.letter) == 1:
        kind, values = scalar, na.c_array(column.values, scalar)
    else:
        kind = na.list_(scalar)
        flat = [item for items in column.values for item in items]
        ends = array("i", accumulate(map(len, column.values), initial=0))
        values = na.c_array_from_buffers(
            kind, len(column.values), [None, ends], children=[na.c_array(flat, scalar)]
        )
    entries = na.c_array_from_buffers(
        na.struct({"key": na.string(), "value": kind}),
        len(column.keys),
        [None],
        children=[na.c_array(column.keys, na.string()), values],
    )
    offsets = [0, *column.ends]
    present = "".join(["1" if after > before else "0" for before, after in pairwise(offsets)])
    bitmap = int(present[::-1], 2).to_bytes((len(present) + 7) // 8, "little")
    return na.c_array_from_buffers(
        na.map_(na.string(), kind),
        len(column.ends),
        [bitmap, array("i", offsets)],
        children=[entries],
    )
