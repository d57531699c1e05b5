"""The real callscene: spans tile a window and depend on it alone; each class is found where nothing was trained on."""

import hashlib
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.audio import read_blocks, resampled
from models.errors import ModelUnavailableError
from models.group import ModelSpec, load_group
from models.protocol import Detection
from models.registry import FAMILIES, load_model, verified_folder
from models.scenes import LONGEST_PAUSE_S, SAMPLE_RATE, Scenes, contexts, spans, with_pauses
from tests.eval import corpus_tones as tones

Waveform = NDArray[np.float32]
LABELS = {"speech", "music", "ringing", "busy tone", "DTMF", "noise", "silence"}


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    (found,) = (model for model in load_group(()).models if model.family == "callscene")
    return found


@pytest.fixture(scope="module")
def callscene(spec: ModelSpec) -> Scenes:
    model = load_model(spec)
    assert isinstance(model, Scenes)
    return model


@pytest.fixture(scope="module")
def speech(weights: Path) -> Waveform:
    """Ten seconds of A Tale of Two Cities."""
    block, *_ = read_blocks(weights.parent / "two_cities.wav", sample_rate=SAMPLE_RATE, block_s=10.0, channels=(0,))
    return block[0]


@pytest.fixture(scope="module")
def examples(speech: Waveform) -> dict[str, Waveform]:
    """Ten clear seconds and more of each class."""
    chance = np.random.default_rng(180)
    cadences = {cadence.name: cadence for cadence in tones.RINGING["reporting"]}
    busy = {cadence.name: cadence for cadence in tones.BUSY["reporting"]}
    at_rate = {
        "ringing": tones.cadenced(chance, cadences["korea"], 12)[0],
        "busy tone": tones.cadenced(chance, busy["turkey"], 12)[0],
        "DTMF": tones.dialled(chance, 12)[0],
        "noise": chance.standard_normal(10 * tones.RATE).astype(np.float32),
        "music": melody(chance, 10),
    }
    return {"speech": speech, "silence": np.zeros(10 * SAMPLE_RATE, np.float32)} | {
        label: resampled(np.float32(0.1) * waveform, tones.RATE, SAMPLE_RATE) for label, waveform in at_rate.items()
    }


def melody(chance: np.random.Generator, duration_s: int) -> Waveform:
    """Bells by frequency modulation (Chowning 1973) over held chords: no instrument of the training."""
    at_s = np.arange(duration_s * tones.RATE) / tones.RATE
    made = np.zeros(len(at_s))
    for start_s in np.arange(0, duration_s, 0.25):
        hertz = 262 * 2 ** (chance.choice((0, 2, 4, 5, 7, 9, 12)) / 12)
        since_s = np.maximum(0, at_s - start_s)
        envelope = (at_s >= start_s) * np.exp(-since_s * 3)
        bell = np.sin(2 * np.pi * hertz * 1.4 * since_s)
        made += envelope * np.sin(2 * np.pi * hertz * since_s + 2 * envelope * bell)
    for start_s in range(0, duration_s, 2):
        held = (at_s >= start_s) & (at_s < start_s + 2)
        root_hz = 131 * 2 ** (chance.choice((0, 5, 7)) / 12)
        for ratio in (1, 1.25, 1.5, 2):
            made += 0.3 * held * np.sin(2 * np.pi * root_hz * ratio * at_s)
    return (made / np.std(made)).astype(np.float32)


def seconds_of(found: tuple[Detection, ...], label: str) -> float:
    return sum(span.end_s - span.start_s for span in found if span.label == label)


@pytest.mark.parametrize("label", sorted(LABELS))
def test_a_class_is_found_in_a_clear_example(callscene: Scenes, examples: dict[str, Waveform], label: str) -> None:
    waveform = examples[label]
    found = callscene.predict(waveform).detections
    assert seconds_of(found, label) >= 0.9 * (len(waveform) / SAMPLE_RATE - 1), found


def test_a_loaded_model_knows_its_labels_and_what_it_wants(callscene: Scenes, spec: ModelSpec) -> None:
    assert set(callscene.labels) == LABELS
    assert (callscene.name, callscene.version, callscene.task) == (spec.name, spec.version, "scenes")
    assert (callscene.wants, callscene.sample_rate) == ("windows", 16_000)


@settings(max_examples=15)
@given(length=st.integers(1, 5 * 16_000), seed=st.integers(0, 99))
def test_spans_tile_a_window_of_any_length(callscene: Scenes, length: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    loud = np.repeat(chance.choice((0.0, 0.001, 0.3), 6), 16_000)[:length]
    found = callscene.predict((loud * chance.standard_normal(length)).astype(np.float32)).detections
    assert found[0].start_s == 0
    assert found[-1].end_s == length / SAMPLE_RATE
    assert all(span.start_s < span.end_s for span in found)
    assert all(0 < span.confidence <= 1 for span in found)
    assert all(before.end_s == after.start_s and before.label != after.label for before, after in pairwise(found))


def test_a_loaded_model_keeps_to_one_core(spec: ModelSpec) -> None:
    torch.set_num_threads(2)
    load_model(spec)
    assert torch.get_num_threads() == 1


def test_a_window_without_samples_has_no_spans(callscene: Scenes) -> None:
    assert callscene.predict(np.zeros(0, np.float32)).detections == ()


def test_another_windows_content_changes_nothing(callscene: Scenes, examples: dict[str, Waveform]) -> None:
    first = {label: callscene.predict(waveform) for label, waveform in examples.items()}
    again = {label: callscene.predict(waveform) for label, waveform in reversed(examples.items())}
    assert first == again


def test_a_second_hears_its_neighbours_and_nothing_beyond(callscene: Scenes, examples: dict[str, Waveform]) -> None:
    call = np.concatenate([examples["speech"], examples["busy tone"][: 10 * SAMPLE_RATE]])
    changed = call.copy()
    changed[:SAMPLE_RATE] = examples["noise"][:SAMPLE_RATE]
    np.testing.assert_array_equal(callscene.probabilities(changed)[2:], callscene.probabilities(call)[2:])


@pytest.mark.parametrize("level", [0.03, 0.9])
def test_a_classes_level_does_not_matter(callscene: Scenes, speech: Waveform, level: float) -> None:
    at_level = speech * np.float32(level / np.abs(speech).max())
    assert seconds_of(callscene.predict(at_level).detections, "speech") >= 8


def test_stretches_behind_one_another_are_spans_in_their_order(
    callscene: Scenes, examples: dict[str, Waveform]
) -> None:
    order = ("DTMF", "ringing", "speech", "silence", "busy tone")
    call = np.concatenate([examples[label][: 9 * SAMPLE_RATE] for label in order])
    longest = [span.label for span in callscene.predict(call).detections if span.end_s - span.start_s >= 4]
    assert [label for label in longest if label in order] == list(order)


def test_each_second_is_heard_with_one_before_and_one_behind() -> None:
    window = np.arange(2.5 * SAMPLE_RATE, dtype=np.float32)
    heard = contexts(window)
    assert heard.shape == (3, 3 * SAMPLE_RATE)
    np.testing.assert_array_equal(heard[1][: len(window)], window)
    np.testing.assert_array_equal(heard[0][:SAMPLE_RATE], window[:SAMPLE_RATE][::-1])  # mirrored


@pytest.mark.parametrize("pause_s", [1, LONGEST_PAUSE_S])
@pytest.mark.parametrize("line", ["silence", "noise"])
def test_the_pause_between_two_rings_is_ringing(line: str, pause_s: int) -> None:
    assert with_pauses(["ringing", *[line] * pause_s, "ringing"]) == ["ringing"] * (pause_s + 2)


@pytest.mark.parametrize(
    "labels",
    [
        ["ringing", *["silence"] * (LONGEST_PAUSE_S + 1), "ringing"],
        ["ringing", "silence", "speech"],
        ["silence", "ringing", "silence"],
        ["ringing", "silence", "speech", "ringing"],
    ],
)
def test_other_silence_is_silence(labels: list[str]) -> None:
    assert with_pauses(labels) == labels


def test_a_second_below_60_dbfs_is_silence_whatever_is_beside_it(
    callscene: Scenes, examples: dict[str, Waveform]
) -> None:
    call = examples["DTMF"][: 5 * SAMPLE_RATE].copy()
    call[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] *= np.float32(0.001)
    found = callscene.predict(call).detections
    assert [span.label for span in found if span.start_s <= 2 and span.end_s >= 3] == ["silence"]


def test_a_spans_confidence_is_the_mean_probability_of_its_seconds() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], np.float32)
    first, second = spans(probabilities, ("speech", "music"), 2.5)
    assert (first.label, first.start_s, first.end_s) == ("speech", 0, 2)
    assert first.confidence == pytest.approx(0.75)
    assert (second.label, second.start_s, second.end_s) == ("music", 2, 2.5)


def test_checkpoints_are_numbers_and_no_code(spec: ModelSpec) -> None:
    folder = verified_folder(spec)
    for name in ("mean_var_norm", "embedding_model", "classifier"):
        assert torch.load(folder / f"{name}.ckpt", weights_only=True)
    settings_file = (folder / "hyperparams.yaml").read_text()
    assert "!!" not in settings_file
    named = [line.partition("!new:")[2] for line in settings_file.splitlines() if "!new:" in line]
    assert all(name.startswith("speechbrain.") for name in named)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000


def test_loading_writes_nothing_beside_the_weights(spec: ModelSpec, callscene: Scenes) -> None:
    folder = verified_folder(spec)
    assert {path.name for path in folder.iterdir()} == {*spec.sha256, "README.md"}
    assert not list(folder.parent.glob(".*"))


def test_a_folder_is_copied_before_it_is_read_and_no_code_in_it_runs(spec: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "callscene"
    shutil.copytree(verified_folder(spec), folder)
    (folder / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    folder.chmod(0o555)
    before = sorted(path.name for path in folder.iterdir())
    model = load_model(replace(spec, source=f"folder:{folder}"), tmp_path / "cache")
    assert model.predict(np.zeros(SAMPLE_RATE, np.float32)).detections
    assert sorted(path.name for path in folder.iterdir()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "callscene"]
    (kept,) = (tmp_path / "cache" / "folders").iterdir()
    assert {path.name for path in kept.iterdir()} == set(spec.sha256)


@pytest.mark.parametrize("name", FAMILIES["callscene"].files)
def test_another_file_is_not_loaded(spec: ModelSpec, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "callscene"
    shutil.copytree(verified_folder(spec), folder)
    (folder / name).write_bytes(b"another")
    with pytest.raises(ModelUnavailableError, match="sha256"):
        load_model(replace(spec, source=f"folder:{folder}"), tmp_path / "cache")


def test_labels_that_do_not_fit_the_outputs_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "callscene"
    shutil.copytree(verified_folder(spec), folder)
    labels = folder / "label_encoder.ckpt"
    lines = labels.read_text().splitlines()
    for changed, reason in (
        ([line for line in lines if not line.endswith("=> 6")], "7 outputs and 6 labels"),
        ([line for line in lines if not line.endswith("=> 1")], "from 0 without gaps"),
        ([line.replace("=> 0", "=> -7") for line in lines], "from 0 without gaps"),
    ):
        labels.write_text("\n".join(changed) + "\n")
        digests = {**spec.sha256, labels.name: hashlib.sha256(labels.read_bytes()).hexdigest()}
        with pytest.raises(ModelUnavailableError, match=reason):
            load_model(replace(spec, source=f"folder:{folder}", sha256=digests), tmp_path / "cache")


def test_a_lower_temperature_is_surer_of_the_same_labels(spec: ModelSpec, examples: dict[str, Waveform]) -> None:
    waveform = np.concatenate(list(examples.values()))
    unsure, sure = (
        load_model(replace(spec, settings={"temperature": temperature})).predict(waveform).detections
        for temperature in (2.0, 0.5)
    )
    assert [(span.label, span.start_s, span.end_s) for span in unsure] == [
        (span.label, span.start_s, span.end_s) for span in sure
    ]
    assert np.mean([span.confidence for span in sure]) > np.mean([span.confidence for span in unsure])


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": True}, {"temperature": 1.0, "x": 1}])
def test_impossible_settings_are_refused(spec: ModelSpec, settings: dict[str, float]) -> None:
    with pytest.raises(ModelUnavailableError, match="settings in the group file are wrong"):
        load_model(replace(spec, settings=settings))
