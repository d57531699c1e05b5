"""A lake in which recordings come in refreshes, whose utterances are drawn by chance around what a test says."""

import uuid
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from storage.index import Index
from storage.lake import Lake
from tests.storage.conftest import Author

DIMENSIONS = 8
UTTERANCES = 2  # of a recording
MODEL = "m"


@dataclass
class World:
    """Brings recordings; what is known of them is normal around the given level, with one model that hears "call"."""

    lake: Lake
    author: Author
    version: str = "v1"
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @classmethod
    def over(cls, lake: Lake) -> "World":
        author = Author(lake, lake.index())
        author.group({MODEL: "v1"})
        return cls(lake, author)

    @property
    def index(self) -> Index:
        """An index that has all that others have committed."""
        self.author.index.catch_up()
        return self.author.index

    def come(
        self, count: int, *, level_dbfs: float = -20.0, sure: float = 0.8, held: bool = False, **source: Any
    ) -> list[UUID]:
        """Take recordings in and publish their answers, as one refresh; return their ids."""
        rows = [self.author.file_row(uuid.uuid4().hex) for _ in range(count)]
        sources = [self.author.source_row(row["file_id"], row["sha256"], **source) for row in rows]
        self.author.commit("ingest", files=rows, sources=sources)
        ids = [row["file_id"] for row in rows]
        self.answer(ids, level_dbfs=level_dbfs, sure=sure, held=held)
        return ids

    def answer(self, ids: list[UUID], *, level_dbfs: float = -20.0, sure: float = 0.8, held: bool = False) -> UUID:
        """Publish answers for recordings, as one refresh; return its reference."""
        coverage, utterances, predictions, descriptors = [], [], [], []
        for file_id in ids:
            same = {"file_id": file_id, "model": MODEL, "model_version": self.version}
            counts = {"predictions": UTTERANCES, "descriptors": UTTERANCES}
            coverage.append(self.author.coverage_row(file_id, MODEL, self.version, **counts))
            for number in range(UTTERANCES):
                place = same | {"channel": 0, "utterance": number, "start_s": number / 2, "end_s": number / 2 + 0.4}
                level, snr, noise = (
                    level_dbfs + self.chance.normal(),
                    self.chance.normal(30, 5),
                    self.chance.normal(0, 0.02),
                )
                embedding = self.chance.normal(size=DIMENSIONS).astype("<f2").tobytes()
                numbers = {
                    "level_dbfs": level,
                    "snr_db": snr,
                    "clipping": 0.0,
                    "speaking_rate": self.chance.normal(3, 0.5),
                }
                utterances.append(place | {"text": "call"})
                descriptors.append(place | numbers | {"embedding": embedding})
                predictions.append(place | {"label": "call", "confidence": float(np.clip(sure + noise, 0, 1))})
        reference = uuid.uuid4()
        rows = {"coverage": coverage, "utterances": utterances, "predictions": predictions, "descriptors": descriptors}
        self.author.commit("refresh", reference=reference, held=held, **rows)
        return reference

    def change_model(self, version: str) -> None:
        """Record another version of the model; what follows is answered by it."""
        self.version = version
        self.author.group({MODEL: version})
