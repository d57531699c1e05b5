"""When each word of a known text is said, by forced alignment. It must not know how the text came about.

Source: PocketSphinx 5.1 with the US English model and the CMU dictionary of its wheel, BSD.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.numbers import SMALL, cardinal
from models.phrases import words_of

SAMPLE_RATE: Final = 16_000  # Hz
FRAME_S: Final = 0.01
# A frame's window lasts 25.6 ms from the frame's start, and what it holds is felt at its middle: without this, starts
# of clean words are told 15 ms too early.
MIDDLE_S: Final = 0.0128 - FRAME_S / 2
PEAK: Final = 0.9  # what a waveform is scaled to: a quiet one would drown in the steps of 16 bits
BEAM: Final = (
    1e-90  # paths less likely than the best by this factor are given up; the default, 1e-48, loses noisy speech
)
ANY_BEAM: Final = 0.0  # no path is given up

SILENCE_PROBABILITY: Final = 0.5  # a pause may stand between any two words
UNSAYABLE: Final = "[SPEECH]"  # the acoustic model's word for speech that is no word

_ORDINAL: Final = re.compile(r"(?<=[0-9])(st|nd|rd|th)$")
_RUN: Final = re.compile(r"[0-9]+|[a-z][a-z']*")


def align(waveform: NDArray[np.float32], words: Sequence[str]) -> list[tuple[float, float]] | None:
    """Return when each of `words` is said, as (start, end) in seconds from the start of `waveform`.

    Depends on nothing but its arguments. Not to be called by two threads at once.

    Args:
        waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        words: All that is said in it, in order, as `models.phrases.words_of` gives it.

    Returns:
        One span for each word, in order of time; None where `words` do not fit into `waveform`.
    """
    if not words:
        return []
    duration_s = len(waveform) / SAMPLE_RATE
    if duration_s < FRAME_S:
        return None
    pcm = _as_16_bits(waveform)
    spans = _search(BEAM, pcm, words) or _search(ANY_BEAM, pcm, words)
    if spans is None:
        return None
    at = [(start * FRAME_S + MIDDLE_S, end * FRAME_S + MIDDLE_S) for start, end in spans]
    return [(min(start_s, duration_s), min(end_s, duration_s)) for start_s, end_s in at]


def word_times(waveform: NDArray[np.float32], text: str) -> list[tuple[float, float]]:
    """Return when each word of `text` is said; where it does not fit, as if every character took the same time.

    Args:
        waveform: Samples in [-1, 1] at SAMPLE_RATE. Shape (time,).
        text: What was read in it.

    Returns:
        For each of `models.phrases.words_of(text)`, (start, end) in seconds from the start of `waveform`.
    """
    duration_s, words = len(waveform) / SAMPLE_RATE, words_of(text)
    times = align(waveform, [word.text for word in words])
    if times is None:
        times = [(word.start / len(text) * duration_s, word.end / len(text) * duration_s) for word in words]
    return times


def _as_16_bits(waveform: NDArray[np.float32]) -> bytes:
    peak = float(np.abs(waveform).max())
    scaled = waveform * (PEAK * np.iinfo(np.int16).max / peak) if peak > 0 else waveform
    return np.rint(scaled).astype("<i2").tobytes()


def _search(beam: float, pcm: bytes, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """Return each word's first frame and the one behind its last, or None where no path reaches the last word."""
    decoder = _decoder(beam)
    transitions, last_state = _grammar(decoder, words)
    decoder.add_fsg("words", decoder.create_fsg("words", 0, last_state, transitions))
    decoder.activate_search("words")
    decoder.reinit_feat()  # forgets the noise of the utterance before
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    segments = decoder.seg()
    spans = _spans(segments) if segments is not None else []
    return spans if len(spans) == len(words) else None


def _spans(segments: Iterable[Any]) -> list[tuple[int, int]]:
    """Return the frames of each word; the grammar has an empty transition behind each."""
    spans = []
    heard: list[Any] = []  # since the last word: pauses and noise too, whose names are in brackets
    for segment in segments:
        if segment.word != "(NULL)":
            heard.append(segment)
            continue
        said = [part for part in heard if part.word[0] not in "<["] or [
            part for part in heard if part.word == UNSAYABLE
        ]
        spans.append((said[0].start_frame, said[-1].end_frame + 1))
        heard = []
    return spans


def _grammar(decoder: Any, words: Sequence[str]) -> tuple[list[tuple[Any, ...]], int]:
    """Return the transitions of a grammar that says `words` in order, from state 0, and its last state.

    What can be said in several ways has a path for each.
    """
    transitions: list[tuple[Any, ...]] = []
    begin, unused = 0, 1
    for word in words:
        for ways in _sayings(decoder, word):
            end, unused = unused, unused + 1
            for way in ways:
                state = begin
                for piece in way[:-1]:
                    transitions.append((state, unused, 1.0, piece))
                    state, unused = unused, unused + 1
                transitions.append((state, end, 1.0, way[-1]))
            begin = end
        transitions.append((begin, unused, 1.0))
        begin, unused = unused, unused + 1
    return transitions, begin


def _sayings(decoder: Any, word: str) -> list[list[tuple[str, ...]]]:
    """Return the ways to say each part of a word, in words of the dictionary: "10am" is ten, or one zero, and am."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    runs = _RUN.findall(_ORDINAL.sub("", plain))
    sayings = [_numbers(run) if run[0].isdigit() else [_pieces(decoder, run)] for run in runs]
    return sayings or [[(UNSAYABLE,)]]


def _pieces(decoder: Any, letters: str) -> tuple[str, ...]:
    """Return the fewest words of the dictionary that spell `letters`, as even as can be: "touch", "tone".

    Every letter is such a word, so "pbx" is spelled out.
    """
    if decoder.lookup_word(letters) is not None:
        return (letters,)
    best: list[tuple[str, ...]] = [()]  # of the first n letters
    for end in range(1, len(letters) + 1):
        ways = [best[-1]] if letters[end - 1] == "'" else []  # one that no word has is left out
        for start in range(end):
            piece = letters[start:end]
            if "'" not in piece[1:] and decoder.lookup_word(piece) is not None:  # "waldo", "'s", not "wal", "do's"
                ways.append((*best[start], piece))
        best.append(min(ways, key=_awkwardness))
    return best[-1]


def _awkwardness(pieces: tuple[str, ...]) -> tuple[int, int, int]:
    lengths = [len(piece) for piece in pieces]
    return -sum(lengths), len(pieces), sum(length**2 for length in lengths)


def _numbers(digits: str) -> list[tuple[str, ...]]:
    """Return the ways to say a number: 1905 is one nine oh five, nineteen oh five, and so on."""
    singly = tuple(SMALL[int(digit)] for digit in digits)
    ways = {singly, tuple("oh" if digit == "0" else SMALL[int(digit)] for digit in digits)}
    if len(digits) <= 12 and digits[0] != "0":
        ways.add(cardinal(int(digits)))
    if len(digits) in (3, 4) and digits[0] != "0":
        head, tail = int(digits[:-2]), digits[-2:]
        if tail == "00":
            ways.add((*cardinal(head), "hundred"))
        elif tail[0] == "0":
            ways.add((*cardinal(head), "oh", SMALL[int(tail)]))
        else:
            ways.add((*cardinal(head), *cardinal(int(tail))))
    if len(digits) == 3:  # what follows the comma of 1,500
        ways.add(("thousand", *(cardinal(int(digits)) if int(digits) else ())))
    return sorted(ways)


@lru_cache(maxsize=2)
def _decoder(beam: float) -> Any:
    from pocketsphinx import Decoder  # noqa: PLC0415  only few processes align

    # The acoustic model asks for cmn=batch: the mean is that of the utterance, and nothing is carried over.
    return Decoder(
        lm=None,
        loglevel="FATAL",
        beam=beam,
        pbeam=beam,
        wbeam=beam,
        maxhmmpf=-1,
        lw=1.0,
        silprob=SILENCE_PROBABILITY,
        bestpath=False,
    )
