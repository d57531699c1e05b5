"""Utterances: only speech is one, and where it is found does not depend on how the recording is read."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features import cutting
from features.audio import distinct_channels, probe, read_blocks
from features.errors import AudioError
from features.pieces import SAMPLE_RATE, Piece, Wants
from features.utterances import UtteranceSettings
from tests.speech import find_utterances

Save = Callable[..., Path]
Spans = list[tuple[float, float]]

DEFAULT = UtteranceSettings()
TIME_S = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE


def tone(frequency: float, amplitude: float) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * frequency * TIME_S)).astype(np.float32)


def noise(amplitude: float) -> NDArray[np.float32]:
    return (amplitude * np.random.default_rng(0).standard_normal(len(TIME_S))).astype(np.float32)


WITHOUT_SPEECH = {
    "digital silence": np.zeros(len(TIME_S), np.float32),
    "a faint hiss": noise(0.001),
    "white noise": noise(0.1),
    "loud white noise": noise(0.3),
    "a mains hum": tone(50, 0.1),
    "a quiet tone": tone(440, 0.01),
    "a loud tone": tone(1_000, 0.9),
    "a key press": tone(697, 0.3) + tone(1_209, 0.3),
    "a constant": np.full(len(TIME_S), 0.5, np.float32),
    "one sample": np.full(1, 0.5, np.float32),
    "no samples": np.zeros(0, np.float32),
}


def spans(path: Path, cut: UtteranceSettings = DEFAULT, channel: int = 0) -> Spans:
    return [(found.start_s, found.end_s) for found in find_utterances(path, (channel,), cut)]


def in_sections(section_s: float, path: Path, cut: UtteranceSettings = DEFAULT) -> Spans:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "SECTION_S", section_s)
        return spans(path, cut)


def covered(found: Spans, duration_s: float) -> NDArray[np.bool_]:
    """Return for each hundredth of a second whether an utterance covers it."""
    mask = np.zeros(round(100 * duration_s) + 1, bool)
    for start_s, end_s in found:
        mask[round(100 * start_s) : round(100 * end_s)] = True
    return mask


@pytest.fixture(scope="module", params=["two_cities", "conversation"])
def speech(request: pytest.FixtureRequest) -> Path:
    """A recording with speech in it, at 48 and at 8 kHz."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.mark.parametrize("what", WITHOUT_SPEECH)
def test_what_is_not_speech_gives_no_utterance(save: Save, what: str) -> None:
    assert spans(save(WITHOUT_SPEECH[what], SAMPLE_RATE)) == []


def test_a_text_file_is_an_audio_error(tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("not a recording")
    with pytest.raises(AudioError, match="cannot be decoded"):
        spans(tmp_path / "notes.wav")


def test_a_long_pause_divides_the_reading_into_two_utterances(two_cities: Path) -> None:
    first, second = spans(two_cities, UtteranceSettings(min_silence_s=0.7))[:2]
    assert first[1] < second[0]
    assert len(spans(two_cities, UtteranceSettings(min_silence_s=5, max_s=60))) == 1


@settings(max_examples=12)
@given(lead_s=st.floats(0, 30))
@example(lead_s=20.0)
@example(lead_s=19.9)
def test_leading_silence_moves_the_utterances_by_its_length(
    save: Save, beckett: NDArray[np.float32], lead_s: float
) -> None:
    lead = np.zeros(round(lead_s * SAMPLE_RATE), np.float32)
    here = in_sections(20, save(beckett, SAMPLE_RATE))
    moved = in_sections(20, save(np.concatenate([lead, beckett]), SAMPLE_RATE))
    assert len(here) == 2
    assert len(moved) == len(here)
    np.testing.assert_allclose(np.array(moved) - lead_s, here, atol=0.1)


@pytest.mark.parametrize("section_s", [2.0, 7.0])
def test_small_sections_find_nearly_the_same_utterances_as_large_ones(speech: Path, section_s: float) -> None:
    large, small = in_sections(1_000, speech), in_sections(section_s, speech)
    assert len(small) == len(large)
    np.testing.assert_allclose(small, large, atol=0.1)


@pytest.mark.parametrize("max_s", [2.0, 5.0])
def test_small_sections_lose_no_speech_where_it_is_cut_at_its_longest(speech: Path, max_s: float) -> None:
    cut, duration_s = UtteranceSettings(max_s=max_s), probe(speech, max_duration_s=600).duration_s
    large = covered(in_sections(1_000, speech, cut), duration_s)
    small = covered(in_sections(2, speech, cut), duration_s)
    assert (large & small).sum() / (large | small).sum() > 0.95


@pytest.mark.parametrize("section_s", [2.0, 120.0])
@pytest.mark.parametrize("max_s", [2.0, 5.0, 30.0])
def test_utterances_are_short_enough_do_not_overlap_and_lie_inside_the_recording(
    speech: Path, max_s: float, section_s: float
) -> None:
    cut = UtteranceSettings(max_s=max_s)
    found = in_sections(section_s, speech, cut)
    assert len(found) > 1
    assert all(0 <= start_s < end_s <= start_s + max_s + 2 * cut.pad_s for start_s, end_s in found)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(found))
    assert found[-1][1] <= probe(speech, max_duration_s=600).duration_s + 1 / SAMPLE_RATE


@pytest.mark.parametrize("sample_rate", [8_000, 8_001, 15_988])
def test_speech_up_to_the_very_end_ends_inside_the_recording_at_odd_rates_too(
    save: Save, two_cities: Path, sample_rate: int
) -> None:
    (whole,) = read_blocks(two_cities, sample_rate=SAMPLE_RATE if sample_rate > 8_001 else 8_000, block_s=60)
    path = save(whole[:, : 15 * sample_rate], sample_rate)  # at 15 s he is speaking
    assert spans(path)[-1][1] == pytest.approx(15, abs=1.5 / SAMPLE_RATE)


@pytest.mark.parametrize("section_s", [2.0, 120.0])
def test_an_utterance_holds_the_samples_of_its_span(
    conversation: Path, monkeypatch: pytest.MonkeyPatch, section_s: float
) -> None:
    monkeypatch.setattr(cutting, "SECTION_S", section_s)
    (whole,) = read_blocks(conversation, sample_rate=SAMPLE_RATE, block_s=1_000)
    for found in find_utterances(conversation, (0,), DEFAULT):
        start, end = round(found.start_s * SAMPLE_RATE), round(found.end_s * SAMPLE_RATE)
        np.testing.assert_allclose(found.waveform, whole[0, start:end], atol=2e-6)


def both_channels(path: Path) -> Iterator[list[Piece]]:
    found = list(find_utterances(path, distinct_channels(path), DEFAULT))
    for channel in (0, 1):
        yield [each for each in found if each.channel == channel]


def test_two_different_channels_each_give_what_they_give_alone(
    save: Save, two_cities: Path, beckett: NDArray[np.float32]
) -> None:
    (other,) = read_blocks(two_cities, sample_rate=SAMPLE_RATE, block_s=60)
    silence = np.zeros(other.shape[1] - len(beckett), np.float32)
    agent, customer = other[0], np.concatenate([beckett, silence])
    alone = [spans(save(waveform, SAMPLE_RATE)) for waveform in (agent, customer)]
    together = list(both_channels(save(np.stack([agent, customer]), SAMPLE_RATE)))
    assert [[(each.start_s, each.end_s) for each in found] for found in together] == alone
    assert [[each.number for each in found] for found in together] == [[0, 1], [0, 1]]


def test_identical_channels_give_their_utterances_once(save: Save, beckett: NDArray[np.float32]) -> None:
    first, second = both_channels(save(np.stack([beckett, beckett]), SAMPLE_RATE))
    assert len(first) == 2
    assert second == []


def test_only_the_channels_that_are_asked_for_are_searched(save: Save, beckett: NDArray[np.float32]) -> None:
    path = save(np.stack([beckett, np.zeros_like(beckett)]), SAMPLE_RATE)
    assert len(spans(path, channel=0)) == 2
    assert spans(path, channel=1) == []
    assert list(find_utterances(path, (), DEFAULT)) == []


def test_finding_twice_finds_the_same(conversation: Path) -> None:
    assert spans(conversation) == spans(conversation)


def peak_mib(path: Path, rate: int, channels: int, seconds: int, *wants: Wants) -> int:
    """Return the peak memory of a process that cuts a recording of noise (VmHWM): tracemalloc does not see torch's."""
    code = (
        "import re, sys; from pathlib import Path; import numpy, soundfile\n"
        "from features.cutting import cut_recording; from features.utterances import UtteranceSettings\n"
        "path, rate, channels, seconds = Path(sys.argv[1]), *map(int, sys.argv[2:5])\n"
        "noise = numpy.random.default_rng(0).integers(-300, 300, (rate, channels), numpy.int16)\n"
        "with soundfile.SoundFile(path, 'w', rate, channels, format='FLAC') as file:\n"
        "    for _ in range(seconds): file.write(noise)\n"
        "for _ in cut_recording(path, (0,), sys.argv[5:], UtteranceSettings()): pass\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    arguments = [sys.executable, "-c", code, str(path), str(rate), str(channels), str(seconds), *wants]
    return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) // 1024


def test_many_channels_at_a_high_rate_take_little_more_memory_than_one_at_a_low_one(tmp_path: Path) -> None:
    many, one = (
        peak_mib(tmp_path / "a.flac", rate, count, 60, "utterances") for rate, count in ((384_000, 8), (16_000, 1))
    )
    assert many - one < 300, "the samples alone, as float32, would be 703"


def test_a_recording_that_lasts_four_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    long, short = (peak_mib(tmp_path / "a.flac", 8_000, 1, seconds, "windows", "file") for seconds in (2_800, 700))
    assert long - short < 100, "its samples alone, as float32 at 16 kHz, would be 171 instead of 43"
