"""Sums up the rows of Parquet files by recording and log entry, so that verification holds keys and no rows.

Two sets of rows are the same where their tallies are: how many, and the sum of the rows' hashes.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from storage.log import DataFile
from storage.tables import NOBODY, OF_FILES, TABLES

BATCH_ROWS: Final = 100_000

_COUNTED: Final = {
    "files": (["file_id", "seq"], ["sha256", "size_bytes", "status"]),
    "sources": (["file_id", "seq", "uri", "seen_at"], []),
    "coverage": (["file_id", "seq", "model"], ["predictions", "descriptors"]),
    "utterances": (["file_id", "seq"], []),
    "predictions": (["file_id", "seq", "model"], []),
    "descriptors": (["file_id", "seq", "model"], []),
    "baselines": (["baseline_id", "seq"], []),
    "drift_files": (["file_id", "seq"], []),
    "drift": (["window_id", "seq"], []),
}
"""By which columns the rows of each table are summed up, and which more are kept of them."""

_SUMMED: Final = ("predictions", "descriptors")


def tally(name: str, rows: pa.Table) -> pl.DataFrame:
    """Sum up `rows` of table `name`, which have a column `seq`, and may be of an older format."""
    keys, kept = _COUNTED[name]
    frame = _in_columns(name, rows)
    frame = frame.with_columns(frame.select(TABLES[name].names).hash_rows(0).alias("digest"))
    return frame.group_by(keys).agg(pl.len().cast(pl.UInt64).alias("rows"), pl.col("digest").sum(), *_kept(kept))


def merged(name: str, tallies: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the tally of all rows of several tallies of one table."""
    keys, kept = _COUNTED[name]
    whole = pl.concat([tally(name, _nothing(name)), *tallies])
    return whole.group_by(keys).agg(pl.col("rows", "digest").sum(), *_kept(kept))


def tally_of_file(name: str, path: Path) -> pl.DataFrame:
    """Return the tally of a Parquet file on this host, whose rows have a column `seq`, in blocks."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(batch_size=BATCH_ROWS)
        return merged(name, [tally(name, pa.Table.from_batches([batch])) for batch in batches])


def examined(file: DataFile, content: bytes) -> tuple[pl.DataFrame | None, list[str]]:
    """Compare a live Parquet file with what the log says of it; return its rows' tally, and what is wrong."""
    if len(content) != file.size_bytes:
        return None, [f"it has {len(content)} bytes, and the log says {file.size_bytes}"]
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return None, ["its sha256 is not the one in the log: bytes of it have changed"]
    try:
        rows = pq.read_table(io.BytesIO(content), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        return None, [f"it cannot be read as Parquet ({error})"]
    wrong = list(_contradictions(file, rows))
    if file.table not in TABLES:
        return None, wrong
    if "seq" not in rows.column_names:
        rows = rows.append_column("seq", pa.repeat(pa.scalar(file.min_seq, pa.int64()), rows.num_rows))
    return tally(file.table, rows), wrong


def _contradictions(file: DataFile, rows: pa.Table) -> Iterator[str]:
    """Say what readers would be misled by: they choose files by what the log says of them."""
    if rows.num_rows != file.rows:
        yield f"it has {rows.num_rows} rows, and the log says {file.rows}"
    if not rows.num_rows:
        return
    low = high = NOBODY
    if file.table in OF_FILES:
        ids = pl.DataFrame(pl.from_arrow(rows.select(["file_id"])))["file_id"]
        low, high = UUID(bytes=ids.min()), UUID(bytes=ids.max())  # type: ignore[arg-type]
    if (low, high) != (file.min_file_id, file.max_file_id):
        yield f"its recordings are from {low} to {high}, and the log says {file.min_file_id} to {file.max_file_id}"
    if "seq" in rows.column_names:
        seqs = rows["seq"].to_numpy()
        if (seqs.min(), seqs.max()) != (file.min_seq, file.max_seq):
            yield (
                f"its rows are of the log entries {seqs.min()} to {seqs.max()}, "
                f"and the log says {file.min_seq} to {file.max_seq}"
            )


def _in_columns(name: str, rows: pa.Table) -> pl.DataFrame:
    """Return rows in today's columns and types, UUIDs as their bytes."""
    columns = {"seq": rows["seq"]}
    for field in TABLES[name]:
        absent = field.name not in rows.column_names
        column = pa.chunked_array([pa.nulls(rows.num_rows, field.type)]) if absent else rows[field.name]
        columns[field.name] = column
    return pl.DataFrame({column: pl.from_arrow(values) for column, values in columns.items()})


def _nothing(name: str) -> pa.Table:
    return TABLES[name].empty_table().append_column("seq", pa.array([], pa.int64()))


def _kept(kept: list[str]) -> list[pl.Expr]:
    return [pl.col(column).sum() if column in _SUMMED else pl.col(column).first() for column in kept]
