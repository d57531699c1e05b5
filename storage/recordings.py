"""What readers ask of an index: recordings with the rows of their latest reference, and no others."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from storage.index import Index

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

_ROWS: Final = """
SELECT r.* EXCLUDE (seq) FROM {table} r JOIN latest USING (file_id, seq)
WHERE {conditions} ORDER BY r.file_id, r.channel, r.start_s, r.end_s, r.model
"""

_ROWS_OF_ONE: Final = """
SELECT r.* EXCLUDE (seq) FROM {table} r WHERE {conditions} ORDER BY r.channel, r.start_s, r.end_s, r.model
"""


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording as it is now. `reference` is None until its first refresh."""

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


def recordings(index: Index, file_id: UUID | None = None) -> list[Recording]:
    """Return the recordings, newest first; at most one where `file_id` is given."""
    if file_id is not None:
        return _one(index, file_id)
    return [Recording(**row) for row in index.query(_RECORDINGS)]


def _one(index: Index, file_id: UUID) -> list[Recording]:
    """Return one recording by a few small statements: to plan the large one takes longer than all of them."""
    found = index.of_file("files", file_id)
    if not found:
        return []
    sources = index.of_file("sources", file_id, "name, kind, seen_at")
    seq = index.latest_of(file_id)
    sql = f"SELECT reference, committed_at AS predicted_at FROM {index.side_of(seq or 0)}.entries WHERE seq = ?"  # noqa: S608
    entry = index.query(sql, [seq]) if seq else []
    facts = max(found, key=lambda row: row["seq"]) | {
        "seq": seq,
        "name": min(sources, key=lambda row: row["seen_at"])["name"] if sources else None,
        "demo": all(row["kind"] == "demo" for row in sources) if sources else None,
    }
    return [Recording(**facts, **(entry[0] if entry else {"reference": None, "predicted_at": None}))]


def predictions(
    index: Index, file_id: UUID | None = None, *, model: str | None = None, min_confidence: float = 0.0
) -> list[Prediction]:
    """Return the detections of the latest references, in order of file, channel and time."""
    conditions, parameters = ["r.confidence >= ?"], [min_confidence]
    return [Prediction(**row) for row in _rows(index, "predictions", file_id, model, conditions, parameters)]


def utterances(index: Index, file_id: UUID | None = None, *, model: str | None = None) -> list[Utterance]:
    """Return the utterances of the latest references, in order of file, channel and time."""
    return [Utterance(**row) for row in _rows(index, "utterances", file_id, model, [], [])]


def known_models(index: Index, file_id: UUID) -> set[str]:
    """Return the names of the models of the group, and of those that the recording's latest reference covers."""
    group = index.query("SELECT name FROM group_models WHERE enabled AND seq = ?", [index.group_seq])
    covered = index.query(
        "SELECT model AS name FROM coverage WHERE file_id = ? AND seq = (SELECT seq FROM latest WHERE file_id = ?)",
        [file_id, file_id],
    )
    return {row["name"] for row in group + covered}


def _rows(
    index: Index,
    table: str,
    file_id: UUID | None,
    model: str | None,
    conditions: Iterable[str],
    parameters: Iterable[object],
) -> list[dict[str, Any]]:
    conditions, parameters = list(conditions), list(parameters)
    if model is not None:
        conditions.append("r.model = ?")
        parameters.append(model)
    if file_id is None:
        return index.query(_ROWS.format(table=table, conditions=" AND ".join(conditions) or "true"), parameters)
    seq = index.latest_of(file_id)
    if seq is None:
        return []
    conditions += ["r.file_id = ?", "r.seq = ?"]
    sql = _ROWS_OF_ONE.format(table=f"{index.side_of(seq)}.{table}", conditions=" AND ".join(conditions))
    return index.query(sql, [*parameters, file_id, seq])
