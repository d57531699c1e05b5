"""Measures the descriptors: what noise does to the estimate of its level, and the cost. It must not know drift."""

import importlib.util
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.audio import read_blocks
from features.descriptors import describe
from features.pieces import SAMPLE_RATE
from tests.eval.corpus_sound import Waveform, active_level_dbfs, noise_of, rms_dbfs
from tests.eval.samples import random_of

QUIET: Final = "endgame_nagg_nell"  # a recording of moonshine-voice whose own noise lies 70 dB below its speech
DURATION_S: Final = 20
SNRS_DB: Final = (0, 5, 10, 15, 20)
SLOPES: Final = {"white": 0.0, "pink": 1.0, "brown": 2.0}
DRAWS: Final = 5  # of each noise
TURNS: Final = 5


def measure() -> dict[str, Any]:
    """Return how far estimates of the SNR are off, and what descriptors cost."""
    speech = recording()
    rows = [row for colour in SLOPES for row in snr_errors(speech, colour)]
    return {"descriptors_cpu_per_audio_s": round(cost(speech), 5), "descriptors_snr_errors": rows}


def recording() -> Waveform:
    found = importlib.util.find_spec("moonshine_voice")
    assert found is not None
    assert found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "assets" / f"{QUIET}.wav"
    return np.ascontiguousarray(next(iter(read_blocks(path, sample_rate=SAMPLE_RATE, block_s=DURATION_S)))[0])


def snr_errors(speech: Waveform, colour: str) -> list[dict[str, Any]]:
    """Return, for each SNR, what is estimated less what was mixed, in dB: the least and the most of some draws."""
    rows = []
    for snr_db in SNRS_DB:
        errors_db = []
        for draw in range(DRAWS):
            noise = noise_of(random_of(f"{colour} {draw}"), len(speech), SLOPES[colour])
            gain_db = active_level_dbfs(speech, SAMPLE_RATE) - snr_db - rms_dbfs(noise)
            found = describe(speech + noise * np.float32(10 ** (gain_db / 20)), SAMPLE_RATE)
            assert found.snr_db is not None
            errors_db.append(found.snr_db - snr_db)
        least, most = round(min(errors_db), 2), round(max(errors_db), 2)
        rows.append({"noise": colour, "snr_db": snr_db, "least_error_db": least, "most_error_db": most})
    return rows


def cost(speech: Waveform) -> float:
    """Return CPU seconds per second of audio: the least of some turns."""
    least = np.inf
    for _ in range(TURNS):
        began = time.process_time()
        describe(speech, SAMPLE_RATE, "words")
        least = min(least, time.process_time() - began)
    return float(least / len(speech) * SAMPLE_RATE)
