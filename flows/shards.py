"""Shards: a refresh's work cut into pieces that any process can score. It must not know Prefect."""

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np

from features.audio import distinct_channels, resampled
from features.cutting import cut_recording
from features.descriptors import Descriptors, describe, speaking_rate
from features.errors import FeatureError
from features.pieces import SAMPLE_RATE, Piece
from features.utterances import UtteranceSettings
from flows.texts import Texts
from models.errors import ModelUnavailableError
from models.group import ModelSpec
from models.protocol import Answer, Model
from models.registry import load_model
from storage.errors import MissingError
from storage.lake import Lake
from storage.log import DataFile
from storage.missing import Missing
from storage.parquet import write_tables
from storage.place import Place
from storage.tables import ANSWER_TABLES, table_from_rows

log = logging.getLogger(__name__)

SHARD_AUDIO_S: Final = 120.0  # a few seconds of work: what a kill repeats at most
SHARD_FILES: Final = 64
MODELS: Final = "models"  # in the host's own folder: files of models that were fetched
TOUCHING_S: Final = 0.002  # times are kept to a thousandth
RETRY_PAUSES: Final = (timedelta(minutes=2), timedelta(minutes=15))


@dataclass(frozen=True, slots=True)
class Job:
    """A recording and the models that have to score it, with the number of tries that failed so far."""

    file_id: UUID
    sha256: str
    duration_s: float
    tries: Mapping[str, int]
    read_seqs: frozenset[int] = frozenset()  # log entries with texts that one of the models has read in it


@dataclass(frozen=True, slots=True)
class Shard:
    """A few recordings, scored by one process at a time."""

    number: int
    jobs: tuple[Job, ...]
    texts: tuple[DataFile, ...] = ()  # utterances, among which are those of `read_seqs`

    @property
    def audio_s(self) -> float:
        """Seconds of audio in it."""
        return sum(job.duration_s for job in self.jobs)

    def parts(self) -> list["Shard"]:
        """Return a shard for each recording; of a single recording one for each model, and none of a single model."""
        if len(self.jobs) > 1:
            return [replace(self, jobs=(job,)) for job in self.jobs]
        (job,) = self.jobs
        if len(job.tries) == 1:
            return []
        return [replace(self, jobs=(replace(job, tries={model: tries}),)) for model, tries in job.tries.items()]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a shard came to: Parquet files that nobody sees until a log entry names them."""

    files: tuple[DataFile, ...]
    recordings: int
    utterances: int
    predictions: int
    failures: int
    audio_s: float
    loaded: frozenset[str] = frozenset()  # models
    refused: Mapping[str, str] = field(default_factory=dict)  # models that cannot be loaded on this host, and why
    loading_s: float = 0.0
    scoring_s: float = 0.0  # decoding and models


def jobs_of(rows: Iterable[Missing]) -> list[Job]:
    """Return the work behind what is missing, in its order; answers that are kept somewhere are no work."""
    found: dict[UUID, list[Missing]] = {}
    for row in rows:
        if row.kept_seq is None:
            found.setdefault(row.file_id, []).append(row)
    return [
        Job(
            file_id,
            owed[0].sha256,
            owed[0].duration_s,
            {row.model: row.tries for row in owed},
            frozenset(seq for row in owed for seq in row.read_seqs),
        )
        for file_id, owed in found.items()
    ]


def cut(jobs: Iterable[Job]) -> tuple[list[Shard], list[Shard]]:
    """Cut work into shards, and apart from them one shard for each recording that failed before."""
    shards: list[tuple[Job, ...]] = []
    suspects: list[tuple[Job, ...]] = []
    current: list[Job] = []
    for job in jobs:
        if any(job.tries.values()):
            suspects.append((job,))
            continue
        if current and (
            sum(other.duration_s for other in current) + job.duration_s > SHARD_AUDIO_S or len(current) == SHARD_FILES
        ):
            shards.append(tuple(current))
            current = []
        current.append(job)
    if current:
        shards.append(tuple(current))
    numbered = [Shard(number, members) for number, members in enumerate(shards + suspects)]
    return numbered[: len(shards)], numbered[len(shards) :]


def with_texts(shards: Iterable[Shard], files: Iterable[DataFile]) -> list[Shard]:
    """Return the shards, each with those of `files` that may hold texts that its models have read before.

    Args:
        shards: Work.
        files: All Parquet files of utterances that count.
    """
    every = list(files)
    return [replace(shard, texts=tuple(file for file in every if _may_hold_texts(file, shard))) for shard in shards]


def _may_hold_texts(file: DataFile, shard: Shard) -> bool:
    return any(
        file.min_file_id <= job.file_id <= file.max_file_id and (file.min_seq or 0) <= seq <= (file.max_seq or 0)
        for job in shard.jobs
        for seq in job.read_seqs
    )


def score_shard(shard: Shard, *, place: Place, specs: tuple[ModelSpec, ...], reference: UUID) -> Scored:
    """Score a shard and write what came out; publish nothing.

    A recording that fails becomes a coverage row with the reason, and the others go on. A model that cannot be loaded
    on this host is left out, without a row: nothing was tried.

    Raises:
        StoreError: The results cannot be written.
    """
    lake, started = Lake.open(place), time.monotonic()
    wanted = {name for job in shard.jobs for name in job.tries}
    models: dict[str, tuple[ModelSpec, Model]] = {}
    refused: dict[str, str] = {}
    for spec in specs:
        if spec.name in wanted:
            try:
                models[spec.name] = spec, _loaded(spec, place.local / MODELS)
            except ModelUnavailableError as error:
                refused[spec.name] = str(error)
    loaded = time.monotonic()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ANSWER_TABLES}
    texts = Texts.of(lake, shard.texts, frozenset(job.file_id for job in shard.jobs))
    for job in shard.jobs:
        _score_recording(job, lake, models, texts, reference, rows)
    scored = time.monotonic()
    tables = {name: table_from_rows(name, found) for name, found in rows.items()}
    return Scored(
        files=write_tables(lake.store, reference, uuid.uuid4(), tables, part=str(shard.number)),
        recordings=sum(any(name in models for name in job.tries) for job in shard.jobs),
        utterances=len(rows["utterances"]),
        predictions=len(rows["predictions"]),
        failures=sum(row["state"] == "failed" for row in rows["coverage"]),
        audio_s=shard.audio_s if models else 0.0,
        loaded=frozenset(models),
        refused=refused,
        loading_s=loaded - started,
        scoring_s=scored - loaded,
    )


def failed(shard: Shard, *, place: Place, specs: tuple[ModelSpec, ...], reference: UUID, reason: str) -> Scored:
    """Write that every recording of `shard` failed, for a shard whose process did not live to say so."""
    versions = {spec.name: spec.version for spec in specs}
    rows = [
        _coverage(job, model, versions[model], reference, reason=reason)
        for job in shard.jobs
        for model in job.tries
        if model in versions
    ]
    tables = {"coverage": table_from_rows("coverage", rows)}
    files = write_tables(Lake.open(place).store, reference, uuid.uuid4(), tables, part=str(shard.number))
    return Scored(files, len(shard.jobs), 0, 0, len(rows), shard.audio_s)


_models: dict[tuple[str, str], Model | ModelUnavailableError] = {}


def _loaded(spec: ModelSpec, cache: Path) -> Model:
    """Return a model, loaded once a process; one that could not be loaded is not tried again by the same process."""
    key = (spec.name, spec.entry)
    if key not in _models:
        try:
            _models[key] = load_model(spec, cache)
        except ModelUnavailableError as error:
            log.warning("%s", error)
            _models[key] = error
    found = _models[key]
    if isinstance(found, ModelUnavailableError):
        raise found
    return found


def _score_recording(
    job: Job,
    lake: Lake,
    models: Mapping[str, tuple[ModelSpec, Model]],
    texts: Texts,
    reference: UUID,
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    scores = [_Score(job.file_id, *models[name], texts) for name in job.tries if name in models]
    if not scores:
        return
    try:
        with lake.media.on_disk(job.sha256) as path:
            _score_pieces(path, scores)
    except (FeatureError, MissingError) as error:
        _fail(scores, str(error))
    except Exception as error:
        log.exception("%s cannot be cut", job.file_id)
        _fail(scores, f"{type(error).__name__}: {error}")
    for score in scores:
        found = [] if score.reason else score.predictions()
        rows["coverage"].append(
            _coverage(
                job,
                score.spec.name,
                score.spec.version,
                reference,
                predictions=len(found),
                descriptors=0 if score.reason else len(score.descriptors),
                reason=score.reason,
            )
        )
        if not score.reason:
            rows["utterances"] += score.utterances
            rows["predictions"] += found
            rows["descriptors"] += score.descriptors


def _fail(scores: list["_Score"], reason: str) -> None:
    for score in scores:
        score.reason = reason


def _score_pieces(path: Path, scores: list["_Score"]) -> None:
    """Give each model the pieces of a recording that it wants."""
    wants = sorted({score.model.wants for score in scores})
    settings = UtteranceSettings(**scores[0].spec.utterances)  # the group's
    for want, piece in cut_recording(path, distinct_channels(path), wants, settings):
        described = describe(piece.waveform, SAMPLE_RATE) if want == "utterances" else None
        for score in scores:
            if score.model.wants == want and not score.reason:
                score.give(piece, described)


class _Score:
    """What one model says of one recording. Where it fails, the others go on."""

    def __init__(self, file_id: UUID, spec: ModelSpec, model: Model, texts: Texts) -> None:
        self.spec, self.model = spec, model
        self._file_id, self._texts = file_id, texts
        self.utterances: list[dict[str, Any]] = []
        self.descriptors: list[dict[str, Any]] = []
        self._predictions: list[dict[str, Any]] = []
        self.reason: str | None = None  # why it failed

    def give(self, piece: Piece, described: Descriptors | None) -> None:
        """Ask the model; an utterance comes with its descriptors."""
        try:
            waveform = resampled(piece.waveform, SAMPLE_RATE, self.model.sample_rate)
            answer = self.model.predict(waveform, self._texts.at(self._file_id, self.spec, piece))
        except Exception as error:
            log.exception("%s failed on %s", self.spec.name, self._file_id)
            self.reason = f"{type(error).__name__}: {error}"
            return
        place = {
            "file_id": self._file_id,
            "model": self.spec.name,
            "model_version": self.spec.version,
            "channel": piece.channel,
            "utterance": piece.number,
        }
        times = {"start_s": piece.start_s, "end_s": piece.end_s}
        if answer.text is not None:
            self.utterances.append(place | times | {"text": answer.text, "model_version": self.spec.text_version})
        if described is not None:
            self.descriptors.append(place | times | _descriptor_row(described, answer, piece.end_s - piece.start_s))
        for detection in answer.detections:
            if (placed := piece.placed(detection.start_s, detection.end_s)) is None:
                continue
            times = {"start_s": round(placed[0], 3), "end_s": round(placed[1], 3)}
            self._predictions.append(place | times | {"label": detection.label, "confidence": detection.confidence})

    def predictions(self) -> list[dict[str, Any]]:
        """Return what was found; what a window's end has cut in two is one again."""
        return joined(self._predictions) if self.model.wants == "windows" else self._predictions


def _descriptor_row(described: Descriptors, answer: Answer, duration_s: float) -> dict[str, Any]:
    rate = speaking_rate(answer.text, described.speech_share * duration_s)
    embedding = None if answer.embedding is None else answer.embedding.astype("<f2").tobytes()
    return asdict(described) | {"speaking_rate": rate, "embedding": embedding}


def joined(predictions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return predictions with those of one channel and label made one where they touch; confidence is the mean of time.

    Args:
        predictions: Of one model and recording, those of each channel and label in order of time.
    """
    last: dict[tuple[int, str], dict[str, Any]] = {}
    found: list[dict[str, Any]] = []
    for row in predictions:
        before = last.get((row["channel"], row["label"]))
        if before is None or row["start_s"] - before["end_s"] > TOUCHING_S:
            last[row["channel"], row["label"]] = row
            found.append(row)
            continue
        lengths = before["end_s"] - before["start_s"], row["end_s"] - row["start_s"]
        mean = np.average((before["confidence"], row["confidence"]), weights=lengths if sum(lengths) else None)
        before |= {"end_s": max(before["end_s"], row["end_s"]), "confidence": round(float(mean), 4)}
    return found


def _coverage(
    job: Job,
    model: str,
    version: str,
    reference: UUID,
    *,
    predictions: int = 0,
    descriptors: int = 0,
    reason: str | None = None,
) -> dict[str, Any]:
    tries = job.tries[model] + 1
    again = RETRY_PAUSES[min(tries, len(RETRY_PAUSES)) - 1]
    return {
        "file_id": job.file_id,
        "model": model,
        "model_version": version,
        "state": "failed" if reason else "computed",
        "reason": reason,
        "tries": tries if reason else 0,
        "next_try_at": datetime.now(UTC) + again if reason else None,
        "first_reference": reference,
        "predictions": predictions,
        "descriptors": descriptors,
    }
