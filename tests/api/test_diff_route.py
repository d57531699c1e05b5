"""GET /api/diff/{a}/{b}: what changed from one reference to another, and why."""

import uuid
from typing import Any
from uuid import UUID

import pytest

from storage.erasure import erase
from storage.log import GroupModel
from storage.retention import Retention, expire
from tests.api.conftest import Api
from tests.api.test_problems import problem
from tests.storage.conftest import Author


@pytest.fixture
def author(api: Api) -> Author:
    """Another writer, whose references have several recordings."""
    return Author(api.lake, api.lake.index())


def compared(api: Api, a: object, b: object, **parameters: Any) -> dict[str, Any]:
    return dict(api.http.get(f"/api/diff/{a}/{b}", params=parameters).raise_for_status().json())


def grown(author: Author, names: str, labels: int) -> tuple[list[UUID], UUID, UUID]:
    """Two references of recordings; in the second each has so many labels more."""
    ids = sorted(author.ingest(*names))
    a = author.refresh({(id_, "m"): [] for id_ in ids})
    b = author.refresh({(id_, "m"): [(f"l{number}", 0.5) for number in range(labels)] for id_ in ids})
    return ids, a, b


def test_a_diff_counts_names_and_explains_changes(api: Api, author: Author) -> None:
    (file_id,) = author.ingest("a")
    for version, phrases in (("v1", ["call"]), ("v2", ["call", "is"])):
        author.commit("group", group=(GroupModel("m", version, "phrases", True, {"phrases": phrases}),))
    a = author.refresh({(file_id, "m"): [("same", 0.5), ("surer", 0.5), ("gone", 0.5)]}, "v1")
    b = author.refresh({(file_id, "m"): [("same", 0.5), ("surer", 0.75), ("added", 0.5)]}, "v2")
    found = compared(api, a, b)
    assert (found["a"], found["b"], found["files"]) == (str(a), str(b), 1)
    assert found["counts"] == {"added": 1, "gone": 1, "changed": 1, "unchanged": 1}
    assert found["reasons"] == {"changed_phrases": 3}
    settings = {"phrases": {"a": ["call"], "b": ["call", "is"]}}
    assert found["versions"] == [
        {"model": "m", "version_a": "v1", "version_b": "v2", "why": "changed_phrases", "settings": settings}
    ]
    added, gone, changed = found["changes"]
    same = {"file_id": str(file_id), "model": "m", "channel": 0, "why": "changed_phrases"}
    at = {"time": 0.5, "end": 0.7, "confidence": 0.5}
    assert added == same | {"utterance": "added", "change": "added", "a": None, "b": at}
    assert gone == same | {"utterance": "gone", "change": "gone", "a": at, "b": None}
    assert (changed["a"]["confidence"], changed["b"]["confidence"]) == (0.5, 0.75)
    assert compared(api, a, "latest") == found
    assert compared(api, b, a)["counts"] == found["counts"]


def test_a_reference_differs_in_nothing_from_itself(api: Api, author: Author) -> None:
    _, a, _ = grown(author, "ab", 1)
    found = compared(api, a, a)
    assert (found["changes"], found["reasons"], found["versions"]) == ([], {}, [])


def test_pages_of_changes_are_linked_and_totals_are_whole(api: Api, author: Author) -> None:
    _, a, b = grown(author, "abc", 3)
    whole = compared(api, a, b)
    path, seen = f"/api/diff/{a}/{b}/?limit=2", []
    for _ in range(5):
        answer = api.http.get(path).raise_for_status()
        page = answer.json()
        seen += page["changes"]
        assert page | {"changes": whole["changes"]} == whole
        path = answer.links.get("next", {}).get("url", "").removeprefix("http://localhost:8000")
    assert path == ""
    assert seen == whole["changes"]
    assert len(seen) == 9


def test_a_page_goes_on_where_it_was_after_another_recording_was_erased(api: Api, author: Author) -> None:
    ids, a, b = grown(author, "abc", 3)
    whole = compared(api, a, b)["changes"]
    link = api.http.get(f"/api/diff/{a}/{b}?limit=4").links["next"]["url"].removeprefix("http://localhost:8000")
    erase(author.lake, author.index, [ids[0]], uuid.uuid4())
    assert api.http.get(link).json()["changes"] == whole[4:8]


def test_one_recording_can_be_asked_for(api: Api, author: Author) -> None:
    ids, a, b = grown(author, "abc", 1)
    found = compared(api, a, b, file_id=ids[1])
    assert [change["file_id"] for change in found["changes"]] == [str(ids[1])]
    assert found["counts"]["added"] == found["files"] == 1


def test_what_never_was_and_what_is_not_kept_are_told_apart(api: Api, author: Author) -> None:
    _, a, b = grown(author, "a", 1)
    problem(api.http.get(f"/api/diff/{a}/{uuid.uuid4()}"), 404)
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    for path in (f"{a}/{b}", f"{b}/{a}"):
        assert "KEEP_DAYS" in problem(api.http.get(f"/api/diff/{path}"), 410)["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "10001"), ("after", "1"), ("after", f"{uuid.UUID(int=1)}.0"), ("file_id", "x")],
)
def test_a_parameter_that_cannot_be_is_named(api: Api, author: Author, name: str, value: str) -> None:
    _, a, b = grown(author, "a", 1)
    body = problem(api.http.get(f"/api/diff/{a}/{b}", params={name: value}), 422)
    assert [error["field"] for error in body["errors"]] == [f"query.{name}"]
