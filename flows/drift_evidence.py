"""What the lake has of some recordings, as samples in which drift is looked for. It must not know windows or verdicts.

Answers of held references count, since it is drift that decides about them; those of rejected ones do not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from models.drift_samples import AUDIOS_OWN, EMBEDDING, MODELS_OWN, RECORDING, Sample, rates_of, samples_of
from storage.answers import AnswerOf, GroupMember, answers_of, cuts, enabled_group
from storage.history import as_it_is_now
from storage.index import Index
from storage.lake import Lake
from storage.parquet import read_each
from storage.tables import TABLES

SCENES: Final = "scenes"  # the task of models whose labels say what an utterance is part of
PLACE: Final = (RECORDING, "channel", "utterance")
SPAN: Final = (*PLACE, "start_s", "end_s")

_FILES: Final = """
SELECT file_id, duration_s, sample_rate, channels, format FROM files WHERE file_id IN (SELECT unnest($ids::UUID[]))
"""


@dataclass(frozen=True)
class Evidence:
    """Rows of some recordings.

    Attributes:
        utterances: One for each utterance, whichever model was given it: SPAN, the descriptors of its audio, and the
            categories `format`, `sample_rate`, `channels`, `scene`.
        answers: What each model makes of an utterance: SPAN, `model`, `model_version`, `speaking_rate`, `embedding`.
        predictions: Detections, but of scenes: PLACE, `model`, `model_version`, `label`, times, `confidence`.
        durations: `file_id`, `model`, `duration_s`, for each model that has answered in its present version.
        asked: The version of each model that has been asked for detections, by its name.
    """

    utterances: pl.DataFrame
    answers: pl.DataFrame
    predictions: pl.DataFrame
    durations: pl.DataFrame
    asked: Mapping[str, str]

    @cached_property
    def samples(self) -> list[Sample]:
        """Return what detectors compare."""
        found: list[Sample] = []
        for frame in (self.utterances, self.answers, self.predictions):
            if frame.height:
                found += samples_of(frame)
        return found + rates_of(self.predictions, self.durations, self.asked)


def evidence(lake: Lake, index: Index, file_ids: Collection[UUID]) -> Evidence:
    """Return what is known of recordings: what models say in their present versions, and of audio what any has left.

    Args:
        lake: Where from.
        index: Needs files and coverage.
        file_ids: The recordings.

    Raises:
        StoreError: Rows cannot be read.
    """
    return as_it_is_now(index, lambda: _evidence(lake, index, file_ids))


def _evidence(lake: Lake, index: Index, file_ids: Collection[UUID]) -> Evidence:
    group = enabled_group(index)
    newest: list[AnswerOf] = []
    current: list[AnswerOf] = []
    for member in group:
        found = answers_of(index, member.name, file_ids)
        now = [one for one in found if one.model_version == member.version]
        have_now = {one.file_id for one in now}
        current += now
        newest += now + list(_newest(one for one in found if one.file_id not in have_now))
    described = rows_of(lake, index, "descriptors", _cut_as_now(index, group, newest))
    detected = rows_of(lake, index, "predictions", newest)
    facts = _facts(index, file_ids)
    durations = facts.select(RECORDING, "duration_s").drop_nulls()
    in_version = _pairs(current)
    scenes = [member.name for member in group if member.task == SCENES]
    is_scene = pl.col("model").is_in(scenes)
    asked = {member.name: member.version for member in group if member.task != SCENES}
    spans = detected.filter(pl.col("model") == scenes[0]) if scenes else detected.clear()
    return Evidence(
        utterances=_utterances(described, facts, spans),
        answers=described.join(in_version, on=in_version.columns, how="semi").select(
            *SPAN, "model", "model_version", *MODELS_OWN, EMBEDDING
        ),
        predictions=detected.filter(~is_scene).join(in_version, on=in_version.columns, how="semi"),
        durations=in_version.select(RECORDING, "model").join(durations, on=RECORDING),
        asked=asked,
    )


def _cut_as_now(index: Index, group: Sequence[GroupMember], answers: Iterable[AnswerOf]) -> list[AnswerOf]:
    """Return the answers to utterances that were cut as they are now: others are described otherwise, without drift."""
    known = cuts(index)
    now = {member.name: known.get((member.name, member.version)) for member in group}
    return [
        one
        for one in answers
        if not (cut := known.get((one.model, one.model_version))) or cut == (now.get(one.model) or cut)
    ]


def rows_of(lake: Lake, index: Index, table: str, answers: Iterable[AnswerOf]) -> pl.DataFrame:
    """Return the rows of a table that belong to answers; recordings are bytes.

    Raises:
        MissingError: A file was replaced meanwhile: catch up, and ask again.
        StoreError: Rows cannot be read.
    """
    wanted = _pairs(answers)
    seqs = sorted(wanted["seq"].unique().to_list())
    ids = [UUID(bytes=one) for one in (wanted[RECORDING].min(), wanted[RECORDING].max()) if isinstance(one, bytes)]
    parts = [_frame(_nothing(table))]
    if seqs:
        files = [
            file
            for file in index.live_files(table)
            if file.min_file_id <= ids[1]
            and file.max_file_id >= ids[0]
            and any((file.min_seq or 0) <= seq <= (file.max_seq or 0) for seq in seqs)
        ]
        for rows in read_each(lake.store, files):
            part = _frame(rows.filter(pc.is_in(rows["seq"], value_set=pa.array(seqs, pa.int64()))))
            parts.append(part.join(wanted, on=wanted.columns, how="semi"))
    return pl.concat(parts).sort(*PLACE, "start_s")


def _newest(found: Iterable[AnswerOf]) -> Iterable[AnswerOf]:
    """Return the newest answer for each recording, of whichever version."""
    by_file: dict[UUID, AnswerOf] = {}
    for one in found:
        if one.file_id not in by_file or by_file[one.file_id].seq < one.seq:
            by_file[one.file_id] = one
    return by_file.values()


def _pairs(answers: Iterable[AnswerOf]) -> pl.DataFrame:
    rows = [(one.file_id.bytes, one.model, one.seq) for one in answers]
    return pl.DataFrame(rows, {RECORDING: pl.Binary, "model": pl.String, "seq": pl.Int64}, orient="row")


def _facts(index: Index, file_ids: Collection[UUID]) -> pl.DataFrame:
    rows = index.query(_FILES, {"ids": list(file_ids)})
    return pl.DataFrame(
        [row | {RECORDING: row[RECORDING].bytes} for row in rows],
        {
            RECORDING: pl.Binary,
            "duration_s": pl.Float64,
            "sample_rate": pl.Int32,
            "channels": pl.Int16,
            "format": pl.String,
        },
    )


def _utterances(described: pl.DataFrame, facts: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Return utterances with what is known of their audio; each counts once, however many models were given it."""
    once = described.unique(PLACE, keep="first", maintain_order=True).select(*SPAN, *AUDIOS_OWN)
    scenes = _scenes(once, spans)
    return once.join(facts.drop("duration_s"), on=RECORDING, how="left").join(scenes, on=PLACE, how="left").sort(PLACE)


def _scenes(utterances: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Return the label whose spans take most of each utterance."""
    both = utterances.select(SPAN).join(
        spans.select(RECORDING, "channel", "label", "start_s", "end_s"), on=[RECORDING, "channel"], suffix="_span"
    )
    shared_s = pl.min_horizontal("end_s", "end_s_span") - pl.max_horizontal("start_s", "start_s_span")
    overlaps = both.with_columns(shared_s=shared_s).filter(pl.col("shared_s") > 0)
    by_label = overlaps.group_by(*PLACE, "label").agg(pl.col("shared_s").sum())
    return (
        by_label.sort("shared_s", "label", descending=True).group_by(PLACE).agg(pl.col("label").first().alias("scene"))
    )


def _nothing(table: str) -> pa.Table:
    schema = TABLES[table]
    return pa.schema([pa.field("seq", pa.int64()), *schema]).empty_table()


def _frame(rows: pa.Table) -> pl.DataFrame:
    """Return rows as polars has them, recordings as bytes: it does not know Arrow's UUIDs."""
    ids = pa.chunked_array([chunk.storage.cast(pa.binary()) for chunk in rows[RECORDING].chunks], type=pa.binary())
    found = pl.from_arrow(rows.set_column(rows.schema.get_field_index(RECORDING), RECORDING, ids))
    assert isinstance(found, pl.DataFrame)  # noqa: S101  for the type checker
    return found
