"""Words cut from real prompts are put at known offsets, and found there; an answer depends on the utterance alone."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from features.audio import read_blocks
from models.alignment import FRAME_S, SAMPLE_RATE, align
from models.phrases import words_of
from tests import asterisk

Waveform = NDArray[np.float32]

FRAME = round(FRAME_S * SAMPLE_RATE)
MARGIN = FRAME * 5  # kept on both sides of a word that is cut
SENTENCES = ["one two five seven", "nine three eight four six", "hundred thousand million", "monday april today star"]
FILES = {
    **{word: str(digit) for digit, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven"])},
    "eight": "8",
    "nine": "9",
    "monday": "day-1",
    "april": "mon-3",
}


def recording(path: Path) -> Waveform:
    return np.concatenate([block[0] for block in read_blocks(path, sample_rate=SAMPLE_RATE, block_s=60)])


def prompt(name: str) -> tuple[Waveform, list[str]]:
    text = asterisk.prompts()[name]
    return recording(asterisk.SOUNDS / f"{name}.wav"), [word.text for word in words_of(text)]


def frame_power(waveform: Waveform) -> Waveform:
    return (waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME) ** 2).mean(axis=1)


def bounds(waveform: Waveform) -> tuple[int, int]:
    """Return where a word is, in samples: the frames within 30 dB of its loudest one."""
    power = frame_power(waveform)
    loud = np.flatnonzero(power >= power.max() / 1000)
    return int(loud[0]) * FRAME, int(loud[-1] + 1) * FRAME


def splice(words: list[str], chance: np.random.Generator) -> tuple[Waveform, list[float]]:
    """Return single words with silences of 0.15 to 0.6 s between them, and when each starts."""
    parts, starts_s, length = [], [], 0
    for word in words:
        waveform = recording(asterisk.SOUNDS / "digits" / f"{FILES.get(word, word)}.wav")
        start, end = bounds(waveform)
        first = max(0, start - MARGIN)
        gap = np.zeros(int(chance.uniform(0.15, 0.6) * SAMPLE_RATE) - 2 * MARGIN, np.float32)
        starts_s.append((length + len(gap) + start - first) / SAMPLE_RATE)
        parts += [gap, waveform[first : end + MARGIN]]
        length += len(gap) + len(parts[-1])
    return np.concatenate([*parts, np.zeros(3200, np.float32)]), starts_s


def errors_s(snr_db: float | None) -> list[float]:
    chance = np.random.default_rng(7)
    errors = []
    for sentence in SENTENCES:
        words = sentence.split()
        waveform, starts_s = splice(words, chance)
        if snr_db is not None:
            power = frame_power(waveform)
            speech = power[power >= power.max() / 1000].mean()
            noise = chance.standard_normal(len(waveform)) * np.sqrt(speech / 10 ** (snr_db / 10))
            waveform = waveform + noise.astype(np.float32)
        spans = align(waveform, words)
        assert spans is not None
        errors += [abs(start_s - true_s) for (start_s, _), true_s in zip(spans, starts_s, strict=True)]
    return errors


@pytest.mark.parametrize("snr_db", [None, 10])
def test_words_are_found_where_they_were_put(snr_db: float | None) -> None:
    errors = errors_s(snr_db)
    assert np.median(errors) <= 0.06
    assert np.percentile(errors, 95) <= 0.25


@pytest.mark.parametrize("name", ["conf-usermenu-162", "agent-pass", "conf-onlyperson", "vm-opts", "letters/b"])
def test_the_words_of_a_prompt_follow_each_other_within_it(name: str) -> None:
    waveform, words = prompt(name)
    spans = align(waveform, words)
    assert spans is not None
    assert len(spans) == len(words)
    assert all(start_s < end_s for start_s, end_s in spans)
    assert all(end_s <= start_s for (_, end_s), (start_s, _) in pairwise(spans))
    assert spans[0][0] >= 0
    assert spans[-1][1] <= len(waveform) / SAMPLE_RATE


def test_an_utterance_is_aligned_the_same_whatever_came_before() -> None:
    quiet, loud = prompt("conf-onlyperson"), prompt("agent-pass")
    first = align(*loud)
    align(quiet[0] * np.float32(1e-3), quiet[1])
    align(
        np.random.default_rng(0).standard_normal(SAMPLE_RATE * 5).astype(np.float32) * np.float32(0.3), ["pbx", "2024"]
    )
    assert align(*loud) == first


def test_two_processes_agree_to_the_last_bit() -> None:
    program = (
        "import json; from tests.models.test_alignment import align, prompt;"
        "print(json.dumps([align(*prompt(name)) for name in {names}]))"
    )
    names = ["conf-usermenu-162", "agent-pass"]
    answers = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program.format(names=order)], check=True, capture_output=True, text=True
            ).stdout
        )
        for order in (names, names[::-1])
    ]
    assert answers[0] == answers[1][::-1]


def test_the_level_does_not_count() -> None:
    waveform, words = prompt("agent-pass")
    spans, quiet = align(waveform, words), align(waveform * np.float32(1e-3), words)
    assert spans is not None
    assert quiet is not None
    assert np.abs(np.subtract(spans, quiet)).max() <= 2 * FRAME_S


@pytest.mark.parametrize("unknown", ["qzvxk", "xylophonist's", "zoë's", "rock'n'rolled", "привет", "b2b", "'"])
def test_a_word_that_no_dictionary_has_moves_its_neighbours_little(unknown: str) -> None:
    waveform, words = prompt("agent-pass")
    spans = align(waveform, words)
    words[3] = unknown  # in place of "password", before a pause
    changed = align(waveform, words)
    assert spans is not None
    assert changed is not None
    others = [index for index in range(len(words)) if index != 3]
    assert np.abs(np.subtract(spans, changed)[others, 0]).max() <= 0.3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1257", ["one", "two", "five", "seven"]),
        ("30", ["3", "0"]),
        ("4th", ["4"]),
        ("60", ["60"]),
        ("5000", ["5", "thousand"]),
        ("1", ["1"]),
    ],
)
def test_a_number_spans_all_the_words_that_say_it(text: str, said: list[str]) -> None:
    waveform, starts_s = splice(["today", *said, "tomorrow"], np.random.default_rng(3))
    spans = align(waveform, ["today", text, "tomorrow"])
    assert spans is not None
    assert [start_s for start_s, _ in spans] == pytest.approx([starts_s[0], starts_s[1], starts_s[-1]], abs=0.15)
    assert spans[1][1] > starts_s[-2]


def test_a_word_too_many_is_squeezed_in_where_there_is_room() -> None:
    waveform, words = prompt("vm-intro")
    assert words[-4:] == ["simple", "tone", "sound", "plays"]  # the text says so, the voice does not
    spans = align(waveform, words)
    assert spans is not None
    assert len(spans) == len(words)


def test_more_words_than_can_fit_have_no_times() -> None:
    waveform, words = prompt("agent-pass")
    assert align(waveform, words * 10) is None


def test_no_words_take_no_time() -> None:
    assert align(np.zeros(SAMPLE_RATE, np.float32), []) == []


@pytest.mark.parametrize("length", [0, 1, FRAME - 1, FRAME, 400, 480])
def test_a_waveform_shorter_than_a_word_has_no_times(length: int) -> None:
    assert align(np.zeros(length, np.float32), ["hello"]) is None


@pytest.mark.parametrize("level", [0, 1e-6, 1])
def test_a_word_in_silence_or_in_clipped_noise_lies_within_it(level: float) -> None:
    noise = np.random.default_rng(1).choice([-1.0, 1.0], SAMPLE_RATE).astype(np.float32) * np.float32(level)
    spans = align(noise, ["hello"])
    assert spans is not None
    ((start_s, end_s),) = spans
    assert 0 <= start_s < end_s <= 1


def test_importing_it_loads_no_recogniser() -> None:
    program = "import sys, models.alignment; sys.exit('pocketsphinx' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
