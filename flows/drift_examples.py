"""Which utterances of a window moved most, and from where. It must not know how they are shown, nor the lake."""

import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.drift_samples import (
    CATEGORIES,
    CONFIDENCE,
    EMBEDDING,
    MODELS_OWN,
    NONE_AT,
    RATE,
    RECORDING,
    Kind,
    rates_of,
    samples_of,
)
from models.drift_verdicts import Verdict

UNITS: Final = {
    "level_dbfs": "dBFS",
    "snr_db": "dB",
    "clipping": "share",
    "bandwidth_hz": "Hz",
    "spectral_centroid_hz": "Hz",
    "speech_share": "share",
    "speaking_rate": "words/s",
    "pitch_median_hz": "Hz",
    "confidence": "0 to 1",
    RATE: "detections/min",
}
"""Of what is watched as numbers; README.md says the same of the descriptors."""

PLACE: Final = {"channel": pl.Int64, "start_s": pl.Float64, "end_s": pl.Float64}
RIDGE: Final = 0.1  # of the mean variance: there may be fewer utterances than dimensions


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What was measured of a baseline or of a window."""

    utterances: pl.DataFrame
    """`file_id`, `model`, `channel`, `utterance`, `start_s`, `end_s`, descriptors, categories, `embedding`."""
    predictions: pl.DataFrame
    """`file_id`, `model`, `channel`, `label`, `confidence`, `start_s`, `end_s`."""
    durations: pl.DataFrame
    """`file_id`, `duration_s`, a row per recording; with `model` a row per recording and model that has answered."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One descriptor of one side, with the place of each value."""

    kind: Kind
    values: NDArray[Any]  # as in `models.drift_samples.Sample`: what has no value is NONE_AT
    rows: pl.DataFrame  # `file_id` and PLACE, null where it is of a whole recording. As many as values

    @property
    def none(self) -> NDArray[np.bool_]:
        """Which values could not be said. Shape (row,)."""
        return np.asarray(self.values == NONE_AT) if self.kind == "numbers" else np.zeros(len(self.values), dtype=bool)


@dataclass(frozen=True, slots=True)
class Example:
    """A stretch of a recording that one can listen to."""

    file_id: str
    channel: int | None
    start_s: float | None
    end_s: float | None
    value: str  # with its unit

    def url(self, public_url: str) -> str:
        """Return where the API has it; players begin and end at a media fragment (W3C, Media Fragments URI 1.0)."""
        whole = f"{public_url}/api/audio/{quote(self.file_id, safe='')}"
        return whole if self.start_s is None or self.end_s is None else f"{whole}#t={self.start_s:.2f},{self.end_s:.2f}"


def unit_of(descriptor: str) -> str:
    """Return the unit of a descriptor, empty where it has none."""
    return UNITS.get(descriptor.partition(":")[0], "")


def with_unit(descriptor: str, value: float) -> str:
    """Return a number for people."""
    if value == NONE_AT:
        return "none"
    unit = unit_of(descriptor)
    return f"{value:.{_digits(unit)}f}" + ("" if unit in ("share", "0 to 1") else f" {unit}")


def measured(descriptor: str, side: Side) -> Measured:
    """Return what was compared under a descriptor's name, value by value.

    Raises:
        DriftError: The tables have no such column.
    """
    what, _, of = descriptor.partition(":")
    if what == RATE:
        sample = rates_of(side.predictions, side.durations, {of: ""})[0]
        return Measured(sample.kind, sample.values, _placed(pl.DataFrame({RECORDING: sample.recordings.tolist()})))
    table = _of_confidence(of, side.predictions) if what == CONFIDENCE else _of_utterances(what, of, side.utterances)
    if table.is_empty():
        kind: Kind = "vectors" if what == EMBEDDING else "categories" if what in CATEGORIES else "numbers"
        return Measured(kind, np.empty(0, dtype=np.str_ if kind == "categories" else np.float64), _placed(table))
    numbers = pl.int_range(pl.len()).cast(pl.String).alias(RECORDING)  # in the recording's place, to find rows again
    of_table = samples_of(table.select(numbers, *(["label", CONFIDENCE] if what == CONFIDENCE else [what])))[0]
    return Measured(of_table.kind, of_table.values, _placed(table)[of_table.recordings.astype(np.int64)])


def examples(verdict: Verdict, baseline: Side, window: Side, count: int = 3) -> list[Example]:
    """Return the utterances of a window that lie farthest from the baseline in the direction of the change.

    For numbers these are the highest or lowest values; for categories any of the one that grew most; for embeddings
    the farthest from the baseline's mean. One of each recording at most, since its others are much the same.

    Raises:
        DriftError: The tables have no such descriptor.
    """
    before, now = measured(verdict.descriptor, baseline), measured(verdict.descriptor, window)
    if not len(before.values) or not len(now.values):
        return []
    match now.kind:
        case "categories":
            found = now.values == grown(before.values, now.values)
            distances, texts = found.astype(np.float64), [str(value) for value in now.values]
            distances[~found] = -np.inf
        case "vectors":
            distances = embedding_distances(before.values, now.values)
            texts = [f"{distance:.1f} times as far as usual" for distance in distances]
        case "numbers":
            distances = _along(before, now)
            texts = [with_unit(verdict.descriptor, value) for value in now.values]
    return _farthest(now.rows, distances, texts, count)


def grown(before: NDArray[np.str_], now: NDArray[np.str_]) -> str:
    """Return the category whose share grew most."""
    names: list[str] = sorted(set(now.tolist()))
    return max(names, key=lambda name: float(np.mean(now == name) - np.mean(before == name)))


def gap(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Return how far two distributions are apart where they are farthest: the KS distance, above 0 if values rose."""
    points = np.unique(np.concatenate([before, now]))
    shares = [np.searchsorted(np.sort(side), points, side="right") / side.size for side in (before, now)]
    gaps = np.asarray(shares[0] - shares[1])
    return float(gaps[np.argmax(np.abs(gaps))])


def embedding_distances(before: NDArray[np.float32], now: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how far from the baseline's mean each vector of a window is, in the baseline's median distances.

    Distances are Mahalanobis', by what varies within both sides.
    """
    mean = np.mean(before, axis=0, dtype=np.float64)
    within = np.concatenate([before - mean, now - np.mean(now, axis=0, dtype=np.float64)])
    covariance = within.T @ within / len(within)
    ridge = RIDGE * np.trace(covariance) / len(covariance) + np.finfo(np.float64).tiny
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))

    def distances(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        off = vectors - mean
        return np.asarray(np.sqrt(np.sum((off @ inverse) * off, axis=1)))

    usual = float(np.median(distances(before)))
    return np.asarray(distances(now) / (usual or 1.0))


def _along(before: Measured, now: Measured) -> NDArray[np.float64]:
    """Return how far each number lies in the direction of the change."""
    if np.mean(now.none) - np.mean(before.none) > 0.5 * abs(gap(before.values, now.values)):
        return np.where(now.none, 1.0, -np.inf)  # what changed is that nothing can be said
    if now.none.all() or before.none.all():
        return np.where(now.none, -np.inf, 1.0)
    sign = np.sign(gap(before.values[~before.none], now.values[~now.none]))
    return np.where(now.none, -np.inf, sign * now.values)


def _farthest(rows: pl.DataFrame, distances: NDArray[np.float64], texts: list[str], count: int) -> list[Example]:
    ranked = rows.with_columns(distance=pl.Series(distances), text=pl.Series(texts, dtype=pl.String))
    ranked = ranked.filter(pl.col("distance").is_finite()).sort("distance", descending=True, maintain_order=True)
    first = ranked.unique([RECORDING], keep="first", maintain_order=True).head(count)
    return [
        Example(str(row[RECORDING]), row["channel"], row["start_s"], row["end_s"], row["text"])
        for row in first.iter_rows(named=True)
    ]


def _of_confidence(of: str, table: pl.DataFrame) -> pl.DataFrame:
    model, _, label = of.partition(":")
    if model and "model" in table.columns:
        table = table.filter(pl.col("model") == model)
    return table.filter(pl.col("label") == label) if label else table


def _of_utterances(what: str, model: str, table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that `samples_of` takes: all of a model, or each utterance once, of whatever models."""
    if what in (*MODELS_OWN, EMBEDDING):
        table = table.filter(pl.col("model") == model) if model and "model" in table.columns else table
        return table.filter(pl.col(what).is_not_null()) if what == EMBEDDING else table
    place = [name for name in (RECORDING, "channel", "utterance") if name in table.columns]
    return table.unique(place, keep="first", maintain_order=True) if "utterance" in place else table


def _placed(table: pl.DataFrame) -> pl.DataFrame:
    """Return the places of rows: recordings as the API writes their ids, null for what is not known."""
    places = [
        (pl.col(name) if name in table.columns else pl.lit(None)).cast(kind).alias(name) for name, kind in PLACE.items()
    ]
    ids = pl.Series(RECORDING, [id_text(value) for value in table[RECORDING].to_list()], dtype=pl.String)
    return table.with_columns(ids).select(RECORDING, *places)


def id_text(value: bytes | str | uuid.UUID) -> str:
    """Return an id as the API writes it; a name that is no id stays as it is."""
    try:
        return str(uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(str(value)))
    except ValueError:
        return value.hex() if isinstance(value, bytes) else str(value)


def _digits(unit: str) -> int:
    return {"Hz": 0, "share": 3, "0 to 1": 3}.get(unit, 1)
