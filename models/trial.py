"""The first question to a model: one can load, and fail for every recording. It must not know of which family it is."""

from typing import Final, TypeVar

import numpy as np

from models.errors import ModelUnavailableError
from models.protocol import Model

TRIAL_S: Final = 1.0
TRIAL_LEVEL: Final = 0.01  # RMS of the noise: about -40 dBFS

M = TypeVar("M", bound=Model)


def answering(model: M) -> M:
    """Return a model that answered for a second of noise with numbers that can be stored.

    Raises:
        ModelUnavailableError: It did not.
    """
    samples = round(TRIAL_S * model.sample_rate)
    noise = np.random.default_rng(0).normal(0, TRIAL_LEVEL, samples).astype(np.float32)
    try:
        answer = model.predict(noise)
    except Exception as error:  # whatever its files make SpeechBrain and torch raise
        raise ModelUnavailableError(
            f"{model.name}: it cannot answer for {TRIAL_S:g} s of noise ({type(error).__name__}: {error}): "
            "its settings or files do not fit each other"
        ) from error
    embedded = answer.embedding is None or bool(np.isfinite(answer.embedding).all())
    if not embedded or not all(0 <= found.confidence <= 1 for found in answer.detections):
        raise ModelUnavailableError(
            f"{model.name}: its answer for {TRIAL_S:g} s of noise is no number, or none that can be: its weights are "
            "damaged"
        )
    return model
