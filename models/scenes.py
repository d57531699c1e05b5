"""Scenes: a window in, what each of its seconds consists of out, as spans. It must not know how the network is trained.

The network is ours (models/callscene/README.md), loaded by SpeechBrain from its folder: Fbank, ECAPA-TDNN (Desplanques
et al. 2020, arXiv:2005.07143), a linear classifier.
"""

import sys
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.utils.importutils import LazyModule

from features.pieces import SAMPLE_RATE, Wants
from models.bounds import check_numbers
from models.group import ModelSpec
from models.protocol import Answer, Detection
from models.settings import settings_of
from models.speechbrain_loading import labels_of, load_interface, require_outputs
from models.trial import answering

# SpeechBrain leaves stand-ins for old names and for packages that are not installed in sys.modules: whatever asks every
# module for its file, as Hypothesis and inspect do, would import them, and fail.
for _name in [name for name, module in sys.modules.items() if isinstance(module, LazyModule)]:
    del sys.modules[_name]

CONTEXT_S: Final = 1  # heard before and behind each second: a busy tone is told from a ring by its pauses
RINGING: Final = "ringing"
SILENCE: Final = "silence"
SILENT_DBFS: Final = -60.0  # a second whose RMS is lower is silence, whatever is heard before and behind it
PAUSE: Final = frozenset({SILENCE, "noise"})
LONGEST_PAUSE_S: Final = 6  # seconds of a pause between two rings, which is ringing: E.180 has up to 5 s, within 10 %


@dataclass(frozen=True, slots=True)
class Settings:
    """What group.toml says of the answers."""

    temperature: float
    """Of the softmax (Guo et al. 2017, arXiv:1706.04599): training smooths labels, which makes it unsure."""

    def __post_init__(self) -> None:
        check_numbers(self, {"temperature": (0.05, 20.0)})


def load(spec: ModelSpec, folder: Path) -> "Scenes":
    """Load callscene from `folder`.

    Raises:
        ModelUnavailableError: A setting is missing, unknown or impossible, or a file is refused or does not fit.
    """
    settings = settings_of(spec, Settings)
    interface = load_interface(spec, folder, lambda _: "EncoderClassifier")
    return answering(Scenes(spec, settings, interface))


def contexts(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each second with its neighbours; beyond its ends a window is mirrored.

    Args:
        waveform: Samples at SAMPLE_RATE, at least one. Shape (time,).

    Returns:
        Shape (second, (1 + 2 CONTEXT_S) SAMPLE_RATE), the last second begun being whole.
    """
    count = -(-len(waveform) // SAMPLE_RATE)
    around = CONTEXT_S * SAMPLE_RATE
    padded = np.pad(waveform, (around, around + count * SAMPLE_RATE - len(waveform)), mode="symmetric")
    found = np.lib.stride_tricks.sliding_window_view(padded, SAMPLE_RATE + 2 * around)[::SAMPLE_RATE]
    return np.array(found, np.float32)  # a copy: torch wants to be able to write


def is_silent(waveform: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which seconds, the last one as far as it goes, are below SILENT_DBFS. Shape (second,)."""
    energy = np.add.reduceat(np.square(waveform, dtype=np.float64), np.arange(0, len(waveform), SAMPLE_RATE))
    frames = np.full(len(energy), SAMPLE_RATE)
    frames[-1] -= -len(waveform) % SAMPLE_RATE
    silent: NDArray[np.bool_] = energy < frames * 10 ** (SILENT_DBFS / 10)
    return silent


class Scenes:
    """Says of every second what it consists of, and makes spans of seconds that agree."""

    task: str = "scenes"
    sample_rate: int = SAMPLE_RATE
    wants: Wants = "windows"

    def __init__(self, spec: ModelSpec, settings: Settings, classifier: EncoderClassifier) -> None:
        self.name, self.version = spec.name, spec.version
        self._settings, self._classifier = settings, classifier
        self.labels = labels_of(spec, classifier)

    def predict(self, waveform: NDArray[np.float32], text: str | None = None) -> Answer:  # noqa: ARG002  it reads none
        """Return the spans of a window, which they tile; see `models.protocol.Model`."""
        if not len(waveform):
            return Answer()
        return Answer(spans(self.probabilities(waveform), self.labels, len(waveform) / SAMPLE_RATE))

    def probabilities(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each label in each second begun. Shape (second, label)."""
        with torch.inference_mode():
            log_probabilities = self._classifier.classify_batch(torch.from_numpy(contexts(waveform)))[0]
        require_outputs(log_probabilities, self.labels)
        found: NDArray[np.float32] = (log_probabilities / self._settings.temperature).softmax(dim=1).numpy()
        found[is_silent(waveform)] = [label == SILENCE for label in self.labels]
        return found


def spans(probabilities: NDArray[np.float32], labels: tuple[str, ...], duration_s: float) -> tuple[Detection, ...]:
    """Return the likeliest label of each second, those that agree as one, with the mean of their probabilities.

    Args:
        probabilities: Shape (second, label).
        labels: Their names.
        duration_s: Where the last second ends.
    """
    best = probabilities.max(axis=1)
    found = []
    for label, group in groupby(enumerate(with_pauses([labels[at] for at in probabilities.argmax(axis=1)])), _label):
        seconds = [second for second, _ in group]
        end_s = min(float(seconds[-1] + 1), duration_s)
        found.append(Detection(label, float(seconds[0]), end_s, min(1.0, float(best[seconds].mean()))))
    return tuple(found)


def with_pauses(labels: list[str]) -> list[str]:
    """Return the labels of seconds, with the pause between two rings, be the line silent or noisy, as ringing."""
    found = list(labels)
    rings = [second for second, label in enumerate(labels) if label == RINGING]
    for ring, following in pairwise(rings):
        if following - ring - 1 <= LONGEST_PAUSE_S and PAUSE.issuperset(labels[ring + 1 : following]):
            found[ring:following] = [RINGING] * (following - ring)
    return found


def _label(second: tuple[int, str]) -> str:
    return second[1]
