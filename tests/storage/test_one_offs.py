"""A one-off, a held refresh with a group of its own, is read by its id, and nothing else takes any notice of it."""

from uuid import UUID

import pytest

from storage.answers import changes
from storage.decisions import reject, release
from storage.drift import count_waiting, held, waiting
from storage.history import reference, state_of
from storage.missing import missing
from storage.recordings import recordings
from storage.snapshot import fold
from tests.storage.conftest import Author


@pytest.fixture(params=["the log", "a snapshot"])
def one_off(request: pytest.FixtureRequest, author: Author) -> UUID:
    """The reference: of a recording with an answer, and of one without."""
    author.group({"m": "v1"})
    old, new = author.ingest("old.wav", "new.wav")
    author.refresh({(old, "m"): [("x", 0.5)]})
    made = author.refresh({(one, "m"): [("once", 0.9)] for one in (old, new)}, "once", one_off=True)
    author.index.catch_up()
    if request.param == "a snapshot":
        assert fold(author.lake.store, author.index, after=1)
        author.index.close()
        author.index = author.lake.index()
        assert author.index.start_seq == author.index.applied_seq
    return made


def test_recordings_are_as_they_were(author: Author, one_off: UUID) -> None:
    index = author.index
    shown = {one.name: one for one in recordings(index)}
    assert (shown["old.wav"].status, shown["new.wav"].status) == ("accepted", "accepted")
    assert shown["old.wav"].reference not in (None, one_off)
    assert shown["new.wav"].reference is None
    assert index.undecided() == []


def test_its_answers_neither_wait_nor_count(author: Author, one_off: UUID) -> None:
    rows = missing(author.index, [("m", "v1")], author.now())
    assert [row.file_id for row in rows] == [shown.file_id for shown in recordings(author.index) if not shown.reference]
    assert len(missing(author.index, [("m", "once")], author.now())) == 2, "nor are they carried"


def test_drift_neither_decides_on_it_nor_counts_its_recordings(author: Author, one_off: UUID) -> None:
    index = author.index
    assert held(index) == []
    assert len(waiting(index)) == count_waiting(index) == 1
    assert changes(index) == []


def test_it_says_with_which_models_it_was_made(author: Author, one_off: UUID) -> None:
    (model,) = reference(author.index, one_off).models
    assert (model.version, model.settings) == ("once", {"phrases": ["once"]})
    assert author.index.group_seq == 1


def test_whoever_asks_for_it_may_release_or_reject_it(author: Author, one_off: UUID) -> None:
    index = author.index
    assert state_of(index, one_off) == "held"
    assert reject(author.lake, index, [one_off]) == [one_off]
    assert release(author.lake, index, [one_off]) == [one_off]
    index.catch_up()
    assert {one.reference for one in recordings(index)} == {one_off}
