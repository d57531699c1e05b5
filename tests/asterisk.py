"""The Asterisk prompts: 568 recordings of one professional voice at 8 kHz, with their texts (Debian packages)."""

import gzip
import re
from pathlib import Path

import numpy as np
import soundfile

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PHRASES = [
    "call",
    "is",
    "recorded",
    "press",
    "your",
    "conference",
    "please",
    "message",
    "this",
    "number",
    "enter",
    "pound",
    "will",
]


def require() -> None:
    """Say how to get the recordings, where they are not installed."""
    if not SOUNDS.is_dir() or not TEXTS.is_file():
        raise RuntimeError("the tests need: apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav")


def prompts() -> dict[str, str]:
    """Return what is said in each prompt, by its path below SOUNDS without the ending; notes in brackets left out."""
    require()
    texts = {}
    with gzip.open(TEXTS, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if match := re.match(r"([\w/-]+):\s*(.*)", line):
                texts[match[1]] = re.sub(r"\[.*?\]", "", match[2])
    return {
        name: texts[name]
        for path in sorted(SOUNDS.rglob("*.wav"))
        if (name := str(path.relative_to(SOUNDS).with_suffix(""))) in texts
    }


def words(text: str) -> set[str]:
    """Return the words of a text, lower case."""
    return set(re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower()))


def micro_f1(found: dict[str, set[str]]) -> float:
    """Return micro-F1 of the PHRASES found in each prompt; a prompt counts once a phrase."""
    spoken = {name: words(text) & set(PHRASES) for name, text in prompts().items()}
    right = sum(len(spoken[name] & found.get(name, set())) for name in spoken)
    wrong = sum(len(found.get(name, set()) - spoken[name]) for name in spoken)
    missed = sum(len(spoken[name] - found.get(name, set())) for name in spoken)
    return 2 * right / (2 * right + wrong + missed)


def write_calls(folder: Path, count: int, duration_s: float) -> float:
    """Write recordings of at least that length, each of other prompts, into `folder`; return their seconds together."""
    names = sorted(prompts())
    total_s, at = 0.0, 0
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < duration_s * 8000:
            samples, _ = soundfile.read(SOUNDS / f"{names[at % len(names)]}.wav", dtype="int16")
            parts += [samples, np.zeros(2400 + number + 7 * (at // len(names)), np.int16)]  # no two are the same
            at += 1
        whole = np.concatenate(parts)
        soundfile.write(folder / f"call-{number:04}.wav", whole, 8000)
        total_s += len(whole) / 8000
    return total_s
