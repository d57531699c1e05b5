"""What waits for a window, what is held, and what windows said."""

import uuid
from uuid import UUID

from storage.drift import (
    active_baseline,
    closed_at,
    count_waiting,
    count_windows,
    held,
    is_drifting,
    turns,
    verdicts,
    waiting,
    windows,
    windows_of_reference,
)
from storage.erasure import erase, purge
from storage.snapshot import fold
from storage.verify import verify
from tests.storage.conftest import Author


def answered(author: Author, *names: str, held: bool = False) -> tuple[UUID, list[UUID]]:
    """Take recordings in and answer for them in one refresh; return its reference and their ids, in order."""
    ids = sorted(author.ingest(*names))
    return author.refresh({(id_, "m"): [] for id_ in ids}, held=held), ids


def waits(author: Author) -> list[UUID]:
    author.index.catch_up()
    return [one.file_id for one in waiting(author.index)]


def test_recordings_wait_in_the_order_in_which_they_came(author: Author) -> None:
    _, later = answered(author, "c", "d")
    _, latest = answered(author, "a", "b")
    assert waits(author) == [*later, *latest]
    assert [one.utterances for one in waiting(author.index)] == [1, 1, 1, 1]
    assert count_waiting(author.index) == 4
    assert [count_waiting(author.index, seq=seq) for seq in range(1, 6)] == [0, 2, 0, 2, 0]


def test_a_recording_that_is_answered_again_waits_once_in_its_first_place(author: Author) -> None:
    _, (first,) = answered(author, "a")
    _, (second,) = answered(author, "b")
    author.refresh({(first, "m"): []}, version="v2")
    assert waits(author) == [first, second]


def test_what_is_in_a_baseline_or_a_window_does_not_wait(author: Author) -> None:
    _, ids = answered(author, "a", "b", "c")
    author.baseline(ids[:1])
    assert waits(author) == ids[1:]
    author.window(ids[1:2], "no_drift")
    assert waits(author) == ids[2:]
    author.refresh({(id_, "m"): [] for id_ in ids}, version="v2")
    assert waits(author) == ids[2:], "a new version brings none of them back"


def test_neither_the_demo_nor_what_failed_waits(author: Author) -> None:
    row = author.file_row("demo")
    author.commit("ingest", files=[row], sources=[author.source_row(row["file_id"], "demo", kind="demo")])
    author.refresh({(row["file_id"], "m"): []})
    (failed,) = author.ingest("failed")
    author.commit("refresh", reference=uuid.uuid4(), coverage=[author.coverage_row(failed, "m", state="failed")])
    assert waits(author) == []


def test_of_a_rejected_reference_recordings_come_again_once_they_are_computed_again(author: Author) -> None:
    reference, ids = answered(author, "a", "b", held=True)
    author.window(ids, "drift")
    assert waits(author) == []
    author.commit("reject", reference=reference)
    assert waits(author) == [], "what was rejected is no answer"
    author.refresh({(id_, "m"): [] for id_ in ids}, held=True)
    assert waits(author) == ids
    author.window(ids, "no_drift")
    assert waits(author) == []


def test_recordings_of_a_baseline_do_not_come_again_though_their_reference_was_rejected(author: Author) -> None:
    reference, ids = answered(author, "a", "b", held=True)
    author.baseline(ids[:1])
    author.commit("reject", reference=reference)
    author.refresh({(id_, "m"): [] for id_ in ids}, held=True)
    assert waits(author) == ids[1:]


def test_held_refreshes_are_known_with_what_their_windows_said(author: Author) -> None:
    drifted, first = answered(author, "a", held=True)
    quiet, second = answered(author, "b", held=True)
    answered(author, "c")
    author.window(first, "no_drift", "drift")
    author.window(second, "no_drift")
    found = {one.reference: one for one in held(author.index)}
    assert {reference: one.has_drifted for reference, one in found.items()} == {drifted: True, quiet: False}
    assert found[quiet].file_ids == set(second)
    author.commit("release", reference=drifted)
    again = author.refresh({(first[0], "m"): []}, version="v2", held=True)
    author.index.catch_up()
    assert {one.reference: one.has_drifted for one in held(author.index)} == {quiet: False, again: False}


def test_windows_say_together_what_their_tests_say(author: Author) -> None:
    ids = answered(author, *"abcd")[1]
    said = [("insufficient",), ("no_drift", "insufficient"), ("drift", "no_drift"), ("insufficient",)]
    drifting = []
    for id_, of_one in zip(ids, said, strict=True):
        author.window([id_], *of_one)
        drifting.append(is_drifting(author.index))
    found = windows(author.index)
    assert [one.verdict for one in reversed(found)] == ["insufficient", "no_drift", "drift", "insufficient"]
    assert drifting == [False, False, True, True], "what is insufficient says nothing"
    assert [test.descriptor for test in found[1].tests] == ["d0", "d1"]
    assert [one.window_id for one in windows(author.index, limit=1, before_seq=found[1].seq)] == [found[2].window_id]
    assert sorted(closed_at(author.index)) == [one.closed_at for one in reversed(found)]


def test_a_reference_has_the_windows_that_its_recordings_came_in(author: Author) -> None:
    first, (a, b) = answered(author, "a", "b")
    second, (c,) = answered(author, "c")
    one, other = author.window([a], "no_drift"), author.window([b, c], "drift")
    made = author.index.query("SELECT reference, seq FROM entries WHERE op = 'refresh'")
    seqs = {row["reference"]: row["seq"] for row in made}
    assert [found.window_id for found in windows_of_reference(author.index, first, seqs[first])] == [other, one]
    assert [found.window_id for found in windows_of_reference(author.index, second, seqs[second])] == [other]


def test_windows_are_found_and_counted_by_what_they_say(author: Author) -> None:
    assert windows(author.index, verdict="drift") == []
    assert count_windows(author.index) == {"model_change": 0, "drift": 0, "no_drift": 0, "insufficient": 0}
    reference, ids = answered(author, *"abcde")
    said = [("no_drift", "drift"), ("no_drift", "insufficient"), ("insufficient",), ("drift",), ("no_drift",)]
    made = [author.window([id_], *of_one) for id_, of_one in zip(ids, said, strict=True)]
    change = author.model_change(reference)
    author.index.catch_up()
    assert count_windows(author.index) == {"model_change": 1, "drift": 2, "no_drift": 2, "insufficient": 1}
    drifted = windows(author.index, verdict="drift")
    assert [one.window_id for one in drifted] == [made[3], made[0]]
    assert len(drifted[1].tests) == 2, "all its tests, not only those that say so"
    assert windows(author.index, verdict="drift", limit=1) == drifted[:1]
    assert windows(author.index, verdict="drift", before_seq=drifted[0].seq) == drifted[1:]
    assert [one.window_id for one in windows(author.index, verdict="insufficient")] == [made[2]]
    assert [one.window_id for one in windows(author.index, verdict="model_change")] == [change]


def test_references_say_together_what_their_windows_say(author: Author) -> None:
    drifted, (a, b, c) = answered(author, "a", "b", "c")
    quiet, (d,) = answered(author, "d")
    new, (e,) = answered(author, "e")
    author.baseline([a])
    author.window([b], "insufficient")
    author.model_change(new)
    made = author.index.query("SELECT reference, seq FROM entries WHERE op = 'refresh'")
    seqs = {row["reference"]: row["seq"] for row in made}
    assert verdicts(author.index, seqs) == {drifted: "insufficient"}
    author.window([c, d], "no_drift")
    author.index.catch_up()
    assert verdicts(author.index, seqs) == {drifted: "no_drift", quiet: "no_drift"}
    author.window([e], "drift")
    author.index.catch_up()
    assert verdicts(author.index, seqs) == {drifted: "no_drift", quiet: "no_drift", new: "drift"}
    assert verdicts(author.index, {new: seqs[new]}) == {new: "drift"}
    assert verdicts(author.index, {}) == {}
    erase(author.lake, author.index, [e], uuid.uuid4())
    assert verdicts(author.index, {new: seqs[new]}) == {new: "drift"}, "its window still knows it"
    assert len(windows_of_reference(author.index, new, seqs[new])) == 2


def test_drift_turns_with_a_window_that_says_something_else_than_the_last_one(author: Author) -> None:
    reference, ids = answered(author, *"abcd")
    author.baseline(ids[:1])
    for id_, verdict in zip(ids[1:], ("drift", "insufficient", "no_drift"), strict=True):
        author.window([id_], verdict)
    author.index.catch_up()
    head = author.index.applied_seq
    found = turns(author.index, range(1, head + 1))
    assert {seq: (turn.has_begun, turn.descriptors) for seq, turn in found.items()} == {
        head - 2: (True, ("d0",)),
        head: (False, ()),
    }
    assert {turn.reference for turn in found.values()} == {reference}
    assert list(turns(author.index, [head])) == [head], "told alone, it is the same"


def test_the_baseline_that_was_made_last_is_the_active_one(author: Author) -> None:
    assert active_baseline(author.index) is None
    ids = answered(author, "a", "b")[1]
    author.baseline(ids, name="first")
    chosen = author.baseline(ids[:1], name="quiet days")
    found = active_baseline(author.index)
    assert found is not None
    assert (found.baseline_id, found.name, found.version, found.recordings) == (chosen, "quiet days", 1, 1)


def test_a_window_outlives_its_recordings_and_a_snapshot_has_it(author: Author) -> None:
    reference, ids = answered(author, "a", "b")
    author.baseline(ids[:1])
    author.window(ids[1:], "drift")
    before = windows(author.index)
    erase(author.lake, author.index, ids, uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4())
    fold(author.lake.store, author.index, after=1)
    with author.lake.index() as index:
        assert windows(index) == before
        assert windows(index)[0].reference == reference
        assert not index.query("SELECT * FROM drift_files")
        assert waiting(index) == []
    assert verify(author.lake).ok
