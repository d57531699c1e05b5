"""What counts as changed: everything that is shown otherwise, and not everything whenever something is."""

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import changes
from storage.changes import Changes
from storage.erasure import erase, lift
from storage.errors import StoreError
from storage.index import Index
from storage.recordings import predictions, recordings
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.snapshot import fold

if TYPE_CHECKING:
    from tests.storage.conftest import Author

NAMES = ("a", "b", "c")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ingest", "refresh", "held", "release", "reject", "erase", "lift", "expire", "compact", "fold", "group"]
        ),
        st.sampled_from(NAMES),
    ),
    min_size=1,
    max_size=12,
)


def shown(index: Index, file_id: UUID) -> Any:
    """What a reader is shown of a recording."""
    return recordings(index, file_id), predictions(index, file_id), index.erased([file_id])


def act(author: "Author", op: str, name: str, held: list[UUID]) -> None:
    file_id, lake, index = author.file_row(name)["file_id"], author.lake, author.index
    if op == "ingest":
        author.ingest(name, status="rejected" if author.minutes % 3 else "accepted")
    elif op == "refresh":
        author.refresh({(file_id, "m"): [("call", author.minutes / 100)]})
    elif op == "held":
        held.append(uuid.uuid4())
        author.commit("refresh", reference=held[-1], held=True, coverage=[author.coverage_row(file_id, "m")])
    elif op in ("release", "reject") and held:
        author.commit(op, reference=held.pop())
    elif op == "erase":
        erase(lake, index, [file_id], uuid.uuid4())
    elif op == "lift":
        lift(lake, index, [file_id], uuid.uuid4())
    elif op == "expire":
        expire(lake, index, Retention(keep_references=1), uuid.uuid4())
    elif op == "compact":
        compact(lake, index, uuid.uuid4())
    elif op == "fold":
        fold(lake.store, index, after=1)
    elif op == "group":
        author.group({"m": f"v{author.minutes}"})


@settings(max_examples=12)
@given(steps=STEPS)
def test_a_recording_that_is_shown_otherwise_has_changed(
    new_author: "Callable[[], Author]", steps: list[tuple[str, str]]
) -> None:
    author, held = new_author(), []
    ids = {name: author.file_row(name)["file_id"] for name in NAMES}
    with author.index, author.lake.index() as reader:
        author.ingest("a")
        reader.catch_up()
        before = {name: (reader.applied_seq, shown(reader, file_id)) for name, file_id in ids.items()}
        for op, name in steps:
            act(author, op, name, held)
            reader.catch_up()
            reader.rebase()
            for each, file_id in ids.items():
                seq, was = before[each]
                assert shown(reader, file_id) == was or reader.changes.has_changed(file_id, seq), op
                assert not reader.changes.has_changed(file_id, reader.applied_seq)


def test_a_refresh_and_an_erasure_change_their_recordings_and_no_others(author: "Author") -> None:
    one, other = author.ingest("a", "b")
    at = author.index.catch_up()
    author.refresh({(one, "m"): []})
    assert [author.index.changes.has_changed(id_, at) for id_ in (one, other)] == [True, False]
    at = author.index.catch_up()
    erase(author.lake, author.index, [other], uuid.uuid4())
    assert [author.index.changes.has_changed(id_, at) for id_ in (one, other)] == [False, True]
    at = author.index.catch_up()
    compact(author.lake, author.index, uuid.uuid4())
    assert not author.index.changes.has_changed(one, at)


def test_beyond_its_limit_every_recording_counts_as_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LIMIT", 2)
    noted, ids = Changes(), [uuid.uuid4() for _ in range(4)]
    noted.note(1, [ids[0].bytes])
    noted.note(2, [ids[1].bytes])
    assert not noted.has_changed(ids[3], 0)
    noted.note(3, [ids[2].bytes])
    assert all(noted.has_changed(id_, 2) for id_ in ids)
    assert not noted.has_changed(ids[0], 3)


def test_an_index_knows_that_the_log_has_gone_on(author: "Author") -> None:
    with author.lake.index() as reader:
        assert not reader.is_behind()
        author.ingest("a")
        assert reader.is_behind()
        reader.catch_up()
        assert not reader.is_behind()


def test_what_an_index_passes_over_counts_as_changed(author: "Author") -> None:
    """It was so far behind that files which the log named are gone, and begins at a snapshot."""
    one, other = author.ingest("a", "b")
    author.refresh({(one, "m"): [("call", 0.5)]})
    with author.lake.index() as reader:
        at = reader.catch_up()
        old = shown(reader, one)
        author.refresh({(one, "m"): [("is", 0.6)]})
        erase(author.lake, author.index, [other], uuid.uuid4())
        passed_over = author.index.live_files("predictions")[-1].path
        author.refresh({(one, "m"): [("is", 0.7)]})
        fold(author.lake.store, author.index, after=1)
        author.lake.store.remove(passed_over)
        assert reader.catch_up() == author.index.applied_seq
        assert reader.start_seq > at
        assert shown(reader, one) != old
        assert reader.changes.has_changed(one, at)
        assert reader.changes.has_changed(other, at)
        assert not reader.changes.has_changed(one, reader.applied_seq)


@given(notes=st.lists(st.tuples(st.integers(1, 20), st.sampled_from("abc"), st.booleans()), max_size=20))
def test_what_is_noted_in_any_order_is_the_last_of_each(notes: list[tuple[int, str, bool]]) -> None:
    noted = Changes()
    for seq, name, of_all in notes:
        if of_all:
            noted.note_all(seq)
        else:
            noted.note(seq, [uuid.uuid5(uuid.NAMESPACE_OID, name).bytes])
    for name in "abc":
        last = max((seq for seq, other, of_all in notes if of_all or other == name), default=0)
        file_id = uuid.uuid5(uuid.NAMESPACE_OID, name)
        assert [noted.has_changed(file_id, seq) for seq in range(21)] == [seq < last for seq in range(21)]


def test_a_log_that_has_vanished_is_an_error(author: "Author") -> None:
    author.index.require_log()
    author.ingest("a")
    author.index.require_log()
    (author.lake.store.root / "log").rename(author.lake.store.root / "elsewhere")
    with pytest.raises(StoreError, match="Mount the lake again"):
        author.index.require_log()
