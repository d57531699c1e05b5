"""The commit: once for each key, whole or not at all, whoever else writes and whatever the disk answers."""

import multiprocessing
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.commit import MAX_TRIES, Draft, commit, publish
from storage.errors import CommitConflictError, StoreError
from storage.index import Index
from storage.log import LogEntry, encode, entry_path, read_entries, read_entry
from storage.store import LocalStore
from storage.tables import table_from_rows

FILES = 4
AT = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = st.lists(st.integers(0, FILES - 1), max_size=6)


def nothing(_: str) -> None:
    pass


class TroubledDisk(LocalStore):
    """A disk on which something happens right before or right after an entry is linked."""

    def __init__(
        self, root: Path, before: Callable[[str], None] = nothing, after: Callable[[str], None] = nothing
    ) -> None:
        super().__init__(root)
        self.before, self.after = before, after

    def write_if_absent(self, path: str, content: bytes) -> bool:
        self.before(path)
        written = super().write_if_absent(path, content)
        self.after(path)
        return written


class ForgetfulDisk(LocalStore):
    """Links, and then says that somebody else had: what a bucket answers when its client repeats a lost request."""

    def write_if_absent(self, path: str, content: bytes) -> bool:
        super().write_if_absent(path, content)
        return False


def fails(times: int) -> Callable[[str], None]:
    left = [times]

    def fail(_: str) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(5, "Input/output error")

    return fail


def rival_entry(store: LocalStore, op: str) -> Callable[[str], None]:
    """Writes somebody else's entry into the first place that is asked for."""
    seqs: list[int] = []

    def write(path: str) -> None:
        if not seqs:
            seqs.append(int(Path(path).stem))
            store.write(path, encode(LogEntry(seqs[0], op, uuid.uuid4(), uuid.uuid4(), AT, AT, 0)))

    return write


def key_of(job: int) -> UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(job))


def do(store: LocalStore, job: int, calls: list[int] | None = None) -> LogEntry | None:
    """Ingest, as a process of its own would, those of two files that the log lacks; jobs overlap by one file."""
    with Index(store) as index:

        def plan() -> Draft | None:
            if calls is not None:
                calls.append(index.applied_seq)
            known = {row["file_id"].int for row in index.query("SELECT file_id FROM files")}
            rows = [
                {"file_id": UUID(int=number), "sha256": str(number), "status": "accepted", "ingested_at": AT}
                for number in (job, (job + 1) % FILES)
                if number not in known
            ]
            return Draft({"files": table_from_rows("files", rows)}) if rows else None

        return commit(store, index, op="ingest", key=key_of(job), plan=plan, started_at=AT)


def check(store: LocalStore, jobs: set[int]) -> None:
    """Each place of the log is taken, each key is there once at most, and each file that was asked for once."""
    entries = list(read_entries(store, after=0))
    assert [f"log/{name}" for name in store.names("log")] == [entry_path(seq + 1) for seq in range(len(entries))]
    keys = [entry.key for entry in entries]
    assert len(keys) == len(set(keys))
    with Index(store) as index:
        index.catch_up()
        ids = sorted(row["file_id"].int for row in index.query("SELECT file_id FROM files"))
    assert ids == sorted({number % FILES for job in jobs for number in (job, job + 1)})


def test_a_key_is_published_once(store: LocalStore) -> None:
    first = do(store, 0)
    assert first is not None
    assert do(store, 0) == first
    assert len(list(read_entries(store, after=0))) == 1


def test_a_plan_that_comes_to_nothing_leaves_no_trace(store: LocalStore) -> None:
    with Index(store) as index:
        assert commit(store, index, op="ingest", key=key_of(0), plan=lambda: None, started_at=AT) is None
    assert not store.root.exists()


def test_an_entry_that_was_linked_before_the_error_counts_as_published(store: LocalStore) -> None:
    entry = do(TroubledDisk(store.root, after=fails(1)), 0)
    assert list(read_entries(store, after=0)) == [entry]
    check(store, {0})


def test_an_entry_that_the_store_calls_somebody_elses_is_known_by_its_attempt(store: LocalStore) -> None:
    entry = do(ForgetfulDisk(store.root), 0)
    assert list(read_entries(store, after=0)) == [entry]


def test_publishing_says_whose_the_place_is(store: LocalStore) -> None:
    mine, theirs = (LogEntry(1, "group", key_of(job), uuid.uuid4(), AT, AT, 1) for job in (0, 1))
    assert publish(ForgetfulDisk(store.root), mine)
    assert not publish(store, theirs)
    assert read_entry(store, 1) == mine


def test_an_error_that_left_the_place_empty_is_tried_again(store: LocalStore) -> None:
    assert do(TroubledDisk(store.root, before=fails(1)), 0) is not None
    check(store, {0})


def test_a_disk_that_never_links_fails_the_commit_and_shows_nothing(store: LocalStore) -> None:
    with pytest.raises(StoreError, match="log entry 1 could not be written"):
        do(TroubledDisk(store.root, before=fails(10**6)), 0)
    check(store, set())
    assert do(store, 0) is not None
    check(store, {0})


def test_parquet_that_cannot_be_written_publishes_nothing(store: LocalStore) -> None:
    store.write("data", b"a file where a folder should be")
    with pytest.raises(StoreError, match="data"):
        do(store, 0)
    assert store.names("log") == []


def test_a_process_killed_before_it_links_is_never_seen_and_repaired_by_the_next(store: LocalStore) -> None:
    def die(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(TroubledDisk(store.root, before=die), 0)
    assert store.names("data/files") == [str(key_of(0))]
    check(store, set())
    do(store, 0)
    check(store, {0})


def test_losing_the_place_moves_on_to_the_next(store: LocalStore) -> None:
    entry = do(TroubledDisk(store.root, before=rival_entry(store, "group")), 0)
    assert entry is not None
    assert entry.seq == 2
    assert entry == read_entry(store, 2)
    check(store, {0})


def test_losing_the_place_and_an_error_at_once_publishes_once(store: LocalStore) -> None:
    entry = do(TroubledDisk(store.root, before=rival_entry(store, "group"), after=fails(1)), 0)
    assert entry is not None
    assert entry.seq == 2
    check(store, {0})


def test_losing_to_the_same_key_returns_the_winners_entry(store: LocalStore) -> None:
    winners: list[LogEntry | None] = []
    disk = TroubledDisk(store.root, before=lambda _: winners.append(do(store, 0)))
    assert do(disk, 0) == winners[0]
    check(store, {0})


@pytest.mark.parametrize(("op", "seen"), [("ingest", [0, 1]), ("group", [0])])
def test_a_plan_is_made_anew_only_when_the_winner_makes_it_stale(store: LocalStore, op: str, seen: list[int]) -> None:
    calls: list[int] = []
    entry = do(TroubledDisk(store.root, before=rival_entry(store, op)), 0, calls)
    assert calls == seen
    assert entry is not None
    assert len(store.names(f"data/files/{key_of(0)}")) == len(seen)
    assert str(entry.attempt) in entry.files[0].path


def test_a_plan_that_others_have_fulfilled_meanwhile_publishes_nothing(store: LocalStore) -> None:
    def rivals(_: str) -> None:
        do(store, 3)  # files 3 and 0
        do(store, 1)  # files 1 and 2

    assert do(TroubledDisk(store.root, before=rivals), 0) is None
    check(store, {1, 3})


def test_a_writer_that_always_loses_gives_up_and_leaves_the_log_sound(store: LocalStore) -> None:
    def take(path: str) -> None:
        rival_entry(store, "group")(path)

    disk = TroubledDisk(store.root, before=take)
    with pytest.raises(CommitConflictError, match=f"{MAX_TRIES} places"):
        do(disk, 0)
    assert len(store.names("log")) == MAX_TRIES
    check(store, set())


def test_an_entry_says_which_group_it_was_made_under(store: LocalStore) -> None:
    with Index(store) as index:
        ops = ("ingest", "group", "ingest", "group", "ingest")
        entries = [
            commit(store, index, op=op, key=uuid.uuid4(), plan=lambda: Draft(counts={"x": 1}), started_at=AT)
            for op in ops
        ]
    assert [entry.group_seq for entry in entries if entry] == [0, 2, 2, 4, 4]


@settings(max_examples=30)
@given(jobs=JOBS, rivals=st.lists(st.integers(0, 3), max_size=12))
def test_any_interleaving_leaves_a_gapless_log_with_each_key_once(
    tmp_path_factory: pytest.TempPathFactory, jobs: list[int], rivals: list[int]
) -> None:
    """Before an entry is linked, as many other writers as `rivals` says get through, who may be overtaken as well."""
    waiting, overtaken_by = list(jobs), list(rivals)

    def overtake(_: str) -> None:
        for _ in range(overtaken_by.pop() if overtaken_by else 0):
            if waiting:
                do(disk, waiting.pop())

    disk = TroubledDisk(tmp_path_factory.mktemp("lake"), before=overtake)
    while waiting:
        do(disk, waiting.pop())
    check(disk, set(jobs))


def work(root: Path, jobs: list[int]) -> None:
    for job in jobs:
        do(LocalStore(root), job)


@settings(max_examples=10)
@given(jobs=st.tuples(JOBS, JOBS, JOBS))
def test_threads_that_commit_at_once_leave_a_gapless_log(
    tmp_path_factory: pytest.TempPathFactory, jobs: tuple[list[int], ...]
) -> None:
    root = tmp_path_factory.mktemp("lake")
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(work, [root] * len(jobs), jobs))
    check(LocalStore(root), {job for those in jobs for job in those})


def test_processes_that_commit_at_once_leave_a_gapless_log(store: LocalStore) -> None:
    context = multiprocessing.get_context("spawn")
    orders = ([0, 1, 2, 3], [3, 2, 1, 0], [0, 3, 1, 2])
    writers = [context.Process(target=work, args=(store.root, order * 3)) for order in orders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * len(orders)
    check(store, {0, 1, 2, 3})
