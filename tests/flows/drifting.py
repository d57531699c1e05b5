"""A window that was tested against a real baseline, for tests of what is shown of it."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from flows.drift_examples import Side
from flows.drift_report import ReportedWindow
from models.drift import Baseline
from models.drift_samples import rates_of, samples_of
from models.drift_verdicts import Budget

MODEL = "moonshine"
OPENED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BASELINE_ID = uuid.UUID(int=1)


def file_id(seed: int, recording: int) -> uuid.UUID:
    return uuid.UUID(int=(seed << 64) + recording + 1)


def side(
    seed: int, recordings: int = 100, *, each: int = 3, snr_db: float = 35.0, shift: float = 0.0, gsm: float = 0.2
) -> Side:
    """Return what was measured in some recordings of `each` utterances; `shift` moves embeddings and confidences."""
    chance = np.random.default_rng(seed)
    count = recordings * each
    of_row = np.arange(count) // each
    ids = [file_id(seed, int(recording)).bytes for recording in of_row]
    places = {
        "file_id": ids,
        "model": MODEL,
        "model_version": "v1",
        "channel": (np.arange(count) // each % 2).astype(np.int16),
        "utterance": np.arange(count, dtype=np.int32) % each,
    }
    times = {"start_s": np.arange(count) % each * 4.0 + 0.5, "end_s": np.arange(count) % each * 4.0 + 2.75}
    embeddings = chance.normal(size=(count, 12)) + shift
    is_gsm = chance.random(recordings) < gsm
    utterances = pl.DataFrame(
        places
        | times
        | {
            "level_dbfs": -26 + 3 * chance.normal(size=count),
            "snr_db": snr_db + 5 * chance.normal(size=count),
            "pitch_median_hz": [None if row % 9 == 0 else 120.0 + row % 50 for row in range(count)],
            "format": ["WAV/GSM610" if is_gsm[recording] else "WAV/PCM_16" for recording in of_row],
            "embedding": [row.astype("<f2").tobytes() for row in embeddings],
        }
    )
    confidences = np.clip(0.8 - 0.2 * shift + 0.05 * chance.normal(size=count), 0, 1)
    predictions = pl.DataFrame(places | times | {"label": "goodbye", "confidence": confidences})
    durations = pl.DataFrame({"file_id": ids[::each], "duration_s": 4.0 * each + chance.random(recordings)})
    return Side(utterances, predictions, durations)


def compared(
    now: Side, before: Side, *, names: Mapping[str, str] | None = None, windows: int = 6, number: int = 9
) -> ReportedWindow:
    """Return a window with the verdicts of a real baseline, and earlier windows that were alike."""
    baseline = Baseline.fit("telephone", 1, samples(before))
    verdicts = baseline.verdicts(samples(now), Budget())
    closed_at = OPENED_AT + timedelta(hours=number)
    history = pl.DataFrame(
        [
            {
                "window_id": str(uuid.UUID(int=100 + window)),
                "baseline_id": str(BASELINE_ID),
                "closed_at": OPENED_AT + timedelta(hours=window),
                "detector": verdict.detector,
                "descriptor": verdict.descriptor,
                "statistic": 0.1 + 0.01 * window,
                "p_value": 0.1 + 0.1 * window,
                "threshold": verdict.threshold,
                "verdict": "no_drift",
            }
            for window in range(windows)
            for verdict in verdicts
        ],
        infer_schema_length=None,
    )
    return ReportedWindow(
        window_id=uuid.UUID(int=1000 + number),
        opened_at=closed_at - timedelta(hours=1),
        closed_at=closed_at,
        closed_by="size",
        recordings=now.durations.height,
        utterances=now.utterances.height,
        baseline_id=BASELINE_ID,
        baseline_name="telephone 1",
        baseline_recordings=before.durations.height,
        baseline_utterances=before.utterances.height,
        verdicts=verdicts,
        before=before,
        now=now,
        history=history,
        names=names or {},
    )


def samples(of: Side) -> list:
    return [
        *samples_of(of.utterances),
        *samples_of(of.predictions),
        *rates_of(of.predictions, of.durations, {MODEL: "v1"}),
    ]
