"""The utterances of a recording, for tests that need no other pieces of it."""

from collections.abc import Iterator
from pathlib import Path

from features.cutting import cut_recording
from features.pieces import Piece
from features.utterances import UtteranceSettings


def find_utterances(path: Path, channels: tuple[int, ...], settings: UtteranceSettings) -> Iterator[Piece]:
    """Yield the utterances of `channels`, each channel's in order of time."""
    return (piece for _, piece in cut_recording(path, channels, ("utterances",), settings))
