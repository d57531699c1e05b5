"""GET /api/search: utterances of latest references by whole words."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest

from storage import searching
from storage.snapshot import fold
from tests.api.conftest import Api

Serve = Callable[..., AbstractContextManager[Api]]

LINK = re.compile(r'<http://localhost:8000(/api/search\?[^>]*)>; rel="next"')
FIRST = "Ever tried, ever failed: no matter! Don't stop."
SECOND = "Die Straße, CAFÉ und\u00a0Musik"


@pytest.fixture
def spoken(api: Api) -> Api:
    """Two files, whose texts are what `scribe` makes of labels."""
    for name, texts in {"a.wav": {"words": FIRST, "other": "ever after"}, "b.wav": {"words": SECOND}}.items():
        file_id = api.ingested(name.encode(), name)
        api.scribe.refresh(file_id, {model: [(text, 0.97)] for model, text in texts.items()})
    return api


def found(api: Api, q: str, **query: Any) -> list[str]:
    return [hit["text"] for hit in api.http.get("/api/search", params={"q": q, **query}).raise_for_status().json()]


def test_a_hit_says_where_it_is(spoken: Api) -> None:
    (hit,) = spoken.http.get("/api/search", params={"q": "failed"}).json()
    (file,) = spoken.files(name="a.wav")
    assert hit == {
        "id": file["id"],
        "file": "a.wav",
        "url": file["url"],
        "channel": 0,
        "time": 0.25,
        "end": 1.0,
        "text": FIRST,
        "model": "words",
        "model_version": "v1",
        "reference": file["reference"],
    }


@pytest.mark.parametrize(
    "q",
    [
        "failed", "FAILED ever", "matter tried", '"ever failed"', '"EVER  FAILED no"', "don't", "don\u2019t",
        "failed: no!", "\u201cno matter\u201d", '"ever failed" stop', '"no matter', "ever-failed", "tried\0",
        "\u202efailed", "failed%",
    ],
)  # fmt: skip
def test_words_are_found_whole_whatever_is_around_them(spoken: Api, q: str) -> None:
    assert found(spoken, q) == [FIRST]


@pytest.mark.parametrize(
    "q",
    [
        "fail", "iled", "ever never", '"failed ever"', '"tried failed"', "don", "%", "_", "fail%", "e.er", ".*", "?!",
        '""', "' OR 1=1 --",
    ],
)  # fmt: skip
def test_parts_of_words_other_orders_and_patterns_are_not(spoken: Api, q: str) -> None:
    assert found(spoken, q) == []


@pytest.mark.parametrize("q", ["straße", "STRASSE", "café", "cafe\u0301", "CAFE\u0301 musik", '"und musik"'])
def test_letters_are_the_same_however_they_are_written(spoken: Api, q: str) -> None:
    assert found(spoken, q) == [SECOND]


def test_of_one_model(spoken: Api) -> None:
    assert sorted(found(spoken, "ever")) == sorted([FIRST, "ever after"])
    assert found(spoken, "ever", model="other") == ["ever after"]
    answer = spoken.http.get("/api/search", params={"q": "ever", "model": "mood"})
    assert (answer.status_code, answer.json()["known"]) == (404, ["other", "words"])


def test_only_latest_references_count(spoken: Api) -> None:
    (file,) = spoken.files(name="a.wav")
    spoken.scribe.refresh(UUID(file["id"]), {"words": [("something else", 0.9)]})
    assert found(spoken, "ever") == []
    assert found(spoken, "else") == ["something else"]


def test_pages_are_linked_also_within_a_file(api: Api) -> None:
    ids = [api.ingested(str(number).encode(), f"{number}.wav") for number in range(4)]
    for file_id in ids:
        api.scribe.refresh(file_id, {model: [(f"call {model}", 0.9)] for model in ("a", "b", "c")})
    every = api.http.get("/api/search", params={"q": "call"})
    assert len(every.json()) == 12
    assert "link" not in every.headers
    assert [(hit["id"], hit["model"]) for hit in every.json()] == sorted(
        (str(file_id), model) for file_id in ids for model in ("a", "b", "c")
    )
    for limit in (1, 2, 3, 5, 12):
        hits, path = [], f"/api/search?q=call&limit={limit}"
        while path:
            answer = api.http.get(path).raise_for_status()
            hits += answer.json()
            link = LINK.fullmatch(answer.headers.get("link", ""))
            path = link[1] if link else ""
        assert hits == every.json()


def test_a_search_that_finds_little_stops_and_says_where_to_go_on(
    spoken: Api, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spoken.lake.index() as index:
        fold(spoken.lake.store, index, after=1)
    monkeypatch.setattr(searching, "WINDOWS", (1,))
    monkeypatch.setattr(searching, "RECORDINGS_AT_ONCE", 1)
    with serve() as api:
        pages, path = [], "/api/search?q=failed"
        while path:
            answer = api.http.get(path).raise_for_status()
            pages.append([hit["text"] for hit in answer.json()])
            link = LINK.fullmatch(answer.headers.get("link", ""))
            path = link[1] if link else ""
    assert sorted(pages) == [[], [], [FIRST]]


@pytest.mark.parametrize("candidates", [1, 2])
def test_more_texts_than_are_read_at_once_are_all_found(
    spoken: Api, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "CANDIDATES", candidates)
    assert sorted(found(spoken, "ever")) == sorted([FIRST, "ever after"])
    assert found(spoken, "musik") == [SECOND]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "query.q"),
        ({"q": ""}, "query.q"),
        ({"q": "x" * 201}, "query.q"),
        ({"q": "x", "limit": "0"}, "query.limit"),
        ({"q": "x", "limit": "1001"}, "query.limit"),
        ({"q": "x", "after": "nonsense"}, "query.after"),
        ({"q": "x", "after": f"{UUID(int=1)}.x"}, "query.after"),
    ],
)
def test_a_bad_value_is_named(api: Api, query: dict[str, str], field: str) -> None:
    answer = api.http.get("/api/search", params=query)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_a_lake_without_texts_has_no_hits(api: Api) -> None:
    assert found(api, "anything") == []
    api.ingested()
    assert found(api, "anything") == []
