"""Measures what a store of so many files costs a process: opening it, planning a refresh, one look-up, and bytes."""

import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from storage.index import PLANNING_TABLES
from storage.lake import Lake
from storage.missing import missing
from storage.recordings import predictions, recordings
from tests.bench.measures import Figures, folder_mb, in_fresh_process, p50, peak_memory_mb, timed
from tests.bench.million import make_million
from tests.bench.rows import MODEL, VERSION

SIZES: Final = (10_000, 1_000_000)
LOOKS: Final = 500
NEXT_VERSION: Final = "that nobody has yet"


class Clock:
    """Wall and CPU seconds of this process since the last lap."""

    def __init__(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> dict[str, float]:
        before, self._since = self._since, (time.perf_counter(), time.process_time())
        return {
            f"{name}_s": round(self._since[0] - before[0], 2),
            f"{name}_cpu_s": round(self._since[1] - before[1], 2),
        }


def measure(root: Path) -> Figures:
    """Return the figures of each size."""
    return {f"sizes_{files}": measure_one(root / str(files), files) for files in SIZES}


def measure_one(lake: Path, files: int) -> dict[str, Any]:
    with timed(f"making a lake of {files:,} files"):
        make_million(lake, files)
    found = {
        "first": in_fresh_process(look, lake),
        "again": in_fresh_process(look, lake),
        "plan": in_fresh_process(plan, lake),
        "mb": {name: folder_mb(lake / name) for name in ("log", "data", "snap", "index")},
    }
    shutil.rmtree(lake)
    return found


def look(lake: Path) -> dict[str, float]:
    """Open it as the API does, and look at some files as if they had been asked for."""
    clock = Clock()
    with Lake.open(lake).index() as index:
        figures = clock.lap("open")
        known = [row["file_id"] for row in index.query("SELECT file_id FROM files ORDER BY file_id")]
        took_ms = []
        for file_id in random.Random(1).sample(known, LOOKS):
            began = time.perf_counter()
            (file,) = recordings(index, file_id)
            predictions(index, file_id, seq=file.seq)
            took_ms.append((time.perf_counter() - began) * 1000)
    return figures | {"look_up_p50_ms": p50(took_ms), "memory_mb": peak_memory_mb()}


def plan(lake: Path) -> dict[str, float]:
    """Open it as a run of infer does, and see what is missing: nothing, and then everything."""
    clock = Clock()
    with Lake.open(lake).index(PLANNING_TABLES) as index:
        figures = clock.lap("open")
        assert not missing(index, [(MODEL, VERSION)], datetime.now(UTC))
        figures |= clock.lap("nothing_missing")
        figures["missing"] = len(missing(index, [(MODEL, NEXT_VERSION)], datetime.now(UTC)))
        return figures | clock.lap("all_missing") | {"memory_mb": peak_memory_mb()}
