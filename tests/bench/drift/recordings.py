"""The recordings of `make bench-drift`: prompts as they are, and each change made of them; it knows no detector."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from tests import asterisk
from tests.eval.corpora import require
from tests.eval.corpus_prompts import MUSIC, prompts
from tests.eval.corpus_sound import FULL_SCALE, Waveform, active_level_dbfs, mixed, noise_of, resampled
from tests.eval.samples import Sound, cached, random_of

SPANISH: Final = Path("/usr/share/asterisk/sounds/es_MX_f_Allison")
PACKAGES: Final = {
    "asterisk-core-sounds-en": asterisk.TEXTS,
    "asterisk-core-sounds-en-wav": asterisk.SOUNDS,
    "asterisk-core-sounds-es-wav": SPANISH,
    "asterisk-moh-opsound-wav": MUSIC / "reno_project-system.wav",
}
OF_EVAL: Final = {"clean": "8k", "gsm": "gsm", "noise10": "noise10", "music": "music10"}
CONDITIONS: Final = (*OF_EVAL, "spanish", "loud12", "halfband", "quiet3", "noise30")
GAINS_DB: Final = {"loud12": 12.0, "quiet3": -3.0}
NOISE30_DB: Final = 30.0
HALF_RATE_HZ: Final = 4_000  # of 8 kHz: nothing above 2 kHz is left
LEAST_S: Final = 0.1  # a file that is shorter is none


def require_recordings() -> None:
    """Say which packages are missing."""
    require((), PACKAGES)


def recordings(condition: str) -> dict[str, Path]:
    """Return every recording under a condition, by its name."""
    if condition in OF_EVAL:
        return {sample.name: sample.path for sample in prompts(OF_EVAL[condition])}
    if condition == "spanish":
        paths = sorted(path for path in SPANISH.rglob("*.wav") if soundfile.info(path).duration >= LEAST_S)
        return {str(path.relative_to(SPANISH).with_suffix("")): path for path in paths}
    return {name: _changed(name, condition) for name in asterisk.prompts()}


def _changed(name: str, condition: str) -> Path:
    source = asterisk.SOUNDS / f"{name}.wav"
    recipe = f"{condition} {hashlib.sha256(source.read_bytes()).hexdigest()}"
    return cached(f"drift/{condition}", name, recipe, lambda: _change(name, source, condition))[0]


def _change(name: str, source: Path, condition: str) -> Sound:
    speech, sample_rate = _read(source)
    if condition in GAINS_DB:
        louder = speech * np.float32(10 ** (GAINS_DB[condition] / 20))
        return Sound(np.clip(louder, -1.0, 1.0), sample_rate)
    if condition == "halfband":
        cut = resampled(resampled(speech, sample_rate, HALF_RATE_HZ), HALF_RATE_HZ, sample_rate)[: len(speech)]
        return Sound(np.clip(cut, -FULL_SCALE, FULL_SCALE), sample_rate)
    noise = noise_of(random_of(f"noise {name}"), len(speech))
    return Sound(mixed(speech, active_level_dbfs(speech, sample_rate), noise, NOISE30_DB), sample_rate)


@lru_cache(maxsize=4)
def _read(path: Path) -> tuple[Waveform, int]:
    waveform, sample_rate = soundfile.read(path, dtype="float32")
    return waveform, sample_rate
