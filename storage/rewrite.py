"""Rewrites Parquet files: many small ones into few, or without rows that must go. It must not decide which."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.commit import Draft
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, LogEntry
from storage.parquet import read_each, write_table
from storage.steps import reached
from storage.tables import ANSWER_TABLES, TABLES

SMALL_ROWS: Final = 500_000
MIN_SMALL_FILES: Final = 16
BATCH_ROWS: Final = 1_000_000
SMALL_BYTES: Final = 64 << 20  # rows with embeddings are large
BATCH_BYTES: Final = 256 << 20
BATCH_FILES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Surplus:
    """Rows of expired references that nobody may see any more: all but what is some file's latest."""

    seqs: frozenset[int]
    latest: frozenset[tuple[UUID, int]]

    @classmethod
    def of(cls, index: Index, seqs: Iterable[int] = ()) -> "Surplus":
        """Return the surplus of the references that are expired, and of `seqs`, which are about to be."""
        every = frozenset(seqs) | {row["seq"] for row in index.query("SELECT seq FROM expired")}
        rows = index.query("SELECT file_id, seq FROM latest WHERE seq IN (SELECT unnest(?))", [list(every)])
        return cls(every, frozenset((row["file_id"], row["seq"]) for row in rows))

    def without(self, rows: pa.Table) -> pa.Table:
        """Return `rows` without it. Rows have a column `seq`."""
        if not self.seqs:
            return rows
        expired = pc.is_in(rows["seq"], value_set=pa.array(list(self.seqs), pa.int64()))
        latest = pa.array([file_id.bytes + _bytes(seq) for file_id, seq in self.latest], pa.binary(24))
        return rows.filter(pc.or_(pc.invert(expired), pc.is_in(_keys(rows), value_set=latest)))


def compact(lake: Lake, index: Index, key: UUID) -> LogEntry | None:
    """Rewrite small Parquet files into few, those of one table; their rows keep the seq that they are of.

    Args:
        lake: Where to.
        index: Any tables, coverage among them.
        key: The commit's key.

    Returns:
        The entry, or None where nothing is worth it.
    """

    def plan() -> Draft | None:
        for name in TABLES:
            files = _small(index.live_files(name))
            if files:
                surplus = Surplus.of(index) if name in ANSWER_TABLES else Surplus(frozenset(), frozenset())
                return rewritten(lake, key, files, surplus.without)
        return None

    entry = lake.commit(index, op="rewrite", key=key, plan=plan, started_at=datetime.now(UTC))
    if entry is not None:
        reached("rewritten")
    return entry


def rewritten(lake: Lake, key: UUID, files: Iterable[DataFile], keep: Callable[[pa.Table], pa.Table]) -> Draft | None:
    """Return what replaces `files` by their rows that `keep` returns; None where it would change nothing.

    Files of one table become one; a single file that would stay as it is, stays.
    """
    by_table: dict[str, list[DataFile]] = {}
    for file in files:
        by_table.setdefault(file.table, []).append(file)
    written: list[DataFile] = []
    removed: list[str] = []
    attempt = uuid.uuid4()
    for name, group in by_table.items():
        rows = pa.concat_tables(read_each(lake.store, group))
        kept = keep(rows)
        if len(group) == 1 and kept.num_rows == rows.num_rows:
            continue
        removed += [file.path for file in group]
        if kept.num_rows:
            written.append(write_table(lake.store, key, attempt, "0", name, kept))
    if not removed:
        return None
    counts = {"files_removed": len(removed), "files_written": len(written), "rows": sum(file.rows for file in written)}
    return Draft(files=tuple(written), removed=tuple(removed), counts=counts)


def joined(drafts: Iterable[Draft]) -> Draft:
    """Return one draft that replaces all the files that `drafts` replace."""
    every = list(drafts)
    return Draft(
        files=tuple(file for draft in every for file in draft.files),
        removed=tuple(path for draft in every for path in draft.removed),
    )


def _small(files: Iterable[DataFile]) -> list[DataFile]:
    """Choose what to rewrite together: the oldest small files, none or many."""
    chosen: list[DataFile] = []
    rows = size_bytes = 0
    for file in files:
        small = file.rows < SMALL_ROWS and file.size_bytes < SMALL_BYTES
        fits = rows + file.rows <= BATCH_ROWS and size_bytes + file.size_bytes <= BATCH_BYTES
        if small and len(chosen) < BATCH_FILES and (not chosen or fits):
            chosen.append(file)
            rows, size_bytes = rows + file.rows, size_bytes + file.size_bytes
    return chosen if len(chosen) >= MIN_SMALL_FILES else []


def _bytes(seq: int) -> bytes:
    return seq.to_bytes(8, "little", signed=True)


def _keys(rows: pa.Table) -> pa.Array:
    """Return file_id and seq of each row as 24 bytes."""
    ids = rows["file_id"].combine_chunks()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    ids = ids.storage.cast(pa.binary(16))
    first = np.frombuffer(ids.buffers()[1], np.uint8)[16 * ids.offset : 16 * (ids.offset + len(ids))]
    seqs = np.ascontiguousarray(rows["seq"].to_numpy().astype("<i8"))
    keys = np.hstack([first.reshape(-1, 16), seqs.view(np.uint8).reshape(-1, 8)])
    return pa.Array.from_buffers(pa.binary(24), len(ids), [None, pa.py_buffer(keys.tobytes())])
