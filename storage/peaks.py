"""The file of a recording's peaks: waveform data of audiowaveform, version 2, in 8 bits. It must not read audio.

The format is the BBC's, and public (DataFormat.md of bbc/audiowaveform); players such as peaks.js read it as it is, and
others its form in JSON. All numbers are little-endian:

    int32   version: 2
    uint32  flags: bit 0 says 8 bits, or else 16
    int32   sample rate of the recording, in Hz
    int32   samples per pixel
    uint32  length: pixels
    int32   channels
    int8    of each pixel and, in it, of each channel: the least, the greatest
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

VERSION: Final = 2
BITS: Final = 8

_HEADER: Final = struct.Struct("<iIiiIi")
_EIGHT_BITS: Final = 1


@dataclass(frozen=True, slots=True)
class Waveform:
    """What a file of peaks says.

    Attributes:
        sample_rate: Of the recording, in Hz.
        samples_per_pixel: How many samples of a channel one pixel is of; the last one may be of fewer.
        values: Shape (pixel, channel, 2): the least and the greatest sample, full scale -128 to 127.
    """

    sample_rate: int
    samples_per_pixel: int
    values: NDArray[np.int8]

    def encode(self) -> bytes:
        """Return the file."""
        pixels, channels, _ = self.values.shape
        header = _HEADER.pack(VERSION, _EIGHT_BITS, self.sample_rate, self.samples_per_pixel, pixels, channels)
        return header + self.values.tobytes()

    def in_points(self, points: int) -> "Waveform":
        """Return the same waveform in `points` pixels at most, each of a whole number of these."""
        pixels = len(self.values)
        together = -(-pixels // points)
        if together <= 1:
            return self
        starts = np.arange(0, pixels, together)
        least = np.minimum.reduceat(self.values[..., 0], starts)
        greatest = np.maximum.reduceat(self.values[..., 1], starts)
        return Waveform(self.sample_rate, self.samples_per_pixel * together, np.stack([least, greatest], axis=-1))


def decode(content: bytes) -> Waveform:
    """Return what a file of peaks says.

    Raises:
        ValueError: It is damaged, or not of the kind that is written here.
    """
    if len(content) < _HEADER.size:
        raise ValueError(f"it has {len(content)} bytes, and its header needs {_HEADER.size}")
    version, flags, sample_rate, samples_per_pixel, pixels, channels = _HEADER.unpack_from(content)
    if version != VERSION or flags != _EIGHT_BITS or min(sample_rate, samples_per_pixel, pixels, channels) < 1:
        raise ValueError("its header is not the one of audiowaveform's version 2 in 8 bits")
    if len(content) != _HEADER.size + 2 * pixels * channels:
        raise ValueError(f"it has {len(content)} bytes, and its header says {_HEADER.size + 2 * pixels * channels}")
    values = np.frombuffer(content, np.int8, offset=_HEADER.size).reshape(pixels, channels, 2)
    return Waveform(sample_rate, samples_per_pixel, values)
