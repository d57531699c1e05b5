"""Parquet files of a lake: written once, named by the log, read whole. It must not know when they become visible."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import MissingError, StoreError
from storage.log import DataFile
from storage.store import Store
from storage.tables import NOBODY, OF_FILES, TABLES, in_order, with_seq

FETCH_FILES: Final = 64
FETCH_BYTES: Final = 32 << 20


def write_tables(
    store: Store, key: UUID, attempt: UUID, tables: Mapping[str, pa.Table], part: str = "0"
) -> tuple[DataFile, ...]:
    """Write each table that has rows as one Parquet file, which nobody sees before a log entry names it.

    All at once: one is encoded while the disk, or the bucket, makes another one durable.
    """
    filled = {name: table for name, table in tables.items() if table.num_rows}
    with ThreadPoolExecutor(max(1, len(filled))) as pool:
        return tuple(pool.map(lambda item: write_table(store, key, attempt, part, *item), filled.items()))


def write_table(store: Store, key: UUID, attempt: UUID, part: str, name: str, table: pa.Table) -> DataFile:
    """Write rows of table `name`, sorted, as one Parquet file; rows of several entries have a column `seq`."""
    table = in_order(name, table)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=_repetitive(table.schema))
    content = sink.getvalue().to_pybytes()
    path = f"data/{name}/{key}/{attempt}-{part}.parquet"
    store.write(path, content)
    ids = table["file_id"] if name in OF_FILES else pa.array([NOBODY, NOBODY], pa.uuid())
    seqs = pc.min_max(table["seq"]).as_py() if "seq" in table.column_names else {"min": None, "max": None}
    return DataFile(
        table=name,
        path=path,
        size_bytes=len(content),
        rows=table.num_rows,
        min_file_id=ids[0].as_py(),
        max_file_id=ids[-1].as_py(),
        sha256=hashlib.sha256(content).hexdigest(),
        min_seq=seqs["min"],
        max_seq=seqs["max"],
    )


def _repetitive(schema: pa.Schema) -> list[str]:
    """Return the columns worth a dictionary: fractions hardly repeat, and finding out takes a quarter of the time."""
    return [field.name for field in schema if not pa.types.is_floating(field.type)]


def read_tables(
    store: Store, files: Iterable[DataFile], name: str, file_ids: frozenset[UUID] | None = None, seq: int | None = None
) -> pa.Table:
    """Read the rows of table `name` in `files`, of `file_ids` and of log entry `seq` only where given.

    Raises:
        MissingError: A file is not there.
        StoreError: A file cannot be read.
    """
    parts = [TABLES[name].empty_table()]
    for file in files:
        if file.table != name or (file_ids is not None and not _may_hold(file, file_ids)):
            continue
        table = read_table(store, file)
        if "seq" in table.column_names:
            table = table if seq is None else table.filter(pc.equal(table["seq"], seq))
            table = table.drop_columns(["seq"])
        parts.append(table)
    table = pa.concat_tables(parts)
    return table if file_ids is None else table.filter(is_one_of(table["file_id"], file_ids))


def is_one_of(column: pa.ChunkedArray, ids: Iterable[UUID]) -> pa.ChunkedArray:
    """Say of each UUID in `column` whether it is one of `ids`."""
    wanted = pa.array([one.bytes for one in ids], pa.binary(16))
    storage = pa.chunked_array([chunk.storage for chunk in column.chunks], type=pa.binary(16))
    return pc.is_in(storage, value_set=wanted)


def _may_hold(file: DataFile, file_ids: frozenset[UUID]) -> bool:
    return any(file.min_file_id <= file_id <= file.max_file_id for file_id in file_ids)


def read_each(store: Store, files: Iterable[DataFile]) -> Iterator[pa.Table]:
    """Read live Parquet files, one table each, their rows with the seq that each is of as their first column.

    They are fetched some at a time, which a bucket answers sooner than one by one.

    Raises:
        MissingError: A file is not there.
        StoreError: A file cannot be read.
    """
    batch: list[DataFile] = []
    for file in files:
        batch.append(file)
        if len(batch) == FETCH_FILES or sum(one.size_bytes for one in batch) > FETCH_BYTES:
            yield from _each(store, batch)
            batch = []
    yield from _each(store, batch)


def _each(store: Store, batch: list[DataFile]) -> Iterator[pa.Table]:
    for file, content in zip(batch, store.read_many([file.path for file in batch]), strict=True):
        table = as_now(_decoded(_there(content, file.path), file.path), file.table)
        yield table if "seq" in table.column_names or file.min_seq is None else with_seq(table, file.min_seq)


def read_ids(store: Store, path: str) -> pa.ChunkedArray:
    """Read the column file_id of one Parquet file.

    Raises:
        MissingError: It is not there.
        StoreError: It is damaged.
    """
    return _decoded(_there(store.read(path), path), path, ["file_id"])["file_id"]


def read_table(store: Store, file: DataFile, *, verify: bool = False) -> pa.Table:
    """Read one Parquet file that the log names.

    Args:
        store: Where it lies.
        file: Which.
        verify: Compare its size, hash and rows with what the log says.

    Raises:
        MissingError: It is not there.
        StoreError: It is damaged.
    """
    content = _there(store.read(file.path), file.path)
    if verify and hashlib.sha256(content).hexdigest() != file.sha256:
        raise StoreError(f"{file.path} is not what was written (its sha256 differs): restore it from a copy")
    table = _decoded(content, file.path)
    if verify and table.num_rows != file.rows:
        raise StoreError(f"{file.path} has {table.num_rows} rows, and the log says {file.rows}: restore it from a copy")
    return as_now(table, file.table)


def _there(content: bytes | None, path: str) -> bytes:
    if content is None:
        raise MissingError(f"{path}: the log names it, and it is not there; restore it from a copy of the lake")
    return content


def _decoded(content: bytes, path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        with pq.ParquetFile(pa.BufferReader(content)) as file:  # pq.read_table takes twice as long for a small file
            return file.read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}): restore it from a copy of the lake") from error


def as_now(table: pa.Table, name: str) -> pa.Table:
    """Return rows of any format in today's columns: what came since is empty."""
    for field in TABLES[name]:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    names = (["seq"] if "seq" in table.column_names else []) + TABLES[name].names
    return table.select(names)
