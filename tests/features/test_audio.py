"""What a recording is found to be, which ones are refused and why, and which channels count."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.audio import MAX_CHANNELS, PROBE_FRAMES, distinct_channels, probe, read_blocks
from features.errors import AudioError

Save = Callable[..., Path]

FORMATS = {
    "wav": ((1_000, 8_000, 8_001, 44_101, 192_000, 768_000), (1, 2, 5, MAX_CHANNELS), 0.0),
    "flac": ((1_000, 8_001, 44_100, 192_000, 655_350), (1, 2, 8), 0.0),
    "ogg": ((8_000, 11_025, 44_101, 96_000), (1, 2, 6), 0.0),
    "mp3": ((8_000, 11_025, 16_000, 44_100, 48_000), (1, 2), 0.1),
}
CASES = [
    (ending, sample_rate, channels, tolerance_s)
    for ending, (rates, counts, tolerance_s) in FORMATS.items()
    for sample_rate in rates
    for channels in counts
]
HOUR_S = 3_600


def noise(channels: int, samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def look(path: Path, *, max_duration_s: float = HOUR_S) -> str:
    """Probe a recording that must be refused, and return the reason."""
    with pytest.raises(AudioError) as refusal:
        probe(path, max_duration_s=max_duration_s)
    return str(refusal.value)


@pytest.fixture(scope="session")
def bomb(save: Save) -> Path:
    """An hour of digital silence: 58 MB as 16-bit samples, a thousandth of it as FLAC."""
    path = save(np.zeros(HOUR_S * 8_000, np.float32), 8_000, "flac")
    assert path.stat().st_size < 200_000
    return path


@pytest.mark.parametrize(("ending", "sample_rate", "channels", "tolerance_s"), CASES)
def test_every_usual_format_is_accepted_at_many_rates_and_channel_counts(
    save: Save, ending: str, sample_rate: int, channels: int, tolerance_s: float
) -> None:
    samples = max(500, sample_rate // 10)
    info = probe(save(noise(channels, samples), sample_rate, ending), max_duration_s=60)
    assert (info.sample_rate, info.channels) == (sample_rate, channels)
    assert info.format.partition("/")[0] == ending.upper()
    assert info.duration_s == pytest.approx(samples / sample_rate, abs=tolerance_s + 1e-9)


def test_the_ending_of_the_name_does_not_matter(save: Save, tmp_path: Path) -> None:
    content = save(noise(2, 8_000), 8_000, "flac").read_bytes()
    for name in ("recording", "recording.wav", "recording.txt", "Aufnahme für später.bin"):
        (tmp_path / name).write_bytes(content)
        assert probe(tmp_path / name, max_duration_s=60).format == "FLAC/PCM_16"


@pytest.mark.parametrize("name", ["recording.raw", "recording.RAW"])
def test_a_raw_recording_is_refused_because_nothing_says_what_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(1_000))
    assert "cannot be decoded" in look(tmp_path / name)


@pytest.mark.parametrize("name", ["recording", "recording.wav", "recording.mp3", "recording.flac"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    reason = look(tmp_path / name)
    assert "cannot be decoded" in reason
    assert "Convert it to WAV, FLAC, OGG or MP3" in reason


@pytest.mark.parametrize("name", ["notes", "notes.txt", "notes.wav", "notes.ogg"])
def test_a_text_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("The customer called about an invoice.\n" * 100)
    reason = look(tmp_path / name)
    assert "cannot be decoded" in reason
    assert "Convert it to WAV, FLAC, OGG or MP3" in reason


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.9, 0.999])
def test_a_truncated_flac_is_refused(save: Save, tmp_path: Path, kept: float) -> None:
    content = save(noise(1, 5 * PROBE_FRAMES), 44_100, "flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: round(kept * len(content))])
    assert "cannot be decoded" in look(tmp_path / "cut.flac")


def test_a_refusal_half_way_says_how_far_it_came(save: Save, tmp_path: Path) -> None:
    content = save(noise(1, 5 * PROBE_FRAMES), 44_100, "flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    assert f"cannot be decoded after {2 * PROBE_FRAMES} samples" in look(tmp_path / "cut.flac")


def test_a_recording_without_samples_is_refused(save: Save) -> None:
    assert "has no samples" in look(save(np.zeros((1, 0), np.float32), 8_000))


def test_too_many_channels_are_refused_with_their_number_the_limit_and_a_remedy(save: Save) -> None:
    path = save(noise(MAX_CHANNELS + 1, 100), 8_000)
    reason = "has 33 channels, the limit is 32: split them into several files"
    assert look(path) == reason
    for use in (distinct_channels, lambda path: list(read_blocks(path, sample_rate=16_000, block_s=1))):
        with pytest.raises(AudioError, match=reason):
            use(path)


@pytest.mark.parametrize("sample_rate", [1, 999, 768_001, 2**31 - 1])
def test_an_absurd_sample_rate_is_refused_with_its_value_the_limits_and_a_remedy(save: Save, sample_rate: int) -> None:
    reason = look(save(noise(1, 100), sample_rate))
    assert reason == f"has a sample rate of {sample_rate} Hz, outside 1000 to 768000 Hz: resample it"


def test_a_recording_of_just_the_longest_duration_is_accepted(save: Save) -> None:
    assert probe(save(noise(2, 80_000), 8_000), max_duration_s=10).duration_s == 10


def test_a_longer_recording_is_refused_with_the_limit_and_a_remedy(save: Save) -> None:
    reason = look(save(noise(2, 8_001), 8_000), max_duration_s=1)
    assert reason == "lasts more than 0.000277778 h: split it, or raise MAX_DURATION_H and send it again"


def test_decoding_stops_at_the_longest_duration_however_much_follows(bomb: Path, tmp_path: Path) -> None:
    content = bomb.read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    assert "cannot be decoded after" in look(tmp_path / "cut.flac", max_duration_s=HOUR_S)
    assert "lasts more than 0.0166667 h" in look(tmp_path / "cut.flac", max_duration_s=60)  # did not get to the cut


def test_decoding_for_too_long_is_refused_with_the_limit_and_a_remedy(save: Save) -> None:
    with pytest.raises(AudioError, match="takes more than 0 s to decode, the limit: convert it to WAV or FLAC"):
        probe(save(noise(1, 8_000), 8_000), max_duration_s=60, max_seconds=0)


def test_a_recording_that_is_not_there_is_an_error_of_the_disk_and_not_of_the_audio(tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    for use in (
        lambda path: probe(path, max_duration_s=60),
        distinct_channels,
        lambda path: list(read_blocks(path, sample_rate=16_000, block_s=1)),
    ):
        with pytest.raises(FileNotFoundError):
            use(path)


def test_reading_a_truncated_flac_gives_what_is_there_and_then_an_audio_error(save: Save, tmp_path: Path) -> None:
    content = save(noise(1, 5 * PROBE_FRAMES), 44_100, "flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    blocks = read_blocks(tmp_path / "cut.flac", sample_rate=44_100, block_s=1)
    assert next(blocks).shape == (1, 44_100)
    with pytest.raises(AudioError, match="cannot be decoded after"):
        list(blocks)


@pytest.mark.parametrize("target", [8_000, 16_000])
def test_samples_that_are_not_numbers_read_as_silence(save: Save, target: int) -> None:
    broken, mended = noise(2, 8_000), noise(2, 8_000)
    broken[1, 100:200], mended[1, 100:200] = np.nan, 0
    one, other = (list(read_blocks(save(x, 8_000), sample_rate=target, block_s=0.1)) for x in (broken, mended))
    np.testing.assert_array_equal(np.concatenate(one, axis=1), np.concatenate(other, axis=1))


def test_infinite_samples_read_as_full_scale(save: Save) -> None:
    (block,) = read_blocks(save(np.array([np.inf, -np.inf, 0.5], np.float32), 8_000), sample_rate=8_000, block_s=1)
    np.testing.assert_array_equal(block, [[1, -1, 0.5]])


def test_a_recording_without_samples_gives_no_blocks(save: Save) -> None:
    assert not list(read_blocks(save(np.zeros((2, 0), np.float32), 8_000), sample_rate=16_000, block_s=1))


def test_memory_does_not_grow_with_the_length_of_the_recording(bomb: Path) -> None:
    tracemalloc.start()
    try:
        seconds = sum(block.shape[1] for block in read_blocks(bomb, sample_rate=8_000, block_s=10)) / 8_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds == HOUR_S
    assert peak < 3e6  # bytes; a block has 320,000, the whole 115,200,000


@pytest.mark.parametrize(("source", "target"), [(8_000, 8_000), (44_100, 16_000), (44_101, 16_000)])
def test_no_block_is_longer_than_what_was_asked_for(save: Save, source: int, target: int) -> None:
    path = save(noise(2, 3 * source), source)
    lengths = [block.shape[1] for block in read_blocks(path, sample_rate=target, block_s=0.25)]
    assert max(lengths) / target == pytest.approx(0.25, rel=0.1)
    assert len(lengths) >= 11


@settings(max_examples=30)
@given(pattern=st.lists(st.integers(0, 3), min_size=1, max_size=8), length=st.integers(1, 2_000))
def test_each_channel_that_differs_from_all_before_it_is_distinct(save: Save, pattern: list[int], length: int) -> None:
    path = save(noise(4, length)[pattern], 8_000)
    assert distinct_channels(path) == tuple(at for at, signal in enumerate(pattern) if signal not in pattern[:at])


def test_identical_channels_are_one_and_different_ones_are_all_kept(save: Save) -> None:
    one, other = noise(2, 8_000)
    assert distinct_channels(save(np.stack([one, one]), 8_000)) == (0,)
    assert distinct_channels(save(np.stack([one, other]), 8_000)) == (0, 1)
    assert distinct_channels(save(one, 8_000)) == (0,)


def test_channels_that_differ_by_the_last_bit_are_the_same(save: Save) -> None:
    one = noise(1, 8_000)[0]
    assert distinct_channels(save(np.stack([one, one + np.float32(1 / 32_768)]), 8_000)) == (0,)
    assert distinct_channels(save(np.stack([one, one + np.float32(8 / 32_768)]), 8_000)) == (0, 1)


def test_channels_that_differ_only_at_the_very_end_are_distinct(save: Save) -> None:
    waveform = np.zeros((2, 3 * PROBE_FRAMES), np.float32)
    waveform[1, -1] = 0.1
    assert distinct_channels(save(waveform, 44_100)) == (0, 1)


def test_a_channel_turned_upside_down_is_distinct(save: Save) -> None:
    one = noise(1, 8_000)[0]
    assert distinct_channels(save(np.stack([one, -one]), 8_000)) == (0, 1)


def test_samples_that_are_not_numbers_do_not_make_channels_distinct(save: Save) -> None:
    waveform = np.repeat(noise(1, 8_000), 2, axis=0)
    waveform[:, 10:20] = np.nan
    assert distinct_channels(save(waveform, 8_000)) == (0,)


def test_infinite_samples_of_opposite_sign_make_channels_distinct(save: Save) -> None:
    waveform = np.zeros((2, 100), np.float32)
    waveform[:, 50] = np.inf, -np.inf
    assert distinct_channels(save(waveform, 8_000)) == (0, 1)


def test_a_recording_without_samples_has_its_first_channel(save: Save) -> None:
    assert distinct_channels(save(np.zeros((2, 0), np.float32), 8_000)) == (0,)
