"""Files of which only held references have answered: everywhere they say so, until somebody decides."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from storage.decisions import reject, release
from storage.lake import Lake
from storage.snapshot import fold
from tests.api.conftest import Api, Scribe, recording
from tests.api.test_health import ready
from tests.api.test_metrics import numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

FOUND = {"words": [("call", 0.97)]}
EVERY_WAY: list[dict[str, Any]] = [{}, {"limit": 9}, {"confidences": False}, {"name": "wav"}]


def arrived(scribe: Scribe, name: str) -> UUID:
    """Upload a recording whose content is its name."""
    blob = scribe.lake.media.add(io.BytesIO(recording(name.encode())))
    scribe.lake.inbox.add(blob, name)
    return blob.file_id


def decide(api: Api, decision: "Callable", reference: str) -> None:
    with api.lake.index() as index:
        assert decision(api.lake, index, [UUID(reference)]) == [UUID(reference)]


def statuses(api: Api, **query: Any) -> dict[str, str]:
    """Status by name; alike in every way to list files, and alike where each is asked for alone."""
    found = api.files(**query)
    for way in EVERY_WAY:
        assert [one["status"] for one in api.files(**query, **way)] == [one["status"] for one in found]
    assert [api.file(one["id"])["status"] for one in found] == [one["status"] for one in found]
    return {one["file"]: one["status"] for one in found}


@pytest.fixture(params=["tail", "base"])
def calls(
    request: pytest.FixtureRequest, tmp_path: Path, serve: "Callable[..., AbstractContextManager[Api]]"
) -> "Callable[..., AbstractContextManager[Api]]":
    """Serves a lake with a held file, one that was shown before, a new one, a rejected one; folded, or not."""
    scribe = Scribe(Lake.open(tmp_path / "data"))
    scribe.group("words")
    ids = {name: arrived(scribe, name) for name in ("held.wav", "shown.wav", "new.wav")}
    scribe.ingest()
    arrived(scribe, "bad.wav")
    scribe.ingest(rejected=True)
    scribe.refresh(ids["shown.wav"], FOUND)
    for name in ("held.wav", "shown.wav"):
        scribe.refresh(ids[name], {"words": [("is", 0.95)]}, held=True)
    if request.param == "base":
        with scribe.lake.index() as index:
            assert fold(scribe.lake.store, index, after=1) is not None
    return serve


def held_reference(api: Api, name: str) -> str:
    (file_id,) = (one["id"] for one in api.files(name=name))
    return str(api.http.get(f"/api/history/{file_id}").json()[0]["reference"])


def test_a_file_is_held_until_its_first_reference_is_decided(calls: "Callable", tmp_path: Path) -> None:
    with calls() as api:
        ready(api)
        api.files()
        assert bool(api.app.state.service.index.start_seq) == (tmp_path / "data" / "snap").exists()
        everything = {"held.wav": "held", "shown.wav": "accepted", "new.wav": "accepted", "bad.wav": "rejected"}
        assert statuses(api) == everything
        (held,) = api.files(status="held")
        assert (held["file"], held["reference"], held["predicted_at"]) == ("held.wav", None, None)
        assert held["confidences"] == []
        assert set(statuses(api, status="accepted")) == {"shown.wav", "new.wav"}
        assert set(statuses(api, status="rejected")) == {"bad.wav"}
        assert statuses(api, status="pending") == {}
        assert numbers(api)["audiophile_held_references",] == 2
        assert numbers(api)["audiophile_files", "accepted"] == 3


@pytest.mark.parametrize("decision", [release, reject])
def test_a_decision_is_shown_at_once_whatever_was_kept(calls: "Callable", decision: "Callable") -> None:
    with calls() as api:
        ready(api)
        reference = held_reference(api, "held.wav")
        file_id = api.files(status="held")[0]["id"]
        before = api.http.get(f"/api/files/{file_id}")
        tag, listed = before.headers["etag"], api.http.get("/api/files", params={"limit": 9}).headers["etag"]
        assert api.http.get(f"/api/files/{file_id}", headers={"If-None-Match": tag}).status_code == 304
        decide(api, decision, reference)
        after = api.http.get(f"/api/files/{file_id}", headers={"If-None-Match": tag})
        assert (after.status_code, after.json()["status"]) == (200, "accepted")
        assert after.json()["reference"] == (reference if decision is release else None)
        assert [one["utterance"] for one in after.json()["confidences"]] == (["is"] if decision is release else [])
        again = api.http.get("/api/files", params={"limit": 9}, headers={"If-None-Match": listed})
        assert again.status_code == 200
        assert set(statuses(api).values()) == {"accepted", "rejected"}
        assert statuses(api, status="held") == {}
        assert set(statuses(api, status="accepted")) == {"held.wav", "shown.wav", "new.wav"}
        assert numbers(api)["audiophile_held_references",] == 1
        if decision is reject:
            api.scribe.refresh(UUID(file_id), FOUND, held=True)
            assert api.file(file_id)["status"] == "held", "it was computed again, and waits again"
            decide(api, release, reference)
            assert api.file(file_id)["reference"] == reference, "who rejected may think better of it"


def test_a_refresh_that_is_held_changes_what_is_shown_of_a_new_file_alone(api: Api) -> None:
    new, old = api.ingested(b"new", "new.wav"), api.ingested(b"old", "old.wav")
    published = api.scribe.refresh(old, FOUND)
    assert statuses(api) == {"new.wav": "accepted", "old.wav": "accepted"}
    for file_id in (new, old):
        api.scribe.refresh(file_id, FOUND, held=True)
    assert statuses(api) == {"new.wav": "held", "old.wav": "accepted"}
    assert api.file(old)["reference"] == published
    api.scribe.refresh(new, FOUND)
    assert statuses(api, status="held") == {}


def test_a_held_reference_lists_its_files_as_they_are_now(calls: "Callable") -> None:
    with calls() as api:
        for name, status in (("held.wav", "held"), ("shown.wav", "accepted")):
            reference = held_reference(api, name)
            (listed,) = api.files(reference=reference)
            assert (listed["status"], listed["reference"]) == (status, reference)
            assert [one["utterance"] for one in listed["confidences"]] == ["is"]
            assert api.file(listed["id"], reference=reference) == listed
            for asked in ("held", "accepted"):
                assert len(api.files(reference=reference, status=asked)) == (asked == status)


def test_a_held_file_that_is_sent_again_is_known(calls: "Callable") -> None:
    with calls() as api:
        answer = api.upload(b"held.wav", "held.wav")
        assert (answer.status_code, answer.json()["status"]) == (200, "held")
        assert "held back" in answer.json()["message"]
        assert api.http.get(f"/api/peaks/{answer.json()['id']}").status_code == 404
        assert api.http.get(f"/api/audio/{answer.json()['id']}").status_code == 200


def test_a_held_file_that_is_erased_is_gone(calls: "Callable") -> None:
    with calls() as api:
        (held,) = api.files(status="held")
        assert api.http.delete(f"/api/files/{held['id']}").status_code == 202
        assert api.http.get(f"/api/files/{held['id']}").status_code == 410
        assert statuses(api, status="held") == {}
        assert set(statuses(api)) == {"shown.wav", "new.wav", "bad.wav"}


def test_where_nothing_is_held_nobody_asks_for_it(api: Api, statements: list[str]) -> None:
    file_id = api.ingested()
    statements.clear()
    assert api.file(file_id)["status"] == "accepted"
    assert api.files(status="held") == []
    assert len(api.files(status="accepted")) == 1
    assert statements
    assert not [sql for sql in statements if "undecided" in sql or "coverage WHERE seq IN" in sql]
