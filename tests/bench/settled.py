"""Makes the lake of a service that has nothing to do: every recording known, answered, and in the baseline of drift.

The recordings lie in the watched folder, as files of their size without content, so that a look at it costs what it
costs a user. Nothing waits for the disk meanwhile.
"""

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from flows.refresh import models_of
from models.group import Group
from storage.commit import Draft, commit
from storage.index import PLANNING_TABLES, Index
from storage.snapshot import fold
from storage.tables import table_from_rows
from tests.bench import rows
from tests.bench.commits import UnsyncedStore
from tests.bench.measures import timed

RECORDINGS: Final = 100_000
COMMITS: Final = 50
UTTERANCES: Final = 2
PREDICTIONS: Final = 10
IN_A_FOLDER: Final = 1_000
INGESTED_AT: Final = 1_767_225_600  # 2026-01-01, in seconds since 1970; each commit is two minutes later


def make_settled(root: Path, watched: Path, group: Group, recordings: int = RECORDINGS) -> None:
    """Write the lake, with a snapshot and nothing after it, and the watched folder.

    Args:
        root: The data folder.
        watched: The watched folder.
        group: Whose models have answered.
        recordings: How many.
    """
    rng, store = np.random.default_rng(23), UnsyncedStore(root)
    ids = rng.permutation(rows.random_ids(rng, recordings))
    with timed(f"{recordings:,} files in the watched folder"):
        paths = _fill(watched, ids)
    with timed(f"{2 * COMMITS} commits of {recordings:,} recordings"), Index(store, PLANNING_TABLES) as index:
        _commit(store, index, "group", Draft(group=models_of(group)))
        for number, chosen in enumerate(np.array_split(np.arange(recordings), COMMITS)):
            when = np.full(len(chosen), INGESTED_AT + 120 * number)
            sources = _renamed(rows.sources(ids[chosen], when), uri=[paths[at] for at in chosen])
            _commit(store, index, "ingest", Draft({"files": rows.files(ids[chosen], when), "sources": sources}))
            _commit(store, index, "refresh", Draft(_answers(ids[chosen], group, rng), reference=uuid.uuid4()))
        _commit(store, index, "drift", Draft(_baseline(ids)))
    with timed("snapshot"), Index(store) as index:
        index.catch_up()
        fold(store, index, after=1)


def _fill(watched: Path, ids: rows.Ids) -> list[str]:
    """Make the files as `rows.sources` says that they are; return their URIs."""
    found = []
    for number, one in enumerate(ids):
        folder = watched / f"{number // IN_A_FOLDER:04d}"
        if number % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        path = folder / f"call-{one[:6].tobytes().hex()}.wav"
        path.touch()
        os.truncate(path, 512_044)
        at_ns = (INGESTED_AT + 120 * (number * COMMITS // len(ids))) * 1_000_000_000
        os.utime(path, ns=(at_ns, at_ns))
        found.append(path.as_uri())
    return found


def _answers(ids: rows.Ids, group: Group, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return answers of every enabled model; one has the utterances and the predictions."""
    found = rows.answers(ids, rng, utterances_each=UTTERANCES, predictions_each=PREDICTIONS)
    first = group.enabled[0]
    made = {name: _renamed(table, model=first.name, model_version=first.version) for name, table in found.items()}
    covered = [
        _renamed(found["coverage"], model=model.name, model_version=model.version, predictions=0)
        for model in group.enabled[1:]
    ]
    return made | {"coverage": pa.concat_tables([made["coverage"], *covered])}


def _baseline(ids: rows.Ids) -> dict[str, pa.Table]:
    baseline = uuid.uuid4()
    count = len(ids)
    about = {"baseline_id": baseline.bytes, "name": "first", "version": 1, "chosen": "all", "recordings": count}
    about |= {"utterances": UTTERANCES * count, "made_at": datetime.now(UTC)}
    row = {"window_id": baseline.bytes, "arrived_seq": 0, "utterances": UTTERANCES}
    in_it = table_from_rows("drift_files", [row | {"file_id": one.tobytes()} for one in ids])
    return {"baselines": table_from_rows("baselines", [about]), "drift_files": in_it}


def _renamed(table: pa.Table, **columns: object) -> pa.Table:
    """Return a table with other columns: lists, or one value for all rows."""
    for name, value in columns.items():
        field, at = table.schema.field(name), table.schema.get_field_index(name)
        values = value if isinstance(value, list) else [value] * table.num_rows
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def _commit(store: UnsyncedStore, index: Index, op: str, draft: Draft) -> None:
    commit(store, index, op=op, key=uuid.uuid4(), plan=lambda: draft, started_at=datetime.now(UTC))
