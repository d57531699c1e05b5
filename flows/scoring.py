"""Scores a plan on a pool: processes of this host, or a Ray cluster. It must not know what becomes of the answers."""

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.plan import Plan
from flows.progress import Progress
from flows.ray_cluster import ray_cluster
from flows.runs import end_with_parent
from flows.shards import MODELS, Scored, Shard, failed, score_shard
from flows.story import is_given_up
from flows.trials import refused_at_first
from flows.workers import MOST_SHOWN, Outcome, Submit, run_shards
from models.group import ModelSpec
from storage.place import Place
from storage.settings import PROCESSES, Settings


def score(
    plan: Plan,
    specs: tuple[ModelSpec, ...],
    reference: UUID,
    settings: Settings,
    on_done: Callable[[Scored], None],
) -> Outcome:
    """Score a plan on a pool of processes, and show how far it is. What one cannot load is given to no other."""
    place = settings.place
    progress = Progress("infer-progress", plan.audio_s, "s of audio")
    wanted = plan.models
    refused = refused_at_first((spec for spec in specs if spec.name in wanted), place.local / MODELS)

    def on_scored(scored: Scored) -> bool:
        on_done(scored)
        refused.update(scored.refused)
        return progress.add(scored.audio_s) and is_given_up()

    def usable() -> tuple[ModelSpec, ...]:
        return tuple(spec for spec in specs if spec.name not in refused)

    def worth(shard: Shard) -> bool:
        names = {spec.name for spec in usable()}
        return any(name in names for job in shard.jobs for name in job.tries)

    def parameters(shard: Shard) -> dict[str, Any]:
        return {"shard": shard, "place": place, "specs": usable(), "reference": reference}

    run = partial(
        run_shards,
        plan.shards,
        plan.suspects,
        budget_s=settings.refresh_budget_s,
        on_scored=on_scored,
        worth=worth,
    )
    if settings.runner == PROCESSES:
        outcome = run(pool=partial(processes, parameters, settings.workers), workers=settings.workers)
    else:
        with ray_cluster(settings.runner, place) as cluster:
            pool = partial(cluster.pool, score_task, parameters)
            outcome = run(pool=pool, workers=cluster.cpus, give_up=cluster.give_up)
    progress.show()
    reason = "the process that scored it ended: the recording may need more memory than there is"
    outcome.scored += [
        failed(shard, place=place, specs=usable(), reference=reference, reason=reason) for shard in outcome.killers
    ]
    outcome.refused = refused
    return outcome


@task(name="score", task_run_name="shard {shard.number}", cache_policy=NO_CACHE)
def score_task(shard: Shard, place: Place, specs: tuple[ModelSpec, ...], reference: UUID) -> Scored:
    """Score one shard in a process of a Ray cluster."""
    return score_shard(shard, place=place.on_this_host(), specs=specs, reference=reference)


@task(name="score", task_run_name="shard {shard.number}", cache_policy=NO_CACHE)
def show_task(shard: Shard, future: Future[Scored]) -> State[Any]:
    """Show a shard under way among the run's tasks."""
    error = future.exception()
    if error is None:
        return Completed(message=f"{len(shard.jobs)} recordings")
    if isinstance(error, BrokenProcessPool):  # as when the run is told to end: `run_shards` has an answer
        return Completed(name="GivenUp", message="A process that scored ended")
    return Failed(message=f"{type(error).__name__}: {error}")


@contextmanager
def processes(parameters: Callable[[Shard], dict[str, Any]], workers: int) -> Iterator[Submit]:
    """Yield what submits a shard to a pool of processes of this host, with the parameters as they are by then.

    Prefect's tasks wait in threads of this process: those that score need not import Prefect.
    """
    spawn = multiprocessing.get_context("spawn")
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=2 * workers)  # some have yet to say the end
    shown = count()
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=begin_scoring) as pool, threads:

        def submit(shard: Shard) -> Future[Scored]:
            future = pool.submit(score_shard, **parameters(shard))
            if next(shown) < MOST_SHOWN:
                threads.submit(show_task, {"shard": shard, "future": future})
            return future

        yield submit


def begin_scoring() -> None:
    """Begin in a process of the pool: end with the run, and say of each line when it was."""
    end_with_parent()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s | %(levelname)-7s | %(name)s - %(message)s")
