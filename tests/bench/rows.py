"""Rows as a service would have them, made by the million: 40 predictions and 8 utterances of each recording."""

import itertools
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.tables import TABLES

UTTERANCES: Final = 8
PREDICTIONS: Final = 40
MODEL, VERSION = "moonshine", "tiny-en-1.0-3f2a9c"
LABELS: Final = [f"phrase number {number}" for number in range(24)]
WORDS: Final = ["please", "hold", "the", "line", "your", "call", "is", "important", "to", "us", "agent", "account"]
TEXTS: Final = pa.array(
    [" ".join(words) for words in itertools.islice(itertools.permutations(WORDS, 8), 0, 500_000, 1000)]
)

Ids = NDArray[np.uint8]
"""Shape (file, 16)."""


def random_ids(rng: np.random.Generator, count: int) -> Ids:
    """Return that many ids, in order."""
    ids = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    return ids[np.lexsort(ids.T[::-1])]


def uuids(ids: Ids) -> pa.Array:
    content = np.ascontiguousarray(ids).tobytes()
    storage = pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(content)])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def repeated(value: str, count: int) -> pa.Array:
    return pa.array([value]).take(pa.array(np.zeros(count, np.int32)))


def times(seconds: NDArray[np.int64]) -> pa.Array:
    return pa.array(seconds * 1_000_000, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def coverage(ids: Ids, references: Ids, *, predictions: int = PREDICTIONS) -> pa.Table:
    count = len(ids)
    return _table(
        "coverage",
        file_id=uuids(ids),
        model=repeated(MODEL, count),
        model_version=repeated(VERSION, count),
        state=repeated("computed", count),
        tries=np.zeros(count, np.int16),
        first_reference=uuids(references),
        predictions=np.full(count, predictions, np.int32),
    )


def utterances(ids: Ids, rng: np.random.Generator, *, each: int = UTTERANCES) -> pa.Table:
    count = len(ids) * each
    number = np.tile(np.arange(each, dtype=np.int32), len(ids))
    starts = number * 4.0 + rng.random(count).round(3)
    return _table(
        "utterances",
        file_id=uuids(np.repeat(ids, each, axis=0)),
        model=repeated(MODEL, count),
        model_version=repeated(VERSION, count),
        channel=np.zeros(count, np.int16),
        utterance=number,
        start_s=starts,
        end_s=starts + 2.5,
        text=TEXTS.take(pa.array(rng.integers(0, len(TEXTS), count, dtype=np.int32))),
    )


def predictions(ids: Ids, rng: np.random.Generator, *, each: int = PREDICTIONS) -> pa.Table:
    count = len(ids) * each
    number = np.tile(np.arange(each, dtype=np.int32), len(ids))
    starts = number * 0.8 + (rng.random(count) / 2).round(3)
    return _table(
        "predictions",
        file_id=uuids(np.repeat(ids, each, axis=0)),
        model=repeated(MODEL, count),
        model_version=repeated(VERSION, count),
        channel=np.zeros(count, np.int16),
        utterance=number // (PREDICTIONS // UTTERANCES),
        label=pa.array(LABELS).take(pa.array(rng.integers(0, len(LABELS), count, dtype=np.int32))),
        start_s=starts,
        end_s=starts + 0.4,
        confidence=rng.random(count),
    )


def answers(
    ids: Ids, rng: np.random.Generator, *, utterances_each: int = UTTERANCES, predictions_each: int = PREDICTIONS
) -> dict[str, pa.Table]:
    """Return what a refresh of these recordings adds."""
    references = np.repeat(rng.integers(0, 256, (1, 16), dtype=np.uint8), len(ids), axis=0)
    return {
        "coverage": coverage(ids, references, predictions=predictions_each),
        "utterances": utterances(ids, rng, each=utterances_each),
        "predictions": predictions(ids, rng, each=predictions_each),
    }


def files(ids: Ids, seconds: NDArray[np.int64]) -> pa.Table:
    count = len(ids)
    names = pa.array([content.tobytes().hex() * 2 for content in ids])
    return _table(
        "files",
        file_id=uuids(ids),
        sha256=names,
        size_bytes=np.full(count, 512_044, np.int64),
        status=repeated("accepted", count),
        duration_s=np.full(count, 32.0),
        sample_rate=np.full(count, 8000, np.int32),
        channels=np.ones(count, np.int16),
        format=repeated("WAV/PCM_16", count),
        ingested_at=times(seconds),
    )


def sources(ids: Ids, seconds: NDArray[np.int64]) -> pa.Table:
    count = len(ids)
    names = [f"call-{content[:6].tobytes().hex()}.wav" for content in ids]
    return _table(
        "sources",
        file_id=uuids(ids),
        kind=repeated("folder", count),
        uri=pa.array([f"folder:2026/{name}" for name in names]),
        name=pa.array(names),
        size_bytes=np.full(count, 512_044, np.int64),
        mtime_ns=seconds * 1_000_000_000,
        seen_at=times(seconds),
        present=np.ones(count, bool),
    )


def _table(table: str, /, **columns: object) -> pa.Table:
    count = len(columns["file_id"])
    return pa.table(
        {field.name: columns.get(field.name, pa.nulls(count, field.type)) for field in TABLES[table]},
        schema=TABLES[table],
    )
