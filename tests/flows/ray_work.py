"""Work for a Ray cluster that tells who has done it. Its processes import this module; it must not import pytest."""

import os
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ray_cluster import ray_cluster
from flows.shards import Job, Scored, Shard
from flows.workers import Outcome, run_shards
from storage.place import Place

KILLER_S, SLEEPER_S = 13.0, 19.0  # a recording of the one length ends its process, one of the other takes for ever
FAILING_S = 23.0  # what scores it fails


def job(duration_s: float = 1.0) -> Job:
    file_id = uuid.uuid4()
    return Job(file_id, file_id.hex * 2, duration_s, {"words": 0})


told: list[Callable[[Scored], None]] = []


def tell(scored: Scored) -> None:
    """Tell who wants to know. They are no parameter of the flow, as those travel to the cluster."""
    for one in told:
        one(scored)


@task(cache_policy=NO_CACHE)
def score(shard: Shard) -> Scored:
    """Score a shard without a model; what it says that it has loaded is the process."""
    lengths = {job.duration_s for job in shard.jobs}
    if KILLER_S in lengths:
        os._exit(9)
    if FAILING_S in lengths:
        raise ValueError("the disk is full")
    time.sleep(600 if SLEEPER_S in lengths else 0.05)
    return Scored((), len(shard.jobs), 0, 0, 0, shard.audio_s, frozenset({str(os.getpid())}))


@flow
def refresh(address: str, folder: str, shards: list[Shard]) -> Outcome:
    """Run shards on the cluster, as the real flow does."""
    with ray_cluster(address, Place.of(Path(folder))) as cluster:
        return run_shards(
            shards,
            [],
            pool=partial(cluster.pool, score, lambda shard: {"shard": shard}),
            workers=cluster.cpus,
            budget_s=600,
            on_scored=tell,
            give_up=cluster.give_up,
        )
