"""ETag and If-None-Match on every GET of files: 304 exactly where the client has the answer."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.etags import is_current, strong, weak
from storage.erasure import erase
from storage.listing import Listing
from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager[Api]]
LISTS = ["/api/files", "/api/files?limit=1", "/api/search?q=call"]


@pytest.fixture
def scored(api: Api) -> Api:
    file_id = api.ingested()
    api.scribe.refresh(file_id, {"words": [("call", 0.97)]})
    return api


def status(api: Api, path: str, tag: str) -> int:
    answer = api.http.get(path, headers={"If-None-Match": tag})
    if answer.status_code == 304:
        assert answer.content == b""
        assert answer.headers["etag"]
        assert answer.headers["cache-control"] == "private, no-cache"
    return answer.status_code


@pytest.mark.parametrize(
    "path", [*LISTS, "/api/files/{id}", "/api/files/{id}/words", "/api/files/{id}?transcript=true"]
)
def test_what_a_client_has_is_not_sent_again(scored: Api, path: str) -> None:
    path = path.format(id=scored.files()[0]["id"])
    answer = scored.http.get(path)
    tag = answer.headers["etag"]
    assert answer.headers["cache-control"] == "private, no-cache"
    assert tag.startswith('W/"') == (path in LISTS)
    opaque = tag.removeprefix("W/")
    for sent in (tag, opaque, f"W/{opaque}", "*", f'"other", {tag}', f'"a,b" ,, {opaque}', f'"other",{tag},"more"'):
        assert status(scored, path, sent) == 304, sent
    for sent in ('"other"', opaque.strip('"'), f"{opaque}x", "W/", f'"{opaque}', "", "*, *", f"w/{opaque}"):
        assert status(scored, path, sent) == 200, sent
    assert scored.http.head(path, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("path", LISTS)
def test_lists_have_another_tag_after_whatever_may_change_them(scored: Api, path: str) -> None:
    tags = [scored.http.get(path).headers["etag"]]
    (file_id,) = (answer["id"] for answer in scored.files())

    def note() -> None:
        tags.append(scored.http.get(path).headers["etag"])

    scored.scribe.refresh(uuid.UUID(file_id), {"words": [("call", 0.99)]})
    note()
    scored.upload(b"another", "b.wav")
    if path.startswith("/api/files"):
        note()
    scored.scribe.ingest()
    note()
    with scored.lake.index() as index:
        erase(scored.lake, index, [uuid.UUID(file_id)], uuid.uuid4())
    note()
    assert len(set(tags)) == len(tags)


def test_each_question_has_a_tag_of_its_own(scored: Api) -> None:
    paths = [
        "/api/files", "/api/files?limit=1", "/api/files?limit=2", "/api/files?min_confidence=0.9",
        "/api/files?transcript=true", "/api/files?confidences=false", "/api/files?name=a", "/api/search?q=call",
        "/api/search?q=calls", "/api/search?q=call&limit=2", "/api/search?q=call&model=words",
    ]  # fmt: skip
    assert len({scored.http.get(path).headers["etag"] for path in paths}) == len(paths)


def test_settings_that_shape_answers_are_in_the_tag(serve: Serve) -> None:
    with serve() as one, serve(MODEL_CONFIDENCE_THRESHOLD=0.5) as other, serve(BASE_URL="https://a.example") as third:
        tags = {api.http.get("/api/files").headers["etag"] for api in (one, other, third)}
    assert len(tags) == 3


def test_two_processes_give_the_same_tags(serve: Serve) -> None:
    with serve() as here, serve() as there:
        file_id = here.ingested()
        here.scribe.refresh(file_id, {"words": [("call", 0.97)]})
        for path in ("/api/files", "/api/files?limit=3", f"/api/files/{file_id}", "/api/search?q=call"):
            assert here.http.get(path).headers["etag"] == there.http.get(path).headers["etag"]


def test_a_list_that_the_client_has_is_not_read(scored: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = scored.http.get("/api/files").headers["etag"]

    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a list was read")

    monkeypatch.setattr(Listing, "choose", fails)
    monkeypatch.setattr(Listing, "read", fails)
    assert status(scored, "/api/files", tag) == 304


def test_a_file_keeps_its_tag_while_others_change(scored: Api) -> None:
    (first,) = (answer["id"] for answer in scored.files())
    tag = scored.http.get(f"/api/files/{first}").headers["etag"]
    scored.scribe.refresh(scored.ingested(b"another", "b.wav"), {"words": []})
    assert status(scored, f"/api/files/{first}", tag) == 304
    scored.scribe.refresh(uuid.UUID(first), {"words": []})
    assert status(scored, f"/api/files/{first}", tag) == 200


def test_errors_have_no_tag_and_are_never_304(scored: Api) -> None:
    for path in (f"/api/files/{uuid.uuid4()}", "/api/files?model=unknown", f"/api/files?reference={uuid.uuid4()}"):
        assert status(scored, path, "*") == 404
        assert "etag" not in scored.http.get(path).headers


@given(
    tags=st.lists(st.text(st.characters(codec="latin-1", exclude_characters='"', min_codepoint=0x21)), max_size=4),
    joined=st.sampled_from([", ", ",", " ,\t", ",, "]),
)
def test_a_tag_is_found_in_lists_of_any_kind(tags: list[str], joined: str) -> None:
    known = strong(b"content")
    others = [f'"{tag}"' for tag in tags if "\x7f" not in tag]
    assert is_current([joined.join([*others, known])], known)
    assert is_current([*others, f"W/{known}"], known)
    assert not is_current([joined.join(others)], known)


def test_tags_follow_from_what_they_are_of() -> None:
    assert strong(b"a") == strong(b"a") != strong(b"b")
    assert weak(1, "a") == weak(1, "a") != weak(1, "b")
    assert not is_current([], strong(b""))
