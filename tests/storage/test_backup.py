import io
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import storage.copying
from storage.backup import backup, main
from storage.erasure import erase, purge
from storage.errors import SettingsError
from storage.index import Index
from storage.lake import Lake
from storage.log import entry_path
from storage.place import Place
from storage.recordings import predictions, recordings, utterances
from storage.rewrite import compact
from storage.settings import get_settings
from storage.snapshot import fold
from storage.verify import verify
from tests.s3 import S3Server
from tests.storage.conftest import Author
from tests.storage.whole import ERASED, Template, clean, take_in, whole_lake


@pytest.fixture(scope="module")
def template(new_author: Callable[[], Author]) -> Template:
    return whole_lake(new_author)


@pytest.fixture
def lake(template: Template, tmp_path: Path) -> Lake:
    return template.copy(tmp_path / "lake")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(tmp_path / "copy")


def state(lake: Lake) -> tuple[object, ...]:
    with lake.index() as index:
        answers = index.query("SELECT * FROM answers ORDER BY ALL")
        sources = index.query("SELECT * FROM current_sources ORDER BY ALL")
        return recordings(index), predictions(index), utterances(index), answers, sources


def objects(place: Place) -> dict[str, bytes]:
    root = Path(place.url)
    folders = ("log", "data", "media", "snap", "inbox")
    files = [file for folder in folders for file in (root / folder).rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def require_whole(lake: Lake) -> None:
    report = verify(lake)
    assert report.ok, str(report)


def test_a_copy_is_a_lake_that_shows_the_same(lake: Lake, place: Place):
    done = backup(lake, place)
    copy = Lake.open(place)
    require_whole(copy)
    assert state(copy) == state(lake)
    assert [receipt.name for receipt in copy.inbox.receipts()] == ["new.wav"]
    assert (done.head, done.damaged) == (verify(lake).head, ())
    assert Author(copy, copy.index()).ingest("d"), "and it goes on"


def test_a_second_backup_copies_what_is_new(lake: Lake, place: Place, template: Template):
    first = backup(lake, place)
    again = backup(lake, place)
    assert (again.copied, again.removed, again.kept) == (0, 0, first.copied)
    author = Author(lake, lake.index())
    author.refresh({(template.ids[0], "m"): [("call", 0.125)]})
    assert backup(lake, place).copied == 5  # four Parquet files and their log entry
    assert state(Lake.open(place)) == state(lake)


def test_what_maintenance_removed_goes_from_the_copy_as_well(author: Author, place: Place):
    ids = take_in(author, "a", "b")
    for number in range(17):
        author.refresh({(ids[0], "m"): [("call", number / 20)]})
    backup(author.lake, place)
    before = objects(place)
    while compact(author.lake, author.index, uuid.uuid4()):
        pass
    clean(author.lake, author.index)
    backup(author.lake, place)
    assert before.keys() - objects(place).keys() >= {path for path in before if path.startswith("data/coverage")}
    require_whole(Lake.open(place))


def test_what_was_erased_is_erased_from_the_copy(author: Author, place: Place):
    ids = take_in(author, "a", ERASED)
    author.refresh({(id_, "m"): [(f"said by {id_}", 0.5)] for id_ in ids})
    fold(author.lake.store, author.index, after=1)
    author.lake.inbox.add(author.lake.media.add(io.BytesIO(ERASED.encode())), "again.wav")
    peaks = f"media/{ids[1].hex[:2]}/{author.file_row(ERASED)['sha256']}.peaks"
    author.lake.store.write(peaks, b"of " + ERASED.encode())
    backup(author.lake, place)
    assert {peaks} < {path for path, content in objects(place).items() if ids[1].hex in path}
    erase(author.lake, author.index, [ids[1]], uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4())
    backup(author.lake, place)
    left = objects(place)
    assert not [path for path, content in left.items() if ids[1].hex in path or ERASED.encode() in content]
    assert {path.split("/")[0] for path, content in left.items() if ids[1].bytes in content} <= {"snap"}  # tombstone
    require_whole(Lake.open(place))


def test_a_copy_of_another_lake_is_left_alone(lake: Lake, place: Place, author: Author):
    backup(lake, place)
    before = objects(place)
    author.ingest("another")
    with pytest.raises(SettingsError, match="another place"):
        backup(author.lake, place)
    assert objects(place) == before


def test_an_empty_lake_does_not_empty_its_copy(lake: Lake, place: Place, tmp_path: Path):
    backup(lake, place)
    before = objects(place)
    with pytest.raises(SettingsError, match="another place"):
        backup(Lake.open(tmp_path / "lost"), place)
    assert objects(place) == before


def test_a_copy_that_was_restored_and_went_on_is_left_alone(lake: Lake, place: Place):
    backup(lake, place)
    copy = Lake.open(place)
    Author(copy, copy.index()).ingest("since")
    with pytest.raises(SettingsError):
        backup(lake, place)


def test_what_others_keep_in_the_target_stays(lake: Lake, place: Place):
    for path in ("data/mine.csv", "media/holiday.jpg", "notes.txt", "inbox/letter.json"):
        Lake.open(place).store.write(path, b"mine")
    backup(lake, place)
    assert [Path(place.url, path).read_bytes() for path in ("data/mine.csv", "media/holiday.jpg")] == [b"mine"] * 2


@pytest.mark.parametrize("within", ["backups/copy", "../lake", ".."])
def test_a_lake_and_its_copy_lie_apart(lake: Lake, within: str):
    with pytest.raises(SettingsError, match="apart"):
        backup(lake, Place.of(Path(lake.place.url) / within))


def test_what_is_damaged_is_named_and_does_not_replace_what_the_copy_has(lake: Lake, place: Place):
    with lake.index() as index:
        path = index.live_files("predictions")[0].path
        blob = index.query("SELECT sha256 FROM files WHERE status = 'accepted'")[0]["sha256"]
    Path(lake.place.url, path).write_bytes(b"torn")
    Path(lake.place.url, f"media/{blob[:2]}/{blob}").unlink()
    lake = Lake.open(lake.place)
    done = backup(lake, place)
    assert {one.split(":")[0] for one in done.damaged} == {path, f"media/{blob[:2]}/{blob}"}


def test_an_interrupted_backup_is_completed_by_the_next(
    lake: Lake, place: Place, template: Template, monkeypatch: pytest.MonkeyPatch
):
    """It ends after each number of objects; whatever is there then is an older state of the lake, or none."""
    backup(lake, place)
    old = state(Lake.open(place))
    author = Author(lake, lake.index())
    take_in(author, "d")
    author.refresh({(template.ids[0], "m"): [("call", 0.125)]})
    write = storage.copying.Objects.write
    total = 0

    def until(limit: int) -> Callable[..., None]:
        def limited(self: storage.copying.Objects, path: str, content: bytes) -> None:
            nonlocal total
            total += 1
            if total > limit:
                raise KeyboardInterrupt
            write(self, path, content)

        return limited

    for limit in (2, 4):
        total = 0
        with monkeypatch.context() as patch:
            patch.setattr(storage.copying.Objects, "write", until(limit))
            with pytest.raises(KeyboardInterrupt):
                backup(lake, place)
        copy = state(Lake.open(place))
        assert copy == old or len(copy[0]) == len(old[0]) + 1
    backup(lake, place)
    require_whole(Lake.open(place))
    assert state(Lake.open(place)) == state(lake)


def test_a_copy_that_is_taken_while_the_lake_lives_is_whole(author: Author, tmp_path: Path):
    ids = take_in(author, *"abcdefgh")
    for number in range(5):
        author.refresh({(id_, "m"): [("call", number / 10)] for id_ in ids})
    done, failures = threading.Event(), []

    def live() -> None:
        lake = Lake.open(author.lake.place)
        writer, number = Author(lake, lake.index()), 0
        try:
            while not done.is_set():
                number += 1
                (new,) = take_in(writer, f"recording {number}")
                writer.refresh({(id_, "m"): [("call", number % 10 / 10)] for id_ in (*ids[:6], new)})
                lake.inbox.add(lake.media.add(io.BytesIO(f"upload {number}".encode())), "upload.wav")
                if number % 3 == 0:
                    erase(lake, writer.index, [new], uuid.uuid4())
                    purge(lake, writer.index, uuid.uuid4())
                if number % 5 == 0:
                    compact(lake, writer.index, uuid.uuid4())
                    fold(lake.store, writer.index, after=1)
                    clean(lake, writer.index)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        copies = [tmp_path / "copy", tmp_path / "copy"]
        for folder in copies:
            assert backup(Lake.open(author.lake.place), Place.of(folder)).damaged == ()
            require_whole(Lake.open(folder))
    finally:
        done.set()
        thread.join()
    assert not failures
    backup(author.lake, Place.of(copies[0]))
    assert state(Lake.open(copies[0])) == state(author.lake)
    copied = objects(Place.of(copies[0]))
    with author.lake.index() as index:
        assert not [path for id_ in index.erased() for path in copied if id_.hex in path]


def test_a_lake_goes_to_a_bucket_and_back(lake: Lake, s3_server: S3Server, tmp_path: Path):
    there = Place(s3_server.lake_url(), tmp_path / "host", s3_server.access)
    backup(lake, there)
    require_whole(Lake.open(there))
    assert backup(lake, there).copied == 0
    back = Place.of(tmp_path / "back")
    backup(Lake.open(there), back)
    assert state(Lake.open(back)) == state(lake)
    require_whole(Lake.open(back))


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    def use(folder: Path) -> None:
        monkeypatch.setenv("AUDIOPHILE_DATA", str(folder))
        get_settings.cache_clear()

    yield use
    get_settings.cache_clear()


def test_the_command_says_what_it_did(
    lake: Lake, setting: Callable[[Path], None], place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    setting(Path(lake.place.url))
    assert main([place.url]) == 0
    assert "objects copied" in capsys.readouterr().out
    require_whole(Lake.open(place))
    assert main([""]) == 2
    assert "TO=" in capsys.readouterr().err
    assert main(["ftp://host/copy"]) == 2
    with Index(lake.store, frozenset()) as index:
        index.catch_up()
        path = index.live_files("coverage")[0].path
    Path(lake.place.url, path).write_bytes(b"torn")
    assert main([str(tmp_path / "another copy")]) == 1
    assert path in capsys.readouterr().err
    setting(tmp_path / "nowhere")
    assert main([place.url]) == 2
    assert Lake.open(place).store.read(entry_path(1))
