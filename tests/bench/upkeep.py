"""Measures maintenance of the lake of a year, each kind of work in a process of its own."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from storage.index import PLANNING_TABLES
from storage.lake import Lake
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold
from tests.bench.measures import Figures, in_fresh_process, peak_memory_mb, timed

EXPIRE_ENTRIES: Final = (
    4  # of 500 references each: what a year's first expiry has to do is as many times that as it takes
)


def fold_lake(root: Path) -> Figures:
    """Write a snapshot of everything."""
    lake = Lake.open(root)
    with lake.index() as index:
        started = time.perf_counter()
        manifest = fold(lake.store, index, after=1)
        assert manifest is not None
        return {
            "fold_10m_s": round(time.perf_counter() - started, 2),
            "fold_10m_rows": manifest.tables["predictions"].rows,
            "fold_10m_memory_mb": peak_memory_mb(),
        }


def compact_lake(root: Path) -> Figures:
    """Rewrite the small files of the last two days and of the tail."""
    lake = Lake.open(root)
    with lake.index(PLANNING_TABLES) as index:
        entries, removed, started = 0, 0, time.perf_counter()
        while entry := compact(lake, index, uuid.uuid4()):
            entries, removed = entries + 1, removed + len(entry.removed)
        return {
            "compact_day_s": round(time.perf_counter() - started, 2),
            "compact_day_entries": entries,
            "compact_day_files": removed,
            "compact_day_memory_mb": peak_memory_mb(),
        }


def expire_lake(root: Path) -> Figures:
    """Expire what only one reference a file would keep no longer."""
    lake = Lake.open(root)
    with lake.index(PLANNING_TABLES) as index:
        expired, started = 0, time.perf_counter()
        for _ in range(EXPIRE_ENTRIES):
            entry = expire(lake, index, Retention(keep_references=1), uuid.uuid4())
            expired += len(entry.expired) if entry else 0
        return {
            "expire_s": round(time.perf_counter() - started, 2),
            "expire_references": expired,
            "expire_memory_mb": peak_memory_mb(),
        }


def measure(root: Path) -> Figures:
    """Do all of it in turn."""
    work: dict[str, Callable[[Path], Figures]] = {
        "folding": fold_lake,
        "compacting": compact_lake,
        "expiring": expire_lake,
    }
    figures: Figures = {}
    for name, function in work.items():
        with timed(name):
            figures |= in_fresh_process(function, root)
    return figures
