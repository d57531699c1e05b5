"""Calls in which every stretch is of a known class, of speakers and sources that callscene was not trained on.

It knows no model. Choices were made on the fitting half; figures are of the reporting half. The halves have other
speakers, music and effects of other games, tones of other countries, other hum, and other draws of the same noises;
flite's voices say the same sentences in both.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from scipy.signal import butter as butterworth
from scipy.signal import sawtooth, sosfilt

from tests.eval.corpus_nonspeech import EFFECTS, PIECES, Cadence
from tests.eval.corpus_sound import Waveform, active_level_dbfs, noise_of, resampled, rms_dbfs
from tests.eval.corpus_tones import BUSY, RATE, RINGING, Spans, cadenced, dialled
from tests.eval.corpus_voices import SENTENCES
from tests.eval.samples import Sample, Sound, Spoken, cached, random_of

SOUNDS: Final = Path("/usr/share/asterisk/sounds")
PACKAGES: Final = {
    "asterisk-core-sounds-ru-wav": SOUNDS / "ru_RU_f_IvrvoiceRU",
    "asterisk-prompt-it-menardi-wav": SOUNDS / "it_IT_f_Menardi",
}
CONDITIONS: Final = {"8k": "PCM_16", "gsm": "GSM610"}
CALLS: Final = 40  # a half
CALL_S: Final = 75
LABELS: Final = ("speech", "music", "ringing", "busy tone", "DTMF", "noise", "silence")
SHARES: Final = (0.2, 0.17, 0.12, 0.15, 0.14, 0.14, 0.08)  # of the stretches
LEVELS_DBFS: Final = {"ringing": (-42, -6), "busy tone": (-42, -6), "DTMF": (-42, -6)}  # RMS, wider than trained on
OTHER_LEVELS_DBFS: Final = (-36, -10)  # of speech, P.56's
VERSION: Final = "3"
PAUSE_S: Final = 0.5  # longer ones within speech are none of it
QUIET_DB: Final = 35.0  # below the loudest frame
QUIETEST_MUSIC_DB: Final = 25.0  # a second further below its stretch's level is not asked for
FRAME: Final = 80  # samples: 10 ms
SNR_DB: Final = 10.0


@dataclass(frozen=True, slots=True)
class Sources:
    """What the calls of a half are made of."""

    speakers: tuple[str, ...]  # a folder of prompts, or a voice of flite
    games: tuple[str, ...]  # of PIECES
    effects: tuple[str, ...]  # of EFFECTS
    hums_hz: tuple[float, ...]
    ringing: tuple[Cadence, ...]
    busy: tuple[Cadence, ...]


SOURCES: Final = {
    "fitting": Sources(
        ("it_IT_f_Menardi", "flite-awb"),
        ("bubbles", "guns"),
        ("guns", "bubbles"),
        (50.0,),
        RINGING["fitting"],
        BUSY["fitting"],
    ),
    "reporting": Sources(
        ("ru_RU_f_IvrvoiceRU", "ru_RU_f_IvrvoiceRU", "flite-rms", "flite-slt"),
        ("marbles", "tanks"),
        ("keyboard", "explosions", "slides"),
        (60.0, 100.0),
        RINGING["reporting"],
        BUSY["reporting"],
    ),
}


def calls(condition: str, half: str = "reporting") -> list[Sample]:
    """Return the calls of a half in one of the CONDITIONS; the words of a call are its stretches."""
    found = []
    for number in range(CALLS):
        name = f"call-{half}-{number}"
        recipe = f"{VERSION} {SOURCES[half]}"
        make = partial(_call, name, half)
        path, stretches = cached(f"scenes/{condition}", name, recipe, make, subtype=CONDITIONS[condition])
        found.append(Sample(name, path, "scenes", condition, half, "", "call", stretches))
    return found


def _call(name: str, half: str) -> Sound:
    """Put stretches in a random order behind one another, over the line's own noise."""
    chance = random_of(name)
    noisy = chance.random() < 0.2
    floor_dbfs = chance.uniform(-47, -40) if noisy else chance.uniform(-85, -63)
    waveform = noise_of(chance, CALL_S * RATE, chance.uniform(0, 1.5)) * 10 ** ((floor_dbfs + 20) / 20)
    if chance.random() < 0.15 and not noisy:
        waveform *= 0
    stretches: list[Spoken] = []
    at_s, last = 0.0, ""
    while at_s < CALL_S:
        label = str(chance.choice(LABELS, p=SHARES))
        if label == last:
            continue
        sound, spans = _made(chance, SOURCES[half], label, chance.uniform(3, 10) * (1.8 if label == "ringing" else 1))
        if at_s + len(sound) / RATE > CALL_S:
            break
        start = round(at_s * RATE)
        level_dbfs = max(chance.uniform(*LEVELS_DBFS.get(label, OTHER_LEVELS_DBFS)), floor_dbfs + SNR_DB)
        waveform[start : start + len(sound)] += sound * 10 ** (level_dbfs / 20)
        stretches += [Spoken(label, at_s + start_s, at_s + end_s) for start_s, end_s in spans]
        at_s, last = at_s + len(sound) / RATE + chance.uniform(0, 3), label
    waveform *= min(1.0, 0.99 / float(np.max(np.abs(waveform))))
    background = "noise" if noisy else "silence"
    return Sound(waveform.astype(np.float32), RATE, (*stretches, Spoken(background, 0.0, float(CALL_S))))


def _made(chance: np.random.Generator, sources: Sources, label: str, duration_s: float) -> tuple[Waveform, Spans]:
    """Return a stretch at a level of about 0 dBFS, and where its class is in it."""
    frames = round(duration_s * RATE)
    match label:
        case "speech":
            return _speech(chance, sources.speakers[chance.integers(len(sources.speakers))], duration_s)
        case "music":
            return _music(chance, sources.games[chance.integers(len(sources.games))], frames)
        case "ringing":
            return cadenced(chance, sources.ringing[chance.integers(len(sources.ringing))], duration_s)
        case "busy tone":
            return cadenced(chance, sources.busy[chance.integers(len(sources.busy))], duration_s)
        case "DTMF":
            return dialled(chance, duration_s)
        case "noise":
            return _at_zero(_noise(chance, sources, frames)), [(0.0, duration_s)]
        case _:
            return np.zeros(frames, np.float32), []


def _speech(chance: np.random.Generator, speaker: str, duration_s: float) -> tuple[Waveform, Spans]:
    parts: list[Waveform] = []
    while sum(map(len, parts)) < duration_s * RATE:
        said = _sayings(speaker)
        pause = np.zeros(round(chance.uniform(0.05, 0.35) * RATE), np.float32)
        parts += [_said(said[chance.integers(len(said))]), pause]
    waveform = np.concatenate(parts)[: round(duration_s * RATE)]
    return waveform * 10 ** (-active_level_dbfs(waveform, RATE) / 20), _spoken(waveform)


def _spoken(waveform: Waveform) -> Spans:
    """Return where somebody speaks: loud frames, with the pauses between them that are short."""
    energy = np.add.reduceat(np.square(waveform, dtype=np.float64), np.arange(0, len(waveform), FRAME))
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-QUIET_DB / 10)) * FRAME / RATE
    breaks = np.flatnonzero(np.diff(loud) > PAUSE_S)
    starts, ends = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, len(loud) - 1]] + FRAME / RATE
    return [(float(start), float(end)) for start, end in zip(starts, ends, strict=True)]


@lru_cache(maxsize=8)
def _sayings(speaker: str) -> tuple[str, ...]:
    if speaker.startswith("flite-"):
        return tuple(f"{speaker}: {sentence}" for sentence in SENTENCES)
    paths = sorted((SOUNDS / speaker).rglob("*.wav"))
    wordless = ("beep", "tt-", "confbridge", "ascending", "descending")
    spoken = (path for path in paths if path.parent.name != "silence" and not path.stem.startswith(wordless))
    return tuple(str(path) for path in spoken if soundfile.info(path).frames)  # one of the package's is empty


@lru_cache(maxsize=1024)
def _said(saying: str) -> Waveform:
    """Return a prompt, or a sentence that flite says, without the silence around it."""
    voice, _, text = saying.partition(": ")
    if not text:
        return _trimmed(*soundfile.read(saying, dtype="float32"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = ["flite", "-voice", voice.removeprefix("flite-"), "-t", text, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return _trimmed(*soundfile.read(path, dtype="float32"))


def _trimmed(waveform: Waveform, sample_rate: int) -> Waveform:
    speech = resampled(waveform, sample_rate, RATE)
    spans = _spoken(speech)
    return speech[round(spans[0][0] * RATE) : round(spans[-1][1] * RATE)]


def _music(chance: np.random.Generator, game: str, frames: int) -> tuple[Waveform, Spans]:
    """Return a part of a piece; where it all but fades out, it is cut."""
    folder, pattern = PIECES[game]
    paths = sorted(folder.glob(pattern))
    while True:
        piece = _piece(paths[chance.integers(len(paths))])
        start = chance.integers(0, max(1, len(piece) - frames))
        part = _at_zero(piece[start : start + frames])
        seconds = part[: len(part) // RATE * RATE].reshape(-1, RATE)
        if len(seconds) and min(map(rms_dbfs, seconds)) > -QUIETEST_MUSIC_DB:
            return part, [(0.0, len(part) / RATE)]


@lru_cache(maxsize=64)
def _piece(path: Path) -> Waveform:
    waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.mean(waveform, axis=1), sample_rate, RATE)


def _noise(chance: np.random.Generator, sources: Sources, frames: int) -> Waveform:
    at_s = np.arange(frames) / RATE
    hum_hz = float(chance.choice(sources.hums_hz))
    effects = partial(_effects, chance, sources.effects[chance.integers(len(sources.effects))], frames)
    makers: tuple[Callable[[], Waveform], ...] = (
        lambda: noise_of(chance, frames, float(chance.choice((0.0, 1.0, 2.0)))),
        lambda: _band(chance, frames),
        lambda: sawtooth(2 * np.pi * hum_hz * at_s, 0.3) + noise_of(chance, frames),
        lambda: noise_of(chance, frames, 1.0) * (1 + np.sin(2 * np.pi * chance.uniform(0.3, 3) * at_s)),
        effects,
        effects,
    )
    return makers[chance.integers(len(makers))]().astype(np.float32)


def _band(chance: np.random.Generator, frames: int) -> Waveform:
    low_hz = chance.uniform(100, 1800)
    filters = butterworth(4, (low_hz, low_hz + chance.uniform(400, 2000)), "band", fs=RATE, output="sos")
    return sosfilt(filters, noise_of(chance, frames))


def _effects(chance: np.random.Generator, name: str, frames: int) -> Waveform:
    """Play sounds of keyboards and games close behind one another."""
    folder, patterns = EFFECTS[name]
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    scene = noise_of(chance, frames, 1.0) * 0.005
    at = 0
    while at < frames:
        effect = _piece(paths[chance.integers(len(paths))])[: frames - at]
        scene[at : at + len(effect)] += effect * 10 ** (chance.uniform(-8, 0) / 20)
        at += min(len(effect), round(chance.uniform(0.1, 0.4) * RATE))
    return scene


def _at_zero(waveform: Waveform) -> Waveform:
    return (waveform * 10 ** (-rms_dbfs(waveform) / 20)).astype(np.float32)
