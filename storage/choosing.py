"""Which recordings a reader asks for, a page at a time, by their ids. It must not know what is shown of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from storage.index import Index
from storage.ranges import ID, Range
from storage.recordings import HELD

LAST: Final = UUID(int=2**128 - 1)

WINDOWS: Final = (2_000, 8_000, 32_000, 128_000)
"""Recordings of the base that are looked at by one statement: few at first, more where hardly any is wanted."""

FOLDED: Final = "replace(replace(lower(upper(nfc_normalize({}))), 'ß', 'ss'), chr(8217), '''')"
"""Text in SQL without case, by way of upper case, because some letters have two lower ones; with one apostrophe."""

_COLUMNS: Final = (
    f"{ID}, sha256, size_bytes, status, reason, duration_s, sample_rate, channels, format, epoch_us(ingested_at)"
)
_OF_BASE: Final = f"{_COLUMNS}, name, demo, latest_seq, reference::VARCHAR, epoch_us(predicted_at), held"

_WINDOW: Final = "file_id BETWEEN $first AND $last"
_OF_LATEST: Final = f"JOIN (SELECT * FROM latest WHERE {_WINDOW}) USING (file_id, seq)"  # noqa: S608
_NAME: Final = f"""
f.file_id IN (SELECT file_id FROM sources WHERE {_WINDOW} GROUP BY file_id
              HAVING contains({FOLDED.format("arg_min(name, seen_at)")}, {FOLDED.format("$name")}))
"""  # noqa: S608
_MODEL: Final = f"f.file_id IN (SELECT c.file_id FROM coverage c {_OF_LATEST} WHERE c.{_WINDOW} AND c.model = $model)"  # noqa: S608
_LABEL: Final = f"""
f.file_id IN (SELECT p.file_id FROM predictions p {_OF_LATEST}
              WHERE p.{_WINDOW} AND p.label = $label AND p.confidence >= $least AND ($of IS NULL OR p.model = $of))
"""  # noqa: S608
_HELD: Final = f"""
(f.file_id IN (SELECT file_id FROM coverage WHERE {_WINDOW} AND list_contains($undecided, seq))
 AND f.file_id NOT IN (SELECT file_id FROM latest WHERE {_WINDOW}))
"""  # noqa: S608
_SINCE: Final = f"""
(f.seq >= $since OR f.file_id IN (SELECT file_id FROM latest WHERE {_WINDOW}
                                  AND (seq >= $since OR list_contains($released, seq))))
"""  # noqa: S608

_FIRST_SINCE: Final = "SELECT coalesce(min(seq), 9223372036854775807) AS seq FROM entries WHERE committed_at >= ?"
_RELEASED: Final = """
SELECT max(seq) AS seq FROM entries WHERE op = 'refresh'
AND reference IN (SELECT reference FROM entries WHERE op = 'release' AND seq >= ?) GROUP BY reference
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of recordings; None asks nothing.

    Attributes:
        name: A part of the shown name, whatever its case.
        status: accepted | rejected | held; what is held is not accepted yet.
        model: One that their latest reference has an answer of; of other models nothing is shown.
        label: One that was detected with `min_confidence`, by `model` where that is given; nothing else is shown.
        min_confidence: The least that is shown.
        since: Taken in, or scored, in log entries from the first one since then on.
    """

    name: str | None = None
    status: str | None = None
    model: str | None = None
    label: str | None = None
    min_confidence: float = 0.0
    since: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Say that every recording is wanted."""
        return all(one is None for one in (self.name, self.status, self.model, self.label, self.since))


class FileRow(NamedTuple):
    """A recording as the table files has it, and what the base says of it beside that; see `Index.told_since_base`."""

    file_id: str
    sha256: str
    size_bytes: int
    status: str
    reason: str | None
    duration_s: float | None
    sample_rate: int | None
    channels: int | None
    format: str | None
    ingested_us: int  # since 1970
    name: str | None = None
    demo: bool | None = None
    latest_seq: int | None = None
    reference: str | None = None
    predicted_us: int | None = None
    held: bool | None = None


def choose(
    index: Index, wanted: Wanted, after: UUID | None, limit: int, *, among: Sequence[UUID] | None = None, scan: bool
) -> list[FileRow]:
    """Return the first recordings after one that are wanted, in order.

    Args:
        index: Within one `reading`.
        wanted: Which.
        after: The last one of the page before.
        limit: How many at most.
        among: Only of these, in order, where given; then `since` asks when they were taken in, and nothing else.
        scan: See `Range`.
    """
    first = UUID(int=0) if after is None else successor(after)
    if first is None or (wanted.status == HELD and not index.undecided()):
        return []
    if wanted.is_all and among is None:
        return _first_rows(index, first, limit, scan=scan)
    conditions, values = _conditions(index, wanted, latest=among is None)
    found: list[UUID] = []
    for start, end in _windows(index, first) if among is None else _parts(among, first):
        within = {"first": start, "last": end, "n": limit - len(found)}
        sql = f"SELECT file_id FROM files f WHERE {' AND '.join([f'f.{_WINDOW}', *conditions])}"  # noqa: S608
        if among is not None:
            sql += " AND f.file_id IN (SELECT unnest($among::UUID[]))"
            within["among"] = [one for one in among if start <= one <= end]
        found += [row["file_id"] for row in index.query(f"{sql} ORDER BY file_id LIMIT $n", values | within)]
        if len(found) >= limit:
            break
    return rows_of(index, found, scan=scan)


def rows_of(index: Index, file_ids: Sequence[UUID], *, scan: bool) -> list[FileRow]:
    """Return the rows of recordings, in order of their ids."""
    if not file_ids:
        return []
    within = Range(index, min(file_ids), max(file_ids), only=file_ids, scan=scan)
    return _in_order(within.base("files", _OF_BASE), within.tail("files", _COLUMNS))


def successor(file_id: UUID) -> UUID | None:
    """Return the id that follows, if any."""
    return UUID(int=file_id.int + 1) if file_id < LAST else None


def _first_rows(index: Index, first: UUID, limit: int, *, scan: bool) -> list[FileRow]:
    tail = Range(index, first, LAST).first_of_tail("files", _COLUMNS, limit)
    base: list[tuple[Any, ...]] = []
    start: UUID | None = first
    while start is not None and len(base) < limit:
        within = Range(index, start, LAST, scan=scan)
        rows = within.first_of_base("files", _OF_BASE, limit)
        base += within.kept(rows)
        start = successor(UUID(rows[-1][0])) if len(rows) == limit else None
    return _in_order(base, tail)[:limit]


def _in_order(base: Iterable[tuple[Any, ...]], tail: Iterable[tuple[Any, ...]]) -> list[FileRow]:
    """Put both sides together: what the tail has of a recording was said later."""
    rows = {row[0]: row for row in base} | {row[0]: row for row in tail}
    return [FileRow(*rows[file_id]) for file_id in sorted(rows)]


def _windows(index: Index, first: UUID) -> Iterable[tuple[UUID, UUID]]:
    """Divide all that follows, by what the base has."""
    start: UUID | None = first
    number = 0
    while start is not None:
        size = WINDOWS[min(number, len(WINDOWS) - 1)]
        number += 1
        sql = "SELECT file_id FROM base.files WHERE file_id >= ? LIMIT 1 OFFSET ?"
        ends = index.run(sql, [start, size - 1]).fetchall()
        end = ends[0][0] if ends else LAST
        yield start, end
        start = successor(end)


def _parts(among: Sequence[UUID], first: UUID) -> Iterable[tuple[UUID, UUID]]:
    following = [one for one in among if one >= first]
    for start in range(0, len(following), WINDOWS[0]):
        part = following[start : start + WINDOWS[0]]
        yield part[0], part[-1]


def _conditions(index: Index, wanted: Wanted, *, latest: bool) -> tuple[list[str], dict[str, object]]:
    """Return what is wanted in SQL, and its values by name; `latest` says that latest references are what is asked."""
    conditions: list[str] = []
    values: dict[str, object] = {}
    if wanted.status is not None:
        conditions.append("f.status = $status")
        values["status"] = "accepted" if wanted.status == HELD else wanted.status
        undecided = index.undecided() if values["status"] == "accepted" else []
        if undecided:
            conditions.append(_HELD if wanted.status == HELD else f"NOT {_HELD}")
            values["undecided"] = undecided
    if wanted.name is not None:
        conditions.append(_NAME)
        values["name"] = wanted.name
    if wanted.label is not None:
        conditions.append(_LABEL)
        values |= {"label": wanted.label, "least": wanted.min_confidence, "of": wanted.model}
    if wanted.model is not None:
        conditions.append(_MODEL)
        values["model"] = wanted.model
    if wanted.since is not None:
        since = first_since(index, wanted.since)
        conditions.append(_SINCE if latest else "f.seq >= $since")
        values["since"] = since
        if latest:
            values["released"] = [row["seq"] for row in index.query(_RELEASED, [since])]
    return conditions, values


def names_with(index: Index, names: Sequence[str], part: str) -> list[bool]:
    """Say of each name whether it has `part` in it, as `Wanted.name` means it."""
    sql = f"SELECT contains({FOLDED.format('name')}, {FOLDED.format('?')}) FROM (SELECT unnest(?::VARCHAR[]) AS name)"  # noqa: S608
    return [found for (found,) in index.run(sql, [part, list(names)]).fetchall()]


def first_since(index: Index, since: datetime) -> int:
    """Return the first log entry that was committed since then; a number beyond all where there is none."""
    return int(index.query(_FIRST_SINCE, [since])[0]["seq"])
