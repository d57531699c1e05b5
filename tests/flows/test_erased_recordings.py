"""An erased recording stays out, however its bytes arrive, and a refresh that was under way does not bring it back."""

import uuid
from pathlib import Path
from uuid import UUID

import pytest

from flows.ingest import ingest
from flows.maintain import maintain
from storage.erasure import erase, lift
from storage.lake import Lake
from storage.place import STORAGES
from storage.recordings import recordings
from storage.settings import get_settings
from storage.uploads import put_upload
from tests.s3 import UPLOADS, S3Server


@pytest.fixture
def taken_in(lake: Lake, incoming: Path, tone, prefect_url: str) -> UUID:
    tone(incoming / "tone.wav", 440)
    ingest()
    (recording,) = known(lake)
    return recording


def known(lake: Lake) -> list[UUID]:
    with lake.index() as index:
        return [recording.file_id for recording in recordings(index)]


def blobs(lake: Lake) -> list[str]:
    return [stored.path for stored in lake.store.found("media")]


def test_a_file_that_is_still_in_the_watched_folder_is_not_taken_in_again(
    lake: Lake, taken_in: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    maintain(erase_files=(taken_in,))
    assert known(lake) == []
    assert blobs(lake) == []
    ingest()
    assert known(lake) == []
    assert blobs(lake) == []
    assert "erased: tone.wav is not taken in again" in caplog.text


def test_a_receipt_of_erased_bytes_goes_without_being_taken_in(lake: Lake, taken_in: UUID, incoming: Path) -> None:
    with (incoming / "tone.wav").open("rb") as content:
        blob = lake.media.add(content)
    (incoming / "tone.wav").unlink()
    with lake.index() as index:
        erase(lake, index, [taken_in], uuid.uuid4())
    lake.inbox.add(blob, "again.wav")
    ingest()
    assert lake.inbox.receipts() == []
    assert known(lake) == []
    assert blobs(lake) == []


def test_a_lifted_recording_is_taken_in_afresh(lake: Lake, taken_in: UUID) -> None:
    maintain(erase_files=(taken_in,))
    with lake.index() as index:
        lift(lake, index, [taken_in], uuid.uuid4())
    ingest()
    assert known(lake) == [taken_in]
    assert len([path for path in blobs(lake) if not path.endswith(".peaks")]) == 1


def test_erasing_removes_an_uploads_object_and_leaves_what_others_put_there(
    lake: Lake, taken_in: UUID, incoming: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = s3_server.uploads()
    with (incoming / "tone.wav").open("rb") as content, lake.media.staged(content) as staged:
        put_upload(uploads, staged, "tone.wav")
    uploads.put(f"{STORAGES}tone.wav", b"theirs")
    for name, value in (s3_server.settings | {"AWS_S3_BUCKET": UPLOADS}).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    maintain(stages=("erase",), erase_files=(taken_in,))
    assert [found.key for page in uploads.pages(STORAGES) for found in page.objects] == [f"{STORAGES}tone.wav"]
