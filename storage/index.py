"""The DuckDB index of one process: a base file of this host, and the log's newer rows in memory.

It is disposable, holds nothing that the store does not, and is never shared. It must not know HTTP or flows.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import duckdb

from storage.base import CONFIG, attach, attach_empty, base_file, scanning
from storage.changes import Changes
from storage.errors import IndexDamagedError, LogError, MissingError, StoreError
from storage.log import DataFile, entries_after, entry_path, read_entries
from storage.manifest import Manifest, manifest_seqs, manifests, newest_seq, read_manifest
from storage.store import Store
from storage.tables import INDEXED_TABLES
from storage.tail import Seen, Tail

log = logging.getLogger(__name__)

PLANNING_TABLES: Final = frozenset({"files", "sources", "coverage", "baselines", "drift_files", "drift"})
"""What flows need to plan: no predictions, which are most of the rows."""

ALL_TABLES: Final = INDEXED_TABLES

REBASE_AFTER: Final = 100
"""Log entries after which a look for a newer snapshot is worth its cost."""

REST_S: Final = 600.0
"""How long snapshots that could not be used are left alone, unless there is a newer one."""

MISSING_TRIES: Final = 3
OPEN_TRIES: Final = 5  # each needs a snapshot that is removed while it is read

_DAMAGE: Final = (duckdb.Error, duckdb.IOException, duckdb.InternalException, duckdb.SerializationException)


Parameters = Iterable[object] | Mapping[str, object]
"""Of a statement: in the order of its `?`, or by name for its `$name`."""


class _Generation:
    """One base and the tail above it. An index has one at a time; queries under way keep an older one alive."""

    def __init__(
        self,
        store: Store,
        tables: frozenset[str],
        changes: Changes,
        manifest: Manifest | None = None,
        folder: Path | None = None,
    ) -> None:
        self.connection = duckdb.connect(":memory:", config=CONFIG | {"threads": 1})
        self.base: Path | None = None
        start = Seen(0, 0)
        if manifest is None or folder is None:
            attach_empty(self.connection)
        else:
            self.base = base_file(store, manifest, folder)
            attach(self.connection, self.base)
            start = Seen(manifest.seq, manifest.group_seq)
            changes.begin(manifest.seq)
        self.tail = Tail(store, self.connection, tables, start, changes)
        self._scanning: duckdb.DuckDBPyConnection | None = None

    def scanner(self) -> duckdb.DuckDBPyConnection:
        """Return a cursor for scans of the base, which keep little of it in memory."""
        if self.base is None:  # and so it has no rows
            return self.connection.cursor()
        if self._scanning is None:
            self._scanning = scanning(self.base)
        return self._scanning.cursor()

    def close(self) -> None:
        for connection in (self._scanning, self.connection):
            if connection is not None:
                connection.close()


class Index:
    """The rows of a lake, up to log entry `applied_seq`.

    Each row carries the seq of its entry. Of a file, the rows of its newest reference count, as a whole.
    """

    def __init__(self, store: Store, tables: frozenset[str] = ALL_TABLES, folder: Path | None = None) -> None:
        """Make an index, which reads nothing before it is used.

        Args:
            store: Where the lake lies.
            tables: What it holds; the tables of the log itself are always there.
            folder: This host's own, for base files; without one the whole log is read.
        """
        self._store = store
        self._tables = tables
        self._folder = folder
        self.changes = Changes()
        self._lock = threading.RLock()
        self._local = threading.local()
        self._current: _Generation | None = None
        self._looked_at_seq = 0
        self._tried: frozenset[int] = frozenset()
        self._tried_at_s = 0.0

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def applied_seq(self) -> int:
        """The last log entry whose rows are here."""
        return self._generation().tail.seen.seq

    @property
    def group_seq(self) -> int:
        """The last log entry that changed the model group."""
        return self._generation().tail.seen.group_seq

    @property
    def start_seq(self) -> int:
        """The log entry of the snapshot that this index began at; 0 where it began with the log."""
        return self._generation().tail.start.seq

    def is_behind(self) -> bool:
        """Say whether the log has an entry beyond `applied_seq`: one look at the store, which waits for nobody.

        Raises:
            StoreError: The store cannot be asked.
        """
        current = self._current
        return current is None or self._store.exists(entry_path(current.tail.seen.seq + 1))

    def require_log(self) -> None:
        """Refuse a store that has lost what this index has read, as an empty folder where a disk was mounted.

        Raises:
            StoreError: The newest entry that was applied is not there any more.
        """
        seq = self.applied_seq
        if seq and not self._store.exists(entry_path(seq)):
            raise StoreError(
                f"{self._store}: log entry {seq} was there, and is not any more. Mount the lake again, or restore it "
                "from a copy, and start anew"
            )

    def entries_behind(self) -> int:
        """Return how many entries the log has beyond `applied_seq`.

        Raises:
            StoreError: The store cannot be asked.
        """
        return entries_after(self._store, self.applied_seq)

    def catch_up(self) -> int:
        """Apply what the log has beyond `applied_seq`; return the new `applied_seq`.

        Raises:
            LogError: An entry cannot be understood.
            StoreError: A file that the log names cannot be read.
        """
        with self._lock:
            generation = self._generation()
            try:
                self._catch_up(generation)
            except MissingError:  # this index is further behind than removed files are kept: begin at a snapshot
                if newest_seq(self._store) <= generation.tail.seen.seq:
                    raise
                self._renew(generation)
            except duckdb.Error as error:  # entries that ask the base, of a rewrite or an erasure, find its damage too
                if not _is_damage(generation, error):
                    raise
                self._renew(generation)
            return self.applied_seq

    def rebase(self) -> None:
        """Move on to a newer snapshot, if there is one and many entries have come since; queries go on meanwhile.

        Raises:
            StoreError: It cannot be had, or this host's disk refuses it; the index stays as it is.
        """
        generation = self._generation()
        seen, start = generation.tail.seen, generation.tail.start
        if seen.seq - max(start.seq, self._looked_at_seq) < REBASE_AFTER and not generation.tail.erased:
            return
        self._looked_at_seq = seen.seq
        newer = frozenset(seq for seq in manifest_seqs(self._store) if seq > start.seq)
        rests = newer <= self._tried and time.monotonic() - self._tried_at_s < REST_S
        if rests or not newer or self._folder is None:
            return
        self._tried, self._tried_at_s = newer, time.monotonic()
        fresh = self._open_snapshot(above=start.seq)
        if fresh is not None:
            self._catch_up(fresh)
            with self._lock:
                self._catch_up(fresh)
                self._current = fresh

    def query(self, sql: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        """Run one SELECT on this thread's own cursor; return its rows as mappings.

        Raises:
            IndexDamagedError: The index file was damaged, and this is one of several queries of a `reading`.
        """
        cursor = self.run(sql, parameters)
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def run(self, sql: str, parameters: Parameters = ()) -> duckdb.DuckDBPyConnection:
        """Run one statement on this thread's own cursor, and return the cursor."""
        parameters = parameters if isinstance(parameters, Mapping) else list(parameters)
        generation, cursor, reading = self._cursor()
        try:
            return cursor.execute(sql, parameters)
        except duckdb.Error as error:
            if not _is_damage(generation, error):
                raise
            with self._lock:
                self._renew(generation)
            if reading:
                raise IndexDamagedError(f"{generation.base} was damaged, and has been made anew: ask again") from error
        return self._cursor()[1].execute(sql, parameters)

    def scan_base(self, sql: str, parameters: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Run one SELECT over tables of the base; what is read is not kept in memory, so that any number may follow.

        Raises:
            IndexDamagedError: See `query`.
        """
        parameters = list(parameters)
        try:
            with self._cursor()[0].scanner() as cursor:
                return cursor.execute(sql, parameters).fetchall()
        except duckdb.Error as error:  # too much for that, or a newer base has taken its place on the disk, or damage
            log.debug("a scan of the base is done with all memory instead: %s", error)
            return self.run(sql, parameters).fetchall()

    def erased_since_base(self) -> set[UUID]:
        """Return the recordings whose rows in the base do not count any more."""
        if not self._cursor()[0].tail.erased:
            return set()
        return {row["file_id"] for row in self.query("SELECT file_id FROM tail.erased")}

    def withheld(self) -> list[int]:
        """Return the log entries of references that are not published."""
        if not self._cursor()[0].tail.held:
            return []
        return [row["seq"] for row in self.query("SELECT seq FROM withheld")]

    def undecided(self) -> list[int]:
        """Return the log entries of references that wait for a decision: held ones, but no one-offs."""
        if not self._cursor()[0].tail.held:
            return []
        return [row["seq"] for row in self.query("SELECT seq FROM undecided ORDER BY seq")]

    @contextmanager
    def reading(self) -> Iterator[Seen]:
        """Let every query of this thread see one state of the index, and say which; see `at_once`."""
        with self.at_once():
            generation, cursor, _ = self._cursor()
            yield generation.tail.seen_by(cursor)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let every query of this thread see one state of the index, whatever is caught up meanwhile.

        It is that of `applied_seq` or a newer one; to know which takes a query of its own, as `reading` makes it.
        """
        generation, cursor, _ = self._cursor()
        cursor.begin()
        self._local.state = (generation, cursor, True)
        try:
            yield
        finally:
            self._local.state = (generation, cursor, False)
            cursor.rollback()

    def entry_with_key(self, key: UUID) -> int | None:
        """Return the seq of the entry whose commit has `key`."""
        rows = self.query("SELECT seq FROM entries WHERE key = ?", [key])
        return rows[0]["seq"] if rows else None

    def has_entries_of(self, ops: frozenset[str], *, after: int) -> bool:
        """Say whether entries of these kinds follow entry `after`."""
        return bool(
            self.query("SELECT 1 FROM entries WHERE seq > ? AND list_contains(?, op) LIMIT 1", [after, list(ops)])
        )

    def live_files(self, table: str | None = None, *, seq: int | None = None) -> list[DataFile]:
        """Return the Parquet files that count, of one table or with rows of one log entry only where given."""
        rows = self.query(
            "SELECT table_name, * EXCLUDE (added_seq, table_name) FROM data_files"
            " WHERE (?::VARCHAR IS NULL OR table_name = ?) AND (?::BIGINT IS NULL OR ? BETWEEN min_seq AND max_seq)"
            " ORDER BY min_seq, path",
            [table, table, seq, seq],
        )
        return [DataFile(*row.values()) for row in rows]

    def given_up(self, paths: Iterable[str]) -> list[str]:
        """Return those of `paths` that an entry has removed."""
        rows = self.query("SELECT path FROM removed_files WHERE path IN (SELECT unnest(?))", [list(paths)])
        return [row["path"] for row in rows]

    def unpurged(self) -> dict[UUID, int]:
        """Return the recordings of which something may be left, with the entry that erased them."""
        return {row["file_id"]: row["seq"] for row in self.query("SELECT * FROM tombstones WHERE NOT purged")}

    def erased(self, file_ids: Iterable[UUID] | None = None) -> set[UUID]:
        """Return the recordings that are erased, and may not be taken in again; of `file_ids` only where given."""
        ids = None if file_ids is None else list(file_ids)
        sql = "SELECT file_id FROM erased WHERE ?::UUID[] IS NULL OR file_id IN (SELECT unnest(?))"
        return {row["file_id"] for row in self.query(sql, [ids, ids or []])}

    def of_file(self, table: str, file_id: UUID, columns: str = "*") -> list[dict[str, Any]]:
        """Return the rows of one recording: what the view `table` has, found faster than by planning it."""
        return self._of_tail(table, file_id, columns) + self._of_base(table, file_id, columns)

    def newest_of_file(self, table: str, file_id: UUID, columns: str = "*") -> list[dict[str, Any]]:
        """Return rows of one recording, its newest among them: those of the tail, or else those of the base."""
        return self._of_tail(table, file_id, columns) or self._of_base(table, file_id, columns)

    def _of_tail(self, table: str, file_id: UUID, columns: str) -> list[dict[str, Any]]:
        return self.query(f"SELECT {columns} FROM tail.{table} WHERE file_id = ?", [file_id])  # noqa: S608

    def _of_base(self, table: str, file_id: UUID, columns: str) -> list[dict[str, Any]]:
        sql = f"SELECT {columns} FROM base.{table} WHERE file_id = ?"  # noqa: S608
        if self._cursor()[0].tail.erased:
            sql += " AND file_id NOT IN (SELECT file_id FROM tail.erased)"
        return self.query(sql, [file_id])

    def only_in_base(self, file_id: UUID) -> list[dict[str, Any]] | None:
        """Return the row of a recording of which the log has said nothing since the base was made, and what it shows.

        One statement then says what takes six of them else; None where it does not.
        """
        if self.told_since_base([file_id]):
            return None
        return self.query("SELECT * FROM base.files WHERE file_id = ?", [file_id])

    def told_since_base(self, file_ids: Iterable[UUID]) -> list[UUID]:
        """Return those recordings of which the log may have said something since the base was made.

        Of the others the base's row, if there is one, says all.
        """
        tail = self._cursor()[0].tail
        return [one for one in file_ids if tail.decided or one.bytes in tail.touched]

    def latest_of(self, file_id: UUID) -> int | None:
        """Return the log entry of a recording's latest reference; None before its first."""
        if self._cursor()[0].tail.held:
            rows = self.query("SELECT seq FROM latest WHERE file_id = ?", [file_id])
        else:
            rows = self.newest_of_file("coverage", file_id, "seq")
        return max((row["seq"] for row in rows), default=None)

    def side_of(self, seq: int) -> str:
        """Return which of `tail` and `base` has the rows of a log entry."""
        return "tail" if seq > self._cursor()[0].tail.start.seq else "base"

    def tail_has(self, table: str) -> bool:
        """Say whether there may be rows of a table in the tail."""
        return table in self._cursor()[0].tail.filled

    def close(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._local = threading.local()
            if self._current is not None:
                self._current.close()
                self._current = None

    def _generation(self) -> _Generation:
        if self._current is None:
            with self._lock:
                if self._current is None:
                    self._current = self._open()
        return self._current

    def _open(self) -> _Generation:
        """Begin at the newest snapshot that can be used; at the log's beginning where there is none."""
        fresh = self._open_snapshot() if self._folder is not None else None
        return fresh or _Generation(self._store, self._tables, self.changes)

    def _open_snapshot(self, above: int = 0) -> _Generation | None:
        """Begin at the newest snapshot after entry `above` that can be used, if any.

        One that was removed while it was read has a newer one in its place. Only what is wrong with a snapshot itself
        makes an older one, and in the end the whole log, worth its cost.

        Raises:
            StoreError: A snapshot cannot be had, or this host's disk refuses the index file.
        """
        damaged: set[int] = set()
        removed = 0
        while (manifest := next(manifests(self._store, above=above, without=damaged), None)) is not None:
            try:
                return self._opened(manifest)
            except (LogError, StoreError) as error:
                if not self._is_there(manifest):
                    removed += 1
                    if removed == OPEN_TRIES:
                        raise
                elif isinstance(error, (LogError, MissingError)):
                    log.error("snapshot %d cannot be used, an older one or the log is: %s", manifest.seq, error)
                    damaged.add(manifest.seq)
                else:
                    raise
        return None

    def _is_there(self, manifest: Manifest) -> bool:
        """Say whether a snapshot has not been removed: its manifest goes first."""
        try:
            return read_manifest(self._store, manifest.seq) == manifest
        except LogError:
            return False

    def _opened(self, manifest: Manifest) -> _Generation:
        try:
            return _Generation(self._store, self._tables, self.changes, manifest, self._folder)
        except duckdb.Error as error:  # a file that is no base file at all
            log.warning("the index file of snapshot %d is damaged (%s), and made anew", manifest.seq, error)
            if self._folder is not None:
                base_file(self._store, manifest, self._folder).unlink(missing_ok=True)
        try:
            return _Generation(self._store, self._tables, self.changes, manifest, self._folder)
        except duckdb.Error as error:
            raise StoreError(
                f"{self._folder}: the index file cannot be opened ({error}). Make room there, or make it readable"
            ) from error

    def _renew(self, generation: _Generation) -> None:
        if self._current is generation:
            self._current = None
            fresh = self._open()
            self._catch_up(fresh)
            self._current = fresh

    def _catch_up(self, generation: _Generation) -> None:
        """Apply new entries; when a file of theirs is gone, the log says by now what took its place."""
        missing = None
        for _ in range(MISSING_TRIES):
            entries = list(read_entries(self._store, generation.tail.seen.seq))
            try:
                generation.tail.apply(entries)
            except MissingError as error:
                missing = error
            else:
                return
        raise missing or MissingError("the log cannot be read")

    def _cursor(self) -> tuple[_Generation, duckdb.DuckDBPyConnection, bool]:
        state: tuple[_Generation, duckdb.DuckDBPyConnection, bool] | None = getattr(self._local, "state", None)
        if state is None or (state[0] is not self._current and not state[2]):
            generation = self._generation()
            state = self._local.state = (generation, generation.connection.cursor(), False)
        return state


def _is_damage(generation: _Generation, error: duckdb.Error) -> bool:
    """Say whether an error is one of the base file's, which is removed then."""
    if generation.base is None or type(error) not in _DAMAGE:
        return False
    log.warning("%s is damaged (%s), and made anew", generation.base, error)
    generation.base.unlink(missing_ok=True)
    return True
