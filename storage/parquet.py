"""Parquet files of a lake: written once, named by the log, read whole. It must not know when they become visible."""

import hashlib
from collections.abc import Iterable, Mapping
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import StoreError
from storage.log import DataFile
from storage.store import Store
from storage.tables import TABLES, in_order


def write_tables(
    store: Store, key: UUID, attempt: UUID, tables: Mapping[str, pa.Table], part: str = "0"
) -> tuple[DataFile, ...]:
    """Write each table that has rows as one Parquet file, which nobody sees before a log entry names it."""
    return tuple(
        _write_table(store, key, attempt, part, name, table) for name, table in tables.items() if table.num_rows
    )


def _write_table(store: Store, key: UUID, attempt: UUID, part: str, name: str, table: pa.Table) -> DataFile:
    table = in_order(name, table)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    path = f"data/{name}/{key}/{attempt}-{part}.parquet"
    store.write(path, content)
    ids = table["file_id"]
    return DataFile(
        table=name,
        path=path,
        size_bytes=len(content),
        rows=table.num_rows,
        min_file_id=ids[0].as_py(),
        max_file_id=ids[-1].as_py(),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def read_tables(
    store: Store, files: Iterable[DataFile], name: str, file_ids: frozenset[UUID] | None = None
) -> pa.Table:
    """Read the rows of table `name` in `files`, of `file_ids` only where given.

    Raises:
        StoreError: A file that the log names is not there.
    """
    parts = [TABLES[name].empty_table()]
    for file in files:
        if file.table != name or (file_ids is not None and not _may_hold(file, file_ids)):
            continue
        parts.append(read_table(store, file))
    table = pa.concat_tables(parts)
    if file_ids is None:
        return table
    wanted = pa.array([file_id.bytes for file_id in file_ids], pa.binary(16))
    ids = pa.chunked_array([chunk.storage for chunk in table["file_id"].chunks], type=pa.binary(16))
    return table.filter(pc.is_in(ids, value_set=wanted))


def _may_hold(file: DataFile, file_ids: frozenset[UUID]) -> bool:
    return any(file.min_file_id <= file_id <= file.max_file_id for file_id in file_ids)


def read_table(store: Store, file: DataFile) -> pa.Table:
    """Read one Parquet file that the log names.

    Raises:
        StoreError: It is not there, or damaged.
    """
    content = store.read(file.path)
    if content is None:
        raise StoreError(f"{file.path}: the log names it, and it is not there; restore it from a copy of the lake")
    try:
        return _as_now(pq.read_table(pa.BufferReader(content)), file.table)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{file.path} is damaged ({error}): restore it from a copy of the lake") from error


def _as_now(table: pa.Table, name: str) -> pa.Table:
    """Return rows of an older format with the columns that came since, empty."""
    for field in TABLES[name]:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
