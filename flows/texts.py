"""Texts that models have read before, so that a change of phrases reads none of them again."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from features.pieces import Piece
from models.group import ModelSpec
from storage.errors import MissingError
from storage.lake import Lake
from storage.log import DataFile
from storage.parquet import read_tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Texts:
    """What models have read before, by recording, model, version of its texts, channel and utterance."""

    by_place: Mapping[tuple[UUID, str, str, int, int], tuple[float, float, str | None]]

    @classmethod
    def of(cls, lake: Lake, files: tuple[DataFile, ...], file_ids: frozenset[UUID]) -> "Texts":
        """Return those of some recordings in Parquet files; none where maintenance has taken one of the files away."""
        try:
            rows = read_tables(lake.store, files, "utterances", file_ids).to_pylist()
        except MissingError as error:
            log.info("texts are read anew: %s", error)
            return cls({})
        return cls(
            {
                (row["file_id"], row["model"], row["model_version"], row["channel"], row["utterance"]): (
                    row["start_s"],
                    row["end_s"],
                    row["text"],
                )
                for row in rows
            }
        )

    def at(self, file_id: UUID, spec: ModelSpec, utterance: Piece) -> str | None:
        """Return what this model would read in an utterance, if it has read it before."""
        place = (file_id, spec.name, spec.text_version, utterance.channel, utterance.number)
        start_s, end_s, text = self.by_place.get(place, (None, None, None))
        return text if (start_s, end_s) == (utterance.start_s, utterance.end_s) else None
