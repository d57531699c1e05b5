"""Measures callscene on calls of speakers and sources it never heard. It must not know how figures are shown."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.cutting import cut_recording
from features.utterances import UtteranceSettings
from models.group import load_group
from models.protocol import Model
from models.registry import load_model
from tests.eval.corpus_scenes import CONDITIONS, LABELS, SOURCES, calls
from tests.eval.samples import Sample, Spoken

NAME: Final = "callscene"
FRAMES: Final = 100  # a second's
KEY_FRAMES: Final = 4  # 40 ms, Q.24's shortest key press, make a second one of DTMF
CLEAR: Final = 0.75  # of a second in one class, or twice the shortest key press: no border runs through it
TURNS: Final = 3

SHOWN: Final = 0.9  # by default: MODEL_CONFIDENCE_THRESHOLD
SECOND: Final = np.dtype([("label", int), ("is_clear", bool), ("found", int), ("confidence", float)])

Matrix = NDArray[np.int64]
Seconds = np.recarray
"""Of SECOND: what each second is, whether no border runs through it, what it was found to be, and how surely."""


def measure(half: str) -> dict[str, Any]:
    """Return macro F1 on calls at 8 kHz and through GSM 06.10, what it consists of, and the cost.

    A second's truth is what most of it is, or DTMF where a key is pressed; ringing goes on through its pauses. Seconds
    through which a border runs, a quarter of them and more being another class, are counted apart.

    Args:
        half: "reporting", "fitting" or "both".
    """
    spec = next(spec for spec in load_group(()).models if spec.name == NAME)
    began = time.process_time()
    model = load_model(spec)
    load_s = time.process_time() - began
    figures: dict[str, Any] = {"callscene_version": spec.version, "callscene_load_cpu_s": round(load_s, 2)}
    for condition in CONDITIONS:
        ending = "" if condition == "8k" else f"_{condition}"
        found = found_in(model, calls_of(condition, half))
        figures |= figures_of(confusion(found[found.is_clear]), ending)
        figures |= figures_of(confusion(found), f"{ending}_with_borders")
        figures[f"callscene_right_shown_at_090{ending}"] = round(right_shown(found), 4)
        figures[f"callscene_precision_at_090{ending}"] = round(precision_of_shown(found), 4)
        figures[f"callscene_ece{ending}"] = round(calibration_error(found), 4)
    return figures | {"callscene_cpu_per_audio_s": round(cost(model, calls_of("8k", half)), 5)}


def calls_of(condition: str, half: str) -> list[Sample]:
    return [sample for each in SOURCES if half in (each, "both") for sample in calls(condition, each)]


def figures_of(matrix: Matrix, ending: str) -> dict[str, Any]:
    return {
        f"callscene_f1{ending}": round(macro_f1(matrix), 4),
        f"callscene_seconds{ending}": int(matrix.sum()),
        f"callscene_classes{ending}": by_class(matrix),
        f"callscene_confusion{ending}": matrix.tolist(),
    }


def found_in(model: Model, samples: Sequence[Sample]) -> Seconds:
    """Return what became of every second of some calls."""
    parts = []
    for sample in samples:
        duration_s = int(soundfile.info(sample.path).duration)
        labels, is_clear = truth(sample.words, duration_s)
        found, confidences = answered(model, sample.path, duration_s)
        parts.append(np.rec.fromarrays((labels, is_clear, found, confidences), dtype=SECOND))
    return np.concatenate(parts).view(np.recarray)


def confusion(seconds: Seconds) -> Matrix:
    """Return how many seconds of each class (row) were found to be each (column)."""
    matrix = np.zeros((len(LABELS), len(LABELS)), np.int64)
    np.add.at(matrix, (seconds.label, seconds.found), 1)
    return matrix


def right_shown(seconds: Seconds) -> float:
    """Return the share of the seconds that are right whose span has a confidence of SHOWN or more."""
    right = seconds.label == seconds.found
    return float(np.sum(right & (seconds.confidence >= SHOWN)) / max(1, np.sum(right)))


def precision_of_shown(seconds: Seconds) -> float:
    """Return the share of the seconds whose span has a confidence of SHOWN or more that are right."""
    shown = seconds[seconds.confidence >= SHOWN]
    return float(np.mean(shown.label == shown.found)) if len(shown) else 0.0


def calibration_error(seconds: Seconds, bins: int = 10) -> float:
    """Return the expected calibration error of all seconds, in bins of as many seconds each."""
    right = seconds.label == seconds.found
    parts = np.array_split(np.argsort(seconds.confidence, kind="stable"), bins)
    off = [len(part) * abs(np.mean(seconds.confidence[part]) - np.mean(right[part])) for part in parts if len(part)]
    return float(sum(off) / max(1, len(seconds)))


def truth(stretches: Sequence[Spoken], seconds: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the class of each second, and whether it is clear; the last stretch is the background."""
    frames = np.empty(seconds * FRAMES, np.int64)
    for stretch in (stretches[-1], *stretches[:-1]):
        assert stretch.start_s is not None
        assert stretch.end_s is not None
        frames[round(stretch.start_s * FRAMES) : round(stretch.end_s * FRAMES)] = LABELS.index(stretch.text)
    counts = np.stack([(frames.reshape(-1, FRAMES) == label).sum(axis=1) for label in range(len(LABELS))], axis=1)
    labels = counts.argmax(axis=1)
    clear = counts.max(axis=1) >= CLEAR * FRAMES
    keys = counts[:, LABELS.index("DTMF")]
    labels[keys >= KEY_FRAMES] = LABELS.index("DTMF")
    return labels, (clear & (keys == 0)) | (keys >= 2 * KEY_FRAMES)


def answered(model: Model, path: Path, seconds: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return what the model says of each second, and the confidence of its span, given what the product gives it."""
    found, confidences = np.full(seconds, -1), np.zeros(seconds)
    for _, piece in cut_recording(path, (0,), ("windows",), UtteranceSettings()):
        for span in model.predict(piece.waveform).detections:
            if placed := piece.placed(span.start_s, span.end_s):
                start, end = (round(at_s) for at_s in placed)
                found[start:end], confidences[start:end] = LABELS.index(span.label), span.confidence
    return found, confidences


def by_class(matrix: Matrix) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of each class that there is."""
    figures = {}
    for label, name in enumerate(LABELS):
        right, said, there = matrix[label, label], matrix[:, label].sum(), matrix[label].sum()
        figures[name] = {
            "precision": round(float(right / max(1, said)), 4),
            "recall": round(float(right / max(1, there)), 4),
            "f1": round(float(2 * right / max(1, said + there)), 4),
            "seconds": int(there),
        }
    return figures


def macro_f1(matrix: Matrix) -> float:
    """Return the mean of the classes' F1."""
    right = matrix.diagonal()
    return float(np.mean(2 * right / np.maximum(1, matrix.sum(axis=0) + matrix.sum(axis=1))))


def cost(model: Model, samples: Sequence[Sample]) -> float:
    """Return the CPU seconds of an answer per second of audio: the least of some turns over windows of the product."""
    pieces = [
        piece.waveform
        for sample in samples[:6]
        for _, piece in cut_recording(sample.path, (0,), ("windows",), UtteranceSettings())
    ]
    least = np.inf
    for _ in range(TURNS):
        began = time.process_time()
        for waveform in pieces:
            model.predict(waveform)
        least = min(least, time.process_time() - began)
    return float(least / sum(soundfile.info(sample.path).duration for sample in samples[:6]))
