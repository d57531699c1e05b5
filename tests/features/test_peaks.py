"""Peaks bound every sample, whatever the blocks, in bounded memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import features.peaks
from features.peaks import PeaksMaker, probe_with_peaks

WAVEFORMS = st.tuples(st.integers(1, 150), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1.5, 1.5, width=32))
)
CUTS = st.lists(st.integers(0, 150), max_size=6)


def made(waveform: NDArray[np.float32], sample_rate: int, cuts: list[int] = ()) -> PeaksMaker:
    maker = PeaksMaker()
    for block in np.split(waveform, sorted(cut for cut in cuts if cut < len(waveform))):
        maker.push(block, sample_rate)
    return maker


@given(waveform=WAVEFORMS, sample_rate=st.sampled_from([1_000, 1_234]), cuts=CUTS)
@settings(max_examples=50)
def test_peaks_bound_every_sample_as_closely_as_eight_bits_allow(
    waveform: NDArray[np.float32], sample_rate: int, cuts: list[int]
) -> None:
    peaks = made(waveform, sample_rate, cuts).peaks()
    assert peaks.samples_per_pixel == round(sample_rate / 50)
    assert len(peaks.values) == -(-len(waveform) // peaks.samples_per_pixel)
    scaled = np.clip(waveform * 128, -128, 127)
    for number, pixel in enumerate(peaks.values.astype(float)):
        samples = scaled[number * peaks.samples_per_pixel :][: peaks.samples_per_pixel]
        assert np.all(pixel[:, 0] <= samples)
        assert np.all(samples <= pixel[:, 1])
        assert np.all(samples.min(axis=0) - pixel[:, 0] <= 1)
        assert np.all(pixel[:, 1] - samples.max(axis=0) <= 1)


@given(waveform=WAVEFORMS, cuts=CUTS, most=st.sampled_from([2, 5, 8]))
@settings(max_examples=50)
def test_neither_the_borders_of_blocks_nor_merging_make_a_difference(
    waveform: NDArray[np.float32], cuts: list[int], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features.peaks, "MAX_PIXELS", most)
        peaks, whole = made(waveform, 1_000, cuts).peaks(), made(waveform, 1_000).peaks()
    assert len(peaks.values) <= most + 1
    assert peaks.samples_per_pixel == whole.samples_per_pixel
    assert np.array_equal(peaks.values, whole.values)
    pixels = np.split(waveform, range(peaks.samples_per_pixel, len(waveform), peaks.samples_per_pixel))
    least = [np.clip(np.floor(pixel.min(axis=0) * 128), -128, 127) for pixel in pixels]
    assert np.array_equal(peaks.values[..., 0], least)


def test_a_sine_reaches_its_amplitude_in_every_pixel() -> None:
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 8_000)
    peaks = made(np.stack([sine, 0 * sine], axis=1).astype(np.float32), 8_000).peaks()
    assert peaks.values.shape == (100, 2, 2)
    assert np.all(np.abs(peaks.values[:, 0] - [-64, 64]) <= 1)
    assert not peaks.values[:, 1].any(), "silence is a line"


def test_what_is_no_number_counts_as_silence_and_what_is_too_loud_as_full_scale() -> None:
    waveform = np.array([[np.nan], [0.25], [np.inf], [-np.inf]], np.float32)
    assert made(waveform, 100).peaks().values.tolist() == [[[0, 32]], [[-128, 127]]]


def test_a_day_takes_no_more_than_the_pixels_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features.peaks, "MAX_PIXELS", 1_000)
    maker, block = PeaksMaker(), np.zeros((8_000 * 60, 1), np.float32)
    for _ in range(24 * 60):
        maker.push(block[:480], 8)  # a minute at 8 Hz stands for one at 8,000
        assert sum(map(len, maker._done)) <= 1_000
    assert 500 <= len(maker.peaks().values) <= 1_001


def test_nothing_has_no_peaks() -> None:
    with pytest.raises(ValueError, match="no samples"):
        PeaksMaker().peaks()


def test_decoding_once_says_both(two_cities: Path, save: Callable[..., Path]) -> None:
    info, peaks = probe_with_peaks(two_cities, max_duration_s=60)
    assert (info.sample_rate, info.channels) == (48_000, 1)
    assert peaks.samples_per_pixel == 960
    assert len(peaks.values) == np.ceil(info.duration_s * 50)
    assert peaks.values.max() > 20
