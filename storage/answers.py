"""Which answers of which versions of a model there are, held references' among them; and which models have changed.

Answers of held references count here, since they are looked at before anybody decides; those of rejected ones do not.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from storage.index import Index
from storage.missing import MAX_TRIES

MOST_COMPARED: Final = 2_000
"""Recordings of which the answers of two versions are compared, the newest ones: they have to be read."""

_NAMESPACE: Final = UUID("5e0b9ad4-7f40-5c7c-9c39-7a1f5c5f0f2d")

_COUNTING: Final = """
WITH usable AS (SELECT * FROM answers UNION ALL SELECT * FROM coverage WHERE seq IN (SELECT seq FROM undecided))
"""

CUT: Final = "utterances"
"""Among a model's settings: how the speech that it is given was cut into utterances."""

_CUTS: Final = """
SELECT DISTINCT name, version, settings::JSON ->> 'utterances' AS cut FROM group_models
"""

_USABLE: Final = f"""
{_COUNTING} SELECT file_id, model, model_version, max(seq) AS seq FROM usable
WHERE state <> 'failed' AND model = $model AND ($ids::UUID[] IS NULL OR file_id IN (SELECT unnest($ids::UUID[])))
GROUP BY ALL
"""  # noqa: S608  names from above

_KNOWN: Final = f"""
{_COUNTING}, known AS (
  SELECT file_id, max(seq) FILTER (model_version = $before) AS before_seq,
         max(seq) FILTER (model_version = $version) AS after_seq
  FROM usable WHERE state <> 'failed' AND model = $name AND model_version IN ($before, $version) GROUP BY file_id)
"""  # noqa: S608

_OF_BOTH: Final = f"""
{_KNOWN} SELECT file_id, before_seq, after_seq FROM known WHERE before_seq IS NOT NULL AND after_seq IS NOT NULL
ORDER BY after_seq DESC, file_id LIMIT $most
"""  # noqa: S608

_LEFT_OVER: Final = f"""
{_KNOWN}, given_up AS (
  SELECT file_id FROM coverage
  WHERE model = $name AND model_version = $version AND state = 'failed' AND tries >= $tries)
SELECT count(*) AS count FROM known ANTI JOIN given_up USING (file_id)
WHERE before_seq IS NOT NULL AND after_seq IS NULL
"""  # noqa: S608

# Groups of one-offs, which are held, are no changes.
_BEFORE: Final = """
SELECT arg_max(version, seq) AS version, max(seq) AS seq FROM group_models
WHERE name = $name AND version <> $version AND enabled AND seq NOT IN (SELECT seq FROM held)
"""
_SINCE: Final = """
SELECT min(g.seq) AS seq, min(e.committed_at) AS at FROM group_models g JOIN entries e USING (seq)
WHERE g.name = $name AND g.version = $version AND g.seq > $before AND g.seq NOT IN (SELECT seq FROM held)
"""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An enabled model, as the log has it last."""

    name: str
    version: str
    task: str


@dataclass(frozen=True, slots=True)
class AnswerOf:
    """That a version of a model has answered for a recording, and the log entry that has its rows."""

    file_id: UUID
    model: str
    model_version: str
    seq: int


@dataclass(frozen=True, slots=True)
class Change:
    """A model's change to another version, and recordings for which both have answered."""

    comparison_id: UUID
    model: str
    before_version: str
    after_version: str
    changed_at: datetime
    before: tuple[AnswerOf, ...]
    after: tuple[AnswerOf, ...]  # of the same recordings
    is_complete: bool  # nothing is left that only the older one has answered, but what the newer one cannot

    def is_ripe(self, recordings: int) -> bool:
        """Say whether so many recordings have both answers, or all that there are."""
        return bool(self.after) and (self.is_complete or len(self.after) >= recordings)


def enabled_group(index: Index) -> list[GroupMember]:
    """Return the enabled models."""
    sql = "SELECT name, version, task FROM group_models WHERE enabled AND seq = ? ORDER BY name"
    return [GroupMember(**row) for row in index.query(sql, [index.group_seq])]


def answers_of(index: Index, model: str, file_ids: Collection[UUID] | None = None) -> list[AnswerOf]:
    """Return the newest answer of every version of a model, for some recordings or all, those that failed left out."""
    ids = None if file_ids is None else list(file_ids)
    return [AnswerOf(**row) for row in index.query(_USABLE, {"model": model, "ids": ids})]


def cuts(index: Index) -> dict[tuple[str, str], str]:
    """Return how speech was cut for each version of each model, as JSON; empty where the log does not say."""
    return {(row["name"], row["version"]): row["cut"] or "" for row in index.query(_CUTS)}


def changes(index: Index) -> list[Change]:
    """Return the last change of each enabled model, unless the two versions were compared."""
    found = (_last_change(index, member) for member in enabled_group(index))
    return [one for one in found if one is not None]


def _last_change(index: Index, member: GroupMember) -> Change | None:
    now = {"name": member.name, "version": member.version}
    (before,) = index.query(_BEFORE, now)
    if before["version"] is None:
        return None
    (since,) = index.query(_SINCE, now | {"before": before["seq"]})
    comparison_id = uuid.uuid5(_NAMESPACE, f"{member.name}/{before['version']}/{member.version}/{since['seq']}")
    if index.entry_with_key(comparison_id) is not None:
        return None
    versions = now | {"before": before["version"]}
    both = index.query(_OF_BOTH, versions | {"most": MOST_COMPARED})
    (left_over,) = index.query(_LEFT_OVER, versions | {"tries": MAX_TRIES})

    def answers(version: str, seq: str) -> tuple[AnswerOf, ...]:
        return tuple(AnswerOf(row["file_id"], member.name, version, row[seq]) for row in both)

    return Change(
        comparison_id,
        member.name,
        before["version"],
        member.version,
        since["at"],
        answers(before["version"], "before_seq"),
        answers(member.version, "after_seq"),
        is_complete=left_over["count"] == 0,
    )
