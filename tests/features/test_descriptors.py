"""Descriptors: each reads the value a sound was made with, and agrees with who else measures it."""

import math
import time
from dataclasses import astuple, replace
from pathlib import Path

import librosa
import numpy as np
import pyloudnorm
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.signal import butter as butterworth
from scipy.signal import sosfiltfilt

from features.audio import read_blocks
from features.descriptors import MAX_SNR_DB, MIN_SNR_DB, Descriptors, describe
from features.levels import FLOOR_DB
from features.utterances import UtteranceSettings, speech_spans
from tests.eval.corpus_sound import active_level_dbfs, noise_of

RATE = 16_000
SINE_DBFS = 10 * math.log10(0.5)  # a full-scale one
SEMITONE = 2 ** (1 / 12)
RECORDINGS = ("beckett", "clone-test", "two_cities", "endgame_nagg_nell")

Waveform = NDArray[np.float32]


def tone(hz: float, seconds: float = 1.0, amplitude: float = 0.5) -> Waveform:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * RATE), np.float32)


def white_noise(seconds: float, amplitude: float = 0.1) -> Waveform:
    return np.random.default_rng(0).normal(0, amplitude, round(seconds * RATE)).astype(np.float32)


def band_noise(low_hz: float, high_hz: float, seconds: float = 4.0) -> Waveform:
    spectrum = np.fft.rfft(white_noise(seconds))
    frequencies = np.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    return np.fft.irfft(spectrum * ((frequencies >= low_hz) & (frequencies < high_hz))).astype(np.float32)


def phrases(pauses: Waveform, hz: float = 1_000) -> Waveform:
    """Four tones of 0.5 s, and the pause behind each."""
    return np.concatenate([tone(hz, 0.5), pauses] * 4)


def sawtooth(hz: float, seconds: float = 1.0) -> Waveform:
    return (((np.arange(round(seconds * RATE)) * hz / RATE) % 1 - 0.5) / 2).astype(np.float32)


def pulses(hz: float, seconds: float = 1.0) -> Waveform:
    """As many harmonics as there are, all of the same height."""
    harmonics = [tone(hz * number, seconds, 0.9 * 2 * hz / RATE) for number in range(1, int(RATE / 2 / hz))]
    return np.sum(harmonics, axis=0, dtype=np.float32)


def numbers(found: Descriptors, **instead: float) -> list[float]:
    """Its fields, for comparison: NaN where there is none."""
    return [math.nan if value is None else value for value in astuple(replace(found, **instead))]


@pytest.fixture(scope="module")
def recordings(assets: Path) -> dict[str, Waveform]:
    """The first 20 s of each at RATE."""
    blocks = {
        name: next(iter(read_blocks(assets / f"{name}.wav", sample_rate=RATE, block_s=20)))[0] for name in RECORDINGS
    }
    return {name: np.ascontiguousarray(block) for name, block in blocks.items()}


@pytest.fixture(scope="module")
def voices(recordings: dict[str, Waveform]) -> dict[str, Waveform]:
    """The recordings without what is below 75 Hz, where beckett has rumble that pyin follows, and Silero does not."""
    highpass = butterworth(4, 75, "high", fs=RATE, output="sos")
    return {name: sosfiltfilt(highpass, sound).astype(np.float32) for name, sound in recordings.items()}


# --- level


@pytest.mark.parametrize("level_dbfs", [SINE_DBFS, -20, -60, -80])
def test_a_tone_reads_its_level(level_dbfs: float) -> None:
    sound = tone(400, 4, 10 ** ((level_dbfs - SINE_DBFS) / 20))
    assert describe(sound, RATE).level_dbfs == pytest.approx(level_dbfs, abs=0.05)


def test_long_pauses_hardly_count_in_the_level() -> None:
    spoken = np.concatenate([tone(400, 2), silence(6)])
    assert describe(spoken, RATE).level_dbfs == pytest.approx(describe(tone(400, 2), RATE).level_dbfs, abs=0.8)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_level_is_the_one_of_p56_step_by_step(recordings: dict[str, Waveform], name: str) -> None:
    level_dbfs = describe(recordings[name], RATE).level_dbfs
    assert level_dbfs == pytest.approx(active_level_dbfs(recordings[name], RATE), abs=0.2)


def test_a_tone_at_1_khz_is_as_loud_as_it_is_high() -> None:
    """BS.1770's weighting and offset cancel there; its gate drops the silence."""
    for sound in (tone(1_000, 4), np.concatenate([tone(1_000, 4), silence(4)])):
        loudness = pyloudnorm.Meter(RATE).integrated_loudness(sound.astype(np.float64))
        assert describe(sound, RATE).level_dbfs == pytest.approx(loudness, abs=0.5)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_level_of_speech_is_near_its_loudness(recordings: dict[str, Waveform], name: str) -> None:
    loudness = pyloudnorm.Meter(RATE).integrated_loudness(recordings[name].astype(np.float64))
    assert describe(recordings[name], RATE).level_dbfs == pytest.approx(loudness, abs=2)


# --- noise


@pytest.mark.parametrize("snr_db", [0, 5, 10, 20, 30, 60])
def test_a_tone_in_white_noise_reads_its_snr(snr_db: float) -> None:
    noise = white_noise(10, 10 ** ((SINE_DBFS + 20 * math.log10(0.5) - snr_db) / 20))
    estimate_db = describe(np.concatenate([tone(1_000, 8), silence(2)]) + noise, RATE).snr_db
    # P.56 takes noise less than 16 dB below the tone for active, so that the pause counts: 1 dB less.
    assert estimate_db == pytest.approx(snr_db if snr_db > 16 else snr_db - 1, abs=0.5)


@pytest.mark.parametrize("snr_db", [5, 10, 15, 20])
def test_speech_in_white_noise_reads_its_snr(recordings: dict[str, Waveform], snr_db: float) -> None:
    speech = recordings["endgame_nagg_nell"]  # its own noise is 70 dB lower
    noise = white_noise(len(speech) / RATE, 10 ** ((active_level_dbfs(speech, RATE) - snr_db) / 20))
    assert describe(speech + noise, RATE).snr_db == pytest.approx(snr_db, abs=2)


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_more_noise_reads_a_lower_snr(recordings: dict[str, Waveform], slope: float) -> None:
    speech = recordings["endgame_nagg_nell"]
    noise = noise_of(np.random.default_rng(0), len(speech), slope)
    estimates = [describe(speech + noise * gain, RATE).snr_db for gain in (0.01, 0.03, 0.1, 0.3, 1.0)]
    assert estimates == sorted(estimates, reverse=True)
    assert len(set(estimates)) == len(estimates)


def test_what_never_pauses_is_noise_and_digital_silence_is_none() -> None:
    assert describe(tone(400), RATE).snr_db == MIN_SNR_DB
    assert describe(phrases(silence(0.5)), RATE).snr_db == MAX_SNR_DB
    noise_snr_db = describe(white_noise(4), RATE).snr_db
    assert noise_snr_db is not None
    assert noise_snr_db < -8


# --- clipping


@pytest.mark.parametrize("gain", [1.25, 2.0, 4.0, 20.0])
def test_a_clipped_tone_reads_the_time_that_it_is_clipped(gain: float) -> None:
    clipped = np.clip(tone(100, 1, gain), -1, 1)
    assert describe(clipped, RATE).clipping == pytest.approx(2 / math.pi * math.acos(1 / gain), abs=0.02)


def test_more_gain_clips_more() -> None:
    shares = [describe(np.clip(white_noise(1) * gain, -1, 1), RATE).clipping for gain in (1, 5, 10, 20, 50, 1000)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.9


@pytest.mark.parametrize("name", RECORDINGS)
def test_speech_with_its_peak_at_full_scale_is_not_clipped_and_louder_it_is(
    recordings: dict[str, Waveform], name: str
) -> None:
    normalised = recordings[name] / np.max(np.abs(recordings[name]))
    assert describe(normalised, RATE).clipping < 0.0002
    assert describe(np.clip(normalised * 8, -1, 1), RATE).clipping > 0.005


@pytest.mark.parametrize("run", [1, 2, 3, 10])
def test_only_runs_are_clipped(run: int) -> None:
    sound = tone(400, 1, 0.3)
    for start in (0, 5_000, len(sound) - run):
        sound[start : start + run] = 1
    assert describe(sound, RATE).clipping == (3 * run / len(sound) if run >= 3 else 0)


def test_a_full_scale_square_is_all_clipped() -> None:
    assert describe(np.sign(tone(100.5)) + (tone(100.5) == 0), RATE).clipping == 1


# --- spectrum


@pytest.mark.parametrize(("low_hz", "high_hz"), [(0, 8_000), (0, 4_000), (300, 3_400), (1_000, 2_000)])
def test_noise_of_a_band_reads_its_edge_and_its_middle(low_hz: float, high_hz: float) -> None:
    found = describe(band_noise(low_hz, high_hz), RATE)
    assert found.bandwidth_hz == pytest.approx(low_hz + 0.95 * (high_hz - low_hz), abs=60)
    assert found.spectral_centroid_hz == pytest.approx((low_hz + high_hz) / 2, abs=60)


@pytest.mark.parametrize("hz", [100, 440, 1_000, 3_000, 7_000])
def test_a_tone_is_all_at_its_frequency(hz: float) -> None:
    found = describe(tone(hz), RATE)
    assert found.bandwidth_hz == pytest.approx(hz, abs=2 * RATE / 512)
    assert found.spectral_centroid_hz == pytest.approx(hz, abs=2)


@pytest.mark.parametrize(("high_share", "bandwidth_hz"), [(0.03, 500), (0.07, 3_000)])
def test_two_tones_have_their_mean_as_centroid_and_the_higher_counts_from_5_percent(
    high_share: float, bandwidth_hz: float
) -> None:
    both = tone(500, 2, 0.5 * math.sqrt(1 - high_share)) + tone(3_000, 2, 0.5 * math.sqrt(high_share))
    found = describe(both, RATE)
    assert found.spectral_centroid_hz == pytest.approx(500 + 2_500 * high_share, abs=5)
    assert found.bandwidth_hz == pytest.approx(bandwidth_hz, abs=2 * RATE / 512)


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_spectrum_is_the_one_of_librosa(recordings: dict[str, Waveform], name: str) -> None:
    centred = recordings[name].astype(np.float64) - np.mean(recordings[name], dtype=np.float64)
    power = np.mean(np.abs(librosa.stft(centred, n_fft=512, hop_length=256)) ** 2, axis=1, keepdims=True)
    found = describe(recordings[name], RATE)
    roll_off = librosa.feature.spectral_rolloff(S=power, sr=RATE, roll_percent=0.95).item()
    assert found.bandwidth_hz == pytest.approx(roll_off, abs=RATE / 512)
    centroid = librosa.feature.spectral_centroid(S=power, sr=RATE).item()
    assert found.spectral_centroid_hz == pytest.approx(centroid, rel=1e-3)


# --- speech


@pytest.mark.parametrize("noise_db", [-math.inf, -60, -40])
@pytest.mark.parametrize(("pause_s", "share"), [(0.1, 1.0), (0.3, 0.5 / 0.8), (0.5, 0.5), (2.0, 0.2)])
def test_phrases_read_their_share_and_short_pauses_belong_to_them(
    pause_s: float, share: float, noise_db: float
) -> None:
    spoken = np.concatenate([phrases(silence(pause_s)), silence(0.5) if share == 1 else silence(0)])
    sound = spoken + white_noise(len(spoken) / RATE, 10 ** (noise_db / 20))
    expected = 2.3 / 2.9 if share == 1 else share
    assert describe(sound, RATE).speech_share == pytest.approx(expected, abs=0.02)


def test_steady_sounds_are_not_speech() -> None:
    assert describe(white_noise(4), RATE).speech_share == 0
    assert describe(tone(400), RATE).speech_share == 0


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_share_of_speech_is_near_the_one_that_silero_finds(voices: dict[str, Waveform], name: str) -> None:
    spans = speech_spans(voices[name], UtteranceSettings(min_silence_s=0.2, min_speech_s=0.05, pad_s=0.0))
    found = sum(end - start for start, end in spans) / len(voices[name])
    # Silero hears words, whose edges are weak: 0.04 to 0.09 more than what is within 16 dB of the active level.
    assert found - 0.1 < describe(voices[name], RATE).speech_share < found


def test_rumble_between_words_counts_as_speech_as_any_sound_does_that_comes_and_goes(
    recordings: dict[str, Waveform], voices: dict[str, Waveform]
) -> None:
    with_rumble, without = describe(recordings["beckett"], RATE), describe(voices["beckett"], RATE)
    assert with_rumble.speech_share > without.speech_share + 0.2
    assert with_rumble.pitch_median_hz == pytest.approx(without.pitch_median_hz, rel=SEMITONE**0.5 - 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [("One, two -- three!", 3), ("it's twenty-five", 2), ("", 0), (" \n ... ", 0), ("Grüße aus 東京", 3)],
)
def test_words_are_counted_in_a_second_of_speech(text: str, words: int) -> None:
    assert describe(phrases(silence(0.5)), RATE, text).speaking_rate == pytest.approx(words / 2, rel=0.02)


def test_without_text_or_speech_there_is_no_rate() -> None:
    assert describe(phrases(silence(0.5)), RATE).speaking_rate is None
    assert describe(tone(400), RATE, "a word").speaking_rate is None


# --- pitch


@pytest.mark.parametrize("hz", [55, 80, 123.4, 220, 350, 480])
@pytest.mark.parametrize("make", [tone, sawtooth, pulses])
def test_a_periodic_sound_has_its_pitch(make, hz: float) -> None:
    assert describe(make(hz), RATE).pitch_median_hz == pytest.approx(hz, rel=0.01)


def test_the_pitch_is_a_median_and_pauses_do_not_count() -> None:
    spoken = np.concatenate([sawtooth(120, 2), silence(3), sawtooth(300, 1)])
    assert describe(spoken, RATE).pitch_median_hz == pytest.approx(120, rel=0.01)


def test_a_missing_fundamental_is_heard() -> None:
    assert describe(tone(600) + tone(800) + tone(1_000), RATE).pitch_median_hz == pytest.approx(200, rel=0.01)


def test_hum_below_the_speech_is_not_its_pitch() -> None:
    spoken = np.concatenate([sawtooth(200, 1), silence(4)])
    assert describe(spoken + tone(50, 5, 0.005), RATE).pitch_median_hz == pytest.approx(200, rel=0.01)


@pytest.mark.parametrize(
    "sound",
    [white_noise(4), band_noise(300, 3_400), band_noise(0, 300), tone(1_000), tone(600), silence(1), pulses(200, 0.04)],
    ids=["white", "telephone", "rumble", "1 kHz", "600 Hz", "silence", "40 ms"],
)
def test_noise_silence_and_what_is_too_high_or_short_have_no_pitch(sound: Waveform) -> None:
    assert describe(sound, RATE).pitch_median_hz is None


@pytest.mark.parametrize("slope", [1, 2])
def test_coloured_noise_has_no_pitch(slope: float) -> None:
    for seed in range(5):
        assert describe(noise_of(np.random.default_rng(seed), 5 * RATE, slope), RATE).pitch_median_hz is None


@pytest.mark.parametrize("hz", [80, 123.4, 220, 350])
def test_a_sawtooth_has_the_pitch_that_librosa_finds(hz: float) -> None:
    found = np.median(librosa.yin(sawtooth(hz), fmin=50, fmax=500, sr=RATE, frame_length=1024))
    assert describe(sawtooth(hz), RATE).pitch_median_hz == pytest.approx(found, rel=0.005)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_voice_has_the_pitch_that_librosa_finds(voices: dict[str, Waveform], name: str) -> None:
    pitches, is_voiced, _ = librosa.pyin(voices[name], fmin=50, fmax=500, sr=RATE, frame_length=1024)
    found = np.median(pitches[is_voiced])
    # Which frames are voiced is for each to say: half a semitone, five steps of pyin's.
    assert describe(voices[name], RATE).pitch_median_hz == pytest.approx(found, rel=SEMITONE**0.5 - 1)


@pytest.mark.parametrize("snr_db", [20, 10, 5])
def test_noise_hardly_moves_the_pitch_of_a_voice(recordings: dict[str, Waveform], snr_db: float) -> None:
    speech = recordings["endgame_nagg_nell"]
    noise = white_noise(len(speech) / RATE, 10 ** ((active_level_dbfs(speech, RATE) - snr_db) / 20))
    expected = describe(speech, RATE).pitch_median_hz
    assert describe(speech + noise, RATE).pitch_median_hz == pytest.approx(expected, rel=SEMITONE - 1)


# --- all of them


@pytest.mark.parametrize("name", RECORDINGS)
def test_speech_reads_what_speech_does(recordings: dict[str, Waveform], name: str) -> None:
    found = describe(recordings[name], RATE, "word " * round(2 * len(recordings[name]) / RATE))
    assert -45 < found.level_dbfs < -10
    assert found.snr_db is not None
    assert 20 < found.snr_db <= MAX_SNR_DB
    assert found.clipping < 0.0002
    assert found.bandwidth_hz is not None
    assert 800 < found.bandwidth_hz < 5_000
    assert found.spectral_centroid_hz is not None
    assert 300 < found.spectral_centroid_hz < 2_000
    assert 0.5 < found.speech_share < 0.95
    assert found.speaking_rate == pytest.approx(2 / found.speech_share, rel=0.05)
    assert found.pitch_median_hz is not None
    assert 80 < found.pitch_median_hz < 250


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("gain_db", [-20, -6, 7.5])
def test_gain_moves_the_level_and_nothing_else(recordings: dict[str, Waveform], name: str, gain_db: float) -> None:
    before = describe(recordings[name], RATE, "so many words")
    after = describe((recordings[name] * 10 ** (gain_db / 20)).astype(np.float32), RATE, "so many words")
    assert after.level_dbfs == pytest.approx(before.level_dbfs + gain_db, abs=1e-4)
    expected = numbers(before, level_dbfs=0, clipping=0)
    assert numbers(after, level_dbfs=0, clipping=0) == pytest.approx(expected, rel=2e-3, nan_ok=True)


@pytest.mark.parametrize("name", RECORDINGS)
def test_an_offset_counts_for_nothing(recordings: dict[str, Waveform], name: str) -> None:
    quiet = recordings[name] / 2
    before, after = (numbers(describe(quiet + np.float32(offset), RATE)) for offset in (0, 0.25))
    assert after == pytest.approx(before, rel=2e-3, nan_ok=True)


@pytest.mark.parametrize("rate", [8_000, 11_025, 48_000])
def test_other_rates_read_the_same_where_both_hear_it(assets: Path, rate: int) -> None:
    (high,), (other,) = (
        next(iter(read_blocks(assets / "clone-test.wav", sample_rate=at, block_s=20))) for at in (RATE, rate)
    )
    expected, found = describe(high, RATE), describe(other, rate)
    assert found.level_dbfs == pytest.approx(expected.level_dbfs, abs=0.5)
    assert found.snr_db == pytest.approx(expected.snr_db, abs=2)
    assert found.speech_share == pytest.approx(expected.speech_share, abs=0.03)
    assert found.pitch_median_hz == pytest.approx(expected.pitch_median_hz, rel=SEMITONE - 1)


def check(found: Descriptors, sample_rate: int) -> None:
    """Everything is within the range that its docstring gives."""
    assert all(value is None or math.isfinite(value) for value in astuple(found))
    assert found.level_dbfs >= FLOOR_DB
    assert 0 <= found.clipping <= 1
    assert 0 <= found.speech_share <= 1
    assert found.snr_db is None or MIN_SNR_DB <= found.snr_db <= MAX_SNR_DB
    assert found.pitch_median_hz is None or 50 <= found.pitch_median_hz <= 500
    assert found.speaking_rate is None or found.speaking_rate >= 0
    for frequency in (found.bandwidth_hz, found.spectral_centroid_hz):
        assert frequency is None or 0 <= frequency <= sample_rate / 2


RATES = st.sampled_from([1_000, 8_000, 11_025, 16_000, 44_101])


@settings(max_examples=150)
@given(
    arrays(np.float32, st.integers(0, 6_000), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    RATES,
    st.text() | st.none(),
)
def test_any_finite_samples_have_finite_descriptors(sound: Waveform, sample_rate: int, text: str | None) -> None:
    found = describe(sound, sample_rate, text)
    check(found, sample_rate)
    assert describe(sound.copy(), sample_rate, text) == found


@settings(max_examples=100)
@given(
    st.sampled_from(["silence", "constant", "square", "click", "end", "noise", "tone", "alternating", "ramp"]),
    st.sampled_from([0, 1, 2, 3, 15, 16, 17, 319, 320, 3_199, 3_200, 3_201, 20_000]),
    st.sampled_from([1e-45, 1e-20, 1e-5, 0.5, 1.0, 3e38]),
    RATES,
)
def test_extreme_sounds_of_any_length_have_finite_descriptors(
    shape: str, length: int, amplitude: float, sample_rate: int
) -> None:
    times = np.arange(length)
    sounds = {
        "silence": times * 0.0,
        "constant": times * 0.0 + 1,
        "square": np.where(times // 50 % 2, 1.0, -1.0),
        "click": (times == length // 2) * 1.0,
        "end": np.where(times >= length - 10, (-1.0) ** times, 0.0),
        "noise": np.random.default_rng(0).uniform(-1, 1, length),
        "tone": np.sin(times / 20),
        "alternating": (-1.0) ** times,
        "ramp": times / max(1, length),
    }
    check(describe((sounds[shape] * amplitude).astype(np.float32), sample_rate, "two words"), sample_rate)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(-10, 0), st.integers(200, 20_000))
@example(30416, -6, 200)  # below the floor
def test_halving_any_sound_lowers_its_level_by_6_db_until_it_is_silence_and_nothing_else(
    seed: int, power: int, length: int
) -> None:
    chance = np.random.default_rng(seed)
    sound = chance.uniform(-0.9, 0.9, length) * np.repeat(chance.uniform(0, 1, length // 200 + 1), 200)[:length]
    before = describe(sound.astype(np.float32), RATE)
    after = describe((sound.astype(np.float32) * np.float32(2.0**power)), RATE)
    level_dbfs = before.level_dbfs + power * 20 * math.log10(2)
    if level_dbfs <= FLOOR_DB:
        assert after == Descriptors(FLOOR_DB, None, before.clipping, None, None, 0.0, None, None)
        return
    assert after.level_dbfs == pytest.approx(level_dbfs, abs=1e-6)
    expected = numbers(before, level_dbfs=0)
    assert numbers(after, level_dbfs=0) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("sound", [silence(0), silence(1), silence(1) + 0.5], ids=["empty", "zeros", "constant"])
def test_silence_has_the_floor_and_nothing_else(sound: Waveform) -> None:
    assert describe(sound, RATE, "words") == Descriptors(FLOOR_DB, None, 0.0, None, None, 0.0, None, None)


def test_half_a_minute_costs_less_than_a_hundredth_of_its_time() -> None:
    sound = np.tile(phrases(white_noise(0.5, 0.001), 200), 8)[: 30 * RATE]
    costs_s = []
    for _ in range(3):
        started_s = time.thread_time()
        describe(sound, RATE, "words")
        costs_s.append(time.thread_time() - started_s)
    assert min(costs_s) < 0.01 * len(sound) / RATE
