"""What the API says of a recording that was erased."""

import hashlib
import uuid
from uuid import UUID

import pytest

from storage.erasure import erase, lift
from tests.api.conftest import Api

CONTENT = b"RIFF____WAVE, or something like it"
FILE_ID = UUID(hashlib.sha256(CONTENT).hexdigest()[:32])


@pytest.fixture
def erased(api: Api) -> Api:
    with api.lake.index() as index:
        erase(api.lake, index, [FILE_ID], uuid.uuid4())
    return api


def upload(api: Api):
    return api.http.post("/api/files/upload", files={"file": ("call.wav", CONTENT)})


def stored(api: Api) -> list[str]:
    return [found.path for folder in ("media", "trash", "inbox") for found in api.lake.store.found(folder)]


def test_an_erased_file_is_gone(erased: Api) -> None:
    answer = erased.http.get(f"/api/files/{FILE_ID}")
    assert answer.status_code == 410
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(FILE_ID) in answer.json()["detail"]
    assert erased.http.get("/api/files").json() == []


def test_its_bytes_are_refused_and_not_stored(erased: Api) -> None:
    answer = upload(erased)
    assert answer.status_code == 410
    assert "lift_files" in answer.json()["detail"]
    assert stored(erased) == []


def test_they_are_taken_again_once_that_is_lifted(erased: Api) -> None:
    with erased.lake.index() as index:
        lift(erased.lake, index, [FILE_ID], uuid.uuid4())
    assert upload(erased).status_code == 201
    assert erased.http.get(f"/api/files/{FILE_ID}").json()["status"] == "pending"


def test_a_pending_upload_that_is_erased_is_not_shown(api: Api) -> None:
    assert upload(api).status_code == 201
    with api.lake.index() as index:
        erase(api.lake, index, [FILE_ID], uuid.uuid4())
    assert api.http.get(f"/api/files/{FILE_ID}").status_code == 410
    assert api.http.get("/api/files").json() == []
