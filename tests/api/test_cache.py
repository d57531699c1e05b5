"""Answers that are kept: given again while the log says nothing new of their recording, and never longer."""

import uuid
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import pytest

from api import cache
from storage.erasure import erase
from storage.retention import Retention, expire

if TYPE_CHECKING:
    from tests.api.conftest import Api


def get(api: "Api", file_id: UUID, **headers: str) -> httpx.Response:
    return api.http.get(f"/api/files/{file_id}", headers=headers)


def test_an_answer_is_given_again_without_a_query(api: "Api", statements: list[str]) -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
    first = get(api, file_id)
    asked = len(statements)
    again = get(api, file_id)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert again.headers["content-type"] == "application/json"
    unchanged = get(api, file_id, **{"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", first.headers["etag"])
    assert get(api, file_id, **{"If-None-Match": '"another"'}).content == first.content
    assert len(statements) == asked


def test_a_commit_changes_the_answers_of_its_recordings_at_once_and_no_others(
    api: "Api", statements: list[str]
) -> None:
    one, other = api.ingested(), api.ingested(b"RIFF2", "b.wav")
    for file_id in (one, other):
        api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
        get(api, file_id)
    newer = api.scribe.refresh(one, {"words": [("is", 0.97)]})
    assert get(api, one).json()["reference"] == newer
    asked = len(statements)
    assert get(api, other).json()["reference"] != newer
    assert get(api, one).json()["reference"] == newer
    assert len(statements) == asked


def test_each_query_has_an_answer_of_its_own(api: "Api") -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.95), ("is", 0.3)]})
    for _ in range(2):
        assert len(api.file(file_id)["confidences"]) == 1
        assert len(api.file(file_id, min_confidence=0)["confidences"]) == 2
        assert "transcript" in api.file(file_id, transcript=True)


def test_what_is_pending_is_not_kept(api: "Api") -> None:
    file_id = api.upload().json()["id"]
    assert api.file(file_id)["status"] == "pending"
    api.scribe.ingest()
    assert api.file(file_id)["status"] == "accepted"


def test_what_was_rejected_and_is_accepted_later_shows_it(api: "Api") -> None:
    file_id = api.upload().json()["id"]
    api.scribe.ingest(rejected=True)
    assert [api.file(file_id)["status"] for _ in range(2)] == ["rejected", "rejected"]
    api.upload()
    api.scribe.ingest()
    assert api.file(file_id)["status"] == "accepted"


def test_an_erased_recording_is_gone_although_it_was_asked_for(api: "Api") -> None:
    file_id = api.ingested()
    assert [get(api, file_id).status_code for _ in range(2)] == [200, 200]
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
    assert get(api, file_id).status_code == 410


def test_an_expired_reference_is_gone_although_it_was_asked_for(api: "Api") -> None:
    file_id = api.ingested()
    old = api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
    api.scribe.refresh(file_id, {"words": [("is", 0.95)]})
    path = f"/api/files/{file_id}?reference={old}"
    assert [api.http.get(path).status_code for _ in range(2)] == [200, 200]
    with api.lake.index() as index:
        expire(api.lake, index, Retention(keep_references=1), uuid.uuid4())
    assert api.http.get(path).status_code == 410


def test_a_store_that_fails_is_said_although_an_answer_is_kept(api: "Api") -> None:
    file_id = api.ingested()
    get(api, file_id)
    at = api.app.state.service.index.applied_seq + 1
    api.lake.store.write(f"log/{at:020d}.json", b"no log entry")
    assert get(api, file_id).status_code == 503


def test_a_large_answer_is_not_kept(api: "Api", statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ENTRY_BYTES", 100)
    file_id = api.ingested()
    get(api, file_id)
    asked = len(statements)
    assert get(api, file_id).status_code == 200
    assert len(statements) > asked
