"""The DuckDB index of one process: the log's rows in memory, caught up one entry a transaction.

It is disposable, holds nothing that the store does not, and is never shared. It must not know HTTP or flows.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import duckdb
import pyarrow as pa

from storage.log import LogEntry, read_entries
from storage.parquet import read_tables
from storage.store import Store
from storage.tables import TABLES

_SQL_TYPES: Final = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.uuid(): "UUID",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}

PLANNING_TABLES: Final = frozenset({"files", "sources", "coverage"})
"""What flows need to plan: no predictions, which are most of the rows."""

ALL_TABLES: Final = frozenset(TABLES)


class Index:
    """The rows of a lake, up to log entry `applied_seq`.

    Each row carries the seq of its entry. Of a file, the rows of its newest reference count, as a whole.
    """

    def __init__(self, store: Store, tables: frozenset[str] = ALL_TABLES, local: Path | None = None) -> None:
        self._store = store
        self._tables = tables
        self._lock = threading.Lock()
        self._local = threading.local()
        self._connection = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})
        self.applied_seq = 0
        self.group_seq = 0
        self._create()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def catch_up(self) -> int:
        """Apply what the log has beyond `applied_seq`; return the new `applied_seq`.

        Raises:
            LogError: An entry cannot be understood.
            StoreError: A file that the log names cannot be read.
        """
        with self._lock:
            for entry in read_entries(self._store, self.applied_seq):
                self._apply(entry)
            return self.applied_seq

    def query(self, sql: str, parameters: Iterable[object] = ()) -> list[dict[str, Any]]:
        """Run one SELECT on this thread's own cursor; return its rows as mappings."""
        cursor = self._cursor()
        cursor.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let every query of this thread see one state of the index, whatever is caught up meanwhile."""
        cursor = self._cursor()
        cursor.begin()
        try:
            yield
        finally:
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

    def close(self) -> None:
        """Give the memory back."""
        self._local = threading.local()
        self._connection.close()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._connection.cursor()
        return cursor

    def _create(self) -> None:
        run = self._connection.execute
        run(
            "CREATE TABLE entries (seq BIGINT, op VARCHAR, key UUID, reference UUID, group_seq BIGINT,"
            " started_at TIMESTAMPTZ, committed_at TIMESTAMPTZ)"
        )
        run("CREATE INDEX entries_key ON entries (key)")
        run("CREATE TABLE group_models (seq BIGINT, name VARCHAR, version VARCHAR, task VARCHAR, enabled BOOLEAN)")
        for name, schema in TABLES.items():
            columns = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in schema)
            run(f"CREATE TABLE {name} (seq BIGINT, {columns})")
            run(f"CREATE INDEX {name}_file ON {name} (file_id)")
        # What was said last of each source.
        run(
            "CREATE VIEW current_sources AS SELECT * EXCLUDE (seq) FROM sources"
            " QUALIFY row_number() OVER (PARTITION BY uri ORDER BY seen_at DESC, seq DESC) = 1"
        )
        # A file's latest reference: it wins as a whole, and nothing is merged across references.
        run("CREATE VIEW latest AS SELECT file_id, max(seq) AS seq FROM coverage GROUP BY file_id")

    def _apply(self, entry: LogEntry) -> None:
        tables = {name: read_tables(self._store, entry.files, name) for name in self._tables}
        connection = self._connection
        connection.begin()
        try:
            connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    entry.seq,
                    entry.op,
                    entry.key,
                    entry.reference,
                    entry.group_seq,
                    entry.started_at,
                    entry.committed_at,
                ],
            )
            for model in entry.group:
                connection.execute(
                    "INSERT INTO group_models VALUES (?, ?, ?, ?, ?)",
                    [entry.seq, model.name, model.version, model.task, model.enabled],
                )
            for name, table in tables.items():
                if table.num_rows:
                    connection.register("arriving", table)
                    if name == "files":  # what is said last of a recording counts: a rejected one may be accepted later
                        connection.execute("DELETE FROM files WHERE file_id IN (SELECT file_id FROM arriving)")
                    connection.execute(f"INSERT INTO {name} SELECT ?, * FROM arriving", [entry.seq])  # noqa: S608
                    connection.unregister("arriving")
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        self.applied_seq, self.group_seq = entry.seq, entry.group_seq
