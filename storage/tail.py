"""The tail of an index: applies log entries to it. It must not know who queries the rows."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from storage.changes import Changes
from storage.log import DataFile, LogEntry
from storage.parquet import read_each
from storage.schema import SCHEMAS, tail_tables, views
from storage.store import Store
from storage.tables import OF_FILES

NO_CHECKPOINT: Final = "1TB"  # of an index in memory: one frees a seventh of it, and holds all up for 0.1 s

_STILL_ERASED: Final = """
DELETE FROM tail.{name} r USING tombstones t WHERE r.file_id = t.file_id AND r.seq < t.seq
"""

RUN_ROWS: Final = 50_000
RUN_ENTRIES: Final = 64

_TOUCHING: Final = frozenset({"files", "sources", "coverage"})
"""Of every recording that an entry says something of, one of these has a row."""

_UNSEEN: Final = frozenset({"ingest", "refresh", "drift", "rewrite"})
"""Entries after which nothing is shown otherwise but the recordings that they have rows of."""

Work = list[tuple[LogEntry, list[DataFile]]]
"""Entries, and the files of each whose rows are missing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of an index: the last log entry that it has, and the group's last one."""

    seq: int
    group_seq: int


class Tail:
    """The rows above one base, up to log entry `seen.seq`."""

    def __init__(
        self,
        store: Store,
        connection: duckdb.DuckDBPyConnection,
        tables: frozenset[str],
        start: Seen,
        changes: Changes,
    ) -> None:
        self._store, self._connection, self._tables, self._changes = store, connection, tables, changes
        self.start = self.seen = start
        self.erased = False  # recordings were, since the base was made: it holds rows of theirs, which views leave out
        self.held = False  # references are, or were
        self.decided = False  # what becomes of held references was, since the base was made
        self.touched: set[bytes] = set()  # recordings that something was said of since the base was made
        self.filled: set[str] = set()  # tables that have, or had, rows here
        connection.execute(f"SET checkpoint_threshold = '{NO_CHECKPOINT}'")
        for statement in tail_tables():
            connection.execute(statement)
        self._show()
        if self._run("SELECT 1 FROM held LIMIT 1").fetchall():
            self.held = True
            self._show()

    def seen_by(self, cursor: duckdb.DuckDBPyConnection) -> Seen:
        """Return the state that a cursor's transaction sees."""
        # Both only grow; to sort by one of them takes twice as long.
        last = cursor.execute("SELECT max(seq), max(group_seq) FROM tail.entries").fetchone()
        return Seen(*last) if last and last[0] is not None else self.start

    def apply(self, entries: list[LogEntry]) -> None:
        """Apply the entries that follow the last one, each as a whole.

        Each is a transaction of its own, but entries that only add rows share one where several wait: most of what an
        entry costs is the planning of its statements. Where an entry removes files that another one of them adds,
        those may be gone from the store already, and their rows come with the files that took their place: then all of
        them are one transaction.

        Raises:
            MissingError: A file is not in the store: it may have been removed since the log was read.
            StoreError: The store cannot be read.
        """
        removed = {path for entry in entries for path in entry.removed}
        rewritten = any(file.path in removed for entry in entries for file in entry.files)
        wanted = [self._wanted(entry, removed, self.seen.seq if rewritten else entry.seq - 1) for entry in entries]
        rows = read_each(self._store, (file for files in wanted for file in files))
        work = list(zip(entries, wanted, strict=True))
        for together in [list(_runs(work))] if rewritten and work else [[run] for run in _runs(work)]:
            self._connection.begin()
            try:
                for run in together:
                    self._apply(run, rows)
                last = together[-1][-1][0]
                self._connection.commit()
            except BaseException:
                self._connection.rollback()
                raise
            self.seen = Seen(last.seq, last.group_seq)

    def _wanted(self, entry: LogEntry, removed: set[str], known: int) -> list[DataFile]:
        """Return the files of an entry with rows that the index lacks: of a rewrite, where others were skipped."""
        return [
            file
            for file in entry.live_files
            if file.table in self._tables and file.path not in removed and (file.max_seq or 0) > known
        ]

    def _apply(self, run: Work, rows: Iterator[pa.Table]) -> None:
        """Apply entries that only add rows, or one of any kind."""
        self._insert("entries", [_entry(entry) for entry, _ in run])
        self._insert("data_files", [_data_file(entry.seq, file) for entry, _ in run for file in entry.live_files])
        arriving: dict[str, list[pa.Table]] = {}
        for entry, files in run:
            for file, table in zip(files, rows, strict=False):
                new = table.filter(pc.greater(table["seq"], self.seen.seq)) if entry.removed else table
                arriving.setdefault(file.table, []).append(new)
        for name, tables in arriving.items():
            self._add(name, pa.concat_tables(tables))
            if name in _TOUCHING:  # noted too early is harmless: what was read before only counts as old
                self._note(run[-1][0].seq, _ids(tables))
        for entry, _ in run:
            if not _only_adds(entry):
                self._apply_rest(entry)

    def _note(self, seq: int, file_ids: set[bytes]) -> None:
        self.touched |= file_ids
        self._changes.note(seq, file_ids)

    def _apply_rest(self, entry: LogEntry) -> None:
        if entry.op == "delete":
            self._note(entry.seq, {file_id.bytes for file_id in (*entry.deleted, *entry.lifted)})
        elif entry.op not in _UNSEEN:
            self._changes.note_all(entry.seq)
        self._insert(
            "group_models",
            [
                [entry.seq, model.name, model.version, model.task, model.enabled, json.dumps(dict(model.settings))]
                for model in entry.group
            ],
        )
        self._apply_files(entry)
        self._apply_references(entry)
        if entry.op == "delete":
            self._erase(entry)

    def _apply_files(self, entry: LogEntry) -> None:
        if entry.removed:
            paths = list(entry.removed)
            for name in {file.table for file in entry.files} & self._tables & OF_FILES:
                self._run(_STILL_ERASED.format(name=name))  # a rewrite knows nothing of who was erased before it
            self._run("INSERT INTO tail.removed_files SELECT unnest(?), ?", [paths, entry.seq])
            self._run("DELETE FROM tail.data_files WHERE path IN (SELECT unnest(?))", [paths])
        if entry.op == "rewrite":  # it says of whom nothing is left
            for file_id in entry.deleted:
                rows = self._run("SELECT seq, lifted FROM tombstones WHERE file_id = ?", [file_id]).fetchall()
                for seq, lifted in rows:
                    self._tombstone(file_id, seq, lifted=lifted, purged=True)

    def _apply_references(self, entry: LogEntry) -> None:
        if entry.held:
            self._insert("held", [[entry.seq]])
            self.held = True
            self._show()
        if entry.op in ("release", "reject"):
            self.decided = True
            self._run(
                "INSERT INTO tail.decisions SELECT max(seq), ? FROM entries"
                " WHERE op = 'refresh' AND reference = ? HAVING max(seq) IS NOT NULL",
                [entry.op == "release", entry.reference],
            )
        if entry.expired:  # some hundred: one look through all entries, not one for each
            self._run(
                "INSERT INTO tail.expired SELECT max(seq) FROM entries"
                " WHERE op = 'refresh' AND reference IN (SELECT unnest(?)) GROUP BY reference",
                [list(entry.expired)],
            )

    def _add(self, name: str, rows: pa.Table) -> None:
        self.filled.add(name)
        self._connection.from_arrow(rows.select(SCHEMAS[name].names)).insert_into(f"tail.{name}")
        if name == "files":  # what is said last of a recording counts: a rejected one may be accepted later
            self._run(
                "DELETE FROM tail.files f USING (SELECT file_id, max(seq) AS seq FROM tail.files WHERE file_id IN"
                " (SELECT unnest(?)) GROUP BY file_id HAVING count(*) > 1) newest"
                " WHERE f.file_id = newest.file_id AND f.seq < newest.seq",
                [rows["file_id"].to_pylist()],
            )

    def _erase(self, entry: LogEntry) -> None:
        for file_id in entry.deleted:
            self._tombstone(file_id, entry.seq, lifted=False, purged=False)
            for name in self._tables & OF_FILES:
                self._run(f"DELETE FROM tail.{name} WHERE file_id = ?", [file_id])  # noqa: S608
            self._insert("erased", [[file_id]])
        for file_id in entry.lifted:
            for seq, purged in self._run("SELECT seq, purged FROM tombstones WHERE file_id = ?", [file_id]).fetchall():
                self._tombstone(file_id, seq, lifted=True, purged=purged)
        if entry.deleted:
            self.erased = True
            self._show()

    def _show(self) -> None:
        """Make the views, without what the index has nothing of."""
        for statement in views(self._tables, erased=self.erased, held=self.held):
            self._run(statement)

    def _tombstone(self, file_id: UUID, seq: int, *, lifted: bool, purged: bool) -> None:
        self._run("DELETE FROM tail.tombstones WHERE file_id = ?", [file_id])
        self._insert("tombstones", [[file_id, seq, lifted, purged]])

    def _insert(self, name: str, rows: Iterable[list[Any]]) -> None:
        rows = list(rows)
        if rows:  # in one statement: its planning costs more than its rows
            values = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
            self._run(f"INSERT INTO tail.{name} VALUES {values}", itertools.chain.from_iterable(rows))  # noqa: S608

    def _run(self, sql: str, parameters: Iterable[object] = ()) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(sql, list(parameters))


def _runs(work: Work) -> Iterator[Work]:
    """Divide entries into runs that can be applied as one, in order."""
    run: Work = []
    for entry, files in work:
        if run and not (
            _only_adds(run[-1][0]) and _only_adds(entry) and _rows(run) < RUN_ROWS and len(run) < RUN_ENTRIES
        ):
            yield run
            run = []
        run.append((entry, files))
    if run:
        yield run


def _ids(tables: list[pa.Table]) -> set[bytes]:
    """Return the recordings that tables have rows of."""
    return {id_ for table in tables for chunk in table["file_id"].chunks for id_ in chunk.storage.unique().to_pylist()}


def _rows(work: Work) -> int:
    return sum(file.rows for _, files in work for file in files)


def _only_adds(entry: LogEntry) -> bool:
    return entry.op in ("ingest", "refresh") and not entry.held and not entry.removed


def _entry(entry: LogEntry) -> list[object]:
    times, counts = [entry.started_at, entry.committed_at], json.dumps(dict(entry.counts))
    return [entry.seq, entry.op, entry.key, entry.reference, entry.group_seq, *times, counts]


def _data_file(seq: int, file: DataFile) -> list[object]:
    values = asdict(file)
    return [seq, values.pop("table"), *values.values()]
