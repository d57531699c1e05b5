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

from storage.errors import StoreError
from storage.manifest import Manifest
from storage.schema import SCHEMAS, columns
from storage.store import Store

CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def base_file(store: Store, manifest: Manifest, folder: Path) -> Path:
    """Return the base file of a snapshot, which is made where there is none; one process of this host makes it.

    Raises:
        MissingError: The snapshot's Parquet files are gone.
        StoreError: They cannot be read, or the file cannot be written.
    """
    name = hashlib.sha256(manifest.encode()).hexdigest()[:16]
    file = folder / f"base-{manifest.seq}-{name}.duckdb"
    if file.exists():
        return file
    with _alone(folder):
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
    for name, schema in SCHEMAS.items():
        connection.execute(f"CREATE TABLE base.{name} ({columns(schema)})")


def attach(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Give a connection the base file.

    Raises:
        duckdb.Error: It is damaged.
    """
    connection.execute(f"ATTACH {quoted(file)} AS base (READ_ONLY)")


def quoted(path: Path) -> str:
    """Return a path as SQL wants it."""
    return "'" + str(path).replace("'", "''") + "'"


def _make(store: Store, manifest: Manifest, file: Path) -> None:
    staged = file.with_name(f".{uuid.uuid4().hex}.duckdb")
    try:
        connection = duckdb.connect(str(staged), config=CONFIG)
        try:
            connection.execute("SET enable_progress_bar = false")  # in the log of a flow run
            for name, schema in SCHEMAS.items():
                connection.execute(f"CREATE TABLE {name} ({columns(schema)})")
                if name in manifest.tables:
                    with store.on_disk(manifest.tables[name].path) as parquet:
                        connection.execute(
                            f"INSERT INTO {name} BY NAME SELECT * FROM read_parquet({quoted(parquet)})"  # noqa: S608
                        )
        finally:
            connection.close()
        staged.replace(file)
    except duckdb.Error as error:
        raise StoreError(
            f"{file.parent}: the index file cannot be written ({error}). Make room there, or make it writable"
        ) from error
    finally:
        staged.unlink(missing_ok=True)


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
