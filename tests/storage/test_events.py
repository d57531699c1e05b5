"""Events after a position: in order, once each, the same from any index, whatever maintenance does."""

import uuid
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.erasure import erase, lift, purge
from storage.events import Event, Position, events_after
from storage.index import Index
from storage.rewrite import compact
from storage.snapshot import fold
from tests.storage.conftest import Author

START = Position(0)

STEPS = st.lists(
    st.sampled_from(
        [
            *("ingest", "reject", "refresh", "hold", "release", "discard", "drift", "no_drift", "insufficient"),
            *("erase", "compact", "fold", "purge", "rebase"),
        ]
    ),
    max_size=7,
)


def told(index: Index, position: Position = START, limit: int = 500) -> list[Event]:
    """Return everything after a position, batch by batch."""
    events: list[Event] = []
    while True:
        batch = events_after(index, position, limit)
        events += batch.events
        position = batch.position
        if batch.is_last:
            assert position == Position(max(index.applied_seq, position.seq))
            return events


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


@pytest.fixture
def lived(author: Author) -> list[UUID]:
    """Two recordings, one of them erased, a rejected one, a reference, and three held ones: one of them is released."""
    ids = author.ingest("a", "b")
    author.ingest("c", status="rejected")
    author.group({"m": "v1"})
    author.refresh({(ids[0], "m"): [("x", 0.9)]})
    erase(author.lake, author.index, [ids[1]], uuid.uuid4())
    for number in range(3):
        row = author.coverage_row(ids[0], "m", version=f"v{number}")
        author.commit("refresh", reference=UUID(int=number + 1), held=True, coverage=[row], counts={"files": number})
    author.commit("reject", reference=UUID(int=1))
    author.commit("release", reference=UUID(int=2))
    return ids


def test_each_thing_that_happened_is_told_once_in_the_logs_order(author: Author, lived: list[UUID]) -> None:
    events = told(author.index)
    assert kinds(events) == [
        *("file.accepted", "file.rejected", "reference.published", "file.erased"),
        *("reference.held", "reference.held", "reference.held", "reference.rejected", "reference.published"),
    ]
    accepted, rejected, refreshed, erased, *held, discarded, released = events
    assert (accepted.file_id, accepted.name, accepted.reason) == (lived[0], "a", None)
    assert (rejected.name, rejected.reason) == ("c", "no audio in it")
    assert refreshed.counts == {}
    assert (erased.file_id, erased.name) == (lived[1], str(lived[1])), "nothing but its id"
    assert [event.reference for event in held] == [UUID(int=number + 1) for number in range(3)]
    assert [event.counts["files"] for event in (*held, discarded)] == [0, 1, 2, 0]
    assert discarded.reference == UUID(int=1)
    assert (released.reference, released.counts) == (UUID(int=2), {"files": 1})
    assert released.position.seq == author.index.applied_seq
    assert [event.position for event in events] == sorted(event.position for event in events)
    assert all(event.at.tzinfo for event in events)


def test_a_reference_is_told_only_when_it_is_first_released(author: Author, lived: list[UUID]) -> None:
    before = Position(author.index.applied_seq)
    author.commit("release", reference=UUID(int=2))
    author.commit("release", reference=uuid.uuid4())
    assert told(author.index, before) == []
    author.commit("release", reference=UUID(int=3))
    assert [event.reference for event in told(author.index, before)] == [UUID(int=3)]


def test_a_reference_is_told_to_be_rejected_once_and_not_after_its_release(author: Author, lived: list[UUID]) -> None:
    before = Position(author.index.applied_seq)
    for number in (1, 2, 4):  # rejected already, released, and none at all
        author.commit("reject", reference=UUID(int=number))
    assert told(author.index, before) == []
    author.commit("release", reference=UUID(int=1))
    assert [(event.kind, event.reference) for event in told(author.index, before)] == [
        ("reference.published", UUID(int=1))
    ]


def test_drift_is_told_when_it_starts_and_when_it_ends(author: Author) -> None:
    ids = author.ingest(*"abcdefg")
    reference = author.refresh({(id_, "m"): [] for id_ in ids})
    author.baseline(ids[:1])
    before = Position(author.index.applied_seq)
    said = [("no_drift",), ("drift", "no_drift", "drift"), ("insufficient",), ("drift",), ("no_drift",), ("drift",)]
    made = []
    for id_, verdicts in zip(ids[1:], said, strict=True):
        made.append(author.window([id_], *verdicts))
        author.model_change(reference)
    events = told(author.index, before)
    assert [(event.kind, event.window, event.descriptors) for event in events] == [
        ("drift.started", made[1], ("d0", "d2")),
        ("drift.ended", made[4], ()),
        ("drift.started", made[5], ("d0",)),
    ]
    assert {event.reference for event in events} == {reference}
    erase(author.lake, author.index, ids, uuid.uuid4())
    author.refresh({(author.ingest("h")[0], "m"): []})
    fold(author.lake.store, author.index, after=1)
    with author.lake.index() as another:
        assert told(another, before, limit=1)[:3] == events
        assert told(another, events[0].position)[:2] == events[1:]


def test_from_any_position_and_in_any_batches_nothing_is_lost_or_repeated(author: Author, lived: list[UUID]) -> None:
    author.ingest(*(f"many {number}" for number in range(3)))
    events = told(author.index)
    for limit in (1, 500):
        assert told(author.index, limit=limit) == events
        for number, event in enumerate(events):
            assert told(author.index, event.position, limit) == events[number + 1 :]
    seq = events[-1].position.seq
    assert told(author.index, Position(seq - 1)) == events[-3:]
    assert told(author.index, Position(seq)) == []


def test_every_index_tells_the_same(author: Author, lived: list[UUID]) -> None:
    events = told(author.index)
    fold(author.lake.store, author.index, after=1)
    with author.lake.index() as from_snapshot:
        assert from_snapshot.start_seq == author.index.applied_seq
        assert told(from_snapshot) == events
        author.ingest("later")
        from_snapshot.catch_up()
        assert told(from_snapshot)[:-1] == events
        assert told(from_snapshot, events[-1].position) == told(author.index, events[-1].position)
        assert [event.name for event in told(from_snapshot, events[-1].position)] == ["later"]


def test_what_is_erased_meanwhile_moves_no_other(author: Author) -> None:
    ids = sorted(author.ingest("a", "b", "c"))
    (_, second, third) = told(author.index)
    erase(author.lake, author.index, ids[:1], uuid.uuid4())
    assert told(author.index)[:2] == [second, third]
    assert told(author.index, second.position)[0] == third
    lift(author.lake, author.index, ids[:1], uuid.uuid4())
    assert kinds(told(author.index)) == ["file.accepted", "file.accepted", "file.erased"]


def test_what_was_rejected_and_is_accepted_now_is_told_as_that(author: Author) -> None:
    (file_id,) = author.ingest("a", status="rejected")
    assert kinds(told(author.index)) == ["file.rejected"]
    seen = told(author.index)[0].position
    author.commit("ingest", files=[author.file_row("a")])
    assert [(event.kind, event.file_id) for event in told(author.index)] == [("file.accepted", file_id)]
    assert kinds(told(author.index, seen)) == ["file.accepted"]


def test_a_lake_without_entries_tells_nothing(author: Author) -> None:
    batch = events_after(author.index, START)
    assert (batch.events, batch.position, batch.is_last) == ((), START, True)


@given(seq=st.integers(0, 10**18 - 1), n=st.integers(0, (1 << 128) - 1))
def test_a_position_survives_being_written(seq: int, n: int) -> None:
    assert Position.parse(str(Position(seq, n))) == Position(seq, n)
    assert Position.parse(str(Position(seq))) == Position(seq)


@pytest.mark.parametrize(
    "text", ["", "-", "1-", "-1", "x", "1-g", "1 ", "1\n", "+1", "1-" + "0" * 33, "9" * 19, "1-2-3"]
)
def test_anything_else_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="a position is"):
        Position.parse(text)


def act(author: Author, step: str, ids: list[UUID], held: list[UUID]) -> None:
    lake, index, key = author.lake, author.index, uuid.uuid4()
    if step == "ingest":
        author.ingest(f"new {author.minutes}", "a")
    elif step == "reject":
        author.ingest(f"no audio {author.minutes}", status="rejected")
    elif step == "refresh":
        author.refresh({(ids[1], "m"): []})
    elif step in ("hold", "release", "discard"):
        act_on_held(author, step, ids[1], held)
    elif step in ("drift", "no_drift", "insufficient") and index.query("SELECT 1 FROM coverage LIMIT 1"):
        author.window([ids[1]], step)
    elif step == "erase":
        erase(lake, index, [ids[0]], key)
    elif step == "compact":
        compact(lake, index, key)
    elif step == "fold":
        fold(lake.store, index, after=1)
    elif step == "purge":
        purge(lake, index, key)
    elif step == "rebase":
        index.rebase()


def act_on_held(author: Author, step: str, file_id: UUID, held: list[UUID]) -> None:
    if step == "hold":
        held.append(uuid.uuid4())
        author.commit("refresh", reference=held[-1], held=True, coverage=[author.coverage_row(file_id, "m")])
    elif held:
        author.commit("release" if step == "release" else "reject", reference=held[-1])


@given(steps=STEPS, limit=st.integers(1, 4))
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_whoever_listens_all_the_time_and_whoever_comes_back_are_told_the_same(
    new_author: Callable[[], Author], steps: list[str], limit: int
) -> None:
    author = new_author()
    ids: list[UUID] = author.ingest("a", "b")
    held: list[UUID] = []
    heard, position = [], START
    for step in [*steps, "rebase"]:
        act(author, step, ids, held)
        batch = events_after(author.index, position)
        heard += [event.position for event in batch.events]
        position = batch.position
    events = told(author.index)
    assert heard == sorted(set(heard)), "each once, in order"
    assert {event.position for event in events} <= set(heard)
    with author.lake.index() as another:
        for index in (author.index, another):
            assert told(index, limit=limit) == events
            for number, event in enumerate(events):
                assert told(index, event.position, limit) == events[number + 1 :]
