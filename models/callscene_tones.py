"""Tones of telephone networks to train on, drawn at random within their standards. It must not know a recording.

ITU-T E.180 (tones), its Supplement 2 (what each country sends), Q.23 (DTMF) and Q.24 (what a receiver must take).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 8_000  # Hz
DTMF_ROWS: Final = (697.0, 770.0, 852.0, 941.0)  # Hz, Q.23
DTMF_COLUMNS: Final = (1209.0, 1336.0, 1477.0, 1633.0)
DTMF_OFFSET: Final = 0.022  # Q.24: 1.5 % must be taken, up to 3.5 % may be
DTMF_TWIST_DB: Final = (-11.0, 11.0)  # of the high tone over the low one; Q.24 annex A: up to 10 dB either way
TONE_OFFSET: Final = 0.01  # E.180 allows 1 % of old equipment
PERIOD_SPREAD: Final = 0.1  # E.180: tones last within 10 % of what is named

Waveform = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cadence:
    """Frequencies sent together, in Hz, for each stretch of on, off, on, … in seconds."""

    hertz: tuple[float, ...]
    stretches: tuple[float, ...]
    modulated_hz: float = 0.0


RINGING: Final = (
    Cadence((425,), (1.0, 4.0)),  # E.180's own, most of Europe, Brazil
    Cadence((425,), (1.0, 5.0)),  # Sweden
    Cadence((425,), (1.5, 3.0)),  # Spain
    Cadence((425,), (0.8, 3.2)),  # Russia
    Cadence((425,), (0.67, 3.0)),  # the shortest of E.180
    Cadence((440,), (1.5, 3.5)),  # France
    Cadence((450,), (1.0, 4.0)),  # China
    Cadence((400,), (1.0, 2.0), 16.0),  # Japan
    Cadence((440, 480), (2.0, 4.0)),  # North America
    Cadence((440, 480), (1.0, 3.0)),  # what exchanges of offices there send
    Cadence((400, 450), (0.4, 0.2, 0.4, 2.0)),  # United Kingdom, Ireland
    Cadence((400,), (0.4, 0.2, 0.4, 2.0), 25.0),  # India
)
BUSY: Final = (
    Cadence((425,), (0.5, 0.5)),  # E.180's own
    Cadence((425,), (0.48, 0.48)),  # Germany
    Cadence((425,), (0.24, 0.24)),  # Germany, congestion
    Cadence((425,), (0.2, 0.2)),  # Spain; Italy's and Russia's congestion
    Cadence((425,), (0.25, 0.25)),  # Sweden
    Cadence((425,), (0.25, 0.75)),  # Sweden, congestion
    Cadence((425,), (0.4, 0.4)),  # Russia
    Cadence((425,), (0.2, 0.2, 0.2, 0.2, 0.2, 0.6)),  # Spain, congestion
    Cadence((440,), (0.5, 0.5)),  # France
    Cadence((450,), (0.35, 0.35)),  # China
    Cadence((450,), (0.7, 0.7)),  # China, congestion
    Cadence((400,), (0.5, 0.5)),  # Japan
    Cadence((400,), (0.375, 0.375)),  # United Kingdom
    Cadence((400,), (0.4, 0.35, 0.225, 0.525)),  # United Kingdom, congestion
    Cadence((480, 620), (0.5, 0.5)),  # North America
    Cadence((480, 620), (0.25, 0.25)),  # North America, reorder
)
OTHERS: Final = (  # of no class but noise
    Cadence((425,), (4.0, 0.0)),  # dial tones
    Cadence((440,), (4.0, 0.0)),
    Cadence((350, 440), (4.0, 0.0)),
    Cadence((350, 450), (4.0, 0.0)),
    Cadence((400,), (4.0, 0.0), 25.0),
    Cadence((1100,), (0.5, 3.0)),  # T.30: a fax machine calls
    Cadence((2100,), (3.0, 0.1)),  # and answers
    Cadence((1000,), (4.0, 0.0)),  # test tones
    Cadence((1004,), (1.0, 0.5)),
    Cadence((1400,), (0.4, 4.0)),  # a recording is under way
)


def ringing(chance: np.random.Generator, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Return ringing tone at an RMS of about 1 while it sounds, and where it sounds; a third are of no country.

    Shapes (time,).
    """
    if chance.random() < 0.33:
        return _sent(chance, _any_ringing(chance), duration_s)
    return _sent(chance, RINGING[chance.integers(len(RINGING))], duration_s)


def busy(chance: np.random.Generator, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Return busy or congestion tone as `ringing` does; 45 of 100 are of no country."""
    if chance.random() < 0.45:
        return _sent(chance, _any_busy(chance), duration_s)
    return _sent(chance, BUSY[chance.integers(len(BUSY))], duration_s)


def _any_ringing(chance: np.random.Generator) -> Cadence:
    """Return one or two rings and a pause, as E.180 accepts them: 0.67 to 2.5 s and 3 to 6 s, and somewhat beyond."""
    hertz: tuple[float, ...] = (chance.uniform(395, 455),)
    if chance.random() < 0.5:
        hertz = (hertz[0], hertz[0] + chance.uniform(20, 60))
    if chance.random() < 0.4:
        ring_s, gap_s = chance.uniform(0.3, 0.6), chance.uniform(0.15, 0.4)
        return Cadence(hertz, (ring_s, gap_s, ring_s, chance.uniform(1.8, 4.0)))
    return Cadence(hertz, (chance.uniform(0.6, 2.5), chance.uniform(2.0, 6.0)))


def _any_busy(chance: np.random.Generator) -> Cadence:
    """Return bursts as E.180 accepts them, and somewhat beyond: of a period up to 1.6 s, some of uneven bursts."""
    hertz = (chance.uniform(395, 455),) if chance.random() < 0.75 else (480.0, 620.0)
    period_s = chance.uniform(0.3, 1.1) if chance.random() < 0.6 else chance.uniform(1.0, 1.6)
    share = chance.uniform(0.4, 0.6)  # of the burst: E.180's ratios of 0.67 to 1.5
    stretches = [period_s * share, period_s * (1 - share)]
    if chance.random() < 0.3:  # congestion here and there: the last of some bursts is longer, or the pause behind it
        bursts, longer = int(chance.integers(2, 5)), int(chance.integers(2))
        stretches = [chance.uniform(0.17, 0.3)] * (2 * bursts)
        stretches[longer - 2] *= chance.uniform(1.5, 3.5)
    return Cadence(hertz, tuple(stretches))


def other(chance: np.random.Generator, duration_s: float) -> Waveform:
    """Return dial tone, a fax machine, a test tone or special information tone."""
    if chance.random() < 0.2:
        steps = ((950.0,), 0.33), ((1400.0,), 0.33), ((1800.0,), 0.33), ((), 1.0)  # E.180
        parts = [_together(chance, hertz, round(seconds * RATE)) for hertz, seconds in steps]
        once = np.concatenate(parts)
        return np.resize(once, round(duration_s * RATE))
    return _sent(chance, OTHERS[chance.integers(len(OTHERS))], duration_s)[0]


def dtmf(chance: np.random.Generator, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Return keys as a dialler or as fingers press them, and where they sound; Q.24: 40 ms and more of each."""
    frames = round(duration_s * RATE)
    waveform, sounds = np.zeros(frames, np.float32), np.zeros(frames, np.bool_)
    by_hand = chance.random() < 0.4
    at = round(chance.uniform(0, 0.2) * RATE)
    while at < frames:
        lasts = round((chance.uniform(0.08, 0.6) if by_hand else chance.uniform(0.04, 0.15)) * RATE)
        high_db = chance.uniform(*DTMF_TWIST_DB)
        offsets = 1 + chance.uniform(-DTMF_OFFSET, DTMF_OFFSET, 2)
        low, high = chance.choice(DTMF_ROWS) * offsets[0], chance.choice(DTMF_COLUMNS) * offsets[1]
        key = _together(chance, (low,), lasts) + _together(chance, (high,), lasts) * 10 ** (high_db / 20)
        waveform[at : at + lasts] = (key / np.sqrt(1 + 10 ** (high_db / 10)))[: frames - at]
        sounds[at : at + lasts] = True
        at += lasts + round((chance.uniform(0.1, 1.5) if by_hand else chance.uniform(0.04, 0.15)) * RATE)
    return waveform, sounds


def _sent(chance: np.random.Generator, cadence: Cadence, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Send a tone from a random place of its cadence on, with frequencies and times off by what is allowed."""
    hertz = tuple(each * (1 + chance.uniform(-TONE_OFFSET, TONE_OFFSET)) for each in cadence.hertz)
    spread = 1 + chance.uniform(-PERIOD_SPREAD, PERIOD_SPREAD)
    lengths = [max(0, round(seconds * spread * RATE)) for seconds in cadence.stretches]
    skipped = round(chance.uniform(0, sum(lengths))) if chance.random() < 0.3 else 0
    frames = round(duration_s * RATE)
    parts = list(_parts(chance, hertz, lengths, frames + skipped, cadence.modulated_hz))
    waveform = np.concatenate([part for part, _ in parts])[skipped : skipped + frames]
    sounds = np.concatenate([np.full(len(part), on) for part, on in parts])[skipped : skipped + frames]
    return waveform, sounds


def _parts(
    chance: np.random.Generator, hertz: tuple[float, ...], lengths: list[int], frames: int, modulated_hz: float
) -> Iterator[tuple[Waveform, bool]]:
    done = 0
    for number, length in enumerate(cycle(lengths)):
        if done >= frames:
            return
        on = number % 2 == 0
        yield _together(chance, hertz if on else (), length, modulated_hz), on
        done += length


def _together(
    chance: np.random.Generator, hertz: tuple[float, ...], frames: int, modulated_hz: float = 0.0
) -> Waveform:
    """Return sines of one amplitude from random phases, at an RMS of 1, with edges of 1 to 8 ms."""
    at_s = np.arange(frames) / RATE
    phases = chance.uniform(0, 2 * np.pi, len(hertz))
    tone = sum((np.sin(2 * np.pi * each * at_s + phase) for each, phase in zip(hertz, phases, strict=True)), 0.0 * at_s)
    if modulated_hz:
        tone = tone * (1 + 0.85 * np.sin(2 * np.pi * modulated_hz * at_s)) / np.sqrt(1.36)
    edges = np.clip(np.minimum(at_s, at_s[::-1]) / chance.uniform(0.001, 0.008), 0, 1)
    return np.asarray(tone * edges * np.sqrt(2 / max(1, len(hertz))), np.float32)
