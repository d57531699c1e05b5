"""Properties of resampling over a stream: a tone stays what it was, and block ends cannot be heard."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchaudio.functional import resample

from features.audio import MAX_PHASES, read_blocks

Save = Callable[..., Path]

USUAL_RATES = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)
ODD_RATES = (1_001, 7_999, 8_001, 44_101, 48_001, 767_999)


def stream(path: Path, target: int, block_s: float) -> NDArray[np.float32]:
    """Return the joined blocks. Shape (channel, time)."""
    return np.concatenate(list(read_blocks(path, sample_rate=target, block_s=block_s)), axis=1)


def tone(frequency: float, sample_rate: int, seconds: float, amplitude: float = 0.5) -> NDArray[np.float32]:
    time_s = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time_s)).astype(np.float32)


def peak_frequency(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Return the strongest frequency in Hz, between the bins of a windowed spectrum."""
    bins = 1 << 20
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), bins))
    return float(np.argmax(spectrum) * sample_rate / bins)


def level_db(waveform: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20))


@pytest.mark.parametrize("target", [8_000, 16_000])
@pytest.mark.parametrize("sample_rate", [*USUAL_RATES, *ODD_RATES])
def test_a_tone_keeps_its_frequency_and_its_level(save: Save, sample_rate: int, target: int) -> None:
    frequency = 0.2 * min(sample_rate, target)
    heard = stream(save(tone(frequency, sample_rate, 1), sample_rate), target, block_s=0.3)[0]
    inner = heard[target // 10 : -target // 10]
    assert peak_frequency(inner, target) == pytest.approx(frequency, rel=1e-3)
    assert level_db(inner) == pytest.approx(level_db(tone(frequency, target, 1)), abs=0.1)


@pytest.mark.parametrize("sample_rate", [44_100, 44_101, 48_000, 96_000])
def test_a_tone_above_the_new_nyquist_frequency_is_gone(save: Save, sample_rate: int) -> None:
    heard = stream(save(tone(12_000, sample_rate, 1), sample_rate), 16_000, block_s=0.3)[0]
    assert level_db(heard[1_000:-1_000]) < -60


@pytest.mark.parametrize("sample_rate", [*USUAL_RATES, 8_001, 44_101])
def test_a_click_stays_at_its_time(save: Save, sample_rate: int) -> None:
    waveform = np.zeros(2 * sample_rate, np.float32)
    waveform[sample_rate + 1] = 1
    heard = stream(save(waveform, sample_rate), 16_000, block_s=0.7)[0]
    assert np.argmax(heard) / 16_000 == pytest.approx((sample_rate + 1) / sample_rate, abs=3 / 16_000)


def test_the_right_rate_is_passed_on_bit_by_bit(save: Save) -> None:
    waveform = np.random.default_rng(0).uniform(-1, 1, (3, 40_000)).astype(np.float32)
    np.testing.assert_array_equal(stream(save(waveform, 16_000), 16_000, block_s=0.3), waveform)


@settings(max_examples=30)
@example(sample_rate=44_101, target=16_000, channels=2, samples=30_000, block_s=0.01)
@example(sample_rate=8_001, target=16_000, channels=1, samples=30_000, block_s=0.01)
@example(sample_rate=44_100, target=16_000, channels=3, samples=30_000, block_s=0.02)
@given(
    sample_rate=st.sampled_from(USUAL_RATES + ODD_RATES) | st.integers(1_000, 100_000),
    target=st.sampled_from((8_000, 16_000)),
    channels=st.integers(1, 4),
    samples=st.integers(1, 30_000),
    block_s=st.floats(0.01, 0.5),
)
def test_blocks_joined_equal_the_whole_resampled_at_once(
    save: Save, sample_rate: int, target: int, channels: int, samples: int, block_s: float
) -> None:
    waveform = np.random.default_rng(samples).uniform(-1, 1, (channels, samples)).astype(np.float32)
    path = save(waveform, sample_rate)
    ratio = Fraction(sample_rate, target)
    if ratio.denominator <= MAX_PHASES:
        whole = resample(torch.from_numpy(waveform), sample_rate, target).numpy()
    else:
        whole = stream(path, target, block_s=1_000)
    joined = stream(path, target, block_s)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=2e-6)


@settings(max_examples=20)
@given(sample_rate=st.integers(1_000, 100_000), seconds=st.floats(0.5, 1))
def test_the_length_in_seconds_stays_within_a_thousandth(save: Save, sample_rate: int, seconds: float) -> None:
    samples = round(seconds * sample_rate)
    heard = stream(save(np.zeros(samples, np.float32), sample_rate), 16_000, block_s=0.2)
    assert heard.shape[1] / 16_000 == pytest.approx(samples / sample_rate, rel=1e-3, abs=1 / 16_000)


def test_channels_do_not_leak_into_each_other(save: Save) -> None:
    waveform = np.stack([tone(440, 44_100, 1), np.zeros(44_100, np.float32)])
    heard = stream(save(waveform, 44_100), 16_000, block_s=0.1)
    assert level_db(heard[0]) > -10
    assert not heard[1].any()
