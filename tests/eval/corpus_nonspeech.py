"""Hours in which nobody speaks: music, tones to their standards, noise, the sounds of games. It knows no model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import cycle, product
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from scipy.signal import square

from tests import asterisk
from tests.eval.corpus_prompts import MUSIC, speechless
from tests.eval.corpus_sound import Waveform, at_level, noise_of, resampled, rms_dbfs
from tests.eval.samples import Sample, Sound, cached, half_of, random_of

PART_S: Final = 300.0  # the longest file
TELEPHONE_RATE: Final = 8_000  # Hz
TELEPHONE_DBFS: Final = -30.0
EFFECTS_RATE: Final = 16_000  # Hz
TONES_S: Final = 90.0
NOISE_S: Final = 120.0
EFFECTS_S: Final = 150.0
GAMES: Final = Path("/usr/share/games")
KEYBOARD: Final = Path("/usr/share/buckle/wav")
PIECES: Final = {
    "hold": (MUSIC, "*.wav"),
    "bubbles": (GAMES / "frozen-bubble/snd", "*zik*.ogg"),
    "guns": (GAMES / "gunroar/sounds/musics", "*.ogg"),
    "slides": (GAMES / "etr/music", "*.ogg"),
    "marbles": (GAMES / "enigma/music", "*/*.ogg"),
    "tanks": (GAMES / "btanks/data/tunes", "*.ogg"),
    "ambient": (GAMES / "btanks/data/sounds/ambient", "*.ogg"),
}
# Of frozen-bubble's sounds those that nobody makes with a mouth.
EFFECTS: Final = {
    "keyboard": (KEYBOARD, ("*.wav",)),
    "guns": (GAMES / "gunroar/sounds/chunks", ("*.wav",)),
    "explosions": (GAMES / "chromium-bsu/wav", ("boom.wav", "explo*.wav", "power.wav")),
    "slides": (GAMES / "etr/sounds", ("*.wav",)),
    "bubbles": (GAMES / "frozen-bubble/snd", ("destroy_group.ogg", "launch.ogg", "rebound.ogg", "typewriter.ogg")),
}


@dataclass(frozen=True, slots=True)
class Cadence:
    """A tone of a telephone network: frequencies together, for each stretch of on and off; () is silence."""

    name: str
    stretches: tuple[tuple[tuple[float, ...], float], ...]  # Hz, s


# ITU-T E.180 (and its supplement 2 for national tones), Q.35; SIT by E.180; fax by T.30.
CADENCES: Final = (
    Cadence("dial-425", (((425,), 1.0),)),
    Cadence("dial-us", (((350, 440), 1.0),)),
    Cadence("dial-uk", (((350, 450), 1.0),)),
    Cadence("dial-stutter-us", (*(((350, 440), 0.1), ((), 0.1)) * 3, ((350, 440), 4.0))),
    Cadence("busy-425", (((425,), 0.5), ((), 0.5))),
    Cadence("busy-us", (((480, 620), 0.5), ((), 0.5))),
    Cadence("busy-uk", (((400,), 0.375), ((), 0.375))),
    Cadence("congestion-us", (((480, 620), 0.25), ((), 0.25))),
    Cadence("ringback-425", (((425,), 1.0), ((), 4.0))),
    Cadence("ringback-us", (((440, 480), 2.0), ((), 4.0))),
    Cadence("ringback-uk", (((400, 450), 0.4), ((), 0.2), ((400, 450), 0.4), ((), 2.0))),
    Cadence("information", (((950,), 0.33), ((1400,), 0.33), ((1800,), 0.33), ((), 1.0))),
    Cadence("call-waiting-us", (((440,), 0.3), ((), 9.7))),
    Cadence("record-warning", (((1400,), 0.5), ((), 14.5))),
    Cadence("off-hook-us", (((1400, 2060, 2450, 2600), 0.1), ((), 0.1))),
    Cadence("fax-calling", (((1100,), 0.5), ((), 3.0))),
    Cadence("fax-answer", (((2100,), 3.0), ((), 0.075))),
)
DTMF_ROWS: Final = (697, 770, 852, 941)  # Hz, ITU-T Q.23
DTMF_COLUMNS: Final = (1209, 1336, 1477, 1633)


def nonspeech() -> list[Sample]:
    """Return more than four hours; half of the music is a telephone's copy of the other half."""
    return [*_prompts(), *_music(), *_tones(), *_noises(), *_games()]


def _sample(
    name: str, kind: str, recipe: str, make: Callable[[], Sound], *, condition: str = "clean", family: str | None = None
) -> Sample:
    path, _ = cached(f"nonspeech/{condition}", name, f"1 {recipe}", make)
    return Sample(name, path, "nonspeech", condition, half_of(family or name), "", kind, ())


def _prompts() -> Iterator[Sample]:
    for name in speechless():
        kind = "tone" if "beep" in name or "tone" in name or name.startswith("confbridge") else "noise"
        yield Sample(name, asterisk.SOUNDS / f"{name}.wav", "nonspeech", "clean", half_of(name), "", kind, ())


def _music() -> Iterator[Sample]:
    """Yield each piece as it is and as a telephone gives it, both in one half."""
    for game, (folder, pattern) in PIECES.items():
        for path in sorted(folder.glob(pattern)):
            about = soundfile.info(path)
            count = int(np.ceil(about.duration / PART_S))
            for part, condition in product(range(count), ("clean", "telephone")):
                yield _sample(
                    f"{game}-{path.stem}-{part}",
                    "game" if game == "ambient" else "music",
                    f"{path} {about.frames} {count}",
                    partial(_piece, path, part, count, telephone=condition == "telephone"),
                    condition=condition,
                    family=f"{game}-{path.stem}",
                )


def _piece(path: Path, part: int, count: int, *, telephone: bool) -> Sound:
    frames = soundfile.info(path).frames // count
    waveform, sample_rate = soundfile.read(path, frames, part * frames, dtype="float32", always_2d=True)
    if not telephone:
        return Sound(waveform, sample_rate)
    mono = resampled(np.mean(waveform, axis=1), sample_rate, TELEPHONE_RATE)
    return Sound(at_level(mono, TELEPHONE_DBFS - rms_dbfs(mono)), TELEPHONE_RATE)


def _tones() -> Iterator[Sample]:
    for cadence in CADENCES:
        yield _sample(cadence.name, "tone", repr(cadence), partial(_cadence, cadence))
    for number in range(4):
        name = f"dtmf-{number}"
        yield _sample(name, "tone", "", partial(_dtmf, name))


def _cadence(cadence: Cadence) -> Sound:
    chance = random_of(cadence.name)
    parts = []
    lasted_s = 0.0
    for frequencies, length_s in cycle(cadence.stretches):
        parts.append(_together(frequencies, length_s, lasted_s))
        lasted_s += length_s
        if lasted_s >= TONES_S:
            break
    return _on_a_line(np.concatenate(parts), chance)


def _dtmf(name: str) -> Sound:
    """Dial at random: 50 to 200 ms a digit and a pause, the high tone 2 dB over the low one (Q.23, Q.24)."""
    chance = random_of(name)
    parts = []
    lasted_s = 0.0
    while lasted_s < TONES_S:
        length_s, pause_s = chance.uniform(0.05, 0.2), chance.uniform(0.05, 0.3) if chance.random() < 0.9 else 2.0
        low = _together((float(chance.choice(DTMF_ROWS)),), length_s)
        high = _together((float(chance.choice(DTMF_COLUMNS)),), length_s)
        parts += [low + high * 10 ** (2 / 20), _together((), pause_s)]
        lasted_s += length_s + pause_s
    return _on_a_line(np.concatenate(parts), chance)


def _together(frequencies: tuple[float, ...], length_s: float, start_s: float = 0.0) -> Waveform:
    """Return sines of one amplitude, with edges of 5 ms where they are switched."""
    at_s = np.arange(round(length_s * TELEPHONE_RATE)) / TELEPHONE_RATE
    tone = sum((np.sin(2 * np.pi * hz * (start_s + at_s)) for hz in frequencies), np.zeros(len(at_s)))
    edges = np.clip(np.minimum(at_s, at_s[::-1]) / 0.005, 0, 1)
    return (0.1 * tone * edges).astype(np.float32)


def _on_a_line(waveform: Waveform, chance: np.random.Generator) -> Sound:
    line = at_level(waveform, chance.uniform(-12, 6)) + noise_of(chance, len(waveform)) * 10 ** (-40 / 20)
    return Sound(line.astype(np.float32), TELEPHONE_RATE)


def _noises() -> Iterator[Sample]:
    for sample_rate in (8_000, 16_000):
        for colour, slope in {"white": 0.0, "pink": 1.0, "brown": 2.0}.items():
            for level_dbfs in (-20, -40, -55):
                name = f"{colour}{level_dbfs}-{sample_rate}"
                yield _sample(name, "noise", "", partial(_coloured, name, slope, level_dbfs, sample_rate))
    makers: dict[str, Callable[[np.random.Generator, Waveform], Waveform]] = {
        "hum-50": partial(_hum, 50.0),
        "hum-60": partial(_hum, 60.0),
        "clicks": _clicks,
        "bursts": _bursts,
        "wind": _wind,
        "silence": lambda _, at_s: np.zeros_like(at_s),
        "last-bit": lambda chance, at_s: chance.integers(-1, 2, len(at_s)) / 32_768,
    }
    for name, make in makers.items():
        yield _sample(name, "noise", "", partial(_made, name, make))


def _coloured(name: str, slope: float, level_dbfs: float, sample_rate: int) -> Sound:
    noise = noise_of(random_of(name), round(NOISE_S * sample_rate), slope)
    return Sound(at_level(noise, level_dbfs - rms_dbfs(noise)), sample_rate)


def _made(name: str, make: Callable[[np.random.Generator, Waveform], Waveform]) -> Sound:
    at_s = np.arange(round(NOISE_S * EFFECTS_RATE)) / EFFECTS_RATE
    return Sound(make(random_of(name), at_s).astype(np.float32), EFFECTS_RATE)


def _hum(mains_hz: float, chance: np.random.Generator, at_s: Waveform) -> Waveform:
    return 0.03 * square(2 * np.pi * mains_hz * at_s, 0.4) + 0.01 * noise_of(chance, len(at_s))


def _clicks(chance: np.random.Generator, at_s: Waveform) -> Waveform:
    """Pops of a bad contact: decays of some ms, two in a second."""
    pops = np.where(chance.random(len(at_s)) < 2 / EFFECTS_RATE, chance.uniform(-0.9, 0.9, len(at_s)), 0)
    decay = np.exp(-np.arange(320) / 40) * np.cos(np.arange(320))
    return np.clip(np.convolve(pops, decay)[: len(at_s)], -1, 1) + 0.01 * noise_of(chance, len(at_s))


def _bursts(chance: np.random.Generator, at_s: Waveform) -> Waveform:
    """Noise that comes and goes four times a second, as syllables do."""
    return noise_of(chance, len(at_s), 1.0) * np.clip(np.sin(2 * np.pi * 4 * at_s + np.sin(at_s)), 0, 1)


def _wind(chance: np.random.Generator, at_s: Waveform) -> Waveform:
    gusts = np.interp(at_s, np.arange(0, NOISE_S + 1), chance.uniform(0.05, 1.5, round(NOISE_S) + 1))
    return np.clip(noise_of(chance, len(at_s), 1.5) * gusts, -1, 1)


def _games() -> Iterator[Sample]:
    for name, (folder, patterns) in EFFECTS.items():
        paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
        for density in ("sparse", "dense"):
            recipe = " ".join([density, *(path.name for path in paths)])
            make = partial(_played, f"{name}-{density}", tuple(paths), 1.5 if density == "sparse" else 0.2)
            yield _sample(f"{name}-{density}", "game", recipe, make, family=name)


def _played(name: str, paths: tuple[Path, ...], pause_s: float) -> Sound:
    """Play effects in a random order at random gains, about `pause_s` apart."""
    chance = random_of(name)
    scene = noise_of(chance, round(EFFECTS_S * EFFECTS_RATE), 1.0) * 10 ** (-40 / 20)
    at = 0
    while at < len(scene):
        effect = _effect(paths[chance.integers(len(paths))])[: len(scene) - at]
        scene[at : at + len(effect)] += effect * 10 ** (chance.uniform(-15, 0) / 20)
        at += len(effect) + round(chance.exponential(pause_s) * EFFECTS_RATE)
    return Sound(at_level(scene, 0.0), EFFECTS_RATE)


@lru_cache(maxsize=256)
def _effect(path: Path) -> Waveform:
    waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.mean(waveform, axis=1), sample_rate, EFFECTS_RATE)
