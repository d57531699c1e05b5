"""The log's entries: what is written comes back, and what cannot be understood is refused."""

import contextlib
import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import LogError
from storage.log import (
    OPS,
    SCHEMA_VERSION,
    DataFile,
    GroupModel,
    LogEntry,
    decode,
    encode,
    entry_path,
    read_entries,
    read_entry,
)
from storage.store import LocalStore

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.integers(0, 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC))
DATA_FILES = st.builds(
    DataFile,
    table=st.text(),
    path=st.text(),
    size_bytes=NUMBERS,
    rows=NUMBERS,
    min_file_id=st.uuids(),
    max_file_id=st.uuids(),
    sha256=st.text(),
)
MODELS = st.builds(
    GroupModel,
    name=st.text(),
    version=st.text(),
    task=st.text(),
    enabled=st.booleans(),
    settings=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
)
ENTRIES = st.builds(
    LogEntry,
    seq=NUMBERS,
    op=st.sampled_from(sorted(OPS)),
    key=st.uuids(),
    attempt=st.uuids(),
    started_at=TIMES,
    committed_at=TIMES,
    group_seq=NUMBERS,
    counts=st.dictionaries(st.text(), st.floats(allow_nan=False) | NUMBERS, max_size=3),
    reference=st.none() | st.uuids(),
    group=st.lists(MODELS, max_size=3).map(tuple),
    files=st.lists(DATA_FILES, max_size=3).map(tuple),
    removed=st.lists(st.text(), max_size=3).map(tuple),
)


def entry(seq: int = 1, **changes: object) -> LogEntry:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    group = (GroupModel("phrases", "v1", "phrases", True, {"phrases": ["call"]}),)
    return LogEntry(
        **{"seq": seq, "op": "group", "key": uuid.uuid4(), "attempt": uuid.uuid4(), "group_seq": seq, "group": group}
        | {
            "started_at": at,
            "committed_at": at,
            "files": (DataFile("files", "p", 1, 1, uuid.UUID(int=1), uuid.UUID(int=2), "s"),),
        }
        | changes
    )


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was_written(entry: LogEntry) -> None:
    assert decode(encode(entry), entry.seq) == entry


def test_entries_sort_by_name_as_they_do_by_number() -> None:
    paths = [entry_path(seq) for seq in (1, 9, 10, 99, 12_345, 10**12)]
    assert paths == sorted(paths)
    assert paths[0] == "log/00000000000000000001.json"


def test_entries_are_read_in_order_up_to_the_first_gap(store: LocalStore) -> None:
    for seq in (3, 1, 2, 5):
        store.write(entry_path(seq), encode(entry(seq)))
    assert [found.seq for found in read_entries(store, after=0)] == [1, 2, 3]
    assert [found.seq for found in read_entries(store, after=2)] == [3]
    assert list(read_entries(store, after=3)) == []


def test_an_empty_place_in_the_log_reads_as_none(store: LocalStore) -> None:
    assert read_entry(store, 1) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe", b'{"schema_version": 1}'])
def test_damaged_bytes_are_refused_with_the_remedy(content: bytes) -> None:
    with pytest.raises(LogError, match=r"log entry 7 .*restore log/"):
        decode(content, 7)


def test_an_entry_cut_short_anywhere_is_refused() -> None:
    content = encode(entry(1))
    for end in range(len(content) - 1):
        with pytest.raises(LogError):
            decode(content[:end], 1)


@given(name=st.sampled_from(sorted(json.loads(encode(entry())))), value=JSON_VALUES)
def test_a_field_with_another_value_is_decoded_or_refused(name: str, value: object) -> None:
    raw = json.loads(encode(entry(1))) | {name: value}
    with contextlib.suppress(LogError):
        assert decode(json.dumps(raw).encode(), 1).seq == 1


@pytest.mark.parametrize("part", ["group", "files"])
@pytest.mark.parametrize("value", [[5], ["x"], [{}], [None], [{"min_file_id": 5, "max_file_id": 5}]])
def test_a_damaged_part_of_an_entry_is_refused(part: str, value: object) -> None:
    raw = json.loads(encode(entry(1))) | {part: value}
    with pytest.raises(LogError):
        decode(json.dumps(raw).encode(), 1)


def test_a_newer_format_asks_for_an_update() -> None:
    newer = json.loads(encode(entry(1))) | {"schema_version": SCHEMA_VERSION + 1, "a_new_field": 1}
    with pytest.raises(LogError, match="update Audiophile"):
        decode(json.dumps(newer).encode(), 1)


def test_an_entry_at_another_place_than_its_own_is_refused() -> None:
    with pytest.raises(LogError, match="seq=1"):
        decode(encode(entry(1)), 2)


def test_an_unknown_kind_of_entry_is_refused() -> None:
    with pytest.raises(LogError, match="'party'"):
        decode(encode(entry(1, op="party")), 1)
