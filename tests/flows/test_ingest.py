"""Ingest: what arrives is stored, decoded once, and accepted or rejected, whatever the others are like."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from flows.ingest import BATCH_BYTES, BATCH_FILES, ingest, next_batch
from flows.watch import Candidate
from storage.errors import StoreError
from storage.lake import Lake
from storage.media import Media, media_path
from storage.peaks import decode
from storage.recordings import recordings
from storage.settings import get_settings

pytestmark = pytest.mark.usefixtures("prefect_url")


def by_name(lake: Lake) -> dict:
    with lake.index() as index:
        return {recording.name: recording for recording in recordings(index)}


def sources(lake: Lake) -> list[dict]:
    with lake.index() as index:
        return index.query("SELECT name, kind, present FROM sources ORDER BY seen_at, seq")


def test_recordings_of_the_watched_folder_are_taken_in_once(lake: Lake, incoming: Path, tone) -> None:
    tone(incoming / "a.wav", 300)
    tone(incoming / "deep" / "b.wav", 400, seconds=2)
    ingest()
    found = by_name(lake)
    assert {name: recording.status for name, recording in found.items()} == {"a.wav": "accepted", "b.wav": "accepted"}
    assert found["b.wav"].duration_s == pytest.approx(2)
    assert found["b.wav"].format == "WAV/PCM_16"
    for recording in found.values():
        stored = lake.store.stat(media_path(recording.sha256))
        assert stored is not None
        assert stored.size_bytes == recording.size_bytes
    assert ingest(return_state=True).message == "Nothing new"


def test_the_same_bytes_under_another_name_are_one_more_source(lake: Lake, incoming: Path, tone) -> None:
    first = tone(incoming / "first.wav", 300)
    ingest()
    shutil.copy(first, incoming / "second.wav")
    ingest()
    assert list(by_name(lake)) == ["first.wav"], "a file's name is its earliest"
    assert [source["name"] for source in sources(lake)] == ["first.wav", "second.wav"]


def test_a_renamed_or_removed_source_keeps_the_recording(lake: Lake, incoming: Path, tone) -> None:
    tone(incoming / "old.wav", 300)
    ingest()
    (incoming / "old.wav").rename(incoming / "new.wav")
    ingest()
    (incoming / "new.wav").unlink()
    ingest()
    recording = by_name(lake)["old.wav"]
    assert lake.media.has(recording.sha256)
    assert {(row["name"], row["present"]) for row in sources(lake)} == {
        ("old.wav", True),
        ("old.wav", False),
        ("new.wav", True),
        ("new.wav", False),
    }
    assert ingest(return_state=True).message == "Nothing new"


def test_a_folder_that_is_not_mounted_takes_nothing_away(lake: Lake, incoming: Path, tone, tmp_path: Path) -> None:
    tone(incoming / "a.wav", 300)
    ingest()
    incoming.rename(tmp_path / "elsewhere")
    assert ingest(return_state=True).message == "Nothing new"
    assert all(row["present"] for row in sources(lake))


def test_a_host_that_watches_nothing_leaves_its_folder_alone(
    lake: Lake, incoming: Path, tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone(incoming / "a.wav", 300)
    ingest()
    (incoming / "a.wav").rename(incoming / "b.wav")
    monkeypatch.setenv("AUDIOPHILE_WATCH", "0")
    get_settings.cache_clear()
    assert ingest(return_state=True).message == "Nothing new"
    assert [(row["name"], row["present"]) for row in sources(lake)] == [("a.wav", True)]
    monkeypatch.setenv("FILE_PATH", str(incoming))
    get_settings.cache_clear()
    ingest()
    assert {(row["name"], row["present"]) for row in sources(lake)} >= {("a.wav", False), ("b.wav", True)}


def test_what_cannot_be_read_is_rejected_with_a_reason_and_stops_nothing(lake: Lake, incoming: Path, tone) -> None:
    tone(incoming / "good.wav", 300)
    (incoming / "notes.txt").write_text("no recording")
    (incoming / "empty.wav").write_bytes(b"")
    (incoming / "cut.flac").write_bytes(b"fLaC" + bytes(50))
    ingest()
    found = by_name(lake)
    assert {name: recording.status for name, recording in found.items()} == {
        "good.wav": "accepted",
        "notes.txt": "rejected",
        "empty.wav": "rejected",
        "cut.flac": "rejected",
    }
    assert all(recording.reason for recording in found.values() if recording.status == "rejected")


def test_unfinished_and_hidden_files_and_links_are_passed_over(
    lake: Lake, incoming: Path, tone, tmp_path: Path
) -> None:
    secret = tone(tmp_path / "secret.wav", 500)
    (incoming / "link.wav").symlink_to(secret)
    tone(incoming / ".hidden.wav", 300)
    tone(incoming / "download.wav.part", 300)
    assert ingest(return_state=True).message == "Nothing new"


def test_a_file_that_still_grows_waits(lake: Lake, incoming: Path, tone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_SETTLE_S", "1")
    get_settings.cache_clear()
    tone(incoming / "done.wav", 300)
    growing, ended = incoming / "growing.wav", threading.Event()

    def grow() -> None:
        with growing.open("ab", buffering=0) as file:
            while not ended.wait(0.05):
                file.write(bytes(1000))

    writer = threading.Thread(target=grow)
    writer.start()
    time.sleep(0.2)
    ingest()
    ended.set()
    writer.join()
    assert list(by_name(lake)) == ["done.wav"]
    ingest()
    assert set(by_name(lake)) == {"done.wav", "growing.wav"}


def test_names_that_are_no_utf8_are_taken_in(lake: Lake, incoming: Path, tone) -> None:
    plain = tone(incoming / "plain.wav", 300)
    plain.rename(os.fsdecode(os.fsencode(incoming) + b"/caf\xe9.wav"))
    ingest()
    assert list(by_name(lake)) == ["caf\N{REPLACEMENT CHARACTER}.wav"]


def test_an_upload_is_ingested_and_its_receipt_goes(lake: Lake, tone, tmp_path: Path) -> None:
    with tone(tmp_path / "up.wav", 600).open("rb") as file:
        lake.inbox.add(lake.media.add(file), "../../up.wav")
    ingest()
    assert by_name(lake)["../../up.wav"].status == "accepted"
    assert lake.inbox.receipts() == []


def test_a_rejected_recording_is_looked_at_again_when_it_is_sent_again(
    lake: Lake, tone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        with tone(tmp_path / "long.wav", 300, seconds=5).open("rb") as file:
            lake.inbox.add(lake.media.add(file), "long.wav")
        ingest()

    monkeypatch.setenv("MAX_DURATION_H", "0.001")
    get_settings.cache_clear()
    send()
    assert "raise MAX_DURATION_H" in by_name(lake)["long.wav"].reason
    send()
    assert by_name(lake)["long.wav"].status == "rejected"
    monkeypatch.delenv("MAX_DURATION_H")
    get_settings.cache_clear()
    send()
    assert by_name(lake)["long.wav"].status == "accepted"
    assert by_name(lake)["long.wav"].reason is None
    assert lake.inbox.receipts() == []


def test_a_receipt_whose_bytes_are_missing_is_kept_and_delays_nobody(lake: Lake, tone, tmp_path: Path) -> None:
    with tone(tmp_path / "up.wav", 600).open("rb") as file:
        blob = lake.media.add(file)
    lake.inbox.add(blob, "lost.wav")
    lake.store.remove(media_path(blob.sha256))
    with tone(tmp_path / "other.wav", 700).open("rb") as file:
        lake.inbox.add(lake.media.add(file), "other.wav")
    ingest()
    assert list(by_name(lake)) == ["other.wav"]
    assert [receipt.name for receipt in lake.inbox.receipts()] == ["lost.wav"]


def test_the_demo_comes_into_an_empty_store_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOPHILE_DEMO", "1")
    get_settings.cache_clear()
    ingest()
    found = by_name(lake)
    assert "two_cities.wav" in found
    assert all(recording.demo for recording in found.values())
    assert ingest(return_state=True).message == "Nothing new"


def test_uploads_come_before_a_large_folder_and_the_newest_first(lake: Lake, tone, tmp_path: Path) -> None:
    with tone(tmp_path / "up.wav", 600).open("rb") as file:
        blob = lake.media.add(file)
    receipts = [lake.inbox.add(blob, "first"), lake.inbox.add(blob, "second")]
    folder = [Candidate("folder", f"file:///{n}", str(n), tmp_path / str(n), 10, n) for n in range(2 * BATCH_FILES)]
    batch = next_batch([*folder, *receipts])
    assert len(batch) == BATCH_FILES
    assert [item.name for item in batch[:3]] == ["second", "first", str(2 * BATCH_FILES - 1)]
    big = [Candidate("folder", "file:///big", "big", tmp_path, 2 * BATCH_BYTES, 999_999)]
    assert [item.name for item in next_batch([*folder, *big])] == ["big"]


def test_a_recording_has_its_peaks_when_it_is_accepted(lake: Lake, incoming: Path, tone) -> None:
    tone(incoming / "a.wav", 300, seconds=2)
    (incoming / "notes.txt").write_text("no recording")
    ingest()
    found = by_name(lake)
    kept = lake.media.peaks(found["a.wav"].sha256)
    assert kept is not None
    waveform = decode(kept)
    assert (waveform.sample_rate, waveform.samples_per_pixel, waveform.values.shape) == (8000, 160, (100, 1, 2))
    assert (abs(abs(waveform.values) - 0.3 * 128) <= 1).all()
    assert lake.media.peaks(found["notes.txt"].sha256) is None


def test_peaks_that_are_missing_are_made_when_the_recording_comes_again(lake: Lake, incoming: Path, tone) -> None:
    first = tone(incoming / "first.wav", 300)
    ingest()
    sha256 = by_name(lake)["first.wav"].sha256
    lake.media.remove_beside(sha256)
    shutil.copy(first, incoming / "second.wav")
    ingest()
    assert lake.media.has_peaks(sha256)


def test_peaks_that_cannot_be_written_keep_no_recording_out(
    lake: Lake, incoming: Path, tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("no room")

    monkeypatch.setattr(Media, "put_peaks", full)
    tone(incoming / "a.wav", 300)
    ingest()
    assert by_name(lake)["a.wav"].status == "accepted"
