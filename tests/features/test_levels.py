"""Levels: tones of known level read it, and noise narrows the range."""

import numpy as np
import pytest

from features.levels import FLOOR_DB, frame_levels_dbfs, level_range_db

RATE = 16_000


def tone(level_dbfs: float, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (10 ** ((level_dbfs + 3.0103) / 20) * np.sin(2 * np.pi * 400 * times)).astype(np.float32)


@pytest.mark.parametrize("level_dbfs", [-3.0103, -20, -60])
def test_a_tone_reads_its_level_in_every_frame(level_dbfs: float) -> None:
    assert frame_levels_dbfs(tone(level_dbfs), RATE) == pytest.approx(level_dbfs, abs=0.01)


def test_silence_reads_the_floor_and_has_no_range() -> None:
    silence = np.zeros(RATE, np.float32)
    assert (frame_levels_dbfs(silence, RATE) == FLOOR_DB).all()
    assert level_range_db(silence, RATE) == 0


def test_half_loud_and_half_quiet_are_as_far_apart_as_they_are_made() -> None:
    assert level_range_db(np.concatenate([tone(-10), tone(-45)]), RATE) == pytest.approx(35, abs=0.01)


def test_the_level_as_a_whole_does_not_count() -> None:
    both = np.concatenate([tone(-10), tone(-30)])
    assert level_range_db(both / 10, RATE) == pytest.approx(level_range_db(both, RATE), abs=0.01)


def test_noise_fills_the_pauses() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    speech = np.concatenate([tone(-10), tone(-70)])
    assert level_range_db(speech + noise, RATE) < 15 < level_range_db(speech, RATE)


@pytest.mark.parametrize("samples", [0, 1, 319])
def test_less_than_a_frame_has_no_range(samples: int) -> None:
    assert level_range_db(np.ones(samples, np.float32), RATE) == 0
