"""What is missing: what a recording's latest reference lacks of the enabled models, and nothing else."""

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from storage.missing import MAX_TRIES, Again, Missing, answers_kept, missing
from storage.snapshot import fold
from tests.storage.conftest import START

if TYPE_CHECKING:
    from tests.storage.conftest import Author

V1, V2 = [("words", "v1")], [("words", "v2")]


def owed(author: "Author", enabled: list[tuple[str, str]]) -> list[Missing]:
    return missing(author.index, enabled, author.now())


def fail(author: "Author", file_id: UUID, tries: int, pause: timedelta = timedelta(0)) -> None:
    """Publish a reference in which the model failed; its pause starts now."""
    row = author.coverage_row(
        file_id, "words", state="failed", reason="broken", tries=tries, next_try_at=author.now() + pause
    )
    author.commit("refresh", coverage=[row])


def test_a_new_recording_lacks_every_enabled_model(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    rows = owed(author, [("words", "v1"), ("scene", "v7")])
    assert [(row.file_id, row.model, row.model_version) for row in rows] == [
        (file_id, "scene", "v7"),
        (file_id, "words", "v1"),
    ]
    assert {(row.tries, row.kept_seq) for row in rows} == {(0, None)}
    assert owed(author, []) == []


def test_a_model_that_found_nothing_is_not_missing(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): []})
    assert owed(author, V1) == []


def test_the_newest_recordings_are_served_first(author: "Author") -> None:
    first, second = author.ingest("a.wav", "b.wav")
    (third,) = author.ingest("c.wav")
    assert [row.file_id for row in owed(author, V1)] == [third, second, first]


def test_a_rejected_recording_lacks_nothing(author: "Author") -> None:
    author.ingest("noise.txt", status="rejected")
    assert owed(author, V1) == []


def test_another_version_is_missing_again_and_a_version_that_returns_is_carried(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): [("call", 0.9)]})
    assert [(row.model_version, row.kept_seq) for row in owed(author, V2)] == [("v2", None)]
    author.refresh({(file_id, "words"): []}, version="v2")
    assert owed(author, V2) == []
    assert [(row.model_version, row.kept_seq) for row in owed(author, V1)] == [("v1", 2)]


def test_a_model_that_is_enabled_again_is_carried_from_the_newest_entry_that_holds_it(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    for _ in range(2):
        author.refresh({(file_id, "words"): [], (file_id, "scene"): []})
    author.refresh({(file_id, "words"): []})
    assert [(row.model, row.kept_seq) for row in owed(author, [*V1, ("scene", "v1")])] == [("scene", 3)]


@pytest.mark.parametrize("tries", range(1, MAX_TRIES))
def test_a_failure_with_tries_left_is_missing_after_its_pause_and_not_before(author: "Author", tries: int) -> None:
    (file_id,) = author.ingest("a.wav")
    fail(author, file_id, tries, pause=timedelta(hours=1))
    now = author.now()
    assert missing(author.index, V1, now) == []
    later = missing(author.index, V1, now + timedelta(hours=2))
    assert [(row.file_id, row.tries, row.kept_seq) for row in later] == [(file_id, tries, None)]


def test_a_failure_without_tries_left_is_never_missing(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    fail(author, file_id, MAX_TRIES)
    assert missing(author.index, V1, author.now() + timedelta(days=10_000)) == []
    assert [row.tries for row in owed(author, V2)] == [0]


def test_a_failure_is_not_carried_in_place_of_an_answer(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): []})
    fail(author, file_id, 1)
    assert [(row.tries, row.kept_seq) for row in owed(author, V1)] == [(1, 2)]
    assert answers_kept(author.index, frozenset({file_id}), V1) == {(file_id, "words"): 2}


def test_answers_are_kept_by_recording_and_model_in_their_newest_entry(author: "Author") -> None:
    first, second, third = author.ingest("a.wav", "b.wav", "c.wav")
    author.refresh({(first, "words"): [], (second, "words"): []})
    author.refresh({(first, "words"): []})
    author.refresh({(first, "words"): []}, version="v2")
    fail(author, third, 1)
    everything = frozenset({first, second, third})
    assert answers_kept(author.index, everything, V1) == {
        (first, "words"): 3,
        (second, "words"): 2,
        (third, "words"): 5,
    }
    assert answers_kept(author.index, everything, V2) == {(first, "words"): 4}
    assert answers_kept(author.index, frozenset({second}), V2) == {}
    assert answers_kept(author.index, frozenset(), V1) == {}


def hold(author: "Author", file_id: UUID, *models: str, version: str = "v1", **changes: object) -> UUID:
    """Hold a reference back in which models answered."""
    reference = uuid.uuid4()
    rows = [author.coverage_row(file_id, model, version, **changes) for model in models]
    author.commit("refresh", reference=reference, held=True, coverage=rows)
    return reference


@pytest.mark.parametrize(
    "changes",
    [{}, {"state": "failed", "reason": "broken", "tries": 1, "next_try_at": START}],
    ids=["answer", "failure"],
)
def test_what_is_held_waits_and_is_missing_again_once_it_is_rejected(author: "Author", changes: dict) -> None:
    waits, new = author.ingest("a.wav", "b.wav")
    reference = hold(author, waits, "words", **changes)
    assert [row.file_id for row in owed(author, V1)] == [new]
    author.commit("reject", reference=reference)
    assert {(row.file_id, row.tries, row.kept_seq) for row in owed(author, V1)} == {(waits, 0, None), (new, 0, None)}


def test_what_is_released_is_not_missing(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.commit("release", reference=hold(author, file_id, "words"))
    assert owed(author, V1) == []
    assert answers_kept(author.index, frozenset({file_id}), V1) == {(file_id, "words"): 2}


@pytest.mark.parametrize("enabled", [[*V1, ("scene", "v1")], V2], ids=["another model", "another version"])
def test_with_anything_else_that_is_missing_a_recording_is_computed_whole(
    author: "Author", enabled: list[tuple[str, str]]
) -> None:
    (file_id,) = author.ingest("a.wav")
    reference = hold(author, file_id, "words")
    everything = [(name, version, None, ()) for name, version in sorted(enabled)]
    for decision in (None, "reject"):
        if decision:
            author.commit(decision, reference=reference)
        rows = [(row.model, row.model_version, row.kept_seq, row.read_seqs) for row in owed(author, enabled)]
        assert rows == everything, "nothing is kept of what is held or rejected, not even its texts"
        assert answers_kept(author.index, frozenset({file_id}), enabled) == {}


def test_a_failure_that_was_tried_again_in_a_held_reference_waits(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    fail(author, file_id, 1)
    assert len(owed(author, V1)) == 1
    reference = hold(author, file_id, "words", state="failed", reason="broken", tries=2, next_try_at=START)
    assert owed(author, V1) == []
    author.commit("release", reference=reference)
    assert [row.tries for row in owed(author, V1)] == [2]


def test_what_an_unavailable_model_lacks_makes_nothing_missing_unless_it_is_kept_or_computed(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    enabled, now = [*V1, ("scene", "v1")], author.now()
    assert [row.model for row in missing(author.index, enabled, now, {"scene"})] == ["words"]
    hold(author, file_id, "words")
    assert missing(author.index, enabled, now, {"scene"}) == []
    assert len(missing(author.index, enabled, now, {"scene"}, {(file_id, "scene", "v2")})) == 0
    assert len(missing(author.index, enabled, now, {"scene"}, {(file_id, "scene", "v1")})) == 2
    author.refresh({(file_id, "scene"): []})
    author.refresh({(file_id, "other"): []})
    assert [(row.model, row.kept_seq) for row in missing(author.index, enabled, now, {"scene"})] == [
        ("scene", 3),
        ("words", None),
    ]


def test_what_is_held_is_known_to_an_index_that_begins_at_a_snapshot(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    reference = hold(author, file_id, "words")
    fold(author.lake.store, author.index, after=1)
    author.index = author.lake.index()
    assert author.index.start_seq == 2
    assert owed(author, V1) == []
    author.commit("reject", reference=reference)
    assert len(owed(author, V1)) == 1


def test_what_is_asked_for_again_is_missing_whatever_is_there(author: "Author") -> None:
    first, second = author.ingest("a.wav", "b.wav")
    author.refresh({(file_id, model): [] for file_id in (first, second) for model in ("words", "scene")})
    again = Again(frozenset([first]), frozenset(["scene"]))
    both = [("words", "v1"), ("scene", "v1")]
    (row,) = missing(author.index, both, author.now(), again=again)
    assert (row.file_id, row.model, row.kept_seq, row.read_seqs) == (first, "scene", None, ())
    assert missing(author.index, both, author.now(), {"scene"}, again=again) == [], "but for what cannot be had"
    at_hand = {(first, "scene", "v1")}
    assert len(missing(author.index, both, author.now(), {"scene"}, at_hand, again)) == 1


def test_a_failure_is_tried_again_from_the_start_when_it_is_asked_for(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    fail(author, file_id, tries=MAX_TRIES, pause=timedelta(hours=1))
    assert owed(author, V1) == []
    (row,) = missing(author.index, V1, author.now(), again=Again(frozenset([file_id]), frozenset(["words"])))
    assert row.tries == 0


def test_what_waits_is_computed_when_it_is_asked_for(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    author.refresh({(file_id, "words"): []}, held=True)
    assert owed(author, V1) == []
    assert len(missing(author.index, V1, author.now(), again=Again(frozenset([file_id]), frozenset(["words"])))) == 1
