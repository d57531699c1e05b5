"""GET /api/files/{file_id}?reference=: what an older reference said, for as long as it is kept."""

import uuid

import pytest

from storage.retention import Retention, expire
from tests.api.conftest import Api


@pytest.fixture
def rescored(api: Api) -> tuple[Api, str, list[str]]:
    """A recording that three references scored, each otherwise."""
    file_id = api.ingested()
    api.scribe.group("m")
    labels = (["one"], ["one", "two"], [])
    return (
        api,
        str(file_id),
        [api.scribe.refresh(file_id, {"m": [(label, 0.95) for label in found]}) for found in labels],
    )


def test_each_reference_shows_what_it_said(rescored: tuple[Api, str, list[str]]) -> None:
    api, file_id, references = rescored
    shown = [api.file(file_id, reference=reference, transcript=True) for reference in references]
    assert [[found["utterance"] for found in one["confidences"]] for one in shown] == [["one"], ["one", "two"], []]
    assert [one["reference"] for one in shown] == references
    assert shown[-1] == api.file(file_id, transcript=True)


def test_unknown_references_and_files_are_told_apart(rescored: tuple[Api, str, list[str]]) -> None:
    api, file_id, references = rescored
    other = api.ingested(b"another")
    for path, reference, said in (
        (file_id, str(uuid.uuid4()), "no refresh has made"),
        (other, references[0], "does not contain"),
    ):
        answer = api.http.get(f"/api/files/{path}", params={"reference": reference})
        assert answer.status_code == 404
        assert said in answer.json()["detail"]
    assert api.http.get(f"/api/files/{file_id}", params={"reference": "nonsense"}).status_code == 422


def test_an_expired_reference_is_gone_and_the_latest_is_not(rescored: tuple[Api, str, list[str]]) -> None:
    api, file_id, references = rescored
    before = api.file(file_id)
    with api.lake.index() as index:
        expire(api.lake, index, Retention(keep_references=1), uuid.uuid4())
    answer = api.http.get(f"/api/files/{file_id}", params={"reference": references[0]})
    assert answer.status_code == 410
    assert "KEEP_REFERENCES" in answer.json()["detail"]
    assert api.file(file_id) == before
    assert api.file(file_id, reference=references[2])["confidences"] == []
