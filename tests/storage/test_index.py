"""The index: one entry a transaction, the same however it was caught up, and never more than the log names."""

import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import LogError, StoreError
from storage.index import ALL_TABLES, PLANNING_TABLES, Index
from storage.log import entry_path, read_entry
from storage.parquet import write_tables
from storage.tables import table_from_rows

if TYPE_CHECKING:
    from tests.storage.conftest import Author

STEPS = st.lists(
    st.tuples(st.sampled_from(["ingest", "group", "refresh"]), st.integers(0, 4), st.booleans()), max_size=8
)


def contents(index: Index, tables: frozenset[str] = ALL_TABLES) -> dict[str, list[dict[str, Any]]]:
    return {
        name: index.query(f"SELECT * FROM {name} ORDER BY ALL") for name in ("entries", "group_models", *sorted(tables))
    } | {"seqs": [{"applied": index.applied_seq, "group": index.group_seq}]}


def act(author: "Author", op: str, number: int) -> None:
    file_id = author.file_row(f"{number}.wav")["file_id"]
    if op == "ingest":
        author.ingest(f"{number}.wav", f"{number + 1}.wav")
    elif op == "group":
        author.group({"words": f"v{number}", "scene": "v1"}, disabled=("scene",) if number % 2 else ())
    else:
        author.refresh({(file_id, "words"): [("call", 0.9)] * number, (file_id, "scene"): []})


@settings(max_examples=15)
@given(steps=STEPS)
def test_an_index_caught_up_step_by_step_equals_one_built_at_once(
    new_author: "Callable[[], Author]", steps: list[tuple[str, int, bool]]
) -> None:
    author = new_author()
    with author.index, Index(author.lake.store) as stepwise, Index(author.lake.store, PLANNING_TABLES) as planning:
        for op, number, catches_up in steps:
            act(author, op, number)
            if catches_up:
                stepwise.catch_up()
        assert stepwise.catch_up() == planning.catch_up() == len(steps)
        with author.lake.index() as at_once:
            assert contents(stepwise) == contents(at_once) == contents(author.index)
            assert contents(planning, PLANNING_TABLES) == contents(at_once, PLANNING_TABLES)


def test_an_empty_lake_has_no_rows_and_is_not_made_by_looking(author: "Author") -> None:
    assert author.index.applied_seq == author.index.group_seq == 0
    assert not any(contents(author.index)[name] for name in ALL_TABLES)
    assert list(author.lake.store.root.iterdir()) == []


def test_catching_up_twice_adds_nothing(author: "Author") -> None:
    author.ingest("a.wav")
    before = contents(author.index)
    assert author.index.catch_up() == 1
    assert contents(author.index) == before


def test_rows_carry_the_number_of_their_entry(author: "Author") -> None:
    author.ingest("a.wav")
    author.group({"words": "v1"})
    author.ingest("b.wav", "c.wav")
    rows = author.index.query("SELECT seq, count(*) AS files FROM files GROUP BY seq ORDER BY seq")
    assert rows == [{"seq": 1, "files": 1}, {"seq": 3, "files": 2}]
    assert author.index.group_seq == 2
    entry = read_entry(author.lake.store, 3)
    assert entry is not None
    assert author.index.entry_with_key(entry.key) == 3
    assert author.index.entry_with_key(uuid.uuid4()) is None


def test_entries_after_a_place_are_told_apart_by_kind(author: "Author") -> None:
    author.ingest("a.wav")
    author.group({"words": "v1"})
    assert author.index.has_entries_of(frozenset({"group", "refresh"}), after=1)
    assert not author.index.has_entries_of(frozenset({"group", "refresh"}), after=2)
    assert not author.index.has_entries_of(frozenset({"ingest"}), after=1)


def test_parquet_that_no_entry_names_does_not_exist(author: "Author") -> None:
    rows = table_from_rows("files", [author.file_row("orphan.wav")])
    assert write_tables(author.lake.store, uuid.uuid4(), uuid.uuid4(), {"files": rows})
    author.ingest("a.wav")
    assert author.index.query("SELECT count(*) AS files FROM files") == [{"files": 1}]


@pytest.mark.parametrize("damage", [None, b"", b"not Parquet", "cut"])
@pytest.mark.parametrize("table", ["files", "sources"])
def test_an_entry_with_a_file_that_cannot_be_read_is_applied_not_at_all_until_it_can(
    author: "Author", table: str, damage: bytes | str | None
) -> None:
    author.ingest("a.wav")
    entry = read_entry(author.lake.store, 1)
    assert entry is not None
    path = next(file.path for file in entry.files if file.table == table)
    whole = author.lake.store.read(path)
    assert whole is not None
    author.lake.store.remove(path)
    if damage is not None:
        author.lake.store.write(path, whole[: len(whole) // 2] if isinstance(damage, str) else damage)
    with Index(author.lake.store) as index:
        with pytest.raises(StoreError, match=path):
            index.catch_up()
        assert index.applied_seq == 0
        assert not any(contents(index)[name] for name in ("entries", *ALL_TABLES))
        author.lake.store.write(path, whole)
        assert index.catch_up() == 1
        assert contents(index) == contents(author.index)


def test_a_damaged_entry_stops_the_index_before_it(author: "Author") -> None:
    author.ingest("a.wav")
    author.lake.store.write(entry_path(2), b"{")
    with pytest.raises(LogError, match="log entry 2"):
        author.index.catch_up()
    assert author.index.applied_seq == 1
    assert len(author.index.query("SELECT * FROM files")) == 1


def test_a_reader_sees_one_state_whatever_arrives_meanwhile(author: "Author") -> None:
    author.ingest("a.wav")
    with author.lake.index() as index:
        with index.reading():
            before = index.query("SELECT count(*) AS files FROM files")
            author.ingest("b.wav")
            other = threading.Thread(target=index.catch_up)
            other.start()
            other.join()
            assert index.applied_seq == 2
            assert index.query("SELECT count(*) AS files FROM files") == before == [{"files": 1}]
            assert index.query("SELECT max(seq) AS seq FROM entries") == [{"seq": 1}]
        assert index.query("SELECT count(*) AS files FROM files") == [{"files": 2}]


def test_threads_read_while_others_catch_up(author: "Author") -> None:
    """Files and sources are written in one entry each, so no reader may ever count them apart."""
    with Index(author.lake.store) as index:
        stop, counts, errors = threading.Event(), set[tuple[int, int]](), list[BaseException]()

        def read_on() -> None:
            sql = "SELECT (SELECT count(*) FROM files) AS files, (SELECT count(*) FROM sources) AS sources"
            try:
                while not stop.is_set():
                    index.catch_up()
                    counts.update((row["files"], row["sources"]) for row in index.query(sql))
            except BaseException as error:
                errors.append(error)

        readers = [threading.Thread(target=read_on) for _ in range(3)]
        for reader in readers:
            reader.start()
        for number in range(20):
            author.ingest(f"{number}.wav")
        stop.set()
        for reader in readers:
            reader.join()
        index.catch_up()
        assert errors == []
        assert all(files == sources for files, sources in counts)
        assert index.query("SELECT count(*) AS files FROM files") == [{"files": 20}]
