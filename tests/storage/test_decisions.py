"""Decisions on held references: once each, for good where they publish, and never half of what was asked."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from storage.decisions import reject, release
from storage.errors import PublishedReferenceError, UnknownReferenceError
from storage.history import reference
from storage.index import Index
from storage.lake import Lake
from storage.log import read_entry
from storage.recordings import recordings
from storage.verify import verify

if TYPE_CHECKING:
    from tests.storage.conftest import Author


@pytest.fixture
def held(author: "Author") -> list[UUID]:
    """Three held references, of a recording each."""
    return [author.refresh({(file_id, "m"): []}, held=True) for file_id in author.ingest("a", "b", "c")]


def states(author: "Author", references: list[UUID]) -> list[str]:
    return [reference(author.index, id_).state for id_ in references]


def entries(author: "Author") -> list[tuple[str, UUID | None]]:
    """The decisions in the log."""
    found = [read_entry(author.lake.store, seq) for seq in range(1, author.index.catch_up() + 1)]
    return [(entry.op, entry.reference) for entry in found if entry.op in ("release", "reject")]


def test_each_reference_is_decided_by_an_entry_of_its_own(author: "Author", held: list[UUID]) -> None:
    assert release(author.lake, author.index, held[:1]) == held[:1]
    assert reject(author.lake, author.index, held[1:]) == held[1:]
    assert states(author, held) == ["published", "rejected", "rejected"]
    assert entries(author) == [("release", held[0]), ("reject", held[1]), ("reject", held[2])]
    assert {row.name: row.reference for row in recordings(author.index)} == {"a": held[0], "b": None, "c": None}
    found = {problem.wrong for problem in verify(author.lake).problems}
    assert found == {"the recording was accepted, and its bytes are gone"}, "an author's recordings have none"


def test_what_is_decided_already_is_left_alone(author: "Author", held: list[UUID]) -> None:
    first, second, third = held
    release(author.lake, author.index, [first, first])
    reject(author.lake, author.index, [second])
    at = author.index.catch_up()
    assert release(author.lake, author.index, [first]) == []
    assert reject(author.lake, author.index, [second, second]) == []
    assert author.index.catch_up() == at
    assert release(author.lake, author.index, held) == [second, third], "what was rejected may be released"
    assert states(author, held) == ["published"] * 3
    assert len(entries(author)) == 4


def test_what_was_never_held_is_published_already(author: "Author") -> None:
    (file_id,) = author.ingest("a")
    published = author.refresh({(file_id, "m"): []})
    assert release(author.lake, author.index, [published]) == []
    with pytest.raises(PublishedReferenceError, match=f"{published} is published and cannot be rejected any more"):
        reject(author.lake, author.index, [published])


def test_where_one_cannot_be_decided_none_is(author: "Author", held: list[UUID]) -> None:
    release(author.lake, author.index, held[:1])
    unknown = uuid.uuid4()
    with pytest.raises(PublishedReferenceError):
        reject(author.lake, author.index, [held[1], held[0]])
    for decide in (release, reject):
        with pytest.raises(UnknownReferenceError, match=str(unknown)):
            decide(author.lake, author.index, [held[1], unknown])
    assert states(author, held) == ["published", "held", "held"]


@pytest.fixture
def overtaken(author: "Author", held: list[UUID], monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The index of another host, which has looked at the first reference when somebody else releases it."""
    commit = Lake.commit

    def late(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.undo()
        release(author.lake, author.index, held[:1])
        return commit(*arguments, **keywords)

    with author.lake.index() as other:
        monkeypatch.setattr(Lake, "commit", late)
        yield other


def test_two_hosts_that_release_at_the_same_time_release_once(
    author: "Author", held: list[UUID], overtaken: Index
) -> None:
    assert release(author.lake, overtaken, held[:1]) == held[:1]
    assert entries(author) == [("release", held[0])]


def test_who_rejects_what_others_release_meanwhile_is_told(
    author: "Author", held: list[UUID], overtaken: Index
) -> None:
    with pytest.raises(PublishedReferenceError):
        reject(author.lake, overtaken, held[:1])
    assert states(author, held[:1]) == ["published"]
