"""Measures readers of a lake: how soon they answer, how fast a recording is looked up meanwhile, what they hold."""

import random
import shutil
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.missing import missing
from storage.recordings import predictions, recordings
from tests.bench.commits import refresh
from tests.bench.measures import Figures, fresh_process, p50, peak_memory_mb, percentile, timed
from tests.bench.rows import MODEL, VERSION
from tests.bench.year import RECORDINGS, plan_year

POLL_S: Final = 0.25  # as the API's
PAUSE_S: Final = 0.5  # of the other process between two commits: 240 times as often as a service's
LOOK_UPS: Final = 1_000
THREADS: Final = 4
THREADS_S: Final = 10.0
SMALL, LARGE = 1, 250  # recordings of a commit in the tail


def open_reader(root: Path, asked_at: float, file_id: uuid.UUID) -> Figures:
    """Open the lake in this process and answer once; `asked_at` is when it was started."""
    index = Lake.open(root).index()
    found, rows = recordings(index, file_id), predictions(index, file_id)
    return {"s": round(time.monotonic() - asked_at, 2), "rows": len(found) and len(rows), "memory_mb": peak_memory_mb()}


def opened(root: Path, times: int) -> list[Figures]:
    """Return what each of several fresh processes needed."""
    file_id = uuid.UUID(bytes=plan_year(np.random.default_rng(7)).ids[1000].tobytes())
    found = []
    for _ in range(times):
        with fresh_process() as submit:
            found.append(submit(open_reader, root, time.monotonic(), file_id).result())
        assert found[-1]["rows"] == 40
    return found


def open_to_plan(root: Path) -> Figures:
    """Do what an idle flow run does."""
    started, cpu = time.perf_counter(), time.process_time()
    index = Lake.open(root).index(PLANNING_TABLES)
    opened_cpu, opened_s = time.process_time() - cpu, time.perf_counter() - started
    cpu = time.process_time()
    nothing = missing(index, [(MODEL, VERSION)], datetime.now(UTC))
    assert not nothing
    return {
        "plan_open_1y_s": round(opened_cpu, 2),
        "plan_open_1y_wall_s": round(opened_s, 2),
        "plan_missing_1y_s": round(time.process_time() - cpu, 2),
        "plan_memory_mb": peak_memory_mb(),
    }


def add_tail(lake: Lake, commits: int, size: int) -> None:
    """Commit refreshes of recordings that the lake has, for real."""
    rng = np.random.default_rng(size)
    ids = plan_year(np.random.default_rng(7)).ids
    with lake.index(PLANNING_TABLES) as index:
        for _ in range(commits):
            refresh(lake, index, ids[np.sort(rng.choice(RECORDINGS, size, replace=False))], rng)


class Follower:
    """Catches up in a thread, as the API does."""

    def __init__(self, index: Index) -> None:
        self._index, self._stop = index, threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._index.catch_up()


def look_up(root: Path) -> Figures:
    """Look recordings up, half of them touched in the tail, while another process commits."""
    index = Lake.open(root).index()
    figures: Figures = {"reader_memory_mb": peak_memory_mb()}
    touched = [row["file_id"] for row in index.query("SELECT DISTINCT file_id FROM tail.coverage")]
    every = [row["file_id"] for row in index.query("SELECT file_id FROM base.files")]
    chance = random.Random(1)
    ids = [chance.choice(touched if number % 2 else every) for number in range(LOOK_UPS)]
    before = index.applied_seq
    took: list[tuple[float, float]] = []

    def ask(file_id: uuid.UUID) -> tuple[float, float]:
        """Answer as the API does; return the milliseconds that the recording and its predictions took."""
        started = time.perf_counter()
        (found,) = recordings(index, file_id)
        between = time.perf_counter()
        assert predictions(index, file_id, seq=found.seq)
        return (between - started) * 1000, (time.perf_counter() - between) * 1000

    with Follower(index):
        took += [ask(file_id) for file_id in ids]
        until = time.perf_counter() + THREADS_S

        def answer(seed: int) -> list[float]:
            own, found = random.Random(seed), []
            while time.perf_counter() < until:
                found.append(sum(ask(own.choice(ids))))
            return found

        with ThreadPoolExecutor(THREADS) as pool:
            busy = [value for found in pool.map(answer, range(THREADS)) for value in found]
    both = [sum(parts) for parts in took]
    return figures | {
        "lookup_p50_ms": p50(both),
        "lookup_p99_ms": percentile(both, 99),
        "lookup_recording_p50_ms": p50([parts[0] for parts in took]),
        "lookup_recording_p99_ms": percentile([parts[0] for parts in took], 99),
        "lookup_predictions_p50_ms": p50([parts[1] for parts in took]),
        "lookup_predictions_p99_ms": percentile([parts[1] for parts in took], 99),
        "lookups_per_s_4_threads": round(len(busy) / THREADS_S),
        "lookup_4_threads_p50_ms": p50(busy),
        "lookup_4_threads_p99_ms": percentile(busy, 99),
        "lookup_commits_meanwhile": index.applied_seq - before,
        "reader_memory_with_queries_mb": peak_memory_mb(),
    }


def measure_openings(root: Path) -> Figures:
    """Open the lake of the year without and with a base file, and with more in its tail."""
    lake = Lake.open(root)
    with timed("300 commits of one recording"):
        add_tail(lake, 300, SMALL)
    shutil.rmtree(root / "index")
    with timed("opening without and with a base file"):
        without, *others = opened(root, 4)
    with timed("planning"), fresh_process() as submit:
        plan = submit(open_to_plan, root).result()
    return {
        "open_1y_s": p50([one["s"] for one in others]),
        "open_1y_no_base_s": without["s"],
        "open_1y_no_base_memory_mb": without["memory_mb"],
        "open_1y_memory_mb": others[0]["memory_mb"],
        **plan,
    }


def measure_look_ups(root: Path) -> Figures:
    """Look up while this process commits."""
    lake = Lake.open(root)
    with timed("300 commits of 10,000 predictions"):
        add_tail(lake, 300, LARGE)
    with timed("opening with those in the tail"):
        heavy = opened(root, 1)[0]
    rng = np.random.default_rng(11)
    ids = plan_year(np.random.default_rng(7)).ids
    with timed("looking up during commits"), lake.index(PLANNING_TABLES) as index, fresh_process() as submit:
        found = submit(look_up, root)
        while not found.done():
            refresh(lake, index, ids[np.sort(rng.choice(RECORDINGS, LARGE, replace=False))], rng)
            time.sleep(PAUSE_S)
    return {"open_1y_tail_3m_rows_s": heavy["s"], **found.result()}
