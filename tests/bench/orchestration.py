"""Measures what a refresh costs beside its work: processes against one, nodes of a Ray cluster against one, overhead.

Recordings are joined prompts, scored by the models that run by default. Prefect's server is a real one, on SQLite.
"""

import os
import re
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from prefect import flow
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.ingest import ingest
from flows.plan import make_plan
from flows.ray_cluster import ray_cluster
from flows.refresh import record_group
from flows.scoring import processes, score_task
from flows.shards import Shard
from flows.workers import Submit, run_shards
from models.group import load_group
from storage.lake import Lake
from storage.place import Place
from storage.settings import PROCESSES, Settings, get_settings
from tests import asterisk
from tests.bench import backlog
from tests.bench.measures import Figures, say, timed
from tests.ray_nodes import ray_nodes
from tests.system.service import Service, running

REPEATS: Final = 3  # of each, by turns
CALLS, CALL_S = 50, 20.0  # make ten shards: two to load the models by, eight that are timed
RECORDINGS, RECORDING_S = 500, 3.0


def measure(root: Path) -> Figures:
    """Measure all of it, in a folder of its own."""
    ours = {
        "AUDIOPHILE_DEMO": "0",
        "INGEST_SETTLE_S": "0",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    with patch.dict(os.environ, ours), prefect_test_harness(server_startup_timeout=300):
        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        figures = measure_overhead(root / "overhead")
        figures |= measure_scaling(root / "scaling")
        figures |= backlog.measure(root / "backlog")
    get_settings.cache_clear()
    return figures


def lake_of(root: Path, count: int, duration_s: float) -> tuple[Lake, float]:
    """Make a lake of ingested recordings that nothing has scored; return it, and their seconds."""
    os.environ["AUDIOPHILE_DATA"] = str(root)
    get_settings.cache_clear()
    with timed(f"taking in {count} recordings"):
        total_s = asterisk.write_calls(get_settings().watched_folder, count, duration_s)
        ingest()
    return Lake.open(root), total_s


def measure_overhead(root: Path) -> Figures:
    """Have the service refresh all at its tick, and say how much of the run's time was neither work nor commit.

    The time is Prefect's own: from when the run was due, before it does anything, to its end.
    """
    folder = root / "data"
    _, audio_s = lake_of(folder, RECORDINGS, RECORDING_S)
    load = os.getloadavg()[0]
    with running(root, REFRESH_BUDGET_S="3600") as service, timed(f"a refresh of {RECORDINGS} recordings"):
        run = service.wait("the refresh", 1800, lambda: next(iter(service.runs("infer", "COMPLETED")), None))
        states = service.prefect.get("/flow_run_states/", params={"flow_run_id": run["id"]}).raise_for_status().json()
        service.wait("its last lines", 60, lambda: "published: " in said_by(service, run["id"]))
        said = said_by(service, run["id"])
    at = {state["type"]: datetime.fromisoformat(state["timestamp"]) for state in states}
    due = min(datetime.fromisoformat(run["expected_start_time"]), at["RUNNING"])  # its process has waited until then
    wall_s = (at["COMPLETED"] - due).total_seconds()
    scored = re.search(r"scored: (\d+) files \(([\d.]+) s; .* for ([\d.]+) s, and .* for ([\d.]+) s", said)
    published = re.search(r"published: .* \(([\d.]+) s\)", said)
    planned = re.search(r"planned: .* \(([\d.]+) s\)", said)
    if not (scored and published and planned) or int(scored[1]) != RECORDINGS:
        raise AssertionError(said[-3000:])
    workers = Settings(_env_file=None).workers
    loading_s, scoring_s = float(scored[3]) / workers, float(scored[4]) / workers
    return {
        "overhead_share": round(1 - (scoring_s + loading_s + float(published[1])) / wall_s, 3),
        "overhead": {
            "wall_s": round(wall_s, 1),
            "starting_s": round((at["RUNNING"] - due).total_seconds(), 1),
            "planning_s": float(planned[1]),
            "scoring_phase_s": float(scored[2]),
            "decoding_and_models_s": round(scoring_s, 1),
            "loading_models_s": round(loading_s, 1),
            "commit_s": float(published[1]),
            "processes": workers,
            "audio_s": round(audio_s),
            "load_before": round(load, 1),
        },
    }


def said_by(service: Service, run_id: str) -> str:
    """Return what a run has logged; the server has it some seconds later."""
    return "\n".join(line["message"] for line in service.lines(run_id))


@flow
def time_shards(runner: str, workers: int, shards: list[Shard], folder: str) -> float:
    """Return the seconds that shards take on so many processes or nodes, whose models are loaded by then."""
    place = Place.of(Path(folder))
    with open_pool(runner, workers, place) as submit:
        for future in [submit(shard) for shard in shards[:2]]:  # at once: on a cluster both nodes load the models
            future.result()
        started = time.perf_counter()
        run_shards(
            shards[2:],
            [],
            pool=lambda: nullcontext(submit),
            workers=workers,
            budget_s=3600,
            on_scored=lambda _: None,
        )
        return time.perf_counter() - started


@contextmanager
def open_pool(runner: str, workers: int, place: Place) -> Iterator[Submit]:
    specs = load_group(get_settings().searched_phrases).enabled
    reference = uuid.uuid4()

    def parameters(shard: Shard) -> dict[str, Any]:
        return {"shard": shard, "place": place, "specs": specs, "reference": reference}

    if runner == PROCESSES:
        with processes(parameters, workers) as submit:
            yield submit
    else:
        with ray_cluster(runner, place) as cluster, cluster.pool(score_task, parameters) as submit:
            yield submit


def measure_scaling(root: Path) -> Figures:
    """Time eight equal shards on one and on two, by turns."""
    lake, audio_s = lake_of(root, CALLS, CALL_S)
    with lake.index() as index:
        record_group(lake, index, load_group(get_settings().searched_phrases), uuid.uuid4())
        shards = make_plan(index).shards
    figures: Figures = {"scale": {"shards_timed": len(shards) - 2, "audio_s": round(audio_s)}}
    figures |= by_turns("scale_2", PROCESSES, shards, root)
    with timed("a Ray cluster of two nodes"), ray_nodes() as nodes:
        figures |= by_turns("scale_2_ray", nodes.address, shards, root)
    return figures


def by_turns(name: str, runner: str, shards: list[Shard], root: Path) -> Figures:
    took: dict[int, list[float]] = {1: [], 2: []}
    load = os.getloadavg()[0]
    for number in range(2 * REPEATS):
        workers = 1 + number % 2
        took[workers].append(time_shards(runner, workers, shards, str(root)))
        say(f"{name}: {workers} at a time, {took[workers][-1]:.1f} s")
    return {
        name: round(statistics.median(took[1]) / statistics.median(took[2]), 2),
        f"{name}_seconds": {str(workers): [round(one, 1) for one in times] for workers, times in took.items()},
        f"{name}_load_before": round(load, 1),
    }
