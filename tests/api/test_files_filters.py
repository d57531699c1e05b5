"""Filters of GET /api/files: which files are there, and what of them is shown."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from storage.retention import Retention, expire
from tests.api.conftest import Api


@pytest.fixture
def calls(api: Api) -> dict[str, UUID]:
    """Three files that are scored, one that is rejected, and one that is pending; by name."""
    ids = {name: api.ingested(name.encode(), name) for name in ("Alpha.wav", "beta.wav", "gamma.mp3")}
    api.scribe.group("words", "scene")
    api.scribe.refresh(ids["Alpha.wav"], {"words": [("call", 0.97), ("is", 0.95)], "scene": [("music", 0.99)]})
    api.scribe.refresh(ids["beta.wav"], {"words": [("call", 0.5)]})
    api.scribe.refresh(ids["gamma.mp3"], {"words": [], "scene": [("call", 0.99)]})
    ids["bad.wav"] = UUID(api.upload(b"bad", "bad.wav").json()["id"])
    api.scribe.ingest(rejected=True)
    ids["wait.wav"] = UUID(api.upload(b"wait", "wait.wav").json()["id"])
    return ids


def shown(api: Api, **query: Any) -> dict[str, list[tuple[str, str]]]:
    """Model and label of what is shown, by file; alike in one array and in pages of one."""
    found = api.files(**query)
    assert found == sorted(found, key=lambda answer: answer["id"])
    pages, after = [], {}
    while page := api.files(**query, **after, limit=1):
        pages += page
        after = {"after": page[-1]["id"]}
    assert pages == found
    return {answer["file"]: [(row["model"], row["utterance"]) for row in answer["confidences"]] for answer in found}


def test_by_name_whatever_its_case(api: Api, calls: dict[str, UUID]) -> None:
    assert set(shown(api, name="ALPHA")) == {"Alpha.wav"}
    assert set(shown(api, name=".wav")) == {"Alpha.wav", "beta.wav", "bad.wav", "wait.wav"}
    assert shown(api, name="%") == shown(api, name="_") == shown(api, name="\0") == shown(api, name="é" * 255) == {}


def test_by_status(api: Api, calls: dict[str, UUID]) -> None:
    assert set(shown(api, status="pending")) == {"wait.wav"}
    assert set(shown(api, status="rejected")) == {"bad.wav"}
    assert set(shown(api, status="accepted")) == {"Alpha.wav", "beta.wav", "gamma.mp3"}


def test_by_model_of_the_latest_reference(api: Api, calls: dict[str, UUID]) -> None:
    assert shown(api, model="scene") == {"Alpha.wav": [("scene", "music")], "gamma.mp3": [("scene", "call")]}
    assert shown(api, model="words")["gamma.mp3"] == []
    api.scribe.refresh(calls["Alpha.wav"], {"words": []})
    assert set(shown(api, model="scene")) == {"gamma.mp3"}


def test_an_unknown_model_is_named_with_the_known_ones(api: Api, calls: dict[str, UUID]) -> None:
    answer = api.http.get("/api/files", params={"model": "mood"})
    assert answer.status_code == 404
    assert answer.json()["known"] == ["scene", "words"]
    api.scribe.group("words", "mood")
    assert shown(api, model="mood") == {}
    assert set(shown(api, model="scene")) == {"Alpha.wav", "gamma.mp3"}


def test_by_utterance_with_the_confidence_that_is_shown(api: Api, calls: dict[str, UUID]) -> None:
    assert shown(api, utterance="call") == {"Alpha.wav": [("words", "call")], "gamma.mp3": [("scene", "call")]}
    assert set(shown(api, utterance="call", min_confidence=0.5)) == {"Alpha.wav", "beta.wav", "gamma.mp3"}
    assert shown(api, utterance="call", model="words") == {"Alpha.wav": [("words", "call")]}
    assert shown(api, utterance="CALL") == shown(api, utterance="call' OR 1=1 --") == {}
    (answer,) = api.files(utterance="music", confidences=False)
    assert answer["file"] == "Alpha.wav"


def test_since_a_time(api: Api, calls: dict[str, UUID]) -> None:
    predicted_at = api.file(calls["gamma.mp3"])["predicted_at"]
    assert set(shown(api, since=predicted_at)) == {"gamma.mp3", "bad.wav"}
    assert len(shown(api, since="2020-01-01T00:00:00+02:00")) == 4
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert shown(api, since=tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ")) == {}
    unencoded = api.http.get(f"/api/files?since={tomorrow:%Y-%m-%dT%H:%M:%S}+00:00")
    assert (unencoded.status_code, unencoded.json()) == (200, [])


def test_filters_are_combined(api: Api, calls: dict[str, UUID]) -> None:
    assert set(shown(api, name="a", status="accepted", model="scene", utterance="call")) == {"gamma.mp3"}
    assert shown(api, status="rejected", model="scene") == {}
    assert set(shown(api, name="WAIT", status="pending")) == {"wait.wav"}
    assert shown(api, name="wait", status="pending", model="words") == {}


def test_by_reference_with_what_it_said(api: Api, calls: dict[str, UUID]) -> None:
    old = api.file(calls["Alpha.wav"])["reference"]
    api.scribe.refresh(calls["Alpha.wav"], {"words": [("is", 0.99)]})
    assert shown(api, reference=old) == {"Alpha.wav": [("scene", "music"), ("words", "call"), ("words", "is")]}
    assert api.files(reference=old, transcript=True) == [api.file(calls["Alpha.wav"], reference=old, transcript=True)]
    assert shown(api, reference=old, utterance="music") == {"Alpha.wav": [("scene", "music")]}
    assert shown(api, reference=old, utterance="music", model="words") == {}
    assert shown(api, reference=old, name="beta") == shown(api, reference=old, status="pending") == {}
    assert set(shown(api, reference=old, since="2020-01-01T00:00:00Z")) == {"Alpha.wav"}
    assert shown(api, reference=old, since=api.file(calls["gamma.mp3"])["predicted_at"]) == {}


def test_an_unknown_reference_and_one_that_expired(api: Api, calls: dict[str, UUID]) -> None:
    assert api.http.get("/api/files", params={"reference": str(uuid.uuid4())}).status_code == 404
    old = api.file(calls["beta.wav"])["reference"]
    api.scribe.refresh(calls["beta.wav"], {"words": []})
    with api.lake.index() as index:
        expire(api.lake, index, Retention(keep_references=1), uuid.uuid4())
    answer = api.http.get("/api/files", params={"reference": old})
    assert (answer.status_code, answer.headers["content-type"]) == (410, "application/problem+json")
