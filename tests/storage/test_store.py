"""The local store: whole, durable, and one winner for each place."""

import multiprocessing
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import StoreError
from storage.store import LocalStore, hidden_file

PLACES = 40

FULL_DISK = """
import resource, sys
from io import BytesIO
from pathlib import Path
from storage.errors import StoreError
from storage.media import Media
from storage.store import LocalStore, hidden_file

store, content = LocalStore(Path(sys.argv[1])), bytes(int(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for attempt in (
    lambda: store.write("log/1.json", content),
    lambda: store.write_if_absent("log/1.json", content),
    lambda: Media(store).add(BytesIO(content)),
):
    try:
        attempt()
    except StoreError as error:
        print("refused", error)
"""


def left_behind(store: LocalStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def race(root: Path, number: int, start: Barrier) -> None:
    store = LocalStore(root)
    start.wait()
    for place in range(PLACES):
        if store.write_if_absent(f"race/{place}", str(number).encode() * 1000):
            store.write(f"won/{place}-{number}", b"")


def test_one_of_several_processes_wins_each_place(store: LocalStore) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    racers = [context.Process(target=race, args=(store.root, number, start)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4
    winners = dict(name.split("-") for name in store.names("won"))
    assert len(store.names("won")) == len(winners) == PLACES
    for place, number in winners.items():
        assert store.read(f"race/{place}") == number.encode() * 1000


def test_a_reader_sees_the_whole_content_or_none(store: LocalStore) -> None:
    content, seen, stop = bytes(range(256)) * 4000, [], threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            seen.extend(store.read(f"log/{place}") for place in range(20))

    reader = threading.Thread(target=read_on)
    reader.start()
    for place in range(20):
        assert store.write_if_absent(f"log/{place}", content)
    stop.set()
    reader.join()
    assert all(found is None or found == content for found in seen)


@given(content=st.binary(max_size=20_000), again=st.binary(max_size=20_000))
def test_the_first_content_stays_until_it_is_replaced_on_purpose(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, again: bytes
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    assert store.write_if_absent("a/b/c", content)
    assert not store.write_if_absent("a/b/c", again)
    assert store.read("a/b/c") == content
    store.write("a/b/c", again)
    assert store.read("a/b/c") == again
    assert left_behind(store) == ["a/b/c"]


def test_nothing_is_there_before_it_is_written_and_after_it_is_removed(store: LocalStore) -> None:
    assert store.read("a/b") is None
    assert store.read("a/b") is None
    store.write("a/b", b"1")
    assert store.read("a/b") is not None
    store.remove("a/b")
    assert store.read("a/b") is None
    store.remove("a/b")


def test_names_are_sorted_and_show_nothing_unfinished(store: LocalStore) -> None:
    assert store.names("inbox") == []
    for name in ("b", "a", "c"):
        store.write(f"inbox/{name}", b"")
    with hidden_file(store.local_path("inbox")) as (file, _):
        file.write(b"half")
        assert store.names("inbox") == ["a", "b", "c"]
    assert left_behind(store) == ["inbox/a", "inbox/b", "inbox/c"]


def test_a_writer_that_fails_leaves_nothing(store: LocalStore) -> None:
    def fail_halfway() -> None:
        with store.staging() as (file, _):
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert left_behind(store) == []


def test_opening_a_store_makes_no_folder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "lake")
    assert store.read("log/1") is None
    assert store.names("log") == []
    assert not store.root.exists()


def test_a_place_that_cannot_be_a_folder_is_named_with_the_remedy(store: LocalStore) -> None:
    store.write("log", b"a file where a folder should be")
    with pytest.raises(StoreError, match=r"log: cannot be written: .*Make room"):
        store.write("log/1", b"")
    for look in (store.read, store.names):
        with pytest.raises(StoreError, match=r"log/1: cannot be read"):
            look("log/1")


@pytest.mark.parametrize("size_bytes", [2_000, 50_000, 5_000_000])
def test_a_full_disk_is_a_store_error_and_leaves_nothing(tmp_path: Path, size_bytes: int) -> None:
    """Small contents fail when the buffer is flushed, large ones when they are written."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "lake"), str(size_bytes)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("refused") == 3, done.stderr
    assert left_behind(LocalStore(tmp_path / "lake")) == []


def test_empty_folders_of_parquet_files_go_once_nobody_has_used_them_for_long(store: LocalStore) -> None:
    store.write("data/files/old/one.parquet", b"rows")
    store.write("data/files/used/one.parquet", b"rows")
    store.remove("data/files/old/one.parquet")
    now = datetime.now(UTC)
    store.clear_unfinished(now - timedelta(hours=1))
    assert store.names("data/files") == ["old", "used"]
    store.clear_unfinished(now + timedelta(hours=1))
    assert store.names("data/files") == ["used"]
    store.write("data/files/old/two.parquet", b"rows")
    assert store.read("data/files/old/two.parquet") == b"rows"
