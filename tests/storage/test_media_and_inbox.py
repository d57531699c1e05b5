"""Recordings under the hash of their content, and receipts of the uploads that wait."""

import hashlib
import io
import json
import logging
import threading
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.inbox import Inbox
from storage.media import BLOCK_BYTES, Blob, Media, file_id_of, media_path
from storage.store import LocalStore

HOSTILE = ["../../etc/passwd", "/etc/passwd", "a\x00b.wav", "a/b\\c.wav", "x" * 5000, "тест 🎧.wav", "..", "", "a\nb"]


def stored(store: LocalStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


@settings(max_examples=25)
@given(content=st.binary(max_size=5000))
def test_the_same_bytes_are_one_file_wherever_they_come_from(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("lake"))
    first, again = (Media(store).add(io.BytesIO(content)) for _ in range(2))
    sha256 = hashlib.sha256(content).hexdigest()
    assert first == again == Blob(sha256, len(content))
    assert stored(store) == [f"media/{sha256[:2]}/{sha256}"]
    with Media(store).on_disk(sha256) as path:
        assert path.read_bytes() == content


def test_a_recording_of_many_blocks_is_stored_whole(store: LocalStore) -> None:
    content = bytes(range(256)) * (BLOCK_BYTES // 100)
    blob = Media(store).add(io.BytesIO(content))
    assert blob.size_bytes == len(content)
    with Media(store).on_disk(blob.sha256) as path:
        assert path.read_bytes() == content


def test_the_id_is_the_first_half_of_the_hash() -> None:
    sha256 = hashlib.sha256(b"hello").hexdigest()
    assert file_id_of(sha256) == UUID("2cf24dba-5fb0-a30e-26e8-3b2ac5b9e29e") == Blob(sha256, 5).file_id
    assert media_path(sha256) == f"media/2c/{sha256}"


def test_a_recording_that_breaks_off_while_it_is_read_leaves_nothing(store: LocalStore) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(104, "Connection reset by peer")
            return super().read(size)

    with pytest.raises(OSError, match="Connection reset"):
        Media(store).add(Torn(bytes(2 * BLOCK_BYTES)))
    assert stored(store) == []


def test_threads_that_add_the_same_bytes_at_once_agree(store: LocalStore) -> None:
    content, blobs = bytes(3 * BLOCK_BYTES), []
    adders = [threading.Thread(target=lambda: blobs.append(Media(store).add(io.BytesIO(content)))) for _ in range(6)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    assert len(blobs) == 6
    assert len(set(blobs)) == 1
    assert stored(store) == [media_path(blobs[0].sha256)]


def blob(number: int) -> Blob:
    return Blob(hashlib.sha256(bytes([number])).hexdigest(), 1)


@given(names=st.lists(st.text(), min_size=1, max_size=4))
@settings(max_examples=25)
def test_receipts_come_back_oldest_first_and_are_known_by_every_host(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("lake")
    written = [Inbox(LocalStore(root)).add(blob(number), name) for number, name in enumerate(names)]
    assert Inbox(LocalStore(root)).receipts() == written
    assert [receipt.name for receipt in written] == names


def test_a_receipt_says_which_object_the_upload_is_as_well(store: LocalStore) -> None:
    written = Inbox(store).add(blob(1), "a.wav", uri="s3://bucket/storages/1", etag='"e"')
    assert Inbox(store).receipts() == [written]
    assert (written.uri, written.etag) == ("s3://bucket/storages/1", '"e"')


def test_what_is_staged_is_hashed_and_gone_unless_it_is_kept(store: LocalStore) -> None:
    with Media(store).staged(io.BytesIO(b"hello")) as staged:
        assert staged.blob == Blob(hashlib.sha256(b"hello").hexdigest(), 5)
        assert staged.path.read_bytes() == b"hello"
    assert stored(store) == []
    with Media(store).staged(io.BytesIO(b"hello")) as staged:
        Media(store).keep(staged)
    assert stored(store) == [media_path(staged.blob.sha256)]


def test_the_receipts_of_one_recording_can_be_asked_for(store: LocalStore) -> None:
    inbox = Inbox(store)
    wanted = [inbox.add(blob(1), name) for name in ("a.wav", "b.wav")]
    inbox.add(blob(2), "c.wav")
    assert inbox.receipts(blob(1).file_id) == wanted
    assert {receipt.file_id for receipt in wanted} == {blob(1).file_id}
    assert inbox.receipts(blob(3).file_id) == []


def test_a_receipt_that_is_removed_takes_no_other_with_it(store: LocalStore) -> None:
    inbox = Inbox(store)
    first, second = inbox.add(blob(1), "a.wav"), inbox.add(blob(1), "a.wav")
    inbox.remove(first)
    inbox.remove(first)
    assert inbox.receipts() == [second]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_kept_and_never_becomes_a_path(store: LocalStore, name: str, tmp_path: Path) -> None:
    receipt = Inbox(store).add(blob(1), name)
    assert Inbox(store).receipts() == [receipt]
    assert receipt.name == name
    assert stored(store) == [receipt.path]
    assert receipt.path.startswith(f"inbox/{blob(1).sha256}.")
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        json.dumps({"sha256": "zz", "size_bytes": 1, "name": "a", "received_at": "2026-01-01T00:00:00+00:00"}).encode(),
        json.dumps({"sha256": None, "size_bytes": 1, "name": "a", "received_at": "2026-01-01T00:00:00+00:00"}).encode(),
        json.dumps({"sha256": "0" * 64, "size_bytes": 1, "name": "a", "received_at": "2026-01-01T00:00:00"}).encode(),
    ],
)
def test_a_damaged_receipt_keeps_no_other_upload_waiting(
    store: LocalStore, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox(store)
    sound = inbox.add(blob(1), "a.wav")
    path = f"inbox/{'0' * 64}.damaged.json"
    store.write(path, damage)
    with caplog.at_level(logging.ERROR):
        found = inbox.receipts()
    assert [receipt.file_id for receipt in found] == [sound.file_id]
    assert path in caplog.text
    assert store.read(path) == damage


def test_an_empty_inbox_has_no_receipts(store: LocalStore) -> None:
    assert Inbox(store).receipts() == []
    assert not store.root.exists()
