"""Recordings are decoded in a process of its own, which may die of one without harm to the others."""

import os
from pathlib import Path

import pytest

from features.audio import AudioInfo
from features.errors import AudioError
from features.peaks import Peaks, probe_with_peaks
from flows import decoder
from flows.decoder import Decoder


def die_of_one(path: Path, *, max_duration_s: float) -> tuple[AudioInfo, Peaks]:
    if path.name == "killer.wav":
        os._exit(9)
    if path.name == "huge.wav":
        bytearray(8 << 30)
    return probe_with_peaks(path, max_duration_s=max_duration_s)


def test_a_recording_that_crashes_the_decoder_is_refused_and_the_next_is_decoded(
    tmp_path: Path, tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "probe_with_peaks", die_of_one)
    good = tone(tmp_path / "good.wav", 300)
    with Decoder(max_duration_s=60) as process:
        with pytest.raises(AudioError, match="ends the process that decodes it"):
            process.probe(tmp_path / "killer.wav")
        with pytest.raises(AudioError, match="takes more than 4 GiB"):
            process.probe(tmp_path / "huge.wav")
        info, peaks = process.probe(good)
        assert info.duration_s == pytest.approx(1)
        assert peaks.values.shape == (50, 1, 2)


def test_an_error_of_the_disk_is_not_the_recordings(tmp_path: Path) -> None:
    with Decoder(max_duration_s=60) as process, pytest.raises(OSError, match="gone"):
        process.probe(tmp_path / "gone.wav")
