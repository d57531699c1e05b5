"""Measures commits of 10,000 predictions after few and after many earlier ones, and what a reader does with them."""

import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from storage import commit, parquet, tail
from storage.commit import Draft
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.parquet import write_tables
from storage.store import LocalStore
from tests.bench.measures import Figures, p50, percentile, timed
from tests.bench.rows import Ids, answers, random_ids

RECORDINGS: Final = 250  # of one commit: 10,000 predictions
ROUNDS: Final = 60
EARLIER_FEW: Final = 10
EARLIER_MANY: Final = 10_000


class UnsyncedStore(LocalStore):
    """A folder for what the bench makes before it measures: nothing waits for the disk."""

    def write(self, path: str, content: bytes) -> None:
        place = self.local_path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def refresh(lake: Lake, index: Index, ids: Ids, rng: np.random.Generator) -> LogEntry:
    """Commit the answers of these recordings."""
    return commit_tables(lake, index, answers(ids, rng))


def commit_tables(lake: Lake, index: Index, tables: dict[str, Any]) -> LogEntry:
    draft = Draft(tables, reference=uuid.uuid4(), counts={"computed": tables["coverage"].num_rows})
    entry = lake.commit(index, op="refresh", key=uuid.uuid4(), plan=lambda: draft, started_at=datetime.now(UTC))
    assert entry is not None
    return entry


def with_earlier(root: Path, commits: int) -> Lake:
    """Make a lake with that many commits of one recording, always the same, which no maintenance has touched."""
    store, rng = UnsyncedStore(root), np.random.default_rng(commits)
    written = write_tables(store, uuid.uuid4(), uuid.uuid4(), answers(random_ids(rng, 1), rng))
    contents = [store.read(file.path) or b"" for file in written]
    for seq in range(1, commits + 1):
        key, now = uuid.uuid4(), datetime.now(UTC)
        files = tuple(replace(file, path=f"data/{file.table}/{key}/{key}-0.parquet") for file in written)
        for file, content in zip(files, contents, strict=True):
            store.write(file.path, content)
        entry = LogEntry(seq, "refresh", key, key, now, now, 0, reference=uuid.uuid4(), files=files)
        store.write(commit.entry_path(seq), commit.encode(entry))
    return Lake.open(root)


class Parts:
    """Adds up where the time of a commit goes."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)

    def timing(self, owner: object, name: str, part: str) -> Any:
        original: Callable[..., Any] = getattr(owner, name)

        def measured(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.ms[part] += (time.perf_counter() - started) * 1000

        return patch.object(owner, name, measured)

    def watching(self) -> ExitStack:
        stack = ExitStack()
        for owner, name, part in (
            (parquet, "in_order", "sort"),
            (parquet.pq, "write_table", "encode"),
            (os, "fsync", "fsync"),
            (commit, "write_tables", "tables"),
            (commit, "publish", "log"),
            (tail.Tail, "apply", "apply"),
        ):
            stack.enter_context(self.timing(owner, name, part))
        return stack


def measure(root: Path) -> Figures:
    """Commit to both lakes in turns, so that what else the machine does hits both alike; one reader follows."""
    with timed(f"a lake with {EARLIER_FEW} commits, and one with {EARLIER_MANY:,}"):
        few, many = with_earlier(root / "few", EARLIER_FEW), with_earlier(root / "many", EARLIER_MANY)
        os.sync()
    with timed("opening the latter without a snapshot, to plan") as opened:
        authors = {"few": (few, few.index(PLANNING_TABLES)), "many": (many, many.index(PLANNING_TABLES))}
    rng = np.random.default_rng(0)
    reader = few.index()
    took: dict[str, list[float]] = {"few": [], "many": [], "apply": []}
    parts = Parts()
    with timed(f"{ROUNDS} commits to each"), parts.watching():
        for turn in range(ROUNDS + 5):
            for name, (lake, index) in authors.items():
                tables = answers(random_ids(rng, RECORDINGS), rng)
                started = time.perf_counter()
                commit_tables(lake, index, tables)
                took[name].append((time.perf_counter() - started) * 1000)
            before = dict(parts.ms)
            started = time.perf_counter()
            reader.catch_up()
            took["apply"].append((time.perf_counter() - started) * 1000)
            parts.ms = defaultdict(float, before) if turn >= 5 else defaultdict(float)
    took = {name: values[5:] for name, values in took.items()}
    return {
        "commit_10k_ms": p50(took["few"]),
        "commit_10k_p95_ms": percentile(took["few"], 95),
        "commit_10k_after_10000_ms": p50(took["many"]),
        "commit_10k_after_10000_p95_ms": percentile(took["many"], 95),
        "commit_ratio": round(p50(took["many"]) / p50(took["few"]), 2),
        "commit_parts_mean_ms": {part: round(total / (2 * ROUNDS), 2) for part, total in sorted(parts.ms.items())},
        "apply_entry_ms": p50(took["apply"]),
        "apply_entry_p95_ms": percentile(took["apply"], 95),
        "open_10k_commits_no_snapshot_s": opened["s"],
    }
