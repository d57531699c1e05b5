"""What one can say of an utterance in numbers, for drift and for people. It must not know what is normal.

Sources:
    ITU-T P.56 (2011), method B: active speech level; without its filter at the input, of 200 Hz to 5.5 kHz.
    Peeters 2004, A large set of audio features for sound description, 6.1: spectral centroid and roll-off.
    de Cheveigné and Kawahara 2002, YIN, a fundamental frequency estimator for speech and music: pitch.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from features.levels import FLOOR_DB, FRAME_S

REVISION: Final = 1
"""To be raised with every change of what `describe` returns: utterances are described anew then."""

ENVELOPE_S: Final = 0.03  # P.56: time constant of each of its two smoothers
HANGOVER_S: Final = 0.2  # P.56: shorter pauses belong to the speech around them
MARGIN_DB: Final = 15.9  # P.56: from the active level down to the threshold of activity
ENVELOPE_STEP_S: Final = 0.001  # P.56 asks for 600 envelope values a second or more

NOISE_PERCENTILE: Final = 10  # of the frames' powers, as in features.levels: the quietest pauses
NOISE_FRAMES: Final = 10  # fewer have no such percentile
MIN_SNR_DB: Final = -20.0  # what never pauses; white noise alone reads -10
MAX_SNR_DB: Final = 98.0  # what 16 bits have: 6.02 * 16 + 1.76
SPEECH_ABOVE_NOISE_DB: Final = 6.0  # above that percentile: frames of white noise stay within 2, most of pink within 6

CLIPPED_AT: Final = 0.99  # of full scale: resampled from 48 to 16 kHz, 9 in 10 clipped samples are still above it
CLIPPED_RUN: Final = 3  # samples, as in Audacity's Find Clipping: fewer may be a peak

SPECTRUM_S: Final = 0.032  # a power of 2 at 8 and 16 kHz, as is usual for speech
ROLL_OFF: Final = 0.95  # Peeters

MIN_PITCH_HZ: Final = 50.0
MAX_PITCH_HZ: Final = 500.0
PITCH_WINDOW_S: Final = 0.025  # YIN
PITCH_SMOOTHING_S: Final = 0.001  # YIN: a square window with its zero at 1 kHz; narrow pulses fall between two lags
PITCH_HOP_S: Final = 0.02
APERIODICITY: Final = 0.15  # as in aubio; YIN has 0.1. At 0.2 noise of 200 Hz bandwidth has a pitch
VOICED_FRAMES: Final = 3  # fewer are chance


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Numbers about an utterance. But for `level_dbfs` and `clipping`, none depends on the gain."""

    level_dbfs: float
    """Of the speech without its pauses (P.56), never below FLOOR_DB; a full-scale sine reads -3.01."""
    snr_db: float | None
    """Active speech over noise, MIN_SNR_DB to MAX_SNR_DB; None of silence and of less than 0.2 s.

    Noise is what the quietest tenth of the frames holds. So what never pauses is noise, digital silence between words
    hides what lies under them, and noise that swells in itself, or lies below 50 Hz, is underestimated: from 0 to 20 dB
    it reads within 1 dB in white noise, 1.5 to 2.6 dB too high in pink and 13 to 15 in brown (`make eval`).
    """
    clipping: float
    """Share of the samples, 0 to 1, in runs at full scale; a lower gain afterwards hides it, and so do codecs.

    A full-scale tone below 360 Hz that was not clipped reads up to 0.09 at 16 kHz.
    """
    bandwidth_hz: float | None
    """95 % of the power lies at or below it: roll-off of the long-term power spectrum (Peeters); None of silence."""
    spectral_centroid_hz: float | None
    """Mean frequency of the long-term power spectrum (Peeters); None of silence."""
    speech_share: float
    """Share of the time, 0 to 1, in frames above the noise and at most MARGIN_DB below the active level.

    Pauses shorter than HANGOVER_S count as speech. By energy alone: any sound that comes and goes is speech, a steady
    one is not, and noise hides weak speech (white noise at 10 dB a tenth of the time, at 0 dB most of it). Rumble
    between words counts, too, if it is loud enough: P.56's filter at the input is left out.
    """
    speaking_rate: float | None
    """Words, as spaces separate them, in a second of speech; None without text or speech."""
    pitch_median_hz: float | None
    """Median fundamental frequency of the voiced frames (YIN), 50 to 500 Hz; None where they are too few."""


def describe(waveform: NDArray[np.float32], sample_rate: int, text: str | None = None) -> Descriptors:
    """Return the descriptors of an utterance; but for clipping, a constant offset counts for nothing.

    Costs about 0.002 CPU s and 2 MB of memory for a second of audio at 16 kHz.

    Args:
        waveform: Finite samples in [-1, 1], of any number. Shape (time,).
        sample_rate: In Hz, from 1,000.
        text: What was said.
    """
    clipping = _clipping(waveform)
    centred = waveform.astype(np.float64)
    centred -= np.mean(centred) if len(centred) else 0.0
    level_dbfs, activity = _active_level(centred, sample_rate)
    if level_dbfs <= FLOOR_DB:
        return Descriptors(FLOOR_DB, None, clipping, None, None, 0.0, None, None)
    powers = _powers(centred, sample_rate)
    noise = float(np.percentile(powers, NOISE_PERCENTILE)) if len(powers) >= NOISE_FRAMES else None
    threshold = 10 ** ((level_dbfs - MARGIN_DB) / 10)
    speech_share = _speech_share(powers, max(threshold, (noise or 0.0) * 10 ** (SPEECH_ABOVE_NOISE_DB / 10)))
    frequencies, spectrum = _long_term_spectrum(centred, sample_rate)
    return Descriptors(
        level_dbfs=level_dbfs,
        snr_db=None if noise is None else _snr_db(float(np.mean(powers)), noise, activity),
        clipping=clipping,
        bandwidth_hz=_roll_off(frequencies, spectrum),
        spectral_centroid_hz=float(frequencies @ spectrum / np.sum(spectrum)),
        speech_share=speech_share,
        speaking_rate=speaking_rate(text, speech_share * len(waveform) / sample_rate),
        pitch_median_hz=_pitch_median(centred, sample_rate, threshold),
    )


def _active_level(waveform: NDArray[np.float64], sample_rate: int) -> tuple[float, float]:
    """Return the level of what is active, in dBFS, and the share of the time in which it is, 0 to 1.

    P.56 looks for the threshold that lies MARGIN_DB below the level of what exceeds it among powers of two, and
    interpolates; every value of the envelope is tried here, so that the gain shifts the level exactly. Where none
    fits, as in a click, everything is active.
    """
    if not len(waveform):
        return FLOOR_DB, 0.0
    step = max(1, round(ENVELOPE_STEP_S * sample_rate))
    padded = np.pad(np.abs(waveform), (0, -len(waveform) % step))
    step_s, means = step / sample_rate, padded.reshape(-1, step).mean(axis=1)
    decay = np.exp(-step_s / ENVELOPE_S)
    at = np.arange(round(10 * ENVELOPE_S / step_s))  # behind it lies 0.0005 of the response of both smoothers
    envelope = np.convolve(means, (1 - decay) ** 2 * (at + 1) * decay**at)[: len(means)]
    hangover = round(HANGOVER_S / step_s)
    held = sliding_window_view(np.pad(envelope, (hangover, 0)), hangover + 1).max(axis=1)
    power = float(np.mean(waveform**2))
    activities = np.arange(1, len(held) + 1) / len(held)
    fits = np.flatnonzero(np.sort(held)[::-1] ** 2 * activities >= power * 10 ** (-MARGIN_DB / 10))
    activity = float(activities[fits[-1]]) if len(fits) else 1.0
    return float(10 * np.log10(max(power / activity, 10 ** (FLOOR_DB / 10)))), activity


def _powers(waveform: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Return the variance of each whole frame of FRAME_S: what is below 50 Hz is no speech, and hardly counts."""
    length = round(FRAME_S * sample_rate)
    count = len(waveform) // length
    powers: NDArray[np.float64] = np.var(waveform[: count * length].reshape(count, length), axis=1)
    return powers


def _snr_db(power: float, noise: float, activity: float) -> float:
    """Return what exceeds the noise, as if it were all in the active time, over the noise."""
    speech = max(0.0, power - noise) / activity
    if speech <= noise * 10 ** (MIN_SNR_DB / 10):
        return MIN_SNR_DB
    if noise <= speech * 10 ** (-MAX_SNR_DB / 10):
        return MAX_SNR_DB
    return float(10 * np.log10(speech / noise))


def _speech_share(powers: NDArray[np.float64], threshold: float) -> float:
    above = np.flatnonzero(powers > threshold)
    if not len(above):
        return 0.0
    pauses = np.diff(above) - 1
    return float(len(above) + np.sum(pauses[pauses < round(HANGOVER_S / FRAME_S)])) / len(powers)


def speaking_rate(text: str | None, speech_s: float) -> float | None:
    """Return the words, as spaces separate them, in a second of speech; None without text or speech."""
    if text is None or not speech_s:
        return None
    return sum(any(map(str.isalnum, word)) for word in text.split()) / speech_s


def _clipping(waveform: NDArray[np.float32]) -> float:
    if not len(waveform):
        return 0.0
    changes = np.diff(np.abs(waveform) >= CLIPPED_AT, prepend=False, append=False)
    runs = np.diff(np.flatnonzero(changes))[::2]
    return float(np.sum(runs[runs >= CLIPPED_RUN])) / len(waveform)


def _long_term_spectrum(
    waveform: NDArray[np.float64], sample_rate: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frequencies, in Hz, and the power at each, over Hann windows that overlap by half (Welch 1967)."""
    hop = round(SPECTRUM_S * sample_rate / 2)
    padded = np.pad(waveform, (hop, hop + -len(waveform) % hop))
    window = np.hanning(2 * hop + 1)[:-1]
    spectra = np.fft.rfft(sliding_window_view(padded, 2 * hop)[::hop] * window)
    return np.fft.rfftfreq(2 * hop, 1 / sample_rate), np.sum(spectra.real**2 + spectra.imag**2, axis=0)


def _roll_off(frequencies: NDArray[np.float64], spectrum: NDArray[np.float64]) -> float:
    below = np.cumsum(spectrum)
    return float(frequencies[np.searchsorted(below, ROLL_OFF * below[-1])])


def _pitch_median(waveform: NDArray[np.float64], sample_rate: int, threshold: float) -> float | None:
    """Return the median of YIN's estimates in frames whose power is above `threshold`."""
    window, longest = round(PITCH_WINDOW_S * sample_rate), int(sample_rate / MIN_PITCH_HZ) + 1
    if len(waveform) < window + longest:
        return None
    smoothing = round(PITCH_SMOOTHING_S * sample_rate)
    smooth = np.convolve(waveform, np.full(smoothing, 1 / smoothing), "same")
    frames = sliding_window_view(smooth, window + longest)[:: round(PITCH_HOP_S * sample_rate)]
    frames = frames[np.mean(frames**2, axis=1) > threshold]
    periods = _periods(_normalised_differences(frames, window)) / sample_rate
    pitches = 1 / periods[periods > 0]
    voiced = pitches[(pitches >= MIN_PITCH_HZ) & (pitches <= MAX_PITCH_HZ)]
    return float(np.median(voiced)) if len(voiced) >= VOICED_FRAMES else None


def _normalised_differences(frames: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return YIN's cumulative mean normalised difference (equation 8) at each lag from 0. Shape (frame, lag)."""
    length = frames.shape[1]
    lags = length - window
    spectra = np.fft.rfft(frames) * np.conj(np.fft.rfft(frames[:, :window], length))
    products = np.fft.irfft(spectra, length)[:, : lags + 1]
    energies = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energies = energies[:, window:] - energies[:, : lags + 1]
    differences = np.maximum(0.0, energies[:, :1] + energies - 2 * products)[:, 1:]
    sums = np.cumsum(differences, axis=1)
    normalised = np.divide(differences * np.arange(1, lags + 1), sums, out=np.ones_like(differences), where=sums > 0)
    return np.pad(normalised, ((0, 0), (1, 0)), constant_values=1.0)


def _periods(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lag of each row's first trough below APERIODICITY, by a parabola through it; 0 where there is none."""
    before, at, behind = differences[:, :-2], differences[:, 1:-1], differences[:, 2:]
    troughs = (at < APERIODICITY) & (at < before) & (at <= behind)
    first = np.argmax(troughs, axis=1)
    rows = np.arange(len(differences))
    left, low, right = before[rows, first], at[rows, first], behind[rows, first]
    curvature = left - 2 * low + right
    offsets = np.divide(left - right, 2 * curvature, out=np.zeros(len(rows)), where=curvature > 0)
    return np.where(troughs.any(axis=1), first + 1 + offsets, 0.0)
