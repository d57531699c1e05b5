"""Denoising: less noise, the speech left where it was, and nothing carried over from what came before."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.audio import read_blocks
from features.denoising import denoised
from features.errors import FeatureError
from features.levels import frame_levels_dbfs
from features.pieces import SAMPLE_RATE
from models.group import GROUP_FILE

Waveform = NDArray[np.float32]
SHA256 = tomllib.loads(GROUP_FILE.read_text())["model"][0]["settings"]["denoiser_sha256"]


@pytest.fixture(scope="module")
def speech(two_cities: Path) -> Waveform:
    (whole,) = read_blocks(two_cities, sample_rate=SAMPLE_RATE, block_s=60)
    return whole[0, : 6 * SAMPLE_RATE]


def noise_like(speech: Waveform, level: float = 0.05) -> Waveform:
    return (level * np.random.default_rng(1).standard_normal(len(speech))).astype(np.float32)


def clean(waveform: Waveform, limit_db: float = 100.0) -> Waveform:
    return denoised(waveform, SAMPLE_RATE, limit_db, SHA256)


def test_noise_falls_by_no_more_than_the_limit(speech: Waveform) -> None:
    noise = noise_like(speech)
    before = np.median(frame_levels_dbfs(noise, SAMPLE_RATE))
    falls = {
        limit_db: before - np.median(frame_levels_dbfs(clean(noise, limit_db), SAMPLE_RATE)) for limit_db in (6, 12)
    }
    assert falls[6] == pytest.approx(6, abs=1)
    assert falls[12] == pytest.approx(12, abs=1)
    assert before - np.median(frame_levels_dbfs(clean(noise), SAMPLE_RATE)) > 20


def test_speech_comes_nearer_to_what_it_was_and_stays_in_time(speech: Waveform) -> None:
    noisy = speech + noise_like(speech)
    result = clean(noisy)
    assert len(result) == len(speech)
    assert np.mean((result - speech) ** 2) < 0.3 * np.mean((noisy - speech) ** 2)
    lags = range(-400, 401, 8)
    shares = [float(np.dot(result[1000:-1000], np.roll(speech, lag)[1000:-1000])) for lag in lags]
    assert abs(lags[int(np.argmax(shares))]) <= 8, "samples off at 16 kHz: half a millisecond"


def test_what_came_before_is_not_felt(speech: Waveform) -> None:
    noisy = speech + noise_like(speech)
    first = clean(noisy)
    clean(noise_like(speech, 0.5))
    assert np.array_equal(clean(noisy), first)


@pytest.mark.parametrize("samples", [0, 1, 100, 159, 160, 161, 7_777])
def test_any_length_stays_as_it_is(speech: Waveform, samples: int) -> None:
    result = clean(speech[:samples])
    assert (result.shape, result.dtype) == ((samples,), np.float32)
    assert np.isfinite(result).all()


def test_silence_stays_silent() -> None:
    assert np.abs(clean(np.zeros(SAMPLE_RATE, np.float32))).max() < 1e-4


def test_other_weights_are_refused(speech: Waveform) -> None:
    with pytest.raises(FeatureError, match="expected 0000"):
        denoised(speech, SAMPLE_RATE, 12.0, "0" * 64)


def test_loud_sound_says_nothing_on_the_terminal(speech: Waveform, capfd: pytest.CaptureFixture[str]) -> None:
    clean(speech / np.abs(speech).max())
    assert capfd.readouterr() == ("", "")
