import dataclasses
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.compare
import storage.verify
from storage.erasure import erase, purge
from storage.index import Index
from storage.lake import Lake
from storage.log import DataFile, decode, encode, entry_path
from storage.manifest import manifest_path, newest_manifest
from storage.media import media_path
from storage.parquet import read_each, write_table
from storage.peaks import Waveform
from storage.report import Report
from storage.rewrite import compact
from storage.settings import get_settings
from storage.snapshot import fold
from storage.tables import OF_FILES
from storage.verify import main, verify
from tests.storage.conftest import Author
from tests.storage.whole import ERASED, Template, clean, take_in, whole_lake


@pytest.fixture(scope="module")
def template(new_author: Callable[[], Author]) -> Template:
    return whole_lake(new_author)


@pytest.fixture
def lake(template: Template, tmp_path: Path) -> Lake:
    return template.copy(tmp_path / "lake")


@pytest.fixture
def without_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a verification's time goes into making indexes, which few tests are about."""
    monkeypatch.setattr(storage.verify, "_compare_indexes", lambda *_: None)


def path_in(lake: Lake, path: str) -> Path:
    return Path(lake.place.url) / path


def live(lake: Lake, table: str) -> DataFile:
    with lake.index() as index:
        return index.live_files(table)[0]


def only_problem(report: Report) -> tuple[str, str]:
    assert len(report.problems) == 1, str(report)
    problem = report.problems[0]
    assert problem.remedy
    return problem.kind, problem.subject


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_whole_lake_has_no_problem_and_everything_was_looked_at(lake: Lake):
    report = verify(lake)
    assert report.ok, str(report)
    assert not report.skipped
    looked_at = report.looked_at
    assert looked_at["log entries"] == report.head == len(lake.store.names("log"))
    assert looked_at["indexes compared"] == 2
    with lake.index() as index:
        assert looked_at["live Parquet files"] == len(index.live_files())
    assert looked_at["recordings' bytes hashed"] == 4  # three accepted ones and an upload
    assert looked_at["receipts"] == looked_at["snapshots"] == looked_at["erased recordings"] == 1
    assert looked_at["answers whose predictions were counted"]


def test_verifying_changes_nothing(lake: Lake):
    root = Path(lake.place.url)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    verify(lake)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_an_empty_lake_is_whole(tmp_path: Path):
    assert verify(Lake.open(tmp_path)).ok


@pytest.mark.parametrize("damage", [flip_a_bit, tear, Path.unlink])
@pytest.mark.parametrize("table", ["files", "predictions"])
def test_a_damaged_or_missing_parquet_file_is_named(lake: Lake, table: str, damage: Callable[[Path], None]):
    path = live(lake, table).path
    damage(path_in(lake, path))
    report = verify(lake)
    assert ("parquet", path) in {(problem.kind, problem.subject) for problem in report.problems}
    assert all("copy" in problem.remedy for problem in report.problems if problem.kind == "parquet")
    assert "indexes" in report.skipped[0]
    assert report.looked_at["receipts"], "it went on to the end"


@pytest.mark.usefixtures("without_indexes")
def test_a_missing_recording_is_named(lake: Lake, template: Template):
    path = next(path for path in Path(lake.place.url, "media").rglob("*") if template.ids[0].hex in path.name)
    path.unlink()
    assert only_problem(verify(lake)) == ("media", f"media/{path.parent.name}/{path.name}")
    assert not verify(lake, audio=False).ok


@pytest.mark.usefixtures("without_indexes")
def test_a_recording_with_other_bytes_is_named(lake: Lake, template: Template):
    path = next(path for path in Path(lake.place.url, "media").rglob("*") if template.ids[0].hex in path.name)
    path.write_bytes(b"A")
    assert only_problem(verify(lake)) == ("media", f"media/{path.parent.name}/{path.name}")
    report = verify(lake, audio=False)
    assert report.ok
    assert "hash" in report.skipped[0]
    path.write_bytes(b"other size")
    assert not verify(lake, audio=False).ok


@pytest.mark.usefixtures("without_indexes")
def test_a_recording_in_the_trash_is_there(lake: Lake, template: Template):
    sha256 = next(row["sha256"] for row in lake.index().query("FROM files") if row["file_id"] == template.ids[0])
    lake.media.trash(sha256, datetime.now(UTC))
    assert verify(lake).ok


def test_a_gap_in_the_log_is_named(lake: Lake):
    path_in(lake, entry_path(5)).unlink()
    report = verify(lake)
    assert ("log", entry_path(5)) in {(problem.kind, problem.subject) for problem in report.problems}
    assert report.looked_at["log entries"] == report.head


def test_a_damaged_log_entry_is_named(lake: Lake):
    tear(path_in(lake, entry_path(7)))
    problems = [problem for problem in verify(lake).problems if problem.subject == entry_path(7)]
    assert problems[0].kind == "log"
    assert "damaged" in problems[0].wrong


@pytest.mark.usefixtures("without_indexes")
def test_a_log_that_ends_before_a_snapshot_is_named(lake: Lake):
    newest = newest_manifest(lake.store)
    for name in lake.store.names("log"):
        if int(name[:20]) >= newest.seq:
            path_in(lake, f"log/{name}").unlink()
    assert ("snapshot", manifest_path(newest.seq)) in {(p.kind, p.subject) for p in verify(lake).problems}


@pytest.mark.usefixtures("without_indexes")
def test_what_is_no_log_entry_is_named(lake: Lake):
    lake.store.write("log/notes.txt", b"mine")
    assert only_problem(verify(lake)) == ("log", "log/notes.txt")


@pytest.mark.usefixtures("without_indexes")
@pytest.mark.parametrize("damage", [flip_a_bit, Path.unlink])
def test_a_damaged_or_missing_file_of_a_snapshot_is_named(lake: Lake, damage: Callable[[Path], None]):
    path = newest_manifest(lake.store).tables["coverage"].path
    damage(path_in(lake, path))
    assert ("snapshot", path) in {(problem.kind, problem.subject) for problem in verify(lake).problems}


@pytest.mark.usefixtures("without_indexes")
def test_a_damaged_manifest_is_named(lake: Lake):
    path = manifest_path(newest_manifest(lake.store).seq)
    tear(path_in(lake, path))
    assert only_problem(verify(lake)) == ("snapshot", path)


def test_a_snapshot_with_other_rows_is_named(lake: Lake):
    """Its hashes are right, and its rows are not: only a comparison of what it shows can tell."""
    manifest = newest_manifest(lake.store)
    file = manifest.tables["predictions"]
    place = path_in(lake, file.path)
    rows = duckdb.sql(f"SELECT * REPLACE (confidence / 2 AS confidence) FROM read_parquet('{place}')")
    rows.write_parquet(str(place) + "x")
    Path(str(place) + "x").replace(place)
    content = place.read_bytes()
    right = dataclasses.replace(file, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest = dataclasses.replace(manifest, tables={**manifest.tables, "predictions": right})
    path_in(lake, manifest_path(manifest.seq)).write_bytes(manifest.encode())
    report = verify(lake)
    assert {problem.kind for problem in report.problems} == {"index"}
    assert {problem.subject for problem in report.problems} == {"the index from a snapshot"}


@pytest.mark.usefixtures("without_indexes")
def test_a_damaged_receipt_and_one_without_bytes_are_named(lake: Lake):
    receipt = lake.inbox.receipts()[0]
    path_in(lake, media_path(receipt.sha256)).unlink()
    assert only_problem(verify(lake)) == ("inbox", receipt.path)
    tear(path_in(lake, receipt.path))
    assert only_problem(verify(lake)) == ("inbox", receipt.path)


@pytest.mark.usefixtures("without_indexes")
def test_a_commit_that_was_published_twice_is_named(lake: Lake):
    with lake.index() as index:
        head, refresh = index.applied_seq, index.query("SELECT max(seq) AS s FROM entries WHERE op = 'refresh'")[0]["s"]
    entry = decode(lake.store.read(entry_path(refresh)), refresh)
    lake.store.write(entry_path(head + 1), encode(dataclasses.replace(entry, seq=head + 1)))
    wrong = [problem.wrong for problem in verify(lake).problems if problem.kind == "log"]
    assert any("key" in one for one in wrong)
    assert any("added" in one for one in wrong)


@pytest.mark.usefixtures("without_indexes")
def test_a_rewrite_that_left_the_old_file_live_is_named(lake: Lake):
    """Each file is right for itself, and every row of the old one is there twice."""
    with lake.index() as index:
        old = live(lake, "coverage")
        entry = decode(lake.store.read(entry_path(index.applied_seq)), index.applied_seq)
        new = write_table(lake.store, uuid.uuid4(), uuid.uuid4(), "0", "coverage", next(read_each(lake.store, [old])))
        seq = index.applied_seq + 1
    again = dataclasses.replace(
        entry, seq=seq, key=uuid.uuid4(), op="rewrite", reference=None, files=(new,), removed=(), deleted=()
    )
    lake.store.write(entry_path(seq), encode(again))
    assert ("rows", "table coverage") in {(problem.kind, problem.subject) for problem in verify(lake).problems}


@pytest.mark.usefixtures("without_indexes")
def test_coverage_that_counts_other_predictions_than_there_are_is_named(author: Author):
    (file_id,) = take_in(author, "a")
    author.commit("refresh", reference=uuid.uuid4(), coverage=[author.coverage_row(file_id, "m", predictions=2)])
    report = verify(author.lake)
    assert only_problem(report) == ("rows", "table coverage")
    assert str(file_id) in report.problems[0].wrong


@pytest.mark.usefixtures("without_indexes")
@pytest.mark.parametrize("there", [0, 1, 4])
def test_descriptors_that_are_lost_or_doubled_are_named(author: Author, there: int):
    (file_id,) = take_in(author, "a")
    row = {"file_id": file_id, "model": "m", "model_version": "v1", "channel": 0, "start_s": 0.0, "end_s": 1.0}
    rows = [row | {"utterance": number} for number in (0, 1)] * (there // 2) or [row | {"utterance": 0}] * there
    coverage = [author.coverage_row(file_id, "m", descriptors=2)]
    author.commit("refresh", reference=uuid.uuid4(), coverage=coverage, descriptors=rows)
    report = verify(author.lake)
    assert only_problem(report) == ("rows", "table coverage")
    assert f"m has {there} descriptors" in report.problems[0].wrong


@pytest.mark.usefixtures("without_indexes")
def test_what_is_left_of_the_erased_is_named(lake: Lake, author: Author):
    with lake.index() as index:
        erased = next(iter(index.erased()))
    stale = f"media/{erased.hex[:2]}/{erased.hex}{'0' * 32}.peaks"
    lake.store.write(stale, Waveform(8_000, 160, np.zeros((1, 1, 2), np.int8)).encode())
    assert verify(lake).ok, "it came again after it was erased, and will be refused"
    os.utime(path_in(lake, stale), (0, 0))
    assert only_problem(verify(lake)) == ("erasure", stale)


@pytest.mark.usefixtures("without_indexes")
def test_rows_of_the_erased_in_live_files_are_named(author: Author):
    ids = take_in(author, "a", ERASED)
    author.refresh({(id_, "m"): [("call", 0.5)] for id_ in ids})
    author.window(ids, "drift")
    erase(author.lake, author.index, [ids[1]], uuid.uuid4())
    assert verify(author.lake).ok, "they are hidden, and maintenance will come"
    author.commit("rewrite", deleted=(ids[1],))  # says that nothing is left of it
    kinds = {(problem.kind, problem.subject.split("/")[1]) for problem in verify(author.lake).problems}
    assert {("erasure", table) for table in OF_FILES} <= kinds


@pytest.mark.usefixtures("without_indexes")
def test_rows_of_the_erased_in_a_snapshot_are_named(author: Author, tmp_path: Path):
    ids = take_in(author, "a", ERASED)
    fold(author.lake.store, author.index, after=1)
    snapshots = path_in(author.lake, "snap")
    shutil.copytree(snapshots, tmp_path / "snap")
    erase(author.lake, author.index, [ids[1]], uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4())
    assert verify(author.lake).ok
    shutil.copytree(tmp_path / "snap", snapshots, dirs_exist_ok=True)
    named = {Path(problem.subject).stem for problem in verify(author.lake).problems if problem.kind == "snapshot"}
    assert named == {"files", "sources"}


def test_an_index_that_shows_another_latest_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(storage.compare._SHOWN, "predictions", "SELECT * FROM predictions WHERE confidence < 0.7")
    problems = [problem for problem in verify(lake).problems if problem.kind == "index"]
    assert {problem.subject for problem in problems} == {"the index of the whole log", "the index from a snapshot"}


def test_writers_and_maintenance_may_go_on_meanwhile(author: Author):
    ids = take_in(author, *"abcdefgh")
    for number in range(5):
        author.refresh({(id_, "m"): [("call", number / 10)] for id_ in ids})
    done, failures = threading.Event(), []

    def write() -> None:
        lake = Lake.open(author.lake.place)
        writer, number = Author(lake, lake.index()), 0
        try:
            while not done.is_set():
                number += 1
                writer.refresh({(id_, "m"): [("call", number % 10 / 10)] for id_ in ids[:6]})
                if number == 3:
                    erase(lake, writer.index, [ids[7]], uuid.uuid4())
                if number % 8 == 0:
                    compact(lake, writer.index, uuid.uuid4())
                    fold(lake.store, writer.index, after=1)
                    clean(lake, writer.index)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        reports = [verify(author.lake) for _ in range(2)]
    finally:
        done.set()
        thread.join()
    assert not failures
    assert [str(report) for report in reports if not report.ok] == []


def test_a_file_that_goes_away_while_indexes_are_compared_is_named(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    path = live(lake, "predictions").path
    read = storage.verify.read_live_files

    def read_and_lose(*arguments: Any) -> None:
        read(*arguments)
        path_in(lake, path).unlink(missing_ok=True)

    monkeypatch.setattr(storage.verify, "read_live_files", read_and_lose)
    assert ("parquet", path) in {(problem.kind, problem.subject) for problem in verify(lake).problems}


@st.composite
def damages(draw: st.DrawFn) -> tuple[int, int, bool]:
    return draw(st.integers(0, 1000)), draw(st.integers(0, 10**6)), draw(st.booleans())


@given(damages())
@settings(max_examples=4)
def test_no_flipped_bit_and_no_loss_stays_unnoticed(
    template: Template, tmp_path_factory: pytest.TempPathFactory, damage: tuple[int, int, bool]
):
    lake = template.copy(tmp_path_factory.mktemp("damaged") / "lake")
    which, where, lost = damage
    with Index(lake.store, frozenset()) as index:
        index.catch_up()
        live_files = {file.path for file in index.live_files()} if which % 2 else set()
    files = sorted(live_files) or [f"log/{name}" for name in lake.store.names("log")][:-1]
    file = path_in(lake, files[which % len(files)])
    if lost or file.parent.name == "log":  # JSON has bits that say nothing: spaces
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[where % len(content)] ^= 1 << where % 8
        file.write_bytes(content)
    assert any(file.name in problem.subject for problem in verify(lake).problems)
    shutil.rmtree(Path(lake.place.url))


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    def use(folder: Path) -> None:
        monkeypatch.setenv("AUDIOPHILE_DATA", str(folder))
        get_settings.cache_clear()

    yield use
    get_settings.cache_clear()


def test_the_exit_code_says_it(
    lake: Lake, setting: Callable[[Path], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    setting(Path(lake.place.url))
    assert main([]) == 0
    assert "everything is there and right" in capsys.readouterr().out
    path = live(lake, "predictions").path
    path_in(lake, path).unlink()
    assert main(["--no-audio"]) == 1
    assert path in capsys.readouterr().out
    setting(tmp_path / "nowhere")
    assert main([]) == 2
    assert "nowhere" in capsys.readouterr().err
