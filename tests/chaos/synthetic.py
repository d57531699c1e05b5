"""Recordings and answers that follow from a name alone, so that every row of a lake can be foretold."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from models.group import Group, ModelSpec
from storage.media import Blob

MODELS = ("phrases", "tones")
RETRY_PAUSE = timedelta(seconds=0.3)


@dataclass(frozen=True)
class Detection:
    """One row of predictions, but for whose it is."""

    label: str
    start_s: float
    confidence: float


def content(name: str) -> bytes:
    """Return the bytes of the recording with this name: some hundred to some thousand."""
    seed = hashlib.sha256(name.encode()).digest()
    return seed * (8 + seed[0] % 64)


def file_row(blob: Blob) -> dict[str, Any]:
    """Return what decoding would say of a recording."""
    return {
        "file_id": blob.file_id,
        "sha256": blob.sha256,
        "size_bytes": blob.size_bytes,
        "ingested_at": datetime.now(UTC),
        "status": "accepted",
        "reason": None,
        "duration_s": 1.0,
        "sample_rate": 8000,
        "channels": 1,
        "format": "WAV/PCM_16",
    }


def detections(file_id: UUID, model: str, version: str) -> list[Detection]:
    """Return what a model finds in a recording: none to five detections, in order."""
    digest = hashlib.sha256(f"{file_id}/{model}/{version}".encode()).digest()
    return [Detection(f"label-{digest[at] % 10}", at / 2, digest[at] / 255) for at in range(1, 1 + digest[0] % 6)]


def fails_first(file_id: UUID, model: str, version: str) -> bool:
    """Say whether a model fails on a recording when it is tried for the first time."""
    return hashlib.sha256(f"fails/{file_id}/{model}/{version}".encode()).digest()[0] < 8


def answer_rows(
    file_id: UUID, model: str, version: str, tries: int, reference: UUID
) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one model for one recording, by table."""
    row = {"file_id": file_id, "model": model, "model_version": version}
    covered = row | {"tries": 0, "first_reference": reference, "predictions": 0, "descriptors": 0}
    covered["state"] = "computed"
    if tries == 0 and fails_first(file_id, model, version):
        failed = {"state": "failed", "reason": "on purpose", "tries": 1, "next_try_at": datetime.now(UTC) + RETRY_PAUSE}
        return {"coverage": [covered | failed]}
    found = detections(file_id, model, version)
    row |= {"channel": 0, "utterance": 0}
    return {
        "coverage": [covered | {"predictions": len(found), "descriptors": 1}],
        "utterances": [row | {"start_s": 0.0, "end_s": 4.0, "text": f"{model} {version}"}],
        "descriptors": [row | {"start_s": 0.0, "end_s": 4.0, "level_dbfs": -20.0, "embedding": file_id.bytes}],
        "predictions": [
            row | {"label": one.label, "start_s": one.start_s, "end_s": one.start_s + 0.5, "confidence": one.confidence}
            for one in found
        ],
    }


def group(versions: dict[str, str], disabled: frozenset[str] = frozenset()) -> Group:
    """Return a model group: version by name."""
    return Group(
        tuple(
            ModelSpec(name, "none", "phrases", name not in disabled, "none", {}, {}, {}, {}, version, version)
            for name, version in versions.items()
        ),
        {},
    )
