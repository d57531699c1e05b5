"""Decodes recordings in a process of its own: a file that crashes the decoder or fills the memory ends that alone."""

import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from features.audio import AudioInfo
from features.errors import AudioError
from features.peaks import Peaks, probe_with_peaks
from flows.runs import end_with_parent

MEMORY_BYTES: Final = 4 << 30


class Decoder:
    """The process, started with the first recording; a context manager."""

    def __init__(self, max_duration_s: float) -> None:
        self._max_duration_s = max_duration_s
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def probe(self, path: Path) -> tuple[AudioInfo, Peaks]:
        """Decode a recording once, and say what it is and what its waveform looks like.

        Raises:
            AudioError: It cannot be used; see `features.audio.probe`.
            OSError: It cannot be read.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
        try:
            return self._pool.submit(probe_with_peaks, path, max_duration_s=self._max_duration_s).result()
        except BrokenProcessPool as error:
            self._end()
            raise AudioError("ends the process that decodes it: convert it to WAV or FLAC") from error
        except MemoryError as error:
            raise AudioError(
                f"takes more than {MEMORY_BYTES >> 30} GiB to decode: convert it to WAV or FLAC"
            ) from error

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _begin() -> None:
    end_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
