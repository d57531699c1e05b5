"""Decoding with libsndfile and resampling with torchaudio, in bounded memory; any rate, any number of channels."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.errors import AudioError

MAX_CHANNELS: Final = 32
MIN_SAMPLE_RATE: Final = 1_000  # Hz
MAX_SAMPLE_RATE: Final = 768_000  # Hz
PROBE_FRAMES: Final = 1 << 17
MAX_BLOCK_SAMPLES: Final = 1 << 23  # of all channels: 32 MiB, whatever rate and channels a header claims
FILTER_WIDTH: Final = 6  # zero crossings on each side: torchaudio's default low-pass filter
FILTER_ROLLOFF: Final = 0.99  # of the lower Nyquist frequency: torchaudio's default
MAX_PHASES: Final = 640  # 11,025 to 16,000 Hz needs 640; a rate like 44,101 Hz would need 16,000 and gigabytes
SAME_CHANNEL: Final = 2 / 32_768  # two channels that never differ by more hold the same sound: the last bit of 16


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a recording is, as found by decoding all of it."""

    duration_s: float
    sample_rate: int  # Hz
    channels: int
    format: str  # container and codec, as libsndfile names them: "WAV/PCM_16"


Listener = Callable[[NDArray[np.float32], int], None]
"""Is given each block that is decoded, of shape (time, channel), and the sample rate in Hz."""


def probe(
    path: Path, *, max_duration_s: float, max_seconds: float = 120, listener: Listener | None = None
) -> AudioInfo:
    """Decode the whole recording and say what it is.

    Args:
        path: A file in any format that libsndfile reads.
        max_duration_s: The longest recording that is accepted, in seconds.
        max_seconds: How long decoding may take; a small file can be made to decode for hours.
        listener: Is given all of it, where that is of use.

    Raises:
        AudioError: It cannot be decoded to its end, is empty, or is beyond a limit.
        OSError: It cannot be read.
    """
    give_up_at = time.monotonic() + max_seconds
    frames = 0
    with _opened(path) as file:
        limit = int(max_duration_s * file.samplerate)
        for block in _blocks(file, max(1, PROBE_FRAMES // file.channels)):
            frames += len(block)
            if frames > limit:
                raise AudioError(
                    f"lasts more than {max_duration_s / 3600:g} h: split it, or raise MAX_DURATION_H and send it again"
                )
            if time.monotonic() > give_up_at:
                raise AudioError(f"takes more than {max_seconds:g} s to decode, the limit: convert it to WAV or FLAC")
            if listener is not None:
                listener(block, file.samplerate)
        if not frames:
            raise AudioError("has no samples: check how it was recorded")
        return AudioInfo(frames / file.samplerate, file.samplerate, file.channels, f"{file.format}/{file.subtype}")


def read_blocks(
    path: Path, *, sample_rate: int, block_s: float, channels: tuple[int, ...] | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the recording at `sample_rate`, block by block; joined, they equal the whole resampled at once.

    Args:
        path: A recording.
        channels: Which channels to read, from 0; all of them by default.
        sample_rate: Rate of the blocks, in Hz.
        block_s: Longest length of a block, in seconds; many channels or a high rate make blocks shorter.

    Yields:
        Samples, about in [-1, 1]; what is not a number reads 0. Shape (channel, time).

    Raises:
        AudioError: It cannot be decoded.
        OSError: It cannot be read.
    """
    with _opened(path) as file:
        resampler = _Resampler(file.samplerate, sample_rate)
        wanted = list(range(file.channels) if channels is None else channels)
        frames = min(block_s * file.samplerate, MAX_BLOCK_SAMPLES / file.channels)
        steps = max(1, int(frames / resampler.source_step))
        for block in _blocks(file, max(resampler.context, steps * resampler.source_step)):
            yield from resampler.push(_finite(np.ascontiguousarray(block.T[wanted])))
        yield from resampler.finish()


def rate_of_blocks(path: Path, sample_rate: int) -> float:
    """Return how many samples of `read_blocks` last exactly a second: about `sample_rate`.

    The ratio of odd rates is rounded (MAX_PHASES), by up to 0.1 %, so their blocks are played a little fast or slow.

    Raises:
        AudioError: It cannot be decoded.
        OSError: It cannot be read.
    """
    with _opened(path) as file:
        resampler = _Resampler(file.samplerate, sample_rate)
        return float(file.samplerate * resampler.target_step / resampler.source_step)


def distinct_channels(path: Path) -> tuple[int, ...]:
    """Return the channels that differ from every earlier one, from 0; mono that was kept as stereo has one.

    Raises:
        AudioError: It cannot be decoded.
        OSError: It cannot be read.
    """
    with _opened(path) as file:
        same_as: dict[int, set[int]] = {channel: set(range(channel)) for channel in range(file.channels)}
        for block in _blocks(file, PROBE_FRAMES):
            for channel, earlier in same_as.items():
                earlier -= {other for other in earlier if _differ(block[:, channel], block[:, other])}
            if not any(same_as.values()):
                break
        return tuple(channel for channel, earlier in same_as.items() if not earlier)


def _differ(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return bool(np.max(np.abs(_finite(one) - _finite(other)), initial=0) > SAME_CHANNEL)


def _finite(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)


def resampled(waveform: NDArray[np.float32], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Return a waveform at another rate.

    Args:
        waveform: Shape (time,).
        source_rate: In Hz.
        target_rate: In Hz.
    """
    resampler = _Resampler(source_rate, target_rate)
    blocks = [*resampler.push(waveform[None]), *resampler.finish()]
    joined: NDArray[np.float32] = np.concatenate(blocks, axis=1)[0]
    return joined


class _Resampler:
    """torchaudio's windowed-sinc resampling over a stream, equal to that of the whole.

    A block is resampled with enough of its neighbours for the filter, and what belongs to them is cut off again. Blocks
    start at multiples of `source_step` samples, where both rates have a sample at the same time.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        ratio = Fraction(source_rate, target_rate).limit_denominator(MAX_PHASES)
        self.source_step, self.target_step = ratio.numerator, ratio.denominator
        reach = math.ceil(FILTER_WIDTH * max(1.0, float(ratio)) / FILTER_ROLLOFF)
        self.context = math.ceil(reach / self.source_step) * self.source_step  # source samples on each side
        self._before: NDArray[np.float32] | None = None
        self._waiting: NDArray[np.float32] | None = None

    def push(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if self._waiting is not None:
            yield self._resample(self._waiting, block[:, : self.context])
            self._before = self._waiting[:, -self.context :]
        self._waiting = block

    def finish(self) -> Iterator[NDArray[np.float32]]:
        if self._waiting is not None:
            yield self._resample(self._waiting, self._waiting[:, :0])

    def _resample(self, block: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.source_step == self.target_step:
            return block
        import torch  # noqa: PLC0415  seconds of import, which a recording at the right rate does not need
        from torchaudio.functional import resample  # noqa: PLC0415

        before = block[:, :0] if self._before is None else self._before
        joined = torch.from_numpy(np.concatenate([before, block, after], axis=1))
        result = resample(
            joined, self.source_step, self.target_step, lowpass_filter_width=FILTER_WIDTH, rolloff=FILTER_ROLLOFF
        )
        start = before.shape[1] // self.source_step * self.target_step
        length = math.ceil(block.shape[1] * self.target_step / self.source_step)
        return np.ascontiguousarray(result[:, start : start + length].numpy())


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a recording whose header is within the limits.

    By descriptor: libsndfile then goes by the content alone, and never by the ending of a name. An error of the disk
    stays an OSError: it says nothing of the recording.
    """
    with path.open("rb") as content:
        try:
            file = soundfile.SoundFile(content.fileno(), closefd=False)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise _cannot_decode(error) from error
        with file:
            _check_header(file)
            yield file


def _blocks(file: soundfile.SoundFile, frames: int) -> Iterator[NDArray[np.float32]]:
    """Yield the rest of a recording, `frames` at a time, whatever its header says of its length."""
    decoded = 0
    try:
        while len(block := file.read(frames, dtype="float32", always_2d=True)):
            decoded += len(block)
            yield block
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _cannot_decode(error, decoded) from error


def _check_header(file: soundfile.SoundFile) -> None:
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise AudioError(f"has {file.channels} channels, the limit is {MAX_CHANNELS}: split them into several files")
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"has a sample rate of {file.samplerate} Hz, outside {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz: resample it"
        )


def _cannot_decode(error: Exception, frames: int = 0) -> AudioError:
    said = getattr(error, "error_string", None) or str(error)
    where = f" after {frames} samples" if frames else ""
    return AudioError(f"cannot be decoded{where}: {said.rstrip('. ')}. Convert it to WAV, FLAC, OGG or MP3")
