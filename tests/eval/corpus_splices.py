"""Words cut out of prompts and joined with pauses: their times are known without any aligner. It knows no model.

Only a prompt's outer edges are certain: the start of its first word and the end of its last. A word's own start and end
are None where it stands inside of a short prompt.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np
import soundfile

from tests import asterisk
from tests.eval.corpus_prompts import VOICE, words_said
from tests.eval.corpus_sound import Waveform, noise_of, rms_dbfs, span_s
from tests.eval.samples import Sample, Sound, Spoken, cached, half_of, random_of

COUNT: Final = 480
SAMPLE_RATE: Final = 8_000  # Hz
MAX_PIECE_S: Final = 2.0
MARGIN_S: Final = 0.04  # kept around a piece: what is fainter than the threshold belongs to the word, too
FADE_S: Final = 0.01
SILENCE_S: Final = (0.15, 0.6)
NOISE_DBFS: Final = -65.0
WITH_PHRASE: Final = 0.6  # of the pieces, those with one of the 13 phrases
SPELLED: Final = ("letters/", "phonetic/", "spy-")  # names of letters and of protocols


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole short prompt: its sound, with MARGIN_S around its words."""

    waveform: Waveform
    words: tuple[str, ...]


def splices() -> list[Sample]:
    """Return recordings of three to eight pieces each; a half's are made of that half's prompts alone."""
    return [_splice(f"splice-{number:03d}") for number in range(COUNT)]


def _splice(name: str) -> Sample:
    chance = random_of(name)
    by_phrase, single = _choices(half_of(name))
    phrases = sorted(by_phrase)
    names = [
        str(chance.choice(by_phrase[str(chance.choice(phrases))] if chance.random() < WITH_PHRASE else single))
        for _ in range(chance.integers(3, 9))
    ]
    path, words = cached("splices", name, f"1 {' '.join(names)}", partial(_joined, name, names))
    return Sample(name, path, "splices", "clean", half_of(name), VOICE, "splice", words)


@lru_cache(maxsize=2)
def _choices(half: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the short prompts of a half that begin or end with each phrase, and those of a single word."""
    by_phrase: dict[str, list[str]] = {}
    single = []
    for name, spoken in words_said().items():
        words = [word.text for word in spoken]
        if not words or half_of(name) != half or name.startswith(SPELLED):
            continue
        if len(words) == 1:
            single.append(name)
        if len(_piece(name).waveform) < MAX_PIECE_S * SAMPLE_RATE:
            for phrase in {words[0], words[-1]} & set(asterisk.PHRASES):
                by_phrase.setdefault(phrase, []).append(name)
    return by_phrase, single


@lru_cache(maxsize=1024)
def _piece(name: str) -> Piece:
    waveform, sample_rate = soundfile.read(asterisk.SOUNDS / f"{name}.wav", dtype="float32")
    if sample_rate != SAMPLE_RATE:
        raise RuntimeError(f"{name} has {sample_rate} Hz, not {SAMPLE_RATE}: resample the prompts")
    margin, fade = round(MARGIN_S * SAMPLE_RATE), round(FADE_S * SAMPLE_RATE)
    start_s, end_s = span_s(waveform, sample_rate)
    padded = np.pad(waveform, margin)
    piece = padded[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE) + 2 * margin].copy()
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    piece[:fade] *= ramp
    piece[-fade:] *= ramp[::-1]
    return Piece(piece, tuple(word.text for word in words_said()[name]))


def _joined(name: str, names: list[str]) -> Sound:
    chance = random_of(f"pauses {name}")
    pieces = [_piece(each) for each in names]
    margin = round(MARGIN_S * SAMPLE_RATE)
    starts, end = [], 0  # of the words, in samples
    for piece in pieces:
        starts.append(end + round(chance.uniform(*SILENCE_S) * SAMPLE_RATE))
        end = starts[-1] + len(piece.waveform) - 2 * margin
    joined = noise_of(chance, end + round(chance.uniform(*SILENCE_S) * SAMPLE_RATE))
    joined *= 10 ** ((NOISE_DBFS - rms_dbfs(joined)) / 20)
    words: list[Spoken] = []
    for piece, start in zip(pieces, starts, strict=True):
        joined[start - margin : start - margin + len(piece.waveform)] += piece.waveform
        end_s = (start + len(piece.waveform) - 2 * margin) / SAMPLE_RATE
        last = len(piece.words) - 1
        words += [
            Spoken(word, start / SAMPLE_RATE if place == 0 else None, end_s if place == last else None)
            for place, word in enumerate(piece.words)
        ]
    return Sound(joined, SAMPLE_RATE, tuple(words))
