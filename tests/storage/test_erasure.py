"""Erasure where something stands in its way: damage, runs under way, uploads after a lifted tombstone."""

import hashlib
import io
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

import storage.erasure
from storage import steps
from storage.erasure import erase, lift, purge
from storage.parquet import read_ids, write_tables
from storage.tables import table_from_rows
from tests.storage.conftest import Author

SHA256 = hashlib.sha256(b"a").hexdigest()


def later(hours: float = 2) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


@pytest.fixture
def file_id(author: Author) -> UUID:
    """The id of the recording whose bytes are b"a"."""
    (erased, other) = author.ingest("a", "b")
    author.refresh({(erased, "m"): [("x", 0.9)], (other, "m"): [("y", 0.9)]})
    author.lake.media.add(io.BytesIO(b"a"))
    erase(author.lake, author.index, [erased], uuid.uuid4())
    return erased


@pytest.fixture(autouse=True)
def no_step_left_set() -> Iterator[None]:
    yield
    steps.on_step = None


def holding(author: Author, file_id: UUID) -> list[str]:
    store = author.lake.store
    return [
        stored.path
        for stored in store.found("data")
        if stored.path.endswith(".parquet") and file_id in read_ids(store, stored.path).to_pylist()
    ]


def test_a_damaged_file_keeps_no_other_from_its_erasure_and_the_tombstone_waits(author: Author, file_id: UUID) -> None:
    store = author.lake.store
    (coverage,) = (file.path for file in author.index.live_files("coverage"))
    whole = store.read(coverage)
    assert whole is not None
    store.write(coverage, b"PAR1 no more")
    purged = purge(author.lake, author.index, uuid.uuid4(), now=later())
    assert purged.recordings == 0
    assert any("damaged" in reason for reason in purged.waiting)
    store.write(coverage, whole)
    assert holding(author, file_id) == [coverage]
    assert purge(author.lake, author.index, uuid.uuid4(), now=later()).recordings == 1
    assert holding(author, file_id) == []


def test_a_file_that_nobody_named_goes_unless_it_may_belong_to_a_run_under_way(author: Author, file_id: UUID) -> None:
    row = author.coverage_row(file_id, "m")
    write_tables(author.lake.store, uuid.uuid4(), uuid.uuid4(), {"coverage": table_from_rows("coverage", [row])})
    purged = purge(author.lake, author.index, uuid.uuid4())
    assert purged.recordings == 0
    assert any("under way" in reason for reason in purged.waiting)
    assert len(holding(author, file_id)) == 1
    assert purge(author.lake, author.index, uuid.uuid4(), now=later()).recordings == 1
    assert holding(author, file_id) == []


def test_an_upload_after_a_lifted_tombstone_outlasts_a_purge_that_is_under_way(
    author: Author, file_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, removed = author.lake, storage.erasure._remove_audio

    def overtaken(*arguments: object) -> None:
        with lake.index() as index:
            lift(lake, index, [file_id], uuid.uuid4())
        lake.inbox.add(lake.media.add(io.BytesIO(b"a")), "again.wav")
        removed(*arguments)

    monkeypatch.setattr(storage.erasure, "_remove_audio", overtaken)
    purge(lake, author.index, uuid.uuid4(), now=later())
    assert [receipt.name for receipt in lake.inbox.receipts()] == ["again.wav"]
    assert lake.media.has(SHA256)


def test_lifting_before_the_purge_brings_no_old_receipt_back(author: Author) -> None:
    lake = author.lake
    blob = lake.media.add(io.BytesIO(b"a"))
    lake.inbox.add(blob, "old.wav")
    erase(lake, author.index, [blob.file_id], uuid.uuid4())
    lift(lake, author.index, [blob.file_id], uuid.uuid4())
    purge(lake, author.index, uuid.uuid4(), now=later())
    assert lake.inbox.receipts() == []
    assert lake.store.names(f"media/{SHA256[:2]}") == []
