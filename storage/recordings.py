"""What readers ask of an index: recordings with the rows of their latest reference, and no others."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from storage.index import Index
from storage.schema import SCHEMAS

_RECORDINGS: Final = """
SELECT f.file_id, f.sha256, f.size_bytes, f.status, f.reason, f.duration_s, f.sample_rate, f.channels, f.format,
       f.ingested_at, s.name, s.demo, l.seq, e.reference, e.committed_at AS predicted_at
FROM files f
LEFT JOIN (SELECT file_id, arg_min(name, seen_at) AS name, bool_and(kind = 'demo') AS demo
           FROM sources GROUP BY file_id) s USING (file_id)
LEFT JOIN latest l USING (file_id)
LEFT JOIN entries e ON e.seq = l.seq
ORDER BY f.ingested_at DESC, f.file_id
"""

HELD: Final = "held"
"""What an accepted recording is said to be while no reference of it is published, and one waits for a decision."""

_OF_FILES: Final = ", ".join(SCHEMAS["files"].names)

_ROWS: Final = """
SELECT r.* EXCLUDE (seq) FROM {table} r JOIN latest USING (file_id, seq)
WHERE {condition} ORDER BY r.file_id, r.channel, r.start_s, r.end_s, r.model
"""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as it is now. `reference` is None until its first refresh is published.

    `status` is accepted, rejected, or HELD.
    """

    file_id: UUID
    sha256: str
    size_bytes: int
    status: str
    reason: str | None
    duration_s: float | None
    sample_rate: int | None
    channels: int | None
    format: str | None
    ingested_at: datetime
    name: str
    demo: bool
    seq: int | None
    reference: UUID | None
    predicted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """One detection; times in seconds from the start of the recording, confidence from 0 to 1."""

    file_id: UUID
    model: str
    model_version: str
    channel: int
    utterance: int
    label: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech and the text that a model read in it."""

    file_id: UUID
    model: str
    model_version: str
    channel: int
    utterance: int
    start_s: float
    end_s: float
    text: str | None


Row = TypeVar("Row", Prediction, Utterance)


def recordings(index: Index, file_id: UUID | None = None) -> list[Recording]:
    """Return the recordings, newest first; at most one where `file_id` is given."""
    if file_id is not None:
        return _one(index, file_id)
    waiting = _waiting(index)
    rows = index.query(_RECORDINGS)
    for row in rows:
        row["status"] = status_of(row["status"], held=row["seq"] is None and row["file_id"] in waiting)
    return [Recording(**row) for row in rows]


def names_of(index: Index, file_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return what recordings are called: the earliest name of each. Those that are erased have none."""
    sql = (
        "SELECT file_id, arg_min(name, seen_at) AS name FROM sources"
        " WHERE file_id IN (SELECT unnest(?::UUID[])) GROUP BY file_id"
    )
    return {row["file_id"]: row["name"] for row in index.query(sql, [list(file_ids)])} if file_ids else {}


def status_of(stored: str, *, held: bool) -> str:
    """Return the status that is shown of a recording: held, if no reference of it is published and one waits."""
    return HELD if held and stored == "accepted" else stored


def _one(index: Index, file_id: UUID) -> list[Recording]:
    """Return one recording by a few small statements: to plan the large one takes longer than all of them."""
    known = index.only_in_base(file_id)
    if known is not None:
        for row in known:
            row["seq"] = row.pop("latest_seq")
            row["status"] = status_of(row["status"], held=row.pop("held"))
        return [Recording(**row) for row in known]
    found = index.newest_of_file("files", file_id, _OF_FILES)
    if not found:
        return []
    facts = max(found, key=lambda row: row["seq"])
    sources = index.of_file("sources", file_id, "name, kind, seen_at")
    seq = index.latest_of(file_id)
    sql = f"SELECT reference, committed_at AS predicted_at FROM {index.side_of(seq or 0)}.entries WHERE seq = ?"  # noqa: S608
    entry = index.query(sql, [seq]) if seq else []
    facts |= {
        "seq": seq,
        "status": status_of(facts["status"], held=seq is None and _waits(index, file_id)),
        "name": min(sources, key=lambda row: row["seen_at"])["name"] if sources else None,
        "demo": all(row["kind"] == "demo" for row in sources) if sources else None,
    }
    return [Recording(**facts, **(entry[0] if entry else {"reference": None, "predicted_at": None}))]


def _waiting(index: Index) -> set[UUID]:
    """Return the recordings that are in a reference that waits for a decision."""
    undecided = index.undecided()
    if not undecided:
        return set()
    sql = "SELECT DISTINCT file_id FROM coverage WHERE seq IN (SELECT unnest(?))"
    return {row["file_id"] for row in index.query(sql, [undecided])}


def _waits(index: Index, file_id: UUID) -> bool:
    """Say whether a recording is one of those."""
    undecided = index.undecided()
    return bool(undecided) and any(row["seq"] in undecided for row in index.of_file("coverage", file_id, "seq"))


def predictions(
    index: Index,
    file_id: UUID | None = None,
    *,
    seq: int | None = None,
    model: str | None = None,
    min_confidence: float = 0.0,
) -> list[Prediction]:
    """Return the detections of the latest references, in order of file, channel and time.

    Args:
        index: Needs coverage and predictions.
        file_id: Of one recording only, where given.
        seq: The log entry of its latest reference, by a caller who knows it and so spares a look for it.
        model: Of one model only, where given.
        min_confidence: The least that is of interest.
    """
    if file_id is None:
        return [Prediction(**row) for row in _all(index, "predictions", model, "r.confidence >= ?", [min_confidence])]
    rows = (Prediction(**row) for row in _of_one(index, "predictions", file_id, seq))
    return in_order(row for row in rows if row.confidence >= min_confidence and model in (None, row.model))


def utterances(
    index: Index, file_id: UUID | None = None, *, seq: int | None = None, model: str | None = None
) -> list[Utterance]:
    """Return the utterances of the latest references, in order of file, channel and time; see `predictions`."""
    if file_id is None:
        return [Utterance(**row) for row in _all(index, "utterances", model, "true", [])]
    rows = (Utterance(**row) for row in _of_one(index, "utterances", file_id, seq))
    return in_order(row for row in rows if model in (None, row.model))


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows of one recording in order of channel and time."""
    return sorted(rows, key=lambda row: (row.channel, row.start_s, row.end_s, row.model))


def known_models(index: Index, file_id: UUID) -> set[str]:
    """Return the names of the models of the group, and of those that the recording's latest reference covers."""
    group = index.query("SELECT name FROM group_models WHERE enabled AND seq = ?", [index.group_seq])
    covered = index.query(
        "SELECT model AS name FROM coverage WHERE file_id = ? AND seq = (SELECT seq FROM latest WHERE file_id = ?)",
        [file_id, file_id],
    )
    return {row["name"] for row in group + covered}


def _all(index: Index, table: str, model: str | None, condition: str, parameters: list[object]) -> list[dict[str, Any]]:
    if model is not None:
        condition, parameters = f"{condition} AND r.model = ?", [*parameters, model]
    return index.query(_ROWS.format(table=table, condition=condition), parameters)


def _of_one(index: Index, table: str, file_id: UUID, seq: int | None) -> list[dict[str, Any]]:
    """Return the rows of one recording's latest reference; what is wanted of them is chosen faster outside of SQL."""
    seq = index.latest_of(file_id) if seq is None else seq
    if seq is None:
        return []
    sql = f"SELECT * EXCLUDE (seq) FROM {index.side_of(seq)}.{table} WHERE seq = ? AND file_id = ?"  # noqa: S608
    return index.query(sql, [seq, file_id])
