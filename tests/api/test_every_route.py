"""What holds of every route that is read: HEAD, a slash at its end, caching, and 410 after an erasure."""

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from api.app import create_app
from storage.erasure import erase
from storage.settings import Settings
from tests.api.test_health import ready

if TYPE_CHECKING:
    from tests.api.conftest import Api

DOCUMENT: dict[str, Any] = create_app(Settings(_env_file=None)).openapi()
READ = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
ANSWERS = {path: DOCUMENT["paths"][path]["get"]["responses"] for path in READ}
ENDLESS = [path for path, answers in ANSWERS.items() if "text/event-stream" in answers["200"]["content"]]
TAGGED = [path for path, answers in ANSWERS.items() if "304" in answers]
ERASED_TOO = [path for path in READ if "{file_id}" in path]


def filled(path: str, file_id: object, reference: object) -> str:
    values = {
        "file_id": file_id,
        "model": "words",
        "reference": reference,
        "a": reference,
        "b": reference,
        "kind": "gone",
    }
    return path.format(**values) + ("?q=call" if path == "/api/search" else "")


@pytest.mark.parametrize("path", [path for path in READ if path not in ENDLESS])
def test_head_is_answered_as_get_with_and_without_a_slash(api: "Api", path: str) -> None:
    file_id = api.ingested()
    reference = api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
    api.scribe.group("words")
    asked = filled(path, file_id, reference)
    ready(api)
    got = api.http.get(asked)
    assert got.status_code == (404 if path.startswith("/api/peaks") else 200)
    assert got.headers["cache-control"] == "private, no-cache"
    route, _, query = asked.partition("?")
    for again in (asked, f"{route}/?{query}"):
        head = api.http.head(again)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
    if path in TAGGED and got.status_code == 200:
        unchanged = api.http.get(asked, headers={"If-None-Match": got.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == got.headers["etag"]


@pytest.mark.parametrize("path", TAGGED)
def test_openapi_says_which_answers_have_a_tag(path: str) -> None:
    answers = ANSWERS[path]
    assert {"ETag", "Cache-Control"} <= answers["200"]["headers"].keys() & answers["304"]["headers"].keys()


def test_openapi_says_which_lists_have_pages() -> None:
    paged = [path for path, answers in ANSWERS.items() if "Link" in answers["200"].get("headers", {})]
    assert paged == ["/api/files", "/api/search", "/api/references", "/api/diff/{a}/{b}", "/api/drift"]


@pytest.mark.parametrize("path", ERASED_TOO)
def test_what_was_erased_is_gone_everywhere(api: "Api", path: str) -> None:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
    assert api.http.get(filled(path, file_id, "latest")).status_code == 410


def test_what_was_erased_is_gone_from_references_as_well(api: "Api") -> None:
    file_id = api.ingested()
    reference = api.scribe.refresh(file_id, {"words": [("call", 0.95)]})
    with api.lake.index() as index:
        erase(api.lake, index, [file_id], uuid.uuid4())
    for path in (f"/api/references/{reference}/predictions", f"/api/diff/{reference}/{reference}"):
        assert api.http.get(path).status_code == 200
        assert api.http.get(path, params={"file_id": str(file_id)}).status_code == 410


def test_one_model_of_an_older_reference_is_shown(api: "Api") -> None:
    file_id = api.ingested()
    old = api.scribe.refresh(file_id, {"words": [("call", 0.95)], "others": [("is", 0.95)]})
    api.scribe.refresh(file_id, {"words": []})
    found = api.http.get(f"/api/files/{file_id}/words", params={"reference": old, "transcript": True}).json()
    assert [each["utterance"] for each in found["confidences"]] == ["call"]
    assert {each["model"] for each in found["transcript"]} == {"words"}


def test_a_method_that_a_path_lacks_is_answered_with_those_that_it_has(api: "Api") -> None:
    assert api.http.put("/api/models").headers["allow"] == "GET, HEAD"
    assert api.http.post("/api/events").headers["allow"] == "GET"
