"""GET /api/references: which refreshes there were, newest first."""

import uuid
from typing import Any

import httpx
import pytest

from storage.log import GroupModel
from storage.retention import Retention, expire
from tests.api.conftest import Api
from tests.api.test_problems import problem
from tests.storage.conftest import Author


@pytest.fixture
def author(api: Api) -> Author:
    """Another writer: one whose index stays open."""
    return Author(api.lake, api.lake.index())


@pytest.fixture
def made(author: Author) -> list[str]:
    """Five references, the oldest first: the second is rejected, the fourth held."""
    (file_id,) = author.ingest("a")
    author.commit("group", group=(GroupModel("m", "v1", "phrases", True, {"phrases": ["call"]}),))
    counts = {"files": 1, "audio_s": 1.5}
    ids = [uuid.uuid4() for _ in range(5)]
    for number, id_ in enumerate(ids):
        rows = [author.coverage_row(file_id, "m")]
        author.commit("refresh", reference=id_, held=number in (1, 3), counts=counts, coverage=rows)
    author.commit("reject", reference=ids[1])
    return [str(id_) for id_ in ids]


def listed(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    return list(api.http.get("/api/references", params=parameters).raise_for_status().json())


def ids(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["id"] for answer in answers]


def expire_all_but_the_last(author: Author) -> None:
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())


def test_without_a_refresh_there_are_none_and_no_latest(api: Api) -> None:
    assert listed(api) == []
    assert "no reference has been published yet" in problem(api.http.get("/api/references/latest"), 404)["detail"]


def test_references_are_listed_newest_first(api: Api, made: list[str]) -> None:
    answer = api.http.get("/api/references/")
    assert ids(answer.json()) == made[::-1]
    assert [one["state"] for one in answer.json()] == ["published", "held", "published", "rejected", "published"]
    assert "link" not in answer.headers


def test_pages_are_linked_and_keep_what_was_asked_for(api: Api, made: list[str]) -> None:
    answer = api.http.get("/api/references/", params={"state": "published", "limit": 2})
    assert ids(answer.json()) == [made[4], made[2]]
    link = answer.links["next"]["url"]
    assert link == f"http://localhost:8000/api/references/?state=published&limit=2&after={made[2]}"
    rest = api.http.get(link.removeprefix("http://localhost:8000"))
    assert ids(rest.json()) == [made[0]]
    assert "next" not in rest.links


def test_a_whole_last_page_has_no_next_one(api: Api, made: list[str]) -> None:
    assert "next" not in api.http.get("/api/references?limit=5").links
    assert ids(listed(api, after=made[0])) == []


def test_pages_go_on_after_a_reference_that_expired_meanwhile(api: Api, author: Author, made: list[str]) -> None:
    expire_all_but_the_last(author)
    assert ids(listed(api)) == [made[4], made[3], made[1]]
    assert ids(listed(api, after=made[2])) == [made[1]]
    assert ids(listed(api, state="expired")) == [made[2], made[0]]


def test_a_page_after_an_unknown_reference_is_not_found(api: Api, made: list[str]) -> None:
    problem(api.http.get("/api/references", params={"after": str(uuid.uuid4())}), 404)


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "1001"), ("limit", "many"), ("after", "1"), ("after", "' OR 1=1"), ("state", "lost")],
)
def test_a_parameter_that_cannot_be_is_named(api: Api, name: str, value: str) -> None:
    body = problem(api.http.get("/api/references", params={name: value}), 422)
    assert [error["field"] for error in body["errors"]] == [f"query.{name}"]


def test_a_reference_says_when_and_with_what_it_was_made(api: Api, made: list[str]) -> None:
    answer = api.http.get(f"/api/references/{made[2]}").json()
    assert answer == listed(api)[2]
    assert answer["models"] == [
        {"name": "m", "version": "v1", "task": "phrases", "enabled": True, "settings": {"phrases": ["call"]}}
    ]
    assert answer["counts"] == {"files": 1, "audio_s": 1.5}
    assert answer["drift"] is None
    assert answer["seconds"] >= 0
    assert answer["started_at"] <= answer["finished_at"]
    assert answer["url"] == f"http://localhost:8000/api/references/{made[2]}"
    assert answer["predictions_url"] == f"{answer['url']}/predictions"


def test_a_reference_says_whether_its_recordings_drifted(api: Api, author: Author) -> None:
    ids = author.ingest("a", "b", "c")
    made = [author.refresh({(file_id, "m"): []}) for file_id in ids]
    author.window(ids[:1], "drift", "no_drift")
    author.window(ids[1:2], "insufficient")
    assert [one["drift"] for one in listed(api)] == [None, "insufficient", "drift"]
    assert api.http.get(f"/api/references/{made[0]}").json()["drift"] == "drift"
    assert api.http.get("/api/references/latest").json()["drift"] is None


def test_latest_is_the_newest_that_is_published(api: Api, author: Author, made: list[str]) -> None:
    held, (file_id,) = uuid.uuid4(), author.ingest("b")
    author.commit("refresh", reference=held, held=True, coverage=[author.coverage_row(file_id, "m")])
    assert api.http.get("/api/references/latest/").json()["id"] == made[4]
    author.commit("release", reference=held)
    assert api.http.get("/api/references/latest").json()["id"] == str(held)


def test_what_never_was_and_what_is_not_kept_are_told_apart(api: Api, author: Author, made: list[str]) -> None:
    expire_all_but_the_last(author)
    gone = problem(api.http.get(f"/api/references/{made[0]}"), 410)
    assert "KEEP_REFERENCES" in gone["detail"]
    assert gone["type"] == "/problems/gone"
    problem(api.http.get(f"/api/references/{uuid.uuid4()}"), 404)


@pytest.mark.parametrize("name", ["nonsense", "%00", "..%2F..%2Fetc", "LATEST", "é"])
def test_a_name_that_no_reference_can_have_is_not_valid(api: Api, name: str) -> None:
    response: httpx.Response = api.http.get(f"/api/references/{name}")
    assert response.status_code in (404, 422)
    problem(response, response.status_code)
