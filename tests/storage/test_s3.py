"""A store in a bucket, on a real server: like a folder, one winner for each place, and errors that say what to do."""

import dataclasses
import errno
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage import bucket as bucket_module
from storage.bucket import Bucket
from storage.errors import MissingError, StoreError
from storage.lake import Lake, open_store
from storage.media import Media, media_path
from storage.place import Place
from storage.s3 import S3Store
from storage.store import LocalStore, Store
from tests.s3 import LAKE, S3Server

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    return S3Store(s3_server.lake_url(), s3_server.access, tmp_path / "staging")


@pytest.fixture(params=["folder", "bucket"])
def any_store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue("store" if request.param == "folder" else "s3_store")


def test_a_folder_and_a_bucket_answer_alike(any_store: Store) -> None:
    assert any_store.read("a/b") is None
    assert any_store.stat("a/b") is None
    assert any_store.names("a") == []
    assert list(any_store.found("a")) == []
    any_store.remove("a/b")
    assert any_store.write_if_absent("a/b", b"1")
    assert not any_store.write_if_absent("a/b", b"2")
    assert any_store.read("a/b") == b"1"
    any_store.write("a/b", b"22")
    any_store.write("a/c/d", b"")
    any_store.write("ab", b"in no folder")
    assert any_store.read_many(["a/b", "nothing", "a/c/d"]) == [b"22", None, b""]
    assert any_store.read_many([]) == []
    assert any_store.names("a") == ["b", "c"]
    assert [(found.path, found.size_bytes) for found in any_store.found("a")] == [("a/b", 2), ("a/c/d", 0)]
    stored = any_store.stat("a/b")
    assert stored is not None
    assert stored == next(iter(any_store.found("a")))
    assert abs(datetime.now(UTC) - stored.modified_at) < timedelta(minutes=1)
    any_store.write("e", b"older")
    assert any_store.move("a/b", "e")
    assert not any_store.move("a/b", "e")
    assert (any_store.read("a/b"), any_store.read("e")) == (None, b"22")
    any_store.remove("e")
    assert any_store.read("e") is None


def test_recordings_go_in_and_come_out_of_either(any_store: Store) -> None:
    media, content = Media(any_store), bytes(range(256)) * 9000
    blob = media.add(io.BytesIO(content))
    with media.on_disk(blob.sha256) as path:
        assert path.read_bytes() == content
    assert any_store.move(media_path(blob.sha256), f"trash/{blob.sha256}")
    assert media.has(blob.sha256), "it comes back out of the trash"
    any_store.remove(media_path(blob.sha256))
    assert not media.has(blob.sha256)
    with pytest.raises(MissingError, match="is not there"), media.on_disk(blob.sha256):
        raise AssertionError


def test_a_copy_on_this_host_lasts_as_long_as_it_is_wanted(s3_store: S3Store, tmp_path: Path) -> None:
    blob = Media(s3_store).add(io.BytesIO(b"RIFF"))
    with Media(s3_store).on_disk(blob.sha256) as path:
        assert path.parent == tmp_path / "staging"
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_recording_of_several_parts_is_there_once_it_is_whole(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 << 20)  # the least that S3 takes
    monkeypatch.setattr(bucket_module, "BLOCK_BYTES", 1 << 20)
    content = os.urandom(12 << 20)
    (tmp_path / "staged").write_bytes(content)
    s3_store.adopt(tmp_path / "staged", "media/x")
    with s3_store.on_disk("media/x") as path:
        assert path.read_bytes() == content
    assert s3_store.move("media/x", "trash/x")
    assert s3_store.read("trash/x") == content


def test_one_of_eight_writers_wins_each_place(s3_store: S3Store) -> None:
    for place in range(2):
        start, won = threading.Barrier(8), []

        def race(number: int, place: int = place, start: threading.Barrier = start, won: list = won) -> None:
            start.wait()
            if s3_store.write_if_absent(f"race/{place}", str(number).encode() * 1000):
                won.append(number)

        racers = [threading.Thread(target=race, args=[number]) for number in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert [str(number).encode() * 1000 for number in won] == [s3_store.read(f"race/{place}")]


def test_listings_of_several_pages_are_whole(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Bucket.pages
    monkeypatch.setattr(Bucket, "pages", lambda *arguments, **named: pages(*arguments, **named, keys=3))
    for number in range(8):
        s3_store.write(f"log/{number}", b"")
        s3_store.write(f"log/deep/{number}", b"")
    assert s3_store.names("log") == [*map(str, range(8)), "deep"]
    assert len(list(s3_store.found("log"))) == 16


def test_a_lake_in_a_bucket_is_opened_by_its_place(s3_server: S3Server, tmp_path: Path) -> None:
    lake = Lake.open(Place(s3_server.lake_url(), tmp_path / "local", s3_server.access))
    assert isinstance(lake.store, S3Store)
    with lake.index() as index:
        assert index.query("SELECT count(*) AS files FROM files") == [{"files": 0}]
    assert isinstance(open_store(Place.of(tmp_path)), LocalStore)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silence() -> Iterator[str]:
    """An address whose host takes no connection: its queue is full, as that of a host that is gone would be."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


ASKING: list[Callable[[Store], object]] = [
    lambda store: store.read("a"),
    lambda store: store.read_many(["a", "b"]),
    lambda store: store.write("a", b""),
    lambda store: store.write_if_absent("a", b""),
    lambda store: store.remove("a"),
    lambda store: store.names("a"),
    lambda store: list(store.found("a")),
    lambda store: store.move("a", "b"),
    lambda store: Media(store).add(io.BytesIO(b"RIFF")),
]


def refused(store: Store, *words: str) -> None:
    for ask in ASKING:
        with pytest.raises(StoreError) as caught:
            ask(store)
        assert all(word in str(caught.value) for word in words), caught.value
        assert "a secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named_with_its_setting(s3_server: S3Server, tmp_path: Path) -> None:
    store = S3Store("s3://nobodys-bucket/lake", s3_server.access, tmp_path)
    refused(store, "s3://nobodys-bucket", s3_server.endpoint, "make it, or correct AUDIOPHILE_DATA")


def test_a_wrong_key_is_named_with_its_settings(s3_server: S3Server, tmp_path: Path) -> None:
    access = dataclasses.replace(s3_server.access, access_key_id="nobodys")
    store = S3Store(f"s3://{LAKE}", access, tmp_path)
    refused(store, f"s3://{LAKE}", "AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        store.stat("a")


@pytest.mark.parametrize("host", ["nobody", "silence"])
def test_a_server_that_is_away_is_named_within_seconds(
    host: str,
    request: pytest.FixtureRequest,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses_s = 3
    assert bucket_module.CONNECT_S * bucket_module.ATTEMPTS + pauses_s <= 15
    monkeypatch.setattr(bucket_module, "CONNECT_S", 0.2)
    endpoint = request.getfixturevalue(host)
    store = S3Store(f"s3://{LAKE}", dataclasses.replace(s3_server.access, endpoint_url=endpoint), tmp_path)
    for _ in range(2):  # the first one imports and makes what asks
        started = time.monotonic()
        with pytest.raises(StoreError, match=rf"{endpoint}.*Check AWS_ENDPOINT_URL"):
            store.write_if_absent("log/1", b"")
    assert time.monotonic() - started < bucket_module.CONNECT_S * bucket_module.ATTEMPTS + pauses_s + 2


HOSTILE = [
    "a\nb.wav",
    "a?versionId=3",
    "a b+c%20d&e=f#g",
    "тест 🎧.wav",
    "a\x01b",
    "<&>'\".wav",
    "/".join(["x" * 100] * 9),
]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_key_that_others_chose_is_only_ever_a_key(s3_server: S3Server, key: str, tmp_path: Path) -> None:
    uploads = s3_server.uploads()
    uploads.put(key, b"RIFF")
    (found,) = [found for page in uploads.pages("") for found in page.objects]
    assert found == uploads.head(key)
    assert found.key == key
    assert uploads.get(key) == uploads.open(found).read() == b"RIFF"
    assert list(tmp_path.iterdir()) == []
    uploads.remove(key)
    assert uploads.head(key) is None


@pytest.mark.parametrize("change", [lambda bucket: bucket.put("a", b"other"), lambda bucket: bucket.remove("a")])
def test_an_object_that_changes_while_it_is_read_is_noticed(
    s3_server: S3Server, change: Callable[[Bucket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "BLOCK_BYTES", 1000)
    uploads = s3_server.uploads()
    uploads.put("a", bytes(5000))
    stream = uploads.open(uploads.head("a"))
    assert stream.read(900) == bytes(900)
    change(uploads)
    with pytest.raises(OSError, match="changed while it was read") as caught:
        stream.read()
    assert caught.value.errno == errno.ESTALE


def test_an_object_whose_server_goes_away_cannot_be_read(s3_server: S3Server, nobody: str) -> None:
    uploads = s3_server.uploads()
    uploads.put("a", b"RIFF")
    away = Bucket(uploads.name, dataclasses.replace(s3_server.access, endpoint_url=nobody), "AWS_S3_BUCKET")
    with pytest.raises(OSError, match="AWS_ENDPOINT_URL") as caught:
        away.open(uploads.head("a")).read()
    assert caught.value.errno == errno.EIO


def test_an_answer_that_breaks_off_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server promises 8 bytes and sends 4, once."""
    content = iter([b"RIFF", b"RIFFWAVE"])

    def serve(listening: socket.socket) -> None:
        for part in content:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n" + part)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=[listening])
        thread.start()
        access = dataclasses.replace(
            S3Server(f"http://127.0.0.1:{listening.getsockname()[1]}").access, region="us-east-1"
        )
        assert S3Store("s3://lake", access, tmp_path).read("a") == b"RIFFWAVE"
        thread.join()


def test_what_is_done_over_a_folder_never_imports_s3fs(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storage.lake import Lake\n"
        "import flows.ingest, flows.infer, api.app\n"
        f"Lake.open(Path({str(tmp_path)!r})).index().close()\n"
        "print(sorted({'s3fs', 'aiobotocore', 'botocore'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
