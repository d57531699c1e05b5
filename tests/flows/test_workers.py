"""Shards on real processes, some of which die."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from uuid import UUID

import hypothesis
import pytest
from hypothesis import strategies as st
from prefect import flow

from flows.scoring import processes
from flows.shards import SHARD_AUDIO_S, SHARD_FILES, Job, Scored, Shard, cut
from flows.workers import Submit, run_shards
from models.group import ModelSpec
from storage.place import Place

KILLER_S = 13.0  # a recording of this length ends its process


MODEL_KILLER_S = 17.0  # and one of this length does where the model "scenes" hears it


SLOW_S = 23.0  # and one of this length takes a fifth of a second


SLEEPER_S = 19.0  # and one of this length takes for ever


def job(duration_s: float = 1.0, tries: int = 0, models: tuple[str, ...] = ("words",)) -> Job:
    file_id = uuid.uuid4()
    return Job(file_id, file_id.hex * 2, duration_s, dict.fromkeys(models, tries))


def score(shard: Shard) -> Scored:
    if any(job.duration_s == KILLER_S for job in shard.jobs):
        os._exit(9)
    if any(job.duration_s == MODEL_KILLER_S and "scenes" in job.tries for job in shard.jobs):
        os._exit(9)
    if any(job.duration_s < 0 for job in shard.jobs):
        raise ValueError("a model is not there")
    time.sleep({SLEEPER_S: 600, SLOW_S: 0.2}.get(shard.jobs[0].duration_s, 0.02))
    return Scored((), len(shard.jobs), 0, 0, 0, shard.audio_s)


@contextmanager
def pool() -> Iterator[Submit]:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        yield partial(executor.submit, score)


def run(shards: list[Shard], suspects: list[Shard] = (), budget_s: float = 600):
    seen: list[Scored] = []
    outcome = run_shards(shards, suspects, pool=pool, workers=2, budget_s=budget_s, on_scored=seen.append)
    assert seen == outcome.scored
    return outcome


def test_a_recording_that_kills_its_process_is_found_and_the_others_are_scored() -> None:
    jobs = [job() for _ in range(6)] + [job(KILLER_S)] + [job() for _ in range(6)]
    shards = [Shard(number, tuple(jobs[at : at + 3])) for number, at in enumerate(range(0, len(jobs), 3))]
    outcome = run(shards)
    assert [shard.jobs for shard in outcome.killers] == [(jobs[6],)]
    assert sum(scored.recordings for scored in outcome.scored) == 12
    assert outcome.error is None


def test_a_killer_among_the_newest_is_found_though_the_run_never_comes_to_the_end() -> None:
    shards, _ = cut([job(KILLER_S), *(job(SHARD_AUDIO_S) for _ in range(200))])
    seen: list[Scored] = []

    def is_enough(scored: Scored) -> bool:
        seen.append(scored)
        return len(seen) == 100

    outcome = run_shards(shards, [], pool=pool, workers=2, budget_s=600, on_scored=is_enough)
    assert [shard.jobs[0].duration_s for shard in outcome.killers] == [KILLER_S]
    assert outcome.is_ended


def test_what_may_have_killed_a_process_leaves_most_of_the_budget_to_the_others() -> None:
    slow = [job(SLOW_S) for _ in range(60)]  # 12 s one by one, and they have 10
    shards = [Shard(0, (job(KILLER_S), *slow)), *[Shard(number, (job(),)) for number in range(1, 60)]]
    others: list[Scored] = []

    def is_enough(scored: Scored) -> bool:
        if scored.audio_s == 1.0:
            others.append(scored)
        return len(others) == 40

    outcome = run_shards(shards, [], pool=pool, workers=2, budget_s=30, on_scored=is_enough)
    assert outcome.is_ended
    assert 0 < sum(scored.audio_s == SLOW_S for scored in outcome.scored) < len(slow)


def test_a_run_that_is_given_up_among_suspects_starts_nothing_of_what_waits() -> None:
    shards = [Shard(0, (job(KILLER_S), job(2.0))), *[Shard(number, (job(),)) for number in range(1, 40)]]
    given_up: list[Scored] = []

    def is_given_up(scored: Scored) -> bool:
        if scored.audio_s == 2.0:  # it runs alone, last of the suspects, and none of them is left
            given_up.append(scored)
        return bool(given_up)

    outcome = run_shards(shards, [], pool=pool, workers=2, budget_s=600, on_scored=is_given_up)
    assert outcome.is_ended
    assert outcome.scored[-1].audio_s == 2.0


def test_a_model_that_kills_its_process_is_found_and_the_others_answer() -> None:
    killing = job(MODEL_KILLER_S, models=("words", "scenes", "mood"))
    outcome = run([Shard(0, (job(), killing, job()))])
    assert [[(each.file_id, set(each.tries)) for each in shard.jobs] for shard in outcome.killers] == [
        [(killing.file_id, {"scenes"})]
    ]
    assert sum(scored.recordings for scored in outcome.scored) == 4, "two whole, and one for each of two models"


def score_as_ours(shard: Shard, *, place: Place, specs: tuple[ModelSpec, ...], reference: UUID) -> Scored:
    return score(shard)


def test_the_killer_is_found_on_the_pool_of_refreshes_as_well(
    prefect_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.scoring.score_shard", score_as_ours)
    jobs = [job(), job(KILLER_S), job()]
    given = {"place": Place.of(tmp_path), "specs": (), "reference": uuid.uuid4()}

    @flow
    def refresh():
        pool = partial(processes, lambda shard: given | {"shard": shard}, 2)
        return run_shards([Shard(0, tuple(jobs))], [], pool=pool, workers=2, budget_s=600, on_scored=lambda _: None)

    outcome = refresh()
    assert [shard.jobs for shard in outcome.killers] == [(jobs[1],)]
    assert sum(scored.recordings for scored in outcome.scored) == 2


def test_a_spent_budget_starts_no_further_shard_but_always_one() -> None:
    shards = [Shard(number, (job(),)) for number in range(5)]
    assert len(run(shards, budget_s=0).scored) == 1


def test_an_error_that_is_no_recordings_fault_stops_the_rest_and_is_kept() -> None:
    outcome = run([Shard(0, (job(-1.0),)), *[Shard(number, (job(),)) for number in range(1, 30)]])
    assert isinstance(outcome.error, ValueError)
    assert len(outcome.scored) < 29


def test_nothing_to_do_makes_no_process() -> None:
    def no_pool():
        raise AssertionError("a pool was made")

    assert run_shards([], [], pool=no_pool, workers=2, budget_s=1, on_scored=print).scored == []


@hypothesis.given(durations=st.lists(st.floats(0.1, 4000), max_size=200), failed=st.sets(st.integers(0, 199)))
def test_cutting_keeps_every_job_once_in_order_and_bounds_each_shard(durations: list[float], failed: set[int]) -> None:
    jobs = [job(duration_s, int(number in failed)) for number, duration_s in enumerate(durations)]
    shards, suspects = cut(jobs)
    assert [j for shard in shards for j in shard.jobs] == [j for j in jobs if not j.tries["words"]]
    assert [shard.jobs for shard in suspects] == [(j,) for j in jobs if j.tries["words"]]
    for shard in shards:
        assert len(shard.jobs) <= SHARD_FILES
        assert len(shard.jobs) == 1 or shard.audio_s <= SHARD_AUDIO_S + 1e-6


def test_a_pool_that_breaks_between_two_shards_is_made_anew_and_loses_none() -> None:
    """As the executor does where an idle process dies: it refuses the next shard."""
    pools = 0

    @contextmanager
    def breaking() -> Iterator[Submit]:
        nonlocal pools
        pools += 1
        done = 0

        def submit(shard: Shard) -> Future[Scored]:
            nonlocal done
            if done == 2:
                raise BrokenProcessPool("it died")
            done += 1
            future: Future[Scored] = Future()
            future.set_result(score(shard))
            return future

        yield submit

    shards = [Shard(number, (job(),)) for number in range(5)]
    outcome = run_shards(shards, [], pool=breaking, workers=1, budget_s=60, on_scored=lambda _: None)
    assert outcome.recordings == 5
    assert (pools, outcome.killers) == (3, [])


def test_a_future_is_all_that_a_pool_needs_to_give() -> None:
    @contextmanager
    def direct() -> Iterator[Submit]:
        def submit(shard: Shard) -> Future:
            future: Future = Future()
            future.set_result(score(shard))
            return future

        yield submit

    outcome = run_shards([Shard(0, (job(),))], [], pool=direct, workers=1, budget_s=1, on_scored=lambda _: None)
    assert len(outcome.scored) == 1


def test_sigterm_gives_up_what_is_under_way_and_keeps_what_is_done() -> None:
    def told(scored: Scored) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    shards = [Shard(0, (job(),)), *(Shard(number, (job(SLEEPER_S),)) for number in range(1, 6))]
    try:
        outcome = run_shards(shards, [], pool=pool, workers=2, budget_s=60, on_scored=told)
        os.kill(os.getpid(), signal.SIGTERM)  # a second one must not break off the commit
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(outcome.scored) == 1
    assert (outcome.killers, outcome.error) == ([], None)


def test_without_sigterm_its_handler_is_as_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run([Shard(0, (job(),))])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_was_given_up_leaves_the_rest_to_others() -> None:
    seen: list[Scored] = []
    outcome = run_shards(
        [Shard(number, (job(),)) for number in range(6)],
        [],
        pool=pool,
        workers=1,
        budget_s=60,
        on_scored=lambda scored: seen.append(scored) or len(seen) == 2,
    )
    assert outcome.scored == seen
    assert len(seen) == 2
    assert outcome.is_ended, "or what was asked for again would go on in another round"
    assert outcome.error is None
