"""Speech and music from Debian's packages, and music and noise made by rule, to train on. It must not know scenes."""

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.audio import resampled
from models.callscene_tones import RATE, Waveform, other
from models.errors import ModelError

SOUNDS: Final = Path("/usr/share/asterisk/sounds")
MUSIC: Final = (
    (Path("/usr/share/asterisk/moh"), "*.wav"),
    (Path("/usr/share/games/lincity-ng/music/default"), "*.ogg"),
    (Path("/usr/share/games/asc/music"), "*.mp3"),
)
# Who speaks in what is trained on: Allison in two languages, June, and Carlo. Russian is left for the evaluation.
SPEAKERS: Final = {
    "Allison": ("en_US_f_Allison", "es_MX_f_Allison"),
    "June": ("fr_CA_f_June",),
    "Carlo": ("it_IT_m_Carlo",),
}
PACKAGES: Final = {
    "asterisk-core-sounds-en-wav": SOUNDS / "en_US_f_Allison",
    "asterisk-core-sounds-es-wav": SOUNDS / "es_MX_f_Allison",
    "asterisk-core-sounds-fr-wav": SOUNDS / "fr_CA_f_June",
    "asterisk-core-sounds-it-wav": SOUNDS / "it_IT_m_Carlo",
    "asterisk-moh-opsound-wav": MUSIC[0][0] / "reno_project-system.wav",
    "lincity-ng-data": MUSIC[1][0],
    "asc-music": MUSIC[2][0],
}
NOT_SPEECH: Final = ("beep", "silence", "tt-monkeys", "tt-somethingwrong", "confbridge", "ascending", "descending")
FRAME: Final = 160  # samples: 20 ms
SPEECH_RANGE_DB: Final = 35.0  # below the loudest frame, a frame of a prompt is a pause
MUSIC_RANGE_DB: Final = 25.0  # below the piece's own level, what is drawn is too quiet to be heard as music
PAUSE_S: Final = 0.5  # shorter ones belong to what is said
SEMITONE: Final = 2 ** (1 / 12)


def require() -> None:
    """Say what to install, where a recording is missing.

    Raises:
        ModelError: A package is not installed.
    """
    missing = [package for package, path in PACKAGES.items() if not path.exists()]
    if missing:
        raise ModelError(f"training needs recordings of Debian: apt-get install {' '.join(missing)}")


def speech(chance: np.random.Generator, duration_s: float) -> tuple[Waveform, NDArray[np.bool_]]:
    """Return prompts of one speaker at an RMS of about 1, faster or slower, and where they are no long pause."""
    folders = list(SPEAKERS.values())[chance.integers(len(SPEAKERS))]
    files = _prompts(folders[chance.integers(len(folders))])
    frames, speed = round(duration_s * RATE), chance.uniform(0.85, 1.18)
    parts: list[Waveform] = []
    while sum(map(len, parts)) < frames:
        prompt = _read(files[chance.integers(len(files))])
        parts += [_stretched(prompt, speed), np.zeros(round(chance.uniform(0.03, 0.4) * RATE), np.float32)]
    waveform = np.concatenate(parts)[:frames]
    sounds = sounding(waveform, SPEECH_RANGE_DB)
    return waveform / max(float(np.sqrt(np.mean(waveform[sounds] ** 2))), 1e-6), sounds


def music(chance: np.random.Generator, duration_s: float) -> Waveform:
    """Return hold music or a game's, at another speed, or notes by rule, at an RMS of 1."""
    frames = round(duration_s * RATE)
    made = _composed(chance, duration_s) if chance.random() < 0.35 else _piece(chance, frames)
    waveform = made[:frames]
    return (waveform / max(float(np.sqrt(np.mean(waveform**2))), 1e-6)).astype(np.float32)


def noise(chance: np.random.Generator, duration_s: float) -> Waveform:
    """Return sound that is none of the others, at an RMS of 1: of the line, the room, or of machines."""
    frames = round(duration_s * RATE)
    at_s = np.arange(frames) / RATE
    kind = chance.choice(
        ("coloured", "hum", "clicks", "gusts", "strokes", "tone"), p=(0.34, 0.12, 0.12, 0.14, 0.14, 0.14)
    )
    hiss = coloured(chance, frames)
    match kind:
        case "coloured":
            made = hiss
        case "hum":
            mains_hz = float(chance.choice((50.0, 60.0))) * (1 + chance.uniform(-0.01, 0.01))
            harmonics = np.arange(1, 20)
            weights = harmonics ** -chance.uniform(0.2, 1.5) * chance.random(len(harmonics))
            made = weights @ np.sin(2 * np.pi * np.outer(harmonics * mains_hz, at_s)) + chance.uniform(0, 0.5) * hiss
        case "clicks":
            pops = np.where(chance.random(frames) < chance.uniform(1, 30) / RATE, chance.uniform(-1, 1, frames), 0)
            made = _convolved(pops, _ringing_out(chance, 0.002, 0.02)) + 0.01 * hiss
        case "gusts":
            steps = round(duration_s * chance.uniform(1, 8)) + 2
            envelope = np.interp(at_s, np.linspace(0, duration_s, steps), chance.uniform(0.05, 1, steps) ** 2)
            made = hiss * envelope
        case "strokes":
            made = _strokes(chance, frames) + chance.uniform(0.003, 0.05) * hiss
        case _:
            made = other(chance, duration_s) + 0.002 * hiss
    return (made / max(float(np.sqrt(np.mean(made**2))), 1e-6)).astype(np.float32)


def coloured(chance: np.random.Generator, frames: int) -> Waveform:
    """Return noise of a random slope and band, at an RMS of 1."""
    spectrum = np.fft.rfft(chance.standard_normal(frames))
    hertz = np.fft.rfftfreq(frames, 1 / RATE)
    spectrum *= np.maximum(hertz, 20.0) ** (-chance.uniform(-0.3, 2.2) / 2)
    if chance.random() < 0.4:
        low_hz, width_hz = chance.uniform(50, 2500), chance.uniform(300, 3000)
        spectrum *= 1 / (1 + ((hertz - low_hz - width_hz / 2) / (width_hz / 2)) ** 8)
    made = np.fft.irfft(spectrum, frames)
    return np.asarray(made / np.sqrt(np.mean(made**2)), np.float32)


def sounding(waveform: Waveform, range_db: float) -> NDArray[np.bool_]:
    """Return where a waveform is within a range of its loudest frame, or in a pause shorter than PAUSE_S."""
    frames = max(1, len(waveform) // FRAME)
    energy = np.square(waveform[: frames * FRAME], dtype=np.float64).reshape(frames, -1).mean(axis=1)
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-range_db / 10))
    sounds = np.zeros(len(waveform), np.bool_)
    for frame, following in zip(loud, [*loud[1:], len(waveform)], strict=True):
        near = (following - frame) * FRAME <= PAUSE_S * RATE
        sounds[frame * FRAME : (following if near else frame + 1) * FRAME] = True
    return sounds


@lru_cache(maxsize=16)
def _prompts(folder: str) -> tuple[Path, ...]:
    """Return the recordings of a folder in which somebody speaks."""
    paths = sorted((SOUNDS / folder).rglob("*.wav"))
    return tuple(path for path in paths if "silence" not in path.parts and not path.stem.startswith(NOT_SPEECH))


@lru_cache(maxsize=4096)
def _read(path: Path) -> Waveform:
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(np.ascontiguousarray(waveform.mean(axis=1)), rate, RATE)


def _stretched(waveform: Waveform, speed: float) -> Waveform:
    """Play faster or slower, and so higher or lower: another person, another piece."""
    at = np.arange(0, len(waveform) - 1, speed)
    return np.interp(at, np.arange(len(waveform)), waveform).astype(np.float32)


def _piece(chance: np.random.Generator, frames: int) -> Waveform:
    pieces = [path for folder, pattern in MUSIC for path in sorted(folder.glob(pattern))]
    piece = _read(pieces[chance.integers(len(pieces))])
    speed = chance.uniform(0.75, 1.3)
    length = max(RATE, round(frames * speed) + 2)
    level = float(np.mean(piece**2)) * 10 ** (-MUSIC_RANGE_DB / 10)
    while True:
        start = chance.integers(0, len(piece) - length)
        drawn = piece[start : start + length]
        seconds = drawn[: len(drawn) // RATE * RATE].reshape(-1, RATE)
        if float(np.min(np.mean(seconds**2, axis=1))) > level:
            return _stretched(drawn, speed)


def _composed(chance: np.random.Generator, duration_s: float) -> Waveform:
    """Return chords, a bass, a melody and drums of a random key, speed and timbre."""
    frames, beat_s = round(duration_s * RATE) + RATE, 60 / chance.uniform(55, 170)
    mixture = np.zeros(frames, np.float32)
    root_hz = 110 * SEMITONE ** chance.integers(0, 12)
    scale = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9, 12, 14))[chance.integers(3)]
    voices = [_Voice(chance) for _ in range(3)]
    chord_gain, bass_gain, melody_gain, drum_gain = chance.uniform(0, 1, 4) * (chance.random(4) < 0.75) + 0.02
    beats_a_chord = int(chance.choice((2, 4, 4, 8)))
    drums = [_ringing_out(chance, 0.02, 0.15) for _ in range(3)]
    beaten = [number for number in range(4) if chance.random() < 0.5]  # quarters of a beat
    for beat in range(int(duration_s / beat_s) + 1):
        at_s = beat * beat_s
        if beat % beats_a_chord == 0:
            degree = int(chance.integers(0, 7))
            for third in (0, 2, 4):
                step = degree + third
                hertz = root_hz * 2 * SEMITONE ** (scale[step % 7] + 12 * (step // 7))
                _add(mixture, voices[0].note(hertz, beats_a_chord * beat_s), at_s, chord_gain / 2)
        if chance.random() < 0.7:
            _add(mixture, voices[1].note(root_hz * SEMITONE ** scale[degree], beat_s), at_s, bass_gain)
        for half in range(2):
            if chance.random() < 0.6:
                hertz = root_hz * 4 * SEMITONE ** int(chance.choice(scale))
                lasts_s = beat_s * float(chance.choice((0.5, 1.0, 2.0)))
                _add(mixture, voices[2].note(hertz, lasts_s), at_s + half * beat_s / 2, melody_gain)
        for quarter in beaten:
            _add(mixture, drums[quarter % 3], at_s + quarter * beat_s / 4, drum_gain)
    if chance.random() < 0.3:  # overdriven
        mixture = np.tanh(mixture * chance.uniform(1, 6))
    return mixture


class _Voice:
    """An instrument: the strengths of its overtones, how a note begins and ends, how it trembles."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._overtones = np.arange(1, 13)
        self._strengths = self._overtones ** -chance.uniform(0.5, 2.5) * chance.uniform(0.1, 1, 12)
        self._attack_s, self._decay_s = chance.uniform(0.003, 0.15), chance.choice((0.15, 0.4, 1.0, 5.0))
        self._vibrato, self._vibrato_hz = chance.choice((0.0, 0.003, 0.008)), chance.uniform(4, 7)

    def note(self, hertz: float, duration_s: float) -> Waveform:
        at_s = np.arange(round(duration_s * RATE)) / RATE
        phase = 2 * np.pi * hertz * at_s + self._vibrato * hertz / self._vibrato_hz * np.sin(
            2 * np.pi * self._vibrato_hz * at_s
        )
        heard = self._overtones * hertz < RATE / 2
        tone = self._strengths[heard] @ np.sin(np.outer(self._overtones[heard], phase))
        edges = np.minimum(1, at_s / self._attack_s) * np.minimum(1, at_s[::-1] / 0.03)
        return np.asarray(tone * edges * np.exp(-at_s / self._decay_s), np.float32)


def _add(mixture: Waveform, sound: Waveform, at_s: float, gain: float) -> None:
    start = round(at_s * RATE)
    sound = sound[: max(0, len(mixture) - start)]
    mixture[start : start + len(sound)] += gain * sound


def _strokes(chance: np.random.Generator, frames: int) -> Waveform:
    """Return knocks and rattles: bursts of filtered noise that die away, for a fifth of them with what was struck."""
    made = np.zeros(frames, np.float32)
    pause_s, sounding = chance.uniform(0.08, 0.5), chance.uniform(0.1, 1.5) * (chance.random() < 0.2)
    at = 0
    while at < frames:
        stroke = _ringing_out(chance, 0.01, 0.3)
        stroke = (stroke + sounding * _struck(chance, len(stroke)))[: frames - at]
        made[at : at + len(stroke)] += stroke * 10 ** (chance.uniform(-15, 0) / 20)
        at += round(chance.exponential(pause_s) * RATE) + 80
    return made


def _struck(chance: np.random.Generator, frames: int) -> Waveform:
    """Return a few partials of no harmony that fall in pitch and die away: wood, metal, a far explosion."""
    at = np.arange(frames) / max(1, frames)  # 1: as good as silent
    made = np.zeros(frames)
    for _ in range(chance.integers(1, 5)):
        hertz = 50 * 50 ** chance.random()
        phase = 2 * np.pi * hertz * frames / RATE * (at - chance.uniform(0, 0.3) * at**2)
        made += chance.uniform(0.2, 1) * np.sin(phase + chance.uniform(0, 6.3)) * np.exp(-at * chance.uniform(3, 10))
    return made.astype(np.float32)


def _ringing_out(chance: np.random.Generator, shortest_s: float, longest_s: float) -> Waveform:
    decay_s = shortest_s * (longest_s / shortest_s) ** chance.random()
    length = round(4 * decay_s * RATE)
    return np.asarray(coloured(chance, length) * np.exp(-np.arange(length) / (decay_s * RATE)), np.float32)


def _convolved(pops: NDArray[np.float64], response: Waveform) -> Waveform:
    length = len(pops) + len(response)
    return np.fft.irfft(np.fft.rfft(pops, length) * np.fft.rfft(response, length), length)[: len(pops)].astype(
        np.float32
    )
