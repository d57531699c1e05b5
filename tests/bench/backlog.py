"""A backlog of 100,000 recordings after a change of models: how many ticks does an upload wait that arrives meanwhile?

Flows, storage, planning and Prefect's server are real; a shard is scored by waiting for as long as its models would
take, and by rows like theirs. Ticks follow each other without a pause, so that each has the whole backlog before it.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from flows.ingest import ingest
from flows.shards import Scored, Shard
from flows.workers import Submit
from models.group import ModelSpec
from storage.lake import Lake
from storage.parquet import write_tables
from storage.place import Place
from storage.settings import get_settings
from storage.tables import ANSWER_TABLES, table_from_rows
from tests import asterisk
from tests.bench.measures import Figures, p50, timed
from tests.bench.million import make_million

BACKLOG: Final = 100_000
TICKS: Final = 4
COST: Final = 0.046  # CPU seconds of one process for a second of audio (`make eval`)
PHRASES: Final = ("goodbye", "messages")

TICK: Final = "from tests.bench.backlog import tick\nif __name__ == '__main__':\n    tick()\n"


def measure(root: Path) -> Figures:
    """Let recordings arrive during each tick, and see in which they are predicted."""
    with timed(f"making the lake of {BACKLOG:,} recordings"):
        make_million(root, BACKLOG)
    os.environ |= {"AUDIOPHILE_DATA": str(root), "REFRESH_BUDGET_S": "90"}
    get_settings.cache_clear()
    lake = Lake.open(root)
    arrived: dict[str, int] = {}  # tick during which a recording came, by its sha256
    waited: dict[str, int] = {}
    planned: list[float] = []
    cpu: list[float] = []
    took: list[float] = []
    for number in range(TICKS):
        started, before = time.perf_counter(), os.times().children_user + os.times().children_system
        running = subprocess.Popen(
            [sys.executable, "-c", TICK], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        time.sleep(20)  # the plan is made by then
        if number < TICKS - 2:
            known = {row["sha256"] for row in rows_of(lake, "files", "sha256")}
            length_s = 4.0 + 10 * number  # another one, or they would be the same recordings
            asterisk.write_calls(get_settings().watched_folder / str(number), 3, length_s)
            ingest()
            arrived |= {row["sha256"]: number for row in rows_of(lake, "files", "sha256") if row["sha256"] not in known}
        said, _ = running.communicate()
        if "published:" not in said:
            raise AssertionError(said[-3000:])
        took.append(time.perf_counter() - started)
        cpu.append(os.times().children_user + os.times().children_system - before)
        planned.append(float(said.split("planned: ")[1].split("(")[1].split(" s)")[0]))
        answered = {row["sha256"] for row in rows_of(lake, "files JOIN coverage USING (file_id)", "DISTINCT sha256")}
        waited |= {one: number - arrived[one] + 1 for one in arrived if one in answered and one not in waited}
    return {
        "backlog_ticks": max(waited.get(one, TICKS + 1) for one in arrived),
        "backlog": {
            "recordings": BACKLOG,
            "arrived": len(arrived),
            "planning_s": [round(one, 1) for one in planned],
            "cpu_s_a_tick_p50": p50(cpu),
            "tick_s": [round(one) for one in took],
        },
    }


def rows_of(lake: Lake, tables: str, columns: str) -> list[dict[str, Any]]:
    """Return what an index of its own shows."""
    with lake.index(frozenset({"files", "coverage"})) as index:
        return index.query(f"SELECT {columns} FROM {tables}")


def tick() -> None:
    """Run infer with simulated scoring, in this process."""
    import flows.infer
    import flows.scoring

    flows.scoring.processes = waiting
    flows.infer.infer()


@contextmanager
def waiting(parameters: Any, workers: int) -> Iterator[Submit]:
    """Yield what submits a shard to threads, in the place of processes."""
    with ThreadPoolExecutor(workers) as pool:
        yield lambda shard: pool.submit(simulated, **parameters(shard))


def simulated(shard: Shard, place: Place, specs: tuple[ModelSpec, ...], reference: UUID) -> Scored:
    """Take as long as the models would, and write rows like theirs."""
    time.sleep(COST * shard.audio_s)
    versions = {spec.name: spec.version for spec in specs}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ANSWER_TABLES}
    for job in shard.jobs:
        for model in job.tries:
            of = {"file_id": job.file_id, "model": model, "model_version": versions[model]}
            at = {"channel": 0, "utterance": 0, "start_s": 0.5, "end_s": 2.5}
            rows["utterances"].append(of | at | {"text": "thank you for calling"})
            rows["predictions"].append(of | at | {"label": "goodbye", "confidence": 0.9})
            rows["coverage"].append(
                of | {"state": "computed", "tries": 0, "first_reference": reference, "predictions": 1, "descriptors": 0}
            )
    tables = {name: table_from_rows(name, found) for name, found in rows.items()}
    files = write_tables(Lake.open(place).store, reference, uuid.uuid4(), tables, part=str(shard.number))
    count = len(rows["coverage"])
    return Scored(files, len(shard.jobs), count, count, 0, shard.audio_s, frozenset(versions))
