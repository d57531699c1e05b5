"""What models are given of a recording, and the two ways of cutting that need not know what is in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000  # Hz
WINDOW_S: Final = 60.0
WHOLE_S: Final = 600.0  # what is given of a channel as a whole, at most: memory is bounded

Wants = Literal["utterances", "windows", "file"]
"""Stretches of speech; consecutive windows of WINDOW_S, the last one shorter; each channel, up to its first WHOLE_S."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one channel. `waveform`: samples in [-1, 1] at SAMPLE_RATE, shape (time,)."""

    channel: int
    number: int  # from 0, in its channel
    start_s: float
    end_s: float
    waveform: NDArray[np.float32]


class Cutter(Protocol):
    """Cuts one channel, section by section; pieces come in order of time."""

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """Take the next samples, of shape (time,), and yield what is complete."""

    def finish(self) -> Iterator[Piece]:
        """Yield what is left."""


class Windows:
    """Cuts whatever is there into windows of one length."""

    def __init__(self, channel: int, rate: float, length_s: float = WINDOW_S) -> None:
        self._channel, self._rate, self._length = channel, rate, round(length_s * SAMPLE_RATE)
        self._waiting = np.zeros(0, np.float32)
        self._found = 0

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """See `Cutter`."""
        self._waiting = np.concatenate([self._waiting, section])
        while len(self._waiting) >= self._length:
            yield self._piece(self._waiting[: self._length])
            self._waiting = self._waiting[self._length :]

    def finish(self) -> Iterator[Piece]:
        """See `Cutter`."""
        if len(self._waiting):
            yield self._piece(self._waiting)

    def _piece(self, waveform: NDArray[np.float32]) -> Piece:
        number, self._found = self._found, self._found + 1
        start = number * self._length
        return Piece(self._channel, number, start / self._rate, (start + len(waveform)) / self._rate, waveform)


class Whole:
    """Keeps a channel together, up to WHOLE_S of it."""

    def __init__(self, channel: int, rate: float) -> None:
        self._channel, self._rate = channel, rate
        self._free = round(WHOLE_S * SAMPLE_RATE)
        self._sections: list[NDArray[np.float32]] = []

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """See `Cutter`."""
        if self._free:
            self._sections.append(section[: self._free].copy())  # a view would keep the whole section
            self._free -= len(self._sections[-1])
        yield from ()

    def finish(self) -> Iterator[Piece]:
        """See `Cutter`."""
        waveform = np.concatenate([np.zeros(0, np.float32), *self._sections])
        if len(waveform):
            yield Piece(self._channel, 0, 0.0, len(waveform) / self._rate, waveform)
