"""Levels, spans and mixtures of the evaluation's sounds; it knows no corpus."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

FLOOR_DBFS: Final = -100.0
FULL_SCALE: Final = 0.99  # a mixture is turned down to it, never clipped
FRAME_S: Final = 0.01
SPAN_DB: Final = 30.0  # below the loudest frame, a frame is silence

Waveform = NDArray[np.float32]


def resampled(waveform: Waveform, source_rate: int, target_rate: int) -> Waveform:
    """Return the waveform at another rate, in Hz."""
    return resample_poly(waveform, target_rate, source_rate).astype(np.float32)


def rms_dbfs(waveform: Waveform) -> float:
    """Return 20 log10 of the RMS: a full-scale sine reads -3.01."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0
    return max(FLOOR_DBFS, 10 * np.log10(power + 1e-20))


def active_level_dbfs(waveform: Waveform, sample_rate: int) -> float:
    """Return the level of the speech without its pauses (ITU-T P.56, method B).

    The level over the time in which the envelope, held for 0.2 s, is above a threshold 15.9 dB below that level.
    """
    decay = np.exp(-1 / (sample_rate * 0.03))
    envelope = np.abs(waveform.astype(np.float64))
    for _ in range(2):
        envelope = lfilter([1 - decay], [1, -decay], envelope)
    energy, held = float(np.sum(np.square(waveform, dtype=np.float64))), round(0.2 * sample_rate)
    at = np.arange(len(envelope))
    before: tuple[float, float] | None = None
    for threshold in 2.0 ** np.arange(-15, 1):
        last_above = np.maximum.accumulate(np.where(envelope >= threshold, at, -held - 1))
        active = int(np.sum(at - last_above <= held))
        if not active:
            break
        level = 10 * np.log10(energy / active + 1e-20)
        margin = level - 20 * np.log10(threshold)
        if margin <= 15.9:
            if before is None:
                return float(level)
            share = (before[1] - 15.9) / (before[1] - margin)
            return float(before[0] + share * (level - before[0]))
        before = level, margin
    return before[0] if before else FLOOR_DBFS


def at_level(waveform: Waveform, gain_db: float) -> Waveform:
    """Return the waveform amplified by `gain_db`, or by less where it would clip."""
    amplified = waveform * 10 ** (gain_db / 20)
    return (amplified * min(1.0, FULL_SCALE / max(float(np.max(np.abs(amplified), initial=0)), 1e-9))).astype(
        np.float32
    )


def mixed(speech: Waveform, speech_dbfs: float, noise: Waveform, snr_db: float) -> Waveform:
    """Return speech and noise of its length, `snr_db` below the speech's active level."""
    return at_level(speech + noise * 10 ** ((speech_dbfs - snr_db - rms_dbfs(noise)) / 20), 0.0)


def span_s(waveform: Waveform, sample_rate: int) -> tuple[float, float]:
    """Return where the sound begins and ends: frames within SPAN_DB of the loudest one, to 1 ms."""
    frame, hop = round(FRAME_S * sample_rate), round(sample_rate / 1000)
    sums = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, max(1, len(waveform) - frame), hop)
    energy = sums[np.minimum(starts + frame, len(waveform))] - sums[starts]
    loud = np.flatnonzero(energy >= np.max(energy) * 10 ** (-SPAN_DB / 10))
    # A frame that rises above the threshold does so by what is at its end, and one that falls by what is at its start.
    return (starts[loud[0]] + frame - hop) / sample_rate, (starts[loud[-1]] + hop) / sample_rate


def noise_of(chance: np.random.Generator, frames: int, slope: float = 0.0) -> Waveform:
    """Return noise at -20 dBFS whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(chance.standard_normal(frames))
    weight = np.maximum(np.arange(len(spectrum)), max(1, len(spectrum) // 4000)) ** (-slope / 2)
    noise = np.fft.irfft(spectrum * weight, frames)
    return (noise * 0.1 / np.sqrt(np.mean(noise**2))).astype(np.float32)
