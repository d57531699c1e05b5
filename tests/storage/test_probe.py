"""At the start a store proves that it leaves alone what is there, or says why it cannot be used."""

import dataclasses
import socket
from pathlib import Path

import pytest

from storage.bucket import Bucket
from storage.errors import StoreError
from storage.probe import require_conditional_writes
from storage.s3 import S3Store
from storage.store import LocalStore
from tests.s3 import S3Server


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    return S3Store(s3_server.lake_url(), s3_server.access, tmp_path / "staging")


def test_a_folder_passes_and_nothing_is_left(store: LocalStore) -> None:
    require_conditional_writes(store)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_bucket_passes_and_nothing_is_left(s3_store: S3Store) -> None:
    require_conditional_writes(s3_store)
    assert list(s3_store.found("probe")) == []


def test_a_server_that_ignores_the_condition_is_refused(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Bucket._call

    def forgetful(bucket: Bucket, method: str, **request: object) -> object:
        request.pop("IfNoneMatch", None)
        return call(bucket, method, **request)

    monkeypatch.setattr(Bucket, "_call", forgetful)
    with pytest.raises(StoreError, match=r"s3://lake.*a second one replaced the first.*overwrite each other's commits"):
        require_conditional_writes(s3_store)
    assert list(s3_store.found("probe")) == []


def test_a_store_that_says_it_left_it_alone_and_did_not_is_refused(store: LocalStore) -> None:
    class Liar(LocalStore):
        def write_if_absent(self, path: str, content: bytes) -> bool:
            there = self.read(path) is not None
            self.write(path, content)
            return not there

    with pytest.raises(StoreError, match="a second one replaced the first"):
        require_conditional_writes(Liar(store.root))


def test_a_disk_without_hard_links_is_refused(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("storage.store.os.link", no_links)
    with pytest.raises(StoreError, match=r"lake: refuses to write only where nothing is.*a disk with hard links"):
        require_conditional_writes(store)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_put_that_the_client_repeated_is_no_reason_to_refuse(store: LocalStore) -> None:
    class Repeating(LocalStore):
        """The answer to the first put is lost, and the second finds what the first wrote."""

        def write_if_absent(self, path: str, content: bytes) -> bool:
            super().write_if_absent(path, content)
            return super().write_if_absent(path, content)

    require_conditional_writes(Repeating(store.root))


def test_a_server_that_is_away_is_said_to_be_away(s3_server: S3Server, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        access = dataclasses.replace(s3_server.access, endpoint_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"cannot be listed.*Check AWS_ENDPOINT_URL") as caught:
            require_conditional_writes(S3Store("s3://lake/x", access, tmp_path))
    assert "commits" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"lake/probe: cannot be "):
        require_conditional_writes(LocalStore(tmp_path / "lake"))
