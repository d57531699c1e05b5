"""What drift is looked for in: columns of tables, each as numbers, categories or vectors by recording.

It must not know detectors, nor where tables come from. Recordings are what is sampled independently of each other, so
every value comes with the recording that it is of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from features.descriptors import Descriptors
from models.errors import DriftError

Frame: TypeAlias = pl.DataFrame | pa.Table
Kind: TypeAlias = Literal["numbers", "categories", "vectors"]
Family: TypeAlias = Literal["descriptors", "embeddings", "categories", "answers"]
"""What shares a part of the budget: see models/drift_verdicts.py."""

RECORDING: Final = "file_id"
MODELS_OWN: Final = ("speaking_rate",)  # descriptors that come of what a model read
AUDIOS_OWN: Final = tuple(field.name for field in fields(Descriptors) if field.name not in MODELS_OWN)
EMBEDDING: Final = "embedding"
CONFIDENCE: Final = "confidence"
RATE: Final = "detections_per_minute"
CATEGORIES: Final = ("format", "sample_rate", "channels", "scene")
NONE_AT: Final = -1e9  # below every descriptor: what cannot be said is a value too, the lowest
SEVERAL: Final = "+"  # between versions of a model, where a sample has answers of more than one


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One column of what was measured: what a detector compares with the same column of a baseline."""

    name: str  # of the descriptor; of a model's own: `<descriptor>:<model>`, `confidence:<model>:<label>`
    kind: Kind
    recordings: NDArray[np.str_]  # of each row. Shape (row,)
    values: NDArray[Any]
    """numbers: float64, shape (row,). categories: texts, shape (row,). vectors: float32, shape (row, dimension)."""
    model_version: str = ""  # of the model that said it; empty: none did

    def __len__(self) -> int:
        return len(self.recordings)


def family_of(name: str, kind: Kind) -> Family:
    """Return the family of a sample."""
    if kind == "vectors":
        return "embeddings"
    if kind == "categories":
        return "categories"
    return "answers" if name.startswith((CONFIDENCE, RATE)) else "descriptors"


def samples_of(frame: Frame) -> list[Sample]:
    """Return the samples of a table of descriptors or of one of predictions, whichever it is.

    Args:
        frame: Either rows of utterances: `file_id`, any of the descriptors (features/descriptors.py has their units),
            `embedding` (float16 as bytes, or a list of numbers), any of the CATEGORIES, and `model`, `model_version`,
            `channel`, `utterance` where they are known. Or rows of detections: `file_id`, `label`, `confidence`
            (0 to 1), and `model`, `model_version`.

    Raises:
        DriftError: It has no column `file_id`, or nothing in which drift could be looked for.
    """
    table = as_polars(frame)
    if RECORDING not in table.columns:
        raise DriftError(
            f"the table has {', '.join(table.columns) or 'no columns'}: "
            f"add {RECORDING}, the recording of each row, because recordings are what is sampled independently"
        )
    found = _of_predictions(table) if {"label", CONFIDENCE} <= set(table.columns) else _of_utterances(table)
    if not found:
        raise DriftError(
            f"the table has {', '.join(table.columns)}: drift is looked for in descriptors ({', '.join(AUDIOS_OWN)}, "
            f"{', '.join(MODELS_OWN)}, {EMBEDDING}), categories ({', '.join(CATEGORIES)}) or label and confidence"
        )
    return found


def rates_of(predictions: Frame, durations: Frame, models: Mapping[str, str]) -> list[Sample]:
    """Return how many detections a minute each model has in each recording; a model may have none in some.

    Args:
        predictions: `file_id`, `model`, a row per detection.
        durations: `file_id`, `duration_s`, a row per recording that has been answered; with a column `model` a row per
            recording and model that has answered, since a model has no rate where nobody asked it.
        models: The version of each model by its name.
    """
    recordings, counted = as_polars(durations), as_polars(predictions).group_by("model", RECORDING).len("detections")
    found = []
    for model, version in models.items():
        answered = recordings.filter(pl.col("model") == model) if "model" in recordings.columns else recordings
        of_model = counted.filter(pl.col("model") == model).drop("model")
        joined = answered.join(of_model, on=RECORDING, how="left").filter(pl.col("duration_s") > 0)
        rate = pl.col("detections").fill_null(0) * 60.0 / pl.col("duration_s")
        values = joined.select(rate).to_series().to_numpy().astype(np.float64)
        found.append(Sample(f"{RATE}:{model}", "numbers", _ids(joined), values, version))
    return found


def without(sample: Sample, recordings: NDArray[np.str_]) -> Sample:
    """Return a sample without some recordings."""
    return _only(sample, ~np.isin(sample.recordings, recordings))


def at_most(sample: Sample, rows: int) -> Sample:
    """Return whole recordings of a sample, chosen by chance that is always the same, up to a number of rows."""
    if len(sample) <= rows:
        return sample
    names, of_row, counts = np.unique(sample.recordings, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    chosen = order[np.cumsum(counts[order]) <= rows]
    return _only(sample, np.isin(of_row, chosen if len(chosen) else order[:1]))


def _only(sample: Sample, rows: NDArray[np.bool_]) -> Sample:
    return Sample(sample.name, sample.kind, sample.recordings[rows], sample.values[rows], sample.model_version)


def _of_utterances(table: pl.DataFrame) -> list[Sample]:
    """Return what a table of utterances holds; what several models were given is described by each, and counts once."""
    place = [name for name in (RECORDING, "channel", "utterance") if name in table.columns]
    once = table.unique(place, keep="first", maintain_order=True) if "utterance" in place else table
    recordings = _ids(once)
    found = [Sample(name, "numbers", recordings, _numbers(once[name])) for name in AUDIOS_OWN if name in once.columns]
    found += [Sample(name, "categories", recordings, _texts(once[name])) for name in CATEGORIES if name in once.columns]
    for name in (*MODELS_OWN, EMBEDDING):
        if name in table.columns:
            found += [_of_model(name, model, rows) for model, rows in _by_model(table) if rows[name].count()]
    return found


def _of_model(name: str, model: str, rows: pl.DataFrame) -> Sample:
    full = f"{name}:{model}" if model else name
    if name != EMBEDDING:
        return Sample(full, "numbers", _ids(rows), _numbers(rows[name]), _version(rows))
    rows = rows.filter(pl.col(name).is_not_null())
    vectors = _vectors(rows[name])
    finite = np.isfinite(vectors).all(axis=1)
    return Sample(full, "vectors", _ids(rows)[finite], vectors[finite], _version(rows))


def _of_predictions(table: pl.DataFrame) -> list[Sample]:
    found = []
    for model, rows in _by_model(table):
        of_labels = [(f":{label}", part) for (label,), part in sorted(rows.group_by("label"), key=lambda each: each[0])]
        for ending, part in [("", rows), *of_labels]:
            name = f"{CONFIDENCE}:{model}{ending}"
            found.append(Sample(name, "numbers", _ids(part), _numbers(part[CONFIDENCE]), _version(part)))
    return found


def _by_model(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    if "model" not in table.columns:
        return [("", table)]
    return sorted(((str(model), rows) for (model,), rows in table.group_by("model")), key=lambda each: each[0])


def _version(rows: pl.DataFrame) -> str:
    if "model_version" not in rows.columns:
        return ""
    return SEVERAL.join(sorted(rows["model_version"].drop_nulls().unique().to_list()))


def as_polars(frame: Frame) -> pl.DataFrame:
    """Return a table as polars has it; the store's ids become bytes."""
    if isinstance(frame, pl.DataFrame):
        return frame
    found = pl.from_arrow(frame)
    if not isinstance(found, pl.DataFrame):
        raise DriftError("a table is needed, and this is one column of it")
    return found


def _ids(table: pl.DataFrame) -> NDArray[np.str_]:
    """Return recordings as texts: numpy's own bytes lose the zeros at their end."""
    column = table[RECORDING]
    texts = column.bin.encode("hex") if column.dtype == pl.Binary else column.cast(pl.String)
    return np.array(texts.to_list(), dtype=np.str_)


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    return column.cast(pl.Float64).fill_nan(None).fill_null(NONE_AT).to_numpy().astype(np.float64)


def _texts(column: pl.Series) -> NDArray[np.str_]:
    return np.array(column.cast(pl.String).fill_null("").to_list(), dtype=np.str_)


def _vectors(column: pl.Series) -> NDArray[np.float32]:
    rows: Sequence[Any] = column.to_list()
    if column.dtype == pl.Binary:
        rows = [np.frombuffer(row, dtype="<f2") for row in rows]
    return np.array(rows, dtype=np.float32).reshape(len(rows), -1)
