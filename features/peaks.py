"""A waveform's peaks, the least and the greatest sample of each pixel, found while a recording is decoded.

It must not know how they are kept: storage/peaks.py does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.audio import AudioInfo, probe

START_S: Final = 0.02  # of a pixel at first: as fine as a player can show
MAX_PIXELS: Final = 100_000  # half an hour; where there are more, each two become one
FULL_SCALE: Final = 128  # a sample of -1, in 8 bits


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks of a recording.

    Attributes:
        samples_per_pixel: How many samples of a channel one pixel is of; the last one may be of fewer.
        values: The least, rounded down, and the greatest, rounded up, of samples times 128, within -128 to 127. Shape
            (pixel, channel, 2).
    """

    samples_per_pixel: int
    values: NDArray[np.int8]


def probe_with_peaks(path: Path, *, max_duration_s: float) -> tuple[AudioInfo, Peaks]:
    """Decode the whole recording once; say what it is, and what its waveform looks like.

    Raises:
        AudioError: It cannot be used; see `features.audio.probe`.
        OSError: It cannot be read.
    """
    maker = PeaksMaker()
    info = probe(path, max_duration_s=max_duration_s, listener=maker.push)
    return info, maker.peaks()


class PeaksMaker:
    """Takes a recording block by block; how it is divided makes no difference. Its memory is bounded by MAX_PIXELS."""

    def __init__(self) -> None:
        self._samples_per_pixel = 0
        self._done: list[NDArray[np.int8]] = []  # shape (pixel, channel, 2) each
        self._pixels = 0
        self._begun: NDArray[np.int8] | None = None  # a pixel with samples to come, shape (1, channel, 2)
        self._begun_samples = 0

    def push(self, block: NDArray[np.float32], sample_rate: int) -> None:
        """Take the next block.

        Args:
            block: Samples, about in [-1, 1]; what is not a number counts as 0. Shape (time, channel).
            sample_rate: In Hz, the same for all blocks.
        """
        if not self._samples_per_pixel:
            self._samples_per_pixel = max(1, round(START_S * sample_rate))
        waveform = np.ascontiguousarray(block.T)  # a minimum over what lies together takes a thirtieth of the time
        per_pixel, samples = self._samples_per_pixel, waveform.shape[1]
        if not samples:
            return
        missing = per_pixel - self._begun_samples if self._begun is not None else 0
        starts = np.arange(missing, samples, per_pixel)
        pixels = _extremes(waveform, np.concatenate([[0], starts]) if missing else starts)
        if self._begun is not None:
            pixels[:1] = _wider(self._begun, pixels[:1])
        whole, self._begun_samples = divmod(self._begun_samples + samples, per_pixel)
        self._begun = pixels[whole:] if self._begun_samples else None
        self._done.append(pixels[:whole])
        self._pixels += whole
        while self._pixels > MAX_PIXELS:
            self._merge()

    def peaks(self) -> Peaks:
        """Return the peaks of what was pushed.

        Raises:
            ValueError: Nothing was.
        """
        parts = [*self._done, self._begun] if self._begun is not None else self._done
        if not parts:
            raise ValueError("no samples, and so no peaks")
        return Peaks(self._samples_per_pixel, np.concatenate(parts))

    def _merge(self) -> None:
        """Make one pixel of each two; the last one of an odd number has its second half still to come."""
        pixels = np.concatenate(self._done)
        if len(pixels) % 2:
            last = pixels[-1:]
            self._begun = last if self._begun is None else _wider(last, self._begun)
            self._begun_samples += self._samples_per_pixel
        even = len(pixels) // 2 * 2
        self._done = [_wider(pixels[0:even:2], pixels[1:even:2])]
        self._pixels = even // 2
        self._samples_per_pixel *= 2


def _extremes(waveform: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the least and the greatest of each pixel, which reaches from its start to the next one's.

    Shape (channel, time) in, (pixel, channel, 2) out.
    """
    least = np.minimum.reduceat(waveform, starts, axis=1)
    if np.isnan(least).any():
        return _extremes(np.nan_to_num(waveform, nan=0.0, posinf=1.0, neginf=-1.0), starts)
    greatest = np.maximum.reduceat(waveform, starts, axis=1)
    both = np.stack([np.floor(least.T * FULL_SCALE), np.ceil(greatest.T * FULL_SCALE)], axis=2)
    extremes: NDArray[np.int8] = np.clip(both, -FULL_SCALE, FULL_SCALE - 1).astype(np.int8)
    return extremes


def _wider(one: NDArray[np.int8], other: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return pixels that span two. Shape (pixel, channel, 2) each."""
    least = np.minimum(one[..., 0], other[..., 0])
    return np.stack([least, np.maximum(one[..., 1], other[..., 1])], axis=-1)
