"""What shards have scored and nobody has published yet: `state/scored/`, so that a kill costs no more than a shard.

A run notes each shard that is done, and forgets its notes once its reference is published. What a run that died has
left is taken by the next one that plans. That the run may be alive after all does no harm: a refresh publishes only
what is still missing. It must not know how anything is scored.
"""

import dataclasses
import hashlib
import json
import logging
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from flows.shards import Scored
from storage.errors import StoreError
from storage.lake import Lake
from storage.log import DataFile
from storage.missing import Answer, Missing
from storage.parquet import read_tables
from storage.store import Store

log = logging.getLogger(__name__)

FOLDER: Final = "state/scored"


@dataclass(frozen=True, slots=True)
class Left:
    """A shard that was scored and not published.

    Attributes:
        path: Of its note.
        scored: What it came to.
        answers: Which answers that are.
        failed: Which of them are failures.
    """

    path: str
    scored: Scored
    answers: frozenset[Answer]
    failed: frozenset[Answer] = frozenset()

    def part(self, owed: Container[tuple[UUID, str]]) -> "Left":
        """Return it with the figures of what is owed alone."""
        wanted = [answer for answer in self.answers if answer[:2] in owed]
        if len(wanted) == len(self.answers):
            return self
        audio_s = self.scored.audio_s * len(wanted) / len(self.answers)
        failures = len(self.failed.intersection(wanted))
        return replace(self, scored=replace(self.scored, audio_s=audio_s, failures=failures))


def note(store: Store, scored: Scored) -> str | None:
    """Note a shard that is done, and return the note's path; None where there is none, which fails nothing else."""
    if not scored.files:
        return None
    path = f"{FOLDER}/{uuid.uuid4()}.json"
    plain = dataclasses.asdict(scored) | {"loaded": [], "refused": {}}
    try:
        store.write(path, json.dumps(plain, default=str).encode())
    except StoreError as error:
        log.warning("a kill would have this shard scored again: %s", error)
        return None
    return path


def left(lake: Lake, rows: Iterable[Missing], *, failures: bool = True) -> list[Left]:
    """Return what earlier runs have left of what is missing; other notes are of no use any more, and are removed.

    A note may say more than is missing, as that of a shard with what was asked for once more: the rest is passed over
    by who publishes. Of what is computed now, though, no answer may be there twice.

    Args:
        lake: Where notes are.
        rows: What is missing.
        failures: Whether a failure is an answer: not to somebody who asks for it again.
    """
    owed = {(row.file_id, row.model): None if row.is_there else row.model_version for row in rows}
    taken: set[tuple[UUID, str]] = set()
    found = []
    for name in lake.store.names(FOLDER):
        path = f"{FOLDER}/{name}"
        each = _read(lake, path)
        versions = {(file_id, model): version for file_id, model, version in each.answers} if each else {}
        fits = all(owed.get(pair, version) == version for pair, version in versions.items())
        fits = fits and not versions.keys().isdisjoint(owed) and versions.keys().isdisjoint(taken)
        if each is not None and fits and (failures or not each.failed):
            found.append(each.part(owed))
            taken |= versions.keys()
        else:
            lake.store.remove(path)
    return found


def forget(store: Store, paths: Iterable[str]) -> None:
    """Remove notes of what is published; one that stays is of no use to the next run, which removes it."""
    try:
        for path in paths:
            store.remove(path)
    except StoreError as error:
        log.warning("notes of shards stay until the next run: %s", error)


def _is_whole(lake: Lake, file: DataFile) -> bool:
    content = lake.store.read(file.path)
    return content is not None and hashlib.sha256(content).hexdigest() == file.sha256


def _read(lake: Lake, path: str) -> Left | None:
    """Return what a note says, where its Parquet files are there."""
    try:
        raw = json.loads(lake.store.read(path) or b"")
        files = tuple(
            DataFile(**file | {"min_file_id": UUID(file["min_file_id"]), "max_file_id": UUID(file["max_file_id"])})
            for file in raw["files"]
        )
        scored = Scored(**raw | {"files": files, "loaded": frozenset(raw["loaded"])})
        if not all(_is_whole(lake, file) for file in files):
            log.warning("%s names files that are gone or damaged: what it says is computed again", path)
            return None
        columns = ["file_id", "model", "model_version", "state"]
        rows = read_tables(lake.store, files, "coverage").select(columns).to_pylist()
    except (KeyError, TypeError, ValueError):
        return None
    answers = {(row["file_id"], row["model"], row["model_version"]): row["state"] for row in rows}
    failed = frozenset(answer for answer, state in answers.items() if state == "failed")
    return Left(path, scored, frozenset(answers), failed)
