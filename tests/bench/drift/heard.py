"""What the product makes of each recording, as tables in build/drift, once. It must not know drift.

As flows/shards.py scores a recording: cut into utterances, described, and given to the models of the group file.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import soundfile

from features.audio import distinct_channels
from features.cutting import cut_recording
from features.descriptors import REVISION, describe, speaking_rate
from features.pieces import SAMPLE_RATE, Piece
from features.utterances import UtteranceSettings
from models.group import ModelSpec, load_group
from models.protocol import Model
from models.registry import load_model
from tests import asterisk
from tests.bench.drift.recordings import recordings
from tests.bench.measures import say

BUILD: Final = Path("build/drift")
NEW_SILENCE_S: Final = 0.6  # of the changed model, which hears more silence around each utterance
NUMBERS: Final = {
    "level_dbfs": pl.Float64,
    "snr_db": pl.Float64,
    "clipping": pl.Float64,
    "bandwidth_hz": pl.Float64,
    "spectral_centroid_hz": pl.Float64,
    "speech_share": pl.Float64,
    "speaking_rate": pl.Float64,
    "pitch_median_hz": pl.Float64,
}
PLACE: Final = {"file_id": pl.String, "model": pl.String, "model_version": pl.String, "utterance": pl.Int32}
UTTERANCES: Final = (
    PLACE
    | NUMBERS
    | {
        "embedding": pl.Binary,
        "format": pl.String,
        "sample_rate": pl.Int32,
        "scene": pl.String,
        "duration_s": pl.Float64,  # of the recording
    }
)
PREDICTIONS: Final = PLACE | {"label": pl.String, "start_s": pl.Float64, "end_s": pl.Float64, "confidence": pl.Float64}


@dataclass(frozen=True, slots=True)
class Heard:
    """Of each recording under one condition."""

    utterances: pl.DataFrame  # a row per utterance, of the phrase model; columns UTTERANCES
    predictions: pl.DataFrame  # a row per detection of the phrase model; columns PREDICTIONS


def specs() -> tuple[ModelSpec, ModelSpec]:
    """Return the entries of the phrase model and of callscene."""
    enabled = load_group(tuple(asterisk.PHRASES)).enabled
    return next(s for s in enabled if s.task == "phrases"), next(s for s in enabled if s.family != "moonshine")


def changed(spec: ModelSpec) -> ModelSpec:
    """Return the phrase model after a change of its settings, under a version of its own."""
    settings = {**spec.settings, "silence_s": NEW_SILENCE_S}
    version = hashlib.sha256(json.dumps([spec.version, NEW_SILENCE_S]).encode()).hexdigest()[:12]
    return replace(spec, settings=settings, version=version, text_version=version)


def heard(condition: str, *, change_model: bool = False) -> Heard:
    """Return what is heard under a condition, from build/drift where it was heard before."""
    phrases, scenes = specs()
    spec = changed(phrases) if change_model else phrases
    key = hashlib.sha256(f"{REVISION} {spec.entry} {spec.version} {scenes.entry}".encode()).hexdigest()[:12]
    paths = [BUILD / f"{condition}.{key}.{table}.parquet" for table in ("utterances", "predictions")]
    if not all(path.is_file() for path in paths):
        for table, path in zip(_listened(condition, spec, scenes), paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".part")
            table.write_parquet(unfinished)
            unfinished.replace(path)
    return Heard(*(pl.read_parquet(path) for path in paths))


def _listened(condition: str, spec: ModelSpec, scenes: ModelSpec) -> tuple[pl.DataFrame, pl.DataFrame]:
    model, scene_model = (load_model(each, BUILD / "models") for each in (spec, scenes))
    utterances: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    found = recordings(condition)
    say(f"{condition}: listening to {len(found)} recordings")
    for name, path in found.items():
        for row, detections in _rows(name, path, spec, model, scene_model):
            utterances.append(row)
            predictions += detections
    return pl.DataFrame(utterances, schema=UTTERANCES), pl.DataFrame(predictions, schema=PREDICTIONS)


def _rows(
    name: str, path: Path, spec: ModelSpec, model: Model, scene_model: Model
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the row of each utterance of a recording, and those of the detections in it."""
    pieces: dict[str, list[Piece]] = {model.wants: [], scene_model.wants: []}
    cuts = cut_recording(path, distinct_channels(path), sorted(pieces), UtteranceSettings(**spec.utterances))
    for want, piece in cuts:
        pieces[want].append(piece)
    spans = list(_spans(pieces[scene_model.wants], scene_model))
    info = soundfile.info(path)
    for piece in pieces[model.wants]:
        answer = model.predict(piece.waveform)
        described = describe(piece.waveform, SAMPLE_RATE)
        rate = speaking_rate(answer.text, described.speech_share * (piece.end_s - piece.start_s))
        at = {"file_id": name, "model": spec.name, "model_version": spec.version, "utterance": piece.number}
        row = (
            at
            | asdict(described)
            | {
                "speaking_rate": rate,
                "embedding": None if answer.embedding is None else answer.embedding.astype("<f2").tobytes(),
                "format": f"{info.format}/{info.subtype}",
                "sample_rate": info.samplerate,
                "scene": _longest(piece, spans),
                "duration_s": info.duration,
            }
        )
        detections = [
            at | {"label": d.label, "start_s": placed[0], "end_s": placed[1], "confidence": d.confidence}
            for d in answer.detections
            if (placed := piece.placed(d.start_s, d.end_s)) is not None
        ]
        yield row, detections


def _spans(pieces: list[Piece], model: Model) -> Iterator[tuple[float, float, str]]:
    for piece in pieces:
        for found in model.predict(piece.waveform).detections:
            if (placed := piece.placed(found.start_s, found.end_s)) is not None:
                yield *placed, found.label


def _longest(piece: Piece, spans: list[tuple[float, float, str]]) -> str | None:
    """Return the scene that takes most of an utterance."""
    overlaps: dict[str, float] = {}
    for start_s, end_s, label in spans:
        overlap_s = min(end_s, piece.end_s) - max(start_s, piece.start_s)
        if overlap_s > 0:
            overlaps[label] = overlaps.get(label, 0.0) + overlap_s
    return max(overlaps, key=overlaps.__getitem__) if overlaps else None


def main() -> None:
    """Listen to everything: `python -m tests.bench.drift.heard`."""
    from tests.bench.drift.recordings import CONDITIONS, require_recordings

    require_recordings()
    heard("clean")
    heard("clean", change_model=True)
    for condition in CONDITIONS:
        heard(condition)


if __name__ == "__main__":
    main()
