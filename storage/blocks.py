"""The predictions of one reference in blocks, however many there are. It must not know what becomes of them.

All Parquet files are opened before the first block, the small ones as bytes in memory: what maintenance replaces or
removes meanwhile can still be read to its end.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import MissingError, StoreError
from storage.history import Reference, as_it_is_now, reference
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile
from storage.parquet import as_now, is_one_of
from storage.store import Store

BLOCK_ROWS: Final = 65_536
READ_ROWS: Final = 16_384  # at a time, of which a filter may leave few
READ_BYTES: Final = 1 << 20  # of a column at a time

IN_MEMORY_FILE_BYTES: Final = 1 << 20
IN_MEMORY_BYTES: Final = 32 << 20
"""How much of small files is held as bytes; what is beyond is read from files that stay open."""

_TABLE: Final = "predictions"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which predictions are of interest: all that every given field agrees with."""

    model: str | None = None
    label: str | None = None
    min_confidence: float = 0.0
    file_id: UUID | None = None

    def of(self, rows: pa.Table) -> pa.Table:
        """Return those of `rows`."""
        if self.file_id is not None:
            rows = rows.filter(is_one_of(rows["file_id"], [self.file_id]))
        for column, value in (("model", self.model), ("label", self.label)):
            if value is not None:
                rows = rows.filter(pc.equal(rows[column], pa.scalar(value, pa.string())))
        return rows.filter(pc.greater_equal(rows["confidence"], self.min_confidence)) if self.min_confidence else rows

    def may_be_in(self, file: DataFile) -> bool:
        """Say whether a Parquet file may hold any."""
        return self.file_id is None or file.min_file_id <= self.file_id <= file.max_file_id


@dataclass(frozen=True, slots=True)
class ReferenceState:
    """A reference, and what has become of its recordings.

    Attributes:
        erased_seq: The last log entry that erased one of any reference that old; 0 where none did. While it stays, the
            reference says the same.
    """

    reference: Reference
    erased_seq: int


def reference_state(index: Index, id_: UUID) -> ReferenceState:
    """Return a reference that is kept, as it is now.

    Raises:
        UnknownReferenceError: There never was one.
        ExpiredReferenceError: It is not kept any more.
    """

    def read() -> ReferenceState:
        with index.at_once():
            found = reference(index, id_)
            rows = index.query("SELECT max(seq) AS seq FROM tombstones WHERE seq > ?", [found.seq])
        return ReferenceState(found, rows[0]["seq"] or 0)

    return as_it_is_now(index, read)


def prediction_blocks(lake: Lake, index: Index, id_: UUID, wanted: Wanted) -> Iterator[pa.Table]:
    """Yield the predictions of a reference in tables of BLOCK_ROWS at most, without recordings that were erased since.

    Nothing is read before the first one is asked for. An iterator that is not read to its end must be closed.

    Args:
        lake: Where from.
        index: Any, caught up.
        id_: The reference, published or not.
        wanted: Which of its predictions.

    Raises:
        UnknownReferenceError: There never was such a reference.
        ExpiredReferenceError: It is not kept any more.
        StoreError: A file of it cannot be read.
    """
    seq, files, opened = as_it_is_now(index, lambda: _opened(lake, index, id_, wanted))
    with opened:
        parts = (wanted.of(rows) for file in _drained(files) for rows in _rows(file, seq))
        yield from _joined(parts, lambda rows: _not_erased(index, rows, seq))


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A Parquet file that can be read once, for as long as `held` is not closed."""

    path: str
    source: pa.NativeFile
    held: contextlib.ExitStack


def _opened(lake: Lake, index: Index, id_: UUID, wanted: Wanted) -> tuple[int, list[_OpenFile], contextlib.ExitStack]:
    """Return the log entry of a reference, its files, and what closes those of them that are still open."""
    with index.at_once():
        seq = reference(index, id_).seq
        files = [file for file in index.live_files(_TABLE, seq=seq) if wanted.may_be_in(file)]
    small = _in_memory(files)
    contents = dict(zip(small, lake.store.read_many(small), strict=True))
    with contextlib.ExitStack() as opened:
        ready = [_open(lake.store, file.path, contents, opened) for file in files]
        return seq, ready, opened.pop_all()


def _in_memory(files: Iterable[DataFile]) -> list[str]:
    """Choose the files that are read at once: small ones, which a bucket answers sooner together."""
    chosen, left = [], IN_MEMORY_BYTES
    for file in files:
        if file.size_bytes <= min(left, IN_MEMORY_FILE_BYTES):
            chosen.append(file.path)
            left -= file.size_bytes
    return chosen


def _open(store: Store, path: str, contents: Mapping[str, bytes | None], opened: contextlib.ExitStack) -> _OpenFile:
    held = opened.enter_context(contextlib.ExitStack())
    try:
        if path not in contents:
            place = held.enter_context(store.on_disk(path))
            return _OpenFile(path, held.enter_context(pa.OSFile(str(place))), held)
        if contents[path] is not None:
            return _OpenFile(path, pa.BufferReader(contents[path]), held)
    except FileNotFoundError:  # since the store has looked for it
        pass
    raise MissingError(f"{path}: the log names it, and it is not there; restore it from a copy of the lake")


def _drained(files: list[_OpenFile]) -> Iterator[_OpenFile]:
    """Yield each file and forget it, so that what was read of it goes with it."""
    files.reverse()
    while files:
        yield files.pop()


def _rows(file: _OpenFile, seq: int) -> Iterator[pa.Table]:
    """Yield the rows of one log entry, some at a time, and close the file."""
    with file.held, _reading(file.path), pq.ParquetFile(file.source, buffer_size=READ_BYTES) as parquet:
        for batch in parquet.iter_batches(READ_ROWS, use_threads=False):
            rows = as_now(pa.Table.from_batches([batch]), _TABLE)
            if "seq" in rows.column_names:
                rows = rows.filter(pc.equal(rows["seq"], seq)).drop_columns(["seq"])
            yield rows


def _joined(parts: Iterable[pa.Table], finished: Callable[[pa.Table], pa.Table]) -> Iterator[pa.Table]:
    """Join small tables into blocks, each of which `finished` has a last look at."""
    waiting: list[pa.Table] = []
    for part in parts:
        if waiting and sum(rows.num_rows for rows in waiting) + part.num_rows > BLOCK_ROWS:
            yield finished(pa.concat_tables(waiting))
            waiting = []
        if part.num_rows:
            waiting.append(part)
    if waiting:
        yield finished(pa.concat_tables(waiting))


def _not_erased(index: Index, rows: pa.Table, seq: int) -> pa.Table:
    """Return `rows` without recordings that were erased since, be it a moment ago."""
    erased = [row["file_id"] for row in index.query("SELECT file_id FROM tombstones WHERE seq > ?", [seq])]
    return rows.filter(pc.invert(is_one_of(rows["file_id"], erased))) if erased else rows


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is damaged ({error}): restore it from a copy of the lake") from error
