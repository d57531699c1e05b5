"""Makes the lake of a year: 262,800 commits, 10 million latest predictions, as the service's maintenance leaves it.

Every day the small files of two days before are rewritten, one table an entry. Half of the recordings are refreshed
a second time, half a year after the first. All is written without waiting for the disk, and without commits.
"""

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.log import DataFile, entry_path
from storage.manifest import FOLDER, Manifest, SnapshotFile, manifest_path
from storage.parquet import write_table
from storage.schema import SCHEMAS
from tests.bench import rows
from tests.bench.commits import UnsyncedStore
from tests.bench.measures import timed

DAYS: Final = 365
SLOTS: Final = 720  # commits a day
COMMITS: Final = DAYS * SLOTS
RECORDINGS: Final = 250_000
SMALL_DAYS: Final = 2  # of which nothing is rewritten yet
START: Final = datetime(2025, 1, 1, tzinfo=UTC)
SEGMENT_DAYS: Final = {"files": 365, "sources": 365, "coverage": 365, "utterances": 61, "predictions": 12}
"""After how many days a rewritten file has enough rows to be left alone."""

INGESTED, ANSWERED = ("files", "sources"), ("coverage", "utterances", "predictions")
NAMES: Final = INGESTED + ANSWERED  # descriptors are in no index, and nothing here reads them
BATCH: Final = 25_000  # recordings at a time


@dataclass
class Year:
    """What happened: which entry took in which recording, and which refreshed it."""

    ids: rows.Ids
    ops: NDArray[np.str_]  # of each entry; entry 1 is at 0
    taken: NDArray[np.int64]  # seq of each recording's ingest
    first: NDArray[np.int64]  # seq of its first refresh
    second: NDArray[np.int64]  # seq of its second refresh, 0 without one
    rewritten: dict[int, str] = field(default_factory=dict)  # table, by the seq of a rewrite

    @property
    def latest(self) -> NDArray[np.int64]:
        return np.maximum(self.first, self.second)

    def answered(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return recording and seq of every answer, in that order."""
        twice = np.flatnonzero(self.second)
        at = np.concatenate([np.arange(len(self.ids)), twice])
        seqs = np.concatenate([self.first, self.second[twice]])
        order = np.lexsort((seqs, at))
        return at[order], seqs[order]


def seconds_of(seqs: NDArray[np.int64]) -> NDArray[np.int64]:
    return seqs * 120 + int(START.timestamp())


def plan_year(rng: np.random.Generator) -> Year:
    """Deal recordings out to entries."""
    ops = np.where(np.arange(COMMITS) % 2 == 1, "ingest", "refresh").astype("<U8")
    rewritten = {}
    for day in range(SMALL_DAYS, DAYS):
        for number, name in enumerate(NAMES):
            ops[day * SLOTS + number] = "rewrite"
            rewritten[day * SLOTS + number + 1] = name
    ops[0] = "group"
    ingests, refreshes = np.flatnonzero(ops == "ingest") + 1, np.flatnonzero(ops == "refresh") + 1
    ids = rows.random_ids(rng, RECORDINGS)
    rank = rng.permutation(RECORDINGS)
    taken = ingests[rank * (len(ingests) - 2) // RECORDINGS]
    first = refreshes[np.searchsorted(refreshes, taken)]
    later = refreshes[np.minimum(np.searchsorted(refreshes, first + COMMITS // 2), len(refreshes) - 1)]
    return Year(ids, ops, taken, first, np.where(first + COMMITS // 2 < COMMITS - 10, later, 0), rewritten)


def make_year(root: Path) -> None:
    """Write the lake."""
    rng, store = np.random.default_rng(7), UnsyncedStore(root)
    year = plan_year(rng)
    with timed("Parquet files"):
        live, small = _rewritten_files(store, year, rng), _small_files(store, year, rng)
    with timed("log"):
        removed = _write_log(store, year, live, small)
    with timed("snapshot"):
        _write_snapshot(store, year, [*live.values(), *(one for files in small.values() for one in files)], removed)
    with timed("sync"):
        os.sync()


def _day(seq: int) -> int:
    return (seq - 1) // SLOTS


def _segment_end(name: str, day: int) -> int:
    """Return the last day of the rewritten file that has a day's rows."""
    length = SEGMENT_DAYS[name]
    return min(day // length * length + length, DAYS - SMALL_DAYS) - 1


def _rewritten_files(store: UnsyncedStore, year: Year, rng: np.random.Generator) -> dict[tuple[str, int], DataFile]:
    """Write what rewrites left: of each table one file a segment, by its last day."""
    found: dict[tuple[str, int], DataFile] = {}
    at, seqs = year.answered()
    recordings = np.argsort(year.taken, kind="stable")
    for name in NAMES:
        subjects, when = (recordings, year.taken[recordings]) if name in INGESTED else (at, seqs)
        day = 0
        while day < DAYS - SMALL_DAYS:
            end = _segment_end(name, day)
            chosen = np.flatnonzero((when > day * SLOTS) & (when <= (end + 1) * SLOTS))
            chosen = chosen[np.argsort(subjects[chosen], kind="stable")]
            table = _rows(name, year.ids[subjects[chosen]], when[chosen], rng)
            found[name, end] = write_table(store, uuid.uuid4(), uuid.uuid4(), "0", name, table)
            day = end + 1
    return found


def _rows(name: str, ids: rows.Ids, seqs: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    """Return rows of table `name`, each with its seq."""
    made = {
        "files": lambda: rows.files(ids, seconds_of(seqs)),
        "sources": lambda: rows.sources(ids, seconds_of(seqs)),
        "coverage": lambda: rows.coverage(ids, ids),
        "utterances": lambda: rows.utterances(ids, rng),
        "predictions": lambda: rows.predictions(ids, rng),
    }[name]()
    each = np.repeat(seqs, made.num_rows // max(1, len(ids)))
    return made.add_column(0, SCHEMAS[name].field("seq"), pa.array(each))


def _small_files(store: UnsyncedStore, year: Year, rng: np.random.Generator) -> dict[int, list[DataFile]]:
    """Write what the entries of the last days added, by seq."""
    found: dict[int, list[DataFile]] = {}
    at, seqs = year.answered()
    for seq in range((DAYS - SMALL_DAYS) * SLOTS + 1, COMMITS + 1):
        op = year.ops[seq - 1]
        if op == "rewrite":
            continue
        subjects = np.flatnonzero(year.taken == seq) if op == "ingest" else at[seqs == seq]
        names = INGESTED if op == "ingest" else ANSWERED
        key, attempt = uuid.uuid4(), uuid.uuid4()
        for name in names if len(subjects) else ():
            table = _rows(name, year.ids[subjects], np.full(len(subjects), seq), rng).drop_columns("seq")
            file = write_table(store, key, attempt, "0", name, table)
            found.setdefault(seq, []).append(dataclasses.replace(file, min_seq=seq, max_seq=seq))
    return found


def _write_log(
    store: UnsyncedStore, year: Year, live: dict[tuple[str, int], DataFile], small: dict[int, list[DataFile]]
) -> list[tuple[str, int]]:
    """Write every entry; return the paths that rewrites removed, with the entry that did."""
    (store.root / "log").mkdir(parents=True)
    busy = {"ingest": set(year.taken.tolist()), "refresh": set(year.answered()[1].tolist())}
    names = {"ingest": INGESTED, "refresh": ANSWERED}
    keys = [
        str(uuid.UUID(bytes=one.tobytes()))
        for one in np.random.default_rng(1).integers(0, 256, (COMMITS, 16), dtype=np.uint8)
    ]
    low, high = str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))
    filler = {"size_bytes": 9000, "rows": 60, "min_file_id": low, "max_file_id": high, "sha256": "0" * 64}
    days: dict[tuple[str, int], list[str]] = {}
    removed_paths: list[tuple[str, int]] = []
    for seq in range(1, COMMITS + 1):
        op, key = str(year.ops[seq - 1]), keys[seq - 1]
        files: list[dict[str, object]] = []
        removed: list[str] = []
        if op == "rewrite":
            name, day = year.rewritten[seq], _day(seq) - SMALL_DAYS
            removed = days.pop((name, day), [])
            if day and _segment_end(name, day - 1) != day - 1:
                removed.append(f"data/{name}/day-{day - 1}/0.parquet")
            seqs = {"min_seq": 1, "max_seq": (day + 1) * SLOTS}
            files = [{"table": name, "path": f"data/{name}/day-{day}/0.parquet", **filler, **seqs}]
            if _segment_end(name, day) == day:
                files = [_plain(live[name, day])]
            removed_paths += [(path, seq) for path in removed]
        elif seq in small:
            files = [_plain(file) for file in small[seq]]
        elif op in busy and seq in busy[op]:
            files = [{"table": name, "path": f"data/{name}/{key}/{key}-0.parquet", **filler} for name in names[op]]
            for file in files:
                days.setdefault((str(file["table"]), _day(seq)), []).append(str(file["path"]))
        at = (START + timedelta(seconds=120 * seq)).isoformat()
        group = [{"name": rows.MODEL, "version": rows.VERSION, "task": "phrases", "enabled": True, "settings": {}}]
        content = json.dumps(
            {
                "seq": seq, "op": op, "key": key, "attempt": key, "started_at": at, "committed_at": at,
                "group_seq": 1, "counts": {}, "reference": key if op == "refresh" else None,
                "group": group if op == "group" else [], "files": files, "removed": removed, "schema_version": 2,
            }
        )  # fmt: skip
        (store.root / entry_path(seq)).write_text(content)
    return removed_paths


def _plain(file: DataFile) -> dict[str, object]:
    return {
        name: getattr(file, name) if not name.endswith("file_id") else str(getattr(file, name))
        for name in DataFile.__slots__
    }


def _write_snapshot(store: UnsyncedStore, year: Year, live: list[DataFile], removed: list[tuple[str, int]]) -> None:
    folder = f"{FOLDER}/{COMMITS:020d}/{uuid.uuid4()}"
    (store.root / folder).mkdir(parents=True)
    written = {}
    for name, schema in SCHEMAS.items():
        path = f"{folder}/{name}.parquet"
        batches = pa.RecordBatchReader.from_batches(schema, _snapshot_rows(name, year, live, removed))
        with duckdb.connect() as connection:
            connection.register("rows", batches)
            connection.execute(f"COPY rows TO '{store.root / path}' (FORMAT parquet, COMPRESSION zstd)")
        content = (store.root / path).read_bytes()
        written[name] = SnapshotFile(
            path, len(content), pq.read_metadata(store.root / path).num_rows, hashlib.sha256(content).hexdigest()
        )
    store.write(manifest_path(COMMITS), Manifest(COMMITS, 1, written).encode())


def _snapshot_rows(
    name: str, year: Year, live: list[DataFile], removed: list[tuple[str, int]]
) -> Iterator[pa.RecordBatch]:
    rng, schema = np.random.default_rng(3), SCHEMAS[name]
    at, seqs = np.arange(RECORDINGS), year.latest
    if name in INGESTED:
        seqs = year.taken
    elif name == "coverage":
        at, seqs = year.answered()
    if name in NAMES:
        for start in range(0, len(at), BATCH):
            chosen = slice(start, start + BATCH)
            yield from _rows(name, year.ids[at[chosen]], seqs[chosen], rng).cast(schema).to_batches()
    elif name == "entries":
        every = np.arange(1, COMMITS + 1)
        keys = rng.integers(0, 256, (COMMITS, 16), dtype=np.uint8)
        when = rows.times(seconds_of(every))
        columns = [
            pa.array(every), pa.array(year.ops), rows.uuids(keys), rows.uuids(keys),
            pa.array(np.ones(COMMITS, np.int64)), when, when, rows.repeated("{}", COMMITS),
        ]  # fmt: skip
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    elif name == "group_models":
        model = {"seq": 1, "name": rows.MODEL, "version": rows.VERSION, "task": "phrases", "enabled": True}
        yield pa.RecordBatch.from_pylist([{**model, "settings": "{}"}], schema=schema)
    elif name == "data_files":
        found = [{**_plain(file), "table_name": file.table, "added_seq": file.max_seq} for file in live]
        for one, file in zip(found, live, strict=True):
            one |= {"min_file_id": file.min_file_id, "max_file_id": file.max_file_id}
        yield pa.RecordBatch.from_pylist(sorted(found, key=lambda one: str(one["path"])), schema=schema)
    elif name == "removed_files":
        recent = [{"path": path, "seq": seq} for path, seq in sorted(removed) if seq > COMMITS - 60 * SLOTS]
        yield pa.RecordBatch.from_pylist(recent, schema=schema)
