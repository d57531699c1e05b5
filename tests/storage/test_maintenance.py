"""Whatever maintenance does, in whatever order, readers see the same: by a tail, a base file, or the whole log."""

import io
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import rewrite, steps
from storage.erasure import erase, lift, purge
from storage.index import Index
from storage.lake import Lake
from storage.manifest import manifest_seqs
from storage.recordings import predictions, recordings, utterances
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold
from storage.vacuum import Vacuumed, vacuum
from tests.storage.conftest import Author

NAMES = ("a", "b", "c", "d")
DAY = timedelta(days=1)


def seen_by(index: Index) -> dict[str, Any]:
    """Everything that readers and planners can see."""
    every = recordings(index)
    assert [recordings(index, each.file_id) for each in every] == [[each] for each in every]
    return {
        "recordings": every,
        "predictions": predictions(index),
        "utterances": utterances(index),
        "answers": index.query("SELECT * FROM answers ORDER BY ALL"),
        "sources": index.query("SELECT * FROM current_sources ORDER BY ALL"),
        "erased": index.erased(),
        "live": index.live_files(),
        "group": index.query("SELECT * FROM group_models ORDER BY ALL"),
    }


def afresh(lake: Lake, *, whole_log: bool) -> dict[str, Any]:
    with Index(lake.store) if whole_log else lake.index() as index:
        index.catch_up()
        return seen_by(index)


def later(days: float = 2) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


@dataclass
class World:
    """A lake, and what ought to be seen in it: each file's references, oldest first, and their rows."""

    author: Author
    references: dict[str, list[tuple[UUID, list[tuple[str, float]]]]] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    held: list[tuple[UUID, dict[str, list[tuple[str, float]]]]] = field(default_factory=list)

    def id_of(self, name: str) -> UUID:
        return self.author.file_row(name)["file_id"]

    def ingest(self, name: str) -> None:
        if name not in self.references and name not in self.erased:
            self.author.ingest(name)
            self.references[name] = []

    def refresh(self, names: list[str], sure: float) -> None:
        found = [("x", sure), ("y", 0.5)]
        known = [name for name in dict.fromkeys(names) if name in self.references]
        if known:
            reference = self.author.refresh({(self.id_of(name), "m"): found for name in known})
            for name in known:
                self.references[name].append((reference, found))

    def keep_last(self, count: int) -> None:
        expire(self.author.lake, self.author.index, Retention(keep_references=count), uuid.uuid4())

    def erase(self, name: str) -> None:
        erase(self.author.lake, self.author.index, [self.id_of(name)], uuid.uuid4())
        self.references.pop(name, None)
        self.erased.add(name)

    def lift(self, name: str) -> None:
        lift(self.author.lake, self.author.index, [self.id_of(name)], uuid.uuid4())
        self.erased.discard(name)

    def purge(self) -> None:
        purge(self.author.lake, self.author.index, uuid.uuid4())

    def compact(self) -> None:
        compact(self.author.lake, self.author.index, uuid.uuid4())

    def fold(self) -> None:
        fold(self.author.lake.store, self.author.index, after=1)

    def vacuum(self) -> Vacuumed:
        return vacuum(self.author.lake, self.author.index, uuid.uuid4(), grace=timedelta(hours=1), now=later())

    def check(self) -> None:
        now = seen_by(self.author.index)
        shown = {row.name: row.reference for row in now["recordings"]}
        assert shown == {name: kept[-1][0] if kept else None for name, kept in self.references.items()}
        ids = {self.id_of(name): name for name in NAMES}
        rows: dict[str, list[tuple[str, float]]] = {name: [] for name in self.references}
        for row in now["predictions"]:
            rows[ids[row.file_id]].append((row.label, row.confidence))
        assert rows == {name: kept[-1][1] if kept else [] for name, kept in self.references.items()}
        assert now["erased"] == {self.id_of(name) for name in self.erased}
        for whole_log in (False, True):
            assert afresh(self.author.lake, whole_log=whole_log) == now


NAME = st.sampled_from(NAMES)
STEP = st.one_of(
    st.tuples(st.just("ingest"), NAME),
    st.tuples(st.just("refresh"), st.lists(NAME, min_size=1, max_size=4), st.sampled_from([0.1, 0.6, 0.95])),
    st.tuples(st.just("keep_last"), st.integers(1, 2)),
    st.tuples(st.just("erase"), NAME),
    st.tuples(st.just("lift"), NAME),
    st.tuples(st.sampled_from(["purge", "compact", "fold", "vacuum"])),
)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrite, "MIN_SMALL_FILES", 2)


@settings(max_examples=25)
@given(steps=st.lists(STEP, max_size=12))
def test_any_order_of_work_and_maintenance_shows_the_same_by_every_way(
    new_author: Callable[[], Author], steps: list[tuple[Any, ...]]
) -> None:
    usual, rewrite.MIN_SMALL_FILES = rewrite.MIN_SMALL_FILES, 2
    try:
        world = World(new_author())
        for name in ("a", "b"):
            world.ingest(name)
        world.refresh(["a", "b"], 0.3)
        for step, *arguments in steps:
            getattr(world, step)(*arguments)
        world.check()
    finally:
        rewrite.MIN_SMALL_FILES = usual


@pytest.fixture
def world(author: Author, small_batches: None) -> World:
    made = World(author)
    for name in ("a", "b"):
        made.ingest(name)
    for sure in (0.1, 0.2, 0.3, 0.4):
        made.refresh(["a", "b"] if sure < 0.3 else ["a"], sure)
    return made


def parquet_files(lake: Lake) -> list[str]:
    return [stored.path for stored in lake.store.found("data")]


def test_an_index_begins_at_the_snapshot_and_applies_what_came_since(world: World) -> None:
    world.fold()
    world.refresh(["b"], 0.5)
    with world.author.lake.index() as index:
        assert list((world.author.lake.place.local / "index").glob("base-*.duckdb"))
        assert index.query("SELECT count(*) AS n FROM tail.entries") == [{"n": 1}]
        assert seen_by(index) == seen_by(world.author.index)


def test_a_snapshot_is_made_only_when_enough_is_new(world: World) -> None:
    store, index = world.author.lake.store, world.author.index
    assert fold(store, index, after=index.applied_seq + 1) is None
    assert fold(store, index, after=index.applied_seq) is not None
    assert fold(store, index, after=1) is None


@pytest.mark.parametrize("damage", ["gone", "empty", "garbage", "flipped", "cut"])
def test_a_damaged_base_file_is_made_anew_without_a_word(world: World, damage: str) -> None:
    world.fold()
    expected = seen_by(world.author.index)
    with world.author.lake.index():
        pass
    (base,) = (world.author.lake.place.local / "index").glob("base-*.duckdb")
    content = bytearray(base.read_bytes())
    middle = len(content) // 2
    content[12_288:] = bytes(byte ^ 255 for byte in content[12_288:])
    damaged = {
        "empty": b"",
        "garbage": b"no database" * 1000,
        "flipped": bytes(content),
        "cut": base.read_bytes()[:middle],
    }
    base.unlink()
    if damage != "gone":
        base.write_bytes(damaged[damage])
    assert afresh(world.author.lake, whole_log=False) == expected
    assert afresh(world.author.lake, whole_log=False) == expected


@pytest.mark.parametrize("part", ["manifest", "parquet"])
def test_a_damaged_snapshot_is_passed_over(world: World, part: str) -> None:
    world.fold()
    world.refresh(["b"], 0.7)
    world.fold()
    expected = seen_by(world.author.index)
    newest = max(name for name in world.author.lake.store.names("snap") if name.endswith(".json"))
    if part == "manifest":
        world.author.lake.store.write(f"snap/{newest}", b"{}")
    else:
        for stored in list(world.author.lake.store.found(f"snap/{newest.removesuffix('.json')}")):
            world.author.lake.store.write(stored.path, b"PAR1 no more")
    assert afresh(world.author.lake, whole_log=False) == expected


def test_a_base_is_swapped_under_running_queries(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.index.REBASE_AFTER", 1)
    index = world.author.index
    with index.reading() as before:
        old = seen_by(index)
        world.author.lake.index().close()
        other = Author(world.author.lake, world.author.lake.index(), minutes=100)
        other.refresh({(world.id_of("b"), "m"): [("z", 1.0)]})
        fold(other.lake.store, other.index, after=1)
        index.catch_up()
        index.rebase()
        assert seen_by(index) == old, "a reading sees one state"
        assert before.seq < index.applied_seq
    assert seen_by(index) == seen_by(other.index)
    assert index.query("SELECT count(*) AS n FROM tail.entries") == [{"n": 0}]


def test_small_files_become_few_and_go_after_the_grace_period(world: World) -> None:
    small = parquet_files(world.author.lake)
    expected = seen_by(world.author.index)["predictions"]
    while compact(world.author.lake, world.author.index, uuid.uuid4()):
        pass
    live = {file.path for file in world.author.index.live_files()}
    assert len(live) < len(small)
    lake, index = world.author.lake, world.author.index
    kept = vacuum(lake, index, uuid.uuid4(), grace=DAY)
    assert kept.parquet_files == 0, "readers of an older state may still want them"
    gone = vacuum(lake, index, uuid.uuid4(), grace=DAY, now=later())
    assert gone.parquet_files == len(set(small) - live)
    assert set(parquet_files(lake)) == live
    assert seen_by(index)["predictions"] == expected
    world.check()


def test_an_index_that_is_behind_removed_files_finds_its_way(world: World) -> None:
    behind = Index(world.author.lake.store, folder=world.author.lake.place.local / "index")
    behind.catch_up()
    world.refresh(["a", "b"], 0.8)
    world.refresh(["b"], 0.9)
    while compact(world.author.lake, world.author.index, uuid.uuid4()):
        pass
    world.vacuum()
    behind.catch_up()
    assert seen_by(behind) == seen_by(world.author.index)


def test_expiring_by_count_keeps_each_files_latest_and_its_neighbours_whole(world: World) -> None:
    references = [reference for reference, _ in world.references["a"]]
    entry = expire(world.author.lake, world.author.index, Retention(keep_references=2), uuid.uuid4())
    assert entry is not None
    assert entry.expired == (references[1],), "the first is one of b's last two, the others are a's last two"
    world.check()
    answers = world.author.index.query("SELECT DISTINCT file_id, seq FROM answers")
    assert len(answers) == 5
    assert expire(world.author.lake, world.author.index, Retention(keep_references=2), uuid.uuid4()) is None


def test_an_expired_reference_that_is_a_files_latest_leaves_it_its_rows(world: World) -> None:
    references = [reference for reference, _ in world.references["a"]]
    entry = expire(world.author.lake, world.author.index, Retention(keep_references=1), uuid.uuid4())
    assert entry is not None
    assert set(entry.expired) == set(references[:3])
    world.check()
    while compact(world.author.lake, world.author.index, uuid.uuid4()):
        pass
    world.vacuum()
    world.check()
    kept = pq.read_table(next((world.author.lake.store.root / "data" / "coverage").rglob("*.parquet")))
    assert kept.num_rows == 2, "one row each: b's and a's latest"


def test_expiring_by_age_goes_by_when_a_reference_was_committed(world: World) -> None:
    lake, index, keep = world.author.lake, world.author.index, Retention(keep_days=30)
    assert expire(lake, index, keep, uuid.uuid4(), now=later(29)) is None
    entry = expire(lake, index, keep, uuid.uuid4(), now=later(31))
    assert entry is not None
    assert len(entry.expired) == 3
    world.check()


def test_keeping_by_both_rules_keeps_what_either_promises(world: World) -> None:
    lake, index = world.author.lake, world.author.index
    assert expire(lake, index, Retention(keep_references=1, keep_days=30), uuid.uuid4()) is None
    assert expire(lake, index, Retention(keep_references=9, keep_days=30), uuid.uuid4(), now=later(99)) is None
    assert expire(lake, index, Retention(), uuid.uuid4(), now=later(9999)) is None


def test_what_nobody_named_goes_after_the_grace_period_and_is_given_up_first(world: World) -> None:
    store = world.author.lake.store
    store.write("data/predictions/orphan/one.parquet", b"of an attempt that died")
    assert world.author.lake.store.stat("data/predictions/orphan/one.parquet") is not None
    vacuum(world.author.lake, world.author.index, uuid.uuid4(), grace=DAY)
    assert store.stat("data/predictions/orphan/one.parquet") is not None
    world.vacuum()
    assert store.stat("data/predictions/orphan/one.parquet") is None
    assert world.author.index.given_up(["data/predictions/orphan/one.parquet"])
    world.check()


def test_acknowledged_uploads_outlast_every_vacuum_and_what_nobody_wants_does_not(world: World) -> None:
    lake = world.author.lake

    wanted, unwanted = lake.media.add(io.BytesIO(b"wanted")), lake.media.add(io.BytesIO(b"unwanted"))
    receipt = lake.inbox.add(wanted, "wanted.wav")
    world.vacuum()
    assert lake.store.stat(f"media/{unwanted.sha256[:2]}/{unwanted.sha256}") is None
    assert lake.inbox.receipts() == [receipt]
    assert lake.media.has(wanted.sha256)
    assert lake.media.has(unwanted.sha256), "it only lies in the trash, and comes back when somebody asks"
    world.vacuum()
    vacuum(lake, world.author.index, uuid.uuid4(), grace=timedelta(hours=1), now=later(9))
    assert not lake.media.has(unwanted.sha256)
    assert lake.media.has(wanted.sha256)


def test_erasing_leaves_nothing_but_a_tombstone(world: World) -> None:

    lake, index = world.author.lake, world.author.index
    blob = lake.media.add(io.BytesIO(b"a"))  # the author's id of a name is the hash of the name
    assert blob.file_id == world.id_of("a")
    lake.inbox.add(blob, "a.wav")
    world.fold()
    world.erase("a")
    world.check()
    world.purge()
    world.check()
    assert not lake.media.has(blob.sha256)
    assert lake.inbox.receipts() == []
    assert index.query("SELECT lifted, purged FROM tombstones") == [{"lifted": False, "purged": True}]
    root = lake.store.root
    for file in [*(root / "data").rglob("*.parquet"), *(root / "snap").rglob("*.parquet")]:
        table = pq.read_table(file)
        if "file_id" in table.column_names and file.stem != "tombstones":
            assert blob.file_id not in table["file_id"].to_pylist(), file
    index.close()
    with lake.index():
        pass
    assert len(list((root / "index").glob("base-*.duckdb"))) == 1
    assert b"a.wav" not in b"".join(file.read_bytes() for file in (root / "index").glob("base-*"))


def test_an_erased_recording_comes_back_only_after_its_tombstone_is_lifted_and_then_empty(world: World) -> None:
    world.erase("a")
    world.lift("a")
    world.check()
    world.ingest("a")
    world.check()
    world.purge()
    world.check()
    assert world.author.index.query("SELECT 1 FROM coverage WHERE file_id = ?", [world.id_of("a")]) == []


def test_an_erasure_that_was_cut_off_is_finished_by_the_next_purge(world: World) -> None:
    world.erase("a")
    world.compact()  # it does not know, and need not
    assert world.author.index.query("SELECT purged FROM tombstones") == [{"purged": False}]
    world.purge()
    for file in (world.author.lake.store.root / "data").rglob("*.parquet"):
        assert world.id_of("a") not in pq.read_table(file)["file_id"].to_pylist()
    world.check()


def test_a_held_reference_is_no_files_latest_until_it_is_released(world: World) -> None:
    author, file_id = world.author, world.id_of("a")
    before = seen_by(author.index)["predictions"]
    reference = uuid.uuid4()
    row = {"file_id": file_id, "model": "m", "model_version": "v1", "channel": 0, "utterance": 0}
    author.commit(
        "refresh",
        reference=reference,
        held=True,
        coverage=[author.coverage_row(file_id, "m", predictions=1)],
        predictions=[{**row, "label": "held", "start_s": 0.0, "end_s": 0.1, "confidence": 0.9}],
    )
    assert seen_by(author.index)["predictions"] == before
    world.fold()
    world.compact()
    world.check()
    author.commit("release", reference=reference)
    for whole_log in (False, True):
        shown = [r.label for r in afresh(author.lake, whole_log=whole_log)["predictions"] if r.file_id == file_id]
        assert shown == ["held"]


def test_a_decision_about_a_reference_that_never_was_changes_nothing(world: World) -> None:
    held = uuid.uuid4()
    world.author.commit(
        "refresh", reference=held, held=True, coverage=[world.author.coverage_row(world.id_of("a"), "m")]
    )
    world.author.commit("release", reference=uuid.uuid4())
    world.check()


def test_a_snapshot_of_somebody_who_is_erased_meanwhile_is_not_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def erased(step: str) -> None:
        if step == "snapshot written":
            monkeypatch.setattr(steps, "on_step", None)
            other = World(Author(world.author.lake, world.author.lake.index()))
            other.erase("a")

    monkeypatch.setattr(steps, "on_step", erased)
    assert fold(world.author.lake.store, world.author.index, after=1) is None
    assert manifest_seqs(world.author.lake.store) == []
