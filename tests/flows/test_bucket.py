"""What others put into the bucket of uploads, on a real server: found once, changed, gone, and read as it was found."""

import hashlib
import io
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import storage.bucket
from flows.bucket import Cursor, InBucket, Look, look_into, read_cursor, write_cursor
from flows.ingest import CURSOR, ingest, whats_new_in_bucket
from flows.register import Seen, Source, register
from storage.bucket import Bucket
from storage.index import Index
from storage.lake import Lake
from storage.media import Blob, media_path
from storage.place import STORAGES
from storage.recordings import recordings
from storage.settings import get_settings
from storage.uploads import put_upload
from tests.s3 import UPLOADS, S3Server


@pytest.fixture
def uploads(s3_server: S3Server) -> Bucket:
    return s3_server.uploads()


@pytest.fixture
def configured(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that name the bucket."""
    for name, value in (s3_server.settings | {"AWS_S3_BUCKET": UPLOADS}).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


@pytest.fixture
def wav(tone, tmp_path: Path):
    return lambda frequency: tone(tmp_path / f"{frequency}.wav", frequency).read_bytes()


def put(bucket: Bucket, *names: str, content: bytes | None = None) -> None:
    for name in names:
        bucket.put(f"{STORAGES}{name}", content if content is not None else name.encode())


class Listener:
    """Looks as a run does, and registers what it finds without decoding it."""

    def __init__(self, bucket: Bucket, lake: Lake, index: Index) -> None:
        self.bucket, self.lake, self.index = bucket, lake, index
        self.cursor = Cursor(bucket.name)

    def look(self, *, take: int = 1_000_000, **limits: int) -> list[str]:
        """Return the names of what is new; an exclamation mark says that it is gone."""
        look = look_into(self.bucket, self.index, self.cursor, **limits)
        self.register(look.candidates[:take], look.gone)
        self.cursor = look.all_taken if take >= len(look.candidates) else look.left_over
        return [found.name for found in look.candidates] + [
            "!" + uri.removeprefix(f"s3://{UPLOADS}/{STORAGES}") for uri in look.gone
        ]

    def register(self, found: list[InBucket], gone: list[str]) -> None:
        sources, facts, now = [], {}, datetime.now(UTC)
        for item in found:
            blob = Blob(hashlib.sha256((item.uri + item.etag).encode()).hexdigest(), item.size_bytes)
            sources.append(Source(blob, "s3", item.uri, item.name, item.mtime_ns, now, item.etag))
            facts[blob.sha256] = {
                "file_id": blob.file_id,
                "sha256": blob.sha256,
                "size_bytes": blob.size_bytes,
                "ingested_at": now,
                "status": "rejected",
                "reason": "a test",
            }
        register(self.lake, self.index, Seen(sources, facts, gone), uuid.uuid4(), now)


@pytest.fixture
def listener(uploads: Bucket, lake: Lake):
    with lake.index() as index:
        yield Listener(uploads, lake, index)


def test_what_is_new_is_found_once(listener: Listener) -> None:
    assert listener.look() == []
    put(listener.bucket, "b.wav", "deep/a.wav")
    assert listener.look() == ["b.wav", "deep/a.wav"]
    assert listener.look() == []
    put(listener.bucket, "a.wav", "z.wav")
    assert set(listener.look()) == {"a.wav", "z.wav"}
    assert listener.look() == []


def test_only_recordings_under_storages_are_looked_at(listener: Listener) -> None:
    listener.bucket.put("elsewhere/a.wav", b"1")
    listener.bucket.put("storages", b"1")
    put(listener.bucket, "folder/", content=b"")
    put(listener.bucket, ".DS_Store", "deep/.hidden", "a.wav.part")
    assert listener.look() == []


def test_changed_objects_are_new_and_vanished_ones_are_gone(listener: Listener) -> None:
    put(listener.bucket, "a.wav", "b.wav", "c.wav")
    listener.look()
    put(listener.bucket, "b.wav", content=b"other")
    listener.bucket.remove(f"{STORAGES}a.wav")
    listener.bucket.remove(f"{STORAGES}c.wav")
    assert listener.look() == ["b.wav", "!a.wav", "!c.wav"]
    assert listener.look() == []
    put(listener.bucket, "a.wav")
    assert listener.look() == ["a.wav"], "it came back as it was"
    assert listener.look() == []


def test_a_look_costs_a_bounded_number_of_pages_and_still_finds_everything(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    list_pages = Bucket.pages

    def counted(bucket: Bucket, *arguments: Any, **named: Any):
        for page in list_pages(bucket, *arguments, **named):
            pages.append(named.get("after", ""))
            yield page

    monkeypatch.setattr(Bucket, "pages", counted)
    names = [f"{number:02}.wav" for number in range(10, 40)]
    put(listener.bucket, *names)
    found: list[str] = []
    for _ in range(6):
        pages.clear()
        found += listener.look(pages=2, page_keys=4)
        assert len(pages) <= 4
    assert sorted(found) == names

    put(listener.bucket, "99.wav")
    assert listener.look(pages=2, page_keys=4) == ["99.wav"], "names in the order of time show up at once"
    put(listener.bucket, "00.wav")
    listener.bucket.remove(f"{STORAGES}25.wav")
    swept = [name for _ in range(5) for name in listener.look(pages=2, page_keys=4)]
    assert sorted(swept) == ["!25.wav", "00.wav"], "and the others with the sweep"
    assert [listener.look(pages=2, page_keys=4) for _ in range(5)] == [[]] * 5


def test_uploads_of_the_api_do_not_hide_what_follows_in_time(listener: Listener) -> None:
    """Hashes may begin with an f, and come after every date."""
    hashes = [f"{letter * 64}" for letter in "0123456789abcdef"]
    put(listener.bucket, "2026-01-01.wav", *hashes)
    while listener.look(pages=1, page_keys=4):
        pass
    put(listener.bucket, "2026-01-02.wav")
    assert listener.look(pages=1, page_keys=4) == ["2026-01-02.wav"]


def test_what_a_run_leaves_over_is_found_by_the_next(listener: Listener) -> None:
    names = [f"{number:02}.wav" for number in range(12)]
    put(listener.bucket, *names)
    looks = [listener.look(take=5, pages=1, page_keys=8) for _ in range(4)]
    assert looks == [names[:8], names[5:8], names[8:], []]


def test_an_order_of_the_servers_own_makes_nothing_gone(listener: Listener) -> None:
    """S3 puts "a.wav" before "a/b.wav"; a server that walks through folders does not."""
    names = ["a/b.wav", "a.wav", "a-b.wav", "a/c/d.wav", "b.wav"]
    put(listener.bucket, *names)
    looks = [name for _ in range(8) for name in listener.look(pages=1, page_keys=2)]
    assert sorted(looks) == sorted(names)


def test_the_cursor_may_be_lost_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "own" / "bucket.json"
    assert read_cursor(file, "b") == Cursor("b")
    for cursor in (Cursor("b", "storages/x\n", None), Cursor("b", "", "storages/тест")):
        write_cursor(file, cursor)
        assert read_cursor(file, "b") == cursor
    assert read_cursor(file, "another") == Cursor("another")
    for damage in (b"", b"{", b"[1]", b'{"bucket": "b", "unknown": 1}', b"\xff"):
        file.write_bytes(damage)
        assert read_cursor(file, "b") == Cursor("b")
    assert [path.name for path in file.parent.iterdir()] == ["bucket.json"]


def by_name(lake: Lake) -> dict[str, Any]:
    with lake.index() as index:
        return {recording.name: recording for recording in recordings(index)}


def s3_sources(lake: Lake) -> list[dict[str, Any]]:
    with lake.index() as index:
        return index.query("SELECT name, uri, present FROM sources WHERE kind = 's3' ORDER BY seen_at, seq")


HOSTILE = ["a\nb.wav", "a?versionId=3.wav", "тест 🎧.wav", "a\x01b.wav", "/".join(["x" * 99] * 9) + "/long.wav"]


@pytest.mark.usefixtures("prefect_url", "configured")
class TestIngest:
    def test_objects_of_others_are_recordings_like_any_and_their_keys_become_no_path(
        self, lake: Lake, uploads: Bucket, wav, tmp_path: Path
    ) -> None:
        put(uploads, "deep/a.wav", content=wav(300))
        put(uploads, "notes.txt", content=b"no recording")
        for number, name in enumerate(HOSTILE):
            put(uploads, name, content=wav(301 + number))
        ingest()
        found = by_name(lake)
        assert found.pop("notes.txt").status == "rejected"
        assert found.keys() == {name.rsplit("/", 1)[-1] for name in ["deep/a.wav", *HOSTILE]}
        assert {recording.status for recording in found.values()} == {"accepted"}
        names = ["deep/a.wav", "notes.txt", *HOSTILE]
        assert {row["uri"] for row in s3_sources(lake)} == {f"s3://{UPLOADS}/{STORAGES}{name}" for name in names}
        assert lake.store.read(media_path(found["a.wav"].sha256)) == wav(300)
        assert ingest(return_state=True).message == "Nothing new"
        folders = {path.name for path in (tmp_path / "data").iterdir()}
        assert folders <= {"log", "data", "media", "incoming", "index", "manifest", CURSOR}
        uploads.remove(f"{STORAGES}deep/a.wav")
        ingest()
        assert [row["present"] for row in s3_sources(lake) if row["name"] == "a.wav"] == [True, False]
        assert lake.media.has(found["a.wav"].sha256), "the recording stays"
        assert ingest(return_state=True).message == "Nothing new"

    def test_an_object_that_changes_while_it_is_read_waits_for_the_next_run(
        self, lake: Lake, uploads: Bucket, wav, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(uploads, "a.wav", content=wav(300))
        put(uploads, "b.wav", content=wav(400))
        open_object, changed = Bucket.open, []

        def changing(bucket: Bucket, found: Any) -> Any:
            stream = open_object(bucket, found)
            if found.key.endswith("a.wav") and not changed:
                stream.peek(100)
                changed.append(bucket.put(found.key, wav(500)))
            return stream

        monkeypatch.setattr(storage.bucket, "BLOCK_BYTES", 1000)
        monkeypatch.setattr(Bucket, "open", changing)
        ingest()
        assert set(by_name(lake)) == {"b.wav"}
        ingest()
        assert set(by_name(lake)) == {"a.wav", "b.wav"}

    def test_an_upload_to_s3_is_ingested_once_whoever_sees_it_first(self, lake: Lake, uploads: Bucket, wav) -> None:
        def upload(content: bytes, name: str) -> Any:
            with lake.media.staged(io.BytesIO(content)) as staged:
                found = put_upload(uploads, staged, name)
                lake.media.keep(staged)
            return staged.blob, {"name": name, "uri": f"s3://{UPLOADS}/{found.key}", "etag": found.etag}

        blob, receipt = upload(wav(300), "the receipt first.wav")
        lake.inbox.add(blob, **receipt)
        with lake.index() as index:
            waiting = whats_new_in_bucket(get_settings(), lake, index)
        assert waiting is not None
        assert waiting.candidates == [], "its bytes are in the lake already"
        other, late = upload(wav(400), "the listing first.wav")
        ingest()
        lake.inbox.add(other, **late)
        ingest()
        assert set(by_name(lake)) == {"the receipt first.wav", "the listing first.wav"}
        assert len(s3_sources(lake)) == 2
        assert lake.inbox.receipts() == []
        assert ingest(return_state=True).message == "Nothing new"

    def test_a_bucket_that_is_away_keeps_nothing_else_waiting(
        self, lake: Lake, incoming: Path, tone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("AWS_S3_BUCKET", "nobodys-bucket")
        get_settings.cache_clear()
        tone(incoming / "a.wav", 300)
        assert ingest(return_state=True).is_completed()
        assert set(by_name(lake)) == {"a.wav"}
        assert "s3://nobodys-bucket" in caplog.text

    def test_without_a_bucket_none_is_looked_for(
        self, lake: Lake, uploads: Bucket, wav, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(uploads, "a.wav", content=wav(300))
        monkeypatch.delenv("AWS_S3_BUCKET")
        get_settings.cache_clear()
        assert ingest(return_state=True).message == "Nothing new"


def test_a_look_says_where_the_next_one_starts(listener: Listener) -> None:
    put(listener.bucket, "a", "b", "c")
    look: Look = look_into(listener.bucket, listener.index, listener.cursor, pages=1, page_keys=2)
    assert look.all_taken == Cursor(UPLOADS, f"{STORAGES}b")
    assert look.left_over == Cursor(UPLOADS, "", "")
