"""Decodes a recording once, and cuts it for every model that is to hear it."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from features.audio import rate_of_blocks, read_blocks
from features.pieces import SAMPLE_RATE, Cutter, Piece, Wants, Whole, Windows
from features.utterances import Utterances, UtteranceSettings

SECTION_S: Final = 120.0  # what is decoded at a time: memory does not grow with the recording


def cut_recording(
    path: Path, channels: tuple[int, ...], wants: Collection[Wants], settings: UtteranceSettings
) -> Iterator[tuple[Wants, Piece]]:
    """Yield the pieces of `channels`, each with what wants it; those of one want and channel in order of time.

    Args:
        path: A recording.
        channels: Which channels to cut, from 0.
        wants: What to cut them into.
        settings: How speech is cut into utterances.

    Raises:
        AudioError: The recording cannot be decoded.
    """
    rate = rate_of_blocks(path, SAMPLE_RATE)
    cutters = [(want, [_cutter(want, channel, rate, settings) for channel in channels]) for want in wants]
    for block in read_blocks(path, sample_rate=SAMPLE_RATE, block_s=SECTION_S, channels=channels):
        for want, of_channels in cutters:
            for cutter, section in zip(of_channels, block, strict=True):
                for piece in cutter.push(section):
                    yield want, piece
    for want, of_channels in cutters:
        for cutter in of_channels:
            for piece in cutter.finish():
                yield want, piece


def _cutter(want: Wants, channel: int, rate: float, settings: UtteranceSettings) -> Cutter:
    match want:
        case "utterances":
            return Utterances(channel, rate, settings)
        case "windows":
            return Windows(channel, rate)
        case "file":
            return Whole(channel, rate)
