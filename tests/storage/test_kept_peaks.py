"""Peaks beside a recording: their file, and what maintenance, backups and verification do with it."""

import hashlib
import io
import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import storage.erasure
from storage.backup import backup
from storage.erasure import erase, lift, purge
from storage.lake import Lake
from storage.media import peaks_path
from storage.peaks import Waveform, decode
from storage.place import Place
from storage.vacuum import vacuum
from storage.verify import verify
from tests.storage.conftest import Author
from tests.storage.whole import take_in

PEAKS = Waveform(8_000, 160, np.array([[[-3, 4]], [[0, 100]]], np.int8)).encode()

WAVEFORMS = st.builds(
    Waveform,
    st.integers(1, 768_000),
    st.integers(1, 1_000_000),
    st.tuples(st.integers(1, 40), st.integers(1, 3), st.just(2)).flatmap(lambda shape: arrays(np.int8, shape)),
)


def sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def later(hours: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=hours)


@pytest.fixture
def pair(author: Author) -> list[UUID]:
    """The recordings a and b, with peaks."""
    ids = take_in(author, "a", "b")
    for name in ("a", "b"):
        author.lake.media.put_peaks(sha256(name), PEAKS)
    return ids


def with_peaks(lake: Lake) -> list[str]:
    return [name for name in ("a", "b") if lake.media.has_peaks(sha256(name))]


@given(waveform=WAVEFORMS)
@settings(max_examples=50)
def test_a_file_says_what_was_written(waveform: Waveform) -> None:
    found = decode(waveform.encode())
    assert (found.sample_rate, found.samples_per_pixel) == (waveform.sample_rate, waveform.samples_per_pixel)
    assert np.array_equal(found.values, waveform.values)


@given(content=st.binary(max_size=60))
def test_any_other_bytes_are_damaged(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"it has|its header"):
        decode(content)


def test_the_header_is_the_one_of_the_specification() -> None:
    assert PEAKS.hex(" ", 4) == "02000000 01000000 401f0000 a0000000 02000000 01000000 fd040064"


def test_an_erasure_takes_them_and_no_others(author: Author, pair: list[UUID]) -> None:
    erase(author.lake, author.index, pair[:1], uuid.uuid4())
    purge(author.lake, author.index, uuid.uuid4(), now=later(2))
    assert with_peaks(author.lake) == ["b"]
    assert verify(author.lake).problems == ()


def test_a_purge_leaves_those_of_a_recording_that_came_again(
    author: Author, pair: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, remove = author.lake, storage.erasure._remove_audio
    erase(lake, author.index, pair[:1], uuid.uuid4())

    def overtaken(*arguments: object) -> None:
        with lake.index() as index:
            lift(lake, index, pair[:1], uuid.uuid4())
        lake.inbox.add(lake.media.add(io.BytesIO(b"a")), "again.wav")
        remove(*arguments)

    monkeypatch.setattr(storage.erasure, "_remove_audio", overtaken)
    purge(lake, author.index, uuid.uuid4(), now=later(2))
    assert with_peaks(lake) == ["a", "b"]


def test_those_of_nobody_go_and_those_of_recordings_stay(author: Author, pair: list[UUID]) -> None:
    author.lake.media.put_peaks(sha256("nobody"), PEAKS)
    author.lake.media.put_peaks(sha256("unneeded"), PEAKS)
    author.lake.media.add(io.BytesIO(b"unneeded"))
    for hours in (48, 96):
        vacuum(author.lake, author.index, uuid.uuid4(), grace=timedelta(hours=24), now=later(hours))
    assert with_peaks(author.lake) == ["a", "b"]
    left = [stored.path for folder in ("media", "trash") for stored in author.lake.store.found(folder)]
    assert len(left) == 4
    assert not any(sha256(name) in path for name in ("nobody", "unneeded") for path in left)


def test_young_ones_may_be_of_an_ingest_under_way(author: Author) -> None:
    author.lake.media.put_peaks(sha256("arriving"), PEAKS)
    vacuum(author.lake, author.index, uuid.uuid4(), grace=timedelta(hours=24))
    assert author.lake.media.has_peaks(sha256("arriving"))


def test_a_backup_has_them_and_loses_those_of_the_erased(author: Author, pair: list[UUID], tmp_path: Path) -> None:
    target = Place.of(tmp_path / "copy")
    backup(author.lake, target)
    copy = Lake.open(target)
    assert copy.media.peaks(sha256("a")) == PEAKS
    assert with_peaks(copy) == ["a", "b"]
    assert backup(author.lake, target).copied == 0
    erase(author.lake, author.index, pair[:1], uuid.uuid4())
    backup(author.lake, target)
    assert with_peaks(copy) == ["b"]
    assert verify(copy).problems == ()


def test_a_verification_names_damaged_ones_and_misses_none(author: Author, pair: list[UUID]) -> None:
    author.lake.store.write(peaks_path(sha256("a")), PEAKS[:-1])
    author.lake.media.remove_beside(sha256("b"))
    report = verify(author.lake)
    (problem,) = report.problems
    assert peaks_path(sha256("a")) in str(problem)
    assert verify(author.lake, audio=False).ok


def test_a_verification_finds_those_that_an_erasure_left(author: Author, pair: list[UUID]) -> None:
    erase(author.lake, author.index, pair[:1], uuid.uuid4())
    left = author.lake.media.peaks(sha256("a"))
    assert left is not None
    purge(author.lake, author.index, uuid.uuid4(), now=later(2))
    author.lake.media.put_peaks(sha256("a"), left)
    path = author.lake.store.local_path(peaks_path(sha256("a")))
    os.utime(path, (0, 0))
    (problem,) = verify(author.lake).problems
    assert path.name in str(problem)
