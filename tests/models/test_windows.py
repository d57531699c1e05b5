"""What a window's end cuts comes out as it does in one piece: of SpeechBrain's detector of speech, and of callscene."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.audio import resampled
from features.pieces import SAMPLE_RATE, Windows
from flows.shards import joined
from models.group import load_group
from models.protocol import Model
from models.registry import load_model
from models.scenes import RINGING  # which also takes SpeechBrain's stand-ins away that Hypothesis would import
from models.speechbrain_models import SPEECH, Speech
from tests import checkpoints
from tests.eval import corpus_tones as tones
from tests.eval.corpus_nonspeech import Cadence

FRAME = 160  # samples: 10 ms
Waveform = NDArray[np.float32]
Spans = list[tuple[float, float]]


@pytest.fixture(scope="module")
def load_speech(two_cities: list[Waveform], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Speech]:
    """Loads a detector that has learned the first utterance by heart."""
    folder = tmp_path_factory.mktemp("speech")
    waveform, spoken = spoken_between_silence(two_cities[0])
    digests = checkpoints.speech(folder, waveform, spoken[::FRAME])
    found = next(spec for spec in load_group(()).models if spec.family == "speechbrain-vad")

    def load(**changes: float) -> Speech:
        spec = replace(
            found, source=f"folder:{folder}", sha256=digests, revision="", settings={**found.settings, **changes}
        )
        model = load_model(spec, tmp_path_factory.mktemp("cache"))
        assert isinstance(model, Speech)
        return model

    return load


def spoken_between_silence(utterance: Waveform) -> tuple[Waveform, NDArray[np.bool_]]:
    said = utterance[SAMPLE_RATE : 4 * SAMPLE_RATE]
    quiet = np.random.default_rng(1).normal(0, 1e-4, 2 * SAMPLE_RATE).astype(np.float32)
    spoken = np.repeat([False, True, False], [len(quiet), len(said), len(quiet)])
    return np.concatenate([quiet, said, quiet]), spoken


def heard(model: Model, waveform: Waveform, label: str, **cuts: float) -> list[dict[str, Any]]:
    """Return the spans of a label that are published for a recording that is cut into windows."""
    cutter = Windows(0, SAMPLE_RATE, **cuts)
    rows = [
        {"channel": 0, "label": span.label, "start_s": times[0], "end_s": times[1], "confidence": span.confidence}
        for piece in (*cutter.push(waveform), *cutter.finish())
        for span in model.predict(piece.waveform).detections
        if (times := piece.placed(span.start_s, span.end_s)) and span.label == label
    ]
    return joined(rows)


def times(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([(row["start_s"], row["end_s"]) for row in rows]).reshape(-1, 2)


def test_a_long_recordings_speech_is_what_speechbrain_finds_in_its_file(
    load_speech: Callable[..., Speech], two_cities: list[Waveform], tmp_path: Path
) -> None:
    model = load_speech()
    some, _ = spoken_between_silence(two_cities[0])
    speech = np.concatenate(two_cities)
    waveform = np.concatenate([some, speech, some[: -SAMPLE_RATE // 2]] * 4)[: 150 * SAMPLE_RATE]
    assert len(waveform) == 150 * SAMPLE_RATE
    path = tmp_path / "long.wav"
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")
    expected = model.interface.get_speech_segments(str(path), double_check=False).numpy()
    expected[:, 1] += FRAME / SAMPLE_RATE  # SpeechBrain's end is where the last frame begins
    found = times(heard(model, waveform, SPEECH))
    assert any(start_s < border_s < end_s for border_s in (60, 120) for start_s, end_s in found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1.01 * FRAME / SAMPLE_RATE


@pytest.mark.parametrize("duration_s", [61, 120, 130])
def test_nothing_but_speech_is_one_span_to_the_end(load_speech: Callable[..., Speech], duration_s: int) -> None:
    model = load_speech(activation=0.0, deactivation=0.0)
    chance = np.random.default_rng(0)
    waveform = chance.normal(0, 0.1, duration_s * SAMPLE_RATE).astype(np.float32)
    assert times(heard(model, waveform, SPEECH)) == pytest.approx(np.array([(0.0, duration_s)]), abs=0.001)


def frames_of(waveform: Waveform) -> torch.Tensor:
    return torch.from_numpy(waveform[: len(waveform) // FRAME * FRAME : FRAME].copy())[None, :, None]


def test_speech_of_any_lengths_at_any_borders_is_what_it_is_in_one_piece(
    load_speech: Callable[..., Speech], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Limits between two frames, so that rounding decides nothing.
    model = load_speech(close_s=0.255, short_s=0.255)
    # The waveform is the probability, so that borders fall wherever they can, and not where a network has them.
    monkeypatch.setattr(model, "probabilities", frames_of)
    sure, any_length = st.sampled_from((0.0, 0.9)), st.integers(1, 45)

    @settings(max_examples=60)
    @given(
        runs=st.lists(st.tuples(sure, any_length, any_length), min_size=1, max_size=12),
        window=st.integers(20, 300),
    )
    def holds(runs: list[tuple[float, int, int]], window: int) -> None:
        probability = np.concatenate([np.repeat([value, 0.4], lengths) for value, *lengths in runs])  # 0.4: as before
        waveform = np.repeat(probability, FRAME).astype(np.float32)
        cut = heard(model, waveform, SPEECH, length_s=window / 100, context_s=1.0)
        whole = heard(model, waveform, SPEECH, length_s=1000.0)
        assert times(cut) == pytest.approx(times(whole), abs=0.001)

    holds()


@pytest.mark.parametrize("before_s", [55.3, 56.2, 57.8, 59.1, 59.6])
def test_ringing_goes_on_where_a_window_ends_in_its_pause(before_s: float) -> None:
    spec = next(spec for spec in load_group(()).models if spec.family == "callscene")
    cadence = Cadence("e180", (((425,), 1.0), ((), 4.0)))
    chance = np.random.default_rng(2)
    ringing, _ = tones.cadenced(chance, cadence, 11)
    made = np.concatenate([np.zeros(round(before_s * tones.RATE)), 0.1 * ringing, np.zeros(10 * tones.RATE)])
    waveform = resampled(made.astype(np.float32), tones.RATE, SAMPLE_RATE)
    (row,) = heard(load_model(spec), waveform, RINGING)
    assert (row["start_s"], row["end_s"]) == pytest.approx((before_s, before_s + len(ringing) / tones.RATE), abs=1.0)
