"""GET /api/files: all files as one array that is streamed, or in pages that are linked."""

import json
import logging
import re
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx
import pytest

from api import files
from storage.errors import StoreError
from storage.listing import Listing
from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager[Api]]
LINK = re.compile(r'<([^>]*)>; rel="next"')


@pytest.fixture
def full(api: Api) -> tuple[Api, list[str]]:
    """Five files, of which two are pending and one is rejected; their ids, in order."""
    ids = [str(api.ingested(name.encode(), name)) for name in ("1.wav", "2.wav")]
    for file_id in ids:
        api.scribe.refresh(UUID(file_id), {"words": [("call", 0.97), ("is", 0.2)]})
    ids.append(api.upload(b"3", "3.wav").json()["id"])
    api.scribe.ingest(rejected=True)
    ids += [api.upload(name.encode(), name).json()["id"] for name in ("4.wav", "5.wav")]
    return api, sorted(ids)


def walked(api: Api, **query: object) -> list[list[dict]]:
    """Every page, by the links from one to the next."""
    pages = []
    answer = api.http.get("/api/files", params={key: str(value) for key, value in query.items()}).raise_for_status()
    while True:
        pages.append(answer.json())
        if "link" not in answer.headers:
            return pages
        (url,) = LINK.fullmatch(answer.headers["link"]).groups()  # type: ignore[union-attr]
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://localhost:8000/api/files"
        assert dict(parse_qsl(parts.query)).items() >= {key: str(value) for key, value in query.items()}.items()
        answer = api.http.get(f"/api/files?{parts.query}").raise_for_status()


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 1000])
def test_pages_that_are_linked_are_the_whole_list(full: tuple[Api, list[str]], limit: int) -> None:
    api, ids = full
    pages = walked(api, limit=limit, transcript="true")
    assert [answer for page in pages for answer in page] == api.files(transcript=True)
    assert [answer["id"] for page in pages for answer in page] == ids
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert pages[-1]


def test_a_page_with_very_much_to_show_is_shorter(full: tuple[Api, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    api, ids = full
    monkeypatch.setattr(files, "ROWS_A_PAGE", 1)
    pages = walked(api, limit=5, transcript="true")
    assert len(pages) > 1
    assert [answer["id"] for page in pages for answer in page] == ids


def test_links_keep_what_was_asked_whatever_it_is(full: tuple[Api, list[str]]) -> None:
    api, _ = full
    hostile = ".wav"
    pages = walked(api, limit=2, name=hostile, min_confidence="0.1", extra='"><a>&;\r\nX: y')
    assert [len(page) for page in pages] == [2, 2, 1]


@pytest.mark.parametrize("files_at_once", [1, 2, 3, 300])
def test_a_streamed_list_is_one_array_however_it_is_read(
    full: tuple[Api, list[str]], files_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, ids = full
    monkeypatch.setattr(files, "FILES_AT_ONCE", files_at_once)
    answer = api.http.get("/api/files")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert [one["id"] for one in answer.json()] == ids
    monkeypatch.setattr(files, "ROWS_AT_ONCE", 0)
    assert api.files() == answer.json()
    assert api.files(after=ids[1]) == answer.json()[2:]
    assert api.files(after=ids[-1]) == []


def test_each_file_in_a_list_is_what_it_is_alone(full: tuple[Api, list[str]]) -> None:
    api, _ = full
    for query in ({}, {"min_confidence": 0}, {"transcript": True}, {"confidences": False}):
        assert api.files(**query) == [api.file(answer["id"], **query) for answer in api.files()]
        assert api.files(**query, limit=9) == api.files(**query)


def test_confidences_can_be_left_out(full: tuple[Api, list[str]]) -> None:
    api, ids = full
    for answer in (
        *api.files(confidences=False),
        *api.files(confidences=False, limit=9),
        api.file(ids[0], confidences=False),
    ):
        assert "confidences" not in answer
    scored = next(answer["id"] for answer in api.files(status="accepted"))
    assert "confidences" not in api.file(f"{scored}/words", confidences=False)
    assert "confidences" not in api.file(scored, confidences=False, reference=api.file(scored)["reference"])


@pytest.mark.parametrize(
    ("query", "field", "limit"),
    [
        ({"limit": "0"}, "query.limit", "1"),
        ({"limit": "1001"}, "query.limit", "1000"),
        ({"limit": "many"}, "query.limit", "integer"),
        ({"after": "nonsense"}, "query.after", "UUID"),
        ({"status": "lost"}, "query.status", "held"),
        ({"min_confidence": "nan"}, "query.min_confidence", "number"),
        ({"min_confidence": "1.01"}, "query.min_confidence", "1"),
        ({"name": ""}, "query.name", "1"),
        ({"name": "x" * 256}, "query.name", "255"),
        ({"utterance": "x" * 201}, "query.utterance", "200"),
        ({"model": ""}, "query.model", "1"),
        ({"since": "1769860800"}, "query.since", "RFC 3339"),
        ({"since": "2026-01-31T12:00:00"}, "query.since", "RFC 3339"),
        ({"since": "2026-02-31T12:00:00Z"}, "query.since", "day"),
        ({"reference": "latest"}, "query.reference", "UUID"),
        ({"confidences": "maybe"}, "query.confidences", "bool"),
    ],
)
def test_a_bad_value_is_named_with_its_limit(api: Api, query: dict[str, str], field: str, limit: str) -> None:
    answer = api.http.get("/api/files", params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert limit in error["message"]


def test_a_list_that_fails_in_its_middle_is_cut_and_logged(
    full: tuple[Api, list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api, ids = full
    monkeypatch.setattr(files, "FILES_AT_ONCE", 1)
    read = Listing.choose

    def fails(listing: Listing, wanted: object, after: UUID | None, *rest: object, **options: object) -> object:
        if str(after) == ids[1]:
            raise StoreError("the disk is gone")
        return read(listing, wanted, after, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Listing, "choose", fails)
    received: list[bytes] = []
    with caplog.at_level(logging.ERROR), api.http.stream("GET", "/api/files") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(answer.iter_raw())
    with pytest.raises(json.JSONDecodeError):
        json.loads(b"".join(received))
    assert "broke off" in caplog.text
    assert "the disk is gone" in caplog.text


def test_a_list_that_fails_at_once_is_a_problem(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.ingested()

    def fails(*_: object, **__: object) -> object:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Listing, "choose", fails)
    for query in ({}, {"limit": 3}):
        answer = api.http.get("/api/files", params=query)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


def test_a_client_that_leaves_early_ends_its_list(full: tuple[Api, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    api, ids = full
    monkeypatch.setattr(files, "FILES_AT_ONCE", 1)
    with api.http.stream("GET", "/api/files") as answer:
        next(answer.iter_raw())
    assert [one["id"] for one in api.files()] == ids


@pytest.mark.parametrize(
    "path", ["/api/files", "/api/files/", "/api/files?limit=2", "/api/files/{id}", "/api/files/{id}/"]
)
def test_head_answers_as_get_does_without_a_body(full: tuple[Api, list[str]], path: str) -> None:
    api, ids = full
    path = path.format(id=ids[0])
    head, get = api.http.head(path), api.http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "cache-control", "content-type", "link"):
        assert head.headers.get(name) == get.headers.get(name)
    if "content-length" in head.headers:
        assert head.headers["content-length"] == get.headers["content-length"]


def test_a_file_that_is_taken_in_meanwhile_is_there_once(full: tuple[Api, list[str]]) -> None:
    api, ids = full
    first = api.http.get("/api/files", params={"limit": 2}).json()
    api.scribe.ingest()
    rest = api.http.get("/api/files", params={"limit": 9, "after": first[-1]["id"]}).json()
    assert [answer["id"] for answer in first + rest] == ids
    assert {answer["status"] for answer in rest} <= {"accepted", "rejected"}


def test_an_unknown_file_is_said_without_reading_them_all(full: tuple[Api, list[str]]) -> None:
    api, ids = full
    answer = api.http.get(f"/api/files/{uuid.uuid4()}").json()
    assert "5 files are known" in answer["detail"]
    assert set(answer["known"]) == set(ids)


def test_two_hosts_page_alike(serve: Serve) -> None:
    with serve() as here, serve() as there:
        for number in range(4):
            here.upload(str(number).encode(), f"{number}.wav")
        here.scribe.ingest()
        here.upload(b"late", "late.wav")
        assert walked(here, limit=2) == walked(there, limit=2)
