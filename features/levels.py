"""Levels of a waveform over time. It must not know what the waveform is of."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_S: Final = 0.02
FLOOR_DB: Final = -90.0


def frame_levels_dbfs(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Return the RMS level of each whole frame of FRAME_S, in dBFS, never below FLOOR_DB; a full sine reads -3.01.

    Args:
        waveform: Samples in [-1, 1]. Shape (time,).
        sample_rate: In Hz.
    """
    length = round(FRAME_S * sample_rate)
    count = len(waveform) // length
    power = np.mean(waveform[: count * length].reshape(count, length).astype(np.float64) ** 2, axis=1)
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
    return levels


def level_range_db(waveform: NDArray[np.float32], sample_rate: int) -> float:
    """Return how far the loud parts of a waveform are above its quiet ones: 95th less 10th percentile of its frames.

    Of speech with its pauses it is large, and the smaller the more noise there is; 0 where there is no whole frame.

    Args:
        waveform: Samples in [-1, 1]. Shape (time,).
        sample_rate: In Hz.
    """
    levels = frame_levels_dbfs(waveform, sample_rate)
    if not len(levels):
        return 0.0
    quiet, loud = np.percentile(levels, [10, 95])
    return float(loud - quiet)
