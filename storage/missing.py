"""What a model group still owes: which recordings lack which models' answers, and which answers are kept already.

Answers in a reference that is held are neither missing nor kept: they wait for its decision. Those of a one-off are
nobody's: see FORMAT.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from storage.index import Index

MAX_TRIES: Final = 3

Answer = tuple[UUID, str, str]
"""Of which recording, by which model, of which version."""

_MISSING: Final = """
WITH wanted AS (SELECT unnest($names) AS model, unnest($versions) AS model_version),
newest AS (SELECT c.* FROM coverage c JOIN latest USING (file_id, seq)),
kept AS (SELECT file_id, model, model_version, max(seq) AS seq FROM answers WHERE state <> 'failed' GROUP BY ALL),
read AS (SELECT file_id, model, list(seq) AS seqs FROM kept GROUP BY ALL)
SELECT f.file_id, f.sha256, f.duration_s, f.ingested_at, w.model, w.model_version,
       CASE WHEN {again} THEN 0 ELSE coalesce(a.tries, 0) END AS tries,
       CASE WHEN NOT {again} THEN k.seq END AS kept_seq, CASE WHEN NOT {again} THEN r.seqs END AS read_seqs,
       coalesce(a.state <> 'failed', false) AS is_there
FROM files f CROSS JOIN wanted w
LEFT JOIN newest a USING (file_id, model, model_version)
LEFT JOIN kept k USING (file_id, model, model_version)
LEFT JOIN read r USING (file_id, model)
WHERE f.status = 'accepted'
  AND ({again} OR a.state IS NULL OR (a.state = 'failed' AND a.tries < $most AND a.next_try_at <= $now))
ORDER BY f.ingested_at DESC, f.file_id, w.model
"""
_AGAIN: Final = "(w.model IN (SELECT unnest($models)) AND f.file_id IN (SELECT unnest($files::UUID[])))"


@dataclass(frozen=True, slots=True)
class Again:
    """Answers that are to be computed although they may be there: those of some models for some recordings."""

    files: frozenset[UUID]
    models: frozenset[str]


@dataclass(frozen=True, slots=True)
class Missing:
    """A model's answer that a recording's latest reference lacks.

    `kept_seq` names the newest log entry that holds the answer all the same: it is carried, not computed. `read_seqs`
    name those with the model's answers of any version, the newest of each, whose texts may still be good. `is_there`:
    the latest reference has the answer, and it is computed again all the same.
    """

    file_id: UUID
    sha256: str
    duration_s: float
    ingested_at: datetime
    model: str
    model_version: str
    tries: int  # that failed so far
    kept_seq: int | None
    read_seqs: tuple[int, ...]
    is_there: bool


def missing(
    index: Index,
    enabled: list[tuple[str, str]],
    now: datetime,
    unavailable: Collection[str] = frozenset(),
    computed: Collection[Answer] = frozenset(),
    again: Again | None = None,
) -> list[Missing]:
    """Return what is missing and can be had, newest recordings first.

    Nothing is missing of a recording of which all that is missing waits; with anything else it is computed whole again,
    since nothing is carried from a reference that is held. What is to be computed again is missing whatever is there.

    Args:
        index: Needs the tables files and coverage.
        enabled: Name and version of each enabled model.
        now: Failures are tried again only after their pause.
        unavailable: Models that cannot be loaded: of theirs only what is kept, or computed, can be had.
        computed: Answers that are there already, and in no reference yet.
        again: What was asked for once more.
    """
    asked: dict[str, object] = {"names": [name for name, _ in enabled], "versions": [version for _, version in enabled]}
    asked |= {"most": MAX_TRIES, "now": now}
    if again is not None:
        asked |= {"models": list(again.models), "files": list(again.files)}
    found = index.query(_MISSING.format(again="false" if again is None else _AGAIN), asked)
    rows = [
        Missing(**row | {"read_seqs": tuple(row["read_seqs"] or ())})
        for row in found
        if row["model"] not in unavailable or row["kept_seq"] is not None or _answer(row) in computed
    ]
    waiting = _waiting(index) if rows else set()
    if not waiting:
        return rows
    due = {
        row.file_id
        for row in rows
        if (row.file_id, row.model, row.model_version) not in waiting
        or (again is not None and row.model in again.models and row.file_id in again.files)
    }
    return [row for row in rows if row.file_id in due]


def answers_kept(
    index: Index, file_ids: frozenset[UUID], enabled: list[tuple[str, str]]
) -> dict[tuple[UUID, str], int]:
    """Return for each recording and enabled model the newest log entry that holds the model's answer, failures too.

    The latest reference's answer comes before an older one's, unless the latest is a failure and an older one is not.
    """
    sql = """
        WITH wanted AS (SELECT unnest(?) AS model, unnest(?) AS model_version)
        SELECT file_id, model, arg_max(seq, (state <> 'failed', seq)) AS seq
        FROM answers JOIN wanted USING (model, model_version)
        WHERE file_id IN (SELECT unnest(?)) GROUP BY ALL
    """
    names, versions = [name for name, _ in enabled], [version for _, version in enabled]
    rows = index.query(sql, [names, versions, list(file_ids)])
    return {(row["file_id"], row["model"]): row["seq"] for row in rows}


def _waiting(index: Index) -> set[Answer]:
    """Return the answers, failures too, that wait for the decision on a reference that is held."""
    undecided = index.undecided()
    if not undecided:
        return set()
    sql = "SELECT DISTINCT file_id, model, model_version FROM coverage WHERE seq IN (SELECT unnest(?))"
    return {_answer(row) for row in index.query(sql, [undecided])}


def _answer(row: Mapping[str, Any]) -> Answer:
    return row["file_id"], row["model"], row["model_version"]
