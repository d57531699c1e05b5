"""Words, short phrases and sentences by the voices of flite and espeak-ng; it knows no model.

A voice belongs to one half as a whole. It says every word alone, because short utterances are where recognisers fail.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from tests import asterisk
from tests.eval.corpus_sound import Waveform, active_level_dbfs, at_level, noise_of, resampled, span_s
from tests.eval.corpus_words import ALIGNER, placed
from tests.eval.samples import Sample, Sound, cached, half_of, random_of

SILENCE_S: Final = (0.3, 0.8)  # on each side
MARGIN_S: Final = 0.03  # of the synthesizer's own silence that is kept
NOISE_DBFS: Final = -70.0  # of the near silence
LEVEL_DBFS: Final = (-32.0, -20.0)  # active speech level
RATES: Final = (8_000, 16_000)  # Hz
TEMPOS: Final = (0.85, 1.0, 1.2)


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of a synthesizer. `person`: voices of one person are never in both halves."""

    name: str
    female: bool
    person: str

    @property
    def half(self) -> str:
        """The half that all its samples belong to."""
        return half_of(f"voice {self.person}")


FLITE: Final = (
    Voice("flite-kal", female=False, person="kal"),
    Voice("flite-kal16", female=False, person="kal"),
    Voice("flite-awb", female=False, person="awb"),
    Voice("flite-rms", female=False, person="rms"),
    Voice("flite-slt", female=True, person="slt"),
)
ESPEAK: Final = tuple(
    Voice(f"espeak-{name}", female=female, person=f"espeak-{name}")
    for name, female in {
        "en-us": False,
        "en-gb": False,
        "en-gb-scotland+m3": False,
        "en-gb-x-rp+m7": False,
        "en-029": False,
        "en-us-nyc+m2": False,
        "en-gb-x-gbclan+m1": False,
        "en-us+f3": True,
        "en-gb+f2": True,
        "en-gb-x-rp+f4": True,
        "en-029+f5": True,
        "en-gb-scotland+f1": True,
        "en-us+Annie": True,
        "en-gb+linda": True,
    }.items()
)
VOICES: Final = FLITE + ESPEAK

# Beside the phrases: words that sound like one of them, and others of the telephone. None is said like a phrase.
OTHER_WORDS: Final = (
    *("cold", "fall", "all", "hall", "caller", "pressed", "dress", "express", "number's", "lumber", "ground", "found"),
    *("hound", "well", "wheel", "these", "his", "its", "yours", "pleased", "peace", "messages", "massage", "center"),
    *("entered", "recording", "confidence", "yes", "no", "hello", "operator", "seven", "cancel", "tomorrow"),
)
SHORT_PHRASES: Final = ("press pound", "your call", "this number", "please enter", "the message is", "will call")
SENTENCES: Final = (
    "Please enter your account number.",
    "This call is recorded for training.",
    "Press pound when you are done.",
    "The conference will begin in five minutes.",
    "Is this the right number for your office?",
    "I left a message with your assistant on Friday.",
    "We will call you back before noon.",
    "To hear that again, press two, then pound.",
    "My flight was cancelled and nobody told me why.",
    "Could you spell the last name for me?",
    "The wall was tall and the ground was cold.",
    "Thanks for holding, an agent can help you now.",
    "She pressed the wrong button and lost all of them.",
)


def voices() -> list[Sample]:
    """Return what every voice says."""
    return [_said(voice, kind, text) for voice in VOICES for kind, text in _texts()]


def _texts() -> list[tuple[str, str]]:
    alone = [*asterisk.PHRASES, *OTHER_WORDS, *SHORT_PHRASES]
    return [("isolated", text) for text in alone] + [("sentence", text) for text in SENTENCES]


def _said(voice: Voice, kind: str, text: str) -> Sample:
    name = f"{voice.name} {text.rstrip('.?')}"
    chance = random_of(name)
    tempo, sample_rate = float(chance.choice(TEMPOS)), int(chance.choice(RATES))
    recipe = f"1 {tempo} {sample_rate} {ALIGNER} {_release(voice)}"
    make = partial(_recording, voice, name, text, tempo, sample_rate)
    path, words = cached(f"voices/{voice.name}", name, recipe, make)
    return Sample(name, path, "voices", "clean", voice.half, voice.name, kind, words)


def _recording(voice: Voice, name: str, text: str, tempo: float, sample_rate: int) -> Sound:
    """Return the text at some level, with near silence around it."""
    chance = random_of(f"around {name}")
    spoken, rate = _synthesized(voice, text, tempo)
    start_s, end_s = span_s(spoken, rate)
    cut = spoken[max(0, round((start_s - MARGIN_S) * rate)) : round((end_s + MARGIN_S) * rate)]
    speech = resampled(cut, rate, sample_rate)
    speech = at_level(speech, chance.uniform(*LEVEL_DBFS) - active_level_dbfs(speech, sample_rate))
    before, after = (round(chance.uniform(*SILENCE_S) * sample_rate) for _ in range(2))
    waveform = np.pad(speech, (before, after))
    waveform += noise_of(chance, len(waveform)) * 10 ** ((NOISE_DBFS + 20) / 20)
    return Sound(waveform, sample_rate, placed(waveform, sample_rate, text))


def _synthesized(voice: Voice, text: str, tempo: float) -> tuple[Waveform, int]:
    family, _, name = voice.name.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        if family == "flite":
            command = ["flite", "-voice", name, "--setf", f"duration_stretch={1 / tempo:.3f}", "-t", text, str(path)]
        else:
            command = ["espeak-ng", "-v", name, "-s", f"{160 * tempo:.0f}", "-w", str(path), text]
        subprocess.run(command, check=True, capture_output=True)
        waveform, sample_rate = soundfile.read(path, dtype="float32")
    return waveform, sample_rate


@lru_cache(maxsize=64)
def _release(voice: Voice) -> str:
    command = ["flite", "--version"] if voice in FLITE else ["espeak-ng", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("Data at")[0].strip()
