"""Opening the store's data directory: one owner, a known version, nothing damaged.

The lock file names the process that owns the directory. A database that DuckDB cannot read is
renamed, never deleted, and a new one begun; one of another version is refused.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import IO, Final

import duckdb

from otelbridge.errors import StoreError
from otelbridge.local.store import migrate, schema

try:
    import fcntl
except ImportError:  # Windows has no flock; there DuckDB's own lock is the only one
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("otelbridge.local")
DATABASE_NAME: Final = "spans.duckdb"
LOCK_NAME: Final = "lock"
_LOCK_HELD: Final = "Could not set lock"  # DuckDB's words
#: A DuckDB file begins with three headers of 4 KiB, then come its blocks.
_FILE_HEADER_BYTES: Final = 3 * 4096


def lock_directory(directory: Path) -> IO[str]:
    """Create and lock the data directory; the open file holds the lock."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = open(directory / LOCK_NAME, "a+", encoding="ascii")  # noqa: SIM115 - held open
    except OSError as error:
        raise StoreError(
            f"data directory {directory} cannot be used ({error.strerror}); "
            "choose another with --data, or --memory"
        ) from error
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            handle.close()
            raise StoreError(
                f"data directory {directory} is in use by another otelbridge local "
                f"(process {owner}); stop it, or choose another with --data, or --memory"
            ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def open_database(directory: Path | None) -> duckdb.DuckDBPyConnection:
    """Open the database; a damaged file is set aside and an empty store begun."""
    if directory is None:
        return _prepare(_connect(":memory:"))
    path = directory / DATABASE_NAME
    try:
        connection = _prepare(_connect(str(path)))
        _check_length(connection, path)
        return connection
    except StoreError:
        raise
    except duckdb.Error as error:
        if not path.exists() or not os.access(path, os.R_OK | os.W_OK) or _LOCK_HELD in str(error):
            raise StoreError(f"local store {path} cannot be opened: {error}") from error
        aside = _set_aside(path)
        _logger.warning(
            "otelbridge local: %s is damaged (%s); it was set aside as %s and an empty store begun",
            path,
            str(error).splitlines()[0],
            aside,
        )
        return _prepare(_connect(str(path)))


def _connect(path: str) -> duckdb.DuckDBPyConnection:
    # No extension is needed, and none may be fetched from the network.
    return duckdb.connect(
        path,
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "threads": "2",
            # A checkpoint rewrites the last row group; with DuckDB's 16 MiB a bulk load would do
            # so every second. It bounds what is replayed after a kill.
            "wal_autocheckpoint": "64MiB",
        },
    )


def _prepare(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Create or migrate the tables, refuse newer ones, and read the plain columns once."""
    try:
        connection.begin()
        connection.execute(schema.CREATE_INFO)
        row = connection.execute("SELECT value FROM store_info WHERE key = 'version'").fetchone()
        version = schema.SCHEMA_VERSION if row is None else int(row[0])
        if row is None:
            connection.execute(
                "INSERT INTO store_info VALUES ('version', ?)", [str(schema.SCHEMA_VERSION)]
            )
        if version > schema.SCHEMA_VERSION:
            raise StoreError(
                f"the local store has version {version}, this otelbridge reads version "
                f"{schema.SCHEMA_VERSION}; choose another directory with --data, or upgrade"
            )
        if version < schema.SCHEMA_VERSION:
            migrate.migrate(connection, version)
        else:
            for statement in schema.CREATE:
                connection.execute(statement)
        connection.commit()
        for statement in schema.CHECK:
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_length(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise `duckdb.Error` when the file is shorter than its blocks: DuckDB would notice late."""
    row = connection.execute(
        "SELECT block_size * total_blocks FROM pragma_database_size()"
    ).fetchone()
    if row and row[0] and path.stat().st_size < _FILE_HEADER_BYTES + row[0]:
        connection.close()
        raise duckdb.IOException("the file is shorter than its headers say")


def _set_aside(path: Path) -> Path:
    """Rename a database and its log so that both are kept; returns the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
        number += 1
    path.rename(aside)
    log = path.with_name(path.name + ".wal")
    if log.exists():
        log.rename(aside.with_name(aside.name + ".wal"))
    return aside
