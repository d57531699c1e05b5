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

MOST_COMPARED: Final = 2_000
"""Recordings of which the answers of two versions are compared, the newest ones: they have to be read."""

_NAMESPACE: Final = UUID("5e0b9ad4-7f40-5c7c-9c39-7a1f5c5f0f2d")

_USABLE: Final = """
WITH undecided AS (SELECT seq FROM withheld WHERE seq NOT IN (SELECT seq FROM decisions)),
usable AS (SELECT * FROM answers UNION ALL SELECT * FROM coverage WHERE seq IN (SELECT seq FROM undecided))
SELECT file_id, model, model_version, max(seq) AS seq FROM usable
WHERE state <> 'failed' AND model = $model AND ($ids::UUID[] IS NULL OR file_id IN (SELECT unnest($ids::UUID[])))
GROUP BY ALL
"""

_BEFORE: Final = """
SELECT arg_max(version, seq) AS version, max(seq) AS seq FROM group_models
WHERE name = $name AND version <> $version AND enabled
"""
_SINCE: Final = """
SELECT min(g.seq) AS seq, min(e.committed_at) AS at FROM group_models g JOIN entries e USING (seq)
WHERE g.name = $name AND g.version = $version AND g.seq > $before
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
    is_complete: bool  # nothing is left that only the older one has answered

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
    answers = answers_of(index, member.name)
    old = {one.file_id: one for one in answers if one.model_version == before["version"]}
    new = {one.file_id: one for one in answers if one.model_version == member.version}
    both = sorted(old.keys() & new.keys(), key=lambda id_: (-new[id_].seq, id_))[:MOST_COMPARED]
    return Change(
        comparison_id,
        member.name,
        before["version"],
        member.version,
        since["at"],
        tuple(old[id_] for id_ in both),
        tuple(new[id_] for id_ in both),
        is_complete=old.keys() <= new.keys(),
    )
