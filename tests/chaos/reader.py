"""A reader: asks for what a lake holds, again and again, and says where it is not whole."""

import os
import random
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from storage.errors import IndexDamagedError, StorageError
from storage.index import Index
from storage.lake import Lake
from storage.place import Place
from storage.recordings import predictions, recordings
from tests.chaos import synthetic
from tests.chaos.journal import Journal

PAUSE_S = 0.1


@dataclass(frozen=True)
class Reading:
    """What a reader is started with."""

    place: Place
    journal: Path
    seed: int


def read(work: Reading) -> None:
    """Read until the kill."""
    journal, luck = Journal(work.journal), random.Random(work.seed)
    try:
        reader = Reader(Lake.open(work.place), journal)
        while True:
            reader.look()
            time.sleep(luck.uniform(0, 2 * PAUSE_S))
    except BaseException:
        journal.say("crashed", error=traceback.format_exc())
        os._exit(1)


class Reader:
    """One process's view, which may only grow."""

    def __init__(self, lake: Lake, journal: Journal) -> None:
        self.lake, self.journal = lake, journal
        self.index: Index | None = None
        self.applied_seq = 0
        self.latest: dict[UUID, int] = {}  # seen so far

    def look(self) -> None:
        """Catch up, and check all that can be seen."""
        try:
            if self.index is None:
                self.index = self.lake.index()
            self.index.catch_up()
            self.index.rebase()
            with self.index.reading() as seen:
                wrong = self._wrong(self.index, seen.seq)
        except IndexDamagedError:
            return
        except StorageError as error:
            self.journal.say("refused", what="read", error=f"{type(error).__name__}: {error}")
            time.sleep(0.05)
            return
        for what in wrong:
            self.journal.say("half-visible", what=f"entry {seen.seq}: {what}")
        self.journal.say("read", seq=seen.seq, files=len(self.latest))

    def _wrong(self, index: Index, seq: int) -> list[str]:
        wrong: list[str] = []
        if seq < self.applied_seq:
            wrong.append(f"the index went back from {self.applied_seq}")
        self.applied_seq = seq
        erased = index.erased()
        latest = {row["file_id"]: row["seq"] for row in index.query("SELECT * FROM latest")}
        for file_id, before in self.latest.items():
            if file_id not in erased and latest.get(file_id, 0) < before:
                wrong.append(f"{file_id} was predicted by {before}, and is by {latest.get(file_id)}")
        self.latest = latest
        known = [row.file_id for row in recordings(index)]
        wrong += [f"{file_id} is erased, and is there" for file_id in erased & set(known)]
        wrong += [f"{file_id} is predicted, and not known" for file_id in latest.keys() - set(known)]
        if len(set(known)) < len(known):
            wrong.append("a recording is there twice")
        return wrong + not_whole(covered(index), found(index))


Answer = tuple[UUID, str, str]
"""A recording, a model and its version."""


def covered(index: Index) -> list[dict[str, Any]]:
    """Return the coverage rows of the latest references."""
    return index.query("SELECT c.* FROM coverage c JOIN latest l USING (file_id, seq)")


def found(index: Index) -> dict[Answer, list[synthetic.Detection]]:
    """Return the predictions of the latest references."""
    rows: dict[Answer, list[synthetic.Detection]] = defaultdict(list)
    for row in predictions(index):
        rows[row.file_id, row.model, row.model_version].append(
            synthetic.Detection(row.label, row.start_s, row.confidence)
        )
    return rows


def not_whole(coverage: list[dict[str, Any]], rows: dict[Answer, list[synthetic.Detection]]) -> list[str]:
    """Say where predictions are not exactly those that coverage tells of, or are none that a model makes."""
    wrong: list[str] = []
    told: set[Answer] = set()
    for row in coverage:
        answer = (row["file_id"], row["model"], row["model_version"])
        if answer in told:
            wrong.append(f"{answer} is covered twice")
        told.add(answer)
        expected = [] if row["state"] == "failed" else synthetic.detections(*answer)
        there = sorted(rows.get(answer, []), key=lambda one: one.start_s)
        if len(there) != row["predictions"] or there != expected:
            wrong.append(f"{answer}: {len(there)} rows, {row['predictions']} by its coverage, {len(expected)} made")
    versions = Counter(answer[:2] for answer in told)
    wrong += [f"{pair} is covered in {count} versions" for pair, count in versions.items() if count > 1]
    wrong += [f"{answer}: rows that no coverage tells of" for answer in rows.keys() - told]
    return wrong
