"""A writer: uploads, ingests, changes the group and refreshes as the API and the flows do, until it is killed."""

import hashlib
import io
import os
import random
import signal
import time
import traceback
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from flows.refresh import enabled_models, publish_refresh, record_group
from flows.register import Seen, Source, register, statuses, unaccepted
from flows.shards import Job, Scored, jobs_of
from storage import steps
from storage.errors import StorageError
from storage.index import PLANNING_TABLES
from storage.lake import Lake
from storage.log import LogEntry
from storage.manifest import newest_seq
from storage.media import Blob, media_path
from storage.missing import missing
from storage.parquet import read_tables, write_tables
from storage.place import Place
from storage.snapshot import fold
from storage.tables import ANSWER_TABLES, table_from_rows
from tests.chaos import synthetic
from tests.chaos.journal import Journal, lines

FOLD_AFTER = 100
SHARED_CONTENTS = 400  # that any writer may upload, so that some arrive twice
ALL_AT_ONCE = 100_000


@dataclass(frozen=True)
class Death:
    """A writer's own kill -9: when it reaches a step for the `nth` time."""

    step: str
    nth: int


@dataclass(frozen=True)
class Work:
    """What a writer is started with."""

    place: Place
    journal: Path
    name: str
    seed: int
    death: Death | None = None
    new_versions: bool = False  # rather than going back to earlier ones, whose answers may have expired
    pause_s: float = 0.0  # after each piece of work


def die_at(death: Death | None, journal: Journal) -> None:
    """Let this process kill itself at a step."""
    if death is None:
        return
    reached = 0

    def on_step(step: str) -> None:
        nonlocal reached
        reached += step == death.step
        if reached == death.nth:
            journal.say("died", step=step)
            os.kill(os.getpid(), signal.SIGKILL)

    steps.on_step = on_step


def write(work: Work) -> None:
    """Work until the kill."""
    journal = Journal(work.journal)
    try:
        Writer(work, journal).go_on()
    except BaseException:
        journal.say("crashed", error=traceback.format_exc())
        os._exit(1)


class Writer:
    """One writer's lake, index and luck."""

    def __init__(self, work: Work, journal: Journal) -> None:
        self.work = work
        self.journal = journal
        self.luck = random.Random(work.seed)
        self.number = 0
        self.lake = Lake.open(work.place)
        self._index: Any = None
        die_at(work.death, journal)

    @property
    def index(self):
        if self._index is None:
            self._index = self.lake.index(PLANNING_TABLES)
        return self._index

    def go_on(self) -> None:
        """Try again what an earlier life may have left undone, under its key, and go on with new work."""
        left = unfinished(self.work.journal)
        if left and self.luck.random() < 0.5:
            self.attempt(left[0], UUID(left[1]))
        weights = (20, 20, 50, 6, 0) if self.work.new_versions else (40, 28, 30, 1, 1)
        while True:
            self.attempt(self.luck.choices(("upload", "ingest", "refresh", "group", "fold"), weights)[0])
            time.sleep(self.work.pause_s)

    def attempt(self, what: str, key: UUID | None = None) -> None:
        """Do one thing; what the store refuses is tried once more under the same key, as a flow's retry does."""
        key = key or uuid.uuid4()
        self.journal.say("begin", what=what, key=key)
        for _ in range(2):
            try:
                getattr(self, what)(key)
            except StorageError as error:
                self.journal.say("refused", what=what, error=f"{type(error).__name__}: {error}")
                time.sleep(0.05)
            else:
                break
        self.journal.say("end", what=what, key=key)

    def upload(self, key: UUID) -> None:
        """Store a recording and its receipt, as the API does."""
        self.number += 1
        name = f"{self.work.name}-{self.work.seed}-{self.number}"
        shared = self.luck.random() < 0.3
        content = synthetic.content(f"shared-{self.luck.randrange(SHARED_CONTENTS)}" if shared else name)
        with self.lake.media.staged(io.BytesIO(content)) as staged:
            self.lake.media.keep(staged)
        self.lake.inbox.add(staged.blob, name)
        self.journal.acknowledged("upload", name=name, sha256=staged.blob.sha256)

    def ingest(self, key: UUID, at_once: int = 6) -> None:
        """Register what was uploaded, then remove the receipts."""
        started_at = datetime.now(UTC)
        receipts = self.lake.inbox.receipts()[:at_once]
        sources: list[Source] = []
        for receipt in receipts:
            if not self._is_whole(receipt.sha256):
                if self._still_owed(receipt):
                    self.journal.say("lost", what=f"{receipt.path} is there, and its bytes are not")
                continue
            blob, mtime_ns = Blob(receipt.sha256, receipt.size_bytes), int(receipt.received_at.timestamp() * 1e9)
            uri = f"upload:{quote(receipt.name)}"
            sources.append(Source(blob, "upload", uri, receipt.name, mtime_ns, receipt.received_at))
        facts = {source.blob.sha256: synthetic.file_row(source.blob) for source in unaccepted(self.index, sources)}
        self._acknowledge(register(self.lake, self.index, Seen(sources, facts, []), key, started_at))
        known = statuses(self.index, sources)
        erased = self.index.erased([receipt.file_id for receipt in receipts])
        for receipt in receipts:
            if receipt.file_id in erased:
                self.lake.store.remove(media_path(receipt.sha256))
            if receipt.file_id in known or receipt.file_id in erased:
                self.lake.inbox.remove(receipt)

    def group(self, key: UUID) -> None:
        """Change the model group: to new versions, or to some that were there before."""
        every = {name: f"v{self.luck.randrange(3)}" for name in synthetic.MODELS}
        if self.work.new_versions:
            every = {name: uuid.uuid4().hex[:8] for name in synthetic.MODELS}
        disabled = not self.work.new_versions and self.luck.random() < 0.2
        record_group(
            self.lake, self.index, synthetic.group(every, frozenset({"tones"}) if disabled else frozenset()), key
        )
        self.journal.acknowledged("group", key=key, seq=self.index.entry_with_key(key))

    def refresh(self, key: UUID, at_once: int = 12) -> None:
        """Compute what is missing of some recordings, and publish it."""
        started_at = datetime.now(UTC)
        self.index.catch_up()
        if not self.index.group_seq:
            self.group(uuid.uuid4())
        enabled = dict(enabled_models(self.index))
        rows = missing(self.index, list(enabled.items()), started_at)
        jobs = jobs_of(rows)
        carried = list({row.file_id for row in rows} - {job.file_id for job in jobs})
        chosen = self.luck.sample(jobs, min(len(jobs), at_once))
        carried = self.luck.sample(sorted(carried), min(len(carried), at_once))
        if not chosen and not carried:
            return
        half = len(chosen) // 2
        shards = [
            self._scored(part, enabled, key, at) for at, part in enumerate((chosen[:half], chosen[half:])) if part
        ]
        self._acknowledge(
            publish_refresh(self.lake, self.index, reference=key, scored=shards, carried=carried, started_at=started_at)
        )

    def fold(self, key: UUID) -> None:
        """Write a snapshot, so that the next life need not read the whole log."""
        if self.index.catch_up() - newest_seq(self.lake.store) >= FOLD_AFTER:
            with self.lake.index() as everything:
                fold(self.lake.store, everything, after=FOLD_AFTER)

    def settle(self, give_up_after_s: float = 60) -> bool:
        """Do what is left, until nothing waits and nothing is missing; False says that there is no end."""
        give_up_at = time.monotonic() + give_up_after_s
        while time.monotonic() < give_up_at:
            self.ingest(uuid.uuid4(), ALL_AT_ONCE)
            self.refresh(uuid.uuid4(), ALL_AT_ONCE)
            self.index.catch_up()
            much_later = datetime.now(UTC) + 10 * synthetic.RETRY_PAUSE
            if not self.lake.inbox.receipts() and not missing(self.index, enabled_models(self.index), much_later):
                return True
            time.sleep(0.1)
        return False

    def _is_whole(self, sha256: str) -> bool:
        """Say whether the bytes are there and hash to their name."""
        if not self.lake.media.has(sha256):
            return False
        with self.lake.media.on_disk(sha256) as path:
            return hashlib.sha256(path.read_bytes()).hexdigest() == sha256

    def _still_owed(self, receipt: Any) -> bool:
        """Say whether a receipt is still there, of a recording that was not erased meanwhile."""
        self.index.catch_up()
        there = self.lake.store.stat(receipt.path) is not None
        return there and not self.index.erased([receipt.file_id])

    def _scored(self, jobs: list[Job], enabled: dict[str, str], reference: UUID, number: int) -> Scored:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ANSWER_TABLES}
        for job in jobs:
            for model, tries in job.tries.items():
                for table, found in synthetic.answer_rows(job.file_id, model, enabled[model], tries, reference).items():
                    rows[table] += found
        tables = {name: table_from_rows(name, found) for name, found in rows.items()}
        files = write_tables(self.lake.store, reference, uuid.uuid4(), tables, part=str(number))
        failures = sum(row["state"] == "failed" for row in rows["coverage"])
        return Scored(files, len(jobs), len(rows["utterances"]), len(rows["predictions"]), failures, float(len(jobs)))

    def _acknowledge(self, entry: LogEntry | None) -> None:
        """Note what a commit has said to be there, and by which answers it can be told."""
        if entry is None:
            return
        covered: list[Any] = []
        try:
            rows = read_tables(self.lake.store, entry.files, "coverage").to_pylist()
            covered = [(str(row["file_id"]), row["model"], row["model_version"]) for row in rows]
        except StorageError:  # rewritten and removed already: its entry is what was acknowledged
            covered = []
        self.journal.acknowledged(entry.op, key=entry.key, seq=entry.seq, covered=covered)


def unfinished(journal: Path) -> tuple[str, str] | None:
    """Return what a writer had begun when it was killed, and its key."""
    last = None
    for line in lines(journal):
        if line["kind"] == "begin":
            last = (line["what"], line["key"])
        elif line["kind"] == "end":
            last = None
    return last
