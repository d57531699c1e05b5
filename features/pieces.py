"""What models are given of a recording, and the two ways of cutting that need not know what is in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000  # Hz
WINDOW_S: Final = 60.0
CONTEXT_S: Final = 10.0  # heard before and behind a window: more than any pause that a model makes part of a span
WHOLE_S: Final = 600.0  # what is given of a channel as a whole, at most: memory is bounded

Wants = Literal["utterances", "windows", "file"]
"""Stretches of speech; windows of WINDOW_S with CONTEXT_S around them; each channel, up to its first WHOLE_S."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one channel. `waveform`: samples in [-1, 1] at SAMPLE_RATE, shape (time,)."""

    channel: int
    number: int  # from 0, in its channel
    start_s: float
    end_s: float
    waveform: NDArray[np.float32]
    before_s: float = 0.0  # of the waveform: heard, but another piece's to speak of
    behind_s: float = 0.0

    def placed(self, start_s: float, end_s: float) -> tuple[float, float] | None:
        """Return when in the recording a span of the waveform is, as far as it is the piece's own; None: it is not.

        Args:
            start_s: From the waveform's first sample, at SAMPLE_RATE.
            end_s: Likewise.
        """
        first_s, last_s = self.start_s - self.before_s, self.end_s + self.behind_s
        # A piece of an odd rate is played a little fast or slow.
        tempo = (last_s - first_s) * SAMPLE_RATE / len(self.waveform)
        start_s, end_s = first_s + start_s * tempo, first_s + end_s * tempo
        if (self.before_s and end_s <= self.start_s) or (self.behind_s and start_s >= self.end_s):
            return None
        return min(max(start_s, self.start_s), self.end_s), min(max(end_s, self.start_s), self.end_s)


class Cutter(Protocol):
    """Cuts one channel, section by section; pieces come in order of time."""

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """Take the next samples, of shape (time,), and yield what is complete."""

    def finish(self) -> Iterator[Piece]:
        """Yield what is left."""


class Windows:
    """Cuts whatever is there into windows of one length, each with what is around it.

    So what a window's end cuts is heard whole by the windows on both sides, each of which has its own part of it.
    """

    def __init__(self, channel: int, rate: float, length_s: float = WINDOW_S, context_s: float = CONTEXT_S) -> None:
        self._channel, self._rate = channel, rate
        self._length, self._context = round(length_s * SAMPLE_RATE), round(context_s * SAMPLE_RATE)
        self._waiting = np.zeros(0, np.float32)  # from the context of the next window on
        self._before = 0  # samples of it that are context
        self._found = 0

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """See `Cutter`."""
        self._waiting = np.concatenate([self._waiting, section])
        while len(self._waiting) >= self._before + self._length + self._context:
            yield self._next()

    def finish(self) -> Iterator[Piece]:
        """See `Cutter`."""
        while len(self._waiting) > self._before:
            yield self._next()

    def _next(self) -> Piece:
        waveform = self._waiting[: self._before + self._length + self._context]
        length = min(self._length, len(waveform) - self._before)
        behind = len(waveform) - self._before - length
        start = self._found * self._length
        start_s, end_s = start / self._rate, (start + length) / self._rate
        context_s = self._before / self._rate, behind / self._rate
        piece = Piece(self._channel, self._found, start_s, end_s, waveform, *context_s)
        done = self._before + length
        self._before = min(done, self._context)
        self._waiting = self._waiting[done - self._before :]
        self._found += 1
        return piece


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
