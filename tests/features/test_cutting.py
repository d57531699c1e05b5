"""Cutting: a recording is decoded once, each want gets all of its own, and sections leave no trace in windows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features import cutting, pieces
from features.cutting import cut_recording
from features.pieces import SAMPLE_RATE, Piece, Wants, Windows
from features.utterances import UtteranceSettings

Save = Callable[..., Path]


def cut(path: Path, *wants: Wants, channels: tuple[int, ...] = (0,)) -> dict[Wants, list[Piece]]:
    found: dict[Wants, list[Piece]] = {want: [] for want in wants}
    for want, piece in cut_recording(path, channels, wants, UtteranceSettings()):
        found[want].append(piece)
    return found


def ramp(seconds: float) -> NDArray[np.float32]:
    return np.linspace(-1, 1, round(seconds * SAMPLE_RATE), dtype=np.float32)


@given(
    lengths=st.lists(st.integers(0, 50), max_size=12),
    window=st.integers(1, 40),
    context=st.integers(0, 60),
)
def test_windows_are_the_recording_whatever_sections_it_came_in(lengths: list[int], window: int, context: int) -> None:
    whole = np.arange(sum(lengths), dtype=np.float32)
    cutter = Windows(2, SAMPLE_RATE, window / SAMPLE_RATE, context / SAMPLE_RATE)
    found = [piece for section in np.split(whole, np.cumsum(lengths)[:-1]) for piece in cutter.push(section)]
    found += cutter.finish()
    assert [piece.number for piece in found] == list(range(-(-len(whole) // window)))
    for piece in found:
        assert piece.channel == 2
        start, end = piece.number * window, min((piece.number + 1) * window, len(whole))
        first, last = max(0, start - context), min(end + context, len(whole))
        assert np.array_equal(piece.waveform, whole[first:last])
        times = piece.start_s, piece.end_s, piece.before_s, piece.behind_s
        assert times == pytest.approx(np.array((start, end, start - first, last - end)) / SAMPLE_RATE)


def piece_of(before_s: float = 0.0, behind_s: float = 0.0, tempo: float = 1.0) -> Piece:
    """The second minute of a recording."""
    samples = round((before_s + 60 + behind_s) / tempo * SAMPLE_RATE)
    return Piece(0, 1, 60.0, 120.0, np.zeros(samples, np.float32), before_s, behind_s)


@pytest.mark.parametrize(
    ("span", "placed"),
    [
        ((15, 20), (65, 70)),
        ((0, 10), None),  # of the window before
        ((5, 10.5), (60, 60.5)),
        ((5, 75), (60, 120)),
        ((69, 75), (119, 120)),
        ((70, 80), None),  # of the window behind
        ((20, 20), (70, 70)),
    ],
)
def test_a_piece_speaks_of_its_own_part_alone(span: tuple[float, float], placed: tuple[float, float] | None) -> None:
    assert piece_of(10, 10).placed(*span) == (None if placed is None else pytest.approx(placed))


def test_a_piece_without_context_speaks_of_all_of_it() -> None:
    assert piece_of().placed(0, 0) == (60, 60)
    assert piece_of().placed(0, 61) == (60, 120), "what a model adds to it ends where it ends"


@pytest.mark.parametrize("tempo", [0.999, 1.001])
def test_a_piece_of_an_odd_rate_is_placed_by_the_recordings_clock(tempo: float) -> None:
    assert piece_of(10, 5, tempo).placed(40 / tempo, 50 / tempo) == pytest.approx((90, 100), abs=0.001)


def test_each_want_gets_what_it_gets_alone(two_cities: Path) -> None:
    wants: tuple[Wants, ...] = ("utterances", "windows", "file")
    together = cut(two_cities, *wants)
    for want in wants:
        (alone,) = cut(two_cities, want).values()
        assert [(p.channel, p.number, p.start_s, p.end_s) for p in together[want]] == [
            (p.channel, p.number, p.start_s, p.end_s) for p in alone
        ]
        assert all(
            np.array_equal(one.waveform, other.waveform) for one, other in zip(together[want], alone, strict=True)
        )
    (whole,) = together["file"]
    own = [piece.waveform[round(piece.before_s * SAMPLE_RATE) :] for piece in together["windows"]]
    assert all(piece.behind_s in (0, pieces.CONTEXT_S) for piece in together["windows"])
    lengths = [round((piece.end_s - piece.start_s) * SAMPLE_RATE) for piece in together["windows"]]
    middles = [waveform[:length] for waveform, length in zip(own, lengths, strict=True)]
    assert np.array_equal(np.concatenate(middles), whole.waveform)


def test_a_window_ends_where_it_should_though_a_section_ends_elsewhere(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "SECTION_S", 7.0)
    path = save(np.stack([ramp(150), -ramp(150)]), SAMPLE_RATE)
    found = cut(path, "windows", channels=(0, 1))["windows"]
    assert [(p.channel, p.start_s, p.end_s) for p in found if p.channel == 1] == [
        (1, 0, 60),
        (1, 60, 120),
        (1, 120, 150),
    ]
    assert len(found) == 6


def test_a_whole_channel_is_given_up_to_a_limit(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "WHOLE_S", 4.0)
    monkeypatch.setattr(cutting, "SECTION_S", 3.0)
    (short,), (long,) = (cut(save(ramp(seconds), SAMPLE_RATE), "file")["file"] for seconds in (2.5, 9.0))
    assert (short.start_s, short.end_s) == (0, 2.5)
    assert (long.start_s, long.end_s, len(long.waveform)) == (0, 4.0, 4 * SAMPLE_RATE)


def test_what_has_no_samples_has_no_pieces(save: Save) -> None:
    assert cut(save(ramp(0), SAMPLE_RATE), "utterances", "windows", "file") == {
        "utterances": [],
        "windows": [],
        "file": [],
    }
