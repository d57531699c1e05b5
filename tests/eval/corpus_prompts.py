"""The Asterisk prompts in seven conditions, with the words that are really said, and where; it knows no model."""

import hashlib
import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from models.numbers import DIGITS
from models.phrases import words_of
from tests import asterisk
from tests.eval.corpus_sound import Waveform, active_level_dbfs, mixed, noise_of, resampled
from tests.eval.corpus_words import ALIGNER, placed
from tests.eval.samples import BUILD, Sample, Sound, Spoken, cached, half_of, random_of

VOICE: Final = "Allison"
MUSIC: Final = Path("/usr/share/asterisk/moh")
SNR_DB: Final = {"noise20": 20.0, "noise10": 10.0, "noise0": 0.0, "music10": 10.0}
CONDITIONS: Final = ("16k", "8k", "gsm", *SNR_DB)
NOMINAL_DBFS: Final = -26.0  # of speech on a line (ITU-T P.800): what noise is added to where nobody speaks
NOTES: Final = re.compile(r"\(.*?\)|<.*?>")  # what the texts say of the sound
SAID: Final = {
    "*": " star ",
    "#": " pound ",
    "3D": "three d",
    "28.8": "twenty eight point eight",
    "H.323": "h three two three",
    "8500": "eighty five hundred",  # before "500", which it ends with
    "500": "five hundred",
    "600": "six hundred",
    "1234": "one two three four",
    "4242": "four two four two",
    "www.asterisk.org": "w w w dot asterisk dot org",
    "umute": "unmute",
}
# Where the voice does not keep to the text: two recognisers of different kinds agree on what she says.
CORRECTED: Final = {
    "demo-congrats": ("help you to get started", "help you get started"),
    "invalid": ("I am sorry, that's not", "I'm sorry, that is not"),
    "pbx-invalid": ("I am sorry, that's", "I am sorry, but that's"),
    "pbx-invalidpark": ("I am sorry, there", "I am sorry, but there"),
}


def prompts(condition: str) -> list[Sample]:
    """Return every prompt in one of the CONDITIONS."""
    words = words_said()
    return [
        Sample(name, _path(name, condition), "prompts", condition, half_of(name), VOICE, "prompt", words[name])
        for name in asterisk.prompts()
    ]


@lru_cache(maxsize=1)
def words_said() -> dict[str, tuple[Spoken, ...]]:
    """Return the words of each prompt, with their times in the clean recording."""
    texts = {name: spelled(text.replace(*CORRECTED.get(name, ("", "")))) for name, text in asterisk.prompts().items()}
    recipe = json.dumps([ALIGNER, [[name, text, _digest(_source(name))] for name, text in texts.items()]])
    path = BUILD / f"alignments.{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.json"
    if not path.is_file():
        found = {name: [asdict(word) for word in placed(*_read(name), text)] for name, text in texts.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(path)
    return {name: tuple(Spoken(**word) for word in words) for name, words in json.loads(path.read_text()).items()}


def spelled(text: str) -> str:
    """Return the text with numbers and signs as they are said, without its notes."""
    text = NOTES.sub("", text)
    for written, said in SAID.items():
        text = text.replace(written, said)
    return re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], text)


def speechless() -> list[str]:
    """Return the prompts in which nobody speaks: tones, silence and monkeys."""
    return [name for name, text in asterisk.prompts().items() if not words_of(spelled(text))]


def _source(name: str, ending: str = "wav") -> Path:
    return asterisk.SOUNDS / f"{name}.{ending}"


@lru_cache(maxsize=4096)
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(name: str) -> tuple[Waveform, int]:
    waveform, sample_rate = soundfile.read(_source(name), dtype="float32")
    return waveform, sample_rate


def _path(name: str, condition: str) -> Path:
    if condition == "8k":
        return _source(name)
    source = _source(name, "g722" if condition == "16k" else "wav")
    recipe = [condition, _digest(source)]
    make: Callable[[], Sound]
    if condition == "16k":
        make = partial(_wideband, source)
    elif condition == "gsm":
        make = partial(_clean, name)
    elif condition == "music10":
        recipe += [_digest(path) for path in _pieces()]
        make = partial(_under_music, name, SNR_DB[condition])
    else:
        make = partial(_in_white_noise, name, SNR_DB[condition])
    subtype = "GSM610" if condition == "gsm" else "PCM_16"
    return cached(f"prompts/{condition}", name, " ".join(recipe), make, subtype=subtype)[0]


def _wideband(source: Path) -> Sound:
    """Decode G.722, of which libsndfile knows nothing."""
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(source), "-f", "wav", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    return Sound(*soundfile.read(io.BytesIO(decoded), dtype="float32"))


def _clean(name: str) -> Sound:
    return Sound(*_read(name))


def _in_white_noise(name: str, snr_db: float) -> Sound:
    speech, sample_rate = _read(name)
    noise = noise_of(random_of(f"noise {name}"), len(speech))
    return Sound(mixed(speech, _level_dbfs(name), noise, snr_db), sample_rate)


def _under_music(name: str, snr_db: float) -> Sound:
    speech, sample_rate = _read(name)
    chance = random_of(f"music {name}")
    music = _music(_pieces()[chance.integers(len(_pieces()))], sample_rate)
    start = chance.integers(len(music) // 10, len(music) - len(speech))  # the beginnings are quiet
    return Sound(mixed(speech, _level_dbfs(name), music[start : start + len(speech)], snr_db), sample_rate)


def _level_dbfs(name: str) -> float:
    return active_level_dbfs(*_read(name)) if words_said()[name] else NOMINAL_DBFS


def _pieces() -> list[Path]:
    return sorted(MUSIC.glob("*.wav"))


@lru_cache(maxsize=8)
def _music(path: Path, sample_rate: int) -> Waveform:
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.mean(waveform, axis=1), rate, sample_rate)
