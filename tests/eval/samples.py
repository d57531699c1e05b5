"""What the evaluation listens to, one sample at a time; it knows neither the corpora nor the models."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

BUILD = Path("build/eval")


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word that is really said."""

    text: str  # lower case, as models.phrases.words_of gives it; numbers and signs are spelled out
    start_s: float | None  # None: unknown
    end_s: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A recording of which is known what is said in it."""

    name: str  # unique in its corpus and condition
    path: Path
    corpus: str  # "prompts", "voices", "nonspeech", "splices"
    condition: str  # prompts: "16k", "8k", "gsm", "noise20", "noise10", "noise0", "music10"; others: "clean"
    half: str  # "fitting" or "reporting"
    voice: str  # "Allison", "flite-slt", "espeak-en-us+f3"; "" for nonspeech
    kind: str  # "prompt", "sentence", "isolated", "splice", "music", "tone", "noise", "game"
    words: tuple[Spoken, ...]


@dataclass(frozen=True, slots=True)
class Sound:
    """What a recipe makes. `waveform`: samples in [-1, 1], shape (time,)."""

    waveform: NDArray[np.float32]
    sample_rate: int  # Hz
    words: tuple[Spoken, ...] = ()


def is_fitted_on(name: str) -> bool:
    """Return whether settings may be tuned on what has this name; figures are reported on the rest."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 0


def half_of(name: str) -> str:
    """Return the half that a name belongs to."""
    return "fitting" if is_fitted_on(name) else "reporting"


def random_of(name: str) -> np.random.Generator:
    """Return chance that is the same in every run, and another for every name."""
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))


def cached(
    folder: str, name: str, recipe: str, make: Callable[[], Sound], *, subtype: str = "PCM_16"
) -> tuple[Path, tuple[Spoken, ...]]:
    """Return the file that `make` makes, and its words; it is made where no file of this recipe is there.

    Args:
        folder: Below BUILD.
        name: Of the sample.
        recipe: Everything that the result depends on; a change of it makes the file anew.
        make: Makes the sound.
        subtype: Encoding in the WAV file, as libsndfile names it.
    """
    key = hashlib.sha256(f"{name}\n{recipe}\n{subtype}".encode()).hexdigest()[:12]
    path = BUILD / folder / f"{name.replace('/', '_')}.{key}.wav"
    words = path.with_suffix(".json")
    if not (words.is_file() and path.is_file()):
        sound = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        soundfile.write(unfinished, sound.waveform, sound.sample_rate, subtype, format="WAV")
        unfinished.replace(path)
        unfinished.write_text(json.dumps([asdict(word) for word in sound.words]))
        unfinished.replace(words)
    return path, tuple(Spoken(**word) for word in json.loads(words.read_text()))
