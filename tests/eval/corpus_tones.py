"""Tones of telephone networks to measure on; it knows neither how callscene was trained nor its generator.

Each sine is the response of a resonator on the unit circle to an impulse, as switches make them (training computes
sines). The countries are others than those trained on, and others in each half. Everything reaches to the edges of what
is allowed: of DTMF to those of the administration that asks the most of a receiver (Australia, Q.24 annex A).
"""

from typing import Final

import numpy as np
from scipy.signal import lfilter
from scipy.signal.windows import tukey

from tests.eval.corpus_nonspeech import DTMF_COLUMNS, DTMF_ROWS, Cadence
from tests.eval.corpus_sound import Waveform

RATE: Final = 8_000  # Hz
TWIST_DB: Final = 10.0  # of either tone of a key over the other
DTMF_OFFSET: Final = 0.015  # of the frequencies
DTMF_OFFSET_HZ: Final = 4.0  # on top of it
SHORTEST_KEY_S: Final = 0.04
TONE_OFFSET: Final = 0.01  # E.180: of the frequencies
TIME_OFFSET: Final = 0.1  # E.180: of the times

# E.180's Supplement 2; by the half that they are of.
RINGING: Final = {
    "fitting": (
        Cadence("austria", (((420,), 1.0), ((), 5.0))),
        Cadence("e180-longest", (((425,), 2.5), ((), 6.0))),
        Cadence("israel", (((400,), 1.0), ((), 3.0))),
        Cadence("malaysia", (((425,), 0.4), ((), 0.2), ((425,), 0.4), ((), 2.0))),
        Cadence("singapore", (((401, 449), 0.4), ((), 0.2), ((401, 449), 0.4), ((), 2.0))),
    ),
    "reporting": (
        Cadence("australia", (((400, 425, 450), 0.4), ((), 0.2), ((400, 425, 450), 0.4), ((), 2.0))),
        Cadence("belgium", (((425,), 1.0), ((), 3.0))),
        Cadence("hong-kong", (((440, 480), 0.4), ((), 0.2), ((440, 480), 0.4), ((), 3.0))),
        Cadence("hungary", (((425,), 1.25), ((), 3.75))),
        Cadence("kenya", (((425,), 0.67), ((), 3.0), ((425,), 1.5), ((), 5.0))),
        Cadence("korea", (((440, 480), 1.0), ((), 2.0))),
        Cadence("philippines", (((425, 480), 1.0), ((), 4.0))),
        Cadence("turkey", (((450,), 2.0), ((), 4.0))),
    ),
}
BUSY: Final = {
    "fitting": (
        Cadence("argentina", (((425,), 0.3), ((), 0.2))),
        Cadence("argentina-congestion", (((425,), 0.2), ((), 0.3))),
        Cadence("chile-congestion", (((400,), 0.2), ((), 0.2))),
        Cadence("costa-rica", (((450,), 0.33), ((), 0.33))),
        Cadence("e180-longest", (((425,), 0.66), ((), 0.44))),
        Cadence("kenya", (((425,), 0.2), ((), 0.6))),
        Cadence("north-america", (((480, 620), 0.5), ((), 0.5))),
    ),
    "reporting": (
        Cadence("brazil-congestion", (((425,), 0.25), ((), 0.25), ((425,), 0.75), ((), 0.25))),
        Cadence("india", (((400,), 0.75), ((), 0.75))),
        Cadence("korea-reorder", (((480, 620), 0.3), ((), 0.2))),
        Cadence("singapore", (((425,), 0.75), ((), 0.75))),
        Cadence("south-africa-congestion", (((400,), 0.25), ((), 0.25))),
        Cadence("turkey", (((450,), 0.5), ((), 0.5))),
        Cadence("turkey-congestion", (*(((450,), 0.2), ((), 0.2)) * 3, ((450,), 0.6), ((), 0.2))),
    ),
}

Spans = list[tuple[float, float]]  # s


def cadenced(chance: np.random.Generator, cadence: Cadence, duration_s: float) -> tuple[Waveform, Spans]:
    """Return a tone that starts with its first burst and ends with its last, and where it goes on, pauses with it."""
    hertz_by, times_by = (1 + chance.uniform(-by, by) for by in (TONE_OFFSET, TIME_OFFSET))
    parts, end_s, lasted_s = [], 0.0, 0.0
    while lasted_s < duration_s:
        for hertz, length_s in cadence.stretches:
            parts.append(_switched(chance, [each * hertz_by for each in hertz], length_s * times_by))
            lasted_s += length_s * times_by
            end_s = lasted_s if hertz else end_s
    return np.concatenate(parts)[: round(end_s * RATE)], [(0.0, end_s)]


def dialled(chance: np.random.Generator, duration_s: float) -> tuple[Waveform, Spans]:
    """Return keys pressed one after the other, and where each sounds."""
    slow = chance.random() < 0.3
    parts: list[Waveform] = []
    spans: Spans = []
    lasted_s = 0.0
    while lasted_s < duration_s:
        key_s = chance.uniform(SHORTEST_KEY_S, 0.4 if slow else 0.12)
        pause_s = chance.uniform(0.2, 1.2) if slow else chance.uniform(0.05, 0.12)
        low, high = chance.choice(DTMF_ROWS), chance.choice(DTMF_COLUMNS)
        pair = np.array([low, high], float)
        pair += chance.choice((-1, -0.6, 0, 0.6, 1), 2) * (pair * DTMF_OFFSET + DTMF_OFFSET_HZ)
        twist_db = chance.uniform(-TWIST_DB, TWIST_DB)  # of the high tone over the low one
        tones = [_switched(chance, [each], key_s) for each in pair]
        key = tones[0] + tones[1] * np.float32(10 ** (twist_db / 20))
        spans.append((lasted_s, lasted_s + key_s))
        parts += [key / np.sqrt(1 + 10 ** (twist_db / 10)), np.zeros(round(pause_s * RATE), np.float32)]
        lasted_s += key_s + pause_s
    return np.concatenate(parts), spans


def _switched(chance: np.random.Generator, hertz: list[float], length_s: float) -> Waveform:
    """Return resonators of one strength at an RMS of 1 together; none is silence."""
    impulse = np.zeros(round(length_s * RATE))
    impulse[:1] = 1.0
    angles = [2 * np.pi * each / RATE for each in hertz]
    tones = [lfilter([0.0, np.sin(angle)], [1.0, -2 * np.cos(angle), 1.0], impulse) for angle in angles]
    tone = np.sum([0 * impulse, *tones], axis=0)
    edges = tukey(len(tone), float(chance.choice((0.0, 0.05, 0.15))))
    return (tone * edges * np.sqrt(2 / max(1, len(hertz)))).astype(np.float32)
