"""Refreshes against an oracle: whatever the group does, a file's detail is exactly its latest reference."""

import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.plan import Plan, make_plan
from flows.refresh import Special, publish_refresh, record_group
from flows.shards import Job, Scored
from models.group import Group, ModelSpec
from storage.commit import Draft
from storage.decisions import reject, release
from storage.index import PLANNING_TABLES, Index
from storage.lake import Lake
from storage.log import LogEntry
from storage.parquet import write_tables
from storage.recordings import predictions, recordings
from storage.tables import table_from_rows

MODELS = ("words", "scene")
VERSIONS = ("many", "fewer", "none")  # what each version of a model detects


def labels(model: str, version: str, file_id: uuid.UUID) -> list[str]:
    """What a model says: a function of model, version and file alone."""
    count = {"many": 3, "fewer": 1, "none": 0}[version]
    return [f"{model}-{version}-{file_id.hex[:4]}-{number}" for number in range(count)]


@dataclass
class World:
    """A lake, the group as it is set, and what has to be true of them."""

    lake: Lake
    group: dict[str, tuple[str, bool]] = field(default_factory=lambda: dict.fromkeys(MODELS, ("many", True)))
    latest: dict[uuid.UUID, dict[str, str]] = field(default_factory=dict)  # version of each model, by file
    references: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    computed: Counter = field(default_factory=Counter)
    held: dict[uuid.UUID, dict[uuid.UUID, dict[str, str]]] = field(default_factory=dict)  # what waits, by reference
    order: list[uuid.UUID] = field(default_factory=list)  # of all references
    has_held: bool = False

    @cached_property
    def index(self) -> Index:
        """One for all that happens here: to open another takes longer than what is done with it."""
        return self.lake.index()

    def ingest(self) -> None:
        sha256 = uuid.uuid4().hex * 2
        row = {
            "file_id": uuid.UUID(sha256[:32]),
            "sha256": sha256,
            "size_bytes": 1,
            "status": "accepted",
            "duration_s": 50.0,
            "sample_rate": 8000,
            "channels": 1,
            "ingested_at": datetime.now(UTC),
        }
        self.commit_file(row)
        self.latest[row["file_id"]] = {}

    def commit_file(self, row: dict) -> None:
        draft = Draft({"files": table_from_rows("files", [row])})
        self.lake.commit(self.index, op="ingest", key=uuid.uuid4(), plan=lambda: draft, started_at=datetime.now(UTC))

    def specs(self) -> Group:
        return Group(
            tuple(
                ModelSpec(name, "fake", "phrases", enabled, "package:none", {}, {}, {}, {}, version, version)
                for name, (version, enabled) in self.group.items()
            ),
            {},
        )

    def score(self, job: Job, reference: uuid.UUID) -> Scored:
        return self.score_all([job], reference)

    def score_all(self, jobs: Sequence[Job], reference: uuid.UUID) -> Scored:
        coverage, found = [], []
        for job, model in ((one, name) for one in jobs for name in one.tries):
            version = self.group[model][0]
            self.computed[job.file_id, model, version] += 1
            said = labels(model, version, job.file_id)
            place = {"file_id": job.file_id, "model": model, "model_version": version}
            found += [place | {"channel": 0, "utterance": 0, "label": label, "confidence": 0.5} for label in said]
            coverage.append(
                place | {"state": "computed", "tries": 0, "first_reference": reference, "predictions": len(said)}
            )
        tables = {
            "coverage": table_from_rows("coverage", coverage),
            "predictions": table_from_rows("predictions", found),
        }
        files = write_tables(self.lake.store, reference, uuid.uuid4(), tables)
        return Scored(files, len(jobs), 0, len(found), 0, sum(job.duration_s for job in jobs))

    def refresh(self, *, held: bool = False) -> None:
        enabled = {name: version for name, (version, on) in self.group.items() if on}
        waiting = {
            (file_id, *answer)
            for files in self.held.values()
            for file_id, said in files.items()
            for answer in said.items()
        }
        due = {
            file_id
            for file_id, have in self.latest.items()
            if any(
                have.get(name) != version and (file_id, name, version) not in waiting
                for name, version in enabled.items()
            )
        }
        reference = uuid.uuid4()
        index = self.index
        index.catch_up()
        record_group(self.lake, index, self.specs(), uuid.uuid4())
        plan = make_plan(index)
        scored = [self.score(job, reference) for shard in plan.shards + plan.suspects for job in shard.jobs]
        entry = publish_refresh(
            self.lake,
            index,
            reference=reference,
            scored=scored,
            carried=plan.carried,
            started_at=datetime.now(UTC),
            special=Special(held=held),
        )
        assert (entry is not None) == bool(due), "a new reference exactly when something was missing"
        self.order.append(reference)
        said = {file_id: dict(enabled) for file_id in due}
        if not held:
            self.show(reference, said)
        elif due:
            self.held[reference], self.has_held = said, True

    def decide(self, decide: Callable) -> None:
        """Release or reject the newest reference that waits."""
        if self.held:
            reference, said = self.held.popitem()
            assert decide(self.lake, self.index, [reference]) == [reference]
            if decide is release:
                self.show(reference, said)

    def show(self, reference: uuid.UUID, said: dict[uuid.UUID, dict[str, str]]) -> None:
        """Note what a published reference says, unless a newer one says it."""
        for file_id, answers in said.items():
            shown = self.references.get(file_id)
            if shown is None or self.order.index(shown) < self.order.index(reference):
                self.latest[file_id], self.references[file_id] = answers, reference

    def check(self, index: Index | None = None) -> None:
        """Make sure that an index, by default the world's own, shows what has to be true."""
        index = index or self.index
        index.catch_up()
        shown: dict[uuid.UUID, list[str]] = {file_id: [] for file_id in self.latest}
        for prediction in predictions(index):
            shown[prediction.file_id].append(prediction.label)
        for recording in recordings(index):
            have = self.latest[recording.file_id]
            expected = [label for name, version in have.items() for label in labels(name, version, recording.file_id)]
            assert sorted(shown[recording.file_id]) == sorted(expected)
            assert recording.reference == self.references.get(recording.file_id)
        rows = index.query("SELECT file_id, model, model_version FROM coverage JOIN latest USING (file_id, seq)")
        assert {(row["file_id"], row["model"], row["model_version"]) for row in rows} == {
            (file_id, name, version) for file_id, have in self.latest.items() for name, version in have.items()
        }
        once = all(times == 1 for times in self.computed.values())
        assert once or self.has_held, "an answer that is kept is never computed again"


ACTIONS = st.one_of(
    st.just(("ingest",)),
    st.just(("refresh",)),
    st.tuples(st.just("set"), st.sampled_from(MODELS), st.sampled_from(VERSIONS)),
    st.tuples(st.just("enable"), st.sampled_from(MODELS), st.booleans()),
    st.just(("hold",)),
    st.tuples(st.just("decide"), st.sampled_from([release, reject])),
)


@settings(max_examples=20)
@example(
    actions=[("hold",), ("set", "words", "none"), ("hold",), ("decide", reject), ("refresh",), ("decide", release)]
)
@given(actions=st.lists(ACTIONS, min_size=4, max_size=10))
def test_a_files_detail_is_exactly_its_latest_reference(actions: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Lake.open(Path(folder)))
        world.ingest()
        for action, *arguments in [*actions, ("refresh",)]:
            if action == "ingest":
                world.ingest()
            elif action == "set":
                world.group[arguments[0]] = (arguments[1], world.group[arguments[0]][1])
            elif action == "enable":
                world.group[arguments[0]] = (world.group[arguments[0]][0], arguments[1])
            else:
                if action == "decide":
                    world.decide(*arguments)
                else:
                    world.refresh(held=action == "hold")
                world.check()
        with world.lake.index() as anew:
            world.check(anew)


def test_fewer_then_none_then_back_computes_each_version_once_and_leaves_nothing_stale(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    world.ingest()
    for version in ("many", "fewer", "none", "many", "fewer"):
        world.group["words"] = (version, True)
        world.refresh()
        world.check()
    assert len(world.references) == 2
    assert sum(world.computed.values()) == 2 * (3 + 1)  # three versions of one model, one of the other, two files


def test_a_disabled_model_is_not_carried_on_and_comes_back_without_computing(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    world.refresh()
    world.group["scene"] = ("many", False)
    world.group["words"] = ("fewer", True)
    world.refresh()
    world.check()
    assert set(next(iter(world.latest.values()))) == {"words"}
    world.group["scene"] = ("many", True)
    world.refresh()
    world.check()


def scored_by(world: World, plan: Plan, reference: uuid.UUID) -> list[Scored]:
    return [world.score(job, reference) for shard in plan.shards + plan.suspects for job in shard.jobs]


def published_by_both(world: World, first: Index, second: Index, *, held: bool = False) -> list[LogEntry | None]:
    """Let two refreshes plan the same work, and publish it one after the other."""
    record_group(world.lake, first, world.specs(), uuid.uuid4())
    second.catch_up()
    entries = []
    plans = [make_plan(first), make_plan(second)]
    for index, plan in zip((first, second), plans, strict=True):
        reference = uuid.uuid4()
        scored = scored_by(world, plan, reference)
        facts = {"scored": scored, "carried": (), "started_at": datetime.now(UTC)}
        entries.append(publish_refresh(world.lake, index, reference=reference, special=Special(held=held), **facts))
    return entries


def test_two_refreshes_of_the_same_work_publish_it_once(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    with world.lake.index(PLANNING_TABLES) as first, world.lake.index(PLANNING_TABLES) as second:
        entries = published_by_both(world, first, second)
    assert entries[0] is not None
    assert entries[1] is None, "the second one finds nothing left to publish"


def test_a_refresh_overtaken_in_part_publishes_only_what_is_left(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    with world.lake.index(PLANNING_TABLES) as slow:
        record_group(world.lake, slow, world.specs(), uuid.uuid4())
        world.ingest()
        slow.catch_up()
        slow_plan = make_plan(slow)
        slow_reference, fast_reference = uuid.uuid4(), uuid.uuid4()
        jobs = [job for shard in slow_plan.shards for job in shard.jobs]
        slow_scored = [world.score(job, slow_reference) for job in jobs]
        with world.lake.index(PLANNING_TABLES) as fast:
            publish_refresh(
                world.lake,
                fast,
                reference=fast_reference,
                scored=[world.score(jobs[0], fast_reference)],
                carried=(),
                started_at=datetime.now(UTC),
            )
        publish_refresh(
            world.lake, slow, reference=slow_reference, scored=slow_scored, carried=(), started_at=datetime.now(UTC)
        )
    with world.lake.index() as index:
        shown = {recording.file_id: recording.reference for recording in recordings(index)}
        assert shown == {jobs[0].file_id: fast_reference, jobs[1].file_id: slow_reference}
        assert len(predictions(index)) == 2 * 2 * 3


def test_a_result_of_a_group_that_has_changed_meanwhile_is_not_published(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    with world.lake.index(PLANNING_TABLES) as index:
        record_group(world.lake, index, world.specs(), uuid.uuid4())
        plan, reference = make_plan(index), uuid.uuid4()
        scored = scored_by(world, plan, reference)
        world.group["words"] = ("fewer", True)
        with world.lake.index(PLANNING_TABLES) as other:
            record_group(world.lake, other, world.specs(), uuid.uuid4())
        assert (
            publish_refresh(
                world.lake, index, reference=reference, scored=scored, carried=(), started_at=datetime.now(UTC)
            )
            is None
        )


def test_two_refreshes_of_the_same_work_hold_it_back_once(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    with world.lake.index(PLANNING_TABLES) as first, world.lake.index(PLANNING_TABLES) as second:
        entries = published_by_both(world, first, second, held=True)
        assert entries[0] is not None
        assert entries[0].held
        assert entries[1] is None, "what is held already waits"
        assert make_plan(first).recordings == 0
    with world.lake.index() as index:
        assert (recordings(index)[0].reference, recordings(index)[0].status, predictions(index)) == (None, "held", [])


@pytest.mark.parametrize("decide", [release, reject])
def test_a_refresh_that_was_overtaken_publishes_what_was_rejected_meanwhile_and_not_what_was_released(
    tmp_path: Path, decide: Callable
) -> None:
    world = World(Lake.open(tmp_path))
    world.ingest()
    with world.lake.index(PLANNING_TABLES) as slow:
        record_group(world.lake, slow, world.specs(), uuid.uuid4())
        reference = uuid.uuid4()
        scored = scored_by(world, make_plan(slow), reference)
        world.refresh(held=True)
        world.decide(decide)
        entry = publish_refresh(
            world.lake, slow, reference=reference, scored=scored, carried=(), started_at=datetime.now(UTC)
        )
    assert (entry is not None) == (decide is reject)


def test_a_model_that_turns_out_unavailable_lets_what_waits_wait(tmp_path: Path) -> None:
    world = World(Lake.open(tmp_path))
    world.group["scene"] = ("many", False)
    world.ingest()
    world.refresh(held=True)
    world.group["scene"] = ("many", True)
    with world.lake.index(PLANNING_TABLES) as index:
        record_group(world.lake, index, world.specs(), uuid.uuid4())
        assert make_plan(index, unavailable={"scene"}).recordings == 0
        plan = make_plan(index)
        ((job,),) = (shard.jobs for shard in plan.shards)
        assert set(job.tries) == {"words", "scene"}, "whole, or not at all"
        for refused in (True, False):
            reference = uuid.uuid4()
            scored = [world.score(replace(job, tries={"words": 0}) if refused else job, reference)]
            entry = publish_refresh(
                world.lake,
                index,
                reference=reference,
                scored=scored,
                carried=(),
                started_at=datetime.now(UTC),
                unavailable={"scene"},
            )
            assert (entry is None) == refused
