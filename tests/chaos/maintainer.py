"""A maintainer: does what the maintenance flow does, stage by stage, until it is killed; time passes for it faster."""

import io
import os
import random
import time
import traceback
import uuid
from datetime import UTC, datetime, timedelta

from storage import rewrite
from storage.erasure import erase, purge
from storage.errors import StorageError
from storage.index import Index
from storage.lake import Lake
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold
from storage.vacuum import vacuum
from tests.chaos.journal import Journal
from tests.chaos.writer import Work, die_at

GRACE = timedelta(hours=1)  # the least that the product allows
LATER = timedelta(hours=2)  # vacuum is told that it is so much later than it is
MUCH_LATER = timedelta(days=2)
RETENTION = Retention(keep_references=2)
FOLD_AFTER = 8
ERASURES = 0.25  # a round; a purge removes older snapshots itself, and leaves vacuum none
SMALL_FILES = 6  # make a rewrite worth it here
MAX_ROUNDS = 50


def maintain(work: Work) -> None:
    """Maintain until the kill."""
    journal, luck = Journal(work.journal), random.Random(work.seed)
    rewrite.MIN_SMALL_FILES = SMALL_FILES
    try:
        lake = Lake.open(work.place)
        with lake.index() as index:
            die_at(work.death, journal)
            while True:
                journal.say("begin", what="maintain")
                try:
                    one_round(lake, index, journal, luck)
                except StorageError as error:
                    journal.say("refused", what="maintain", error=f"{type(error).__name__}: {error}")
                    time.sleep(0.05)
    except BaseException:
        journal.say("crashed", error=traceback.format_exc())
        os._exit(1)


def one_round(lake: Lake, index: Index, journal: Journal, luck: random.Random) -> None:
    """Do every stage once; people demand an erasure now and then, and uploads break off."""
    index.catch_up()
    known = [row["file_id"] for row in index.query("SELECT file_id FROM files ORDER BY file_id")]
    if known and luck.random() < ERASURES:
        entry = erase(lake, index, [luck.choice(known)], uuid.uuid4())
        if entry is not None:
            journal.acknowledged("erase", key=entry.key, seq=entry.seq)
    lake.media.add(io.BytesIO(luck.randbytes(200)))  # an upload that broke off before its receipt
    stages(lake, index, now=datetime.now(UTC) + LATER)
    index.rebase()


def stages(lake: Lake, index: Index, *, now: datetime, fold_after: int = FOLD_AFTER) -> None:
    """Do every stage of maintenance, in the flow's order."""
    purge(lake, index, uuid.uuid4(), now)
    for step in (
        lambda: expire(lake, index, RETENTION, uuid.uuid4()),
        lambda: compact(lake, index, uuid.uuid4()),
    ):
        for _ in range(MAX_ROUNDS):
            if step() is None:
                break
    index.catch_up()
    fold(lake.store, index, after=fold_after)
    index.catch_up()
    vacuum(lake, index, uuid.uuid4(), grace=GRACE, now=now)
