"""What a model is to the rest of Audiophile."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.pieces import Wants


@dataclass(frozen=True, slots=True)
class Detection:
    """A phrase or class that a model found."""

    label: str
    start_s: float  # from the start of what the model was given
    end_s: float
    confidence: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of one piece of a recording. No detections is an answer too."""

    detections: tuple[Detection, ...] = ()
    text: str | None = None
    embedding: NDArray[np.float16] | None = field(default=None, compare=False)  # of the whole. Shape (dimension,)


class Model(Protocol):
    """A loaded model. An answer depends on the waveform alone, never on what was asked before it."""

    name: str
    version: str
    task: str
    sample_rate: int  # Hz
    wants: Wants

    def predict(self, waveform: NDArray[np.float32], text: str | None = None) -> Answer:
        """Answer for one piece of a recording, of those that the model wants.

        Args:
            waveform: Samples in [-1, 1] at `sample_rate`. Shape (time,).
            text: What a model of the same weights and settings has read in it before, where that is known: it is not
                read again, and the answer is the same.
        """
