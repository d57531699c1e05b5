"""Utterances: the stretches of speech in a channel, found by Silero VAD, whatever the length of the recording.

Source: Silero VAD 6.2 (https://github.com/snakers4/silero-vad), the sequence model of its wheel, MIT.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.pieces import SAMPLE_RATE, Piece


@dataclass(frozen=True, slots=True)
class UtteranceSettings:
    """How speech is cut into utterances."""

    threshold: float = 0.5  # speech probability, 0 to 1
    min_silence_s: float = 1.0  # shorter pauses do not end an utterance
    min_speech_s: float = 0.25
    pad_s: float = 0.2  # kept on both sides
    max_s: float = 30.0  # longer speech is cut at its longest pause


class Utterances:
    """Finds the utterances of one channel, section by section: a `features.pieces.Cutter`.

    Speech that reaches the end of a section waits for the next one, so that no utterance is cut by a section's end.
    """

    def __init__(self, channel: int, rate: float, settings: UtteranceSettings) -> None:
        self._channel, self._settings, self._rate = channel, settings, rate
        self._waiting = np.zeros(0, np.float32)
        self._start = 0  # of what waits, in samples from the start of the recording
        self._found = 0

    def push(self, section: NDArray[np.float32]) -> Iterator[Piece]:
        """See `Cutter`."""
        self._waiting = np.concatenate([self._waiting, section])
        spans = speech_spans(self._waiting, self._settings)
        # A pause must be seen to be long enough, and the pad behind it to be free.
        settled = len(self._waiting) - round((self._settings.min_silence_s + self._settings.pad_s) * SAMPLE_RATE)
        keep_from = settled
        for start, end in spans:
            if end > settled:
                keep_from = min(start, settled)
                break
            yield self._utterance(start, end)
        keep_from = max(0, keep_from)
        self._waiting = self._waiting[keep_from:]
        self._start += keep_from

    def finish(self) -> Iterator[Piece]:
        """See `Cutter`."""
        for start, end in speech_spans(self._waiting, self._settings):
            yield self._utterance(start, end)

    def _utterance(self, start: int, end: int) -> Piece:
        number, self._found = self._found, self._found + 1
        return Piece(
            self._channel,
            number,
            (self._start + start) / self._rate,
            (self._start + end) / self._rate,
            self._waiting[start:end],
        )


def speech_spans(waveform: NDArray[np.float32], settings: UtteranceSettings) -> list[tuple[int, int]]:
    """Return where speech is, as (start, end) in samples.

    Args:
        waveform: Samples at SAMPLE_RATE. Shape (time,).
        settings: How speech is cut.
    """
    from silero_vad.sequence_vad import get_speech_timestamps_sequence  # noqa: PLC0415  imports torch

    spans = get_speech_timestamps_sequence(
        waveform,
        _voice_activity_detector(),
        threshold=settings.threshold,
        sampling_rate=SAMPLE_RATE,
        min_speech_duration_ms=round(settings.min_speech_s * 1000),
        max_speech_duration_s=settings.max_s,
        min_silence_duration_ms=round(settings.min_silence_s * 1000),
        speech_pad_ms=round(settings.pad_s * 1000),
    )
    return [(span["start"], min(span["end"], len(waveform))) for span in spans]


@lru_cache(maxsize=1)
def _voice_activity_detector() -> Any:
    from silero_vad import load_silero_vad  # noqa: PLC0415

    return load_silero_vad(sequence=True)
