"""GET /api/drift: windows newest first, what each test said, and whether there is drift now."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from storage.erasure import erase
from storage.retention import Retention, expire
from tests.api.conftest import Api
from tests.api.test_problems import problem
from tests.storage.conftest import Author

BASE = "http://localhost:8000/api"


@dataclass(frozen=True)
class Made:
    """Two references, the newer one of which has a changed model; of each two recordings are in windows."""

    old: str
    new: str
    ids: list[UUID]  # of the old one the first three: in the baseline, and in the first two windows
    windows: list[str]  # no_drift, drift, and insufficient, of both; the oldest first
    change: str


@pytest.fixture
def author(api: Api) -> Author:
    """Another writer: one whose index stays open."""
    return Author(api.lake, api.lake.index())


@pytest.fixture
def made(author: Author) -> Made:
    ids = author.ingest(*"abcdef")
    old = author.refresh({(file_id, "m"): [] for file_id in ids[:4]})
    baseline = author.baseline(ids[:1], name="quiet days", version=2)
    windows = [author.window([ids[1]], "no_drift", baseline_id=baseline)]
    windows.append(author.window([ids[2]], "drift", "no_drift", "insufficient", baseline_id=baseline))
    new = author.refresh({(file_id, "m"): [] for file_id in ids[4:]})
    change = author.model_change(new)
    windows.append(author.window([ids[3], ids[4]], "insufficient", baseline_id=baseline))
    return Made(str(old), str(new), ids, [str(one) for one in windows], str(change))


def listed(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    return list(api.http.get("/api/drift", params=parameters).raise_for_status().json())


def ids(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["id"] for answer in answers]


def of(api: Api, reference: str) -> dict[str, Any]:
    return dict(api.http.get(f"/api/drift/{reference}").raise_for_status().json())


def test_without_windows_there_are_none(api: Api, author: Author) -> None:
    assert listed(api) == []
    assert "no reference has been published yet" in problem(api.http.get("/api/drift/latest"), 404)["detail"]
    reference = author.refresh({(file_id, "m"): [] for file_id in author.ingest("a", "b")})
    assert of(api, "latest") == {
        "reference": str(reference),
        "state": "published",
        "verdict": None,
        "drifting": False,
        "waiting": 2,
        "windows": [],
        "model_changes": [],
        "url": f"{BASE}/drift/{reference}",
    }


def test_windows_and_changes_of_models_are_listed_newest_first(api: Api, made: Made) -> None:
    found = listed(api)
    assert ids(found) == [made.windows[2], made.change, made.windows[1], made.windows[0]]
    assert [one["kind"] for one in found] == ["window", "model_change", "window", "window"]
    assert [one["verdict"] for one in found] == ["insufficient", "model_change", "drift", "no_drift"]


def test_a_window_says_what_was_compared_with_what_and_what_came_out(api: Api, made: Made) -> None:
    window = listed(api)[2]
    tests, baseline = window.pop("tests"), window.pop("baseline")
    times = [window.pop("opened_at"), window.pop("closed_at"), baseline.pop("made_at")]
    assert all(time.endswith("Z") and datetime.fromisoformat(time) for time in times)
    assert window == {
        "id": made.windows[1],
        "kind": "window",
        "verdict": "drift",
        "closed_by": "size",
        "recordings": 1,
        "utterances": 1,
        "reference": made.old,
        "reference_url": f"{BASE}/references/{made.old}",
        "url": f"{BASE}/drift/{made.old}",
    }
    assert baseline == {
        "name": "quiet days",
        "version": 2,
        "chosen": "by a test",
        "recordings": 1,
        "utterances": 1,
    }
    assert [(test["descriptor"], test["verdict"]) for test in tests] == [
        ("d0", "drift"),
        ("d1", "no_drift"),
        ("d2", "insufficient"),
    ]
    assert tests[0] == {
        "detector": "ks",
        "descriptor": "d0",
        "statistic": 0.5,
        "p_value": 0.25,
        "threshold": 0.01,
        "effect": 0.5,
        "verdict": "drift",
        "reason": None,
        "details": None,
    }


def test_a_changed_model_has_its_numbers_and_no_baseline(api: Api, made: Made) -> None:
    change = listed(api)[1]
    (test,) = change["tests"]
    assert (change["baseline"], change["closed_by"], change["reference"]) == (None, "model_change", made.new)
    assert (test["descriptor"], test["statistic"], test["p_value"]) == ("m", 0.75, None)
    assert test["details"]["labels"] == {"call": {"both": 1}}


def test_pages_are_linked_and_keep_what_was_asked_for(api: Api, author: Author, made: Made) -> None:
    answer = api.http.get("/api/drift/", params={"limit": 2})
    assert ids(answer.json()) == [made.windows[2], made.change]
    link = answer.links["next"]["url"]
    assert link == f"{BASE}/drift/?limit=2&after={made.change}"
    rest = api.http.get(link.removeprefix("http://localhost:8000"))
    assert ids(rest.json()) == [made.windows[1], made.windows[0]]
    assert "next" not in rest.links, "a whole last page has no next one"
    later = str(author.window([made.ids[5]], "drift"))
    answer = api.http.get("/api/drift", params={"limit": 1, "verdict": "drift"})
    assert ids(answer.json()) == [later]
    assert answer.links["next"]["url"] == f"{BASE}/drift?limit=1&verdict=drift&after={later}"
    assert ids(listed(api, verdict="drift", after=later)) == [made.windows[1]]


def test_windows_are_found_by_what_they_say(api: Api, made: Made) -> None:
    said = {"no_drift": made.windows[0], "drift": made.windows[1], "insufficient": made.windows[2]}
    for verdict, id_ in (said | {"model_change": made.change}).items():
        assert ids(listed(api, verdict=verdict)) == [id_]


def test_a_page_after_an_unknown_window_is_not_found(api: Api, made: Made) -> None:
    for unknown in (str(uuid.uuid4()), made.old):
        assert unknown in problem(api.http.get("/api/drift", params={"after": unknown}), 404)["detail"]


def test_a_parameter_that_cannot_be_is_named(api: Api) -> None:
    hostile = {
        "limit": ("0", "-1", "1001", "many", "1e2", ""),
        "after": ("1", "' OR 1=1 --", "latest", "%00", "x" * 3000),
        "verdict": ("DRIFT", "drifting", "", "drift' OR 'a'='a", "тест"),
    }
    for name, values in hostile.items():
        for value in values:
            body = problem(api.http.get("/api/drift", params={name: value}), 422)
            assert [error["field"] for error in body["errors"]] == [f"query.{name}"]


def test_a_reference_has_the_windows_that_its_recordings_came_in(api: Api, made: Made) -> None:
    old, new = of(api, made.old), of(api, made.new)
    assert ids(old["windows"]) == made.windows[::-1]
    assert (old["verdict"], old["waiting"], old["model_changes"]) == ("drift", 0, [])
    assert ids(new["windows"]) == made.windows[2:]
    assert (new["verdict"], new["waiting"], ids(new["model_changes"])) == ("insufficient", 1, [made.change])
    assert new["windows"] == listed(api)[:1]
    assert of(api, "latest") == new


def test_latest_says_whether_there_is_drift_now(api: Api, author: Author, made: Made) -> None:
    assert of(api, "latest")["drifting"], "the last window that said anything said drift"
    author.window([made.ids[5]], "no_drift")
    assert not of(api, "latest")["drifting"]
    assert (of(api, made.old)["verdict"], of(api, made.old)["drifting"]) == ("drift", False)


def test_held_references_are_asked_for_by_their_id(api: Api, author: Author, made: Made) -> None:
    file_ids = author.ingest("g", "h")
    held = str(author.refresh({(file_id, "m"): [] for file_id in file_ids}, held=True))
    window = str(author.window(file_ids[:1], "drift"))
    found = of(api, held)
    assert (found["state"], found["verdict"], ids(found["windows"])) == ("held", "drift", [window])
    assert of(api, "latest")["reference"] == made.new
    author.commit("reject", reference=UUID(held))
    assert of(api, held)["state"] == "rejected"


def test_windows_stay_when_their_recordings_are_erased(api: Api, author: Author, made: Made) -> None:
    before = listed(api)
    erase(author.lake, author.index, made.ids, uuid.uuid4())
    assert listed(api) == before
    assert ids(of(api, made.new)["windows"]) == made.windows[2:]


def test_what_never_was_and_what_is_not_kept_are_told_apart(api: Api, author: Author, made: Made) -> None:
    author.refresh({(made.ids[0], "m"): []})
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    assert problem(api.http.get(f"/api/drift/{made.old}"), 410)["type"] == "/problems/gone"
    problem(api.http.get(f"/api/drift/{uuid.uuid4()}"), 404)
    problem(api.http.get(f"/api/drift/{made.windows[0]}"), 404)
    assert len(listed(api)) == 4, "its windows are still listed"


def test_a_name_that_no_reference_can_have_is_not_valid(api: Api) -> None:
    for name in ("nonsense", "%00", "..%2F..%2Fetc", "LATEST", "é", "' OR 1=1", "x" * 3000):
        response = api.http.get(f"/api/drift/{name}")
        assert response.status_code in (404, 422)
        problem(response, response.status_code)


def test_head_is_answered_as_get_and_nothing_else_is(api: Api, made: Made) -> None:
    for path in ("/api/drift", "/api/drift/", "/api/drift/latest", f"/api/drift/{made.old}/"):
        head = api.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["cache-control"] == "private, no-cache"
        assert api.http.post(path).headers["allow"] == "GET, HEAD"
