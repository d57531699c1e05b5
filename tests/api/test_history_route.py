"""GET /api/history/{file_id}: what references said of one recording."""

import uuid

import pytest

from storage.erasure import erase
from storage.retention import Retention, expire
from tests.api.conftest import Api
from tests.api.test_problems import problem
from tests.storage.conftest import Author


def test_references_are_listed_newest_first_with_each_models_answer(api: Api) -> None:
    file_id = api.ingested()
    first = api.scribe.refresh(file_id, {"m": [("call", 0.5)], "n": []})
    held = api.scribe.refresh(file_id, {"m": [("call", 0.5), ("is", 0.5)]}, held=True)
    answers = api.http.get(f"/api/history/{file_id}/").raise_for_status().json()
    assert [(one["reference"], one["state"], one["latest"]) for one in answers] == [
        (held, "held", False),
        (first, "published", True),
    ]
    assert answers[1]["models"] == [
        {"model": model, "model_version": "v1", "state": "computed", "reason": None, "tries": 0}
        | {"predictions": predictions, "first_reference": first}
        for model, predictions in (("m", 1), ("n", 0))
    ]


def test_its_links_lead_to_what_each_reference_said(api: Api) -> None:
    file_id = api.ingested()
    made = [api.scribe.refresh(file_id, {"m": [(label, 0.95)]}) for label in ("one", "two")]
    for answer, reference in zip(api.http.get(f"/api/history/{file_id}").json(), reversed(made), strict=True):
        said = api.http.get(answer["url"].removeprefix("http://localhost:8000")).json()
        assert said["reference"] == reference == answer["reference"]
        assert said["predicted_at"] == answer["finished_at"]


def test_a_failure_says_why(api: Api) -> None:
    file_id = api.ingested()
    row = {"file_id": file_id, "model": "m", "model_version": "v1", "state": "failed", "reason": "too loud", "tries": 2}
    api.scribe.commit("refresh", {"coverage": [row]}, reference=uuid.uuid4())
    ((answer,),) = (one["models"] for one in api.http.get(f"/api/history/{file_id}").json())
    assert (answer["state"], answer["reason"], answer["tries"]) == ("failed", "too loud", 2)
    assert (answer["predictions"], answer["first_reference"]) == (0, None)


def test_an_expired_reference_is_shown_while_it_is_the_latest(api: Api) -> None:
    author = Author(api.lake, api.lake.index())
    ids = author.ingest("a", "b")
    old = author.refresh({(file_id, "m"): [] for file_id in ids})
    author.refresh({(ids[0], "m"): []})
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    assert [one["state"] for one in api.http.get(f"/api/history/{ids[0]}").json()] == ["published"]
    (answer,) = api.http.get(f"/api/history/{ids[1]}").json()
    assert (answer["reference"], answer["state"], answer["latest"]) == (str(old), "expired", True)
    assert api.http.get(answer["url"].removeprefix("http://localhost:8000")).json()["reference"] == str(old)


def test_before_the_first_reference_a_history_is_empty(api: Api) -> None:
    pending = api.upload().json()["id"]
    assert api.http.get(f"/api/history/{pending}").json() == []
    api.scribe.ingest()
    assert api.http.get(f"/api/history/{pending}").json() == []


def test_a_rejected_recording_has_an_empty_one(api: Api) -> None:
    file_id = api.upload().json()["id"]
    api.scribe.ingest(rejected=True)
    assert api.http.get(f"/api/history/{file_id}").json() == []


def test_unknown_and_erased_recordings_are_told_apart(api: Api) -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"m": []})
    unknown = problem(api.http.get(f"/api/history/{uuid.uuid4()}"), 404)
    assert "http://localhost:8000/api/files" in unknown["detail"]
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
    problem(api.http.get(f"/api/history/{file_id}"), 410)


@pytest.mark.parametrize("file_id", ["42", "nothing", "%00", "тест"])
def test_an_id_that_is_none_is_not_found_as_on_every_route_of_a_file(api: Api, file_id: str) -> None:
    assert problem(api.http.get(f"/api/history/{file_id}"), 404)["type"] == "/problems/not-found"
