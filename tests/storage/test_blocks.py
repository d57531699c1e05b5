import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from storage import blocks
from storage.blocks import Wanted, prediction_blocks, reference_state
from storage.commit import Draft
from storage.erasure import erase, purge
from storage.errors import ExpiredReferenceError, StoreError, UnknownReferenceError
from storage.history import reference_rows
from storage.index import Index
from storage.parquet import write_table
from storage.retention import Retention, expire
from storage.rewrite import compact
from storage.tables import table_from_rows
from tests.storage.conftest import START, Author
from tests.storage.whole import clean

ALL = Wanted()
OTHERS = 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a block, so that few rows are many blocks."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 2)
    monkeypatch.setattr(blocks, "READ_ROWS", 2)


@pytest.fixture(params=["in memory", "on disk"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read at once, or, as large ones, bit by bit."""
    if request.param == "on disk":
        monkeypatch.setattr(blocks, "IN_MEMORY_BYTES", 0)


@pytest.fixture
def ids(author: Author) -> list[UUID]:
    return author.ingest("a", "b", "c")


def rows(found: Iterable[pa.Table]) -> list[tuple[object, ...]]:
    return sorted((tuple(row.values()) for block in found for row in block.to_pylist()), key=repr)


def of(author: Author, id_: UUID, wanted: Wanted = ALL, index: Index | None = None) -> list[tuple[object, ...]]:
    return rows(prediction_blocks(author.lake, index or author.index, id_, wanted))


def in_parts(author: Author, ids: list[UUID]) -> UUID:
    """Publish a reference as shards do: a Parquet file for each recording."""
    id_ = uuid.uuid4()
    row = {"model": "m", "model_version": "v1", "channel": 0, "utterance": 0, "start_s": 0.0, "end_s": 1.0}
    files = []
    for number, one in enumerate(ids):
        table = table_from_rows(
            "predictions", [row | {"file_id": one, "label": f"l{at}", "confidence": at / 8} for at in range(5)]
        )
        files.append(write_table(author.lake.store, id_, uuid.uuid4(), str(number), "predictions", table))
    coverage = table_from_rows("coverage", [author.coverage_row(one, "m", predictions=5) for one in ids])
    draft = Draft({"coverage": coverage}, tuple(files), reference=id_)
    author.lake.commit(author.index, op="refresh", key=id_, plan=lambda: draft, started_at=START)
    return id_


@pytest.mark.usefixtures("small", "anywhere")
def test_blocks_hold_what_the_reference_does(author: Author, ids: list[UUID]):
    id_ = in_parts(author, ids)
    author.refresh({(ids[0], "m"): [("another", 0.5)]})
    found = list(prediction_blocks(author.lake, author.index, id_, ALL))
    assert max(block.num_rows for block in found) <= 2
    assert rows(found) == rows([reference_rows(author.lake, author.index, id_, "predictions")])
    assert len(rows(found)) == 15


@pytest.mark.usefixtures("small", "anywhere")
def test_a_reference_is_read_from_files_that_many_share(author: Author, ids: list[UUID]):
    id_ = in_parts(author, ids)
    before = of(author, id_)
    for number in range(OTHERS):
        author.refresh({(ids[0], "m"): [(f"other{number}", 0.5)]})
    assert compact(author.lake, author.index, uuid.uuid4())
    assert of(author, id_) == before


@pytest.mark.usefixtures("small", "anywhere")
def test_what_is_removed_while_it_is_read_is_read_to_its_end(author: Author, ids: list[UUID]):
    id_ = in_parts(author, ids)
    before = of(author, id_)
    stream = prediction_blocks(author.lake, author.index, id_, ALL)
    first = next(stream)
    for number in range(OTHERS):
        author.refresh({(ids[0], "m"): [(f"other{number}", 0.5)]})
    while compact(author.lake, author.index, uuid.uuid4()):
        pass
    clean(author.lake, author.index)
    assert rows([first, *stream]) == before


@pytest.mark.usefixtures("anywhere")
def test_an_index_that_names_a_file_that_is_gone_finds_what_took_its_place(author: Author, ids: list[UUID]):
    id_ = in_parts(author, ids)
    before, reader = of(author, id_), author.lake.index()
    for number in range(OTHERS):
        author.refresh({(ids[0], "m"): [(f"other{number}", 0.5)]})
    while compact(author.lake, author.index, uuid.uuid4()):
        pass
    clean(author.lake, author.index)
    assert of(author, id_, index=reader) == before


@pytest.mark.usefixtures("small")
def test_what_is_erased_while_it_is_read_is_left_out_from_then_on(author: Author, ids: list[UUID]):
    ids = sorted(ids)
    id_ = author.refresh({(one, "m"): [(f"l{at}", 0.5) for at in range(4)] for one in ids})
    stream = prediction_blocks(author.lake, author.index, id_, ALL)
    first = next(stream)
    erase(author.lake, author.index, [ids[1]], uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4())
    assert {row[0] for row in rows([first, *stream])} == {ids[0], ids[2]}
    assert {row[0] for row in of(author, id_)} == {ids[0], ids[2]}


def test_each_field_that_is_given_has_to_agree(author: Author, ids: list[UUID]):
    id_ = author.refresh(
        {(ids[0], "m"): [("call", 0.5), ("is", 0.75)], (ids[0], "n"): [("call", 1.0)], (ids[1], "m"): [("call", 0.75)]}
    )

    def found(**wanted: Any) -> list[tuple[object, ...]]:
        return [(row[0], row[1], row[5]) for row in of(author, id_, Wanted(**wanted))]

    assert len(found()) == 4
    assert found(model="n") == [(ids[0], "n", "call")]
    assert found(label="is") == [(ids[0], "m", "is")]
    assert len(found(min_confidence=0.75)) == 3
    assert found(file_id=ids[1]) == [(ids[1], "m", "call")]
    assert found(file_id=ids[0], model="m", label="call", min_confidence=0.5) == [(ids[0], "m", "call")]
    assert found(label="' OR true --") == found(file_id=ids[2]) == []


def test_its_state_tells_whether_something_of_it_was_erased(author: Author, ids: list[UUID]):
    id_ = author.refresh({(ids[0], "m"): []})
    before = reference_state(author.index, id_)
    assert (before.reference.reference, before.erased_seq) == (id_, 0)
    author.refresh({(ids[1], "m"): []})
    assert reference_state(author.index, id_) == before
    erase(author.lake, author.index, [ids[0]], uuid.uuid4())
    assert reference_state(author.index, id_).erased_seq == author.index.applied_seq


def test_unknown_and_expired_references_are_refused(author: Author, ids: list[UUID]):
    old = author.refresh({(ids[0], "m"): []})
    author.refresh({(ids[0], "m"): []})
    expire(author.lake, author.index, Retention(keep_references=1), uuid.uuid4())
    for id_, error in ((old, ExpiredReferenceError), (uuid.uuid4(), UnknownReferenceError)):
        with pytest.raises(error):
            of(author, id_)


@pytest.mark.usefixtures("anywhere")
def test_a_damaged_file_is_named(author: Author, ids: list[UUID]):
    id_ = author.refresh({(ids[0], "m"): [("call", 0.5)]})
    (file,) = author.index.live_files("predictions")
    Path(author.lake.place.url, file.path).write_bytes(b"no Parquet")
    with pytest.raises(StoreError, match=file.path):
        of(author, id_)


@pytest.mark.usefixtures("anywhere")
def test_a_file_that_nothing_replaces_is_named(author: Author, ids: list[UUID]):
    id_ = author.refresh({(ids[0], "m"): [("call", 0.5)]})
    (file,) = author.index.live_files("predictions")
    author.lake.store.remove(file.path)
    with pytest.raises(StoreError, match=file.path):
        of(author, id_)


def test_small_files_are_held_in_memory_up_to_a_bound(author: Author, ids: list[UUID], monkeypatch: pytest.MonkeyPatch):
    id_ = in_parts(author, ids)
    files = author.index.live_files("predictions", seq=author.index.applied_seq)
    monkeypatch.setattr(blocks, "IN_MEMORY_BYTES", files[0].size_bytes + 1)
    monkeypatch.setattr(blocks, "IN_MEMORY_FILE_BYTES", 1 << 20)
    assert len(of(author, id_)) == 15
