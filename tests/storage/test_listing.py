"""Pages of recordings: whatever their size, together they are the whole list, over base and tail alike."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage import choosing
from storage import index as index_module
from storage.choosing import Wanted, names_with
from storage.decisions import reject, release
from storage.erasure import erase, lift
from storage.index import Index
from storage.listing import Listed, Listing, Shown
from storage.past_listing import PastListing
from storage.recordings import Prediction, Recording, Utterance, predictions, recordings, utterances
from storage.snapshot import fold

if TYPE_CHECKING:
    from tests.storage.conftest import Author

EVERYTHING = Shown(utterances=True)
NAMES = [f"{number}.wav" for number in range(8)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ingest"), st.sets(st.sampled_from(NAMES), min_size=1), st.booleans()),
        st.tuples(
            st.just("refresh"),
            st.dictionaries(
                st.tuples(st.sampled_from(NAMES), st.sampled_from(["words", "scene"])),
                st.lists(st.tuples(st.sampled_from(["call", "is"]), st.sampled_from([0.2, 0.5, 0.9])), max_size=3),
                min_size=1,
                max_size=5,
            ),
            st.booleans(),
        ),
        st.tuples(st.just("decide"), st.sampled_from([release, reject]), st.none()),
        st.tuples(st.just("erase"), st.sets(st.sampled_from(NAMES), min_size=1, max_size=2), st.none()),
        st.tuples(st.just("fold"), st.none(), st.none()),
    ),
    max_size=8,
)
WANTED = st.builds(
    Wanted,
    name=st.sampled_from([None, "1", ".WAV", "zz", "%", "_"]),
    status=st.sampled_from([None, "accepted", "held", "rejected"]),
    model=st.sampled_from([None, "words", "scene", "other"]),
    label=st.sampled_from([None, "call", "is"]),
    min_confidence=st.sampled_from([0.0, 0.5]),
)


def id_of(author: "Author", name: str) -> UUID:
    return UUID(str(author.file_row(name)["file_id"]))


def act(author: "Author", steps: list[tuple[str, Any, Any]]) -> None:
    """Do what the steps say; whatever cannot be done is left out."""
    held: list[UUID] = []
    for op, what, flag in steps:
        known = {row.file_id for row in recordings(author.index)}
        if op == "ingest":
            gone = author.index.erased()
            names = [name for name in sorted(what) if id_of(author, name) not in gone]
            author.ingest(*names, status="rejected" if flag else "accepted")
        elif op == "refresh":
            answers = {
                (id_of(author, name), model): found
                for (name, model), found in what.items()
                if id_of(author, name) in known
            }
            if answers:
                reference = author.refresh(answers, held=bool(flag))
                held += [reference] if flag else []
        elif op == "decide" and held:
            what(author.lake, author.index, [held.pop()])
        elif op == "erase" and (chosen := [id_of(author, name) for name in what if id_of(author, name) in known]):
            erase(author.lake, author.index, chosen, uuid.uuid4())
        elif op == "fold" and author.index.applied_seq:
            fold(author.lake.store, author.index, after=1)
            author.index.close()
            author.index = author.lake.index()


def by_hand(index: Index, wanted: Wanted) -> list[Listed]:
    """The list without pages and without the SQL of `choosing`: every recording, asked for alone."""
    listed = []
    for row in sorted(recordings(index), key=lambda row: row.file_id):
        assert [row] == recordings(index, row.file_id)
        covered = {
            found["model"]
            for found in index.query("SELECT model FROM coverage WHERE file_id = ? AND seq = ?", [row.file_id, row.seq])
        }
        shown: list[Prediction] = [
            one
            for one in predictions(index, row.file_id, model=wanted.model, min_confidence=wanted.min_confidence)
            if wanted.label in (None, one.label)
        ]
        if (
            (wanted.name is None or wanted.name.lower() in row.name.lower())
            and wanted.status in (None, row.status)
            and (wanted.model is None or wanted.model in covered)
            and (wanted.label is None or shown)
        ):
            listed.append(Listed(row, shown, utterances(index, row.file_id, model=wanted.model)))
    return listed


def paged(listing: Listing | PastListing, wanted: Wanted, shown: Shown, limit: int) -> list[Listed]:
    """All pages, one behind the other."""
    found: list[Listed] = []
    after: UUID | None = None
    while True:
        with listing.reading():
            page = listing.read(listing.choose(wanted, after, limit, scan=shown.scan), wanted, shown)
        assert len(page) <= limit
        if not page:
            return found
        found += page
        after = page[-1].recording.file_id


FOLDED_THEN_ERASED: list[tuple[str, Any, Any]] = [
    ("ingest", set(NAMES), False),
    ("refresh", {(name, "words"): [("call", 0.9)] for name in NAMES}, None),
    ("fold", None, None),
    ("erase", {NAMES[0], NAMES[3]}, None),
    ("refresh", {(NAMES[1], "scene"): [("is", 0.5)]}, None),
]

HELD_AND_FOLDED: list[tuple[str, Any, Any]] = [
    ("ingest", set(NAMES[:5]), False),
    ("refresh", {(name, "words"): [] for name in NAMES[:3]}, True),
    ("refresh", {(NAMES[0], "words"): []}, None),
    ("fold", None, None),
    ("refresh", {(name, "words"): [] for name in NAMES[1:4]}, True),
]


@settings(max_examples=15)
@example(steps=HELD_AND_FOLDED, wanted=Wanted(), limit=2, most_rows=None)
@example(steps=HELD_AND_FOLDED, wanted=Wanted(status="held"), limit=2, most_rows=3)
@example(steps=[*HELD_AND_FOLDED, ("decide", reject, None)], wanted=Wanted(status="accepted"), limit=9, most_rows=None)
@example(steps=FOLDED_THEN_ERASED, wanted=Wanted(), limit=3, most_rows=None)
@example(steps=FOLDED_THEN_ERASED, wanted=Wanted(label="call"), limit=3, most_rows=3)
@given(steps=STEPS, wanted=st.just(Wanted()) | WANTED, limit=st.integers(1, 9), most_rows=st.sampled_from([None, 0, 3]))
def test_pages_of_any_size_are_the_whole_list(
    new_author: "Callable[[], Author]",
    steps: list[tuple[str, Any, Any]],
    wanted: Wanted,
    limit: int,
    most_rows: int | None,
) -> None:
    author = new_author()
    act(author, steps)
    shown = replace(EVERYTHING, most_rows=most_rows, scan=most_rows is not None)
    with author.index as index:
        assert paged(Listing(index), wanted, shown, limit) == by_hand(index, wanted)


@pytest.fixture
def folded(author: "Author") -> "Author":
    """Three recordings in the base, of which the first is refreshed in the tail, and a fourth in the tail."""
    file_ids = author.ingest("Ännchen.wav", "50%_off.wav", "STRASSE.wav")
    author.refresh({(file_id, "words"): [("call", 0.9), ("is", 0.3)] for file_id in file_ids})
    fold(author.lake.store, author.index, after=1)
    author.index.close()
    author.index = author.lake.index()
    author.refresh({(file_ids[0], "words"): [("call", 0.95)], (file_ids[0], "scene"): [("music", 1.0)]})
    author.ingest("late.wav")
    return author


def names(index: Index, wanted: Wanted) -> set[str]:
    return {one.recording.name for one in paged(Listing(index), wanted, Shown(), 2)}


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("ÄNN", {"Ännchen.wav"}),
        ("a\N{COMBINING DIAERESIS}nn", {"Ännchen.wav"}),
        ("straße", {"STRASSE.wav"}),
        ("%", {"50%_off.wav"}),
        ("_", {"50%_off.wav"}),
        ("' OR true --", set()),
        ("\0", set()),
        (".WAV", {"Ännchen.wav", "50%_off.wav", "STRASSE.wav", "late.wav"}),
    ],
)
def test_a_part_of_a_name_is_found_whatever_its_case_and_nothing_in_it_is_special(
    folded: "Author", part: str, found: set[str]
) -> None:
    assert names(folded.index, Wanted(name=part)) == found
    every = ["Ännchen.wav", "50%_off.wav", "STRASSE.wav", "late.wav"]
    assert {name for name, fits in zip(every, names_with(folded.index, every, part), strict=True) if fits} == found


def test_since_finds_what_was_taken_in_or_refreshed_by_later_entries(folded: "Author") -> None:
    index = folded.index
    times = [row["committed_at"] for row in index.query("SELECT committed_at FROM entries ORDER BY seq")]
    assert names(index, Wanted(since=times[0])) == names(index, Wanted())
    assert names(index, Wanted(since=times[2])) == {"Ännchen.wav", "late.wav"}
    assert names(index, Wanted(since=times[3])) == {"late.wav"}
    assert names(index, Wanted(since=datetime.now(UTC) + timedelta(days=1))) == set()


def test_a_reference_that_is_released_later_counts_from_then_on(author: "Author") -> None:
    (file_id,) = author.ingest("a.wav")
    reference = uuid.uuid4()
    author.commit("refresh", reference=reference, held=True, coverage=[author.coverage_row(file_id, "words")])
    (held_at,) = (row["committed_at"] for row in author.index.query("SELECT committed_at FROM entries WHERE seq = 2"))
    assert paged(Listing(author.index), Wanted(), Shown(), 9)[0].recording.reference is None
    author.commit("release", reference=reference)
    later = held_at + timedelta(microseconds=1)
    assert [one.recording.reference for one in paged(Listing(author.index), Wanted(since=later), Shown(), 9)] == [
        reference
    ]


def test_what_hardly_any_recording_has_is_found_by_wider_and_wider_looks(
    folded: "Author", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "WINDOWS", (1, 2))
    assert names(folded.index, Wanted(name="late")) == {"late.wav"}
    assert len(names(folded.index, Wanted(label="call", min_confidence=0.9))) == 3
    assert names(folded.index, Wanted(label="music")) == {"Ännchen.wav"}


def test_the_recordings_of_a_reference_are_listed_with_what_it_said(author: "Author") -> None:
    first, second, third = author.ingest("a.wav", "b.wav", "c.wav")
    old = author.refresh({(first, "words"): [("call", 0.9)], (second, "scene"): [("music", 0.4)]})
    author.refresh({(first, "words"): [], (third, "words"): [("call", 0.9)]})
    listing = PastListing(author.lake, author.index, old)
    found = {one.recording.file_id: one for one in paged(listing, Wanted(), EVERYTHING, 1)}
    assert [*found] == sorted([first, second])
    assert {one.recording.reference for one in found.values()} == {old}
    assert [row.label for row in found[first].predictions] == ["call"]
    assert [row.text for row in found[second].utterances] == ["music"]

    def chosen(wanted: Wanted) -> list[UUID]:
        pages = paged(PastListing(author.lake, author.index, old), wanted, Shown(), 1)
        return [one.recording.file_id for one in pages]

    assert chosen(Wanted(model="scene")) == chosen(Wanted(name="B")) == chosen(Wanted(label="music")) == [second]
    assert chosen(Wanted(label="music", min_confidence=0.5)) == chosen(Wanted(status="rejected")) == []


def test_recordings_that_were_erased_are_in_no_reference(author: "Author") -> None:
    first, second = author.ingest("a.wav", "b.wav")
    old = author.refresh({(first, "words"): [("call", 0.9)], (second, "words"): []})
    listing = PastListing(author.lake, author.index, old)
    assert len(paged(listing, Wanted(), Shown(), 9)) == 2
    erase(author.lake, author.index, [first], uuid.uuid4())
    assert [one.recording.file_id for one in paged(listing, Wanted(), Shown(), 9)] == [second]


def test_one_that_is_taken_in_again_shows_nothing_of_its_former_life(folded: "Author") -> None:
    index = folded.index
    (old,) = (row for row in recordings(index) if row.name == "50%_off.wav")
    erase(folded.lake, index, [old.file_id], uuid.uuid4())
    lift(folded.lake, index, [old.file_id], uuid.uuid4())
    row = folded.file_row("50%_off.wav")
    folded.commit("ingest", files=[row], sources=[folded.source_row(old.file_id, "new.wav")])
    found = {one.recording.name: one for one in paged(Listing(index), Wanted(), EVERYTHING, 2)}
    assert "50%_off.wav" not in found
    assert (found["new.wav"].recording.reference, found["new.wav"].predictions) == (None, [])


def test_a_scan_goes_on_where_the_index_file_was_replaced(folded: "Author") -> None:
    for file in (folded.lake.place.local / "index").glob("base-*"):
        file.unlink()
    listing = Listing(folded.index)
    assert len(paged(listing, Wanted(), Shown(scan=True), 2)) == 4


def test_a_scan_with_too_many_rows_at_once_takes_more_memory(
    folded: "Author", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "storage.index")
    by_look_ups = paged(Listing(folded.index), Wanted(), EVERYTHING, 9)

    def tiny(file: Any) -> Any:
        connection = scanning(file)
        connection.execute("SET memory_limit = '1KiB'")
        return connection

    scanning = index_module.scanning
    monkeypatch.setattr(index_module, "scanning", tiny)
    assert paged(Listing(folded.index), Wanted(), replace(EVERYTHING, scan=True), 9) == by_look_ups
    assert "with all memory instead" in caplog.text


def test_an_empty_lake_has_no_pages(author: "Author") -> None:
    assert paged(Listing(author.index), Wanted(), EVERYTHING, 5) == []
    assert paged(Listing(author.index), Wanted(name="a"), EVERYTHING, 5) == []


def test_types_are_those_of_look_ups(folded: "Author") -> None:
    one = paged(Listing(folded.index), Wanted(), EVERYTHING, 9)[0]
    assert isinstance(one.recording, Recording)
    assert all(isinstance(row, Utterance) for row in one.utterances)
