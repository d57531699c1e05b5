"""GET /api/references/{reference}/predictions: all that one reference found, in the format that is asked for."""

import io
import json
import uuid
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import blocks
from storage.erasure import erase
from storage.retention import Retention, expire
from tests.api.conftest import Api
from tests.api.test_problems import problem
from tests.storage.conftest import Author

PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture
def author(api: Api) -> Author:
    """Another writer, whose references have several recordings."""
    return Author(api.lake, api.lake.index())


@pytest.fixture
def ids(author: Author) -> list[UUID]:
    return sorted(author.ingest("a", "b", "c"))


@pytest.fixture
def reference(author: Author, ids: list[UUID]) -> UUID:
    """Two models' answers for three recordings."""
    return author.refresh(
        {(id_, model): [("call", 0.25), ("is", 0.5 + at / 8)] for at, id_ in enumerate(ids) for model in "mn"}
    )


def asked(api: Api, reference: object, accept: str | None = None, **parameters: Any) -> httpx.Response:
    headers = {} if accept is None else {"Accept": accept}
    return api.http.get(f"/api/references/{reference}/predictions", params=parameters, headers=headers)


def rows(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the rows of an answer, whatever its format."""
    content, kind = response.raise_for_status().content, response.headers["content-type"]
    if kind == PARQUET:
        return list(pq.read_table(io.BytesIO(content)).to_pylist())
    if kind == ARROW:
        return list(pa.ipc.open_stream(content).read_all().to_pylist())
    assert kind == "application/json"
    return list(json.loads(content))


def test_each_format_has_the_same_rows(api: Api, reference: UUID, ids: list[UUID]) -> None:
    found = [rows(asked(api, reference, accept)) for accept in (None, PARQUET, ARROW)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 12
    assert found[0][1] == {
        "file_id": str(ids[0]),
        "utterance": "is",
        "time": 0.25,
        "end": 0.45,
        "channel": 0,
        "confidence": 0.5,
        "model": "m",
        "model_version": "v1",
    }


def test_many_blocks_are_one_answer(api: Api, reference: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows(asked(api, reference))
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 5)
    monkeypatch.setattr(blocks, "READ_ROWS", 2)
    monkeypatch.setattr("api.formats.JSON_ROWS", 3)
    for accept in (None, PARQUET, ARROW):
        assert rows(asked(api, reference, accept)) == whole


def test_a_reference_that_found_nothing_is_an_empty_table(api: Api, author: Author, ids: list[UUID]) -> None:
    reference = author.refresh({(ids[0], "m"): []})
    for accept in (None, PARQUET, ARROW):
        assert rows(asked(api, reference, accept)) == []
    names = pq.read_schema(io.BytesIO(asked(api, reference, PARQUET).content)).names
    assert names == ["file_id", "utterance", "time", "end", "channel", "confidence", "model", "model_version"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("application/*", "application/json"),
        ("application/JSON;charset=utf-8", "application/json"),
        (f"{PARQUET}, */*;q=0.1", PARQUET),
        (f"application/json;q=0.5, {ARROW};q=0.7, {PARQUET};q=0.6", ARROW),
        (f"application/json;q=0, {ARROW};q=0, */*", PARQUET),
        (f"{PARQUET};q=0, */*;q=0.5", "application/json"),
        (f"{PARQUET};q=nan", PARQUET),
    ],
)
def test_what_a_client_prefers_is_what_it_gets(api: Api, reference: UUID, accept: str, kind: str) -> None:
    answer = asked(api, reference, accept)
    assert answer.headers["content-type"] == kind
    assert answer.headers["vary"] == "Accept"
    assert len(rows(answer)) == 12


@pytest.mark.parametrize("accept", ["text/csv", "application/json;q=0", "nonsense", "a/b/c", ";", "*/*;q=0"])
def test_what_nobody_can_give_is_a_problem_that_says_what_there_is(api: Api, reference: UUID, accept: str) -> None:
    body = problem(asked(api, reference, accept), 406)
    assert body["available"] == ["application/json", PARQUET, ARROW]
    assert body["type"] == "/problems/not-acceptable"


@pytest.mark.parametrize(("name", "kind"), [("json", "application/json"), ("parquet", PARQUET), ("arrow", ARROW)])
def test_a_link_can_name_a_format(api: Api, reference: UUID, name: str, kind: str) -> None:
    answer = asked(api, reference, "text/html", format=name)
    assert answer.headers["content-type"] == kind
    assert len(rows(answer)) == 12


def test_the_file_has_a_name(api: Api, reference: UUID) -> None:
    said = {
        name: asked(api, "latest", format=name).headers["content-disposition"] for name in ("json", "parquet", "arrow")
    }
    assert said == {
        "json": f'inline; filename="reference-{reference}.json"',
        "parquet": f'attachment; filename="reference-{reference}.parquet"',
        "arrow": f'attachment; filename="reference-{reference}.arrows"',
    }


def test_filters_are_applied_together(api: Api, reference: UUID, ids: list[UUID]) -> None:
    assert {row["model"] for row in rows(asked(api, reference, model="n"))} == {"n"}
    assert len(rows(asked(api, reference, utterance="call"))) == 6
    assert len(rows(asked(api, reference, min_confidence=0.7))) == 2
    (row,) = rows(asked(api, reference, PARQUET, model="m", utterance="is", min_confidence=0.5, file_id=ids[1]))
    assert (row["file_id"], row["confidence"]) == (str(ids[1]), 0.625)
    assert rows(asked(api, reference, file_id=uuid.uuid4())) == []


@pytest.mark.parametrize("value", ["' OR 1=1 --", "\0", "x" * 4096, "\u202eelif", "../../etc/passwd", ""])
def test_a_hostile_filter_finds_nothing(api: Api, reference: UUID, value: str) -> None:
    assert rows(asked(api, reference, model=value)) == rows(asked(api, reference, utterance=value)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("min_confidence", "1.1"), ("min_confidence", "nan"), ("file_id", "1"), ("format", "csv")],
)
def test_a_parameter_that_cannot_be_is_named(api: Api, reference: UUID, name: str, value: str) -> None:
    body = problem(asked(api, reference, **{name: value}), 422)
    assert [error["field"] for error in body["errors"]] == [f"query.{name}"]


def test_a_held_reference_can_be_read(api: Api, author: Author, ids: list[UUID]) -> None:
    held = UUID(api.scribe.refresh(ids[0], {"m": [("call", 0.5)]}, held=True))
    assert [row["utterance"] for row in rows(asked(api, held))] == ["call"]


def test_what_was_erased_is_left_out_and_changes_the_etag(
    api: Api, author: Author, reference: UUID, ids: list[UUID]
) -> None:
    before = asked(api, reference)
    known = {"If-None-Match": f'"x", {before.headers["etag"]}'}
    path = f"/api/references/{reference}/predictions"
    unchanged = api.http.get(path, headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == before.headers["etag"]
    assert api.http.get(path, headers=known | {"Accept": PARQUET}).status_code == 200
    assert api.http.get(path, headers=known, params={"model": "m"}).status_code == 200
    erase(author.lake, author.index, [ids[0]], uuid.uuid4())
    after = api.http.get(path, headers=known)
    assert {row["file_id"] for row in rows(after)} == {str(ids[1]), str(ids[2])}
    assert after.headers["etag"] != before.headers["etag"]


def test_any_tag_is_known_where_a_star_asks(api: Api, reference: UUID) -> None:
    path = f"/api/references/{reference}/predictions"
    assert api.http.get(path, headers={"If-None-Match": "*"}).status_code == 304
    for header in ("", "nonsense", '"', 'W/"', '"*"'):
        assert api.http.get(path, headers={"If-None-Match": header}).status_code == 200


def test_unknown_and_expired_references_are_told_apart(
    api: Api, author: Author, reference: UUID, ids: list[UUID]
) -> None:
    problem(asked(api, uuid.uuid4()), 404)
    author.refresh({(ids[0], "m"): []})
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    assert "KEEP_REFERENCES" in problem(asked(api, reference), 410)["detail"]


def test_a_damaged_file_is_a_problem_before_the_answer_begins(api: Api, author: Author, reference: UUID) -> None:
    (file,) = author.index.live_files("predictions")
    (author.lake.store.root / file.path).write_bytes(b"no Parquet")
    assert file.path in problem(asked(api, reference), 503)["detail"]


def test_an_answer_that_breaks_off_does_not_look_whole(
    api: Api, reference: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_off(rows: pa.Table) -> pa.Table:
        if rows.num_rows < 5:
            raise OSError("the disk is gone")
        return rows

    monkeypatch.setattr(blocks, "BLOCK_ROWS", 5)
    monkeypatch.setattr(blocks, "READ_ROWS", 5)
    monkeypatch.setattr("api.predictions.prediction_rows", breaks_off)
    with pytest.raises(httpx.RemoteProtocolError):
        asked(api, reference)
