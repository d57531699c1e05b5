"""Places known words in a sound by forced alignment (pocketsphinx); what is found in it is no concern of this file.

Source: CMU Pocketsphinx 5.1 with the US English model of its wheel, BSD. Its times are for rules that allow ±0.5 s;
what measures the product's times more finely needs times that no aligner gave.
"""

import re
import subprocess
from functools import lru_cache
from typing import Final

import numpy as np
from pocketsphinx import Decoder

from models.phrases import words_of
from tests.eval.corpus_sound import Waveform, resampled, span_s
from tests.eval.samples import Spoken

SAMPLE_RATE: Final = 16_000  # Hz
FRAMES_PER_S: Final = 100
ALIGNER: Final = "pocketsphinx 5.1.1, wide beams, a fresh mean, spans by energy"
CMU_PHONES: Final = {"AX": "AH"}  # of flite's, those that CMUdict writes differently


@lru_cache(maxsize=1)
def _decoder() -> Decoder:
    # The default beams lose 8 % of the prompts, these none.
    return Decoder(lm=None, bestpath=False, loglevel="FATAL", beam=1e-80, pbeam=1e-80, wbeam=1e-60)


def placed(waveform: Waveform, sample_rate: int, text: str) -> tuple[Spoken, ...]:
    """Return the words of `text` and where they are; without times where they cannot be aligned.

    Args:
        waveform: Clean speech. Shape (time,).
        sample_rate: In Hz.
        text: What is said in it, numbers and signs spelled out.
    """
    words = [word.text for word in words_of(text)]
    if not words:
        return ()
    first_s, last_s = span_s(waveform, sample_rate)
    if len(words) == 1:
        return (Spoken(words[0], first_s, last_s),)
    places = _aligned(resampled(waveform, sample_rate, SAMPLE_RATE), [_in_dictionary(word) for word in words])
    if len(places) != len(words):
        return tuple(Spoken(word, None, None) for word in words)
    starts = [min(max(start, first_s), last_s) for start, _ in places]
    ends = [max(min(end, last_s), start) for (_, end), start in zip(places, starts, strict=True)]
    return tuple(Spoken(*word) for word in zip(words, starts, ends, strict=True))


def _aligned(waveform: Waveform, words: list[str]) -> list[tuple[float, float]]:
    decoder = _decoder()
    decoder.reinit_feat()  # times must not depend on what was aligned before
    try:
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        decoder.process_raw((np.clip(waveform, -1, 1) * 32_767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
    except RuntimeError:
        return []
    return [
        (segment.start_frame / FRAMES_PER_S, (segment.end_frame + 1) / FRAMES_PER_S)
        for segment in decoder.seg() or []
        if re.match(r"[a-z']", segment.word)
    ]


def _in_dictionary(word: str) -> str:
    """Return the word, after adding it to the dictionary as flite's rules pronounce it, if it is not in it."""
    if _decoder().lookup_word(word) is None:
        said = subprocess.run(["flite", "-ps", "-t", word, "none"], capture_output=True, text=True, check=True).stdout
        phones = [CMU_PHONES.get(phone, phone) for phone in said.upper().split() if phone != "PAU"]
        _decoder().add_word(word, " ".join(phones), True)
    return word
