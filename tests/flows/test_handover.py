"""What a run scored and did not live to publish is published by the next one, once, and not scored again."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.asked import Asked
from flows.handover import FOLDER, forget, note
from flows.plan import Plan, make_plan
from flows.refresh import Special, publish_refresh, record_group
from flows.shards import failed
from storage.lake import Lake
from storage.log import LogEntry
from storage.missing import Again
from storage.place import Place
from tests.flows.test_refresh import MODELS, World


def ingested(tmp_path: Path, count: int) -> World:
    """A lake of so many recordings that nothing has scored."""
    world = World(Lake.open(tmp_path))
    for _ in range(count):
        world.ingest()
    record_group(world.lake, world.index, world.specs(), uuid.uuid4())
    return world


def half_done(tmp_path: Path) -> tuple[World, int]:
    """A lake of three recordings, one of which a run has scored and noted before it died; and how many there are."""
    world = ingested(tmp_path, 3)
    jobs = [job for shard in make_plan(world.index).shards for job in shard.jobs]
    assert note(world.lake.store, world.score(jobs[0], uuid.uuid4())) is not None
    return world, len(jobs)


def publish(world: World, plan: Plan) -> LogEntry | None:
    reference = uuid.uuid4()
    return publish_refresh(
        world.lake,
        world.index,
        reference=reference,
        scored=[world.score(job, reference) for shard in plan.shards for job in shard.jobs],
        carried=plan.carried,
        started_at=datetime.now(UTC),
        special=Special(adopted=tuple(each.scored for each in plan.left)),
    )


def test_the_next_run_publishes_it_as_its_own(tmp_path: Path) -> None:
    world, jobs = half_done(tmp_path)
    plan = make_plan(world.index, lake=world.lake)
    assert sum(len(shard.jobs) for shard in plan.shards) == jobs - 1
    assert plan.recordings == jobs
    entry = publish(world, plan)
    forget(world.lake.store, [each.path for each in plan.left])
    assert set(world.computed.values()) == {1}, "nothing is scored again"
    rows = world.index.query("SELECT file_id, model, state, first_reference FROM coverage")
    assert len(rows) == len({(row["file_id"], row["model"]) for row in rows}) == 2 * jobs
    assert {(row["state"], row["first_reference"]) for row in rows} == {("computed", entry.reference)}
    assert world.lake.store.names(FOLDER) == []
    assert make_plan(world.index, lake=world.lake).recordings == 0


def test_a_run_that_was_alive_after_all_publishes_nothing_twice(tmp_path: Path) -> None:
    world, jobs = half_done(tmp_path)
    first, second = make_plan(world.index, lake=world.lake), make_plan(world.index, lake=world.lake)
    assert publish(world, first) is not None
    assert publish(world, second) is None
    rows = world.index.query("SELECT file_id, model FROM coverage")
    assert len(rows) == len({(row["file_id"], row["model"]) for row in rows}) == 2 * jobs


def test_notes_that_are_of_no_use_any_more_are_removed(tmp_path: Path) -> None:
    world, _ = half_done(tmp_path)
    (name,) = world.lake.store.names(FOLDER)
    world.lake.store.write(f"{FOLDER}/damaged.json", b"{")
    assert publish(world, make_plan(world.index, lake=world.lake)) is not None
    assert world.lake.store.names(FOLDER) == [name], "it is for the run that publishes to forget it"
    world.ingest()
    world.index.catch_up()
    assert make_plan(world.index, lake=world.lake).left == ()
    assert world.lake.store.names(FOLDER) == [], "its answers are not missing any more"


@pytest.mark.parametrize("table", ["coverage", "predictions"])
@pytest.mark.parametrize("keeps", [None, 100])
def test_a_note_of_files_that_are_gone_or_damaged_stops_nothing(tmp_path: Path, table: str, keeps: int | None) -> None:
    world, jobs = half_done(tmp_path)
    (path,) = (tmp_path / "data" / table).rglob("*.parquet")
    content = path.read_bytes()
    path.unlink()
    if keeps is not None:
        path.write_bytes(content[:keeps])
    plan = make_plan(world.index, lake=world.lake)
    assert plan.left == ()
    assert sum(len(shard.jobs) for shard in plan.shards) == jobs, "it is computed again"
    assert world.lake.store.names(FOLDER) == []


def test_what_a_run_that_computes_again_has_scored_of_what_is_missing_is_published_by_the_next(tmp_path: Path) -> None:
    world = ingested(tmp_path, 2)
    assert publish(world, make_plan(world.index, lake=world.lake)) is not None
    world.ingest()
    world.index.catch_up()
    everything = Asked(Again(frozenset(world.latest), frozenset(MODELS)))
    shard = make_plan(world.index, asked=everything, lake=world.lake).shards[0]
    assert len(shard.jobs) == 2, "the newest, which nobody has scored, and one that is there"
    note(world.lake.store, world.score_all(shard.jobs, uuid.uuid4()))  # and then it died
    scored = dict(world.computed)
    plan = make_plan(world.index, lake=world.lake)
    assert (plan.shards, plan.recordings) == ([], 1)
    entry = publish(world, plan)
    assert entry is not None
    assert world.computed == scored, "nothing is scored again"
    assert {row["file_id"] for row in world.index.query("SELECT file_id FROM coverage WHERE seq = ?", [entry.seq])} == {
        job.file_id for job in shard.jobs if world.computed[job.file_id, MODELS[0], "many"] == 1
    }


def test_what_is_asked_for_again_is_computed_and_taken_from_no_note(tmp_path: Path) -> None:
    world, jobs = half_done(tmp_path)
    assert publish(world, make_plan(world.index, lake=world.lake)) is not None
    everything = Asked(Again(frozenset(world.latest), frozenset(MODELS)))
    plan = make_plan(world.index, asked=everything, lake=world.lake)
    note(world.lake.store, world.score(plan.shards[0].jobs[0], uuid.uuid4()))
    plan = make_plan(world.index, asked=everything, lake=world.lake)
    assert plan.left == ()
    assert sum(len(shard.jobs) for shard in plan.shards) == jobs


def test_a_failure_that_was_noted_is_no_answer_to_who_asks_again(tmp_path: Path) -> None:
    world = ingested(tmp_path, 2)
    (shard,) = make_plan(world.index).shards
    specs = world.specs().models
    scored = failed(shard, place=Place.of(tmp_path), specs=specs, reference=uuid.uuid4(), reason="no memory")
    note(world.lake.store, scored)
    (taken,) = make_plan(world.index, lake=world.lake).left
    assert (taken.scored.failures, taken.scored.audio_s) == (4, 100.0)
    again = Asked(Again(frozenset({shard.jobs[0].file_id}), frozenset(MODELS)))
    assert make_plan(world.index, asked=again, lake=world.lake).left == ()


def test_of_a_note_that_says_more_than_is_missing_a_part_is_counted(tmp_path: Path) -> None:
    world = ingested(tmp_path, 2)
    (shard,) = make_plan(world.index).shards
    note(world.lake.store, world.score_all(shard.jobs, uuid.uuid4()))
    alone = [replace(shard, jobs=shard.jobs[:1])]
    assert publish(world, Plan(alone, [], frozenset())) is not None
    (taken,) = make_plan(world.index, lake=world.lake).left
    assert taken.scored.audio_s == 50.0


def test_a_note_of_two_versions_is_not_mixed_with_what_is_computed(tmp_path: Path) -> None:
    world, jobs = half_done(tmp_path)
    world.group[MODELS[0]] = ("fewer", True)
    record_group(world.lake, world.index, world.specs(), uuid.uuid4())
    plan = make_plan(world.index, lake=world.lake)
    assert plan.left == ()
    assert publish(world, plan) is not None
    rows = world.index.query("SELECT file_id, model FROM coverage")
    assert len(rows) == len({(row["file_id"], row["model"]) for row in rows}) == 2 * jobs
