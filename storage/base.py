"""Base files: a snapshot as a DuckDB file on this host's own disk, which any number of processes read at once.

They are disposable: one that is missing or damaged is made anew from its snapshot.
"""

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb

from storage.errors import LogError, MissingError, StoreError
from storage.manifest import Manifest, SnapshotFile
from storage.schema import SCHEMAS, base_rows, base_tables
from storage.store import Store, writing

CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}

LAYOUT: Final = 4
"""Of base files: one that an older version made is made anew."""

SCAN_MEMORY: Final = "24MiB"
"""What reads of a whole base may keep of it: with what DuckDB needs besides, well below 64 MiB for any size of it."""

_UNREADABLE: Final = (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)
"""What DuckDB says of a file that it does not understand, and never of a full disk."""


def base_file(store: Store, manifest: Manifest, folder: Path) -> Path:
    """Return the base file of a snapshot, which is made where there is none; one process of this host makes it.

    Raises:
        MissingError: The snapshot's Parquet files are gone.
        LogError: They are damaged.
        StoreError: They cannot be had, or the file cannot be written: another snapshot would not help.
    """
    name = hashlib.sha256(manifest.encode() + bytes([LAYOUT])).hexdigest()[:16]
    file = folder / f"base-{manifest.seq}-{name}.duckdb"
    if file.exists():
        return file
    with _alone(folder), writing(folder):
        if not file.exists():
            for unfinished in folder.glob(".*.duckdb*"):  # of a process that was killed: only one makes any
                unfinished.unlink(missing_ok=True)
            _make(store, manifest, file)
            for other in folder.glob("base-*"):
                if other != file:
                    other.unlink(missing_ok=True)  # who has it open keeps it
    return file


def attach_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a connection a base without rows, for a lake that has no snapshot."""
    connection.execute("ATTACH ':memory:' AS base")
    connection.execute("USE base")
    for statement in base_tables():
        connection.execute(statement)
    connection.execute("USE memory")


def attach(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Give a connection the base file.

    Raises:
        duckdb.Error: It is damaged.
    """
    connection.execute(f"ATTACH {quoted(file)} AS base (READ_ONLY)")


def scanning(file: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection of its own to a base file, for reads from its beginning to its end.

    What DuckDB has read it keeps, up to most of the machine's memory: right for look-ups, and not for a scan, which
    would also push out what look-ups need. A database of its own has a limit of its own.

    Raises:
        duckdb.Error: The file is not there any more, or damaged.
    """
    connection = duckdb.connect(
        ":memory:", config=CONFIG | {"threads": 1, "memory_limit": SCAN_MEMORY, "temp_directory": ""}
    )
    attach(connection, file)
    return connection


def quoted(path: Path) -> str:
    """Return a path as SQL wants it."""
    return "'" + str(path).replace("'", "''") + "'"


def _make(store: Store, manifest: Manifest, file: Path) -> None:
    staged = file.with_name(f".{uuid.uuid4().hex}.duckdb")
    try:
        connection = duckdb.connect(str(staged), config=CONFIG)
        try:
            connection.execute("SET enable_progress_bar = false")  # in the log of a flow run
            for statement in base_tables():
                connection.execute(statement)
            for name in sorted(SCHEMAS, key="files".__eq__):  # what it says beside its rows is in the others
                if name in manifest.tables:
                    _insert(store, connection, name, manifest.tables[name])
            connection.execute("CHECKPOINT")  # one that fails while the connection is closed says nothing
        finally:
            connection.close()
        staged.replace(file)
    except duckdb.Error as error:
        raise StoreError(
            f"{file.parent}: the index file cannot be written ({error}). Make room there, or make it writable"
        ) from error
    finally:
        for left in file.parent.glob(f"{staged.name}*"):  # and what DuckDB wrote beside it
            left.unlink(missing_ok=True)


def _insert(store: Store, connection: duckdb.DuckDBPyConnection, name: str, file: SnapshotFile) -> None:
    with store.on_disk(file.path) as parquet:
        try:
            connection.execute(base_rows(name, quoted(parquet)))
        except duckdb.Error as error:
            if isinstance(error, _UNREADABLE) or not _is_whole(parquet, file):
                raise LogError(f"{store}: {file.path} is damaged ({str(error).splitlines()[0]})") from error
            raise


def _is_whole(parquet: Path, file: SnapshotFile) -> bool:
    """Say whether the bytes of a snapshot's file are those that were written.

    Raises:
        MissingError: It is gone.
        StoreError: This user may not read it.
    """
    try:
        with parquet.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except FileNotFoundError as error:
        raise MissingError(f"{parquet}: is not there") from error
    except PermissionError as error:
        raise StoreError(f"{parquet}: cannot be read ({error.strerror}). Make it readable for this user") from error
    except OSError:  # bytes that the disk cannot give back
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let the processes of this host take turns."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror}). Make it writable for this user") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
