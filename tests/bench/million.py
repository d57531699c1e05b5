"""Makes the lake of a million recordings, 10 predictions and 2 utterances each, by the service's own commits and fold.

What is measured on it: a page of a list, and a list as a whole. Nothing waits for the disk meanwhile.
"""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from storage.commit import Draft, commit
from storage.inbox import Inbox
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.log import GroupModel
from storage.media import Media
from storage.place import Place
from storage.snapshot import fold
from tests.bench import rows
from tests.bench.commits import UnsyncedStore
from tests.bench.measures import timed

RECORDINGS: Final = 1_000_000
PREDICTIONS: Final = 10
UTTERANCES: Final = 2
COMMITS: Final = 100
INGESTED_AT: Final = 1_767_225_600  # 2026-01-01, in seconds since 1970; each commit is two minutes later


def ids_of_million(recordings: int = RECORDINGS) -> rows.Ids:
    """Return the ids of the recordings, in order."""
    return rows.random_ids(np.random.default_rng(17), recordings)


def make_million(root: Path, recordings: int = RECORDINGS) -> None:
    """Write the lake, with a snapshot and nothing after it."""
    rng, store = np.random.default_rng(5), UnsyncedStore(root)
    lake = Lake(Place.of(root), store, Media(store), Inbox(store))
    shares = np.array_split(rng.permutation(ids_of_million(recordings)), COMMITS)
    with timed(f"{2 * COMMITS} commits of {recordings:,} recordings"), Index(store, PLANNING_TABLES) as index:
        group = (GroupModel(rows.MODEL, rows.VERSION, "phrases", True, {}),)
        _commit(lake, index, "group", Draft(group=group))
        for number, ids in enumerate(shares):
            when = np.full(len(ids), INGESTED_AT + 120 * number)
            _commit(lake, index, "ingest", Draft({"files": rows.files(ids, when), "sources": rows.sources(ids, when)}))
            answers = rows.answers(ids, rng, utterances_each=UTTERANCES, predictions_each=PREDICTIONS)
            _commit(lake, index, "refresh", Draft(answers, reference=uuid.uuid4()))
    with timed("snapshot"), Index(store) as index:
        index.catch_up()
        fold(store, index, after=1)


def _commit(lake: Lake, index: Index, op: str, draft: Draft) -> None:
    commit(lake.store, index, op=op, key=uuid.uuid4(), plan=lambda: draft, started_at=datetime.now(UTC))
