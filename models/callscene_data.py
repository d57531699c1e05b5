"""Scenes to train callscene on: a minute of calls each, and what its seconds are. It must not know the network."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.audio import resampled
from features.pieces import SAMPLE_RATE
from models import callscene_sounds as sounds
from models import callscene_tones as tones
from models.callscene_tones import RATE, Waveform

LABELS: Final = ("speech", "music", "ringing", "busy tone", "DTMF", "noise", "silence")
SPEECH, MUSIC, RINGING, BUSY, DTMF, NOISE, SILENCE = range(len(LABELS))
SHARES: Final = (0.2, 0.25, 0.13, 0.12, 0.1, 0.14, 0.06)  # of the stretches
SCENE_S: Final = 60
STRETCH_S: Final = (2.0, 11.0)
CODECS: Final = (None, None, "ULAW", "ULAW", "ALAW", "ALAW", "GSM610", "GSM610", "GSM610")  # G.711, GSM 06.10
SILENT_DBFS: Final = (-90.0, -61.0)  # RMS of what is silence; what is above -50 dBFS is noise
NOISY_DBFS: Final = (-49.0, -38.0)
LEVELS_DBFS: Final = ((-38, -14), (-40, -12), (-44, -5), (-44, -5), (-44, -5), (-45, -12))  # RMS, by label
LEAST_SNR_DB: Final = 7.0
KEY_S: Final = 0.04  # Q.24: the shortest key press, which makes a second one of DTMF
RING_S: Final = 0.2  # of ringing tone make a second one of ringing
UNSURE_S: Final = 0.06  # around both, and around half a second of anything, a second is left out


@dataclass(frozen=True, slots=True)
class Scene:
    """A minute. `waveform`: samples in [-1, 1] at SAMPLE_RATE, shape (time,). `labels`: of each second, -1 unclear."""

    waveform: NDArray[np.float32]
    labels: NDArray[np.int64]


def scenes(seed: int, count: int) -> Iterator[Scene]:
    """Yield scenes, each the same in every run."""
    for number in range(count):
        yield scene(np.random.default_rng([seed, number]))


def scene(chance: np.random.Generator) -> Scene:
    """Return stretches of classes in a random order over one background, as a codec and a line give them back."""
    kind = chance.choice(("digital silence", "silence", "noise"), p=(0.15, 0.6, 0.25))
    floor_dbfs = chance.uniform(*(NOISY_DBFS if kind == "noise" else SILENT_DBFS))
    background = NOISE if kind == "noise" else SILENCE
    frames = SCENE_S * RATE
    waveform, labels = np.zeros(frames, np.float32), np.full(frames, background)
    at, last = 0, -1
    while at < frames:
        label = int(chance.choice(len(LABELS), p=SHARES))
        if label == last:
            continue
        duration_s = min(chance.uniform(*STRETCH_S) * (1.6 if label == RINGING else 1), (frames - at) / RATE)
        stretch, sounding = _stretch(chance, label, max(duration_s, 0.2))
        end = min(at + len(stretch), frames)
        gain = 10 ** (_level_dbfs(chance, label, floor_dbfs) / 20)
        waveform[at:end] += gain * stretch[: end - at]
        labels[at:end] = np.where(sounding[: end - at], label, background)
        at, last = end + (round(chance.uniform(0, 0.5) * RATE) if chance.random() < 0.5 else 0), label
    if kind != "digital silence":
        waveform += 10 ** (floor_dbfs / 20) * sounds.coloured(chance, frames)
    return Scene(transmitted(chance, waveform), seconds(labels))


def seconds(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each second by what sounds in its samples: a key press, a ring, else what has the majority.

    Args:
        labels: Of each sample at RATE. Shape (time,).
    """
    counts = np.stack([(labels.reshape(-1, RATE) == label).sum(axis=1) for label in range(len(LABELS))], axis=1) / RATE
    found: NDArray[np.int64] = counts.argmax(axis=1)
    found[counts.max(axis=1) < 0.5 + UNSURE_S] = -1
    for label, least_s in ((RINGING, RING_S), (DTMF, KEY_S)):
        found[counts[:, label] > least_s - (UNSURE_S if label == RINGING else KEY_S / 2)] = -1
        found[counts[:, label] >= least_s + (UNSURE_S if label == RINGING else KEY_S)] = label
    return found


def transmitted(chance: np.random.Generator, waveform: Waveform) -> NDArray[np.float32]:
    """Return what arrives of a waveform at RATE, at SAMPLE_RATE: a band, a level, and a codec."""
    if chance.random() < 0.5:
        spectrum = np.fft.rfft(waveform)
        hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        spectrum *= 1 / np.sqrt(1 + (chance.uniform(50, 320) / np.maximum(hertz, 1)) ** 8)
        spectrum *= 1 / np.sqrt(1 + (hertz / chance.uniform(2800, 3900)) ** 24)
        waveform = np.fft.irfft(spectrum, len(waveform)).astype(np.float32)
    if chance.random() < 0.05:
        waveform = waveform * 4  # clipped
    return resampled(coded(np.clip(waveform, -1, 1), CODECS[chance.integers(len(CODECS))]), RATE, SAMPLE_RATE)


def coded(waveform: Waveform, codec: str | None) -> Waveform:
    """Return what a codec, as libsndfile names it, makes of a waveform at RATE; None: 16 bits."""
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, codec or "PCM_16", format="WAV")
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0]
    return np.pad(decoded, (0, max(0, len(waveform) - len(decoded))))[: len(waveform)]


def _stretch(chance: np.random.Generator, label: int, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Return a class at an RMS of about 1, and where it is heard."""
    match label:
        case 0:
            return sounds.speech(chance, duration_s)
        case 2:
            return tones.ringing(chance, duration_s)
        case 4:
            return tones.dtmf(chance, duration_s)
    waveform = np.zeros(round(duration_s * RATE), np.float32)
    match label:
        case 1:
            waveform = sounds.music(chance, duration_s)
        case 3:
            waveform, sent = tones.busy(chance, duration_s)
            return waveform, np.arange(len(sent)) <= np.flatnonzero(sent)[-1]
        case 5:
            waveform = sounds.noise(chance, duration_s)
    return waveform, np.full(len(waveform), label != SILENCE)


def _level_dbfs(chance: np.random.Generator, label: int, floor_dbfs: float) -> float:
    """Return a level that a telephone has, and that is heard over the background."""
    if label == SILENCE:
        return -200.0
    low, high = LEVELS_DBFS[label]
    return float(chance.uniform(min(max(low, floor_dbfs + LEAST_SNR_DB), high), high))
