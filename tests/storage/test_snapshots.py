"""Trouble with a snapshot costs an older one or, at worst, an error that says what to do; hardly ever the whole log."""

import logging
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import flows.maintain
import flows.stages
from storage import base, index
from storage.errors import StoreError
from storage.index import Index
from storage.manifest import Manifest, manifest_path, manifest_seqs, manifests, newest_manifest, newest_seq
from storage.recordings import predictions, recordings
from storage.snapshot import fold
from storage.store import LocalStore
from storage.vacuum import vacuum
from tests.storage.conftest import Author

FAR: int = 99_999_999_999_999_999_999
HOUR = timedelta(hours=1)


class Disturbed(LocalStore):
    """A folder whose large files cannot be had for a while."""

    failure: Callable[[str], None] | None = None

    @contextmanager
    def on_disk(self, path: str) -> Iterator[Path]:
        if self.failure is not None:
            self.failure(path)
        with super().on_disk(path) as place:
            yield place


@pytest.fixture
def author(author: Author) -> Author:
    ids = author.ingest("a", "b")
    author.group({"m": "v1"})
    for sure in (0.2, 0.4):
        author.refresh({(file_id, "m"): [("x", sure)] for file_id in ids})
    return author


@pytest.fixture
def other(author: Author, tmp_path: Path) -> Iterator[tuple[Index, Disturbed]]:
    """An index of another host, which has no base file yet, and its way to the store."""
    store = Disturbed(author.lake.store.root)
    with Index(store, folder=tmp_path / "index") as made:
        yield made, store


def snapshot(author: Author) -> Manifest:
    author.refresh({(row["file_id"], "m"): [("x", 0.6)] for row in author.index.query("SELECT file_id FROM files")})
    made = fold(author.lake.store, author.index, after=1)
    assert made is not None
    return made


def seen_by(reader: Index) -> tuple[object, ...]:
    reader.catch_up()
    return recordings(reader), predictions(reader)


def remove(author: Author, manifest: Manifest) -> None:
    author.lake.store.remove(manifest_path(manifest.seq))
    for file in manifest.tables.values():
        author.lake.store.remove(file.path)


def cut(author: Author, manifest: Manifest) -> str:
    path = manifest.tables["coverage"].path
    content = author.lake.store.read(path)
    assert content is not None
    author.lake.store.write(path, content[:-20])
    return path


def tear(author: Author, seq: int, content: bytes = b"{torn") -> None:
    author.lake.store.write(manifest_path(seq), content)


def impossible(manifest: Manifest) -> bytes:
    return Manifest(FAR, manifest.group_seq, manifest.tables).encode()


def count_opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    opened: list[int] = []

    def counted(store: LocalStore, manifest: Manifest, folder: Path) -> Path:
        opened.append(manifest.seq)
        return base.base_file(store, manifest, folder)

    monkeypatch.setattr(index, "base_file", counted)
    return opened


def test_a_reader_whose_snapshot_is_replaced_while_it_reads_begins_at_the_newer_one(
    author: Author, other: tuple[Index, Disturbed]
) -> None:
    reader, store = other
    old, newer = snapshot(author), list[Manifest]()

    def replace(_: str) -> None:
        store.failure = None
        newer.append(snapshot(author))
        remove(author, old)

    store.failure = replace
    assert seen_by(reader) == seen_by(author.index)
    assert reader.start_seq == newer[0].seq > old.seq


def test_a_reader_whose_snapshots_go_again_and_again_says_so_and_does_not_read_the_log(
    author: Author, other: tuple[Index, Disturbed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "OPEN_TRIES", 2)
    reader, store = other
    current = [snapshot(author)]

    def replace(_: str) -> None:
        current.append(snapshot(author))
        remove(author, current[-2])

    store.failure = replace
    with pytest.raises(StoreError, match="is not there"):
        reader.catch_up()
    assert len(current) == index.OPEN_TRIES + 1
    store.failure = None
    assert seen_by(reader) == seen_by(author.index)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_parquet_of_the_newest_snapshot_costs_an_older_one_and_is_named(
    author: Author, other: tuple[Index, Disturbed], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    reader, _ = other
    older = snapshot(author)
    path = cut(author, snapshot(author))
    if damage == "gone":
        author.lake.store.remove(path)
    assert seen_by(reader) == seen_by(author.index)
    assert reader.start_seq == older.seq
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert path in message
    assert "Make room" not in message


def test_with_the_only_snapshot_damaged_the_log_is_read(author: Author, other: tuple[Index, Disturbed]) -> None:
    reader, _ = other
    cut(author, snapshot(author))
    assert seen_by(reader) == seen_by(author.index)
    assert reader.start_seq == 0


@pytest.mark.parametrize("room_bytes", [0, 100_000])
def test_a_full_disk_is_an_error_with_its_remedy_and_not_a_reason_to_read_the_log(
    author: Author, other: tuple[Index, Disturbed], tmp_path: Path, room_bytes: int
) -> None:
    reader, _ = other
    snapshot(author)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="Make room there"):
                reader.catch_up()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in (tmp_path / "index").iterdir()] == [".lock"], "nothing is left of the attempts"
    assert seen_by(reader) == seen_by(author.index)
    assert reader.start_seq > 0


def test_a_folder_that_cannot_be_written_is_an_error_with_its_remedy(author: Author, tmp_path: Path) -> None:
    snapshot(author)
    (tmp_path / "index").write_text("a file where the folder should be")
    with (
        Index(author.lake.store, folder=tmp_path / "index") as reader,
        pytest.raises(StoreError, match="Make it writable"),
    ):
        reader.catch_up()


def test_a_network_that_fails_is_an_error_and_the_next_look_begins_at_the_snapshot(
    author: Author, other: tuple[Index, Disturbed]
) -> None:
    reader, store = other
    newest = snapshot(author)

    def fail(_: str) -> None:
        raise StoreError("s3://bucket: cannot be read: timeout. Check the network")

    store.failure = fail
    with pytest.raises(StoreError, match="Check the network"):
        reader.catch_up()
    store.failure = None
    assert seen_by(reader) == seen_by(author.index)
    assert reader.start_seq == newest.seq


@pytest.mark.parametrize("trouble", ["torn", "impossible", "damaged", "network"])
def test_a_follower_tries_a_newer_snapshot_that_cannot_be_used_once_and_goes_on(
    author: Author, other: tuple[Index, Disturbed], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    reader, store = other
    first = snapshot(author)
    reader.catch_up()
    file_id = author.file_row("a")["file_id"]
    author.commit("delete", deleted=(file_id,))
    newest = snapshot(author)
    if trouble == "torn":
        tear(author, newest.seq)
    elif trouble == "impossible":
        remove(author, newest)
        tear(author, FAR, impossible(newest))
    elif trouble == "damaged":
        cut(author, newest)
    else:

        def fail(_: str) -> None:
            raise StoreError("no network")

        store.failure = fail
    opened, looks = count_opened(monkeypatch), list[object]()
    monkeypatch.setattr(index, "manifests", lambda *args, **named: looks.append(args) or manifests(*args, **named))
    failures = 0
    for _ in range(20):
        reader.catch_up()
        try:
            reader.rebase()
        except StoreError:
            failures += 1
    assert len(opened) == (trouble in ("damaged", "network"))
    assert failures == (trouble == "network")
    assert 1 <= len(looks) <= 2
    assert reader.start_seq == first.seq
    store.failure = None
    good = snapshot(author)
    reader.catch_up()
    reader.rebase()
    assert reader.start_seq == good.seq
    assert seen_by(reader) == seen_by(author.index)


def test_a_follower_looks_again_once_a_snapshot_had_time_to_be_put_right(
    author: Author, other: tuple[Index, Disturbed], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, _ = other
    snapshot(author)
    reader.catch_up()
    author.commit("delete", deleted=(author.file_row("a")["file_id"],))
    newest = snapshot(author)
    tear(author, newest.seq)
    reader.catch_up()
    reader.rebase()
    tear(author, newest.seq, newest.encode())
    reader.rebase()
    assert reader.start_seq < newest.seq
    monkeypatch.setattr(index, "REST_S", 0.0)
    reader.rebase()
    assert reader.start_seq == newest.seq


def stray(author: Author, manifest: Manifest) -> tuple[int, int]:
    tear(author, FAR - 1, b"{}")
    tear(author, FAR, impossible(manifest))
    return FAR, FAR - 1


def test_stray_manifests_count_for_nobody(author: Author, other: tuple[Index, Disturbed]) -> None:
    good = snapshot(author)
    store = author.lake.store
    stray(author, good)
    assert newest_seq(store) == good.seq
    assert newest_manifest(store) == good
    assert seen_by(other[0]) == seen_by(author.index)
    assert other[0].start_seq == good.seq
    newer = snapshot(author)
    assert newest_manifest(store) == newer


def test_vacuum_keeps_the_snapshots_that_can_be_used_and_removes_others_after_the_grace_period(author: Author) -> None:
    lake, good = author.lake, [snapshot(author), snapshot(author), snapshot(author)]
    strays = stray(author, good[0])
    kept = (good[2].seq, good[1].seq)
    assert vacuum(lake, author.index, uuid.uuid4(), grace=HOUR).snapshots == 1
    assert tuple(manifest_seqs(lake.store)) == (*strays, *kept), "they may be of a newer format, just written"
    aged = time.time() - 2 * HOUR.total_seconds()
    for seq in strays:
        os.utime(lake.store.root / manifest_path(seq), (aged, aged))
    assert vacuum(lake, author.index, uuid.uuid4(), grace=HOUR).snapshots == 2
    assert tuple(manifest_seqs(lake.store)) == kept
    paths = {file.path for manifest in good[1:] for file in manifest.tables.values()}
    assert {stored.path for stored in lake.store.found("snap") if stored.path.endswith(".parquet")} == paths


def test_files_of_an_attempt_that_was_overtaken_go_from_a_kept_snapshot(author: Author) -> None:
    lake, good = author.lake, snapshot(author)
    overtaken = f"snap/{good.seq:020d}/{uuid.uuid4()}/coverage.parquet"
    lake.store.write(overtaken, b"PAR1")
    snapshot(author)
    vacuum(lake, author.index, uuid.uuid4(), grace=HOUR, now=datetime.now(UTC) + 2 * HOUR)
    assert lake.store.stat(overtaken) is None
    assert all(lake.store.stat(file.path) for file in good.tables.values())


def test_stray_manifests_keep_nobody_from_asking_for_a_snapshot(
    author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(flows.stages, "run_deployment", lambda name, **_: asked.append(name))
    monkeypatch.setattr(flows.maintain, "ASK_AFTER", 1)
    stray(author, Manifest(FAR, 0, {}))
    flows.maintain.ask_for_fold(author.lake, author.index)
    assert asked == ["maintain/maintain"]
    snapshot(author)
    flows.maintain.ask_for_fold(author.lake, author.index)
    assert len(asked) == 1
