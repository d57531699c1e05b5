"""Rows of the recordings in a range of ids, as one state of an index has them. It must not know who asks for them.

Base tables are sorted by file_id, so that DuckDB passes over blocks that are out of the range; a hundred look-ups, or
a list of ids alone, would take ten times as long. Tail and base are asked one by one, which is planned sooner than
their view. Ids come as text and times as microseconds, because DuckDB makes Python's objects slowly.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from storage.index import Index

ID: Final = "file_id::VARCHAR"


class Range:
    """Asks for rows of a range; rows begin with their `ID`. Use it within one `Index.reading`."""

    def __init__(
        self, index: Index, first: UUID, last: UUID, *, only: Sequence[UUID] | None = None, scan: bool = False
    ) -> None:
        """Say which range.

        Args:
            index: Of which tables, those that are asked for need be there.
            first: The first id.
            last: The last one.
            only: Those of the range that are wanted, where they are few.
            scan: Others like this one follow: keep nothing of what is read in memory.
        """
        self._index, self._scan = index, scan
        self._where = "file_id BETWEEN ? AND ?"
        self._values: list[object] = [first, last]
        if only is not None:
            self._where += " AND file_id IN (SELECT unnest(?::UUID[]))"
            self._values.append(list(only))
        self._erased = {str(file_id) for file_id in index.erased_since_base()}

    def rows(self, table: str, columns: str, and_: str = "", values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of both sides.

        Args:
            table: Of which table.
            columns: In SQL, `ID` first.
            and_: What else is asked of them, in SQL, with ` AND` in front; or how they are grouped.
            values: Of its `?`.
        """
        values = list(values)
        return [*self.base(table, columns, and_, values), *self.tail(table, columns, and_, values)]

    def tail(self, table: str, columns: str, and_: str = "", values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Return those of the tail."""
        if not self._index.tail_has(table):
            return []
        sql = f"SELECT {columns} FROM tail.{table} WHERE {self._where}{and_}"  # noqa: S608  all of it from this package
        return self._index.run(sql, [*self._values, *values]).fetchall()

    def base(self, table: str, columns: str, and_: str = "", values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """Return those of the base, without recordings that were erased since."""
        sql = f"SELECT {columns} FROM base.{table} WHERE {self._where}{and_}"  # noqa: S608
        return self.kept(_rows(self._index, sql, [*self._values, *values], scan=self._scan))

    def kept(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return rows of the base without those of recordings that were erased since."""
        return [row for row in rows if row[0] not in self._erased] if self._erased else rows

    def first_of_base(
        self, table: str, columns: str, count: int, and_: str = "", values: Iterable[object] = ()
    ) -> list[tuple[Any, ...]]:
        """Return the first rows of the base, in order of their ids, as they lie there.

        Those of recordings that were erased since are among them: see `kept`.
        """
        sql = f"SELECT {columns} FROM base.{table} WHERE {self._where}{and_} LIMIT {count:d}"  # noqa: S608
        return _rows(self._index, sql, [*self._values, *values], scan=self._scan)

    def first_of_tail(self, table: str, columns: str, count: int) -> list[tuple[Any, ...]]:
        """Return the first rows of the tail, which are in no order there."""
        return self.tail(table, columns, f" ORDER BY file_id LIMIT {count:d}")


def _rows(index: Index, sql: str, values: list[object], *, scan: bool) -> list[tuple[Any, ...]]:
    return index.scan_base(sql, values) if scan else index.run(sql, values).fetchall()


def latest_in(index: Index, within: Range) -> dict[str, tuple[int, int]]:
    """Return the log entry of each recording's latest reference, and how many detections that has of it."""
    withheld = index.withheld()
    counted: dict[tuple[str, int], int] = {}
    for file_id, seq, predictions in within.rows(
        "coverage", f"{ID}, seq, predictions"
    ):  # grouping costs more than rows
        counted[file_id, seq] = counted.get((file_id, seq), 0) + (predictions or 0)
    latest: dict[str, tuple[int, int]] = {}
    for (file_id, seq), predictions in counted.items():
        if seq > latest.get(file_id, (0, 0))[0] and seq not in withheld:
            latest[file_id] = seq, predictions
    return latest
