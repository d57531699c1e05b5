"""The recordings of `make bench-drift`: prompts as they are, and each change made of them; it knows no detector."""

import hashlib
import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from tests import asterisk
from tests.eval.corpora import require
from tests.eval.corpus_sound import FLOOR_DBFS, Waveform, active_level_dbfs, mixed, noise_of, resampled
from tests.eval.samples import Sound, cached, random_of

SPANISH: Final = Path("/usr/share/asterisk/sounds/es_MX_f_Allison")
MUSIC: Final = Path("/usr/share/asterisk/moh")
PACKAGES: Final = {
    "asterisk-core-sounds-en": asterisk.TEXTS,
    "asterisk-core-sounds-en-wav": asterisk.SOUNDS,
    "asterisk-core-sounds-es-wav": SPANISH,
    "asterisk-moh-opsound-wav": MUSIC / "reno_project-system.wav",
}
NOMINAL_DBFS: Final = -26.0  # of speech on a line (ITU-T P.800): what noise is added to where nobody speaks
HALF_RATE_HZ: Final = 4_000  # of 8 kHz: nothing above 2 kHz is left
LEAST_S: Final = 0.1  # a file that is shorter is none


def require_recordings() -> None:
    """Say which packages are missing."""
    require((), PACKAGES, "make bench-drift")


def recordings(condition: str) -> dict[str, Path]:
    """Return every recording under one of the CONDITIONS, by its name."""
    if condition == "clean":
        return {name: asterisk.SOUNDS / f"{name}.wav" for name in asterisk.prompts()}
    if condition == "spanish":
        paths = sorted(path for path in SPANISH.rglob("*.wav") if soundfile.info(path).duration >= LEAST_S)
        return {str(path.relative_to(SPANISH).with_suffix("")): path for path in paths}
    return {name: _changed(name, condition) for name in asterisk.prompts()}


def _changed(name: str, condition: str) -> Path:
    source = asterisk.SOUNDS / f"{name}.wav"
    recipe = f"{condition} {hashlib.sha256(source.read_bytes()).hexdigest()}"

    def make() -> Sound:
        speech, sample_rate = soundfile.read(source, dtype="float32")
        return Sound(CHANGES[condition](speech, sample_rate, name), sample_rate)

    return cached(f"drift/{condition}", name, recipe, make)[0]


def _through_gsm(speech: Waveform, sample_rate: int, name: str) -> Waveform:
    """Through GSM 06.10 and back, as on a trunk: the file itself does not say so."""
    file = io.BytesIO()
    soundfile.write(file, speech, sample_rate, "GSM610", format="WAV")
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0]
    return decoded


def _in_noise(speech: Waveform, sample_rate: int, name: str, *, snr_db: float) -> Waveform:
    return mixed(speech, _level_dbfs(speech, sample_rate), noise_of(random_of(f"noise {name}"), len(speech)), snr_db)


def _under_music(speech: Waveform, sample_rate: int, name: str) -> Waveform:
    """Speech with hold music 10 dB below it."""
    chance, pieces = random_of(f"music {name}"), sorted(MUSIC.glob("*.wav"))
    music = _music(pieces[chance.integers(len(pieces))], sample_rate)
    start = chance.integers(len(music) // 10, len(music) - len(speech))  # the beginnings are quiet
    return mixed(speech, _level_dbfs(speech, sample_rate), music[start : start + len(speech)], 10.0)


def _amplified(speech: Waveform, sample_rate: int, name: str, *, gain_db: float) -> Waveform:
    return np.clip(speech * np.float32(10 ** (gain_db / 20)), -1.0, 1.0)


def _at_half_bandwidth(speech: Waveform, sample_rate: int, name: str) -> Waveform:
    cut = resampled(resampled(speech, sample_rate, HALF_RATE_HZ), HALF_RATE_HZ, sample_rate)[: len(speech)]
    return np.clip(cut, -1.0, 1.0)


def _level_dbfs(speech: Waveform, sample_rate: int) -> float:
    level_dbfs = active_level_dbfs(speech, sample_rate)
    return level_dbfs if level_dbfs > FLOOR_DBFS else NOMINAL_DBFS


@lru_cache(maxsize=8)
def _music(path: Path, sample_rate: int) -> Waveform:
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.mean(waveform, axis=1), rate, sample_rate)


CHANGES: Final[dict[str, Callable[[Waveform, int, str], Waveform]]] = {
    "gsm": _through_gsm,
    "noise10": lambda speech, rate, name: _in_noise(speech, rate, name, snr_db=10.0),
    "music": _under_music,
    "loud12": lambda speech, rate, name: _amplified(speech, rate, name, gain_db=12.0),
    "halfband": _at_half_bandwidth,
    "quiet3": lambda speech, rate, name: _amplified(speech, rate, name, gain_db=-3.0),
    "noise30": lambda speech, rate, name: _in_noise(speech, rate, name, snr_db=30.0),
}
CONDITIONS: Final = ("clean", *CHANGES, "spanish")
