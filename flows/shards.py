"""Shards: a refresh's work cut into pieces that any process can score. It must not know Prefect."""

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from features.audio import distinct_channels
from features.errors import FeatureError
from features.utterances import UtteranceSettings, find_utterances
from flows.texts import Texts
from models.group import ModelSpec
from models.protocol import Model
from models.registry import load_model
from storage.errors import MissingError
from storage.lake import Lake
from storage.log import DataFile
from storage.missing import Missing
from storage.parquet import write_tables
from storage.place import Place
from storage.tables import table_from_rows

log = logging.getLogger(__name__)

SHARD_AUDIO_S: Final = 120.0  # a few seconds of work: what a kill repeats at most
SHARD_FILES: Final = 64
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

    def one_by_one(self) -> Iterator["Shard"]:
        """Yield a shard for each recording."""
        for job in self.jobs:
            yield replace(self, jobs=(job,))


@dataclass(frozen=True, slots=True)
class Scored:
    """What a shard came to: Parquet files that nobody sees until a log entry names them."""

    files: tuple[DataFile, ...]
    recordings: int
    utterances: int
    predictions: int
    failures: int
    audio_s: float


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
            frozenset(row.read_seq for row in owed if row.read_seq is not None),
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

    A recording that fails becomes a coverage row with the reason, and the others go on.

    Raises:
        ModelUnavailableError: A model cannot be loaded on this host.
        StoreError: The results cannot be written.
    """
    lake = Lake.open(place)
    models = {spec.name: (spec, _loaded(spec)) for spec in specs}
    rows: dict[str, list[dict[str, Any]]] = {"coverage": [], "utterances": [], "predictions": []}
    texts = Texts.of(lake, shard.texts, frozenset(job.file_id for job in shard.jobs))
    for job in shard.jobs:
        _score_recording(job, lake, models, texts, reference, rows)
    tables = {name: table_from_rows(name, found) for name, found in rows.items()}
    return Scored(
        files=write_tables(lake.store, reference, uuid.uuid4(), tables, part=str(shard.number)),
        recordings=len(shard.jobs),
        utterances=len(rows["utterances"]),
        predictions=len(rows["predictions"]),
        failures=sum(row["state"] == "failed" for row in rows["coverage"]),
        audio_s=shard.audio_s,
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


_models: dict[tuple[str, str], Model] = {}


def _loaded(spec: ModelSpec) -> Model:
    """Return a model, loaded once a process."""
    key = (spec.name, spec.version)
    if key not in _models:
        _models[key] = load_model(spec)
    return _models[key]


def _score_recording(
    job: Job,
    lake: Lake,
    models: Mapping[str, tuple[ModelSpec, Model]],
    texts: Texts,
    reference: UUID,
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    try:
        with lake.media.on_disk(job.sha256) as path:
            for name in job.tries:
                _score_with(*models[name], job, path, texts, reference, rows)
    except MissingError as error:
        rows["coverage"] += [
            _coverage(job, name, models[name][0].version, reference, reason=str(error)) for name in job.tries
        ]


def _score_with(
    spec: ModelSpec,
    model: Model,
    job: Job,
    path: Path,
    texts: Texts,
    reference: UUID,
    rows: dict[str, list[dict[str, Any]]],
) -> None:
    found: dict[str, list[dict[str, Any]]] = {"utterances": [], "predictions": []}
    try:
        for part, row in _answers(job, path, spec, model, texts):
            found[part].append(row)
    except FeatureError as error:
        reason = str(error)
    except Exception as error:
        log.exception("%s failed on %s", spec.name, job.file_id)
        reason = f"{type(error).__name__}: {error}"
    else:
        count = len(found["predictions"])
        rows["coverage"].append(_coverage(job, spec.name, spec.version, reference, predictions=count))
        rows["utterances"] += found["utterances"]
        rows["predictions"] += found["predictions"]
        return
    rows["coverage"].append(_coverage(job, spec.name, spec.version, reference, reason=reason))


def _answers(job: Job, path: Path, spec: ModelSpec, model: Model, texts: Texts) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of one model for one recording, each with the name of its table."""
    for utterance in find_utterances(path, distinct_channels(path), UtteranceSettings(**spec.utterances)):
        answer = model.predict(utterance.waveform, texts.at(job.file_id, spec, utterance))
        place = {
            "file_id": job.file_id,
            "model": spec.name,
            "model_version": spec.version,
            "channel": utterance.channel,
            "utterance": utterance.number,
        }
        times = {"start_s": utterance.start_s, "end_s": utterance.end_s}
        yield "utterances", place | times | {"text": answer.text, "model_version": spec.text_version}
        for detection in answer.detections:
            start_s = min(utterance.start_s + detection.start_s, utterance.end_s)
            end_s = min(utterance.start_s + detection.end_s, utterance.end_s)
            times = {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
            yield "predictions", place | times | {"label": detection.label, "confidence": detection.confidence}


def _coverage(
    job: Job, model: str, version: str, reference: UUID, *, predictions: int = 0, reason: str | None = None
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
    }
